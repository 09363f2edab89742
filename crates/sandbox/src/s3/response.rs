//! Responses: errors as AWS returns them, conversions that the operations share, and what s3s does not add to a
//! response.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use s3s::{Body, HttpError, S3Error, S3ErrorCode, S3Response, dto, s3_error};

use crate::checksum::ChecksumAlgorithm;
use crate::model::{ETag, UnixMillis};
use crate::restore::RestoreRejection;
use crate::state::SandboxRequestError;
use crate::tags::{SharedTags, TagSetError};

const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");
const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");

/// Converts a time for s3s.
pub(crate) fn to_s3_time(at: UnixMillis) -> dto::Timestamp {
    SystemTime::from(at.timestamp()).into()
}

/// Converts an entity tag for s3s.
pub(crate) fn etag(etag: ETag) -> dto::ETag {
    dto::ETag::Strong(etag.to_string())
}

/// Converts a number of bytes for s3s.
pub(crate) fn length(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Sets a header. A value that a header cannot contain is omitted.
pub(crate) fn set_header(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.insert(name, value);
    }
}

/// Creates a response with the version ID, if there is one.
pub(crate) fn with_version<T>(output: T, id: Option<&str>) -> S3Response<T> {
    let mut response = S3Response::new(output);
    if let Some(id) = id {
        set_header(&mut response.headers, VERSION_ID, id);
    }
    response
}

/// Creates an `InvalidArgument` error.
pub(crate) fn invalid_argument(message: &'static str) -> S3Error {
    s3_error!(InvalidArgument, "{message}")
}

/// Creates an `InvalidRequest` error.
pub(crate) fn invalid_request(message: &'static str) -> S3Error {
    s3_error!(InvalidRequest, "{message}")
}

/// The content does not have the checksum that the client sent.
pub(crate) fn checksum_mismatch(algorithm: ChecksumAlgorithm) -> S3Error {
    s3_error!(BadDigest, "The {} you specified did not match the calculated checksum.", algorithm.as_str())
}

/// Creates the error for a request that the owner of the bucket or the object does not allow.
pub(crate) fn access_denied() -> S3Error {
    s3_error!(AccessDenied, "Access Denied")
}

/// Creates an error whose code s3s does not define.
pub(crate) fn custom_error(code: &'static str, status: StatusCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

/// Converts tags for s3s.
pub(crate) fn to_s3_tags(tags: &SharedTags) -> Vec<dto::Tag> {
    tags.iter().map(|(key, value)| dto::Tag { key: Some(key.to_owned()), value: Some(value.to_owned()) }).collect()
}

/// Converts an error in tags that were sent as XML.
pub(crate) fn tag_error(error: TagSetError) -> S3Error {
    match error {
        TagSetError::TooMany => custom_error("BadRequest", StatusCode::BAD_REQUEST, error.message()),
        _ => s3_error!(InvalidTag, "{}", error.message()),
    }
}

impl From<SandboxRequestError> for S3Error {
    fn from(error: SandboxRequestError) -> Self {
        match error {
            SandboxRequestError::NoSuchBucket => s3_error!(NoSuchBucket, "The specified bucket does not exist"),
            SandboxRequestError::NoSuchKey => s3_error!(NoSuchKey, "The specified key does not exist."),
            SandboxRequestError::NoSuchVersion => s3_error!(NoSuchVersion, "The specified version does not exist."),
            SandboxRequestError::CurrentIsDeleteMarker { id } => {
                let mut error = s3_error!(NoSuchKey, "The specified key does not exist.");
                error.set_headers(delete_marker_headers(&id));
                error
            }
            SandboxRequestError::IsDeleteMarker { id, modified } => {
                let mut error =
                    s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource.");
                let mut headers = delete_marker_headers(&id);
                headers.insert(header::ALLOW, HeaderValue::from_static("DELETE"));
                set_header(&mut headers, header::LAST_MODIFIED, &modified.http_date());
                error.set_headers(headers);
                error
            }
            SandboxRequestError::BucketExists => s3_error!(
                BucketAlreadyOwnedByYou,
                "Your previous request to create the named bucket succeeded and you already own it."
            ),
            SandboxRequestError::BucketNameTaken => s3_error!(
                BucketAlreadyExists,
                "The requested bucket name is not available. The bucket namespace is shared by all users of the system. \
                 Please select a different name and try again."
            ),
            SandboxRequestError::AccessDenied => access_denied(),
            SandboxRequestError::BucketNotEmpty => {
                s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty")
            }
            SandboxRequestError::Archived => {
                s3_error!(InvalidObjectState, "The operation is not valid for the object's storage class")
            }
            SandboxRequestError::RestoreRejected(rejection) => rejection.into(),
            SandboxRequestError::PreconditionFailed => {
                s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
            }
            SandboxRequestError::ConditionalConflict => s3_error!(
                ConditionalRequestConflict,
                "The conditional request cannot succeed due to a conflicting operation against this resource."
            ),
            SandboxRequestError::NoSuchUpload
            | SandboxRequestError::InvalidPart
            | SandboxRequestError::PartTooSmall
            | SandboxRequestError::PartChecksumMissing(..)
            | SandboxRequestError::ChecksumMismatch(_)
            | SandboxRequestError::SizeMismatch { .. } => upload_error(&error),
            SandboxRequestError::Storage(error) => {
                let message = format!("The sandbox cannot read or write its files: {error}");
                s3_error!(error, InternalError, "{message}")
            }
        }
    }
}

/// Converts an error of a multipart upload. Other errors are in the conversion of [`SandboxRequestError`].
fn upload_error(error: &SandboxRequestError) -> S3Error {
    match error {
        SandboxRequestError::PartChecksumMissing(algorithm, part) => s3_error!(
            InvalidRequest,
            "The upload was created using a {} checksum. The complete request must include the checksum for each \
             part. It was missing for part {part} in the request.",
            algorithm.lower_name()
        ),
        SandboxRequestError::ChecksumMismatch(algorithm) => checksum_mismatch(*algorithm),
        SandboxRequestError::SizeMismatch { expected, actual } => s3_error!(
            InvalidRequest,
            "The provided 'x-amz-mp-object-size' header value {expected} does not match what was computed: \
             {actual}"
        ),
        SandboxRequestError::NoSuchUpload => s3_error!(
            NoSuchUpload,
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted \
             or completed."
        ),
        SandboxRequestError::InvalidPart => s3_error!(
            InvalidPart,
            "One or more of the specified parts could not be found. The part may not have been uploaded, or the \
             specified entity tag may not match the part's entity tag."
        ),
        SandboxRequestError::PartTooSmall => {
            s3_error!(EntityTooSmall, "Your proposed upload is smaller than the minimum allowed size")
        }
        _ => s3_error!(InternalError),
    }
}

impl From<RestoreRejection> for S3Error {
    fn from(rejection: RestoreRejection) -> Self {
        match rejection {
            RestoreRejection::NotArchived => {
                s3_error!(InvalidObjectState, "Restore is not allowed for the object's current storage class")
            }
            RestoreRejection::AlreadyActive => {
                let message = "Restore action is not allowed against this storage tier";
                custom_error("ObjectAlreadyInActiveTierError", StatusCode::FORBIDDEN, message)
            }
            RestoreRejection::NoExpiry => s3_error!(
                InvalidArgument,
                "INTELLIGENT_TIERING objects are not subject to restore expiry. Do not specify Days when restoring this \
                 object"
            ),
            RestoreRejection::DaysMissing => s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema"
            ),
            RestoreRejection::AlreadyOngoing => {
                s3_error!(RestoreAlreadyInProgress, "Object restore is already in progress")
            }
            RestoreRejection::DaysOutOfRange | RestoreRejection::TierNotAllowed | RestoreRejection::NoSuchTier => {
                s3_error!(InvalidArgument, "Retrieval option is not supported by this storage class")
            }
        }
    }
}

/// Returns the headers of an error whose reason is the delete marker with this version ID.
fn delete_marker_headers(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(DELETE_MARKER, HeaderValue::from_static("true"));
    set_header(&mut headers, VERSION_ID, id);
    headers
}

/// Converts an error that was found before the request reached s3s.
pub(crate) fn error_response(error: S3Error) -> Result<Response<Body>, HttpError> {
    error.to_http_response().map_err(|error| HttpError::new(Box::new(error)))
}

/// Adds to a response what s3s does not add: a status that it cannot express, the missing parts of error documents,
/// escaped control characters, the request ID, and the server's name.
pub(crate) fn finish_response(result: Result<Response<Body>, HttpError>) -> Response<Body> {
    let mut response = result.unwrap_or_else(|error| {
        let mut response = Response::new(Body::from(format!("{error:?}")));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    if let Some(StatusOverride(status)) = response.extensions_mut().remove() {
        *response.status_mut() = status;
    }
    if response.extensions_mut().remove::<BareEntityTag>().is_some() {
        remove_entity_tag_quotes(&mut response);
    }
    if response.status() == StatusCode::NOT_MODIFIED {
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    let id = format!("{:016X}", fastrand::u64(..));
    if response.status().is_client_error() || response.status().is_server_error() {
        complete_error_document(&mut response, &id);
    }
    escape_control_characters(&mut response);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-amz-request-id", id);
    }
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("batchplan-sandbox"));
    response
}

/// Removes the quotation marks that s3s writes around the entity tag in a document.
fn remove_entity_tag_quotes(response: &mut Response<Body>) {
    let Some(document) = response.body().bytes() else { return };
    let Ok(text) = std::str::from_utf8(&document) else { return };
    *response.body_mut() = Body::from(text.replace("<ETag>\"", "<ETag>").replace("\"</ETag>", "</ETag>"));
}

/// Adds the request ID to an error document, and a message if it has none.
fn complete_error_document(response: &mut Response<Body>, id: &str) {
    let Some(document) = response.body().bytes() else { return };
    let Ok(text) = std::str::from_utf8(&document) else { return };
    let Some(start) = text.strip_suffix("</Error>") else { return };
    let has_message = start.contains("<Message>");
    let message =
        if has_message { String::new() } else { format!("<Message>{}</Message>", default_error_message(start)) };
    *response.body_mut() = Body::from(format!("{start}{message}<RequestId>{id}</RequestId></Error>"));
}

/// Escapes control characters of keys as character references, as AWS does. A raw carriage return would be read as a
/// line feed.
fn escape_control_characters(response: &mut Response<Body>) {
    let is_xml = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/xml");
    let Some(document) = response.body().bytes().filter(|_| is_xml) else { return };
    let must_escape = |byte: &u8| *byte < b' ' && *byte != b'\n' && *byte != b'\t';
    if !document.iter().any(must_escape) {
        return;
    }
    let mut text = Vec::with_capacity(document.len());
    for byte in &document {
        if must_escape(byte) {
            text.extend_from_slice(format!("&#x{byte:X};").as_bytes());
        } else {
            text.push(*byte);
        }
    }
    *response.body_mut() = Body::from(text);
}

/// Returns a message for an error that s3s itself returns without a message.
fn default_error_message(document: &str) -> &'static str {
    let code = document.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    match code {
        Some("SignatureDoesNotMatch") => {
            "The request signature we calculated does not match the signature you provided. Check your key and signing \
             method."
        }
        Some("KeyTooLongError") => "Your key is too long",
        Some("InvalidURI") => "Couldn't parse the specified URI.",
        Some("InvalidBucketName") => "The specified bucket is not valid.",
        Some("MalformedXML") => "The XML you provided was not well-formed or did not validate",
        Some("MissingRequestBodyError") => "Request body is empty.",
        _ => "The request is not valid",
    }
}

/// Overrides the status code of a response. s3s cannot express this, so [`finish_response`] applies it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusOverride(pub(crate) StatusCode);

/// Marks the response to `GetObjectAttributes`, the only one in which an entity tag has no quotation marks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BareEntityTag;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_far_past_and_future() {
        assert_eq!(UnixMillis(0).http_date(), "Thu, 01 Jan 1970 00:00:00 GMT");
        for at in [i64::MIN, -1, i64::MAX] {
            let _ = to_s3_time(UnixMillis(at));
            assert!(UnixMillis(at).http_date().ends_with(" GMT"));
        }
    }
}

//! Errors as AWS returns them.

use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::{S3Error, S3ErrorCode, s3_error};

use super::convert::{DELETE_MARKER, VERSION_ID, http_date, set_header};
use crate::state::SandboxRequestError;
use crate::tags::TagSetError;

/// The request has no signature, and the object is not public.
pub(super) fn access_denied() -> S3Error {
    s3_error!(AccessDenied, "Access Denied")
}

/// Creates an error whose code s3s does not define.
pub(super) fn custom_error(code: &'static str, status: StatusCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

/// The body does not match its signed digest.
pub(super) fn content_mismatch() -> S3Error {
    custom_error(
        "XAmzContentSHA256Mismatch",
        StatusCode::BAD_REQUEST,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )
}

/// Converts an error in tags that were sent as XML.
pub(super) fn tag_error(fault: TagSetError) -> S3Error {
    match fault {
        TagSetError::TooMany => custom_error("BadRequest", StatusCode::BAD_REQUEST, fault.message()),
        _ => s3_error!(InvalidTag, "{}", fault.message()),
    }
}

/// Converts an error in tags that were sent in a header.
pub(super) fn tag_header_error(fault: TagSetError) -> S3Error {
    match fault {
        TagSetError::InvalidEncoding | TagSetError::Duplicate => s3_error!(
            InvalidArgument,
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name \
             duplicates."
        ),
        _ => tag_error(fault),
    }
}

impl From<SandboxRequestError> for S3Error {
    fn from(refusal: SandboxRequestError) -> Self {
        match refusal {
            SandboxRequestError::NoSuchBucket => s3_error!(NoSuchBucket, "The specified bucket does not exist"),
            SandboxRequestError::NoSuchKey => s3_error!(NoSuchKey, "The specified key does not exist."),
            SandboxRequestError::NoSuchVersion => s3_error!(NoSuchVersion, "The specified version does not exist."),
            SandboxRequestError::CurrentIsDeleteMarker { id } => {
                let mut error = s3_error!(NoSuchKey, "The specified key does not exist.");
                error.set_headers(marker_headers(&id));
                error
            }
            SandboxRequestError::IsDeleteMarker { id, modified } => {
                let mut error =
                    s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource.");
                let mut headers = marker_headers(&id);
                headers.insert(http::header::ALLOW, HeaderValue::from_static("DELETE"));
                set_header(&mut headers, http::header::LAST_MODIFIED, &http_date(modified));
                error.set_headers(headers);
                error
            }
            SandboxRequestError::BucketExists => s3_error!(
                BucketAlreadyOwnedByYou,
                "Your previous request to create the named bucket succeeded and you already own it."
            ),
            SandboxRequestError::BucketNotEmpty => {
                s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty")
            }
            SandboxRequestError::Archived => {
                s3_error!(InvalidObjectState, "The operation is not valid for the object's storage class")
            }
            SandboxRequestError::NotArchived => {
                s3_error!(InvalidObjectState, "Restore is not allowed for the object's current storage class")
            }
            SandboxRequestError::RestoreOngoing => {
                s3_error!(RestoreAlreadyInProgress, "Object restore is already in progress")
            }
            SandboxRequestError::DaysOutOfRange
            | SandboxRequestError::TierNotAllowed
            | SandboxRequestError::NoSuchTier => {
                s3_error!(InvalidArgument, "Retrieval option is not supported by this storage class")
            }
            SandboxRequestError::PreconditionFailed => {
                s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
            }
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
            SandboxRequestError::Storage(error) => {
                let message = format!("The sandbox cannot read or write its files: {error}");
                s3_error!(error, InternalError, "{message}")
            }
        }
    }
}

fn marker_headers(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(DELETE_MARKER, HeaderValue::from_static("true"));
    set_header(&mut headers, VERSION_ID, id);
    headers
}

//! What the operations share: errors as AWS returns them, and conversions of headers, times, and names.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use s3s::{S3Error, S3ErrorCode, S3Response, S3Result, dto, s3_error};

use crate::model::{ETag, ObjectOwnership, StoredAcl, UnixMillis};
use crate::restore::RestoreRejection;
use crate::state::SandboxRequestError;
use crate::store::Sandbox;
use crate::tags::{self, SharedTags, TagSetError};

const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");
const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");

/// AWS returns an owner for every object. Here there is only one.
const OWNER_ID: &str = "5a6d7b0c53a4d0b0a3f4e7a2c1d98f6e5b4a39281706f5e4d3c2b1a09f8e7d6c";

/// Returns the only owner.
pub(crate) fn owner() -> dto::Owner {
    dto::Owner { id: Some(OWNER_ID.to_owned()), display_name: Some("sandbox".to_owned()) }
}

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

/// Parses a canned ACL. The default is `private`.
pub(crate) fn parse_canned_acl(name: Option<&dto::ObjectCannedACL>) -> S3Result<StoredAcl> {
    match name.map(dto::ObjectCannedACL::as_str) {
        // The object's owner and the bucket's owner are the same here, so these two grant nothing more.
        None | Some("bucket-owner-read" | "bucket-owner-full-control") => Ok(StoredAcl::Private),
        Some("aws-exec-read") => Err(s3_error!(NotImplemented, "The sandbox does not support aws-exec-read")),
        Some(name) => {
            let known = StoredAcl::parse(name).filter(|acl| *acl != StoredAcl::Default);
            known.ok_or_else(|| s3_error!(InvalidArgument, "The canned ACL `{name}` does not exist"))
        }
    }
}

/// Returns an error if the bucket's owner owns all objects, so that the bucket allows no ACLs.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>
pub(crate) fn check_acls_allowed(sandbox: &Sandbox, bucket: &str) -> S3Result<()> {
    match sandbox.with_bucket(bucket, |bucket| bucket.ownership)? {
        ObjectOwnership::Enforced => {
            let message = "The bucket does not allow ACLs";
            Err(custom_error("AccessControlListNotSupported", StatusCode::BAD_REQUEST, message))
        }
        ObjectOwnership::NotSet | ObjectOwnership::Writer | ObjectOwnership::Preferred => Ok(()),
    }
}

/// Rejects the headers that name grantees. Only canned ACLs are supported.
pub(crate) fn reject_grant_headers(headers: &HeaderMap) -> S3Result<()> {
    if headers.keys().any(|name| name.as_str().starts_with("x-amz-grant-")) {
        return Err(s3_error!(NotImplemented, "The sandbox supports only canned ACLs, not x-amz-grant headers"));
    }
    Ok(())
}

/// Creates an `InvalidArgument` error.
pub(crate) fn invalid_argument(message: &'static str) -> S3Error {
    s3_error!(InvalidArgument, "{message}")
}

/// The request has no signature, and the object is not public.
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

/// Converts tags that were sent as XML, and checks them against AWS's rules.
pub(crate) fn parse_tags(tags: impl IntoIterator<Item = dto::Tag>) -> S3Result<SharedTags> {
    let pairs = tags.into_iter().map(|tag| match (tag.key, tag.value) {
        (Some(key), Some(value)) => Ok((key.into(), value.into())),
        _ => Err(s3_error!(MalformedXML, "A tag must have a key and a value")),
    });
    tags::check(pairs.collect::<S3Result<_>>()?).map_err(tag_error)
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
                error.set_headers(marker_headers(&id));
                error
            }
            SandboxRequestError::IsDeleteMarker { id, modified } => {
                let mut error =
                    s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource.");
                let mut headers = marker_headers(&id);
                headers.insert(http::header::ALLOW, HeaderValue::from_static("DELETE"));
                set_header(&mut headers, http::header::LAST_MODIFIED, &modified.http_date());
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
            SandboxRequestError::RestoreRejected(rejection) => rejection.into(),
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

impl From<RestoreRejection> for S3Error {
    fn from(rejection: RestoreRejection) -> Self {
        match rejection {
            RestoreRejection::NotArchived => {
                s3_error!(InvalidObjectState, "Restore is not allowed for the object's current storage class")
            }
            RestoreRejection::AlreadyOngoing => {
                s3_error!(RestoreAlreadyInProgress, "Object restore is already in progress")
            }
            RestoreRejection::DaysOutOfRange | RestoreRejection::TierNotAllowed | RestoreRejection::NoSuchTier => {
                s3_error!(InvalidArgument, "Retrieval option is not supported by this storage class")
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

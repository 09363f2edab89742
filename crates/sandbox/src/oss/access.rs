//! Which requests are allowed. This is decided from the head of a request.

use http::Method;

use super::request::OssRequest;
use crate::access::OwnerId;
use crate::permissions::{BucketAction, ObjectAction, UploadAction};
use crate::state::{RequestedObject, SandboxRequestError, SandboxState};

/// Checks a request against the ACLs of its bucket and its object. What does not exist is left to the operation.
pub(super) fn check_access(state: &SandboxState, request: &OssRequest) -> Result<(), SandboxRequestError> {
    let checked = match (&request.bucket, &request.key) {
        (None, _) => check_signature(request),
        (Some(bucket), None) => check_bucket_request(state, request, bucket),
        (Some(bucket), Some(key)) => check_object_request(state, request, bucket, key),
    };
    match checked {
        Err(SandboxRequestError::NoSuchBucket) => Ok(()),
        checked => checked,
    }
}

fn check_signature(request: &OssRequest) -> Result<(), SandboxRequestError> {
    if request.requester == OwnerId::ANONYMOUS { Err(SandboxRequestError::AccessDenied) } else { Ok(()) }
}

fn check_bucket_request(state: &SandboxState, request: &OssRequest, bucket: &str) -> Result<(), SandboxRequestError> {
    let has = |names: &[&str]| names.iter().any(|name| request.has_param(name));
    let action = match request.method {
        Method::GET if has(&["acl"]) => BucketAction::ReadAcl,
        Method::PUT if has(&["acl"]) => BucketAction::WriteAcl,
        Method::GET if !has(&["bucketInfo", "location", "versioning", "lifecycle"]) => BucketAction::List,
        Method::PUT if !has(&["versioning", "lifecycle"]) => return check_signature(request),
        // The operation checks each object.
        Method::POST if has(&["delete"]) => return state.bucket(bucket).map(|_| ()),
        _ => BucketAction::Manage,
    };
    state.check_bucket_access(request.requester, bucket, action)
}

fn check_object_request(
    state: &SandboxState,
    request: &OssRequest,
    bucket: &str,
    key: &str,
) -> Result<(), SandboxRequestError> {
    let is_about = |name| request.has_param(name);
    if is_about("uploadId") {
        let id = request.param("uploadId").unwrap_or_default();
        let action = if request.method == Method::DELETE { UploadAction::Manage } else { UploadAction::Write };
        return state.check_upload_access(request.requester, bucket, id, action);
    }
    let is_write = request.method == Method::PUT || is_about("uploads");
    let action = match request.method {
        Method::GET if is_about("acl") => ObjectAction::ReadAcl,
        Method::PUT if is_about("acl") => ObjectAction::WriteAcl,
        _ if is_about("tagging") || is_about("restore") => ObjectAction::Manage,
        _ if is_write => return state.check_bucket_access(request.requester, bucket, BucketAction::Write),
        Method::GET | Method::HEAD => ObjectAction::Read,
        Method::DELETE => ObjectAction::Delete,
        _ => ObjectAction::Manage,
    };
    let target = RequestedObject { bucket, key, version: request.param("versionId") };
    state.check_object_access(request.requester, target, action)
}

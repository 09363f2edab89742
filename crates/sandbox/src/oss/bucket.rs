//! Bucket operations.

use http::{Response, StatusCode};

use super::body::{OssResponseBody, empty_response};
use super::document::{RequestElement, ResponseDocument};
use super::error::OssError;
use super::list::page_size;
use super::request::{BAD_BUCKET, OssRequest};
use crate::model::{StoredAcl, UnixMillis, VersioningStatus};
use crate::state::SandboxRequestError;
use crate::store::Sandbox;

/// Formats a time as in `2026-03-04T00:00:00.000Z`.
pub(super) fn iso_time(at: UnixMillis) -> String {
    at.timestamp().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Parses an ACL of OSS. For a bucket, the caller rejects `default`.
pub(super) fn parse_acl(name: &str) -> Result<StoredAcl, OssError> {
    let known = StoredAcl::parse(name).filter(|acl| *acl != StoredAcl::AuthenticatedRead);
    known.ok_or_else(|| {
        OssError::bad_request("InvalidArgument", "0017-00000801", "no such access control option exists")
    })
}

/// Returns OSS's name of an ACL. An ACL that OSS does not have gets the name of the nearest one that grants no more.
pub(super) fn acl_name(acl: StoredAcl) -> &'static str {
    if acl == StoredAcl::AuthenticatedRead { StoredAcl::Private.as_str() } else { acl.as_str() }
}

fn requested_acl(request: &OssRequest) -> Result<Option<StoredAcl>, OssError> {
    let acl = request.header("x-oss-acl").map(parse_acl).transpose()?;
    if acl == Some(StoredAcl::Default) { parse_acl("").map(Some) } else { Ok(acl) }
}

pub(super) fn create(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    let bucket = request.bucket()?;
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = bucket.as_bytes();
    let allowed = bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
    if !allowed || !(3..=63).contains(&bytes.len()) || !edge(bytes.first()) || !edge(bytes.last()) {
        return Err(OssError::bad_request("InvalidBucketName", "0015-00000001", BAD_BUCKET));
    }
    if !document.is_empty() {
        RequestElement::parse(document, "CreateBucketConfiguration")?;
    }
    let acl = requested_acl(request)?;
    match sandbox.create_bucket(bucket) {
        // The owner of a bucket can create it again.
        Ok(()) | Err(SandboxRequestError::BucketExists) => {}
        Err(refusal) => return Err(refusal.into()),
    }
    if let Some(acl) = acl {
        sandbox.set_bucket_acl(bucket, acl)?;
    }
    Ok(empty_response(StatusCode::OK))
}

pub(super) fn delete(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    sandbox.delete_bucket(request.bucket()?)?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

pub(super) fn list(
    sandbox: &Sandbox,
    request: &OssRequest,
    region: &str,
) -> Result<Response<OssResponseBody>, OssError> {
    let limit = page_size(request, 100)?;
    let prefix = request.param("prefix").unwrap_or_default();
    let marker = request.param("marker").unwrap_or_default();
    let document = sandbox.with_state(|state| {
        let mut named =
            state.buckets.iter().filter(|(name, _)| name.starts_with(prefix) && ***name > *marker).peekable();
        let mut last = None;
        ResponseDocument::new("ListAllMyBucketsResult", |to| {
            to.write_owner();
            to.write_element("Buckets", |to| {
                for (name, bucket) in named.by_ref().take(limit) {
                    last = Some(name);
                    to.write_element("Bucket", |to| write_bucket(to, name, bucket.created, region));
                }
            });
            let more = limit > 0 && named.peek().is_some();
            to.write_text("Prefix", prefix);
            to.write_text("Marker", marker);
            to.write_text("MaxKeys", &limit.to_string());
            to.write_text("IsTruncated", &more.to_string());
            to.write_optional("NextMarker", last.filter(|_| more).map(|name| &**name));
        })
    });
    Ok(document.into_response())
}

fn write_bucket(to: &mut ResponseDocument, name: &str, created: UnixMillis, region: &str) {
    to.write_text("Name", name);
    to.write_text("CreationDate", &iso_time(created));
    to.write_text("Location", &format!("oss-{region}"));
    to.write_text("Region", region);
    to.write_text("StorageClass", "Standard");
    to.write_text("ExtranetEndpoint", &format!("oss-{region}.aliyuncs.com"));
    to.write_text("IntranetEndpoint", &format!("oss-{region}-internal.aliyuncs.com"));
}

pub(super) fn info(
    sandbox: &Sandbox,
    request: &OssRequest,
    region: &str,
) -> Result<Response<OssResponseBody>, OssError> {
    let name = request.bucket()?;
    let document = sandbox.with_bucket(name, |bucket| {
        ResponseDocument::new("BucketInfo", |to| {
            to.write_element("Bucket", |to| {
                write_bucket(to, name, bucket.created, region);
                to.write_owner();
                to.write_element("AccessControlList", |to| to.write_text("Grant", acl_name(bucket.acl)));
                to.write_text("DataRedundancyType", "LRS");
                if bucket.versioning != VersioningStatus::Never {
                    to.write_text("Versioning", bucket.versioning.as_str());
                }
            });
        })
    })?;
    Ok(document.into_response())
}

pub(super) fn location(
    sandbox: &Sandbox,
    request: &OssRequest,
    region: &str,
) -> Result<Response<OssResponseBody>, OssError> {
    sandbox.with_bucket(request.bucket()?, |_| ())?;
    Ok(ResponseDocument::with_text("LocationConstraint", &format!("oss-{region}")).into_response())
}

pub(super) fn get_versioning(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let versioning = sandbox.with_bucket(request.bucket()?, |bucket| bucket.versioning)?;
    let status = (versioning != VersioningStatus::Never).then(|| versioning.as_str());
    Ok(ResponseDocument::new("VersioningConfiguration", |to| to.write_optional("Status", status)).into_response())
}

pub(super) fn put_versioning(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    let configuration = RequestElement::parse(document, "VersioningConfiguration")?;
    configuration.check_children(&["Status"])?;
    let status = configuration.child_text("Status")?.and_then(VersioningStatus::parse);
    let versioning = status.filter(|status| *status != VersioningStatus::Never).ok_or_else(OssError::malformed_xml)?;
    sandbox.set_versioning(request.bucket()?, versioning)?;
    Ok(empty_response(StatusCode::OK))
}

pub(super) fn get_acl(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let acl = sandbox.with_bucket(request.bucket()?, |bucket| bucket.acl)?;
    Ok(acl_document(acl).into_response())
}

/// Returns the document that describes an ACL.
pub(super) fn acl_document(acl: StoredAcl) -> ResponseDocument {
    ResponseDocument::new("AccessControlPolicy", |to| {
        to.write_owner();
        to.write_element("AccessControlList", |to| to.write_text("Grant", acl_name(acl)));
    })
}

pub(super) fn put_acl(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let acl = requested_acl(request)?.ok_or_else(|| OssError::invalid_argument("The header x-oss-acl is missing."))?;
    sandbox.set_bucket_acl(request.bucket()?, acl)?;
    Ok(empty_response(StatusCode::OK))
}

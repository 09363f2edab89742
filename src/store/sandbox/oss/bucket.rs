//! Bucket operations.

use http::{Response, StatusCode};

use super::content::{Content, empty};
use super::document::{Document, Element};
use super::error::Fault;
use super::list::page_size;
use super::request::{BAD_BUCKET, Request};
use crate::store::sandbox::find::Refusal;
use crate::store::sandbox::model::{Acl, Millis, Versioning};
use crate::store::sandbox::vault::Sandbox;

/// Formats a time as in `2026-03-04T00:00:00.000Z`.
pub(super) fn iso(at: Millis) -> String {
    at.timestamp().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Parses an ACL of OSS. For a bucket, the caller rejects `default`.
pub(super) fn acl_of(name: &str) -> Result<Acl, Fault> {
    let known = Acl::parse(name).filter(|acl| *acl != Acl::AuthenticatedRead);
    known.ok_or_else(|| Fault::bad("InvalidArgument", "0017-00000801", "no such access control option exists"))
}

/// Returns OSS's name of an ACL. An ACL that OSS does not have gets the name of the nearest one that grants no more.
pub(super) fn acl_name(acl: Acl) -> &'static str {
    if acl == Acl::AuthenticatedRead { Acl::Private.as_str() } else { acl.as_str() }
}

fn bucket_acl(request: &Request) -> Result<Option<Acl>, Fault> {
    let acl = request.header("x-oss-acl").map(acl_of).transpose()?;
    if acl == Some(Acl::Default) { acl_of("").map(Some) } else { Ok(acl) }
}

pub(super) fn create(sandbox: &Sandbox, request: &Request, document: &[u8]) -> Result<Response<Content>, Fault> {
    let bucket = request.bucket()?;
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = bucket.as_bytes();
    let allowed = bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
    if !allowed || !(3..=63).contains(&bytes.len()) || !edge(bytes.first()) || !edge(bytes.last()) {
        return Err(Fault::bad("InvalidBucketName", "0015-00000001", BAD_BUCKET));
    }
    if !document.is_empty() {
        Element::parse(document, "CreateBucketConfiguration")?;
    }
    let acl = bucket_acl(request)?;
    match sandbox.create_bucket(bucket) {
        // The owner of a bucket can create it again.
        Ok(()) | Err(Refusal::BucketExists) => {}
        Err(refusal) => return Err(refusal.into()),
    }
    if let Some(acl) = acl {
        sandbox.set_bucket_acl(bucket, acl)?;
    }
    Ok(empty(StatusCode::OK))
}

pub(super) fn delete(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    sandbox.delete_bucket(request.bucket()?)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) fn list(sandbox: &Sandbox, request: &Request, region: &str) -> Result<Response<Content>, Fault> {
    let limit = page_size(request, 100)?;
    let prefix = request.param("prefix").unwrap_or_default();
    let marker = request.param("marker").unwrap_or_default();
    let document = sandbox.view(|state| {
        let mut named =
            state.buckets.iter().filter(|(name, _)| name.starts_with(prefix) && ***name > *marker).peekable();
        let mut last = None;
        Document::of("ListAllMyBucketsResult", |to| {
            to.owner();
            to.element("Buckets", |to| {
                for (name, bucket) in named.by_ref().take(limit) {
                    last = Some(name);
                    to.element("Bucket", |to| about(to, name, bucket.created, region));
                }
            });
            let more = limit > 0 && named.peek().is_some();
            to.text("Prefix", prefix);
            to.text("Marker", marker);
            to.text("MaxKeys", &limit.to_string());
            to.text("IsTruncated", &more.to_string());
            to.optional("NextMarker", last.filter(|_| more).map(|name| &**name));
        })
    });
    Ok(document.into_response())
}

fn about(to: &mut Document, name: &str, created: Millis, region: &str) {
    to.text("Name", name);
    to.text("CreationDate", &iso(created));
    to.text("Location", &format!("oss-{region}"));
    to.text("Region", region);
    to.text("StorageClass", "Standard");
    to.text("ExtranetEndpoint", &format!("oss-{region}.aliyuncs.com"));
    to.text("IntranetEndpoint", &format!("oss-{region}-internal.aliyuncs.com"));
}

pub(super) fn info(sandbox: &Sandbox, request: &Request, region: &str) -> Result<Response<Content>, Fault> {
    let name = request.bucket()?;
    let document = sandbox.view_bucket(name, |bucket| {
        Document::of("BucketInfo", |to| {
            to.element("Bucket", |to| {
                about(to, name, bucket.created, region);
                to.owner();
                to.element("AccessControlList", |to| to.text("Grant", acl_name(bucket.acl)));
                to.text("DataRedundancyType", "LRS");
                if bucket.versioning != Versioning::Never {
                    to.text("Versioning", bucket.versioning.as_str());
                }
            });
        })
    })?;
    Ok(document.into_response())
}

pub(super) fn location(sandbox: &Sandbox, request: &Request, region: &str) -> Result<Response<Content>, Fault> {
    sandbox.view_bucket(request.bucket()?, |_| ())?;
    Ok(Document::leaf("LocationConstraint", &format!("oss-{region}")).into_response())
}

pub(super) fn get_versioning(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    let versioning = sandbox.view_bucket(request.bucket()?, |bucket| bucket.versioning)?;
    let status = (versioning != Versioning::Never).then(|| versioning.as_str());
    Ok(Document::of("VersioningConfiguration", |to| to.optional("Status", status)).into_response())
}

pub(super) fn put_versioning(
    sandbox: &Sandbox,
    request: &Request,
    document: &[u8],
) -> Result<Response<Content>, Fault> {
    let configuration = Element::parse(document, "VersioningConfiguration")?;
    configuration.only(&["Status"])?;
    let status = configuration.text_of("Status")?.and_then(Versioning::parse);
    let versioning = status.filter(|status| *status != Versioning::Never).ok_or_else(Fault::malformed_xml)?;
    sandbox.set_versioning(request.bucket()?, versioning)?;
    Ok(empty(StatusCode::OK))
}

pub(super) fn get_acl(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    let acl = sandbox.view_bucket(request.bucket()?, |bucket| bucket.acl)?;
    Ok(policy(acl).into_response())
}

/// Returns the document that describes an ACL.
pub(super) fn policy(acl: Acl) -> Document {
    Document::of("AccessControlPolicy", |to| {
        to.owner();
        to.element("AccessControlList", |to| to.text("Grant", acl_name(acl)));
    })
}

pub(super) fn put_acl(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    let acl = bucket_acl(request)?.ok_or_else(|| Fault::invalid_argument("The header x-oss-acl is missing."))?;
    sandbox.set_bucket_acl(request.bucket()?, acl)?;
    Ok(empty(StatusCode::OK))
}

//! Requests about objects: which operation answers a request, reading and deleting objects, and their sub-resources:
//! tags, ACLs, and restores.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use jiff::fmt::rfc2822;

use super::request::{OssRequest, OssRequestBody, RequestElement, parse_acl, parse_tags, receive_document};
use super::response::{
    CLASS, DELETE_MARKER, OssError, OssResponseBody, ResponseDocument, VERSION_ID, acl_document, empty_response, etag,
    object_type, set_header, with_version,
};
use super::upload;
use crate::access::StoredAcl;
use crate::model::{ObjectStorageClass, RetrievalTier, UnixMillis};
use crate::permissions::ObjectAction;
use crate::restore::{self, RestoreDialect, RestoreParameters};
use crate::state::{FoundObject, RequestedObject, SandboxRequestError, WritePrecondition};
use crate::store::{AcceptedRestoreKind, DeletedVersion, Sandbox};
use crate::tags::SharedTags;

const OBJECT_TYPE: HeaderName = HeaderName::from_static("x-oss-object-type");
const RESTORE: HeaderName = HeaderName::from_static("x-oss-restore");
const TAG_COUNT: HeaderName = HeaderName::from_static("x-oss-tagging-count");
const PRIORITY: HeaderName = HeaderName::from_static("x-oss-object-restore-priority");

/// The parameters that a request about an object can have.
const OBJECT_PARAMS: [&str; 8] =
    ["acl", "encoding-type", "partNumber", "restore", "tagging", "uploadId", "uploads", "versionId"];

/// The parameters that select a sub-resource. Without any of them, a request is about the object itself.
const SUBRESOURCES: [&str; 5] = ["acl", "restore", "tagging", "uploadId", "uploads"];

/// The maximum number of keys in a delete request.
const MAX_DELETED: usize = 1000;

/// How many days a restored copy is kept if the request does not say it.
const DEFAULT_RESTORE_DAYS: u32 = 1;

/// Answers a request that names an object.
pub(super) async fn handle_object_request(
    sandbox: &Sandbox,
    request: &OssRequest,
    body: impl OssRequestBody,
) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&OBJECT_PARAMS)?;
    let headers = &request.headers;
    match (&request.method, requested_subresource(request)?) {
        (&Method::GET | &Method::HEAD, None) => read_object(sandbox, request),
        (&Method::PUT, None) => upload::put_object(sandbox, request, body).await,
        (&Method::DELETE, None) => delete_object(sandbox, request),
        (&Method::GET, Some("acl")) => get_acl(sandbox, request),
        (&Method::PUT, Some("acl")) => put_acl(sandbox, request),
        (&Method::GET, Some("tagging")) => get_tagging(sandbox, request),
        (&Method::PUT, Some("tagging")) => put_tagging(sandbox, request, &receive_document(headers, body).await?),
        (&Method::DELETE, Some("tagging")) => delete_tagging(sandbox, request),
        (&Method::POST, Some("restore")) => restore_object(sandbox, request, &receive_document(headers, body).await?),
        (_, Some("uploads" | "uploadId")) => upload::handle_upload_request(sandbox, request, body).await,
        _ => Err(OssError::method_not_allowed()),
    }
}

/// Returns the sub-resource that a request is about, or `None` if it is about the object itself.
fn requested_subresource(request: &OssRequest) -> Result<Option<&'static str>, OssError> {
    let mut requested = SUBRESOURCES.into_iter().filter(|name| request.has_param(name));
    let subresource = requested.next();
    if requested.next().is_some() {
        return Err(OssError::invalid_argument("A request must have only one sub-resource."));
    }
    Ok(subresource)
}

/// Answers a GET or HEAD request for an object itself.
pub(super) fn read_object(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["versionId"])?;
    if request.method == Method::HEAD { head_object(sandbox, request) } else { get_object(sandbox, request) }
}

fn head_object(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let found = sandbox.find_object(request.target()?).map_err(ReadError::from)?;
    check_preconditions(request, &found)?;
    let mut response = empty_response(StatusCode::OK);
    set_object_headers(&found, sandbox.now(), response.headers_mut());
    response.headers_mut().insert(header::CONTENT_LENGTH, found.object.size.into());
    Ok(response)
}

fn get_object(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let mut is_partial = false;
    let (found, range, reader) = sandbox.read_object(request.target()?, |found| -> Result<_, ReadError> {
        check_preconditions(request, found)?;
        let size = found.object.size;
        let range = requested_range(request, size)?;
        is_partial = range.is_some();
        Ok(range.unwrap_or(0..size))
    })?;
    let mut response = Response::new(OssResponseBody::FromObject(reader));
    let headers = response.headers_mut();
    set_object_headers(&found, sandbox.now(), headers);
    headers.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
    if is_partial {
        let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, found.object.size);
        set_header(headers, header::CONTENT_RANGE, &content_range);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// An error of a read. OSS answers a read of a delete marker that is named by its version ID with 405, and other
/// requests about it with 404.
struct ReadError(OssError);

impl From<SandboxRequestError> for ReadError {
    fn from(error: SandboxRequestError) -> Self {
        Self(match error {
            SandboxRequestError::IsDeleteMarker { id, .. } => {
                let message = "The specified method is not allowed against this resource.";
                OssError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "0016-00000503", message)
                    .with_delete_marker(id)
            }
            other => other.into(),
        })
    }
}

impl From<OssError> for ReadError {
    fn from(error: OssError) -> Self {
        Self(error)
    }
}

impl From<ReadError> for OssError {
    fn from(error: ReadError) -> Self {
        error.0
    }
}

/// Returns the requested range, or `None` to read the whole object. By default, OSS ignores a range that is not
/// completely inside the object. A request can ask for the standard behavior of HTTP instead.
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/getobject>
fn requested_range(request: &OssRequest, size: u64) -> Result<Option<Range<u64>>, OssError> {
    let Some(range) = request.header("range").and_then(|header| parse_range(header, size)) else { return Ok(None) };
    if range.start < size && range.end <= size {
        return Ok(Some(range));
    }
    let is_standard = request.header("x-oss-range-behavior") == Some("standard");
    if !is_standard {
        return Ok(None);
    }
    if range.start >= size {
        let message = "The requested range cannot be satisfied.";
        return Err(OssError::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", "0026-00000022", message));
    }
    Ok(Some(range.start..size))
}

/// Parses a `Range` header with one range of bytes. The range can exceed the object. Returns `None` for any other
/// header, which HTTP ignores.
fn parse_range(header: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => Some(first..last.saturating_add(1)),
        (Ok(first), Err(_)) if last.is_empty() => Some(first..size),
        // `-N` asks for the last N bytes.
        (Err(_), Ok(count)) if first.is_empty() && count > 0 => Some(size.saturating_sub(count)..size),
        _ => None,
    }
}

/// Checks conditions such as `If-Match` in the order of HTTP: entity tags take precedence over dates.
fn check_preconditions(request: &OssRequest, found: &FoundObject) -> Result<(), OssError> {
    let etag = found.object.etag.to_string();
    let contains_etag = |list: &str| {
        let mut etags = list.split(',').map(|item| item.trim().trim_matches('"'));
        etags.any(|item| item == "*" || item.eq_ignore_ascii_case(&etag))
    };
    let modified = found.modified.timestamp().as_second();
    let date = |name: &str| {
        let date = rfc2822::parse(request.header(name)?).ok()?;
        Some(date.timestamp().as_second())
    };
    let is_expected = match (request.header("if-match"), date("if-unmodified-since")) {
        (Some(list), _) => contains_etag(list),
        (None, Some(date)) => modified <= date,
        (None, None) => true,
    };
    if !is_expected {
        return Err(OssError::precondition_failed());
    }
    let is_unchanged = match (request.header("if-none-match"), date("if-modified-since")) {
        (Some(list), _) => contains_etag(list),
        (None, Some(date)) => modified <= date,
        (None, None) => false,
    };
    if is_unchanged {
        return Err(OssError::new(StatusCode::NOT_MODIFIED, "NotModified", "0026-00000023", "Not Modified"));
    }
    Ok(())
}

/// Sets the response headers that describe an object.
fn set_object_headers(found: &FoundObject, now: UnixMillis, headers: &mut HeaderMap) {
    let object = &found.object;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    upload::add_stored_headers(object.headers.as_deref(), headers);
    set_header(headers, header::ETAG, &etag(object.etag));
    set_header(headers, header::LAST_MODIFIED, &found.modified.http_date());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(OBJECT_TYPE, HeaderValue::from_static(object_type(object.etag)));
    headers.insert(CLASS, HeaderValue::from_static(object.class.oss_name()));
    if object.tags.len() > 0 {
        headers.insert(TAG_COUNT, object.tags.len().into());
    }
    if let Some(restore) = restore::progress(object, now).header_value() {
        set_header(headers, RESTORE, &restore);
    }
    if let Some(id) = &found.id {
        set_header(headers, VERSION_ID, id);
    }
}

fn delete_object(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["versionId"])?;
    let DeletedVersion { is_marker, id } = sandbox.delete_object(request.target()?, &WritePrecondition::Always)?;
    let mut response = empty_response(StatusCode::NO_CONTENT);
    if is_marker {
        response.headers_mut().insert(DELETE_MARKER, HeaderValue::from_static("true"));
    }
    Ok(with_version(response, id.as_deref()))
}

/// An object that a request for several objects deleted.
struct DeletedObject<'d> {
    key: &'d str,
    /// The version ID in the request.
    version: Option<&'d str>,
    result: DeletedVersion,
}

/// Deletes the objects that a document lists.
pub(super) fn delete_objects(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    let bucket = request.bucket()?;
    sandbox.with_bucket(bucket, |_| ())?;
    let delete = RequestElement::parse(document, "Delete")?;
    delete.check_children(&["Quiet", "Object"])?;
    let is_quiet = delete.child_text("Quiet")? == Some("true");
    let objects: Vec<&RequestElement> = delete.children_named("Object").collect();
    if !(1..=MAX_DELETED).contains(&objects.len()) {
        return Err(OssError::malformed_xml());
    }
    // Nothing is deleted unless the document is valid and everything may be deleted.
    let targets = objects.into_iter().map(|object| parse_deletion(bucket, object)).collect::<Result<Vec<_>, _>>()?;
    for target in &targets {
        sandbox.with_state(|state| state.check_object_access(request.requester, *target, ObjectAction::Delete))?;
    }
    let mut deleted = Vec::with_capacity(targets.len());
    for target in targets {
        let result = sandbox.delete_object(target, &WritePrecondition::Always)?;
        deleted.push(DeletedObject { key: target.key, version: target.version, result });
    }
    let listed = if is_quiet { &[][..] } else { &deleted };
    Ok(delete_result(request, listed).into_response())
}

/// Parses one object of a document that lists objects to delete.
fn parse_deletion<'d>(bucket: &'d str, object: &'d RequestElement) -> Result<RequestedObject<'d>, OssError> {
    object.check_children(&["Key", "VersionId"])?;
    let key = object.child_text("Key")?.filter(|key| !key.is_empty()).ok_or_else(OssError::malformed_xml)?;
    let version = object.child_text("VersionId")?.filter(|id| !id.is_empty());
    Ok(RequestedObject { bucket, key, version })
}

fn delete_result(request: &OssRequest, deleted: &[DeletedObject<'_>]) -> ResponseDocument {
    ResponseDocument::new("DeleteResult", |to| {
        if request.wants_url_encoding() {
            to.write_text("EncodingType", "url");
        }
        for DeletedObject { key, version, result } in deleted {
            to.write_element("Deleted", |to| {
                to.write_text("Key", &request.encode_name(key));
                to.write_optional("VersionId", *version);
                if result.is_marker {
                    to.write_text("DeleteMarker", "true");
                    to.write_optional("DeleteMarkerVersionId", result.id.as_deref());
                }
            });
        }
    })
}

fn get_tagging(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let found = sandbox.find_object(request.target()?)?;
    let document =
        ResponseDocument::new("Tagging", |to| to.write_element("TagSet", |to| to.write_tags(&found.object.tags)));
    Ok(with_version(document.into_response(), found.id.as_deref()))
}

fn put_tagging(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    let tagging = RequestElement::parse(document, "Tagging")?;
    tagging.check_children(&["TagSet"])?;
    let tag_set = tagging.child("TagSet")?.ok_or_else(OssError::malformed_xml)?;
    tag_set.check_children(&["Tag"])?;
    let tags = parse_tags(tag_set.children_named("Tag"))?;
    let id = sandbox.set_tags(request.target()?, tags)?;
    Ok(with_version(empty_response(StatusCode::OK), id.as_deref()))
}

fn delete_tagging(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let id = sandbox.set_tags(request.target()?, SharedTags::default())?;
    Ok(with_version(empty_response(StatusCode::NO_CONTENT), id.as_deref()))
}

fn get_acl(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let found = sandbox.find_object(request.target()?)?;
    Ok(with_version(acl_document(&found.object.access).into_response(), found.id.as_deref()))
}

fn put_acl(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let Some(name) = request.header("x-oss-object-acl") else {
        return Err(OssError::invalid_argument("The header x-oss-object-acl is missing."));
    };
    let acl = parse_acl(name)?;
    let id = sandbox.set_acl(request.target()?, StoredAcl::Canned(acl))?;
    Ok(with_version(empty_response(StatusCode::OK), id.as_deref()))
}

fn restore_object(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    let parameters = parse_restore_request(document)?;
    let target = request.target()?;
    let accepted = sandbox.restore_object(target, parameters)?;
    let status = match accepted.kind {
        AcceptedRestoreKind::Started => StatusCode::ACCEPTED,
        AcceptedRestoreKind::Extended => StatusCode::OK,
    };
    let mut response = empty_response(status);
    // OSS's Archive class has no retrieval tiers.
    if accepted.class != ObjectStorageClass::Glacier {
        set_header(response.headers_mut(), PRIORITY, accepted.tier.as_str());
    }
    let found = sandbox.find_object(target)?;
    Ok(with_version(response, found.id.as_deref()))
}

/// Parses a `RestoreRequest`. The document can be missing.
fn parse_restore_request(document: &[u8]) -> Result<RestoreParameters, OssError> {
    let mut parameters = RestoreParameters { days: Some(DEFAULT_RESTORE_DAYS), tier: None, rules: RestoreDialect::Oss };
    if document.is_empty() {
        return Ok(parameters);
    }
    let restore = RequestElement::parse(document, "RestoreRequest")?;
    restore.check_children(&["Days", "JobParameters"])?;
    if let Some(days) = restore.child_text("Days")? {
        let invalid = |_| OssError::bad_request("MalformedXML", "0016-00000708", "Days must be an integer.");
        parameters.days = Some(days.trim().parse().map_err(invalid)?);
    }
    if let Some(job_parameters) = restore.child("JobParameters")? {
        job_parameters.check_children(&["Tier"])?;
        let name = job_parameters.child_text("Tier")?.ok_or_else(OssError::malformed_xml)?;
        let Some(tier) = RetrievalTier::parse(name) else {
            let message = "The tier must be Expedited, Standard or Bulk.";
            return Err(OssError::bad_request("MalformedXML", "0016-00000703", message));
        };
        parameters.tier = Some(tier);
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::request;
    use super::*;

    #[test]
    fn a_range_that_is_not_there_is_overlooked_unless_asked_otherwise() {
        let range = |spec: &str, behavior: &str| {
            let headers = [("range", spec), ("x-oss-range-behavior", behavior)];
            requested_range(&request(Method::GET, "/b/k", &headers), 10).map_err(|error| error.code)
        };
        for behavior in ["", "standard"] {
            assert_eq!(range("bytes=2-4", behavior), Ok(Some(2..5)));
            assert_eq!(range("bytes=2-", behavior), Ok(Some(2..10)));
            assert_eq!(range("bytes=-3", behavior), Ok(Some(7..10)));
            assert_eq!(range("bytes=-30", behavior), Ok(Some(0..10)));
            for nonsense in ["bytes=4-2", "bytes=a-b", "bytes=-0", "bytes=1-2,4-5", "lines=1-2"] {
                assert_eq!(range(nonsense, behavior), Ok(None), "{nonsense}");
            }
        }
        assert_eq!(range("bytes=5-20", ""), Ok(None));
        assert_eq!(range("bytes=5-20", "standard"), Ok(Some(5..10)));
        assert_eq!(range("bytes=10-", ""), Ok(None));
        assert_eq!(range("bytes=10-", "standard"), Err("InvalidRange"));
        assert_eq!(range("bytes=5-18446744073709551615", "standard"), Ok(Some(5..10)));
    }

    #[test]
    fn a_restore_request_says_days_and_perhaps_a_tier() {
        let read = |content: &str| {
            let parsed = parse_restore_request(format!("<RestoreRequest>{content}</RestoreRequest>").as_bytes());
            parsed.map(|parameters| (parameters.days, parameters.tier)).map_err(|error| error.ec)
        };
        assert_eq!(read("<Days>7</Days>"), Ok((Some(7), None)));
        assert_eq!(read(""), Ok((Some(1), None)));
        let tier = |name| format!("<Days>2</Days><JobParameters><Tier>{name}</Tier></JobParameters>");
        assert_eq!(read(&tier("Bulk")), Ok((Some(2), Some(RetrievalTier::Bulk))));
        assert_eq!(read(&tier("Test")), Err("0016-00000703"));
        assert_eq!(read("<Days>a</Days>"), Err("0016-00000708"));
        assert_eq!(read("<Days>-1</Days>"), Err("0016-00000708"));
        assert_eq!(read("<Days>1</Days><Days>2</Days>"), Err("0016-00000714"));
        assert_eq!(read("<Days>1</Days><Unknown/>"), Err("0016-00000714"));
    }
}

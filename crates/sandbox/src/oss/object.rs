//! Requests about objects: which operation answers a request, reading and deleting objects, and their sub-resources:
//! tags, ACLs, and restores.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use jiff::fmt::rfc2822;

use super::request::{OssRequest, OssRequestBody, RequestElement, parse_acl, receive_document, url_encode};
use super::response::{
    CLASS, DELETE_MARKER, OssError, OssResponseBody, ResponseDocument, VERSION_ID, acl_document, empty_response, etag,
    set_header, with_version,
};
use super::upload;
use crate::model::{ObjectStorageClass, RetrievalTier, UnixMillis};
use crate::restore::{self, RestoreDialect, RestoreParameters};
use crate::state::{FoundObject, RequestedObject, SandboxRequestError};
use crate::store::{AcceptedRestoreKind, DeletedVersion, Sandbox};
use crate::tags::{SharedTags, TagList, check_for_oss};

const OBJECT_TYPE: HeaderName = HeaderName::from_static("x-oss-object-type");
const RESTORE: HeaderName = HeaderName::from_static("x-oss-restore");
const TAG_COUNT: HeaderName = HeaderName::from_static("x-oss-tagging-count");
const PRIORITY: HeaderName = HeaderName::from_static("x-oss-object-restore-priority");

/// The maximum number of keys in a delete request.
const MAX_DELETED: usize = 1000;

/// Answers a request that names an object.
pub(super) async fn handle_object_request(
    sandbox: &Sandbox,
    request: &OssRequest,
    body: impl OssRequestBody,
) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&[
        "acl",
        "encoding-type",
        "partNumber",
        "restore",
        "tagging",
        "uploadId",
        "uploads",
        "versionId",
    ])?;
    let subresources = ["acl", "restore", "tagging", "uploadId", "uploads"];
    let mut named = subresources.into_iter().filter(|name| request.has_param(name));
    let subresource = named.next();
    if named.next().is_some() {
        return Err(OssError::invalid_argument("A request must have only one sub-resource."));
    }
    let headers: &HeaderMap = &request.headers;
    match (&request.method, subresource) {
        (&Method::GET, Some("acl")) => get_acl(sandbox, request),
        (&Method::PUT, Some("acl")) => put_acl(sandbox, request),
        (&Method::GET, Some("tagging")) => get_tagging(sandbox, request),
        (&Method::PUT, Some("tagging")) => put_tagging(sandbox, request, &receive_document(headers, body).await?),
        (&Method::DELETE, Some("tagging")) => delete_tagging(sandbox, request),
        (&Method::POST, Some("restore")) => restore(sandbox, request, &receive_document(headers, body).await?),
        (&Method::POST, Some("uploads")) => upload::initiate(sandbox, request),
        (&Method::PUT, Some("uploadId")) => upload::put_part(sandbox, request, body).await,
        (&Method::POST, Some("uploadId")) => {
            upload::complete(sandbox, request, &receive_document(headers, body).await?)
        }
        (&Method::DELETE, Some("uploadId")) => upload::abort(sandbox, request),
        (&Method::PUT, None) => upload::put(sandbox, request, body).await,
        (&Method::GET | &Method::HEAD, None) => read(sandbox, request),
        (&Method::DELETE, None) => delete(sandbox, request),
        _ => Err(OssError::method_not_allowed()),
    }
}

/// Answers a GET or HEAD request.
pub(super) fn read(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["versionId"])?;
    let target = request.target()?;
    let marker = |refusal| match refusal {
        // The version that the request names is a delete marker. A current one is `CurrentIsDeleteMarker`.
        SandboxRequestError::IsDeleteMarker { id, .. } => {
            let message = "The specified method is not allowed against this resource.";
            OssError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "0016-00000503", message)
                .with_delete_marker(id)
        }
        refusal => refusal.into(),
    };
    if request.method == Method::HEAD {
        let seen = sandbox.find_object(target).map_err(marker)?;
        check_conditions(request, &seen)?;
        let mut response = empty_response(StatusCode::OK);
        set_object_headers(&seen, sandbox.now(), response.headers_mut());
        response.headers_mut().insert(header::CONTENT_LENGTH, seen.object.size.into());
        return Ok(response);
    }
    let mut partial = false;
    let opened = sandbox.read_object(target, |seen| {
        check_conditions(request, seen).map_err(OssReadError::Request)?;
        let range = requested_range(request, seen.object.size).map_err(OssReadError::Request)?;
        partial = range.is_some();
        Ok(range.unwrap_or(0..seen.object.size))
    });
    let (seen, range, reader) = opened.map_err(|stopped| match stopped {
        OssReadError::Store(refusal) => marker(refusal),
        OssReadError::Request(fault) => fault,
    })?;
    let mut response = Response::new(OssResponseBody::FromObject(reader));
    let headers = response.headers_mut();
    set_object_headers(&seen, sandbox.now(), headers);
    headers.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
    if partial {
        let content = format!("bytes {}-{}/{}", range.start, range.end - 1, seen.object.size);
        set_header(headers, header::CONTENT_RANGE, &content);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// Why an object is not read: an error of the store, or of the request.
enum OssReadError {
    Store(SandboxRequestError),
    Request(OssError),
}

impl From<SandboxRequestError> for OssReadError {
    fn from(refusal: SandboxRequestError) -> Self {
        Self::Store(refusal)
    }
}

/// Returns the requested range. A range that the object does not have is ignored, unless the request asks for the
/// standard behavior of HTTP. <https://www.alibabacloud.com/help/en/oss/developer-reference/getobject>
fn requested_range(request: &OssRequest, size: u64) -> Result<Option<Range<u64>>, OssError> {
    let Some(spec) = request.header("range").and_then(|range| range.strip_prefix("bytes=")) else { return Ok(None) };
    let Some((from, to)) = spec.split_once('-') else { return Ok(None) };
    let standard = request.header("x-oss-range-behavior") == Some("standard");
    let (from, to) = match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => (from, to.saturating_add(1)),
        (Ok(from), Err(_)) if to.is_empty() => (from, size),
        (Err(_), Ok(last)) if from.is_empty() && last > 0 => (size.saturating_sub(last), size),
        _ => return Ok(None),
    };
    if from >= size {
        let message = "The requested range cannot be satisfied.";
        let fault = OssError::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", "0026-00000022", message);
        return if standard { Err(fault) } else { Ok(None) };
    }
    if to > size && !standard { Ok(None) } else { Ok(Some(from..to.min(size))) }
}

/// Checks conditions such as `If-Match` in the order of HTTP: entity tags take precedence over dates.
fn check_conditions(request: &OssRequest, seen: &FoundObject) -> Result<(), OssError> {
    let tag = seen.object.etag.to_string();
    let matches = |list: &str| {
        list.split(',').map(|one| one.trim().trim_matches('"')).any(|one| one == "*" || one.eq_ignore_ascii_case(&tag))
    };
    let date = |name: &str| request.header(name).and_then(|date| rfc2822::parse(date).ok());
    let modified = seen.modified.timestamp().as_second();
    let failed = match (request.header("if-match"), date("if-unmodified-since")) {
        (Some(list), _) => !matches(list),
        (None, Some(since)) => modified > since.timestamp().as_second(),
        (None, None) => false,
    };
    if failed {
        return Err(OssError::precondition_failed());
    }
    let unchanged = match (request.header("if-none-match"), date("if-modified-since")) {
        (Some(list), _) => matches(list),
        (None, Some(since)) => modified <= since.timestamp().as_second(),
        (None, None) => false,
    };
    if unchanged {
        return Err(OssError::new(StatusCode::NOT_MODIFIED, "NotModified", "0026-00000023", "Not Modified"));
    }
    Ok(())
}

/// Sets the response headers that describe an object.
fn set_object_headers(seen: &FoundObject, now: UnixMillis, headers: &mut HeaderMap) {
    let object = &seen.object;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    upload::add_stored_headers(object.headers.as_deref(), headers);
    set_header(headers, header::ETAG, &etag(object.etag));
    set_header(headers, header::LAST_MODIFIED, &seen.modified.http_date());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let kind = if object.etag.parts > 0 { "Multipart" } else { "Normal" };
    headers.insert(OBJECT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CLASS, HeaderValue::from_static(object.class.oss_name()));
    if object.tags.len() > 0 {
        headers.insert(TAG_COUNT, object.tags.len().into());
    }
    if let Some(restore) = restore::progress(object, now).header_value() {
        set_header(headers, RESTORE, &restore);
    }
    if let Some(id) = &seen.id {
        set_header(headers, VERSION_ID, id);
    }
}

fn delete(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["versionId"])?;
    let DeletedVersion { is_marker: marker, id } = sandbox.delete_object(request.target()?)?;
    let mut response = empty_response(StatusCode::NO_CONTENT);
    if marker {
        response.headers_mut().insert(DELETE_MARKER, HeaderValue::from_static("true"));
    }
    Ok(with_version(response, id.as_deref()))
}

pub(super) fn delete_multiple(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    let bucket = request.bucket()?;
    sandbox.with_bucket(bucket, |_| ())?;
    let delete = RequestElement::parse(document, "Delete")?;
    delete.check_children(&["Quiet", "Object"])?;
    let quiet = delete.child_text("Quiet")? == Some("true");
    let objects: Vec<&RequestElement> = delete.children.iter().filter(|child| child.name == "Object").collect();
    if !(1..=MAX_DELETED).contains(&objects.len()) {
        return Err(OssError::malformed_xml());
    }
    let url = request.param("encoding-type") == Some("url");
    let mut done = Vec::with_capacity(objects.len());
    for object in objects {
        object.check_children(&["Key", "VersionId"])?;
        let key = object.child_text("Key")?.filter(|key| !key.is_empty()).ok_or_else(OssError::malformed_xml)?;
        let version = object.child_text("VersionId")?.filter(|id| !id.is_empty());
        done.push((key, version, sandbox.delete_object(RequestedObject { bucket, key, version })?));
    }
    let answer = ResponseDocument::new("DeleteResult", |to| {
        if url {
            to.write_text("EncodingType", "url");
        }
        for (key, version, deleted) in done.iter().filter(|_| !quiet) {
            to.write_element("Deleted", |to| {
                to.write_text("Key", &if url { url_encode(key) } else { (*key).to_owned() });
                to.write_optional("VersionId", *version);
                if deleted.is_marker {
                    to.write_text("DeleteMarker", "true");
                    to.write_optional("DeleteMarkerVersionId", deleted.id.as_deref());
                }
            });
        }
    });
    Ok(answer.into_response())
}

fn get_tagging(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let seen = sandbox.find_object(request.target()?)?;
    let document = ResponseDocument::new("Tagging", |to| {
        to.write_element("TagSet", |to| {
            for (key, value) in seen.object.tags.iter() {
                to.write_element("Tag", |to| {
                    to.write_text("Key", key);
                    to.write_text("Value", value);
                });
            }
        });
    });
    Ok(with_version(document.into_response(), seen.id.as_deref()))
}

fn put_tagging(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    let tagging = RequestElement::parse(document, "Tagging")?;
    tagging.check_children(&["TagSet"])?;
    let set = tagging.child("TagSet")?.ok_or_else(OssError::malformed_xml)?;
    set.check_children(&["Tag"])?;
    let pairs = set.children.iter().map(|tag| {
        tag.check_children(&["Key", "Value"])?;
        let key = tag.child_text("Key")?.ok_or_else(OssError::malformed_xml)?;
        Ok((key.into(), tag.child_text("Value")?.unwrap_or_default().into()))
    });
    let tags = check_for_oss(pairs.collect::<Result<TagList, OssError>>()?)?;
    let id = sandbox.set_tags(request.target()?, tags)?;
    Ok(with_version(empty_response(StatusCode::OK), id.as_deref()))
}

fn delete_tagging(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let id = sandbox.set_tags(request.target()?, SharedTags::default())?;
    Ok(with_version(empty_response(StatusCode::NO_CONTENT), id.as_deref()))
}

fn get_acl(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let seen = sandbox.find_object(request.target()?)?;
    Ok(with_version(acl_document(seen.object.acl).into_response(), seen.id.as_deref()))
}

fn put_acl(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let named = request.header("x-oss-object-acl");
    let acl = parse_acl(named.ok_or_else(|| OssError::invalid_argument("The header x-oss-object-acl is missing."))?)?;
    let id = sandbox.set_acl(request.target()?, acl)?;
    Ok(with_version(empty_response(StatusCode::OK), id.as_deref()))
}

fn restore(sandbox: &Sandbox, request: &OssRequest, document: &[u8]) -> Result<Response<OssResponseBody>, OssError> {
    let parameters = if document.is_empty() {
        RestoreParameters { days: 1, tier: None, rules: RestoreDialect::Oss }
    } else {
        parse_restore_request(document)?
    };
    let target = request.target()?;
    let accepted = sandbox.restore_object(target, parameters)?;
    let status = if accepted.kind == AcceptedRestoreKind::Started { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut response = empty_response(status);
    if accepted.class != ObjectStorageClass::Glacier {
        set_header(response.headers_mut(), PRIORITY, accepted.tier.as_str());
    }
    let seen = sandbox.find_object(target)?;
    Ok(with_version(response, seen.id.as_deref()))
}

/// Parses a `RestoreRequest`. The default is one day.
fn parse_restore_request(document: &[u8]) -> Result<RestoreParameters, OssError> {
    let asked = RequestElement::parse(document, "RestoreRequest")?;
    asked.check_children(&["Days", "JobParameters"])?;
    let days = match asked.child_text("Days")? {
        None => 1,
        Some(days) => days
            .trim()
            .parse()
            .map_err(|_| OssError::bad_request("MalformedXML", "0016-00000708", "Days must be an integer."))?,
    };
    let tier = match asked.child("JobParameters")? {
        None => None,
        Some(parameters) => {
            parameters.check_children(&["Tier"])?;
            let name = parameters.child_text("Tier")?.ok_or_else(OssError::malformed_xml)?;
            let unknown = || {
                OssError::bad_request("MalformedXML", "0016-00000703", "The tier must be Expedited, Standard or Bulk.")
            };
            Some(RetrievalTier::parse(name).ok_or_else(unknown)?)
        }
    };
    Ok(RestoreParameters { days, tier, rules: RestoreDialect::Oss })
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::request;
    use super::*;

    #[test]
    fn a_range_that_is_not_there_is_overlooked_unless_asked_otherwise() {
        let range = |spec: &str, behavior: &str| {
            let headers = [("range", spec), ("x-oss-range-behavior", behavior)];
            requested_range(&request(Method::GET, "/b/k", &headers), 10).map_err(|fault| fault.code)
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
            let asked = parse_restore_request(format!("<RestoreRequest>{content}</RestoreRequest>").as_bytes());
            asked.map(|ask| (ask.days, ask.tier)).map_err(|fault| fault.ec)
        };
        assert_eq!(read("<Days>7</Days>"), Ok((7, None)));
        let tier = |name| format!("<Days>2</Days><JobParameters><Tier>{name}</Tier></JobParameters>");
        assert_eq!(read(&tier("Bulk")), Ok((2, Some(RetrievalTier::Bulk))));
        assert_eq!(read(&tier("Test")), Err("0016-00000703"));
        assert_eq!(read("<Days>a</Days>"), Err("0016-00000708"));
        assert_eq!(read("<Days>-1</Days>"), Err("0016-00000708"));
        assert_eq!(read("<Days>1</Days><Days>2</Days>"), Err("0016-00000714"));
        assert_eq!(read("<Days>1</Days><Unknown/>"), Err("0016-00000714"));
    }
}

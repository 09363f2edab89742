//! Writing, reading, and deleting objects.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use jiff::fmt::rfc2822;

use super::body::{OssRequestBody, OssResponseBody, empty_response, receive_object};
use super::bucket::parse_acl;
use super::document::{RequestElement, ResponseDocument};
use super::error::{DELETE_MARKER, OssError, VERSION_ID, set_header};
use super::request::{OssRequest, url_encode};
use super::subresources::with_version;
use crate::blobs::WrittenBlob;
use crate::model::{ETag, ObjectStorageClass, StoredAcl, StoredHeaders, UnixMillis};
use crate::restore::{self, RestoreProgress};
use crate::state::{FoundObject, RequestedObject, SandboxRequestError, WritePrecondition};
use crate::store::{DeletedVersion, NewObject, Sandbox};
use crate::tags::{self, SharedTags};

const CLASS: HeaderName = HeaderName::from_static("x-oss-storage-class");
const CRC64: HeaderName = HeaderName::from_static("x-oss-hash-crc64ecma");
const OBJECT_TYPE: HeaderName = HeaderName::from_static("x-oss-object-type");
const RESTORE: HeaderName = HeaderName::from_static("x-oss-restore");
const TAG_COUNT: HeaderName = HeaderName::from_static("x-oss-tagging-count");

/// The prefix of user metadata in OSS requests, and the prefix with which it is stored.
const METADATA: &str = "x-oss-meta-";
const STORED_METADATA: &str = "x-amz-meta-";
/// The maximum size of user metadata in bytes, including the names.
const MAX_METADATA: usize = 8192;
/// The maximum number of keys in a delete request.
const MAX_DELETED: usize = 1000;

/// Formats an entity tag as OSS does: quoted, in upper case.
pub(super) fn etag(etag: ETag) -> String {
    format!("\"{}\"", etag.to_string().to_uppercase())
}

/// Formats a time as in `Wed, 04 Mar 2026 00:00:00 GMT`.
fn http_date(at: UnixMillis) -> String {
    at.timestamp().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The properties of a new object, from the headers of a request.
pub(super) struct NewObjectProperties {
    pub(super) class: ObjectStorageClass,
    pub(super) acl: StoredAcl,
    pub(super) tags: SharedTags,
    pub(super) headers: Option<Box<StoredHeaders>>,
}

impl NewObjectProperties {
    pub(super) fn from_request(request: &OssRequest) -> Result<Self, OssError> {
        let unknown = || OssError::bad_request("InvalidArgument", "0017-00000802", "The storage class does not exist.");
        let class = request
            .header(CLASS.as_str())
            .map(|name| ObjectStorageClass::parse_oss_name(name).ok_or_else(unknown))
            .transpose()?;
        let acl = request.header("x-oss-object-acl").map(parse_acl).transpose()?;
        let tags = match request.header("x-oss-tagging") {
            None => SharedTags::default(),
            Some(query) => tags::check_for_oss(tags::parse_query(query)?)?,
        };
        Ok(Self {
            class: class.unwrap_or(ObjectStorageClass::Standard),
            acl: acl.unwrap_or(StoredAcl::Default),
            tags,
            headers: stored_headers(&request.headers)?,
        })
    }
}

/// Returns the condition of a write.
pub(super) fn write_precondition(request: &OssRequest) -> WritePrecondition {
    let forbidden = request.header("x-oss-forbid-overwrite").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if forbidden { WritePrecondition::Absent } else { WritePrecondition::Always }
}

/// Converts an error of a write. OSS has its own code if the object already exists but must not.
pub(super) fn write_error(refusal: SandboxRequestError) -> OssError {
    match refusal {
        SandboxRequestError::PreconditionFailed => OssError::new(
            StatusCode::CONFLICT,
            "FileAlreadyExists",
            "0026-00000045",
            "The object you specified already exists and can not be overwritten.",
        ),
        refusal => refusal.into(),
    }
}

pub(super) async fn put(
    sandbox: &Sandbox,
    request: &OssRequest,
    body: impl OssRequestBody,
) -> Result<Response<OssResponseBody>, OssError> {
    // Everything that can be rejected is rejected before the body is received.
    if request.headers.contains_key("x-oss-copy-source") {
        return Err(OssError::not_implemented("The sandbox does not support copying objects in OSS requests."));
    }
    let RequestedObject { bucket, key, .. } = request.target()?;
    request.allow_params(&["encoding-type"])?;
    let NewObjectProperties { class, acl, tags, headers } = NewObjectProperties::from_request(request)?;
    let condition = write_precondition(request);
    sandbox.with_state(|state| state.check_precondition(bucket, key, &condition)).map_err(write_error)?;
    let (WrittenBlob { body, size, md5 }, crc) = receive_object(sandbox, &request.headers, body).await?;
    let tag = ETag { md5, parts: 0 };
    let new = NewObject { size, etag: tag, class, acl, tags, headers, body };
    let id = sandbox.put_object(bucket, key, new, &condition).map_err(write_error)?;
    Ok(with_version(upload_response(tag, md5, crc), id.as_deref()))
}

/// Returns the response to a body that was received.
pub(super) fn upload_response(tag: ETag, md5: [u8; 16], crc: u64) -> Response<OssResponseBody> {
    use base64::Engine;
    let mut response = empty_response(StatusCode::OK);
    let headers = response.headers_mut();
    set_header(headers, header::ETAG, &etag(tag));
    set_header(headers, CRC64, &crc.to_string());
    let digest = base64::engine::general_purpose::STANDARD.encode(md5);
    set_header(headers, HeaderName::from_static("content-md5"), &digest);
    response
}

/// Returns the headers of a request that are stored with the object.
fn stored_headers(headers: &HeaderMap) -> Result<Option<Box<StoredHeaders>>, OssError> {
    const KEPT: [HeaderName; 6] = [
        header::CONTENT_TYPE,
        header::CACHE_CONTROL,
        header::CONTENT_DISPOSITION,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::EXPIRES,
    ];
    let mut kept: Vec<(Box<str>, Box<str>)> = Vec::new();
    let mut metadata = 0;
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        if let Some(user) = name.as_str().strip_prefix(METADATA) {
            metadata += user.len() + value.len();
            kept.push((format!("{STORED_METADATA}{user}").into(), value.into()));
        } else if KEPT.contains(name) && !value.is_empty() {
            kept.push((name.as_str().into(), value.into()));
        }
    }
    if metadata > MAX_METADATA {
        return Err(OssError::bad_request(
            "InvalidArgument",
            "0017-00000803",
            "The user metadata is longer than 8 KB.",
        ));
    }
    Ok((!kept.is_empty()).then(|| Box::new(StoredHeaders(kept))))
}

/// Answers a GET or HEAD request.
pub(super) fn read(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["versionId"])?;
    let target = request.target()?;
    let marker = |refusal| match refusal {
        // Only a request that names a delete marker by its version is answered with 405.
        SandboxRequestError::IsDeleteMarker { id, .. } => OssError {
            delete_marker: Some(id),
            ..OssError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "0016-00000503",
                "The specified method is not allowed against this resource.",
            )
        },
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
    for (name, value) in object.headers.iter().flat_map(|kept| &kept.0) {
        let name =
            name.strip_prefix(STORED_METADATA).map_or_else(|| name.to_string(), |user| format!("{METADATA}{user}"));
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            set_header(headers, name, value);
        }
    }
    set_header(headers, header::ETAG, &etag(object.etag));
    set_header(headers, header::LAST_MODIFIED, &http_date(seen.modified));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let kind = if object.etag.parts > 0 { "Multipart" } else { "Normal" };
    headers.insert(OBJECT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CLASS, HeaderValue::from_static(object.class.oss_name()));
    if object.tags.len() > 0 {
        headers.insert(TAG_COUNT, object.tags.len().into());
    }
    if let Some(restore) = restore_header(seen, now) {
        set_header(headers, RESTORE, &restore);
    }
    if let Some(id) = &seen.id {
        set_header(headers, VERSION_ID, id);
    }
}

fn restore_header(seen: &FoundObject, now: UnixMillis) -> Option<String> {
    restore_status(restore::progress(&seen.object, now))
}

/// Returns the state of a restore as headers and listings show it.
pub(super) fn restore_status(progress: RestoreProgress) -> Option<String> {
    match progress {
        RestoreProgress::Absent => None,
        RestoreProgress::Ongoing => Some("ongoing-request=\"true\"".to_owned()),
        RestoreProgress::ReadableUntil(expiry) => {
            Some(format!("ongoing-request=\"false\", expiry-date=\"{}\"", http_date(expiry)))
        }
    }
}

pub(super) fn delete(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
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
}

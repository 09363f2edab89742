//! Writing objects: PUT requests and multipart uploads.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};

use super::request::{OssRequest, OssRequestBody, RequestElement, parse_acl, receive_document, receive_object};
use super::response::{
    CLASS, OssError, OssResponseBody, ResponseDocument, empty_response, etag, set_header, with_version,
};
use crate::access::{CannedAcl, SharedAccess, StoredAcl};
use crate::blobs::WrittenBlob;
use crate::completed::{CompletedUpload, ExpectedPart, UploadTarget};
use crate::model::{ETag, Md5Digest, ObjectStorageClass, PendingUpload, StoredHeaders, UploadedPart};
use crate::state::{RequestedObject, SandboxRequestError, WritePrecondition};
use crate::store::{NewObject, Sandbox};
use crate::tags::{self, SharedTags};
use crate::uploads::UploadCompletion;

const CRC64: HeaderName = HeaderName::from_static("x-oss-hash-crc64ecma");

/// The prefix of user metadata in OSS requests, and the prefix with which it is stored.
const METADATA_PREFIX: &str = "x-oss-meta-";
const STORED_METADATA_PREFIX: &str = "x-amz-meta-";

/// The headers that OSS stores with an object and returns, apart from user metadata.
const STORED_HEADERS: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::EXPIRES,
];

/// The maximum size of user metadata in bytes, including the names.
const MAX_METADATA_BYTES: usize = 8192;

/// The maximum part number.
const MAX_PART_NUMBER: u16 = 10_000;

/// The minimum size of every part but the last, in bytes.
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/completemultipartupload>
const MIN_PART_BYTES: u64 = 100 << 10;

/// The properties of a new object, from the headers of a request.
struct NewObjectProperties {
    class: ObjectStorageClass,
    access: SharedAccess,
    tags: SharedTags,
    headers: Option<Box<StoredHeaders>>,
}

impl NewObjectProperties {
    fn from_request(sandbox: &Sandbox, request: &OssRequest) -> Result<Self, OssError> {
        let bucket_owner = sandbox.with_bucket(request.bucket()?, |bucket| bucket.access.owner)?;
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
            access: SharedAccess::new(bucket_owner, StoredAcl::Canned(acl.unwrap_or(CannedAcl::Default))),
            tags,
            headers: stored_headers(&request.headers)?,
        })
    }
}

/// Returns the headers of a request that are stored with the object.
fn stored_headers(headers: &HeaderMap) -> Result<Option<Box<StoredHeaders>>, OssError> {
    let mut stored: Vec<(Box<str>, Box<str>)> = Vec::new();
    let mut metadata_bytes = 0;
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        if let Some(user_name) = name.as_str().strip_prefix(METADATA_PREFIX) {
            metadata_bytes += user_name.len() + value.len();
            stored.push((format!("{STORED_METADATA_PREFIX}{user_name}").into(), value.into()));
        } else if STORED_HEADERS.contains(name) && !value.is_empty() {
            stored.push((name.as_str().into(), value.into()));
        }
    }
    if metadata_bytes > MAX_METADATA_BYTES {
        return Err(OssError::bad_request(
            "InvalidArgument",
            "0017-00000803",
            "The user metadata is longer than 8 KB.",
        ));
    }
    Ok((!stored.is_empty()).then(|| Box::new(StoredHeaders(stored))))
}

/// Adds the headers that are stored with an object to a response.
pub(super) fn add_stored_headers(stored: Option<&StoredHeaders>, headers: &mut HeaderMap) {
    for (name, value) in stored.into_iter().flat_map(|stored| &stored.0) {
        let name = name
            .strip_prefix(STORED_METADATA_PREFIX)
            .map_or_else(|| name.to_string(), |user| format!("{METADATA_PREFIX}{user}"));
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            set_header(headers, name, value);
        }
    }
}

/// Returns the condition of a write.
fn write_precondition(request: &OssRequest) -> WritePrecondition {
    let must_be_absent =
        request.header("x-oss-forbid-overwrite").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if must_be_absent { WritePrecondition::Absent } else { WritePrecondition::Always }
}

/// Converts an error of a write. OSS has its own code if the object already exists but must not.
fn write_error(error: SandboxRequestError) -> OssError {
    match error {
        SandboxRequestError::PreconditionFailed => OssError::new(
            StatusCode::CONFLICT,
            "FileAlreadyExists",
            "0026-00000045",
            "The object you specified already exists and can not be overwritten.",
        ),
        other => other.into(),
    }
}

/// Answers a PUT request for an object itself.
pub(super) async fn put_object(
    sandbox: &Sandbox,
    request: &OssRequest,
    body: impl OssRequestBody,
) -> Result<Response<OssResponseBody>, OssError> {
    // Everything that can be rejected is rejected before the body is received.
    reject_copy(request)?;
    let RequestedObject { bucket, key, .. } = request.target()?;
    request.allow_params(&["encoding-type"])?;
    let NewObjectProperties { class, access, tags, headers } = NewObjectProperties::from_request(sandbox, request)?;
    let condition = write_precondition(request);
    sandbox.with_state(|state| state.check_precondition(bucket, key, &condition)).map_err(write_error)?;
    let (WrittenBlob { body, size, md5 }, crc) = receive_object(sandbox, &request.headers, body).await?;
    let new = NewObject { size, etag: ETag::of_content(md5), class, access, tags, headers, body, details: None };
    let id = sandbox.put_object(bucket, key, new, &condition).map_err(write_error)?;
    Ok(with_version(upload_response(md5, crc), id.as_deref()))
}

fn reject_copy(request: &OssRequest) -> Result<(), OssError> {
    if request.headers.contains_key("x-oss-copy-source") {
        return Err(OssError::not_implemented("The sandbox does not support copying objects in OSS requests."));
    }
    Ok(())
}

/// Returns the response to a body that was received.
fn upload_response(md5: Md5Digest, crc: u64) -> Response<OssResponseBody> {
    let mut response = empty_response(StatusCode::OK);
    let headers = response.headers_mut();
    set_header(headers, header::ETAG, &etag(ETag::of_content(md5)));
    set_header(headers, CRC64, &crc.to_string());
    let digest = STANDARD.encode(md5);
    set_header(headers, HeaderName::from_static("content-md5"), &digest);
    response
}

/// Answers a request about a multipart upload: `uploads` starts one, and `uploadId` names an existing one.
pub(super) async fn handle_upload_request(
    sandbox: &Sandbox,
    request: &OssRequest,
    body: impl OssRequestBody,
) -> Result<Response<OssResponseBody>, OssError> {
    match (&request.method, request.has_param("uploads")) {
        (&Method::POST, true) => create_upload(sandbox, request),
        (&Method::PUT, false) => put_part(sandbox, request, body).await,
        (&Method::POST, false) => complete_upload(sandbox, request, &receive_document(&request.headers, body).await?),
        (&Method::DELETE, false) => abort_upload(sandbox, request),
        _ => Err(OssError::method_not_allowed()),
    }
}

fn create_upload(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["uploads", "encoding-type"])?;
    let RequestedObject { bucket, key, .. } = request.target()?;
    let NewObjectProperties { class, access, tags, headers } = NewObjectProperties::from_request(sandbox, request)?;
    let upload = PendingUpload {
        bucket: bucket.into(),
        key: key.into(),
        initiated: sandbox.now(),
        initiator: request.requester,
        class,
        access,
        tags,
        headers,
        checksum: None,
        parts: BTreeMap::new(),
    };
    let id = sandbox.create_upload(upload)?;
    let answer = ResponseDocument::new("InitiateMultipartUploadResult", |to| {
        write_object_name(to, request, bucket, key);
        to.write_text("UploadId", &id);
    });
    Ok(answer.into_response())
}

/// Writes the bucket and the key. The key is encoded if the request asks for it.
fn write_object_name(to: &mut ResponseDocument, request: &OssRequest, bucket: &str, key: &str) {
    if request.wants_url_encoding() {
        to.write_text("EncodingType", "url");
    }
    to.write_text("Bucket", bucket);
    to.write_text("Key", &request.encode_name(key));
}

fn upload_id(request: &OssRequest) -> &str {
    request.param("uploadId").unwrap_or_default()
}

fn part_number(text: Option<&str>) -> Result<u16, OssError> {
    let number = text.and_then(|text| text.parse().ok()).filter(|number| (1..=MAX_PART_NUMBER).contains(number));
    number.ok_or_else(|| OssError::invalid_argument("Part number must be an integer between 1 and 10000, inclusive"))
}

async fn put_part(
    sandbox: &Sandbox,
    request: &OssRequest,
    body: impl OssRequestBody,
) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["uploadId", "partNumber"])?;
    reject_copy(request)?;
    let number = part_number(request.param("partNumber"))?;
    let RequestedObject { bucket, key, .. } = request.target()?;
    let id = upload_id(request);
    sandbox.find_upload(id, bucket, key)?;
    let (blob, crc) = receive_object(sandbox, &request.headers, body).await?;
    let md5 = blob.md5;
    sandbox.put_part(id, number, blob, None)?;
    Ok(upload_response(md5, crc))
}

fn complete_upload(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["uploadId", "encoding-type"])?;
    let RequestedObject { bucket, key, .. } = request.target()?;
    let id = upload_id(request);
    let takes_all_parts = request.header("x-oss-complete-all").is_some_and(|value| value.eq_ignore_ascii_case("yes"));
    let parts = if takes_all_parts {
        let uploaded = sandbox.find_upload(id, bucket, key)?.parts;
        let etag = |part: &UploadedPart| ETag::of_content(part.md5).to_string();
        uploaded.iter().map(|(number, part)| ExpectedPart { number: *number, etag: etag(part), digest: None }).collect()
    } else {
        parse_parts(document)?
    };
    let completion = UploadCompletion {
        target: UploadTarget { id, bucket, key },
        parts: &parts,
        min_part_bytes: MIN_PART_BYTES,
        condition: &write_precondition(request),
        expected: None,
        expected_size: None,
        default_algorithm: None,
    };
    let CompletedUpload { etag: object_etag, version_id, .. } =
        sandbox.complete_upload(&completion).map_err(write_error)?;
    let host = request.header("host").unwrap_or_default();
    let answer = ResponseDocument::new("CompleteMultipartUploadResult", |to| {
        write_object_name(to, request, bucket, key);
        to.write_text("Location", &format!("http://{host}{}", request.canonical_path()));
        to.write_text("ETag", &etag(object_etag));
    });
    Ok(with_version(answer.into_response(), version_id.as_deref()))
}

fn parse_parts(document: &[u8]) -> Result<Vec<ExpectedPart>, OssError> {
    let list = RequestElement::parse(document, "CompleteMultipartUpload")?;
    list.check_children(&["Part"])?;
    let mut parts: Vec<ExpectedPart> = Vec::with_capacity(list.children.len());
    for part in &list.children {
        let number = part_number(part.child_text("PartNumber")?)?;
        let etag = part.child_text("ETag")?.ok_or_else(OssError::malformed_xml)?;
        if parts.last().is_some_and(|last| last.number >= number) {
            let message = "The list of parts was not in ascending order.";
            return Err(OssError::bad_request("InvalidPartOrder", "0042-00000009", message));
        }
        parts.push(ExpectedPart { number, etag: etag.trim_matches('"').to_lowercase(), digest: None });
    }
    if parts.is_empty() { Err(OssError::malformed_xml()) } else { Ok(parts) }
}

fn abort_upload(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["uploadId"])?;
    let RequestedObject { bucket, key, .. } = request.target()?;
    sandbox.abort_upload(upload_id(request), bucket, key)?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

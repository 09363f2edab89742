//! Multipart uploads.

use std::collections::BTreeMap;

use http::{Response, StatusCode};

use super::body::{OssRequestBody, OssResponseBody, empty_response, receive_object};
use super::document::{RequestElement, ResponseDocument};
use super::error::OssError;
use super::object::{NewObjectProperties, etag, upload_response, write_error, write_precondition};
use super::request::{OssRequest, url_encode};
use super::subresources::with_version;
use crate::model::{ETag, PendingUpload};
use crate::state::RequestedObject;
use crate::store::Sandbox;

/// The maximum part number.
const MAX_PART: u16 = 10_000;
/// The minimum size of every part but the last, in bytes.
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/completemultipartupload>
const MIN_PART: u64 = 100 << 10;

pub(super) fn initiate(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["uploads", "encoding-type"])?;
    let RequestedObject { bucket, key, .. } = request.target()?;
    let NewObjectProperties { class, acl, tags, headers } = NewObjectProperties::from_request(request)?;
    let initiated = sandbox.now();
    let (parts, named) = (BTreeMap::new(), (bucket.into(), key.into()));
    let upload = PendingUpload { bucket: named.0, key: named.1, initiated, class, acl, tags, headers, parts };
    let id = sandbox.create_upload(upload)?;
    let answer = ResponseDocument::new("InitiateMultipartUploadResult", |to| {
        write_object_name(to, request, bucket, key);
        to.write_text("UploadId", &id);
    });
    Ok(answer.into_response())
}

/// Writes the bucket and the key. The key is encoded if the request asks for it.
fn write_object_name(to: &mut ResponseDocument, request: &OssRequest, bucket: &str, key: &str) {
    let url = request.param("encoding-type") == Some("url");
    if url {
        to.write_text("EncodingType", "url");
    }
    to.write_text("Bucket", bucket);
    to.write_text("Key", &if url { url_encode(key) } else { key.to_owned() });
}

fn upload_id(request: &OssRequest) -> &str {
    request.param("uploadId").unwrap_or_default()
}

fn part_number(text: Option<&str>) -> Result<u16, OssError> {
    let number = text.and_then(|text| text.parse().ok()).filter(|number| (1..=MAX_PART).contains(number));
    number.ok_or_else(|| OssError::invalid_argument("Part number must be an integer between 1 and 10000, inclusive"))
}

pub(super) async fn put_part(
    sandbox: &Sandbox,
    request: &OssRequest,
    body: impl OssRequestBody,
) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["uploadId", "partNumber"])?;
    if request.headers.contains_key("x-oss-copy-source") {
        return Err(OssError::not_implemented("The sandbox does not support copying objects in OSS requests."));
    }
    let number = part_number(request.param("partNumber"))?;
    let RequestedObject { bucket, key, .. } = request.target()?;
    let id = upload_id(request);
    sandbox.find_upload(id, bucket, key)?;
    let (arrived, crc) = receive_object(sandbox, &request.headers, body).await?;
    let md5 = arrived.md5;
    sandbox.put_part(id, number, arrived)?;
    Ok(upload_response(ETag { md5, parts: 0 }, md5, crc))
}

pub(super) fn complete(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["uploadId", "encoding-type"])?;
    let RequestedObject { bucket, key, .. } = request.target()?;
    let id = upload_id(request);
    let wanted = if request.header("x-oss-complete-all").is_some_and(|value| value.eq_ignore_ascii_case("yes")) {
        let parts = sandbox.find_upload(id, bucket, key)?.parts;
        parts.into_iter().map(|(number, part)| (number, ETag { md5: part.md5, parts: 0 }.to_string())).collect()
    } else {
        parse_parts(document)?
    };
    let (tag, version) = sandbox
        .complete_upload(id, bucket, key, &wanted, MIN_PART, &write_precondition(request))
        .map_err(write_error)?;
    let host = request.header("host").unwrap_or_default();
    let answer = ResponseDocument::new("CompleteMultipartUploadResult", |to| {
        write_object_name(to, request, bucket, key);
        to.write_text("Location", &format!("http://{host}{}", request.canonical_path()));
        to.write_text("ETag", &etag(tag));
    });
    Ok(with_version(answer.into_response(), version.as_deref()))
}

fn parse_parts(document: &[u8]) -> Result<Vec<(u16, String)>, OssError> {
    let list = RequestElement::parse(document, "CompleteMultipartUpload")?;
    list.check_children(&["Part"])?;
    let mut wanted: Vec<(u16, String)> = Vec::with_capacity(list.children.len());
    for part in &list.children {
        let number = part_number(part.child_text("PartNumber")?)?;
        let tag = part.child_text("ETag")?.ok_or_else(OssError::malformed_xml)?;
        if wanted.last().is_some_and(|(last, _)| *last >= number) {
            let message = "The list of parts was not in ascending order.";
            return Err(OssError::bad_request("InvalidPartOrder", "0042-00000009", message));
        }
        wanted.push((number, tag.trim_matches('"').to_lowercase()));
    }
    if wanted.is_empty() { Err(OssError::malformed_xml()) } else { Ok(wanted) }
}

pub(super) fn abort(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&["uploadId"])?;
    let RequestedObject { bucket, key, .. } = request.target()?;
    sandbox.abort_upload(upload_id(request), bucket, key)?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

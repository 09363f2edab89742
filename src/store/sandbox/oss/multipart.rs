//! Multipart uploads.

use std::collections::BTreeMap;

use http::{Response, StatusCode};

use super::aspects::with_version;
use super::content::{Content, Incoming, empty, receive};
use super::document::{Document, Element};
use super::error::Fault;
use super::object::{Described, as_write, condition, etag, received};
use super::request::{Request, encoded};
use crate::store::sandbox::find::Target;
use crate::store::sandbox::model::{ETag, Upload};
use crate::store::sandbox::vault::Sandbox;

/// The maximum part number.
const MAX_PART: u16 = 10_000;
/// The minimum size of every part but the last, in bytes.
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/completemultipartupload>
const MIN_PART: u64 = 100 << 10;

pub(super) fn begin(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    request.only(&["uploads", "encoding-type"])?;
    let Target { bucket, key, .. } = request.target()?;
    let Described { class, acl, tags, headers } = Described::of(request)?;
    let initiated = sandbox.now();
    let (parts, named) = (BTreeMap::new(), (bucket.into(), key.into()));
    let upload = Upload { bucket: named.0, key: named.1, initiated, class, acl, tags, headers, parts };
    let id = sandbox.create_upload(upload)?;
    let answer = Document::of("InitiateMultipartUploadResult", |to| {
        named_object(to, request, bucket, key);
        to.text("UploadId", &id);
    });
    Ok(answer.into_response())
}

/// Writes the bucket and the key. The key is encoded if the request asks for it.
fn named_object(to: &mut Document, request: &Request, bucket: &str, key: &str) {
    let url = request.param("encoding-type") == Some("url");
    if url {
        to.text("EncodingType", "url");
    }
    to.text("Bucket", bucket);
    to.text("Key", &if url { encoded(key) } else { key.to_owned() });
}

fn upload_id(request: &Request) -> &str {
    request.param("uploadId").unwrap_or_default()
}

fn part_number(text: Option<&str>) -> Result<u16, Fault> {
    let number = text.and_then(|text| text.parse().ok()).filter(|number| (1..=MAX_PART).contains(number));
    number.ok_or_else(|| Fault::invalid_argument("Part number must be an integer between 1 and 10000, inclusive"))
}

pub(super) async fn put_part(
    sandbox: &Sandbox,
    request: &Request,
    body: impl Incoming,
) -> Result<Response<Content>, Fault> {
    request.only(&["uploadId", "partNumber"])?;
    if request.headers.contains_key("x-oss-copy-source") {
        return Err(Fault::not_implemented("The sandbox copies no objects in OSS's dialect."));
    }
    let number = part_number(request.param("partNumber"))?;
    let Target { bucket, key, .. } = request.target()?;
    let id = upload_id(request);
    sandbox.upload(id, bucket, key)?;
    let (arrived, crc) = receive(sandbox, &request.headers, body).await?;
    let md5 = arrived.md5;
    sandbox.put_part(id, number, arrived)?;
    Ok(received(ETag { md5, parts: 0 }, md5, crc))
}

pub(super) fn complete(sandbox: &Sandbox, request: &Request, document: &[u8]) -> Result<Response<Content>, Fault> {
    request.only(&["uploadId", "encoding-type"])?;
    let Target { bucket, key, .. } = request.target()?;
    let id = upload_id(request);
    let wanted = if request.header("x-oss-complete-all").is_some_and(|value| value.eq_ignore_ascii_case("yes")) {
        let parts = sandbox.upload(id, bucket, key)?.parts;
        parts.into_iter().map(|(number, part)| (number, ETag { md5: part.md5, parts: 0 }.to_string())).collect()
    } else {
        wanted_parts(document)?
    };
    let (tag, version) =
        sandbox.complete_upload(id, bucket, key, &wanted, MIN_PART, &condition(request)).map_err(as_write)?;
    let host = request.header("host").unwrap_or_default();
    let answer = Document::of("CompleteMultipartUploadResult", |to| {
        named_object(to, request, bucket, key);
        to.text("Location", &format!("http://{host}{}", request.canonical_path()));
        to.text("ETag", &etag(tag));
    });
    Ok(with_version(answer.into_response(), version.as_deref()))
}

fn wanted_parts(document: &[u8]) -> Result<Vec<(u16, String)>, Fault> {
    let list = Element::parse(document, "CompleteMultipartUpload")?;
    list.only(&["Part"])?;
    let mut wanted: Vec<(u16, String)> = Vec::with_capacity(list.children.len());
    for part in &list.children {
        let number = part_number(part.text_of("PartNumber")?)?;
        let tag = part.text_of("ETag")?.ok_or_else(Fault::malformed_xml)?;
        if wanted.last().is_some_and(|(last, _)| *last >= number) {
            let message = "The list of parts was not in ascending order.";
            return Err(Fault::bad("InvalidPartOrder", "0042-00000009", message));
        }
        wanted.push((number, tag.trim_matches('"').to_lowercase()));
    }
    if wanted.is_empty() { Err(Fault::malformed_xml()) } else { Ok(wanted) }
}

pub(super) fn abort(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    request.only(&["uploadId"])?;
    let Target { bucket, key, .. } = request.target()?;
    sandbox.abort_upload(upload_id(request), bucket, key)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

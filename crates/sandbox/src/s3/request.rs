//! Requests: their bodies, of which every digest that a client sends is checked, and the tags in them.

use std::error::Error;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as HttpBody;
use md5::{Digest, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::{Body, S3Error, S3Result, TrailingHeaders, dto, s3_error};

use super::response::{custom_error, set_header, tag_error};
use crate::blobs::WrittenBlob;
use crate::model::{Md5Digest, hex};
use crate::state::SandboxRequestError;
use crate::store::Sandbox;
use crate::tags::{self, SharedTags};

/// The maximum size of a request's body: 5 GiB.
const MAX_BODY_BYTES: u64 = 5 << 30;

/// The maximum length of a document, in bytes. s3s accepts no longer ones.
const MAX_DOCUMENT_BYTES: usize = 20 << 20;

/// The number of hexadecimal digits of a SHA-256. Any other value of `x-amz-content-sha256` is not a digest.
const SHA256_DIGITS: usize = 64;

const CRC32: HeaderName = HeaderName::from_static("x-amz-checksum-crc32");
const CRC32C: HeaderName = HeaderName::from_static("x-amz-checksum-crc32c");
const CRC64NVME: HeaderName = HeaderName::from_static("x-amz-checksum-crc64nvme");
const SHA1: HeaderName = HeaderName::from_static("x-amz-checksum-sha1");
const SHA256: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");

/// The digests of a body that is being received.
struct BodyDigests {
    md5: Option<Md5Digest>,
    hasher: ChecksumHasher,
}

impl BodyDigests {
    /// Returns the digests that a request announces in its headers, or as trailers.
    fn from_headers(headers: &HeaderMap) -> S3Result<Self> {
        let md5 = headers.get("content-md5").map(|md5| {
            let digest = STANDARD.decode(md5).ok().and_then(|digest| Md5Digest::try_from(digest).ok());
            digest.ok_or_else(|| s3_error!(InvalidDigest, "The Content-MD5 you specified was invalid."))
        });
        let trailers = headers.get("x-amz-trailer").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_announced = |name: &HeaderName| {
            let mut trailers = trailers.split(',');
            headers.contains_key(name) || trailers.any(|trailer| trailer.trim().eq_ignore_ascii_case(name.as_str()))
        };
        let hasher = ChecksumHasher {
            crc32: is_announced(&CRC32).then(Crc32::new),
            crc32c: is_announced(&CRC32C).then(Crc32c::new),
            crc64nvme: is_announced(&CRC64NVME).then(Crc64Nvme::new),
            sha1: is_announced(&SHA1).then(Sha1::new),
            sha256: is_announced(&SHA256).then(Sha256::new),
        };
        Ok(Self { md5: md5.transpose()?, hasher })
    }

    /// Adds bytes to the digests.
    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Compares the digests with those of the request. `md5` is the MD5 of the whole body. Returns the checksums as
    /// response headers.
    fn verify(self, md5: Md5Digest, headers: &HeaderMap, trailers: Option<&TrailingHeaders>) -> S3Result<HeaderMap> {
        if self.md5.is_some_and(|expected| expected != md5) {
            return Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."));
        }
        let sums = self.hasher.finalize();
        let sent = |name: &HeaderName| {
            let trailer = trailers.and_then(|trailers| trailers.read(|headers| headers.get(name).cloned()).flatten());
            headers.get(name).cloned().or(trailer)
        };
        let mut checksums = HeaderMap::new();
        for (name, sum) in [
            (CRC32, sums.checksum_crc32),
            (CRC32C, sums.checksum_crc32c),
            (CRC64NVME, sums.checksum_crc64nvme),
            (SHA1, sums.checksum_sha1),
            (SHA256, sums.checksum_sha256),
        ] {
            let Some(sum) = sum else { continue };
            if sent(&name).is_none_or(|sent| sent.as_bytes() != sum.as_bytes()) {
                return Err(s3_error!(BadDigest, "The {name} you specified did not match the calculated checksum."));
            }
            set_header(&mut checksums, name, &sum);
        }
        Ok(checksums)
    }
}

/// Receives a body and checks it against every digest in the headers and trailers. Returns the checksums as response
/// headers, as AWS does.
pub(super) async fn receive_body(
    sandbox: &Sandbox,
    body: Option<dto::StreamingBlob>,
    length: Option<i64>,
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
) -> S3Result<(WrittenBlob, HeaderMap)> {
    let mut digests = BodyDigests::from_headers(headers)?;
    let mut writer = sandbox.blob_writer();
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| incomplete_body(&error.to_string()))?;
            digests.update(&chunk);
            writer.write(&chunk).map_err(SandboxRequestError::Storage)?;
            if writer.size() > MAX_BODY_BYTES {
                return Err(s3_error!(EntityTooLarge, "Your proposed upload exceeds the maximum allowed size"));
            }
        }
    }
    if length.is_some_and(|length| u64::try_from(length) != Ok(writer.size())) {
        return Err(s3_error!(
            IncompleteBody,
            "You did not provide the number of bytes specified by the Content-Length HTTP header"
        ));
    }
    let blob = writer.finish();
    let checksums = digests.verify(blob.md5, headers, trailers.as_ref());
    if checksums.is_err() {
        sandbox.discard_blob(&blob.body);
    }
    Ok((blob, checksums?))
}

/// The body of a request.
pub(crate) trait S3RequestBody:
    HttpBody<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Send + Sync + 'static
{
}

impl<B: HttpBody<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Send + Sync + 'static> S3RequestBody for B {}

/// Checks the digests of an XML document before s3s parses it. Any other body is passed on as it arrives.
pub(crate) async fn check_document_digests(parts: Parts, body: impl S3RequestBody) -> Result<Request<Body>, S3Error> {
    let Some(length) = document_length_limit(&parts)? else {
        return Ok(Request::from_parts(parts, Body::http_body(body)));
    };
    let document = Limited::new(body, length).collect().await;
    let document =
        document.map_err(|error| s3_error!(IncompleteBody, "The document is incomplete: {error}"))?.to_bytes();
    check_document(&parts.headers, &document)?;
    Ok(Request::from_parts(parts, Body::from(document)))
}

/// Returns the maximum length of a request's XML document in bytes, or `None` if the request has none. s3s
/// parses documents without checking their digests.
///
/// # Errors
/// Returns an error if the document is too long.
fn document_length_limit(request: &Parts) -> S3Result<Option<usize>> {
    const DOCUMENTS: [&str; 7] =
        ["tagging", "acl", "restore", "delete", "versioning", "lifecycle", "ownershipControls"];
    let query = request.uri.query().unwrap_or_default();
    let mut names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    let is_post = request.method == Method::POST;
    // A part of an upload is content. The list of parts that completes the upload is a document.
    if !names.any(|name| DOCUMENTS.contains(&name) || (is_post && name == "uploadId")) {
        return Ok(None);
    }
    let length = request.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    match length.and_then(|length| length.parse::<usize>().ok()) {
        Some(length) if length > MAX_DOCUMENT_BYTES => {
            Err(custom_error("MaxMessageLengthExceeded", StatusCode::BAD_REQUEST, "Your request was too big."))
        }
        length => Ok(length.filter(|length| *length > 0)),
    }
}

/// Checks a document against the digests in its request's headers.
fn check_document(headers: &HeaderMap, document: &[u8]) -> S3Result<()> {
    let signed = headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok());
    if let Some(signed) = signed.filter(|signed| signed.len() == SHA256_DIGITS) {
        let sum = hex(&Sha256::checksum(document));
        if !signed.eq_ignore_ascii_case(&sum) {
            return Err(content_mismatch());
        }
    }
    let mut digests = BodyDigests::from_headers(headers)?;
    digests.update(document);
    digests.verify(Md5::digest(document).into(), headers, None).map(|_| ())
}

/// The body is not the announced one. s3s compares it with its signed digest, and reports a mismatch only in the text
/// of the error.
fn incomplete_body(why: &str) -> S3Error {
    if why.contains("Sha256Mismatch") {
        return content_mismatch();
    }
    s3_error!(IncompleteBody, "The body does not match its headers: {why}")
}

/// The body does not match its signed digest.
fn content_mismatch() -> S3Error {
    custom_error(
        "XAmzContentSHA256Mismatch",
        StatusCode::BAD_REQUEST,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )
}

/// Converts tags that were sent as XML, and checks them against AWS's rules.
pub(crate) fn parse_tags(tags: impl IntoIterator<Item = dto::Tag>) -> S3Result<SharedTags> {
    let pairs = tags.into_iter().map(|tag| match (tag.key, tag.value) {
        (Some(key), Some(value)) => Ok((key.into(), value.into())),
        _ => Err(s3_error!(MalformedXML, "A tag must have a key and a value")),
    });
    tags::check(pairs.collect::<S3Result<_>>()?).map_err(tag_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brings(method: Method, query: &str, length: usize) -> Result<Option<usize>, String> {
        let request = http::Request::builder().method(method).uri(format!("/b/k?{query}"));
        let (parts, ()) = request.header(header::CONTENT_LENGTH, length).body(()).unwrap().into_parts();
        document_length_limit(&parts).map_err(|error| error.code().as_str().to_owned())
    }

    #[test]
    fn documents_are_told_from_content() {
        assert_eq!(brings(Method::PUT, "versionId=1&tagging", 7), Ok(Some(7)));
        assert_eq!(brings(Method::POST, "uploadId=x", 7), Ok(Some(7)));
        assert_eq!(brings(Method::PUT, "partNumber=1&uploadId=x", MAX_DOCUMENT_BYTES + 1), Ok(None));
        assert_eq!(brings(Method::PUT, "", MAX_DOCUMENT_BYTES + 1), Ok(None));
        assert_eq!(brings(Method::GET, "tagging", 0), Ok(None));
        assert_eq!(brings(Method::PUT, "tagging", MAX_DOCUMENT_BYTES + 1), Err("MaxMessageLengthExceeded".to_owned()));
    }
}

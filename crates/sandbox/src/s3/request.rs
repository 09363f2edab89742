//! Requests: their bodies, of which every digest that a client sends is checked, the parameters of presigned URLs, and
//! the tags in requests.

use std::error::Error;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as HttpBody;
use md5::{Digest as _, Md5};
use s3s::{Body, S3Error, S3Result, TrailingHeaders, dto, s3_error};

use super::checksum::SentChecksum;
use super::response::{custom_error, tag_error};
use crate::blobs::WrittenBlob;
use crate::checksum::{ChecksumAlgorithm, ContentHasher, Digest};
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

/// Returns the MD5 that a request announces for its body.
fn announced_md5(headers: &HeaderMap) -> S3Result<Option<Md5Digest>> {
    let Some(md5) = headers.get("content-md5") else { return Ok(None) };
    let digest = STANDARD.decode(md5).ok().and_then(|digest| Md5Digest::try_from(digest).ok());
    digest.map(Some).ok_or_else(|| s3_error!(InvalidDigest, "The Content-MD5 you specified was invalid."))
}

fn check_md5(announced: Option<Md5Digest>, md5: Md5Digest) -> S3Result<()> {
    if announced.is_some_and(|announced| announced != md5) {
        return Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."));
    }
    Ok(())
}

/// A body that was received completely, and its checksum: by the algorithm of the client, or else by the default one.
pub(super) struct ReceivedBody {
    pub(super) blob: WrittenBlob,
    pub(super) algorithm: ChecksumAlgorithm,
    pub(super) digest: Digest,
}

/// Receives a body and checks it against every digest in the headers and trailers.
pub(super) async fn receive_body(
    sandbox: &Sandbox,
    body: Option<dto::StreamingBlob>,
    length: Option<i64>,
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
) -> S3Result<ReceivedBody> {
    let md5 = announced_md5(headers)?;
    let mut sent = SentChecksum::from_headers(headers)?;
    let mut default_hasher = ContentHasher::new(ChecksumAlgorithm::Crc64Nvme);
    let mut writer = sandbox.blob_writer();
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| incomplete_body(&error.to_string()))?;
            match &mut sent {
                Some(sent) => sent.update(&chunk),
                None => default_hasher.update(&chunk),
            }
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
    let verify = || {
        check_md5(md5, blob.md5)?;
        let Some(sent) = sent else { return Ok((ChecksumAlgorithm::Crc64Nvme, default_hasher.finish())) };
        Ok((sent.algorithm(), sent.verify(trailers.as_ref())?))
    };
    match verify() {
        Ok((algorithm, digest)) => Ok(ReceivedBody { blob, algorithm, digest }),
        Err(error) => {
            sandbox.discard_blob(&blob.body);
            Err(error)
        }
    }
}

/// The body of a request.
pub(crate) trait S3RequestBody:
    HttpBody<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Send + Sync + 'static
{
}

impl<B: HttpBody<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Send + Sync + 'static> S3RequestBody for B {}

/// Rejects what s3s would reject with another error than AWS does, or not at all.
pub(crate) fn check_before_dispatch(request: &Parts) -> S3Result<()> {
    if request.method == Method::OPTIONS {
        return Err(preflight_error(&request.headers));
    }
    let query = request.uri.query().unwrap_or_default();
    if query.split('&').any(|pair| pair.starts_with("X-Amz-Algorithm=") || pair.starts_with("X-Amz-Signature=")) {
        check_presigned_query(query)?;
    }
    Ok(())
}

/// Returns the answer to the question of a browser whether another site can send a request. No bucket allows it.
fn preflight_error(headers: &HeaderMap) -> S3Error {
    if !headers.contains_key(header::ORIGIN) {
        let message = "Insufficient information. Origin request header needed.";
        return custom_error("BadRequest", StatusCode::BAD_REQUEST, message);
    }
    custom_error("AccessForbidden", StatusCode::FORBIDDEN, "CORSResponse: CORS is not enabled for this bucket.")
}

/// The longest validity of a presigned URL: a week.
const MAX_EXPIRES_SECONDS: i64 = 7 * 24 * 60 * 60;

/// Checks the parameters of a presigned URL, of which s3s would reject some with another error, and not the others.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
fn check_presigned_query(query: &str) -> S3Result<()> {
    const NAMES: [&str; 6] = [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Signature",
        "X-Amz-Date",
        "X-Amz-SignedHeaders",
        "X-Amz-Expires",
    ];
    let error = |message: &'static str| Err(s3_error!(AuthorizationQueryParametersError, "{message}"));
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(given, value)| (given == name && !value.is_empty()).then_some(value))
    };
    if NAMES.iter().any(|name| value(name).is_none()) {
        return error(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, \
             X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        );
    }
    if value("X-Amz-Algorithm") != Some("AWS4-HMAC-SHA256") {
        return error("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"");
    }
    match value("X-Amz-Expires").and_then(|seconds| seconds.parse::<i64>().ok()) {
        None => error("X-Amz-Expires should be a number"),
        Some(..0) => error("X-Amz-Expires must be non-negative"),
        Some(seconds) if seconds > MAX_EXPIRES_SECONDS => error(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than \
             604800 seconds",
        ),
        Some(_) => Ok(()),
    }
}

/// Checks the digests of an XML document before s3s parses it. Any other body is passed on as it arrives.
pub(crate) async fn check_document_digests(parts: Parts, body: impl S3RequestBody) -> Result<Request<Body>, S3Error> {
    let Some(length) = document_length_limit(&parts)? else {
        return Ok(Request::from_parts(parts, Body::http_body(body)));
    };
    let document = Limited::new(body, length).collect().await;
    let document =
        document.map_err(|error| s3_error!(IncompleteBody, "The document is incomplete: {error}"))?.to_bytes();
    check_document(&parts, &document)?;
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
fn check_document(request: &Parts, document: &[u8]) -> S3Result<()> {
    let headers = &request.headers;
    let signed = headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok());
    if let Some(signed) = signed.filter(|signed| signed.len() == SHA256_DIGITS) {
        let sum = hex(&ChecksumAlgorithm::Sha256.digest_of(document));
        if !signed.eq_ignore_ascii_case(&sum) {
            return Err(content_mismatch());
        }
    }
    check_md5(announced_md5(headers)?, Md5::digest(document).into())?;
    if has_parameter(request, "uploadId") {
        // The checksum in a request to complete an upload is that of the object.
        return Ok(());
    }
    let Some(mut sent) = SentChecksum::from_headers(headers)? else { return Ok(()) };
    sent.update(document);
    sent.verify(None).map(|_| ())
}

fn has_parameter(request: &Parts, name: &str) -> bool {
    let query = request.uri.query().unwrap_or_default();
    query.split('&').any(|pair| pair.split('=').next() == Some(name))
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
    fn presigned_urls_have_all_parameters_and_at_most_a_week() {
        let check = |expires: &str| {
            let query = format!(
                "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c&X-Amz-Date=d&X-Amz-SignedHeaders=host\
                 &X-Amz-Signature=s{expires}"
            );
            check_presigned_query(&query).map_err(|error| error.code().as_str().to_owned())
        };
        assert_eq!(check("&X-Amz-Expires=0"), Ok(()));
        assert_eq!(check("&X-Amz-Expires=604800"), Ok(()));
        for expires in ["&X-Amz-Expires=604801", "&X-Amz-Expires=-1", "&X-Amz-Expires=soon", "&X-Amz-Expires=", ""] {
            assert_eq!(check(expires), Err("AuthorizationQueryParametersError".to_owned()), "{expires}");
        }
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

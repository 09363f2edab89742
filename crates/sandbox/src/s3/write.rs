//! Writing objects, and receiving their bodies.

use futures_util::StreamExt;
use http::HeaderMap;
use s3s::{S3Error, S3Request, S3Response, S3Result, TrailingHeaders, dto, s3_error};

use super::convert::{etag, parse_storage_class, stored_headers};
use super::digest::BodyDigests;
use super::error::{content_mismatch, tag_header_error};
use super::settings::new_object_acl;
use crate::blobs::WrittenBlob;
use crate::model::ETag;
use crate::state::{SandboxRequestError, WritePrecondition};
use crate::store::{NewObject, Sandbox};
use crate::tags::{self, SharedTags};

/// The maximum size of a request's body: 5 GiB.
const MAX_PUT: u64 = 5 << 30;

pub(super) async fn put_object(
    sandbox: &Sandbox,
    request: S3Request<dto::PutObjectInput>,
) -> S3Result<S3Response<dto::PutObjectOutput>> {
    let S3Request { input, headers, trailing_headers, .. } = request;
    // Everything that can be rejected is rejected before the body is received.
    sandbox.with_bucket(&input.bucket, |_| ())?;
    reject_grant_headers(&headers)?;
    let (class, acl) = (
        parse_storage_class(input.storage_class.as_ref())?,
        new_object_acl(sandbox, &input.bucket, input.acl.as_ref())?,
    );
    let tags = header_tags(input.tagging.as_deref())?;
    let condition = parse_precondition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let kept = stored_headers(&headers)?;
    let incoming =
        IncomingBody { body: input.body, length: input.content_length, headers: &headers, trailers: trailing_headers };
    let (WrittenBlob { body, size, md5 }, checksums) = receive_body(sandbox, incoming).await?;
    let tag = ETag { md5, parts: 0 };
    let new = NewObject { size, etag: tag, class, acl, tags, headers: kept, body };
    let version_id = sandbox.put_object(&input.bucket, &input.key, new, &condition)?;
    let output = dto::PutObjectOutput { e_tag: Some(etag(tag)), version_id, ..Default::default() };
    let mut response = S3Response::new(output);
    response.headers = checksums;
    Ok(response)
}

/// Parses the tags in the `x-amz-tagging` header.
pub(super) fn header_tags(header: Option<&str>) -> S3Result<SharedTags> {
    let Some(header) = header else { return Ok(SharedTags::default()) };
    tags::parse_query(header).and_then(tags::check).map_err(tag_header_error)
}

/// Rejects the headers that name grantees. Only canned ACLs are supported.
pub(super) fn reject_grant_headers(headers: &HeaderMap) -> S3Result<()> {
    if headers.keys().any(|name| name.as_str().starts_with("x-amz-grant-")) {
        return Err(s3_error!(NotImplemented, "The sandbox supports only canned ACLs, not x-amz-grant headers"));
    }
    Ok(())
}

/// Parses the conditions of a write.
pub(super) fn parse_precondition(
    if_match: Option<&dto::ETagCondition>,
    if_none_match: Option<&dto::ETagCondition>,
) -> S3Result<WritePrecondition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(WritePrecondition::Always),
        (None, Some(dto::ETagCondition::Any)) => Ok(WritePrecondition::Absent),
        (Some(dto::ETagCondition::ETag(etag)), None) => Ok(WritePrecondition::Matches(etag.value().to_owned())),
        _ => Err(s3_error!(NotImplemented, "A write supports `If-None-Match: *` or `If-Match` with one entity tag")),
    }
}

/// A body that is being received, and the headers that describe it.
pub(super) struct IncomingBody<'a> {
    pub(super) body: Option<dto::StreamingBlob>,
    pub(super) length: Option<i64>,
    pub(super) headers: &'a HeaderMap,
    pub(super) trailers: Option<TrailingHeaders>,
}

/// The body is not the announced one. s3s compares it with its signed digest, and reports a mismatch only in the text
/// of the error.
fn incomplete_body(why: &str) -> S3Error {
    if why.contains("Sha256Mismatch") {
        return content_mismatch();
    }
    s3_error!(IncompleteBody, "The body does not match its headers: {why}")
}

/// Receives a body and checks it against every digest in the headers and trailers. Returns the checksums as response
/// headers, as AWS does.
pub(super) async fn receive_body(sandbox: &Sandbox, incoming: IncomingBody<'_>) -> S3Result<(WrittenBlob, HeaderMap)> {
    let IncomingBody { body, length, headers, trailers } = incoming;
    let mut digests = BodyDigests::from_headers(headers)?;
    let mut writer = sandbox.blob_writer();
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| incomplete_body(&error.to_string()))?;
            digests.update(&chunk);
            writer.write(&chunk).map_err(SandboxRequestError::Storage)?;
            if writer.size() > MAX_PUT {
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
    let arrived = writer.finish();
    let checksums = digests.verify(arrived.md5, headers, trailers.as_ref());
    if checksums.is_err() {
        sandbox.discard_blob(&arrived.body);
    }
    Ok((arrived, checksums?))
}

//! Multipart uploads.

use std::collections::BTreeMap;

use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use super::convert::{etag, invalid_argument, length, owner, parse_storage_class, stored_headers, to_s3_time};
use super::settings::new_object_acl;
use super::write::{IncomingBody, header_tags, parse_precondition, receive_body, reject_grant_headers};
use crate::model::{ETag, PendingUpload};
use crate::store::Sandbox;

/// The maximum part number.
const MAX_PART: i32 = 10_000;
/// The minimum size of every part but the last, in bytes.
const MIN_PART: u64 = 5 << 20;
/// The maximum number of parts on a page.
const MAX_LISTED: usize = 1000;

pub(super) fn create_multipart_upload(
    sandbox: &Sandbox,
    request: S3Request<dto::CreateMultipartUploadInput>,
) -> S3Result<S3Response<dto::CreateMultipartUploadOutput>> {
    let S3Request { input, headers, .. } = request;
    reject_grant_headers(&headers)?;
    let upload = PendingUpload {
        bucket: input.bucket.as_str().into(),
        key: input.key.as_str().into(),
        initiated: sandbox.now(),
        class: parse_storage_class(input.storage_class.as_ref())?,
        acl: new_object_acl(sandbox, &input.bucket, input.acl.as_ref())?,
        tags: header_tags(input.tagging.as_deref())?,
        headers: stored_headers(&headers)?,
        parts: BTreeMap::new(),
    };
    let upload_id = sandbox.create_upload(upload)?;
    Ok(S3Response::new(dto::CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(upload_id),
        ..Default::default()
    }))
}

pub(super) async fn upload_part(
    sandbox: &Sandbox,
    request: S3Request<dto::UploadPartInput>,
) -> S3Result<S3Response<dto::UploadPartOutput>> {
    let S3Request { input, headers, trailing_headers, .. } = request;
    let number = part_number(input.part_number)?;
    sandbox.find_upload(&input.upload_id, &input.bucket, &input.key)?;
    let incoming =
        IncomingBody { body: input.body, length: input.content_length, headers: &headers, trailers: trailing_headers };
    let (arrived, checksums) = receive_body(sandbox, incoming).await?;
    let tag = ETag { md5: arrived.md5, parts: 0 };
    sandbox.put_part(&input.upload_id, number, arrived)?;
    let output = dto::UploadPartOutput { e_tag: Some(etag(tag)), ..Default::default() };
    Ok(S3Response::with_headers(output, checksums))
}

fn part_number(number: i32) -> S3Result<u16> {
    let number = u16::try_from(number).ok().filter(|number| (1..=MAX_PART).contains(&i32::from(*number)));
    number.ok_or_else(|| invalid_argument("Part number must be an integer between 1 and 10000, inclusive"))
}

pub(super) fn complete_multipart_upload(
    sandbox: &Sandbox,
    request: S3Request<dto::CompleteMultipartUploadInput>,
) -> S3Result<S3Response<dto::CompleteMultipartUploadOutput>> {
    let input = request.input;
    let condition = parse_precondition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let mut wanted: Vec<(u16, String)> = Vec::with_capacity(parts.len());
    for part in parts {
        let (Some(number), Some(tag)) = (part.part_number, part.e_tag) else {
            return Err(s3_error!(MalformedXML, "A part must have a number and an entity tag"));
        };
        let number = part_number(number)?;
        if wanted.last().is_some_and(|(last, _)| *last >= number) {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order. Parts must be ordered by part number."
            ));
        }
        wanted.push((number, tag.into_value()));
    }
    if wanted.is_empty() {
        return Err(s3_error!(MalformedXML, "An upload must have at least one part"));
    }
    let (tag, version_id) =
        sandbox.complete_upload(&input.upload_id, &input.bucket, &input.key, &wanted, MIN_PART, &condition)?;
    Ok(S3Response::new(dto::CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(etag(tag)),
        version_id,
        ..Default::default()
    }))
}

pub(super) fn abort_multipart_upload(
    sandbox: &Sandbox,
    request: S3Request<dto::AbortMultipartUploadInput>,
) -> S3Result<S3Response<dto::AbortMultipartUploadOutput>> {
    let input = request.input;
    sandbox.abort_upload(&input.upload_id, &input.bucket, &input.key)?;
    Ok(S3Response::new(dto::AbortMultipartUploadOutput::default()))
}

pub(super) fn list_parts(
    sandbox: &Sandbox,
    request: S3Request<dto::ListPartsInput>,
) -> S3Result<S3Response<dto::ListPartsOutput>> {
    let input = request.input;
    let upload = sandbox.find_upload(&input.upload_id, &input.bucket, &input.key)?;
    let asked = input.max_parts.map_or(Ok(MAX_LISTED), usize::try_from);
    let limit = asked.map_err(|_| invalid_argument("max-parts cannot be negative"))?.min(MAX_LISTED);
    let behind = input.part_number_marker.unwrap_or(0);
    let mut rest = upload.parts.iter().filter(|(number, _)| i32::from(**number) > behind);
    let parts: Vec<dto::Part> = rest
        .by_ref()
        .take(limit)
        .map(|(number, part)| dto::Part {
            part_number: Some(i32::from(*number)),
            e_tag: Some(etag(ETag { md5: part.md5, parts: 0 })),
            last_modified: Some(to_s3_time(part.modified)),
            size: Some(length(part.size)),
            ..Default::default()
        })
        .collect();
    let more = limit > 0 && rest.next().is_some();
    Ok(S3Response::new(dto::ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        is_truncated: Some(more),
        max_parts: i32::try_from(limit).ok(),
        next_part_number_marker: parts.last().and_then(|part| part.part_number).filter(|_| more),
        part_number_marker: input.part_number_marker,
        owner: Some(owner()),
        storage_class: Some(dto::StorageClass::from_static(upload.class.as_str())),
        parts: Some(parts),
        ..Default::default()
    }))
}

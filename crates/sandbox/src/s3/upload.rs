//! Writing objects: PUT requests, copies, and multipart uploads.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, StatusCode, header};
use s3s::{S3Error, S3Request, S3Response, S3Result, dto, s3_error};

use super::access::requester;
use super::acl::{new_object_access, to_s3_owner};
use super::request::receive_body;
use super::response::{custom_error, etag, invalid_argument, length, tag_error, to_s3_time};
use crate::access::OwnerId;
use crate::blobs::{BlobReader, WrittenBlob};
use crate::model::{ETag, ObjectBlob, ObjectStorageClass, PendingUpload, StoredHeaders, StoredObject};
use crate::state::{RequestedObject, SandboxRequestError, WritePrecondition};
use crate::store::{NewObject, Sandbox};
use crate::tags::{self, SharedTags, TagSetError};

/// The maximum part number.
const MAX_PART_NUMBER: i32 = 10_000;

/// The minimum size of every part but the last, in bytes.
const MIN_PART_BYTES: u64 = 5 << 20;

/// The maximum number of parts on a page.
const MAX_LISTED_PARTS: usize = 1000;

/// The headers that AWS stores with an object and returns.
const STORED_HEADERS: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::EXPIRES,
];

/// The prefix of the headers that contain user metadata.
const METADATA_PREFIX: &str = "x-amz-meta-";

/// The maximum size of user metadata in bytes, including the names.
const MAX_METADATA_BYTES: usize = 2048;

pub(super) async fn put_object(
    sandbox: &Sandbox,
    request: S3Request<dto::PutObjectInput>,
) -> S3Result<S3Response<dto::PutObjectOutput>> {
    // Everything that can be rejected is rejected before the body is received.
    let access = new_object_access(sandbox, &request, &request.input.bucket, request.input.acl.as_ref())?;
    let S3Request { input, headers, trailing_headers, .. } = request;
    let class = parse_storage_class(input.storage_class.as_ref())?;
    let tags = header_tags(input.tagging.as_deref())?;
    let precondition = parse_precondition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let stored_headers = headers_to_store(&headers)?;
    let (WrittenBlob { body, size, md5 }, checksums) =
        receive_body(sandbox, input.body, input.content_length, &headers, trailing_headers).await?;
    let object_etag = ETag::of_content(md5);
    let new = NewObject { size, etag: object_etag, class, access, tags, headers: stored_headers, body };
    let version_id = sandbox.put_object(&input.bucket, &input.key, new, &precondition)?;
    let output = dto::PutObjectOutput { e_tag: Some(etag(object_etag)), version_id, ..Default::default() };
    Ok(S3Response::with_headers(output, checksums))
}

pub(super) fn copy_object(
    sandbox: &Sandbox,
    request: S3Request<dto::CopyObjectInput>,
) -> S3Result<S3Response<dto::CopyObjectOutput>> {
    let access = new_object_access(sandbox, &request, &request.input.bucket, request.input.acl.as_ref())?;
    let S3Request { input, headers, .. } = request;
    let dto::CopySource::Bucket { bucket, key, version_id } = &input.copy_source else {
        return Err(s3_error!(NotImplemented, "The sandbox can copy only from buckets"));
    };
    let source = RequestedObject { bucket, key, version: version_id.as_deref() };
    let class = parse_storage_class(input.storage_class.as_ref())?;
    let replaces_headers = is_replace(input.metadata_directive.as_ref().map(dto::MetadataDirective::as_str))?;
    let replaces_tags = is_replace(input.tagging_directive.as_ref().map(dto::TaggingDirective::as_str))?;
    let (found, _, reader) = sandbox.read_object(source, |found| {
        if let Some(dto::ETagCondition::ETag(expected)) = &input.copy_source_if_match
            && expected.value() != found.object.etag.to_string()
        {
            return Err(SandboxRequestError::PreconditionFailed);
        }
        Ok(0..found.object.size)
    })?;
    let source_object = found.object;
    let tags = if replaces_tags { header_tags(input.tagging.as_deref())? } else { source_object.tags.clone() };
    let headers = if replaces_headers { headers_to_store(&headers)? } else { source_object.headers.clone() };
    let (body, size, copy_etag) = copy_content(sandbox, &source_object, reader)?;
    let new = NewObject { size, etag: copy_etag, class, access, tags, headers, body };
    let version_id = sandbox.put_object(&input.bucket, &input.key, new, &WritePrecondition::Always)?;
    let result = dto::CopyObjectResult {
        e_tag: Some(etag(copy_etag)),
        last_modified: Some(to_s3_time(sandbox.now())),
        ..Default::default()
    };
    Ok(S3Response::new(dto::CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: found.id,
        version_id,
        ..Default::default()
    }))
}

/// Returns whether a copy replaces the headers or tags of its source.
fn is_replace(directive: Option<&str>) -> S3Result<bool> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "Unknown metadata or tagging directive")),
    }
}

/// Copies the content of an object. Returns the new blob, its size, and its entity tag. An object without content is
/// copied without content, because its size may be terabytes.
fn copy_content(
    sandbox: &Sandbox,
    source: &StoredObject,
    reader: BlobReader,
) -> Result<(ObjectBlob, u64, ETag), SandboxRequestError> {
    if source.body == ObjectBlob::Zeros {
        return Ok((ObjectBlob::Zeros, source.size, source.etag));
    }
    let mut writer = sandbox.blob_writer();
    for chunk in reader {
        writer.write(&chunk?)?;
    }
    let WrittenBlob { body, size, md5 } = writer.finish();
    Ok((body, size, ETag::of_content(md5)))
}

pub(super) fn create_multipart_upload(
    sandbox: &Sandbox,
    request: S3Request<dto::CreateMultipartUploadInput>,
) -> S3Result<S3Response<dto::CreateMultipartUploadOutput>> {
    let access = new_object_access(sandbox, &request, &request.input.bucket, request.input.acl.as_ref())?;
    let initiator = requester(sandbox, &request);
    let S3Request { input, headers, .. } = request;
    let upload = PendingUpload {
        bucket: input.bucket.as_str().into(),
        key: input.key.as_str().into(),
        initiated: sandbox.now(),
        initiator,
        class: parse_storage_class(input.storage_class.as_ref())?,
        access,
        tags: header_tags(input.tagging.as_deref())?,
        headers: headers_to_store(&headers)?,
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
    let (blob, checksums) = receive_body(sandbox, input.body, input.content_length, &headers, trailing_headers).await?;
    let part_etag = ETag::of_content(blob.md5);
    sandbox.put_part(&input.upload_id, number, blob)?;
    let output = dto::UploadPartOutput { e_tag: Some(etag(part_etag)), ..Default::default() };
    Ok(S3Response::with_headers(output, checksums))
}

fn part_number(number: i32) -> S3Result<u16> {
    let number = u16::try_from(number).ok().filter(|number| (1..=MAX_PART_NUMBER).contains(&i32::from(*number)));
    number.ok_or_else(|| invalid_argument("Part number must be an integer between 1 and 10000, inclusive"))
}

pub(super) fn complete_multipart_upload(
    sandbox: &Sandbox,
    request: S3Request<dto::CompleteMultipartUploadInput>,
) -> S3Result<S3Response<dto::CompleteMultipartUploadOutput>> {
    let input = request.input;
    let precondition = parse_precondition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let parts = parse_parts(input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default())?;
    let (object_etag, version_id) =
        sandbox.complete_upload(&input.upload_id, &input.bucket, &input.key, &parts, MIN_PART_BYTES, &precondition)?;
    Ok(S3Response::new(dto::CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(etag(object_etag)),
        version_id,
        ..Default::default()
    }))
}

/// Returns the number and the entity tag of each part that the object consists of.
fn parse_parts(parts: Vec<dto::CompletedPart>) -> S3Result<Vec<(u16, String)>> {
    let mut parsed: Vec<(u16, String)> = Vec::with_capacity(parts.len());
    for part in parts {
        let (Some(number), Some(part_etag)) = (part.part_number, part.e_tag) else {
            return Err(s3_error!(MalformedXML, "A part must have a number and an entity tag"));
        };
        let number = part_number(number)?;
        if parsed.last().is_some_and(|(last, _)| *last >= number) {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order. Parts must be ordered by part number."
            ));
        }
        parsed.push((number, part_etag.into_value()));
    }
    if parsed.is_empty() {
        return Err(s3_error!(MalformedXML, "An upload must have at least one part"));
    }
    Ok(parsed)
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
    let requested = input.max_parts.map_or(Ok(MAX_LISTED_PARTS), usize::try_from);
    let limit = requested.map_err(|_| invalid_argument("max-parts cannot be negative"))?.min(MAX_LISTED_PARTS);
    let marker = input.part_number_marker.unwrap_or(0);
    let mut following = upload.parts.iter().filter(|(number, _)| i32::from(**number) > marker);
    let parts: Vec<dto::Part> = following
        .by_ref()
        .take(limit)
        .map(|(number, part)| dto::Part {
            part_number: Some(i32::from(*number)),
            e_tag: Some(etag(ETag::of_content(part.md5))),
            last_modified: Some(to_s3_time(part.modified)),
            size: Some(length(part.size)),
            ..Default::default()
        })
        .collect();
    let is_truncated = limit > 0 && following.next().is_some();
    Ok(S3Response::new(dto::ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        is_truncated: Some(is_truncated),
        max_parts: i32::try_from(limit).ok(),
        next_part_number_marker: parts.last().and_then(|part| part.part_number).filter(|_| is_truncated),
        part_number_marker: input.part_number_marker,
        initiator: Some(initiator(sandbox, upload.initiator)),
        owner: Some(to_s3_owner(sandbox, upload.access.owner)),
        storage_class: Some(dto::StorageClass::from_static(upload.class.as_str())),
        parts: Some(parts),
        ..Default::default()
    }))
}

/// Converts the initiator of an upload for s3s.
fn initiator(sandbox: &Sandbox, id: OwnerId) -> dto::Initiator {
    let dto::Owner { id, display_name } = to_s3_owner(sandbox, id);
    dto::Initiator { id, display_name }
}

/// Parses a storage class. The default is the standard one.
fn parse_storage_class(name: Option<&dto::StorageClass>) -> S3Result<ObjectStorageClass> {
    let Some(name) = name else { return Ok(ObjectStorageClass::Standard) };
    ObjectStorageClass::parse(name.as_str())
        .ok_or_else(|| s3_error!(InvalidStorageClass, "The storage class you specified is not valid"))
}

/// Parses the tags in the `x-amz-tagging` header.
fn header_tags(header: Option<&str>) -> S3Result<SharedTags> {
    let Some(header) = header else { return Ok(SharedTags::default()) };
    tags::parse_query(header).and_then(tags::check).map_err(tag_header_error)
}

/// Converts an error in tags that were sent in a header.
fn tag_header_error(error: TagSetError) -> S3Error {
    match error {
        TagSetError::InvalidEncoding | TagSetError::Duplicate => s3_error!(
            InvalidArgument,
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name \
             duplicates."
        ),
        _ => tag_error(error),
    }
}

/// Parses the conditions of a write.
fn parse_precondition(
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

/// Returns the headers of a request that are stored with the object.
fn headers_to_store(headers: &HeaderMap) -> S3Result<Option<Box<StoredHeaders>>> {
    let mut stored = Vec::new();
    let mut metadata_bytes = 0;
    for (name, value) in headers {
        let metadata_name = name.as_str().strip_prefix(METADATA_PREFIX);
        if metadata_name.is_none() && !STORED_HEADERS.contains(name) {
            continue;
        }
        let mut value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        if let Some(metadata_name) = metadata_name {
            metadata_bytes += metadata_name.len() + value.len();
        }
        if name == header::CONTENT_ENCODING {
            // `aws-chunked` describes the transfer, not the object.
            let codings: Vec<&str> =
                value.split(',').map(str::trim).filter(|coding| *coding != "aws-chunked").collect();
            value = codings.join(",");
        }
        if !value.is_empty() {
            stored.push((name.as_str().into(), value.into()));
        }
    }
    if metadata_bytes > MAX_METADATA_BYTES {
        return Err(custom_error(
            "MetadataTooLarge",
            StatusCode::BAD_REQUEST,
            "Your metadata headers exceed the maximum allowed metadata size",
        ));
    }
    Ok((!stored.is_empty()).then(|| Box::new(StoredHeaders(stored))))
}

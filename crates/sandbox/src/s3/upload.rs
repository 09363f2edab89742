//! Writing objects: PUT requests and multipart uploads.

use std::collections::BTreeMap;

use http::{HeaderMap, StatusCode, header};
use s3s::{S3Error, S3Request, S3Response, S3Result, dto, s3_error};

use super::access::requester;
use super::acl::{new_object_access, to_s3_owner};
use super::bucket::KeyEncoding;
use super::checksum::{
    SentChecksum, check_part_algorithm, checksum_fields, parse_checksum, s3_algorithm, s3_type, set_checksum,
    upload_checksum,
};
use super::form;
use super::reading::{METADATA_PREFIX, STORED_HEADERS, parse_part_number};
use super::request::{ReceivedBody, receive_body};
use super::response::{custom_error, etag, invalid_argument, length, tag_error, to_s3_time};
use crate::access::OwnerId;
use crate::blobs::WrittenBlob;
use crate::checksum::{ChecksumAlgorithm, ContentDetails, ObjectChecksum, UploadChecksum, digest_text};
use crate::completed::{CompletedUpload, ExpectedPart, UploadTarget};
use crate::listing::{self, ResultPage, UploadOrPrefix, UploadQuery};
use crate::model::{ETag, ObjectStorageClass, PendingUpload, StoredHeaders, UploadedPart};
use crate::state::{SandboxRequestError, WritePrecondition};
use crate::store::{NewObject, Sandbox};
use crate::tags::{self, SharedTags, TagSetError};
use crate::uploads::{ExpectedChecksum, UploadCompletion};

/// The minimum size of every part but the last, in bytes.
const MIN_PART_BYTES: u64 = 5 << 20;

/// The maximum number of parts on a page.
const MAX_LISTED_PARTS: usize = 1000;

/// The maximum number of uploads on a page.
const MAX_LISTED_UPLOADS: usize = 1000;

/// The maximum size of user metadata in bytes, including the names.
const MAX_METADATA_BYTES: usize = 2048;

pub(super) async fn put_object(
    sandbox: &Sandbox,
    request: S3Request<dto::PutObjectInput>,
) -> S3Result<S3Response<dto::PutObjectOutput>> {
    // Everything that can be rejected is rejected before the body is received.
    let access = new_object_access(sandbox, &request, &request.input.bucket, request.input.acl.as_ref())?;
    let S3Request { input, headers, trailing_headers, mut extensions, .. } = request;
    let headers = form::headers_of_write(headers, &mut extensions);
    let class = parse_storage_class(input.storage_class.as_ref())?;
    let tags = header_tags(input.tagging.as_deref())?;
    let precondition = parse_precondition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    sandbox.with_state(|state| state.check_precondition(&input.bucket, &input.key, &precondition))?;
    let stored_headers = headers_to_store(&headers)?;
    let ReceivedBody { blob: WrittenBlob { body, size, md5 }, algorithm, digest } =
        receive_body(sandbox, input.body, input.content_length, &headers, trailing_headers).await?;
    let object_etag = ETag::of_content(md5);
    let checksum = ObjectChecksum::of_content(algorithm, digest);
    let mut output = dto::PutObjectOutput {
        e_tag: Some(etag(object_etag)),
        checksum_type: Some(s3_type(checksum.checksum_type)),
        ..Default::default()
    };
    set_checksum!(output, algorithm, checksum.text(0));
    let details = Some(Box::new(ContentDetails { checksum: Some(checksum), parts: Vec::new() }));
    let new = NewObject { size, etag: object_etag, class, access, tags, headers: stored_headers, body, details };
    let version_id = sandbox
        .put_object(&input.bucket, &input.key, new, &precondition)
        .map_err(|error| precondition.late_error(error))?;
    output.version_id = visible_id(version_id);
    Ok(S3Response::new(output))
}

/// Returns the version ID that the response to a write contains. AWS omits the ID of the `null` version.
pub(super) fn visible_id(id: Option<String>) -> Option<String> {
    id.filter(|id| id != "null")
}

pub(super) fn create_multipart_upload(
    sandbox: &Sandbox,
    request: S3Request<dto::CreateMultipartUploadInput>,
) -> S3Result<S3Response<dto::CreateMultipartUploadOutput>> {
    let access = new_object_access(sandbox, &request, &request.input.bucket, request.input.acl.as_ref())?;
    let initiator = requester(sandbox, &request);
    let S3Request { input, headers, .. } = request;
    let checksum = upload_checksum(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
    let upload = PendingUpload {
        bucket: input.bucket.as_str().into(),
        key: input.key.as_str().into(),
        initiated: sandbox.now(),
        initiator,
        class: parse_storage_class(input.storage_class.as_ref())?,
        access,
        tags: header_tags(input.tagging.as_deref())?,
        headers: headers_to_store(&headers)?,
        checksum,
        parts: BTreeMap::new(),
    };
    let upload_id = sandbox.create_upload(upload)?;
    Ok(S3Response::new(dto::CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(upload_id),
        checksum_algorithm: checksum.map(|checksum| s3_algorithm(checksum.algorithm)),
        checksum_type: checksum.map(|checksum| s3_type(checksum.checksum_type)),
        ..Default::default()
    }))
}

pub(super) async fn upload_part(
    sandbox: &Sandbox,
    request: S3Request<dto::UploadPartInput>,
) -> S3Result<S3Response<dto::UploadPartOutput>> {
    let S3Request { input, headers, trailing_headers, .. } = request;
    let number = parse_part_number(input.part_number)?;
    let upload = sandbox.find_upload(&input.upload_id, &input.bucket, &input.key)?;
    let sent = SentChecksum::from_headers(&headers)?;
    check_part_algorithm(upload.checksum, sent.as_ref().map(SentChecksum::algorithm))?;
    let ReceivedBody { blob, algorithm, digest } =
        receive_body(sandbox, input.body, input.content_length, &headers, trailing_headers).await?;
    let mut output = dto::UploadPartOutput { e_tag: Some(etag(ETag::of_content(blob.md5))), ..Default::default() };
    set_checksum!(output, algorithm, digest_text(&digest));
    sandbox.put_part(&input.upload_id, number, blob, upload.checksum.map(|_| digest))?;
    Ok(S3Response::new(output))
}

pub(super) fn complete_multipart_upload(
    sandbox: &Sandbox,
    request: S3Request<dto::CompleteMultipartUploadInput>,
) -> S3Result<S3Response<dto::CompleteMultipartUploadOutput>> {
    let input = request.input;
    let precondition = parse_precondition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let parts = parse_parts(input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default())?;
    let expected = parse_checksum(checksum_fields!(input))?;
    let expected_size = input.mpu_object_size.map(u64::try_from).transpose();
    let completion = UploadCompletion {
        target: UploadTarget { id: &input.upload_id, bucket: &input.bucket, key: &input.key },
        parts: &parts,
        min_part_bytes: MIN_PART_BYTES,
        condition: &precondition,
        expected: expected.map(|(algorithm, digest)| ExpectedChecksum { algorithm, digest }),
        expected_size: expected_size.map_err(|_| invalid_argument("The size of an object cannot be negative"))?,
        default_algorithm: Some(ChecksumAlgorithm::Crc64Nvme),
    };
    let completed = match sandbox.complete_upload(&completion) {
        Err(SandboxRequestError::NoSuchUpload) => {
            sandbox.find_completed(&completion).ok_or(SandboxRequestError::NoSuchUpload)?
        }
        completed => completed?,
    };
    let CompletedUpload { etag: object_etag, version_id, checksum } = completed;
    let mut output = dto::CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        e_tag: Some(etag(object_etag)),
        version_id: visible_id(version_id),
        ..Default::default()
    };
    if let Some(checksum) = checksum {
        set_checksum!(output, checksum.algorithm, checksum.text(parts.len()));
        output.checksum_type = Some(s3_type(checksum.checksum_type));
    }
    output.bucket = Some(input.bucket);
    output.key = Some(input.key);
    Ok(S3Response::new(output))
}

/// Parses the list of the parts that the object consists of.
fn parse_parts(parts: Vec<dto::CompletedPart>) -> S3Result<Vec<ExpectedPart>> {
    let mut parsed: Vec<ExpectedPart> = Vec::with_capacity(parts.len());
    for part in parts {
        let digest = parse_checksum(checksum_fields!(part))?;
        let (Some(number), Some(part_etag)) = (part.part_number, part.e_tag) else {
            return Err(s3_error!(MalformedXML, "A part must have a number and an entity tag"));
        };
        let number = parse_part_number(number)?;
        if parsed.last().is_some_and(|last| last.number >= number) {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order. Parts must be ordered by part number."
            ));
        }
        parsed.push(ExpectedPart { number, etag: part_etag.into_value(), digest });
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
    let parts: Vec<dto::Part> =
        following.by_ref().take(limit).map(|(number, part)| listed_part(*number, part, upload.checksum)).collect();
    let is_truncated = limit > 0 && following.next().is_some();
    Ok(S3Response::new(dto::ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        is_truncated: Some(is_truncated),
        max_parts: i32::try_from(limit).ok(),
        next_part_number_marker: parts.last().and_then(|part| part.part_number).filter(|_| is_truncated),
        part_number_marker: Some(marker),
        initiator: Some(initiator(sandbox, upload.initiator)),
        owner: Some(to_s3_owner(sandbox, upload.access.owner)),
        checksum_algorithm: upload.checksum.map(|checksum| s3_algorithm(checksum.algorithm)),
        checksum_type: upload.checksum.map(|checksum| s3_type(checksum.checksum_type)),
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

fn listed_part(number: u16, part: &UploadedPart, chosen: Option<UploadChecksum>) -> dto::Part {
    let mut listed = dto::Part {
        part_number: Some(i32::from(number)),
        e_tag: Some(etag(ETag::of_content(part.md5))),
        last_modified: Some(to_s3_time(part.modified)),
        size: Some(length(part.size)),
        ..Default::default()
    };
    if let Some((UploadChecksum { algorithm, .. }, digest)) = chosen.zip(part.digest.as_deref()) {
        set_checksum!(listed, algorithm, digest_text(digest));
    }
    listed
}

pub(super) fn list_multipart_uploads(
    sandbox: &Sandbox,
    request: S3Request<dto::ListMultipartUploadsInput>,
) -> S3Result<S3Response<dto::ListMultipartUploadsOutput>> {
    let input = request.input;
    let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
    let requested = input.max_uploads.map_or(Ok(MAX_LISTED_UPLOADS), usize::try_from);
    let limit = requested.map_err(|_| invalid_argument("max-uploads cannot be negative"))?.min(MAX_LISTED_UPLOADS);
    let key_marker = input.key_marker.as_deref().filter(|marker| !marker.is_empty());
    let query = UploadQuery {
        bucket: &input.bucket,
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty()),
        key_marker,
        // Without a key marker, AWS ignores the marker of the upload.
        id_marker: input.upload_id_marker.as_deref().filter(|marker| key_marker.is_some() && !marker.is_empty()),
    };
    let mut output = sandbox.with_state(|state| {
        state.bucket(&input.bucket)?;
        let page = listing::page_of_uploads(&state.uploads, query, limit);
        Ok::<_, SandboxRequestError>(uploads_output(sandbox, page, encoding))
    })?;
    output.max_uploads = i32::try_from(limit).ok();
    output.prefix = Some(encoding.encode(query.prefix));
    output.delimiter = encoding.encode_optional(query.delimiter);
    output.key_marker = Some(encoding.encode(key_marker.unwrap_or_default()));
    output.upload_id_marker = Some(query.id_marker.unwrap_or_default().to_owned());
    output.encoding_type = input.encoding_type;
    output.bucket = Some(input.bucket);
    Ok(S3Response::new(output))
}

fn uploads_output(
    sandbox: &Sandbox,
    page: ResultPage<UploadOrPrefix<'_>>,
    encoding: KeyEncoding,
) -> dto::ListMultipartUploadsOutput {
    let mut output = dto::ListMultipartUploadsOutput { is_truncated: Some(page.is_truncated), ..Default::default() };
    if let Some(last) = page.items.last().filter(|_| page.is_truncated) {
        let (name, id) = match last {
            UploadOrPrefix::Prefix(prefix) => (*prefix, ""),
            UploadOrPrefix::Upload(id, upload) => (&*upload.key, *id),
        };
        output.next_key_marker = Some(encoding.encode(name));
        output.next_upload_id_marker = Some(id.to_owned());
    }
    let (mut uploads, mut prefixes) = (Vec::new(), Vec::new());
    for item in page.items {
        match item {
            UploadOrPrefix::Prefix(prefix) => {
                prefixes.push(dto::CommonPrefix { prefix: Some(encoding.encode(prefix)) });
            }
            UploadOrPrefix::Upload(id, upload) => uploads.push(listed_upload(sandbox, id, upload, encoding)),
        }
    }
    output.uploads = Some(uploads);
    output.common_prefixes = Some(prefixes);
    output
}

fn listed_upload(sandbox: &Sandbox, id: &str, upload: &PendingUpload, encoding: KeyEncoding) -> dto::MultipartUpload {
    dto::MultipartUpload {
        checksum_algorithm: upload.checksum.map(|checksum| s3_algorithm(checksum.algorithm)),
        checksum_type: upload.checksum.map(|checksum| s3_type(checksum.checksum_type)),
        initiated: Some(to_s3_time(upload.initiated)),
        initiator: Some(initiator(sandbox, upload.initiator)),
        key: Some(encoding.encode(&upload.key)),
        owner: Some(to_s3_owner(sandbox, upload.access.owner)),
        storage_class: Some(dto::StorageClass::from_static(upload.class.as_str())),
        upload_id: Some(id.to_owned()),
    }
}

/// Parses a storage class. The default is the standard one.
pub(super) fn parse_storage_class(name: Option<&dto::StorageClass>) -> S3Result<ObjectStorageClass> {
    let Some(name) = name else { return Ok(ObjectStorageClass::Standard) };
    ObjectStorageClass::parse(name.as_str())
        .ok_or_else(|| s3_error!(InvalidStorageClass, "The storage class you specified is not valid"))
}

/// Parses the tags in the `x-amz-tagging` header.
pub(super) fn header_tags(header: Option<&str>) -> S3Result<SharedTags> {
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

/// Returns the headers of a request that are stored with the object.
pub(super) fn headers_to_store(headers: &HeaderMap) -> S3Result<Option<Box<StoredHeaders>>> {
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
        if name == header::CONTENT_ENCODING && value.contains("aws-chunked") {
            // `aws-chunked` describes the transfer, not the object.
            let codings: Vec<&str> =
                value.split(',').map(str::trim).filter(|coding| *coding != "aws-chunked").collect();
            value = codings.join(", ");
        }
        if metadata_name.is_some() || !value.is_empty() {
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

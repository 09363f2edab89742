//! Copies: of an object, and of an object's content as a part of an upload.

use http::{HeaderMap, HeaderName, header};
use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use super::acl::new_object_access;
use super::checksum::{copy_algorithm, parse_algorithm, set_checksum};
use super::reading::{ReadPreconditions, parse_part_number};
use super::response::{etag, invalid_argument, invalid_request, to_s3_time};
use super::upload::{header_tags, headers_to_store, parse_precondition, parse_storage_class, visible_id};
use crate::blobs::{BlobReader, WrittenBlob};
use crate::checksum::{ChecksumAlgorithm, ContentDetails, ContentHasher, Digest, ObjectChecksum};
use crate::model::{ETag, ObjectBlob, StoredObject};
use crate::state::{FoundObject, RequestedObject, SandboxRequestError, WritePrecondition};
use crate::store::{NewObject, Sandbox};

/// How many bytes are copied before other requests get their turn.
const COPY_TURN_BYTES: u64 = 8 << 20;

pub(super) async fn copy_object(
    sandbox: &Sandbox,
    request: S3Request<dto::CopyObjectInput>,
) -> S3Result<S3Response<dto::CopyObjectOutput>> {
    let access = new_object_access(sandbox, &request, &request.input.bucket, request.input.acl.as_ref())?;
    let S3Request { input, headers, .. } = request;
    let source = source_object(&input.copy_source)?;
    let class = parse_storage_class(input.storage_class.as_ref())?;
    let replaces_headers = is_replace(input.metadata_directive.as_ref().map(dto::MetadataDirective::as_str))?;
    let replaces_tags = is_replace(input.tagging_directive.as_ref().map(dto::TaggingDirective::as_str))?;
    let algorithm = input.checksum_algorithm.as_ref().map(parse_algorithm).transpose()?;
    if !replaces_headers && is_unchanged(&input, source) {
        return Err(invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the \
             object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let condition = target_precondition(&headers)?;
    sandbox.with_state(|state| state.check_precondition(&input.bucket, &input.key, &condition))?;
    let preconditions = ReadPreconditions {
        matches: input.copy_source_if_match,
        none_matches: input.copy_source_if_none_match,
        modified_since: input.copy_source_if_modified_since,
        unmodified_since: input.copy_source_if_unmodified_since,
    };
    let (found, reader) = open_source(sandbox, source, &preconditions)?;
    let source_object = &found.object;
    let tags = if replaces_tags { header_tags(input.tagging.as_deref())? } else { source_object.tags.clone() };
    let headers = if replaces_headers { headers_to_store(&headers)? } else { source_object.headers.clone() };
    let algorithm = algorithm.unwrap_or_else(|| copy_algorithm(source_object));
    let (body, size, copy_etag, digest) = copy_content(sandbox, source_object, reader, algorithm).await?;
    let checksum = digest.map(|digest| ObjectChecksum::of_content(algorithm, digest));
    let mut result = dto::CopyObjectResult {
        e_tag: Some(etag(copy_etag)),
        last_modified: Some(to_s3_time(sandbox.now())),
        ..Default::default()
    };
    if let Some(checksum) = &checksum {
        set_checksum!(result, checksum.algorithm, checksum.text(0));
        result.checksum_type = Some(super::checksum::s3_type(checksum.checksum_type));
    }
    let details = checksum.map(|checksum| Box::new(ContentDetails { checksum: Some(checksum), parts: Vec::new() }));
    let new = NewObject { size, etag: copy_etag, class, access, tags, headers, body, details };
    let version_id =
        sandbox.put_object(&input.bucket, &input.key, new, &condition).map_err(|error| condition.late_error(error))?;
    Ok(S3Response::new(dto::CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: found.id,
        version_id: visible_id(version_id),
        ..Default::default()
    }))
}

/// Returns whether a copy would replace an object by itself. Without a version, the source is the current one.
fn is_unchanged(input: &dto::CopyObjectInput, source: RequestedObject<'_>) -> bool {
    source.bucket == input.bucket
        && source.key == input.key
        && source.version.is_none()
        && input.storage_class.is_none()
        && input.website_redirect_location.is_none()
        && input.server_side_encryption.is_none()
        && input.checksum_algorithm.is_none()
}

fn source_object(source: &dto::CopySource) -> S3Result<RequestedObject<'_>> {
    let dto::CopySource::Bucket { bucket, key, version_id } = source else {
        return Err(s3_error!(NotImplemented, "The sandbox can copy only from buckets"));
    };
    if version_id.as_deref() == Some("") {
        return Err(invalid_argument("Version id cannot be the empty string"));
    }
    Ok(RequestedObject { bucket, key, version: version_id.as_deref() })
}

/// Parses the conditions for the target of a copy. s3s does not know them.
fn target_precondition(headers: &HeaderMap) -> S3Result<WritePrecondition> {
    let parse = |name: &HeaderName| -> S3Result<Option<dto::ETagCondition>> {
        let Some(value) = headers.get(name) else { return Ok(None) };
        let condition = dto::ETagCondition::parse_http_header(value.as_bytes());
        condition.map(Some).map_err(|_| s3_error!(InvalidArgument, "The header {name} is not valid"))
    };
    parse_precondition(parse(&header::IF_MATCH)?.as_ref(), parse(&header::IF_NONE_MATCH)?.as_ref())
}

fn open_source(
    sandbox: &Sandbox,
    source: RequestedObject<'_>,
    preconditions: &ReadPreconditions,
) -> S3Result<(FoundObject, BlobReader)> {
    let opened: S3Result<_> = sandbox.read_object(source, |found| {
        preconditions.check_source(found)?;
        Ok(0..found.object.size)
    });
    let (found, _, reader) = opened?;
    Ok((found, reader))
}

/// Returns whether a copy replaces the headers or tags of its source.
fn is_replace(directive: Option<&str>) -> S3Result<bool> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "Unknown metadata or tagging directive")),
    }
}

/// Copies the content of an object. Returns the new blob, its size, its entity tag, and its checksum. An object without
/// content is copied without content and without a checksum, because its size may be terabytes.
async fn copy_content(
    sandbox: &Sandbox,
    source: &StoredObject,
    reader: BlobReader,
    algorithm: ChecksumAlgorithm,
) -> Result<(ObjectBlob, u64, ETag, Option<Digest>), SandboxRequestError> {
    if source.body == ObjectBlob::Zeros {
        return Ok((ObjectBlob::Zeros, source.size, source.etag, None));
    }
    let (WrittenBlob { body, size, md5 }, digest) = copy_blob(sandbox, reader, algorithm).await?;
    Ok((body, size, ETag::of_content(md5), Some(digest)))
}

/// Copies content into a new blob, in turns with other requests. Returns the blob and its checksum.
async fn copy_blob(
    sandbox: &Sandbox,
    reader: BlobReader,
    algorithm: ChecksumAlgorithm,
) -> Result<(WrittenBlob, Digest), SandboxRequestError> {
    let mut writer = sandbox.blob_writer();
    let mut hasher = ContentHasher::new(algorithm);
    let mut turn_end = COPY_TURN_BYTES;
    for chunk in reader {
        let chunk = chunk?;
        hasher.update(&chunk);
        writer.write(&chunk)?;
        if writer.size() >= turn_end {
            turn_end += COPY_TURN_BYTES;
            tokio::task::yield_now().await;
        }
    }
    Ok((writer.finish(), hasher.finish()))
}

pub(super) async fn upload_part_copy(
    sandbox: &Sandbox,
    request: S3Request<dto::UploadPartCopyInput>,
) -> S3Result<S3Response<dto::UploadPartCopyOutput>> {
    let input = request.input;
    let number = parse_part_number(input.part_number)?;
    let source = source_object(&input.copy_source)?;
    let upload = sandbox.find_upload(&input.upload_id, &input.bucket, &input.key)?;
    let preconditions = ReadPreconditions {
        matches: input.copy_source_if_match,
        none_matches: input.copy_source_if_none_match,
        modified_since: input.copy_source_if_modified_since,
        unmodified_since: input.copy_source_if_unmodified_since,
    };
    let requested = input.copy_source_range.as_deref().map(parse_source_range).transpose()?;
    let opened: S3Result<_> = sandbox.read_object(source, |found| {
        preconditions.check_source(found)?;
        let size = found.object.size;
        match &requested {
            None if size > MAX_PART_BYTES => Err(s3_error!(
                InvalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: \
                 {MAX_PART_BYTES}"
            )),
            None => Ok(0..size),
            Some(range) if range.end <= size => Ok(range.clone()),
            Some(_) => {
                Err(s3_error!(InvalidArgument, "Range specified is not valid for source object of size: {size}"))
            }
        }
    });
    let (found, range, reader) = opened?;
    let chosen = upload.checksum.map(|checksum| checksum.algorithm);
    // Zeros that are not stored stay so, unless the upload needs their checksum.
    let (blob, digest) = if found.object.body == ObjectBlob::Zeros && chosen.is_none() {
        (zeros(found.object.etag, &range), None)
    } else {
        let (blob, digest) = copy_blob(sandbox, reader, chosen.unwrap_or(ChecksumAlgorithm::Crc64Nvme)).await?;
        (blob, Some(digest).filter(|_| chosen.is_some()))
    };
    let mut result = dto::CopyPartResult {
        e_tag: Some(etag(ETag::of_content(blob.md5))),
        last_modified: Some(to_s3_time(sandbox.now())),
        ..Default::default()
    };
    if let Some((algorithm, digest)) = chosen.zip(digest.as_deref()) {
        set_checksum!(result, algorithm, crate::checksum::digest_text(digest));
    }
    sandbox.put_part(&input.upload_id, number, blob, digest)?;
    Ok(S3Response::new(dto::UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: found.id,
        ..Default::default()
    }))
}

/// The maximum size of a part: 5 GiB.
const MAX_PART_BYTES: u64 = 5 << 30;

/// Returns a part of an object that has a size but no content. Its entity tag stands for the source and the range.
fn zeros(source: ETag, range: &std::ops::Range<u64>) -> WrittenBlob {
    use md5::{Digest as _, Md5};
    let md5 = Md5::digest(format!("{source} {}-{}", range.start, range.end));
    WrittenBlob { body: ObjectBlob::Zeros, size: range.end - range.start, md5: md5.into() }
}

/// Parses the range of a source, which must have both ends.
fn parse_source_range(header: &str) -> S3Result<std::ops::Range<u64>> {
    let malformed = || {
        invalid_argument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy",
        )
    };
    let parse = |text: &str| -> S3Result<u64> {
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).ok_or_else(malformed)
    };
    let (first, last) = header.strip_prefix("bytes=").and_then(|ends| ends.split_once('-')).ok_or_else(malformed)?;
    let (first, last) = (parse(first)?, parse(last)?);
    let end = last.checked_add(1).filter(|end| first < *end).ok_or_else(malformed)?;
    if end - first > MAX_PART_BYTES {
        return Err(s3_error!(EntityTooLarge, "Your proposed upload exceeds the maximum allowed size"));
    }
    Ok(first..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_range_has_both_ends() {
        assert_eq!(parse_source_range("bytes=0-2").unwrap(), 0..3);
        assert_eq!(parse_source_range("bytes=7-7").unwrap(), 7..8);
        for malformed in [
            "0-2",
            "bytes=0",
            "bytes=0-",
            "bytes=-2",
            "bytes=hello-world",
            "bytes=0-bar",
            "bytes=+0-2",
            "bytes=0-2,3-5",
            "bytes=2-1",
            "bytes=0-18446744073709551615",
        ] {
            assert_eq!(parse_source_range(malformed).unwrap_err().code().as_str(), "InvalidArgument", "{malformed}");
        }
        assert_eq!(parse_source_range("bytes=0-5368709120").unwrap_err().code().as_str(), "EntityTooLarge");
    }
}

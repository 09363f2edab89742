//! `GetObjectAttributes`: what is known of an object without its content.

use http::HeaderMap;
use s3s::{S3Error, S3Request, S3Response, S3Result, dto, s3_error};

use super::checksum::{object_checksum, set_checksum};
use super::object::requested_object;
use super::response::{BareEntityTag, etag, invalid_argument, length, to_s3_time};
use crate::checksum::{ChecksumAlgorithm, ObjectPart, digest_text};
use crate::model::StoredObject;
use crate::store::Sandbox;

/// The maximum number of parts on a page.
const MAX_PARTS: usize = 1000;

/// The attributes that a request can ask for.
const ATTRIBUTES: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];

pub(super) fn get_object_attributes(
    sandbox: &Sandbox,
    request: S3Request<dto::GetObjectAttributesInput>,
) -> S3Result<S3Response<dto::GetObjectAttributesOutput>> {
    let input = request.input;
    let requested = requested_attributes(&request.headers)?;
    let has = |name: &str| requested.iter().any(|requested| requested == name);
    let target = requested_object(&input.bucket, &input.key, input.version_id.as_ref())?;
    let found = sandbox.find_object(target)?;
    let object = &found.object;
    let object_parts =
        if has("ObjectParts") { listed_parts(object, input.max_parts, input.part_number_marker)? } else { None };
    let output = dto::GetObjectAttributesOutput {
        checksum: has("Checksum").then(|| s3_checksum(object)).flatten(),
        e_tag: has("ETag").then(|| etag(object.etag)),
        last_modified: Some(to_s3_time(found.modified)),
        object_parts,
        object_size: has("ObjectSize").then(|| length(object.size)),
        storage_class: has("StorageClass").then(|| dto::StorageClass::from_static(object.class.as_str())),
        version_id: found.id.clone(),
        ..Default::default()
    };
    let mut response = S3Response::new(output);
    response.extensions.insert(BareEntityTag);
    Ok(response)
}

/// Returns the attributes in the header `x-amz-object-attributes`, a list with commas.
fn requested_attributes(headers: &HeaderMap) -> S3Result<Vec<String>> {
    let values = headers.get_all("x-amz-object-attributes").into_iter().filter_map(|value| value.to_str().ok());
    let names: Vec<String> = values.flat_map(|value| value.split(',')).map(|name| name.trim().to_owned()).collect();
    if names.iter().any(|name| !ATTRIBUTES.contains(&name.as_str())) {
        return Err(invalid_attribute());
    }
    Ok(names)
}

fn invalid_attribute() -> S3Error {
    s3_error!(InvalidArgument, "Invalid attribute name specified.")
}

fn s3_checksum(object: &StoredObject) -> Option<dto::Checksum> {
    let (algorithm, text, checksum_type) = object_checksum(object)?;
    let mut checksum = dto::Checksum { checksum_type: Some(checksum_type), ..Default::default() };
    set_checksum!(checksum, algorithm, text);
    Some(checksum)
}

/// Returns a page of the parts, or `None` if the object was not uploaded in parts.
fn listed_parts(
    object: &StoredObject,
    max_parts: Option<i32>,
    marker: Option<i32>,
) -> S3Result<Option<dto::GetObjectAttributesParts>> {
    let Some(count) = object.part_count() else { return Ok(None) };
    let limit = max_parts.map_or(Ok(MAX_PARTS), usize::try_from);
    let limit = limit.map_err(|_| invalid_argument("max-parts cannot be negative"))?.min(MAX_PARTS);
    let marker = marker.unwrap_or(0);
    let (parts, algorithm) = object.details.as_ref().map_or((&[][..], None), |details| {
        (&details.parts[..], details.checksum.as_ref().map(|checksum| checksum.algorithm))
    });
    let mut following = parts.iter().filter(|part| i32::from(part.number) > marker);
    let listed: Vec<_> = following.by_ref().take(limit).map(|part| listed_part(part, algorithm)).collect();
    let is_truncated = limit > 0 && following.next().is_some();
    Ok(Some(dto::GetObjectAttributesParts {
        is_truncated: Some(is_truncated),
        max_parts: i32::try_from(limit).ok(),
        next_part_number_marker: listed.last().and_then(|part| part.part_number).or(Some(0)),
        part_number_marker: Some(marker),
        parts: (!listed.is_empty()).then_some(listed),
        total_parts_count: i32::try_from(count).ok(),
    }))
}

fn listed_part(part: &ObjectPart, algorithm: Option<ChecksumAlgorithm>) -> dto::ObjectPart {
    let mut listed = dto::ObjectPart {
        part_number: Some(i32::from(part.number)),
        size: Some(length(part.size)),
        ..Default::default()
    };
    if let Some((algorithm, digest)) = algorithm.zip(part.digest.as_deref()) {
        set_checksum!(listed, algorithm, digest_text(digest));
    }
    listed
}

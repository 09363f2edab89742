//! Reading and deleting objects, their tags, and restores.

use http::StatusCode;
use s3s::{S3Error, S3Request, S3Response, S3Result, dto, s3_error};

use super::access::requester;
use super::checksum::set_checksum;
use super::reading::{ContentSelection, ReadPreconditions, object_headers, response_overrides};
use super::request::parse_tags;
use super::response::{StatusOverride, etag, invalid_argument, length, to_s3_tags, to_s3_time};
use crate::access::OwnerId;
use crate::model::{ObjectStorageClass, RetrievalTier};
use crate::permissions::ObjectAction;
use crate::restore::{self, RestoreDialect, RestoreParameters};
use crate::state::{RequestedObject, SandboxRequestError, WritePrecondition};
use crate::store::{AcceptedRestoreKind, DeletedVersion, Sandbox};
use crate::tags::SharedTags;

/// The maximum number of keys in a delete request.
const MAX_DELETED: usize = 1000;

/// Returns the object that a request names. Rejects an empty `versionId=`.
pub(super) fn requested_object<'r>(
    bucket: &'r str,
    key: &'r str,
    version_id: Option<&'r String>,
) -> S3Result<RequestedObject<'r>> {
    let version = version_id.map(String::as_str);
    if version == Some("") {
        return Err(invalid_argument("Version id cannot be the empty string"));
    }
    Ok(RequestedObject { bucket, key, version })
}

pub(super) fn get_object(
    sandbox: &Sandbox,
    request: S3Request<dto::GetObjectInput>,
) -> S3Result<S3Response<dto::GetObjectOutput>> {
    let is_anonymous = request.credentials.is_none();
    let input = request.input;
    let overrides = response_overrides!(input, is_anonymous)?;
    let selection = ContentSelection::new(input.range, input.part_number)?;
    let preconditions = ReadPreconditions {
        matches: input.if_match,
        none_matches: input.if_none_match,
        modified_since: input.if_modified_since,
        unmodified_since: input.if_unmodified_since,
    };
    let target = requested_object(&input.bucket, &input.key, input.version_id.as_ref())?;
    let (found, range, reader) = sandbox.read_object(target, |found| {
        preconditions.check(found)?;
        selection.resolve(&found.object)
    })?;
    let object = &found.object;
    let mut output = dto::GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        body: Some(dto::StreamingBlob::wrap(futures_util::stream::iter(reader))),
        content_length: Some(length(range.end - range.start)),
        content_range: selection.content_range(&range, object.size),
        e_tag: Some(etag(object.etag)),
        last_modified: Some(to_s3_time(found.modified)),
        parts_count: selection.parts_count(object),
        restore: restore::progress(object, sandbox.now()).header_value(),
        storage_class: response_class(object.class),
        version_id: found.id.clone(),
        ..Default::default()
    };
    if let Some((algorithm, text, checksum_type)) = selection.checksum(object, &range, input.checksum_mode.as_ref()) {
        set_checksum!(output, algorithm, text);
        output.checksum_type = Some(checksum_type);
    }
    Ok(S3Response::with_headers(output, object_headers(object, overrides)))
}

pub(super) fn head_object(
    sandbox: &Sandbox,
    request: S3Request<dto::HeadObjectInput>,
) -> S3Result<S3Response<dto::HeadObjectOutput>> {
    let is_anonymous = request.credentials.is_none();
    let input = request.input;
    let overrides = response_overrides!(input, is_anonymous)?;
    let selection = ContentSelection::new(input.range, input.part_number)?;
    let preconditions = ReadPreconditions {
        matches: input.if_match,
        none_matches: input.if_none_match,
        modified_since: input.if_modified_since,
        unmodified_since: input.if_unmodified_since,
    };
    let target = requested_object(&input.bucket, &input.key, input.version_id.as_ref())?;
    let found = sandbox.find_object(target)?;
    preconditions.check(&found)?;
    let object = &found.object;
    let range = selection.resolve(object)?;
    let content_range = selection.content_range(&range, object.size);
    let is_partial = content_range.is_some();
    let mut output = dto::HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(length(range.end - range.start)),
        content_range,
        e_tag: Some(etag(object.etag)),
        last_modified: Some(to_s3_time(found.modified)),
        parts_count: selection.parts_count(object),
        restore: restore::progress(object, sandbox.now()).header_value(),
        storage_class: response_class(object.class),
        version_id: found.id.clone(),
        ..Default::default()
    };
    if let Some((algorithm, text, checksum_type)) = selection.checksum(object, &range, input.checksum_mode.as_ref()) {
        set_checksum!(output, algorithm, text);
        output.checksum_type = Some(checksum_type);
    }
    let mut response = S3Response::with_headers(output, object_headers(object, overrides));
    if is_partial {
        response.extensions.insert(StatusOverride(StatusCode::PARTIAL_CONTENT));
    }
    Ok(response)
}

/// Returns the storage class for HEAD and GET responses, which omit the standard one.
fn response_class(class: ObjectStorageClass) -> Option<dto::StorageClass> {
    (class != ObjectStorageClass::Standard).then(|| dto::StorageClass::from_static(class.as_str()))
}

pub(super) fn delete_object(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteObjectInput>,
) -> S3Result<S3Response<dto::DeleteObjectOutput>> {
    let requester = requester(sandbox, &request);
    let input = request.input;
    if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
        return Err(directory_buckets_only());
    }
    let target = requested_object(&input.bucket, &input.key, input.version_id.as_ref())?;
    let condition = match input.if_match {
        None => WritePrecondition::Always,
        Some(dto::ETagCondition::Any) => WritePrecondition::Exists,
        Some(dto::ETagCondition::ETag(etag)) => WritePrecondition::Matches(etag.value().to_owned()),
    };
    check_may_compare(sandbox, requester, target, &condition)?;
    let deleted = sandbox.delete_object(target, &condition)?;
    let output = dto::DeleteObjectOutput {
        delete_marker: deleted.is_marker.then_some(true),
        version_id: deleted.id,
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

/// The condition is one that only directory buckets have.
fn directory_buckets_only() -> S3Error {
    s3_error!(NotImplemented, "Only directory buckets compare the size or the modification time of an object")
}

/// Checks that a request which compares the entity tag of an object may read the object.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html>
fn check_may_compare(
    sandbox: &Sandbox,
    requester: OwnerId,
    target: RequestedObject<'_>,
    condition: &WritePrecondition,
) -> Result<(), SandboxRequestError> {
    if !matches!(condition, WritePrecondition::Matches(_)) {
        return Ok(());
    }
    let current = RequestedObject { version: None, ..target };
    sandbox.with_state(|state| state.check_object_access(requester, current, ObjectAction::Read))
}

pub(super) fn delete_objects(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteObjectsInput>,
) -> S3Result<S3Response<dto::DeleteObjectsOutput>> {
    let requester = requester(sandbox, &request);
    let dto::DeleteObjectsInput { bucket, delete, .. } = request.input;
    if delete.objects.is_empty() || delete.objects.len() > MAX_DELETED {
        return Err(s3_error!(MalformedXML, "A request must delete 1 to {MAX_DELETED} objects"));
    }
    sandbox.with_bucket(&bucket, |_| ())?;
    // A request that is not valid deletes nothing.
    for object in &delete.objects {
        requested_object(&bucket, &object.key, object.version_id.as_ref())?;
        if object.key.is_empty() {
            return Err(s3_error!(MalformedXML, "An object to delete must have a key"));
        }
        if object.last_modified_time.is_some() || object.size.is_some() {
            return Err(directory_buckets_only());
        }
    }
    let is_quiet = delete.quiet.unwrap_or(false);
    let mut deleted = Vec::new();
    let mut errors = Vec::new();
    for object in delete.objects {
        let target = RequestedObject { bucket: &bucket, key: &object.key, version: object.version_id.as_deref() };
        let condition = match &object.e_tag {
            None => WritePrecondition::Always,
            Some(etag) if etag.value() == "*" => WritePrecondition::Exists,
            Some(etag) => WritePrecondition::Matches(etag.value().to_owned()),
        };
        let allowed = sandbox.with_state(|state| state.check_object_access(requester, target, ObjectAction::Delete));
        let allowed = allowed.and_then(|()| check_may_compare(sandbox, requester, target, &condition));
        match allowed.and_then(|()| sandbox.delete_object(target, &condition)) {
            Ok(_) if is_quiet => {}
            Ok(version) => deleted.push(deleted_entry(object, version)),
            Err(error) => errors.push(error_entry(object, &error.into())),
        }
    }
    let output = dto::DeleteObjectsOutput {
        deleted: (!deleted.is_empty()).then_some(deleted),
        errors: (!errors.is_empty()).then_some(errors),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

fn deleted_entry(object: dto::ObjectIdentifier, deleted: DeletedVersion) -> dto::DeletedObject {
    dto::DeletedObject {
        delete_marker: deleted.is_marker.then_some(true),
        delete_marker_version_id: deleted.id.filter(|_| deleted.is_marker),
        key: Some(object.key),
        version_id: object.version_id,
    }
}

fn error_entry(object: dto::ObjectIdentifier, error: &S3Error) -> dto::Error {
    dto::Error {
        code: Some(error.code().as_str().to_owned()),
        message: error.message().map(str::to_owned),
        key: Some(object.key),
        version_id: object.version_id,
    }
}

pub(super) fn get_object_tagging(
    sandbox: &Sandbox,
    request: S3Request<dto::GetObjectTaggingInput>,
) -> S3Result<S3Response<dto::GetObjectTaggingOutput>> {
    let input = request.input;
    let target = requested_object(&input.bucket, &input.key, input.version_id.as_ref())?;
    let found = sandbox.find_object(target)?;
    let tag_set = to_s3_tags(&found.object.tags);
    Ok(S3Response::new(dto::GetObjectTaggingOutput { tag_set, version_id: found.id }))
}

pub(super) fn put_object_tagging(
    sandbox: &Sandbox,
    request: S3Request<dto::PutObjectTaggingInput>,
) -> S3Result<S3Response<dto::PutObjectTaggingOutput>> {
    let input = request.input;
    let tags = parse_tags(input.tagging.tag_set)?;
    let target = requested_object(&input.bucket, &input.key, input.version_id.as_ref())?;
    let version_id = sandbox.set_tags(target, tags)?;
    Ok(S3Response::new(dto::PutObjectTaggingOutput { version_id }))
}

pub(super) fn delete_object_tagging(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteObjectTaggingInput>,
) -> S3Result<S3Response<dto::DeleteObjectTaggingOutput>> {
    let input = request.input;
    let target = requested_object(&input.bucket, &input.key, input.version_id.as_ref())?;
    let version_id = sandbox.set_tags(target, SharedTags::default())?;
    Ok(S3Response::new(dto::DeleteObjectTaggingOutput { version_id }))
}

pub(super) fn restore_object(
    sandbox: &Sandbox,
    request: S3Request<dto::RestoreObjectInput>,
) -> S3Result<S3Response<dto::RestoreObjectOutput>> {
    let input = request.input;
    let Some(restore_request) = input.restore_request else {
        return Err(s3_error!(MalformedXML, "A restore must have a RestoreRequest"));
    };
    let parameters = parse_restore_request(restore_request)?;
    let target = requested_object(&input.bucket, &input.key, input.version_id.as_ref())?;
    let accepted = sandbox.restore_object(target, parameters)?;
    let mut response = S3Response::new(dto::RestoreObjectOutput::default());
    if accepted.kind == AcceptedRestoreKind::Started {
        response.extensions.insert(StatusOverride(StatusCode::ACCEPTED));
    }
    Ok(response)
}

fn parse_restore_request(request: dto::RestoreRequest) -> S3Result<RestoreParameters> {
    if request.select_parameters.is_some() || request.output_location.is_some() || request.type_.is_some() {
        return Err(s3_error!(NotImplemented, "The sandbox does not support SELECT requests"));
    }
    let tier_name = request.glacier_job_parameters.map(|parameters| parameters.tier).or(request.tier);
    let tier = match tier_name {
        None => RetrievalTier::Standard,
        Some(name) => RetrievalTier::parse(name.as_str())
            .ok_or_else(|| s3_error!(MalformedXML, "The tier must be Standard, Bulk or Expedited"))?,
    };
    let days = match request.days.map(u32::try_from) {
        None => None,
        Some(Ok(days)) if days > 0 => Some(days),
        Some(_) => return Err(invalid_argument("The number of days must be at least 1")),
    };
    Ok(RestoreParameters { days, tier: Some(tier), rules: RestoreDialect::Aws })
}

//! Tags of objects.

use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use super::convert::requested_version;
use super::error::tag_error;
use crate::state::RequestedObject;
use crate::store::Sandbox;
use crate::tags::{self, SharedTags};

pub(super) fn get_object_tagging(
    sandbox: &Sandbox,
    request: S3Request<dto::GetObjectTaggingInput>,
) -> S3Result<S3Response<dto::GetObjectTaggingOutput>> {
    let input = request.input;
    let version = requested_version(input.version_id.as_ref())?;
    let seen = sandbox.find_object(RequestedObject { bucket: &input.bucket, key: &input.key, version })?;
    let tags = seen.object.tags.iter();
    let tag_set = tags.map(|(key, value)| dto::Tag { key: Some(key.to_owned()), value: Some(value.to_owned()) });
    Ok(S3Response::new(dto::GetObjectTaggingOutput { tag_set: tag_set.collect(), version_id: seen.id }))
}

pub(super) fn put_object_tagging(
    sandbox: &Sandbox,
    request: S3Request<dto::PutObjectTaggingInput>,
) -> S3Result<S3Response<dto::PutObjectTaggingOutput>> {
    let input = request.input;
    let pairs = input.tagging.tag_set.into_iter().map(|tag| match (tag.key, tag.value) {
        (Some(key), Some(value)) => Ok((key.into(), value.into())),
        _ => Err(s3_error!(MalformedXML, "A tag must have a key and a value")),
    });
    let tags = tags::check(pairs.collect::<S3Result<_>>()?).map_err(tag_error)?;
    let version = requested_version(input.version_id.as_ref())?;
    let version_id = sandbox.set_tags(RequestedObject { bucket: &input.bucket, key: &input.key, version }, tags)?;
    Ok(S3Response::new(dto::PutObjectTaggingOutput { version_id }))
}

pub(super) fn delete_object_tagging(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteObjectTaggingInput>,
) -> S3Result<S3Response<dto::DeleteObjectTaggingOutput>> {
    let input = request.input;
    let version = requested_version(input.version_id.as_ref())?;
    let target = RequestedObject { bucket: &input.bucket, key: &input.key, version };
    let version_id = sandbox.set_tags(target, SharedTags::default())?;
    Ok(S3Response::new(dto::DeleteObjectTaggingOutput { version_id }))
}

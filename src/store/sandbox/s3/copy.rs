//! Copying objects.

use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use super::settings::acl_in;
use super::shape::{class, etag, kept, time};
use super::write::{header_tags, no_grants};
use crate::store::sandbox::bodies::Arrived;
use crate::store::sandbox::find::{Condition, Refusal, Target};
use crate::store::sandbox::model::{Body, ETag};
use crate::store::sandbox::vault::{NewObject, Sandbox};

pub(super) fn copy_object(
    sandbox: &Sandbox,
    request: S3Request<dto::CopyObjectInput>,
) -> S3Result<S3Response<dto::CopyObjectOutput>> {
    let S3Request { input, headers, .. } = request;
    let dto::CopySource::Bucket { bucket, key, version_id } = &input.copy_source else {
        return Err(s3_error!(NotImplemented, "The sandbox copies from buckets only"));
    };
    no_grants(&headers)?;
    let source = Target { bucket, key, version: version_id.as_deref() };
    let (class, acl) = (class(input.storage_class.as_ref())?, acl_in(sandbox, &input.bucket, input.acl.as_ref())?);
    let replaces = |directive: Option<&str>| match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "Unknown metadata or tagging directive")),
    };
    let new_headers = replaces(input.metadata_directive.as_ref().map(dto::MetadataDirective::as_str))?;
    let new_tags = replaces(input.tagging_directive.as_ref().map(dto::TaggingDirective::as_str))?;
    let (seen, _, reader) = sandbox.read(source, |seen| {
        if let Some(dto::ETagCondition::ETag(wanted)) = &input.copy_source_if_match
            && wanted.value() != seen.object.etag.to_string()
        {
            return Err(Refusal::Precondition);
        }
        Ok(0..seen.object.size)
    })?;
    let object = seen.object;
    let tags = if new_tags { header_tags(input.tagging.as_deref())? } else { object.tags };
    let headers = if new_headers { kept(&headers)? } else { object.headers };
    // An object without content is copied without content, because its size may be terabytes.
    let (arrived, tag) = if object.body == Body::Zeros {
        (Arrived { body: Body::Zeros, size: object.size, md5: object.etag.md5 }, object.etag)
    } else {
        let mut writer = sandbox.body_writer();
        for chunk in reader {
            writer.write(&chunk.map_err(Refusal::Storage)?).map_err(Refusal::Storage)?;
        }
        let arrived = writer.finish();
        let tag = ETag { md5: arrived.md5, parts: 0 };
        (arrived, tag)
    };
    let Arrived { body, size, .. } = arrived;
    let new = NewObject { size, etag: tag, class, acl, tags, headers, body };
    let version_id = sandbox.put(&input.bucket, &input.key, new, &Condition::Always)?;
    let result = dto::CopyObjectResult {
        e_tag: Some(etag(tag)),
        last_modified: Some(time(sandbox.now())),
        ..Default::default()
    };
    Ok(S3Response::new(dto::CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: seen.id,
        version_id,
        ..Default::default()
    }))
}

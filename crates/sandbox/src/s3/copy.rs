//! Copying objects.

use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use super::convert::{etag, parse_storage_class, stored_headers, to_s3_time};
use super::settings::new_object_acl;
use super::write::{header_tags, reject_grant_headers};
use crate::blobs::WrittenBlob;
use crate::model::{ETag, ObjectBlob};
use crate::state::{RequestedObject, SandboxRequestError, WritePrecondition};
use crate::store::{NewObject, Sandbox};

pub(super) fn copy_object(
    sandbox: &Sandbox,
    request: S3Request<dto::CopyObjectInput>,
) -> S3Result<S3Response<dto::CopyObjectOutput>> {
    let S3Request { input, headers, .. } = request;
    let dto::CopySource::Bucket { bucket, key, version_id } = &input.copy_source else {
        return Err(s3_error!(NotImplemented, "The sandbox can copy only from buckets"));
    };
    reject_grant_headers(&headers)?;
    let source = RequestedObject { bucket, key, version: version_id.as_deref() };
    let (class, acl) = (
        parse_storage_class(input.storage_class.as_ref())?,
        new_object_acl(sandbox, &input.bucket, input.acl.as_ref())?,
    );
    let replaces = |directive: Option<&str>| match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "Unknown metadata or tagging directive")),
    };
    let new_headers = replaces(input.metadata_directive.as_ref().map(dto::MetadataDirective::as_str))?;
    let new_tags = replaces(input.tagging_directive.as_ref().map(dto::TaggingDirective::as_str))?;
    let (seen, _, reader) = sandbox.read_object(source, |seen| {
        if let Some(dto::ETagCondition::ETag(wanted)) = &input.copy_source_if_match
            && wanted.value() != seen.object.etag.to_string()
        {
            return Err(SandboxRequestError::PreconditionFailed);
        }
        Ok(0..seen.object.size)
    })?;
    let object = seen.object;
    let tags = if new_tags { header_tags(input.tagging.as_deref())? } else { object.tags };
    let headers = if new_headers { stored_headers(&headers)? } else { object.headers };
    // An object without content is copied without content, because its size may be terabytes.
    let (arrived, tag) = if object.body == ObjectBlob::Zeros {
        (WrittenBlob { body: ObjectBlob::Zeros, size: object.size, md5: object.etag.md5 }, object.etag)
    } else {
        let mut writer = sandbox.blob_writer();
        for chunk in reader {
            writer.write(&chunk.map_err(SandboxRequestError::Storage)?).map_err(SandboxRequestError::Storage)?;
        }
        let arrived = writer.finish();
        let tag = ETag { md5: arrived.md5, parts: 0 };
        (arrived, tag)
    };
    let WrittenBlob { body, size, .. } = arrived;
    let new = NewObject { size, etag: tag, class, acl, tags, headers, body };
    let version_id = sandbox.put_object(&input.bucket, &input.key, new, &WritePrecondition::Always)?;
    let result = dto::CopyObjectResult {
        e_tag: Some(etag(tag)),
        last_modified: Some(to_s3_time(sandbox.now())),
        ..Default::default()
    };
    Ok(S3Response::new(dto::CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: seen.id,
        version_id,
        ..Default::default()
    }))
}

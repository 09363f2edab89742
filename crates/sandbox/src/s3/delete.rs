//! Deleting objects.

use s3s::{S3Error, S3Request, S3Response, S3Result, dto, s3_error};

use super::convert::requested_version;
use crate::state::RequestedObject;
use crate::store::Sandbox;

/// The maximum number of keys in a request.
const MAX_KEYS: usize = 1000;

pub(super) fn delete_object(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteObjectInput>,
) -> S3Result<S3Response<dto::DeleteObjectOutput>> {
    let input = request.input;
    let version = requested_version(input.version_id.as_ref())?;
    let deleted = sandbox.delete_object(RequestedObject { bucket: &input.bucket, key: &input.key, version })?;
    let output = dto::DeleteObjectOutput {
        delete_marker: deleted.is_marker.then_some(true),
        version_id: deleted.id,
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

pub(super) fn delete_objects(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteObjectsInput>,
) -> S3Result<S3Response<dto::DeleteObjectsOutput>> {
    let dto::DeleteObjectsInput { bucket, delete, .. } = request.input;
    if delete.objects.is_empty() || delete.objects.len() > MAX_KEYS {
        return Err(s3_error!(MalformedXML, "A request must delete 1 to {MAX_KEYS} objects"));
    }
    sandbox.with_bucket(&bucket, |_| ())?;
    let quiet = delete.quiet.unwrap_or(false);
    let mut done = Vec::new();
    let mut errors = Vec::new();
    for object in delete.objects {
        let target = RequestedObject { bucket: &bucket, key: &object.key, version: object.version_id.as_deref() };
        match sandbox.delete_object(target) {
            Ok(_) if quiet => {}
            Ok(deleted) => done.push(dto::DeletedObject {
                delete_marker: deleted.is_marker.then_some(true),
                delete_marker_version_id: deleted.id.filter(|_| deleted.is_marker),
                key: Some(object.key),
                version_id: object.version_id,
            }),
            Err(refusal) => {
                let error = S3Error::from(refusal);
                errors.push(dto::Error {
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    key: Some(object.key),
                    version_id: object.version_id,
                });
            }
        }
    }
    let output = dto::DeleteObjectsOutput {
        deleted: (!done.is_empty()).then_some(done),
        errors: (!errors.is_empty()).then_some(errors),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

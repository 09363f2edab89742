//! Bucket operations.

use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use super::convert::{owner, to_s3_time};
use super::settings::parse_ownership;
use crate::REGION;
use crate::model::VersioningStatus;
use crate::store::Sandbox;

pub(super) fn create_bucket(
    sandbox: &Sandbox,
    request: S3Request<dto::CreateBucketInput>,
) -> S3Result<S3Response<dto::CreateBucketOutput>> {
    let dto::CreateBucketInput { bucket: name, object_ownership, .. } = request.input;
    let ownership = object_ownership.as_ref().map(parse_ownership).transpose()?;
    sandbox.create_bucket(&name)?;
    if let Some(ownership) = ownership {
        sandbox.set_ownership(&name, ownership)?;
    }
    Ok(S3Response::new(dto::CreateBucketOutput { location: Some(format!("/{name}")) }))
}

pub(super) fn delete_bucket(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteBucketInput>,
) -> S3Result<S3Response<dto::DeleteBucketOutput>> {
    sandbox.delete_bucket(&request.input.bucket)?;
    Ok(S3Response::new(dto::DeleteBucketOutput {}))
}

pub(super) fn head_bucket(
    sandbox: &Sandbox,
    request: S3Request<dto::HeadBucketInput>,
) -> S3Result<S3Response<dto::HeadBucketOutput>> {
    sandbox.with_bucket(&request.input.bucket, |_| ())?;
    let output = dto::HeadBucketOutput { bucket_region: Some(REGION.to_owned()), ..Default::default() };
    Ok(S3Response::new(output))
}

pub(super) fn list_buckets(
    sandbox: &Sandbox,
    request: S3Request<dto::ListBucketsInput>,
) -> S3Result<S3Response<dto::ListBucketsOutput>> {
    let prefix = request.input.prefix.unwrap_or_default();
    let buckets = sandbox.with_state(|state| {
        let named = state.buckets.iter().filter(|(name, _)| name.starts_with(&prefix));
        let told = named.map(|(name, bucket)| dto::Bucket {
            name: Some(name.to_string()),
            creation_date: Some(to_s3_time(bucket.created)),
            ..Default::default()
        });
        told.collect()
    });
    let output = dto::ListBucketsOutput { buckets: Some(buckets), owner: Some(owner()), ..Default::default() };
    Ok(S3Response::new(output))
}

pub(super) fn get_bucket_location(
    sandbox: &Sandbox,
    request: S3Request<dto::GetBucketLocationInput>,
) -> S3Result<S3Response<dto::GetBucketLocationOutput>> {
    sandbox.with_bucket(&request.input.bucket, |_| ())?;
    // The first region has no location constraint.
    Ok(S3Response::new(dto::GetBucketLocationOutput::default()))
}

pub(super) fn get_bucket_versioning(
    sandbox: &Sandbox,
    request: S3Request<dto::GetBucketVersioningInput>,
) -> S3Result<S3Response<dto::GetBucketVersioningOutput>> {
    let versioning = sandbox.with_bucket(&request.input.bucket, |bucket| bucket.versioning)?;
    let status =
        (versioning != VersioningStatus::Never).then(|| dto::BucketVersioningStatus::from_static(versioning.as_str()));
    Ok(S3Response::new(dto::GetBucketVersioningOutput { status, ..Default::default() }))
}

pub(super) fn put_bucket_versioning(
    sandbox: &Sandbox,
    request: S3Request<dto::PutBucketVersioningInput>,
) -> S3Result<S3Response<dto::PutBucketVersioningOutput>> {
    let status = request.input.versioning_configuration.status;
    let versioning = status.and_then(|status| VersioningStatus::parse(status.as_str()));
    let Some(versioning @ (VersioningStatus::Enabled | VersioningStatus::Suspended)) = versioning else {
        return Err(s3_error!(MalformedXML, "The versioning status must be Enabled or Suspended"));
    };
    sandbox.set_versioning(&request.input.bucket, versioning)?;
    Ok(S3Response::new(dto::PutBucketVersioningOutput {}))
}

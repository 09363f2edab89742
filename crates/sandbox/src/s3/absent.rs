//! Settings of buckets and objects that the sandbox does not have. Reading one is answered as AWS answers for a bucket
//! without it, and deleting one succeeds. Writing one is not implemented.

use http::StatusCode;
use s3s::{S3Error, S3Request, S3Response, S3Result, dto, s3_error};

use super::object::requested_object;
use super::response::{custom_error, invalid_request};
use crate::store::Sandbox;

/// Defines an operation that fails with an error if its bucket exists.
macro_rules! missing {
    ($($operation:ident($input:ident) -> $output:ident = $error:expr;)*) => {
        $(pub(super) fn $operation(
            sandbox: &Sandbox,
            request: S3Request<dto::$input>,
        ) -> S3Result<S3Response<dto::$output>> {
            sandbox.with_bucket(&request.input.bucket, |_| ())?;
            Err($error)
        })*
    };
}

/// Defines an operation that succeeds without doing anything if its bucket exists.
macro_rules! empty {
    ($($operation:ident($input:ident) -> $output:ident, $status:ident;)*) => {
        $(pub(super) fn $operation(
            sandbox: &Sandbox,
            request: S3Request<dto::$input>,
        ) -> S3Result<S3Response<dto::$output>> {
            sandbox.with_bucket(&request.input.bucket, |_| ())?;
            Ok(S3Response::with_status(dto::$output::default(), StatusCode::$status))
        })*
    };
}

missing! {
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput = no_policy();
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput = no_policy();
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput =
        s3_error!(NoSuchCORSConfiguration, "The CORS configuration does not exist");
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput =
        s3_error!(NoSuchTagSet, "The TagSet does not exist");
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput =
        s3_error!(NoSuchWebsiteConfiguration, "The specified bucket does not have a website configuration");
    get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput =
        s3_error!(ReplicationConfigurationNotFoundError, "The replication configuration was not found");
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput = custom_error(
        "NoSuchPublicAccessBlockConfiguration",
        StatusCode::NOT_FOUND,
        "The public access block configuration was not found",
    );
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput = s3_error!(
        ObjectLockConfigurationNotFoundError,
        "Object Lock configuration does not exist for this bucket"
    );
    put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput = no_object_lock();
    put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput = no_object_lock();
}

empty! {
    delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput, NO_CONTENT;
    delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput, NO_CONTENT;
    delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput, NO_CONTENT;
    delete_bucket_website(DeleteBucketWebsiteInput) -> DeleteBucketWebsiteOutput, NO_CONTENT;
    delete_bucket_replication(DeleteBucketReplicationInput) -> DeleteBucketReplicationOutput, NO_CONTENT;
    delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput, NO_CONTENT;
    get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput, OK;
    get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) ->
        GetBucketNotificationConfigurationOutput, OK;
    get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput) ->
        GetBucketAccelerateConfigurationOutput, OK;
}

pub(super) fn get_bucket_request_payment(
    sandbox: &Sandbox,
    request: S3Request<dto::GetBucketRequestPaymentInput>,
) -> S3Result<S3Response<dto::GetBucketRequestPaymentOutput>> {
    sandbox.with_bucket(&request.input.bucket, |_| ())?;
    let payer = Some(dto::Payer::from_static(dto::Payer::BUCKET_OWNER));
    Ok(S3Response::new(dto::GetBucketRequestPaymentOutput { payer }))
}

pub(super) fn get_object_retention(
    sandbox: &Sandbox,
    request: S3Request<dto::GetObjectRetentionInput>,
) -> S3Result<S3Response<dto::GetObjectRetentionOutput>> {
    let input = request.input;
    sandbox.find_object(requested_object(&input.bucket, &input.key, input.version_id.as_ref())?)?;
    Err(no_object_lock())
}

pub(super) fn get_object_legal_hold(
    sandbox: &Sandbox,
    request: S3Request<dto::GetObjectLegalHoldInput>,
) -> S3Result<S3Response<dto::GetObjectLegalHoldOutput>> {
    let input = request.input;
    sandbox.find_object(requested_object(&input.bucket, &input.key, input.version_id.as_ref())?)?;
    Err(no_object_lock())
}

fn no_policy() -> S3Error {
    s3_error!(NoSuchBucketPolicy, "The bucket policy does not exist")
}

/// No bucket of the sandbox has Object Lock.
fn no_object_lock() -> S3Error {
    invalid_request("Bucket is missing Object Lock Configuration")
}

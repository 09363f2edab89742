//! The S3 dialect. Signatures, routes, and XML are handled by the `s3s` crate.
//!
//! | file | contents |
//! |---|---|
//! | `bucket`, `object`, `attributes`, `upload`, `copy`, `acl` | the operations |
//! | `absent` | the operations on settings that the sandbox does not have |
//! | `access` | which requests are allowed |
//! | `reading` | conditions, ranges and parts, and the headers of objects |
//! | `form` | uploads by forms |
//! | `checksum` | checksums in requests and responses |
//! | `request` | the bodies of requests and their digests, presigned URLs, and the tags in requests |
//! | `response` | errors, conversions, and what `s3s` does not add to a response |

#[expect(clippy::needless_pass_by_value, reason = "every operation has the same shape")]
mod absent;
mod access;
#[expect(clippy::needless_pass_by_value, reason = "every operation has the same shape")]
mod acl;
mod attributes;
#[expect(clippy::needless_pass_by_value, reason = "every operation has the same shape")]
mod bucket;
mod checksum;
mod copy;
mod form;
mod object;
mod reading;
mod request;
mod response;
mod upload;

use async_trait::async_trait;
use http::Response;
use http::request::Parts;
use s3s::dto;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

use super::store::Sandbox;

/// Creates the service that answers S3 requests.
pub(crate) fn service(sandbox: Sandbox) -> S3Service {
    let mut builder = S3ServiceBuilder::new(S3Dialect { sandbox: sandbox.clone() });
    builder.set_auth(access::OwnerKeys { sandbox: sandbox.clone() });
    builder.set_access(access::AclChecks { sandbox });
    builder.build()
}

/// Answers one request. Checks the digests of an XML document first, because s3s parses documents without that.
pub(crate) async fn handle_request(
    service: &S3Service,
    parts: Parts,
    body: impl request::S3RequestBody,
) -> Response<Body> {
    let boundary = form::form_boundary(&parts);
    let result = match (request::check_before_dispatch(&parts), &boundary) {
        (Ok(()), Some(boundary)) => form::expand(parts, body, boundary).await,
        (Ok(()), None) => request::check_document_digests(parts, body).await,
        (Err(error), _) => Err(error),
    };
    let mut result = match result {
        Ok(checked) => service.call(checked).await,
        Err(error) => response::error_response(error),
    };
    if let (Ok(response), Some(_)) = (&mut result, boundary) {
        form::finish(response);
    }
    response::finish_response(result)
}

/// Returns the response to a request that exceeds the rate limit.
pub(crate) fn throttled_response() -> Response<Body> {
    let error = s3_error!(SlowDown, "Please reduce your request rate.");
    response::finish_response(response::error_response(error))
}

struct S3Dialect {
    sandbox: Sandbox,
}

/// Forwards each operation to the function with the same name. Those that receive a body are async, the others are not.
macro_rules! operations {
    (
        async { $($async_module:ident::$async_operation:ident($async_input:ident) -> $async_output:ident;)* }
        $($module:ident::$operation:ident($input:ident) -> $output:ident;)*
    ) => {
        #[async_trait]
        impl S3 for S3Dialect {
            $(async fn $async_operation(
                &self,
                request: S3Request<dto::$async_input>,
            ) -> S3Result<S3Response<dto::$async_output>> {
                $async_module::$async_operation(&self.sandbox, request).await
            })*
            $(async fn $operation(
                &self,
                request: S3Request<dto::$input>,
            ) -> S3Result<S3Response<dto::$output>> {
                $module::$operation(&self.sandbox, request)
            })*
        }
    };
}

operations! {
    async {
        copy::copy_object(CopyObjectInput) -> CopyObjectOutput;
        copy::upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput;
        upload::put_object(PutObjectInput) -> PutObjectOutput;
        upload::upload_part(UploadPartInput) -> UploadPartOutput;
    }
    bucket::create_bucket(CreateBucketInput) -> CreateBucketOutput;
    bucket::delete_bucket(DeleteBucketInput) -> DeleteBucketOutput;
    bucket::head_bucket(HeadBucketInput) -> HeadBucketOutput;
    bucket::list_buckets(ListBucketsInput) -> ListBucketsOutput;
    bucket::get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput;
    bucket::get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput;
    bucket::put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput;
    bucket::get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) ->
        GetBucketLifecycleConfigurationOutput;
    bucket::put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput) ->
        PutBucketLifecycleConfigurationOutput;
    bucket::delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput;
    bucket::get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput;
    bucket::put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput;
    bucket::delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput) ->
        DeleteBucketOwnershipControlsOutput;
    object::get_object(GetObjectInput) -> GetObjectOutput;
    object::head_object(HeadObjectInput) -> HeadObjectOutput;
    object::delete_object(DeleteObjectInput) -> DeleteObjectOutput;
    object::delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput;
    bucket::list_objects(ListObjectsInput) -> ListObjectsOutput;
    bucket::list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
    bucket::list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput;
    object::get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput;
    object::put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput;
    object::delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput;
    acl::get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput;
    acl::put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput;
    acl::get_object_acl(GetObjectAclInput) -> GetObjectAclOutput;
    acl::put_object_acl(PutObjectAclInput) -> PutObjectAclOutput;
    object::restore_object(RestoreObjectInput) -> RestoreObjectOutput;
    upload::create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
    upload::complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput;
    upload::abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
    upload::list_parts(ListPartsInput) -> ListPartsOutput;
    upload::list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput;
    attributes::get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput;
    absent::get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput;
    absent::get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput;
    absent::get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput;
    absent::get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput;
    absent::get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput;
    absent::get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput;
    absent::get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput;
    absent::get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput;
    absent::put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput;
    absent::put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput;
    absent::get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput;
    absent::get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput;
    absent::delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput;
    absent::delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput;
    absent::delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput;
    absent::delete_bucket_website(DeleteBucketWebsiteInput) -> DeleteBucketWebsiteOutput;
    absent::delete_bucket_replication(DeleteBucketReplicationInput) -> DeleteBucketReplicationOutput;
    absent::delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput;
    absent::get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput;
    absent::get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) ->
        GetBucketNotificationConfigurationOutput;
    absent::get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput) ->
        GetBucketAccelerateConfigurationOutput;
    absent::get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput;
}

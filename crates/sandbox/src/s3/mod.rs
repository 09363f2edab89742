//! The S3 dialect. Signatures, routes, and XML are handled by the `s3s` crate.

mod acl;
#[expect(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "every operation has the same shape")]
mod bucket;
mod convert;
mod copy;
mod delete;
mod digest;
mod error;
mod list;
mod multipart;
mod read;
mod restore;
#[expect(clippy::needless_pass_by_value, reason = "every operation has the same shape")]
mod settings;
mod tagging;
mod write;

use async_trait::async_trait;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::store::Sandbox;

pub(super) use convert::StatusOverride;
pub(super) use digest::{check_document, document_length_limit};

/// Creates the service that answers S3 requests.
pub(super) fn service(sandbox: Sandbox) -> S3Service {
    let options = sandbox.options();
    let auth = SingleKeyAuth {
        access_key: options.access_key.clone(),
        secret_key: SecretKey::from(options.secret_key.clone()),
    };
    let mut builder = S3ServiceBuilder::new(S3Dialect { sandbox });
    builder.set_auth(auth);
    builder.set_access(SignedOrPublicAccess);
    builder.build()
}

struct SingleKeyAuth {
    access_key: String,
    secret_key: SecretKey,
}

#[async_trait]
impl S3Auth for SingleKeyAuth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            Ok(self.secret_key.clone())
        } else {
            Err(s3_error!(InvalidAccessKeyId, "The access key ID you provided does not exist in our records."))
        }
    }
}

/// Requests without a signature can only read objects. Whether they can read a certain object depends on its ACL.
struct SignedOrPublicAccess;

#[async_trait]
impl S3Access for SignedOrPublicAccess {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        if cx.credentials().is_some() || matches!(cx.s3_op().name(), "GetObject" | "HeadObject") {
            Ok(())
        } else {
            Err(error::access_denied())
        }
    }
}

struct S3Dialect {
    sandbox: Sandbox,
}

/// Forwards each operation to the function with the same name. Those that receive a body are async, the others are not.
macro_rules! operations {
    (
        async { $($later:ident::$waits:ident($later_input:ident) -> $later_output:ident;)* }
        $($room:ident::$operation:ident($input:ident) -> $output:ident;)*
    ) => {
        #[async_trait]
        impl S3 for S3Dialect {
            $(async fn $waits(
                &self,
                request: S3Request<dto::$later_input>,
            ) -> S3Result<S3Response<dto::$later_output>> {
                $later::$waits(&self.sandbox, request).await
            })*
            $(async fn $operation(
                &self,
                request: S3Request<dto::$input>,
            ) -> S3Result<S3Response<dto::$output>> {
                $room::$operation(&self.sandbox, request)
            })*
        }
    };
}

operations! {
    async {
        write::put_object(PutObjectInput) -> PutObjectOutput;
        multipart::upload_part(UploadPartInput) -> UploadPartOutput;
    }
    bucket::create_bucket(CreateBucketInput) -> CreateBucketOutput;
    bucket::delete_bucket(DeleteBucketInput) -> DeleteBucketOutput;
    bucket::head_bucket(HeadBucketInput) -> HeadBucketOutput;
    bucket::list_buckets(ListBucketsInput) -> ListBucketsOutput;
    bucket::get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput;
    bucket::get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput;
    bucket::put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput;
    settings::get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) ->
        GetBucketLifecycleConfigurationOutput;
    settings::put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput) ->
        PutBucketLifecycleConfigurationOutput;
    settings::delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput;
    settings::get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput;
    settings::put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput;
    settings::delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput) ->
        DeleteBucketOwnershipControlsOutput;
    copy::copy_object(CopyObjectInput) -> CopyObjectOutput;
    read::get_object(GetObjectInput) -> GetObjectOutput;
    read::head_object(HeadObjectInput) -> HeadObjectOutput;
    delete::delete_object(DeleteObjectInput) -> DeleteObjectOutput;
    delete::delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput;
    list::list_objects(ListObjectsInput) -> ListObjectsOutput;
    list::list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
    list::list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput;
    tagging::get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput;
    tagging::put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput;
    tagging::delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput;
    acl::get_object_acl(GetObjectAclInput) -> GetObjectAclOutput;
    acl::put_object_acl(PutObjectAclInput) -> PutObjectAclOutput;
    restore::restore_object(RestoreObjectInput) -> RestoreObjectOutput;
    multipart::create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
    multipart::complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput;
    multipart::abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
    multipart::list_parts(ListPartsInput) -> ListPartsOutput;
}

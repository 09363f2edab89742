//! Which requests are allowed. This is decided by the operation before its input is read.

use async_trait::async_trait;
use http::{HeaderMap, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{Credentials, S3Auth, SecretKey};
use s3s::path::S3Path;
use s3s::{S3Request, S3Result, dto, s3_error};

use super::response::{access_denied, custom_error};
use crate::ACCOUNT_ID;
use crate::access::OwnerId;
use crate::permissions::{BucketAction, ObjectAction, UploadAction};
use crate::state::{RequestedObject, SandboxRequestError, SandboxState};
use crate::store::Sandbox;

/// Checks signatures against the access keys of the sandbox.
pub(super) struct OwnerKeys {
    pub(super) sandbox: Sandbox,
}

#[async_trait]
impl S3Auth for OwnerKeys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.sandbox.owner_directory().with_key(access_key) {
            Some((_, key)) => Ok(SecretKey::from(key.secret_key.clone())),
            None => Err(s3_error!(InvalidAccessKeyId, "The access key ID you provided does not exist in our records.")),
        }
    }
}

/// Returns who sent a request.
pub(super) fn requester<T>(sandbox: &Sandbox, request: &S3Request<T>) -> OwnerId {
    owner_of_credentials(sandbox, request.credentials.as_ref())
}

fn owner_of_credentials(sandbox: &Sandbox, credentials: Option<&Credentials>) -> OwnerId {
    let owner = credentials.and_then(|credentials| sandbox.owner_directory().with_key(&credentials.access_key));
    owner.map_or(OwnerId::ANONYMOUS, |(id, _)| id)
}

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequiredAccess {
    /// A signature.
    Signature,
    Bucket(BucketAction),
    Object(ObjectAction),
    Upload(UploadAction),
    /// The operation checks each of its objects.
    EachObject,
}

/// Returns what an operation needs. An operation that is not in the table is one that manages the bucket.
fn required_access(operation: &str) -> RequiredAccess {
    match operation {
        "ListBuckets" | "CreateBucket" => RequiredAccess::Signature,
        "HeadBucket" | "ListObjects" | "ListObjectsV2" | "ListObjectVersions" | "ListMultipartUploads" => {
            RequiredAccess::Bucket(BucketAction::List)
        }
        "PutObject" | "PostObject" | "CopyObject" | "CreateMultipartUpload" => {
            RequiredAccess::Bucket(BucketAction::Write)
        }
        "GetBucketAcl" => RequiredAccess::Bucket(BucketAction::ReadAcl),
        "PutBucketAcl" => RequiredAccess::Bucket(BucketAction::WriteAcl),
        "GetObject" | "HeadObject" | "GetObjectAttributes" => RequiredAccess::Object(ObjectAction::Read),
        "GetObjectAcl" => RequiredAccess::Object(ObjectAction::ReadAcl),
        "PutObjectAcl" => RequiredAccess::Object(ObjectAction::WriteAcl),
        "GetObjectTagging"
        | "PutObjectTagging"
        | "DeleteObjectTagging"
        | "RestoreObject"
        | "GetObjectRetention"
        | "PutObjectRetention"
        | "GetObjectLegalHold"
        | "PutObjectLegalHold" => RequiredAccess::Object(ObjectAction::Manage),
        "DeleteObject" => RequiredAccess::Object(ObjectAction::Delete),
        "DeleteObjects" => RequiredAccess::EachObject,
        "UploadPart" | "UploadPartCopy" | "CompleteMultipartUpload" => RequiredAccess::Upload(UploadAction::Write),
        "AbortMultipartUpload" | "ListParts" => RequiredAccess::Upload(UploadAction::Manage),
        _ => RequiredAccess::Bucket(BucketAction::Manage),
    }
}

/// Checks each request against the ACLs of its bucket and its object.
pub(super) struct AclChecks {
    pub(super) sandbox: Sandbox,
}

#[async_trait]
impl S3Access for AclChecks {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let requester = owner_of_credentials(&self.sandbox, cx.credentials());
        let request = AccessRequest { requester, uri: cx.uri(), headers: cx.headers() };
        let required = required_access(cx.s3_op().name());
        let (bucket, key) = match cx.s3_path() {
            _ if required == RequiredAccess::Signature => return request.check_signature(),
            S3Path::Root => return request.check_signature(),
            S3Path::Bucket { bucket } => (bucket, None),
            S3Path::Object { bucket, key } => (bucket, Some(key)),
        };
        // A bucket that does not exist is reported before anything else.
        self.sandbox.with_state(|state| {
            state.bucket(bucket)?;
            request.check_expected_owner(state, bucket, "x-amz-expected-bucket-owner")?;
            request.check(state, required, bucket, key.map(|key| &**key))?;
            request.check_copy_source(state)
        })
    }
}

/// What a request says about itself before its input is read.
struct AccessRequest<'r> {
    requester: OwnerId,
    uri: &'r Uri,
    headers: &'r HeaderMap,
}

impl AccessRequest<'_> {
    fn check_signature(&self) -> S3Result<()> {
        if self.requester == OwnerId::ANONYMOUS { Err(access_denied()) } else { Ok(()) }
    }

    /// Checks that a bucket belongs to the owner that a header names by the ID of its account, as AWS expects, or by
    /// its canonical ID, which says more in a sandbox with several owners.
    fn check_expected_owner(&self, state: &SandboxState, bucket: &str, header: &str) -> S3Result<()> {
        let Some(expected) = self.headers.get(header) else { return Ok(()) };
        let expected = expected.to_str().unwrap_or_default();
        let owner = state.bucket(bucket)?.access.owner;
        let is_account = expected.len() == ACCOUNT_ID.len() && expected.bytes().all(|byte| byte.is_ascii_digit());
        if !is_account && OwnerId::parse(expected).is_none() {
            let message = "The value of the expected bucket owner parameter must be an AWS account ID";
            return Err(custom_error("InvalidBucketOwnerAWSAccountID", StatusCode::BAD_REQUEST, message));
        }
        let is_owner = expected == owner.account_id() || OwnerId::parse(expected) == Some(owner);
        if is_owner { Ok(()) } else { Err(access_denied()) }
    }

    fn check(
        &self,
        state: &SandboxState,
        required: RequiredAccess,
        bucket: &str,
        key: Option<&str>,
    ) -> Result<(), SandboxRequestError> {
        match (required, key) {
            (RequiredAccess::Signature, _) => Ok(()),
            (RequiredAccess::EachObject, _) => state.bucket(bucket).map(|_| ()),
            (RequiredAccess::Bucket(action), _) => state.check_bucket_access(self.requester, bucket, action),
            (RequiredAccess::Object(action), Some(key)) => {
                let version = self.query_value("versionId");
                let target = RequestedObject { bucket, key, version: version.as_deref() };
                state.check_object_access(self.requester, target, action)
            }
            (RequiredAccess::Upload(action), _) => {
                let id = self.query_value("uploadId").unwrap_or_default();
                state.check_upload_access(self.requester, bucket, &id, action)
            }
            (RequiredAccess::Object(_), None) => {
                state.check_bucket_access(self.requester, bucket, BucketAction::Manage)
            }
        }
    }

    /// Checks that the object that is copied can be read. The operation reports a header that is not valid.
    fn check_copy_source(&self, state: &SandboxState) -> S3Result<()> {
        let header = self.headers.get("x-amz-copy-source").and_then(|header| header.to_str().ok());
        let source = header.and_then(|header| dto::CopySource::parse(header).ok());
        let Some(dto::CopySource::Bucket { bucket, key, version_id }) = source else { return Ok(()) };
        self.check_expected_owner(state, &bucket, "x-amz-source-expected-bucket-owner")?;
        let target = RequestedObject { bucket: &bucket, key: &key, version: version_id.as_deref() };
        Ok(state.check_object_access(self.requester, target, ObjectAction::Read)?)
    }

    /// Returns a parameter as the operation reads it. A request with two of the same name is refused later.
    fn query_value(&self, name: &str) -> Option<String> {
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let mut pairs = self.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(known, _)| decode(known) == name)?;
        Some(decode(value))
    }
}

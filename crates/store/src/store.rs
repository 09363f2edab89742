//! The [`Store`] trait, and the values that its methods take and return: object contents, the outcome of a conditional
//! write, and bucket settings. Those of a listing are in `listing`.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::error_code::FaultClass;
use crate::fault::StoreError;
use crate::listing::{ListPage, ListRequest};
use crate::object::{BucketName, ObjectId, ObjectKey};
use crate::object_request::{ContentIdentity, ObjectRequest, ObjectResponse};

/// An object store, with the operations that batch plans need.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Sends one request for one object. Returns `Ok` for every 2xx response.
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError>;

    /// Reads one page of a bucket's listing.
    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError>;

    /// Reads one setting of a bucket. A setting that is not set is a value, not an error.
    async fn bucket_setting(
        &self,
        bucket: &BucketName,
        question: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError>;

    /// Opens an object for reading. With `if_match`, returns an error with status 412 if the object no longer has
    /// that `ETag`.
    async fn read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<OpenedObject, StoreError>;

    /// Resumes a read at byte `from`, as long as the object still has this `ETag`. Use it after a read that broke
    /// off. A store that does not support this returns an error.
    async fn resume_read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        etag: &str,
        from: u64,
    ) -> Result<OpenedObject, StoreError> {
        let (_, request) = (etag, format!("GET {bucket}/{key}"));
        let why = format!("this store cannot resume a read at byte {from}");
        Err(not_implemented(&why, request))
    }

    /// Writes a whole object. `md5` is the MD5 of the content in base64, which the server verifies.
    async fn write(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: ObjectContent,
        md5: &str,
    ) -> Result<(), StoreError>;

    /// Creates an object, unless its key already exists. A server that ignores the condition may overwrite an
    /// existing object. Only the stores that can hold the state of jobs implement this.
    async fn put_if_absent(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: Bytes,
    ) -> Result<ConditionalPutOutcome, StoreError> {
        let _ = content;
        Err(not_implemented("this store has no conditional writes", format!("PUT {bucket}/{key}")))
    }

    /// Deletes an object. Succeeds if the object does not exist. Only the stores that can hold the state of jobs
    /// implement this.
    async fn delete(&self, bucket: &BucketName, key: &ObjectKey) -> Result<(), StoreError> {
        Err(not_implemented("this store deletes nothing", format!("DELETE {bucket}/{key}")))
    }

    /// Returns the method and the URL of a request, in the form used in reports:
    /// `PUT http://host/bucket/key?tagging`.
    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String;

    /// Returns the `ETag` and size that HEAD would report for an object whose content is the body of this request.
    /// Returns an empty [`ContentIdentity`] if the request has no body.
    fn body_identity(&self, _call: &ObjectRequest) -> ContentIdentity {
        ContentIdentity::default()
    }

    /// Returns why this store's API cannot address a key, or `None` if it can.
    fn unsupported_key_reason(&self, key: &ObjectKey) -> Option<&'static str>;

    /// Returns the storage class that supports only one restore speed and no tier, if the store has one.
    fn untiered_class(&self) -> Option<&'static str> {
        None
    }
}

fn not_implemented(why: &str, request: String) -> StoreError {
    StoreError::without_response(FaultClass::Rejected, "NotImplemented", why, request)
}

/// An object opened for reading.
pub struct OpenedObject {
    /// The `ETag` without quotes.
    pub etag: String,
    /// The number of bytes in `body`: the whole object, or the rest for a resumed read. 0 if the server sent no
    /// length.
    pub size: u64,
    /// The content, streamed.
    pub body: Box<dyn AsyncRead + Send + Unpin>,
}

/// The content of an object to write.
#[derive(Clone, Debug)]
pub enum ObjectContent {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A file, streamed from disk.
    File(PathBuf),
}

/// The outcome of creating an object that must not exist yet.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionalPutOutcome {
    /// The object was created.
    Created,
    /// An object with this key already exists. It is unchanged.
    AlreadyExists,
    /// Another request for the same key was in progress, and nothing was written. The object may or may not exist.
    /// Retry.
    Conflict,
}

/// A bucket setting that can be read. Each read is one request, which changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketSetting {
    /// The lifecycle rules that filter by tags.
    TagRules,
    /// Whether the bucket keeps old versions.
    Versioning,
    /// Who owns the objects of the bucket, and whether ACLs are in effect.
    Ownership,
}

impl BucketSetting {
    /// Returns the subresource to request. OSS uses the same names, but has no ownership setting.
    #[must_use]
    pub fn subresource(self) -> &'static str {
        match self {
            Self::TagRules => "lifecycle",
            Self::Versioning => "versioning",
            Self::Ownership => "ownershipControls",
        }
    }
}

/// The value of a [`BucketSetting`]: always the variant of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketSettingValue {
    /// The enabled rules that filter by tags, in the bucket's order. Empty if the bucket has no lifecycle.
    TagRules(Vec<TagLifecycleRule>),
    /// Whether the bucket keeps old versions.
    Versioning(BucketVersioning),
    /// Who owns the objects of the bucket, and whether ACLs are in effect.
    Ownership(OwnershipSetting),
}

/// A lifecycle rule that includes or excludes objects by their tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagLifecycleRule {
    /// The ID of the rule. Empty if it has none.
    pub id: String,
    /// The tag keys in the rule's filter, in the rule's order, without duplicates.
    pub keys: Vec<String>,
}

/// The versioning state of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketVersioning {
    /// Versioning was never enabled: an overwritten object is lost.
    Never,
    /// Versioning is enabled.
    Enabled,
    /// Versioning was enabled earlier. Existing versions are kept.
    Suspended,
}

/// Who owns the objects of a bucket, which decides whether ACLs are in effect.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnershipSetting {
    /// The store does not have this setting, for example OSS.
    NotApplicable,
    /// Not set: ACLs are in effect.
    NotSet,
    /// The bucket owner. ACLs are rejected.
    BucketOwnerEnforced,
    /// The bucket owner, if the writer grants it. ACLs are in effect.
    BucketOwnerPreferred,
    /// The writer of the object. ACLs are in effect.
    ObjectWriter,
}

//! The [`Store`] trait, and the values that its methods take and return: object contents, the outcome of a conditional
//! write, and bucket settings. Those of a listing are in `listing`.
//!
//! Two stores that have no server of their own: [`ReadOnlyStore`], which wraps a store and refuses writes, and
//! [`UnreachableStore`], the stand-in for a store that could not be connected to.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::error::{FaultClass, StoreError};
use crate::listing::{ListPage, ListRequest};
use crate::object::{BucketName, ObjectId, ObjectKey};
use crate::object_request::{ContentIdentity, ObjectRequest, ObjectResponse};
use crate::unsupported_bucket::UnsupportedBucket;

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
        setting: BucketSetting,
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

    /// Returns what a name in the place of a bucket is, if the store has such things, but this client cannot work on
    /// them.
    fn unsupported_bucket(&self, _name: &str) -> Option<UnsupportedBucket> {
        None
    }

    /// Returns whether the store may have tenants, so that [`BucketName::without_tenant`] is the name of the bucket.
    fn has_tenants(&self) -> bool {
        false
    }

    /// Returns the storage class that supports only one restore speed and no tier, if the store has one.
    fn untiered_class(&self) -> Option<&'static str> {
        None
    }

    /// Returns whether an answer about the ACL of an object names its version, in a bucket with versions. OSS does that,
    /// S3 does not. Answers about tags name it on both.
    fn names_version_of_acl(&self) -> bool {
        false
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
    /// The prefix of the objects that the rule applies to. Empty if it applies to all.
    pub prefix: String,
    /// The tags that an object must have, all of them, in the rule's order.
    pub tags: Vec<(String, String)>,
    /// The tags that an object must not have, in the rule's order. Only OSS has them.
    pub excluded_tags: Vec<(String, String)>,
    /// Whether the rule deletes objects, or old versions of them.
    pub deletes: bool,
    /// Whether the rule moves objects to another storage class.
    pub moves: bool,
}

impl TagLifecycleRule {
    /// Returns the keys of all tags in the rule, in the rule's order, without duplicates.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        let mut keys = Vec::new();
        for (key, _) in self.tags.iter().chain(&self.excluded_tags) {
            if !keys.contains(&key.as_str()) {
                keys.push(key.as_str());
            }
        }
        keys
    }
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

/// Passes reads through, and rejects writes before they are sent. A command that only reads cannot change anything,
/// even if it has a bug.
pub struct ReadOnlyStore {
    store: Arc<dyn Store>,
    list_count: AtomicU64,
    read_count: AtomicU64,
}

impl ReadOnlyStore {
    /// Wraps a store and blocks all writes to it.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, list_count: AtomicU64::new(0), read_count: AtomicU64::new(0) }
    }

    /// Returns the number of listing pages and the number of object reads requested so far.
    #[must_use]
    pub fn request_counts(&self) -> (u64, u64) {
        (self.list_count.load(Ordering::Relaxed), self.read_count.load(Ordering::Relaxed))
    }
}

fn write_rejected(url: String) -> StoreError {
    let message = "a write was not sent, because this command only reads: this is a bug in batchplan; please report it";
    StoreError::without_response(FaultClass::Rejected, "ReadOnly", message, url)
}

#[async_trait]
impl Store for ReadOnlyStore {
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        if call.is_write() {
            return Err(write_rejected(self.store.request_line(object, call)));
        }
        self.store.send_request(object, call).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        self.list_count.fetch_add(1, Ordering::Relaxed);
        self.store.list(request).await
    }

    async fn bucket_setting(
        &self,
        bucket: &BucketName,
        setting: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        self.store.bucket_setting(bucket, setting).await
    }

    async fn read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<OpenedObject, StoreError> {
        self.read_count.fetch_add(1, Ordering::Relaxed);
        self.store.read(bucket, key, if_match).await
    }

    async fn resume_read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        etag: &str,
        from: u64,
    ) -> Result<OpenedObject, StoreError> {
        self.read_count.fetch_add(1, Ordering::Relaxed);
        self.store.resume_read(bucket, key, etag, from).await
    }

    async fn write(&self, bucket: &BucketName, key: &ObjectKey, _: ObjectContent, _: &str) -> Result<(), StoreError> {
        Err(write_rejected(format!("PUT {bucket}/{key}")))
    }

    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String {
        self.store.request_line(object, call)
    }

    fn body_identity(&self, call: &ObjectRequest) -> ContentIdentity {
        self.store.body_identity(call)
    }

    fn unsupported_key_reason(&self, key: &ObjectKey) -> Option<&'static str> {
        self.store.unsupported_key_reason(key)
    }

    fn unsupported_bucket(&self, name: &str) -> Option<UnsupportedBucket> {
        self.store.unsupported_bucket(name)
    }

    fn has_tenants(&self) -> bool {
        self.store.has_tenants()
    }

    fn untiered_class(&self) -> Option<&'static str> {
        self.store.untiered_class()
    }

    fn names_version_of_acl(&self) -> bool {
        self.store.names_version_of_acl()
    }
}

/// A store that rejects every request with the reason why there is no connection. It allows local work to continue
/// without a store.
#[derive(Clone, Debug)]
pub struct UnreachableStore {
    reason: String,
}

impl UnreachableStore {
    /// Creates a store that rejects all requests for this reason.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self { reason: why.into() }
    }

    fn not_connected(&self, request: String) -> StoreError {
        StoreError::without_response(FaultClass::Rejected, "NotConnected", &self.reason, request)
    }

    fn reject<T>(&self, method: &str, bucket: &BucketName, key: &str) -> Result<T, StoreError> {
        Err(self.not_connected(format!("{method} {bucket}/{key}")))
    }
}

#[async_trait]
impl Store for UnreachableStore {
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        Err(self.not_connected(self.request_line(object, call)))
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        self.reject("GET", &request.bucket, "")
    }

    async fn bucket_setting(
        &self,
        bucket: &BucketName,
        setting: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        self.reject("GET", bucket, &format!("?{}", setting.subresource()))
    }

    async fn read(&self, bucket: &BucketName, key: &ObjectKey, _: Option<&str>) -> Result<OpenedObject, StoreError> {
        self.reject("GET", bucket, &key.encoded_keeping_slashes())
    }

    async fn write(&self, bucket: &BucketName, key: &ObjectKey, _: ObjectContent, _: &str) -> Result<(), StoreError> {
        self.reject("PUT", bucket, &key.encoded_keeping_slashes())
    }

    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String {
        let (method, resource) = call.method_and_subresource();
        let query = if resource.is_empty() { "" } else { "?" };
        format!("{method} {}/{}{query}{resource}", object.bucket, object.key.encoded_keeping_slashes())
    }

    fn unsupported_key_reason(&self, _: &ObjectKey) -> Option<&'static str> {
        None
    }

    /// It stands for any store.
    fn has_tenants(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::object::{ObjectAcl, RestoreRequest, TagSet};
    use crate::object_request::ResponseData;

    /// Records the requests that reach it.
    #[derive(Default)]
    struct Noting(Mutex<Vec<ObjectRequest>>);

    #[async_trait]
    impl Store for Noting {
        async fn send_request(&self, _: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
            self.0.lock().expect("no poison").push(call.clone());
            Ok(ObjectResponse::new(200, ResponseData::Empty))
        }

        async fn list(&self, _: &ListRequest) -> Result<ListPage, StoreError> {
            Ok(ListPage::default())
        }

        async fn bucket_setting(&self, _: &BucketName, _: BucketSetting) -> Result<BucketSettingValue, StoreError> {
            Ok(BucketSettingValue::TagRules(Vec::new()))
        }

        async fn read(&self, _: &BucketName, _: &ObjectKey, _: Option<&str>) -> Result<OpenedObject, StoreError> {
            Err(write_rejected(String::new()))
        }

        async fn write(&self, _: &BucketName, _: &ObjectKey, _: ObjectContent, _: &str) -> Result<(), StoreError> {
            panic!("a write came through")
        }

        fn request_line(&self, _: &ObjectId, _: &ObjectRequest) -> String {
            "PUT http://here/b/k".to_owned()
        }

        fn unsupported_key_reason(&self, _: &ObjectKey) -> Option<&'static str> {
            None
        }
    }

    #[tokio::test]
    async fn lets_only_reads_through() {
        let inner = Arc::new(Noting::default());
        let store = ReadOnlyStore::new(inner.clone());
        let object = ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from("k"), version: None };
        let reads = [ObjectRequest::GetTags, ObjectRequest::GetAcl, ObjectRequest::Head];
        let restore = ObjectRequest::Restore(RestoreRequest { days: Some(1), tier: None });
        let writes = [
            ObjectRequest::PutTags(TagSet::default()),
            ObjectRequest::DeleteTags,
            ObjectRequest::PutAcl(ObjectAcl::Private),
            restore,
        ];
        for call in reads.iter().chain(&writes) {
            let answer = store.send_request(&object, call).await;
            assert_eq!(answer.is_err(), call.is_write(), "{call:?}");
            if let Err(fault) = answer {
                assert_eq!((fault.code.as_str(), fault.class), ("ReadOnly", FaultClass::Rejected));
            }
        }
        let content = ObjectContent::Bytes(Bytes::from_static(b"x"));
        assert!(store.write(&object.bucket, &object.key, content, "").await.is_err());
        assert_eq!(*inner.0.lock().expect("no poison"), reads);
    }

    #[tokio::test]
    async fn rejects_everything_with_the_reason() {
        let store = UnreachableStore::new("no credentials");
        let (bucket, key) = (BucketName::new("bkt"), ObjectKey::from("a b/c"));
        let object = ObjectId { bucket: bucket.clone(), key: key.clone(), version: None };
        let written = store.write(&bucket, &key, ObjectContent::Bytes(Bytes::new()), "").await;
        let called = store.send_request(&object, &ObjectRequest::GetTags).await.map(drop);
        let read = store.read(&bucket, &key, None).await.map(drop);
        let asked = store.bucket_setting(&bucket, BucketSetting::Versioning).await.map(drop);
        let all = [
            (written, "PUT bkt/a%20b/c"),
            (called, "GET bkt/a%20b/c?tagging"),
            (read, "GET bkt/a%20b/c"),
            (asked, "GET bkt/?versioning"),
        ];
        for (refused, endpoint) in all {
            let fault = refused.expect_err("the store is unreachable");
            assert_eq!(
                (fault.to_string().as_str(), fault.request_line.as_str()),
                ("NotConnected: no credentials", endpoint)
            );
            assert!(!fault.class.is_retryable());
        }
    }
}

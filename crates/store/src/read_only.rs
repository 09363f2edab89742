//! A store wrapper that allows only reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use crate::error_code::FaultClass;
use crate::fault::StoreError;
use crate::listing::{ListPage, ListRequest};
use crate::object::{BucketName, ObjectId, ObjectKey};
use crate::object_request::{ContentIdentity, ObjectRequest, ObjectResponse};
use crate::store::{BucketSetting, BucketSettingValue, ObjectContent, OpenedObject, Store};

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
        question: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        self.store.bucket_setting(bucket, question).await
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

    fn untiered_class(&self) -> Option<&'static str> {
        self.store.untiered_class()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;

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
        let restore = ObjectRequest::Restore(RestoreRequest { days: 1, tier: None });
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
}

//! A stand-in for a store that could not be connected to.

use async_trait::async_trait;

use super::{BucketSetting, BucketSettingValue, ListPage, ListRequest, ObjectContent, OpenedObject, Store};
use crate::object::{BucketName, ObjectId, ObjectKey};
use crate::object_request::{ObjectRequest, ObjectResponse};
use crate::task::{FaultClass, StoreError};

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
        question: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        self.reject("GET", bucket, &format!("?{}", question.subresource()))
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
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

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
                (fault.to_string().as_str(), fault.endpoint.as_str()),
                ("NotConnected: no credentials", endpoint)
            );
            assert!(!fault.class.is_retryable());
        }
    }
}

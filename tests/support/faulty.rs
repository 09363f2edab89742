//! A store that misbehaves as servers and networks do, by a seed: errors, throttling, latency and lost answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse};
use batchplan_store::task::{FaultClass, StoreError};
use batchplan_store::{BucketSetting, BucketSettingValue, ListPage, ListRequest, ObjectContent, OpenedObject, Store};

use crate::memory::refused;

/// How often what goes wrong, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// 503 `SlowDown`; nothing is carried out.
    pub(crate) throttled: f64,
    /// A connection that is never made; nothing is carried out.
    pub(crate) unreachable: f64,
    /// The request is carried out, and its answer is lost.
    pub(crate) lost: f64,
    /// 500 before anything is carried out.
    pub(crate) broken: f64,
    /// The longest time that an answer takes.
    pub(crate) latency: Duration,
}

/// Wraps a store.
pub(crate) struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Faults,
    random: Mutex<fastrand::Rng>,
}

impl FaultyStore {
    pub(crate) fn new(inner: Arc<dyn Store>, faults: Faults, seed: u64) -> Arc<Self> {
        Arc::new(Self { inner, faults, random: Mutex::new(fastrand::Rng::with_seed(seed)) })
    }

    fn draw(&self) -> f64 {
        self.random.lock().expect("nobody panicked with it").f64()
    }
}

fn unanswered(class: FaultClass) -> StoreError {
    StoreError::without_response(class, "ConnectionError", "injected", String::new())
}

#[async_trait]
impl Store for FaultyStore {
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        let (fate, delay) = (self.draw(), self.draw());
        tokio::time::sleep(self.faults.latency.mul_f64(delay)).await;
        let Faults { throttled, unreachable, lost, broken, .. } = self.faults;
        if fate < throttled {
            Err(refused(503, "SlowDown", FaultClass::Throttled))
        } else if fate < throttled + unreachable {
            Err(unanswered(FaultClass::Transient))
        } else if fate < throttled + unreachable + broken {
            Err(refused(500, "InternalError", FaultClass::Ambiguous))
        } else {
            let answer = self.inner.send_request(object, call).await;
            if fate < throttled + unreachable + broken + lost { Err(unanswered(FaultClass::Ambiguous)) } else { answer }
        }
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        self.inner.list(request).await
    }

    async fn bucket_setting(
        &self,
        bucket: &BucketName,
        question: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        self.inner.bucket_setting(bucket, question).await
    }

    async fn read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<OpenedObject, StoreError> {
        self.inner.read(bucket, key, if_match).await
    }

    async fn write(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: ObjectContent,
        md5: &str,
    ) -> Result<(), StoreError> {
        self.inner.write(bucket, key, content, md5).await
    }

    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String {
        self.inner.request_line(object, call)
    }

    fn unsupported_key_reason(&self, key: &ObjectKey) -> Option<&'static str> {
        self.inner.unsupported_key_reason(key)
    }
}

//! A store that misbehaves as servers and networks do, by a seed: errors, throttling, latency and lost answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use batchplan::call::{Call, Reply};
use batchplan::object::{Bucket, Key, ObjectId};
use batchplan::store::{BucketFact, BucketQuestion, Content, ListPage, ListRequest, Opened, Store};
use batchplan::task::{Fault, FaultClass};

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

fn unanswered(class: FaultClass) -> Fault {
    Fault::unanswered(class, "ConnectionError", "injected", String::new())
}

#[async_trait]
impl Store for FaultyStore {
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
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
            let answer = self.inner.call(object, call).await;
            if fate < throttled + unreachable + broken + lost { Err(unanswered(FaultClass::Ambiguous)) } else { answer }
        }
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        self.inner.list(request).await
    }

    async fn bucket(&self, bucket: &Bucket, question: BucketQuestion) -> Result<BucketFact, Fault> {
        self.inner.bucket(bucket, question).await
    }

    async fn read(&self, bucket: &Bucket, key: &Key, if_match: Option<&str>) -> Result<Opened, Fault> {
        self.inner.read(bucket, key, if_match).await
    }

    async fn write(&self, bucket: &Bucket, key: &Key, content: Content, md5: &str) -> Result<(), Fault> {
        self.inner.write(bucket, key, content, md5).await
    }

    fn request_url(&self, object: &ObjectId, call: &Call) -> String {
        self.inner.request_url(object, call)
    }

    fn refuses_key(&self, key: &Key) -> Option<&'static str> {
        self.inner.refuses_key(key)
    }
}

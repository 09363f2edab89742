//! A store wrapper that allows only reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::{BucketFact, BucketQuestion, Content, ListPage, ListRequest, Opened, Store};
use crate::call::{Call, ContentMark, Reply};
use crate::object::{Bucket, Key, ObjectId};
use crate::task::{Fault, FaultClass};

/// Passes reads through, and rejects writes before they are sent. A command that only reads cannot change anything,
/// even if it has a bug.
pub struct ReadOnly {
    store: Arc<dyn Store>,
    lists: AtomicU64,
    reads: AtomicU64,
}

impl ReadOnly {
    /// Wraps a store and blocks all writes to it.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, lists: AtomicU64::new(0), reads: AtomicU64::new(0) }
    }

    /// Returns the number of listing pages and the number of object reads requested so far.
    #[must_use]
    pub fn asked(&self) -> (u64, u64) {
        (self.lists.load(Ordering::Relaxed), self.reads.load(Ordering::Relaxed))
    }
}

fn refused(url: String) -> Fault {
    let message = "a request that writes was not sent: this command only reads, so that this is a mistake of its own";
    Fault::unanswered(FaultClass::Rejected, "ReadOnly", message, url)
}

#[async_trait]
impl Store for ReadOnly {
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        if call.writes() {
            return Err(refused(self.store.request_url(object, call)));
        }
        self.store.call(object, call).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.store.list(request).await
    }

    async fn bucket(&self, bucket: &Bucket, question: BucketQuestion) -> Result<BucketFact, Fault> {
        self.store.bucket(bucket, question).await
    }

    async fn read(&self, bucket: &Bucket, key: &Key, if_match: Option<&str>) -> Result<Opened, Fault> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.read(bucket, key, if_match).await
    }

    async fn read_on(&self, bucket: &Bucket, key: &Key, etag: &str, from: u64) -> Result<Opened, Fault> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.read_on(bucket, key, etag, from).await
    }

    async fn write(&self, bucket: &Bucket, key: &Key, _: Content, _: &str) -> Result<(), Fault> {
        Err(refused(format!("PUT {bucket}/{key}")))
    }

    fn request_url(&self, object: &ObjectId, call: &Call) -> String {
        self.store.request_url(object, call)
    }

    fn body_mark(&self, call: &Call) -> ContentMark {
        self.store.body_mark(call)
    }

    fn refuses_key(&self, key: &Key) -> Option<&'static str> {
        self.store.refuses_key(key)
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
    use crate::call::{CallKind, Learned};
    use crate::object::{Acl, RestoreRequest, TagSet};

    /// Records the requests that reach it.
    #[derive(Default)]
    struct Noting(Mutex<Vec<Call>>);

    #[async_trait]
    impl Store for Noting {
        async fn call(&self, _: &ObjectId, call: &Call) -> Result<Reply, Fault> {
            self.0.lock().expect("no poison").push(call.clone());
            Ok(Reply::new(200, Learned::Nothing))
        }

        async fn list(&self, _: &ListRequest) -> Result<ListPage, Fault> {
            Ok(ListPage::default())
        }

        async fn bucket(&self, _: &Bucket, _: BucketQuestion) -> Result<BucketFact, Fault> {
            Ok(BucketFact::TagRules(Vec::new()))
        }

        async fn read(&self, _: &Bucket, _: &Key, _: Option<&str>) -> Result<Opened, Fault> {
            Err(refused(String::new()))
        }

        async fn write(&self, _: &Bucket, _: &Key, _: Content, _: &str) -> Result<(), Fault> {
            panic!("a write came through")
        }

        fn request_url(&self, _: &ObjectId, _: &Call) -> String {
            "PUT http://here/b/k".to_owned()
        }

        fn refuses_key(&self, _: &Key) -> Option<&'static str> {
            None
        }
    }

    #[tokio::test]
    async fn only_what_reads_comes_through() {
        let inner = Arc::new(Noting::default());
        let store = ReadOnly::new(inner.clone());
        let object = ObjectId { bucket: Bucket::new("b"), key: Key::from("k"), version: None };
        let reads = [Call::GetTags, Call::GetAcl, Call::Head];
        let restore = Call::Restore(RestoreRequest { days: 1, tier: None });
        let writes = [Call::PutTags(TagSet::default()), Call::DeleteTags, Call::PutAcl(Acl::Private), restore];
        assert_eq!(reads.len() + writes.len(), CallKind::ALL.len());
        for call in reads.iter().chain(&writes) {
            let answer = store.call(&object, call).await;
            assert_eq!(answer.is_err(), call.writes(), "{call:?}");
            if let Err(fault) = answer {
                assert_eq!((fault.code.as_str(), fault.class), ("ReadOnly", FaultClass::Rejected));
            }
        }
        let content = Content::Bytes(Bytes::from_static(b"x"));
        assert!(store.write(&object.bucket, &object.key, content, "").await.is_err());
        assert_eq!(*inner.0.lock().expect("no poison"), reads);
    }
}

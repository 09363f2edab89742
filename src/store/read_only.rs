//! A store that is only read, whatever is asked of it.

use std::sync::Arc;

use async_trait::async_trait;

use super::{BucketFact, BucketQuestion, Content, ListPage, ListRequest, Opened, Store};
use crate::call::{Call, Reply};
use crate::object::{Bucket, Key, ObjectId};
use crate::task::{Fault, FaultClass};

/// Hands on what changes nothing, and refuses the rest itself: what looks at a store cannot change it by mistake.
pub struct ReadOnly {
    store: Arc<dyn Store>,
}

impl ReadOnly {
    /// Only reads this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    fn refusal(request: String) -> Fault {
        let why = "batchplan did not send this request: it only looks here, and this would change something";
        Fault::unanswered(FaultClass::Rejected, "ReadOnly", why, request)
    }
}

#[async_trait]
impl Store for ReadOnly {
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        if call.writes() {
            return Err(Self::refusal(self.store.request_url(object, call)));
        }
        self.store.call(object, call).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        self.store.list(request).await
    }

    async fn bucket(&self, bucket: &Bucket, question: BucketQuestion) -> Result<BucketFact, Fault> {
        self.store.bucket(bucket, question).await
    }

    async fn read(&self, bucket: &Bucket, key: &Key, if_match: Option<&str>) -> Result<Opened, Fault> {
        self.store.read(bucket, key, if_match).await
    }

    async fn write(&self, bucket: &Bucket, key: &Key, _: Content, _: &str) -> Result<(), Fault> {
        Err(Self::refusal(format!("PUT {bucket}/{}", key.encoded_keeping_slashes())))
    }

    fn request_url(&self, object: &ObjectId, call: &Call) -> String {
        self.store.request_url(object, call)
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
    use bytes::Bytes;

    use super::*;
    use crate::object::{Acl, RestoreRequest, TagSet};
    use crate::store::Unreachable;

    #[tokio::test]
    async fn what_changes_something_is_refused_here_and_the_rest_is_handed_on() {
        // Whatever is handed on is told from what is not by who refuses it.
        let store = ReadOnly::new(Arc::new(Unreachable::new("nobody")));
        let (bucket, key) = (Bucket::new("bkt"), Key::from("k"));
        let object = ObjectId { bucket: bucket.clone(), key: key.clone(), version: None };
        let restore = RestoreRequest { days: 1, tier: None };
        for (call, code) in [
            (Call::GetTags, "NotConnected"),
            (Call::GetAcl, "NotConnected"),
            (Call::Head, "NotConnected"),
            (Call::PutTags(TagSet::default()), "ReadOnly"),
            (Call::DeleteTags, "ReadOnly"),
            (Call::PutAcl(Acl::Private), "ReadOnly"),
            (Call::Restore(restore), "ReadOnly"),
        ] {
            let fault = store.call(&object, &call).await.expect_err("nobody answers");
            assert_eq!(fault.code, code, "{call:?}");
            assert!(!fault.class.may_pass());
        }
        let written = store.write(&bucket, &key, Content::Bytes(Bytes::new()), "").await.expect_err("refused");
        assert_eq!((written.code.as_str(), written.endpoint.as_str()), ("ReadOnly", "PUT bkt/k"));
        let read = store.read(&bucket, &key, None).await.map(drop).expect_err("nobody answers");
        let asked = store.bucket(&bucket, BucketQuestion::Versioning).await.expect_err("nobody answers");
        assert_eq!((read.code.as_str(), asked.code.as_str()), ("NotConnected", "NotConnected"));
    }
}

//! A stand-in for a store that could not be connected to.

use async_trait::async_trait;

use super::{BucketFact, BucketQuestion, Content, ListPage, ListRequest, Opened, Store};
use crate::call::{Call, Reply};
use crate::object::{Bucket, Key, ObjectId};
use crate::task::{Fault, FaultClass};

/// A store that rejects every request with the reason why there is no connection. It allows local work to continue
/// without a store.
#[derive(Clone, Debug)]
pub struct Unreachable {
    why: String,
}

impl Unreachable {
    /// Creates a store that rejects all requests for this reason.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }

    fn refusal(&self, request: String) -> Fault {
        Fault::unanswered(FaultClass::Rejected, "NotConnected", &self.why, request)
    }

    fn refused<T>(&self, method: &str, bucket: &Bucket, key: &str) -> Result<T, Fault> {
        Err(self.refusal(format!("{method} {bucket}/{key}")))
    }
}

#[async_trait]
impl Store for Unreachable {
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        Err(self.refusal(self.request_url(object, call)))
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        self.refused("GET", &request.bucket, "")
    }

    async fn bucket(&self, bucket: &Bucket, question: BucketQuestion) -> Result<BucketFact, Fault> {
        self.refused("GET", bucket, &format!("?{}", question.resource()))
    }

    async fn read(&self, bucket: &Bucket, key: &Key, _: Option<&str>) -> Result<Opened, Fault> {
        self.refused("GET", bucket, &key.encoded_keeping_slashes())
    }

    async fn write(&self, bucket: &Bucket, key: &Key, _: Content, _: &str) -> Result<(), Fault> {
        self.refused("PUT", bucket, &key.encoded_keeping_slashes())
    }

    fn request_url(&self, object: &ObjectId, call: &Call) -> String {
        let (method, resource) = call.request();
        let query = if resource.is_empty() { "" } else { "?" };
        format!("{method} {}/{}{query}{resource}", object.bucket, object.key.encoded_keeping_slashes())
    }

    fn refuses_key(&self, _: &Key) -> Option<&'static str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn it_refuses_everything_for_good_and_says_why() {
        let store = Unreachable::new("no credentials");
        let (bucket, key) = (Bucket::new("bkt"), Key::from("a b/c"));
        let object = ObjectId { bucket: bucket.clone(), key: key.clone(), version: None };
        let written = store.write(&bucket, &key, Content::Bytes(Bytes::new()), "").await;
        let called = store.call(&object, &Call::GetTags).await.map(drop);
        let read = store.read(&bucket, &key, None).await.map(drop);
        let asked = store.bucket(&bucket, BucketQuestion::Versioning).await.map(drop);
        let all = [
            (written, "PUT bkt/a%20b/c"),
            (called, "GET bkt/a%20b/c?tagging"),
            (read, "GET bkt/a%20b/c"),
            (asked, "GET bkt/?versioning"),
        ];
        for (refused, endpoint) in all {
            let fault = refused.expect_err("nobody is there");
            assert_eq!(
                (fault.to_string().as_str(), fault.endpoint.as_str()),
                ("NotConnected: no credentials", endpoint)
            );
            assert!(!fault.class.may_pass());
        }
    }
}

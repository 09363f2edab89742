//! A store that holds what a target puts into it.

use std::collections::BTreeMap;
use std::io::Cursor;

use async_trait::async_trait;
use batchplan::call::{Call, Reply};
use batchplan::object::{Bucket, Key, ObjectId};
use batchplan::store::{BucketFact, BucketQuestion, Content, ListPage, ListRequest, Opened, Store};
use batchplan::task::{Fault, FaultClass};
use md5::{Digest as _, Md5};

/// Objects of any bucket, by their keys.
pub(super) struct Shelf(pub(super) BTreeMap<String, Vec<u8>>);

/// The `ETag` of an object.
pub(super) fn etag(content: &[u8]) -> String {
    batchplan::hex::hex(&Md5::digest(content))
}

fn missing() -> Fault {
    let fault = Fault::unanswered(FaultClass::Rejected, "NoSuchKey", "there is no such object", "GET shelf".to_owned());
    Fault { status: Some(404), ..fault }
}

#[async_trait]
impl Store for Shelf {
    async fn call(&self, _: &ObjectId, _: &Call) -> Result<Reply, Fault> {
        Err(missing())
    }

    async fn list(&self, _: &ListRequest) -> Result<ListPage, Fault> {
        Ok(ListPage::default())
    }

    async fn bucket(&self, _: &Bucket, _: BucketQuestion) -> Result<BucketFact, Fault> {
        Err(missing())
    }

    async fn read(&self, _: &Bucket, key: &Key, _: Option<&str>) -> Result<Opened, Fault> {
        let content = self.0.get(&key.to_string()).ok_or_else(missing)?.clone();
        Ok(Opened { etag: etag(&content), size: content.len() as u64, body: Box::new(Cursor::new(content)) })
    }

    async fn write(&self, _: &Bucket, _: &Key, _: Content, _: &str) -> Result<(), Fault> {
        Err(missing())
    }

    fn request_url(&self, object: &ObjectId, _: &Call) -> String {
        format!("GET shelf/{}", object.key)
    }

    fn refuses_key(&self, _: &Key) -> Option<&'static str> {
        None
    }
}

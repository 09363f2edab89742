//! A store that holds what a target puts into it.

use std::collections::BTreeMap;
use std::io::Cursor;

use async_trait::async_trait;
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse};
use batchplan_store::task::{FaultClass, StoreError};
use batchplan_store::{BucketSetting, BucketSettingValue, ListPage, ListRequest, ObjectContent, OpenedObject, Store};
use md5::{Digest as _, Md5};

/// Objects of any bucket, by their keys.
pub(super) struct Shelf(pub(super) BTreeMap<String, Vec<u8>>);

/// The `ETag` of an object.
pub(super) fn etag(content: &[u8]) -> String {
    batchplan_store::hex::hex(&Md5::digest(content))
}

fn missing() -> StoreError {
    let fault = StoreError::without_response(
        FaultClass::Rejected,
        "NoSuchKey",
        "there is no such object",
        "GET shelf".to_owned(),
    );
    StoreError { status: Some(404), ..fault }
}

#[async_trait]
impl Store for Shelf {
    async fn send_request(&self, _: &ObjectId, _: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        Err(missing())
    }

    async fn list(&self, _: &ListRequest) -> Result<ListPage, StoreError> {
        Ok(ListPage::default())
    }

    async fn bucket_setting(&self, _: &BucketName, _: BucketSetting) -> Result<BucketSettingValue, StoreError> {
        Err(missing())
    }

    async fn read(&self, _: &BucketName, key: &ObjectKey, _: Option<&str>) -> Result<OpenedObject, StoreError> {
        let content = self.0.get(&key.to_string()).ok_or_else(missing)?.clone();
        Ok(OpenedObject { etag: etag(&content), size: content.len() as u64, body: Box::new(Cursor::new(content)) })
    }

    async fn write(&self, _: &BucketName, _: &ObjectKey, _: ObjectContent, _: &str) -> Result<(), StoreError> {
        Err(missing())
    }

    fn request_line(&self, object: &ObjectId, _: &ObjectRequest) -> String {
        format!("GET shelf/{}", object.key)
    }

    fn unsupported_key_reason(&self, _: &ObjectKey) -> Option<&'static str> {
        None
    }
}

//! A store that answers as a test says, object by object.

use std::sync::Arc;

use async_trait::async_trait;
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse, ResponseData};
use batchplan_store::task::StoreError;
use batchplan_store::{BucketSetting, BucketSettingValue, ListPage, ListRequest, ObjectContent, OpenedObject, Store};

use crate::memory::MemoryStore;

/// What becomes of a request.
pub(crate) enum Scene {
    /// The store carries it out.
    Plays,
    /// It is answered so, and nothing is carried out.
    Answers(Result<ObjectResponse, StoreError>),
    /// No answer ever comes.
    Hangs,
}

impl Scene {
    /// It is done, they say.
    pub(crate) fn done() -> Self {
        Self::Answers(Ok(ObjectResponse::new(200, ResponseData::Empty)))
    }
}

/// Answers by a script.
pub(crate) struct Scripted<S> {
    store: Arc<MemoryStore>,
    script: S,
}

impl<S: Fn(&ObjectId) -> Scene + Send + Sync + 'static> Scripted<S> {
    pub(crate) fn new(store: &Arc<MemoryStore>, script: S) -> Arc<Self> {
        Arc::new(Self { store: store.clone(), script })
    }
}

#[async_trait]
impl<S: Fn(&ObjectId) -> Scene + Send + Sync + 'static> Store for Scripted<S> {
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        match (self.script)(object) {
            Scene::Plays => self.store.send_request(object, call).await,
            Scene::Answers(answer) => answer,
            Scene::Hangs => std::future::pending().await,
        }
    }

    async fn list(&self, _: &ListRequest) -> Result<ListPage, StoreError> {
        unreachable!("objects are only changed")
    }

    async fn bucket_setting(&self, _: &BucketName, _: BucketSetting) -> Result<BucketSettingValue, StoreError> {
        unreachable!("objects are only changed")
    }

    async fn read(&self, _: &BucketName, _: &ObjectKey, _: Option<&str>) -> Result<OpenedObject, StoreError> {
        unreachable!("objects are only changed")
    }

    async fn write(&self, _: &BucketName, _: &ObjectKey, _: ObjectContent, _: &str) -> Result<(), StoreError> {
        unreachable!("objects are only changed")
    }

    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String {
        self.store.request_line(object, call)
    }

    fn unsupported_key_reason(&self, _: &ObjectKey) -> Option<&'static str> {
        None
    }
}

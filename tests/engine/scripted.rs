//! A store that answers as a test says, object by object.

use std::sync::Arc;

use async_trait::async_trait;
use batchplan::call::{Call, Learned, Reply};
use batchplan::object::{Bucket, Key, ObjectId};
use batchplan::store::{BucketFact, BucketQuestion, Content, ListPage, ListRequest, Opened, Store};
use batchplan::task::Fault;

use crate::memory::MemoryStore;

/// What becomes of a request.
pub(crate) enum Scene {
    /// The store carries it out.
    Plays,
    /// It is answered so, and nothing is carried out.
    Answers(Result<Reply, Fault>),
    /// No answer ever comes.
    Hangs,
}

impl Scene {
    /// It is done, they say.
    pub(crate) fn done() -> Self {
        Self::Answers(Ok(Reply::new(200, Learned::Nothing)))
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
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        match (self.script)(object) {
            Scene::Plays => self.store.call(object, call).await,
            Scene::Answers(answer) => answer,
            Scene::Hangs => std::future::pending().await,
        }
    }

    async fn list(&self, _: &ListRequest) -> Result<ListPage, Fault> {
        unreachable!("objects are only changed")
    }

    async fn bucket(&self, _: &Bucket, _: BucketQuestion) -> Result<BucketFact, Fault> {
        unreachable!("objects are only changed")
    }

    async fn read(&self, _: &Bucket, _: &Key, _: Option<&str>) -> Result<Opened, Fault> {
        unreachable!("objects are only changed")
    }

    async fn write(&self, _: &Bucket, _: &Key, _: Content, _: &str) -> Result<(), Fault> {
        unreachable!("objects are only changed")
    }

    fn request_url(&self, object: &ObjectId, call: &Call) -> String {
        self.store.request_url(object, call)
    }

    fn refuses_key(&self, _: &Key) -> Option<&'static str> {
        None
    }
}

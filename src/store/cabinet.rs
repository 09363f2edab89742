//! Conditional writes and deletes, which state kept in a bucket needs in addition to [`Store`].

use async_trait::async_trait;
use bytes::Bytes;

use super::Store;
use crate::object::{Bucket, Key};
use crate::task::Fault;

/// The outcome of creating an object that must not exist yet.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object was created.
    New,
    /// An object with this key already exists. It is unchanged.
    Taken,
    /// Another request for the same key was in progress, and nothing was written. The object may or may not exist.
    /// Retry.
    Conflict,
}

/// A store that can also create objects conditionally, and delete them.
#[async_trait]
pub trait Cabinet: Store {
    /// Creates an object, unless its key already exists. A server that ignores the condition may overwrite an
    /// existing object.
    async fn create(&self, bucket: &Bucket, key: &Key, content: Bytes) -> Result<Created, Fault>;

    /// Deletes an object. Succeeds if the object does not exist.
    async fn remove(&self, bucket: &Bucket, key: &Key) -> Result<(), Fault>;
}

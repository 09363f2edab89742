//! Conditional writes and deletes, which state kept in a bucket needs in addition to [`Store`].

use async_trait::async_trait;
use bytes::Bytes;

use super::Store;
use crate::object::{BucketName, ObjectKey};
use crate::task::StoreError;

/// The outcome of creating an object that must not exist yet.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionalPutOutcome {
    /// The object was created.
    Created,
    /// An object with this key already exists. It is unchanged.
    AlreadyExists,
    /// Another request for the same key was in progress, and nothing was written. The object may or may not exist.
    /// Retry.
    Conflict,
}

/// A store that can also create objects conditionally, and delete them.
#[async_trait]
pub trait ConditionalPut: Store {
    /// Creates an object, unless its key already exists. A server that ignores the condition may overwrite an
    /// existing object.
    async fn put_if_absent(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: Bytes,
    ) -> Result<ConditionalPutOutcome, StoreError>;

    /// Deletes an object. Succeeds if the object does not exist.
    async fn delete(&self, bucket: &BucketName, key: &ObjectKey) -> Result<(), StoreError>;
}

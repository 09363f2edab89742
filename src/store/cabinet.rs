//! What keeping things in a store takes besides reading and writing: a name for whoever comes first, and clearing away.

use async_trait::async_trait;
use bytes::Bytes;

use super::Store;
use crate::object::{Bucket, Key};
use crate::task::Fault;

/// What became of an object that was to be made.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    New,
    /// There is one of that name already; it is as it was.
    Taken,
    /// The store was busy with that name and did nothing: there may be one, or none. It may be asked again.
    Conflict,
}

/// A store that things are kept in.
#[async_trait]
pub trait Cabinet: Store {
    /// Makes an object, unless there is one of its name. A server that does not know the condition may replace it
    /// nevertheless.
    async fn create(&self, bucket: &Bucket, key: &Key, content: Bytes) -> Result<Created, Fault>;

    /// Removes an object; one that is not there is as good as removed.
    async fn remove(&self, bucket: &Bucket, key: &Key) -> Result<(), Fault>;
}

//! Access to object storage: the [`Store`] trait and its implementations. No other module talks to a store.
//!
//! A store sends exactly one request per call and never retries, so that the caller sees, counts and rate-limits
//! every attempt. Each error is classified once, in this module, by what the caller must do
//! ([`FaultClass`](crate::task::FaultClass)).

mod cabinet;
mod config;
mod connect;
mod credentials;
mod cursor;
mod fault;
mod oss;
mod read_only;
mod redact;
mod s3;
pub mod sandbox;
mod setting;
mod site;
mod unreachable;
pub mod wire;
mod xml;

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::AsyncRead;

use crate::call::{Call, ContentMark, Reply};
use crate::object::{Bucket, Key, ObjectId, StorageClass, VersionId};
use crate::task::{Fault, FaultClass};

pub use cabinet::{Cabinet, Created};
pub use config::{Addressing, Provider, StoreConfig};
pub use connect::{ConnectError, Connection, connect};
pub use cursor::ListCursor;
pub use oss::OssStore;
pub use read_only::ReadOnly;
pub use s3::S3Store;
pub use setting::{BucketFact, BucketQuestion, Ownership, TagRule, Versioning};
pub use unreachable::Unreachable;

/// An object store, with the operations that batch plans need.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Sends one request for one object. Returns `Ok` for every 2xx response.
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault>;

    /// Reads one page of a bucket's listing.
    async fn list(&self, request: &ListRequest) -> Result<ListPage, Fault>;

    /// Reads one setting of a bucket. A setting that is not set is a value, not an error.
    async fn bucket(&self, bucket: &Bucket, question: BucketQuestion) -> Result<BucketFact, Fault>;

    /// Opens an object for reading. With `if_match`, returns an error with status 412 if the object no longer has
    /// that `ETag`.
    async fn read(&self, bucket: &Bucket, key: &Key, if_match: Option<&str>) -> Result<Opened, Fault>;

    /// Resumes a read at byte `from`, as long as the object still has this `ETag`. Use it after a read that broke
    /// off. A store that does not support this returns an error.
    async fn read_on(&self, bucket: &Bucket, key: &Key, etag: &str, from: u64) -> Result<Opened, Fault> {
        let (_, request) = (etag, format!("GET {bucket}/{key}"));
        let why = format!("this store cannot be read on from byte {from}");
        Err(Fault::unanswered(FaultClass::Rejected, "NotImplemented", &why, request))
    }

    /// Writes a whole object. `md5` is the MD5 of the content in base64, which the server verifies.
    async fn write(&self, bucket: &Bucket, key: &Key, content: Content, md5: &str) -> Result<(), Fault>;

    /// Returns the method and the URL of a request, in the form used in reports:
    /// `PUT http://host/bucket/key?tagging`.
    fn request_url(&self, object: &ObjectId, call: &Call) -> String;

    /// Returns the `ETag` and size that HEAD would report for an object whose content is the body of this request.
    /// Returns an empty [`ContentMark`] if the request has no body.
    fn body_mark(&self, _call: &Call) -> ContentMark {
        ContentMark::default()
    }

    /// Returns why this store's API cannot address a key, or `None` if it can.
    fn refuses_key(&self, key: &Key) -> Option<&'static str>;

    /// Returns the storage class that supports only one restore speed and no tier, if the store has one.
    fn untiered_class(&self) -> Option<&'static str> {
        None
    }
}

/// The maximum length of an `ETag` that is kept from a listing, in bytes. Those of AWS and OSS have up to 40.
pub const MAX_ETAG: usize = 1024;

/// A request for one page of a listing.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// The bucket to list.
    pub bucket: Bucket,
    /// Lists only keys with this prefix.
    pub prefix: Key,
    /// Whether to list all versions instead of only the current ones.
    pub all_versions: bool,
    /// Whether to roll up keys into `prefixes`, at the first `/` after the prefix.
    pub directories: bool,
    /// Where the page starts: `next` of the previous page, any key, or `None` for the start of the listing.
    pub from: Option<ListMark>,
}

/// A position at which a listing continues.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListMark {
    /// The server's continuation token (current versions only).
    Token(String),
    /// After this key, including all of its versions if no version is given. A listing of current versions can start
    /// here in the middle of a bucket (`start-after`) and then also continues here. A listing of all versions always
    /// continues here.
    After {
        /// The key marker, in UTF-8. The key does not need to exist.
        key: Key,
        /// The version marker, if a listing of all versions stopped between two versions of a key.
        version: Option<VersionId>,
    },
}

/// One page of a listing, in the server's order.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// The objects, without delete markers.
    pub entries: Vec<Listed>,
    /// With `directories`: the rolled-up prefixes, each ending in `/`.
    pub prefixes: Vec<Key>,
    /// In a listing of all versions: the delete marker at the end of the page, if the page ends with one.
    pub deleted_last: Option<(Key, VersionId)>,
    /// Where the listing continues according to the server, or `None` on the last page. [`ListCursor`] makes the
    /// decision.
    pub next: Option<ListMark>,
}

impl ListPage {
    /// Returns all names on the page: keys, prefixes and the trailing delete marker.
    fn names(&self) -> impl Iterator<Item = &Key> {
        let deleted = self.deleted_last.iter().map(|(key, _)| key);
        self.entries.iter().map(|entry| &entry.key).chain(&self.prefixes).chain(deleted)
    }

    /// Returns the position after the last entry of the page, including delete markers, or `None` if the page has no
    /// entries.
    fn last_received(&self) -> Option<ListMark> {
        let deleted = self.deleted_last.clone().map(|(key, version)| (key, Some(version)));
        let last = deleted.or_else(|| self.entries.last().map(|entry| (entry.key.clone(), entry.version.clone())));
        last.map(|(key, version)| ListMark::After { key, version })
    }
}

/// One object in a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The key, decoded.
    pub key: Key,
    /// The version, in a listing of all versions.
    pub version: Option<VersionId>,
    /// The size in bytes.
    pub size: u64,
    /// The time of the last write.
    pub modified: Timestamp,
    /// The storage class, by the server's name.
    pub class: StorageClass,
    /// The `ETag` without quotes, if the listing contains it and it has at most [`MAX_ETAG`] bytes.
    pub etag: Option<Box<str>>,
}

/// An object opened for reading.
pub struct Opened {
    /// The `ETag` without quotes.
    pub etag: String,
    /// The number of bytes in `body`: the whole object, or the rest for a resumed read. 0 if the server sent no
    /// length.
    pub size: u64,
    /// The content, streamed.
    pub body: Box<dyn AsyncRead + Send + Unpin>,
}

/// The content of an object to write.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A file, streamed from disk.
    File(PathBuf),
}

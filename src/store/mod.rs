//! The only door to object storage: one small port, and every store behind it.
//!
//! A store sends exactly one request for each call and never retries: whoever calls it sees, counts and paces every
//! attempt. Errors are classified once, here, into what the caller must do ([`FaultClass`](crate::task::FaultClass)).

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

/// An object store, as far as batch plans need one.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Sends one request about one object. Any 2xx answer is `Ok`.
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault>;

    /// Reads one page of a bucket's listing.
    async fn list(&self, request: &ListRequest) -> Result<ListPage, Fault>;

    /// Asks for one of a bucket's settings. That there is none is an answer, and no fault.
    async fn bucket(&self, bucket: &Bucket, question: BucketQuestion) -> Result<BucketFact, Fault>;

    /// Opens an object for reading; with `if_match`, only while its `ETag` is still that one (otherwise a fault with
    /// status 412).
    async fn read(&self, bucket: &Bucket, key: &Key, if_match: Option<&str>) -> Result<Opened, Fault>;

    /// Reads an object on from a byte of it, while its `ETag` is still this one: for a read that has broken off. A store
    /// that cannot do that refuses.
    async fn read_on(&self, bucket: &Bucket, key: &Key, etag: &str, from: u64) -> Result<Opened, Fault> {
        let (_, request) = (etag, format!("GET {bucket}/{key}"));
        let why = format!("this store cannot be read on from byte {from}");
        Err(Fault::unanswered(FaultClass::Rejected, "NotImplemented", &why, request))
    }

    /// Writes an object whole. `md5` is the base64 digest that the server checks the content against.
    async fn write(&self, bucket: &Bucket, key: &Key, content: Content, md5: &str) -> Result<(), Fault>;

    /// How reports name the request that a call becomes: its method and its URL, as in `PUT http://host/bucket/key?tagging`.
    fn request_url(&self, object: &ObjectId, call: &Call) -> String;

    /// What HEAD would say of an object whose content is the body of this request; nothing where it has none to send.
    fn body_mark(&self, _call: &Call) -> ContentMark {
        ContentMark::default()
    }

    /// Why this store's API cannot carry a key, where it cannot.
    fn refuses_key(&self, key: &Key) -> Option<&'static str>;

    /// The storage class whose restores are all alike and name no tier, where the store has one.
    fn untiered_class(&self) -> Option<&'static str> {
        None
    }
}

/// The longest `ETag` of a listing that is kept, in bytes; those of AWS and OSS have up to forty.
pub const MAX_ETAG: usize = 1024;

/// Which page of which listing.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// The bucket.
    pub bucket: Bucket,
    /// Only keys that begin so.
    pub prefix: Key,
    /// Whether to list every version or the current ones.
    pub all_versions: bool,
    /// Where set, keys are rolled up into `prefixes` after the first `/` behind the prefix.
    pub directories: bool,
    /// Where to go on: `next` of the page before, or after any key at all.
    pub from: Option<ListMark>,
}

/// Where a listing goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListMark {
    /// The server's own continuation token (current versions).
    Token(String),
    /// After this key; all of its versions where no version is given. What a listing of current versions is begun with
    /// in mid-bucket (`start-after`) and then continues with, and what one of all versions continues with.
    After {
        /// The key marker; UTF-8, whether or not there is such a key.
        key: Key,
        /// The version marker, in a listing of all versions that stopped between two of a key.
        version: Option<VersionId>,
    },
}

/// One page of a listing, in the server's order.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// The objects; delete markers are left out.
    pub entries: Vec<Listed>,
    /// With `directories`: what was rolled up, each ending in `/`.
    pub prefixes: Vec<Key>,
    /// In a listing of all versions: the delete marker that the page ends with, where it ends with one.
    pub deleted_last: Option<(Key, VersionId)>,
    /// Where the server says that the listing continues, unless this was the last page. [`ListCursor`] decides.
    pub next: Option<ListMark>,
}

impl ListPage {
    /// All that the page names, as far as it is kept.
    fn names(&self) -> impl Iterator<Item = &Key> {
        let deleted = self.deleted_last.iter().map(|(key, _)| key);
        self.entries.iter().map(|entry| &entry.key).chain(&self.prefixes).chain(deleted)
    }

    /// After the last entry of the page, delete markers included; `None` where the page has none.
    fn last_received(&self) -> Option<ListMark> {
        let deleted = self.deleted_last.clone().map(|(key, version)| (key, Some(version)));
        let last = deleted.or_else(|| self.entries.last().map(|entry| (entry.key.clone(), entry.version.clone())));
        last.map(|(key, version)| ListMark::After { key, version })
    }
}

/// One object of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The key, decoded.
    pub key: Key,
    /// The version, when versions were asked for.
    pub version: Option<VersionId>,
    /// Bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: Timestamp,
    /// Its storage class.
    pub class: StorageClass,
    /// Its `ETag` without quotes, where the listing says it in at most [`MAX_ETAG`] bytes.
    pub etag: Option<Box<str>>,
}

/// An object opened for reading.
pub struct Opened {
    /// Its `ETag` without quotes.
    pub etag: String,
    /// Its bytes.
    pub size: u64,
    /// The content.
    pub body: Box<dyn AsyncRead + Send + Unpin>,
}

/// What to write.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A file, streamed.
    File(PathBuf),
}

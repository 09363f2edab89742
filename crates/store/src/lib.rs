//! The object storage client of batchplan: the [`Store`] trait, and its implementations for S3 and OSS.
//!
//! A store sends exactly one request per call and never retries, so that the caller sees, counts and rate-limits
//! every attempt. Each error is classified once, in this crate, by what the caller must do
//! ([`FaultClass`]).
//!
//! | module | contents |
//! |---|---|
//! | [`object`] | buckets, keys, versions, tags, ACLs, and what is known about an object |
//! | [`object_request`] | the requests for one object, and their responses |
//! | [`task`] | one object on its way through a job: its row, its outcome, its fault |
//! | [`backoff`], [`timeouts`] | when a request is sent again, and how long a server may take |
//! | `s3`, `oss` | the two implementations |
//! | [`http_client`] | the HTTP client that both send their requests with |
//! | `credentials` | where credentials come from, and how they are checked |
//! | `fault`, `redact` | classifies errors, and removes secrets from their texts |
//! | `provider` | what the client knows about each provider, one file each |
//! | `endpoint`, `config`, `connect` | where a store is, and connecting to it |
//! | `read_only`, `unreachable` | stores that refuse writes, or everything |
//! | [`web`] | requests to other servers: STS, webhooks, GitHub |
//! | [`hex`], [`printable`], [`variants`], `xml` | encodings, safe text, enums with all their variants, XML |

pub mod backoff;
mod bucket_setting;
mod config;
mod connect;
mod credentials;
mod cursor;
mod endpoint;
mod fault;
pub mod hex;
pub mod http_client;
pub mod object;
pub mod object_request;
mod oss;
pub mod printable;
mod provider;
mod read_only;
mod redact;
mod s3;
pub mod task;
pub mod timeouts;
mod unreachable;
pub mod variants;
pub mod web;
mod xml;

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::AsyncRead;

use crate::object::{BucketName, ObjectId, ObjectKey, StorageClass, VersionId};
use crate::object_request::{ContentIdentity, ObjectRequest, ObjectResponse};
use crate::task::{FaultClass, StoreError};

pub use bucket_setting::{BucketSetting, BucketSettingValue, BucketVersioning, OwnershipSetting, TagLifecycleRule};
pub use config::{AddressingStyle, StoreConfig};
pub use connect::{StoreConnectError, connect, connect_with_keys};
pub use cursor::ListCursor;
pub use oss::OssStore;
pub use provider::{EndpointSource, ProviderProfile, RegionSource, StoreProvider};
pub use read_only::ReadOnlyStore;
pub use s3::S3Store;
pub use unreachable::UnreachableStore;

/// An object store, with the operations that batch plans need.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Sends one request for one object. Returns `Ok` for every 2xx response.
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError>;

    /// Reads one page of a bucket's listing.
    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError>;

    /// Reads one setting of a bucket. A setting that is not set is a value, not an error.
    async fn bucket_setting(
        &self,
        bucket: &BucketName,
        question: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError>;

    /// Opens an object for reading. With `if_match`, returns an error with status 412 if the object no longer has
    /// that `ETag`.
    async fn read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<OpenedObject, StoreError>;

    /// Resumes a read at byte `from`, as long as the object still has this `ETag`. Use it after a read that broke
    /// off. A store that does not support this returns an error.
    async fn resume_read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        etag: &str,
        from: u64,
    ) -> Result<OpenedObject, StoreError> {
        let (_, request) = (etag, format!("GET {bucket}/{key}"));
        let why = format!("this store cannot resume a read at byte {from}");
        Err(not_implemented(&why, request))
    }

    /// Writes a whole object. `md5` is the MD5 of the content in base64, which the server verifies.
    async fn write(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: ObjectContent,
        md5: &str,
    ) -> Result<(), StoreError>;

    /// Creates an object, unless its key already exists. A server that ignores the condition may overwrite an
    /// existing object. Only the stores that can hold the state of jobs implement this.
    async fn put_if_absent(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: Bytes,
    ) -> Result<ConditionalPutOutcome, StoreError> {
        let _ = content;
        Err(not_implemented("this store has no conditional writes", format!("PUT {bucket}/{key}")))
    }

    /// Deletes an object. Succeeds if the object does not exist. Only the stores that can hold the state of jobs
    /// implement this.
    async fn delete(&self, bucket: &BucketName, key: &ObjectKey) -> Result<(), StoreError> {
        Err(not_implemented("this store deletes nothing", format!("DELETE {bucket}/{key}")))
    }

    /// Returns the method and the URL of a request, in the form used in reports:
    /// `PUT http://host/bucket/key?tagging`.
    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String;

    /// Returns the `ETag` and size that HEAD would report for an object whose content is the body of this request.
    /// Returns an empty [`ContentIdentity`] if the request has no body.
    fn body_identity(&self, _call: &ObjectRequest) -> ContentIdentity {
        ContentIdentity::default()
    }

    /// Returns why this store's API cannot address a key, or `None` if it can.
    fn unsupported_key_reason(&self, key: &ObjectKey) -> Option<&'static str>;

    /// Returns the storage class that supports only one restore speed and no tier, if the store has one.
    fn untiered_class(&self) -> Option<&'static str> {
        None
    }
}

fn not_implemented(why: &str, request: String) -> StoreError {
    StoreError::without_response(FaultClass::Rejected, "NotImplemented", why, request)
}

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

/// The maximum length of an `ETag` that is kept from a listing, in bytes. Those of AWS and OSS have up to 40.
pub const MAX_ETAG_BYTES: usize = 1024;

/// A request for one page of a listing.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// The bucket to list.
    pub bucket: BucketName,
    /// Lists only keys with this prefix.
    pub prefix: ObjectKey,
    /// Whether to list all versions instead of only the current ones.
    pub all_versions: bool,
    /// Whether to roll up keys into `common_prefixes`, at the first `/` after the prefix.
    pub group_by_directory: bool,
    /// Where the page starts: `next` of the previous page, any key, or `None` for the start of the listing.
    pub from: Option<ListPosition>,
}

/// A position at which a listing continues.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListPosition {
    /// The server's continuation token (current versions only).
    Token(String),
    /// After this key, including all of its versions if no version is given. A listing of current versions can start
    /// here in the middle of a bucket (`start-after`) and then also continues here. A listing of all versions always
    /// continues here.
    After {
        /// The key marker, in UTF-8. The key does not need to exist.
        key: ObjectKey,
        /// The version marker, if a listing of all versions stopped between two versions of a key.
        version: Option<VersionId>,
    },
}

/// One page of a listing, in the server's order.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// The objects, without delete markers.
    pub entries: Vec<ListedObject>,
    /// With `group_by_directory`: the rolled-up prefixes, each ending in `/`.
    pub common_prefixes: Vec<ObjectKey>,
    /// In a listing of all versions: the delete marker at the end of the page, if the page ends with one.
    pub trailing_delete_marker: Option<(ObjectKey, VersionId)>,
    /// Where the listing continues according to the server, or `None` on the last page. [`ListCursor`] makes the
    /// decision.
    pub next: Option<ListPosition>,
}

impl ListPage {
    /// Returns all names on the page: keys, prefixes and the trailing delete marker.
    fn names(&self) -> impl Iterator<Item = &ObjectKey> {
        let deleted = self.trailing_delete_marker.iter().map(|(key, _)| key);
        self.entries.iter().map(|entry| &entry.key).chain(&self.common_prefixes).chain(deleted)
    }

    /// Returns the position after the last entry of the page, including delete markers, or `None` if the page has no
    /// entries.
    fn last_position(&self) -> Option<ListPosition> {
        let deleted = self.trailing_delete_marker.clone().map(|(key, version)| (key, Some(version)));
        let last = deleted.or_else(|| self.entries.last().map(|entry| (entry.key.clone(), entry.version.clone())));
        last.map(|(key, version)| ListPosition::After { key, version })
    }
}

/// One object in a listing.
#[derive(Clone, Debug)]
pub struct ListedObject {
    /// The key, decoded.
    pub key: ObjectKey,
    /// The version, in a listing of all versions.
    pub version: Option<VersionId>,
    /// The size in bytes.
    pub size: u64,
    /// The time of the last write.
    pub last_modified: Timestamp,
    /// The storage class, by the server's name.
    pub class: StorageClass,
    /// The `ETag` without quotes, if the listing contains it and it has at most [`MAX_ETAG_BYTES`] bytes.
    pub etag: Option<Box<str>>,
}

/// An object opened for reading.
pub struct OpenedObject {
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
pub enum ObjectContent {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A file, streamed from disk.
    File(PathBuf),
}

//! Objects below the prefix of a state, with retries.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use batchplan_store::backoff::{RetryPolicy, retry};
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::{FaultClass, StoreError};
use batchplan_store::timeouts::{TimeLimitError, scaled};
use batchplan_store::{ConditionalPutOutcome, ListCursor, ListRequest, ObjectContent, Store};
use bytes::Bytes;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use tokio::io::AsyncReadExt as _;

use super::error::RemoteError;

/// About ten seconds of attempts. What fails now is pushed with the next push.
const RETRY_POLICY: RetryPolicy =
    RetryPolicy { base_delay: Duration::from_millis(100), max_delay: Duration::from_secs(4), max_attempts: 6 };

/// How long one attempt may take, besides the time for its bytes. This is longer than credentials are waited for.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// The slowest connection that is supported, in bytes per second.
const MIN_BYTES_PER_SECOND: u64 = 64 << 10;

/// The maximum number of objects that a listing may name.
const MAX_LISTED: usize = 1 << 20;

/// The maximum number of consecutive listing pages without a new name.
const MAX_IDLE_PAGES: u32 = 1000;

/// The objects below a prefix of a bucket.
#[derive(Clone)]
pub(crate) struct PrefixStore {
    store: Arc<dyn Store>,
    bucket: BucketName,
    prefix: ObjectKey,
}

impl PrefixStore {
    pub(crate) fn new(store: Arc<dyn Store>, bucket: BucketName, prefix: ObjectKey) -> Self {
        Self { store, bucket, prefix }
    }

    fn key(&self, name: &str) -> ObjectKey {
        let mut key = self.prefix.as_bytes().to_vec();
        if !key.is_empty() {
            key.push(b'/');
        }
        key.extend_from_slice(name.as_bytes());
        ObjectKey::new(key)
    }

    /// Reads an object of at most `limit` bytes; `None` if it does not exist.
    pub(crate) async fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        let key = self.key(name);
        let read = async || {
            let opened = match self.store.read(&self.bucket, &key, None).await {
                Err(fault) if fault.status == Some(404) && fault.code != "NoSuchBucket" => return Ok(None),
                opened => opened?,
            };
            let mut text = Vec::new();
            let read = opened.body.take(limit + 1).read_to_end(&mut text).await;
            read.map_err(|error| connection_fault(&error.to_string()))?;
            Ok(Some(text))
        };
        let text = self.with_retries("cannot read the state", (&key, limit), read).await?;
        if text.as_ref().is_some_and(|text| text.len() as u64 > limit) {
            return Err(RemoteError::Damaged {
                name: name.to_owned(),
                what: format!("it is larger than {limit} bytes"),
            });
        }
        Ok(text)
    }

    /// Writes an object, and replaces an existing one.
    pub(crate) async fn put(&self, name: &str, content: Bytes) -> Result<(), RemoteError> {
        let (key, md5) = (self.key(name), STANDARD.encode(Md5::digest(&content)));
        let size = content.len() as u64;
        let write = async || self.store.write(&self.bucket, &key, ObjectContent::Bytes(content.clone()), &md5).await;
        self.with_retries("cannot write the state", (&key, size), write).await
    }

    /// Writes an object in a single attempt with a time limit, and replaces an existing one.
    pub(crate) async fn put_once(&self, name: &str, content: Bytes, within: Duration) -> Result<(), RemoteError> {
        let (key, md5) = (self.key(name), STANDARD.encode(Md5::digest(&content)));
        let write = self.store.write(&self.bucket, &key, ObjectContent::Bytes(content), &md5);
        let written =
            tokio::time::timeout(within, write).await.unwrap_or_else(|_| Err(self.timeout_fault(&key, within)));
        written.map_err(|fault| store_error("cannot renew the state's lock", fault))
    }

    /// Creates an object if it does not exist.
    pub(crate) async fn create(&self, name: &str, content: Bytes) -> Result<ConditionalPutOutcome, RemoteError> {
        let key = self.key(name);
        let make = async || self.store.put_if_absent(&self.bucket, &key, content.clone()).await;
        self.with_retries("cannot lock the state", (&key, 0), make).await
    }

    pub(crate) async fn remove(&self, name: &str) -> Result<(), RemoteError> {
        let key = self.key(name);
        let remove = async || self.store.delete(&self.bucket, &key).await;
        self.with_retries("cannot remove unneeded objects of the state", (&key, 0), remove).await
    }

    /// Returns the names of the objects that start with `below`, and when each was written by the store's clock, if its
    /// listing says so.
    pub(crate) async fn list(&self, below: &str) -> Result<Vec<(String, Option<Timestamp>)>, RemoteError> {
        let base = self.key("");
        let mut request = ListRequest {
            bucket: self.bucket.clone(),
            prefix: self.key(below),
            all_versions: false,
            group_by_directory: false,
            from: None,
        };
        let untrusted = |what: String| RemoteError::Listing { below: below.to_owned(), what };
        let mut cursor = ListCursor::new(request.all_versions, MAX_IDLE_PAGES);
        let (mut found, mut last) = (Vec::new(), None);
        loop {
            let read = async || self.store.list(&request).await;
            let page = self.with_retries("cannot list the state", (&request.prefix, 1 << 20), read).await?;
            let next = cursor.advance(request.from.as_ref(), &page).map_err(untrusted)?;
            // The names of the state are ASCII.
            for entry in page.entries.into_iter().filter(|entry| entry.inexact.is_none()) {
                if let Some(before) = last.filter(|before| entry.key <= *before) {
                    return Err(untrusted(format!("it went backwards: {} after {before}", entry.key)));
                }
                let name =
                    entry.key.as_bytes().strip_prefix(base.as_bytes()).and_then(|name| str::from_utf8(name).ok());
                if let Some(name) = name {
                    found.push((name.to_owned(), entry.last_modified));
                }
                last = Some(entry.key);
            }
            // A part of a listing must not be mistaken for all of it: the newest lock may be in the other part.
            if found.len() > MAX_LISTED {
                return Err(untrusted(format!("it names more than {MAX_LISTED} objects")));
            }
            if next.is_none() {
                return Ok(found);
            }
            request.from = next;
        }
    }

    /// Returns the fault of an attempt that timed out. It names the host and the object.
    fn timeout_fault(&self, key: &ObjectKey, allowed: Duration) -> StoreError {
        let object = ObjectId { bucket: self.bucket.clone(), key: key.clone(), version: None };
        let url = self.store.request_line(&object, &ObjectRequest::Head);
        let why = format!("{} from {}", TimeLimitError(allowed), url.trim_start_matches("HEAD "));
        StoreError::without_response(FaultClass::Ambiguous, "RequestTimeout", &why, url)
    }

    async fn with_retries<T, F>(
        &self,
        doing: &str,
        (key, bytes): (&ObjectKey, u64),
        attempt: impl Fn() -> F,
    ) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let allowed = scaled(ATTEMPT_TIMEOUT + Duration::from_secs(bytes / MIN_BYTES_PER_SECOND));
        let answer = retry(RETRY_POLICY, StoreError::is_retryable, || async {
            let answer = tokio::time::timeout(allowed, attempt()).await;
            answer.unwrap_or_else(|_| Err(self.timeout_fault(key, allowed)))
        });
        answer.await.map_err(|exhausted| store_error(doing, exhausted.error))
    }
}

fn store_error(doing: &str, fault: StoreError) -> RemoteError {
    RemoteError::Store { doing: doing.to_owned(), fault: Box::new(fault) }
}

fn connection_fault(why: &str) -> StoreError {
    StoreError::without_response(FaultClass::Ambiguous, "ConnectionError", why, String::new())
}

//! AWS S3 and S3-compatible servers.
//!
//! The plan decides which endpoint is used. The environment can only supply a missing region, never an endpoint, so
//! it cannot redirect a plan's requests or its credentials to a host outside AWS.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;

use super::site::Site;
use super::wire::{Clock, Dialect, Wire, query};
use super::{BucketFact, BucketQuestion, Cabinet, Content, Created, ListPage, ListRequest, Opened, Store, StoreConfig};
use crate::call::{Call, ContentMark, Reply};
use crate::object::{Bucket, Key, MAX_KEY_BYTES, ObjectId};
use crate::task::Fault;

/// A store with an S3 API.
pub struct S3Store {
    wire: Wire,
}

impl S3Store {
    /// Creates a store at the configured endpoint, or at AWS's endpoint for the region, that signs with these
    /// credentials.
    ///
    /// # Errors
    /// Returns an error if the system has no CA certificates to verify the server with.
    pub fn new(config: &StoreConfig, region: &str, credentials: SharedCredentialsProvider) -> io::Result<Self> {
        let site = match &config.endpoint {
            Some(endpoint) => Site::new(endpoint, config.addressing),
            None => Site::of_aws(region, config.addressing),
        };
        Ok(Self { wire: Wire::new(site, Dialect::S3, region, credentials, Arc::new(Clock::default()))? })
    }
}

#[async_trait]
impl Store for S3Store {
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        self.wire.call(object, call).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        self.wire.page(request).await
    }

    async fn bucket(&self, bucket: &Bucket, question: BucketQuestion) -> Result<BucketFact, Fault> {
        self.wire.setting(bucket, question).await
    }

    async fn read(&self, bucket: &Bucket, key: &Key, if_match: Option<&str>) -> Result<Opened, Fault> {
        self.wire.read(bucket, key, if_match).await
    }

    async fn read_on(&self, bucket: &Bucket, key: &Key, etag: &str, from: u64) -> Result<Opened, Fault> {
        self.wire.read_on(bucket, key, etag, from).await
    }

    async fn write(&self, bucket: &Bucket, key: &Key, content: Content, md5: &str) -> Result<(), Fault> {
        self.wire.write(bucket, key, content, md5).await
    }

    fn request_url(&self, object: &ObjectId, call: &Call) -> String {
        let (method, resource) = call.request();
        let query = query(resource, object.version.as_ref());
        self.wire.site().request(method, &object.bucket, &object.key, &query)
    }

    fn body_mark(&self, call: &Call) -> ContentMark {
        self.wire.body_mark(call)
    }

    fn refuses_key(&self, key: &Key) -> Option<&'static str> {
        if key.as_bytes().is_empty() {
            Some("the key is empty")
        } else if key.as_bytes().len() > MAX_KEY_BYTES {
            Some("the key is longer than 1024 bytes")
        } else if key.as_str().is_err() {
            Some("the key is not UTF-8, and S3 carries no other")
        } else {
            None
        }
    }
}

#[async_trait]
impl Cabinet for S3Store {
    async fn create(&self, bucket: &Bucket, key: &Key, content: Bytes) -> Result<Created, Fault> {
        self.wire.create(bucket, key, content).await
    }

    async fn remove(&self, bucket: &Bucket, key: &Key) -> Result<(), Fault> {
        self.wire.remove(bucket, key).await
    }
}

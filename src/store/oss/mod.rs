//! Alibaba Cloud OSS through its native API. OSS's S3-compatible API has no tagging, no restore and no `default` ACL.

mod transfer;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;

use super::site::Site;
use super::wire::{Clock, Dialect, Wire, query};
use super::{Addressing, BucketFact, BucketQuestion, Cabinet, Content, Created, ListPage, ListRequest, Opened, Store};
use crate::call::{Call, ContentMark, Reply};
use crate::object::{Bucket, Key, ObjectId};
use crate::task::Fault;

/// The maximum length of a key, in bytes.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/object-naming-conventions>
const MAX_KEY_BYTES: usize = 1023;

/// Alibaba Cloud OSS in one region, or another server with its API.
pub struct OssStore {
    wire: Wire,
}

impl OssStore {
    /// Creates the store at an endpoint, signing for a region (`cn-hangzhou`) with these credentials.
    ///
    /// # Errors
    /// Returns an error if the system has no CA certificates to verify the server with.
    pub fn new(
        endpoint: &str,
        addressing: Addressing,
        region: &str,
        credentials: SharedCredentialsProvider,
    ) -> io::Result<Self> {
        let site = Site::new(endpoint, addressing);
        let wire = Wire::new(site, Dialect::Oss, region, credentials, Arc::new(Clock::default()))?;
        Ok(Self { wire })
    }
}

#[async_trait]
impl Store for OssStore {
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
        self.put(bucket, key, content, md5).await
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
            Some("the key is longer than 1023 bytes")
        } else if key.as_str().is_err() {
            Some("the key is not UTF-8, and OSS carries no other")
        } else {
            None
        }
    }

    /// A restore of the class Archive takes about a minute. `JobParameters` are only for colder classes.
    /// <https://www.alibabacloud.com/help/en/oss/developer-reference/restoreobject>
    fn untiered_class(&self) -> Option<&'static str> {
        Some("Archive")
    }
}

#[async_trait]
impl Cabinet for OssStore {
    async fn create(&self, bucket: &Bucket, key: &Key, content: Bytes) -> Result<Created, Fault> {
        self.wire.create(bucket, key, content).await
    }

    async fn remove(&self, bucket: &Bucket, key: &Key) -> Result<(), Fault> {
        self.wire.remove(bucket, key).await
    }
}

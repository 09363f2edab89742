//! Alibaba Cloud OSS through its native API. OSS's S3-compatible API has no tagging, no restore and no `default` ACL.

mod upload;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;

use super::endpoint::StoreEndpoint;
use super::http_client::{SigningClock, StoreDialect, StoreHttpClient, object_query};
use super::{
    AddressingStyle, BucketSetting, BucketSettingValue, ConditionalPutOutcome, ListPage, ListRequest, ObjectContent,
    OpenedObject, Store,
};
use crate::object::{BucketName, ObjectId, ObjectKey};
use crate::object_request::{ContentIdentity, ObjectRequest, ObjectResponse};
use crate::task::StoreError;

/// The maximum length of a key, in bytes.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/object-naming-conventions>
const MAX_KEY_BYTES: usize = 1023;

/// Alibaba Cloud OSS in one region, or another server with its API.
pub struct OssStore {
    client: StoreHttpClient,
}

impl OssStore {
    /// Creates the store at an endpoint, signing for a region (`cn-hangzhou`) with these credentials.
    ///
    /// # Errors
    /// Returns an error if the system has no CA certificates to verify the server with.
    pub fn new(
        endpoint: &str,
        addressing: AddressingStyle,
        region: &str,
        credentials: SharedCredentialsProvider,
    ) -> io::Result<Self> {
        let site = StoreEndpoint::new(endpoint, addressing);
        let wire =
            StoreHttpClient::new(site, StoreDialect::Oss, region, credentials, Arc::new(SigningClock::default()))?;
        Ok(Self { client: wire })
    }
}

#[async_trait]
impl Store for OssStore {
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        self.client.send_object_request(object, call).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        self.client.list_page(request).await
    }

    async fn bucket_setting(
        &self,
        bucket: &BucketName,
        question: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        self.client.bucket_setting(bucket, question).await
    }

    async fn read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<OpenedObject, StoreError> {
        self.client.read(bucket, key, if_match).await
    }

    async fn resume_read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        etag: &str,
        from: u64,
    ) -> Result<OpenedObject, StoreError> {
        self.client.resume_read(bucket, key, etag, from).await
    }

    async fn write(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: ObjectContent,
        md5: &str,
    ) -> Result<(), StoreError> {
        self.upload(bucket, key, content, md5).await
    }

    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String {
        let (method, resource) = call.method_and_subresource();
        let query = object_query(resource, object.version.as_ref());
        self.client.endpoint().request_line(method, &object.bucket, &object.key, &query)
    }

    fn body_identity(&self, call: &ObjectRequest) -> ContentIdentity {
        self.client.body_identity(call)
    }

    fn unsupported_key_reason(&self, key: &ObjectKey) -> Option<&'static str> {
        if key.as_bytes().is_empty() {
            Some("the key is empty")
        } else if key.as_bytes().len() > MAX_KEY_BYTES {
            Some("the key is longer than 1023 bytes")
        } else if key.as_str().is_err() {
            Some("the key is not UTF-8, which OSS requires")
        } else {
            None
        }
    }

    /// A restore of the class Archive takes about a minute. `JobParameters` are only for colder classes.
    /// <https://www.alibabacloud.com/help/en/oss/developer-reference/restoreobject>
    fn untiered_class(&self) -> Option<&'static str> {
        Some("Archive")
    }

    async fn put_if_absent(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: Bytes,
    ) -> Result<ConditionalPutOutcome, StoreError> {
        self.client.put_if_absent(bucket, key, content).await
    }

    async fn delete(&self, bucket: &BucketName, key: &ObjectKey) -> Result<(), StoreError> {
        self.client.delete(bucket, key).await
    }
}

//! The stores that batchplan works on: AWS S3 and S3-compatible servers, and Alibaba Cloud OSS through its native API.
//!
//! OSS's S3-compatible API has no tagging, no restore and no `default` ACL. The two APIs differ in the names and
//! documents of [`StoreDialect`], and in how an object is written.
//!
//! The plan decides which endpoint is used. The environment can only supply a missing region, never an endpoint, so
//! it cannot redirect a plan's requests or its credentials to another host.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;

use crate::endpoint::{AddressingStyle, StoreEndpoint};
use crate::fault::StoreError;
use crate::http_client::{SigningClock, StoreDialect, StoreHttpClient, object_query};
use crate::listing::{ListPage, ListRequest};
use crate::object::{BucketName, ObjectId, ObjectKey};
use crate::object_request::{ContentIdentity, ObjectRequest, ObjectResponse};
use crate::provider::StoreConfig;
use crate::store::{BucketSetting, BucketSettingValue, ConditionalPutOutcome, ObjectContent, OpenedObject, Store};

/// A store with the API of S3 or of OSS.
pub struct HttpStore {
    client: StoreHttpClient,
}

impl HttpStore {
    /// Creates a store with the API of S3 at the configured endpoint, or at AWS's endpoint for the region, that signs
    /// with these credentials.
    ///
    /// # Errors
    /// Returns an error if the system has no CA certificates to verify the server with.
    pub fn s3(config: &StoreConfig, region: &str, credentials: SharedCredentialsProvider) -> io::Result<Self> {
        let endpoint = match &config.endpoint {
            Some(endpoint) => StoreEndpoint::new(endpoint, config.addressing),
            None => StoreEndpoint::for_aws_region(region, config.addressing),
        };
        Self::new(endpoint, StoreDialect::S3, region, credentials)
    }

    /// Creates a store with the API of OSS at an endpoint: Alibaba Cloud OSS in one region (`cn-hangzhou`), or another
    /// server. It signs with these credentials.
    ///
    /// # Errors
    /// Returns an error if the system has no CA certificates to verify the server with.
    pub fn oss(
        endpoint: &str,
        addressing: AddressingStyle,
        region: &str,
        credentials: SharedCredentialsProvider,
    ) -> io::Result<Self> {
        Self::new(StoreEndpoint::new(endpoint, addressing), StoreDialect::Oss, region, credentials)
    }

    fn new(
        endpoint: StoreEndpoint,
        dialect: StoreDialect,
        region: &str,
        credentials: SharedCredentialsProvider,
    ) -> io::Result<Self> {
        let clock = Arc::new(SigningClock::default());
        Ok(Self { client: StoreHttpClient::new(endpoint, dialect, region, credentials, clock)? })
    }
}

#[async_trait]
impl Store for HttpStore {
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
        match self.client.dialect() {
            StoreDialect::S3 => self.client.write(bucket, key, content, md5).await,
            StoreDialect::Oss => self.client.write_in_parts(bucket, key, content, md5).await,
        }
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
        self.client.dialect().unsupported_key_reason(key)
    }

    fn untiered_class(&self) -> Option<&'static str> {
        self.client.dialect().untiered_class()
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

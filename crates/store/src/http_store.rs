//! The stores that batchplan works on, and connecting to them: AWS S3 and S3-compatible servers, and Alibaba Cloud OSS
//! through its native API.
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
use aws_credential_types::provider::error::CredentialsError;
use bytes::Bytes;

use crate::credentials;
use crate::error::StoreError;
use crate::http_client::{SigningClock, StoreDialect, StoreHttpClient, object_query};
use crate::listing::{ListPage, ListRequest};
use crate::object::{BucketName, ObjectId, ObjectKey};
use crate::object_request::{ContentIdentity, ObjectRequest, ObjectResponse};
use crate::provider::{AddressingStyle, EndpointSource, StoreConfig, StoreEndpoint, StoreProvider};
use crate::store::{BucketSetting, BucketSettingValue, ConditionalPutOutcome, ObjectContent, OpenedObject, Store};
use crate::web::{WebConnector, root_cause};

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
        setting: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        self.client.bucket_setting(bucket, setting).await
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

/// Why the connection to a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreConnectError {
    /// No usable credentials were found.
    #[error("no credentials: {}", root_cause(.source))]
    NoCredentials {
        /// The provider that needs the credentials.
        provider: StoreProvider,
        /// The reason.
        source: CredentialsError,
    },
    /// The plan's role could not be assumed: access was denied, or the role does not exist.
    #[error("{}", root_cause(.0))]
    RoleNotAssumed(#[source] CredentialsError),
    /// The plan names no endpoint. Plan validation rejects such plans earlier.
    #[error("no endpoint: the plan's [store] sets none")]
    NoEndpoint,
    /// Neither the plan nor the environment names a region.
    #[error("no region: neither the plan's [store] nor the environment sets one")]
    NoRegion,
    /// The system has no CA certificates to verify servers with.
    #[error("no certificates: the system trusts none ({0}); install a CA bundle, or set SSL_CERT_FILE to one")]
    NoCertificates(#[source] io::Error),
}

impl StoreConnectError {
    /// Returns whether credentials were found but are invalid. The message then names the setting to correct.
    #[must_use]
    pub fn has_invalid_credentials(&self) -> bool {
        matches!(self, Self::NoCredentials { source: CredentialsError::InvalidConfiguration(_), .. })
    }
}

/// Connects to a plan's store. Does not send a request to the store yet.
///
/// # Errors
/// Returns an error if credentials, region, endpoint, or CA certificates are missing or invalid,
/// or if the plan's role cannot be assumed.
pub async fn connect(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreConnectError> {
    let profile = config.provider.profile();
    if profile.endpoint == EndpointSource::Program {
        // Only the program can serve it, and then it calls `connect_with_keys`.
        return Err(StoreConnectError::NoEndpoint);
    }
    match profile.dialect {
        StoreDialect::S3 => connect_s3(config).await,
        StoreDialect::Oss => connect_oss(config).await,
    }
}

async fn connect_s3(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreConnectError> {
    // Checked first, because no credentials can be requested over https without certificates.
    let is_plain = config.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    WebConnector::new(!is_plain).map_err(StoreConnectError::NoCertificates)?;
    let http = credentials::http_client();
    let identity = credentials::from_aws_chain(&http)
        .await
        .map_err(|source| StoreConnectError::NoCredentials { provider: config.provider, source })?;
    let region = config.region.clone().or(identity.region).ok_or(StoreConnectError::NoRegion)?;
    let provider = credentials::assume_aws_role(config, &region, identity.provider, &http).await;
    let provider = provider.map_err(StoreConnectError::RoleNotAssumed)?;
    let store = HttpStore::s3(config, &region, provider).map_err(StoreConnectError::NoCertificates)?;
    Ok(Arc::new(store))
}

async fn connect_oss(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreConnectError> {
    let credentials = credentials::from_oss_environment()
        .map_err(|source| StoreConnectError::NoCredentials { provider: config.provider, source })?;
    let region = config.region.as_deref().ok_or(StoreConnectError::NoRegion)?;
    let endpoint = config.endpoint.as_deref().ok_or(StoreConnectError::NoEndpoint)?;
    let provider = credentials::assume_oss_role(config, region, credentials).await;
    let provider = provider.map_err(StoreConnectError::RoleNotAssumed)?;
    let store =
        HttpStore::oss(endpoint, config.addressing, region, provider).map_err(StoreConnectError::NoCertificates)?;
    Ok(Arc::new(store))
}

/// Connects to an S3 server with a key pair, whatever the environment contains. Does not send a request yet.
///
/// # Errors
/// Returns an error if the configuration has no region, or if the system has no CA certificates.
pub fn connect_with_keys(
    config: &StoreConfig,
    access_key: &str,
    secret_key: &str,
) -> Result<Arc<dyn Store>, StoreConnectError> {
    let region = config.region.as_deref().ok_or(StoreConnectError::NoRegion)?;
    let credentials = credentials::from_keys(access_key, secret_key);
    let store = HttpStore::s3(config, region, credentials).map_err(StoreConnectError::NoCertificates)?;
    Ok(Arc::new(store))
}

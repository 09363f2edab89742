//! Connects to the store in a plan's `[store]` section, and the stand-in for a store that could not be connected to.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use aws_credential_types::provider::error::CredentialsError;

use crate::credentials;
use crate::error_code::FaultClass;
use crate::fault::StoreError;
use crate::http_client::StoreDialect;
use crate::http_store::HttpStore;
use crate::listing::{ListPage, ListRequest};
use crate::object::{BucketName, ObjectId, ObjectKey};
use crate::object_request::{ObjectRequest, ObjectResponse};
use crate::provider::{EndpointSource, StoreConfig, StoreProvider};
use crate::store::{BucketSetting, BucketSettingValue, ObjectContent, OpenedObject, Store};
use crate::web::{WebConnector, root_cause};

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

/// A store that rejects every request with the reason why there is no connection. It allows local work to continue
/// without a store.
#[derive(Clone, Debug)]
pub struct UnreachableStore {
    reason: String,
}

impl UnreachableStore {
    /// Creates a store that rejects all requests for this reason.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self { reason: why.into() }
    }

    fn not_connected(&self, request: String) -> StoreError {
        StoreError::without_response(FaultClass::Rejected, "NotConnected", &self.reason, request)
    }

    fn reject<T>(&self, method: &str, bucket: &BucketName, key: &str) -> Result<T, StoreError> {
        Err(self.not_connected(format!("{method} {bucket}/{key}")))
    }
}

#[async_trait]
impl Store for UnreachableStore {
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        Err(self.not_connected(self.request_line(object, call)))
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        self.reject("GET", &request.bucket, "")
    }

    async fn bucket_setting(
        &self,
        bucket: &BucketName,
        question: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        self.reject("GET", bucket, &format!("?{}", question.subresource()))
    }

    async fn read(&self, bucket: &BucketName, key: &ObjectKey, _: Option<&str>) -> Result<OpenedObject, StoreError> {
        self.reject("GET", bucket, &key.encoded_keeping_slashes())
    }

    async fn write(&self, bucket: &BucketName, key: &ObjectKey, _: ObjectContent, _: &str) -> Result<(), StoreError> {
        self.reject("PUT", bucket, &key.encoded_keeping_slashes())
    }

    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String {
        let (method, resource) = call.method_and_subresource();
        let query = if resource.is_empty() { "" } else { "?" };
        format!("{method} {}/{}{query}{resource}", object.bucket, object.key.encoded_keeping_slashes())
    }

    fn unsupported_key_reason(&self, _: &ObjectKey) -> Option<&'static str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn rejects_everything_with_the_reason() {
        let store = UnreachableStore::new("no credentials");
        let (bucket, key) = (BucketName::new("bkt"), ObjectKey::from("a b/c"));
        let object = ObjectId { bucket: bucket.clone(), key: key.clone(), version: None };
        let written = store.write(&bucket, &key, ObjectContent::Bytes(Bytes::new()), "").await;
        let called = store.send_request(&object, &ObjectRequest::GetTags).await.map(drop);
        let read = store.read(&bucket, &key, None).await.map(drop);
        let asked = store.bucket_setting(&bucket, BucketSetting::Versioning).await.map(drop);
        let all = [
            (written, "PUT bkt/a%20b/c"),
            (called, "GET bkt/a%20b/c?tagging"),
            (read, "GET bkt/a%20b/c"),
            (asked, "GET bkt/?versioning"),
        ];
        for (refused, endpoint) in all {
            let fault = refused.expect_err("the store is unreachable");
            assert_eq!(
                (fault.to_string().as_str(), fault.endpoint.as_str()),
                ("NotConnected: no credentials", endpoint)
            );
            assert!(!fault.class.is_retryable());
        }
    }
}

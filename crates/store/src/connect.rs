//! Connects to the store in a plan's `[store]` section.

use std::io;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;

use super::http_client::StoreDialect;
use super::{EndpointSource, OssStore, S3Store, Store, StoreConfig, StoreProvider, credentials};
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
    let store = S3Store::new(config, &region, provider).map_err(StoreConnectError::NoCertificates)?;
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
        OssStore::new(endpoint, config.addressing, region, provider).map_err(StoreConnectError::NoCertificates)?;
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
    let store = S3Store::new(config, region, credentials).map_err(StoreConnectError::NoCertificates)?;
    Ok(Arc::new(store))
}

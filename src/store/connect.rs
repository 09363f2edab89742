//! Connects to the store in a plan's `[store]` section.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;

use super::sandbox::{self, Sandbox, SandboxOptions, SandboxServer, SandboxServerError};
use super::{AddressingStyle, ConditionalPut, OssStore, S3Store, Store, StoreConfig, StoreProvider, credentials};
use crate::web::{WebConnector, root_cause};

/// A connected store. A sandbox runs for as long as this value lives.
pub struct StoreConnection {
    store: Arc<dyn Store>,
    conditional_put: Arc<dyn ConditionalPut>,
    /// The server of the sandbox, if the store is one. It stops when this value is dropped.
    _sandbox: Option<SandboxServer>,
}

impl StoreConnection {
    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Returns the store with conditional writes and deletes.
    #[must_use]
    pub fn conditional_put(&self) -> &Arc<dyn ConditionalPut> {
        &self.conditional_put
    }

    fn new(store: impl ConditionalPut, sandbox: Option<SandboxServer>) -> Self {
        let conditional_put: Arc<dyn ConditionalPut> = Arc::new(store);
        Self { store: conditional_put.clone(), conditional_put, _sandbox: sandbox }
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
    #[error("no endpoint: the plan's [store] names none")]
    NoEndpoint,
    /// Neither the plan nor the environment names a region.
    #[error("no region: neither the plan's [store] nor the environment names one")]
    NoRegion,
    /// The system has no CA certificates to verify servers with.
    #[error(
        "no certificates: the system has none that it trusts ({0}); install its CA bundle, or name one in SSL_CERT_FILE"
    )]
    NoCertificates(#[source] io::Error),
    /// The state of the sandbox could not be opened.
    #[error("the sandbox cannot be opened: {0}")]
    Sandbox(#[source] sandbox::SandboxError),
    /// The server of the sandbox could not be started.
    #[error("the sandbox cannot be served: {0}")]
    Server(#[source] SandboxServerError),
    /// The plan names no folder for the sandbox.
    #[error("the sandbox has no folder")]
    NoSandboxFolder,
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
/// Returns an error if credentials, region, endpoint, CA certificates or the sandbox's state are missing or invalid,
/// or if the plan's role cannot be assumed.
pub async fn connect(config: &StoreConfig) -> Result<StoreConnection, StoreConnectError> {
    let no_credentials = |source| StoreConnectError::NoCredentials { provider: config.provider, source };
    match config.provider {
        StoreProvider::Oss => {
            let credentials = credentials::from_oss_environment().map_err(no_credentials)?;
            let region = config.region.as_deref().ok_or(StoreConnectError::NoRegion)?;
            let endpoint = config.endpoint.as_deref().ok_or(StoreConnectError::NoEndpoint)?;
            let provider = credentials::assume_oss_role(config, region, credentials).await;
            let store = OssStore::new(
                endpoint,
                config.addressing,
                region,
                provider.map_err(StoreConnectError::RoleNotAssumed)?,
            )
            .map_err(StoreConnectError::NoCertificates)?;
            Ok(StoreConnection::new(store, None))
        }
        StoreProvider::Aws | StoreProvider::S3 => {
            // Checked first, because no credentials can be requested over `is_https` without certificates.
            let is_plain = config.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
            WebConnector::new(!is_plain).map_err(StoreConnectError::NoCertificates)?;
            let http = credentials::http_client();
            let identity = credentials::from_aws_chain(&http).await.map_err(no_credentials)?;
            let region = config.region.clone().or(identity.region).ok_or(StoreConnectError::NoRegion)?;
            let provider = credentials::assume_aws_role(config, &region, identity.provider, &http).await;
            let provider = provider.map_err(StoreConnectError::RoleNotAssumed)?;
            let store = S3Store::new(config, &region, provider).map_err(StoreConnectError::NoCertificates)?;
            Ok(StoreConnection::new(store, None))
        }
        StoreProvider::Sandbox => serve_sandbox(config),
    }
}

/// Opens the sandbox and serves it on a free loopback port, so that its requests use the same code path as those to a
/// real server.
fn serve_sandbox(config: &StoreConfig) -> Result<StoreConnection, StoreConnectError> {
    let folder = config.data.as_deref().ok_or(StoreConnectError::NoSandboxFolder)?;
    let sandbox =
        Sandbox::open(folder, config.fill.as_deref(), SandboxOptions::default()).map_err(StoreConnectError::Sandbox)?;
    let server =
        SandboxServer::start(sandbox, (Ipv4Addr::LOCALHOST, 0).into(), false).map_err(StoreConnectError::Server)?;
    let config = StoreConfig { endpoint: Some(server.endpoint()), addressing: AddressingStyle::Path, ..config.clone() };
    let credentials = credentials::sandbox_credentials(sandbox::ACCESS_KEY, sandbox::SECRET_KEY);
    let store = S3Store::new(&config, sandbox::REGION, credentials).map_err(StoreConnectError::NoCertificates)?;
    Ok(StoreConnection::new(store, Some(server)))
}

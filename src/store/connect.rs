//! Connects to the store in a plan's `[store]` section.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;

use super::sandbox::{self, Sandbox, SandboxOptions, Server, ServerError};
use super::{Addressing, Cabinet, OssStore, Provider, S3Store, Store, StoreConfig, credentials};
use crate::web::{Connector, innermost};

/// A connected store. A sandbox runs for as long as this value lives.
pub struct Connection {
    store: Arc<dyn Store>,
    cabinet: Arc<dyn Cabinet>,
    /// The server of the sandbox, if the store is one. It stops when this value is dropped.
    _sandbox: Option<Server>,
}

impl Connection {
    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Returns the store with conditional writes and deletes.
    #[must_use]
    pub fn cabinet(&self) -> &Arc<dyn Cabinet> {
        &self.cabinet
    }

    fn new(store: impl Cabinet, sandbox: Option<Server>) -> Self {
        let cabinet: Arc<dyn Cabinet> = Arc::new(store);
        Self { store: cabinet.clone(), cabinet, _sandbox: sandbox }
    }
}

/// Why the connection to a store failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No usable credentials were found.
    #[error("no credentials: {}", innermost(.source))]
    NoCredentials {
        /// The provider that needs the credentials.
        provider: Provider,
        /// The reason.
        source: CredentialsError,
    },
    /// The plan's role could not be assumed: access was denied, or the role does not exist.
    #[error("{}", innermost(.0))]
    NoRole(#[source] CredentialsError),
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
    Server(#[source] ServerError),
    /// The plan names no folder for the sandbox.
    #[error("the sandbox has no folder")]
    NoFolder,
}

impl ConnectError {
    /// Returns whether credentials were found but are invalid. The message then names the setting to correct.
    #[must_use]
    pub fn names_a_setting(&self) -> bool {
        matches!(self, Self::NoCredentials { source: CredentialsError::InvalidConfiguration(_), .. })
    }
}

/// Connects to a plan's store. Does not send a request to the store yet.
///
/// # Errors
/// Returns an error if credentials, region, endpoint, CA certificates or the sandbox's state are missing or invalid,
/// or if the plan's role cannot be assumed.
pub async fn connect(config: &StoreConfig) -> Result<Connection, ConnectError> {
    let no_credentials = |source| ConnectError::NoCredentials { provider: config.provider, source };
    match config.provider {
        Provider::Oss => {
            let credentials = credentials::from_oss_environment().map_err(no_credentials)?;
            let region = config.region.as_deref().ok_or(ConnectError::NoRegion)?;
            let endpoint = config.endpoint.as_deref().ok_or(ConnectError::NoEndpoint)?;
            let provider = credentials::in_oss_role(config, region, credentials).await;
            let store = OssStore::new(endpoint, config.addressing, region, provider.map_err(ConnectError::NoRole)?)
                .map_err(ConnectError::NoCertificates)?;
            Ok(Connection::new(store, None))
        }
        Provider::Aws | Provider::S3 => {
            // Checked first, because no credentials can be requested over `https` without certificates.
            let is_plain = config.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
            Connector::new(!is_plain).map_err(ConnectError::NoCertificates)?;
            let http = credentials::http_client();
            let identity = credentials::from_aws_chain(&http).await.map_err(no_credentials)?;
            let region = config.region.clone().or(identity.region).ok_or(ConnectError::NoRegion)?;
            let provider = credentials::in_aws_role(config, &region, identity.provider, &http).await;
            let provider = provider.map_err(ConnectError::NoRole)?;
            let store = S3Store::new(config, &region, provider).map_err(ConnectError::NoCertificates)?;
            Ok(Connection::new(store, None))
        }
        Provider::Sandbox => serve_sandbox(config),
    }
}

/// Opens the sandbox and serves it on a free loopback port, so that its requests use the same code path as those to a
/// real server.
fn serve_sandbox(config: &StoreConfig) -> Result<Connection, ConnectError> {
    let folder = config.data.as_deref().ok_or(ConnectError::NoFolder)?;
    let sandbox =
        Sandbox::open(folder, config.fill.as_deref(), SandboxOptions::default()).map_err(ConnectError::Sandbox)?;
    let server = Server::start(sandbox, (Ipv4Addr::LOCALHOST, 0).into(), false).map_err(ConnectError::Server)?;
    let config = StoreConfig { endpoint: Some(server.endpoint()), addressing: Addressing::Path, ..config.clone() };
    let credentials = credentials::of_sandbox(sandbox::ACCESS_KEY, sandbox::SECRET_KEY);
    let store = S3Store::new(&config, sandbox::REGION, credentials).map_err(ConnectError::NoCertificates)?;
    Ok(Connection::new(store, Some(server)))
}

//! From a plan's `[store]` to a store that answers.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;

use super::sandbox::{self, Sandbox, SandboxOptions, Server, ServerError};
use super::{Addressing, Cabinet, OssStore, Provider, S3Store, Store, StoreConfig, credentials};
use crate::web::{Connector, innermost};

/// A store, for as long as this lives.
pub struct Connection {
    store: Arc<dyn Store>,
    cabinet: Arc<dyn Cabinet>,
    /// Serves the store where it is the sandbox; stops when it is dropped.
    _sandbox: Option<Server>,
}

impl Connection {
    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The store, to keep things in.
    #[must_use]
    pub fn cabinet(&self) -> &Arc<dyn Cabinet> {
        &self.cabinet
    }

    fn new(store: impl Cabinet, sandbox: Option<Server>) -> Self {
        let cabinet: Arc<dyn Cabinet> = Arc::new(store);
        Self { store: cabinet.clone(), cabinet, _sandbox: sandbox }
    }
}

/// Why a store cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody said who asks.
    #[error("no credentials: {}", innermost(.source))]
    NoCredentials {
        /// Whose credentials are wanted.
        provider: Provider,
        /// Why there are none.
        source: CredentialsError,
    },
    /// Whoever asks may not work in the plan's role, or the role is not there.
    #[error("{}", innermost(.0))]
    NoRole(#[source] CredentialsError),
    /// Nobody said where, in a plan that did not pass validation.
    #[error("no endpoint: the plan's [store] names none")]
    NoEndpoint,
    /// Nobody said where.
    #[error("no region: neither the plan's [store] nor the environment names one")]
    NoRegion,
    /// There is nothing to check an encrypted server by.
    #[error(
        "no certificates: the system has none that it trusts ({0}); install its CA bundle, or name one in SSL_CERT_FILE"
    )]
    NoCertificates(#[source] io::Error),
    /// The sandbox cannot be opened.
    #[error("the sandbox cannot be opened: {0}")]
    Sandbox(#[source] sandbox::SandboxError),
    /// The sandbox cannot be served.
    #[error("the sandbox cannot be served: {0}")]
    Server(#[source] ServerError),
    /// A sandbox plan without a folder.
    #[error("the sandbox has no folder")]
    NoFolder,
}

impl ConnectError {
    /// Whether there are credentials, and the message names what is wrong with them.
    #[must_use]
    pub fn names_a_setting(&self) -> bool {
        matches!(self, Self::NoCredentials { source: CredentialsError::InvalidConfiguration(_), .. })
    }
}

/// Connects to a plan's store. Sends no request to it yet.
///
/// # Errors
/// When the provider cannot be worked on, or credentials, region or the sandbox's state are not to be had.
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
            // Said before anything is asked for that could not be asked without them.
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

/// Opens the sandbox and serves it on a free loopback port, so that its requests take the whole real path.
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

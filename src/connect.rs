//! Connects to the store of a plan, and serves the sandbox if that is the store.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use batchplan_sandbox::{
    ACCESS_KEY, REGION, SECRET_KEY, Sandbox, SandboxError, SandboxOptions, SandboxServer, SandboxServerError,
};
use batchplan_store::{
    AddressingStyle, AwsEndpointSettings, Store, StoreConfig, StoreConnectError, with_aws_endpoint_settings,
};

/// A connected store. A sandbox runs for as long as this value lives.
pub struct StoreConnection {
    store: Arc<dyn Store>,
    /// The server of the sandbox, if the store is one. It stops when this value is dropped.
    _sandbox: Option<SandboxServer>,
}

impl StoreConnection {
    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

/// Why the store of a plan cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Credentials, role, region, endpoint or certificates are missing.
    #[error(transparent)]
    Store(#[from] StoreConnectError),
    /// The state of the sandbox could not be opened.
    #[error("cannot open the sandbox: {0}")]
    Sandbox(#[source] SandboxError),
    /// The server of the sandbox could not be started.
    #[error("cannot start the sandbox: {0}")]
    Server(#[source] SandboxServerError),
    /// The settings of the environment could not be read.
    #[error("cannot read the AWS endpoint settings: {0}")]
    Environment(#[source] io::Error),
    /// The plan names no folder for the sandbox.
    #[error("the sandbox has no data folder")]
    NoSandboxFolder,
}

/// Connects to a plan's store. Does not send a request to the store yet.
///
/// # Errors
/// Returns an error if credentials, region, endpoint or CA certificates are missing or invalid, if the plan's role
/// cannot be assumed, or if the sandbox cannot be opened or served.
pub async fn connect(config: &StoreConfig) -> Result<StoreConnection, ConnectError> {
    if config.provider.is_built_in() {
        return serve_sandbox(config);
    }
    let store = batchplan_store::connect(config).await?;
    Ok(StoreConnection { store, _sandbox: None })
}

/// Returns the configuration of a store with the endpoints that the environment names, if its provider obeys them.
/// `known` are those that the work was saved or begun with.
///
/// # Errors
/// Returns an error if a setting of the environment cannot be obeyed, or if the environment names another endpoint than
/// before.
pub fn with_environment(
    config: &StoreConfig,
    known: Option<&AwsEndpointSettings>,
) -> Result<StoreConfig, ConnectError> {
    if !config.reads_aws_endpoints() {
        return Ok(config.clone());
    }
    // On a thread of its own, because the caller may be in a runtime, which must not be blocked.
    let resolving = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ConnectError::Environment)?;
        Ok(runtime.block_on(with_aws_endpoint_settings(config, known))?)
    };
    std::thread::scope(|scope| scope.spawn(resolving).join())
        .unwrap_or_else(|_| Err(ConnectError::Environment(io::Error::other("reading the AWS profiles failed"))))
}

/// Opens the sandbox and serves it on a free loopback port, so that its requests take the whole real path.
fn serve_sandbox(config: &StoreConfig) -> Result<StoreConnection, ConnectError> {
    let folder = config.data.as_deref().ok_or(ConnectError::NoSandboxFolder)?;
    let sandbox =
        Sandbox::open(folder, config.fill.as_deref(), SandboxOptions::default()).map_err(ConnectError::Sandbox)?;
    let server = SandboxServer::start(sandbox, (Ipv4Addr::LOCALHOST, 0).into(), false).map_err(ConnectError::Server)?;
    let config = StoreConfig {
        endpoint: Some(server.endpoint()),
        region: Some(REGION.to_owned()),
        addressing: AddressingStyle::Path,
        ..config.clone()
    };
    let store = batchplan_store::connect_with_keys(&config, ACCESS_KEY, SECRET_KEY)?;
    Ok(StoreConnection { store, _sandbox: Some(server) })
}

//! One host, and the connections to it that wait for their next request.

use std::error::Error;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use tower_service::Service as _;

use super::lane::{Io, Lane};

/// How long a connection may take to be made, its encryption included.
pub(in crate::store) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that are kept for later. No plan has more objects in flight.
const MAX_IDLE: usize = 4096;

/// Makes connections.
#[derive(Clone)]
pub(super) enum Connector {
    /// Without encryption.
    Plain(HttpConnector),
    /// With the system's certificates.
    Encrypted(HttpsConnector<HttpConnector>),
}

/// Why a connection could not be made. The server cannot have seen a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectFault {
    /// The time is up.
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
    /// The name has no address, nobody listens, or the encryption could not be agreed on.
    #[error("{0}")]
    Failed(String),
}

impl Connector {
    /// One that encrypts or does not.
    ///
    /// # Errors
    /// When the system has no certificates to check servers by.
    pub(super) fn new(https: bool) -> io::Result<Self> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        if !https {
            return Ok(Self::Plain(http));
        }
        let tls = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1().wrap_connector(http);
        Ok(Self::Encrypted(tls))
    }

    async fn connect(&self, to: Uri) -> Result<Io, Box<dyn Error + Send + Sync>> {
        match self.clone() {
            Self::Plain(mut http) => {
                std::future::poll_fn(|cx| http.poll_ready(cx)).await?;
                Ok(MaybeHttpsStream::Http(http.call(to).await?))
            }
            Self::Encrypted(mut tls) => {
                std::future::poll_fn(|cx| tls.poll_ready(cx)).await?;
                tls.call(to).await
            }
        }
    }
}

/// One host.
pub(in crate::store) struct Host {
    connector: Connector,
    url: Uri,
    idle: Mutex<Vec<Lane>>,
}

impl Host {
    /// The host at a URL.
    pub(super) fn new(connector: Connector, url: Uri) -> Self {
        Self { connector, url, idle: Mutex::default() }
    }

    /// A connection that is free: the one that was used last, or a new one.
    pub(super) async fn lane(&self) -> Result<Lane, ConnectFault> {
        while let Some(mut lane) = self.take() {
            if lane.is_free() {
                return Ok(lane);
            }
        }
        // Boxed, as hardly a request connects: what each of them carries along is small without it.
        let connecting = Box::pin(async {
            let io = self.connector.connect(self.url.clone()).await.map_err(|error| innermost(&*error))?;
            Lane::new(io).await.map_err(|error| innermost(&error))
        });
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(made) => made.map_err(ConnectFault::Failed),
            Err(_) => Err(ConnectFault::TimedOut),
        }
    }

    /// Keeps a connection for later.
    pub(super) fn give_back(&self, lane: Lane) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(lane);
        }
    }

    fn take(&self) -> Option<Lane> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// The last source says most: "connection refused" rather than "error trying to connect".
pub(in crate::store) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

//! One host, and its idle connections.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Uri;

use super::connection::HttpConnection;
use crate::timeouts::{DisplaySeconds, scaled};
use crate::web::{CONNECT_TIMEOUT, WebConnector, root_cause};

/// The maximum number of idle connections that are kept. No plan allows more objects in flight.
const MAX_IDLE: usize = 4096;

/// Why a connection could not be established. The server cannot have received a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostConnectError {
    /// The time limit was exceeded.
    #[error("no connection to {host} within {}", DisplaySeconds(*.within))]
    TimedOut { host: String, within: Duration },
    /// The name does not resolve, the server does not accept the connection, or the TLS handshake fails.
    #[error("{0}")]
    Failed(String),
}

/// The connection pool of one host.
pub(crate) struct ConnectionPool {
    connector: WebConnector,
    url: Uri,
    idle: Mutex<Vec<HttpConnection>>,
}

impl ConnectionPool {
    /// Creates the pool for the host of a URL.
    pub(super) fn new(connector: WebConnector, url: Uri) -> Self {
        Self { connector, url, idle: Mutex::default() }
    }

    /// Returns host and port.
    pub(super) fn authority(&self) -> &str {
        self.url.authority().map_or("", http::uri::Authority::as_str)
    }

    /// Returns an idle connection, the most recently used one first, or opens a new one.
    pub(super) async fn acquire(&self) -> Result<HttpConnection, HostConnectError> {
        while let Some(mut lane) = self.pop_idle() {
            // The runtime must run once before data that arrived in the meantime is visible.
            tokio::task::yield_now().await;
            if lane.is_reusable() {
                return Ok(lane);
            }
        }
        // Boxed, because few requests open a connection: this keeps the future of every request small.
        let connecting = Box::pin(async {
            let io = self.connector.connect(self.url.clone()).await.map_err(|error| root_cause(&*error))?;
            let mut lane = HttpConnection::new(io).await.map_err(|error| root_cause(&error))?;
            if lane.closes_or_sends_early().await {
                return Err("the server closes the connection, or sends data before a request".to_owned());
            }
            Ok(lane)
        });
        let within = scaled(CONNECT_TIMEOUT);
        match tokio::time::timeout(within, connecting).await {
            Ok(made) => made.map_err(HostConnectError::Failed),
            Err(_) => Err(HostConnectError::TimedOut { host: self.authority().to_owned(), within }),
        }
    }

    /// Keeps a connection for a later request.
    pub(super) fn release(&self, lane: HttpConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(lane);
        }
    }

    fn pop_idle(&self) -> Option<HttpConnection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

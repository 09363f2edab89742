//! One host, and its idle connections.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Uri;

use super::lane::Lane;
use crate::timeouts::{Seconds, scaled};
use crate::web::{CONNECT_TIMEOUT, Connector, innermost};

/// The maximum number of idle connections that are kept. No plan allows more objects in flight.
const MAX_IDLE: usize = 4096;

/// Why a connection could not be established. The server cannot have received a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectFault {
    /// The time limit was exceeded.
    #[error("no connection to {host} within {}", Seconds(*.within))]
    TimedOut { host: String, within: Duration },
    /// The name does not resolve, the server does not accept the connection, or the TLS handshake fails.
    #[error("{0}")]
    Failed(String),
}

/// The connection pool of one host.
pub(in crate::store) struct Host {
    connector: Connector,
    url: Uri,
    idle: Mutex<Vec<Lane>>,
}

impl Host {
    /// Creates the pool for the host of a URL.
    pub(super) fn new(connector: Connector, url: Uri) -> Self {
        Self { connector, url, idle: Mutex::default() }
    }

    /// Returns host and port.
    pub(super) fn authority(&self) -> &str {
        self.url.authority().map_or("", http::uri::Authority::as_str)
    }

    /// Returns an idle connection, the most recently used one first, or opens a new one.
    pub(super) async fn lane(&self) -> Result<Lane, ConnectFault> {
        while let Some(mut lane) = self.take() {
            // The runtime must run once before data that arrived in the meantime is visible.
            tokio::task::yield_now().await;
            if lane.is_free() {
                return Ok(lane);
            }
        }
        // Boxed, because few requests open a connection: this keeps the future of every request small.
        let connecting = Box::pin(async {
            let io = self.connector.connect(self.url.clone()).await.map_err(|error| innermost(&*error))?;
            let mut lane = Lane::new(io).await.map_err(|error| innermost(&error))?;
            if lane.speaks_first().await {
                return Err("the server hangs up, or speaks before it is asked".to_owned());
            }
            Ok(lane)
        });
        let within = scaled(CONNECT_TIMEOUT);
        match tokio::time::timeout(within, connecting).await {
            Ok(made) => made.map_err(ConnectFault::Failed),
            Err(_) => Err(ConnectFault::TimedOut { host: self.authority().to_owned(), within }),
        }
    }

    /// Keeps a connection for a later request.
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

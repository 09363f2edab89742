//! One host, and the connections to it that wait for their next request.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Uri;

use super::lane::Lane;
use crate::timeouts::{Seconds, scaled};
use crate::web::{CONNECT_TIMEOUT, Connector, innermost};

/// Connections that are kept for later. No plan has more objects in flight.
const MAX_IDLE: usize = 4096;

/// Why a connection could not be made. The server cannot have seen a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectFault {
    /// The time is up.
    #[error("no connection to {host} within {}", Seconds(*.within))]
    TimedOut { host: String, within: Duration },
    /// The name has no address, nobody listens, or the encryption could not be agreed on.
    #[error("{0}")]
    Failed(String),
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

    /// Host and port.
    pub(super) fn authority(&self) -> &str {
        self.url.authority().map_or("", http::uri::Authority::as_str)
    }

    /// A connection that is free: the one that was used last, or a new one.
    pub(super) async fn lane(&self) -> Result<Lane, ConnectFault> {
        while let Some(mut lane) = self.take() {
            // What has come on it meanwhile is known once the runtime has looked.
            tokio::task::yield_now().await;
            if lane.is_free() {
                return Ok(lane);
            }
        }
        // Boxed, as hardly a request connects: what each of them carries along is small without it.
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

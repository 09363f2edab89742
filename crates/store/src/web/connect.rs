//! Connections with and without TLS.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service as _;

/// The maximum time to connect, including the TLS handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a new connection is checked for early data before the first request. Data that arrives in this time
/// cannot be a response.
const EARLY_DATA_WAIT: Duration = Duration::from_millis(1);

/// Returns whether a new connection is unusable, because the server closed it or sent data before the first request.
/// That data would be taken for the response to the first request. If this returns true, the connection's future must
/// not be polled again.
pub async fn closes_or_sends_early(connection: impl Future + Unpin) -> bool {
    tokio::time::timeout(EARLY_DATA_WAIT, connection).await.is_ok()
}

/// A byte stream to a server, with or without TLS.
pub type ConnectionStream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Opens connections.
#[derive(Clone)]
pub enum WebConnector {
    /// Connects without TLS.
    Plain(HttpConnector),
    /// Connects with TLS, verified with the system's CA certificates.
    Tls(HttpsConnector<HttpConnector>),
}

impl WebConnector {
    /// Creates a connector, with TLS if `https` is set.
    ///
    /// # Errors
    /// Returns an error if the system has no CA certificates to verify servers with.
    pub fn new(https: bool) -> io::Result<Self> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        if !https {
            return Ok(Self::Plain(http));
        }
        let tls = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1().wrap_connector(http);
        Ok(Self::Tls(tls))
    }

    /// Connects to the host of a URL.
    ///
    /// # Errors
    /// Returns an error if the name does not resolve, the server does not accept the connection, or the TLS handshake
    /// fails.
    pub async fn connect(&self, to: Uri) -> Result<ConnectionStream, Box<dyn Error + Send + Sync>> {
        match self.clone() {
            Self::Plain(mut http) => {
                std::future::poll_fn(|cx| http.poll_ready(cx)).await?;
                Ok(MaybeHttpsStream::Http(http.call(to).await?))
            }
            Self::Tls(mut tls) => {
                std::future::poll_fn(|cx| tls.poll_ready(cx)).await?;
                tls.call(to).await
            }
        }
    }
}

/// Returns the message of the innermost source. It is the most specific one: "connection refused" instead of "error
/// trying to connect".
#[must_use]
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

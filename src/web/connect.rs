//! Connections, encrypted or not.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service as _;

/// How long a connection may take to be made, its encryption included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a new connection is listened to before anything is sent: whatever comes in that time answers nothing.
const SILENCE: Duration = Duration::from_millis(1);

/// Whether a new connection is of no use: its server speaks before it is asked, and what it says would be taken for the answer to
/// the first request; or it has hung up. The connection's future must not be polled again then.
pub async fn speaks_first(connection: impl Future + Unpin) -> bool {
    tokio::time::timeout(SILENCE, connection).await.is_ok()
}

/// Bytes to or from a server, encrypted or not.
pub type Io = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Makes connections.
#[derive(Clone)]
pub enum Connector {
    /// Without encryption.
    Plain(HttpConnector),
    /// With the system's certificates.
    Encrypted(HttpsConnector<HttpConnector>),
}

impl Connector {
    /// One that encrypts or does not.
    ///
    /// # Errors
    /// When the system has no certificates to check servers by.
    pub fn new(https: bool) -> io::Result<Self> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        if !https {
            return Ok(Self::Plain(http));
        }
        let tls = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1().wrap_connector(http);
        Ok(Self::Encrypted(tls))
    }

    /// Connects to the host of a URL.
    ///
    /// # Errors
    /// When the name has no address, nobody listens, or the encryption could not be agreed on.
    pub async fn connect(&self, to: Uri) -> Result<Io, Box<dyn Error + Send + Sync>> {
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

/// The last source says most: "connection refused" rather than "error trying to connect".
#[must_use]
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

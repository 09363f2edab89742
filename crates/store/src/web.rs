//! HTTP requests to servers other than stores: a few small requests, each bounded in time and size.
//!
//! Each request is sent once, over its own connection, directly to the host of its URL. Redirects are not followed and
//! proxies are not used. Server certificates are verified with the system's CA certificates, or with the bundle that
//! `SSL_CERT_FILE` names. The connections to stores are opened in the same way, with [`WebConnector`].

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::response::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service as _;

use crate::timeouts::{self, DisplaySeconds, scaled};

/// The maximum length of a URL, in bytes. Webhook URLs have a few hundred.
const MAX_URL_BYTES: usize = 2048;

/// The URL of a request.
///
/// The path and the query of a webhook are secret: everyone who knows them can post to it. Therefore `Display` and
/// `Debug` show only the origin.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    https: bool,
    authority: String,
    host: String,
    target: PathAndQuery,
}

/// Why a text is not a valid request URL. The messages never repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpUrlError {
    /// It contains a user name or a password.
    #[error("contains a user name or password")]
    Credentials,
    /// It does not start with `https://` or `http://`.
    #[error("does not begin with https:// or http://")]
    Scheme,
    /// The host is missing, invalid, or written in a form that hides its address.
    #[error("has no usable host or port")]
    Host,
    /// The part after the host cannot be sent.
    #[error("has a path or a query that is not percent-encoded, or a fragment")]
    Target,
    /// It is longer than any webhook URL.
    #[error("is longer than {MAX_URL_BYTES} bytes")]
    TooLong,
}

impl HttpUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// Returns an error if a request must not or cannot be sent to this URL.
    pub fn parse(text: &str) -> Result<Self, HttpUrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(HttpUrlError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(HttpUrlError::Scheme)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(HttpUrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(HttpUrlError::Credentials);
        }
        let host = host_of(authority).ok_or(HttpUrlError::Host)?.to_ascii_lowercase();
        if target.bytes().any(|byte| byte == b'#' || !byte.is_ascii_graphic()) {
            return Err(HttpUrlError::Target);
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let target = target.parse().map_err(|_| HttpUrlError::Target)?;
        Ok(Self { https, authority: authority.to_ascii_lowercase(), host, target })
    }

    /// Returns whether the URL uses `https`.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.https
    }

    /// Returns whether the host is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Returns scheme, host and port: the part of the URL that is not secret.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }

    /// Returns the whole URL, including its secrets.
    #[must_use]
    pub fn full_url(&self) -> String {
        format!("{}{}", self.origin(), self.target)
    }

    /// Returns host and port, as in the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the path and query for the request line.
    fn target(&self) -> &PathAndQuery {
        &self.target
    }

    /// Returns the URI to connect to, without path and query.
    fn connect_uri(&self) -> Result<Uri, http::Error> {
        let scheme = if self.https { "https" } else { "http" };
        Uri::builder().scheme(scheme).authority(self.authority.as_str()).path_and_query("/").build()
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({}/...)", self.origin())
    }
}

/// Returns the host of a valid authority without user information: a DNS name, or an IP address without brackets.
#[must_use]
pub fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, port.strip_prefix(':').or_else(|| port.is_empty().then_some("443"))?)
        }
        None => authority.split_once(':').unwrap_or((authority, "443")),
    };
    let port_is_number = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let legal = authority.starts_with('[') || is_host_name(host);
    (port_is_number && legal).then_some(host)
}

/// Returns whether the text is a DNS name or an IPv4 address. Underscores are not valid in either, but container
/// networks use them.
fn is_host_name(host: &str) -> bool {
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    // A name of only digits and dots is an IPv4 address or one of its old short forms. The short forms hide the
    // address.
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    host.len() <= 253 && host.split('.').all(label) && (!numeric || host.parse::<Ipv4Addr>().is_ok())
}

/// Returns whether a host is this machine.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

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
#[derive(Clone, Debug)]
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

/// The default `User-Agent`. A request can replace it.
const USER_AGENT_VALUE: HeaderValue = HeaderValue::from_static(concat!("batchplan/", env!("CARGO_PKG_VERSION")));

/// The maximum size of a response head, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Sends requests. Cheap to create: the CA certificates are loaded with the first https request.
#[derive(Debug, Default)]
pub struct WebClient {
    tls_connector: OnceLock<WebConnector>,
    /// The call of an API that all requests make. Messages name it instead of the HTTP method.
    api_call: Option<&'static str>,
}

/// A request.
pub struct WebRequest<'a> {
    /// The HTTP method.
    pub method: Method,
    /// The URL to send the request to.
    pub url: &'a HttpUrl,
    /// Headers in addition to `Host` and `Content-Length`.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// The body. May be empty.
    pub body: Bytes,
    /// Whether the request may be sent without TLS to a host other than this machine.
    pub allow_http: bool,
}

/// The limits of a request and its response.
#[derive(Clone, Copy, Debug)]
pub struct WebRequestLimits {
    /// The maximum time, from name resolution to the last byte of the response.
    pub max_time: Duration,
    /// The maximum size of the response body, in bytes.
    pub max_body_bytes: usize,
}

impl Default for WebRequestLimits {
    /// 30 seconds and 1 MiB.
    fn default() -> Self {
        Self { max_time: Duration::from_secs(30), max_body_bytes: 1 << 20 }
    }
}

/// A complete response, with any status: errors and redirects are responses too.
#[derive(Clone, Debug)]
pub struct WebResponse {
    /// The HTTP status.
    pub status: StatusCode,
    /// The response headers.
    pub headers: HeaderMap,
    /// The complete body.
    pub body: Bytes,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct WebResponseHead {
    /// The HTTP status.
    pub status: StatusCode,
    /// The response headers.
    pub headers: HeaderMap,
}

/// Why there is no response. The messages contain the origin, but never the rest of the URL or a header.
#[derive(Debug, thiserror::Error)]
pub enum WebRequestError {
    /// The request would be sent in clear text over the network.
    #[error("{0} is not encrypted, and not on this machine")]
    NotEncrypted(String),
    /// Server certificates cannot be verified.
    #[error("the system has no trusted certificates ({0}); install a CA bundle, or set SSL_CERT_FILE to one")]
    NoCertificates(io::Error),
    /// The connection could not be established. Nothing was sent.
    #[error("{host} cannot be reached: {why}")]
    ConnectFailed {
        /// The origin: scheme, host and port.
        host: String,
        /// The cause.
        why: String,
    },
    /// The time limit was exceeded. The server may have received the request.
    #[error("{host} did not respond within {}", DisplaySeconds(*.within))]
    TimedOut {
        /// The origin: scheme, host and port.
        host: String,
        /// The time limit.
        within: Duration,
    },
    /// The connection broke, or the response is not valid HTTP. The server may have received the request.
    #[error("the response from {host} cannot be read: {why}")]
    UnreadableResponse {
        /// The origin: scheme, host and port.
        host: String,
        /// The cause.
        why: String,
    },
    /// The response is longer than allowed. The server has received the request.
    #[error("the response from {host} ({}) is longer than {most} bytes", .status.as_u16())]
    ResponseTooLong {
        /// The origin: scheme, host and port.
        host: String,
        /// The HTTP status of the response.
        status: StatusCode,
        /// The maximum size in bytes.
        most: usize,
    },
}

impl WebClient {
    /// Creates a client.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a client whose requests all make the same call of an API, such as `AssumeRole`.
    #[must_use]
    pub fn for_api_call(name: &'static str) -> Self {
        Self { api_call: Some(name), ..Self::default() }
    }

    /// Sends a request once and reads the whole response. Dropping the future cancels the request and closes the
    /// connection.
    ///
    /// # Errors
    /// Returns an error if there is no response, or if it exceeds the bounds. A response with any status, including a
    /// redirect, is not an error.
    pub async fn send(
        &self,
        request: WebRequest<'_>,
        limits: WebRequestLimits,
    ) -> Result<WebResponse, WebRequestError> {
        let (host, waiting_for) = (request.url.origin(), self.waiting_for(&request.method));
        let sending = self.exchange(request, async |head: Parts, body: Incoming| {
            let whole = Limited::new(body, limits.max_body_bytes).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    WebRequestError::ResponseTooLong {
                        host: host.clone(),
                        status: head.status,
                        most: limits.max_body_bytes,
                    }
                } else {
                    WebRequestError::UnreadableResponse { host: host.clone(), why: root_cause(&*error) }
                }
            })?;
            Ok(WebResponse { status: head.status, headers: head.headers, body: whole.to_bytes() })
        });
        with_deadline(sending, limits.max_time, &host, &waiting_for).await
    }

    /// Sends a request once and reads only the head of the response. Use it for notifications, where the body of the
    /// response is not needed.
    ///
    /// # Errors
    /// Returns an error if the head does not arrive in time.
    pub async fn send_for_head(
        &self,
        request: WebRequest<'_>,
        time: Duration,
    ) -> Result<WebResponseHead, WebRequestError> {
        let (host, waiting_for) = (request.url.origin(), self.waiting_for(&request.method));
        let sending = self.exchange(request, async |head: Parts, _| {
            Ok(WebResponseHead { status: head.status, headers: head.headers })
        });
        with_deadline(sending, time, &host, &waiting_for).await
    }

    /// Sends a request and passes the response to the callback, while it drives the connection.
    async fn exchange<T>(
        &self,
        request: WebRequest<'_>,
        read: impl AsyncFnOnce(Parts, Incoming) -> Result<T, WebRequestError>,
    ) -> Result<T, WebRequestError> {
        let host = request.url.origin();
        let unconnected = |why| WebRequestError::ConnectFailed { host: host.clone(), why };
        let unread =
            |error: &hyper::Error| WebRequestError::UnreadableResponse { host: host.clone(), why: root_cause(error) };
        let connector = self.connector(&request)?;
        let to = request.url.connect_uri().map_err(|error| unconnected(error.to_string()))?;
        let http_request = build_request(request).map_err(|error| unconnected(error.to_string()))?;
        let connecting = tokio::time::timeout(scaled(CONNECT_TIMEOUT), connector.connect(to));
        let io = match connecting.await {
            Ok(connected) => connected.map_err(|error| unconnected(root_cause(&*error)))?,
            Err(_) => {
                return Err(unconnected(format!("no connection within {}", DisplaySeconds(scaled(CONNECT_TIMEOUT)))));
            }
        };
        let handshake = Builder::new().max_buf_size(MAX_HEAD_BYTES).handshake(io).await;
        let (mut requests, connection) = handshake.map_err(|error| unconnected(root_cause(&error)))?;
        let mut connection = pin!(connection);
        if closes_or_sends_early(&mut connection).await {
            return Err(unconnected("it closes the connection, or sends data before a request".to_owned()));
        }
        let mut exchanging = pin!(async {
            let response = requests.send_request(http_request).await.map_err(|error| unread(&error))?;
            let (head, body) = response.into_parts();
            read(head, body).await
        });
        // This future drives the connection while it waits for the response, so that both end together.
        let mut over = false;
        std::future::poll_fn(|cx| {
            if !over {
                over = Pin::new(&mut connection).poll(cx).is_ready();
            }
            exchanging.as_mut().poll(cx)
        })
        .await
    }

    /// Returns what a request waits for, as reports of long waits say it.
    fn waiting_for(&self, method: &Method) -> String {
        format!("no response to {}", self.api_call.unwrap_or(method.as_str()))
    }

    fn connector(&self, request: &WebRequest<'_>) -> Result<WebConnector, WebRequestError> {
        if !request.url.is_encrypted() {
            if !request.allow_http && !request.url.is_loopback() {
                return Err(WebRequestError::NotEncrypted(request.url.origin()));
            }
            return WebConnector::new(false).map_err(WebRequestError::NoCertificates);
        }
        if let Some(connector) = self.tls_connector.get() {
            return Ok(connector.clone());
        }
        let connector = WebConnector::new(true).map_err(WebRequestError::NoCertificates)?;
        Ok(self.tls_connector.get_or_init(|| connector).clone())
    }
}

async fn with_deadline<T>(
    sending: impl Future<Output = Result<T, WebRequestError>>,
    within: Duration,
    origin: &str,
    waiting_for: &str,
) -> Result<T, WebRequestError> {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let sent = timeouts::with_time_limit(within, host, || waiting_for.to_owned(), Box::pin(sending)).await;
    sent.unwrap_or_else(|_| Err(WebRequestError::TimedOut { host: origin.to_owned(), within }))
}

fn build_request(request: WebRequest<'_>) -> Result<Request<Full<Bytes>>, http::Error> {
    let authority = HeaderValue::from_str(request.url.authority())?;
    let bodiless = request.body.is_empty();
    let mut http_request = Request::new(Full::new(request.body));
    *http_request.uri_mut() = Uri::from(request.url.target().clone());
    let headers = http_request.headers_mut();
    headers.insert(USER_AGENT, USER_AGENT_VALUE);
    for (name, value) in request.headers {
        headers.insert(name, value.clone());
    }
    headers.insert(HOST, authority);
    if bodiless && matches!(request.method, Method::POST | Method::PUT | Method::PATCH) {
        // hyper sends no `Content-Length` for an empty body, and some servers require it.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    *http_request.method_mut() = request.method;
    Ok(http_request)
}

#[cfg(test)]
mod tests;

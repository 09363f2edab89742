//! A client that sends one request and reads one response.

use std::io;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;

use super::connect::{CONNECT_TIMEOUT, WebConnector, closes_or_sends_early, root_cause};
use super::url::HttpUrl;
use crate::timeouts::{self, DisplaySeconds, scaled};

/// The default `User-Agent`. A request can replace it.
const USER_AGENT_VALUE: HeaderValue = HeaderValue::from_static(concat!("batchplan/", env!("CARGO_PKG_VERSION")));

/// The maximum size of a response head, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Sends requests. Cheap to create: the CA certificates are loaded with the first https request.
#[derive(Default)]
pub struct WebClient {
    tls_connector: OnceLock<WebConnector>,
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

    /// Sends a request once and reads the whole response. Dropping the future cancels the request and closes the
    /// connection.
    ///
    /// # Errors
    /// Returns an error if there is no response, or if it exceeds the bounds. A response with any status, including a
    /// redirect, is not an error.
    pub async fn send(
        &self,
        message: WebRequest<'_>,
        bounds: WebRequestLimits,
    ) -> Result<WebResponse, WebRequestError> {
        let host = message.url.origin();
        let sending = self.exchange(message, async |head: Parts, body: Incoming| {
            let whole = Limited::new(body, bounds.max_body_bytes).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    WebRequestError::ResponseTooLong {
                        host: host.clone(),
                        status: head.status,
                        most: bounds.max_body_bytes,
                    }
                } else {
                    WebRequestError::UnreadableResponse { host: host.clone(), why: root_cause(&*error) }
                }
            })?;
            Ok(WebResponse { status: head.status, headers: head.headers, body: whole.to_bytes() })
        });
        with_deadline(sending, bounds.max_time, &host).await
    }

    /// Sends a request once and reads only the head of the response. Use it for notifications, where the body of the
    /// response is not needed.
    ///
    /// # Errors
    /// Returns an error if the head does not arrive in time.
    pub async fn send_for_head(
        &self,
        message: WebRequest<'_>,
        time: Duration,
    ) -> Result<WebResponseHead, WebRequestError> {
        let host = message.url.origin();
        let sending = self.exchange(message, async |head: Parts, _| {
            Ok(WebResponseHead { status: head.status, headers: head.headers })
        });
        with_deadline(sending, time, &host).await
    }

    /// Sends a request and passes the response to the callback, while it drives the connection.
    async fn exchange<T>(
        &self,
        message: WebRequest<'_>,
        read: impl AsyncFnOnce(Parts, Incoming) -> Result<T, WebRequestError>,
    ) -> Result<T, WebRequestError> {
        let host = message.url.origin();
        let unconnected = |why| WebRequestError::ConnectFailed { host: host.clone(), why };
        let unread =
            |error: &hyper::Error| WebRequestError::UnreadableResponse { host: host.clone(), why: root_cause(error) };
        let connector = self.connector(&message)?;
        let to = message.url.connect_uri().map_err(|error| unconnected(error.to_string()))?;
        let request = build_request(message).map_err(|error| unconnected(error.to_string()))?;
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
            let response = requests.send_request(request).await.map_err(|error| unread(&error))?;
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

    fn connector(&self, message: &WebRequest<'_>) -> Result<WebConnector, WebRequestError> {
        if !message.url.is_encrypted() {
            if !message.allow_http && !message.url.is_loopback() {
                return Err(WebRequestError::NotEncrypted(message.url.origin()));
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
    host: &str,
) -> Result<T, WebRequestError> {
    let sent = timeouts::with_time_limit(within, host, || "no response".to_owned(), Box::pin(sending)).await;
    sent.unwrap_or_else(|_| Err(WebRequestError::TimedOut { host: host.to_owned(), within }))
}

fn build_request(message: WebRequest<'_>) -> Result<Request<Full<Bytes>>, http::Error> {
    let authority = HeaderValue::from_str(message.url.authority())?;
    let bodiless = message.body.is_empty();
    let mut request = Request::new(Full::new(message.body));
    *request.uri_mut() = Uri::from(message.url.target().clone());
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, USER_AGENT_VALUE);
    for (name, value) in message.headers {
        headers.insert(name, value.clone());
    }
    headers.insert(HOST, authority);
    if bodiless && matches!(message.method, Method::POST | Method::PUT | Method::PATCH) {
        // hyper sends no `Content-Length` for an empty body, and some servers require it.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    *request.method_mut() = message.method;
    Ok(request)
}

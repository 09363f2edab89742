//! HTTP requests to servers other than stores: a few small requests, each bounded in time and size.
//!
//! Each request is sent once, over its own connection. Redirects are not followed.

use std::borrow::Cow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::connect_error::{ConnectError, ConnectionSetupError};
use super::connector::{CONNECT_TIMEOUT, ConnectionSettings, OriginConnector};
use super::http1::{
    CLOSES_OR_SENDS_EARLY, ResponseHeaderLimit, closes_or_sends_early, describe_response_error, http1_builder,
    root_cause,
};
use super::url::HttpUrl;
use crate::timeouts::{self, DisplaySeconds, scaled};

/// The default `User-Agent`. A request can replace it.
const USER_AGENT_VALUE: HeaderValue = HeaderValue::from_static(concat!("batchplan/", env!("CARGO_PKG_VERSION")));

/// Sends requests. Cheap to create.
#[derive(Debug)]
pub struct WebClient {
    settings: Arc<ConnectionSettings>,
    /// What all requests wait for, as reports of long waits say it. If `None`, they name the HTTP method.
    waiting_for: Option<Cow<'static, str>>,
}

impl Default for WebClient {
    fn default() -> Self {
        Self::new()
    }
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
    /// The maximum time to connect, which is part of it.
    pub max_connect_time: Duration,
    /// The maximum size of the response body, in bytes.
    pub max_body_bytes: usize,
}

impl Default for WebRequestLimits {
    /// 30 seconds, of which 10 to connect, and 1 MiB.
    fn default() -> Self {
        Self { max_time: Duration::from_secs(30), max_connect_time: scaled(CONNECT_TIMEOUT), max_body_bytes: 1 << 20 }
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
    #[error("{0} uses unencrypted http to another machine")]
    NotEncrypted(String),
    /// A proxy variable or a CA bundle is not valid.
    #[error("{0}: {help}", help = .0.help())]
    InvalidSetup(ConnectionSetupError),
    /// The request cannot be built.
    #[error("cannot send the request to {host}: {why}")]
    InvalidRequest {
        /// The origin: scheme, host and port.
        host: String,
        /// The cause.
        why: String,
    },
    /// The connection could not be established. Nothing was sent.
    #[error(transparent)]
    ConnectFailed(ConnectError),
    /// The time limit was exceeded. The server may have received the request.
    #[error("{host} did not respond within {}", DisplaySeconds(*.within))]
    TimedOut {
        /// The origin: scheme, host and port.
        host: String,
        /// The time limit.
        within: Duration,
    },
    /// The connection broke, or the response is not valid HTTP. The server may have received the request.
    #[error("cannot read the response from {host}: {why}")]
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
    /// Creates a client with the proxies and the CA certificates of the environment.
    #[must_use]
    pub fn new() -> Self {
        Self { settings: ConnectionSettings::of_process(), waiting_for: None }
    }

    /// Creates a client whose requests all make the same call of an API, such as `AssumeRole`.
    #[must_use]
    pub fn for_api_call(name: &'static str) -> Self {
        Self { waiting_for: Some(format!("no response to {name}").into()), ..Self::new() }
    }

    /// Creates a client with these settings. Reports of long waits say what its requests wait for.
    pub(crate) fn with_settings(settings: Arc<ConnectionSettings>, waiting_for: String) -> Self {
        Self { settings, waiting_for: Some(waiting_for.into()) }
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
        // Boxed, because the streams of an exchange are large.
        let sending = Box::pin(self.exchange(request, limits.max_connect_time, async |head: Parts, body: Incoming| {
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
        }));
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
        let sending = Box::pin(self.exchange(request, scaled(CONNECT_TIMEOUT), async |head: Parts, _| {
            Ok(WebResponseHead { status: head.status, headers: head.headers })
        }));
        with_deadline(sending, time, &host, &waiting_for).await
    }

    /// Sends a request and passes the response to the callback, while it drives the connection.
    async fn exchange<T>(
        &self,
        request: WebRequest<'_>,
        within: Duration,
        read: impl AsyncFnOnce(Parts, Incoming) -> Result<T, WebRequestError>,
    ) -> Result<T, WebRequestError> {
        let host = request.url.origin();
        let connector = self.connector(&request)?;
        let mut http_request = build_request(request)
            .map_err(|error| WebRequestError::InvalidRequest { host: host.clone(), why: error.to_string() })?;
        connector.address(&mut http_request).map_err(WebRequestError::ConnectFailed)?;
        let stream = connector.connect(within).await.map_err(WebRequestError::ConnectFailed)?;
        // A client sends few of these requests, so that space for many headers costs nothing that matters.
        let headers = ResponseHeaderLimit::WithMetadata;
        let handshake = http1_builder(headers).handshake(stream).await;
        let (mut requests, mut connection) =
            handshake.map_err(|error| WebRequestError::ConnectFailed(connector.error(root_cause(&error))))?;
        if closes_or_sends_early(&mut connection).await {
            return Err(WebRequestError::ConnectFailed(connector.error(CLOSES_OR_SENDS_EARLY.to_owned())));
        }
        let mut exchanging = pin!(async {
            let response = requests.send_request(http_request).await?;
            let (head, body) = response.into_parts();
            if let Some(refusal) = connector.proxy_refusal(head.status, &head.headers) {
                return Ok(Err(WebRequestError::ConnectFailed(refusal)));
            }
            Ok(read(head, body).await)
        });
        // This future drives the connection while it waits for the response, so that both end together.
        let mut over = false;
        let exchanged = std::future::poll_fn(|cx| {
            if !over {
                over = Pin::new(&mut connection).poll(cx).is_ready();
            }
            exchanging.as_mut().poll(cx)
        });
        exchanged.await.unwrap_or_else(|error: hyper::Error| {
            let why = describe_response_error(&error, headers, &connection.into_parts().read_buf);
            Err(WebRequestError::UnreadableResponse { host, why })
        })
    }

    /// Returns what a request waits for, as reports of long waits say it.
    fn waiting_for(&self, method: &Method) -> String {
        self.waiting_for.as_deref().map_or_else(|| format!("no response to {method}"), str::to_owned)
    }

    fn connector(&self, request: &WebRequest<'_>) -> Result<OriginConnector, WebRequestError> {
        let url = request.url;
        if !url.is_encrypted() && !request.allow_http && !url.is_loopback() {
            return Err(WebRequestError::NotEncrypted(url.origin()));
        }
        self.settings.connector_to(url.is_encrypted(), url.authority()).map_err(WebRequestError::InvalidSetup)
    }
}

async fn with_deadline<T>(
    sending: impl Future<Output = Result<T, WebRequestError>>,
    within: Duration,
    origin: &str,
    waiting_for: &str,
) -> Result<T, WebRequestError> {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let sent = timeouts::with_time_limit(within, host, || waiting_for.to_owned(), sending).await;
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

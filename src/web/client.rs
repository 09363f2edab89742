//! One request, one answer.

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

use super::connect::{CONNECT_TIMEOUT, Connector, innermost, speaks_first};
use super::url::Url;
use crate::timeouts::{self, Seconds, scaled};

/// How requests introduce themselves, unless they do it on their own.
const INTRODUCTION: HeaderValue = HeaderValue::from_static(concat!("batchplan/", env!("CARGO_PKG_VERSION")));

/// The most bytes that the head of an answer may have.
const MAX_HEAD: usize = 64 << 10;

/// Sends messages. Cheap; the certificates are read with the first that is encrypted.
#[derive(Default)]
pub struct Client {
    encrypted: OnceLock<Connector>,
}

/// What is sent, and where.
pub struct Message<'a> {
    /// The method.
    pub method: Method,
    /// Where it goes.
    pub url: &'a Url,
    /// Headers, beyond `Host` and `Content-Length`.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// The body.
    pub body: Bytes,
    /// Whether it may go to another machine without encryption.
    pub allow_http: bool,
}

/// What a request and its answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The time, from the look-up of the name to the last byte of the answer.
    pub time: Duration,
    /// The bytes of the answer's body.
    pub body: usize,
}

impl Default for Bounds {
    /// Half a minute, and a mebibyte.
    fn default() -> Self {
        Self { time: Duration::from_secs(30), body: 1 << 20 }
    }
}

/// What was answered, whatever it says: a refusal and a redirect are answers too.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// The beginning of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
}

/// Why there is no answer. Each names the host and never more of the URL, nor any header.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It would be read by anyone on the way.
    #[error("{0} is not encrypted, and not on this machine")]
    NotEncrypted(String),
    /// Servers cannot be checked.
    #[error("the system has no certificates that it trusts ({0}); install its CA bundle, or name one in SSL_CERT_FILE")]
    NoCertificates(io::Error),
    /// There is no connection. Nothing was sent.
    #[error("{host} cannot be reached: {why}")]
    Unconnected {
        /// The host.
        host: String,
        /// Why.
        why: String,
    },
    /// The time is up. The request may have arrived.
    #[error("{host} did not answer within {}", Seconds(*.within))]
    TimedOut {
        /// The host.
        host: String,
        /// What was allowed.
        within: Duration,
    },
    /// The connection broke, or what came is no HTTP. The request may have arrived.
    #[error("the answer of {host} cannot be read: {why}")]
    Unread {
        /// The host.
        host: String,
        /// Why.
        why: String,
    },
    /// The answer is longer than allowed. The request has arrived.
    #[error("the answer of {host}, {}, has more than {most} bytes", .status.as_u16())]
    TooLong {
        /// The host.
        host: String,
        /// The status that it came with.
        status: StatusCode,
        /// What was allowed.
        most: usize,
    },
}

impl Client {
    /// One that has sent nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends a message once and reads the whole answer. Dropping the future gives it up, and closes the connection.
    ///
    /// # Errors
    /// When there is no answer, or not within these bounds. A status of any kind, a redirect too, is an answer.
    pub async fn send(&self, message: Message<'_>, bounds: Bounds) -> Result<Answer, SendError> {
        let host = message.url.origin();
        let sending = self.exchange(message, async |head: Parts, body: Incoming| {
            let whole = Limited::new(body, bounds.body).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    SendError::TooLong { host: host.clone(), status: head.status, most: bounds.body }
                } else {
                    SendError::Unread { host: host.clone(), why: innermost(&*error) }
                }
            })?;
            Ok(Answer { status: head.status, headers: head.headers, body: whole.to_bytes() })
        });
        in_time(sending, bounds.time, &host).await
    }

    /// Sends a message once, and reads the head of the answer alone: whoever is only told something may answer whatever
    /// it likes.
    ///
    /// # Errors
    /// When no head comes in time.
    pub async fn tell(&self, message: Message<'_>, time: Duration) -> Result<Head, SendError> {
        let host = message.url.origin();
        let sending =
            self.exchange(message, async |head: Parts, _| Ok(Head { status: head.status, headers: head.headers }));
        in_time(sending, time, &host).await
    }

    /// Sends a message, and has its answer read while the connection is driven.
    async fn exchange<T>(
        &self,
        message: Message<'_>,
        read: impl AsyncFnOnce(Parts, Incoming) -> Result<T, SendError>,
    ) -> Result<T, SendError> {
        let host = message.url.origin();
        let unconnected = |why| SendError::Unconnected { host: host.clone(), why };
        let unread = |error: &hyper::Error| SendError::Unread { host: host.clone(), why: innermost(error) };
        let connector = self.connector(&message)?;
        let to = message.url.to_connect().map_err(|error| unconnected(error.to_string()))?;
        let request = request(message).map_err(|error| unconnected(error.to_string()))?;
        let connecting = tokio::time::timeout(scaled(CONNECT_TIMEOUT), connector.connect(to));
        let io = match connecting.await {
            Ok(connected) => connected.map_err(|error| unconnected(innermost(&*error)))?,
            Err(_) => return Err(unconnected(format!("no connection within {}", Seconds(scaled(CONNECT_TIMEOUT))))),
        };
        let handshake = Builder::new().max_buf_size(MAX_HEAD).handshake(io).await;
        let (mut requests, connection) = handshake.map_err(|error| unconnected(innermost(&error)))?;
        let mut connection = pin!(connection);
        if speaks_first(&mut connection).await {
            return Err(unconnected("it hangs up, or speaks before it is asked".to_owned()));
        }
        let mut exchanging = pin!(async {
            let response = requests.send_request(request).await.map_err(|error| unread(&error))?;
            let (head, body) = response.into_parts();
            read(head, body).await
        });
        // The connection is driven by whoever waits for the answer, so that both end together.
        let mut over = false;
        std::future::poll_fn(|cx| {
            if !over {
                over = Pin::new(&mut connection).poll(cx).is_ready();
            }
            exchanging.as_mut().poll(cx)
        })
        .await
    }

    fn connector(&self, message: &Message<'_>) -> Result<Connector, SendError> {
        if !message.url.is_encrypted() {
            if !message.allow_http && !message.url.is_loopback() {
                return Err(SendError::NotEncrypted(message.url.origin()));
            }
            return Connector::new(false).map_err(SendError::NoCertificates);
        }
        if let Some(connector) = self.encrypted.get() {
            return Ok(connector.clone());
        }
        let connector = Connector::new(true).map_err(SendError::NoCertificates)?;
        Ok(self.encrypted.get_or_init(|| connector).clone())
    }
}

async fn in_time<T>(
    sending: impl Future<Output = Result<T, SendError>>,
    within: Duration,
    host: &str,
) -> Result<T, SendError> {
    let sent = timeouts::within(within, host, || "no answer".to_owned(), Box::pin(sending)).await;
    sent.unwrap_or_else(|_| Err(SendError::TimedOut { host: host.to_owned(), within }))
}

fn request(message: Message<'_>) -> Result<Request<Full<Bytes>>, http::Error> {
    let authority = HeaderValue::from_str(message.url.authority())?;
    let bodiless = message.body.is_empty();
    let mut request = Request::new(Full::new(message.body));
    *request.uri_mut() = Uri::from(message.url.target().clone());
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, INTRODUCTION);
    for (name, value) in message.headers {
        headers.insert(name, value.clone());
    }
    headers.insert(HOST, authority);
    if bodiless && matches!(message.method, Method::POST | Method::PUT | Method::PATCH) {
        // hyper says nothing of a body that is not there, and some servers insist.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    *request.method_mut() = message.method;
    Ok(request)
}

//! Opens connections: directly or through a proxy, with or without TLS.

use std::env;
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service as _;
use tracing::{debug, info};

use super::ca::CaSettings;
use super::connect_error::{
    ConnectError, ConnectionSetupError, Peer, TlsAdvice, describe_dial_error, describe_tls_error, is_about_certificate,
    is_unknown_host,
};
use super::http1::{ResponseHeaderLimit, describe_response_error, http1_builder};
use super::proxy::{IgnoredBypass, Proxy, ProxySettings};
use super::url::{is_loopback, split_authority};
use crate::error::{INVALID_CERTIFICATE, PROXY_REFUSED, UNKNOWN_HOST};
use crate::timeouts::{DisplaySeconds, micros};

/// The maximum time to connect, including a proxy and the TLS handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The proxies and the CA certificates of all connections.
#[derive(Debug)]
pub struct ConnectionSettings {
    proxies: ProxySettings,
    ca: CaSettings,
    /// Loaded with the first connection that uses TLS.
    tls_config: OnceLock<Result<Arc<ClientConfig>, ConnectionSetupError>>,
}

impl ConnectionSettings {
    /// Returns the settings of the environment, which is read once.
    #[must_use]
    pub fn of_process() -> Arc<Self> {
        static SETTINGS: OnceLock<Arc<ConnectionSettings>> = OnceLock::new();
        Arc::clone(SETTINGS.get_or_init(|| Arc::new(Self::from_variables(&|name| env::var_os(name)))))
    }

    /// Returns the settings of the environment with those of an AWS profile: the CA bundle and the setting that names it
    /// in messages, and the URL of the metadata service, to which no proxy is used.
    #[must_use]
    pub fn with_profile(bundle: Option<(String, PathBuf)>, metadata_service: Option<&str>) -> Arc<Self> {
        let mut settings = Self::from_variables(&|name| env::var_os(name));
        if let Some(url) = metadata_service {
            settings.proxies.bypass_url(url);
        }
        if let Some((setting, path)) = bundle {
            settings.ca = settings.ca.with_profile_bundle(setting, path);
        }
        Arc::new(settings)
    }

    pub(super) fn from_variables(variable: &impl Fn(&str) -> Option<OsString>) -> Self {
        let (proxies, ca) = (ProxySettings::from_variables(variable), CaSettings::from_variables(variable));
        Self { proxies, ca, tls_config: OnceLock::new() }
    }

    /// Returns a connector to a host, with TLS if `https` is set. The authority is the host, with its port if that is
    /// not the default one.
    ///
    /// # Errors
    /// Returns an error if the host is not valid, if the variable that names its proxy is not valid, or if TLS is
    /// needed and the CA certificates cannot be loaded.
    pub fn connector_to(&self, https: bool, authority: &str) -> Result<OriginConnector, ConnectionSetupError> {
        let invalid = || ConnectionSetupError::InvalidHost(authority.escape_debug().to_string());
        let (host, port) = split_authority(authority).ok_or_else(invalid)?;
        let port = port.unwrap_or(if https { 443 } else { 80 });
        let proxy = self.proxies.proxy_for(https, host, port)?;
        if let Some(proxy) = &proxy {
            info!(host, port, %proxy, setting = proxy.variable, "connections use a proxy");
        }
        let needs_tls = https || proxy.as_ref().is_some_and(|proxy| proxy.https);
        let tls = if needs_tls { Some(TlsConnector::from(self.tls_config()?)) } else { None };
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let dialed = match &proxy {
            Some(proxy) => proxy.to_string(),
            None => format!("http://{}", with_port(host, port)),
        };
        tcp.enforce_http(false);
        Ok(OriginConnector {
            authority: authority.parse().map_err(|_| invalid())?,
            https,
            host: host.to_owned(),
            port,
            proxy,
            tls,
            ca_bundle: self.ca.bundle().map(Arc::from),
            tcp,
            dialed: dialed.parse().map_err(|_| invalid())?,
        })
    }

    /// Returns the entries of `NO_PROXY` that name no host and have no effect. Empty if no proxy is used.
    #[must_use]
    pub fn ignored_bypasses(&self) -> &[IgnoredBypass] {
        self.proxies.ignored_entries()
    }

    fn tls_config(&self) -> Result<Arc<ClientConfig>, ConnectionSetupError> {
        self.tls_config.get_or_init(|| self.ca.tls_config()).clone()
    }
}

/// Returns the passwords of this process's proxies, in the forms in which a proxy may repeat them.
pub(crate) fn proxy_secrets() -> &'static [String] {
    static SECRETS: OnceLock<Vec<String>> = OnceLock::new();
    SECRETS.get_or_init(|| ConnectionSettings::of_process().proxies.secrets())
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Opens connections to one host. Cheap to clone.
#[derive(Clone)]
pub struct OriginConnector {
    authority: Authority,
    https: bool,
    /// The host without brackets, and the port.
    host: String,
    port: u16,
    proxy: Option<Arc<Proxy>>,
    /// Set if the connection to the host or to the proxy uses TLS.
    tls: Option<TlsConnector>,
    /// The file with the CA certificates and the setting that names it, unless they are the system's.
    ca_bundle: Option<Arc<str>>,
    tcp: HttpConnector,
    /// The server that a TCP connection is made with: the host or its proxy.
    dialed: Uri,
}

impl OriginConnector {
    /// Returns host and port, as in the `Host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Returns scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Returns an error if the name does not resolve, the server or the proxy does not accept the connection, the TLS
    /// handshake fails, or all of this takes longer than `within`.
    pub async fn connect(&self, within: Duration) -> Result<ConnectionStream, ConnectError> {
        let started = Instant::now();
        let asks_proxy = AtomicBool::new(false);
        let opened = tokio::time::timeout(within, self.open(&asks_proxy)).await;
        let opened = opened.unwrap_or_else(|_| {
            let what = match (&self.proxy, asks_proxy.load(Ordering::Relaxed)) {
                (_, true) => "the proxy did not answer CONNECT",
                (Some(_), false) => "the proxy did not answer",
                (None, false) => "no connection",
            };
            Err(self.error(format!("{what} within {}", DisplaySeconds(within))))
        });
        let (origin, us) = (tracing::field::display(self.origin()), micros(started.elapsed()));
        match &opened {
            Ok(_) => debug!(origin, us, "connection opened"),
            Err(error) => debug!(origin, us, %error, "connection failed"),
        }
        opened
    }

    /// Returns the error of a connection that is not usable for this reason.
    pub(crate) fn error(&self, why: String) -> ConnectError {
        let proxy = self.proxy.as_ref().map(ToString::to_string);
        ConnectError { origin: self.origin(), proxy, why, needs_proxy_password: false, lasting_code: None }
    }

    /// Addresses a request, whose URI is a path, to the host. A proxy that forwards requests gets the whole URL, and
    /// its user name and password.
    ///
    /// # Errors
    /// Returns an error if the URI is not a path. The request must then not be sent: its target is lost.
    pub(crate) fn address<B>(&self, request: &mut Request<B>) -> Result<(), ConnectError> {
        let Some(proxy) = self.proxy.as_ref().filter(|_| !self.https) else { return Ok(()) };
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(self.authority.clone()));
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| self.error(error.to_string()))?;
        if let Some(authorization) = &proxy.authorization {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        Ok(())
    }

    /// Opens a connection. `asks_proxy` is set while the proxy is asked to connect to the host.
    async fn open(&self, asks_proxy: &AtomicBool) -> Result<ConnectionStream, ConnectError> {
        let tcp = self.dial().await?;
        match &self.proxy {
            None if self.https => Ok(ConnectionStream::tls(self.handshake(tcp, Peer::Server).await?)),
            Some(proxy) if proxy.https => {
                let encrypted = self.handshake(tcp, Peer::Proxy).await?;
                if !self.https {
                    return Ok(ConnectionStream::tls(encrypted));
                }
                asks_proxy.store(true, Ordering::Relaxed);
                let tunnel = self.tunnel(proxy, encrypted).await?;
                asks_proxy.store(false, Ordering::Relaxed);
                let stream = Box::new(self.handshake(tunnel, Peer::Server).await?);
                Ok(ConnectionStream::TlsInTls(TokioIo::new(stream)))
            }
            Some(proxy) if self.https => {
                asks_proxy.store(true, Ordering::Relaxed);
                let tunnel = self.tunnel(proxy, tcp).await?;
                asks_proxy.store(false, Ordering::Relaxed);
                Ok(ConnectionStream::tls(self.handshake(tunnel, Peer::Server).await?))
            }
            None | Some(_) => Ok(ConnectionStream::Plain(TokioIo::new(tcp))),
        }
    }

    async fn dial(&self) -> Result<TcpStream, ConnectError> {
        let peer = if self.proxy.is_some() { Peer::Proxy } else { Peer::Server };
        let mut tcp = self.tcp.clone();
        // This connector is always ready.
        let dialed = match std::future::poll_fn(|cx| tcp.poll_ready(cx)).await {
            Ok(()) => tcp.call(self.dialed.clone()).await,
            Err(error) => Err(error),
        };
        dialed.map(TokioIo::into_inner).map_err(|error| {
            let lasting_code = is_unknown_host(&error).then_some(UNKNOWN_HOST);
            ConnectError { lasting_code, ..self.error(describe_dial_error(&error, peer)) }
        })
    }

    async fn handshake<S>(&self, stream: S, peer: Peer) -> Result<TlsStream<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = match (&self.proxy, peer) {
            (Some(proxy), Peer::Proxy) => &proxy.host,
            _ => &self.host,
        };
        // Over the network, what a server or an attacker in between sends is no reason to fall back to plain HTTP.
        let sends_password = self.proxy.as_ref().is_some_and(|proxy| proxy.authorization.is_some());
        let may_be_plain = is_loopback(host) || (peer == Peer::Proxy && !sends_password);
        let name = ServerName::try_from(host.clone());
        let (Ok(name), Some(tls)) = (name, &self.tls) else {
            return Err(self.error(format!("{host} is not a valid host name for TLS")));
        };
        tls.connect(name, stream).await.map_err(|error| {
            let advice = TlsAdvice { may_be_plain, ca_bundle: self.ca_bundle.as_deref() };
            let lasting_code = is_about_certificate(&error).then_some(INVALID_CERTIFICATE);
            ConnectError { lasting_code, ..self.error(describe_tls_error(&error, peer, host, advice)) }
        })
    }

    /// Has the proxy open a connection to the host, and returns the stream to it.
    ///
    /// hyper-util's `Tunnel` does the same, but does not tell with which status a proxy refuses.
    async fn tunnel<S>(&self, proxy: &Proxy, stream: S) -> Result<S, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let headers = ResponseHeaderLimit::Standard;
        let broken = |why: String| self.error(format!("the CONNECT request failed: {why}"));
        let no_response = |error: hyper::Error| broken(describe_response_error(&error, headers, b""));
        let handshake = http1_builder(headers).handshake(TokioIo::new(stream)).await;
        let (mut requests, mut connection) = handshake.map_err(no_response)?;
        let request = self.connect_request(proxy).map_err(|error| broken(error.to_string()))?;
        let mut sending = pin!(requests.send_request(request));
        let mut over = None;
        let response = std::future::poll_fn(|cx| {
            if over.is_none()
                && let Poll::Ready(ended) = connection.poll_without_shutdown(cx)
            {
                over = Some(ended);
            }
            sending.as_mut().poll(cx)
        });
        let status = response.await.map_err(no_response)?.status();
        if !status.is_success() {
            return Err(self.refused_by_proxy(proxy, status));
        }
        if over.is_none() {
            over = Some(std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await);
        }
        if let Some(Err(error)) = over {
            return Err(no_response(error));
        }
        let parts = connection.into_parts();
        if !parts.read_buf.is_empty() {
            // In TLS the client speaks first.
            return Err(broken("the proxy sent data before the TLS handshake".to_owned()));
        }
        Ok(parts.io.into_inner())
    }

    fn connect_request(&self, proxy: &Proxy) -> Result<Request<Empty<Bytes>>, http::Error> {
        let target = with_port(&self.host, self.port);
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::builder().authority(target.as_str()).build()?;
        request.headers_mut().insert(HOST, HeaderValue::from_str(&target)?);
        if let Some(authorization) = &proxy.authorization {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    /// Returns the error of a request that the proxy did not forward, because it requires a user name and a password.
    ///
    /// A proxy says then how to authenticate (RFC 9110, section 15.5.8). A 407 that does not say it comes from the
    /// server behind the proxy, or from a proxy that breaks that rule, and is a response like any other, which pauses the
    /// job.
    pub(crate) fn proxy_refusal(&self, status: StatusCode, headers: &HeaderMap) -> Option<ConnectError> {
        let proxy = self.proxy.as_ref().filter(|_| !self.https)?;
        let is_challenge =
            status == StatusCode::PROXY_AUTHENTICATION_REQUIRED && headers.contains_key(PROXY_AUTHENTICATE);
        is_challenge.then(|| self.refused_by_proxy(proxy, status))
    }

    fn refused_by_proxy(&self, proxy: &Proxy, status: StatusCode) -> ConnectError {
        if status != StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let is_lasting = matches!(status, StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED);
            let lasting_code = is_lasting.then_some(PROXY_REFUSED);
            return ConnectError { lasting_code, ..self.error(format!("the proxy refused the connection: {status}")) };
        }
        let (variable, scheme) = (proxy.variable, if proxy.https { "https" } else { "http" });
        let why = match proxy.authorization {
            Some(_) => format!("the proxy rejected the user name and password in {variable} ({status})"),
            None => format!(
                "the proxy requires a user name and password ({status}): set {variable} to {scheme}://USER:PASSWORD@{}",
                with_port(&proxy.host, proxy.port)
            ),
        };
        ConnectError { needs_proxy_password: true, ..self.error(why) }
    }
}

/// A byte stream to a server or to a proxy.
///
/// An enum and not a trait object: requests for one object are many and small.
#[expect(clippy::large_enum_variant, reason = "a TLS session is large, and almost every connection has one")]
pub enum ConnectionStream {
    /// Without TLS, to the server or to a proxy that forwards requests.
    Plain(TokioIo<TcpStream>),
    /// With TLS, to the server, through a tunnel or not, or to a proxy that forwards requests.
    Tls(TokioIo<TlsStream<TcpStream>>),
    /// With TLS to the server, through a tunnel that is itself encrypted.
    TlsInTls(TokioIo<Box<TlsStream<TlsStream<TcpStream>>>>),
}

impl ConnectionStream {
    fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::Tls(TokioIo::new(stream))
    }
}

impl Read for ConnectionStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::TlsInTls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Write for ConnectionStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::TlsInTls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::TlsInTls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::TlsInTls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::TlsInTls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::TlsInTls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }
}

#[cfg(test)]
mod tests;

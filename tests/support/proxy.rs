//! Servers between a client and the server that it asks for: a proxy, and a front that speaks TLS.
//!
//! They run in a thread of their own, so that they serve the binary as well as a client in the test's runtime.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;

/// The certificate of the fixtures, and the one that has expired.
pub(crate) const VALID: &[u8] = include_bytes!("../fixtures/tls/server.pem");
pub(crate) const EXPIRED: &[u8] = include_bytes!("../fixtures/tls/expired.pem");
const KEY: &[u8] = include_bytes!("../fixtures/tls/server.key");

static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Serves every connection, and returns the port. With a certificate, the client must speak TLS.
fn serve<F>(certificate: Option<&[u8]>, answer: impl Fn(Box<dyn Stream>) -> F + Send + Sync + 'static) -> u16
where
    F: Future<Output = io::Result<()>> + Send,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let (tls, answer) = (certificate.map(acceptor), Arc::new(answer));
    RUNTIME.spawn(async move {
        let listener = TcpListener::from_std(listener).expect("a listener");
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, answer) = (tls.clone(), Arc::clone(&answer));
            tokio::spawn(async move {
                let stream: Box<dyn Stream> = match tls {
                    Some(tls) => Box::new(tls.accept(stream).await?),
                    None => Box::new(stream),
                };
                answer(stream).await
            });
        }
    });
    port
}

fn acceptor(certificate: &[u8]) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}

/// Starts a server that speaks TLS and passes everything on to a port. Returns its own port.
pub(crate) fn tls_front(certificate: &[u8], to: u16) -> u16 {
    serve(Some(certificate), move |mut stream| async move {
        let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
        copy_bidirectional(&mut stream, &mut server).await.map(drop)
    })
}

/// Starts a server that gives one answer to every request, and closes the connection. Returns its port, and the heads
/// of the requests.
pub(crate) fn answering(answer: &'static str) -> (u16, Heads) {
    let heads = Heads::default();
    let noted = heads.clone();
    let port = serve(None, move |mut stream| {
        let noted = noted.clone();
        async move {
            let head = read_head(&mut stream).await?;
            noted.push(head);
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        }
    });
    (port, heads)
}

/// Starts a server that answers the first byte, whatever it is, and closes the connection. Returns its port.
pub(crate) fn blurting(answer: &'static str) -> u16 {
    serve(None, move |mut stream| async move {
        stream.read_u8().await?;
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Read to the end, lest a reset overtake the answer.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
    })
}

/// The heads of the requests that a server got.
#[derive(Clone, Default)]
pub(crate) struct Heads(Arc<Mutex<Vec<String>>>);

impl Heads {
    fn push(&self, head: String) {
        self.0.lock().expect("sound").push(head);
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().expect("sound").clone()
    }

    /// The method and the target of each request.
    pub(crate) fn targets(&self) -> Vec<String> {
        let target = |head: &String| head.split(" HTTP/1").next().expect("a line").to_owned();
        self.all().iter().map(target).collect()
    }
}

/// How a proxy behaves.
#[derive(Default)]
pub(crate) struct ProxyOptions {
    /// Where a host is. A name that begins with a dot stands for all hosts below it.
    pub(crate) hosts: Vec<(&'static str, u16)>,
    /// The `Proxy-Authorization` that every request must have.
    pub(crate) authorization: Option<&'static str>,
    /// The certificate, if the proxy speaks TLS.
    pub(crate) certificate: Option<&'static [u8]>,
    /// What every request is answered with, instead of being served.
    pub(crate) answer: Option<&'static str>,
}

/// A proxy that tunnels (`CONNECT`) and forwards, one request for each connection.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    /// What it was asked for.
    pub(crate) heads: Heads,
}

impl Proxy {
    pub(crate) fn start(options: ProxyOptions) -> Self {
        let heads = Heads::default();
        let (noted, certificate, options) = (heads.clone(), options.certificate, Arc::new(options));
        let port = serve(certificate, move |stream| {
            let (noted, options) = (noted.clone(), Arc::clone(&options));
            async move { options.serve(stream, &noted).await }
        });
        Self { port, heads }
    }

    pub(crate) fn to(hosts: &[(&'static str, u16)]) -> Self {
        Self::start(ProxyOptions { hosts: hosts.to_vec(), ..ProxyOptions::default() })
    }
}

impl ProxyOptions {
    async fn serve(&self, mut client: Box<dyn Stream>, noted: &Heads) -> io::Result<()> {
        let head = read_head(&mut client).await?;
        noted.push(head.clone());
        let wanted = self.authorization.map(|value| format!("\r\nproxy-authorization: {value}\r\n"));
        let refusal = match &wanted {
            Some(wanted) if !head.contains(wanted) => Some(
                "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"test\"\r\n\
                     Content-Length: 0\r\n\r\n",
            ),
            _ => self.answer,
        };
        if let Some(refusal) = refusal {
            client.write_all(refusal.as_bytes()).await?;
            client.shutdown().await?;
            // Read to the end, lest a reset overtake the answer.
            return tokio::io::copy(&mut client, &mut tokio::io::sink()).await.map(drop);
        }
        let (line, rest) = head.split_once("\r\n").expect("a line");
        let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        if method == "CONNECT" {
            let mut server = self.connect(target).await?;
            client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n").await?;
            return copy_bidirectional(&mut client, &mut server).await.map(drop);
        }
        let (authority, path) = target.strip_prefix("http://").expect("a URL").split_once('/').expect("a path");
        let mut server = self.connect(authority).await?;
        let forwarded = format!("{method} /{path} {version}\r\nconnection: close\r\n{rest}");
        assert!(forwarded.contains(&format!("\r\nhost: {authority}\r\n")), "{forwarded}");
        server.write_all(forwarded.as_bytes()).await?;
        copy_bidirectional(&mut client, &mut server).await.map(drop)
    }

    async fn connect(&self, authority: &str) -> io::Result<TcpStream> {
        let host = authority.split(':').next().expect("a host");
        let known = |name: &str| name == host || (name.starts_with('.') && host.ends_with(name));
        let port = self.hosts.iter().find(|(name, _)| known(name)).map(|(_, port)| *port);
        TcpStream::connect(("127.0.0.1", port.ok_or_else(|| io::Error::other("unknown host"))?)).await
    }
}

/// Reads up to the empty line, and not further. Header names are in lower case, as the client writes them.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

//! The HTTP server, with its limits on connections and on the request rate. It has its own thread and runtime, so that
//! it neither delays other work nor is delayed by it.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Either;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::Body;
use s3s::service::S3Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::oss;
use super::s3;
use super::store::{Sandbox, lock_mutex};

/// The time limit for open requests when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of connections, which is twice what a plan can use. Further connections wait to be accepted.
const MAX_CONNECTIONS: usize = 8192;
/// The time limit for receiving a request's head, and for silence within its body. An idle connection is also closed
/// after this time. It is longer than clients keep idle connections, so that they do not reuse a closed one.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// How long to wait after the system failed to accept a connection, usually because it has too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How many seconds of the request rate may be used at once after a pause.
const BURST_SECONDS: f64 = 0.1;

/// A running server of a sandbox. Dropping it stops the server and waits until it has stopped.
#[derive(Debug)]
pub struct SandboxServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Limits on clients. Tests use lower ones.
#[derive(Clone, Copy, Debug)]
struct ConnectionLimits {
    connections: usize,
    idle_timeout: Duration,
}

/// Why a sandbox could not be served.
#[derive(Debug, thiserror::Error)]
pub enum SandboxServerError {
    /// Other machines could reach the address, and this was not allowed explicitly.
    #[error("other machines can reach {0}, and the sandbox's default keys are public")]
    NotLoopback(SocketAddr),
    /// The server cannot listen on the address, for example because it is in use.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The server's thread or runtime could not be started.
    #[error("cannot start the sandbox's server: {0}")]
    Start(#[source] io::Error),
}

impl SandboxServer {
    /// Serves a sandbox at an address. Port 0 chooses a free port. The address must be a loopback address, unless
    /// `allow_remote` is set.
    ///
    /// # Errors
    /// Returns an error if the address is rejected or in use, or the server cannot be started.
    pub fn start(sandbox: Sandbox, listen: SocketAddr, allow_remote: bool) -> Result<Self, SandboxServerError> {
        let limits = ConnectionLimits { connections: MAX_CONNECTIONS, idle_timeout: IDLE_TIMEOUT };
        Self::start_with(sandbox, listen, allow_remote, limits)
    }

    fn start_with(
        sandbox: Sandbox,
        listen: SocketAddr,
        allow_remote: bool,
        limits: ConnectionLimits,
    ) -> Result<Self, SandboxServerError> {
        if !allow_remote && !listen.ip().is_loopback() {
            return Err(SandboxServerError::NotLoopback(listen));
        }
        let listen_error = |source| SandboxServerError::Listen { address: listen, source };
        let listener = StdListener::bind(listen).map_err(listen_error)?;
        listener.set_nonblocking(true).map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(SandboxServerError::Start)?;
        let (stop, stop_receiver) = watch::channel(false);
        let serve = move || {
            runtime.block_on(async {
                // This fails only while the runtime shuts down.
                if let Ok(listener) = TcpListener::from_std(listener) {
                    serve(listener, &DialectServices::new(sandbox), limits, stop_receiver).await;
                }
            });
        };
        let thread =
            thread::Builder::new().name("sandbox".to_owned()).spawn(serve).map_err(SandboxServerError::Start)?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Returns the address that the server listens on, with the actual port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the endpoint URL for clients. They must use path-style requests.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops accepting requests, waits up to five seconds for open ones, and returns when the server has stopped.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for SandboxServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already reported, and the server has stopped.
            let _ = thread.join();
        }
    }
}

/// Accepts and serves connections until `stop` becomes true.
async fn serve(
    listener: TcpListener,
    dialects: &DialectServices,
    limits: ConnectionLimits,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let connection_stop = stop.clone();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept(), if connections.len() < limits.connections => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(
                        stream,
                        dialects.clone(),
                        limits.idle_timeout,
                        connection_stop.clone(),
                    ));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let all_closed = async { while connections.join_next().await.is_some() {} };
    // Requests that are still open are aborted with the runtime.
    let _ = timeout(SHUTDOWN_TIMEOUT, all_closed).await;
}

async fn serve_connection(
    stream: TcpStream,
    dialects: DialectServices,
    idle_timeout: Duration,
    mut stop: watch::Receiver<bool>,
) {
    // A small response must not wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| handle_request(dialects.clone(), request, idle_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let must_stop = tokio::select! {
        // A client that closes the connection is not an error.
        _ = connection.as_mut() => false,
        _ = stop.wait_for(|stop| *stop) => true,
    };
    if must_stop {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// The services of the dialects, and their common rate limit.
#[derive(Clone)]
struct DialectServices {
    s3: S3Service,
    oss: Sandbox,
    limiter: Option<Arc<RequestLimiter>>,
}

impl DialectServices {
    fn new(sandbox: Sandbox) -> Self {
        let limit = sandbox.options().max_requests_per_second;
        let limiter = limit.map(|limit| Arc::new(RequestLimiter::new(limit, Instant::now())));
        Self { s3: s3::service(sandbox.clone()), oss: sandbox, limiter }
    }
}

/// Answers one request in its dialect.
async fn handle_request(
    dialects: DialectServices,
    request: Request<Incoming>,
    idle_timeout: Duration,
) -> Result<Response<Either<Body, oss::OssResponseBody>>, Infallible> {
    let admitted = dialects.limiter.as_ref().is_none_or(|limiter| limiter.try_acquire(Instant::now()));
    let (parts, body) = request.into_parts();
    let body = IdleTimeoutBody { body, idle_timeout, idle_timer: Box::pin(sleep(idle_timeout)) };
    if oss::is_oss(&parts) {
        let response = if admitted {
            oss::handle_request(&dialects.oss, parts, body).await
        } else {
            oss::throttled_response(&parts)
        };
        return Ok(response.map(Either::Right));
    }
    let response =
        if admitted { s3::handle_request(&dialects.s3, parts, body).await } else { s3::throttled_response() };
    Ok(response.map(Either::Left))
}

/// A request body with a time limit on silence, so that a client cannot keep a connection open forever.
struct IdleTimeoutBody {
    body: Incoming,
    idle_timeout: Duration,
    idle_timer: Pin<Box<Sleep>>,
}

impl hyper::body::Body for IdleTimeoutBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let end = Instant::now() + self.idle_timeout;
            self.idle_timer.as_mut().reset(end);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.idle_timer.as_mut().poll(cx).map(|()| Some(Err("the client stopped sending".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Admits a limited number of requests per second, and rejects the others, to rehearse a store that throttles.
#[derive(Debug)]
struct RequestLimiter {
    per_second: f64,
    burst: f64,
    bucket: Mutex<TokenBucket>,
}

#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    updated: Instant,
}

impl RequestLimiter {
    /// Creates a limiter that admits `per_second` requests per second from `now` on.
    fn new(per_second: NonZeroU32, now: Instant) -> Self {
        let per_second = f64::from(per_second.get());
        let burst = (per_second * BURST_SECONDS).max(1.0);
        Self { per_second, burst, bucket: Mutex::new(TokenBucket { tokens: burst, updated: now }) }
    }

    /// Returns whether a request at this time is admitted.
    fn try_acquire(&self, now: Instant) -> bool {
        let mut bucket = lock_mutex(&self.bucket);
        let gained = now.saturating_duration_since(bucket.updated).as_secs_f64() * self.per_second;
        bucket.updated = bucket.updated.max(now);
        bucket.tokens = (bucket.tokens + gained).min(self.burst);
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::SandboxOptions;

    /// Sends a text and nothing after it. Returns the response once the server closes the connection.
    fn send(address: SocketAddr, text: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A reset connection is as good as a closed one. Only a connection that stays open is a failure.
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "the connection is still open");
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn server(limits: ConnectionLimits) -> SandboxServer {
        let sandbox = Sandbox::in_memory(None, SandboxOptions::default()).unwrap();
        SandboxServer::start_with(sandbox, "127.0.0.1:0".parse().unwrap(), false, limits).unwrap()
    }

    #[test]
    fn closes_idle_connections() {
        let server = server(ConnectionLimits { connections: 8, idle_timeout: Duration::from_millis(100) });
        send(server.address(), "");
        send(server.address(), "GET / HTTP/1.1\r\nHost: x\r\nA");
        let document = send(server.address(), "PUT /b/k?tagging HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n<");
        assert!(document.starts_with("HTTP/1.1 400 ") && document.contains("the client stopped sending"), "{document}");
    }

    #[test]
    fn connections_are_served_up_to_their_limit_and_the_next_ones_wait() {
        let server = server(ConnectionLimits { connections: 2, idle_timeout: Duration::from_millis(300) });
        let begun = Instant::now();
        let idle: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
        let answer = send(server.address(), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        // Three pairs of connections were served before, each until the time limit.
        assert!(begun.elapsed() >= Duration::from_millis(600), "{:?}", begun.elapsed());
        drop(idle);
    }

    /// Sends one request per millisecond for two seconds, and returns the number of admitted ones.
    fn admitted(per_second: u32) -> usize {
        let start = Instant::now();
        let limiter = RequestLimiter::new(per_second.try_into().unwrap(), start);
        (0..2000).filter(|at| limiter.try_acquire(start + Duration::from_millis(*at))).count()
    }

    #[test]
    fn admits_the_rate_plus_an_initial_burst() {
        assert_eq!(admitted(1), 2);
        assert!((209..=210).contains(&admitted(100)), "{}", admitted(100));
        assert_eq!(admitted(100_000), 2000);
    }

    #[test]
    fn a_pause_saves_no_more_than_a_burst() {
        let start = Instant::now();
        let limiter = RequestLimiter::new(20.try_into().unwrap(), start);
        let later = start + Duration::from_hours(1);
        assert_eq!((0..50).filter(|_| limiter.try_acquire(later)).count(), 2);
        assert!(!limiter.try_acquire(start), "time that goes back saves nothing");
    }
}

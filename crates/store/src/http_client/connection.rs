//! Connections: the body of a request, the connection that sends it, the pool of a host, and the body of the response.
//!
//! A connection carries one request at a time and is driven by the task that waits for the response. hyper normally
//! uses one task per connection, which costs two more wake-ups per request. Dropping a request closes its connection,
//! so that a response can never be assigned to another request.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::response::Parts;
use http::{Request, Uri};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::timeouts::{self, DisplaySeconds, MAX_SILENCE, StallDetector, StallReason, scaled};
use crate::web::{CONNECT_TIMEOUT, ConnectionStream, WebConnector, closes_or_sends_early, root_cause};

/// The maximum size of one piece of a request body, in bytes. Small, so that a stalled upload is detected.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// The maximum number of connections that one request tries if each kept-alive connection turns out to be closed.
const MAX_CONNECTIONS_TRIED: u32 = 8;

/// The body of a request, sent in small pieces.
#[derive(Debug)]
pub(super) struct RequestBody {
    content: RequestBodySource,
    remaining: u64,
    taken: Option<Arc<AtomicU64>>,
}

#[derive(Debug)]
enum RequestBodySource {
    Bytes(Bytes),
    File(File, BytesMut),
}

/// The progress of a large body: how much of it the connection has accepted so far.
#[derive(Clone)]
struct UploadProgress {
    total: u64,
    taken: Arc<AtomicU64>,
}

impl UploadProgress {
    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        let taken = (bytes.len() > PIECE_BYTES).then(Arc::default);
        Self { remaining: bytes.len() as u64, content: RequestBodySource::Bytes(bytes), taken }
    }
}

impl RequestBody {
    /// Creates a body from `bytes` bytes of a file, starting at its current position.
    pub(super) fn from_file(file: File, bytes: u64) -> Self {
        Self { content: RequestBodySource::File(file, BytesMut::new()), remaining: bytes, taken: Some(Arc::default()) }
    }

    /// Returns the progress of a body that is sent in more than one piece.
    fn progress(&self) -> Option<UploadProgress> {
        self.taken.clone().map(|taken| UploadProgress { total: self.remaining, taken })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.remaining == 0 {
            return Poll::Ready(None);
        }
        let most = usize::try_from(this.remaining).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let piece = match &mut this.content {
            RequestBodySource::Bytes(rest) => rest.split_to(most.min(rest.len())),
            RequestBodySource::File(file, buffer) => {
                buffer.reserve(PIECE_BYTES);
                ready!(poll_read_buf(Pin::new(file), cx, buffer))?;
                buffer.split_to(most.min(buffer.len())).freeze()
            }
        };
        if piece.is_empty() {
            let why = format!("the file shrank during the upload (missing bytes: {})", this.remaining);
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))));
        }
        this.remaining -= piece.len() as u64;
        if let Some(taken) = &this.taken {
            taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// The maximum size of a response head, in bytes. Servers send a few hundred.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// The maximum number of bytes of a body that may still be in transit when the connection has accepted all of it, and
/// the minimum rate at which they are sent, in bytes per second. The buffers of the operating system hide this
/// progress.
const MAX_IN_TRANSIT: u64 = 4 << 20;
const DRAIN_RATE: u64 = 32 << 10;

/// One connection. Boxed, because it moves between requests and its buffers and TLS state have several kilobytes.
struct HttpConnection(Box<HttpConnectionState>);

struct HttpConnectionState {
    sender: SendRequest<RequestBody>,
    connection: Connection<ConnectionStream, RequestBody>,
    is_closed: bool,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum ConnectionSendError {
    /// No connection could be established, for this reason. The server cannot have received the request.
    NotConnected(String),
    /// The server closed the connection before anything of the request was sent. Contains the request for another
    /// attempt.
    NotSent(Box<Request<RequestBody>>),
    /// The server may have received the request.
    Interrupted(hyper::Error),
    /// The server accepted the whole request, but did not respond within this time. The request may have been
    /// executed.
    NoResponse(Duration),
    /// The server stopped accepting the request body.
    UploadStalled(StallReason),
}

impl HttpConnection {
    /// Performs the HTTP handshake on a new byte stream.
    async fn new(io: ConnectionStream) -> hyper::Result<Self> {
        // hyper's default limit of 100 response headers applies.
        let (requests, connection) = Builder::new().max_buf_size(MAX_HEAD_BYTES).handshake(io).await?;
        Ok(Self(Box::new(HttpConnectionState { sender: requests, connection, is_closed: false })))
    }

    /// Returns whether the server of this new connection sends data or closes it before the first request.
    async fn closes_or_sends_early(&mut self) -> bool {
        self.0.is_closed = closes_or_sends_early(&mut self.0.connection).await;
        self.0.is_closed
    }

    /// Returns whether another request can be sent: the server has neither closed the connection nor sent unsolicited
    /// data.
    fn is_reusable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.0.is_closed && self.0.sender.is_ready()
    }

    /// Sends a request and waits for the head of the response. The upload of a large body is watched, and the
    /// callback gets the time waited and the bytes sent so far. For a small body the caller bounds the time. The body
    /// of the response returns the connection to the pool.
    async fn send(
        mut self,
        request: Request<RequestBody>,
        announce: &(dyn Fn(Duration, u64) + Sync),
        pool: &Arc<ConnectionPool>,
    ) -> Result<(Parts, ResponseBody), ConnectionSendError> {
        let mut watched = request.body().progress().map(|upload| (upload, StallDetector::default(), 0));
        let HttpConnectionState { sender: requests, connection, is_closed: over } = &mut *self.0;
        let mut answer = pin!(requests.try_send_request(request));
        let answered = std::future::poll_fn(|cx| {
            // The connection is polled first: it writes the request and reads the response.
            if !*over {
                *over = Pin::new(&mut *connection).poll(cx).is_ready();
            }
            if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(answered));
            }
            let Some((upload, watch, seen)) = &mut watched else { return Poll::Pending };
            let taken = upload.taken();
            if taken > *seen {
                watch.record_bytes(taken - *seen);
                *seen = taken;
                if taken == upload.total {
                    let underway = Duration::from_secs(taken.min(MAX_IN_TRANSIT) / DRAIN_RATE);
                    watch.allow_silence(scaled(MAX_SILENCE + underway));
                }
            }
            watch.poll_stalled(cx, |time, _| announce(time, taken)).map(|stalled| {
                Err(if taken == upload.total {
                    ConnectionSendError::NoResponse(watch.limit())
                } else {
                    ConnectionSendError::UploadStalled(stalled)
                })
            })
        });
        let answered = answered.await?;
        let response = answered.map_err(|mut lost| match lost.take_message() {
            Some(request) => ConnectionSendError::NotSent(Box::new(request)),
            None => ConnectionSendError::Interrupted(lost.into_error()),
        })?;
        let (head, body) = response.into_parts();
        Ok((head, ResponseBody::new(self, body, Arc::clone(pool))))
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.0.is_closed {
            self.0.is_closed = Pin::new(&mut self.0.connection).poll(cx).is_ready();
        }
    }
}

/// The maximum number of idle connections that are kept. No plan allows more objects in flight.
const MAX_IDLE: usize = 4096;

/// The connection pool of one host.
pub(super) struct ConnectionPool {
    connector: WebConnector,
    url: Uri,
    idle: Mutex<Vec<HttpConnection>>,
}

impl ConnectionPool {
    /// Creates the pool for the host of a URL.
    pub(super) fn new(connector: WebConnector, url: Uri) -> Self {
        Self { connector, url, idle: Mutex::default() }
    }

    /// Returns host and port.
    fn authority(&self) -> &str {
        self.url.authority().map_or("", http::uri::Authority::as_str)
    }

    /// Sends a request over an idle or a new connection, and waits for the head of the response. If a connection turns
    /// out to be closed, another one is tried. The callback gets the time waited and the bytes sent so far.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
        announce: &(dyn Fn(Duration, u64) + Sync),
    ) -> Result<(Parts, ResponseBody), ConnectionSendError> {
        for _ in 0..MAX_CONNECTIONS_TRIED {
            let connection = self.acquire().await.map_err(ConnectionSendError::NotConnected)?;
            match connection.send(request, announce, self).await {
                Err(ConnectionSendError::NotSent(again)) => request = *again,
                sent => return sent,
            }
        }
        Err(ConnectionSendError::NotSent(Box::new(request)))
    }

    /// Returns an idle connection, the most recently used one first, or opens a new one.
    async fn acquire(&self) -> Result<HttpConnection, String> {
        while let Some(mut connection) = self.pop_idle() {
            // The runtime must run once before data that arrived in the meantime is visible.
            tokio::task::yield_now().await;
            if connection.is_reusable() {
                return Ok(connection);
            }
        }
        // Boxed, because few requests open a connection: this keeps the future of every request small.
        let connecting = Box::pin(async {
            let io = self.connector.connect(self.url.clone()).await.map_err(|error| root_cause(&*error))?;
            let mut connection = HttpConnection::new(io).await.map_err(|error| root_cause(&error))?;
            if connection.closes_or_sends_early().await {
                return Err("the server closes the connection, or sends data before a request".to_owned());
            }
            Ok(connection)
        });
        let within = scaled(CONNECT_TIMEOUT);
        match tokio::time::timeout(within, connecting).await {
            Ok(made) => made,
            Err(_) => Err(format!("no connection to {} within {}", self.authority(), DisplaySeconds(within))),
        }
    }

    /// Keeps a connection for a later request.
    fn release(&self, connection: HttpConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    fn pop_idle(&self) -> Option<HttpConnection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// The body of a response, and the connection that it is received on. At the end of the body the connection is
/// returned to its host's pool. If the server stalls, the stream ends with an error of kind `TimedOut`.
pub(super) struct ResponseBody {
    connection: Option<HttpConnection>,
    body: Incoming,
    pool: Arc<ConnectionPool>,
    stall_detector: StallDetector,
    /// The method and URL of the request, if known. Used in messages.
    request_line: Option<String>,
}

impl ResponseBody {
    /// Creates the body of a response that is received on this connection.
    fn new(connection: HttpConnection, body: Incoming, pool: Arc<ConnectionPool>) -> Self {
        let mut arriving = Self {
            connection: Some(connection),
            body,
            pool,
            stall_detector: StallDetector::default(),
            request_line: None,
        };
        if arriving.body.is_end_stream() {
            arriving.release_connection();
        }
        arriving
    }

    /// Sets the request that messages about long waits name.
    pub(super) fn with_request_line(mut self, request: String) -> Self {
        self.request_line = Some(request);
        self
    }

    fn release_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.release(connection);
        }
    }

    /// Polls whether the wait for more data has stalled.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let (host, request, limit) = (self.pool.authority(), self.request_line.as_deref(), self.stall_detector.limit());
        let announce = |so_far: Duration, moved: u64| {
            let what = || match request {
                Some(request) => format!("{moved} bytes of the response to {request} arrived in that time"),
                None => format!("{moved} bytes of a response arrived in that time"),
            };
            timeouts::report_wait(host, so_far, limit, what);
        };
        self.stall_detector.poll_stalled(cx, announce).map(|stalled| {
            let to = request.map_or_else(String::new, |request| format!(" in response to {request}"));
            io::Error::new(io::ErrorKind::TimedOut, format!("{host} sent {stalled}{to}"))
        })
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let mut frame = Pin::new(&mut this.body).poll_frame(cx);
        if let (Poll::Pending, Some(connection)) = (&frame, &mut this.connection) {
            connection.drive(cx);
            frame = Pin::new(&mut this.body).poll_frame(cx);
        }
        match frame {
            Poll::Pending => this.poll_stalled(cx).map(|stalled| {
                this.connection = None;
                Some(Err(stalled))
            }),
            Poll::Ready(Some(Ok(frame))) => {
                this.stall_detector.record_bytes(frame.data_ref().map_or(0, |data| data.len() as u64));
                if this.body.is_end_stream() {
                    this.release_connection();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.connection = None;
                Poll::Ready(Some(Err(io::Error::other(error))))
            }
            Poll::Ready(None) => {
                this.release_connection();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reads a response body. If the server stalls, a read returns an error of kind `TimedOut`.
struct ResponseBodyReader {
    body: ResponseBody,
    piece: Bytes,
}

impl ResponseBody {
    /// Converts the body into a reader.
    pub(super) fn into_reader(self) -> impl AsyncRead + Send + Unpin {
        ResponseBodyReader { body: self, piece: Bytes::new() }
    }
}

impl AsyncRead for ResponseBodyReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.piece.is_empty() {
            match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(frame) => this.piece = frame?.into_data().unwrap_or_default(),
            }
        }
        let length = this.piece.len().min(to.remaining());
        to.put_slice(&this.piece[..length]);
        this.piece.advance(length);
        Poll::Ready(Ok(()))
    }
}

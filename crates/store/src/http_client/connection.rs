//! Connections: the body of a request, the connection that sends it, the pool of a host, and the body of the response.
//!
//! A connection carries one request at a time and is driven by the task that waits for the response. hyper normally
//! uses one task per connection, which costs two more wake-ups per request. Dropping a request closes its connection,
//! so that a response can never be assigned to another request.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::Request;
use http::response::Parts;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{Connection, SendRequest};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::mutex::Mutex;
use crate::timeouts::{self, MAX_SILENCE, StallDetector, StallReason, scaled};
use crate::web::{
    CLOSES_OR_SENDS_EARLY, CONNECT_TIMEOUT, ConnectError, ConnectionStream, OriginConnector, ResponseHeaderLimit,
    closes_or_sends_early, describe_response_error, http1_builder, root_cause,
};

/// The maximum size of one piece of a request body, in bytes. Small, so that a stalled upload is detected.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// The maximum number of connections that one request tries if each kept-alive connection turns out to be closed.
const MAX_CONNECTIONS_TRIED: u32 = 8;

/// The body of a request, sent in small pieces.
#[derive(Debug)]
pub(super) struct RequestBody {
    content: RequestBodySource,
    remaining: u64,
    /// How many bytes the connection has taken, for a body that is sent in more than one piece.
    taken: Option<Arc<AtomicU64>>,
}

#[derive(Debug)]
enum RequestBodySource {
    Bytes(Bytes),
    File(File, BytesMut),
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

    /// Returns what detects that the upload stalls, for a body that is sent in more than one piece. The time for a
    /// smaller body is limited by the caller.
    fn watch_upload(&self) -> Option<UploadWatch> {
        let taken = self.taken.clone()?;
        Some(UploadWatch { total: self.remaining, taken, recorded: 0, stall_detector: StallDetector::default() })
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

/// The maximum number of bytes of a body that may still be in transit when the connection has taken all of it. They are
/// in the buffers of the operating system, which hide their progress.
const MAX_IN_TRANSIT: u64 = 4 << 20;

/// The minimum rate at which the bytes in transit are sent, in bytes per second.
const MIN_DRAIN_RATE: u64 = 32 << 10;

/// Reports a long wait, so that the user sees why nothing happens. It is called every few seconds while a large body is
/// sent or answered more slowly than expected, with the time waited and the number of bytes taken so far.
type UploadWaitReporter<'a> = dyn Fn(Duration, u64) + Sync + 'a;

/// Detects that the upload of a large body, or the server's response to it, stalls.
struct UploadWatch {
    total: u64,
    /// Increased by the body whenever the connection takes a piece of it.
    taken: Arc<AtomicU64>,
    /// How many of the bytes taken are recorded in the stall detector.
    recorded: u64,
    stall_detector: StallDetector,
}

impl UploadWatch {
    /// Polls whether the upload has stalled. If the connection has taken the whole body, polls whether the response is
    /// late.
    fn poll_stalled(
        &mut self,
        cx: &mut Context<'_>,
        report_wait: &UploadWaitReporter<'_>,
    ) -> Poll<ConnectionSendError> {
        let taken = self.taken.load(Ordering::Relaxed);
        let is_complete = taken == self.total;
        if taken > self.recorded {
            self.stall_detector.record_bytes(taken - self.recorded);
            self.recorded = taken;
            if is_complete {
                let time_in_transit = Duration::from_secs(taken.min(MAX_IN_TRANSIT) / MIN_DRAIN_RATE);
                self.stall_detector.allow_silence(scaled(MAX_SILENCE + time_in_transit));
            }
        }
        let stalled = self.stall_detector.poll_stalled(cx, |waited, _| report_wait(waited, taken));
        stalled.map(|reason| {
            if is_complete {
                ConnectionSendError::NoResponse(self.stall_detector.limit())
            } else {
                ConnectionSendError::UploadStalled(reason)
            }
        })
    }
}

/// One connection. Boxed, because it moves between requests, and its buffers and TLS state take up several kilobytes.
struct HttpConnection(Box<HttpConnectionState>);

struct HttpConnectionState {
    sender: SendRequest<RequestBody>,
    driver: ConnectionDriver,
    header_limit: ResponseHeaderLimit,
}

/// What reads from and writes to the byte stream. Nothing happens on a connection unless it is driven.
struct ConnectionDriver {
    connection: Connection<ConnectionStream, RequestBody>,
    is_closed: bool,
}

impl ConnectionDriver {
    /// Writes and reads what is possible without waiting.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.is_closed {
            self.is_closed = Pin::new(&mut self.connection).poll(cx).is_ready();
        }
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum ConnectionSendError {
    /// No connection could be established, for this reason. The server cannot have received the request.
    NotConnected(ConnectError),
    /// The server closed the connection before anything of the request was sent. Contains the request for another
    /// attempt.
    NotSent(Box<Request<RequestBody>>),
    /// The server may have received the request. Contains the cause.
    Interrupted(String),
    /// The server accepted the whole request, but did not respond within this time. The request may have been
    /// executed.
    NoResponse(Duration),
    /// The server stopped accepting the request body.
    UploadStalled(StallReason),
}

impl HttpConnection {
    /// Performs the HTTP handshake on a new byte stream.
    async fn new(stream: ConnectionStream, header_limit: ResponseHeaderLimit) -> hyper::Result<Self> {
        let (sender, connection) = http1_builder(header_limit).handshake(stream).await?;
        let driver = ConnectionDriver { connection, is_closed: false };
        Ok(Self(Box::new(HttpConnectionState { sender, driver, header_limit })))
    }

    /// Returns whether the server of this new connection sends data or closes it before the first request.
    async fn closes_or_sends_early(&mut self) -> bool {
        let driver = &mut self.0.driver;
        driver.is_closed = closes_or_sends_early(&mut driver.connection).await;
        driver.is_closed
    }

    /// Returns whether another request can be sent: the server has neither closed the connection nor sent unsolicited
    /// data.
    fn is_reusable(&mut self) -> bool {
        // Only the state at this moment counts. No task waits for a change, so none is woken.
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.0.driver.is_closed && self.0.sender.is_ready()
    }

    /// Sends a request and waits for the head of the response. The body of the response returns the connection to the
    /// pool. The upload of a large body is watched; for a small body, the caller limits the time.
    async fn send(
        mut self,
        request: Request<RequestBody>,
        report_wait: &UploadWaitReporter<'_>,
        pool: &Arc<ConnectionPool>,
    ) -> Result<(Parts, ResponseBody), ConnectionSendError> {
        let mut upload = request.body().watch_upload();
        let HttpConnectionState { sender, driver, .. } = &mut *self.0;
        let mut sending = pin!(sender.try_send_request(request));
        let sent = std::future::poll_fn(|cx| {
            // The connection is driven first: it writes the request and reads the response.
            driver.drive(cx);
            match (sending.as_mut().poll(cx), &mut upload) {
                (Poll::Ready(sent), _) => Poll::Ready(Ok(sent)),
                (Poll::Pending, Some(upload)) => upload.poll_stalled(cx, report_wait).map(Err),
                (Poll::Pending, None) => Poll::Pending,
            }
        });
        let response = match sent.await? {
            Ok(response) => response,
            Err(mut error) => {
                return Err(match error.take_message() {
                    Some(request) => ConnectionSendError::NotSent(Box::new(request)),
                    None => ConnectionSendError::Interrupted(self.describe_error(&error.into_error())),
                });
            }
        };
        let (head, body) = response.into_parts();
        if let Some(refusal) = pool.connector.proxy_refusal(head.status, &head.headers) {
            return Err(ConnectionSendError::NotConnected(refusal));
        }
        Ok((head, ResponseBody::new(self, body, Arc::clone(pool))))
    }

    /// Describes why there is no response.
    fn describe_error(self, error: &hyper::Error) -> String {
        describe_response_error(error, self.0.header_limit, &self.0.driver.connection.into_parts().read_buf)
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        self.0.driver.drive(cx);
    }
}

/// The maximum number of idle connections that are kept. No plan allows more objects in flight.
const MAX_IDLE: usize = 4096;

/// The connection pool of one host.
pub(super) struct ConnectionPool {
    connector: OriginConnector,
    idle: Mutex<Vec<HttpConnection>>,
}

impl ConnectionPool {
    /// Creates the pool of the connector's host.
    pub(super) fn new(connector: OriginConnector) -> Self {
        Self { connector, idle: Mutex::default() }
    }

    /// Returns scheme, host and port.
    pub(super) fn origin(&self) -> String {
        self.connector.origin()
    }

    /// Sends a request over an idle or a new connection, and waits for the head of the response. If a connection turns
    /// out to be closed, another one is tried.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
        headers: ResponseHeaderLimit,
        report_wait: &UploadWaitReporter<'_>,
    ) -> Result<(Parts, ResponseBody), ConnectionSendError> {
        self.connector.address(&mut request).map_err(ConnectionSendError::NotConnected)?;
        for _ in 0..MAX_CONNECTIONS_TRIED {
            let connection = self.acquire(headers).await.map_err(ConnectionSendError::NotConnected)?;
            match connection.send(request, report_wait, self).await {
                Err(ConnectionSendError::NotSent(unsent)) => request = *unsent,
                result => return result,
            }
        }
        Err(ConnectionSendError::NotSent(Box::new(request)))
    }

    /// Returns an idle connection, the most recently used one first, or opens a new one. Idle connections that cannot
    /// receive that number of headers are closed, so that there are never more connections than requests in flight.
    async fn acquire(&self, headers: ResponseHeaderLimit) -> Result<HttpConnection, ConnectError> {
        while let Some(mut connection) = self.pop_idle() {
            if connection.0.header_limit < headers {
                break;
            }
            // The runtime must run once before data that arrived in the meantime is visible.
            tokio::task::yield_now().await;
            if connection.is_reusable() {
                return Ok(connection);
            }
        }
        // Boxed, because few requests open a connection: this keeps the future of every request small.
        let connecting = Box::pin(async {
            let stream = self.connector.connect(scaled(CONNECT_TIMEOUT)).await?;
            let connection = HttpConnection::new(stream, headers).await;
            let mut connection = connection.map_err(|error| self.connector.error(root_cause(&error)))?;
            if connection.closes_or_sends_early().await {
                return Err(self.connector.error(CLOSES_OR_SENDS_EARLY.to_owned()));
            }
            Ok(connection)
        });
        connecting.await
    }

    /// Keeps a connection for a later request.
    fn release(&self, connection: HttpConnection) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    fn pop_idle(&self) -> Option<HttpConnection> {
        self.idle.lock().pop()
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
        let mut response_body = Self {
            connection: Some(connection),
            body,
            pool,
            stall_detector: StallDetector::default(),
            request_line: None,
        };
        if response_body.body.is_end_stream() {
            response_body.release_connection();
        }
        response_body
    }

    /// Sets the method and URL of the request, for messages about long waits.
    pub(super) fn with_request_line(mut self, request_line: String) -> Self {
        self.request_line = Some(request_line);
        self
    }

    fn release_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.release(connection);
        }
    }

    /// Polls whether the wait for more data has stalled.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let (host, request, limit) =
            (self.pool.connector.authority(), self.request_line.as_deref(), self.stall_detector.limit());
        let report_wait = |waited: Duration, received: u64| {
            let what = || match request {
                Some(request) => format!("{received} bytes of the response to {request} arrived in that time"),
                None => format!("{received} bytes of a response arrived in that time"),
            };
            timeouts::report_wait(host, waited, limit, what);
        };
        self.stall_detector.poll_stalled(cx, report_wait).map(|reason| {
            // A stall reason says how little was sent: "nothing for 60 s", "only 12 bytes in 60 s".
            let in_response = request.map_or_else(String::new, |request| format!(" in response to {request}"));
            io::Error::new(io::ErrorKind::TimedOut, format!("{host} sent {reason}{in_response}"))
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
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
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

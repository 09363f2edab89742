//! One connection. It carries one request at a time and is driven by the task that waits for the response.
//!
//! hyper normally uses one task per connection, which costs two more wake-ups per request. Dropping a request closes
//! its connection, so that a response can never be assigned to another request.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};

use super::connection_pool::ConnectionPool;
use super::request_body::RequestBody;
use crate::timeouts::{self, MAX_SILENCE, StallDetector, StallReason, scaled};
use crate::web::{ConnectionStream, closes_or_sends_early};

/// The maximum size of a response head, in bytes. Servers send a few hundred.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// The maximum number of bytes of a body that may still be in transit when the connection has accepted all of it, and
/// the minimum rate at which they are sent, in bytes per second. The buffers of the operating system hide this
/// progress.
const MAX_IN_TRANSIT: u64 = 4 << 20;
const DRAIN_RATE: u64 = 32 << 10;

/// One connection. Boxed, because it moves between requests and its buffers and TLS state have several kilobytes.
pub(super) struct HttpConnection(Box<HttpConnectionState>);

struct HttpConnectionState {
    sender: SendRequest<RequestBody>,
    connection: Connection<ConnectionStream, RequestBody>,
    is_closed: bool,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum ConnectionSendError {
    /// Nothing of the request was sent. Contains the request for another attempt.
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
    pub(super) async fn new(io: ConnectionStream) -> hyper::Result<Self> {
        // hyper's default limit of 100 response headers applies.
        let (requests, connection) = Builder::new().max_buf_size(MAX_HEAD_BYTES).handshake(io).await?;
        Ok(Self(Box::new(HttpConnectionState { sender: requests, connection, is_closed: false })))
    }

    /// Returns whether the server of this new connection sends data or closes it before the first request.
    pub(super) async fn closes_or_sends_early(&mut self) -> bool {
        self.0.is_closed = closes_or_sends_early(&mut self.0.connection).await;
        self.0.is_closed
    }

    /// Returns whether another request can be sent: the server has neither closed the connection nor sent unsolicited
    /// data.
    pub(super) fn is_reusable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.0.is_closed && self.0.sender.is_ready()
    }

    /// Sends a request and waits for the head of the response. The upload of a large body is watched, and the
    /// callback gets the time waited and the bytes sent so far. For a small body the caller bounds the time.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        announce: &(dyn Fn(Duration, u64) + Sync),
    ) -> Result<Response<Incoming>, ConnectionSendError> {
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
        answered.map_err(|mut lost| match lost.take_message() {
            Some(request) => ConnectionSendError::NotSent(Box::new(request)),
            None => ConnectionSendError::Interrupted(lost.into_error()),
        })
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.0.is_closed {
            self.0.is_closed = Pin::new(&mut self.0.connection).poll(cx).is_ready();
        }
    }
}

/// The body of a response, and the connection that it is received on. At the end of the body the connection is
/// returned to its host's pool. If the server stalls, the stream ends with an error of kind `TimedOut`.
pub(crate) struct ResponseBody {
    connection: Option<HttpConnection>,
    body: Incoming,
    pool: Arc<ConnectionPool>,
    stall_detector: StallDetector,
    /// The method and URL of the request, if known. Used in messages.
    request_line: Option<String>,
}

impl ResponseBody {
    /// Creates the body of a response that is received on this connection.
    pub(super) fn new(lane: HttpConnection, body: Incoming, host: Arc<ConnectionPool>) -> Self {
        let mut arriving = Self {
            connection: Some(lane),
            body,
            pool: host,
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
        if let Some(lane) = self.connection.take() {
            self.pool.release(lane);
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
        if let (Poll::Pending, Some(lane)) = (&frame, &mut this.connection) {
            lane.drive(cx);
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

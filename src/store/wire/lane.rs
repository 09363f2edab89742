//! One connection, which carries one request at a time and is driven by whoever waits for its answer.
//!
//! hyper's usual way is a task for each connection, which costs two more wake-ups a request. A request that is dropped
//! takes its connection with it, so that an answer can never be taken for another request's.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};

use super::host::Host;
use super::outgoing::Outgoing;
use crate::timeouts::{self, SILENCE, StallWatch, Stalled, scaled};
use crate::web::{Io, speaks_first};

/// The most bytes that a head may have. Servers send a few hundred.
const MAX_HEAD: usize = 64 << 10;

/// How much of a body may still be on its way when the last of it was taken, and how fast that goes at least, in bytes a
/// second: the system's buffers hide it from us.
const UNDERWAY: u64 = 4 << 20;
const DRAIN_RATE: u64 = 32 << 10;

/// One connection. It is handed around between requests, and its buffers and encryption are some kilobytes.
pub(super) struct Lane(Box<Inner>);

struct Inner {
    requests: SendRequest<Outgoing>,
    connection: Connection<Io, Outgoing>,
    over: bool,
}

/// Why no answer came.
#[derive(Debug)]
pub(super) enum Lost {
    /// Nothing of the request was sent; here it is again.
    Unsent(Box<Request<Outgoing>>),
    /// It may have arrived.
    Sent(hyper::Error),
    /// The server has taken all of it, and not answered for so long. It may have been carried out.
    Unanswered(Duration),
    /// The server does not take it.
    Stalled(Stalled),
}

impl Lane {
    /// A lane on a fresh connection.
    pub(super) async fn new(io: Io) -> hyper::Result<Self> {
        // An answer may have a hundred headers, as hyper has it by default.
        let (requests, connection) = Builder::new().max_buf_size(MAX_HEAD).handshake(io).await?;
        Ok(Self(Box::new(Inner { requests, connection, over: false })))
    }

    /// Whether the server of this new connection says something, or hangs up, before it is asked anything.
    pub(super) async fn speaks_first(&mut self) -> bool {
        self.0.over = speaks_first(&mut self.0.connection).await;
        self.0.over
    }

    /// Whether another request may be sent: the server has neither closed the connection nor said something unasked.
    pub(super) fn is_free(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.0.over && self.0.requests.is_ready()
    }

    /// Sends a request and waits for the head of its answer. A large body is watched while it is sent, and `announce` told
    /// of its stalls, with how much was sent; a small one is for the caller to bound in time.
    pub(super) async fn send(
        &mut self,
        request: Request<Outgoing>,
        announce: &(dyn Fn(Duration, u64) + Sync),
    ) -> Result<Response<Incoming>, Lost> {
        let mut watched = request.body().upload().map(|upload| (upload, StallWatch::default(), 0));
        let Inner { requests, connection, over } = &mut *self.0;
        let mut answer = pin!(requests.try_send_request(request));
        let answered = std::future::poll_fn(|cx| {
            // First the connection: it writes the request, and reads what the answer is made of.
            if !*over {
                *over = Pin::new(&mut *connection).poll(cx).is_ready();
            }
            if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(answered));
            }
            let Some((upload, watch, seen)) = &mut watched else { return Poll::Pending };
            let taken = upload.taken();
            if taken > *seen {
                watch.moved(taken - *seen);
                *seen = taken;
                if taken == upload.total {
                    let underway = Duration::from_secs(taken.min(UNDERWAY) / DRAIN_RATE);
                    watch.allow_silence(scaled(SILENCE + underway));
                }
            }
            watch.poll_stalled(cx, |time, _| announce(time, taken)).map(|stalled| {
                Err(if taken == upload.total { Lost::Unanswered(watch.limit()) } else { Lost::Stalled(stalled) })
            })
        });
        let answered = answered.await?;
        answered.map_err(|mut lost| match lost.take_message() {
            Some(request) => Lost::Unsent(Box::new(request)),
            None => Lost::Sent(lost.into_error()),
        })
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.0.over {
            self.0.over = Pin::new(&mut self.0.connection).poll(cx).is_ready();
        }
    }
}

/// The body of an answer, with the lane that it comes on. At its end the lane is given back to its host. A server that
/// stalls is an error in the end, of kind `TimedOut`.
pub(in crate::store) struct Arriving {
    lane: Option<Lane>,
    body: Incoming,
    host: Arc<Host>,
    watch: StallWatch,
    /// The request in words, where it is known.
    request: Option<String>,
}

impl Arriving {
    /// A body that comes on this lane of this host.
    pub(super) fn new(lane: Lane, body: Incoming, host: Arc<Host>) -> Self {
        let mut arriving = Self { lane: Some(lane), body, host, watch: StallWatch::default(), request: None };
        if arriving.body.is_end_stream() {
            arriving.finish();
        }
        arriving
    }

    /// Names the request that is answered, for whoever waits.
    pub(super) fn of_request(mut self, request: String) -> Self {
        self.request = Some(request);
        self
    }

    fn finish(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.host.give_back(lane);
        }
    }

    /// What has become of a wait for more.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let (host, request, limit) = (self.host.authority(), self.request.as_deref(), self.watch.limit());
        let announce = |so_far: Duration, moved: u64| {
            let what = || match request {
                Some(request) => format!("{moved} bytes of the answer to {request} came in that time"),
                None => format!("{moved} bytes of an answer came in that time"),
            };
            timeouts::announce(host, so_far, limit, what);
        };
        self.watch.poll_stalled(cx, announce).map(|stalled| {
            let of = request.map_or_else(String::new, |request| format!(" of the answer to {request}"));
            io::Error::new(io::ErrorKind::TimedOut, format!("{host} has sent {stalled}{of}"))
        })
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let mut frame = Pin::new(&mut this.body).poll_frame(cx);
        if let (Poll::Pending, Some(lane)) = (&frame, &mut this.lane) {
            lane.drive(cx);
            frame = Pin::new(&mut this.body).poll_frame(cx);
        }
        match frame {
            Poll::Pending => this.poll_stalled(cx).map(|stalled| {
                this.lane = None;
                Some(Err(stalled))
            }),
            Poll::Ready(Some(Ok(frame))) => {
                this.watch.moved(frame.data_ref().map_or(0, |data| data.len() as u64));
                if this.body.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.lane = None;
                Poll::Ready(Some(Err(io::Error::other(error))))
            }
            Poll::Ready(None) => {
                this.finish();
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

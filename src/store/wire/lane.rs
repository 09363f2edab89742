//! One connection, which carries one request at a time and is driven by whoever waits for its answer.
//!
//! hyper's usual way is a task for each connection, which costs two more wake-ups a request. A request that is dropped
//! takes its connection with it, so that an answer can never be taken for another request's.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};

use super::host::Host;
use crate::web::{Io, speaks_first};

/// The most bytes that a head may have. Servers send a few hundred.
const MAX_HEAD: usize = 64 << 10;

/// One connection. It is handed around between requests, and its buffers and encryption are some kilobytes.
pub(super) struct Lane(Box<Inner>);

struct Inner {
    requests: SendRequest<Full<Bytes>>,
    connection: Connection<Io, Full<Bytes>>,
    over: bool,
}

/// Why no answer came.
#[derive(Debug)]
pub(super) enum Lost {
    /// Nothing of the request was sent; here it is again.
    Unsent(Box<Request<Full<Bytes>>>),
    /// It may have arrived.
    Sent(hyper::Error),
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

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Lost> {
        let Inner { requests, connection, over } = &mut *self.0;
        let mut answer = pin!(requests.try_send_request(request));
        let answered = std::future::poll_fn(|cx| {
            // First the connection: it writes the request, and reads what the answer is made of.
            if !*over {
                *over = Pin::new(&mut *connection).poll(cx).is_ready();
            }
            answer.as_mut().poll(cx)
        });
        answered.await.map_err(|mut lost| match lost.take_message() {
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

/// The body of an answer, with the lane that it comes on. At its end the lane is given back to its host.
pub(in crate::store) struct Arriving {
    lane: Option<Lane>,
    body: Incoming,
    host: Arc<Host>,
}

impl Arriving {
    /// A body that comes on this lane of this host.
    pub(super) fn new(lane: Lane, body: Incoming, host: Arc<Host>) -> Self {
        let mut arriving = Self { lane: Some(lane), body, host };
        if arriving.body.is_end_stream() {
            arriving.finish();
        }
        arriving
    }

    fn finish(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.host.give_back(lane);
        }
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
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
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

//! The body of an answer as bytes to read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::body::Body as _;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::lane::Arriving;

/// How long a server may be silent in mid-body.
const SILENCE: Duration = Duration::from_mins(1);

/// Reads a body. A server that falls silent is an error in the end.
pub(in crate::store) struct BodyRead {
    body: Arriving,
    piece: Bytes,
    silence: Pin<Box<Sleep>>,
}

impl Arriving {
    /// The body as bytes to read.
    pub(in crate::store) fn into_read(self) -> BodyRead {
        BodyRead { body: self, piece: Bytes::new(), silence: Box::pin(sleep(SILENCE)) }
    }
}

impl AsyncRead for BodyRead {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.piece.is_empty() {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(frame)) => {
                    this.silence.as_mut().reset(Instant::now() + SILENCE);
                    this.piece = frame?.into_data().unwrap_or_default();
                }
                Poll::Pending => {
                    return this.silence.as_mut().poll(cx).map(|()| {
                        let why = format!("the server has sent nothing for {} s", SILENCE.as_secs());
                        Err(io::Error::new(io::ErrorKind::TimedOut, why))
                    });
                }
            }
        }
        let length = this.piece.len().min(to.remaining());
        to.put_slice(&this.piece[..length]);
        this.piece.advance(length);
        Poll::Ready(Ok(()))
    }
}

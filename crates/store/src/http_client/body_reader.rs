//! A response body as an [`AsyncRead`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use hyper::body::Body as _;
use tokio::io::{AsyncRead, ReadBuf};

use super::connection::ResponseBody;

/// Reads a response body. If the server stalls, a read returns an error of kind `TimedOut`.
pub(crate) struct ResponseBodyReader {
    body: ResponseBody,
    piece: Bytes,
}

impl ResponseBody {
    /// Converts the body into a reader.
    pub(crate) fn into_reader(self) -> ResponseBodyReader {
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

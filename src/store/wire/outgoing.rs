//! Request bodies, sent in small pieces so that a stalled upload is detected.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use tokio::fs::File;
use tokio_util::io::poll_read_buf;

/// The maximum size of one piece, in bytes.
pub(super) const PIECE: usize = 64 << 10;

/// The body of a request.
#[derive(Debug)]
pub(in crate::store) struct Outgoing {
    content: Content,
    left: u64,
    taken: Option<Arc<AtomicU64>>,
}

#[derive(Debug)]
enum Content {
    Bytes(Bytes),
    File(File, BytesMut),
}

/// The progress of a large body: how much of it the connection has accepted so far.
#[derive(Clone)]
pub(super) struct Upload {
    pub(super) total: u64,
    taken: Arc<AtomicU64>,
}

impl Upload {
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl From<Bytes> for Outgoing {
    fn from(bytes: Bytes) -> Self {
        let taken = (bytes.len() > PIECE).then(Arc::default);
        Self { left: bytes.len() as u64, content: Content::Bytes(bytes), taken }
    }
}

impl Outgoing {
    /// Creates a body from `bytes` bytes of a file, starting at its current position.
    pub(super) fn file(file: File, bytes: u64) -> Self {
        Self { content: Content::File(file, BytesMut::new()), left: bytes, taken: Some(Arc::default()) }
    }

    /// Returns the progress of a body that is sent in more than one piece.
    pub(super) fn upload(&self) -> Option<Upload> {
        self.taken.clone().map(|taken| Upload { total: self.left, taken })
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let most = usize::try_from(this.left).unwrap_or(PIECE).min(PIECE);
        let piece = match &mut this.content {
            Content::Bytes(rest) => rest.split_to(most.min(rest.len())),
            Content::File(file, buffer) => {
                buffer.reserve(PIECE);
                ready!(poll_read_buf(Pin::new(file), cx, buffer))?;
                buffer.split_to(most.min(buffer.len())).freeze()
            }
        };
        if piece.is_empty() {
            let why = format!("the file has become {} bytes shorter while it was sent", this.left);
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))));
        }
        this.left -= piece.len() as u64;
        if let Some(taken) = &this.taken {
            taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

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
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// The body of a request.
#[derive(Debug)]
pub(crate) struct RequestBody {
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
pub(super) struct UploadProgress {
    pub(super) total: u64,
    taken: Arc<AtomicU64>,
}

impl UploadProgress {
    pub(super) fn taken(&self) -> u64 {
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
    pub(super) fn progress(&self) -> Option<UploadProgress> {
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

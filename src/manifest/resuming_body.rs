//! A body that resumes reading where the connection broke off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use batchplan_store::backoff::{Backoff, RetryPolicy};
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::StoreError;
use batchplan_store::timeouts;
use batchplan_store::{OpenedObject, Store};
use tokio::io::{AsyncRead, ReadBuf};

use super::error::object_path;

/// The retries for one failure. They start over after [`RESET_AFTER_BYTES`] bytes.
const RESUME_POLICY: RetryPolicy =
    RetryPolicy { base_delay: Duration::from_millis(200), max_delay: Duration::from_secs(5), max_attempts: 4 };

/// The number of bytes that resets the retries. A server that sends only a few bytes per attempt still runs out of
/// them.
const RESET_AFTER_BYTES: u64 = 1 << 20;

type ReopenFuture = Pin<Box<dyn Future<Output = Result<OpenedObject, StoreError>> + Send>>;

/// Wraps the body so that reading resumes after a failure. Returns it unchanged if no strong `ETag` identifies the
/// object.
pub(super) fn resuming(
    store: &Arc<dyn Store>,
    bucket: &BucketName,
    key: &ObjectKey,
    opened: OpenedObject,
) -> OpenedObject {
    let OpenedObject { etag, size, body } = opened;
    // A weak ETag does not guarantee that the bytes are identical.
    if etag.is_empty() || etag.starts_with("W/") {
        return OpenedObject { etag, size, body };
    }
    let body = ResumingBody {
        store: Arc::clone(store),
        bucket: bucket.clone(),
        key: key.clone(),
        etag: etag.clone(),
        size,
        read: 0,
        reset_at: RESET_AFTER_BYTES,
        backoff: Backoff::new(RESUME_POLICY),
        state: ResumingBodyState::Reading(body),
    };
    OpenedObject { etag, size, body: Box::new(body) }
}

struct ResumingBody {
    store: Arc<dyn Store>,
    bucket: BucketName,
    key: ObjectKey,
    etag: String,
    size: u64,
    read: u64,
    reset_at: u64,
    backoff: Backoff,
    state: ResumingBodyState,
}

enum ResumingBodyState {
    Reading(Box<dyn AsyncRead + Send + Unpin>),
    /// The error that broke the body off, and the request that reopens it.
    Reopening(io::Error, ReopenFuture),
    Failed,
}

impl ResumingBody {
    /// Schedules a request that reopens the body. Returns the error if all retries are used up.
    fn handle_error(&mut self, error: io::Error) -> Result<(), io::Error> {
        self.state = ResumingBodyState::Failed;
        let Some(wait) = self.backoff.next_delay() else {
            let tried = self.backoff.failures();
            return Err(io::Error::new(error.kind(), format!("{error} (tried {tried} times)")));
        };
        if error.kind() == io::ErrorKind::TimedOut {
            let (place, read, size) = (object_path(&self.bucket, &self.key), self.read, self.size);
            timeouts::report(&format!("resuming {place} at byte {read} of {size}: {error}"));
        }
        let (store, bucket, key) = (Arc::clone(&self.store), self.bucket.clone(), self.key.clone());
        let (etag, from) = (self.etag.clone(), self.read);
        let reopening: ReopenFuture = Box::pin(async move {
            tokio::time::sleep(wait).await;
            store.resume_read(&bucket, &key, &etag, from).await
        });
        self.state = ResumingBodyState::Reopening(error, reopening);
        Ok(())
    }

    /// Handles the response to that request: continues, retries or gives up.
    fn handle_reopened(&mut self, why: io::Error, answer: Result<OpenedObject, StoreError>) -> Result<(), io::Error> {
        match answer {
            Ok(opened) if opened.size == self.size.saturating_sub(self.read) => {
                self.state = ResumingBodyState::Reading(opened.body);
                Ok(())
            }
            Ok(opened) => {
                let (wanted, size) = (self.size.saturating_sub(self.read), opened.size);
                let why = format!("{why}; when reading resumed, the server sent {size} bytes instead of {wanted}");
                Err(io::Error::other(why))
            }
            Err(fault) if fault.class.is_retryable() => self.handle_error(why),
            // A store that does not support it: the original error stands.
            Err(fault) if fault.code == "NotImplemented" => Err(why),
            Err(fault) => Err(io::Error::new(why.kind(), ResumeReadError { why, fault })),
        }
    }
}

/// The error that broke a body off, and the reason why reading could not resume.
#[derive(Debug, thiserror::Error)]
#[error("{why}; resuming failed too: {fault}")]
pub(super) struct ResumeReadError {
    why: io::Error,
    pub(super) fault: StoreError,
}

impl AsyncRead for ResumingBody {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                ResumingBodyState::Reading(body) => {
                    let before = to.filled().len();
                    match ready!(Pin::new(body).poll_read(cx, to)) {
                        Ok(()) => {
                            this.read += (to.filled().len() - before) as u64;
                            if this.read >= this.reset_at {
                                this.reset_at = this.read + RESET_AFTER_BYTES;
                                this.backoff = Backoff::new(RESUME_POLICY);
                            }
                            return Poll::Ready(Ok(()));
                        }
                        // Bytes that arrive together with an error would be lost; no body returns both.
                        Err(error) => this.handle_error(error)?,
                    }
                }
                ResumingBodyState::Reopening(_, reopening) => {
                    let answer = ready!(reopening.as_mut().poll(cx));
                    let ResumingBodyState::Reopening(why, _) =
                        std::mem::replace(&mut this.state, ResumingBodyState::Failed)
                    else {
                        continue;
                    };
                    this.handle_reopened(why, answer)?;
                }
                ResumingBodyState::Failed => return Poll::Ready(Err(io::Error::other("reading was stopped"))),
            }
        }
    }
}

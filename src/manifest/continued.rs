//! A body that resumes reading where the connection broke off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};

use super::error::place;
use crate::backoff::{Backoff, RetryPolicy};
use crate::object::{Bucket, Key};
use crate::store::{Opened, Store};
use crate::task::Fault;
use crate::timeouts;

/// The retries for one failure. They start over after [`PROGRESS`] bytes.
const READ_ON: RetryPolicy = RetryPolicy { base: Duration::from_millis(200), cap: Duration::from_secs(5), attempts: 4 };

/// The number of bytes that resets the retries. A server that sends only a few bytes per attempt still runs out of
/// them.
const PROGRESS: u64 = 1 << 20;

type Reopening = Pin<Box<dyn Future<Output = Result<Opened, Fault>> + Send>>;

/// Wraps the body so that reading resumes after a failure. Returns it unchanged if no strong `ETag` identifies the
/// object.
pub(super) fn continued(store: &Arc<dyn Store>, bucket: &Bucket, key: &Key, opened: Opened) -> Opened {
    let Opened { etag, size, body } = opened;
    // A weak ETag does not guarantee that the bytes are identical.
    if etag.is_empty() || etag.starts_with("W/") {
        return Opened { etag, size, body };
    }
    let body = Continued {
        store: Arc::clone(store),
        bucket: bucket.clone(),
        key: key.clone(),
        etag: etag.clone(),
        size,
        read: 0,
        next_progress: PROGRESS,
        backoff: Backoff::new(READ_ON),
        state: State::Reading(body),
    };
    Opened { etag, size, body: Box::new(body) }
}

struct Continued {
    store: Arc<dyn Store>,
    bucket: Bucket,
    key: Key,
    etag: String,
    size: u64,
    read: u64,
    next_progress: u64,
    backoff: Backoff,
    state: State,
}

enum State {
    Reading(Box<dyn AsyncRead + Send + Unpin>),
    /// The error that broke the body off, and the request that reopens it.
    Reopening(io::Error, Reopening),
    Over,
}

impl Continued {
    /// Schedules a request that reopens the body. Returns the error if all retries are used up.
    fn broken_off(&mut self, error: io::Error) -> Result<(), io::Error> {
        self.state = State::Over;
        let Some(wait) = self.backoff.after_failure() else {
            let tried = self.backoff.failures();
            return Err(io::Error::new(error.kind(), format!("{error}; tried {tried} times")));
        };
        if error.kind() == io::ErrorKind::TimedOut {
            let (place, read, size) = (place(&self.bucket, &self.key), self.read, self.size);
            timeouts::say(&format!("reading {place} on from byte {read} of {size}: {error}"));
        }
        let (store, bucket, key) = (Arc::clone(&self.store), self.bucket.clone(), self.key.clone());
        let (etag, from) = (self.etag.clone(), self.read);
        let reopening: Reopening = Box::pin(async move {
            tokio::time::sleep(wait).await;
            store.read_on(&bucket, &key, &etag, from).await
        });
        self.state = State::Reopening(error, reopening);
        Ok(())
    }

    /// Handles the response to that request: continues, retries or gives up.
    fn reopened(&mut self, why: io::Error, answer: Result<Opened, Fault>) -> Result<(), io::Error> {
        match answer {
            Ok(opened) if opened.size == self.size.saturating_sub(self.read) => {
                self.state = State::Reading(opened.body);
                Ok(())
            }
            Ok(opened) => {
                let (wanted, size) = (self.size.saturating_sub(self.read), opened.size);
                let why = format!("{why}; read on, it has {size} bytes instead of {wanted}");
                Err(io::Error::other(why))
            }
            Err(fault) if fault.class.may_pass() => self.broken_off(why),
            // A store that does not support it: the original error stands.
            Err(fault) if fault.code == "NotImplemented" => Err(why),
            Err(fault) => Err(io::Error::new(why.kind(), NotReadOn { why, fault })),
        }
    }
}

/// The error that broke a body off, and the reason why reading could not resume.
#[derive(Debug, thiserror::Error)]
#[error("{why}; reading on failed as well: {fault}")]
pub(super) struct NotReadOn {
    why: io::Error,
    pub(super) fault: Fault,
}

impl AsyncRead for Continued {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Reading(body) => {
                    let before = to.filled().len();
                    match ready!(Pin::new(body).poll_read(cx, to)) {
                        Ok(()) => {
                            this.read += (to.filled().len() - before) as u64;
                            if this.read >= this.next_progress {
                                this.next_progress = this.read + PROGRESS;
                                this.backoff = Backoff::new(READ_ON);
                            }
                            return Poll::Ready(Ok(()));
                        }
                        // Bytes that arrive together with an error would be lost; no body returns both.
                        Err(error) => this.broken_off(error)?,
                    }
                }
                State::Reopening(_, reopening) => {
                    let answer = ready!(reopening.as_mut().poll(cx));
                    let State::Reopening(why, _) = std::mem::replace(&mut this.state, State::Over) else { continue };
                    this.reopened(why, answer)?;
                }
                State::Over => return Poll::Ready(Err(io::Error::other("the reading was given up"))),
            }
        }
    }
}

//! The body of an object, read on from where it broke off.

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

/// How often a body is read on from about the same place.
const READ_ON: RetryPolicy = RetryPolicy { base: Duration::from_millis(200), cap: Duration::from_secs(5), attempts: 4 };

/// Bytes after which a body counts as going on: a server that gives a little with each attempt is given up as well.
const PROGRESS: u64 = 1 << 20;

type Reopening = Pin<Box<dyn Future<Output = Result<Opened, Fault>> + Send>>;

/// An object whose body is read on, where the store can do that and the object can be told from another one.
pub(super) fn continued(store: &Arc<dyn Store>, bucket: &Bucket, key: &Key, opened: Opened) -> Opened {
    let Opened { etag, size, body } = opened;
    // A weak ETag does not say that every byte is the same.
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
    /// What broke the reading off, and what may bring it back.
    Reopening(io::Error, Reopening),
    Over,
}

impl Continued {
    /// What is done about an error: read on, or give up.
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

    /// What becomes of an attempt to read on.
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
            // A store that cannot do it leaves the error as it is.
            Err(fault) if fault.code == "NotImplemented" => Err(why),
            Err(fault) => Err(io::Error::new(why.kind(), NotReadOn { why, fault })),
        }
    }
}

/// What broke a reading off, and why it could not be read on.
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
                        // What was read with the error would be lost; no body does that.
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

//! Retries requests to the store: a freeze does not run inside the engine, which does its own retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::continued::continued;
use super::error::{ManifestError, place};
use crate::backoff::{Backoff, RetryPolicy};
use crate::object::{Bucket, Key};
use crate::store::{ListPage, ListRequest, Opened, Store};
use crate::task::{Fault, FaultClass};
use crate::timeouts::{self, Seconds, TICK, TimedOut, scaled};

/// The retries of a request. All pauses together take at most half a minute, because a person waits for the result.
const POLICY: RetryPolicy = RetryPolicy { base: Duration::from_millis(50), cap: Duration::from_secs(5), attempts: 8 };

/// The retries of a page that is optional: fewer.
const PROBE: RetryPolicy = RetryPolicy { attempts: 4, ..POLICY };

/// The maximum time for one listing page, or for opening one object, including all attempts. The store itself gives up
/// an attempt after a minute without a response.
const IN_ALL: Duration = Duration::from_mins(3);

/// A store that retries after throttling and transient errors, until the stop token is cancelled.
pub(super) struct Patient {
    store: Arc<dyn Store>,
    stop: CancellationToken,
    throttled: AtomicU64,
}

impl Patient {
    pub(super) fn new(store: Arc<dyn Store>, stop: CancellationToken) -> Self {
        Self { store, stop, throttled: AtomicU64::new(0) }
    }

    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns the number of listing requests that the store has throttled so far.
    pub(super) fn throttled(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }

    /// Lists one page.
    pub(super) async fn list(&self, request: &ListRequest) -> Result<ListPage, ManifestError> {
        self.page(request, POLICY).await
    }

    /// Lists one page that is optional, with fewer retries.
    pub(super) async fn probe(&self, request: &ListRequest) -> Result<ListPage, ManifestError> {
        self.page(request, PROBE).await
    }

    async fn page(&self, request: &ListRequest, policy: RetryPolicy) -> Result<ListPage, ManifestError> {
        let doing = || format!("list {}", place(&request.bucket, &request.prefix));
        let mut attempts = Attempts::new(policy);
        loop {
            let answer = self.unless_stopped(attempts.bounded(self.store.list(request))).await?;
            match answer {
                Ok(page) => return Ok(page),
                Err(fault) => {
                    if fault.class == FaultClass::Throttled {
                        self.throttled.fetch_add(1, Ordering::Relaxed);
                    }
                    self.unless_stopped(attempts.pause(fault, doing)).await??;
                }
            }
        }
    }

    /// Opens an object. The inner error is permanent: no retry can help, and the caller decides what it means. If the
    /// body breaks off later, reading resumes there.
    pub(super) async fn open(
        &self,
        bucket: &Bucket,
        key: &Key,
        if_match: Option<&str>,
    ) -> Result<Result<Opened, Fault>, ManifestError> {
        let mut attempts = Attempts::new(POLICY);
        loop {
            let answer = self.unless_stopped(attempts.bounded(self.store.read(bucket, key, if_match))).await?;
            match answer {
                Err(fault) if fault.class.may_pass() => {
                    self.unless_stopped(attempts.pause(fault, || reading(bucket, key))).await??;
                }
                Err(fault) => return Ok(Err(fault)),
                Ok(opened) => return Ok(Ok(continued(&self.store, bucket, key, opened))),
            }
        }
    }

    /// Opens an object. A missing object is an error.
    pub(super) async fn open_existing(&self, bucket: &Bucket, key: &Key) -> Result<Opened, ManifestError> {
        self.open(bucket, key, None).await?.map_err(|fault| unreadable(bucket, key, fault))
    }

    /// Opens an object if it still has this `ETag`, compared without regard to case.
    pub(super) async fn open_pinned(
        &self,
        bucket: &Bucket,
        key: &Key,
        etag: Option<&str>,
    ) -> Result<Opened, ManifestError> {
        let Some(wanted) = etag.map(bare) else { return self.open_existing(bucket, key).await };
        let changed = |found: Option<String>| ManifestError::Changed {
            place: place(bucket, key),
            wanted: wanted.to_owned(),
            found,
        };
        let opened = match self.open(bucket, key, Some(wanted)).await? {
            Ok(opened) => opened,
            // Some servers compare case-sensitively, and some tools change the case: read the current ETag and compare
            // here.
            Err(fault) if fault.status == Some(412) => match self.open(bucket, key, None).await? {
                Ok(opened) => opened,
                Err(_) => return Err(changed(None)),
            },
            Err(fault) => return Err(unreadable(bucket, key, fault)),
        };
        // Compared here as well: some servers ignore If-Match.
        let found = bare(&opened.etag);
        if found.eq_ignore_ascii_case(wanted) {
            return Ok(opened);
        }
        Err(changed(Some(found).filter(|etag| !etag.is_empty()).map(str::to_owned)))
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, ManifestError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(ManifestError::Stopped),
            done = work => Ok(done),
        }
    }
}

/// Returns an `ETag` without quotes and without the mark of a weak one, which people copy along.
pub(super) fn bare(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

fn reading(bucket: &Bucket, key: &Key) -> String {
    format!("read {}", place(bucket, key))
}

fn unreadable(bucket: &Bucket, key: &Key, fault: Fault) -> ManifestError {
    ManifestError::Store { doing: reading(bucket, key), fault: Box::new(fault) }
}

/// The attempts at one request, limited in number and in time.
struct Attempts {
    backoff: Backoff,
    began: Instant,
    /// The error of the previous attempt.
    last: Option<Fault>,
}

impl Attempts {
    fn new(policy: RetryPolicy) -> Self {
        Self { backoff: Backoff::new(policy), began: Instant::now(), last: None }
    }

    fn deadline(&self) -> Instant {
        self.began + scaled(IN_ALL)
    }

    /// Runs one attempt within the remaining time. If it times out, returns the error of the previous attempt.
    async fn bounded<T>(&self, attempt: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let answer = tokio::time::timeout_at(self.deadline(), attempt).await;
        answer.unwrap_or_else(|_| {
            let why = TimedOut(scaled(IN_ALL)).to_string();
            let late = || Fault::unanswered(FaultClass::Ambiguous, "RequestTimeout", &why, String::new());
            Err(self.last.clone().unwrap_or_else(late))
        })
    }

    /// Waits before the next attempt. Returns an error if a retry cannot help or none is left. Reads and listings
    /// change nothing, so retrying an ambiguous failure is safe. Long waits are reported to the listener in `timeouts`.
    async fn pause(&mut self, mut fault: Fault, doing: impl Fn() -> String) -> Result<(), ManifestError> {
        let wait = self
            .backoff
            .after_failure()
            .filter(|wait| fault.class.may_pass() && Instant::now() + *wait < self.deadline());
        let (tried, so_far) = (self.backoff.failures(), self.began.elapsed());
        let Some(wait) = wait else {
            if tried > 1 {
                fault.message = format!("{} (tried {tried} times in {})", fault.message, Seconds(so_far));
            }
            return Err(ManifestError::Store { doing: doing(), fault: Box::new(fault) });
        };
        if so_far >= scaled(TICK) {
            let (so_far, limit, doing) = (Seconds(so_far), Seconds(scaled(IN_ALL)), doing());
            let times = if tried == 1 { "once".to_owned() } else { format!("{tried} times") };
            timeouts::say(&format!(
                "cannot {doing} yet: {fault}; trying again (tried {times} in {so_far}, gives up after {limit})"
            ));
        }
        self.last = Some(fault);
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

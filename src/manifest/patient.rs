//! Asks the store again where its answer deserves it: preparing has no engine behind it that would.

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

/// The pauses come to half a minute at the longest: a person waits for the answer.
const POLICY: RetryPolicy = RetryPolicy { base: Duration::from_millis(50), cap: Duration::from_secs(5), attempts: 8 };

/// A page that can be done without is not asked for as often.
const PROBE: RetryPolicy = RetryPolicy { attempts: 4, ..POLICY };

/// How long one page, or the opening of one object, may take with all attempts together. The store gives up an attempt that
/// is not answered for a minute.
const IN_ALL: Duration = Duration::from_mins(3);

/// A store that is asked again after throttling and hiccups, and not beyond a stop.
pub(super) struct Patient {
    store: Arc<dyn Store>,
    stop: CancellationToken,
    throttled: AtomicU64,
}

impl Patient {
    /// Asks this store until told to stop.
    pub(super) fn new(store: Arc<dyn Store>, stop: CancellationToken) -> Self {
        Self { store, stop, throttled: AtomicU64::new(0) }
    }

    /// The token that ends every wait.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// How many listing requests the store has refused so far because they were too many.
    pub(super) fn throttled(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }

    /// One page of a listing.
    pub(super) async fn list(&self, request: &ListRequest) -> Result<ListPage, ManifestError> {
        self.page(request, POLICY).await
    }

    /// One page of a listing that can be done without.
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

    /// Opens an object; any answer that no retry would better is the caller's to judge. Where the reading breaks off later,
    /// it is read on from there.
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

    /// Opens an object that must be there.
    pub(super) async fn open_existing(&self, bucket: &Bucket, key: &Key) -> Result<Opened, ManifestError> {
        self.open(bucket, key, None).await?.map_err(|fault| unreadable(bucket, key, fault))
    }

    /// Opens an object while its `ETag` is this one, whatever the case of its letters.
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
            // Some servers compare letter by letter, and some tools change the case: ask what it is now.
            Err(fault) if fault.status == Some(412) => match self.open(bucket, key, None).await? {
                Ok(opened) => opened,
                Err(_) => return Err(changed(None)),
            },
            Err(fault) => return Err(unreadable(bucket, key, fault)),
        };
        // Compared here too: some servers do not look at If-Match.
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

/// An `ETag` without the quotes and the mark of a weak one that people copy along.
pub(super) fn bare(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

fn reading(bucket: &Bucket, key: &Key) -> String {
    format!("read {}", place(bucket, key))
}

fn unreadable(bucket: &Bucket, key: &Key, fault: Fault) -> ManifestError {
    ManifestError::Store { doing: reading(bucket, key), fault: Box::new(fault) }
}

/// The attempts at one request, bounded in number and in time.
struct Attempts {
    backoff: Backoff,
    began: Instant,
    /// What the attempt before met.
    last: Option<Fault>,
}

impl Attempts {
    fn new(policy: RetryPolicy) -> Self {
        Self { backoff: Backoff::new(policy), began: Instant::now(), last: None }
    }

    fn deadline(&self) -> Instant {
        self.began + scaled(IN_ALL)
    }

    /// One attempt, within what is left of the time; where that is too little, the attempt before says why.
    async fn bounded<T>(&self, attempt: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let answer = tokio::time::timeout_at(self.deadline(), attempt).await;
        answer.unwrap_or_else(|_| {
            let why = TimedOut(scaled(IN_ALL)).to_string();
            let late = || Fault::unanswered(FaultClass::Ambiguous, "RequestTimeout", &why, String::new());
            Err(self.last.clone().unwrap_or_else(late))
        })
    }

    /// Waits before the next attempt, or gives the fault back where no attempt would better it, or none is left. Reads and
    /// listings change nothing, so an ambiguous end is no risk. Whoever listens is told of a wait that is long already.
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

//! Asks the store again where its answer deserves it: preparing has no engine behind it that would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::{ManifestError, place};
use crate::backoff::{Backoff, RetryPolicy};
use crate::object::{Bucket, Key};
use crate::store::{ListPage, ListRequest, Opened, Store};
use crate::task::{Fault, FaultClass};

/// The pauses come to half a minute at the longest, and the store bounds each attempt: a person waits for the answer.
const POLICY: RetryPolicy = RetryPolicy { base: Duration::from_millis(50), cap: Duration::from_secs(5), attempts: 8 };

/// A page that can be done without is not asked for as often.
const PROBE: RetryPolicy = RetryPolicy { attempts: 4, ..POLICY };

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
        let mut backoff = Backoff::new(policy);
        loop {
            let answer = self.unless_stopped(self.store.list(request)).await?;
            match answer {
                Ok(page) => return Ok(page),
                Err(fault) => {
                    if fault.class == FaultClass::Throttled {
                        self.throttled.fetch_add(1, Ordering::Relaxed);
                    }
                    let doing = || format!("list {}", place(&request.bucket, &request.prefix));
                    self.unless_stopped(pause(&mut backoff, fault, doing)).await??;
                }
            }
        }
    }

    /// Opens an object; any answer that no retry would better is the caller's to judge.
    pub(super) async fn open(
        &self,
        bucket: &Bucket,
        key: &Key,
        if_match: Option<&str>,
    ) -> Result<Result<Opened, Fault>, ManifestError> {
        let mut backoff = Backoff::new(POLICY);
        loop {
            let answer = self.unless_stopped(self.store.read(bucket, key, if_match)).await?;
            match answer {
                Err(fault) if fault.class.may_pass() => {
                    self.unless_stopped(pause(&mut backoff, fault, || reading(bucket, key))).await??;
                }
                answer => return Ok(answer),
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

/// Waits before the next attempt, or gives the fault back where no attempt would better it, or none is left. Reads and
/// listings change nothing, so an ambiguous end is no risk.
async fn pause(backoff: &mut Backoff, fault: Fault, doing: impl Fn() -> String) -> Result<(), ManifestError> {
    match backoff.after_failure().filter(|_| fault.class.may_pass()) {
        Some(wait) => tokio::time::sleep(wait).await,
        None => return Err(ManifestError::Store { doing: doing(), fault: Box::new(fault) }),
    }
    Ok(())
}

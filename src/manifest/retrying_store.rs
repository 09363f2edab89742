//! Retries requests to the store: a freeze does not run inside the engine, which does its own retries.
//!
//! A body whose connection breaks off resumes where it was.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use batchplan_store::backoff::{Backoff, RetryPolicy};
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::{FaultClass, StoreError};
use batchplan_store::timeouts::{self, DisplaySeconds, REPORT_INTERVAL, TimeLimitError, micros, scaled};
use batchplan_store::{ListPage, ListRequest, OpenedObject, Store};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::error::{ManifestError, ResumeReadError, object_path};

/// The retries of a request. All pauses together take at most half a minute, because a person waits for the result.
const RETRY_POLICY: RetryPolicy =
    RetryPolicy { base_delay: Duration::from_millis(50), max_delay: Duration::from_secs(5), max_attempts: 8 };

/// The retries of a page that is optional: fewer.
const PROBE_POLICY: RetryPolicy = RetryPolicy { max_attempts: 4, ..RETRY_POLICY };

/// The maximum time for one listing page, or for opening one object, including all attempts. The store itself gives up
/// an attempt after a minute without a response.
const TOTAL_TIMEOUT: Duration = Duration::from_mins(3);

/// A store that retries after throttling and transient errors, until the stop token is cancelled.
///
/// A request that is throttled is not given up while others are answered: the store is busy, not out of order.
pub(crate) struct RetryingStore {
    store: Arc<dyn Store>,
    stop: CancellationToken,
    throttled: AtomicU64,
    answered: AtomicU64,
}

impl RetryingStore {
    pub(crate) fn new(store: Arc<dyn Store>, stop: CancellationToken) -> Self {
        Self { store, stop, throttled: AtomicU64::new(0), answered: AtomicU64::new(0) }
    }

    pub(crate) fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns the number of listing requests that the store has throttled so far.
    pub(crate) fn throttled_requests(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }

    /// Lists one page.
    pub(crate) async fn list(&self, request: &ListRequest) -> Result<ListPage, ManifestError> {
        self.list_with_retries(request, false).await
    }

    /// Lists one page that is optional, with fewer retries.
    pub(crate) async fn probe(&self, request: &ListRequest) -> Result<ListPage, ManifestError> {
        self.list_with_retries(request, true).await
    }

    async fn list_with_retries(&self, request: &ListRequest, is_optional: bool) -> Result<ListPage, ManifestError> {
        let doing = || format!("list {}", object_path(&request.bucket, &request.prefix));
        let mut attempts = StoreAttempts::new(if is_optional { PROBE_POLICY } else { RETRY_POLICY });
        loop {
            let answer = self.unless_stopped(attempts.run(self.store.list(request))).await?;
            match answer {
                Ok(page) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    debug!(
                        bucket = %request.bucket,
                        prefix = %request.prefix,
                        entries = page.entries.len(),
                        us = micros(attempts.started_at.elapsed()),
                        "page listed"
                    );
                    return Ok(page);
                }
                Err(fault) => {
                    if fault.class == FaultClass::Throttled {
                        self.throttled.fetch_add(1, Ordering::Relaxed);
                        if !is_optional {
                            attempts.renew_if_answered(self.answered.load(Ordering::Relaxed));
                        }
                    }
                    self.unless_stopped(attempts.wait_or_fail(fault, doing)).await??;
                }
            }
        }
    }

    /// Opens an object. The inner error is permanent: no retry can help, and the caller decides what it means. If the
    /// body breaks off later, reading resumes there.
    pub(crate) async fn open(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<Result<OpenedObject, StoreError>, ManifestError> {
        let mut attempts = StoreAttempts::new(RETRY_POLICY);
        loop {
            let answer = self.unless_stopped(attempts.run(self.store.read(bucket, key, if_match))).await?;
            match answer {
                Err(fault) if fault.class.is_retryable() => {
                    self.unless_stopped(attempts.wait_or_fail(fault, || describe_read(bucket, key))).await??;
                }
                Err(fault) => return Ok(Err(fault)),
                Ok(opened) => return Ok(Ok(resuming(&self.store, bucket, key, opened))),
            }
        }
    }

    /// Opens an object. A missing object is an error.
    pub(crate) async fn open_existing(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<OpenedObject, ManifestError> {
        self.open(bucket, key, None).await?.map_err(|fault| read_error(bucket, key, fault))
    }

    /// Opens an object if it still has this `ETag`, compared without regard to case.
    pub(crate) async fn open_pinned(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        etag: Option<&str>,
    ) -> Result<OpenedObject, ManifestError> {
        let Some(wanted) = etag.map(bare_etag) else { return self.open_existing(bucket, key).await };
        let changed = |found: Option<String>| ManifestError::Changed {
            place: object_path(bucket, key),
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
            Err(fault) => return Err(read_error(bucket, key, fault)),
        };
        // Compared here as well: some servers ignore If-Match.
        let found = bare_etag(&opened.etag);
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
pub(crate) fn bare_etag(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

fn describe_read(bucket: &BucketName, key: &ObjectKey) -> String {
    format!("read {}", object_path(bucket, key))
}

fn read_error(bucket: &BucketName, key: &ObjectKey, fault: StoreError) -> ManifestError {
    ManifestError::Store { doing: describe_read(bucket, key), fault: Box::new(fault) }
}

/// The attempts at one request, limited in number and in time since another request was answered.
struct StoreAttempts {
    backoff: Backoff,
    /// When the request was first sent, or a throttled one was last renewed.
    started_at: Instant,
    /// The number of requests answered at the last throttled attempt.
    answered: Option<u64>,
    /// The error of the previous attempt.
    last_fault: Option<StoreError>,
}

impl StoreAttempts {
    fn new(policy: RetryPolicy) -> Self {
        Self { backoff: Backoff::new(policy), started_at: Instant::now(), answered: None, last_fault: None }
    }

    fn deadline(&self) -> Instant {
        self.started_at + scaled(TOTAL_TIMEOUT)
    }

    /// Starts the limits over after a throttled attempt if other requests were answered since the last one.
    fn renew_if_answered(&mut self, answered: u64) {
        if self.answered.replace(answered).is_some_and(|before| answered > before) {
            self.backoff.renew();
            self.started_at = Instant::now();
        }
    }

    /// Runs one attempt within the remaining time. If it times out, returns the error of the previous attempt.
    async fn run<T>(&self, attempt: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let answer = tokio::time::timeout_at(self.deadline(), attempt).await;
        answer.unwrap_or_else(|_| {
            let why = TimeLimitError(scaled(TOTAL_TIMEOUT)).to_string();
            let late = || StoreError::without_response(FaultClass::Ambiguous, "RequestTimeout", &why, String::new());
            Err(self.last_fault.clone().unwrap_or_else(late))
        })
    }

    /// Waits before the next attempt. Returns an error if a retry cannot help or none is left. Reads and listings
    /// change nothing, so retrying an ambiguous failure is safe. Long waits are reported to the listener in `timeouts`.
    async fn wait_or_fail(&mut self, mut fault: StoreError, doing: impl Fn() -> String) -> Result<(), ManifestError> {
        let wait = self
            .backoff
            .next_delay()
            .filter(|_| !fault.needs_correction())
            .filter(|wait| fault.class.is_retryable() && Instant::now() + *wait < self.deadline());
        let (tried, so_far) = (self.backoff.failures(), self.started_at.elapsed());
        let Some(wait) = wait else {
            if tried > 1 {
                fault.message = format!("{} (tried {tried} times in {})", fault.message, DisplaySeconds(so_far));
            }
            return Err(ManifestError::Store { doing: doing(), fault: Box::new(fault) });
        };
        if so_far >= scaled(REPORT_INTERVAL) {
            let (so_far, doing, most) = (DisplaySeconds(so_far), doing(), self.backoff.max_attempts());
            timeouts::report(&format!(
                "cannot {doing} yet: {fault}; retrying (tried {tried} of {most} times in {so_far})"
            ));
        }
        debug!(attempt = tried, wait_us = micros(wait), class = ?fault.class, code = fault.code, "request will be repeated");
        self.last_fault = Some(fault);
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// The retries for one failure. They start over after [`RESET_AFTER_BYTES`] bytes.
const RESUME_POLICY: RetryPolicy =
    RetryPolicy { base_delay: Duration::from_millis(200), max_delay: Duration::from_secs(5), max_attempts: 4 };

/// The number of bytes that resets the retries. A server that sends only a few bytes per attempt still runs out of
/// them.
const RESET_AFTER_BYTES: u64 = 1 << 20;

type ReopenFuture = Pin<Box<dyn Future<Output = Result<OpenedObject, StoreError>> + Send>>;

/// Wraps the body so that reading resumes after a failure. Returns it unchanged if no strong `ETag` identifies the
/// object.
fn resuming(store: &Arc<dyn Store>, bucket: &BucketName, key: &ObjectKey, opened: OpenedObject) -> OpenedObject {
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::testing::{MemoryStore, fault};
    use super::*;

    fn page_below(prefix: &str) -> ListRequest {
        let (bucket, prefix) = (BucketName::new("b"), ObjectKey::from(prefix));
        ListRequest { bucket, prefix, all_versions: false, group_by_directory: false, from: None }
    }

    /// A store that throttles the first requests for `busy/`.
    fn busy_for(requests: u32) -> RetryingStore {
        let store = MemoryStore {
            busy: Mutex::new(Some((requests, fault(FaultClass::Throttled, 503, "SlowDown")))),
            ..MemoryStore::default()
        };
        RetryingStore::new(Arc::new(store), CancellationToken::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_page_is_not_given_up_while_others_are_answered() {
        let store = busy_for(100);
        let busy = page_below("busy/");
        let mut listing = std::pin::pin!(store.list(&busy));
        let started = Instant::now();
        loop {
            tokio::select! {
                listed = &mut listing => {
                    listed.expect("listed in the end");
                    break;
                }
                () = tokio::time::sleep(Duration::from_millis(200)) => {
                    store.list(&page_below("other/")).await.expect("listed");
                }
            }
        }
        assert!(started.elapsed() > TOTAL_TIMEOUT, "it took {:?}", started.elapsed());
        assert_eq!(store.throttled_requests(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_page_is_given_up_if_nothing_is_answered() {
        let store = busy_for(100);
        store.list(&page_below("other/")).await.expect("listed");
        let error = store.list(&page_below("busy/")).await.expect_err("throttled");
        assert!(error.to_string().contains("(tried 8 times in "), "{error}");
        let error = store.probe(&page_below("busy/")).await.expect_err("throttled");
        assert!(error.to_string().contains("(tried 4 times in "), "{error}");
    }
}

//! The limits that every attempt of every worker passes before it is sent: the job's quota, which
//! `jobs/request_budget` sets, the rate limit of the plan,
//! and what each bucket can take.
//!
//! For each bucket, a [`CongestionController`] finds by itself how much may be sent. With a store that never throttles,
//! the cost is two uncontended locks per request, and the window opens to the plan's concurrency within a few round
//! trips. Where the plan leaves the concurrency to the program, it goes on to open while answers do not become slower.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use batchplan_store::Mutex;
use batchplan_store::object::BucketName;
use batchplan_store::object_request::{ObjectRequest, ObjectResponse, RequestKind};
use batchplan_store::task::{FaultClass, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{Level, enabled, info, trace};

use super::congestion::{
    AdmissionDecision, CongestionController, CongestionLimits, CongestionSignal, RequestTicket, WindowBounds,
};

/// The limits of one job: objects in flight, and requests per second. They can change while the job runs. Clones share
/// the same limits.
#[derive(Clone, Debug)]
pub struct JobQuota(Arc<QuotaLimits>);

#[derive(Debug)]
struct QuotaLimits {
    max_in_flight: AtomicU32,
    /// The number of requests in flight up to which a job goes at once.
    start: u32,
    /// 0 means no limit.
    requests_per_second: AtomicU32,
}

impl JobQuota {
    /// Creates limits of `objects` in flight and `requests_per_second`. Values below one are raised to one;
    /// `None` means no rate limit.
    #[must_use]
    pub fn new(objects: u32, requests_per_second: Option<u32>) -> Self {
        Self::with_start(u32::MAX, objects, requests_per_second)
    }

    /// Creates limits like [`new`](Self::new). Above `start` requests in flight, more are sent only while the store
    /// answers as fast as before.
    #[must_use]
    pub fn with_start(start: u32, objects: u32, requests_per_second: Option<u32>) -> Self {
        let (max_in_flight, rate) = (AtomicU32::new(1), AtomicU32::new(0));
        let share = Self(Arc::new(QuotaLimits { max_in_flight, start, requests_per_second: rate }));
        share.set(objects, requests_per_second);
        share
    }

    fn window_bounds(&self) -> WindowBounds {
        let max = self.0.max_in_flight.load(Ordering::Relaxed);
        WindowBounds { start: f64::from(self.0.start.min(max)), max: f64::from(max) }
    }

    /// Changes the limits. Objects in flight beyond the new limit are finished first.
    pub fn set(&self, objects: u32, requests_per_second: Option<u32>) {
        self.0.max_in_flight.store(objects.max(1), Ordering::Relaxed);
        self.0.requests_per_second.store(requests_per_second.map_or(0, |rate| rate.max(1)), Ordering::Relaxed);
    }

    /// The number of objects that may be in flight, at least 1.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.0.max_in_flight.load(Ordering::Relaxed) as usize
    }

    /// The number of requests that may be sent per second; `None` means no limit.
    #[must_use]
    pub fn requests_per_second(&self) -> Option<u32> {
        Some(self.0.requests_per_second.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }
}

/// Spaces requests evenly. After a pause, at most a tenth of a second's worth of requests is sent at once.
#[derive(Debug)]
struct RequestRateLimiter {
    quota: JobQuota,
    next: Mutex<Option<Instant>>,
}

/// How much unused time counts towards a burst.
const BURST: Duration = Duration::from_millis(100);

impl RequestRateLimiter {
    /// Creates a limiter with the rate of this quota. It follows changes of the quota.
    fn new(quota: JobQuota) -> Self {
        Self { quota, next: Mutex::new(None) }
    }

    /// Waits until this request may be sent. Returns false if there is no limit.
    async fn acquire(&self) -> bool {
        let Some(interval) = self.interval() else { return false };
        tokio::time::sleep_until(self.reserve(Instant::now(), interval)).await;
        true
    }

    fn interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(1) / self.quota.requests_per_second()?)
    }

    fn reserve(&self, now: Instant, interval: Duration) -> Instant {
        let mut next = self.next.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let turn = next.map_or(now, |next| next.max(earliest));
        *next = Some(turn + interval);
        turn
    }
}

/// The number of admission queues. If a job has more buckets, some share a queue, which makes them no faster than
/// their limits allow.
const QUEUES: usize = 64;

/// The limits on the requests of one job.
#[derive(Debug)]
pub struct Throttle {
    quota: JobQuota,
    rate_limiter: RequestRateLimiter,
    queues: Box<[AdmissionQueue]>,
    hasher: RandomState,
}

impl Throttle {
    /// Creates limits that start low and adapt to what each bucket can take. They never exceed the quota and
    /// follow its changes.
    #[must_use]
    pub fn new(quota: JobQuota) -> Self {
        let queues = (0..QUEUES).map(|_| AdmissionQueue::new()).collect();
        Self { rate_limiter: RequestRateLimiter::new(quota.clone()), quota, queues, hasher: RandomState::new() }
    }

    /// Waits until a request about an object of this bucket may be sent.
    pub(crate) async fn acquire(&self, bucket: &BucketName, call: &ObjectRequest) -> RequestPermit<'_> {
        let queue = self.queue(bucket);
        let ticket = queue.acquire().await;
        let mut permit = RequestPermit { queue, quota: &self.quota, kind: call.kind(), ticket, answered: false };
        if self.rate_limiter.acquire().await {
            permit.ticket = ticket.delayed_until(Instant::now());
        }
        permit
    }

    fn queue(&self, bucket: &BucketName) -> &AdmissionQueue {
        // `QUEUES` is a power of two and less than 256, so the low byte is enough.
        let [low, ..] = self.hasher.hash_one(bucket).to_le_bytes();
        &self.queues[usize::from(low) % QUEUES]
    }
}

/// A permit to send one request. If it is dropped without an answer, the request was abandoned.
#[derive(Debug)]
pub(crate) struct RequestPermit<'a> {
    queue: &'a AdmissionQueue,
    quota: &'a JobQuota,
    kind: RequestKind,
    ticket: RequestTicket,
    answered: bool,
}

impl RequestPermit<'_> {
    /// Reports the answer to the request.
    pub(crate) fn report_answer(mut self, answer: &Result<ObjectResponse, StoreError>) {
        self.answered = true;
        let signal = answer.as_ref().err().map_or(CongestionSignal::Accepted, congestion_signal);
        let bounds = self.quota.window_bounds();
        let (ticket, kind, now) = (self.ticket, self.kind, Instant::now());
        // The limits change with almost every answer while they open, so only their reductions are logged at `info`.
        let level = if signal == CongestionSignal::Accepted { Level::TRACE } else { Level::INFO };
        let mut change = None;
        self.queue.release(|controller| {
            let before = is_logged(level).then(|| controller.limits());
            controller.on_answer(ticket, now, kind, signal, bounds);
            change = before.map(|before| (before, controller.limits())).filter(|(before, after)| before != after);
        });
        if let Some((before, after)) = change {
            log_limits(before, after, signal);
        }
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.queue.release(CongestionController::remove_in_flight);
        }
    }
}

/// Returns whether changes of the limits are logged at this level.
fn is_logged(level: Level) -> bool {
    if level == Level::INFO { enabled!(Level::INFO) } else { enabled!(Level::TRACE) }
}

fn log_limits(before: CongestionLimits, after: CongestionLimits, signal: CongestionSignal) {
    let (window_before, window) = (before.window, after.window);
    let (rate_before, rate) = (before.rate, after.rate);
    if signal == CongestionSignal::Accepted {
        trace!(window_before, window, rate_before, rate, "limits changed");
    } else {
        let reason = if signal == CongestionSignal::Failed { "a request failed" } else { "throttled by the server" };
        info!(reason, window_before, window, rate_before, rate, "limits reduced");
    }
}

/// Returns what a fault says about the server's load.
fn congestion_signal(fault: &StoreError) -> CongestionSignal {
    let pause = fault.retry_after.map(|seconds| Duration::from_secs(u64::from(seconds.get())));
    match fault.class {
        _ if is_throttling(fault) => CongestionSignal::Throttled(pause),
        FaultClass::Ambiguous | FaultClass::Transient | FaultClass::Throttled => CongestionSignal::Failed,
        FaultClass::Rejected | FaultClass::Conflict | FaultClass::Credentials => CongestionSignal::Accepted,
    }
}

/// Returns whether a fault asks for a lower rate. A bare 503 is ambiguous, because the request may have been carried
/// out. It still does.
pub(super) fn is_throttling(fault: &StoreError) -> bool {
    fault.class == FaultClass::Throttled || matches!(fault.status, Some(429 | 503))
}

/// One bucket's congestion controller and the queue of requests before it.
#[derive(Debug)]
struct AdmissionQueue {
    state: Mutex<AdmissionState>,
    /// Held by the first request in the queue. The lock is fair.
    head_lock: tokio::sync::Mutex<()>,
    /// Notifies the first request in the queue that another one was answered.
    answer_received: Notify,
}

#[derive(Debug)]
struct AdmissionState {
    controller: CongestionController,
    waiting: usize,
}

/// A place in the queue.
struct QueueSlot<'a>(&'a AdmissionQueue);

impl Drop for QueueSlot<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl AdmissionQueue {
    fn new() -> Self {
        let state = AdmissionState { controller: CongestionController::new(), waiting: 0 };
        Self { state: Mutex::new(state), head_lock: tokio::sync::Mutex::new(()), answer_received: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, AdmissionState> {
        self.state.lock()
    }

    async fn acquire(&self) -> RequestTicket {
        let place = {
            let mut state = self.state();
            if state.waiting == 0
                && let AdmissionDecision::Admitted(ticket) = state.controller.admit(Instant::now())
            {
                return ticket;
            }
            state.waiting += 1;
            QueueSlot(self)
        };
        let _first = self.head_lock.lock().await;
        loop {
            let admission = self.state().controller.admit(Instant::now());
            match admission {
                AdmissionDecision::Admitted(ticket) => {
                    drop(place);
                    return ticket;
                }
                AdmissionDecision::NotBefore(turn) => tokio::time::sleep_until(turn).await,
                // A notification sent before this call is not lost.
                AdmissionDecision::WindowFull => self.answer_received.notified().await,
            }
        }
    }

    fn release(&self, update: impl FnOnce(&mut CongestionController)) {
        let mut state = self.state();
        update(&mut state.controller);
        let waited_for = state.waiting > 0;
        drop(state);
        if waited_for {
            self.answer_received.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thousand_requests_at_a_hundred_a_second_take_ten_seconds() {
        let pace = RequestRateLimiter::new(JobQuota::new(1, Some(100)));
        let start = Instant::now();
        for _ in 0..1000 {
            pace.acquire().await;
        }
        let took = start.elapsed();
        assert!((Duration::from_millis(9_900)..=Duration::from_millis(10_100)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_earns_only_a_small_burst() {
        let pace = RequestRateLimiter::new(JobQuota::new(1, Some(100)));
        pace.acquire().await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        let start = Instant::now();
        for _ in 0..100 {
            pace.acquire().await;
        }
        assert!(start.elapsed() >= Duration::from_millis(850), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn admits_everything_without_a_rate_limit() {
        let pace = RequestRateLimiter::new(JobQuota::new(1, None));
        let start = Instant::now();
        for _ in 0..10_000 {
            pace.acquire().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

//! Admission of requests: each one waits here until it may be sent.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use batchplan_store::object::BucketName;
use batchplan_store::object_request::{ObjectRequest, ObjectResponse, RequestKind};
use batchplan_store::task::{FaultClass, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::congestion::{AdmissionDecision, CongestionController, CongestionSignal, RequestTicket};
use crate::engine::quota::JobQuota;
use crate::engine::rate_limiter::RequestRateLimiter;

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
    pub(in crate::engine) async fn acquire(&self, bucket: &BucketName, call: &ObjectRequest) -> RequestPermit<'_> {
        let gate = self.queue(bucket);
        let ticket = gate.acquire().await;
        let mut pass = RequestPermit { queue: gate, quota: &self.quota, kind: call.kind(), ticket, answered: false };
        if self.rate_limiter.acquire().await {
            pass.ticket = ticket.delayed_until(Instant::now());
        }
        pass
    }

    fn queue(&self, bucket: &BucketName) -> &AdmissionQueue {
        // `QUEUES` is a power of two and less than 256, so the low byte is enough.
        let [low, ..] = self.hasher.hash_one(bucket).to_le_bytes();
        &self.queues[usize::from(low) % QUEUES]
    }
}

/// A permit to send one request. If it is dropped without an answer, the request was abandoned.
#[derive(Debug)]
pub(in crate::engine) struct RequestPermit<'a> {
    queue: &'a AdmissionQueue,
    quota: &'a JobQuota,
    kind: RequestKind,
    ticket: RequestTicket,
    answered: bool,
}

impl RequestPermit<'_> {
    /// Reports the answer to the request.
    pub(in crate::engine) fn report_answer(mut self, answer: &Result<ObjectResponse, StoreError>) {
        self.answered = true;
        let verdict = answer.as_ref().err().map_or(CongestionSignal::Accepted, congestion_signal);
        let cap = f64::from(u32::try_from(self.quota.max_in_flight()).unwrap_or(u32::MAX));
        let (ticket, kind, now) = (self.ticket, self.kind, Instant::now());
        self.queue.release(|governor| governor.on_answer(ticket, now, kind, verdict, cap));
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.queue.release(CongestionController::remove_in_flight);
        }
    }
}

/// Returns what a fault says about the server's load.
fn congestion_signal(fault: &StoreError) -> CongestionSignal {
    let pause = fault.retry_after.map(|seconds| Duration::from_secs(u64::from(seconds.get())));
    match (fault.class, fault.status) {
        // A bare 503 is ambiguous: the request may have been carried out. It still asks for a lower rate.
        (FaultClass::Throttled, _) | (_, Some(429 | 503)) => CongestionSignal::Throttled(pause),
        (FaultClass::Ambiguous | FaultClass::Transient, _) => CongestionSignal::Failed,
        (FaultClass::Rejected | FaultClass::Conflict | FaultClass::Credentials, _) => CongestionSignal::Accepted,
    }
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
        // The guarded numbers are consistent at every moment, so a poisoned lock is harmless.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn release(&self, tell: impl FnOnce(&mut CongestionController)) {
        let mut state = self.state();
        tell(&mut state.controller);
        let waited_for = state.waiting > 0;
        drop(state);
        if waited_for {
            self.answer_received.notify_one();
        }
    }
}

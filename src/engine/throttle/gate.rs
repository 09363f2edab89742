//! Admission of requests: each one waits here until it may be sent.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::governor::{Admission, Governor, Ticket, Verdict};
use crate::call::{Call, CallKind, Reply};
use crate::engine::allowance::Allowance;
use crate::engine::pace::Pace;
use crate::object::Bucket;
use crate::task::{Fault, FaultClass};

/// The number of admission queues. If a job has more buckets, some share a queue, which makes them no faster than
/// their limits allow.
const BUCKETS: usize = 64;

/// The limits on the requests of one job.
#[derive(Debug)]
pub struct Throttle {
    allowance: Allowance,
    pace: Pace,
    gates: Box<[Gate]>,
    hasher: RandomState,
}

impl Throttle {
    /// Creates limits that start low and adapt to what each bucket can take. They never exceed the quota and
    /// follow its changes.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        let gates = (0..BUCKETS).map(|_| Gate::new()).collect();
        Self { pace: Pace::new(allowance.clone()), allowance, gates, hasher: RandomState::new() }
    }

    /// Waits until a request about an object of this bucket may be sent.
    pub(in crate::engine) async fn turn(&self, bucket: &Bucket, call: &Call) -> Pass<'_> {
        let gate = self.gate(bucket);
        let ticket = gate.enter().await;
        let mut pass = Pass { gate, allowance: &self.allowance, kind: call.kind(), ticket, answered: false };
        if self.pace.turn().await {
            pass.ticket = ticket.sent_at(Instant::now());
        }
        pass
    }

    fn gate(&self, bucket: &Bucket) -> &Gate {
        // `BUCKETS` is a power of two and less than 256, so the low byte is enough.
        let [low, ..] = self.hasher.hash_one(bucket).to_le_bytes();
        &self.gates[usize::from(low) % BUCKETS]
    }
}

/// A permit to send one request. If it is dropped without an answer, the request was abandoned.
#[derive(Debug)]
pub(in crate::engine) struct Pass<'a> {
    gate: &'a Gate,
    allowance: &'a Allowance,
    kind: CallKind,
    ticket: Ticket,
    answered: bool,
}

impl Pass<'_> {
    /// Reports the answer to the request.
    pub(in crate::engine) fn answered(mut self, answer: &Result<Reply, Fault>) {
        self.answered = true;
        let verdict = answer.as_ref().err().map_or(Verdict::Taken, verdict);
        let cap = f64::from(u32::try_from(self.allowance.objects()).unwrap_or(u32::MAX));
        let (ticket, kind, now) = (self.ticket, self.kind, Instant::now());
        self.gate.leave(|governor| governor.answered(ticket, now, kind, verdict, cap));
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.gate.leave(Governor::gone);
        }
    }
}

/// Returns what a fault says about the server's load.
fn verdict(fault: &Fault) -> Verdict {
    let pause = fault.retry_after.map(|seconds| Duration::from_secs(u64::from(seconds.get())));
    match (fault.class, fault.status) {
        // A bare 503 is ambiguous: the request may have been carried out. It still asks for a lower rate.
        (FaultClass::Throttled, _) | (_, Some(429 | 503)) => Verdict::Refused(pause),
        (FaultClass::Ambiguous | FaultClass::Transient, _) => Verdict::Failed,
        (FaultClass::Rejected | FaultClass::Conflict | FaultClass::Credentials, _) => Verdict::Taken,
    }
}

/// One bucket's congestion controller and the queue of requests before it.
#[derive(Debug)]
struct Gate {
    state: Mutex<State>,
    /// Held by the first request in the queue. The lock is fair.
    first: tokio::sync::Mutex<()>,
    /// Notifies the first request in the queue that another one was answered.
    freed: Notify,
}

#[derive(Debug)]
struct State {
    governor: Governor,
    waiting: usize,
}

/// A place in the queue.
struct Place<'a>(&'a Gate);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl Gate {
    fn new() -> Self {
        let state = State { governor: Governor::new(), waiting: 0 };
        Self { state: Mutex::new(state), first: tokio::sync::Mutex::new(()), freed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The guarded numbers are consistent at every moment, so a poisoned lock is harmless.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn enter(&self) -> Ticket {
        let place = {
            let mut state = self.state();
            if state.waiting == 0
                && let Admission::Go(ticket) = state.governor.admit(Instant::now())
            {
                return ticket;
            }
            state.waiting += 1;
            Place(self)
        };
        let _first = self.first.lock().await;
        loop {
            let admission = self.state().governor.admit(Instant::now());
            match admission {
                Admission::Go(ticket) => {
                    drop(place);
                    return ticket;
                }
                Admission::At(turn) => tokio::time::sleep_until(turn).await,
                // A notification sent before this call is not lost.
                Admission::Full => self.freed.notified().await,
            }
        }
    }

    fn leave(&self, tell: impl FnOnce(&mut Governor)) {
        let mut state = self.state();
        tell(&mut state.governor);
        let waited_for = state.waiting > 0;
        drop(state);
        if waited_for {
            self.freed.notify_one();
        }
    }
}

//! Handles one object: reads what the plan needs to know, sends what must change, and retries where that can help.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::server_check::{ServerCheck, ServerRefusal};
use super::throttle::Throttle;
use crate::backoff::{Backoff, RetryPolicy};
use crate::call::{Call, Learned, Reply};
use crate::object::{ObjectId, ObjectState, Restoration, RestoreRequest};
use crate::operation::{Looked, Operations, Rejection, Step, look};
use crate::store::Store;
use crate::task::{Failure, Fault, FaultClass, Outcome};
use crate::timeouts::{self, TimedOut, scaled};

/// Time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a plan's operations on one object at a time.
pub struct Worker {
    pub(super) store: Arc<dyn Store>,
    operations: Operations,
    reads: Vec<Step>,
    throttle: Throttle,
    policy: RetryPolicy,
    pub(super) stop: CancellationToken,
    /// Whether the service has accepted any request signature of this run.
    accepted: AtomicBool,
    last: Mutex<Option<Way>>,
    /// When this job may first have requested any restore, set if the outcomes of its requests were lost. The worker
    /// then checks an object before it requests its restore again.
    pub(super) asked_since: Option<Timestamp>,
    /// Set if the server must pass the server check before it gets writes.
    pub(super) check: Option<Arc<ServerCheck>>,
    /// The number of objects for which a write was sent.
    written: AtomicU64,
}

/// The requests for the most recent object state. Most objects of a job are in the same state, so they are computed
/// once.
struct Way {
    before: ObjectState,
    steps: Result<Arc<[Step]>, (&'static str, Rejection)>,
}

/// The result of work on an object.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worked {
    /// The object has an outcome.
    Settled(Outcome),
    /// The job was stopped before a write was sent for the object.
    NotBegun,
    /// The job was stopped after a write was sent, while the object waited for a retry. It has no outcome.
    Abandoned,
    /// The service rejected the credentials. The object has no outcome.
    Refused(Box<Fault>),
    /// The server check failed. The object has an outcome if a write was sent for it.
    Untrusted(Box<Untrusted>),
    /// A result of the server check could not be recorded, so nothing more is sent. Holds the error message.
    Unrecorded(String),
}

/// A server that failed the server check, and the outcome of the object that revealed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untrusted {
    /// What the server did wrong.
    pub refusal: ServerRefusal,
    /// The object's outcome, if a write was sent for it.
    pub failure: Option<Failure>,
}

/// One object while the worker handles it.
pub(super) struct Visit<'a> {
    pub(super) object: &'a ObjectId,
    /// Whether a request was sent. After that, a stop takes effect only between retries, not between the object's
    /// requests.
    begun: AtomicBool,
    /// Whether a write was sent.
    wrote: AtomicBool,
}

impl<'a> Visit<'a> {
    pub(super) fn new(object: &'a ObjectId) -> Self {
        Self { object, begun: AtomicBool::new(false), wrote: AtomicBool::new(false) }
    }

    pub(super) fn wrote(&self) -> bool {
        self.wrote.load(Ordering::Relaxed)
    }
}

/// Why a request returned no reply.
pub(super) enum Halt {
    Failed(Box<Failure>),
    Refused(Box<Fault>),
    Untrusted(Box<Untrusted>),
    Unrecorded(String),
    Stopped,
}

/// Why a single request returned no reply.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The error of the last attempt.
    Fault(Box<Fault>),
    /// The server failed the server check.
    Untrusted(Box<ServerRefusal>),
    /// The request was stopped before it was answered.
    Stopped,
}

impl From<Halt> for Unanswered {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Failed(failure) => Self::Fault(Box::new(failure.fault)),
            Halt::Refused(fault) => Self::Fault(fault),
            Halt::Untrusted(untrusted) => Self::Untrusted(Box::new(untrusted.refusal)),
            Halt::Unrecorded(_) | Halt::Stopped => Self::Stopped,
        }
    }
}

impl Worker {
    /// Creates a worker. It stops waiting for retries once `stop` is cancelled.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        operations: Operations,
        throttle: Throttle,
        policy: RetryPolicy,
        stop: CancellationToken,
    ) -> Self {
        let reads = operations.reads();
        Self {
            store,
            operations,
            reads,
            throttle,
            policy,
            stop,
            accepted: AtomicBool::new(false),
            last: Mutex::new(None),
            asked_since: None,
            check: None,
            written: AtomicU64::new(0),
        }
    }

    /// Makes the worker check an object before it requests its restore again, if this job may have requested it since
    /// `asked_since`.
    #[must_use]
    pub fn looking_first(self, asked_since: Option<Timestamp>) -> Self {
        Self { asked_since, ..self }
    }

    /// Makes the worker run this server check on its writes and reads.
    #[must_use]
    pub fn checking(self, check: Arc<ServerCheck>) -> Self {
        Self { check: Some(check), ..self }
    }

    /// Runs the operations on one object. `asked_before` is true if this job may already have requested its restore.
    pub async fn work(&self, object: &ObjectId, asked_before: bool) -> Worked {
        self.work_on(object, asked_before).await.0
    }

    /// Like [`Self::work`]. Also returns whether a write was sent.
    pub(super) async fn work_on(&self, object: &ObjectId, asked_before: bool) -> (Worked, bool) {
        let visit = Visit::new(object);
        let worked = match self.carry_out(&visit, asked_before).await {
            Ok(status) => Worked::Settled(Outcome::Succeeded { status }),
            Err(Halt::Failed(failure)) => Worked::Settled(Outcome::Failed(*failure)),
            Err(Halt::Refused(fault)) => Worked::Refused(fault),
            Err(Halt::Untrusted(untrusted)) => Worked::Untrusted(untrusted),
            Err(Halt::Unrecorded(why)) => Worked::Unrecorded(why),
            // An object that was only read counts as not started.
            Err(Halt::Stopped) if visit.wrote() => Worked::Abandoned,
            Err(Halt::Stopped) => Worked::NotBegun,
        };
        (worked, visit.wrote())
    }

    /// The number of objects for which a write was sent.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Sends one request on its own, with the rate limit and retries of any other, and returns its reply. A write
    /// goes through the server check like a job's first write. Do not use this for requests that must not be
    /// repeated.
    ///
    /// # Errors
    /// Returns an error if the request gets no successful answer or the server fails the server check.
    pub async fn ask(&self, object: &ObjectId, call: Call) -> Result<Reply, Unanswered> {
        let visit = Visit::new(object);
        let step = Step { call, operation: String::new() };
        let reply =
            if step.call.writes() { self.write(&visit, &step, false).await } else { self.send(&visit, &step).await };
        Ok(reply?)
    }

    /// Sends every request that the object needs. Returns the status of the last answer: of a write, or of a read if
    /// nothing has to change.
    async fn carry_out(&self, visit: &Visit<'_>, asked_before: bool) -> Result<u16, Halt> {
        let mut before = ObjectState::default();
        let mut status = None;
        for step in &self.reads {
            let reply = self.read(visit, step).await?;
            status = Some(reply.status);
            before.learn(reply.learned);
        }
        let steps = self.steps(before).map_err(|(operation, why)| {
            let fault = Fault::unanswered(FaultClass::Rejected, why.code(), &why.to_string(), String::new());
            failed(operation, fault)
        })?;
        for step in &*steps {
            status = Some(self.write(visit, step, asked_before).await?.status);
        }
        // Without any answer it is unknown whether the object is as it should be.
        status.ok_or_else(|| failed(&self.operations.names(), nothing_sent()))
    }

    /// Returns the requests for an object in this state. They are recomputed only if the state differs from the
    /// previous object's.
    fn steps(&self, before: ObjectState) -> Result<Arc<[Step]>, (&'static str, Rejection)> {
        // The cached value is consistent at every moment, so a poisoned lock is harmless.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = last.as_ref().filter(|way| way.before == before) {
            return way.steps.clone();
        }
        let after = self.operations.desired(&before);
        let steps = after.map(|after| self.operations.steps(&before, &after).into());
        *last = Some(Way { before, steps: steps.clone() });
        steps
    }

    /// Sends a write and retries it until there is a final answer.
    pub(super) async fn send_write(&self, visit: &Visit<'_>, step: &Step, asked_before: bool) -> Result<Reply, Halt> {
        match step.call {
            Call::Restore(request) => Box::pin(self.restore(visit, step, request, asked_before)).await,
            _ => self.send(visit, step).await,
        }
    }

    /// Sends a request that may be repeated, and retries it until there is a final answer.
    pub(super) async fn send(&self, visit: &Visit<'_>, step: &Step) -> Result<Reply, Halt> {
        let mut backoff = Backoff::new(self.policy);
        loop {
            let fault = match self.attempt(visit, &step.call, backoff.failures() > 0).await? {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            match fault.class {
                FaultClass::Rejected | FaultClass::Conflict => return Err(failed(&step.operation, fault)),
                FaultClass::Credentials => return Err(Halt::Refused(Box::new(fault))),
                FaultClass::Throttled | FaultClass::Transient | FaultClass::Ambiguous => {
                    self.wait(&mut backoff, step, fault).await?;
                }
            }
        }
    }

    /// Requests a restore. After an ambiguous answer it checks the object before it repeats the request, since a
    /// repeat may be billed and may extend the expiry. If the request is rejected with 400 and names a tier, it drops
    /// the tier only after checking that the object's class takes none.
    async fn restore(
        &self,
        visit: &Visit<'_>,
        step: &Step,
        request: RestoreRequest,
        asked_before: bool,
    ) -> Result<Reply, Halt> {
        let since = Timestamp::now();
        let mut asked = asked_before;
        let mut backoff = Backoff::new(self.policy);
        let mut call = step.call.clone();
        loop {
            let fault = match self.attempt(visit, &call, backoff.failures() > 0).await? {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            match fault.class {
                FaultClass::Rejected if self.may_be_the_tier(&fault, &call) => {
                    if !self.is_untiered(visit, step, &fault).await? {
                        return Err(failed(&step.operation, fault));
                    }
                    call = Call::Restore(RestoreRequest { tier: None, ..request });
                    continue;
                }
                FaultClass::Rejected => return Err(failed(&step.operation, fault)),
                FaultClass::Credentials => return Err(Halt::Refused(Box::new(fault))),
                FaultClass::Throttled | FaultClass::Transient => {}
                FaultClass::Conflict | FaultClass::Ambiguous => {
                    let conflict = fault.class == FaultClass::Conflict;
                    asked |= !conflict;
                    let (reply, found) = self.look(visit, step, &fault).await?;
                    match look(found, request, asked, since) {
                        Looked::Holds => return Ok(reply),
                        Looked::NotThere | Looked::TooShort { .. } if !conflict => {}
                        looked => return Err(failed(&step.operation, explained(fault, looked, request))),
                    }
                }
            }
            self.wait(&mut backoff, step, fault).await?;
        }
    }

    /// Returns the reply to HEAD if it shows that the restore this job requested after `since` already holds.
    pub(super) async fn holds_already(
        &self,
        visit: &Visit<'_>,
        step: &Step,
        request: RestoreRequest,
        since: Timestamp,
    ) -> Result<Option<Reply>, Halt> {
        let head = Step { call: Call::Head, operation: step.operation.clone() };
        let reply = match self.send(visit, &head).await {
            // The restore request itself reports a missing object.
            Err(Halt::Failed(unseen)) if unseen.fault.status == Some(404) => return Ok(None),
            looked => looked?,
        };
        let Learned::Head { restoration, .. } = reply.learned else { return Ok(None) };
        Ok(matches!(look(restoration, request, true, since), Looked::Holds).then_some(reply))
    }

    /// Returns whether a restore may have been rejected for naming a tier at all.
    fn may_be_the_tier(&self, fault: &Fault, call: &Call) -> bool {
        let tiered = matches!(call, Call::Restore(RestoreRequest { tier: Some(_), .. }));
        tiered && fault.status == Some(400) && self.store.untiered_class().is_some()
    }

    /// Returns whether the object's class takes no tier.
    async fn is_untiered(&self, visit: &Visit<'_>, step: &Step, fault: &Fault) -> Result<bool, Halt> {
        let reply = self.head(visit, step, fault).await?;
        Ok(matches!(&reply.learned, Learned::Head { class, .. } if self.store.untiered_class() == Some(class.as_str())))
    }

    /// Reads once how far the object's restore is.
    async fn look(&self, visit: &Visit<'_>, step: &Step, fault: &Fault) -> Result<(Reply, Restoration), Halt> {
        let reply = self.head(visit, step, fault).await?;
        let found = match reply.learned {
            Learned::Head { restoration, .. } => restoration,
            Learned::Nothing | Learned::Tags(_) | Learned::Acl(_) => Restoration::Absent,
        };
        Ok((reply, found))
    }

    /// Sends HEAD after a fault. If HEAD fails as well, returns the original fault with both messages.
    async fn head(&self, visit: &Visit<'_>, step: &Step, fault: &Fault) -> Result<Reply, Halt> {
        let head = Step { call: Call::Head, operation: step.operation.clone() };
        self.send(visit, &head).await.map_err(|halt| match halt {
            Halt::Stopped | Halt::Refused(_) | Halt::Untrusted(_) | Halt::Unrecorded(_) => halt,
            Halt::Failed(unseen) => {
                let message = format!("{}; a look at the object failed as well: {}", fault.message, unseen.fault);
                failed(&step.operation, Fault { message, ..fault.clone() })
            }
        })
    }

    /// Sends one request once the throttle admits it, with a time limit. A stop interrupts the wait for the throttle
    /// if `again` is set or if nothing was sent for the object yet.
    pub(super) async fn attempt(
        &self,
        visit: &Visit<'_>,
        call: &Call,
        again: bool,
    ) -> Result<Result<Reply, Fault>, Halt> {
        let may_stop = again || !visit.begun.load(Ordering::Relaxed);
        if self.check.as_ref().is_some_and(|check| check.is_refused()) {
            return Err(Halt::Stopped);
        }
        let pass = tokio::select! {
            biased;
            () = self.stop.cancelled(), if may_stop => return Err(Halt::Stopped),
            pass = self.throttle.turn(&visit.object.bucket, call) => pass,
        };
        visit.begun.store(true, Ordering::Relaxed);
        if call.writes() && !visit.wrote.swap(true, Ordering::Relaxed) {
            self.written.fetch_add(1, Ordering::Relaxed);
        }
        let url = || self.store.request_url(visit.object, call);
        let waiting_for = || format!("no answer to {}", url());
        let (limit, calling) = (scaled(REQUEST_TIMEOUT), self.store.call(visit.object, call));
        let answer = timeouts::within(limit, "the store", waiting_for, calling).await;
        let answer = answer.unwrap_or_else(|late| Err(timed_out(late, url())));
        pass.answered(&answer);
        Ok(answer.inspect(|_| self.accepted.store(true, Ordering::Relaxed)).map_err(|fault| self.judged(fault)))
    }

    /// Reclassifies a rejected signature. After other signatures were accepted, the cause is the content that was
    /// signed, such as an unusual key.
    fn judged(&self, mut fault: Fault) -> Fault {
        if fault.code == "SignatureDoesNotMatch" && self.accepted.load(Ordering::Relaxed) {
            fault.class = FaultClass::Rejected;
        }
        fault
    }

    /// Waits before the next attempt, unless this was the last one or the job is stopping.
    async fn wait(&self, backoff: &mut Backoff, step: &Step, mut fault: Fault) -> Result<(), Halt> {
        let Some(wait) = backoff.after_failure() else {
            fault.message = format!("{} (sent {} times)", fault.message, backoff.failures());
            return Err(failed(&step.operation, fault));
        };
        tokio::select! {
            () = self.stop.cancelled() => Err(Halt::Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}

/// The error if no operation sent a request, neither a read nor a write.
fn nothing_sent() -> Fault {
    let message = "no request was sent: batchplan does not know how to carry this out; please report it";
    Fault::unanswered(FaultClass::Rejected, "NothingSent", message, String::new())
}

fn timed_out(late: TimedOut, url: String) -> Fault {
    Fault::unanswered(FaultClass::Ambiguous, "RequestTimeout", &late.to_string(), url)
}

pub(super) fn failed(operation: &str, fault: Fault) -> Halt {
    Halt::Failed(Box::new(Failure { operation: operation.to_owned(), fault }))
}

/// Adds to the server's conflict what HEAD showed about the object.
fn explained(mut fault: Fault, looked: Looked, request: RestoreRequest) -> Fault {
    let why = match looked {
        Looked::SomebodyElses => {
            "a restore that this job did not ask for is under way, and how long its copy will stay \
                                  cannot be seen; run the failed objects again when it is done"
                .to_owned()
        }
        Looked::TooShort { until } => {
            format!("the restored copy goes at {until}, before the {} days asked for are over", request.days)
        }
        Looked::Holds | Looked::NotThere => return fault,
    };
    fault.message = format!("{}: {why}", fault.message);
    fault
}

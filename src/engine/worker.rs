//! One object's way: read what must be known, send what must be sent, again where that may help.

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

/// How long one request may take in all.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Carries out a plan's operations on one object at a time.
pub struct Worker {
    pub(super) store: Arc<dyn Store>,
    operations: Operations,
    reads: Vec<Step>,
    throttle: Throttle,
    policy: RetryPolicy,
    pub(super) stop: CancellationToken,
    /// Whether the service has taken any of our signatures.
    accepted: AtomicBool,
    last: Mutex<Option<Way>>,
    /// When this job first asked for any restore, where what came of its requests was lost: then an object is looked at
    /// before its restore is asked for again.
    pub(super) asked_since: Option<Timestamp>,
    /// Where the server is not to be trusted before it has proven itself.
    pub(super) check: Option<Arc<ServerCheck>>,
    /// Objects for which a request that writes was sent.
    written: AtomicU64,
}

/// From a state that an object was found in to the one that it should have: most objects of a job are found in the same.
struct Way {
    before: ObjectState,
    steps: Result<Arc<[Step]>, (&'static str, Rejection)>,
}

/// What came of working on an object.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worked {
    /// It has its outcome.
    Settled(Outcome),
    /// The job was stopped before a request that writes was sent for it.
    NotBegun,
    /// The job was stopped after one was sent, while the object waited for another attempt; it has no outcome.
    Abandoned,
    /// The service refuses the credentials, whatever the object; it has no outcome.
    Refused(Box<Fault>),
    /// The server does not do what it is asked, and nothing else. The object has an outcome where it was written.
    Untrusted(Box<Untrusted>),
    /// What the server has shown could not be recorded, so that nothing more is sent; why not.
    Unrecorded(String),
}

/// A server that is not trusted any more, and what became of the object that showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untrusted {
    /// What the server did.
    pub refusal: ServerRefusal,
    /// The object's outcome, where a request that writes was sent for it.
    pub failure: Option<Failure>,
}

/// One object on its way.
pub(super) struct Visit<'a> {
    pub(super) object: &'a ObjectId,
    /// Whether a request was sent. From then on a stop does not come between its requests, only between retries.
    begun: AtomicBool,
    /// Whether one was that writes.
    wrote: AtomicBool,
}

impl<'a> Visit<'a> {
    /// Nothing was sent yet.
    pub(super) fn new(object: &'a ObjectId) -> Self {
        Self { object, begun: AtomicBool::new(false), wrote: AtomicBool::new(false) }
    }

    /// Whether a request was sent that writes.
    pub(super) fn wrote(&self) -> bool {
        self.wrote.load(Ordering::Relaxed)
    }
}

/// Why a request brought no reply.
pub(super) enum Halt {
    Failed(Box<Failure>),
    Refused(Box<Fault>),
    Untrusted(Box<Untrusted>),
    Unrecorded(String),
    Stopped,
}

/// Why a single request brought no answer.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// What the last attempt met.
    Fault(Box<Fault>),
    /// The server cannot be trusted with it.
    Untrusted(Box<ServerRefusal>),
    /// It was stopped.
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
    /// A worker that stops waiting for further attempts once `stop` is cancelled.
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

    /// Looks at an object that this job may have asked for since then, before it asks for its restore.
    #[must_use]
    pub fn looking_first(self, asked_since: Option<Timestamp>) -> Self {
        Self { asked_since, ..self }
    }

    /// Trusts its server only as far as this check goes.
    #[must_use]
    pub fn checking(self, check: Arc<ServerCheck>) -> Self {
        Self { check: Some(check), ..self }
    }

    /// Works on one object. `asked_before` says that this job has already asked for its restore.
    pub async fn work(&self, object: &ObjectId, asked_before: bool) -> Worked {
        self.work_on(object, asked_before).await.0
    }

    /// The same; also whether a request was sent that writes.
    pub(super) async fn work_on(&self, object: &ObjectId, asked_before: bool) -> (Worked, bool) {
        let visit = Visit::new(object);
        let worked = match self.carry_out(&visit, asked_before).await {
            Ok(status) => Worked::Settled(Outcome::Succeeded { status }),
            Err(Halt::Failed(failure)) => Worked::Settled(Outcome::Failed(*failure)),
            Err(Halt::Refused(fault)) => Worked::Refused(fault),
            Err(Halt::Untrusted(untrusted)) => Worked::Untrusted(untrusted),
            Err(Halt::Unrecorded(why)) => Worked::Unrecorded(why),
            // What was only read is as if it had not been begun.
            Err(Halt::Stopped) if visit.wrote() => Worked::Abandoned,
            Err(Halt::Stopped) => Worked::NotBegun,
        };
        (worked, visit.wrote())
    }

    /// For how many objects a request was sent that writes.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Sends one request by itself, in its turn and with the retries of any other: what it says is all that is wanted. One
    /// that writes is checked like a job's first. Not for what must not be sent twice.
    ///
    /// # Errors
    /// When it is not answered, or the server cannot be trusted with it.
    pub async fn ask(&self, object: &ObjectId, call: Call) -> Result<Reply, Unanswered> {
        let visit = Visit::new(object);
        let step = Step { call, operation: String::new() };
        let reply =
            if step.call.writes() { self.write(&visit, &step, false).await } else { self.send(&visit, &step).await };
        Ok(reply?)
    }

    /// Every request that the object needs; the status of the last answer: of a write, or of a read where nothing has to
    /// change.
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
        // Without any answer nobody knows that the object is as it should be.
        status.ok_or_else(|| failed(&self.operations.names(), nothing_sent()))
    }

    /// The requests for an object in this state, worked out once as long as the next one is found in the same.
    fn steps(&self, before: ObjectState) -> Result<Arc<[Step]>, (&'static str, Rejection)> {
        // What is kept is whole at every moment, so that a poisoned lock is as good.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = last.as_ref().filter(|way| way.before == before) {
            return way.steps.clone();
        }
        let after = self.operations.desired(&before);
        let steps = after.map(|after| self.operations.steps(&before, &after).into());
        *last = Some(Way { before, steps: steps.clone() });
        steps
    }

    /// Sends a request that writes, until it is answered for good.
    pub(super) async fn send_write(&self, visit: &Visit<'_>, step: &Step, asked_before: bool) -> Result<Reply, Halt> {
        match step.call {
            Call::Restore(request) => Box::pin(self.restore(visit, step, request, asked_before)).await,
            _ => self.send(visit, step).await,
        }
    }

    /// Sends a request that may be repeated, until it is answered for good.
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

    /// Asks for a restore. It is not sent again before a look, since a repeat may be billed and extend the expiry; nor is one
    /// that was refused with its tier given up before a look at whether the object's class takes any.
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

    /// The answer to a look that finds the restore that this job asked for at some time since then.
    pub(super) async fn holds_already(
        &self,
        visit: &Visit<'_>,
        step: &Step,
        request: RestoreRequest,
        since: Timestamp,
    ) -> Result<Option<Reply>, Halt> {
        let head = Step { call: Call::Head, operation: step.operation.clone() };
        let reply = match self.send(visit, &head).await {
            // What is not there is for the request itself to find out.
            Err(Halt::Failed(unseen)) if unseen.fault.status == Some(404) => return Ok(None),
            looked => looked?,
        };
        let Learned::Head { restoration, .. } = reply.learned else { return Ok(None) };
        Ok(matches!(look(restoration, request, true, since), Looked::Holds).then_some(reply))
    }

    /// Whether a restore may have been refused for naming a tier at all.
    fn may_be_the_tier(&self, fault: &Fault, call: &Call) -> bool {
        let tiered = matches!(call, Call::Restore(RestoreRequest { tier: Some(_), .. }));
        tiered && fault.status == Some(400) && self.store.untiered_class().is_some()
    }

    /// Whether the object's class takes no tier.
    async fn is_untiered(&self, visit: &Visit<'_>, step: &Step, fault: &Fault) -> Result<bool, Halt> {
        let reply = self.head(visit, step, fault).await?;
        Ok(matches!(&reply.learned, Learned::Head { class, .. } if self.store.untiered_class() == Some(class.as_str())))
    }

    /// One look at how far the object's restore is.
    async fn look(&self, visit: &Visit<'_>, step: &Step, fault: &Fault) -> Result<(Reply, Restoration), Halt> {
        let reply = self.head(visit, step, fault).await?;
        let found = match reply.learned {
            Learned::Head { restoration, .. } => restoration,
            Learned::Nothing | Learned::Tags(_) | Learned::Acl(_) => Restoration::Absent,
        };
        Ok((reply, found))
    }

    /// One look at the object, because of a fault. Where it cannot be had, the fault stands, and says so.
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

    /// Sends one request, in its turn and within its time. What is sent `again` gives way to a stop while it waits.
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

    /// A signature that is refused after others were taken is the fault of what was signed, such as an odd key.
    fn judged(&self, mut fault: Fault) -> Fault {
        if fault.code == "SignatureDoesNotMatch" && self.accepted.load(Ordering::Relaxed) {
            fault.class = FaultClass::Rejected;
        }
        fault
    }

    /// Waits for the next attempt, unless this one was the last or the job is being stopped.
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

/// No operation needed a request, neither to look at the object nor to change it.
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

/// The server's conflict, with what the look at the object added.
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

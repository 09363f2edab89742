//! Handles one object: reads what the plan needs to know, sends what must change, and retries where that can help.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use batchplan_store::Store;
use batchplan_store::backoff::{Backoff, RetryPolicy};
use batchplan_store::object::{ObjectId, ObjectState, RestoreRequest, RestoreState};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse, ResponseData};
use batchplan_store::task::{FaultClass, StoreError, TaskFailure, TaskOutcome};
use batchplan_store::timeouts::{self, TimeLimitError, scaled};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::server_check::{ServerCheck, ServerCheckFailure};
use super::throttle::Throttle;
use crate::operation::{OperationError, OperationSet, OperationStep, RestoreCheck, check_restore};

/// Time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a plan's operations on one object at a time.
pub struct Worker {
    pub(super) store: Arc<dyn Store>,
    operations: OperationSet,
    reads: Vec<OperationStep>,
    throttle: Throttle,
    retry_policy: RetryPolicy,
    pub(super) stop: CancellationToken,
    /// Whether the service has accepted any request signature of this run.
    signature_accepted: AtomicBool,
    plan_cache: Mutex<Option<PlanCache>>,
    /// When this job may first have requested any restore, set if the outcomes of its requests were lost. The worker
    /// then checks an object before it requests its restore again.
    pub(super) restores_sent_since: Option<Timestamp>,
    /// Set if the server must pass the server check before it gets writes.
    pub(super) server_check: Option<Arc<ServerCheck>>,
    /// The number of objects for which a write was sent.
    written_objects: AtomicU64,
}

/// The requests for the most recent object state. Most objects of a job are in the same state, so they are computed
/// once.
struct PlanCache {
    before: ObjectState,
    steps: Result<Arc<[OperationStep]>, (&'static str, OperationError)>,
}

/// The result of work on an object.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerOutcome {
    /// The object has an outcome.
    Finished(TaskOutcome),
    /// The job was stopped before a write was sent for the object.
    NotStarted,
    /// The job was stopped after a write was sent, while the object waited for a retry. It has no outcome.
    Abandoned,
    /// The service rejected the credentials. The object has no outcome.
    CredentialsRejected(Box<StoreError>),
    /// The server check failed. The object has an outcome if a write was sent for it.
    ServerUntrusted(Box<UntrustedServer>),
    /// A result of the server check could not be recorded, so nothing more is sent. Holds the error message.
    ServerCheckNotRecorded(String),
}

/// A server that failed the server check, and the outcome of the object that revealed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntrustedServer {
    /// What the server did wrong.
    pub check_failure: ServerCheckFailure,
    /// The object's outcome, if a write was sent for it.
    pub object_failure: Option<TaskFailure>,
}

/// One object while the worker handles it.
pub(super) struct ObjectContext<'a> {
    pub(super) object: &'a ObjectId,
    /// Whether a request was sent. After that, a stop takes effect only between retries, not between the object's
    /// requests.
    request_sent: AtomicBool,
    /// Whether a write was sent.
    write_sent: AtomicBool,
}

impl<'a> ObjectContext<'a> {
    pub(super) fn new(object: &'a ObjectId) -> Self {
        Self { object, request_sent: AtomicBool::new(false), write_sent: AtomicBool::new(false) }
    }

    pub(super) fn write_sent(&self) -> bool {
        self.write_sent.load(Ordering::Relaxed)
    }
}

/// Why a request returned no reply.
pub(super) enum RequestAbort {
    Failed(Box<TaskFailure>),
    CredentialsRejected(Box<StoreError>),
    ServerUntrusted(Box<UntrustedServer>),
    ServerCheckNotRecorded(String),
    Stopped,
}

/// Why a single request returned no reply.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SingleRequestError {
    /// The error of the last attempt.
    Fault(Box<StoreError>),
    /// The server failed the server check.
    ServerUntrusted(Box<ServerCheckFailure>),
    /// The request was stopped before it was answered.
    Stopped,
}

impl From<RequestAbort> for SingleRequestError {
    fn from(halt: RequestAbort) -> Self {
        match halt {
            RequestAbort::Failed(failure) => Self::Fault(Box::new(failure.error)),
            RequestAbort::CredentialsRejected(fault) => Self::Fault(fault),
            RequestAbort::ServerUntrusted(untrusted) => Self::ServerUntrusted(Box::new(untrusted.check_failure)),
            RequestAbort::ServerCheckNotRecorded(_) | RequestAbort::Stopped => Self::Stopped,
        }
    }
}

impl Worker {
    /// Creates a worker. It stops waiting for retries once `stop` is cancelled.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        operations: OperationSet,
        throttle: Throttle,
        retry_policy: RetryPolicy,
        stop: CancellationToken,
    ) -> Self {
        let reads = operations.read_steps();
        Self {
            store,
            operations,
            reads,
            throttle,
            retry_policy,
            stop,
            signature_accepted: AtomicBool::new(false),
            plan_cache: Mutex::new(None),
            restores_sent_since: None,
            server_check: None,
            written_objects: AtomicU64::new(0),
        }
    }

    /// Makes the worker check an object before it requests its restore again, if this job may have requested it since
    /// `asked_since`.
    #[must_use]
    pub fn checking_restores_since(self, asked_since: Option<Timestamp>) -> Self {
        Self { restores_sent_since: asked_since, ..self }
    }

    /// Makes the worker run this server check on its writes and reads.
    #[must_use]
    pub fn with_server_check(self, check: Arc<ServerCheck>) -> Self {
        Self { server_check: Some(check), ..self }
    }

    /// Runs the operations on one object. `asked_before` is true if this job may already have requested its restore.
    pub async fn process(&self, object: &ObjectId, asked_before: bool) -> WorkerOutcome {
        self.process_object(object, asked_before).await.0
    }

    /// Like [`Self::process`]. Also returns whether a write was sent.
    pub(super) async fn process_object(&self, object: &ObjectId, asked_before: bool) -> (WorkerOutcome, bool) {
        let visit = ObjectContext::new(object);
        let worked = match self.run_operations(&visit, asked_before).await {
            Ok(status) => WorkerOutcome::Finished(TaskOutcome::Succeeded { status }),
            Err(RequestAbort::Failed(failure)) => WorkerOutcome::Finished(TaskOutcome::Failed(*failure)),
            Err(RequestAbort::CredentialsRejected(fault)) => WorkerOutcome::CredentialsRejected(fault),
            Err(RequestAbort::ServerUntrusted(untrusted)) => WorkerOutcome::ServerUntrusted(untrusted),
            Err(RequestAbort::ServerCheckNotRecorded(why)) => WorkerOutcome::ServerCheckNotRecorded(why),
            // An object that was only read counts as not started.
            Err(RequestAbort::Stopped) if visit.write_sent() => WorkerOutcome::Abandoned,
            Err(RequestAbort::Stopped) => WorkerOutcome::NotStarted,
        };
        (worked, visit.write_sent())
    }

    /// The number of objects for which a write was sent.
    pub(super) fn written_objects(&self) -> u64 {
        self.written_objects.load(Ordering::Relaxed)
    }

    /// Sends one request on its own, with the rate limit and retries of any other, and returns its reply. A write
    /// goes through the server check like a job's first write. Do not use this for requests that must not be
    /// repeated.
    ///
    /// # Errors
    /// Returns an error if the request gets no successful answer or the server fails the server check.
    pub async fn send_single(
        &self,
        object: &ObjectId,
        call: ObjectRequest,
    ) -> Result<ObjectResponse, SingleRequestError> {
        let visit = ObjectContext::new(object);
        let step = OperationStep { call, operation: String::new() };
        let reply = if step.call.is_write() {
            self.write_checked(&visit, &step, false).await
        } else {
            self.send(&visit, &step).await
        };
        Ok(reply?)
    }

    /// Sends every request that the object needs. Returns the status of the last answer: of a write, or of a read if
    /// nothing has to change.
    async fn run_operations(&self, visit: &ObjectContext<'_>, asked_before: bool) -> Result<u16, RequestAbort> {
        let mut before = ObjectState::default();
        let mut status = None;
        for step in &self.reads {
            let reply = self.read_checked(visit, step).await?;
            status = Some(reply.status);
            before.apply(reply.data);
        }
        let steps = self.steps_for(before).map_err(|(operation, why)| {
            let fault = StoreError::without_response(FaultClass::Rejected, why.code(), &why.to_string(), String::new());
            failed(operation, fault)
        })?;
        for step in &*steps {
            status = Some(self.write_checked(visit, step, asked_before).await?.status);
        }
        // Without any answer it is unknown whether the object is as it should be.
        status.ok_or_else(|| failed(&self.operations.names(), no_request_fault()))
    }

    /// Returns the requests for an object in this state. They are recomputed only if the state differs from the
    /// previous object's.
    fn steps_for(&self, before: ObjectState) -> Result<Arc<[OperationStep]>, (&'static str, OperationError)> {
        // The cached value is consistent at every moment, so a poisoned lock is harmless.
        let mut last = self.plan_cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = last.as_ref().filter(|way| way.before == before) {
            return way.steps.clone();
        }
        let after = self.operations.desired(&before);
        let steps = after.map(|after| self.operations.write_steps(&before, &after).into());
        *last = Some(PlanCache { before, steps: steps.clone() });
        steps
    }

    /// Sends a write and retries it until there is a final answer.
    pub(super) async fn send_write(
        &self,
        visit: &ObjectContext<'_>,
        step: &OperationStep,
        asked_before: bool,
    ) -> Result<ObjectResponse, RequestAbort> {
        match step.call {
            ObjectRequest::Restore(request) => Box::pin(self.restore(visit, step, request, asked_before)).await,
            _ => self.send(visit, step).await,
        }
    }

    /// Sends a request that may be repeated, and retries it until there is a final answer.
    pub(super) async fn send(
        &self,
        visit: &ObjectContext<'_>,
        step: &OperationStep,
    ) -> Result<ObjectResponse, RequestAbort> {
        let mut backoff = Backoff::new(self.retry_policy);
        loop {
            let fault = match self.attempt(visit, &step.call, backoff.failures() > 0).await? {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            match fault.class {
                FaultClass::Rejected | FaultClass::Conflict => return Err(failed(&step.operation, fault)),
                FaultClass::Credentials => return Err(RequestAbort::CredentialsRejected(Box::new(fault))),
                FaultClass::Throttled | FaultClass::Transient | FaultClass::Ambiguous => {
                    self.wait_before_retry(&mut backoff, step, fault).await?;
                }
            }
        }
    }

    /// Requests a restore. After an ambiguous answer it checks the object before it repeats the request, since a
    /// repeat may be billed and may extend the expiry. If the request is rejected with 400 and names a tier, it drops
    /// the tier only after checking that the object's class takes none.
    async fn restore(
        &self,
        visit: &ObjectContext<'_>,
        step: &OperationStep,
        request: RestoreRequest,
        asked_before: bool,
    ) -> Result<ObjectResponse, RequestAbort> {
        let since = Timestamp::now();
        let mut asked = asked_before;
        let mut backoff = Backoff::new(self.retry_policy);
        let mut call = step.call.clone();
        loop {
            let fault = match self.attempt(visit, &call, backoff.failures() > 0).await? {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            match fault.class {
                FaultClass::Rejected if self.may_be_tier_error(&fault, &call) => {
                    if !self.is_untiered(visit, step, &fault).await? {
                        return Err(failed(&step.operation, fault));
                    }
                    call = ObjectRequest::Restore(RestoreRequest { tier: None, ..request });
                    continue;
                }
                FaultClass::Rejected => return Err(failed(&step.operation, fault)),
                FaultClass::Credentials => return Err(RequestAbort::CredentialsRejected(Box::new(fault))),
                FaultClass::Throttled | FaultClass::Transient => {}
                FaultClass::Conflict | FaultClass::Ambiguous => {
                    let conflict = fault.class == FaultClass::Conflict;
                    asked |= !conflict;
                    let (reply, found) = self.read_restoration(visit, step, &fault).await?;
                    match check_restore(found, request, asked, since) {
                        RestoreCheck::InEffect => return Ok(reply),
                        RestoreCheck::NotStarted | RestoreCheck::ExpiresTooEarly { .. } if !conflict => {}
                        looked => return Err(failed(&step.operation, explain_conflict(fault, looked, request))),
                    }
                }
            }
            self.wait_before_retry(&mut backoff, step, fault).await?;
        }
    }

    /// Returns the reply to HEAD if it shows that the restore this job requested after `since` already holds.
    pub(super) async fn find_held_restore(
        &self,
        visit: &ObjectContext<'_>,
        step: &OperationStep,
        request: RestoreRequest,
        since: Timestamp,
    ) -> Result<Option<ObjectResponse>, RequestAbort> {
        let head = OperationStep { call: ObjectRequest::Head, operation: step.operation.clone() };
        let reply = match self.send(visit, &head).await {
            // The restore request itself reports a missing object.
            Err(RequestAbort::Failed(unseen)) if unseen.error.status == Some(404) => return Ok(None),
            looked => looked?,
        };
        let ResponseData::Head { restoration, .. } = reply.data else { return Ok(None) };
        Ok(matches!(check_restore(restoration, request, true, since), RestoreCheck::InEffect).then_some(reply))
    }

    /// Returns whether a restore may have been rejected for naming a tier at all.
    fn may_be_tier_error(&self, fault: &StoreError, call: &ObjectRequest) -> bool {
        let tiered = matches!(call, ObjectRequest::Restore(RestoreRequest { tier: Some(_), .. }));
        tiered && fault.status == Some(400) && self.store.untiered_class().is_some()
    }

    /// Returns whether the object's class takes no tier.
    async fn is_untiered(
        &self,
        visit: &ObjectContext<'_>,
        step: &OperationStep,
        fault: &StoreError,
    ) -> Result<bool, RequestAbort> {
        let reply = self.head_after_fault(visit, step, fault).await?;
        Ok(
            matches!(&reply.data, ResponseData::Head { class, .. } if self.store.untiered_class() == Some(class.as_str())),
        )
    }

    /// Reads once how far the object's restore is.
    async fn read_restoration(
        &self,
        visit: &ObjectContext<'_>,
        step: &OperationStep,
        fault: &StoreError,
    ) -> Result<(ObjectResponse, RestoreState), RequestAbort> {
        let reply = self.head_after_fault(visit, step, fault).await?;
        let found = match reply.data {
            ResponseData::Head { restoration, .. } => restoration,
            // HEAD is not answered with anything else.
            _ => RestoreState::NotRestored,
        };
        Ok((reply, found))
    }

    /// Sends HEAD after a fault. If HEAD fails as well, returns the original fault with both messages.
    async fn head_after_fault(
        &self,
        visit: &ObjectContext<'_>,
        step: &OperationStep,
        fault: &StoreError,
    ) -> Result<ObjectResponse, RequestAbort> {
        let head = OperationStep { call: ObjectRequest::Head, operation: step.operation.clone() };
        self.send(visit, &head).await.map_err(|halt| match halt {
            RequestAbort::Stopped
            | RequestAbort::CredentialsRejected(_)
            | RequestAbort::ServerUntrusted(_)
            | RequestAbort::ServerCheckNotRecorded(_) => halt,
            RequestAbort::Failed(unseen) => {
                let message = format!("{}; checking the object failed as well: {}", fault.message, unseen.error);
                failed(&step.operation, StoreError { message, ..fault.clone() })
            }
        })
    }

    /// Sends one request once the throttle admits it, with a time limit. A stop interrupts the wait for the throttle
    /// if `again` is set or if nothing was sent for the object yet.
    pub(super) async fn attempt(
        &self,
        visit: &ObjectContext<'_>,
        call: &ObjectRequest,
        again: bool,
    ) -> Result<Result<ObjectResponse, StoreError>, RequestAbort> {
        let may_stop = again || !visit.request_sent.load(Ordering::Relaxed);
        if self.server_check.as_ref().is_some_and(|check| check.has_failed()) {
            return Err(RequestAbort::Stopped);
        }
        let pass = tokio::select! {
            biased;
            () = self.stop.cancelled(), if may_stop => return Err(RequestAbort::Stopped),
            pass = self.throttle.acquire(&visit.object.bucket, call) => pass,
        };
        visit.request_sent.store(true, Ordering::Relaxed);
        if call.is_write() && !visit.write_sent.swap(true, Ordering::Relaxed) {
            self.written_objects.fetch_add(1, Ordering::Relaxed);
        }
        let url = || self.store.request_line(visit.object, call);
        let waiting_for = || format!("no response to {}", url());
        let (limit, calling) = (scaled(REQUEST_TIMEOUT), self.store.send_request(visit.object, call));
        let answer = timeouts::with_time_limit(limit, "the store", waiting_for, calling).await;
        let answer = answer.unwrap_or_else(|late| Err(timeout_fault(late, url())));
        pass.report_answer(&answer);
        Ok(answer
            .inspect(|_| self.signature_accepted.store(true, Ordering::Relaxed))
            .map_err(|fault| self.reclassify(fault)))
    }

    /// Reclassifies a rejected signature. After other signatures were accepted, the cause is the content that was
    /// signed, such as an unusual key.
    fn reclassify(&self, mut fault: StoreError) -> StoreError {
        if fault.code == "SignatureDoesNotMatch" && self.signature_accepted.load(Ordering::Relaxed) {
            fault.class = FaultClass::Rejected;
        }
        fault
    }

    /// Waits before the next attempt, unless this was the last one or the job is stopping.
    async fn wait_before_retry(
        &self,
        backoff: &mut Backoff,
        step: &OperationStep,
        mut fault: StoreError,
    ) -> Result<(), RequestAbort> {
        let Some(wait) = backoff.next_delay() else {
            fault.message = format!("{} (sent {} times)", fault.message, backoff.failures());
            return Err(failed(&step.operation, fault));
        };
        tokio::select! {
            () = self.stop.cancelled() => Err(RequestAbort::Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}

/// The error if no operation sent a request, neither a read nor a write.
fn no_request_fault() -> StoreError {
    let message = "no request was sent: this is a bug in batchplan; please report it";
    StoreError::without_response(FaultClass::Rejected, "NothingSent", message, String::new())
}

fn timeout_fault(late: TimeLimitError, url: String) -> StoreError {
    StoreError::without_response(FaultClass::Ambiguous, "RequestTimeout", &late.to_string(), url)
}

pub(super) fn failed(operation: &str, fault: StoreError) -> RequestAbort {
    RequestAbort::Failed(Box::new(TaskFailure { operation: operation.to_owned(), error: fault }))
}

/// Adds to the server's conflict what HEAD showed about the object.
fn explain_conflict(mut fault: StoreError, looked: RestoreCheck, request: RestoreRequest) -> StoreError {
    let why = match looked {
        RestoreCheck::ForeignRestore => {
            "a restore that this job did not request is in progress, and its expiry is not known; retry the failed \
             objects when it is done"
                .to_owned()
        }
        RestoreCheck::ExpiresTooEarly { until } => {
            let days = if request.days == 1 { "day is" } else { "days are" };
            format!("the restored copy expires at {until}, before the requested {} {days} over", request.days)
        }
        RestoreCheck::InEffect | RestoreCheck::NotStarted => return fault,
    };
    fault.message = format!("{}: {why}", fault.message);
    fault
}

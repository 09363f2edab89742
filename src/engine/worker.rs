//! Handles one object: reads what the plan needs to know, and sends what must change. Also sends single requests and
//! reads of an object outside a job, with the same limits and retries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use batchplan_store::backoff::RetryPolicy;
use batchplan_store::object::{ObjectId, ObjectState};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse, RequestKind};
use batchplan_store::task::{FaultClass, RowOrigin, StoreError, Task, TaskFailure, TaskOutcome, UNLISTABLE_KEY};
use batchplan_store::{Mutex, Store};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, trace};

use super::capture_queue::{CaptureDenial, CaptureQueue};
use super::object_capture::{ObjectCapture, ObjectReading};
use super::request_counts::{LatencyCollector, RequestCounts};
use super::request_sender::{ObjectContext, RequestAbort, RequestSender, failed};
use super::server_check::{ReadCheckOutcome, ServerCheck, ServerCheckFailure, UntrustedServer};
use super::throttle::Throttle;
use super::undone_changes::UndoneChanges;
use crate::captures::CaptureWriter;
use crate::operation::{ObjectAspect, OperationError, OperationSet, OperationStep};

/// Runs a plan's operations on objects. All tasks of a job share a worker; each call processes one object.
pub struct Worker {
    sender: RequestSender,
    operations: OperationSet,
    /// The reads that decide what is written.
    reads: Vec<OperationStep>,
    /// Set if objects are captured before they are written.
    capture: Option<ObjectCapture>,
    /// The captures to restore, if the operations are undone.
    undo: Option<Arc<UndoneChanges>>,
    cached_steps: Mutex<Option<CachedSteps>>,
}

/// The requests for the most recent object state. Most objects of a job are in the same state, so they are computed
/// once.
struct CachedSteps {
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
    /// The first read that is sent only to capture an object was denied. Nothing was written to the object.
    CaptureDenied(Box<CaptureDenial>),
    /// What the object was like could not be written to disk. Nothing was written to the object. Holds the error message.
    CaptureNotKept(String),
}

/// The result of reading an object.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectReadOutcome {
    /// All reads succeeded.
    Complete(ObjectState),
    /// One request was rejected, or failed on every attempt.
    Failed {
        /// The state that earlier reads returned.
        seen: ObjectState,
        /// The request that failed.
        call: ObjectRequest,
        /// Why the request failed.
        fault: Box<StoreError>,
    },
    /// The service rejected the credentials. Requests for other objects would be rejected too.
    CredentialsRejected(Box<StoreError>),
    /// The read was stopped before it finished.
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
    fn from(abort: RequestAbort) -> Self {
        match abort {
            RequestAbort::Failed(failure) => Self::Fault(Box::new(failure.error)),
            RequestAbort::CredentialsRejected(fault) => Self::Fault(fault),
            RequestAbort::CaptureDenied(denial) => Self::Fault(Box::new(denial.fault)),
            RequestAbort::ServerUntrusted(untrusted) => Self::ServerUntrusted(Box::new(untrusted.check_failure)),
            RequestAbort::ServerCheckNotRecorded(_) | RequestAbort::CaptureNotKept(_) | RequestAbort::Stopped => {
                Self::Stopped
            }
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
        let reads = operations.decisive_reads();
        let sender = RequestSender::new(store, throttle, retry_policy, stop);
        Self { sender, operations, reads, capture: None, undo: None, cached_steps: Mutex::new(None) }
    }

    /// Makes the worker undo the operations, if there are captures to restore.
    #[must_use]
    pub fn undoing(self, undo: Option<Arc<UndoneChanges>>) -> Self {
        Self { undo, ..self }
    }

    /// If this job may have sent restores since this time, makes the worker check whether an object is already being
    /// restored before it sends another request.
    #[must_use]
    pub fn checking_restores_since(mut self, since: Option<Timestamp>) -> Self {
        self.sender.restores_sent_since = since;
        self
    }

    /// Makes the worker run this server check on its writes and reads.
    #[must_use]
    pub fn with_server_check(mut self, check: Arc<ServerCheck>) -> Self {
        self.sender.server_check = Some(check);
        self
    }

    /// Makes the worker capture each object before it writes to it, as far as the operations want it. `may_be_missing`
    /// says whether captures of earlier runs may be missing. Also returns the task that writes the captures, which ends
    /// once the worker is dropped.
    #[must_use]
    pub fn with_capture(mut self, writer: CaptureWriter, may_be_missing: bool) -> (Self, JoinHandle<()>) {
        let (queue, task) = CaptureQueue::start(writer);
        self.capture = Some(ObjectCapture::new(queue, &self.operations, may_be_missing));
        (self, task)
    }

    /// Runs the operations on one object. `maybe_sent` is true if this job may already have sent writes for it. Also
    /// returns whether a write was sent.
    pub async fn process(&self, task: &Task, maybe_sent: bool) -> (WorkerOutcome, bool) {
        let context = ObjectContext::new(&task.object);
        let outcome = match self.run_operations(&context, task, maybe_sent).await {
            Ok(status) => WorkerOutcome::Finished(TaskOutcome::Succeeded { status }),
            Err(RequestAbort::Failed(failure)) => WorkerOutcome::Finished(TaskOutcome::Failed(*failure)),
            Err(RequestAbort::CredentialsRejected(fault)) => WorkerOutcome::CredentialsRejected(fault),
            Err(RequestAbort::ServerUntrusted(untrusted)) => WorkerOutcome::ServerUntrusted(untrusted),
            Err(RequestAbort::ServerCheckNotRecorded(why)) => WorkerOutcome::ServerCheckNotRecorded(why),
            Err(RequestAbort::CaptureDenied(denial)) => WorkerOutcome::CaptureDenied(denial),
            Err(RequestAbort::CaptureNotKept(why)) => WorkerOutcome::CaptureNotKept(why),
            // An object that was only read counts as not started.
            Err(RequestAbort::Stopped) if context.write_sent() => WorkerOutcome::Abandoned,
            Err(RequestAbort::Stopped) => WorkerOutcome::NotStarted,
        };
        log_outcome(&outcome);
        (outcome, context.write_sent())
    }

    /// Returns the outcome of an object that no request can name, for this reason.
    pub(super) fn fail_unlistable(&self, why: &str) -> WorkerOutcome {
        let fault = StoreError::without_response(FaultClass::Rejected, UNLISTABLE_KEY, why, String::new());
        let operation = self.operations.names();
        WorkerOutcome::Finished(TaskOutcome::Failed(TaskFailure { operation, error: fault }))
    }

    /// Makes the worker measure the latency of its requests. `connections` is the number of connections that they may
    /// open.
    #[must_use]
    pub fn measuring_latencies(mut self, connections: usize) -> Self {
        self.sender.latencies = Some(LatencyCollector::new(connections));
        self
    }

    /// Returns the average latency of each kind of request, as far as they are measured.
    #[must_use]
    pub fn latencies(&self) -> BTreeMap<RequestKind, Duration> {
        self.sender.latencies.as_ref().map(LatencyCollector::averages).unwrap_or_default()
    }

    /// Returns the number of requests that were sent so far.
    #[must_use]
    pub fn request_counts(&self) -> RequestCounts {
        self.sender.counter.counts()
    }

    /// The number of objects for which a write was sent.
    pub(super) fn written_objects(&self) -> u64 {
        self.sender.written_objects.load(Ordering::Relaxed)
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
        let context = ObjectContext::new(object);
        let step = OperationStep { call, operation: String::new() };
        let reply = if step.call.is_write() {
            self.sender.write_checked(&context, &step, false).await
        } else {
            self.sender.send(&context, &step).await
        };
        Ok(reply?)
    }

    /// Sends these reads in order and stops at the first that fails.
    pub async fn read_object(&self, object: &ObjectId, reads: &[ObjectRequest]) -> ObjectReadOutcome {
        let context = ObjectContext::new(object);
        let mut seen = ObjectState::default();
        for call in reads {
            let step = OperationStep { call: call.clone(), operation: String::new() };
            match self.sender.send(&context, &step).await {
                Ok(reply) => seen.apply(reply.data),
                Err(RequestAbort::Failed(failure)) => {
                    return ObjectReadOutcome::Failed { seen, call: call.clone(), fault: Box::new(failure.error) };
                }
                Err(RequestAbort::CredentialsRejected(fault)) => return ObjectReadOutcome::CredentialsRejected(fault),
                Err(_) => return ObjectReadOutcome::Stopped,
            }
        }
        ObjectReadOutcome::Complete(seen)
    }

    /// Checks by reading alone whether the server knows the sub-resource of an aspect, and whether HEAD would show a
    /// change of the object. A restore has no sub-resource that can be read, and always passes.
    pub async fn check_reads(&self, object: &ObjectId, aspect: ObjectAspect) -> ReadCheckOutcome {
        let abort = match self.sender.run_read_checks(&ObjectContext::new(object), aspect).await {
            Ok(found) => return found,
            Err(abort) => abort,
        };
        match abort {
            RequestAbort::Failed(failure) => ReadCheckOutcome::RequestFailed(Box::new(failure.error)),
            RequestAbort::CredentialsRejected(fault) => ReadCheckOutcome::CredentialsRejected(fault),
            RequestAbort::CaptureDenied(denial) => ReadCheckOutcome::RequestFailed(Box::new(denial.fault)),
            RequestAbort::ServerUntrusted(untrusted) => {
                ReadCheckOutcome::ServerFailed(Box::new(untrusted.check_failure))
            }
            RequestAbort::ServerCheckNotRecorded(_) | RequestAbort::CaptureNotKept(_) | RequestAbort::Stopped => {
                ReadCheckOutcome::Stopped
            }
        }
    }

    /// Sends every request that the object needs. Returns the status of the last answer: of a write, or of a read if
    /// nothing has to change.
    async fn run_operations(
        &self,
        context: &ObjectContext<'_>,
        task: &Task,
        maybe_sent: bool,
    ) -> Result<u16, RequestAbort> {
        let mut reading = ObjectReading::default();
        for step in &self.reads {
            reading.add(self.sender.read_checked(context, step).await?);
        }
        // What is read only to capture it does not decide what is written.
        let before = reading.state.clone();
        if let Some(capture) = &self.capture {
            capture.read(&self.sender, context, &mut reading).await?;
        }
        let steps = match self.undo.as_ref().zip(task.origin) {
            Some((changes, origin)) => self.undo_steps(context, (changes, origin), (&before, &mut reading)).await?,
            None => self.steps_for(before).map_err(|(operation, why)| rejected(operation, &why))?,
        };
        let mut status = reading.status;
        if let Some(capture) = &self.capture {
            capture.record(&self.sender, context, (task.id, reading), (&self.operations, maybe_sent)).await?;
        }
        for step in &*steps {
            status = Some(self.sender.write_checked(context, step, maybe_sent).await?.status);
        }
        // Without any answer it is unknown whether the object is as it should be.
        status.ok_or_else(|| failed(&self.operations.names(), no_request_fault()))
    }

    /// Returns the requests that give an object its former state again.
    async fn undo_steps(
        &self,
        context: &ObjectContext<'_>,
        (changes, origin): (&UndoneChanges, RowOrigin),
        (found, reading): (&ObjectState, &mut ObjectReading),
    ) -> Result<Arc<[OperationStep]>, RequestAbort> {
        let names = self.operations.names();
        let mode = self.operations.undo().unwrap_or_default();
        let change = changes.change(origin).map_err(|error| RequestAbort::ServerCheckNotRecorded(error.to_string()))?;
        // The manifest names the version, or the bucket had none.
        let captured = change.version.as_ref().filter(|_| context.object.version.is_none() && !mode.force);
        if let Some(captured) = captured {
            if reading.version.is_none() {
                let head = OperationStep { call: ObjectRequest::Head, operation: names.clone() };
                reading.version = self.sender.send(context, &head).await?.version;
            }
            if reading.version.as_ref() != Some(captured) {
                return Err(rejected(&names, &OperationError::OtherVersion));
            }
        }
        let target = change.target(found, mode).map_err(|why| rejected(&names, &why))?;
        Ok(self.operations.write_steps(found, &target).into())
    }

    /// Returns the requests for an object in this state. They are recomputed only if the state differs from the
    /// previous object's.
    fn steps_for(&self, before: ObjectState) -> Result<Arc<[OperationStep]>, (&'static str, OperationError)> {
        let mut last = self.cached_steps.lock();
        if let Some(cached) = last.as_ref().filter(|cached| cached.before == before) {
            return cached.steps.clone();
        }
        let after = self.operations.desired(&before);
        let steps = after.map(|after| self.operations.write_steps(&before, &after).into());
        *last = Some(CachedSteps { before, steps: steps.clone() });
        steps
    }
}

/// Returns the failure of an object that an operation rejects.
fn rejected(operation: &str, why: &OperationError) -> RequestAbort {
    let fault = StoreError::without_response(FaultClass::Rejected, why.code(), &why.to_string(), String::new());
    failed(operation, fault)
}

/// Logs what became of an object, which the span names.
fn log_outcome(outcome: &WorkerOutcome) {
    match outcome {
        WorkerOutcome::Finished(TaskOutcome::Succeeded { status }) => trace!(status, "object succeeded"),
        WorkerOutcome::Finished(TaskOutcome::Failed(TaskFailure { operation, error })) => debug!(
            operation,
            status = error.status,
            code = error.code,
            request_id = error.request_id,
            error = error.message,
            "object failed"
        ),
        WorkerOutcome::Abandoned => debug!("object abandoned after a write was sent"),
        WorkerOutcome::NotStarted
        | WorkerOutcome::CredentialsRejected(_)
        | WorkerOutcome::ServerUntrusted(_)
        | WorkerOutcome::ServerCheckNotRecorded(_)
        | WorkerOutcome::CaptureDenied(_)
        | WorkerOutcome::CaptureNotKept(_) => debug!("object not finished"),
    }
}

/// The error if no operation sent a request, neither a read nor a write.
fn no_request_fault() -> StoreError {
    let message = "no request was sent: this is a bug in batchplan; please report it";
    StoreError::without_response(FaultClass::Rejected, "NothingSent", message, String::new())
}

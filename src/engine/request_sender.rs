//! Sends the requests about one object: limited in rate and time, and retried where that can help.
//!
//! A restore is not simply repeated after an ambiguous answer: the object is read first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use batchplan_store::backoff::{Backoff, RetryPolicy};
use batchplan_store::object::{ObjectId, RestoreRequest, RestoreState};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse, ResponseData};
use batchplan_store::task::{FaultClass, StoreError, TaskFailure};
use batchplan_store::timeouts::{OBJECT_REQUEST_TIMEOUT, TimeLimitError, micros, scaled};
use batchplan_store::{Mutex, Store};
use jiff::Timestamp;
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing::{Instrument as _, Level, Span, debug, enabled, info, trace, trace_span};

use super::capture_queue::CaptureDenial;
use super::request_counts::{LatencyCollector, RequestCounter};
use super::server_check::{ServerCheck, UntrustedServer};
use super::throttle::{Throttle, is_throttling};
use crate::journal::JournalError;
use crate::operation::{OperationStep, RestoreCheck, check_restore};

/// Sends the requests of one job.
pub(super) struct RequestSender {
    pub(super) store: Arc<dyn Store>,
    throttle: Throttle,
    retry_policy: RetryPolicy,
    pub(super) stop: CancellationToken,
    /// Whether the service has accepted any request signature of this run.
    signature_accepted: AtomicBool,
    /// When this job may first have requested any restore, set if the outcomes of its requests were lost. An object is
    /// then read before its restore is requested again.
    pub(super) restores_sent_since: Option<Timestamp>,
    /// Set if the server must pass the server check before it gets writes.
    pub(super) server_check: Option<Arc<ServerCheck>>,
    /// The number of objects for which a write was sent.
    pub(super) written_objects: AtomicU64,
    pub(super) counter: RequestCounter,
    /// Set if the latencies of the requests are needed.
    pub(super) latencies: Option<LatencyCollector>,
    retry_log: RetryLog,
}

/// One object while requests about it are sent.
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
    /// The first read that is sent only to capture an object was denied.
    CaptureDenied(Box<CaptureDenial>),
    /// What the object was like could not be written to disk. Holds the error message.
    CaptureNotKept(String),
    Stopped,
}

impl From<JournalError> for RequestAbort {
    fn from(error: JournalError) -> Self {
        Self::ServerCheckNotRecorded(error.to_string())
    }
}

impl RequestSender {
    /// Creates a sender without a server check. It stops waiting for retries once `stop` is cancelled.
    pub(super) fn new(
        store: Arc<dyn Store>,
        throttle: Throttle,
        retry_policy: RetryPolicy,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store,
            throttle,
            retry_policy,
            stop,
            signature_accepted: AtomicBool::new(false),
            restores_sent_since: None,
            server_check: None,
            written_objects: AtomicU64::new(0),
            counter: RequestCounter::default(),
            latencies: None,
            retry_log: RetryLog::default(),
        }
    }

    /// Sends a write and retries it until there is a final answer.
    pub(super) async fn send_write(
        &self,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        may_have_been_sent: bool,
    ) -> Result<ObjectResponse, RequestAbort> {
        match step.call {
            ObjectRequest::Restore(request) => Box::pin(self.restore(context, step, request, may_have_been_sent)).await,
            _ => self.send(context, step).await,
        }
    }

    /// Sends a request that may be repeated, and retries it until there is a final answer.
    pub(super) async fn send(
        &self,
        context: &ObjectContext<'_>,
        step: &OperationStep,
    ) -> Result<ObjectResponse, RequestAbort> {
        let mut backoff = Backoff::new(self.retry_policy);
        loop {
            let fault = match self.attempt(context, &step.call, backoff.failures() > 0).await? {
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
        context: &ObjectContext<'_>,
        step: &OperationStep,
        request: RestoreRequest,
        mut may_have_been_sent: bool,
    ) -> Result<ObjectResponse, RequestAbort> {
        let since = Timestamp::now();
        let mut backoff = Backoff::new(self.retry_policy);
        let mut call = step.call.clone();
        loop {
            let fault = match self.attempt(context, &call, backoff.failures() > 0).await? {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            match fault.class {
                FaultClass::Rejected if self.may_be_tier_error(&fault, &call) => {
                    if !self.is_untiered(context, step, &fault).await? {
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
                    may_have_been_sent |= !conflict;
                    let (reply, found) = self.read_restoration(context, step, &fault).await?;
                    match check_restore(found, request, may_have_been_sent, since) {
                        RestoreCheck::InEffect => return Ok(reply),
                        RestoreCheck::NotStarted | RestoreCheck::ExpiresTooEarly { .. } if !conflict => {}
                        state => return Err(failed(&step.operation, explain_conflict(fault, state, request))),
                    }
                }
            }
            self.wait_before_retry(&mut backoff, step, fault).await?;
        }
    }

    /// Returns the reply to HEAD if it shows that the restore this job requested after `since` already holds.
    pub(super) async fn find_held_restore(
        &self,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        request: RestoreRequest,
        since: Timestamp,
    ) -> Result<Option<ObjectResponse>, RequestAbort> {
        let head = OperationStep { call: ObjectRequest::Head, operation: step.operation.clone() };
        let reply = match self.send(context, &head).await {
            // The restore request itself reports a missing object.
            Err(RequestAbort::Failed(failure)) if failure.error.status == Some(404) => return Ok(None),
            reply => reply?,
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
        context: &ObjectContext<'_>,
        step: &OperationStep,
        fault: &StoreError,
    ) -> Result<bool, RequestAbort> {
        let reply = self.head_after_fault(context, step, fault).await?;
        Ok(
            matches!(&reply.data, ResponseData::Head { class, .. } if self.store.untiered_class() == Some(class.as_str())),
        )
    }

    /// Reads once how far the object's restore is.
    async fn read_restoration(
        &self,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        fault: &StoreError,
    ) -> Result<(ObjectResponse, RestoreState), RequestAbort> {
        let reply = self.head_after_fault(context, step, fault).await?;
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
        context: &ObjectContext<'_>,
        step: &OperationStep,
        fault: &StoreError,
    ) -> Result<ObjectResponse, RequestAbort> {
        let head = OperationStep { call: ObjectRequest::Head, operation: step.operation.clone() };
        self.send(context, &head).await.map_err(|abort| match abort {
            RequestAbort::Stopped
            | RequestAbort::CredentialsRejected(_)
            | RequestAbort::ServerUntrusted(_)
            | RequestAbort::ServerCheckNotRecorded(_)
            | RequestAbort::CaptureDenied(_)
            | RequestAbort::CaptureNotKept(_) => abort,
            RequestAbort::Failed(failure) => {
                let message = format!("{}; checking the object failed as well: {}", fault.message, failure.error);
                failed(&step.operation, StoreError { message, ..fault.clone() })
            }
        })
    }

    /// Sends one request once the throttle admits it, with a time limit. A stop interrupts the wait for the throttle
    /// if `again` is set or if nothing was sent for the object yet.
    pub(super) async fn attempt(
        &self,
        context: &ObjectContext<'_>,
        call: &ObjectRequest,
        again: bool,
    ) -> Result<Result<ObjectResponse, StoreError>, RequestAbort> {
        let may_stop = again || !context.request_sent.load(Ordering::Relaxed);
        if self.server_check.as_ref().is_some_and(|check| check.has_failed()) {
            return Err(RequestAbort::Stopped);
        }
        let asked_at = (LevelFilter::current() >= LevelFilter::TRACE).then(Instant::now);
        let permit = tokio::select! {
            biased;
            () = self.stop.cancelled(), if may_stop => return Err(RequestAbort::Stopped),
            permit = self.throttle.acquire(&context.object.bucket, call) => permit,
        };
        context.request_sent.store(true, Ordering::Relaxed);
        if call.is_write() && !context.write_sent.swap(true, Ordering::Relaxed) {
            self.written_objects.fetch_add(1, Ordering::Relaxed);
        }
        self.counter.add_sent(call.kind(), again);
        let sent_at = self.latencies.as_ref().map(|_| Instant::now());
        let url = || self.store.request_line(context.object, call);
        // The store reports long waits: it knows what it waits for.
        let (limit, calling) = (scaled(OBJECT_REQUEST_TIMEOUT), self.store.send_request(context.object, call));
        let calling = tokio::time::timeout(limit, calling);
        let answer = match AttemptLog::start(call, asked_at) {
            None => calling.await,
            Some(log) => log.end(Box::pin(calling.instrument(log.span.clone())).await),
        };
        let answer = answer.unwrap_or_else(|_| Err(timeout_fault(TimeLimitError(limit), url())));
        permit.report_answer(&answer);
        if answer.as_ref().is_err_and(is_throttling) {
            self.counter.add_throttled();
        }
        if let Some((latencies, sent_at)) = self.latencies.as_ref().zip(sent_at) {
            latencies.add(call.kind(), sent_at.elapsed());
        }
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
        self.retry_log.add(&fault);
        debug!(
            request = step.call.kind().api_name(),
            attempt = backoff.failures(),
            wait_us = micros(wait),
            class = ?fault.class,
            status = fault.status,
            code = fault.code,
            "request will be repeated"
        );
        tokio::select! {
            () = self.stop.cancelled() => Err(RequestAbort::Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}

/// The log of one attempt: a span around it, and an event at its end. Exists only if attempts are logged.
struct AttemptLog {
    span: Span,
    sent_at: Instant,
}

impl AttemptLog {
    /// Starts to log an attempt that waited for the limits since `asked_at`.
    fn start(call: &ObjectRequest, asked_at: Option<Instant>) -> Option<Self> {
        let (asked_at, sent_at) = (asked_at?, Instant::now());
        let span = trace_span!(
            "attempt",
            request = call.kind().api_name(),
            waited_us = micros(sent_at.saturating_duration_since(asked_at))
        );
        Some(Self { span, sent_at })
    }

    /// Logs the end of the attempt, and returns its answer.
    fn end(
        &self,
        answer: Result<Result<ObjectResponse, StoreError>, Elapsed>,
    ) -> Result<Result<ObjectResponse, StoreError>, Elapsed> {
        let us = micros(self.sent_at.elapsed());
        self.span.in_scope(|| match &answer {
            Ok(Ok(reply)) => trace!(status = reply.status, bytes = reply.body_bytes, us, "attempt succeeded"),
            Ok(Err(fault)) => trace!(status = fault.status, code = fault.code, us, "attempt failed"),
            Err(_) => trace!(us, "attempt took too long"),
        });
        answer
    }
}

/// Logs retries together: a wave of thousands is a few events.
#[derive(Default)]
struct RetryLog(Mutex<RetryCount>);

/// The retries that no event has mentioned, and when the last event was.
#[derive(Default)]
struct RetryCount {
    unreported: u64,
    reported_at: Option<Instant>,
}

/// The shortest time between two events about retries.
const RETRY_LOG_INTERVAL: Duration = Duration::from_secs(5);

impl RetryLog {
    /// Counts a retry. Logs the first one, and later how many there were since.
    fn add(&self, fault: &StoreError) {
        if !enabled!(Level::INFO) {
            return;
        }
        let retries = {
            let mut count = self.0.lock();
            count.unreported += 1;
            if count.reported_at.is_some_and(|at| at.elapsed() < RETRY_LOG_INTERVAL) {
                return;
            }
            count.reported_at = Some(Instant::now());
            std::mem::take(&mut count.unreported)
        };
        info!(retries, last_status = fault.status, last_code = fault.code, "requests are repeated");
    }
}

fn timeout_fault(late: TimeLimitError, url: String) -> StoreError {
    StoreError::without_response(FaultClass::Ambiguous, "RequestTimeout", &late.to_string(), url)
}

pub(super) fn failed(operation: &str, fault: StoreError) -> RequestAbort {
    RequestAbort::Failed(Box::new(TaskFailure { operation: operation.to_owned(), error: fault }))
}

/// Adds to the server's conflict what HEAD showed about the object.
fn explain_conflict(mut fault: StoreError, state: RestoreCheck, request: RestoreRequest) -> StoreError {
    let why = match state {
        RestoreCheck::ForeignRestore => {
            "a restore that this job did not request is in progress, and its expiry is not known; retry the failed \
             objects when it is done"
                .to_owned()
        }
        RestoreCheck::ExpiresTooEarly { until } => {
            let days = request.days.unwrap_or_default();
            let over = if days == 1 { "day is" } else { "days are" };
            format!("the restored copy expires at {until}, before the requested {days} {over} over")
        }
        RestoreCheck::InEffect | RestoreCheck::NotStarted => return fault,
    };
    fault.message = format!("{}: {why}", fault.message);
    fault
}

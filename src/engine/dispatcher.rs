//! The dispatcher: the only owner of a running job's state.
//!
//! It starts rows, gets their outcomes, and passes them to an [`OutcomeSink`]. It knows at each moment which objects
//! may have been changed without an outcome, should the run end or die, and reports why it stopped.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::hash::BuildHasher;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use batchplan_store::object::{ObjectId, VersionId};
use batchplan_store::task::{StoreError, Task, TaskId, TaskOutcome};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing::{Instrument as _, Span, debug_span, info};

use super::capture_queue::CaptureDenial;
use super::in_flight::InFlightTimes;
use super::run_progress::{ProgressMeter, RunProgress, RunState};
use super::server_check::{ServerCheckFailure, ServerCheckFailureKind, UntrustedServer};
use super::throttle::JobQuota;
use super::worker::{Worker, WorkerOutcome};
use crate::frontier::RowFrontier;
use crate::job::Progress;
use crate::journal::JournalError;
use crate::manifest::ManifestError;
use crate::plan::FailureThreshold;
use crate::thousands::{Thousands, counted};

/// Batches of rows that are read ahead of the dispatcher.
const BATCHES_AHEAD: usize = 4;

/// The number of finished rows above the frontier's low mark at which no more rows are started. One object that waits
/// for its tenth attempt must not let the set grow with the job.
const MAX_FINISHED_ABOVE_LOW: usize = 1 << 16;

/// How often the dispatcher reports progress.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(500);

/// Batches of rows, in the order of the frozen manifest.
pub(super) type TaskBatches = mpsc::Receiver<Result<Vec<Task>, ManifestError>>;

/// Stops a run gracefully: no more rows are started, and requests in flight may finish until the deadline.
#[derive(Clone, Debug)]
pub struct GracefulStop {
    /// Cancelled to request a stop. The dispatcher also cancels it when the job cannot continue.
    pub requested: CancellationToken,
    /// How long requests in flight may take after that. The rest is abandoned.
    pub grace_period: Duration,
}

/// When checkpoints are made.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointPolicy {
    /// The time between two checkpoints.
    pub interval: Duration,
    /// The number of rows that may be started since the last checkpoint. After a crash at most this many rows, and
    /// those that were in flight, are done again. A checkpoint is made early once half of them are started.
    pub max_started_rows: u64,
    /// The number of rows past the last record that an earlier run may have started. Equal to `max_started_rows`, or
    /// larger if recorded progress can be lost together with its machine.
    pub max_unrecorded_rows: u64,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), max_started_rows: 1 << 16, max_unrecorded_rows: 1 << 16 }
    }
}

/// Where a run starts: at the job's first row, or where the previous run stopped.
#[derive(Clone, Debug, Default)]
pub struct DispatchStart {
    /// Row counts. `total` is replaced by the manifest's row count.
    pub progress: Progress,
    /// The rows that have an outcome.
    pub frontier: RowFrontier,
    /// The first row that was not started according to the last record; `None` if the job has not run before.
    pub next_row: Option<TaskId>,
    /// The number of objects that may have been changed without an outcome.
    pub in_doubt: u64,
    /// How many of the first remaining rows may have been started, including those in doubt.
    pub maybe_started: u64,
}

/// The limits that apply to a run.
#[derive(Clone, Debug)]
pub struct DispatchLimits {
    /// Objects in flight and requests per second.
    pub quota: JobQuota,
    /// How many objects may fail before the job stops.
    pub failure_threshold: FailureThreshold,
    /// How much work may happen between two checkpoints.
    pub checkpoint_policy: CheckpointPolicy,
}

/// The result of a run.
#[must_use]
#[derive(Debug)]
pub struct DispatchOutcome {
    /// Row counts at the end of the run.
    pub progress: Progress,
    /// The rows that have an outcome.
    pub frontier: RowFrontier,
    /// The number of objects that were abandoned after a write was sent. The write may have been carried out.
    pub abandoned: u64,
    /// `abandoned`, plus the objects that an earlier run left in doubt and this run did not finish.
    pub in_doubt: u64,
    /// How many of the first remaining rows may have been started.
    pub maybe_started: u64,
    /// Why the run stopped.
    pub stop_reason: StopReason,
}

/// Why dispatching stopped, in order of severity: if several apply, the most severe is reported.
#[derive(Debug)]
pub enum StopReason {
    /// Every row is finished.
    Finished,
    /// A stop was requested.
    StopRequested,
    /// The service rejected the credentials.
    CredentialsRejected(Box<StoreError>),
    /// The first read that is sent only to capture an object was denied.
    CaptureDenied(Box<CaptureDenial>),
    /// More objects failed than the failure threshold allows.
    FailureThreshold,
    /// The server check failed: the server does not do exactly what a request asks.
    ServerUntrusted(Box<ServerCheckFailure>),
    /// Something on this machine failed.
    InternalError(EngineError),
}

impl StopReason {
    fn severity(&self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::StopRequested => 1,
            Self::CredentialsRejected(_) => 2,
            Self::CaptureDenied(_) => 3,
            Self::FailureThreshold => 4,
            Self::ServerUntrusted(_) => 5,
            Self::InternalError(_) => 6,
        }
    }

    /// Returns the reason in a few words, for the log.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::StopRequested => "stop requested",
            Self::CredentialsRejected(_) => "credentials rejected",
            Self::CaptureDenied(_) => "former state unreadable",
            Self::FailureThreshold => "failure threshold exceeded",
            Self::ServerUntrusted(_) => "server check failed",
            Self::InternalError(_) => "error on this machine",
        }
    }
}

/// Why dispatching cannot continue. Everything recorded before stays valid.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The frozen manifest cannot be read.
    #[error("cannot read the frozen manifest: {0}")]
    Manifest(#[source] ManifestError),
    /// An outcome cannot be written to the report.
    #[error("cannot write the report: {0}")]
    Report(#[source] io::Error),
    /// A checkpoint cannot be written.
    #[error("{0}")]
    Checkpoint(#[source] CheckpointError),
    /// A result of the server check cannot be recorded.
    #[error("{0}")]
    ServerCheckNotRecorded(String),
    /// What an object was like cannot be written to disk, so it was not changed.
    #[error("{0}")]
    CaptureNotKept(String),
    /// A worker task panicked.
    #[error("a worker failed: {0}")]
    Worker(#[source] JoinError),
    /// The frozen manifest ended before its last row.
    #[error("the frozen manifest ended after {} of its {}", Thousands(*settled), counted(*total, "row"))]
    RowsMissing {
        /// The number of rows that are finished.
        settled: u64,
        /// The number of rows that the manifest declares.
        total: u64,
    },
}

/// What a checkpoint records of a job's progress.
#[derive(Clone, Copy, Debug)]
pub struct ProgressSnapshot {
    /// Row counts at this moment.
    pub progress: Progress,
    /// The number of objects that may be changed without an outcome, if nothing more is recorded.
    pub in_doubt: u64,
    /// How many of the first remaining rows, in processing order, may have been started, if nothing more is recorded.
    pub maybe_started: u64,
    /// The first row that was not started.
    pub next_row: Option<TaskId>,
    /// Whether the job is stopping.
    pub stopping: bool,
}

/// Why a checkpoint was not made. Everything recorded before stays valid.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The report files cannot be written.
    #[error("cannot write the report: {0}")]
    Report(#[from] io::Error),
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A checkpoint that is being written. It completes once the checkpoint is on disk.
pub type PendingCheckpoint = Pin<Box<dyn Future<Output = Result<(), CheckpointError>> + Send>>;

/// Receives the outcomes and checkpoints of a running job.
pub trait OutcomeSink {
    /// Records an outcome. Called exactly once per row.
    ///
    /// # Errors
    /// Returns an error if the outcome cannot be written. It is then not recorded.
    fn record(&mut self, object: &ObjectId, outcome: &TaskOutcome) -> io::Result<()>;

    /// Starts to write everything recorded so far to disk, so that it survives a power loss. Takes the frontier's
    /// changes. If it cannot record them, it puts them back on the next call.
    fn checkpoint(&mut self, snapshot: ProgressSnapshot, frontier: &mut RowFrontier) -> PendingCheckpoint;

    /// Called about twice a second with the progress of the run, and once at the end.
    fn observe(&mut self, progress: RunProgress);
}

/// Runs the tasks of one job.
pub struct Dispatcher<'a> {
    worker: Arc<Worker>,
    limits: DispatchLimits,
    sink: &'a mut dyn OutcomeSink,
    stop: GracefulStop,
    progress: Progress,
    frontier: RowFrontier,
    /// `next_row`: the first row that no run has started. `started`: the number of rows that this run started.
    next_row: Option<TaskId>,
    started: u64,
    /// `recorded_next_row`: the first row that the previous run had not started when it was last recorded.
    /// `started_past_record`: the number of rows from there on that this run has started. The previous run may have
    /// sent requests for all rows before `recorded_next_row`, and for as many after it as it was allowed to start
    /// without a record.
    recorded_next_row: Option<TaskId>,
    started_past_record: u64,
    earlier_in_doubt: EarlierInDoubt,
    in_flight: JoinSet<WorkerReturn>,
    in_flight_times: InFlightTimes,
    started_at: Instant,
    meter: ProgressMeter,
    /// Objects that a worker has returned after sending a write.
    returned_writes: u64,
    /// Hashes of the keys in flight. Two keys with the same hash run one after the other, which does no harm.
    busy_keys: HashSet<u64>,
    hasher: RandomState,
    /// Rows whose key is in flight, in manifest order.
    deferred: VecDeque<DeferredDuplicate>,
    batch: VecDeque<Task>,
    exhausted: bool,
    deadline: Option<Instant>,
    abandoned: u64,
    stop_reason: StopReason,
    checkpoint: Option<CheckpointInProgress>,
    checkpoint_failed: bool,
    /// The rows that had been started, and those that had finished, when the last recorded checkpoint began.
    last_recorded: (u64, u64),
    next_checkpoint_at: Instant,
}

/// What a worker returns.
struct WorkerReturn {
    task: Task,
    key_hash: u64,
    /// The number of the object among those in flight.
    number: u64,
    outcome: WorkerOutcome,
    /// Whether a write was sent.
    wrote: bool,
}

/// A later row for a key that is already in flight. It runs after the first one, never beside it.
struct DeferredDuplicate {
    task: Task,
    key_hash: u64,
    may_have_been_sent: bool,
}

/// A checkpoint that is being written, and the numbers of started and finished rows when it began.
struct CheckpointInProgress {
    pending: PendingCheckpoint,
    counts_at_start: (u64, u64),
}

impl<'a> Dispatcher<'a> {
    /// Creates a dispatcher for a job of `total` rows that starts at `start`.
    pub fn new(
        worker: Worker,
        limits: DispatchLimits,
        total: u64,
        start: DispatchStart,
        stop: GracefulStop,
        sink: &'a mut dyn OutcomeSink,
    ) -> Self {
        let DispatchStart { progress, frontier, next_row, in_doubt, maybe_started } = start;
        let settled = progress.finished();
        Self {
            worker: Arc::new(worker),
            next_checkpoint_at: Instant::now() + limits.checkpoint_policy.interval,
            limits,
            sink,
            stop,
            progress: Progress { total, ..progress },
            frontier,
            next_row,
            started: 0,
            recorded_next_row: next_row,
            started_past_record: 0,
            earlier_in_doubt: EarlierInDoubt { in_doubt, maybe_started, finished: settled },
            in_flight: JoinSet::new(),
            in_flight_times: InFlightTimes::default(),
            started_at: Instant::now(),
            meter: ProgressMeter::new(settled),
            returned_writes: 0,
            busy_keys: HashSet::new(),
            hasher: RandomState::new(),
            deferred: VecDeque::new(),
            batch: VecDeque::new(),
            exhausted: false,
            deadline: None,
            abandoned: 0,
            stop_reason: StopReason::Finished,
            checkpoint: None,
            checkpoint_failed: false,
            last_recorded: (0, settled),
        }
    }

    /// Creates the channel that [`Self::run`] receives rows from.
    #[must_use]
    pub fn batch_channel() -> (mpsc::Sender<Result<Vec<Task>, ManifestError>>, TaskBatches) {
        mpsc::channel(BATCHES_AHEAD)
    }

    /// Runs until every row is finished, a stop is requested, or the job cannot continue: too many objects fail, the
    /// credentials are rejected, the server check fails, the manifest cannot be read, an outcome cannot be recorded,
    /// or a worker panics. In every case, requests in flight are drained and recorded, and a last checkpoint is made.
    pub async fn run(mut self, mut batches: TaskBatches) -> DispatchOutcome {
        let mut tick = tokio::time::interval(SNAPSHOT_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop_requested = self.stop.requested.clone();
        self.check_failure_threshold();
        if stop_requested.is_cancelled() {
            self.request_stop(StopReason::StopRequested);
        }
        loop {
            self.start_ready_rows();
            if self.is_done() {
                break;
            }
            self.start_due_checkpoint();
            let (deadline, due) = (self.deadline, self.next_checkpoint_at);
            tokio::select! {
                biased;
                () = stop_requested.cancelled(), if deadline.is_none() => self.request_stop(StopReason::StopRequested),
                () = sleep_until(deadline), if deadline.is_some() => break,
                // Before the work: `join_next` may always have something ready.
                made = wait_for_checkpoint(&mut self.checkpoint), if self.checkpoint.is_some() => self.finish_checkpoint(made),
                _ = tick.tick() => self.report_progress(),
                () = tokio::time::sleep_until(due), if self.needs_checkpoint() => {}
                Some(done) = self.in_flight.join_next() => match done {
                    Ok(done) => self.finish_row(done),
                    Err(panicked) => self.request_stop(StopReason::InternalError(EngineError::Worker(panicked))),
                },
                batch = batches.recv(), if self.needs_rows() => match batch {
                    Some(Ok(batch)) => self.batch.extend(batch),
                    Some(Err(error)) => self.request_stop(StopReason::InternalError(EngineError::Manifest(error))),
                    None => self.exhausted = true,
                },
            }
        }
        self.shut_down().await
    }

    async fn shut_down(mut self) -> DispatchOutcome {
        self.drain().await;
        let Progress { total, .. } = self.progress;
        let settled = self.progress.finished();
        if settled == total && matches!(self.stop_reason, StopReason::StopRequested) {
            self.stop_reason = StopReason::Finished;
        } else if settled != total && matches!(self.stop_reason, StopReason::Finished) {
            self.request_stop(StopReason::InternalError(EngineError::RowsMissing { settled, total }));
        }
        // Finish the pending checkpoint first, since each checkpoint builds on the previous one.
        if self.checkpoint.is_some() {
            let before = wait_for_checkpoint(&mut self.checkpoint).await;
            self.finish_checkpoint(before);
        }
        let last = self.final_snapshot();
        self.start_checkpoint_with(last);
        let made = wait_for_checkpoint(&mut self.checkpoint).await;
        self.finish_checkpoint(made);
        self.report_progress();
        let Self { progress, frontier, abandoned, stop_reason: end, .. } = self;
        let ProgressSnapshot { in_doubt, maybe_started, .. } = last;
        DispatchOutcome { progress, frontier, abandoned, in_doubt, maybe_started, stop_reason: end }
    }

    /// Aborts requests in flight. Rows that have finished by now are recorded. Of the rest, only objects with a write
    /// are in doubt.
    async fn drain(&mut self) {
        self.in_flight.abort_all();
        while let Some(done) = self.in_flight.join_next().await {
            match done {
                Ok(done) => self.finish_row(done),
                Err(aborted) if aborted.is_cancelled() => {}
                Err(panicked) => self.request_stop(StopReason::InternalError(EngineError::Worker(panicked))),
            }
        }
        self.abandoned += self.worker.written_objects().saturating_sub(self.returned_writes);
    }

    /// Stops starting rows. The most severe reason is reported; of two equal ones, the first.
    fn request_stop(&mut self, end: StopReason) {
        if !self.is_stopping() {
            info!(reason = end.as_str(), in_flight = self.in_flight.len(), "no more objects are started");
        }
        if end.severity() > self.stop_reason.severity() {
            self.stop_reason = end;
        }
        self.deadline.get_or_insert_with(|| Instant::now() + self.stop.grace_period);
        // Ends all waits for a retry.
        self.stop.requested.cancel();
    }

    fn is_stopping(&self) -> bool {
        self.deadline.is_some()
    }

    fn is_done(&self) -> bool {
        let nothing_left = self.exhausted && self.batch.is_empty() && self.deferred.is_empty();
        self.in_flight.is_empty() && (nothing_left || self.is_stopping())
    }

    fn needs_rows(&self) -> bool {
        self.batch.is_empty() && !self.exhausted && !self.is_stopping()
    }

    fn can_start_row(&self) -> bool {
        // The set may be full from the start, with rows that an earlier run finished. Then run the rows that keep it
        // full one by one.
        self.in_flight.len() < self.limits.quota.max_in_flight()
            && (self.frontier.settled_above_low() < MAX_FINISHED_ABOVE_LOW || self.in_flight.is_empty())
            && self.started - self.last_recorded.0 < self.limits.checkpoint_policy.max_started_rows
    }

    fn start_ready_rows(&mut self) {
        while !self.is_stopping() && self.can_start_row() && self.deferred.len() < self.limits.quota.max_in_flight() {
            let Some(task) = self.batch.pop_front() else { break };
            // Never move back: the rows that an earlier run left unfinished come first.
            self.next_row = self.next_row.max(Some(TaskId { part: task.id.part, row: task.id.row + 1 }));
            self.started += 1;
            let may_have_been_sent = self.may_have_been_sent(&task);
            let hash = self.hasher.hash_one((&task.object.bucket, &task.object.key));
            if self.busy_keys.insert(hash) {
                self.spawn_worker(task, hash, may_have_been_sent);
            } else {
                self.deferred.push_back(DeferredDuplicate { task, key_hash: hash, may_have_been_sent });
            }
        }
    }

    /// Returns whether an earlier run of this job may have sent requests for this row: the row was started according
    /// to the last record, or could be started before the next one. Called once per row, when it is started.
    fn may_have_been_sent(&mut self, task: &Task) -> bool {
        let Some(before) = self.recorded_next_row else { return false };
        self.started_past_record += u64::from(task.id >= before);
        self.started_past_record <= self.limits.checkpoint_policy.max_unrecorded_rows
    }

    fn spawn_worker(&mut self, task: Task, hash: u64, may_have_been_sent: bool) {
        let worker = Arc::clone(&self.worker);
        let span = object_span(&task.object);
        let number = self.in_flight_times.begin(Instant::now());
        let work = async move {
            let (outcome, wrote) = match &task.unlistable {
                None => worker.process(&task, may_have_been_sent).await,
                Some(why) => (worker.fail_unlistable(why), false),
            };
            WorkerReturn { task, key_hash: hash, number, outcome, wrote }
        };
        // Boxed, because spawning moves the future several times.
        if span.is_disabled() {
            self.in_flight.spawn(Box::pin(work));
        } else {
            self.in_flight.spawn(Box::pin(work.instrument(span)));
        }
    }

    fn finish_row(&mut self, WorkerReturn { task, key_hash: hash, number, outcome: worked, wrote }: WorkerReturn) {
        self.in_flight_times.end(number);
        self.returned_writes += u64::from(wrote);
        let mut outcome = None;
        match worked {
            WorkerOutcome::NotStarted => {}
            WorkerOutcome::Abandoned => self.abandoned += 1,
            WorkerOutcome::CredentialsRejected(fault) => {
                self.abandoned += u64::from(wrote);
                self.request_stop(StopReason::CredentialsRejected(fault));
            }
            WorkerOutcome::ServerUntrusted(untrusted) => {
                let UntrustedServer { check_failure: refusal, object_failure: failure } = *untrusted;
                // A server that does not support the request has left the object unchanged.
                let may_be_changed = wrote && refusal.kind != ServerCheckFailureKind::Unsupported;
                self.abandoned += u64::from(failure.is_none() && may_be_changed);
                outcome = failure.map(TaskOutcome::Failed);
                self.request_stop(StopReason::ServerUntrusted(Box::new(refusal)));
            }
            WorkerOutcome::ServerCheckNotRecorded(why) => {
                self.abandoned += u64::from(wrote);
                self.request_stop(StopReason::InternalError(EngineError::ServerCheckNotRecorded(why)));
            }
            // Nothing is written before the capture.
            WorkerOutcome::CaptureDenied(denial) => self.request_stop(StopReason::CaptureDenied(denial)),
            WorkerOutcome::CaptureNotKept(why) => {
                self.request_stop(StopReason::InternalError(EngineError::CaptureNotKept(why)));
            }
            WorkerOutcome::Finished(settled) => outcome = Some(settled),
        }
        let succeeded = outcome.is_some_and(|outcome| self.record_outcome(&task, &outcome, wrote));
        self.start_deferred(&task.object, hash, succeeded);
    }

    /// Records an outcome. Returns whether it is a success that was recorded.
    fn record_outcome(&mut self, task: &Task, outcome: &TaskOutcome, wrote: bool) -> bool {
        if let Err(error) = self.sink.record(&task.object, outcome) {
            self.abandoned += u64::from(wrote);
            self.request_stop(StopReason::InternalError(EngineError::Report(error)));
            return false;
        }
        self.frontier.mark_settled(task.id);
        let succeeded = matches!(outcome, TaskOutcome::Succeeded { .. });
        *if succeeded { &mut self.progress.succeeded } else { &mut self.progress.failed } += 1;
        self.progress.unchanged += u64::from(succeeded && !wrote);
        self.check_failure_threshold();
        succeeded
    }

    fn check_failure_threshold(&mut self) {
        if self.limits.failure_threshold.is_exceeded(self.progress) {
            self.request_stop(StopReason::FailureThreshold);
        }
    }

    /// Starts the first deferred row for this key. Frees the key if there is none.
    fn start_deferred(&mut self, object: &ObjectId, hash: u64, succeeded: bool) {
        let duplicate = self.deferred.iter().position(|duplicate| duplicate.key_hash == hash);
        match duplicate.filter(|_| !self.is_stopping()).and_then(|index| self.deferred.remove(index)) {
            Some(DeferredDuplicate { task, key_hash: hash, may_have_been_sent }) => {
                let may_have_been_sent = may_have_been_sent || (succeeded && task.object == *object);
                self.spawn_worker(task, hash, may_have_been_sent);
            }
            None => {
                self.busy_keys.remove(&hash);
            }
        }
    }

    fn has_unrecorded_progress(&self) -> bool {
        self.progress.finished() > self.last_recorded.1
    }

    /// Returns whether there is progress to record and no checkpoint is pending. A checkpoint that failed is tried
    /// once more at the end of the run and not before, because the cause would probably make it fail again at once.
    fn needs_checkpoint(&self) -> bool {
        !self.checkpoint_failed && self.checkpoint.is_none() && self.has_unrecorded_progress()
    }

    fn start_due_checkpoint(&mut self) {
        let early = (self.started - self.last_recorded.0) * 2 >= self.limits.checkpoint_policy.max_started_rows;
        if self.needs_checkpoint() && (early || Instant::now() >= self.next_checkpoint_at) {
            self.start_checkpoint();
        }
    }

    fn start_checkpoint(&mut self) {
        self.start_checkpoint_with(self.snapshot());
    }

    fn start_checkpoint_with(&mut self, snapshot: ProgressSnapshot) {
        let begun = (self.started, self.progress.finished());
        let pending = self.sink.checkpoint(snapshot, &mut self.frontier);
        self.checkpoint = Some(CheckpointInProgress { pending, counts_at_start: begun });
        self.next_checkpoint_at = Instant::now() + self.limits.checkpoint_policy.interval;
    }

    fn finish_checkpoint(&mut self, made: Result<(), CheckpointError>) {
        let Some(checkpoint) = self.checkpoint.take() else { return };
        match made {
            Ok(()) => self.last_recorded = checkpoint.counts_at_start,
            Err(error) => {
                // Kept apart from `stop_reason`, which may hold an earlier error.
                self.checkpoint_failed = true;
                self.request_stop(StopReason::InternalError(EngineError::Checkpoint(error)));
            }
        }
    }

    /// The snapshot while rows are being started. Rows that may start before the next record count as started.
    fn snapshot(&self) -> ProgressSnapshot {
        let maybe_started =
            self.earlier_in_doubt.maybe_started(self.counters(), self.limits.checkpoint_policy.max_unrecorded_rows);
        ProgressSnapshot {
            progress: self.progress,
            in_doubt: maybe_started,
            maybe_started,
            next_row: self.next_row,
            stopping: self.is_stopping(),
        }
    }

    /// The snapshot once nothing is in flight.
    fn final_snapshot(&self) -> ProgressSnapshot {
        let (in_doubt, maybe_started) =
            (self.earlier_in_doubt.in_doubt(self.counters()), self.earlier_in_doubt.maybe_started(self.counters(), 0));
        ProgressSnapshot { in_doubt, maybe_started, ..self.snapshot() }
    }

    fn counters(&self) -> RunCounters {
        RunCounters { started: self.started, abandoned: self.abandoned, progress: self.progress }
    }

    fn report_progress(&mut self) {
        let now = Instant::now();
        let oldest = self.in_flight_times.oldest().filter(|_| !self.in_flight.is_empty());
        let state = RunState {
            job: self.progress,
            requests: self.worker.request_counts(),
            in_flight: self.in_flight.len() as u64,
            oldest_in_flight: oldest.map(|began| now.saturating_duration_since(began)),
            stopping: self.is_stopping(),
        };
        let progress = self.meter.measure(now.saturating_duration_since(self.started_at), state);
        self.sink.observe(progress);
    }
}

/// Returns the span of the work on an object. If only the job is logged, that is the job's span.
fn object_span(object: &ObjectId) -> Span {
    let version = object.version.as_ref().map(VersionId::as_str);
    let span = debug_span!("object", bucket = %object.bucket, key = %object.key, version);
    if span.is_disabled() && LevelFilter::current() >= LevelFilter::INFO { Span::current() } else { span }
}

/// Waits for the pending checkpoint.
async fn wait_for_checkpoint(checkpoint: &mut Option<CheckpointInProgress>) -> Result<(), CheckpointError> {
    match checkpoint {
        Some(checkpoint) => (&mut checkpoint.pending).await,
        None => Ok(()),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What earlier runs left in doubt, and how many rows were finished before this run.
///
/// Rows are always started in the same order. So the rows that an earlier run may have started and not finished are
/// the first of the remaining rows. Each row that this run starts is one of them until they are used up.
#[derive(Clone, Copy, Debug)]
struct EarlierInDoubt {
    in_doubt: u64,
    maybe_started: u64,
    finished: u64,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
struct RunCounters {
    /// Rows that this run has started.
    started: u64,
    /// Of these, the rows for which a write was sent and that have no outcome.
    abandoned: u64,
    progress: Progress,
}

impl EarlierInDoubt {
    /// Returns how many of the first remaining rows may have been started, if `more` rows may start from here on
    /// without a record.
    fn maybe_started(self, run: RunCounters, more: u64) -> u64 {
        let beyond = self.maybe_started.saturating_sub(run.started);
        self.unfinished(run).saturating_add(beyond).saturating_add(more).min(run.progress.remaining())
    }

    /// Returns how many objects are in doubt once nothing is in flight.
    fn in_doubt(self, run: RunCounters) -> u64 {
        // Rows that this run started without sending a request are still in the state that the earlier run left.
        let not_begun = self.unfinished(run).saturating_sub(run.abandoned).min(self.maybe_started);
        let beyond = self.maybe_started.saturating_sub(run.started);
        let earlier = self.in_doubt.min(beyond.saturating_add(not_begun));
        run.abandoned.saturating_add(earlier).min(run.progress.remaining())
    }

    /// Rows that this run has started and not finished.
    fn unfinished(self, run: RunCounters) -> u64 {
        run.started.saturating_sub(run.progress.finished().saturating_sub(self.finished))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What happens to a row that a run starts.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Row {
        Settled,
        Abandoned,
        NotBegun,
        /// Changed, but the process died before it was recorded.
        Lost,
    }

    fn any_row() -> impl Strategy<Value = Row> {
        prop_oneof![4 => Just(Row::Settled), 1 => Just(Row::Abandoned), 1 => Just(Row::NotBegun), 2 => Just(Row::Lost)]
    }

    proptest! {
        /// Compares with a model that knows for each row whether it was changed and whether that was recorded. It
        /// covers several runs; some are killed, and then the last checkpoint counts.
        #[test]
        fn never_underestimates_objects_in_doubt(
            total in 1..40_usize,
            runs in prop::collection::vec((prop::collection::vec(any_row(), 0..20), any::<bool>(), 0..8_usize), 1..6),
        ) {
            let more = 8;
            let (mut settled, mut changed) = (BTreeSet::new(), BTreeSet::new());
            let (mut in_doubt, mut maybe_started) = (0, 0);
            for (rows, killed, recorded) in runs {
                let earlier = EarlierInDoubt { in_doubt, maybe_started, finished: settled.len() as u64 };
                let stream: Vec<usize> = (0..total).filter(|row| !settled.contains(row)).collect();
                let taken: Vec<(usize, Row)> = stream.into_iter().zip(rows).collect();
                // The last checkpoint of a killed run was `recorded` rows before its end.
                let recorded = if killed { taken.len().saturating_sub(recorded) } else { taken.len() };
                let mut abandoned = 0;
                for (index, (row, event)) in taken.iter().enumerate() {
                    let counts = index < recorded;
                    match event {
                        Row::Settled if counts => {
                            settled.insert(*row);
                            changed.remove(row);
                        }
                        Row::NotBegun => {}
                        _ => {
                            changed.insert(*row);
                            abandoned += u64::from(counts && !killed);
                        }
                    }
                }
                let progress =
                    Progress { total: total as u64, succeeded: settled.len() as u64, ..Progress::default() };
                let run = RunCounters { started: recorded as u64, abandoned, progress };
                maybe_started = earlier.maybe_started(run, if killed { more } else { 0 });
                in_doubt = if killed { maybe_started } else { earlier.in_doubt(run) };
                let lost = changed.iter().filter(|row| !settled.contains(row)).count() as u64;
                prop_assert!(in_doubt >= lost, "{in_doubt} {lost}");
                prop_assert!(maybe_started >= in_doubt && in_doubt <= progress.remaining());
                let first: BTreeSet<usize> =
                    (0..total).filter(|row| !settled.contains(row)).take(usize::try_from(maybe_started).expect("small")).collect();
                prop_assert!(changed.iter().all(|row| settled.contains(row) || first.contains(row)));
            }
        }
    }
}

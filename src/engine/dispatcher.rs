//! The dispatcher: the only owner of a running job's state.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::allowance::Allowance;
use super::book::{Book, CheckpointError, Pending, Snapshot};
use super::doubt::{EarlierDoubt, Reached};
use super::end::{End, EngineError};
use super::server_check::RefusalKind;
use super::worker::{Untrusted, Worked, Worker};
use crate::frontier::Frontier;
use crate::job::Progress;
use crate::manifest::ManifestError;
use crate::object::ObjectId;
use crate::plan::Threshold;
use crate::task::{Outcome, Seq, Task};

/// Batches of rows that are read ahead of the dispatcher.
const BATCHES_AHEAD: usize = 4;

/// The number of finished rows above the frontier's low mark at which no more rows are started. One object that waits
/// for its tenth attempt must not let the set grow with the job.
const MAX_ABOVE: usize = 1 << 16;

/// How often the dispatcher reports progress.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(500);

/// Batches of rows, in the order of the frozen manifest.
pub type TaskBatches = mpsc::Receiver<Result<Vec<Task>, ManifestError>>;

/// Stops a run gracefully: no more rows are started, and requests in flight may finish until the deadline.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Cancelled to request a stop. The dispatcher also cancels it when the job cannot continue.
    pub asked: CancellationToken,
    /// How long requests in flight may take after that. The rest is abandoned.
    pub patience: Duration,
}

/// When checkpoints are made.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// The time between two checkpoints.
    pub every: Duration,
    /// The number of rows that may be started since the last checkpoint. After a crash at most this many rows, and
    /// those that were in flight, are done again. A checkpoint is made early once half of them are started.
    pub most: u64,
    /// The number of rows past the last record that an earlier run may have started. Equal to `most`, or larger if
    /// recorded progress can be lost together with its machine.
    pub leave: u64,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { every: Duration::from_secs(1), most: 1 << 16, leave: 1 << 16 }
    }
}

/// Where a run starts: at the job's first row, or where the previous run stopped.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Row counts. `total` is replaced by the manifest's row count.
    pub progress: Progress,
    /// The rows that have an outcome.
    pub frontier: Frontier,
    /// The first row that was not started according to the last record; `None` if the job has not run before.
    pub taken: Option<Seq>,
    /// The number of objects that may have been changed without an outcome.
    pub in_doubt: u64,
    /// How many of the first remaining rows may have been started, including those in doubt.
    pub reach: u64,
}

/// The limits that apply to a run.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Objects in flight and requests per second.
    pub allowance: Allowance,
    /// How many objects may fail before the job stops.
    pub threshold: Threshold,
    /// How much work may happen between two checkpoints.
    pub rhythm: Rhythm,
}

/// The result of a run.
#[must_use]
#[derive(Debug)]
pub struct Dispatched {
    /// Row counts at the end of the run.
    pub progress: Progress,
    /// The rows that have an outcome.
    pub frontier: Frontier,
    /// The number of objects that were abandoned after a write was sent. The write may have been carried out.
    pub abandoned: u64,
    /// `abandoned`, plus the objects that an earlier run left in doubt and this run did not finish.
    pub in_doubt: u64,
    /// How many of the first remaining rows may have been started.
    pub reach: u64,
    /// Why the run stopped.
    pub end: End,
}

/// Runs the tasks of one job.
pub struct Dispatcher<'a> {
    worker: Arc<Worker>,
    bounds: Bounds,
    book: &'a mut dyn Book,
    stop: Stop,
    progress: Progress,
    frontier: Frontier,
    /// `taken`: the first row that no run has started. `started`: the number of rows that this run started.
    taken: Option<Seq>,
    started: u64,
    /// `before`: the first row that the previous run had not started when it was last recorded. `beyond`: the number
    /// of rows from there on that this run has started. The previous run may have sent requests for all rows before
    /// `before`, and for as many after it as it was allowed to start without a record.
    before: Option<Seq>,
    beyond: u64,
    doubt: EarlierDoubt,
    in_flight: JoinSet<Flown>,
    /// Objects that a worker has returned after sending a write.
    joined_writes: u64,
    /// Hashes of the keys in flight. Two keys with the same hash run one after the other, which does no harm.
    busy: HashSet<u64>,
    hasher: RandomState,
    /// Rows whose key is in flight, in manifest order.
    twins: VecDeque<Twin>,
    batch: VecDeque<Task>,
    exhausted: bool,
    deadline: Option<Instant>,
    abandoned: u64,
    end: End,
    checkpoint: Option<Checkpoint>,
    checkpoint_failed: bool,
    /// The rows that had been started, and those that had finished, when the last recorded checkpoint began.
    kept: (u64, u64),
    due: Instant,
}

/// What a worker returns: the row, the hash of its key, the result, and whether a write was sent.
type Flown = (Task, u64, Worked, bool);

/// A later row for a key that is already in flight. It runs after the first one, never beside it.
struct Twin {
    task: Task,
    hash: u64,
    asked_before: bool,
}

/// A checkpoint that is being written, and the numbers of started and finished rows when it began.
struct Checkpoint {
    pending: Pending,
    begun: (u64, u64),
}

impl<'a> Dispatcher<'a> {
    /// Creates a dispatcher for a job of `total` rows that starts at `start`.
    pub fn new(worker: Worker, bounds: Bounds, total: u64, start: Start, stop: Stop, book: &'a mut dyn Book) -> Self {
        let Start { progress, frontier, taken, in_doubt, reach } = start;
        let settled = progress.settled();
        Self {
            worker: Arc::new(worker),
            due: Instant::now() + bounds.rhythm.every,
            bounds,
            book,
            stop,
            progress: Progress { total, ..progress },
            frontier,
            taken,
            started: 0,
            before: taken,
            beyond: 0,
            doubt: EarlierDoubt { in_doubt, reach, settled },
            in_flight: JoinSet::new(),
            joined_writes: 0,
            busy: HashSet::new(),
            hasher: RandomState::new(),
            twins: VecDeque::new(),
            batch: VecDeque::new(),
            exhausted: false,
            deadline: None,
            abandoned: 0,
            end: End::Finished,
            checkpoint: None,
            checkpoint_failed: false,
            kept: (0, settled),
        }
    }

    /// Creates the channel that [`Self::run`] receives rows from.
    #[must_use]
    pub fn batches() -> (mpsc::Sender<Result<Vec<Task>, ManifestError>>, TaskBatches) {
        mpsc::channel(BATCHES_AHEAD)
    }

    /// Runs until every row is finished, a stop is requested, or the job cannot continue: too many objects fail, the
    /// credentials are rejected, the server check fails, the manifest cannot be read, an outcome cannot be recorded,
    /// or a worker panics. In every case, requests in flight are drained and recorded, and a last checkpoint is made.
    pub async fn run(mut self, mut batches: TaskBatches) -> Dispatched {
        let mut tick = tokio::time::interval(SNAPSHOT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let asked = self.stop.asked.clone();
        self.judge();
        if asked.is_cancelled() {
            self.ends(End::Asked);
        }
        loop {
            self.start_what_may_start();
            if self.is_over() {
                break;
            }
            self.begin_checkpoint_when_due();
            let (deadline, due) = (self.deadline, self.due);
            tokio::select! {
                biased;
                () = asked.cancelled(), if deadline.is_none() => self.ends(End::Asked),
                () = sleep_until(deadline), if deadline.is_some() => break,
                // Before the work: `join_next` may always have something ready.
                made = made(&mut self.checkpoint), if self.checkpoint.is_some() => self.keep(made),
                _ = tick.tick() => self.show(),
                () = tokio::time::sleep_until(due), if self.wants_checkpoint() => {}
                Some(done) = self.in_flight.join_next() => match done {
                    Ok(done) => self.settle(done),
                    Err(died) => self.ends(End::Broken(EngineError::Worker(died))),
                },
                batch = batches.recv(), if self.wants_rows() => match batch {
                    Some(Ok(batch)) => self.batch.extend(batch),
                    Some(Err(error)) => self.ends(End::Broken(EngineError::Manifest(error))),
                    None => self.exhausted = true,
                },
            }
        }
        self.leave().await
    }

    async fn leave(mut self) -> Dispatched {
        self.drain().await;
        let Progress { total, .. } = self.progress;
        let settled = self.progress.settled();
        if settled == total && matches!(self.end, End::Asked) {
            self.end = End::Finished;
        } else if settled != total && matches!(self.end, End::Finished) {
            self.ends(End::Broken(EngineError::RowsMissing { settled, total }));
        }
        // Finish the pending checkpoint first, since each checkpoint builds on the previous one.
        if self.checkpoint.is_some() {
            let before = made(&mut self.checkpoint).await;
            self.keep(before);
        }
        let last = self.last_snapshot();
        self.take_checkpoint(last);
        let made = made(&mut self.checkpoint).await;
        self.keep(made);
        self.book.observe(last);
        let Self { progress, frontier, abandoned, end, .. } = self;
        let Snapshot { in_doubt, reach, .. } = last;
        Dispatched { progress, frontier, abandoned, in_doubt, reach, end }
    }

    /// Aborts requests in flight. Rows that have finished by now are recorded. Of the rest, only objects with a write
    /// are in doubt.
    async fn drain(&mut self) {
        self.in_flight.abort_all();
        while let Some(done) = self.in_flight.join_next().await {
            match done {
                Ok(done) => self.settle(done),
                Err(given_up) if given_up.is_cancelled() => {}
                Err(died) => self.ends(End::Broken(EngineError::Worker(died))),
            }
        }
        self.abandoned += self.worker.written().saturating_sub(self.joined_writes);
    }

    /// Stops starting rows. The most severe reason is reported; of two equal ones, the first.
    fn ends(&mut self, end: End) {
        if end.rank() > self.end.rank() {
            self.end = end;
        }
        self.deadline.get_or_insert_with(|| Instant::now() + self.stop.patience);
        // Ends all waits for a retry.
        self.stop.asked.cancel();
    }

    fn stopping(&self) -> bool {
        self.deadline.is_some()
    }

    fn is_over(&self) -> bool {
        let nothing_left = self.exhausted && self.batch.is_empty() && self.twins.is_empty();
        self.in_flight.is_empty() && (nothing_left || self.stopping())
    }

    fn wants_rows(&self) -> bool {
        self.batch.is_empty() && !self.exhausted && !self.stopping()
    }

    fn has_room(&self) -> bool {
        // The set may be full from the start, with rows that an earlier run finished. Then run the rows that keep it
        // full one by one.
        self.in_flight.len() < self.bounds.allowance.objects()
            && (self.frontier.above() < MAX_ABOVE || self.in_flight.is_empty())
            && self.started - self.kept.0 < self.bounds.rhythm.most
    }

    fn start_what_may_start(&mut self) {
        while !self.stopping() && self.has_room() && self.twins.len() < self.bounds.allowance.objects() {
            let Some(task) = self.batch.pop_front() else { break };
            // Never move back: the rows that an earlier run left unfinished come first.
            self.taken = self.taken.max(Some(Seq { part: task.seq.part, row: task.seq.row + 1 }));
            self.started += 1;
            let asked_before = self.may_have_been_asked(&task);
            let hash = self.hasher.hash_one((&task.object.bucket, &task.object.key));
            if self.busy.insert(hash) {
                self.start(task, hash, asked_before);
            } else {
                self.twins.push_back(Twin { task, hash, asked_before });
            }
        }
    }

    /// Returns whether an earlier run of this job may have sent requests for this row: the row was started according
    /// to the last record, or could be started before the next one. Called once per row, when it is started.
    fn may_have_been_asked(&mut self, task: &Task) -> bool {
        let Some(before) = self.before else { return false };
        self.beyond += u64::from(task.seq >= before);
        self.beyond <= self.bounds.rhythm.leave
    }

    fn start(&mut self, task: Task, hash: u64, asked_before: bool) {
        let worker = Arc::clone(&self.worker);
        // Boxed, because spawning moves the future several times.
        self.in_flight.spawn(Box::pin(async move {
            let (end, wrote) = worker.work_on(&task.object, asked_before).await;
            (task, hash, end, wrote)
        }));
    }

    fn settle(&mut self, (task, hash, worked, wrote): Flown) {
        self.joined_writes += u64::from(wrote);
        let mut outcome = None;
        match worked {
            Worked::NotBegun => {}
            Worked::Abandoned => self.abandoned += 1,
            Worked::Refused(fault) => {
                self.abandoned += u64::from(wrote);
                self.ends(End::Refused(fault));
            }
            Worked::Untrusted(untrusted) => {
                let Untrusted { refusal, failure } = *untrusted;
                // A server that does not support the request has left the object unchanged.
                let may_be_changed = wrote && refusal.kind != RefusalKind::Unsupported;
                self.abandoned += u64::from(failure.is_none() && may_be_changed);
                outcome = failure.map(Outcome::Failed);
                self.ends(End::Untrusted(Box::new(refusal)));
            }
            Worked::Unrecorded(why) => {
                self.abandoned += u64::from(wrote);
                self.ends(End::Broken(EngineError::Unrecorded(why)));
            }
            Worked::Settled(settled) => outcome = Some(settled),
        }
        let succeeded = outcome.is_some_and(|outcome| self.record(&task, &outcome, wrote));
        self.let_twin_go(&task.object, hash, succeeded);
    }

    /// Records an outcome. Returns whether it is a success that was recorded.
    fn record(&mut self, task: &Task, outcome: &Outcome, wrote: bool) -> bool {
        if let Err(error) = self.book.record(&task.object, outcome) {
            self.abandoned += u64::from(wrote);
            self.ends(End::Broken(EngineError::Report(error)));
            return false;
        }
        self.frontier.settle(task.seq);
        let succeeded = matches!(outcome, Outcome::Succeeded { .. });
        *if succeeded { &mut self.progress.succeeded } else { &mut self.progress.failed } += 1;
        self.judge();
        succeeded
    }

    fn judge(&mut self) {
        if self.bounds.threshold.is_crossed(self.progress) {
            self.ends(End::TooManyFailed);
        }
    }

    /// Starts the first deferred row for this key. Frees the key if there is none.
    fn let_twin_go(&mut self, object: &ObjectId, hash: u64, succeeded: bool) {
        let twin = self.twins.iter().position(|twin| twin.hash == hash);
        match twin.filter(|_| !self.stopping()).and_then(|index| self.twins.remove(index)) {
            Some(Twin { task, hash, asked_before }) => {
                let asked_before = asked_before || (succeeded && task.object == *object);
                self.start(task, hash, asked_before);
            }
            None => {
                self.busy.remove(&hash);
            }
        }
    }

    fn has_news(&self) -> bool {
        self.progress.settled() > self.kept.1
    }

    /// Returns whether there is progress to record and no checkpoint is pending. A checkpoint that failed is tried
    /// once more at the end of the run and not before, because the cause would probably make it fail again at once.
    fn wants_checkpoint(&self) -> bool {
        !self.checkpoint_failed && self.checkpoint.is_none() && self.has_news()
    }

    fn begin_checkpoint_when_due(&mut self) {
        let early = (self.started - self.kept.0) * 2 >= self.bounds.rhythm.most;
        if self.wants_checkpoint() && (early || Instant::now() >= self.due) {
            self.begin_checkpoint();
        }
    }

    fn begin_checkpoint(&mut self) {
        self.take_checkpoint(self.snapshot());
    }

    fn take_checkpoint(&mut self, snapshot: Snapshot) {
        let begun = (self.started, self.progress.settled());
        let pending = self.book.checkpoint(snapshot, &mut self.frontier);
        self.checkpoint = Some(Checkpoint { pending, begun });
        self.due = Instant::now() + self.bounds.rhythm.every;
    }

    fn keep(&mut self, made: Result<(), CheckpointError>) {
        let Some(checkpoint) = self.checkpoint.take() else { return };
        match made {
            Ok(()) => self.kept = checkpoint.begun,
            Err(error) => {
                // Kept apart from `end`, which may hold an earlier error.
                self.checkpoint_failed = true;
                self.ends(End::Broken(EngineError::Checkpoint(error)));
            }
        }
    }

    /// The snapshot while rows are being started. Rows that may start before the next record count as started.
    fn snapshot(&self) -> Snapshot {
        let reach = self.doubt.reach(self.reached(), self.bounds.rhythm.leave);
        Snapshot { progress: self.progress, in_doubt: reach, reach, taken: self.taken, stopping: self.stopping() }
    }

    /// The snapshot once nothing is in flight.
    fn last_snapshot(&self) -> Snapshot {
        let (in_doubt, reach) = (self.doubt.in_doubt(self.reached()), self.doubt.reach(self.reached(), 0));
        Snapshot { in_doubt, reach, ..self.snapshot() }
    }

    fn reached(&self) -> Reached {
        Reached { started: self.started, abandoned: self.abandoned, progress: self.progress }
    }

    fn show(&mut self) {
        let snapshot = self.snapshot();
        self.book.observe(snapshot);
    }
}

/// Waits for the pending checkpoint.
async fn made(checkpoint: &mut Option<Checkpoint>) -> Result<(), CheckpointError> {
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

//! The sole owner of a running job's state.

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

/// Settled rows above the frontier's low mark at which no more rows are taken: one object that waits for its tenth
/// attempt must not let the set grow with the job.
const MAX_ABOVE: usize = 1 << 16;

/// How often a snapshot is shown.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(500);

/// Rows in the order of the frozen manifest, in batches.
pub type TaskBatches = mpsc::Receiver<Result<Vec<Task>, ManifestError>>;

/// How a job is asked to stop: no more rows are taken, and what is in flight has until the deadline.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Cancelled to ask. The dispatcher cancels it itself when the job cannot go on.
    pub asked: CancellationToken,
    /// How long what is in flight may take from then on; what is left is abandoned.
    pub patience: Duration,
}

/// When checkpoints are made.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// How long one comes after the other.
    pub every: Duration,
    /// Rows that may be taken up since the last one: what is done again at most, besides what was in flight, after a
    /// crash. Half of them bring a checkpoint before its time.
    pub most: u64,
    /// Rows beyond the last record that an earlier run may have worked on: as many as `most`, or more where what it had
    /// recorded may be lost with its machine.
    pub leave: u64,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { every: Duration::from_secs(1), most: 1 << 16, leave: 1 << 16 }
    }
}

/// Where a job begins: at its first row, or where it was stopped.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The counts; the total is the manifest's in any case.
    pub progress: Progress,
    /// The settled rows.
    pub frontier: Frontier,
    /// The first row that was not taken up when that was last recorded; `None` in a job that has not run before.
    pub taken: Option<Seq>,
    /// Objects that may have been changed without an outcome.
    pub in_doubt: u64,
    /// How many of the first rows that are left may have been taken up: those in doubt are among them.
    pub reach: u64,
}

/// What a job is allowed.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Objects in flight.
    pub allowance: Allowance,
    /// Failures.
    pub threshold: Threshold,
    /// Work between checkpoints.
    pub rhythm: Rhythm,
}

/// How dispatching ended.
#[must_use]
#[derive(Debug)]
pub struct Dispatched {
    /// The counts.
    pub progress: Progress,
    /// The settled rows.
    pub frontier: Frontier,
    /// Objects for which a write was sent and that have no outcome: it may have been carried out.
    pub abandoned: u64,
    /// These, and those that an earlier run left in doubt and this one has not settled.
    pub in_doubt: u64,
    /// How many of the first rows that are left may have been taken up.
    pub reach: u64,
    /// Why.
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
    /// The first row that was not taken up, in this run or before, and how many were in this run.
    taken: Option<Seq>,
    started: u64,
    /// Where the run before had got to, and how many rows from there on were taken up in this run: so many as it had leave
    /// to take up without a record may have been asked for already, and all before.
    before: Option<Seq>,
    beyond: u64,
    doubt: EarlierDoubt,
    in_flight: JoinSet<Flown>,
    /// Objects that came back from a worker and for which a write had been sent.
    joined_writes: u64,
    /// Hashes of the keys in flight. Two keys with one hash merely run one after the other.
    busy: HashSet<u64>,
    hasher: RandomState,
    /// Rows whose key is in flight, in their order.
    twins: VecDeque<Twin>,
    batch: VecDeque<Task>,
    exhausted: bool,
    deadline: Option<Instant>,
    abandoned: u64,
    end: End,
    checkpoint: Option<Checkpoint>,
    checkpoint_failed: bool,
    /// Rows that were taken up when the last checkpoint that is kept began, and settled then.
    kept: (u64, u64),
    due: Instant,
}

/// A row that a worker is done with, the hash of its key, what came of it, and whether a write was sent for it.
type Flown = (Task, u64, Worked, bool);

/// A row that waits for its key, the key's hash, and whether the row may have been asked for before.
struct Twin {
    task: Task,
    hash: u64,
    asked_before: bool,
}

/// A checkpoint that is being made, and what was taken up and settled when it began.
struct Checkpoint {
    pending: Pending,
    begun: (u64, u64),
}

impl<'a> Dispatcher<'a> {
    /// A dispatcher of a job with so many rows, which begins where `start` says.
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

    /// Makes the channel that [`Self::run`] takes rows from.
    #[must_use]
    pub fn batches() -> (mpsc::Sender<Result<Vec<Task>, ManifestError>>, TaskBatches) {
        mpsc::channel(BATCHES_AHEAD)
    }

    /// Works until every row is settled, the job is stopped, or it cannot go on: too many objects fail, the credentials
    /// are refused, the server is not trusted, the manifest cannot be read, an outcome cannot be recorded, or a worker panicked.
    /// Whichever it is, what is in flight is drained and recorded, and a last checkpoint is made.
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
                // Before the work, which may always have something ready.
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
        // What is on its way first: a checkpoint builds on the one before it.
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

    /// Gives up what is in flight. What has come to its end by now is settled; of the rest, only what was written is in doubt.
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

    /// No more rows are taken. What counts for most is what is told, and of two such what came first.
    fn ends(&mut self, end: End) {
        if end.rank() > self.end.rank() {
            self.end = end;
        }
        self.deadline.get_or_insert_with(|| Instant::now() + self.stop.patience);
        // Retries end at once.
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
        // The set may be full from the start, of what an earlier run settled: then the rows that keep it so go one by one.
        self.in_flight.len() < self.bounds.allowance.objects()
            && (self.frontier.above() < MAX_ABOVE || self.in_flight.is_empty())
            && self.started - self.kept.0 < self.bounds.rhythm.most
    }

    fn start_what_may_start(&mut self) {
        while !self.stopping() && self.has_room() && self.twins.len() < self.bounds.allowance.objects() {
            let Some(task) = self.batch.pop_front() else { break };
            // Never back: what an earlier run left among its rows comes first.
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

    /// Whether an earlier run of this job may have worked on a row: it had taken it up when that was last recorded, or had
    /// leave to take it up before the next record. Asked once of each row, when it is taken up.
    fn may_have_been_asked(&mut self, task: &Task) -> bool {
        let Some(before) = self.before else { return false };
        self.beyond += u64::from(task.seq >= before);
        self.beyond <= self.bounds.rhythm.leave
    }

    fn start(&mut self, task: Task, hash: u64, asked_before: bool) {
        let worker = Arc::clone(&self.worker);
        // Boxed, since spawning moves it around.
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
                // One that does not support the request has shown that it left the object as it was.
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

    /// Writes an outcome down; whether it is a success that stands there.
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

    /// The first row that waited for this key goes next; where there is none, the key is free.
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

    /// Whether there is something to record, and nothing in the way. One that could not be made is tried once more at the
    /// end, and not before: what made it fail may do so at once, again and again.
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
                // Not told by the end: another thing may have broken before.
                self.checkpoint_failed = true;
                self.ends(End::Broken(EngineError::Checkpoint(error)));
            }
        }
    }

    /// As long as rows are taken up: what may be until the next record counts as if it were.
    fn snapshot(&self) -> Snapshot {
        let reach = self.doubt.reach(self.reached(), self.bounds.rhythm.leave);
        Snapshot { progress: self.progress, in_doubt: reach, reach, taken: self.taken, stopping: self.stopping() }
    }

    /// Once nothing is in flight.
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

/// Waits for the checkpoint that is being made.
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

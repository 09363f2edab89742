//! The sole owner of a running job's state.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::worker::{Worked, Worker};
use crate::frontier::Frontier;
use crate::job::Progress;
use crate::manifest::ManifestError;
use crate::object::ObjectId;
use crate::task::{Outcome, Task};

/// Batches of rows that are read ahead of the dispatcher.
const BATCHES_AHEAD: usize = 4;

/// Settled rows above the frontier's low mark at which no more rows are taken: one object that waits for its tenth
/// attempt must not let the set grow with the job.
const MAX_ABOVE: usize = 1 << 16;

/// How often a snapshot is shown.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

/// Rows in the order of the frozen manifest, in batches.
pub type TaskBatches = mpsc::Receiver<Result<Vec<Task>, ManifestError>>;

/// How a job is asked to stop: no more rows are taken, and what is in flight has until the deadline.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Cancelled to ask. The dispatcher cancels it itself when the job breaks.
    pub asked: CancellationToken,
    /// How long what is in flight may take from then on; what is left is abandoned.
    pub patience: Duration,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The counts.
    pub progress: Progress,
    /// The settled rows.
    pub frontier: &'a Frontier,
    /// Whether the job is being stopped.
    pub stopping: bool,
}

/// How dispatching ended.
#[must_use]
#[derive(Debug)]
pub struct Dispatched {
    /// The counts.
    pub progress: Progress,
    /// The settled rows.
    pub frontier: Frontier,
    /// Whether every row was settled.
    pub finished: bool,
    /// Objects whose work was begun and given up; what was sent for them may have been carried out.
    pub abandoned: u64,
    /// Why it could not go on, where it broke: no more rows were taken, and what was in flight was finished.
    pub broken: Option<EngineError>,
}

/// Why dispatching could not go on. What was recorded before stays true.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The frozen manifest cannot be read.
    #[error("the frozen manifest cannot be read: {0}")]
    Manifest(#[source] ManifestError),
    /// An outcome cannot be recorded.
    #[error("the report cannot be written: {0}")]
    Report(#[source] io::Error),
    /// A worker died.
    #[error("a worker died: {0}")]
    Worker(#[source] JoinError),
    /// The frozen manifest ended before its last row.
    #[error("the frozen manifest ended after {settled} of its {total} rows")]
    RowsMissing {
        /// The rows that came.
        settled: u64,
        /// The rows that it should have.
        total: u64,
    },
}

type Record<'a> = dyn FnMut(&ObjectId, &Outcome) -> io::Result<()> + 'a;
type Observe<'a> = dyn FnMut(Snapshot<'_>) + 'a;

/// Runs the tasks of one job.
pub struct Dispatcher<'a> {
    worker: Arc<Worker>,
    concurrency: usize,
    record: &'a mut Record<'a>,
    observe: &'a mut Observe<'a>,
    stop: Stop,
    progress: Progress,
    frontier: Frontier,
    in_flight: JoinSet<(Task, u64, Worked)>,
    /// Hashes of the keys in flight. Two keys with one hash merely run one after the other.
    busy: HashSet<u64>,
    hasher: RandomState,
    /// Rows whose key is in flight, in their order.
    twins: VecDeque<(Task, u64)>,
    batch: VecDeque<Task>,
    exhausted: bool,
    deadline: Option<Instant>,
    abandoned: u64,
    broken: Option<EngineError>,
}

impl<'a> Dispatcher<'a> {
    /// A dispatcher with at most `concurrency` objects in flight. `record` is given each outcome exactly once;
    /// `observe` sees where the job stands about once a second, and at the end.
    pub fn new(
        worker: Worker,
        concurrency: u32,
        total: u64,
        stop: Stop,
        record: &'a mut Record<'a>,
        observe: &'a mut Observe<'a>,
    ) -> Self {
        Self {
            worker: Arc::new(worker),
            concurrency: concurrency.max(1) as usize,
            record,
            observe,
            stop,
            progress: Progress { total, ..Progress::default() },
            frontier: Frontier::default(),
            in_flight: JoinSet::new(),
            busy: HashSet::new(),
            hasher: RandomState::new(),
            twins: VecDeque::new(),
            batch: VecDeque::new(),
            exhausted: false,
            deadline: None,
            abandoned: 0,
            broken: None,
        }
    }

    /// Makes the channel that [`Self::run`] takes rows from.
    #[must_use]
    pub fn batches() -> (mpsc::Sender<Result<Vec<Task>, ManifestError>>, TaskBatches) {
        mpsc::channel(BATCHES_AHEAD)
    }

    /// Works until every row is settled, the job is stopped, or something breaks: the manifest cannot be read, an
    /// outcome cannot be recorded, or a worker panicked. Whichever it is, what is in flight is drained and recorded.
    pub async fn run(mut self, mut batches: TaskBatches) -> Dispatched {
        let mut tick = tokio::time::interval(SNAPSHOT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let asked = self.stop.asked.clone();
        loop {
            self.start_what_may_start();
            if self.is_over() {
                break;
            }
            let deadline = self.deadline;
            tokio::select! {
                biased;
                () = asked.cancelled(), if deadline.is_none() => self.take_no_more(),
                () = sleep_until(deadline), if deadline.is_some() => break,
                // Before the work, which may always have something ready.
                _ = tick.tick() => self.show(),
                Some(done) = self.in_flight.join_next() => match done {
                    Ok(done) => self.settle(done),
                    Err(died) => self.breaks(EngineError::Worker(died)),
                },
                batch = batches.recv(), if self.wants_rows() => match batch {
                    Some(Ok(batch)) => self.batch.extend(batch),
                    Some(Err(error)) => self.breaks(EngineError::Manifest(error)),
                    None => self.exhausted = true,
                },
            }
        }
        self.abandoned += self.in_flight.len() as u64;
        self.in_flight.shutdown().await;
        self.show();
        let Progress { total, .. } = self.progress;
        let settled = self.progress.settled();
        let finished = settled == total;
        if !finished && !self.stopping() {
            self.breaks(EngineError::RowsMissing { settled, total });
        }
        let Self { progress, frontier, abandoned, broken, .. } = self;
        Dispatched { progress, frontier, finished, abandoned, broken }
    }

    fn take_no_more(&mut self) {
        self.deadline.get_or_insert_with(|| Instant::now() + self.stop.patience);
    }

    /// What breaks first is what is told. Retries end at once, as on a stop.
    fn breaks(&mut self, error: EngineError) {
        self.broken.get_or_insert(error);
        self.take_no_more();
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
        self.in_flight.len() < self.concurrency && self.frontier.above() < MAX_ABOVE
    }

    fn start_what_may_start(&mut self) {
        while !self.stopping() && self.has_room() && self.twins.len() < self.concurrency {
            let Some(task) = self.batch.pop_front() else { break };
            let hash = self.hasher.hash_one((&task.object.bucket, &task.object.key));
            if self.busy.insert(hash) {
                self.start(task, hash, false);
            } else {
                self.twins.push_back((task, hash));
            }
        }
    }

    fn start(&mut self, task: Task, hash: u64, asked_before: bool) {
        let worker = Arc::clone(&self.worker);
        self.in_flight.spawn(async move {
            let end = worker.work(&task.object, asked_before).await;
            (task, hash, end)
        });
    }

    fn settle(&mut self, (task, hash, worked): (Task, u64, Worked)) {
        let mut succeeded = false;
        match worked {
            Worked::NotBegun => {}
            Worked::Abandoned => self.abandoned += 1,
            Worked::Settled(outcome) => match (self.record)(&task.object, &outcome) {
                Ok(()) => {
                    self.frontier.settle(task.seq);
                    succeeded = matches!(outcome, Outcome::Succeeded { .. });
                    *if succeeded { &mut self.progress.succeeded } else { &mut self.progress.failed } += 1;
                }
                Err(error) => {
                    self.abandoned += 1;
                    self.breaks(EngineError::Report(error));
                }
            },
        }
        self.let_twin_go(&task.object, hash, succeeded);
    }

    /// The first row that waited for this key goes next; where there is none, the key is free.
    fn let_twin_go(&mut self, object: &ObjectId, hash: u64, succeeded: bool) {
        let twin = self.twins.iter().position(|(_, waiting)| *waiting == hash);
        match twin.filter(|_| !self.stopping()).and_then(|index| self.twins.remove(index)) {
            Some((task, hash)) => {
                let asked_before = succeeded && task.object == *object;
                self.start(task, hash, asked_before);
            }
            None => {
                self.busy.remove(&hash);
            }
        }
    }

    fn show(&mut self) {
        let snapshot =
            Snapshot { progress: self.progress, frontier: &self.frontier, stopping: self.deadline.is_some() };
        (self.observe)(snapshot);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

//! One run of a dispatcher, and a book that remembers what was written in it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use batchplan::captures::{Capture, CaptureReader, CaptureWriter};
use batchplan::engine::{
    CheckpointError, CheckpointPolicy, DispatchLimits, DispatchOutcome, DispatchStart, Dispatcher, GracefulStop,
    JobQuota, OutcomeSink, PendingCheckpoint, ProgressSnapshot, RunProgress, Throttle, Worker,
};
use batchplan::frontier::{PartWatermark, RowFrontier};
use batchplan::job::Progress;
use batchplan::manifest::ManifestError;
use batchplan::operation::{Operation, OperationSet};
use batchplan::plan::{ExactShare, FailureThreshold};
use batchplan_store::Store;
use batchplan_store::backoff::RetryPolicy;
use batchplan_store::object::{ObjectId, TagSet};
use batchplan_store::task::{Task, TaskId, TaskOutcome};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::memory::object;

pub(crate) fn tags(pairs: &[(&str, &str)]) -> TagSet {
    pairs.iter().copied().collect()
}

pub(crate) fn put() -> Operation {
    Operation::PutTagging(tags(&[("team", "data")]))
}

pub(crate) fn objects(count: u32) -> Vec<ObjectId> {
    (0..count).map(|n| object(&format!("k{n}"))).collect()
}

/// Rows of part 0 that name these objects.
pub(crate) fn rows(objects: &[ObjectId]) -> Vec<Task> {
    (0..)
        .zip(objects)
        .map(|(row, object)| Task {
            id: TaskId { part: 0, row },
            object: object.clone(),
            unlistable: None,
            origin: None,
        })
        .collect()
}

/// How a checkpoint goes.
#[derive(Clone, Copy)]
pub(crate) enum Fate {
    /// It is kept so long after it was begun, and told to be so long after that.
    Kept(Duration, Duration),
    /// It fails.
    Fails,
}

/// At once.
pub(crate) const AT_ONCE: Fate = Fate::Kept(Duration::ZERO, Duration::ZERO);

/// What the book holds, and of that what would survive the machine.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) outcomes: Vec<(ObjectId, TaskOutcome)>,
    /// When each checkpoint was begun, and what it told.
    pub(crate) begun: Vec<(Instant, ProgressSnapshot)>,
    pub(crate) observed: Vec<RunProgress>,
    pub(crate) kept: Kept,
}

/// What the checkpoints have kept.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    pub(crate) progress: Progress,
    pub(crate) taken: Option<TaskId>,
    pub(crate) in_doubt: u64,
    pub(crate) reach: u64,
    pub(crate) parts: BTreeMap<u32, PartWatermark>,
    /// The outcomes that count: those behind them are cut off.
    pub(crate) outcomes: usize,
    /// The number of checkpoints.
    count: usize,
}

impl Kept {
    pub(crate) fn frontier(&self) -> RowFrontier {
        RowFrontier::from_parts(self.parts.values().cloned())
    }

    /// Where a run goes on.
    pub(crate) fn start(&self) -> DispatchStart {
        let Self { progress, taken, in_doubt, reach, .. } = *self;
        DispatchStart { progress, frontier: self.frontier(), next_row: taken, in_doubt, maybe_started: reach }
    }
}

/// A book in memory. Clones are the same book, as runs one after the other open it.
#[derive(Clone)]
pub(crate) struct Notes {
    written: Arc<Mutex<Written>>,
    /// The checkpoint's fate by its number, from 0.
    fate: Arc<dyn Fn(usize) -> Fate + Send + Sync>,
    /// Outcomes cannot be written while there are so many.
    full_at: Option<usize>,
    /// The parts that the last checkpoint took, and how many were kept before it.
    last: Option<(Vec<u32>, usize)>,
}

impl Notes {
    pub(crate) fn new(fate: impl Fn(usize) -> Fate + Send + Sync + 'static) -> Self {
        Self { written: Arc::default(), fate: Arc::new(fate), full_at: None, last: None }
    }

    pub(crate) fn full_at(count: usize) -> Self {
        Self { full_at: Some(count), ..Self::new(|_| AT_ONCE) }
    }

    /// A full disk that stays so: the first outcome cannot be written, nor any checkpoint.
    pub(crate) fn full() -> Self {
        Self { full_at: Some(0), ..Self::new(|_| Fate::Fails) }
    }

    pub(crate) fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().expect("nobody panicked with it")
    }

    /// Opens the book again after a crash: what was not kept is gone.
    pub(crate) fn reopen(&mut self) -> DispatchStart {
        self.last = None;
        let mut written = self.written();
        let (outcomes, start) = (written.kept.outcomes, written.kept.start());
        written.outcomes.truncate(outcomes);
        start
    }
}

impl OutcomeSink for Notes {
    fn record(&mut self, object: &ObjectId, outcome: &TaskOutcome) -> io::Result<()> {
        let full = self.full_at.take_if(|count| *count == self.written.lock().expect("not poisoned").outcomes.len());
        if full.is_some() {
            return Err(io::Error::other("No space left on device"));
        }
        self.written().outcomes.push((object.clone(), outcome.clone()));
        Ok(())
    }

    fn checkpoint(&mut self, snapshot: ProgressSnapshot, frontier: &mut RowFrontier) -> PendingCheckpoint {
        let kept = self.written().kept.count;
        if let Some((parts, _)) = self.last.take().filter(|(_, before)| *before == kept) {
            frontier.mark_changed(parts);
        }
        let marks = frontier.take_changes();
        self.last = Some((marks.iter().map(|mark| mark.part).collect(), kept));
        let mut written = self.written();
        let (number, outcomes) = (written.begun.len(), written.outcomes.len());
        written.begun.push((Instant::now(), snapshot));
        drop(written);
        let (fate, book) = ((self.fate)(number), self.clone());
        Box::pin(async move {
            let Fate::Kept(kept_after, told_after) = fate else {
                return Err(CheckpointError::Report(io::Error::other("the disk is gone")));
            };
            tokio::time::sleep(kept_after).await;
            {
                let kept = &mut book.written().kept;
                (kept.progress, kept.taken, kept.outcomes) = (snapshot.progress, snapshot.next_row, outcomes);
                (kept.in_doubt, kept.reach) = (snapshot.in_doubt, snapshot.maybe_started);
                kept.parts.extend(marks.into_iter().map(|mark| (mark.part, mark)));
                kept.count += 1;
            }
            tokio::time::sleep(told_after).await;
            Ok(())
        })
    }

    fn observe(&mut self, progress: RunProgress) {
        self.written().observed.push(progress);
    }
}

pub(crate) struct Run {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) concurrency: u32,
    pub(crate) requests_per_second: Option<u32>,
    pub(crate) policy: RetryPolicy,
    pub(crate) stop: GracefulStop,
    pub(crate) share: ExactShare,
    pub(crate) rhythm: CheckpointPolicy,
    pub(crate) book: Notes,
    /// What the source says instead of its end.
    pub(crate) breaks: Option<ManifestError>,
    /// Where objects are captured.
    pub(crate) captures: Option<Captures>,
}

/// Captures of one job.
#[derive(Clone)]
pub(crate) struct Captures {
    pub(crate) folder: PathBuf,
    pub(crate) may_be_missing: bool,
    /// The tasks that write captures. They outlive a run that is dropped by a moment.
    pub(crate) writing: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Captures {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.join("captures"), may_be_missing: false, writing: Arc::default() }
    }

    /// Waits until the runs so far write no more.
    pub(crate) async fn settle(&self) {
        let writing = std::mem::take(&mut *self.writing.lock().expect("not poisoned"));
        for task in writing {
            task.await.expect("written");
        }
    }

    pub(crate) fn read(&self) -> Vec<Capture> {
        let reader = CaptureReader::open(&self.folder).expect("opened");
        reader.iter().map(|capture| capture.expect("read")).collect()
    }
}

impl Run {
    pub(crate) fn new(store: Arc<dyn Store>, operations: Vec<Operation>) -> Self {
        Self {
            store,
            operations,
            concurrency: 16,
            requests_per_second: None,
            policy: RetryPolicy::default(),
            stop: GracefulStop { requested: CancellationToken::new(), grace_period: Duration::from_secs(5) },
            share: ExactShare::percent(20),
            rhythm: CheckpointPolicy::default(),
            book: Notes::new(|_| AT_ONCE),
            breaks: None,
            captures: None,
        }
    }

    /// Asks it to stop so long from now.
    pub(crate) fn stop_after(&self, wait: Duration) {
        let asked = self.stop.requested.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            asked.cancel();
        });
    }

    /// Runs the objects through a dispatcher; the outcomes by object, in the order they were recorded.
    pub(crate) async fn through(self, objects: Vec<ObjectId>) -> (DispatchOutcome, Vec<(ObjectId, TaskOutcome)>) {
        let (total, book) = (objects.len() as u64, self.book.clone());
        let ended = self.go(rows(&objects), total, DispatchStart::default()).await;
        let outcomes = std::mem::take(&mut book.written().outcomes);
        (ended, outcomes)
    }

    /// Runs those of a job's rows that are not settled.
    pub(crate) async fn resume(self, objects: &[ObjectId], start: DispatchStart) -> DispatchOutcome {
        let left = rows(objects).into_iter().filter(|task| !start.frontier.is_settled(task.id)).collect();
        self.go(left, objects.len() as u64, start).await
    }

    /// Runs these rows of a job that has so many.
    pub(crate) async fn go(mut self, rows: Vec<Task>, total: u64, start: DispatchStart) -> DispatchOutcome {
        let (sender, batches) = Dispatcher::batch_channel();
        let breaks = self.breaks.take();
        tokio::spawn(async move {
            for batch in rows.chunks(100) {
                if sender.send(Ok(batch.to_vec())).await.is_err() {
                    return;
                }
            }
            if let Some(error) = breaks {
                let _ = sender.send(Err(error)).await;
            }
        });
        let allowance = JobQuota::new(self.concurrency, self.requests_per_second);
        let worker = Worker::new(
            self.store,
            OperationSet::new(self.operations).with_capture(self.captures.is_some()),
            Throttle::new(allowance.clone()),
            self.policy,
            self.stop.requested.clone(),
        );
        let worker = match &self.captures {
            None => worker,
            Some(captures) => {
                let writer = CaptureWriter::open(&captures.folder).expect("opened");
                let (worker, task) = worker.with_capture(writer, captures.may_be_missing);
                captures.writing.lock().expect("not poisoned").push(task);
                worker
            }
        };
        let bounds = DispatchLimits {
            quota: allowance,
            failure_threshold: FailureThreshold::new(self.share),
            checkpoint_policy: self.rhythm,
        };
        Dispatcher::new(worker, bounds, total, start, self.stop, &mut self.book).run(batches).await
    }
}

//! The interface through which the dispatcher records a running job.

use std::future::Future;
use std::io;
use std::pin::Pin;

use batchplan_store::object::ObjectId;
use batchplan_store::task::{TaskId, TaskOutcome};

use crate::frontier::RowFrontier;
use crate::job::Progress;
use crate::journal::JournalError;

/// A job's progress at one moment.
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
    #[error("the report cannot be written: {0}")]
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

    /// Called about twice a second with the job's progress, and once at the end.
    fn observe(&mut self, snapshot: ProgressSnapshot);
}

//! Where a running job is written down.

use std::future::Future;
use std::io;
use std::pin::Pin;

use crate::frontier::Frontier;
use crate::job::Progress;
use crate::journal::JournalError;
use crate::object::ObjectId;
use crate::task::{Outcome, Seq};

/// Where a job stands.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// The counts.
    pub progress: Progress,
    /// Objects that may be changed without an outcome, if nothing more is recorded.
    pub in_doubt: u64,
    /// How many of the remaining rows may have started by then, counted in the order they are worked on.
    pub reach: u64,
    /// The first row that was not taken up.
    pub taken: Option<Seq>,
    /// Whether the job is being stopped.
    pub stopping: bool,
}

/// Why a checkpoint was not made. What was recorded before stays true.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The report's files cannot be written.
    #[error("the report cannot be written: {0}")]
    Report(#[from] io::Error),
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A checkpoint on its way to the disk. It is over once this is ready.
pub type Pending = Pin<Box<dyn Future<Output = Result<(), CheckpointError>> + Send>>;

/// What the dispatcher tells of a job while it runs.
pub trait Book {
    /// Notes an outcome; each is given exactly once.
    ///
    /// # Errors
    /// When it cannot be written; it is then not noted.
    fn record(&mut self, object: &ObjectId, outcome: &Outcome) -> io::Result<()>;

    /// Begins to make everything that was noted so far survive the machine. The frontier's changes that it takes and
    /// cannot keep are its to put back when it is asked again.
    fn checkpoint(&mut self, snapshot: Snapshot, frontier: &mut Frontier) -> Pending;

    /// Is told about twice a second where the job stands, and at the end.
    fn observe(&mut self, snapshot: Snapshot);
}

//! The tasks of a job: the position of an object in the manifest, and the outcome of its task.

use crate::object::ObjectId;

pub use crate::error::{FaultClass, StoreError};

/// The position of a row in the frozen manifest. It identifies the task in checkpoints and reports. Rows are
/// processed in the order of their positions. For a large manifest this differs from the order of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// The index of the manifest's file, starting at 0. For a large manifest, the index of the run of four million
    /// positions.
    pub part: u32,
    /// The index of the row within the part, starting at 0.
    pub row: u32,
}

/// One row of the manifest that is to be processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The position of the row in the manifest.
    pub id: TaskId,
    /// The object to change.
    pub object: ObjectId,
    /// Why no request can name the object, so that its task fails without one. `None` for all other objects. The name
    /// in `object` may then differ from the object's own.
    pub unlistable: Option<Box<str>>,
    /// Which captures the row restores; `None` unless the job is an undo.
    pub origin: Option<RowOrigin>,
}

/// What an undo needs to know of a row: what the object was like, and what the job that is undone made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowOrigin {
    /// The row of the job that is undone, with what was captured of the object.
    pub row: TaskId,
    /// If that job is itself an undo, its own row's origin: what was captured there is what it made of the object.
    pub made_by: Option<TaskId>,
}

/// The error code of a task whose object no request can name.
pub const UNLISTABLE_KEY: &str = "UnlistableKey";

/// The final result of a task. Each task has exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskOutcome {
    /// All operations are satisfied.
    Succeeded {
        /// The HTTP status of the last response.
        status: u16,
    },
    /// An operation failed.
    Failed(TaskFailure),
}

/// The operation that failed on an object, and the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFailure {
    /// The name of the operation, as in the plan file. Operations that share a request are joined with `+`.
    pub operation: String,
    /// The error.
    pub error: StoreError,
}

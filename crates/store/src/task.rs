//! The tasks of a job: the position of an object in the manifest, the outcome of its task, and the errors.

use std::fmt;
use std::num::NonZeroU16;

use jiff::Timestamp;

use crate::object::ObjectId;
use crate::object_request::ObjectHeaderSet;

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
}

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

/// What the caller must do after a failed request. The store that sees the error decides this, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultClass {
    /// The server asks for fewer requests: wait, then retry.
    Throttled,
    /// The server or the network had a brief failure and the request was not executed: retry.
    Transient,
    /// There was no response, so the request may have been executed. Check the state before repeating a request that
    /// is not repeatable.
    Ambiguous,
    /// The current state of the object does not allow the request (409): check the state once.
    Conflict,
    /// Final for this object: not found, access denied, or an invalid request.
    Rejected,
    /// The credentials are expired or were rejected. Every request fails until they are renewed.
    Credentials,
}

impl FaultClass {
    /// Returns whether the same request may succeed later. The caller must take into account that an ambiguous
    /// request may already have been executed.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Throttled | Self::Transient | Self::Ambiguous => true,
            Self::Conflict | Self::Rejected | Self::Credentials => false,
        }
    }
}

/// A request that failed, with the server's own code and message if it sent any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// What the caller must do.
    pub class: FaultClass,
    /// The HTTP status, or `None` if there was no response.
    pub status: Option<u16>,
    /// The server's error code (`AccessDenied`), or a code of this program in the same style (`RequestTimeout`,
    /// `TooManyTags`).
    pub code: String,
    /// A readable explanation, one sentence.
    pub message: String,
    /// The server's ID of the request. Empty if there was no response.
    pub request_id: String,
    /// The detailed error code of OSS (`0003-00000001`). Empty for other stores.
    pub ec: String,
    /// The method and the URL without its secrets, as in OSS reports: `PUT http://host/bucket/key?tagging`.
    pub endpoint: String,
    /// The time at which the request failed.
    pub at: Timestamp,
    /// The number of seconds that the server asks the client to wait (`Retry-After`). Not written to reports.
    pub retry_after: Option<NonZeroU16>,
    /// The object headers in the response. Not written to reports.
    pub headers: ObjectHeaderSet,
}

impl StoreError {
    /// Creates the error of a request that got no response or was never sent.
    #[must_use]
    pub fn without_response(class: FaultClass, code: &str, message: &str, endpoint: String) -> Self {
        Self {
            class,
            status: None,
            code: code.to_owned(),
            message: message.to_owned(),
            request_id: String::new(),
            ec: String::new(),
            endpoint,
            at: Timestamp::now(),
            retry_after: None,
            headers: ObjectHeaderSet::default(),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} {}: {}", status, self.code, self.message),
            None => write!(f, "{}: {}", self.code, self.message),
        }
    }
}

impl std::error::Error for StoreError {}

//! One object's way through a job: where it stands in the manifest, what became of it, and why it failed.

use std::fmt;
use std::num::NonZeroU16;

use jiff::Timestamp;

use crate::call::ObjectHeaders;
use crate::object::ObjectId;

/// A row's place in the frozen manifest: the name under which its progress is known. Rows are taken up in the order of
/// their places, which for a large manifest is not that of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq {
    /// The manifest's file, from 0; of a large manifest, the run of four million places, from 0.
    pub part: u32,
    /// The row within it, from 0.
    pub row: u32,
}

/// One row of the manifest, to be worked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Where it stands.
    pub seq: Seq,
    /// What it is about.
    pub object: ObjectId,
}

/// What became of a task. Final: a task has exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every operation holds; the status is the last answer's.
    Succeeded {
        /// The HTTP status that the server sent.
        status: u16,
    },
    /// An operation does not hold.
    Failed(Failure),
}

/// Which operation failed on an object, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The operation's name as in the plan file; several that share a request are joined by `+`.
    pub operation: String,
    /// Why.
    pub fault: Fault,
}

/// What the caller must do about a fault. Decided once, in the store that saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultClass {
    /// The server asks for less: wait, then send again.
    Throttled,
    /// The server or the network hiccuped and the request was not carried out: send again.
    Transient,
    /// No answer came, so it may have been carried out: look before a request that is not repeatable.
    Ambiguous,
    /// The object's state forbids it just now (409): look once.
    Conflict,
    /// Final for this object: missing, denied, or not acceptable.
    Rejected,
    /// The credentials are expired or refused: no request will fare better until somebody renews them.
    Credentials,
}

impl FaultClass {
    /// Whether the same request may fare better later. That an ambiguous one may have been carried out is for whoever
    /// repeats it to consider.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Self::Throttled | Self::Transient | Self::Ambiguous => true,
            Self::Conflict | Self::Rejected | Self::Credentials => false,
        }
    }
}

/// A request that did not succeed, in the server's own words where it sent any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the caller must do.
    pub class: FaultClass,
    /// The HTTP status; `None` when no answer came.
    pub status: Option<u16>,
    /// The server's error code (`AccessDenied`), or ours in the same manner (`RequestTimeout`, `TooManyTags`).
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The server's id of the request; empty when no answer came.
    pub request_id: String,
    /// OSS's finer error code (`0003-00000001`); empty elsewhere.
    pub ec: String,
    /// Method and URL without its secrets, as in OSS reports: `PUT http://host/bucket/key?tagging`.
    pub endpoint: String,
    /// When it was seen.
    pub at: Timestamp,
    /// Seconds that the server wants to be left alone for, where it says so (`Retry-After`). In no report.
    pub retry_after: Option<NonZeroU16>,
    /// Which headers of an object itself the answer had. In no report.
    pub headers: ObjectHeaders,
}

impl Fault {
    /// A fault of a request that no answer came to, or that never left.
    #[must_use]
    pub fn unanswered(class: FaultClass, code: &str, message: &str, endpoint: String) -> Self {
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
            headers: ObjectHeaders::default(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} {}: {}", status, self.code, self.message),
            None => write!(f, "{}: {}", self.code, self.message),
        }
    }
}

impl std::error::Error for Fault {}

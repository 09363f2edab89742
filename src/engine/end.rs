//! Why work on a job ended.

use std::io;

use tokio::task::JoinError;

use super::book::CheckpointError;
use super::server_check::ServerRefusal;
use crate::manifest::ManifestError;
use crate::task::Fault;

/// Why dispatching ended. The later ones count for more: a job that breaks while it is asked to stop has broken.
#[derive(Debug)]
pub enum End {
    /// Every row is settled.
    Finished,
    /// It was asked to stop.
    Asked,
    /// The service refuses the credentials.
    Refused(Box<Fault>),
    /// More objects failed than may.
    TooManyFailed,
    /// The server does not do what it is asked, and nothing else.
    Untrusted(Box<ServerRefusal>),
    /// Something of this machine failed.
    Broken(EngineError),
}

impl End {
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::Asked => 1,
            Self::Refused(_) => 2,
            Self::TooManyFailed => 3,
            Self::Untrusted(_) => 4,
            Self::Broken(_) => 5,
        }
    }
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
    /// A checkpoint cannot be made.
    #[error("{0}")]
    Checkpoint(#[source] CheckpointError),
    /// What the server has shown cannot be recorded.
    #[error("{0}")]
    Unrecorded(String),
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

//! Why work on a job stopped.

use std::io;

use tokio::task::JoinError;

use super::book::CheckpointError;
use super::server_check::ServerRefusal;
use crate::manifest::ManifestError;
use crate::task::Fault;

/// Why dispatching stopped, in order of severity: if several apply, the most severe is reported.
#[derive(Debug)]
pub enum End {
    /// Every row is finished.
    Finished,
    /// A stop was requested.
    Asked,
    /// The service rejected the credentials.
    Refused(Box<Fault>),
    /// More objects failed than the failure threshold allows.
    TooManyFailed,
    /// The server check failed: the server does not do exactly what a request asks.
    Untrusted(Box<ServerRefusal>),
    /// Something on this machine failed.
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

/// Why dispatching cannot continue. Everything recorded before stays valid.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The frozen manifest cannot be read.
    #[error("the frozen manifest cannot be read: {0}")]
    Manifest(#[source] ManifestError),
    /// An outcome cannot be written to the report.
    #[error("the report cannot be written: {0}")]
    Report(#[source] io::Error),
    /// A checkpoint cannot be written.
    #[error("{0}")]
    Checkpoint(#[source] CheckpointError),
    /// A result of the server check cannot be recorded.
    #[error("{0}")]
    Unrecorded(String),
    /// A worker task panicked.
    #[error("a worker died: {0}")]
    Worker(#[source] JoinError),
    /// The frozen manifest ended before its last row.
    #[error("the frozen manifest ended after {settled} of its {total} rows")]
    RowsMissing {
        /// The number of rows that are finished.
        settled: u64,
        /// The number of rows that the manifest declares.
        total: u64,
    },
}

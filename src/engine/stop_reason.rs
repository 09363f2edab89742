//! Why work on a job stopped.

use std::io;

use batchplan_store::task::StoreError;
use tokio::task::JoinError;

use super::outcome_sink::CheckpointError;
use super::server_check::ServerCheckFailure;
use crate::manifest::ManifestError;

/// Why dispatching stopped, in order of severity: if several apply, the most severe is reported.
#[derive(Debug)]
pub enum StopReason {
    /// Every row is finished.
    Finished,
    /// A stop was requested.
    StopRequested,
    /// The service rejected the credentials.
    CredentialsRejected(Box<StoreError>),
    /// More objects failed than the failure threshold allows.
    FailureThreshold,
    /// The server check failed: the server does not do exactly what a request asks.
    ServerUntrusted(Box<ServerCheckFailure>),
    /// Something on this machine failed.
    InternalError(EngineError),
}

impl StopReason {
    pub(super) fn severity(&self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::StopRequested => 1,
            Self::CredentialsRejected(_) => 2,
            Self::FailureThreshold => 3,
            Self::ServerUntrusted(_) => 4,
            Self::InternalError(_) => 5,
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
    ServerCheckNotRecorded(String),
    /// A worker task panicked.
    #[error("a worker failed: {0}")]
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

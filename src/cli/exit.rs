//! The exit codes: a public, stable interface. Scripts and workflows branch on them.

use super::CommandError;
use crate::job::JobStatus;
use crate::jobs::JobError;
use crate::journal::{JobRecord, JournalError, LeaseError, PauseCause};
use crate::manifest::ManifestError;

/// The exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Success: every object succeeded, or there was nothing to do.
    Success = 0,
    /// The tool itself failed: for example, it could not write a file, reach a store, or publish a report.
    ToolFailed = 1,
    /// The plan or the command line is not valid, or names a job that does not exist.
    Invalid = 2,
    /// The job is Complete, but some objects failed.
    ObjectsFailed = 3,
    /// The job Failed: its manifest could not be resolved, or too many objects failed.
    JobFailed = 4,
    /// Paused or interrupted: the job can be resumed.
    Interrupted = 5,
    /// Refused: no confirmation, a changed plan or manifest, unexpected or too many objects, a lock, a status change
    /// that is not allowed, a missing permission that the plan needs, or a server that does not do what it is asked.
    Refused = 6,
    /// Cancelled, at the confirmation or later.
    Cancelled = 7,
    /// `plan --detailed-exitcode`: something would change or fail, or cannot be determined.
    Changes = 10,
}

impl ExitStatus {
    /// Returns the exit code for the status of a job.
    pub(super) fn of(job: &JobRecord) -> Self {
        match (job.status, job.progress.failed) {
            (JobStatus::Failed, _) => Self::JobFailed,
            (JobStatus::Cancelled, _) => Self::Cancelled,
            (JobStatus::Complete, 0) => Self::Success,
            (JobStatus::Complete, _) => Self::ObjectsFailed,
            (JobStatus::Paused, _) if job.pause_cause == Some(PauseCause::Server) => Self::Refused,
            _ => Self::Interrupted,
        }
    }

    /// Returns the exit code for a journal error.
    pub(super) fn of_journal_error(error: &JournalError) -> Self {
        match error {
            JournalError::Locked { .. }
            | JournalError::NewerFormat { .. }
            | JournalError::IllegalStatusMove { .. }
            | JournalError::QueueFull(_) => Self::Refused,
            JournalError::NoSuchJob(_) | JournalError::AmbiguousId { .. } => Self::Invalid,
            _ => Self::ToolFailed,
        }
    }
}

impl From<ExitStatus> for std::process::ExitCode {
    fn from(exit: ExitStatus) -> Self {
        Self::from(exit as u8)
    }
}

impl From<JobError> for CommandError {
    fn from(error: JobError) -> Self {
        let error = match error {
            JobError::Connect(error) => return Self::from(error),
            error => error,
        };
        let exit = match &error {
            JobError::Lease { cause: LeaseError::Held(_), .. }
            | JobError::PlanChanged { .. }
            | JobError::SourceChanged { .. }
            | JobError::WrongStatus { .. }
            | JobError::Manifest(ManifestError::TooManyObjects { .. })
            | JobError::OtherSavedPlan { .. }
            | JobError::SavedPlanOutdated(_)
            | JobError::TooExpensive(_)
            | JobError::Untrusted { .. }
            | JobError::ReportUnpublished(_)
            | JobError::NeededByPlan { .. } => ExitStatus::Refused,
            JobError::Journal(error) => ExitStatus::of_journal_error(error),
            JobError::Manifest(ManifestError::Stopped) => ExitStatus::Interrupted,
            JobError::Prices(_) => ExitStatus::Invalid,
            JobError::Manifest(_)
            | JobError::CredentialsRejected(_)
            | JobError::Connect(_)
            | JobError::StoredPlan { .. }
            | JobError::Report(_)
            | JobError::Lease { cause: LeaseError::Io(_), .. }
            | JobError::Io(_) => ExitStatus::ToolFailed,
        };
        Self { exit, message: error.to_string(), help: error.help() }
    }
}

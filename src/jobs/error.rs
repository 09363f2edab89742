//! Errors of creating, running and controlling jobs.

use std::io;

use batchplan_store::error_code::credentials_expired;
use batchplan_store::task::StoreError;

use super::hints::hint;
use crate::connect::ConnectError;
use crate::engine::ReportError;
use crate::estimate::{CostLimitError, PriceBookError};
use crate::hint::{Hint, command, hint};
use crate::job::{JobId, JobStatus};
use crate::journal::{JournalError, LeaseError};
use crate::manifest::{ManifestError, SourceChangedError};
use crate::open_files;
use crate::plan::PlanChange;

/// An error of creating, running or controlling a job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The lease on the job cannot be taken.
    #[error("cannot lock job {job}: {cause}")]
    Lease {
        /// The job whose lease was requested.
        job: JobId,
        /// Why the lease cannot be taken.
        cause: LeaseError,
    },
    /// There is an unfinished job for the same work, but with a different plan.
    #[error("the plan has changed since job {job} was created")]
    PlanChanged {
        /// The existing job.
        job: JobId,
        /// The differences between the plans.
        changes: Vec<PlanChange>,
        /// Whether the job was created with the plan's client request token. A token always stands for one plan.
        token: bool,
    },
    /// This version does not accept the plan that is stored in the journal.
    #[error("the stored plan of job {job} is no longer valid: {what}")]
    StoredPlan {
        /// The job with this plan.
        job: JobId,
        /// What is wrong with the plan.
        what: String,
    },
    /// The source of the manifest has changed.
    #[error("cannot resume job {job}: {cause}")]
    SourceChanged {
        /// The job that was to be resumed.
        job: JobId,
        /// What changed.
        cause: Box<SourceChangedError>,
    },
    /// The manifest cannot be resolved, or the frozen manifest cannot be read.
    #[error("{0}")]
    Manifest(ManifestError),
    /// The report cannot be resumed or finished.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Connecting to the store failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A file cannot be used; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The job's status does not allow this command.
    #[error("job {job} is {status}: {why}")]
    WrongStatus {
        /// The job that the command was for.
        job: JobId,
        /// The status of the job.
        status: JobStatus,
        /// Why the status does not allow the command.
        why: &'static str,
    },
    /// The existing job for this work was not created from this saved plan, and it is unfinished or has the plan's
    /// client request token.
    #[error(
        "job {job} of the same plan is {}, and was not created from this saved plan",
        if *over { "over" } else { "unfinished" }
    )]
    OtherSavedPlan {
        /// The existing job.
        job: JobId,
        /// Whether that job is over.
        over: bool,
    },
    /// The job would cost more than its plan allows, or its cost is unknown.
    #[error(transparent)]
    TooExpensive(Box<CostLimitError>),
    /// The prices cannot be determined.
    #[error(transparent)]
    Prices(#[from] PriceBookError),
    /// The service rejected the credentials when the sample of objects was read.
    #[error("the service rejected the credentials: {0}")]
    CredentialsRejected(Box<StoreError>),
    /// The server is not trusted.
    #[error("{}{why}", job.as_ref().map_or_else(String::new, |job| format!("cannot resume job {job}: ")))]
    Untrusted {
        /// The job, if it is refused because of what it recorded about the server earlier.
        job: Option<JobId>,
        /// What the server did.
        why: String,
        /// What the user can do.
        help: Hint,
    },
    /// The manifest no longer matches the saved plan.
    #[error("the manifest has changed since the plan was saved: {0}; nothing was changed, and the new job was removed")]
    SavedPlanOutdated(String),
    /// The report of the job is not published yet, and would be lost.
    #[error("the report of job {0} is not published yet")]
    ReportUnpublished(JobId),
    /// The next job of the plan depends on this job.
    #[error("job {job} is the last one that its plan completed: without it, {cost}")]
    NeededByPlan {
        /// The job that was to be deleted.
        job: JobId,
        /// What the plan loses with the job.
        cost: String,
    },
}

impl JobError {
    /// Returns whether the user can fix the cause without changing the manifest, on this machine or with new
    /// credentials. What was read of the manifest is kept, and a client request token still stands for work that can be
    /// done.
    pub(super) fn is_fixable_here(&self) -> bool {
        match self {
            // Expired credentials can be replaced.
            Self::Manifest(error) if error.fault().is_some_and(|fault| credentials_expired(&fault.code)) => true,
            Self::Manifest(error) => matches!(
                error,
                ManifestError::Disk { .. }
                    | ManifestError::TooLarge { .. }
                    | ManifestError::ProbablyTooLarge { .. }
                    | ManifestError::ComparisonTooLarge { .. }
                    | ManifestError::TooManyObjects { .. }
            ),
            // The job to be retried is gone for good.
            Self::Journal(error) => !matches!(error, JournalError::NoSuchJob(_)),
            Self::Io(_) => true,
            _ => false,
        }
    }

    fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Lease { cause: LeaseError::Io(error), .. }
            | Self::Io(error)
            | Self::Report(ReportError::Io(error)) => Some(error),
            _ => None,
        }
    }

    /// Returns what the user can do about it, if that is known.
    #[must_use]
    pub fn help(&self) -> Option<Hint> {
        if self.io_error().is_some_and(open_files::is_exhausted) {
            return Some(open_files::HELP.into());
        }
        Some(match self {
            Self::Journal(error) | Self::Report(ReportError::Journal(error)) => return error.help(),
            Self::Lease { job, cause: LeaseError::Held(_) } => command!("show", job, "--watch").into(),
            Self::Lease { cause: LeaseError::Io(_), .. } => {
                "nothing was changed; check the disk and its permissions, then run the command again".into()
            }
            Self::PlanChanged { job, changes, token } => changed_plan_hint(job, changes, *token),
            Self::StoredPlan { job, .. } => {
                hint!("use the version of batchplan that created the job, or cancel it: {}", command!("cancel", job))
            }
            Self::SourceChanged { job, .. } => hint!(
                "resume with the frozen manifest ({}), or cancel the job ({}) and apply the plan again",
                command!("resume", job, "--frozen-manifest"),
                command!("cancel", job)
            ),
            // What was read is kept. The caller names the command that resumes the job.
            Self::Manifest(error) if error.fault().is_some_and(|fault| credentials_expired(&fault.code)) => {
                return None;
            }
            Self::Manifest(error) => return error.help().map(Hint::from),
            Self::Report(_) => hint!(
                "restore the job's folder from a backup, or delete the job with its report ({}, then {}) and apply the \
                 plan again",
                command!("cancel", "JOB"),
                command!("delete", "JOB", "--force")
            ),
            Self::WrongStatus { job, .. } => command!("show", job).into(),
            Self::OtherSavedPlan { over: true, .. } => {
                "a client request token identifies one job: set another one in the plan, and save it again".into()
            }
            Self::OtherSavedPlan { job, .. } => hint!(
                "resume that job ({}), cancel it ({}), or leave it and create another one (--new)",
                command!("resume", job),
                command!("cancel", job)
            ),
            Self::TooExpensive(refusal) => refusal.help().into(),
            Self::Prices(error) => error.help().into(),
            Self::CredentialsRejected(fault) => {
                return hint(&fault.code, fault.status.unwrap_or_default()).map(Hint::from);
            }
            Self::Untrusted { help, .. } => help.clone(),
            Self::SavedPlanOutdated(_) => {
                hint!("review the plan and save it again: {}", command!("plan", "PLAN", "--out", "FILE"))
            }
            Self::ReportUnpublished(job) => hint!(
                "publish it first: {}; or delete it anyway: {}",
                command!("publish", job),
                command!("delete", job, "--force")
            ),
            Self::NeededByPlan { job, .. } => {
                hint!("keep it, or delete it anyway: {}", command!("delete", job, "--force"))
            }
            Self::Connect(_) | Self::Io(_) => return None,
        })
    }
}

/// Returns the changes of a plan, and what to do about the job of the earlier plan.
fn changed_plan_hint(job: &JobId, changes: &[PlanChange], token: bool) -> Hint {
    let way_out = if token {
        "a client request token identifies one plan: set another one in the changed plan".into()
    } else {
        hint!(
            "resume with the stored plan ({}), cancel the job ({}), or leave it and create another one ({})",
            command!("resume", job, "--stored-plan"),
            command!("cancel", job),
            command!("apply", "PLAN", "--new")
        )
    };
    let changes = changes.iter().fold(Hint::default(), |hint, change| hint.append(format!("{change}\n        ")));
    changes.append(way_out)
}

impl From<ManifestError> for JobError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

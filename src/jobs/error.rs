//! Why a job cannot be created, gone on with, or told what to do.

use std::io;

use super::advice::has_run_out;
use crate::descriptors;
use crate::engine::ReportError;
use crate::estimate::{BookError, CostRefusal};
use crate::job::{JobId, JobStatus};
use crate::journal::{JournalError, LeaseError};
use crate::manifest::{ManifestError, PinBroken};
use crate::plan::Change;
use crate::store::ConnectError;
use crate::task::Fault;

/// Why a job cannot be created, gone on with, or told what to do.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The journal does not play along.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Somebody else works on it.
    #[error("job {job} cannot be worked on: {cause}")]
    Lease {
        /// The job.
        job: JobId,
        /// Why.
        cause: LeaseError,
    },
    /// The work has an unfinished job of another plan.
    #[error("the plan has changed since job {job} was made of it")]
    PlanChanged {
        /// The job.
        job: JobId,
        /// What differs.
        changes: Vec<Change>,
        /// Whether the job was made by the plan's token, which stands for one plan for ever.
        token: bool,
    },
    /// The plan in the journal is not one that this version accepts.
    #[error("the plan that job {job} was made of is not accepted any more: {what}")]
    StoredPlan {
        /// The job.
        job: JobId,
        /// What is wrong with it.
        what: String,
    },
    /// What the manifest was made from is not what it was.
    #[error("job {job} cannot go on as it was begun: {cause}")]
    Pin {
        /// The job.
        job: JobId,
        /// What changed.
        cause: Box<PinBroken>,
    },
    /// The manifest cannot be resolved, or what was frozen of it cannot be read.
    #[error("{0}")]
    Manifest(ManifestError),
    /// The report cannot be gone on with or finished.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The store cannot be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A file cannot be used; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The job stands where this cannot be done.
    #[error("job {job} is {status}: {why}")]
    NotNow {
        /// The job.
        job: JobId,
        /// Where it stands.
        status: JobStatus,
        /// Why that is in the way.
        why: &'static str,
    },
    /// The work has a job that is of no saved plan, or of another one, and is not over or has the plan's token.
    #[error("job {job} of the same plan is {}, and was not made of this saved plan", if *over { "over" } else { "not over" })]
    OtherPledge {
        /// The job.
        job: JobId,
        /// Whether it is over.
        over: bool,
    },
    /// It would cost more than its plan allows, or nobody can tell.
    #[error(transparent)]
    TooDear(Box<CostRefusal>),
    /// Its prices cannot be told.
    #[error(transparent)]
    Prices(#[from] BookError),
    /// Its objects cannot be looked at.
    #[error("the service refuses the credentials: {0}")]
    Unseen(Box<Fault>),
    /// Its server is not trusted.
    #[error("{}{why}", job.as_ref().map_or_else(String::new, |job| format!("job {job} is not resumed: ")))]
    Untrusted {
        /// The job, where it is refused because of what it has seen before.
        job: Option<JobId>,
        /// What the server did.
        why: String,
        /// What to do.
        help: String,
    },
    /// What a saved plan was made of is not what it was.
    #[error(
        "the manifest is not what it was when the plan was saved: {0}; nothing was changed, and its job is withdrawn"
    )]
    Stale(String),
    /// The job's report is not where the plan wants it, and would be lost.
    #[error("the report of job {0} was not published yet")]
    Unpublished(JobId),
    /// The plan's next job goes by it.
    #[error("job {job} is the last that its plan has completed: without it {cost}")]
    Needed {
        /// The job.
        job: JobId,
        /// What it costs to be without it.
        cost: String,
    },
}

impl JobError {
    /// Whether it can be seen to here, whatever the manifest is: what was read of that is kept, and a token still stands for
    /// work that can be done.
    pub(super) fn is_of_this_machine(&self) -> bool {
        match self {
            // Credentials that served until now and do so no more: others may.
            Self::Manifest(error) if error.fault().is_some_and(has_run_out) => true,
            Self::Manifest(error) => matches!(
                error,
                ManifestError::Disk { .. }
                    | ManifestError::TooLarge { .. }
                    | ManifestError::TooLargeAhead { .. }
                    | ManifestError::NoRoomToCompare { .. }
                    | ManifestError::TooMany { .. }
            ),
            // The job that is to be retried is gone, and stays so.
            Self::Journal(error) => !matches!(error, JournalError::NoSuchJob(_)),
            Self::Io(_) => true,
            _ => false,
        }
    }

    /// What to do about it, where that is known.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Journal(error) | Self::Report(ReportError::Journal(error)) => return error.help(),
            Self::Lease { job, cause: LeaseError::Held(_) } => format!("batchplan show {job} --watch"),
            Self::Lease { cause: LeaseError::Io(error), .. } | Self::Io(error) | Self::Report(ReportError::Io(error))
                if descriptors::are_used_up(error) =>
            {
                descriptors::HELP.to_owned()
            }
            Self::Lease { cause: LeaseError::Io(_), .. } => {
                "nothing was changed; see to the disk and its permissions, then give the same command again".to_owned()
            }
            Self::PlanChanged { job, changes, token } => {
                let mut lines: Vec<_> = changes.iter().map(|change| format!("{change}")).collect();
                lines.push(if *token {
                    "a client request token stands for one plan: give the changed plan another one".to_owned()
                } else {
                    format!(
                        "go on with the plan as it was (batchplan resume {job} --stored-plan), give the job up \
                         (batchplan cancel {job}), or leave it and start afresh (batchplan apply PLAN --new)"
                    )
                });
                lines.join("\n        ")
            }
            Self::StoredPlan { job, .. } => format!("use the batchplan that made it, or give it up: batchplan cancel {job}"),
            Self::Pin { job, .. } => format!(
                "go on with the objects as they were frozen (batchplan resume {job} --frozen-manifest), or give the job up \
                 (batchplan cancel {job}) and apply the plan again"
            ),
            // What was read is kept: whoever tells it names the command that goes on.
            Self::Manifest(error) if error.fault().is_some_and(has_run_out) => return None,
            Self::Manifest(error) => return error.help(),
            Self::Report(_) => {
                "restore the job's folder from a backup, or lose what is left of the job's report (batchplan cancel, then \
                 batchplan delete --force) and apply the plan again"
                    .to_owned()
            }
            Self::NotNow { job, .. } => format!("batchplan show {job}"),
            Self::OtherPledge { over: true, .. } => {
                "a client request token stands for one job: give the plan another one, and save it anew".to_owned()
            }
            Self::OtherPledge { job, .. } => format!(
                "go on with that job (batchplan resume {job}), give it up (batchplan cancel {job}), or leave it and start \
                 afresh (--new)"
            ),
            Self::TooDear(refusal) => refusal.help(),
            Self::Prices(error) => error.help(),
            Self::Unseen(fault) => {
                return super::advice(&fault.code, fault.status.unwrap_or_default()).map(str::to_owned);
            }
            Self::Untrusted { help, .. } => help.clone(),
            Self::Stale(_) => "look at it again, and save it anew: batchplan plan PLAN --out FILE".to_owned(),
            Self::Unpublished(job) => format!("send it first: batchplan publish {job}; or lose it: batchplan delete {job} --force"),
            Self::Needed { job, .. } => format!("keep it, or delete it all the same: batchplan delete {job} --force"),
            Self::Connect(_) | Self::Io(_) => return None,
        })
    }
}

impl From<ManifestError> for JobError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

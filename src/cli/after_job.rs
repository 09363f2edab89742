//! What is still to be said when a job has been worked on, and all is not as it should be.

use super::{Error, Exit};
use crate::job::JobStatus;
use crate::jobs::{Delivered, after_distrust};
use crate::journal::{JobRecord, Journal, PauseCause, ServerTrust};

/// What is said of a job that is paused because its server is not trusted.
pub(super) fn untrusted(journal: &Journal, job: &JobRecord) -> Option<Error> {
    let why =
        job.reason.as_ref().filter(|_| job.status == JobStatus::Paused && job.cause == Some(PauseCause::Server))?;
    let verdicts = journal.server_verdicts(job.number).unwrap_or_default();
    let after_write = verdicts.iter().any(|verdict| matches!(verdict.trust, ServerTrust::Refused(_)));
    Some(Error::new(Exit::Refused, why.clone()).help(after_distrust(&job.id, after_write, why)))
}

/// What is said of a report that is complete and not where the plan wants it.
pub(super) fn undelivered(delivered: &Delivered, job: &JobRecord, state_flag: &str) -> Option<Error> {
    let (exit, why) = match delivered {
        Delivered::Refused(error) => (Exit::ToolFailed, error.to_string()),
        Delivered::Interrupted => (Exit::Interrupted, "stopped".to_owned()),
        Delivered::Kept | Delivered::Published | Delivered::Nothing => return None,
    };
    let command = format!("batchplan publish {}{state_flag}", job.id);
    let error = Error::new(exit, format!("the report is complete but could not be published: {why}"));
    Some(error.help(format!("it is kept with the job; send it again: {command}")))
}

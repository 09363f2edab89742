//! Errors and warnings to report after a job has run.

use super::summary::objects;
use super::{Error, Exit};
use crate::engine::{CONTENT_CHANGED, SERVER_CHECK_FAILED};
use crate::job::JobStatus;
use crate::jobs::{Delivered, after_distrust, describe};
use crate::journal::{ErrorCode, JobRecord, Journal, PauseCause, ServerTrust};

/// Returns the error to report for a job that is paused because its server is not trusted.
pub(super) fn untrusted(journal: &Journal, job: &JobRecord) -> Option<Error> {
    let why =
        job.reason.as_ref().filter(|_| job.status == JobStatus::Paused && job.cause == Some(PauseCause::Server))?;
    let verdicts = journal.server_verdicts(job.number).unwrap_or_default();
    let after_write = verdicts.iter().any(|verdict| matches!(verdict.trust, ServerTrust::Refused(_)));
    Some(Error::new(Exit::Refused, why.clone()).help(after_distrust(&job.id, after_write, why)))
}

/// Returns the number of failed objects of a job that the server may have damaged.
///
/// # Errors
/// Returns an error if the job cannot be read.
pub(super) fn harmed(journal: &Journal, job: &JobRecord) -> Result<u64, Error> {
    if job.progress.failed == 0 {
        return Ok(0);
    }
    let is_harm = |code: &ErrorCode| [SERVER_CHECK_FAILED, CONTENT_CHANGED].contains(&code.code.as_str());
    let failures = describe(journal, &job.id)?.failures;
    Ok(failures.iter().filter(|(code, _)| is_harm(code)).map(|(_, reason)| reason.count).sum())
}

/// Returns the warning for a job that ended although contents changed while they were written.
///
/// # Errors
/// Returns an error if the job cannot be read.
pub(super) fn changed(journal: &Journal, job: &JobRecord) -> Result<Option<String>, Error> {
    let harmed = harmed(journal, job)?;
    Ok((harmed > 0).then(|| {
        format!(
            "warning: contents changed while they were written ({}): before you retry, compare those of the other objects as \
             well with a copy or an older version",
            objects(harmed)
        )
    }))
}

/// Returns the error for a complete report that could not be published.
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

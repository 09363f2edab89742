//! Errors and warnings to report after a job has run.

use super::exit::{CommandError, ExitStatus};
use super::summary::format_objects;
use crate::engine::{CONTENT_CHANGED, SERVER_CHECK_FAILED};
use crate::job::JobStatus;
use crate::jobs::{PublishOutcome, describe, untrusted_pause_hint};
use crate::journal::{FailureCode, JobRecord, Journal, PauseCause, ServerTrust};

/// Returns the error to report for a job that is paused because its server is not trusted.
pub(super) fn untrusted_server_error(journal: &Journal, job: &JobRecord) -> Option<CommandError> {
    let why = job
        .reason
        .as_ref()
        .filter(|_| job.status == JobStatus::Paused && job.pause_cause == Some(PauseCause::Server))?;
    let verdicts = journal.server_verdicts(job.number).unwrap_or_default();
    let after_write = verdicts.iter().any(|verdict| matches!(verdict.trust, ServerTrust::Refused(_)));
    Some(CommandError::new(ExitStatus::Refused, why.clone()).help(untrusted_pause_hint(&job.id, after_write, why)))
}

/// Returns the number of failed objects of a job that the server may have damaged.
///
/// # Errors
/// Returns an error if the job cannot be read.
pub(super) fn count_damaged_objects(journal: &Journal, job: &JobRecord) -> Result<u64, CommandError> {
    if job.progress.failed == 0 {
        return Ok(0);
    }
    let is_harm = |code: &FailureCode| [SERVER_CHECK_FAILED, CONTENT_CHANGED].contains(&code.code.as_str());
    let failures = describe(journal, &job.id)?.failures;
    Ok(failures.iter().filter(|(code, _)| is_harm(code)).map(|(_, reason)| reason.count).sum())
}

/// Returns the warning for a job that ended although contents changed while they were written.
///
/// # Errors
/// Returns an error if the job cannot be read.
pub(super) fn damaged_content_warning(journal: &Journal, job: &JobRecord) -> Result<Option<String>, CommandError> {
    let harmed = count_damaged_objects(journal, job)?;
    Ok((harmed > 0).then(|| {
        format!(
            "warning: object contents changed during writes ({}): before you retry, also compare the contents of the other \
             objects with a copy or an older version",
            format_objects(harmed)
        )
    }))
}

/// Returns the error for a complete report that could not be published.
pub(super) fn unpublished_report_error(
    delivered: &PublishOutcome,
    job: &JobRecord,
    state_flag: &str,
) -> Option<CommandError> {
    let (exit, why) = match delivered {
        PublishOutcome::Failed(error) => (ExitStatus::ToolFailed, error.to_string()),
        PublishOutcome::Interrupted => (ExitStatus::Interrupted, "stopped".to_owned()),
        PublishOutcome::KeptLocally | PublishOutcome::Published | PublishOutcome::NoReport => return None,
    };
    let command = format!("batchplan publish {}{state_flag}", job.id);
    let error = CommandError::new(exit, format!("the report is complete but could not be published: {why}"));
    Some(error.help(format!("the report is kept with the job; publish it again: {command}")))
}

//! What a command says of a job: its result as JSON, errors and warnings after it has run, and the common arguments and
//! answer of commands that change an existing job.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::descriptions::format_objects;
use super::exit::{CommandError, ExitStatus};
use super::recurring;
use super::shown_command::next_command;
use super::state_location::{JournalAccess, JournalHandle, StateLocationArgs};
use super::terminal::{Terminal, escape_line};
use crate::engine::{CONTENT_CHANGED, SERVER_CHECK_FAILED};
use crate::job::{JobStatus, Progress};
use crate::jobs::{PublishOutcome, describe, find_presence, untrusted_pause_hint};
use crate::journal::{FailureCode, JobFolder, JobRecord, Journal, PauseCause, ServerTrust};

/// The arguments of a command that changes an existing job.
#[derive(Debug, clap::Args)]
pub(super) struct JobCommandArgs {
    /// The job's id, or a unique prefix of it
    job: String,
    /// Print the job as JSON on standard output
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl JobCommandArgs {
    /// Opens the journal to send a request to the process that runs the job, and finds the job.
    ///
    /// # Errors
    /// Returns an error if no job matches, or if several do.
    pub(super) fn open_job(&self, terminal: Terminal) -> Result<(JournalHandle, JobRecord), CommandError> {
        self.state.open_job(&self.job, JournalAccess::Request, terminal)
    }

    /// Prints the job's status and the next command.
    ///
    /// # Errors
    /// Returns an error if the job's lease cannot be read or standard output cannot be written.
    pub(super) fn print_status(
        &self,
        terminal: Terminal,
        journal: &JournalHandle,
        job: JobRecord,
    ) -> Result<(), CommandError> {
        let (job, presence) = find_presence(journal, job)?;
        let folder = JobFolder::of(journal.state_folder(), &job.id);
        let reason = job.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", escape_line(reason)));
        terminal.eprint(format_args!("job {} is {}{reason}", job.id, job.status));
        if let Some(next) = next_command(&job, &presence, &folder, &journal.flag()) {
            terminal.eprint(format_args!("next: {next}"));
        }
        self.print_json(terminal, &job, &folder)
    }

    /// Prints the job as JSON if requested.
    ///
    /// # Errors
    /// Returns an error if standard output cannot be written.
    pub(super) fn print_json(
        &self,
        terminal: Terminal,
        job: &JobRecord,
        folder: &JobFolder,
    ) -> Result<(), CommandError> {
        if self.json {
            terminal.print(job_result_json(job, &folder.report_folder(), None))?;
        }
        Ok(())
    }
}

/// Returns a job's result as JSON.
pub(super) fn job_result_json(job: &JobRecord, folder: &Path, took: Option<Duration>) -> serde_json::Value {
    let Progress { total, succeeded, failed } = job.progress;
    let mut result = json!({
        "job_id": job.id.as_str(),
        "name": job.name,
        "status": job.status,
        "reason": job.reason,
        "cause": job.pause_cause,
        "priority": job.priority,
        "total": total,
        "succeeded": succeeded,
        "failed": failed,
        "not_attempted": job.not_attempted(),
        "in_doubt": job.in_doubt,
        "report": job.report_location,
        "report_folder": folder,
        "elapsed_seconds": took.map(|took| took.as_secs_f64()),
    });
    if let Some(inventory) = recurring::job_json(job) {
        result["inventory"] = inventory;
    }
    result
}

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

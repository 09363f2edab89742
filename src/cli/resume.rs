//! `batchplan resume`: resumes a job where it stopped.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::job_session::{ConfirmationMode, JobRunArgs, JobSession};
use super::notifications;
use super::plan_input::{self, read_up_to};
use super::plan_rules::PlanRulesArgs;
use super::state::{JournalAccess, JournalHandle};
use super::state_location::StateLocationArgs;
use super::terminal::Terminal;
use crate::hint::{command, hint};
use crate::job::JobStatus;
use crate::jobs::{plan_to_resume, stored_plan};
use crate::journal::{JobRecord, JobSource};
use crate::paths::show_path;
use crate::plan::MAX_PLAN_BYTES;
use crate::plan_rules::PlanRules;

/// Resume a paused or interrupted job.
///
/// Reads the plan file again to apply changed limits. If anything else in the plan has changed, or the manifest's
/// source has, resume refuses and shows what.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan resume ODRi
  batchplan resume ODRi --stored-plan       # with the plan that the job was created from

Exit codes: as for apply.")]
pub(super) struct ResumeArgs {
    /// The job's ID, or a unique prefix of it
    job: String,
    /// Use the plan that the job was created from, even if its file has changed
    #[arg(long)]
    stored_plan: bool,
    /// Use the frozen manifest, even if its source has changed or is gone
    #[arg(long)]
    frozen_manifest: bool,
    /// Skip the confirmation prompt, if the job was never confirmed
    #[arg(long)]
    auto_approve: bool,
    #[command(flatten)]
    rules: PlanRulesArgs,
    #[command(flatten)]
    running: JobRunArgs,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl CliCommand for ResumeArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let rules = self.rules.load(terminal)?;
        let (journal, job) = self.state.open_job(&self.job, JournalAccess::Run, terminal)?;
        let ended = resume(self, rules, &journal, job, terminal);
        journal.close(ended)
    }
}

fn resume(
    args: &ResumeArgs,
    rules: Option<Arc<PlanRules>>,
    journal: &JournalHandle,
    job: JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    if job.status.is_over() {
        return Err(CommandError::new(
            ExitStatus::Refused,
            format!("job {} is {}: there is nothing to resume", job.id, job.status),
        )
        .code(ErrorCode::WrongJobStatus)
        .help(hint!("{}; to retry what failed: {}", command!("show", &job.id), command!("retry", &job.id))));
    }
    let plan = if args.stored_plan {
        stored_plan(&job)?
    } else {
        let file = read_plan_file(&job.plan_file);
        if file.is_none() && reads_plan_file(&job) {
            let path = show_path(&job.plan_file);
            terminal.inform(format_args!(
                "note: {path} is gone or cannot be read: using the plan that the job was created from"
            ));
        }
        plan_to_resume(journal, &job, file.as_deref())?
    };
    let plan = plan_input::in_this_environment(plan)?;
    notifications::check_webhooks(&plan)?;
    let unconfirmed =
        matches!(job.status, JobStatus::New | JobStatus::Preparing | JobStatus::Suspended) && !job.confirmed;
    let asks = unconfirmed && plan.job.confirmation_required && !args.auto_approve;
    if asks && !terminal.is_interactive() {
        return Err(CommandError::new(
            ExitStatus::Refused,
            format!("job {} needs confirmation, but there is no terminal to ask on", job.id),
        )
        .code(ErrorCode::ConfirmationRequired)
        .help(hint!("{}, or {}", command!("confirm", &job.id), command!("resume", &job.id, "--auto-approve"))));
    }
    JobSession::new(
        journal,
        job,
        &plan,
        args.running.settings(args.frozen_manifest, rules, journal),
        if asks { ConfirmationMode::Ask } else { ConfirmationMode::NotNeeded },
        terminal,
    )
    .run()
}

/// Returns whether the plan file is read again: not for a retry and not for a saved plan.
fn reads_plan_file(job: &JobRecord) -> bool {
    !matches!(job.source, JobSource::Retry { .. } | JobSource::Undo(_)) && job.manifest_fingerprint.is_none()
}

/// Reads the plan file of a job. Returns `None` if the file no longer exists or cannot be read.
fn read_plan_file(path: &Path) -> Option<Vec<u8>> {
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    is_file.then(|| read_up_to(path, MAX_PLAN_BYTES as u64).ok()).flatten()
}

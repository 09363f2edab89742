//! `batchplan resume`: resumes a job where it stopped.

use std::fs;
use std::path::Path;

use super::job_session::{ConfirmationMode, JobSession};
use super::journal_handle::JournalHandle;
use super::plan_file::read_up_to;
use super::state_location::{JobRunArgs, JournalAccess, StateLocationArgs};
use super::terminal::Terminal;
use super::{CommandError, ExitStatus, notifications};
use crate::job::JobStatus;
use crate::jobs::{plan_to_resume, stored_plan};
use crate::journal::JobRecord;
use crate::plan::MAX_PLAN_BYTES;

/// Go on with a job that was paused or interrupted.
///
/// The plan file that it was made of is read again, for limits that have changed; where more has, resume refuses and says
/// what. So it does where the manifest's source is not what it was.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_help = "\
Examples:
  batchplan resume ODRi
  batchplan resume ODRi --stored-plan       with the plan as it was when the job was made

Exit codes: as for apply.")]
pub(super) struct ResumeArgs {
    /// The job's id, or the beginning of it
    job: String,
    /// Go on with the plan as it was, whatever its file says now
    #[arg(long)]
    stored_plan: bool,
    /// Go on with the objects as they were frozen, although the manifest's source has changed or is gone
    #[arg(long)]
    frozen_manifest: bool,
    /// Do not ask, where the job was never confirmed
    #[arg(long)]
    auto_approve: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: JobRunArgs,
    #[command(flatten)]
    state: StateLocationArgs,
}

pub(super) fn run(args: &ResumeArgs, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let (kept, job) = args.state.open_job(&args.job, JournalAccess::Run, terminal)?;
    let ended = resume(args, &kept, job, terminal);
    kept.close(ended)
}

fn resume(
    args: &ResumeArgs,
    kept: &JournalHandle,
    job: JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    if job.status.is_over() {
        return Err(CommandError::new(
            ExitStatus::Refused,
            format!("job {} is {}: nothing is left to go on with", job.id, job.status),
        )
        .help(format!("batchplan show {id}; what failed is done again by batchplan retry {id}", id = job.id)));
    }
    let plan = if args.stored_plan {
        stored_plan(&job)?
    } else {
        plan_to_resume(kept, &job, read_plan_file(&job.plan_file).as_deref())?
    };
    notifications::require_ready(&plan)?;
    let unconfirmed =
        matches!(job.status, JobStatus::New | JobStatus::Preparing | JobStatus::Suspended) && !job.confirmed;
    let asks = unconfirmed && plan.job.confirmation_required && !args.auto_approve;
    if asks && !terminal.is_interactive() {
        return Err(CommandError::new(
            ExitStatus::Refused,
            format!("job {} was never confirmed, and there is nobody to ask", job.id),
        )
        .help(format!("batchplan confirm {id}, or batchplan resume {id} --auto-approve", id = job.id)));
    }
    JobSession {
        terminal,
        journal: kept,
        job,
        plan: &plan,
        settings: args.running.settings(args.frozen_manifest, kept),
        confirmation: if asks { ConfirmationMode::Ask } else { ConfirmationMode::NotNeeded },
        expected_count: None,
        json: args.json,
        state_flag: kept.flag(),
    }
    .run()
}

/// Reads the plan file of a job. Returns `None` if the file no longer exists or cannot be read.
fn read_plan_file(path: &Path) -> Option<Vec<u8>> {
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    is_file.then(|| read_up_to(path, MAX_PLAN_BYTES as u64).ok()).flatten()
}

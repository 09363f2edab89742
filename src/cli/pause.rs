//! `batchplan pause`: pauses a job, so that it can be resumed later.

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::job_session::JobCommandArgs;
use super::state::JournalHandle;
use super::terminal::Terminal;
use crate::job::JobStatus;
use crate::jobs::{self, CommandOutcome};
use crate::journal::JobRecord;

/// Pause a running or queued job.
///
/// The process that runs the job starts no more objects, finishes requests in flight, records its progress, and exits
/// with 5. `batchplan resume JOB` continues from there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  batchplan pause ODRi

Exit codes: 0 paused, or pausing while requests in flight finish; 2 no such job;
6 there is nothing to pause.")]
pub(super) struct PauseArgs {
    #[command(flatten)]
    target: JobCommandArgs,
}

impl CliCommand for PauseArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        self.target.run(terminal, |journal, job| pause(&self.target, journal, &job, terminal))
    }
}

fn pause(
    target: &JobCommandArgs,
    journal: &JournalHandle,
    job: &JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(jobs::pause(journal, &job.id))? {
        CommandOutcome::Done(job) | CommandOutcome::MustFinish(job, _) => {
            let paused = job.status == JobStatus::Paused;
            target.print_status(terminal, journal, job)?;
            if paused {
                return Ok(ExitStatus::Success);
            }
            terminal.eprint("the job ended before it could be paused");
            Ok(ExitStatus::Refused)
        }
        CommandOutcome::InProgress(job) => {
            terminal.eprint("pausing: requests in flight are still finishing");
            target.print_status(terminal, journal, job)?;
            Ok(ExitStatus::Success)
        }
    }
}

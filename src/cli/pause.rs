//! `batchplan pause`: pauses a job, so that it can be resumed later.

use super::job_command::JobCommandArgs;
use super::journal_handle::JournalHandle;
use super::state_location::JournalAccess;
use super::terminal::Terminal;
use super::{CommandError, ExitStatus};
use crate::job::JobStatus;
use crate::jobs::{self, CommandOutcome};
use crate::journal::JobRecord;

/// Pause a job that works or waits for its turn.
///
/// The process that works on it takes no more objects, finishes what is in flight, records how far it came, and ends with
/// exit code 5. `batchplan resume JOB` goes on from there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  batchplan pause ODRi

Exit codes: 0 paused, or asked to and still finishing what is in flight; 2 no such job;
6 there is nothing to pause.")]
pub(super) struct PauseArgs {
    #[command(flatten)]
    order: JobCommandArgs,
}

pub(super) fn run(args: &PauseArgs, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let order = &args.order;
    let (kept, job) = order.state.open_job(&order.job, JournalAccess::Request, terminal)?;
    let ended = pause(order, &kept, &job, terminal);
    kept.close(ended)
}

fn pause(
    order: &JobCommandArgs,
    kept: &JournalHandle,
    job: &JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(jobs::pause(kept, &job.id))? {
        CommandOutcome::Done(job) | CommandOutcome::MustFinish(job, _) => {
            let paused = job.status == JobStatus::Paused;
            order.print_status(terminal, kept, job)?;
            if paused {
                return Ok(ExitStatus::Success);
            }
            terminal.eprint("it came to its end before it could be paused");
            Ok(ExitStatus::Refused)
        }
        CommandOutcome::InProgress(job) => {
            terminal.eprint("it was asked to pause, and what is in flight is still being finished");
            order.print_status(terminal, kept, job)?;
            Ok(ExitStatus::Success)
        }
    }
}

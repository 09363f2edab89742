//! The command `batchplan confirm`, which confirms a job, so that it can run. The prompt that asks for a confirmation
//! is `ask` in `terminal.rs`; `job_session.rs` asks before it runs a job.

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::job_session::JobCommandArgs;
use super::terminal::Terminal;
use crate::jobs;

/// Confirm a suspended job, so that it can run.
///
/// The job becomes Ready: `batchplan run` runs it with the other queued jobs, `batchplan resume JOB` runs it now. A job
/// whose manifest is still being resolved becomes Ready afterwards without asking.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan show ODRi                 # show what it would do, and to how many objects
  batchplan confirm ODRi

Exit codes: 0 confirmed, 2 no such job, 6 the job is not waiting for
confirmation.")]
pub(super) struct ConfirmArgs {
    #[command(flatten)]
    target: JobCommandArgs,
}

impl CliCommand for ConfirmArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        self.target.run(terminal, |journal, job| {
            let job = jobs::confirm(journal, &job.id)?;
            self.target.print_status(terminal, journal, job)?;
            Ok(ExitStatus::Success)
        })
    }
}

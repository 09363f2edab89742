//! `batchplan priority`: sets a job's priority.

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::job_session::{JobCommandArgs, job_result_json};
use super::numbers::whole_number;
use super::state::JournalHandle;
use super::terminal::Terminal;
use crate::job::JobId;
use crate::jobs;
use crate::journal::JobFolder;

/// Set a job's priority.
///
/// Jobs with a higher priority leave the queue first and get more of the request budget that the jobs of a process
/// share. The new priority also applies to a running job, within a second.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  batchplan priority ODRi 1000

Exit codes: 0 set, 2 no such job or no such priority, 6 the job has ended or is
ending.")]
pub(super) struct PriorityArgs {
    #[command(flatten)]
    target: JobCommandArgs,
    /// The priority, from 0 to 2147483647; higher goes first
    #[arg(value_name = "N", value_parser = whole_number::<u32>(0..=2_147_483_647))]
    priority: u32,
}

impl CliCommand for PriorityArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        self.target.run(terminal, |journal, job| prioritise(self, journal, &job.id, terminal))
    }
}

fn prioritise(
    args: &PriorityArgs,
    journal: &JournalHandle,
    id: &JobId,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let job = jobs::prioritise(journal, id, args.priority)?;
    terminal.eprint(format_args!("job {} has priority {}", job.id, job.priority));
    let report_folder = JobFolder::of(journal.state_folder(), &job.id).report_folder();
    args.target.print_json(terminal, job_result_json(&job, &report_folder, None))?;
    Ok(ExitStatus::Success)
}

//! `batchplan cancel`: cancels a job.

use std::sync::Arc;

use batchplan_store::{Store, UnreachableStore};
use tokio_util::sync::CancellationToken;

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::job_session::{JobCommandArgs, JobRunArgs, job_result_json, unpublished_report_error};
use super::signals;
use super::state::JournalHandle;
use super::terminal::Terminal;
use crate::connect::connect;
use crate::job::JobStatus;
use crate::jobs::{self, CommandOutcome, FinishOutcome, JobLease, JobRunner, RequestBudget, stored_plan};
use crate::journal::{JobFolder, JobRecord};
use crate::paths::path_to_text;

/// Cancel a job.
///
/// Objects that were already changed stay changed. The report of what was done is completed and published. If a process
/// is running the job, it finishes requests in flight and exits with 7.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan cancel ODRi
  batchplan cancel ODRi --reason \"wrong bucket, see ticket 12\"

Exit codes: 0 cancelled, or cancelling while requests in flight finish; 1
cancelled, but the report could not be published; 2 no such job; 6 the job has
already ended.")]
pub(super) struct CancelArgs {
    #[command(flatten)]
    target: JobCommandArgs,
    /// The reason, up to 256 characters; it is recorded with the job
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    reason: Option<String>,
}

/// Checks the length of a reason. The managed service has the same limit.
fn parse_reason(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if (1..=256).contains(&length) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to 256 characters, not {length}"))
    }
}

impl CliCommand for CancelArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        self.target.run(terminal, |journal, job| cancel(self, journal, &job, terminal))
    }
}

fn cancel(
    args: &CancelArgs,
    journal: &JournalHandle,
    job: &JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let target = &args.target;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        match jobs::cancel(journal, &job.id, args.reason.clone()).await? {
            CommandOutcome::Done(job) => {
                let cancelled = job.status == JobStatus::Cancelled;
                target.print_status(terminal, journal, job)?;
                if cancelled {
                    return Ok(ExitStatus::Success);
                }
                terminal.eprint("the job ended before it could be cancelled");
                Ok(ExitStatus::Refused)
            }
            CommandOutcome::InProgress(job) => {
                terminal.eprint("cancelling: requests in flight are still finishing");
                target.print_status(terminal, journal, job)?;
                Ok(ExitStatus::Success)
            }
            CommandOutcome::MustFinish(job, held) => finish_cancelled_job(args, terminal, journal, job, held).await,
        }
    });
    runtime.shutdown_background();
    ended
}

/// Ends a job that no process works on: completes its report, and publishes it if the store can be reached.
async fn finish_cancelled_job(
    args: &CancelArgs,
    terminal: Terminal,
    journal: &JournalHandle,
    job: JobRecord,
    held: JobLease,
) -> Result<ExitStatus, CommandError> {
    let plan = stored_plan(&job)?;
    let connection = connect(&plan.store).await.map_err(CommandError::from);
    let store: Arc<dyn Store> = match &connection {
        Ok(connection) => Arc::clone(connection.store()),
        Err(error) => Arc::new(UnreachableStore::new(error.message.clone())),
    };
    let stop = CancellationToken::new();
    signals::listen(terminal, stop.clone(), None)?;
    journal.watch_for_stop(&stop);
    let settings = JobRunArgs::default().settings(true, None, journal);
    let budget = RequestBudget::default();
    let id = job.id.clone();
    let mut runner = JobRunner::new(journal, held, job, &plan, &store, (&settings, &budget), stop);
    let concluded = runner.finish_recorded().await?;
    // Release the job first, so that the printed status shows that no process works on it.
    drop(runner);
    let job = journal.find(id.as_str())?;
    let folder = JobFolder::of(journal.state_folder(), &id);
    let error = match &concluded {
        FinishOutcome::Over(delivered) => unpublished_report_error(delivered, &job, &journal.flag()),
        FinishOutcome::Paused => None,
    };
    if let Some(error) = error {
        let result = job_result_json(&job, &folder.report_folder(), None);
        args.target.print_status(terminal.with_json(None), journal, job)?;
        return Err(error.result(result));
    }
    args.target.print_status(terminal, journal, journal.find(id.as_str())?)?;
    let place = job.report_location.unwrap_or_else(|| path_to_text(&folder.report_folder()));
    terminal.eprint(format_args!("report: {place}"));
    Ok(ExitStatus::Success)
}

//! `batchplan publish`: publishes a job's report again if that failed at the job's end.

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::github;
use super::state::{JournalAccess, JournalHandle, StateLocationArgs};
use super::terminal::Terminal;
use crate::connect::connect;
use crate::hint::command;
use crate::jobs::{object_url, stored_plan};
use crate::journal::{JobFolder, JobRecord, ReportDelivery};
use crate::paths::show_path;
use crate::report::{FinishedReport, publish};

/// Publish the report of a job that has ended.
///
/// Every job's report is kept in its folder. If it could not be uploaded when the job ended, this command uploads it to
/// the location that the plan names. Publishing twice is harmless.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  batchplan publish ODRiZWQ5

Exit codes: 0 published; 1 the report could not be published; 2 no such job, or
its plan has no report location; 6 the job has no complete report.")]
pub(super) struct PublishArgs {
    /// The job's ID, or a unique prefix of it
    job: String,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl CliCommand for PublishArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let (journal, job) = self.state.open_job(&self.job, JournalAccess::Run, terminal)?;
        let ended = publish_again(&journal, &job, terminal);
        journal.close(ended)
    }
}

fn publish_again(journal: &JournalHandle, job: &JobRecord, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    if job.report_delivery == ReportDelivery::None {
        let why = if job.status.is_over() { "it has no report" } else { "its report is not complete" };
        return Err(CommandError::new(ExitStatus::Refused, format!("job {} is {}: {why}", job.id, job.status))
            .help(command!("show", &job.id)));
    }
    let folder = JobFolder::of(journal.state_folder(), &job.id).report_folder();
    let plan = stored_plan(job)?;
    let mut report = FinishedReport::load(&folder).map_err(|error| {
        CommandError::new(ExitStatus::ToolFailed, format!("cannot publish the report: {error}"))
            .help(format!("its files are in {}", show_path(&folder)))
    })?;
    let Some((bucket, key)) = report.manifest_location() else {
        return Err(CommandError::new(ExitStatus::Invalid, "the plan has no location to publish the report to")
            .help(format!("the report is in {}", show_path(&folder))));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connection = connect(&plan.store).await?;
        publish(&**connection.store(), &folder, &report).await.map_err(|error| {
            CommandError::new(ExitStatus::ToolFailed, format!("cannot publish the report: {error}"))
        })?;
        for segment in report.segments() {
            journal.mark_published(job.number, segment.number).await?;
        }
        Ok::<_, CommandError>(())
    })?;
    report.record_published(&folder, plan.report.keep_local)?;
    journal.set_report_delivery(&job.id, ReportDelivery::Done, None)?;
    terminal.eprint(format_args!("report: {}", object_url(plan.store.provider, &bucket, &key)));
    let job = journal.find(job.id.as_str())?;
    github::report_job(journal, &job, None, &journal.flag(), terminal);
    Ok(ExitStatus::Success)
}

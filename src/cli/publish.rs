//! `batchplan publish`: publishes a job's report again if that failed at the job's end.

use super::connected::connected;
use super::github::{self, Outcome};
use super::kept::Kept;
use super::state::{Access, State};
use super::terminal::Terminal;
use super::{Error, Exit};
use crate::jobs::{stored_plan, url};
use crate::journal::{Delivery, JobFolder, JobRecord};
use crate::report::{Report, publish};

/// Publish the report of an ended job again.
///
/// The report of every job is kept in its folder. When it could not be uploaded at the job's end, this sends it to the
/// place that the plan names; sending it twice is harmless.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  batchplan publish ODRiZWQ5

Exit codes: 0 published; 1 it could not be; 2 no such job, or its plan names no place for a report;
6 it has no complete report.")]
pub(super) struct Publish {
    /// The job's id, or the beginning of it
    job: String,
    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &Publish, terminal: Terminal) -> Result<Exit, Error> {
    let (kept, job) = args.state.job(&args.job, Access::Work, terminal)?;
    let ended = again(&kept, &job, terminal);
    kept.close(ended)
}

fn again(journal: &Kept, job: &JobRecord, terminal: Terminal) -> Result<Exit, Error> {
    if job.delivery == Delivery::None {
        let why = if job.status.is_over() { "it has no report" } else { "its report is not complete" };
        return Err(Error::new(Exit::Refused, format!("job {} is {}: {why}", job.id, job.status))
            .help(format!("batchplan show {}", job.id)));
    }
    let folder = JobFolder::of(journal.state(), &job.id).report();
    let plan = stored_plan(job)?;
    let mut report = Report::load(&folder).map_err(|error| {
        Error::new(Exit::ToolFailed, format!("the report cannot be sent as it is: {error}"))
            .help(format!("what there is of it is in {}", folder.display()))
    })?;
    let Some((bucket, key)) = report.address() else {
        return Err(Error::new(Exit::Invalid, "the plan names no place to publish the report to")
            .help(format!("it is in {}", folder.display())));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connection = connected(&plan.store).await?;
        publish(&**connection.store(), &folder, &report)
            .await
            .map_err(|error| Error::new(Exit::ToolFailed, format!("the report could not be published: {error}")))?;
        for segment in report.segments() {
            journal.published(job.number, segment.number).await?;
        }
        Ok::<_, Error>(())
    })?;
    report.record_published(&folder, plan.report.keep_local)?;
    journal.set_delivery(&job.id, Delivery::Done, None)?;
    terminal.say(format_args!("report: {}", url(plan.store.provider, &bucket, &key)));
    let job = journal.find(job.id.as_str())?;
    github::tell(journal, &[Outcome { job: &job, error: None }], &journal.flag(), terminal);
    Ok(Exit::Done)
}

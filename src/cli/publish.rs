//! `batchplan publish`: send a job's report again, when that failed at its end.

use std::path::PathBuf;

use super::connected::connected;
use super::plan_file;
use super::state::State;
use super::summary::scheme;
use super::terminal::Terminal;
use super::{Error, Exit};
use crate::job::JobId;
use crate::journal::{JobFolder, JobRecord};
use crate::report::{Report, publish};

/// Publish the report of an ended job again.
///
/// The report of every job is kept in its folder. When it could not be uploaded at the job's end, this sends it to the
/// place that the plan names; sending it twice is harmless.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  batchplan publish ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=")]
pub(super) struct Publish {
    /// The job's id
    job: JobId,
    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &Publish, terminal: Terminal) -> Result<Exit, Error> {
    let folder = JobFolder::of(&args.state.state, &args.job);
    let record = JobRecord::load(folder.path()).map_err(|error| {
        Error::new(Exit::ToolFailed, format!("there is no such job: {error}"))
            .help("the folder that keeps jobs is given by --state or BATCHPLAN_STATE")
    })?;
    let base: PathBuf = record.plan_file.parent().map(PathBuf::from).unwrap_or_default();
    let plan = plan_file::require_in(&folder.plan(), &base, terminal)?.plan;
    let report = Report::load(&folder.report()).map_err(|error| {
        Error::new(Exit::ToolFailed, format!("the report cannot be sent as it is: {error}")).help(format!(
            "only the report of a job that ended can be; what there is of it is in {}",
            folder.report().display()
        ))
    })?;
    let Some((bucket, key)) = report.address() else {
        return Err(Error::new(Exit::Invalid, "the plan names no place to publish the report to")
            .help(format!("it is in {}", folder.report().display())));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connection = connected(&plan.store).await?;
        publish(&**connection.store(), &folder.report(), &report)
            .await
            .map_err(|error| Error::new(Exit::ToolFailed, format!("the report could not be published: {error}")))
    })?;
    terminal.say(format_args!("report: {}://{bucket}/{key}", scheme(plan.store.provider)));
    Ok(Exit::Done)
}

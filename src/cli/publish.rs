//! `batchplan publish`: publishes a job's report again if that failed at the job's end, or publishes it elsewhere.

use std::fmt;

use batchplan_store::StoreConfig;

use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::github;
use super::job_session::job_result_json;
use super::state::{JournalAccess, JournalHandle};
use super::state_location::StateLocationArgs;
use super::terminal::Terminal;
use crate::connect::{connect, with_environment};
use crate::hint::{ShownCommand, command, hint};
use crate::jobs::{object_url, stored_plan};
use crate::journal::{JobFolder, JobRecord, ReportDelivery};
use crate::paths::show_path;
use crate::plan::{Plan, StateUrl, StateUrlError};
use crate::report::{FinishedReport, publish};
use crate::report_format::ReportLocation;

/// Publish the report of a job that has ended.
///
/// Every job's report is kept in its folder. If it could not be uploaded when the job ended, this command uploads it to
/// the location that the plan names, or to another one with --to. Publishing twice is harmless.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan publish ODRiZWQ5
  batchplan publish ODRiZWQ5 --to s3://other-bucket/reports
  batchplan publish ODRiZWQ5 --to 's3://other-bucket/reports?region=eu-west-1'

With --to, the report's files stay with the job, and its manifest.json names the
new location. A URL without parameters is a bucket in the plan's store. The
parameters are those of a state URL: endpoint, region, addressing, role_arn,
allow_http.

Exit codes: 0 published; 1 the report could not be published; 2 no such job, no
valid URL, or a plan without a report location and no --to; 6 the job has no
complete report.")]
pub(super) struct PublishArgs {
    /// The job's ID, or a unique prefix of it
    job: String,
    /// Publish the report below this bucket and prefix (s3:// or oss://) instead
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl CliCommand for PublishArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let (journal, job) = self.state.open_job(&self.job, JournalAccess::Run, terminal)?;
        let ended = publish_again(self, &journal, &job, terminal);
        journal.close(ended)
    }
}

/// Where `--to` publishes a report, and the store that has the bucket.
struct OtherPlace {
    location: ReportLocation,
    store: StoreConfig,
}

impl OtherPlace {
    /// Reads the URL. One without parameters is in the plan's store, if that is of the same kind.
    fn parse(text: &str, plan: &Plan) -> Result<Self, CommandError> {
        let invalid = |refused: StateUrlError| CommandError::from(refused).prefix("invalid --to");
        let url = StateUrl::parse(text).map_err(invalid)?;
        let scheme = plan.store.provider.profile().url_scheme;
        let is_in_plan_store =
            !text.contains('?') && text.strip_prefix(scheme).is_some_and(|rest| rest.starts_with(':'));
        let store = if is_in_plan_store {
            plan.store.clone()
        } else {
            let store = url.clone().completed_from(Some(&plan.store)).store_config().map_err(invalid)?;
            with_environment(&store, None)?
        };
        Ok(Self { location: ReportLocation { bucket: url.bucket, prefix: url.prefix }, store })
    }
}

fn publish_again(
    args: &PublishArgs,
    journal: &JournalHandle,
    job: &JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    if job.report_delivery == ReportDelivery::None {
        let why = if job.status.is_over() { "it has no report" } else { "its report is not complete" };
        return Err(CommandError::new(ExitStatus::Refused, format!("job {} is {}: {why}", job.id, job.status))
            .code(ErrorCode::ReportNotPublished)
            .help(command!("show", &job.id)));
    }
    let folder = JobFolder::of(journal.state_folder(), &job.id).report_folder();
    let plan = stored_plan(job)?;
    let elsewhere = args.to.as_deref().map(|text| OtherPlace::parse(text, &plan)).transpose()?;
    let cannot = |error: &dyn fmt::Display| format!("cannot publish the report: {error}");
    let mut report = FinishedReport::load(&folder).map_err(|error| {
        CommandError::new(ExitStatus::ToolFailed, cannot(&error))
            .code(ErrorCode::ReportNotPublished)
            .help(format!("its files are in {}", show_path(&folder)))
    })?;
    if let Some(OtherPlace { location, .. }) = &elsewhere {
        report = report.moved_to(location.clone());
        if let Some(missing) = report.missing_file(&folder) {
            let message = cannot(&format_args!("{} was removed after it was published", show_path(missing)));
            let help =
                "copy the published files with the store's tools; `keep_local = false` in [report] removes them here";
            return Err(CommandError::new(ExitStatus::ToolFailed, message)
                .code(ErrorCode::ReportNotPublished)
                .help(help));
        }
    }
    let Some((bucket, key)) = report.manifest_location() else {
        return Err(CommandError::new(ExitStatus::Invalid, "the plan has no location to publish the report to")
            .help(format!("name one with --to s3://BUCKET/PREFIX; the report is in {}", show_path(&folder))));
    };
    let store = elsewhere.as_ref().map_or(&plan.store, |place| &place.store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connection = connect(store).await?;
        publish(&**connection.store(), &folder, &report).await.map_err(|error| {
            let help = error.help().map(|help| hint!("{}; to publish it elsewhere: {}", help, to_command(job)));
            CommandError::new(ExitStatus::ToolFailed, cannot(&error))
                .code(ErrorCode::ReportNotPublished)
                .help(help.unwrap_or_else(|| to_command(job).into()))
        })?;
        for segment in report.segments() {
            journal.mark_published(job.number, segment.number).await?;
        }
        Ok::<_, CommandError>(())
    })?;
    // A retry looks for files that are not here where the plan publishes them.
    report.record_published(&folder, plan.report.keep_local || elsewhere.is_some())?;
    let url = object_url(store.provider, &bucket, &key);
    journal.set_report_delivery(&job.id, ReportDelivery::Done, elsewhere.map(|_| url.clone()))?;
    terminal.eprint(format_args!("report: {url}"));
    let job = journal.find(job.id.as_str())?;
    github::report_job(journal, &job, None, &journal.flag(), terminal);
    if terminal.is_json() {
        terminal.print_json(job_result_json(&job, &folder, None))?;
    }
    Ok(ExitStatus::Success)
}

/// Returns the command that publishes the report of a job elsewhere.
fn to_command(job: &JobRecord) -> ShownCommand {
    command!("publish", &job.id, "--to", "URL")
}

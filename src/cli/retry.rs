//! `batchplan retry`: retries failed objects in a new job.

use std::path::{Path, PathBuf};

use batchplan_store::StoreProvider;
use batchplan_store::object::ObjectKey;
use jiff::Timestamp;
use serde_json::json;

use super::descriptions::format_objects;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::job_session::{ConfirmationMode, JobRunArgs, JobSession, count_damaged_objects};
use super::state::{JournalAccess, JournalHandle, StateLocationArgs};
use super::terminal::Terminal;
use super::{notifications, plan_input};
use crate::hint::{command, hint};
use crate::job::JobStatus;
use crate::jobs::{CreateOutcome, JobRequest, stored_plan};
use crate::journal::{JobRecord, JobSource, ReportSource};
use crate::paths::{path_to_text, show_path};
use crate::plan::{Plan, bucket_problem};

/// Retry the failed objects of a job in a new job.
///
/// If the job Failed or was Cancelled, objects that were never attempted are included. With --report, the failed
/// objects come from a completion report in OSS or AWS format, and no earlier job is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan retry ODRi
  batchplan retry ODRi --failed-only --auto-approve
  batchplan retry --report report-1.csv --plan plan.toml --status 403,503
  batchplan retry --report s3://my-bucket/reports/ODRi.../results/manifest.json --plan plan.toml

Exit codes: as for apply.")]
pub(super) struct RetryArgs {
    /// The job to retry: its ID, or a unique prefix of it
    #[arg(required_unless_present = "report", conflicts_with = "report")]
    job: Option<String>,
    /// Only failed objects, not those that were never attempted
    #[arg(long, requires = "job")]
    failed_only: bool,
    /// A completion report: the path or URL (s3:// or oss://) of its manifest.json or of one of its CSV files
    #[arg(long, value_name = "PATH|URL", requires = "plan")]
    report: Option<PathBuf>,
    /// The plan to apply to the objects that a report names
    #[arg(long, requires = "report")]
    plan: Option<PathBuf>,
    /// Only failures with these HTTP statuses
    #[arg(long, value_delimiter = ',', requires = "report", value_parser = clap::value_parser!(u16).range(100..600))]
    status: Vec<u16>,
    /// Only failures with these error codes
    #[arg(long, value_delimiter = ',', requires = "report")]
    code: Vec<String>,
    /// Skip the confirmation prompt
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

impl CliCommand for RetryArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        match (&self.job, &self.report, &self.plan) {
            (Some(job), _, _) => retry_job(self, job, terminal),
            (None, Some(report), Some(plan)) => retry_report(self, report, plan, terminal),
            (None, _, _) => Err(CommandError::new(ExitStatus::Invalid, "there is nothing to retry")
                .help("name a job, or --report and --plan")),
        }
    }
}

fn retry_job(args: &RetryArgs, job: &str, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let (journal, first) = args.state.open_job(job, JournalAccess::Run, terminal)?;
    let ended = retry_failed_objects(args, &journal, &first, terminal);
    journal.close(ended)
}

fn retry_failed_objects(
    args: &RetryArgs,
    journal: &JournalHandle,
    first: &JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    if !first.status.is_over() {
        return Err(CommandError::new(
            ExitStatus::Refused,
            format!("job {} is {}: it has not ended", first.id, first.status),
        )
        .help(hint!("{}, or {}", command!("resume", &first.id), command!("cancel", &first.id))));
    }
    if first.scope.is_none() {
        return Err(CommandError::new(ExitStatus::Refused, format!("job {} has no resolved manifest", first.id))
            .help(hint!("apply its plan again: {}", command!("apply").path(&first.plan_file))));
    }
    let unattempted = first.status != JobStatus::Complete && !args.failed_only;
    if first.progress.failed == 0 && !(unattempted && first.progress.remaining() > 0) {
        return report_nothing_to_retry(first, args.json, terminal);
    }
    warn_of_damage(journal, first, terminal)?;
    let plan = stored_plan(first)?;
    let origin = JobSource::Retry { of: first.id.clone(), unattempted };
    let request = JobRequest {
        plan: &plan,
        text: &first.plan_text,
        file: &first.plan_file,
        origin,
        force_new: false,
        confirmed: false,
        fingerprint: None,
        recurrence: None,
    };
    create_and_run(args, &request, journal, terminal)
}

/// Reports that nothing is left to retry. As no job is created, the JSON has no job.
fn report_nothing_to_retry(first: &JobRecord, json: bool, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    terminal.eprint(format_args!("job {} has nothing to retry", first.id));
    if json {
        terminal.print(json!({
            "nothing_to_retry": true,
            "retry_of": first.id.as_str(),
            "job_id": null, "total": 0, "succeeded": 0, "failed": 0,
        }))?;
    }
    Ok(ExitStatus::Success)
}

/// Warns if the server may have changed the contents of objects that are about to be retried.
fn warn_of_damage(journal: &JournalHandle, first: &JobRecord, terminal: Terminal) -> Result<(), CommandError> {
    let damaged = count_damaged_objects(journal, first)?;
    if damaged > 0 {
        let (contents, them) = if damaged == 1 { ("its content", "it") } else { ("their contents", "them") };
        terminal.eprint(format_args!(
            "warning: {} failed because the server may have changed {contents}: recover {them} first",
            format_objects(damaged)
        ));
        terminal.eprint(format_args!(
            "  help: batchplan show {}{} shows the first, the report lists all",
            first.id,
            journal.flag()
        ));
    }
    Ok(())
}

fn retry_report(
    args: &RetryArgs,
    report: &Path,
    plan_path: &Path,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let file = plan_input::require(plan_path, terminal)?;
    let origin = JobSource::Report(parse_report_origin(report, args)?);
    let path = std::path::absolute(plan_path)?;
    let request = JobRequest {
        plan: &file.plan,
        text: &file.bytes,
        file: &path,
        origin,
        force_new: false,
        confirmed: false,
        fingerprint: None,
        recurrence: None,
    };
    let journal = args.state.open_journal(Some(&file.plan), terminal)?;
    let ended = create_and_run(args, &request, &journal, terminal);
    journal.close(ended)
}

fn parse_report_origin(report: &Path, args: &RetryArgs) -> Result<ReportSource, CommandError> {
    let (status, code) = (args.status.clone(), args.code.clone());
    let is_known = |scheme: &str| StoreProvider::ALL.iter().any(|it| it.profile().url_scheme == scheme);
    let invalid = |why: String| {
        CommandError::new(ExitStatus::Invalid, format!("invalid --report {}: {why}", show_path(report)))
            .help("use s3://BUCKET/KEY, oss://BUCKET/KEY or the path of a file")
    };
    let Some((scheme, place)) = report.to_str().and_then(|text| text.split_once("://")) else {
        let name = path_to_text(&std::path::absolute(report)?);
        return Ok(ReportSource { bucket: None, name, status, code });
    };
    if !is_known(scheme) {
        return Err(invalid(format!("its scheme is `{scheme}`, not s3 or oss")));
    }
    let (bucket, key) = place.split_once('/').unwrap_or((place, ""));
    if let Some(problem) = bucket_problem(bucket) {
        return Err(invalid(format!("its bucket name {problem}")));
    }
    if key.is_empty() {
        return Err(invalid("it has a bucket, but no key".to_owned()));
    }
    Ok(ReportSource { bucket: Some(bucket.to_owned()), name: ObjectKey::from(key).encoded(), status, code })
}

fn create_and_run(
    args: &RetryArgs,
    request: &JobRequest<'_>,
    journal: &JournalHandle,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let plan: &Plan = request.plan;
    notifications::check_webhooks(plan)?;
    let asks = plan.job.confirmation_required && !args.auto_approve;
    if asks && !terminal.is_interactive() {
        return Err(CommandError::new(
            ExitStatus::Refused,
            "this retry needs confirmation, but there is no terminal to ask on",
        )
        .help("add --auto-approve to retry without asking"));
    }
    let job = match request.find_or_create(journal, Timestamp::now())? {
        CreateOutcome::Created(job) | CreateOutcome::Over(job) => job,
        CreateOutcome::Unfinished(job) => {
            terminal.eprint(format_args!("resuming job {} ({})", job.id, job.status));
            job
        }
    };
    let plan = &plan_input::in_this_environment(stored_plan(&job)?)?;
    JobSession::new(
        journal,
        job,
        plan,
        args.running.settings(false, journal),
        if asks { ConfirmationMode::Ask } else { ConfirmationMode::NotNeeded },
        terminal,
    )
    .run(args.json)
}

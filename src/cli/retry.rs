//! `batchplan retry`: retries failed objects in a new job.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::after_job::harmed;
use super::carry::{Carry, Confirmation};
use super::kept::Kept;
use super::plan_file;
use super::state::{Access, Running, State};
use super::summary::objects;
use super::terminal::Terminal;
use super::{Error, Exit, notices, shell};
use crate::job::JobStatus;
use crate::jobs::{Entered, Submission, stored_plan};
use crate::journal::{JobRecord, Origin, ReportOrigin};
use crate::object::Key;
use crate::plan::Plan;

/// Make a new job of the objects that failed in another.
///
/// After a job that Failed or was Cancelled, also of those that were never attempted. With --report the failures are those
/// of a completion report, in the format of OSS or of AWS, and no earlier job need be known here.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan retry ODRi
  batchplan retry ODRi --failed-only --auto-approve
  batchplan retry --report report-1.csv --plan plan.toml --status 403,503
  batchplan retry --report s3://my-bucket/reports/ODRi.../results/manifest.json --plan plan.toml

Exit codes: as for apply.")]
pub(super) struct Retry {
    /// The job whose failures are done again: its id, or the beginning of it
    #[arg(required_unless_present = "report", conflicts_with = "report")]
    job: Option<String>,
    /// Only what failed, and not what was never attempted
    #[arg(long, requires = "job")]
    failed_only: bool,
    /// A completion report: the path or URL (s3:// or oss://) of its manifest.json or of one of its CSV files
    #[arg(long, value_name = "PATH|URL", requires = "plan")]
    report: Option<String>,
    /// The plan that says what is done to the objects that a report names
    #[arg(long, requires = "report")]
    plan: Option<PathBuf>,
    /// Only failures with these HTTP statuses
    #[arg(long, value_delimiter = ',', requires = "report", value_parser = clap::value_parser!(u16).range(100..600))]
    status: Vec<u16>,
    /// Only failures with these error codes
    #[arg(long, value_delimiter = ',', requires = "report")]
    code: Vec<String>,
    /// Do not ask: what is done was reviewed
    #[arg(long)]
    auto_approve: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &Retry, terminal: Terminal) -> Result<Exit, Error> {
    match (&args.job, &args.report, &args.plan) {
        (Some(job), _, _) => of_job(args, job, terminal),
        (None, Some(report), Some(plan)) => of_report(args, report, plan, terminal),
        (None, _, _) => {
            Err(Error::new(Exit::Invalid, "there is nothing to retry").help("name a job, or --report and --plan"))
        }
    }
}

fn of_job(args: &Retry, job: &str, terminal: Terminal) -> Result<Exit, Error> {
    let (kept, first) = args.state.job(job, Access::Work, terminal)?;
    let ended = again(args, &kept, &first, terminal);
    kept.close(ended)
}

fn again(args: &Retry, kept: &Kept, first: &JobRecord, terminal: Terminal) -> Result<Exit, Error> {
    if !first.status.is_over() {
        return Err(Error::new(Exit::Refused, format!("job {} is {}: it is not over", first.id, first.status))
            .help(format!("batchplan resume {id}, or batchplan cancel {id}", id = first.id)));
    }
    if first.scope.is_none() {
        return Err(Error::new(Exit::Refused, format!("job {} never knew its objects", first.id))
            .help(format!("apply its plan again: batchplan apply {}", shell::path(&first.plan_file))));
    }
    let unattempted = first.status != JobStatus::Complete && !args.failed_only;
    if first.progress.failed == 0 && !(unattempted && first.progress.left() > 0) {
        terminal.say(format_args!("nothing of job {} is left to be done again", first.id));
        return Ok(Exit::Done);
    }
    warn_of_harm(kept, first, terminal)?;
    let plan = stored_plan(first)?;
    let origin = Origin::Retry { of: first.id.clone(), unattempted };
    let submission = Submission {
        plan: &plan,
        text: &first.plan,
        file: &first.plan_file,
        origin,
        afresh: false,
        confirmed: false,
        pledge: None,
        recurrence: None,
    };
    carry(args, &submission, kept, terminal)
}

/// Warns if the server may have changed the contents of objects that are about to be retried.
fn warn_of_harm(kept: &Kept, first: &JobRecord, terminal: Terminal) -> Result<(), Error> {
    let harmed = harmed(kept, first)?;
    if harmed > 0 {
        let (contents, them) = if harmed == 1 { ("its content", "it") } else { ("their contents", "them") };
        terminal.say(format_args!(
            "warning: {} failed because the server may have changed {contents}: bring {them} back first",
            objects(harmed)
        ));
        terminal.say(format_args!(
            "  help: batchplan show {}{} names the first, the report all",
            first.id,
            kept.flag()
        ));
    }
    Ok(())
}

fn of_report(args: &Retry, report: &str, plan_path: &Path, terminal: Terminal) -> Result<Exit, Error> {
    let file = plan_file::require(plan_path, terminal)?;
    let origin = Origin::Report(origin(report, args)?);
    let path = std::path::absolute(plan_path)?;
    let submission = Submission {
        plan: &file.plan,
        text: &file.bytes,
        file: &path,
        origin,
        afresh: false,
        confirmed: false,
        pledge: None,
        recurrence: None,
    };
    let kept = args.state.journal(Some(&file.plan), terminal)?;
    let ended = carry(args, &submission, &kept, terminal);
    kept.close(ended)
}

fn origin(report: &str, args: &Retry) -> Result<ReportOrigin, Error> {
    let (status, code) = (args.status.clone(), args.code.clone());
    let Some((_, place)) = report.split_once("://").filter(|(scheme, _)| matches!(*scheme, "s3" | "oss")) else {
        if report.contains("://") {
            return Err(Error::new(Exit::Invalid, format!("{report} is no report that can be read"))
                .help("write s3://BUCKET/KEY or oss://BUCKET/KEY, or the path of a file"));
        }
        let name = std::path::absolute(report)?.to_string_lossy().into_owned();
        return Ok(ReportOrigin { bucket: None, name, status, code });
    };
    match place.split_once('/') {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
            let name = Key::from(key).encoded();
            Ok(ReportOrigin { bucket: Some(bucket.to_owned()), name, status, code })
        }
        _ => Err(Error::new(Exit::Invalid, format!("{report} names no object")).help("write s3://BUCKET/KEY")),
    }
}

fn carry(args: &Retry, submission: &Submission<'_>, kept: &Kept, terminal: Terminal) -> Result<Exit, Error> {
    let plan: &Plan = submission.plan;
    notices::require(plan)?;
    let asks = plan.job.confirmation_required && !args.auto_approve;
    if asks && !terminal.interactive() {
        return Err(Error::new(Exit::Refused, "the retry wants to be confirmed, and there is nobody to ask")
            .help("add --auto-approve when you know what it will do"));
    }
    let job = match submission.enter(kept, Timestamp::now())? {
        Entered::New(job) | Entered::Over(job) => job,
        Entered::Unfinished(job) => {
            terminal.say(format_args!("going on with job {} ({})", job.id, job.status));
            job
        }
    };
    let plan = &stored_plan(&job)?;
    Carry {
        terminal,
        journal: kept,
        job,
        plan,
        settings: args.running.settings(false, kept),
        confirmation: if asks { Confirmation::Ask } else { Confirmation::Given },
        expected: None,
        json: args.json,
        state_flag: kept.flag(),
    }
    .run()
}

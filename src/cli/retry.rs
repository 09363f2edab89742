//! `batchplan retry`: retries failed objects in a new job.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use batchplan_store::object::{MAX_KEY_BYTES, ObjectKey};
use batchplan_store::{StoreProvider, UnsupportedBucket};
use serde_json::json;

use super::descriptions::{format_objects, relative_path};
use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::job_session::{ConfirmationMode, JobRunArgs, count_damaged_objects, run_request};
use super::numbers::whole_number;
use super::plan_rules::{PlanRulesArgs, check_plan};
use super::state::{JournalAccess, JournalHandle};
use super::state_location::StateLocationArgs;
use super::terminal::Terminal;
use super::{notifications, plan_input};
use crate::hint::{command, hint};
use crate::job::JobStatus;
use crate::jobs::{JobPresence, JobRequest, check_failures_recorded, find_presence, stored_plan};
use crate::journal::{JobRecord, JobSource, ReportSource};
use crate::paths::path_to_text;
use crate::plan::{Plan, bucket_problem};
use crate::plan_rules::PlanRules;
use crate::provider::{BucketNaming, ProviderRules};
use crate::toml_reader::quote_for_message;

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
    #[arg(long, value_delimiter = ',', requires = "report", value_parser = whole_number::<u16>(100..=599))]
    status: Vec<u16>,
    /// Only failures with these error codes
    #[arg(long, value_delimiter = ',', requires = "report")]
    code: Vec<String>,
    /// Skip the confirmation prompt
    #[arg(long)]
    auto_approve: bool,
    #[command(flatten)]
    rules: PlanRulesArgs,
    #[command(flatten)]
    running: JobRunArgs,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl CliCommand for RetryArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let rules = self.rules.load(terminal)?;
        match (&self.job, &self.report, &self.plan) {
            (Some(job), _, _) => retry_job(self, rules, job, terminal),
            (None, Some(report), Some(plan)) => retry_report(self, rules, (report, plan), terminal),
            (None, _, _) => Err(CommandError::new(ExitStatus::Invalid, "there is nothing to retry")
                .help("name a job, or --report and --plan")),
        }
    }
}

fn retry_job(
    args: &RetryArgs,
    rules: Option<Arc<PlanRules>>,
    job: &str,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let (journal, first) = args.state.open_job(job, JournalAccess::Run, terminal)?;
    let ended = retry_failed_objects(args, rules, &journal, &first, terminal);
    journal.close(ended)
}

fn retry_failed_objects(
    args: &RetryArgs,
    rules: Option<Arc<PlanRules>>,
    journal: &JournalHandle,
    first: &JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    if !first.status.is_over() {
        let (_, presence) = find_presence(journal, first.clone())?;
        let is_running = matches!(journal.adjust_presence(presence), JobPresence::HeldBy(_));
        let help = if is_running {
            hint!("wait until it ends: {}", command!("show", &first.id, "--watch"))
        } else {
            hint!("{}, or {}", command!("resume", &first.id), command!("cancel", &first.id))
        };
        let message = format!("job {} is {}: it has not ended", first.id, first.status);
        return Err(CommandError::new(ExitStatus::Refused, message).code(ErrorCode::WrongJobStatus).help(help));
    }
    if first.scope.is_none() {
        return Err(CommandError::new(ExitStatus::Refused, format!("job {} has no resolved manifest", first.id))
            .help(hint!("apply its plan again: {}", command!("apply").path(&first.plan_file))));
    }
    let unattempted = first.status != JobStatus::Complete && !args.failed_only;
    if first.progress.failed == 0 && !(unattempted && first.progress.remaining() > 0) {
        return report_nothing_to_retry(first, terminal);
    }
    check_failures_recorded(journal, first)?;
    warn_of_damage(journal, first, terminal)?;
    let plan = stored_plan(first)?;
    // An undo leaves alone what already has its former state.
    let origin = match &first.source {
        JobSource::Undo(undo) => JobSource::Undo(undo.clone()),
        JobSource::Plan | JobSource::Retry { .. } | JobSource::Report(_) => {
            JobSource::Retry { of: first.id.clone(), unattempted }
        }
    };
    let request = JobRequest {
        plan: &plan,
        text: &first.plan_text,
        file: &first.plan_file,
        origin,
        force_new: false,
        replace_unconfirmed: false,
        confirmed: false,
        fingerprint: None,
        recurrence: None,
    };
    create_and_run(args, rules, &request, journal, terminal)
}

/// Reports that nothing is left to retry. As no job is created, the JSON has no job.
fn report_nothing_to_retry(first: &JobRecord, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    terminal.eprint(format_args!("job {} has nothing to retry", first.id));
    if terminal.is_json() {
        terminal.print_json(json!({
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
    rules: Option<Arc<PlanRules>>,
    (report, plan_path): (&Path, &Path),
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let file = plan_input::require(plan_path, terminal)?;
    let failures = (args.status.clone(), args.code.clone());
    let origin = JobSource::Report(parse_report_origin(report, failures, file.plan.store.provider)?);
    let path = std::path::absolute(plan_path)?;
    let request = JobRequest {
        plan: &file.plan,
        text: &file.bytes,
        file: &path,
        origin,
        force_new: false,
        replace_unconfirmed: false,
        confirmed: false,
        fingerprint: None,
        recurrence: None,
    };
    let journal = args.state.open_journal(Some(&file.plan), terminal)?;
    let ended = create_and_run(args, rules, &request, &journal, terminal);
    journal.close(ended)
}

/// Reads the location of a report, which is a file or an object of the plan's store. Only failures with one of these
/// statuses and codes are meant.
pub(super) fn parse_report_origin(
    report: &Path,
    (status, code): (Vec<u16>, Vec<String>),
    provider: StoreProvider,
) -> Result<ReportSource, CommandError> {
    // Only a file can have a name that is not text.
    let location = report.to_str().map_or(Ok(ReportArgument::File), |text| {
        parse_report_argument(text, provider).map_err(|ReportArgumentError { why, help }| {
            let shown = shown_location(text).map(|shown| format!(" {shown}")).unwrap_or_default();
            CommandError::new(ExitStatus::Invalid, format!("invalid --report{shown}: {why}")).help(help)
        })
    })?;
    Ok(match location {
        ReportArgument::File => {
            let name = path_to_text(&std::path::absolute(report)?);
            ReportSource { bucket: None, name, status, code }
        }
        ReportArgument::Object { bucket, key } => {
            ReportSource { bucket: Some(bucket), name: key.encoded(), status, code }
        }
    })
}

/// The value of `--report`.
#[derive(Debug, PartialEq, Eq)]
enum ReportArgument {
    File,
    Object { bucket: String, key: ObjectKey },
}

/// Why a text is not the location of a report.
#[derive(Debug)]
struct ReportArgumentError {
    why: String,
    help: String,
}

const LOCATION_HELP: &str = "use s3://BUCKET/KEY, oss://BUCKET/KEY or the path of a file";

fn parse_report_argument(report: &str, provider: StoreProvider) -> Result<ReportArgument, ReportArgumentError> {
    let error = |why: String, help: String| Err(ReportArgumentError { why, help });
    let invalid = |why: &str| error(why.to_owned(), LOCATION_HELP.to_owned());
    let is_known = |scheme: &str| StoreProvider::ALL.iter().any(|it| it.profile().url_scheme == scheme);
    let Some((scheme, place)) = report.split_once("://") else {
        let start = report.split_once(':').map(|(start, _)| start.to_ascii_lowercase()).unwrap_or_default();
        return match start.as_str() {
            _ if report.is_empty() => invalid("it is empty"),
            _ if Path::new(report).exists() => Ok(ReportArgument::File),
            "arn" => invalid("it is an ARN"),
            scheme if is_known(scheme) => invalid("its scheme is not followed by ://"),
            _ => Ok(ReportArgument::File),
        };
    };
    let lower = scheme.to_ascii_lowercase();
    if !is_known(scheme) {
        return match lower.as_str() {
            _ if is_known(&lower) => error("its scheme has upper-case letters".to_owned(), format!("write {lower}://")),
            "file" => error("its scheme is `file`".to_owned(), "write only the path of the file".to_owned()),
            _ if shown_location(report).is_none() => invalid("its scheme is not s3 or oss"),
            _ => invalid(&format!("its scheme is `{}`, not s3 or oss", quote_for_message(scheme))),
        };
    }
    let own = provider.profile().url_scheme;
    if scheme != own {
        let why = format!("its scheme is `{scheme}`, but the plan's store has `provider = \"{}\"`", provider.as_str());
        return error(why, format!("a report is read from the plan's store: use {own}://BUCKET/KEY, or download it"));
    }
    let (bucket, key) = place.split_once('/').unwrap_or((place, ""));
    if let Some(problem) = bucket_problem(bucket) {
        return invalid(&format!("its bucket name {problem}"));
    }
    let has_aws_names = ProviderRules::of(provider).bucket_naming == BucketNaming::Aws;
    if let Some(UnsupportedBucket { label, help, .. }) = UnsupportedBucket::of_aws(bucket).filter(|_| has_aws_names) {
        return error(format!("it names {label}, which is not supported"), help.to_owned());
    }
    match key.len() {
        0 => return invalid("it has a bucket, but no key"),
        bytes if bytes > MAX_KEY_BYTES => {
            return invalid(&format!("its key has {bytes} bytes (maximum {MAX_KEY_BYTES})"));
        }
        _ if key.ends_with('/') => {
            return error(
                "its key is a folder".to_owned(),
                "name the report's manifest.json, or one of its files".to_owned(),
            );
        }
        _ => {}
    }
    Ok(ReportArgument::Object { bucket: bucket.to_owned(), key: ObjectKey::from(key) })
}

/// Returns an invalid location as messages show it: without the query, which can be a signature. `None` if it may
/// contain a password: where one would end is unclear in a text that is not a location.
fn shown_location(report: &str) -> Option<&str> {
    let after_scheme = report.split_once(':').map_or("", |(_, rest)| rest);
    let may_have_password = report.contains('@') || (after_scheme.contains(':') && !report.starts_with("arn:"));
    (!may_have_password).then(|| report.split('?').next().unwrap_or_default())
}

fn create_and_run(
    args: &RetryArgs,
    rules: Option<Arc<PlanRules>>,
    request: &JobRequest<'_>,
    journal: &JournalHandle,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let plan: &Plan = request.plan;
    check_plan(rules.as_ref(), plan, (relative_path(request.file), request.text), terminal)?;
    notifications::check_webhooks(plan)?;
    let asks = plan.job.confirmation_required && !args.auto_approve;
    if asks && !terminal.is_interactive() {
        return Err(CommandError::new(
            ExitStatus::Refused,
            "this retry needs confirmation, but there is no terminal to ask on",
        )
        .code(ErrorCode::ConfirmationRequired)
        .help("add --auto-approve to retry without asking"));
    }
    let confirmation = if asks { ConfirmationMode::Ask } else { ConfirmationMode::NotNeeded };
    run_request(request, journal, args.running.settings(false, rules, journal), confirmation, terminal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MULTI_REGION_HELP: &str =
        "use the bucket in one region: batchplan does not support the SigV4A signatures that they need";

    #[test]
    fn what_is_wrong_with_the_location_of_a_report_is_said() {
        let parse = |text| parse_report_argument(text, StoreProvider::Aws);
        let object = |key: &str| ReportArgument::Object { bucket: "b".to_owned(), key: ObjectKey::from(key) };
        assert_eq!(parse("s3://b/r/manifest.json").expect("an object"), object("r/manifest.json"));
        assert_eq!(parse("s3://b/a?b%20@c").expect("an object"), object("a?b%20@c"));
        for file in ["report-1.csv", "/tmp/manifest.json", "C:\\report.csv", "a:b"] {
            assert_eq!(parse(file).expect("a file"), ReportArgument::File, "{file}");
        }
        let long = format!("s3://b/{}", "k".repeat(1025));
        for (text, why, help) in [
            ("", "it is empty", LOCATION_HELP),
            ("s3:/b/k", "its scheme is not followed by ://", LOCATION_HELP),
            ("OSS:b/k", "its scheme is not followed by ://", LOCATION_HELP),
            ("arn:aws:s3:::b/k", "it is an ARN", LOCATION_HELP),
            ("S3://b/k", "its scheme has upper-case letters", "write s3://"),
            ("file:///tmp/r.csv", "its scheme is `file`", "write only the path of the file"),
            ("https://b.s3.amazonaws.com/k", "its scheme is `https`, not s3 or oss", LOCATION_HELP),
            (
                "oss://b/k",
                "its scheme is `oss`, but the plan's store has `provider = \"aws\"`",
                "a report is read from the plan's store: use s3://BUCKET/KEY, or download it",
            ),
            ("s3:///k", "its bucket name is missing", LOCATION_HELP),
            ("s3://b c/k", "its bucket name contains white space", LOCATION_HELP),
            ("s3://b", "it has a bucket, but no key", LOCATION_HELP),
            ("s3://b.mrap/k", "it names a Multi-Region Access Point, which is not supported", MULTI_REGION_HELP),
            ("s3://b/r/", "its key is a folder", "name the report's manifest.json, or one of its files"),
            (&long, "its key has 1025 bytes (maximum 1024)", LOCATION_HELP),
        ] {
            let found = parse(text).expect_err(text);
            assert_eq!((found.why.as_str(), found.help.as_str()), (why, help), "{text}");
        }
    }

    #[test]
    fn a_location_is_shown_without_secrets() {
        for (text, shown) in [
            ("https://host/k?X-Amz-Signature=abc", Some("https://host/k")),
            ("s3:/b?k", Some("s3:/b")),
            ("arn:aws:s3:::b/k", Some("arn:aws:s3:::b/k")),
            ("https://user:hush@host/k?X-Amz-Signature=abc", None),
            ("https://user:hu/sh@host/k", None),
            ("https://user:hu?sh@host/k", None),
            ("s3://AKIDEXAMPLE:hush/hush@b/k/", None),
            ("s3://AKIDEXAMPLE:hush/b/k", None),
            ("s3:user:hush@b", None),
            ("user:hush@s3://b", None),
            ("s3://hush@b", None),
        ] {
            assert_eq!(shown_location(text), shown, "{text}");
            let refused = parse_report_argument(text, StoreProvider::Aws).expect_err(text);
            assert!(!format!("{refused:?}").contains("hush"), "{text}: {refused:?}");
        }
    }
}

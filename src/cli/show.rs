//! `batchplan show`: shows everything that is known of a job, as text or JSON, once or at each change.

use std::path::Path;
use std::thread;
use std::time::Duration;

use batchplan_store::object::VersionId;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::descriptions::{
    describe_operation, describe_source, describe_store, format_duration, format_instant, next_command,
};
use super::detail_page::DetailPage;
use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus, failed_before_start};
use super::list::JobFormat;
use super::recurring::describe_job_scope;
use super::saved_plan_file::LoadedSavedPlan;
use super::state::JournalAccess;
use super::state_location::StateLocationArgs;
use super::terminal::{Terminal, escape_for_terminal, escape_line};
use crate::hint::{ShownCommand, hint};
use crate::job::{JobId, JobStatus};
use crate::jobs::xml::{self, JobXmlError};
use crate::jobs::{JobDescription, JobPresence, ReportState, describe, hint as failure_hint};
use crate::journal::{FailureCode, FailureExample, FailureGroup, JobRecord, JobSource, Journal};
use crate::paths::{path_to_text, show_path};

/// The interval at which the job is read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How many times in a row a job must be seen without a process. A job that was just created has none yet.
const INTERRUPTED_POLLS: u32 = 3;

/// Show the details of a job, or of a saved plan.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan show ODRi
  batchplan show ODRi --watch
  batchplan show ODRi --json | jq '.failures[] | {code, count}'
  batchplan show plan.bpl        # what `plan --out` saved, and its digest

--json prints one object:
  job_id, name, description, status, reason, cause (of a pause), interrupted,
  holder; confirmation_required, confirmed, priority, token;
  created, changed, ended (RFC 3339);
  plan_file, plan_hash, plan_error; store, manifest, operations (in words);
  origin, retry_of, retried_by, undo_of;
  percent, seconds_left (while it is Active), as_of (if another machine holds
    the state and may have done more since);
  total, succeeded, failed, not_attempted, in_doubt;
  active_seconds, objects_per_second;
  failures: [{code, http (0 without a response), count, advice,
    examples: [{bucket, key (URL-encoded), version, message}]}];
  report (its location), report_state (absent, open, kept, due, published),
  report_folder; folder, files: [{name, files, bytes}]; next
Of a saved plan: file, digest, saved, name, description, plan_file, plan_hash,
  plan (its text); store, manifest, operations, report (in words); objects;
  counts {exact, change, unchanged, fail, unknown}; next
With --watch, it prints one line for each change. Unknown values are null. A path
that is not UTF-8 starts with `bytes:` and is URL-encoded.")]
pub(super) struct ShowArgs {
    /// The job's ID, or a unique prefix of it, or a saved plan
    job: String,
    /// Show the job again at each change, until it ends or stops
    #[arg(long, conflicts_with = "format")]
    watch: bool,
    /// Show up to ten failed objects for each error code instead of one
    #[arg(long)]
    examples: bool,
    /// Print the job in another format
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<JobFormat>,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl CliCommand for ShowArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        if let Some(saved) = LoadedSavedPlan::open(Path::new(&self.job))? {
            return self.show_saved_plan(&saved, terminal);
        }
        let (journal, job) = self
            .state
            .open_job(&self.job, JournalAccess::Read, terminal)
            .map_err(|error| if Path::new(&self.job).is_file() { self.not_a_saved_plan() } else { error })?;
        let style = ShowOptions {
            examples: if self.examples { usize::MAX } else { 1 },
            state_flag: journal.flag(),
            as_of: journal.as_of(),
        };
        if let Some(by) = journal.remote_holder().filter(|_| self.watch) {
            return Err(CommandError::new(
                ExitStatus::Refused,
                format!("job {} cannot be watched from here: the state is held by {by}", job.id),
            )
            .code(ErrorCode::InUse)
            .help(format!("to see what was pushed last: batchplan show {}{}", job.id, journal.flag())));
        }
        if self.watch {
            return watch(&journal, &job.id, terminal, &style);
        }
        let mut description = describe(&journal, &job.id)?;
        description.presence = journal.adjust_presence(description.presence);
        if terminal.is_json() {
            terminal.print_pretty_json(to_json(&description, &style))?;
        } else if let Some(JobFormat::Xml) = self.format {
            terminal.print(job_xml(&description)?)?;
        } else {
            terminal.print(escape_for_terminal(&terminal.abbreviate_ids(&to_page(&description, &style))))?;
        }
        Ok(ExitStatus::Success)
    }
}

impl ShowArgs {
    fn show_saved_plan(&self, saved: &LoadedSavedPlan, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        if self.watch || self.format.is_some() {
            return Err(CommandError::new(ExitStatus::Invalid, "a saved plan cannot be shown in this way")
                .code(ErrorCode::InvalidArgument)
                .help("use --json, or no option"));
        }
        let flag = self.state.flag();
        if terminal.is_json() {
            terminal.print_pretty_json(saved.to_json(&flag))?;
        } else {
            terminal.print(escape_for_terminal(&saved.page(&flag)))?;
        }
        Ok(ExitStatus::Success)
    }

    fn not_a_saved_plan(&self) -> CommandError {
        let what = format!("{} is neither a job nor a saved plan", show_path(&self.job));
        CommandError::new(ExitStatus::Invalid, what)
            .code(ErrorCode::NoSuchJob)
            .help(hint!("to see what a plan file would do: {}", ShownCommand::new("plan").path(Path::new(&self.job))))
    }
}

/// How much of a job to show.
struct ShowOptions {
    /// The maximum number of failed objects for each error code.
    examples: usize,
    /// ` --state DIR|URL` if shown commands need it, otherwise empty.
    state_flag: String,
    /// The time as of which the job is shown, if another machine may have done more since.
    as_of: Option<Timestamp>,
}

fn job_xml(description: &JobDescription) -> Result<String, CommandError> {
    xml::describe_job(description).map_err(|error| match error {
        JobXmlError::Plan(cause) => CommandError::from(cause),
        JobXmlError::Io(cause) => CommandError::from(cause),
    })
}

/// Shows the job whenever it has changed, until it is over or stops. Signals are not handled here: the first one ends
/// the process, which leaves nothing half done.
fn watch(journal: &Journal, job: &JobId, terminal: Terminal, style: &ShowOptions) -> Result<ExitStatus, CommandError> {
    let view = if terminal.is_json() { WatchView::Objects } else { WatchView::for_terminal(terminal) };
    let mut last = String::new();
    let mut interrupted = 0;
    loop {
        let description = describe(journal, job)?;
        let text = view.render(&description, style, terminal);
        if text != last {
            view.show(&text, terminal)?;
            last = text;
        }
        if terminal.is_stdout_closed() {
            return Ok(ExitStatus::Success);
        }
        interrupted = if description.presence == JobPresence::Interrupted { interrupted + 1 } else { 0 };
        if is_settled(&description) || interrupted >= INTERRUPTED_POLLS {
            view.finish(&last, terminal)?;
            return Ok(ExitStatus::Success);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Returns whether the job will not change by itself.
fn is_settled(description: &JobDescription) -> bool {
    let status = description.job.status;
    let waits = matches!(status, JobStatus::Paused | JobStatus::Suspended);
    status.is_over() || (waits && description.presence == JobPresence::Unattended)
}

/// Where the job is shown.
enum WatchView {
    /// In place, on a terminal's screen.
    Screen(ProgressBar),
    /// As a line for each change.
    Lines,
    /// As a JSON object on a line of its own for each change.
    Objects,
}

impl WatchView {
    fn for_terminal(terminal: Terminal) -> Self {
        if !terminal.stdout_is_terminal() {
            return Self::Lines;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self::Screen(bar)
    }

    fn render(&self, description: &JobDescription, style: &ShowOptions, terminal: Terminal) -> String {
        match self {
            Self::Screen(_) => escape_for_terminal(&terminal.abbreviate_ids(&to_page(description, style))),
            Self::Lines => status_line(description),
            Self::Objects => to_json(description, style).to_string(),
        }
    }

    fn show(&self, text: &str, terminal: Terminal) -> Result<(), CommandError> {
        match self {
            Self::Screen(bar) => bar.set_message(text.to_owned()),
            Self::Lines => terminal.print(text)?,
            Self::Objects => terminal.print_json(serde_json::from_str(text).map_err(std::io::Error::from)?)?,
        }
        Ok(())
    }

    /// Prints what stays on the screen when watching ends.
    fn finish(&self, text: &str, terminal: Terminal) -> Result<(), CommandError> {
        if let Self::Screen(bar) = self {
            bar.finish_and_clear();
            terminal.print(text)?;
        }
        Ok(())
    }
}

/// Returns a line such as `Active: 20 of 100 objects, 1 failed`.
fn status_line(description: &JobDescription) -> String {
    let job = &description.job;
    let interrupted = if description.presence == JobPresence::Interrupted { " (interrupted)" } else { "" };
    let (settled, total) = (HumanCount(job.progress.finished()), HumanCount(job.progress.total));
    let failed = HumanCount(job.progress.failed);
    escape_line(&format!("{}{interrupted}: {settled} of {total} objects, {failed} failed", job.status))
}

/// Returns a job as text for a terminal, without a line break at its end. The caller must escape it before printing.
fn to_page(description: &JobDescription, style: &ShowOptions) -> String {
    let mut page = DetailPage::new(format!("job {} is {}", description.job.id, status_text(description)));
    status_rows(&mut page, description);
    plan_rows(&mut page, description);
    result_rows(&mut page, description, style.as_of);
    failure_rows(&mut page, &description.failures, style.examples);
    page.finish(next_step(description, style).as_deref())
}

/// Returns the next command for a job.
fn next_step(description: &JobDescription, style: &ShowOptions) -> Option<String> {
    let JobDescription { job, presence, failures, folder, .. } = description;
    next_command(job, presence, failures.iter().map(|(code, _)| code), folder, &style.state_flag)
}

/// Returns the status, such as `Active` or `Active (interrupted: its process died)`.
fn status_text(description: &JobDescription) -> String {
    let JobDescription { job, presence, .. } = description;
    let more = match presence {
        _ if failed_before_start(job) => " (before it started: nothing was changed)",
        // Its process recorded why it stopped.
        JobPresence::Interrupted if job.status == JobStatus::Preparing && job.reason.is_some() => " (stopped)",
        JobPresence::Interrupted => " (interrupted: its process died)",
        JobPresence::Unattended | JobPresence::HeldBy(_) => "",
    };
    format!("{}{more}", job.status)
}

fn status_rows(page: &mut DetailPage, description: &JobDescription) {
    let JobDescription { job, presence, plan, .. } = description;
    page.row("name", &job.name);
    page.text_if("description", job.description.as_deref());
    page.text_if("reason", job.reason.as_deref());
    if let JobPresence::HeldBy(holder) = presence {
        page.row("held by", holder);
    }
    let required = plan.as_ref().is_ok_and(|plan| plan.job.confirmation_required);
    page.row(
        "confirmation",
        match (required, job.confirmed) {
            (false, true) => "not required",
            (true, true) => "required, given",
            (_, false) => "required, not given",
        },
    );
    page.row("priority", job.priority);
    page.row_if("token", job.token.as_ref());
    page.row("created", format_instant(job.created));
    page.row("changed", format_instant(job.changed));
    page.row_if("ended", job.ended.map(format_instant));
}

fn plan_rows(page: &mut DetailPage, description: &JobDescription) {
    let JobDescription { job, plan, manifest, .. } = description;
    page.row("plan", show_path(&job.plan_file));
    page.row("plan hash", &job.plan_hash);
    page.row_if("plan error", plan.as_ref().err());
    page.text_if("manifest error", manifest.as_ref().err().map(ToString::to_string).as_deref());
    if let Ok(plan) = plan {
        page.row("store", describe_store(&plan.store));
        page.row_if("manifest", description.source().ok().flatten().as_ref().map(describe_source));
        for operation in &plan.operations {
            page.row("operation", describe_operation(operation));
        }
    }
    match &job.source {
        JobSource::Plan => page.row_if("recurring", describe_job_scope(job)),
        JobSource::Retry { of, unattempted: false } => page.row("retry of", format!("failed objects of {of}")),
        JobSource::Retry { of, unattempted: true } => {
            page.row("retry of", format!("failed and unattempted objects of {of}"));
        }
        JobSource::Report(report) => {
            page.row("retry of", format!("failed objects in the report {}", report.location()));
        }
        JobSource::Undo(undo) => page.row("undo of", &undo.of),
    }
    for retry in &description.retried_by {
        page.row("retried by", retry);
    }
}

fn result_rows(page: &mut DetailPage, description: &JobDescription, as_of: Option<Timestamp>) {
    let JobRecord { progress, in_doubt, active_time: active, .. } = &description.job;
    page.row("objects", HumanCount(progress.total));
    page.row_if("progress", describe_progress(description, as_of));
    page.row("succeeded", HumanCount(progress.succeeded));
    page.row("failed", HumanCount(progress.failed));
    page.row("not attempted", HumanCount(description.job.not_attempted()));
    if *in_doubt > 0 {
        let doubt = "each may have been changed without being in the report";
        page.row("in doubt", format!("{}: {doubt}", HumanCount(*in_doubt)));
    }
    if description.was_active() {
        let rate = description.objects_per_second().map_or_else(String::new, |rate| format!(", {rate:.1} objects/s"));
        page.row("active", format!("{:.1} s{rate}", active.as_secs_f64()));
    }
    if let Some(place) = description.report_location() {
        let state = match description.report_state() {
            ReportState::Absent => "",
            ReportState::Open => " (incomplete: the job has not ended)",
            ReportState::Local => " (local only)",
            ReportState::Unpublished => " (not published yet)",
            ReportState::Published => " (published)",
        };
        page.row("report", format!("{place}{state}"));
    }
    page.row("folder", show_path(description.folder.path()));
    for file in &description.files {
        let files = match file.files {
            _ if !file.name.ends_with('/') => String::new(),
            1 => "1 file, ".to_owned(),
            files => format!("{} files, ", HumanCount(files)),
        };
        page.row("", format!("{}  {files}{} bytes", file.name, HumanCount(file.bytes)));
    }
}

/// Describes how far a job is that is not over, such as `20 %, about 4 min left`.
fn describe_progress(description: &JobDescription, as_of: Option<Timestamp>) -> Option<String> {
    let percent = description.percent_finished()?;
    let left =
        description.time_left().map_or_else(String::new, |left| format!(", about {} left", format_duration(left)));
    let seen = as_of.map_or_else(String::new, |at| format!(", as of {}", format_instant(at)));
    Some(format!("{percent:.0} %{left}{seen}"))
}

fn failure_rows(page: &mut DetailPage, failures: &[(FailureCode, FailureGroup)], most: usize) {
    for (FailureCode { code, http }, FailureGroup { count, examples }) in failures {
        let status = if *http == 0 { String::new() } else { format!("{http} ") };
        let objects = if *count == 1 { "object" } else { "objects" };
        page.row("failure", format!("{} {objects}: {status}{code}", HumanCount(*count)));
        page.row_if("  hint", failure_hint(code, *http));
        for example in examples.iter().take(most) {
            let object = &example.object;
            let version =
                object.version.as_ref().map_or_else(String::new, |version| format!(" ({})", version.as_str()));
            page.row("  example", format!("{}/{}{version}: {}", object.bucket, object.key, example.message));
        }
    }
}

/// Returns a job as JSON. The help of `batchplan show` documents the format.
fn to_json(description: &JobDescription, style: &ShowOptions) -> Json {
    let JobDescription { job, presence, plan, .. } = description;
    let holder = match presence {
        JobPresence::HeldBy(holder) => Some(holder),
        JobPresence::Unattended | JobPresence::Interrupted => None,
    };
    let (origin, retry_of) = origin(&job.source);
    let failures: Vec<_> = description.failures.iter().map(|failure| failure_json(failure, style.examples)).collect();
    let files: Vec<_> = description
        .files
        .iter()
        .map(|file| json!({ "name": file.name, "files": file.files, "bytes": file.bytes }))
        .collect();
    let mut object = json!({
        "job_id": job.id.as_str(),
        "name": job.name,
        "description": job.description,
        "status": job.status,
        "reason": job.reason,
        "cause": job.pause_cause,
        "interrupted": *presence == JobPresence::Interrupted,
        "holder": holder,
        "confirmation_required": plan.as_ref().ok().map(|plan| plan.job.confirmation_required),
        "confirmed": job.confirmed,
        "priority": job.priority,
        "token": job.token,
        "created": job.created,
        "changed": job.changed,
        "ended": job.ended,
        "plan_file": path_to_text(&job.plan_file),
        "plan_hash": job.plan_hash,
        "plan_error": plan.as_ref().err().map(ToString::to_string),
        "store": plan.as_ref().ok().map(|plan| describe_store(&plan.store)),
        "manifest": description.source().ok().flatten().as_ref().map(describe_source),
        "operations": plan.as_ref().ok().map(|plan| plan.operations.iter().map(describe_operation).collect::<Vec<_>>()),
        "origin": origin,
        "retry_of": retry_of,
        "retried_by": description.retried_by,
        "percent": description.percent_finished(),
        "seconds_left": description.time_left().map(|left| left.as_secs()),
        "as_of": style.as_of,
        "total": job.progress.total,
        "succeeded": job.progress.succeeded,
        "failed": job.progress.failed,
        "not_attempted": job.not_attempted(),
        "in_doubt": job.in_doubt,
        "active_seconds": description.was_active().then_some(job.active_time.as_secs_f64()),
        "objects_per_second": description.objects_per_second(),
        "failures": failures,
        "report": description.report_location(),
        "report_state": report_state_name(description.report_state()),
        "report_folder": path_to_text(&description.folder.report_folder()),
        "folder": path_to_text(description.folder.path()),
        "files": files,
        "next": next_step(description, style),
    });
    object["undo_of"] = json!(undo_of(&job.source));
    object
}

fn undo_of(origin: &JobSource) -> Option<&str> {
    match origin {
        JobSource::Undo(undo) => Some(undo.of.as_str()),
        JobSource::Plan | JobSource::Retry { .. } | JobSource::Report(_) => None,
    }
}

fn origin(origin: &JobSource) -> (&'static str, Option<String>) {
    match origin {
        JobSource::Plan => ("plan", None),
        JobSource::Retry { of, .. } => ("retry", Some(of.to_string())),
        JobSource::Report(report) => ("report", Some(report.location())),
        JobSource::Undo(_) => ("undo", None),
    }
}

fn failure_json((code, reason): &(FailureCode, FailureGroup), most: usize) -> Json {
    let examples: Vec<_> = reason.examples.iter().take(most).map(example_json).collect();
    json!({
        "code": code.code,
        "http": code.http,
        "count": reason.count,
        "advice": failure_hint(&code.code, code.http),
        "examples": examples,
    })
}

fn example_json(example: &FailureExample) -> Json {
    json!({
        "bucket": example.object.bucket.as_str(),
        "key": example.object.key.encoded(),
        "version": example.object.version.as_ref().map(VersionId::as_str),
        "message": example.message,
    })
}

fn report_state_name(state: ReportState) -> &'static str {
    match state {
        ReportState::Absent => "absent",
        ReportState::Open => "open",
        ReportState::Local => "kept",
        ReportState::Unpublished => "due",
        ReportState::Published => "published",
    }
}

//! Reports to GitHub Actions: annotations at the lines of a file, a step's outputs and summary, the results of jobs,
//! and the comment on a pull request.
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use batchplan_store::web::HttpUrl;
use indicatif::HumanCount;

use super::descriptions::{describe_doubt, describe_operation, describe_store, format_objects, next_command};
use super::markdown::{FoldedBlock, code, truncate_markdown};
use super::pull_request_comment::{create_or_update, marker};
use super::terminal::{Terminal, is_github_actions};
use crate::diagnostics::{FileProblem, FileProblems};
use crate::files::with_path;
use crate::job::{JobStatus, Progress};
use crate::jobs::{JobPresence, hint, stored_plan};
use crate::journal::{FailureCode, FailureGroup, JobFolder, JobRecord, JobSource, Journal, PauseCause, ReportDelivery};
use crate::paths::{path_to_text, show_path};

/// The maximum size of a summary in bytes, with a margin: GitHub drops one of more than 1 MiB. Each step has its own
/// limit.
const MAX_SUMMARY_BYTES: usize = (1 << 20) - 4096;

/// The maximum number of annotated problems. GitHub shows ten errors of a step, and the tenth is kept for the number of
/// further problems.
const MAX_ANNOTATIONS: usize = 9;

/// The maximum number of error codes reported of a job. The most frequent ones are reported.
const MAX_ERROR_CODES: usize = 20;

/// The number of example objects for each error code if there are more than two codes.
const EXAMPLES_PER_CODE: usize = 3;

/// The maximum number of characters for the example objects of a job.
const MAX_EXAMPLE_CHARS: usize = 20_000;

/// Prints an annotation for each problem, if this process runs in a workflow.
pub(super) fn annotate<'a>(files: impl IntoIterator<Item = &'a FileProblems>, terminal: Terminal) {
    if !is_github_actions() {
        return;
    }
    for line in annotations(files, path_in_workspace) {
        // On standard error: the next program may read the data on standard output.
        terminal.runner_command(line);
    }
}

/// Reports a plan: the step's outputs, its summary, and a pull request comment if the step asks for one.
pub(super) fn report_plan(
    (name, file): (&str, &str),
    outputs: &[(&str, String)],
    markdown: impl FnOnce() -> String,
    terminal: Terminal,
) {
    if !is_github_actions() {
        return;
    }
    set_outputs(outputs, terminal);
    let markdown = markdown();
    append_summary(&markdown, terminal);
    let file = path_in_workspace(file);
    update_comment(&marker("plan", name, &file), &markdown, terminal);
}

/// Reports a verification: the step's outputs, its summary, and a pull request comment if the step asks for one; and, if
/// there is drift, an error at the plan file.
pub(super) fn report_verification(
    (name, file): (&str, &str),
    outputs: &[(&str, String)],
    drift: Option<&str>,
    markdown: impl FnOnce() -> String,
    terminal: Terminal,
) {
    if !is_github_actions() {
        return;
    }
    let place = path_in_workspace(file);
    if let Some(drift) = drift {
        let place = escape_property(&place);
        terminal.runner_command(format_args!("::error file={place}::{}", escape_message(drift)));
    }
    set_outputs(outputs, terminal);
    let markdown = markdown();
    append_summary(&markdown, terminal);
    update_comment(&marker("verify", name, &place), &markdown, terminal);
}

/// Returns a file's path as GitHub names it.
fn path_in_workspace(file: &str) -> String {
    let workspace = std::env::var_os("GITHUB_WORKSPACE");
    path_relative_to(workspace.as_deref().map(Path::new), file)
}

/// Returns the URL of the current workflow run, if the runner's environment yields a usable one.
pub(super) fn run_url() -> Option<String> {
    let variable = |name: &str| std::env::var_os(name).filter(|_| is_github_actions())?.into_string().ok();
    run_page_url(&variable("GITHUB_SERVER_URL")?, &variable("GITHUB_REPOSITORY")?, &variable("GITHUB_RUN_ID")?)
}

fn run_page_url(server: &str, repository: &str, run: &str) -> Option<String> {
    let url = format!("{server}/{repository}/actions/runs/{run}");
    // Nothing in the URL may end a Markdown link that contains it.
    let plain = url.chars().all(|c| c.is_ascii_alphanumeric() || "-._/:".contains(c));
    HttpUrl::parse(&url).ok().filter(|_| plain).map(|url| url.full_url())
}

/// Reports that nothing is new since this inventory. `previewed` are the name and the file of a plan that was to be
/// previewed, not applied.
pub(super) fn report_nothing_new(inventory: &str, previewed: Option<(&str, &str)>, terminal: Terminal) {
    let markdown = format!("Nothing new since {}.", code(inventory));
    if let Some(plan) = previewed {
        let none = ["total", "changes"].map(|name| (name, "0".to_owned()));
        report_plan(plan, &none, || markdown, terminal);
    } else {
        let none = ["total", "succeeded", "failed"].map(|name| (name, "0".to_owned()));
        set_outputs(&none, terminal);
        append_summary(&markdown, terminal);
    }
}

fn set_outputs(outputs: &[(&str, String)], terminal: Terminal) {
    append_to_runner_file(
        "GITHUB_OUTPUT",
        || outputs.iter().map(|(name, value)| format_output(name, value)).collect(),
        terminal,
    );
}

/// Appends Markdown to the step's summary.
fn append_summary(markdown: &str, terminal: Terminal) {
    append_to_runner_file(
        "GITHUB_STEP_SUMMARY",
        || truncate_markdown(markdown, MAX_SUMMARY_BYTES, str::len) + "\n",
        terminal,
    );
}

/// Appends to a file that the runner names. A failure is only a warning, because the work itself is already done.
fn append_to_runner_file(variable: &str, text: impl FnOnce() -> String, terminal: Terminal) {
    let Some(path) = std::env::var_os(variable).filter(|path| is_github_actions() && !path.is_empty()) else { return };
    let path = Path::new(&path);
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path).map_err(with_path(path));
    if let Err(error) = file.and_then(|mut file| file.write_all(text().as_bytes()).map_err(with_path(path))) {
        terminal.eprint(format_args!("warning: cannot write {variable}: {error}"));
    }
}

/// Formats an output with any value. The delimiter is random each time, so that no value can contain it.
fn format_output(name: &str, value: &str) -> String {
    let end = uuid::Uuid::new_v4().simple();
    format!("{name}<<{end}\n{value}\n{end}\n")
}

/// Creates or updates the comment, if the step asks for one.
fn update_comment(marker: &str, markdown: &str, terminal: Terminal) {
    let wanted = std::env::var_os("BATCHPLAN_COMMENT").is_some_and(|wanted| wanted == "true");
    if !wanted || !is_github_actions() {
        return;
    }
    // The caller may be inside a runtime, where blocking on another runtime is not allowed.
    let written =
        std::thread::scope(|scope| scope.spawn(|| create_or_update(marker, markdown, run_url().as_deref())).join());
    match written.unwrap_or_else(|_| Err("internal error".to_owned())) {
        Ok(url) => terminal.eprint(format_args!("comment: {url}")),
        Err(why) => terminal.runner_command(warning(&format!("pull request comment not written: {why}"))),
    }
}

/// Returns a file's path relative to the workspace, as GitHub names it.
fn path_relative_to(workspace: Option<&Path>, name: &str) -> String {
    let absolute = std::path::absolute(name).ok();
    let inside = absolute.as_deref().zip(workspace).and_then(|(path, workspace)| path.strip_prefix(workspace).ok());
    inside.map_or_else(|| name.to_owned(), |path| show_path(path).to_string())
}

/// Returns the annotations, errors first, and a last line with the number of problems that were left out.
fn annotations<'a>(files: impl IntoIterator<Item = &'a FileProblems>, place: impl Fn(&str) -> String) -> Vec<String> {
    let mut all: Vec<_> = files
        .into_iter()
        .flat_map(|file| file.iter().map(move |problem| (problem.is_warning(), file, problem)))
        .collect();
    all.sort_by_key(|(warning, ..)| *warning);
    let more = all.len().saturating_sub(MAX_ANNOTATIONS);
    let mut lines: Vec<_> =
        all.iter().take(MAX_ANNOTATIONS).map(|(_, file, problem)| annotation(file, problem, &place)).collect();
    if more > 0 {
        let level = if all.iter().skip(MAX_ANNOTATIONS).any(|(warning, ..)| !warning) { "error" } else { "warning" };
        lines.push(format!("::{level}::... and {more} more; see the log of this step"));
    }
    lines
}

fn annotation(file: &FileProblems, problem: &FileProblem, place: &impl Fn(&str) -> String) -> String {
    let level = if problem.is_warning() { "warning" } else { "error" };
    let mut line = format!("::{level} file={}", escape_property(&place(file.file_name())));
    let mark = problem.label_spans().first();
    if let Some((span, _)) = mark {
        let (row, column) = file.position(span.start);
        let (end_row, end_column) = file.position(span.end);
        let _ = write!(line, ",line={row},endLine={end_row},col={column}");
        // GitHub accepts an end column only on the same line and only after the start column.
        if end_row == row && end_column > column {
            let _ = write!(line, ",endColumn={end_column}");
        }
    }
    let label = mark.map(|(_, label)| format!(": {label}")).unwrap_or_default();
    let help = problem.hint().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
    let _ = write!(line, "::{}", escape_message(&format!("{}{label}{help}", problem.title())));
    line
}

/// Returns a warning that refers to no file.
fn warning(text: &str) -> String {
    format!("::warning::{}", escape_message(text))
}

/// Escapes the text after the second `::`, so that it cannot start another line.
fn escape_message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a value before the second `::`, so that it can start neither another value nor the text.
fn escape_property(text: &str) -> String {
    escape_message(text).replace(':', "%3A").replace(',', "%2C")
}

/// Reports the result of one job to the workflow. `error` is why the job could not be run, if it could not. `flag` is
/// the ` --state` flag that shown commands need, or empty.
pub(super) fn report_job(journal: &Journal, job: &JobRecord, error: Option<&str>, flag: &str, terminal: Terminal) {
    report_jobs(journal, &[(job.clone(), error.map(str::to_owned))], flag, terminal);
}

/// Reports the results of jobs to the workflow, each with why it could not be run, if it could not.
pub(super) fn report_jobs(journal: &Journal, outcomes: &[(JobRecord, Option<String>)], flag: &str, terminal: Terminal) {
    if !is_github_actions() || outcomes.is_empty() {
        return;
    }
    set_outputs(&outputs(outcomes), terminal);
    let markdown = markdown(journal, outcomes, flag);
    append_summary(&markdown, terminal);
    // Writing a comment takes time, and the runner kills a process that stays after a signal.
    if outcomes.iter().any(|(job, _)| job.pause_cause == Some(PauseCause::Signal)) {
        return;
    }
    let marker = match outcomes {
        [(job, _)] => marker("job", &job.name, &path_in_workspace(&path_to_text(&job.plan_file))),
        _ => marker("run", "", ""),
    };
    update_comment(&marker, &markdown, terminal);
}

/// Returns the step's outputs. For several jobs, counts are added up and other values have one line for each job.
fn outputs(outcomes: &[(JobRecord, Option<String>)]) -> [(&'static str, String); 6] {
    let jobs = || outcomes.iter().map(|(job, _)| job);
    let lines = |of: fn(&JobRecord) -> String| jobs().map(of).collect::<Vec<_>>().join("\n");
    let sum = |of: fn(Progress) -> u64| jobs().map(|job| of(job.progress)).sum::<u64>().to_string();
    [
        ("job-id", lines(|job| job.id.to_string())),
        ("status", lines(|job| job.status.to_string())),
        ("total", sum(|progress| progress.total)),
        ("succeeded", sum(|progress| progress.succeeded)),
        ("failed", sum(|progress| progress.failed)),
        ("report", lines(|job| job.report_location.clone().unwrap_or_default())),
    ]
}

/// Returns the sections of all jobs.
fn markdown(journal: &Journal, outcomes: &[(JobRecord, Option<String>)], flag: &str) -> String {
    let section = |(job, error): &(JobRecord, Option<String>)| {
        let mut failures: Vec<_> = journal.recorded_progress(job.number).map_or_else(
            |_| Vec::new(),
            |recorded| recorded.tally.groups().map(|(code, group)| (code.clone(), group.clone())).collect(),
        );
        failures.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        let folder = JobFolder::of(journal.state_folder(), &job.id);
        // This process holds the job, but is about to release it. Only commands of this program are shown: the files of
        // a finished job go away with the runner's machine.
        let codes = failures.iter().map(|(code, _)| code);
        let next = next_command(job, &JobPresence::Unattended, codes, &folder, flag)
            .filter(|next| next.starts_with("batchplan "));
        job_section(job, error.as_deref(), &failures, next.as_deref())
    };
    outcomes.iter().map(section).collect::<Vec<_>>().join("\n")
}

/// Returns the section of one job.
fn job_section(
    job: &JobRecord,
    error: Option<&str>,
    failures: &[(FailureCode, FailureGroup)],
    next: Option<&str>,
) -> String {
    let mut text = format!("### batchplan: {} is {}\n\n**{}**\n\n", code(&job.name), job.status, headline(job));
    if let Some(error) = error {
        let _ = writeln!(text, "> **Error:** {}\n", code(error));
    }
    text.push_str(&facts_table(job));
    text.push_str(&failure_table(failures));
    let examples = FoldedBlock::new("examples of failed objects", "", failed_examples(failures));
    text.push_str(&examples.render(MAX_EXAMPLE_CHARS));
    if let Some(next) = next {
        let _ = writeln!(text, "\nnext: {}", code(next));
    }
    text
}

/// Returns the line that matters most to a person.
fn headline(job: &JobRecord) -> String {
    let Progress { total, succeeded, failed, .. } = job.progress;
    match job.status {
        JobStatus::Complete if total == 0 => "There were no objects to process.".to_owned(),
        JobStatus::Complete if failed == 0 && total == 1 => "The only object succeeded.".to_owned(),
        JobStatus::Complete if failed == 0 => format!("All {} succeeded.", format_objects(total)),
        JobStatus::Complete => {
            format!("{} of {} failed, {} succeeded.", HumanCount(failed), format_objects(total), HumanCount(succeeded))
        }
        JobStatus::Suspended => {
            format!("{} to process after confirmation. Nothing was changed.", format_objects(total))
        }
        JobStatus::Ready => format!("{} to process. Nothing was changed yet.", format_objects(total)),
        JobStatus::New | JobStatus::Preparing => "The manifest is not resolved yet. Nothing was changed.".to_owned(),
        _ if job.next_row.is_none() && job.in_doubt == 0 => "No object was attempted.".to_owned(),
        _ => format!(
            "{} succeeded and {} failed; {} not attempted{}.",
            HumanCount(succeeded),
            HumanCount(failed),
            format_objects(job.not_attempted()),
            describe_doubt(job).map_or_else(String::new, |doubt| format!("; {doubt}"))
        ),
    }
}

fn facts_table(job: &JobRecord) -> String {
    // A Markdown table needs a header, so the first row is the header.
    let mut text = format!("| job | {} |\n|:---|:---|\n", code(job.id.as_str()));
    let mut row = |what: &str, value: &str| {
        let _ = writeln!(text, "| {what} | {value} |");
    };
    let Progress { total, succeeded, failed, .. } = job.progress;
    row("plan", &code(&path_in_workspace(&path_to_text(&job.plan_file))));
    match &job.source {
        JobSource::Plan => {}
        JobSource::Retry { of, .. } => row("retry of", &code(of.as_str())),
        JobSource::Report(report) => row("retry of", &code(&report.location())),
        JobSource::Undo(undo) => row("undo of", &code(undo.of.as_str())),
    }
    if let Ok(plan) = stored_plan(job) {
        row("store", &code(&describe_store(&plan.store)));
        for operation in &plan.operations {
            row("operation", &code(&describe_operation(operation)));
        }
    }
    if let Some(reason) = &job.reason {
        row("reason", &code(reason));
    }
    row("objects", &HumanCount(total).to_string());
    row("succeeded", &HumanCount(succeeded).to_string());
    row("failed", &HumanCount(failed).to_string());
    if job.not_attempted() > 0 {
        row("not attempted", &HumanCount(job.not_attempted()).to_string());
    }
    if job.in_doubt > 0 {
        row(
            "in doubt",
            &format!("{}: each may have been changed without being in the report", HumanCount(job.in_doubt)),
        );
    }
    if let Some(place) = &job.report_location {
        let due = if job.report_delivery == ReportDelivery::Due { ", not published yet" } else { "" };
        row("report", &format!("{}{due}", code(place)));
    }
    text
}

/// Returns why objects failed, and what to do about it.
fn failure_table(failures: &[(FailureCode, FailureGroup)]) -> String {
    if failures.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n| failed | why | what to do |\n|---:|---|---|\n");
    for (failure, reason) in failures.iter().take(MAX_ERROR_CODES) {
        let help = hint(&failure.code, failure.http).unwrap_or_default();
        let _ = writeln!(text, "| {} | {} | {help} |", HumanCount(reason.count), code(&error_name(failure)));
    }
    let more = failures.len().saturating_sub(MAX_ERROR_CODES);
    if more > 0 {
        let count: u64 = failures.iter().skip(MAX_ERROR_CODES).map(|(_, reason)| reason.count).sum();
        let codes = if more == 1 { "code" } else { "codes" };
        let _ = writeln!(text, "| {} | {more} other {codes} | |", HumanCount(count));
    }
    text
}

/// Formats an error, such as `403 AccessDenied`.
fn error_name(failure: &FailureCode) -> String {
    let FailureCode { code, http } = failure;
    if *http == 0 { code.clone() } else { format!("{http} {code}") }
}

/// Returns a few of the objects that failed, one on each line.
fn failed_examples(failures: &[(FailureCode, FailureGroup)]) -> Vec<String> {
    let mut lines = Vec::new();
    let most = if failures.len() > 2 { EXAMPLES_PER_CODE } else { usize::MAX };
    for (failure, reason) in failures.iter().take(MAX_ERROR_CODES) {
        // Sort, because it is random which objects failed first.
        let mut examples: Vec<_> = reason.examples.iter().collect();
        examples.sort_by(|one, other| one.object.cmp(&other.object));
        for example in examples.into_iter().take(most) {
            let object = &example.object;
            let version =
                object.version.as_ref().map_or_else(String::new, |version| format!(" ({})", version.as_str()));
            let line =
                format!("{}/{}{version}: {}: {}", object.bucket, object.key, error_name(failure), example.message);
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_page_url_rejects_unusable_values() {
        let run = run_page_url("https://github.com", "o/r", "17");
        assert_eq!(run.as_deref(), Some("https://github.com/o/r/actions/runs/17"));
        for (server, repository) in [
            ("", "o/r"),
            ("javascript:alert(1)", "o/r"),
            ("https://me:pw@h", "o/r"),
            ("https://h", "a b"),
            ("https://h", "a)b"),
        ] {
            assert_eq!(run_page_url(server, repository, "17"), None, "{server} {repository}");
        }
    }

    #[test]
    fn output_values_cannot_end_the_output() {
        let set = format_output("report", "a\nreport=b\n");
        let end = set.lines().last().expect("an end");
        assert_eq!(set, format!("report<<{end}\na\nreport=b\n\n{end}\n"));
        assert_ne!(format_output("report", ""), format_output("report", ""));
    }

    fn problems(name: &str, count: usize) -> FileProblems {
        let mut problems = FileProblems::new(name, "a = 1\nb = 2\n");
        for number in 0..count {
            problems.push(
                FileProblem::new(format!("no {number}\n::set-output name=x::y"))
                    .label(6..7, "50 % of it")
                    .help("fix it"),
            );
        }
        problems
    }

    #[test]
    fn annotations_have_positions_and_are_escaped() {
        let lines = annotations([&problems("a,b:c.toml", 1)], str::to_owned);
        assert_eq!(
            lines,
            [
                "::error file=a%2Cb%3Ac.toml,line=2,endLine=2,col=1,endColumn=2::no 0%0A::set-output name=x::y: 50 %25 of \
              it%0Ahelp: fix it"
            ]
        );
    }

    #[test]
    fn limits_the_number_of_annotations() {
        let (one, other) = (problems("a.toml", 8), problems("b.toml", 7));
        let lines = annotations([&one, &other], str::to_owned);
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[9], "::error::... and 6 more; see the log of this step");
        assert_eq!(annotations([&one], str::to_owned).len(), 8);
    }

    #[test]
    fn file_names_are_relative_to_the_workspace() {
        let here = std::env::current_dir().expect("a folder");
        assert_eq!(
            path_relative_to(here.parent(), "x.toml"),
            format!("{}/x.toml", here.file_name().expect("a name").display())
        );
        assert_eq!(path_relative_to(Some(Path::new("/elsewhere")), "x.toml"), "x.toml");
        assert_eq!(path_relative_to(None, "x.toml"), "x.toml");
    }
}

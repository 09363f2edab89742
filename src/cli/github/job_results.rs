//! Reports the results of jobs: the step's outputs, and a section of its summary for each job.

use std::fmt::Write as _;

use indicatif::HumanCount;

use super::comment::{CommentSubject, update_comment};
use super::{append_summary, set_outputs, workspace_name};
use crate::cli::markdown::{FoldedBlock, block_line, code};
use crate::cli::next_command::next_command;
use crate::cli::summary::{describe_doubt, describe_operation, describe_store, format_objects};
use crate::cli::terminal::{Terminal, escape_line, is_github_actions};
use crate::job::{JobStatus, Progress};
use crate::jobs::{JobPresence, hint, stored_plan};
use crate::journal::{FailureCode, FailureGroup, JobFolder, JobRecord, JobSource, Journal, PauseCause, ReportDelivery};

/// The maximum number of error codes reported of a job. The most frequent ones are reported.
const MAX_ERROR_CODES: usize = 20;

/// The number of example objects for each error code if there are more than two codes.
const EXAMPLES_PER_CODE: usize = 3;

/// The maximum number of characters for the example objects of a job.
const MAX_EXAMPLE_CHARS: usize = 20_000;

/// A job, and the error that it ended with if it could not be run.
pub(in crate::cli) struct ReportedJob<'a> {
    /// The job's current record.
    pub(in crate::cli) job: &'a JobRecord,
    /// Why the job could not be run.
    pub(in crate::cli) error: Option<&'a str>,
}

/// Reports the results of jobs to the workflow. `flag` is the ` --state` flag that shown commands need, or empty.
pub(in crate::cli) fn report_jobs(journal: &Journal, outcomes: &[ReportedJob<'_>], flag: &str, terminal: Terminal) {
    if !is_github_actions() || outcomes.is_empty() {
        return;
    }
    set_outputs(&outputs(outcomes), terminal);
    let markdown = markdown(journal, outcomes, flag);
    append_summary(&markdown, terminal);
    // Writing a comment takes time, and the runner kills a process that stays after a signal.
    if outcomes.iter().any(|outcome| outcome.job.pause_cause == Some(PauseCause::Signal)) {
        return;
    }
    let file;
    let subject = match outcomes {
        [ReportedJob { job, .. }] => {
            file = workspace_name(&job.plan_file.to_string_lossy());
            CommentSubject { kind: "job", name: &job.name, file: &file }
        }
        _ => CommentSubject { kind: "run", name: "", file: "" },
    };
    update_comment(&subject, &markdown, terminal);
}

/// Returns the step's outputs. For several jobs, counts are added up and other values have one line for each job.
fn outputs(outcomes: &[ReportedJob<'_>]) -> [(&'static str, String); 6] {
    let jobs = || outcomes.iter().map(|outcome| outcome.job);
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
fn markdown(journal: &Journal, outcomes: &[ReportedJob<'_>], flag: &str) -> String {
    let of = |outcome: &ReportedJob<'_>| {
        let mut failures: Vec<_> = journal.recorded_progress(outcome.job.number).map_or_else(
            |_| Vec::new(),
            |recorded| recorded.tally.groups().map(|(code, reason)| (code.clone(), reason.clone())).collect(),
        );
        failures.sort_by_key(|(_, reason)| std::cmp::Reverse(reason.count));
        let folder = JobFolder::of(journal.state_folder(), &outcome.job.id);
        // This process holds the job and is about to release it. Commands that show files of a finished job are left
        // out, because the runner's machine is about to go away.
        let next = next_command(outcome.job, &JobPresence::Unattended, &folder, flag)
            .filter(|next| next.starts_with("batchplan "));
        job_section(outcome, &failures, next.as_deref())
    };
    outcomes.iter().map(of).collect::<Vec<_>>().join("\n")
}

/// Returns the section of one job.
fn job_section(outcome: &ReportedJob<'_>, failures: &[(FailureCode, FailureGroup)], next: Option<&str>) -> String {
    let ReportedJob { job, error } = outcome;
    let mut text = format!("### batchplan: {} is {}\n\n**{}**\n\n", code(&job.name), job.status, headline(job));
    if let Some(error) = error {
        let _ = writeln!(text, "> **Error:** {}\n", code(error));
    }
    text.push_str(&facts_table(job));
    text.push_str(&failure_table(failures));
    let examples = FoldedBlock {
        heading: "examples of failed objects".to_owned(),
        language: "",
        lines: failed_examples(failures),
    };
    text.push_str(&examples.render(MAX_EXAMPLE_CHARS));
    if let Some(next) = next {
        let _ = writeln!(text, "\nnext: {}", code(next));
    }
    text
}

/// Returns the line that matters most to a person.
fn headline(job: &JobRecord) -> String {
    let Progress { total, succeeded, failed } = job.progress;
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
    let Progress { total, succeeded, failed } = job.progress;
    row("plan", &code(&workspace_name(&job.plan_file.to_string_lossy())));
    match &job.source {
        JobSource::Plan => {}
        JobSource::Retry { of, .. } => row("retry of", &code(of.as_str())),
        JobSource::Report(report) => row("retry of", &code(&report.location())),
    }
    if let Ok(plan) = stored_plan(job) {
        row("store", &code(&describe_store(&plan.store)));
        for it in &plan.operations {
            row("operation", &code(&describe_operation(it)));
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
        let advice = hint(&failure.code, failure.http).unwrap_or_default();
        let _ = writeln!(text, "| {} | {} | {advice} |", HumanCount(reason.count), code(&error_name(failure)));
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
            lines.push(block_line(&escape_line(&line)));
        }
    }
    lines
}

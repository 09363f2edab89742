//! Reports the results of jobs: the step's outputs, and a section of its summary for each job.

use std::fmt::Write as _;

use indicatif::HumanCount;

use super::comment::{Subject, comment};
use super::{set_outputs, summarise, workspace_name};
use crate::cli::markdown::{Part, block_line, code};
use crate::cli::next::next;
use crate::cli::summary::{doubt, objects, operation, store};
use crate::cli::terminal::{Terminal, cell};
use crate::job::{JobStatus, Progress};
use crate::jobs::{Presence, advice, stored_plan};
use crate::journal::{Delivery, ErrorCode, JobFolder, JobRecord, Journal, Origin, PauseCause, Reason};

/// The maximum number of error codes reported of a job. The most frequent ones are reported.
const MOST_CODES: usize = 20;

/// The number of example objects for each error code if there are more than two codes.
const FEW_EXAMPLES: usize = 3;

/// The maximum number of characters for the example objects of a job.
const MOST_OF_EXAMPLES: usize = 20_000;

/// A job, and the error that it ended with if it could not be run.
pub(in crate::cli) struct Outcome<'a> {
    /// The job's current record.
    pub(in crate::cli) job: &'a JobRecord,
    /// Why the job could not be run.
    pub(in crate::cli) error: Option<&'a str>,
}

/// Reports the results of jobs to the workflow. `flag` is the ` --state` flag that shown commands need, or empty.
pub(in crate::cli) fn tell(journal: &Journal, outcomes: &[Outcome<'_>], flag: &str, terminal: Terminal) {
    if !super::is_here() || outcomes.is_empty() {
        return;
    }
    set_outputs(&outputs(outcomes), terminal);
    let markdown = markdown(journal, outcomes, flag);
    summarise(&markdown, terminal);
    // Writing a comment takes time, and the runner kills a process that stays after a signal.
    if outcomes.iter().any(|outcome| outcome.job.cause == Some(PauseCause::Signal)) {
        return;
    }
    let file;
    let subject = match outcomes {
        [Outcome { job, .. }] => {
            file = workspace_name(&job.plan_file.to_string_lossy());
            Subject { kind: "job", name: &job.name, file: &file }
        }
        _ => Subject { kind: "run", name: "", file: "" },
    };
    comment(&subject, &markdown, terminal);
}

/// Returns the step's outputs. For several jobs, counts are added up and other values have one line for each job.
fn outputs(outcomes: &[Outcome<'_>]) -> [(&'static str, String); 6] {
    let jobs = || outcomes.iter().map(|outcome| outcome.job);
    let lines = |of: fn(&JobRecord) -> String| jobs().map(of).collect::<Vec<_>>().join("\n");
    let sum = |of: fn(Progress) -> u64| jobs().map(|job| of(job.progress)).sum::<u64>().to_string();
    [
        ("job-id", lines(|job| job.id.to_string())),
        ("status", lines(|job| job.status.to_string())),
        ("total", sum(|progress| progress.total)),
        ("succeeded", sum(|progress| progress.succeeded)),
        ("failed", sum(|progress| progress.failed)),
        ("report", lines(|job| job.place.clone().unwrap_or_default())),
    ]
}

/// Returns the sections of all jobs.
fn markdown(journal: &Journal, outcomes: &[Outcome<'_>], flag: &str) -> String {
    let of = |outcome: &Outcome<'_>| {
        let mut failures: Vec<_> = journal.recorded(outcome.job.number).map_or_else(
            |_| Vec::new(),
            |recorded| recorded.tally.reasons().map(|(code, reason)| (code.clone(), reason.clone())).collect(),
        );
        failures.sort_by_key(|(_, reason)| std::cmp::Reverse(reason.count));
        let folder = JobFolder::of(journal.state(), &outcome.job.id);
        // This process holds the job and is about to release it. Commands that show files of a finished job are left
        // out, because the runner's machine is about to go away.
        let next = next(outcome.job, &Presence::Nobody, &folder, flag).filter(|next| next.starts_with("batchplan "));
        section(outcome, &failures, next.as_deref())
    };
    outcomes.iter().map(of).collect::<Vec<_>>().join("\n")
}

/// Returns the section of one job.
fn section(outcome: &Outcome<'_>, failures: &[(ErrorCode, Reason)], next: Option<&str>) -> String {
    let Outcome { job, error } = outcome;
    let mut text = format!("### batchplan: {} is {}\n\n**{}**\n\n", code(&job.name), job.status, headline(job));
    if let Some(error) = error {
        let _ = writeln!(text, "> **Error:** {}\n", code(error));
    }
    text.push_str(&facts(job));
    text.push_str(&reasons(failures));
    let examples =
        Part { heading: "some of the objects that failed".to_owned(), language: "", lines: examples(failures) };
    text.push_str(&examples.folded(MOST_OF_EXAMPLES));
    if let Some(next) = next {
        let _ = writeln!(text, "\nnext: {}", code(next));
    }
    text
}

/// Returns the line that matters most to a person.
fn headline(job: &JobRecord) -> String {
    let Progress { total, succeeded, failed } = job.progress;
    match job.status {
        JobStatus::Complete if total == 0 => "There were no objects to work on.".to_owned(),
        JobStatus::Complete if failed == 0 && total == 1 => "The one object succeeded.".to_owned(),
        JobStatus::Complete if failed == 0 => format!("All {} succeeded.", objects(total)),
        JobStatus::Complete => format!("{} of {} failed, {succeeded} succeeded.", HumanCount(failed), objects(total)),
        JobStatus::Suspended => {
            format!("{} to work on, once somebody confirms it. Nothing was changed.", objects(total))
        }
        JobStatus::Ready => format!("{} to work on. Nothing was changed yet.", objects(total)),
        JobStatus::New | JobStatus::Preparing => "Its manifest is not resolved yet. Nothing was changed.".to_owned(),
        _ if job.taken.is_none() && job.in_doubt == 0 => "No object was touched.".to_owned(),
        _ => format!(
            "{} succeeded and {} failed; {} not attempted{}.",
            HumanCount(succeeded),
            HumanCount(failed),
            objects(job.not_attempted()),
            doubt(job).map_or_else(String::new, |doubt| format!("; {doubt}"))
        ),
    }
}

fn facts(job: &JobRecord) -> String {
    // A Markdown table needs a header, so the first row is the header.
    let mut text = format!("| job | {} |\n|:---|:---|\n", code(job.id.as_str()));
    let mut row = |what: &str, value: &str| {
        let _ = writeln!(text, "| {what} | {value} |");
    };
    let Progress { total, succeeded, failed } = job.progress;
    row("plan", &code(&workspace_name(&job.plan_file.to_string_lossy())));
    match &job.origin {
        Origin::Plan => {}
        Origin::Retry { of, .. } => row("retry of", &code(of.as_str())),
        Origin::Report(report) => row("retry of", &code(&report.place())),
    }
    if let Ok(plan) = stored_plan(job) {
        row("store", &code(&store(&plan.store)));
        for it in &plan.operations {
            row("operation", &code(&operation(it)));
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
    if let Some(place) = &job.place {
        let due = if job.delivery == Delivery::Due { ", not published yet" } else { "" };
        row("report", &format!("{}{due}", code(place)));
    }
    text
}

/// Returns why objects failed, and what to do about it.
fn reasons(failures: &[(ErrorCode, Reason)]) -> String {
    if failures.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n| failed | why | what to do |\n|---:|---|---|\n");
    for (failure, reason) in failures.iter().take(MOST_CODES) {
        let advice = advice(&failure.code, failure.http).unwrap_or_default();
        let _ = writeln!(text, "| {} | {} | {advice} |", HumanCount(reason.count), code(&named(failure)));
    }
    let more = failures.len().saturating_sub(MOST_CODES);
    if more > 0 {
        let count: u64 = failures.iter().skip(MOST_CODES).map(|(_, reason)| reason.count).sum();
        let _ = writeln!(text, "| {} | {more} other codes | |", HumanCount(count));
    }
    text
}

/// Formats an error, such as `403 AccessDenied`.
fn named(failure: &ErrorCode) -> String {
    let ErrorCode { code, http } = failure;
    if *http == 0 { code.clone() } else { format!("{http} {code}") }
}

/// Returns a few of the objects that failed, one on each line.
fn examples(failures: &[(ErrorCode, Reason)]) -> Vec<String> {
    let mut lines = Vec::new();
    let most = if failures.len() > 2 { FEW_EXAMPLES } else { usize::MAX };
    for (failure, reason) in failures.iter().take(MOST_CODES) {
        // Sort, because it is random which objects failed first.
        let mut examples: Vec<_> = reason.examples.iter().collect();
        examples.sort_by(|one, other| one.object.cmp(&other.object));
        for example in examples.into_iter().take(most) {
            let object = &example.object;
            let version =
                object.version.as_ref().map_or_else(String::new, |version| format!(" ({})", version.as_str()));
            let line = format!("{}/{}{version}: {}: {}", object.bucket, object.key, named(failure), example.message);
            lines.push(block_line(&cell(&line)));
        }
    }
    lines
}

//! `batchplan list`: lists jobs.

use std::fmt::Write as _;

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::descriptions::{format_instant, render_hint};
use super::exit::{CliCommand, CommandError, ExitStatus, failed_before_start};
use super::numbers::whole_number;
use super::state::{JournalAccess, JournalHandle};
use super::state_location::{DEFAULT_FOLDER, PlanWithState, StateLocationArgs};
use super::terminal::{Terminal, escape_line};
use crate::job::{JobId, JobStatus};
use crate::jobs::{JobPresence, find_presence, xml};
use crate::journal::{JobQuery, JobRecord};
use crate::plan::{parse_age, parse_timestamp};

/// List jobs, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan list --status active,paused
  batchplan list --since 7d --json | jq -r '.jobs[] | select(.failed > 0) | .job_id'
  batchplan list --limit 20 --after ODRiZWQ5   # the 20 jobs older than this one

--json prints {\"jobs\": [...], \"next\": JOB or null}. If next is set, there
are more jobs: pass it to --after. A job whose process died is marked
(interrupted).")]
pub(super) struct ListArgs {
    /// Only jobs with this status: new, preparing, suspended, ready, active, pausing, paused, complete, cancelling,
    /// cancelled, failing or failed; separate several with commas, or repeat the flag
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = parse_status)]
    status: Vec<JobStatus>,
    /// Only jobs created at or after this time: a date, an RFC 3339 time, or an age such as 7d
    #[arg(long, value_name = "WHEN", value_parser = parse_instant)]
    since: Option<Timestamp>,
    /// Only jobs created before this time, in the same formats
    #[arg(long, value_name = "WHEN", value_parser = parse_instant)]
    until: Option<Timestamp>,
    /// At most N jobs, up to 1000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = whole_number::<u32>(1..=1000))]
    limit: u32,
    /// Only jobs older than this one, the last of the previous page
    #[arg(long, value_name = "JOB")]
    after: Option<String>,
    /// Print the jobs in another format
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<JobFormat>,
    #[command(flatten)]
    state: StateLocationArgs,
}

/// How else jobs can be printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum JobFormat {
    /// The XML of OSS Batch Operations
    Xml,
}

/// One page of the list.
#[derive(Default)]
struct JobListPage {
    jobs: Vec<(JobRecord, JobPresence)>,
    /// The last job of this page, if more jobs follow.
    next: Option<JobId>,
}

fn parse_status(text: &str) -> Result<JobStatus, String> {
    let shown = |status: &JobStatus| !matches!(status, JobStatus::Cleaning | JobStatus::Cleaned);
    text.trim().parse().ok().filter(shown).ok_or_else(|| crate::job::ParseJobStatusError.to_string())
}

/// Parses a time: a day, which starts at midnight UTC, an RFC 3339 instant, or an age, counted back from now.
///
/// # Errors
/// Returns a message for the user if the text is none of these.
fn parse_instant(text: &str) -> Result<Timestamp, String> {
    parse_relative_to(Timestamp::now(), text)
}

fn parse_relative_to(now: Timestamp, text: &str) -> Result<Timestamp, String> {
    if let Some(age) = parse_age(text) {
        return now.checked_sub(age).map_err(|_| "that is too long ago".to_owned());
    }
    parse_timestamp(text).ok_or_else(|| {
        "must be a date such as 2024-01-31, a time such as 2024-01-31T08:00:00Z, or an age such as 7d, 12h or 4w"
            .to_owned()
    })
}

impl CliCommand for ListArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let journal = self.state.open_existing(None, JournalAccess::Read, terminal)?;
        let page = match &journal {
            Some(journal) => load_page(self, journal)?,
            None => JobListPage::default(),
        };
        if terminal.is_json() {
            terminal.print_pretty_json(to_json(&page))?;
        } else if let Some(JobFormat::Xml) = self.format {
            let jobs: Vec<_> = page.jobs.into_iter().map(|(job, _)| job).collect();
            terminal.print(xml::list_jobs(&jobs, page.next.as_ref())?)?;
        } else if page.jobs.is_empty() {
            match PlanWithState::find().filter(|_| self.state.is_default() && !self.selects_jobs()) {
                Some(plan) => {
                    let elsewhere = render_hint(&plan.hint(), &plan.flag());
                    terminal.eprint(format_args!("No jobs in {DEFAULT_FOLDER}. {elsewhere}"));
                }
                None => terminal.eprint("no jobs"),
            }
        } else {
            terminal.print(format_table(&page, terminal).trim_end())?;
            if let Some(next) = &page.next {
                terminal.eprint(format_args!("for more jobs: {}", next_page_command(self, next)));
            }
        }
        Ok(ExitStatus::Success)
    }
}

impl ListArgs {
    /// Returns whether options leave out jobs.
    fn selects_jobs(&self) -> bool {
        !self.status.is_empty() || self.since.is_some() || self.until.is_some() || self.after.is_some()
    }
}

fn load_page(args: &ListArgs, journal: &JournalHandle) -> Result<JobListPage, CommandError> {
    let after = args.after.as_ref().map(|id| journal.find(id)).transpose()?.map(|job| job.number);
    // Query one more than is shown, to know whether more jobs follow.
    let limit = args.limit + 1;
    let query = JobQuery {
        statuses: args.status.clone(),
        created_from: args.since,
        created_until: args.until,
        older_than: after,
        limit,
    };
    let mut jobs = journal.list(query)?;
    let more = jobs.len() > args.limit as usize;
    jobs.truncate(args.limit as usize);
    let next = jobs.last().filter(|_| more).map(|job| job.id.clone());
    let seen = |job| find_presence(journal, job).map(|(job, presence)| (job, journal.adjust_presence(presence)));
    let jobs = jobs.into_iter().map(seen).collect::<Result<_, _>>()?;
    Ok(JobListPage { jobs, next })
}

fn to_json(page: &JobListPage) -> Json {
    let jobs: Vec<_> = page
        .jobs
        .iter()
        .map(|(job, presence)| {
            json!({
                "job_id": job.id.as_str(),
                "name": job.name,
                "status": job.status,
                "interrupted": *presence == JobPresence::Interrupted,
                "priority": job.priority,
                "created": job.created,
                "total": job.progress.total,
                "succeeded": job.progress.succeeded,
                "failed": job.progress.failed,
            })
        })
        .collect();
    json!({ "jobs": jobs, "next": page.next.as_ref().map(JobId::as_str) })
}

/// Formats the jobs as a table. Each column is as wide as its longest value.
fn format_table(page: &JobListPage, terminal: Terminal) -> String {
    let heads = ["ID", "STATUS", "CREATED", "NAME", "PRIORITY", "SUCCEEDED/FAILED/TOTAL"].map(str::to_owned);
    let rows = page.jobs.iter().map(|(job, presence)| {
        let interrupted = if *presence == JobPresence::Interrupted { " (interrupted)" } else { "" };
        [
            terminal.abbreviate_ids(job.id.as_str()).into_owned(),
            format!("{}{interrupted}", if failed_before_start(job) { "Not started" } else { job.status.as_str() }),
            format_instant(job.created),
            escape_line(&job.name),
            job.priority.to_string(),
            format!("{}/{}/{}", job.progress.succeeded, job.progress.failed, job.progress.total),
        ]
    });
    let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (value, width) in row.iter().zip(widths) {
            let _ = write!(line, "{value:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Returns the command for the next page. Ages become instants, so that all pages belong to the same list.
fn next_page_command(args: &ListArgs, next: &JobId) -> String {
    let mut command = "batchplan list".to_owned();
    if !args.status.is_empty() {
        let statuses: Vec<_> = args.status.iter().map(|status| status.as_str()).collect();
        let _ = write!(command, " --status {}", statuses.join(","));
    }
    for (name, instant) in [("since", args.since), ("until", args.until)] {
        if let Some(instant) = instant {
            let _ = write!(command, " --{name} {instant}");
        }
    }
    if args.limit != 100 {
        let _ = write!(command, " --limit {}", args.limit);
    }
    format!("{command} --after {next}{}", args.state.flag())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_instants_and_ages() {
        let now: Timestamp = "2024-03-10T12:00:00Z".parse().expect("an instant");
        for (text, expected) in [
            ("2024-01-31", "2024-01-31T00:00:00Z"),
            ("2024-01-31T08:00:00.5+02:00", "2024-01-31T06:00:00Z"),
            ("7d", "2024-03-03T12:00:00Z"),
            ("12 h", "2024-03-10T00:00:00Z"),
            ("1w", "2024-03-03T12:00:00Z"),
        ] {
            assert_eq!(parse_relative_to(now, text).map(format_instant).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "yesterday", "2024-02-30", "7", "-7d", "2024-01-31T08:00:00", "4000000000d"] {
            assert!(parse_relative_to(now, text).is_err(), "{text}");
        }
    }
}

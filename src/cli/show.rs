//! `batchplan show`: shows everything that is known of a job.

mod json;
mod page;
mod watch;

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::list::JobFormat;
use super::state_location::{JournalAccess, StateLocationArgs};
use super::terminal::{Terminal, escape_controls};
use crate::jobs::xml::{self, JobXmlError};
use crate::jobs::{JobDescription, describe};

/// Show the details of a job.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan show ODRi
  batchplan show ODRi --watch
  batchplan show ODRi --json | jq '.failures[] | {code, count}'

--json prints one object:
  job_id, name, description, status, reason, cause (of a pause), interrupted,
  holder; confirmation_required, confirmed, priority, token;
  created, changed, ended (RFC 3339);
  plan_file, plan_hash, plan_error; store, manifest, operations (in words);
  origin, retry_of, retried_by;
  total, succeeded, failed, not_attempted, in_doubt;
  active_seconds, objects_per_second;
  failures: [{code, http (0 without a response), count, advice,
    examples: [{bucket, key (URL-encoded), version, message}]}];
  report (its location), report_state (absent, open, kept, due, published),
  report_folder; folder, files: [{name, files, bytes}]; next
With --watch, it prints one line for each change. Unknown values are null.")]
pub(super) struct ShowArgs {
    /// The job's id, or a unique prefix of it
    job: String,
    /// Show the job again at each change, until it ends or stops
    #[arg(long, conflicts_with = "format")]
    watch: bool,
    /// Show up to ten failed objects for each error code instead of one
    #[arg(long)]
    examples: bool,
    /// Print the job as JSON
    #[arg(long)]
    json: bool,
    /// Print the job in another format
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<JobFormat>,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl CliCommand for ShowArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let (kept, job) = self.state.open_job(&self.job, JournalAccess::Read, terminal)?;
        let style = ShowOptions { examples: if self.examples { usize::MAX } else { 1 }, state_flag: kept.flag() };
        if let Some(by) = kept.remote_holder().filter(|_| self.watch) {
            return Err(CommandError::new(
                ExitStatus::Refused,
                format!("job {} cannot be watched from here: the state is held by {by}", job.id),
            )
            .help(format!("to see what was pushed last: batchplan show {}{}", job.id, kept.flag())));
        }
        if self.watch {
            return watch::watch(&kept, &job.id, terminal, &style, self.json);
        }
        let mut description = describe(&kept, &job.id)?;
        description.presence = kept.adjust_presence(description.presence);
        if self.json {
            terminal.print(format_args!("{:#}", json::render(&description, &style)))?;
        } else if let Some(JobFormat::Xml) = self.format {
            terminal.print(job_xml(&description)?)?;
        } else {
            terminal.print(escape_controls(&page::render(&description, &style)))?;
        }
        Ok(ExitStatus::Success)
    }
}

/// How much of a job to show.
struct ShowOptions {
    /// The maximum number of failed objects for each error code.
    examples: usize,
    /// ` --state DIR|URL` if shown commands need it, otherwise empty.
    state_flag: String,
}

fn job_xml(description: &JobDescription) -> Result<String, CommandError> {
    xml::describe_job(description).map_err(|error| match error {
        JobXmlError::Plan(cause) => {
            CommandError { exit: ExitStatus::ToolFailed, message: cause.to_string(), help: cause.help() }
        }
        JobXmlError::Io(cause) => CommandError::from(cause),
    })
}

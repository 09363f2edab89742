//! The common arguments and the result of commands that change an existing job.

use super::exit::CommandError;
use super::job_session::job_result_json;
use super::journal_handle::JournalHandle;
use super::shown_command::next_command;
use super::state_location::StateLocationArgs;
use super::terminal::{Terminal, escape_line};
use crate::jobs::find_presence;
use crate::journal::{JobFolder, JobRecord};

/// How a command that orders something of a job answers.
#[derive(Debug, clap::Args)]
pub(super) struct JobCommandArgs {
    /// The job's id, or a unique prefix of it
    pub(super) job: String,
    /// Print the job as JSON on standard output
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) state: StateLocationArgs,
}

impl JobCommandArgs {
    /// Prints the job's status and the next command.
    ///
    /// # Errors
    /// Returns an error if the job's lease cannot be read or standard output cannot be written.
    pub(super) fn print_status(
        &self,
        terminal: Terminal,
        journal: &JournalHandle,
        job: JobRecord,
    ) -> Result<(), CommandError> {
        let (job, presence) = find_presence(journal, job)?;
        let folder = JobFolder::of(journal.state_folder(), &job.id);
        let reason = job.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", escape_line(reason)));
        terminal.eprint(format_args!("job {} is {}{reason}", job.id, job.status));
        if let Some(next) = next_command(&job, &presence, &folder, &journal.flag()) {
            terminal.eprint(format_args!("next: {next}"));
        }
        self.print_json(terminal, &job, &folder)
    }

    /// Prints the job as JSON if requested.
    ///
    /// # Errors
    /// Returns an error if standard output cannot be written.
    pub(super) fn print_json(
        &self,
        terminal: Terminal,
        job: &JobRecord,
        folder: &JobFolder,
    ) -> Result<(), CommandError> {
        if self.json {
            terminal.print(job_result_json(job, &folder.report_folder(), None))?;
        }
        Ok(())
    }
}

//! The common arguments and the result of commands that change an existing job.

use super::Error;
use super::carry::result;
use super::kept::Kept;
use super::next::next;
use super::state::State;
use super::terminal::{Terminal, cell};
use crate::jobs::look;
use crate::journal::{JobFolder, JobRecord};

/// How a command that orders something of a job answers.
#[derive(Debug, clap::Args)]
pub(super) struct Order {
    /// The job's id, or the beginning of it
    pub(super) job: String,
    /// Print the job as JSON on standard output
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) state: State,
}

impl Order {
    /// Prints the job's status and the next command.
    ///
    /// # Errors
    /// Returns an error if the job's lease cannot be read or standard output cannot be written.
    pub(super) fn answer(&self, terminal: Terminal, journal: &Kept, job: JobRecord) -> Result<(), Error> {
        let (job, presence) = look(journal, job)?;
        let folder = JobFolder::of(journal.state(), &job.id);
        let reason = job.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", cell(reason)));
        terminal.say(format_args!("job {} is {}{reason}", job.id, job.status));
        if let Some(next) = next(&job, &presence, &folder, &journal.flag()) {
            terminal.say(format_args!("next: {next}"));
        }
        self.print(terminal, &job, &folder)
    }

    /// Prints the job as JSON if requested.
    ///
    /// # Errors
    /// Returns an error if standard output cannot be written.
    pub(super) fn print(&self, terminal: Terminal, job: &JobRecord, folder: &JobFolder) -> Result<(), Error> {
        if self.json {
            terminal.print(result(job, &folder.report(), None))?;
        }
        Ok(())
    }
}

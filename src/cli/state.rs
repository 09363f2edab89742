//! Where jobs are kept, and how they are run.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, CommandFactory as _};
use jiff::Timestamp;

use super::{Cli, Error, notices, shell};
use crate::engine::Rhythm;
use crate::failpoint;
use crate::jobs::{Patience, Rules, SLOTS, Settings, keep_house};
use crate::journal::{JobRecord, Journal, JournalError};

/// Where jobs are kept unless somebody says otherwise.
const DEFAULT: &str = ".batchplan";

/// How a command begins.
const CALL: &str = "batchplan ";

/// The folder of all jobs.
#[derive(Debug, Args)]
pub(super) struct State {
    /// Folder that keeps jobs: the journal, their frozen manifests and their reports
    #[arg(long, value_name = "DIR", env = "BATCHPLAN_STATE", default_value = DEFAULT)]
    pub(super) state: PathBuf,
}

impl State {
    /// What a command that is shown must say besides, so that it finds the same jobs.
    pub(super) fn flag(&self) -> String {
        if self.state == Path::new(DEFAULT) {
            return String::new();
        }
        format!(" --state {}", shell::path(&self.state))
    }

    /// The flag of the command that was given; nothing where it has no state folder.
    pub(super) fn flag_of(given: &ArgMatches) -> String {
        let state = given.subcommand().and_then(|(_, args)| args.try_get_one::<PathBuf>("state").ok().flatten());
        state.map_or_else(String::new, |state| Self { state: state.clone() }.flag())
    }

    /// A text with `flag` in each command of it that takes one. The rooms below know no flags, and so their words do not
    /// have it; a text that has it already stays as it is.
    pub(super) fn named_in(text: &str, flag: &str) -> String {
        if flag.is_empty() || text.contains(flag) {
            return text.to_owned();
        }
        let program = Cli::command();
        let takes_state = |name: &str| {
            program
                .find_subcommand(name)
                .is_some_and(|command| command.get_arguments().any(|arg| arg.get_id() == "state"))
        };
        let mut pieces = text.split(CALL);
        let mut out = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (name, rest) = piece.split_at(piece.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(piece.len()));
            let flag = if takes_state(name) { flag } else { "" };
            out.extend([CALL, name, flag, rest]);
        }
        out
    }

    /// The journal, made where there is none yet; what has outlived its time is cleared away.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn journal(&self) -> Result<Journal, Error> {
        arm();
        let journal = notices::hear(Journal::open(&self.state)?);
        keep_house(&journal, Timestamp::now())?;
        Ok(journal)
    }

    /// The journal, for a command that is about jobs that there are; `None` where there are none yet.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn existing(&self) -> Result<Option<Journal>, Error> {
        arm();
        let Some(journal) = Journal::open_existing(&self.state)?.map(notices::hear) else { return Ok(None) };
        keep_house(&journal, Timestamp::now())?;
        Ok(Some(journal))
    }

    /// The journal, for a command that changes nothing and tells nobody anything; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn as_it_is(&self) -> Result<Option<Journal>, Error> {
        Ok(Journal::open_existing(&self.state)?)
    }

    /// The journal and a job of it, by its id or the beginning of it.
    ///
    /// # Errors
    /// When there is no such job, or several.
    pub(super) fn job(&self, id: &str) -> Result<(Journal, JobRecord), Error> {
        let journal = self.existing()?.ok_or_else(|| Error::from(JournalError::NoSuchJob(id.to_owned())))?;
        let job = journal.find(id)?;
        Ok((journal, job))
    }
}

/// How jobs are run by this command.
#[derive(Debug, Args)]
pub(super) struct Running {
    /// Do not wait for jobs that may touch the same objects
    #[arg(long)]
    pub(super) allow_overlap: bool,
    /// How many jobs may be at work at once, in all processes together
    #[arg(long, value_name = "N", default_value_t = SLOTS, value_parser = slots)]
    pub(super) slots: usize,
}

fn slots(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|slots| (1..=1000).contains(slots)).ok_or_else(|| "from 1 to 1000".to_owned())
}

impl Running {
    /// As settings.
    pub(super) fn settings(&self, frozen_manifest: bool) -> Settings {
        Settings {
            patience: patience(),
            rhythm: rhythm(),
            rules: Rules { slots: self.slots, allow_overlap: self.allow_overlap },
            frozen_manifest,
        }
    }
}

/// What a stop leaves time for.
pub(super) fn patience() -> Patience {
    if std::env::var_os("CI").is_some() { Patience::OF_CI } else { Patience::OF_A_PERSON }
}

/// Tests have checkpoints come after so many objects.
fn rhythm() -> Rhythm {
    let mut rhythm = Rhythm::default();
    if cfg!(debug_assertions)
        && let Some(most) = variable("BATCHPLAN_CHECKPOINT_EVERY").and_then(|text| text.parse().ok())
    {
        rhythm.most = most;
    }
    rhythm
}

/// Tests have the process killed at a named instant.
fn arm() {
    if let Some(setting) = variable("BATCHPLAN_FAILPOINT") {
        failpoint::arm(&setting);
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_are_named_find_the_same_folder() {
        let named = |text: &str| State::named_in(text, " --state 'my dir'");
        assert_eq!(
            named("batchplan show A; or batchplan run"),
            "batchplan show --state 'my dir' A; or batchplan run --state 'my dir'"
        );
        let without = "use batchplan validate plan.toml, or the batchplan that made it";
        assert_eq!(named(without), without);
        let has_it = "batchplan publish A --state 'my dir'";
        assert_eq!(named(has_it), has_it);
        assert_eq!(State::named_in("batchplan show A", ""), "batchplan show A");
    }
}

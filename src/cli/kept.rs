//! The journal that a command uses: in a local folder, or in a bucket and held while the command runs.

use std::ops::Deref;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::state::State;
use super::terminal::Terminal;
use super::{Error, Exit, notices, signals};
use crate::job::JobId;
use crate::jobs::Presence;
use crate::journal::{Journal, Lease};
use crate::remote::{Farewell, Remote, RemoteError};

/// Pushes that take longer than this are announced.
const SILENCE: Duration = Duration::from_secs(1);

/// The time limit of the last push if nothing asked the command to stop.
const UNHURRIED: Duration = Duration::from_mins(10);

/// The time limit of the last push after a person asked the command to stop.
const HURRIED: Duration = Duration::from_mins(1);

/// The time limit of the last push in CI, counted from the stop request. A CI runner sends its second signal 7.5
/// seconds after the first, and everything must be finished by then. The push gets at least `LEAST_IN_CI`.
const GRACE_OF_CI: Duration = Duration::from_millis(6500);
const LEAST_IN_CI: Duration = Duration::from_millis(1500);

/// An open journal, for as long as a command needs it.
pub(super) struct Kept {
    journal: Journal,
    remote: Option<Remote>,
    flag: String,
    terminal: Option<Terminal>,
    /// A description of the process that holds the state on another machine.
    elsewhere: Option<String>,
    /// Keeps the folder from becoming the copy of another state.
    _shared: Option<Lease>,
}

impl Deref for Kept {
    type Target = Journal;

    fn deref(&self) -> &Journal {
        &self.journal
    }
}

impl Kept {
    /// Wraps the journal of a local folder. `shared` keeps the folder from becoming the copy of another state.
    pub(super) fn here(journal: Journal, flag: String, shared: Option<Lease>) -> Self {
        Self { journal, remote: None, flag, terminal: None, elsewhere: None, _shared: shared }
    }

    /// Sets the description of the process that holds the state on another machine.
    pub(super) fn held_elsewhere(mut self, by: Option<String>) -> Self {
        self.elsewhere = by;
        self
    }

    /// Returns the description of the process that holds the state on another machine, if any.
    pub(super) fn elsewhere(&self) -> Option<&str> {
        self.elsewhere.as_deref()
    }

    /// Returns who works on a job as seen from this machine: a job is not interrupted if the state is held elsewhere.
    pub(super) fn seen(&self, presence: Presence) -> Presence {
        match (&self.elsewhere, presence) {
            (Some(by), Presence::Interrupted) => Presence::Held(by.clone()),
            (_, presence) => presence,
        }
    }

    /// Wraps the journal of a state in a bucket that this process holds.
    pub(super) fn held(remote: Remote, flag: String, terminal: Terminal) -> Self {
        let journal = notices::hear(remote.journal().clone());
        Self { journal, remote: Some(remote), flag, terminal: Some(terminal), elsewhere: None, _shared: None }
    }

    /// Returns the flag that shown commands need to find the same jobs: ` --state ...`, or an empty string.
    pub(super) fn flag(&self) -> String {
        self.flag.clone()
    }

    /// Returns whether the state is kept in a bucket.
    pub(super) fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Ensures that a job's files are on this machine.
    ///
    /// # Errors
    /// Returns an error if they cannot be fetched.
    pub(super) fn fetch(&self, job: &JobId) -> Result<(), Error> {
        self.remote.as_ref().map_or(Ok(()), |remote| remote.fetch(job)).map_err(Error::from)
    }

    /// Stops the work if the state is lost, and pushes the state if the work is asked to stop. Must run inside a
    /// runtime.
    pub(super) fn watch(&self, stop: &CancellationToken) {
        let Some(remote) = &self.remote else { return };
        let (lost, stop) = (remote.lost().clone(), stop.clone());
        let push = remote.pusher();
        tokio::spawn(async move {
            tokio::select! {
                () = lost.cancelled() => stop.cancel(),
                () = stop.cancelled() => push(),
            }
        });
    }

    /// Closes the journal and pushes what was done. Returns how the command ends.
    ///
    /// # Errors
    /// Returns the command's own error, or an error if what was done could not be pushed.
    pub(super) fn close(mut self, ended: Result<Exit, Error>) -> Result<Exit, Error> {
        let closed = self.let_go();
        let flag = std::mem::take(&mut self.flag);
        let named = |error: Error| Error { help: error.help.map(|help| State::named_in(&help, &flag)), ..error };
        match (ended, closed) {
            (ended, Ok(())) => ended.map_err(named),
            (Ok(_), Err(error)) => Err(named(error.into())),
            (Err(ended), Err(error)) => {
                if let Some(terminal) = self.terminal {
                    terminal.say(format_args!("warning: {error}"));
                }
                Err(named(ended))
            }
        }
    }

    fn let_go(&mut self) -> Result<(), RemoteError> {
        let Some(remote) = self.remote.take() else { return Ok(()) };
        let (since, in_ci) = (signals::stopped_for(), std::env::var_os("CI").is_some());
        let farewell = match since {
            None => Farewell { within: UNHURRIED, hurried: false },
            Some(_) if !in_ci => Farewell { within: HURRIED, hurried: true },
            Some(since) => Farewell { within: GRACE_OF_CI.saturating_sub(since).max(LEAST_IN_CI), hurried: true },
        };
        let folder = self.journal.state().to_owned();
        let (tell, told) = oneshot::channel();
        thread::spawn(move || tell.send(remote.close(farewell)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let impatient = async {
                tokio::time::sleep(SILENCE).await;
                if let Some(terminal) = self.terminal {
                    terminal.say("pushing what was done to the state; interrupt to leave at once");
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                closed = told => closed.unwrap_or(Err(RemoteError::NoTime(folder))),
                () = signals::next() => Err(RemoteError::NoTime(folder)),
                () = impatient => Ok(()),
            }
        })
    }
}

/// Releases the state even if the command fails.
impl Drop for Kept {
    fn drop(&mut self) {
        if let (Err(error), Some(terminal)) = (self.let_go(), self.terminal) {
            terminal.say(format_args!("warning: {error}"));
        }
    }
}

impl From<RemoteError> for Error {
    fn from(error: RemoteError) -> Self {
        let exit = match &error {
            RemoteError::Held(_)
            | RemoteError::ChangedHands
            | RemoteError::Outrun
            | RemoteError::HeldHere(_)
            | RemoteError::NoCondition(_)
            | RemoteError::Behind(_)
            | RemoteError::Occupied(_)
            | RemoteError::Newer(_) => Exit::Refused,
            RemoteError::Absent => Exit::Invalid,
            RemoteError::Journal(error) => Exit::of_journal(error),
            _ => Exit::ToolFailed,
        };
        match error {
            RemoteError::Connect(error) => {
                let error = Self::from(error);
                Self { message: format!("the state cannot be reached: {}", error.message), ..error }
            }
            error => Self { exit, message: error.to_string(), help: error.help() },
        }
    }
}

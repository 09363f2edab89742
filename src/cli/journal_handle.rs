//! The journal that a command uses: in a local folder, or in a bucket and held while the command runs.

use std::ops::Deref;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::exit::{CommandError, ExitStatus};
use super::shown_command::add_state_flag;
use super::terminal::Terminal;
use super::{notifications, signals};
use crate::job::JobId;
use crate::jobs::JobPresence;
use crate::journal::{FileLease, Journal};
use crate::remote::{RemoteError, RemoteState, ShutdownOptions};

/// Pushes that take longer than this are announced.
const ANNOUNCE_AFTER: Duration = Duration::from_secs(1);

/// The time limit of the last push if nothing asked the command to stop.
const PUSH_LIMIT: Duration = Duration::from_mins(10);

/// The time limit of the last push after a person asked the command to stop.
const PUSH_LIMIT_ON_STOP: Duration = Duration::from_mins(1);

/// The time limit of the last push in CI, counted from the stop request. A CI runner sends its second signal 7.5
/// seconds after the first, and everything must be finished by then. The push gets at least `MIN_PUSH_TIME_IN_CI`.
const PUSH_LIMIT_IN_CI: Duration = Duration::from_millis(6500);
const MIN_PUSH_TIME_IN_CI: Duration = Duration::from_millis(1500);

/// An open journal, for as long as a command needs it.
pub(super) struct JournalHandle {
    journal: Journal,
    remote: Option<RemoteState>,
    flag: String,
    terminal: Option<Terminal>,
    /// A description of the process that holds the state on another machine.
    remote_holder: Option<String>,
    /// Keeps the folder from becoming the copy of another state.
    _shared_lease: Option<FileLease>,
}

impl Deref for JournalHandle {
    type Target = Journal;

    fn deref(&self) -> &Journal {
        &self.journal
    }
}

impl JournalHandle {
    /// Wraps the journal of a local folder. `shared` keeps the folder from becoming the copy of another state.
    pub(super) fn for_folder(journal: Journal, flag: String, shared: Option<FileLease>) -> Self {
        Self { journal, remote: None, flag, terminal: None, remote_holder: None, _shared_lease: shared }
    }

    /// Sets the description of the process that holds the state on another machine.
    pub(super) fn with_remote_holder(mut self, by: Option<String>) -> Self {
        self.remote_holder = by;
        self
    }

    /// Returns the description of the process that holds the state on another machine, if any.
    pub(super) fn remote_holder(&self) -> Option<&str> {
        self.remote_holder.as_deref()
    }

    /// Returns who works on a job as seen from this machine: a job is not interrupted if the state is held elsewhere.
    pub(super) fn adjust_presence(&self, presence: JobPresence) -> JobPresence {
        match (&self.remote_holder, presence) {
            (Some(by), JobPresence::Interrupted) => JobPresence::HeldBy(by.clone()),
            (_, presence) => presence,
        }
    }

    /// Wraps the journal of a state in a bucket that this process holds.
    pub(super) fn for_remote(remote: RemoteState, flag: String, terminal: Terminal) -> Self {
        let journal = notifications::subscribe(remote.journal().clone());
        Self { journal, remote: Some(remote), flag, terminal: Some(terminal), remote_holder: None, _shared_lease: None }
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
    pub(super) fn fetch(&self, job: &JobId) -> Result<(), CommandError> {
        self.remote.as_ref().map_or(Ok(()), |remote| remote.fetch_job(job)).map_err(CommandError::from)
    }

    /// Stops the work if the state is lost, and pushes the state if the work is asked to stop. Must run inside a
    /// runtime.
    pub(super) fn watch_for_stop(&self, stop: &CancellationToken) {
        let Some(remote) = &self.remote else { return };
        let (lost, stop) = (remote.lost().clone(), stop.clone());
        let push = remote.push_requester();
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
    pub(super) fn close(mut self, ended: Result<ExitStatus, CommandError>) -> Result<ExitStatus, CommandError> {
        let closed = self.release();
        let flag = std::mem::take(&mut self.flag);
        let named =
            |error: CommandError| CommandError { help: error.help.map(|help| add_state_flag(&help, &flag)), ..error };
        match (ended, closed) {
            (ended, Ok(())) => ended.map_err(named),
            (Ok(_), Err(error)) => Err(named(error.into())),
            (Err(ended), Err(error)) => {
                if let Some(terminal) = self.terminal {
                    terminal.eprint(format_args!("warning: {error}"));
                }
                Err(named(ended))
            }
        }
    }

    fn release(&mut self) -> Result<(), RemoteError> {
        let Some(remote) = self.remote.take() else { return Ok(()) };
        let (since, in_ci) = (signals::time_since_stop(), std::env::var_os("CI").is_some());
        let farewell = match since {
            None => ShutdownOptions { time_limit: PUSH_LIMIT, essential_only: false },
            Some(_) if !in_ci => ShutdownOptions { time_limit: PUSH_LIMIT_ON_STOP, essential_only: true },
            Some(since) => ShutdownOptions {
                time_limit: PUSH_LIMIT_IN_CI.saturating_sub(since).max(MIN_PUSH_TIME_IN_CI),
                essential_only: true,
            },
        };
        let folder = self.journal.state_folder().to_owned();
        let (tell, told) = oneshot::channel();
        thread::spawn(move || tell.send(remote.shut_down(farewell)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let impatient = async {
                tokio::time::sleep(ANNOUNCE_AFTER).await;
                if let Some(terminal) = self.terminal {
                    terminal.eprint("pushing progress to the state. Press Ctrl-C to quit now.");
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                closed = told => closed.unwrap_or(Err(RemoteError::PushTimedOut(folder))),
                () = signals::next_signal() => Err(RemoteError::PushTimedOut(folder)),
                () = impatient => Ok(()),
            }
        })
    }
}

/// Releases the state even if the command fails.
impl Drop for JournalHandle {
    fn drop(&mut self) {
        if let (Err(error), Some(terminal)) = (self.release(), self.terminal) {
            terminal.eprint(format_args!("warning: {error}"));
        }
    }
}

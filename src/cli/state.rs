//! The journal that a command opens, in a local folder or in a bucket and held while the command runs, and the command
//! `batchplan state`. `state_location` says which folder or bucket.

use std::future::Future;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use batchplan_store::{ConfiguredEndpoint, StoreConfig};
use clap::{Args, Subcommand};
use indicatif::HumanCount;
use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::descriptions::quote_path;
use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::state_location::{BucketState, DEFAULT_FOLDER, PlanWithState, StateLocationArgs};
use super::terminal::{PromptAnswer, Terminal, ask, escape_line};
use super::{github, job_ids, notifications, plan_input, signals};
use crate::connect::with_environment;
use crate::failpoint;
use crate::files::{OTHER_FILE_SYSTEM_HELP, are_locks_unsupported, reject_symlink, with_path, write_refusal};
use crate::hint::{command, hint};
use crate::job::JobId;
use crate::jobs::{JobPresence, apply_retention, expire_suspended};
use crate::journal::{
    ClockLeap, FileLease, JOURNAL_NAME, JobFolder, JobRecord, Journal, JournalError, LeaseError, MAX_CLOCK_STEP,
};
use crate::paths::{path_to_text, show_path};
use crate::plan::{Plan, StateUrl};
use crate::remote::{
    self, CacheUpdate, LeaseConfig, LockStatus, RemoteError, RemoteState, RemoteStateConfig, ShutdownOptions,
    StateOverview, cache_folder,
};

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

/// How a command uses jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JournalAccess {
    /// Reads earlier jobs. Changes nothing and sends no notifications.
    ReadHistory,
    /// Reads jobs. As it may find that one has ended, webhooks are subscribed.
    Read,
    /// Sends a request to the process that runs a job, which may be another process on this machine.
    Request,
    /// Runs jobs, and removes those that have expired.
    Run,
}

impl StateLocationArgs {
    /// Returns how to open a state in a bucket.
    ///
    /// # Errors
    /// Returns an error if the URL is incomplete, such as an `oss://` URL without a region.
    fn remote_config(&self, url: &StateUrl, terminal: Terminal) -> Result<RemoteStateConfig, CommandError> {
        let attempt = format!("cannot use the state at {url}");
        let store = url.store_config().map_err(|refused| CommandError::from(refused).prefix(&attempt))?;
        let store = with_environment(&store, None).map_err(|error| CommandError::from(error).prefix(&attempt))?;
        print_environment_endpoint(&store, terminal);
        let place = url.to_string();
        // The local copy is named after endpoint, bucket and prefix, because the URL can be written in several ways.
        let endpoint = store.effective_endpoint().unwrap_or(store.provider.as_str());
        let folder = cache_folder(Path::new(DEFAULT_FOLDER), &format!("{endpoint} {} {}", url.bucket, url.prefix));
        Ok(RemoteStateConfig {
            store,
            bucket: url.bucket.clone(),
            prefix: url.prefix.clone(),
            use_lock: url.locked,
            folder,
            location: place,
            process_name: describe_this_process(),
            lease_config: lease_config(),
            lock_timeout: self.lock_timeout(),
            notify: Arc::new(move |what| terminal.eprint(what)),
            exit: Arc::new(move |why| {
                terminal.eprint(format_args!("error: {why}; progress since the last push is lost. Exiting now"));
                std::process::exit(ExitStatus::ToolFailed as i32)
            }),
        })
    }

    /// Opens the journal, creates it if necessary, and removes expired jobs.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be used.
    pub(crate) fn open_journal(&self, plan: Option<&Plan>, terminal: Terminal) -> Result<JournalHandle, CommandError> {
        arm_failpoint();
        let handle = match self.bucket(plan)? {
            None => {
                warn_of_discarded_state(terminal);
                let folder = acquire_shared_lease(self.folder())?;
                JournalHandle::for_folder(notifications::subscribe(Journal::open(self.folder())?), self.flag(), folder)
            }
            Some(bucket) => {
                let config = self.remote_config(&bucket.url, terminal)?;
                let flag = bucket.flag(&config.location);
                inform_of_state(&bucket, terminal);
                let remote = RemoteState::open(config).map_err(|error| error_with_flag(error, &flag))?;
                JournalHandle::for_remote(remote, flag, terminal)
            }
        };
        expire_jobs(&handle, JournalAccess::Run, terminal)?;
        Ok(handle)
    }

    /// Opens the journal for a command about existing jobs. Returns `None` if there is no journal yet.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be used.
    pub(crate) fn open_existing(
        &self,
        plan: Option<&Plan>,
        access: JournalAccess,
        terminal: Terminal,
    ) -> Result<Option<JournalHandle>, CommandError> {
        self.open_existing_with_job(plan, access, None, terminal)
    }

    /// Like [`open_existing`](Self::open_existing). If the command only reads, the files of `job` are fetched as
    /// well.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be used.
    pub(crate) fn open_existing_with_job(
        &self,
        plan: Option<&Plan>,
        access: JournalAccess,
        job: Option<&JobId>,
        terminal: Terminal,
    ) -> Result<Option<JournalHandle>, CommandError> {
        arm_failpoint();
        let Some(bucket) = self.bucket(plan)? else {
            return self.open_existing_local(access, terminal);
        };
        let mut config = self.remote_config(&bucket.url, terminal)?;
        let reads = matches!(access, JournalAccess::ReadHistory | JournalAccess::Read);
        // A command that only reads needs no place for a copy that stays.
        let temporary =
            if reads && is_cache_read_only(&config.folder) { Some(plan_input::temporary_folder()?) } else { None };
        if let Some(temporary) = &temporary {
            temporary.path().clone_into(&mut config.folder);
        }
        let (folder, flag) = (config.folder.clone(), bucket.flag(&config.location));
        if !reads {
            inform_of_state(&bucket, terminal);
        }
        let update = match update_local_copy(&config, job) {
            Err(RemoteError::NoState) => return Ok(None),
            updated => updated.map_err(|error| error_with_flag(error, &flag))?,
        };
        let open_local_copy = |folder: &Path, temporary| {
            let journal = Journal::open_existing(folder)?;
            let CacheUpdate { holder, pushed_at } = update.clone();
            let remote_holder = holder.map(|name| RemoteHolder { name: name.to_string(), pushed_at });
            Ok(journal.map(|journal| JournalHandle::for_local_copy(journal, flag.clone(), remote_holder, temporary)))
        };
        if reads {
            return open_local_copy(&folder, temporary);
        }
        match RemoteState::open(config) {
            // Another process on this machine holds the state, and handles the request.
            Err(RemoteError::CacheInUse(_)) if access == JournalAccess::Request => open_local_copy(&folder, None),
            remote => {
                let handle =
                    JournalHandle::for_remote(remote.map_err(|error| error_with_flag(error, &flag))?, flag, terminal);
                expire_jobs(&handle, access, terminal)?;
                Ok(Some(handle))
            }
        }
    }

    /// Opens the journal of a local folder. Returns `None` if there is none yet.
    fn open_existing_local(
        &self,
        access: JournalAccess,
        terminal: Terminal,
    ) -> Result<Option<JournalHandle>, CommandError> {
        let folder = self.folder();
        let is_there = folder.join(JOURNAL_NAME).exists();
        let works = is_there && matches!(access, JournalAccess::Request | JournalAccess::Run);
        // Take the lease before opening the journal: until then, another journal may take its place.
        let shared = if works { acquire_shared_lease(folder)? } else { None };
        let reads = matches!(access, JournalAccess::ReadHistory | JournalAccess::Read);
        let opened = if reads { Journal::open_for_reading(folder)? } else { Journal::open_existing(folder)? };
        let Some(journal) = opened else {
            // In a deleted folder nothing is found, which does not mean that there are no jobs.
            let path = folder.to_owned();
            let is_lost = |cause| JournalError::Io { path, cause };
            return if folder.is_absolute() {
                Ok(None)
            } else {
                Ok(std::env::current_dir().map(|_| None).map_err(is_lost)?)
            };
        };
        if access == JournalAccess::ReadHistory {
            return Ok(Some(JournalHandle::for_folder(journal, self.flag(), shared)));
        }
        let handle = JournalHandle::for_folder(notifications::subscribe(journal), self.flag(), shared);
        expire_jobs(&handle, access, terminal)?;
        Ok(Some(handle))
    }

    /// Opens the journal and finds a job by its id or an id prefix. The job's files are on this machine afterwards.
    ///
    /// # Errors
    /// Returns an error if no job matches, or if several do.
    pub(crate) fn open_job(
        &self,
        id: &str,
        access: JournalAccess,
        terminal: Terminal,
    ) -> Result<(JournalHandle, JobRecord), CommandError> {
        let none = || self.no_such_job(id);
        let handle = self.open_existing(None, access, terminal)?.ok_or_else(none)?;
        let job = match handle.find(id) {
            Err(JournalError::NoSuchJob(_)) => return Err(none()),
            found => found?,
        };
        if access != JournalAccess::Read || self.bucket(None)?.is_none() {
            handle.fetch(&job.id)?;
            return Ok((handle, job));
        }
        // Close the journal, because a newer copy may take its place.
        drop(handle);
        let handle = self.open_existing_with_job(None, access, Some(&job.id), terminal)?.ok_or_else(none)?;
        let job = handle.find(job.id.as_str())?;
        Ok((handle, job))
    }

    /// Returns the error for a job that does not exist. It names the plan of this folder that keeps its jobs elsewhere.
    fn no_such_job(&self, id: &str) -> CommandError {
        let error = CommandError::from(JournalError::NoSuchJob(id.chars().take(64).collect()));
        match PlanWithState::find().filter(|_| self.is_default()) {
            Some(plan) => error.help(plan.hint()).at_state(&plan.flag()),
            None => error,
        }
    }
}

/// Says which state a command that writes takes, if the command line does not show it.
fn inform_of_state(bucket: &BucketState, terminal: Terminal) {
    if let Some(named_by) = &bucket.named_by {
        terminal.inform(format_args!("state: {} ({named_by})", bucket.url));
    }
}

/// Takes a shared lease on a state folder. It keeps `state pull` and `state push` from using the folder, and keeps the
/// folder from becoming a copy of a state in a bucket, while a command works with it.
///
/// Returns `None` if the lease cannot be created: the journal cannot be opened either then, and that error describes
/// the problem with the folder.
fn acquire_shared_lease(folder: &Path) -> Result<Option<FileLease>, CommandError> {
    let jobs = JobFolder::jobs_folder(folder);
    reject_symlink(&jobs).map_err(with_path(&jobs))?;
    let shared =
        std::fs::create_dir_all(folder).map_err(LeaseError::Io).and_then(|()| FileLease::acquire_shared(folder));
    match shared {
        Ok(lease) => Ok(Some(lease)),
        Err(LeaseError::Io(error)) if is_not_a_file(&folder.join("lease")) => {
            Err(CommandError::new(ExitStatus::ToolFailed, error.to_string()))
        }
        Err(LeaseError::Io(error)) if are_locks_unsupported(&error) => {
            Err(CommandError::new(ExitStatus::ToolFailed, error.to_string()).help(OTHER_FILE_SYSTEM_HELP))
        }
        Err(LeaseError::Io(_)) => Ok(None),
        Err(LeaseError::Held(by)) => {
            let what = format!("the folder {} is in use by {by}", show_path(folder));
            Err(CommandError::new(ExitStatus::Refused, what).code(ErrorCode::InUse).help(
                "wait for it to end: it copies the folder to or from a bucket, or uses it for a state in a bucket",
            ))
        }
    }
}

/// Returns whether the local copy of a state cannot be kept in a folder because it is read-only.
fn is_cache_read_only(folder: &Path) -> bool {
    let mut places = folder.ancestors().map(|place| if place.as_os_str().is_empty() { Path::new(".") } else { place });
    places.find(|place| place.exists()).is_some_and(|place| write_refusal(place).is_some())
}

/// Returns whether a path is something other than a file, such as a link.
fn is_not_a_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| !found.is_file())
}

/// Applies retention as far as the access allows: a command that runs jobs removes old ones, a command that sends a
/// request only fails jobs that were not confirmed in time, and a command that reads changes nothing.
fn expire_jobs(journal: &JournalHandle, access: JournalAccess, terminal: Terminal) -> Result<(), CommandError> {
    let now = Timestamp::now();
    let leap = match access {
        JournalAccess::ReadHistory | JournalAccess::Read => None,
        JournalAccess::Request => {
            expire_suspended(journal, now)?;
            None
        }
        JournalAccess::Run => apply_retention(journal, now)?,
    };
    if let Some(ClockLeap { ahead, jobs }) = leap {
        let days = ahead.as_hours() / 24;
        let expired = if jobs == 1 { "expired job is" } else { "expired jobs are" };
        terminal.eprint(format_args!(
            "warning: the clock is {days} days ahead of the last record in the journal: {jobs} {expired} kept for \
             another {} days\n  help: nothing was deleted; if the clock is wrong, correct it",
            MAX_CLOCK_STEP.as_hours() / 24
        ));
    }
    Ok(())
}

/// Converts an error. The commands in its help are shown with `flag`, so that they find the same state.
fn error_with_flag(error: RemoteError, flag: &str) -> CommandError {
    CommandError::from(error).at_state(flag)
}

/// Warns on a GitHub-hosted runner, which is discarded after the run with everything stored on it.
fn warn_of_discarded_state(terminal: Terminal) {
    if std::env::var("RUNNER_ENVIRONMENT").is_ok_and(|kind| kind == "github-hosted") {
        terminal.eprint(
            "warning: jobs are kept in a folder of this runner, which is discarded: no later run can resume them, and a \
             recurring plan starts over each time\n  help: keep them in a bucket with --state, with [state] in the plan, or \
             with the action's input `state`",
        );
    }
}

fn update_local_copy(config: &RemoteStateConfig, job: Option<&JobId>) -> Result<CacheUpdate, RemoteError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let updated = runtime.block_on(remote::update_cache(config, |id| job == Some(id)));
    runtime.shutdown_background();
    updated
}

/// Describes this process to others that find the state locked.
fn describe_this_process() -> String {
    if let Some(run) = github::run_url() {
        let attempt = std::env::var("GITHUB_RUN_ATTEMPT").ok().unwrap_or_else(|| "1".to_owned());
        return format!("{run} (attempt {attempt})");
    }
    let user =
        std::env::var("USER").ok().or_else(|| std::env::var("USERNAME").ok()).unwrap_or_else(|| "unknown".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("HOSTNAME").ok()).or_else(|| std::env::var("COMPUTERNAME").ok());
    format!("{user}@{} (process {})", host.as_deref().unwrap_or("this machine").trim(), std::process::id())
}

/// Returns how long a lock is leased and how often it is pushed. In debug builds, tests can shorten both.
fn lease_config() -> LeaseConfig {
    let mut config = LeaseConfig::default();
    if cfg!(debug_assertions) {
        let milliseconds = |name: &str| std::env::var(name).ok()?.parse().ok().map(Duration::from_millis);
        config.lease = milliseconds("BATCHPLAN_LEASE_MS").unwrap_or(config.lease);
        config.push_interval = milliseconds("BATCHPLAN_PUSH_MS").unwrap_or(config.push_interval);
    }
    config
}

/// Arms the failpoint at which a test has the process killed.
fn arm_failpoint() {
    if let Ok(setting) = std::env::var("BATCHPLAN_FAILPOINT") {
        failpoint::arm(&setting);
    }
}

/// The process that holds the state of a local copy on another machine.
#[derive(Debug)]
struct RemoteHolder {
    /// A description of the process.
    name: String,
    /// When it last pushed: the local copy is as of then.
    pushed_at: Option<Timestamp>,
}

/// An open journal, for as long as a command needs it.
pub(crate) struct JournalHandle {
    journal: Journal,
    remote: Option<RemoteState>,
    flag: String,
    terminal: Option<Terminal>,
    remote_holder: Option<RemoteHolder>,
    /// The state folder, if it is a temporary one.
    temporary: Option<TempDir>,
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
    fn for_folder(journal: Journal, flag: String, shared: Option<FileLease>) -> Self {
        job_ids::learn(&journal);
        Self {
            journal,
            remote: None,
            flag,
            terminal: None,
            remote_holder: None,
            temporary: None,
            _shared_lease: shared,
        }
    }

    /// Wraps the journal of the local copy of a state in a bucket. `holder` describes the process that holds the state
    /// on another machine. `temporary` is the folder of the copy if it is removed afterwards.
    fn for_local_copy(
        journal: Journal,
        flag: String,
        holder: Option<RemoteHolder>,
        temporary: Option<TempDir>,
    ) -> Self {
        job_ids::learn(&journal);
        Self { journal, remote: None, flag, terminal: None, remote_holder: holder, temporary, _shared_lease: None }
    }

    /// Returns the state folder if it is a temporary one, so that the jobs' files outlive the handle.
    pub(crate) fn take_temporary(&mut self) -> Option<TempDir> {
        self.temporary.take()
    }

    /// Returns the description of the process that holds the state on another machine, if any.
    pub(crate) fn remote_holder(&self) -> Option<&str> {
        self.remote_holder.as_ref().map(|holder| holder.name.as_str())
    }

    /// Returns the time as of which jobs are shown, if another machine holds the state and may have done more since.
    pub(crate) fn as_of(&self) -> Option<Timestamp> {
        self.remote_holder.as_ref()?.pushed_at
    }

    /// Returns who works on a job as seen from this machine: a job is not interrupted if the state is held elsewhere.
    pub(crate) fn adjust_presence(&self, presence: JobPresence) -> JobPresence {
        match (&self.remote_holder, presence) {
            (Some(by), JobPresence::Interrupted) => JobPresence::HeldBy(by.name.clone()),
            (_, presence) => presence,
        }
    }

    /// Wraps the journal of a state in a bucket that this process holds.
    fn for_remote(remote: RemoteState, flag: String, terminal: Terminal) -> Self {
        let journal = notifications::subscribe(remote.journal().clone());
        job_ids::learn(&journal);
        Self {
            journal,
            remote: Some(remote),
            flag,
            terminal: Some(terminal),
            remote_holder: None,
            temporary: None,
            _shared_lease: None,
        }
    }

    /// Returns the flag that shown commands need to find the same jobs: ` --state ...`, or an empty string.
    pub(crate) fn flag(&self) -> String {
        self.flag.clone()
    }

    /// Returns whether the state is kept in a bucket.
    pub(crate) fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Ensures that a job's files are on this machine.
    ///
    /// # Errors
    /// Returns an error if they cannot be fetched.
    pub(crate) fn fetch(&self, job: &JobId) -> Result<(), CommandError> {
        self.remote.as_ref().map_or(Ok(()), |remote| remote.fetch_job(job)).map_err(CommandError::from)
    }

    /// Stops the work if the state is lost, and pushes the state if the work is asked to stop. Must run inside a
    /// runtime.
    pub(crate) fn watch_for_stop(&self, stop: &CancellationToken) {
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
    pub(crate) fn close(mut self, ended: Result<ExitStatus, CommandError>) -> Result<ExitStatus, CommandError> {
        let closed = self.release();
        let flag = std::mem::take(&mut self.flag);
        let named = |error: CommandError| error.at_state(&flag);
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

    /// Releases the state, after a last push.
    fn release(&mut self) -> Result<(), RemoteError> {
        let Some(remote) = self.remote.take() else { return Ok(()) };
        let (since, in_ci) = (signals::time_since_stop(), std::env::var_os("CI").is_some());
        let options = match since {
            None => ShutdownOptions { time_limit: PUSH_LIMIT, essential_only: false },
            Some(_) if !in_ci => ShutdownOptions { time_limit: PUSH_LIMIT_ON_STOP, essential_only: true },
            Some(since) => ShutdownOptions {
                time_limit: PUSH_LIMIT_IN_CI.saturating_sub(since).max(MIN_PUSH_TIME_IN_CI),
                essential_only: true,
            },
        };
        let folder = self.journal.state_folder().to_owned();
        let (sender, receiver) = oneshot::channel();
        thread::spawn(move || sender.send(remote.shut_down(options)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let announce_slow_push = async {
                tokio::time::sleep(ANNOUNCE_AFTER).await;
                if let Some(terminal) = self.terminal {
                    terminal.inform("pushing progress to the state. Press Ctrl-C to quit now.");
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                closed = receiver => closed.unwrap_or(Err(RemoteError::PushTimedOut(folder))),
                () = signals::next_signal() => Err(RemoteError::PushTimedOut(folder)),
                // Never completes.
                () = announce_slow_push => Ok(()),
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

/// Show, copy or unlock a state: jobs that are kept in a bucket.
///
/// Jobs are kept in a bucket if a plan has [state], or if you pass `--state s3://BUCKET/PREFIX` (or `oss://`). Any
/// machine can then resume them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  batchplan state show --state s3://my-bucket/batchplan
  batchplan state pull copy --state-of plan.toml   # then batchplan list --state copy
  batchplan state push .batchplan --state s3://my-bucket/batchplan
  batchplan state unlock --state-of plan.toml

Exit codes: 0 done, 1 the tool failed, 2 no such state, 6 refused: the state is
locked or has changed, 7 not confirmed.")]
pub(super) struct StateArgs {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    /// Show what is in the state, and who holds its lock
    Show(StateShowArgs),
    /// Copy the state to a local folder, without taking its lock
    Pull(StatePullArgs),
    /// Copy the jobs of a folder to the state; refused if the state has changed since the folder was pulled
    Push(StatePushArgs),
    /// Take the lock from a holder that no longer runs
    Unlock(StateUnlockArgs),
}

/// Which state.
#[derive(Debug, Args)]
struct BucketStateArgs {
    /// The same as --state-of
    #[arg(long, value_name = "PLAN", hide = true, conflicts_with = "state_of")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    state: StateLocationArgs,
}

#[derive(Debug, Args)]
struct StateShowArgs {
    #[command(flatten)]
    which: BucketStateArgs,
}

#[derive(Debug, Args)]
struct StatePullArgs {
    /// The folder to copy the state to [default: this machine's local copy]
    folder: Option<PathBuf>,
    /// Overwrite the folder, even if it has jobs that the state does not have
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    which: BucketStateArgs,
}

#[derive(Debug, Args)]
struct StatePushArgs {
    /// The folder to copy to the state [default: this machine's local copy]
    folder: Option<PathBuf>,
    /// Replace the state, whatever it contains
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    which: BucketStateArgs,
}

#[derive(Debug, Args)]
struct StateUnlockArgs {
    /// Skip the confirmation prompt
    #[arg(long)]
    auto_approve: bool,
    #[command(flatten)]
    which: BucketStateArgs,
}

impl BucketStateArgs {
    /// Returns how to open the state, and the flag that finds it again.
    fn remote_config(&self, terminal: Terminal) -> Result<(RemoteStateConfig, String), CommandError> {
        let file = self.plan.as_deref().map(|path| plan_input::require(path, terminal)).transpose()?;
        let bucket = self.state.bucket(file.as_ref().map(|file| &file.plan))?.ok_or_else(|| {
            CommandError::new(ExitStatus::Invalid, "no state in a bucket is set")
                .code(ErrorCode::InvalidState)
                .help("use --state s3://BUCKET/PREFIX (or oss://), or --state-of with a plan that has [state]")
        })?;
        let config = self.state.remote_config(&bucket.url, terminal)?;
        let flag = bucket.flag(&config.location);
        Ok((config, flag))
    }
}

impl StateCommand {
    fn which(&self) -> &BucketStateArgs {
        match self {
            Self::Show(args) => &args.which,
            Self::Pull(args) => &args.which,
            Self::Push(args) => &args.which,
            Self::Unlock(args) => &args.which,
        }
    }
}

impl CliCommand for StateArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        // The URL may come from a plan. The commands in hints need it all the same.
        let (config, flag) = self.command.which().remote_config(terminal)?;
        let ended = match &self.command {
            StateCommand::Show(_) => show(&config, terminal),
            StateCommand::Pull(args) => pull(args, config, terminal),
            StateCommand::Push(args) => push(args, config, terminal),
            StateCommand::Unlock(args) => unlock(args, &config, terminal),
        };
        ended.map_err(|error| error.at_state(&flag))
    }
}

fn block_on<T>(doing: impl Future<Output = Result<T, RemoteError>>) -> Result<T, CommandError> {
    Ok(run_to_end(doing)??)
}

fn run_to_end<T>(doing: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(doing);
    runtime.shutdown_background();
    Ok(done)
}

fn show(config: &RemoteStateConfig, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let overview = block_on(remote::overview(config))?;
    if overview.pushed.is_none() && overview.lock.is_none() {
        return Err(RemoteError::NoState.into());
    }
    if terminal.is_json() {
        terminal.print_pretty_json(to_json(config, &overview))?;
    } else {
        terminal.print(format_overview(config, &overview))?;
    }
    Ok(ExitStatus::Success)
}

/// Says once where a state in a bucket is, if the environment decides that: the state's URL does not show it.
fn print_environment_endpoint(store: &StoreConfig, terminal: Terminal) {
    static PRINTED: Once = Once::new();
    if let Some(endpoint) = store.environment_endpoint() {
        PRINTED.call_once(|| terminal.eprint(format_args!("note: the state is at {}", describe_endpoint(endpoint))));
    }
}

fn describe_endpoint(ConfiguredEndpoint { url, setting }: &ConfiguredEndpoint) -> String {
    format!("{url} (from {setting})")
}

fn format_overview(config: &RemoteStateConfig, StateOverview { pushed, lock }: &StateOverview) -> String {
    let mut rows = vec![("state", config.location.clone())];
    rows.extend(config.store.environment_endpoint().map(|endpoint| ("endpoint", describe_endpoint(endpoint))));
    match pushed {
        None => rows.push(("pushed", "never".to_owned())),
        Some(pushed) => {
            let at = pushed.pushed_at.strftime("%Y-%m-%dT%H:%M:%SZ");
            rows.push(("pushed", format!("{at} by {}", pushed.pushed_by)));
            rows.push(("generation", format!("{}, push {}", pushed.generation, pushed.push)));
            let bytes: u64 = pushed.jobs.values().sum();
            rows.push((
                "jobs",
                format!("{}, {} bytes in their files", HumanCount(pushed.jobs.len() as u64), HumanCount(bytes)),
            ));
        }
    }
    rows.push((
        "lock",
        match lock {
            None => "never held".to_owned(),
            Some(LockStatus::Readable { holder, released: true, .. }) => format!("free; last held by {}", holder.name),
            Some(LockStatus::Readable { holder, .. }) => format!("held by {holder}"),
            Some(LockStatus::Unreadable { name, what, .. }) => format!("cannot read {name}: {what}"),
        },
    ));
    let lines: Vec<_> = rows.iter().map(|(name, value)| format!("{name:<12}{}", escape_line(value))).collect();
    lines.join("\n")
}

fn to_json(config: &RemoteStateConfig, StateOverview { pushed, lock }: &StateOverview) -> serde_json::Value {
    json!({
        "state": config.location,
        "endpoint": config.store.effective_endpoint(),
        "pushed": pushed.as_ref().map(|pushed| json!({
            "at": pushed.pushed_at.to_string(),
            "by": pushed.pushed_by,
            "generation": pushed.generation,
            "push": pushed.push,
            "jobs": pushed.jobs.iter().map(|(job, bytes)| json!({ "job_id": job.as_str(), "bytes": bytes })).collect::<Vec<_>>(),
        })),
        "lock": lock.as_ref().map(|held| match held {
            LockStatus::Readable { generation, holder, released } => json!({
                "generation": generation,
                "holder": holder.name,
                "since": holder.since.to_string(),
                "renewed": holder.renewed.to_string(),
                "released": released,
            }),
            LockStatus::Unreadable { name, what, .. } => json!({ "unreadable": name, "error": what }),
        }),
    })
}

fn pull(args: &StatePullArgs, config: RemoteStateConfig, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let config = with_folder(config, args.folder.as_ref());
    block_on(remote::pull_to_folder(&config, args.force))?;
    let folder = show_path(&config.folder);
    terminal.eprint(format_args!("pulled to {folder}"));
    terminal.inform(format_args!("next: batchplan list --state {}", quote_path(&config.folder)));
    if terminal.is_json() {
        terminal.print_json(json!({ "state": config.location, "folder": path_to_text(&config.folder) }))?;
    }
    Ok(ExitStatus::Success)
}

fn push(args: &StatePushArgs, config: RemoteStateConfig, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let config = with_folder(config, args.folder.as_ref());
    if !config.folder.join(JOURNAL_NAME).exists() {
        return Err(CommandError::new(ExitStatus::Invalid, format!("{} has no jobs", show_path(&config.folder)))
            .help("name the folder that has journal.db, such as .batchplan"));
    }
    let pushed = run_to_end(remote::push_folder(&config, args.force))?;
    let new = pushed.map_err(|error| push_error(error, args.folder.as_deref()))?;
    terminal.eprint(if new { "pushed" } else { "nothing to push" });
    if terminal.is_json() {
        let folder = path_to_text(&config.folder);
        terminal.print_json(json!({ "state": config.location, "folder": folder, "pushed": new }))?;
    }
    Ok(ExitStatus::Success)
}

/// Converts an error of a push. If a folder was named, the command in the help must name it too: without it, the
/// command would push this machine's local copy.
fn push_error(error: RemoteError, folder: Option<&Path>) -> CommandError {
    let diverged = matches!(error, RemoteError::Diverged(_));
    let error = CommandError::from(error);
    match folder.filter(|_| diverged) {
        Some(folder) => error.help(hint!(
            "{} shows the state in the bucket; {} replaces it with the jobs in that folder",
            command!("state show"),
            command!("state push").path(folder).arg("--force")
        )),
        None => error,
    }
}

fn with_folder(config: RemoteStateConfig, folder: Option<&PathBuf>) -> RemoteStateConfig {
    match folder {
        Some(folder) => RemoteStateConfig { folder: folder.clone(), ..config },
        None => config,
    }
}

fn unlock(args: &StateUnlockArgs, config: &RemoteStateConfig, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    // Only the lock that was shown and confirmed is taken.
    let shown = match block_on(remote::overview(config))?.lock.ok_or(RemoteError::NoState)? {
        LockStatus::Readable { released: true, .. } => {
            terminal.eprint("the lock is free");
            return report_unlocked(config, false, ExitStatus::Success, terminal);
        }
        LockStatus::Readable { holder, generation, .. } => {
            terminal.eprint(format_args!("held by {}", escape_line(&holder.to_string())));
            generation
        }
        LockStatus::Unreadable { name, what, generation } => {
            terminal.eprint(format_args!("cannot read {}: {}", escape_line(&name), escape_line(&what)));
            generation
        }
    };
    terminal.eprint(
        "warning: if the holder still runs, it stops at its next lock renewal; until then, two processes may change the same \
         objects, and what it did since its last push is done again",
    );
    if !args.auto_approve {
        if !terminal.is_interactive() {
            return Err(CommandError::new(
                ExitStatus::Refused,
                "unlocking needs confirmation, but there is no terminal to ask on",
            )
            .code(ErrorCode::ConfirmationRequired)
            .help(hint!(
                "if you are sure that the holder no longer runs: {}",
                command!("state unlock", "--auto-approve")
            )));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Never cancelled: a signal ends the process, and nothing was changed.
        if runtime.block_on(ask("Take the lock?", &CancellationToken::new()))? != PromptAnswer::Yes {
            terminal.eprint("nothing was changed");
            return report_unlocked(config, false, ExitStatus::Cancelled, terminal);
        }
    }
    let generation = block_on(remote::unlock(config, shown))?;
    terminal.eprint(format_args!("unlocked: the next generation is {}", generation + 1));
    report_unlocked(config, true, ExitStatus::Success, terminal)
}

/// Prints whether the lock was taken as JSON, if requested, and returns the exit code.
fn report_unlocked(
    config: &RemoteStateConfig,
    unlocked: bool,
    exit: ExitStatus,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    if terminal.is_json() {
        terminal.print_json(json!({ "state": config.location, "unlocked": unlocked }))?;
    }
    Ok(exit)
}

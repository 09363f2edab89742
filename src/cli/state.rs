//! The options that say where jobs are kept and how they are run, and opening the journal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, Args, CommandFactory as _};
use jiff::Timestamp;

use super::kept::Kept;
use super::terminal::Terminal;
use super::{Cli, Error, Exit, github, notices, shell};
use crate::engine::Rhythm;
use crate::failpoint;
use crate::files::{about, refuse_link};
use crate::job::JobId;
use crate::jobs::{Patience, Rules, SLOTS, Settings, expire_suspended, keep_house};
use crate::journal::{ClockLeap, JOURNAL_NAME, JobFolder, JobRecord, Journal, JournalError, LEAP, Lease, LeaseError};
use crate::plan::{Plan, StateUrl, parse_lapse};
use crate::remote::{self, Holder, Opening, Remote, RemoteError, Tempo, mirror_of};

/// The default folder for jobs.
const DEFAULT: &str = ".batchplan";

/// The number of rows that may be processed between two pushes of a state: half a minute at more than 30,000 rows a
/// second.
const LEAVE_BETWEEN_PUSHES: u64 = 1 << 20;

/// The text that every shown command starts with.
const CALL: &str = "batchplan ";

/// Where all jobs are kept.
#[derive(Debug, Args)]
pub(super) struct State {
    /// Where jobs are kept: a folder for the journal, the frozen manifests and the reports, or `s3://BUCKET/PREFIX`
    /// or `oss://BUCKET/PREFIX` [default: what the plan says, or .batchplan]
    #[arg(long, value_name = "DIR|URL", env = "BATCHPLAN_STATE")]
    pub(super) state: Option<PathBuf>,
    /// How long to wait for whoever holds a state in a bucket, such as 30s or 10m [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = while_held)]
    pub(super) lock_timeout: Option<Duration>,
}

/// How a command uses jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads earlier jobs. Changes nothing and sends no notifications.
    Glance,
    /// Reads jobs.
    Look,
    /// Sends a request to the process that runs a job, which may be another process on this machine.
    Order,
    /// Runs jobs, and removes those that have expired.
    Work,
}

fn while_held(text: &str) -> Result<Duration, String> {
    let lapse = parse_lapse(text).ok_or("a whole number with s, m or h behind it, such as 90s")?;
    if lapse <= Duration::from_hours(24) { Ok(lapse) } else { Err("at most a day".to_owned()) }
}

impl State {
    /// Returns the flag that a shown command needs to find the same jobs, or an empty string for the default folder.
    pub(super) fn flag(&self) -> String {
        match &self.state {
            Some(state) if state != Path::new(DEFAULT) => format!(" --state {}", shell::path(state)),
            _ => String::new(),
        }
    }

    /// Returns the same flag for parsed arguments, or an empty string if the command has no `--state`.
    pub(super) fn flag_of(given: &ArgMatches) -> String {
        let state = given.subcommand().and_then(|(_, args)| args.try_get_one::<PathBuf>("state").ok().flatten());
        state.map_or_else(String::new, |state| Self { state: Some(state.clone()), lock_timeout: None }.flag())
    }

    /// Inserts `flag` after each command in `text` that accepts it. Messages from outside `cli` know no flags and omit
    /// it. A text that already contains the flag is returned unchanged.
    pub(super) fn named_in(text: &str, flag: &str) -> String {
        if flag.is_empty() || text.contains(flag) {
            return text.to_owned();
        }
        let program = Cli::command();
        // The length of the command name at the start of a text, such as `state unlock`, if that command has `--state`.
        let words = |text: &str| {
            let mut command = &program;
            let mut end = 0;
            while let Some(next) = command.get_subcommands().find(|next| {
                let rest = &text[end..];
                let rest = rest.strip_prefix(' ').filter(|_| end > 0).unwrap_or(rest);
                rest.strip_prefix(next.get_name())
                    .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
            }) {
                end += next.get_name().len() + usize::from(end > 0);
                command = next;
            }
            command.get_arguments().any(|arg| arg.get_id() == "state").then_some(end)
        };
        let mut pieces = text.split(CALL);
        let mut out = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (name, rest) = piece.split_at(words(piece).unwrap_or(0));
            let flag = if name.is_empty() { "" } else { flag };
            out.extend([CALL, name, flag, rest]);
        }
        out
    }

    /// Returns the given folder, or the default.
    fn folder(&self) -> &Path {
        self.state.as_deref().unwrap_or(Path::new(DEFAULT))
    }

    /// Returns the URL of a state in a bucket, from `--state` or else from the plan. Returns `None` for a local folder.
    ///
    /// # Errors
    /// Returns an error if `--state` has the form of a URL but is not a valid one.
    pub(super) fn url(&self, plan: Option<&Plan>) -> Result<Option<StateUrl>, Error> {
        let beside = plan.map(|plan| &plan.store);
        let Some(state) = &self.state else {
            return Ok(plan.and_then(|plan| plan.state.clone()).map(|url| url.beside(beside)));
        };
        let Some(text) = state.to_str().filter(|text| StateUrl::is_meant(text)) else { return Ok(None) };
        let url = StateUrl::parse(text).map_err(|refused| {
            Error::new(Exit::Invalid, format!("--state is no place to keep jobs: {}", refused.what)).help(refused.help)
        })?;
        Ok(Some(url.beside(beside)))
    }

    /// Returns how to open a state in a bucket.
    ///
    /// # Errors
    /// Returns an error if the URL is incomplete, such as an `oss://` URL without a region.
    pub(super) fn opening(&self, url: &StateUrl, terminal: Terminal) -> Result<Opening, Error> {
        let store = url.store().map_err(|refused| {
            Error::new(Exit::Invalid, format!("the state at {url} cannot be found: {}", refused.what))
                .help(refused.help)
        })?;
        let place = url.to_string();
        // A state has one local copy, although its URL can be written in several ways.
        let at = store.endpoint.clone().unwrap_or_else(|| store.provider.as_str().to_owned());
        let folder = mirror_of(Path::new(DEFAULT), &format!("{at} {} {}", url.bucket, url.prefix));
        Ok(Opening {
            store,
            bucket: url.bucket.clone(),
            prefix: url.prefix.clone(),
            locked: url.locked,
            folder,
            place,
            who: who(),
            tempo: tempo(),
            patience: self.lock_timeout.unwrap_or_default(),
            tell: Arc::new(move |what| terminal.say(what)),
            leave: Arc::new(move |why| {
                terminal.say(format_args!(
                    "error: {why}; what was done since the last push is not kept, and this ends here"
                ));
                std::process::exit(Exit::ToolFailed as i32)
            }),
        })
    }

    /// Opens the journal, creates it if necessary, and removes expired jobs.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be used.
    pub(super) fn journal(&self, plan: Option<&Plan>, terminal: Terminal) -> Result<Kept, Error> {
        arm();
        let kept = match self.url(plan)? {
            None => {
                warn_of_what_is_thrown_away(terminal);
                let folder = share(self.folder())?;
                Kept::here(notices::hear(Journal::open(self.folder())?), self.flag(), folder)
            }
            Some(url) => {
                let flag = flag_of_url(&url);
                let remote = Remote::open(self.opening(&url, terminal)?).map_err(|error| told(error, &flag))?;
                Kept::held(remote, flag, terminal)
            }
        };
        tidy(&kept, Access::Work, terminal)?;
        Ok(kept)
    }

    /// Opens the journal for a command about existing jobs. Returns `None` if there is no journal yet.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be used.
    pub(super) fn existing(
        &self,
        plan: Option<&Plan>,
        access: Access,
        terminal: Terminal,
    ) -> Result<Option<Kept>, Error> {
        self.existing_with(plan, access, None, terminal)
    }

    /// Like [`existing`](Self::existing). If the command only reads, the files of `job` are fetched as well.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be used.
    pub(super) fn existing_with(
        &self,
        plan: Option<&Plan>,
        access: Access,
        job: Option<&JobId>,
        terminal: Terminal,
    ) -> Result<Option<Kept>, Error> {
        arm();
        let Some(url) = self.url(plan)? else {
            return self.existing_here(access, terminal);
        };
        let opening = self.opening(&url, terminal)?;
        let (folder, flag) = (opening.folder.clone(), flag_of_url(&url));
        let holder = match looked(&opening, job) {
            Err(RemoteError::Absent) => return Ok(None),
            looked => looked.map_err(|error| told(error, &flag))?,
        };
        // If another process on this machine holds the state, that process handles the request.
        let here = |folder: &Path| {
            let journal = Journal::open_existing(folder)?;
            let by = holder.as_ref().map(ToString::to_string);
            Ok(journal.map(|journal| Kept::here(journal, flag.clone(), None).held_elsewhere(by)))
        };
        if matches!(access, Access::Glance | Access::Look) {
            return here(&folder);
        }
        match Remote::open(opening) {
            Err(RemoteError::HeldHere(_)) if access == Access::Order => here(&folder),
            remote => {
                let kept = Kept::held(remote.map_err(|error| told(error, &flag))?, flag, terminal);
                tidy(&kept, access, terminal)?;
                Ok(Some(kept))
            }
        }
    }

    /// Opens the journal of a local folder. Returns `None` if there is none yet.
    fn existing_here(&self, access: Access, terminal: Terminal) -> Result<Option<Kept>, Error> {
        let folder = self.folder();
        let is_there = folder.join(JOURNAL_NAME).exists();
        let works = is_there && matches!(access, Access::Order | Access::Work);
        // Take the lease before opening the journal: until then, another journal may take its place.
        let shared = if works { share(folder)? } else { None };
        let Some(journal) = Journal::open_existing(folder)? else { return Ok(None) };
        // A command that only reads changes nothing and sends no notifications.
        if access == Access::Glance {
            return Ok(Some(Kept::here(journal, self.flag(), shared)));
        }
        let kept = Kept::here(notices::hear(journal), self.flag(), shared);
        tidy(&kept, access, terminal)?;
        Ok(Some(kept))
    }

    /// Opens the journal and finds a job by its id or an id prefix. The job's files are on this machine afterwards.
    ///
    /// # Errors
    /// Returns an error if no job matches, or if several do.
    pub(super) fn job(&self, id: &str, access: Access, terminal: Terminal) -> Result<(Kept, JobRecord), Error> {
        let none = || Error::from(JournalError::NoSuchJob(id.to_owned()));
        let kept = self.existing(None, access, terminal)?.ok_or_else(none)?;
        let job = kept.find(id)?;
        if access != Access::Look || self.url(None)?.is_none() {
            kept.fetch(&job.id)?;
            return Ok((kept, job));
        }
        // Close the journal, because a newer copy may take its place.
        drop(kept);
        let kept = self.existing_with(None, access, Some(&job.id), terminal)?.ok_or_else(none)?;
        let job = kept.find(job.id.as_str())?;
        Ok((kept, job))
    }
}

/// Takes a shared lease on a state folder. It keeps `state pull` and `state push` from using the folder, and keeps the
/// folder from becoming a copy of a state in a bucket, while a command works with it.
///
/// If the lease cannot be created, the journal cannot be opened either, and that error describes the problem with the
/// folder.
fn share(folder: &Path) -> Result<Option<Lease>, Error> {
    let jobs = JobFolder::all(folder);
    refuse_link(&jobs).map_err(about(&jobs))?;
    let shared = std::fs::create_dir_all(folder).map_err(LeaseError::Io).and_then(|()| Lease::share(folder));
    match shared {
        Ok(lease) => Ok(Some(lease)),
        Err(LeaseError::Io(error)) if is_taken_by_another_thing(&folder.join("lease")) => {
            Err(Error::new(Exit::ToolFailed, error.to_string()))
        }
        Err(LeaseError::Io(_)) => Ok(None),
        Err(LeaseError::Held(by)) => {
            let what = format!("the folder {} is in use by {by}", folder.display());
            Err(Error::new(Exit::Refused, what).help(
                "wait for it to end: it copies the folder to or from a bucket, or works on a state in a bucket there",
            ))
        }
    }
}

/// Returns whether a path is something other than a file, such as a link.
fn is_taken_by_another_thing(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| !found.is_file())
}

/// Expires jobs. A command that runs jobs removes old ones, a command that sends a request only fails jobs that were
/// not confirmed in time, and a command that reads changes nothing.
fn tidy(journal: &Kept, access: Access, terminal: Terminal) -> Result<(), Error> {
    let now = Timestamp::now();
    let leap = match access {
        Access::Glance | Access::Look => None,
        Access::Order => {
            expire_suspended(journal, now)?;
            None
        }
        Access::Work => keep_house(journal, now)?,
    };
    if let Some(ClockLeap { ahead, jobs }) = leap {
        let days = ahead.as_hours() / 24;
        terminal.say(format_args!(
            "warning: the clock is {days} days ahead of the last time that anything was recorded here: {jobs} old jobs are kept \
             until it has gone on from there for {} days\n  help: if the clock is wrong, set it right: nothing was deleted",
            LEAP.as_hours() / 24
        ));
    }
    Ok(())
}

/// Converts an error, and adds `flag` to the commands in its help so that they find the same state.
fn told(error: RemoteError, flag: &str) -> Error {
    let error = Error::from(error);
    Error { help: error.help.map(|help| State::named_in(&help, flag)), ..error }
}

/// Warns on a GitHub-hosted runner, which is discarded after the run with everything stored on it.
fn warn_of_what_is_thrown_away(terminal: Terminal) {
    if variable("RUNNER_ENVIRONMENT").is_some_and(|kind| kind == "github-hosted") {
        terminal.say(
            "warning: jobs are kept in a folder of this runner, which is thrown away: no later run goes on with them, and a plan \
             that recurs begins anew each time\n  help: keep them in a bucket, by --state, by [state] in the plan, or by the \
             action's input state",
        );
    }
}

/// Returns the `--state` flag for a state in a bucket.
fn flag_of_url(url: &StateUrl) -> String {
    format!(" --state {}", shell::path(Path::new(&url.to_string())))
}

fn looked(opening: &Opening, job: Option<&JobId>) -> Result<Option<Holder>, RemoteError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let looked = runtime.block_on(remote::look(opening, |id| job == Some(id)));
    runtime.shutdown_background();
    looked
}

/// Describes this process to others that find the state locked.
fn who() -> String {
    if let Some(run) = github::run_url() {
        let attempt = variable("GITHUB_RUN_ATTEMPT").unwrap_or_else(|| "1".to_owned());
        return format!("{run} (attempt {attempt})");
    }
    let user = variable("USER").or_else(|| variable("USERNAME")).unwrap_or_else(|| "somebody".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| variable("HOSTNAME")).or_else(|| variable("COMPUTERNAME"));
    format!("{user}@{} (process {})", host.as_deref().unwrap_or("this machine").trim(), std::process::id())
}

/// Returns the intervals of the lock and of pushes. In debug builds, tests can shorten them.
fn tempo() -> Tempo {
    let mut tempo = Tempo::default();
    if cfg!(debug_assertions) {
        let milliseconds = |name: &str| variable(name)?.parse().ok().map(Duration::from_millis);
        tempo.lease = milliseconds("BATCHPLAN_LEASE_MS").unwrap_or(tempo.lease);
        tempo.push_every = milliseconds("BATCHPLAN_PUSH_MS").unwrap_or(tempo.push_every);
    }
    tempo
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
    /// Converts the options to settings.
    pub(super) fn settings(&self, frozen_manifest: bool, kept: &Kept) -> Settings {
        let pushes_in_ci = std::env::var_os("CI").is_some() && kept.is_remote();
        let patience = if pushes_in_ci { Patience::OF_CI_THAT_PUSHES } else { patience() };
        let rhythm = rhythm();
        Settings {
            patience,
            // If the machine is lost, everything since the last push may be lost, which is up to this many rows.
            rhythm: if kept.is_remote() { Rhythm { leave: LEAVE_BETWEEN_PUSHES, ..rhythm } } else { rhythm },
            rules: Rules { slots: self.slots, allow_overlap: self.allow_overlap },
            frozen_manifest,
        }
    }
}

/// Returns the time limits of a stop, which are shorter in CI.
pub(super) fn patience() -> Patience {
    if std::env::var_os("CI").is_some() { Patience::OF_CI } else { Patience::OF_A_PERSON }
}

/// Returns the checkpoint policy. In debug builds, tests can set the number of rows between checkpoints.
fn rhythm() -> Rhythm {
    let mut rhythm = Rhythm::default();
    if cfg!(debug_assertions)
        && let Some(most) = variable("BATCHPLAN_CHECKPOINT_EVERY").and_then(|text| text.parse().ok())
    {
        (rhythm.most, rhythm.leave) = (most, most);
    }
    rhythm
}

/// Arms the failpoint at which a test has the process killed.
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
        assert_eq!(
            named("if so: batchplan state unlock --auto-approve"),
            "if so: batchplan state unlock --state 'my dir' --auto-approve"
        );
        let without = "use batchplan validate plan.toml, or the batchplan that made it";
        assert_eq!(named(without), without);
        let has_it = "batchplan publish A --state 'my dir'";
        assert_eq!(named(has_it), has_it);
        assert_eq!(State::named_in("batchplan show A", ""), "batchplan show A");
    }
}

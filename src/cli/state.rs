//! Where jobs are kept, and how they are run.

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

/// Where jobs are kept unless somebody says otherwise.
const DEFAULT: &str = ".batchplan";

/// Rows that may be worked on between two pushes of a state: half a minute of more than thirty thousand a second.
const LEAVE_BETWEEN_PUSHES: u64 = 1 << 20;

/// How a command begins.
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

/// What a command does with jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It looks at what was, and changes nothing whatever.
    Glance,
    /// It looks at them.
    Look,
    /// It asks something of whoever works on them, also of another process of this machine.
    Order,
    /// It works on them, and forgets those whose time is over.
    Work,
}

fn while_held(text: &str) -> Result<Duration, String> {
    let lapse = parse_lapse(text).ok_or("a whole number with s, m or h behind it, such as 90s")?;
    if lapse <= Duration::from_hours(24) { Ok(lapse) } else { Err("at most a day".to_owned()) }
}

impl State {
    /// What a command that is shown must say besides, so that it finds the same jobs.
    pub(super) fn flag(&self) -> String {
        match &self.state {
            Some(state) if state != Path::new(DEFAULT) => format!(" --state {}", shell::path(state)),
            _ => String::new(),
        }
    }

    /// The flag of the command that was given; nothing where it has no state.
    pub(super) fn flag_of(given: &ArgMatches) -> String {
        let state = given.subcommand().and_then(|(_, args)| args.try_get_one::<PathBuf>("state").ok().flatten());
        state.map_or_else(String::new, |state| Self { state: Some(state.clone()), lock_timeout: None }.flag())
    }

    /// A text with `flag` in each command of it that takes one. The rooms below know no flags, and so their words do not
    /// have it; a text that has it already stays as it is.
    pub(super) fn named_in(text: &str, flag: &str) -> String {
        if flag.is_empty() || text.contains(flag) {
            return text.to_owned();
        }
        let program = Cli::command();
        // The words that name a command that takes one, such as ` state unlock`.
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

    /// The folder that was named, or the usual one.
    fn folder(&self) -> &Path {
        self.state.as_deref().unwrap_or(Path::new(DEFAULT))
    }

    /// The place in a bucket, where it is one: as the command line has it, or else the plan.
    ///
    /// # Errors
    /// When it is meant to be one and is none.
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

    /// How a state in a bucket is worked with.
    ///
    /// # Errors
    /// When it says too little.
    pub(super) fn opening(&self, url: &StateUrl, terminal: Terminal) -> Result<Opening, Error> {
        let store = url.store().map_err(|refused| {
            Error::new(Exit::Invalid, format!("the state at {url} cannot be found: {}", refused.what))
                .help(refused.help)
        })?;
        let place = url.to_string();
        // However it is written, it is one state.
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

    /// The journal, made where there is none yet; what has outlived its time is cleared away.
    ///
    /// # Errors
    /// When it cannot be used.
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

    /// The journal, for a command that is about jobs that there are; `None` where there are none yet.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn existing(
        &self,
        plan: Option<&Plan>,
        access: Access,
        terminal: Terminal,
    ) -> Result<Option<Kept>, Error> {
        self.existing_with(plan, access, None, terminal)
    }

    /// The same; where it is only looked at, with the files of this job.
    ///
    /// # Errors
    /// As there.
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
        // Where another process of this machine holds it, that is who does what is asked.
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

    /// The journal of a folder of this machine; `None` where there is none yet.
    fn existing_here(&self, access: Access, terminal: Terminal) -> Result<Option<Kept>, Error> {
        let folder = self.folder();
        let is_there = folder.join(JOURNAL_NAME).exists();
        let works = is_there && matches!(access, Access::Order | Access::Work);
        // Before the journal is opened: until then another may take its place.
        let shared = if works { share(folder)? } else { None };
        let Some(journal) = Journal::open_existing(folder)? else { return Ok(None) };
        // Who only looks changes nothing, and tells nobody anything.
        if access == Access::Glance {
            return Ok(Some(Kept::here(journal, self.flag(), shared)));
        }
        let kept = Kept::here(notices::hear(journal), self.flag(), shared);
        tidy(&kept, access, terminal)?;
        Ok(Some(kept))
    }

    /// The journal and a job of it, by its id or the beginning of it. The job's files are on this machine.
    ///
    /// # Errors
    /// When there is no such job, or several.
    pub(super) fn job(&self, id: &str, access: Access, terminal: Terminal) -> Result<(Kept, JobRecord), Error> {
        let none = || Error::from(JournalError::NoSuchJob(id.to_owned()));
        let kept = self.existing(None, access, terminal)?.ok_or_else(none)?;
        let job = kept.find(id)?;
        if access != Access::Look || self.url(None)?.is_none() {
            kept.fetch(&job.id)?;
            return Ok((kept, job));
        }
        // Nobody has the journal open while a newer one takes its place.
        drop(kept);
        let kept = self.existing_with(None, access, Some(&job.id), terminal)?.ok_or_else(none)?;
        let job = kept.find(job.id.as_str())?;
        Ok((kept, job))
    }
}

/// Keeps `state pull` and `state push` from a folder, and the folder from becoming a copy of a state in a bucket, while a
/// command works with it.
///
/// What keeps its lease from being made keeps the journal from being opened as well, which says what is wrong with the folder.
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

/// Whether a name is that of something else than a file, such as a link.
fn is_taken_by_another_thing(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| !found.is_file())
}

/// Sees to jobs whose time is over: a command that works on jobs forgets old ones, one that orders something of a job only fails
/// what nobody confirmed in time, and one that looks changes nothing.
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

/// An error whose help names commands that find the same state.
fn told(error: RemoteError, flag: &str) -> Error {
    let error = Error::from(error);
    Error { help: error.help.map(|help| State::named_in(&help, flag)), ..error }
}

/// A runner of GitHub's own is gone after its run, with all that it keeps.
fn warn_of_what_is_thrown_away(terminal: Terminal) {
    if variable("RUNNER_ENVIRONMENT").is_some_and(|kind| kind == "github-hosted") {
        terminal.say(
            "warning: jobs are kept in a folder of this runner, which is thrown away: no later run goes on with them, and a plan \
             that recurs begins anew each time\n  help: keep them in a bucket, by --state, by [state] in the plan, or by the \
             action's input state",
        );
    }
}

/// How commands name a state in a bucket.
fn flag_of_url(url: &StateUrl) -> String {
    format!(" --state {}", shell::path(Path::new(&url.to_string())))
}

fn looked(opening: &Opening, job: Option<&JobId>) -> Result<Option<Holder>, RemoteError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let looked = runtime.block_on(remote::look(opening, |id| job == Some(id)));
    runtime.shutdown_background();
    looked
}

/// Who works with a state, for whoever finds it held.
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

/// Tests are in a hurry.
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
    /// As settings.
    pub(super) fn settings(&self, frozen_manifest: bool, kept: &Kept) -> Settings {
        let pushes_in_ci = std::env::var_os("CI").is_some() && kept.is_remote();
        let patience = if pushes_in_ci { Patience::OF_CI_THAT_PUSHES } else { patience() };
        let rhythm = rhythm();
        Settings {
            patience,
            // What was done between the last push and the end of a machine may be as much.
            rhythm: if kept.is_remote() { Rhythm { leave: LEAVE_BETWEEN_PUSHES, ..rhythm } } else { rhythm },
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
        (rhythm.most, rhythm.leave) = (most, most);
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

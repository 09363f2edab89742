//! Which state a command uses: `--state` with a folder, a URL or a name, `--state-of` with a plan, or what the command's
//! own plan says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgMatches, Args};

use super::descriptions::{quote, quote_path};
use super::exit::{CommandError, ExitStatus};
use super::plan_input::{self, LoadedPlan};
use super::project_config::NamedStates;
use crate::hint::{Hint, command, hint};
use crate::paths::show_path;
use crate::plan::{Plan, StateUrl, parse_duration};

/// The default folder for jobs.
pub(super) const DEFAULT_FOLDER: &str = ".batchplan";

/// The variable that sets `--state`.
const STATE_VARIABLE: &str = "BATCHPLAN_STATE";

/// The maximum number of files in which a plan with `[state]` is searched for.
const MAX_PLAN_FILES: usize = 100;

/// Where all jobs are kept.
#[derive(Debug, Default, Args)]
pub(crate) struct StateLocationArgs {
    /// Where jobs are kept: a folder for the journal, the frozen manifests and the reports, `s3://BUCKET/PREFIX` or
    /// `oss://BUCKET/PREFIX`, or a name in .batchplan/config.toml [default: what the plan says, or .batchplan]
    #[arg(long, value_name = "DIR|URL|NAME", env = STATE_VARIABLE)]
    state: Option<PathBuf>,
    /// Use the [state] of this plan or saved plan
    #[arg(long, value_name = "PLAN")]
    state_of: Option<PathBuf>,
    /// How long to wait for the lock of a state in a bucket, such as 30s or 10m [default: do not wait]
    #[arg(long, value_name = "TIME", value_parser = parse_lock_timeout)]
    lock_timeout: Option<Duration>,
}

fn parse_lock_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text).ok_or("must be a number followed by s, m or h, such as 90s")?;
    if timeout <= Duration::from_hours(24) { Ok(timeout) } else { Err("must be at most 24h".to_owned()) }
}

/// A state in a bucket, and what it was chosen by.
#[derive(Debug)]
pub(super) struct BucketState {
    pub(super) url: StateUrl,
    /// The flag that chooses it again, if that is not its URL.
    pub(super) flag: Option<String>,
    /// What names it, if the command line does not show its URL.
    pub(super) named_by: Option<String>,
}

impl BucketState {
    /// Returns the flag that a shown command needs to find the same jobs. `location` is the complete URL.
    pub(super) fn flag(&self, location: &str) -> String {
        self.flag.clone().unwrap_or_else(|| flag_of_location(location))
    }
}

/// Returns the `--state` flag for a state in a bucket. `location` is its complete URL.
pub(super) fn flag_of_location(location: &str) -> String {
    format!(" --state {}", quote(location))
}

impl StateLocationArgs {
    /// Returns the flag that a shown command needs to find the same jobs, or an empty string for the default folder.
    pub(crate) fn flag(&self) -> String {
        match (&self.state_of, &self.state) {
            (Some(plan), _) => format!(" --state-of {}", quote_path(plan)),
            (None, Some(state)) if state != Path::new(DEFAULT_FOLDER) => format!(" --state {}", quote_path(state)),
            (None, _) => String::new(),
        }
    }

    /// Returns the same flag for parsed arguments, or an empty string if the command has no `--state`.
    pub(crate) fn flag_from_matches(given: &ArgMatches) -> String {
        // `state show` and its like are subcommands of a subcommand.
        let mut command = given;
        while let Some((_, inner)) = command.subcommand() {
            command = inner;
        }
        let path = |name| command.try_get_one::<PathBuf>(name).ok().flatten().cloned();
        Self { state: path("state"), state_of: path("state_of"), lock_timeout: None }.flag()
    }

    /// Returns the given folder, or the default.
    pub(super) fn folder(&self) -> &Path {
        self.state.as_deref().unwrap_or(Path::new(DEFAULT_FOLDER))
    }

    /// Returns how long to wait for the lock.
    pub(super) fn lock_timeout(&self) -> Duration {
        self.lock_timeout.unwrap_or_default()
    }

    /// Returns whether no option and no variable says where jobs are kept.
    pub(super) fn is_default(&self) -> bool {
        self.state.is_none() && self.state_of.is_none()
    }

    /// Returns the state in a bucket, from the options or else from the plan. Returns `None` for a local folder.
    ///
    /// # Errors
    /// Returns an error if an option names no state, if a URL is not valid, or if the file with the names of states
    /// cannot be used.
    pub(super) fn bucket(&self, plan: Option<&Plan>) -> Result<Option<BucketState>, CommandError> {
        let plan_store = plan.map(|plan| &plan.store);
        if let Some(file) = &self.state_of {
            self.reject_both()?;
            return bucket_of_plan(file).map(Some);
        }
        let Some(state) = &self.state else {
            let url = plan.and_then(|plan| plan.state.clone()).map(|url| url.completed_from(plan_store));
            let named_by = plan.map(|plan| format!("[state] of {}", plan.name));
            return Ok(url.map(|url| BucketState { url, flag: None, named_by }));
        };
        let Some(text) = state.to_str() else { return Ok(None) };
        if StateUrl::is_state_url(text) {
            let url = StateUrl::parse(text).map_err(|refused| CommandError::from(refused).prefix("invalid --state"))?;
            return Ok(Some(BucketState { url: url.completed_from(plan_store), flag: None, named_by: None }));
        }
        self.named(text)
    }

    /// Returns the state with this name, or `None` if the text is the path of a folder.
    fn named(&self, text: &str) -> Result<Option<BucketState>, CommandError> {
        if text.contains(['/', '\\', '.']) {
            return Ok(None);
        }
        let states = NamedStates::load(Path::new(DEFAULT_FOLDER))?;
        if let Some(url) = states.get(text) {
            let named_by = Some(format!("[states.{text}]"));
            return Ok(Some(BucketState { url: url.clone(), flag: Some(self.flag()), named_by }));
        }
        if states.is_empty() || Path::new(text).exists() {
            return Ok(None);
        }
        let what = format!("no state `{text}` is in .batchplan/config.toml, and there is no such folder");
        let help = format!("{}; for a new folder, write --state ./{text}", states.suggestion(text));
        Err(CommandError::new(ExitStatus::Invalid, what).help(help))
    }

    /// Returns an error if two options name a state. The variable does not count.
    fn reject_both(&self) -> Result<(), CommandError> {
        let variable = std::env::var_os(STATE_VARIABLE);
        if self.state.is_none() || self.state.as_ref().map(|state| state.as_os_str()) == variable.as_deref() {
            return Ok(());
        }
        Err(CommandError::new(ExitStatus::Invalid, "--state and --state-of cannot be used together")
            .help("leave out one of them"))
    }
}

/// Returns the state of a plan in a file, for `--state-of`.
fn bucket_of_plan(file: &Path) -> Result<BucketState, CommandError> {
    let plan = plan_input::load_any(file)?;
    let Some(url) = plan.state.clone() else {
        let what = format!("{} has no [state]: its jobs are kept in {DEFAULT_FOLDER}", show_path(file));
        return Err(CommandError::new(ExitStatus::Invalid, what).help("leave out --state-of, or use --state"));
    };
    Ok(BucketState {
        url: url.completed_from(Some(&plan.store)),
        flag: Some(format!(" --state-of {}", quote_path(file))),
        named_by: Some(format!("[state] of {}", show_path(file))),
    })
}

/// A plan of the current folder that keeps its jobs in a bucket.
pub(super) struct PlanWithState {
    file: PathBuf,
    url: StateUrl,
}

impl PlanWithState {
    /// Finds the plan of the current folder that has `[state]`, if there is exactly one.
    pub(super) fn find() -> Option<Self> {
        let is_plan = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "toml") && path.is_file();
        let mut files: Vec<_> = std::fs::read_dir(".")
            .ok()?
            .filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name())))
            .filter(is_plan)
            .take(MAX_PLAN_FILES)
            .collect();
        files.sort();
        let mut found = files.into_iter().filter_map(|file| {
            let LoadedPlan { plan, .. } = plan_input::load(&file).0?;
            Some(Self { file, url: plan.state? })
        });
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// Returns where the plan's jobs are, and the command that lists them.
    pub(super) fn hint(&self) -> Hint {
        hint!("{}: {}", format!("{} keeps its jobs in {}", show_path(&self.file), self.url), command!("list"))
    }

    /// Returns the flag that finds these jobs.
    pub(super) fn flag(&self) -> String {
        format!(" --state-of {}", quote_path(&self.file))
    }
}

//! `batchplan complete`: prints the words that may come next on a command line. The completion scripts call it for what
//! only the folder and the journal know: plan files, saved plans and job IDs.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::exit::{CommandError, ExitStatus};
use super::job_ids;
use super::plan_input::{is_saved_plan, load};
use super::state_location::DEFAULT_FOLDER;
use super::terminal::{Terminal, escape_line};
use crate::job::JobStatus;
use crate::journal::{JobQuery, JobRecord, Journal};

/// The maximum number of jobs to offer: the newest ones.
const MAX_JOBS: u32 = 50;

/// The maximum number of files of a folder to read.
const MAX_FILES: usize = 200;

/// Print the words that may come next on a command line, for completion scripts.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct CompleteArgs {
    /// The words after the program, of which the last is completed.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Prints one word a line, each with a description behind a tab. Prints nothing if anything is wrong: a completion must
/// not disturb the command line.
///
/// # Errors
/// Returns an error if standard output cannot be written.
pub(super) fn run(
    args: &CompleteArgs,
    program: &clap::Command,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let words: Vec<_> = args.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut lines = String::new();
    if let Some(wanted) = wanted(program, &words) {
        for (word, about) in wanted.candidates(&words) {
            let _ = writeln!(lines, "{}\t{}", escape_line(&word), escape_line(&about));
        }
    }
    terminal.print_text(&lines)?;
    Ok(ExitStatus::Success)
}

/// What the last word can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WordKind {
    /// A job, in a status that the command with this name is for.
    Job(&'static str),
    /// A plan file.
    Plan,
    /// A plan file or a saved plan.
    PlanOrSaved,
    /// A job or a saved plan.
    JobOrSaved,
}

/// Returns what the last word can be, if it is a job or a plan.
fn wanted(program: &clap::Command, words: &[String]) -> Option<WordKind> {
    let (last, before) = words.split_last()?;
    let mut command = program;
    let mut positional = 0;
    let mut option = None;
    for word in before {
        if option.take().is_some() {
            continue;
        }
        if let Some(name) = word.strip_prefix("--") {
            option =
                command.get_arguments().find(|arg| arg.get_long() == Some(name) && arg.get_action().takes_values());
        } else if let Some(inner) = command.find_subcommand(word).filter(|_| positional == 0) {
            command = inner;
        } else if !word.starts_with('-') {
            positional += 1;
        }
    }
    if last.starts_with('-') {
        return None;
    }
    let argument = match option {
        Some(option) => option,
        // The last positional argument may be repeated.
        None => command.get_positionals().nth(positional).or_else(|| command.get_positionals().last())?,
    };
    Some(match (argument.get_id().as_str(), command.get_name()) {
        ("job", "show") => WordKind::JobOrSaved,
        ("job" | "after", name) => WordKind::Job(COMMANDS.iter().find(|known| **known == name).copied().unwrap_or("")),
        ("given" | "state_of", _) => WordKind::PlanOrSaved,
        ("plan" | "plans" | "paths", _) => WordKind::Plan,
        _ => return None,
    })
}

/// The commands that are for jobs of some statuses only.
const COMMANDS: [&str; 8] = ["resume", "pause", "confirm", "cancel", "priority", "retry", "delete", "publish"];

impl WordKind {
    fn candidates(self, words: &[String]) -> Vec<(String, String)> {
        let start = words.last().map_or("", String::as_str);
        let is_plan = |path: &Path| load(path).0.is_some();
        let mut found = match self {
            Self::Job(command) => jobs(words, command),
            Self::JobOrSaved => {
                let mut found = jobs(words, "");
                // Without a start, folders would hide the jobs.
                let is_wanted = |word: &String| !(start.is_empty() && word.ends_with('/'));
                found.extend(files(start, is_saved_plan, "saved plan").into_iter().filter(|(word, _)| is_wanted(word)));
                found
            }
            Self::Plan => files(start, is_plan, "plan"),
            Self::PlanOrSaved => files(start, |path| is_saved_plan(path) || is_plan(path), "plan"),
        };
        found.retain(|(word, _)| word.starts_with(start));
        found
    }
}

/// Returns whether a command is for jobs with this status.
fn is_for(command: &str, status: JobStatus) -> bool {
    match command {
        "confirm" => matches!(status, JobStatus::New | JobStatus::Preparing | JobStatus::Suspended),
        "resume" | "pause" | "cancel" | "priority" => !status.is_over(),
        "retry" | "delete" | "publish" => status.is_over(),
        _ => true,
    }
}

/// Returns the newest jobs of a local state folder. A state in a bucket is not read: that may take seconds.
fn jobs(words: &[String], command: &str) -> Vec<(String, String)> {
    let given = words.iter().position(|word| word == "--state").and_then(|at| words.get(at + 1));
    let variable = std::env::var("BATCHPLAN_STATE").ok();
    let folder = given.or(variable.as_ref()).map_or(DEFAULT_FOLDER, String::as_str);
    let Ok(Some(journal)) = Journal::open_for_reading(Path::new(folder)) else { return Vec::new() };
    job_ids::learn(&journal);
    let found = journal.list(JobQuery { limit: MAX_JOBS, ..JobQuery::default() }).unwrap_or_default();
    let describe =
        |job: JobRecord| (job_ids::abbreviate(job.id.as_str()).into_owned(), format!("{}, {}", job.status, job.name));
    found.into_iter().filter(|job| is_for(command, job.status)).map(describe).collect()
}

/// Returns the files beside the start of a path that a test accepts, and folders.
fn files(start: &str, accepts: impl Fn(&Path) -> bool, about: &str) -> Vec<(String, String)> {
    let folder = start.rsplit_once('/').map_or("", |(folder, _)| folder);
    let place = match (folder, start.starts_with('/')) {
        ("", true) => Path::new("/"),
        ("", false) => Path::new("."),
        (folder, _) => Path::new(folder),
    };
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let prefix = start.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let mut names: Vec<_> = names.filter(|name| format!("{prefix}{name}").starts_with(start)).collect();
    names.sort();
    let candidate = |name: String| {
        let path = PathBuf::from(place).join(&name);
        let is_known = path.extension().is_some_and(|ext| ext == "toml" || ext == "bpl");
        match path.is_dir() {
            true if name.starts_with('.') => None,
            true => Some((format!("{prefix}{name}/"), "folder".to_owned())),
            false => (is_known && accepts(&path)).then(|| (format!("{prefix}{name}"), about.to_owned())),
        }
    };
    names.into_iter().take(MAX_FILES).filter_map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_on_the_command_line_says_what_is_wanted() {
        let program = super::super::command();
        for (words, kind) in [
            (&["show", ""][..], Some(WordKind::JobOrSaved)),
            (&["-q", "show", "--examples", "OD"], Some(WordKind::JobOrSaved)),
            (&["resume", "x"], Some(WordKind::Job("resume"))),
            (&["retry", "--state", "dir", ""], Some(WordKind::Job("retry"))),
            (&["list", "--after", ""], Some(WordKind::Job(""))),
            (&["list", "--state-of", "pl"], Some(WordKind::PlanOrSaved)),
            (&["apply", ""], Some(WordKind::PlanOrSaved)),
            (&["apply", "plan.bpl", "--plan", ""], Some(WordKind::Plan)),
            (&["plan", ""], Some(WordKind::Plan)),
            (&["plan", "plan.toml", "--out", ""], None),
            (&["apply", "--"], None),
            (&["list", ""], None),
            (&["nonsense", ""], None),
            (&[], None),
        ] {
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            assert_eq!(wanted(&program, &words), kind, "{words:?}");
        }
    }
}

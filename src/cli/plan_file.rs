//! Reads plan files with a size limit, checks them, and prints their problems.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use jiff::Timestamp;

use super::exit::{CommandError, ExitStatus};
use super::terminal::{Terminal, escape_controls};
use super::{github, problems};
use crate::diagnostics::{FileProblem, FileProblems};
use crate::jobs::SavedPlan;
use crate::plan::{self, MAX_PLAN_BYTES, Plan};

/// A valid plan, and the bytes it was read from.
pub(super) struct LoadedPlan {
    pub(super) plan: Plan,
    /// The contents of the file.
    pub(super) bytes: Vec<u8>,
    /// When the file was read. Ages in the plan count back from this time.
    pub(super) read_at: Timestamp,
}

/// Reads and checks a plan file. A file that cannot be read is a problem like any other.
pub(super) fn load(path: &Path) -> (Option<LoadedPlan>, FileProblems) {
    load_in(path, path.parent().unwrap_or(Path::new("")))
}

/// Like [`load`], with relative paths in the plan resolved against `folder`.
fn load_in(path: &Path, folder: &Path) -> (Option<LoadedPlan>, FileProblems) {
    check(path, folder, read_up_to(path, MAX_PLAN_BYTES as u64))
}

/// Checks the contents of a plan file.
fn check(path: &Path, folder: &Path, bytes: io::Result<Vec<u8>>) -> (Option<LoadedPlan>, FileProblems) {
    let name = escape_controls(&path.display().to_string());
    match bytes {
        Ok(bytes) if SavedPlan::is_saved_plan(&bytes) => {
            let mut problems = FileProblems::new(&name, "");
            let what = format!("{name} is a saved plan, but this command needs a plan file");
            problems.push(
                FileProblem::new(what).help("use the plan file that is named in it; `batchplan apply` takes both"),
            );
            (None, problems)
        }
        Ok(bytes) => {
            let read_at = Timestamp::now();
            let (plan, problems) = plan::read_bytes(&name, &bytes, folder, read_at);
            (plan.map(|plan| LoadedPlan { plan, bytes, read_at }), problems)
        }
        Err(error) => {
            let mut problems = FileProblems::new(&name, "");
            problems.push(
                FileProblem::new(format!("cannot read {name}: {error}"))
                    .help("`batchplan init` writes a plan to start from"),
            );
            (None, problems)
        }
    }
}

/// Reads a plan for a command that cannot continue without one. Prints its problems, including warnings.
///
/// # Errors
/// Returns an error if there is no valid plan.
pub(super) fn require(path: &Path, terminal: Terminal) -> Result<LoadedPlan, CommandError> {
    require_in(path, path.parent().unwrap_or(Path::new("")), terminal)
}

/// Like [`require`], with relative paths in the plan resolved against `folder`.
///
/// # Errors
/// Returns an error if there is no valid plan.
pub(super) fn require_in(path: &Path, folder: &Path, terminal: Terminal) -> Result<LoadedPlan, CommandError> {
    report_and_require(path, load_in(path, folder), terminal)
}

/// Like [`require`], for a file that was already read.
///
/// # Errors
/// Returns an error if there is no valid plan.
pub(super) fn require_bytes(
    path: &Path,
    bytes: io::Result<Vec<u8>>,
    terminal: Terminal,
) -> Result<LoadedPlan, CommandError> {
    report_and_require(path, check(path, path.parent().unwrap_or(Path::new("")), bytes), terminal)
}

fn report_and_require(
    path: &Path,
    (plan, problems): (Option<LoadedPlan>, FileProblems),
    terminal: Terminal,
) -> Result<LoadedPlan, CommandError> {
    problems::show(&problems, terminal);
    github::annotate([&problems], terminal);
    plan.ok_or_else(|| {
        CommandError::new(ExitStatus::Invalid, format!("{} is not a valid plan", path.display()))
            .help("fix the problems shown above; nothing was sent")
    })
}

/// Reads at most one byte more than `most`, so that a longer file is detected without reading all of it.
pub(super) fn read_up_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

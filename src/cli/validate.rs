//! `batchplan validate`: reports every problem of plan files, and changes nothing.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::{Value as Json, json};

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::github;
use super::plan_input::{self, problems_json, read_up_to, show_problems};
use super::terminal::Terminal;
use crate::diagnostics::FileProblems;
use crate::files::with_path;
use crate::paths::{path_to_text, show_path};
use crate::plan::{MAX_PLAN_BYTES, may_be_plan};

/// Check plan files for mistakes.
///
/// Reports all problems at once, each with its location and how to fix it. Nothing is sent.
///
/// In a folder, only plans are checked: *.toml files with a [store], [manifest] or [operation] table. Other *.toml files
/// are listed as skipped. A file that you name is always checked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  batchplan validate plan.toml
  batchplan validate plans/              # every plan in the folder and below
  batchplan validate plans/ --json | jq '.plans[] | select(.valid | not) | .file'

Exit codes: 0 every plan is valid (warnings are allowed), 2 otherwise.")]
pub(super) struct ValidateArgs {
    /// Plan files, or folders to search for plans (folders whose names start with a dot are skipped).
    #[arg(required = true, value_name = "PLAN")]
    plans: Vec<PathBuf>,
}

/// The files to check, and the TOML files in the named folders that are not plans.
#[derive(Default)]
struct FoundFiles {
    plans: Vec<PathBuf>,
    skipped: Vec<PathBuf>,
}

/// Why a TOML file in a folder is skipped.
const NOT_A_PLAN: &str = "not a plan: it has no [store], [manifest] or [operation] table";

/// The result of checking one plan file.
struct ValidatedPlan {
    file: PathBuf,
    valid: bool,
    problems: FileProblems,
}

impl CliCommand for ValidateArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let mut files = FoundFiles::default();
        for path in &self.plans {
            collect_files(path, &mut files)?;
        }
        let FoundFiles { plans, skipped } = files;
        let verdicts: Vec<_> = plans.into_iter().map(check_file).collect();
        github::annotate(verdicts.iter().map(|verdict| &verdict.problems), terminal);
        if terminal.is_json() {
            terminal.print_pretty_json(to_json(&verdicts, &skipped))?;
        } else {
            for verdict in &verdicts {
                show_problems(&verdict.problems, terminal);
            }
            for file in &skipped {
                terminal.inform(format_args!("skipped {}: {NOT_A_PLAN}", show_path(file)));
            }
            terminal.print(summary(&verdicts, skipped.len()))?;
        }
        Ok(if verdicts.iter().all(|verdict| verdict.valid) { ExitStatus::Success } else { ExitStatus::Invalid })
    }
}

fn check_file(file: PathBuf) -> ValidatedPlan {
    let (plan, problems) = plan_input::load(&file);
    ValidatedPlan { file, valid: plan.is_some(), problems }
}

/// Adds a file as it is, or all TOML files below a folder, sorted by path: the plans to check, and the others as skipped.
fn collect_files(path: &Path, files: &mut FoundFiles) -> Result<(), CommandError> {
    if !path.is_dir() {
        files.plans.push(path.to_owned());
        return Ok(());
    }
    let mut found = Vec::new();
    find_toml_files(path, &mut found)
        .map_err(|error| CommandError::new(ExitStatus::Invalid, format!("cannot read {error}")))?;
    found.sort();
    // What cannot be read is a problem of a plan, until it is known to be something else.
    let is_plan = |file: &PathBuf| read_up_to(file, MAX_PLAN_BYTES as u64).map_or(true, |bytes| may_be_plan(&bytes));
    let (plans, skipped): (Vec<_>, Vec<_>) = found.into_iter().partition(is_plan);
    if plans.is_empty() {
        let others = match skipped.len() {
            0 => String::new(),
            1 => ": one *.toml file has no [store], [manifest] or [operation] table".to_owned(),
            count => format!(": none of {count} *.toml files has a [store], [manifest] or [operation] table"),
        };
        let message = format!("no plan files (*.toml) in {}{others}", show_path(path));
        return Err(CommandError::new(ExitStatus::Invalid, message).help("batchplan init writes a plan to start from"));
    }
    files.plans.extend(plans);
    files.skipped.extend(skipped);
    Ok(())
}

/// Finds TOML files below a folder. Does not follow links to folders, because they may form cycles.
fn find_toml_files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder).map_err(with_path(folder))? {
        let entry = entry.map_err(with_path(folder))?;
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if entry.file_type().map_err(with_path(&path))?.is_dir() {
            if !hidden {
                find_toml_files(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// Returns a summary, such as `3 plans, 2 valid, 1 with problems, 1 other file skipped`.
fn summary(verdicts: &[ValidatedPlan], skipped: usize) -> String {
    let valid = verdicts.iter().filter(|verdict| verdict.valid).count();
    let warnings: usize =
        verdicts.iter().map(|verdict| verdict.problems.iter().filter(|problem| problem.is_warning()).count()).sum();
    let mut parts = vec![pluralize(verdicts.len(), "plan"), format!("{valid} valid")];
    if valid < verdicts.len() {
        parts.push(format!("{} with problems", verdicts.len() - valid));
    }
    if warnings > 0 {
        parts.push(pluralize(warnings, "warning"));
    }
    if skipped > 0 {
        parts.push(format!("{} skipped", pluralize(skipped, "other file")));
    }
    parts.join(", ")
}

fn pluralize(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn to_json(verdicts: &[ValidatedPlan], skipped: &[PathBuf]) -> Json {
    let plans: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            json!({
                "file": path_to_text(&verdict.file),
                "valid": verdict.valid,
                "problems": problems_json(&verdict.problems),
            })
        })
        .collect();
    let skipped: Vec<_> = skipped.iter().map(|file| json!({ "file": path_to_text(file), "why": NOT_A_PLAN })).collect();
    json!({ "plans": plans, "skipped": skipped })
}

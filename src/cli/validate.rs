//! `batchplan validate`: reports every problem of plan files, and changes nothing.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::{Value as Json, json};

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::github;
use super::plan_input::{self, problems_json, show_problems};
use super::terminal::Terminal;
use crate::diagnostics::FileProblems;
use crate::files::with_path;
use crate::paths::{path_to_text, show_path};

/// Check plan files for mistakes.
///
/// Reports all problems at once, each with its location and how to fix it. Nothing is sent.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  batchplan validate plan.toml
  batchplan validate plans/              # every *.toml in the folder and below
  batchplan validate plans/ --json | jq '.plans[] | select(.valid | not) | .file'

Exit codes: 0 every plan is valid (warnings are allowed), 2 otherwise.")]
pub(super) struct ValidateArgs {
    /// Plan files, or folders to search for *.toml (folders whose names start with a dot are skipped).
    #[arg(required = true, value_name = "PLAN")]
    plans: Vec<PathBuf>,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// The result of checking one plan file.
struct ValidatedPlan {
    file: PathBuf,
    valid: bool,
    problems: FileProblems,
}

impl CliCommand for ValidateArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let mut files = Vec::new();
        for path in &self.plans {
            collect_files(path, &mut files)?;
        }
        let verdicts: Vec<_> = files.into_iter().map(check_file).collect();
        github::annotate(verdicts.iter().map(|verdict| &verdict.problems), terminal);
        if self.json {
            terminal.print(format_args!("{:#}", to_json(&verdicts)))?;
        } else {
            for verdict in &verdicts {
                show_problems(&verdict.problems, terminal);
            }
            terminal.print(summary(&verdicts))?;
        }
        Ok(if verdicts.iter().all(|verdict| verdict.valid) { ExitStatus::Success } else { ExitStatus::Invalid })
    }
}

fn check_file(file: PathBuf) -> ValidatedPlan {
    let (plan, problems) = plan_input::load(&file);
    ValidatedPlan { file, valid: plan.is_some(), problems }
}

/// Adds a file as it is, or all plan files below a folder, sorted by path.
fn collect_files(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), CommandError> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut found = Vec::new();
    find_plan_files(path, &mut found)
        .map_err(|error| CommandError::new(ExitStatus::Invalid, format!("cannot read {error}")))?;
    if found.is_empty() {
        let message = format!("no plan files (*.toml) in {}", show_path(path));
        return Err(CommandError::new(ExitStatus::Invalid, message));
    }
    found.sort();
    files.extend(found);
    Ok(())
}

/// Finds plan files below a folder. Does not follow links to folders, because they may form cycles.
fn find_plan_files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder).map_err(with_path(folder))? {
        let entry = entry.map_err(with_path(folder))?;
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if entry.file_type().map_err(with_path(&path))?.is_dir() {
            if !hidden {
                find_plan_files(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// Returns a summary, such as `3 plans, 2 valid, 1 with problems`.
fn summary(verdicts: &[ValidatedPlan]) -> String {
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
    parts.join(", ")
}

fn pluralize(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn to_json(verdicts: &[ValidatedPlan]) -> Json {
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
    json!({ "plans": plans })
}

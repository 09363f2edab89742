//! The plan that a command is given: a plan file or a saved plan, read with a size limit and checked, and its prices;
//! and the problems of such a file, formatted for people or as JSON.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use miette::{GraphicalReportHandler, GraphicalTheme};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::descriptions::relative_path;
use super::error_code::ErrorCode;
use super::exit::{CommandError, ExitStatus};
use super::file_digest::FileDigest;
use super::github;
use super::terminal::{Terminal, escape_for_terminal};
use crate::connect::with_environment;
use crate::diagnostics::{FileProblem, FileProblems};
use crate::estimate::{PriceBookError, StorePrices, select_prices};
use crate::files::{self, TEMPORARY_FOLDER_HELP, access_help};
use crate::hint::{ShownCommand, command, hint};
use crate::jobs::{JobError, SavedPlan};
use crate::journal::ManifestFingerprint;
use crate::paths::show_path;
use crate::plan::{self, MAX_PLAN_BYTES, Plan};
use crate::plan_rules::RuleViolations;

/// The number of bytes that tell a saved plan from a plan file.
const PREFIX_BYTES: u64 = 64;

/// The maximum size of an excerpt in bytes. Longer ones are left out: they would fill the screen and show nothing.
const MAX_EXCERPT_BYTES: usize = 4000;

/// A valid plan, and the bytes it was read from.
pub(crate) struct LoadedPlan {
    pub(crate) plan: Plan,
    /// The contents of the file.
    pub(crate) bytes: Vec<u8>,
    /// When the file was read. Ages in the plan count back from this time.
    pub(crate) read_at: Timestamp,
}

/// Reads and checks a plan file. A file that cannot be read is a problem like any other.
pub(crate) fn load(path: &Path) -> (Option<LoadedPlan>, FileProblems) {
    check(path, read_up_to(path, MAX_PLAN_BYTES as u64))
}

/// Checks the contents of a plan file.
fn check(path: &Path, bytes: io::Result<Vec<u8>>) -> (Option<LoadedPlan>, FileProblems) {
    let name = escape_for_terminal(&show_path(path).to_string());
    let folder = path.parent().unwrap_or(Path::new(""));
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
            let (what, help) = describe_unreadable(&name, &error);
            problems.push(FileProblem::new(what).help(help));
            (None, problems)
        }
    }
}

/// Describes why a plan file cannot be read, and what to do about it.
fn describe_unreadable(name: &str, error: &io::Error) -> (String, &'static str) {
    match error.kind() {
        io::ErrorKind::NotFound => {
            (format!("no such file: {name}"), "check the path; `batchplan init` writes a plan to start from")
        }
        io::ErrorKind::IsADirectory => (
            format!("{name} is a folder, but this command needs a plan file"),
            "name a plan file in this folder; `batchplan validate` checks all of them",
        ),
        _ => {
            let help =
                access_help(error).unwrap_or("nothing was changed; check the disk and run the same command again");
            (format!("cannot read {name}: {error}"), help)
        }
    }
}

/// Reads a plan for a command that cannot continue without one. Prints its problems, including warnings.
///
/// # Errors
/// Returns an error if there is no valid plan.
pub(crate) fn require(path: &Path, terminal: Terminal) -> Result<LoadedPlan, CommandError> {
    require_valid(path, read_up_to(path, MAX_PLAN_BYTES as u64), terminal)
}

fn require_valid(path: &Path, bytes: io::Result<Vec<u8>>, terminal: Terminal) -> Result<LoadedPlan, CommandError> {
    if let Err(error) = &bytes {
        let (what, help) = describe_unreadable(&show_path(path).to_string(), error);
        return Err(CommandError::new(ExitStatus::Invalid, what).help(help));
    }
    let (plan, problems) = check(path, bytes);
    for problem in problems.iter().filter(|problem| plan.is_none() || !problem.is_reported_on_use()) {
        show_problem(problem, &problems, terminal);
    }
    github::annotate([&problems], terminal);
    let mut loaded = plan.ok_or_else(|| {
        CommandError::new(ExitStatus::Invalid, format!("{} is not a valid plan", show_path(path)))
            .code(ErrorCode::InvalidPlan)
            .problems(place_json(&problems), problems_json(&problems))
            .help("fix the problems shown above; nothing was sent")
    })?;
    loaded.plan.store = with_environment(&loaded.plan.store, None)?;
    Ok(loaded)
}

/// Adds what the environment says about AWS's endpoints to the plan of an earlier command.
///
/// # Errors
/// Returns an error if the environment now names another endpoint than it did then.
pub(crate) fn in_this_environment(mut plan: Plan) -> Result<Plan, CommandError> {
    plan.store = with_environment(&plan.store, Some(&plan.store.aws_endpoints))?;
    Ok(plan)
}

/// Reads at most one byte more than `most`, so that a longer file is detected without reading all of it.
pub(crate) fn read_up_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A plan to create a job from.
pub(crate) struct PlanInput {
    pub(crate) plan: Plan,
    pub(crate) text: Vec<u8>,
    /// The absolute path of the plan file. For a saved plan, the file that it was saved from.
    pub(crate) file: PathBuf,
    /// The manifest fingerprint that the job must match, for a saved plan.
    pub(crate) fingerprint: Option<ManifestFingerprint>,
}

impl PlanInput {
    /// Returns the path of the plan file for messages.
    pub(crate) fn shown_path(&self) -> &Path {
        relative_path(&self.file)
    }
}

/// Reads the plan in a file. `of` is the plan file that a saved plan must come from, and `digest` the one that it must
/// have, if given.
///
/// # Errors
/// Returns an error if there is no valid plan. Problems of a plan file are printed.
pub(crate) fn read(
    path: &Path,
    of: Option<&Path>,
    digest: Option<&FileDigest>,
    terminal: Terminal,
) -> Result<PlanInput, CommandError> {
    let bytes = read_up_to(path, SavedPlan::MAX_BYTES);
    if !bytes.as_ref().is_ok_and(|bytes| SavedPlan::is_saved_plan(bytes)) {
        if of.is_some() || digest.is_some() {
            let option = if of.is_some() { "--plan" } else { "--expect-digest" };
            let save = command!("plan", "PLAN", "--out", "FILE");
            return Err(CommandError::new(ExitStatus::Invalid, format!("{} is not a saved plan", show_path(path)))
                .code(ErrorCode::SavedPlanRefused)
                .help(hint!("remove {}, or save the plan first: {}", option, save)));
        }
        let LoadedPlan { plan, bytes, .. } = require_valid(path, bytes, terminal)?;
        return Ok(PlanInput { plan, text: bytes, file: std::path::absolute(path)?, fingerprint: None });
    }
    let bytes = bytes?;
    if let Some(digest) = digest {
        digest.expect_of(path, &bytes)?;
    }
    let saved = SavedPlan::parse(path, &bytes)?;
    let named =
        of.map(|file| Ok::<_, CommandError>((std::path::absolute(file)?, require(file, terminal)?))).transpose()?;
    let named = named.as_ref().map(|(file, now)| (file.as_path(), &now.plan));
    let plan = in_this_environment(saved.plan(path, named)?)?;
    let file = named.map_or_else(|| saved.plan_file.clone(), |(file, _)| file.to_owned());
    Ok(PlanInput { plan, text: saved.plan.into_bytes(), file, fingerprint: Some(saved.fingerprint) })
}

/// Reads a plan or a saved plan for a command that needs only its settings. Problems are not printed.
///
/// # Errors
/// Returns an error if there is no valid plan.
pub(crate) fn load_any(path: &Path) -> Result<Plan, CommandError> {
    let bytes = read_up_to(path, SavedPlan::MAX_BYTES);
    if let Ok(bytes) = &bytes
        && SavedPlan::is_saved_plan(bytes)
    {
        return Ok(SavedPlan::parse(path, bytes)?.plan(path, None)?);
    }
    let (loaded, problems) = check(path, bytes);
    loaded.map(|loaded| loaded.plan).ok_or_else(|| {
        let what = problems.iter().find(|problem| !problem.is_warning());
        let title = what.map_or_else(|| "it cannot be read".to_owned(), |problem| problem.title().to_owned());
        let error = CommandError::new(ExitStatus::Invalid, format!("{} is not a valid plan: {title}", show_path(path)));
        error.help(hint!("{} shows all its problems", ShownCommand::new("validate").path(path)))
    })
}

/// Creates a temporary folder that only this user can read. It is removed when it is dropped.
///
/// # Errors
/// Returns an error if it cannot be created.
pub(crate) fn temporary_folder() -> Result<TempDir, CommandError> {
    files::temporary_folder().map_err(|error| {
        CommandError::new(ExitStatus::ToolFailed, format!("cannot create a temporary folder: {error}"))
            .help(TEMPORARY_FOLDER_HELP)
    })
}

/// Returns whether a regular file contains a saved plan.
pub(crate) fn is_saved_plan(path: &Path) -> bool {
    // Reading anything but a regular file may block forever.
    if !path.is_file() {
        return false;
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(PREFIX_BYTES).read_to_end(&mut bytes));
    read.is_ok() && SavedPlan::is_saved_plan(&bytes)
}

/// Prints all problems for people.
pub(crate) fn show_problems(problems: &FileProblems, terminal: Terminal) {
    for problem in problems.iter() {
        show_problem(problem, problems, terminal);
    }
}

fn show_problem(problem: &FileProblem, problems: &FileProblems, terminal: Terminal) {
    terminal.eprint_unescaped(render_problem(problem, problems, terminal).trim_end());
    terminal.eprint_unescaped("");
}

/// Returns the prices that apply to a plan. `file` is a price book that takes precedence over those of the plan.
///
/// # Errors
/// Returns an error if there is no valid price book. Its problems are printed.
pub(crate) fn load_prices(plan: &Plan, file: Option<&Path>, terminal: Terminal) -> Result<StorePrices, CommandError> {
    select_prices(plan, file).map_err(|error| job_error(&JobError::from(error), terminal))
}

/// Returns the error that ends the command because a job cannot run. If that is because of the problems of a file, of a
/// price book or of a plan that breaks rules, prints them for people: the error's own message does not list them.
pub(crate) fn job_error(error: &JobError, terminal: Terminal) -> CommandError {
    let ended = CommandError::from(error);
    match error {
        JobError::Prices(PriceBookError::Invalid(problems)) => {
            show_problems(problems, terminal);
            ended.problems(place_json(problems), problems_json(problems))
        }
        JobError::RulesBroken(found) => {
            show_problems(found.problems(), terminal);
            github::annotate([found.problems()], terminal);
            ended.problems(place_json(found.problems()), violations_json(found))
        }
        _ => ended,
    }
}

fn render_problem(problem: &FileProblem, problems: &FileProblems, terminal: Terminal) -> String {
    let mut drawn = String::new();
    let too_long = problem.label_spans().iter().any(|(span, _)| problems.excerpt_bytes(span) > MAX_EXCERPT_BYTES);
    if too_long || report_handler(terminal).render_report(&mut drawn, problem).is_err() {
        return render_plain(problem, problems);
    }
    drawn
}

/// Returns the renderer: line drawing on a terminal, plain ASCII elsewhere.
fn report_handler(terminal: Terminal) -> GraphicalReportHandler {
    let theme = match (terminal.stderr_is_terminal(), terminal.colours_messages()) {
        (true, true) => GraphicalTheme::unicode(),
        (true, false) => GraphicalTheme::unicode_nocolor(),
        (false, true) => GraphicalTheme::ascii(),
        (false, false) => GraphicalTheme::none(),
    };
    GraphicalReportHandler::new_themed(theme).with_links(false).with_context_lines(1).with_wrap_lines(false)
}

/// Formats a problem in a few lines, without an excerpt.
fn render_plain(problem: &FileProblem, problems: &FileProblems) -> String {
    let mut lines = vec![format!("{}: {}", severity(problem), problem.title())];
    for (span, label) in problem.label_spans() {
        let (line, column) = problems.position(span.start);
        lines.push(format!("  {}:{line}:{column}: {label}", problems.file_name()));
    }
    lines.extend(problem.hint().map(|help| format!("  help: {help}")));
    lines.join("\n")
}

fn severity(problem: &FileProblem) -> &'static str {
    if problem.is_warning() { "warning" } else { "error" }
}

/// Returns all problems as JSON. Lines and columns count from 1, and columns are in characters.
pub(crate) fn problems_json(problems: &FileProblems) -> Json {
    problems
        .iter()
        .map(|problem| {
            json!({
                "severity": severity(problem),
                "message": problem.title(),
                "help": problem.hint(),
                "labels": labels(problem, problems),
            })
        })
        .collect()
}

/// Returns the file, line and column of the first problem that is an error; null if it has no position.
pub(crate) fn place_json(problems: &FileProblems) -> Json {
    let error = problems.iter().find(|problem| !problem.is_warning());
    match error.and_then(|problem| problem.label_spans().first()) {
        Some((span, _)) => {
            let (line, column) = problems.position(span.start);
            json!({ "file": problems.file_name(), "line": line, "column": column })
        }
        None => Json::Null,
    }
}

/// Returns the rules that a plan breaks as JSON: as problems of the plan file, each with its rule.
pub(crate) fn violations_json(found: &RuleViolations) -> Json {
    let mut problems = problems_json(found.problems());
    for (index, (violation, _)) in found.iter().enumerate() {
        let (line, column) = violation.position;
        problems[index]["rule"] = json!({
            "name": violation.rule,
            "place": { "file": found.rules_file(), "line": line, "column": column },
        });
    }
    problems
}

fn labels(problem: &FileProblem, problems: &FileProblems) -> Json {
    problem
        .label_spans()
        .iter()
        .map(|(span, text)| {
            let (line, column) = problems.position(span.start);
            let (end_line, end_column) = problems.position(span.end);
            json!({ "line": line, "column": column, "end_line": end_line, "end_column": end_column, "text": text })
        })
        .collect()
}

//! Reads a plan file: returns a checked plan, or all problems in the file.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value as Json, json};
use toml::de::DeTable;

use super::check;
use super::model::Plan;
use super::parser::tables::PlanTable;
use super::parser::{PlanParser, PlanValue as _};
use super::safe_text::{mask_for_excerpts, quote_for_message};
use crate::diagnostics::{FileProblem, FileProblems};

/// The maximum size of a plan file, in bytes. Plans are written by hand; lists of objects belong in a manifest.
pub const MAX_PLAN_BYTES: usize = 1 << 20;

/// Returns the JSON Schema of plan files, for editors. It is generated from the same definitions as the parser.
#[must_use]
pub fn schema() -> Json {
    let mut schema = PlanTable::schema();
    // TOML plug-ins of editors support draft 7 best.
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("batchplan plan");
    schema
}

/// Reads a plan file from bytes. Like [`read`], but also reports a file that is too large or not UTF-8.
#[must_use]
pub fn read_bytes(name: &str, bytes: &[u8], folder: &Path, now: Timestamp) -> (Option<Plan>, FileProblems) {
    if bytes.len() > MAX_PLAN_BYTES {
        return single_problem(name, "", too_large());
    }
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = bytes {
        return single_problem(
            name,
            "",
            FileProblem::new("the file is UTF-16").label(0..0, "not UTF-8").help("save it as UTF-8"),
        );
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => read(name, text, folder, now),
        Err(error) => {
            let good = error.valid_up_to();
            let text = String::from_utf8_lossy(bytes);
            let problem = FileProblem::new("the file is not UTF-8")
                .label(good..good + '\u{fffd}'.len_utf8(), format!("byte 0x{:02x}", bytes[good]))
                .help("save it as UTF-8");
            single_problem(name, &text, problem)
        }
    }
}

/// Reads a plan file and reports all problems in it.
///
/// Relative paths are resolved against `folder`, and ages are counted back from `now`. There is a plan exactly if no
/// problem is an error; there may be warnings beside it. Only a TOML syntax error hides other problems. Text that looks
/// like a credential is masked in every excerpt.
#[must_use]
pub fn read(name: &str, text: &str, folder: &Path, now: Timestamp) -> (Option<Plan>, FileProblems) {
    if text.len() > MAX_PLAN_BYTES {
        return single_problem(name, "", too_large());
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut parser = PlanParser::new(&schema());
    if let Some(error) = errors.iter().find(|error| !is_duplicate(error)) {
        return single_problem(name, text, syntax_problem(error, text.len()));
    }
    for error in &errors {
        parser.push(syntax_problem(error, text.len()));
    }
    let file = PlanTable::read_file(table.get_ref(), &mut parser);
    let plan = check::check(&file, folder, now, &mut parser);
    let (found, secrets) = parser.finish();
    let mut problems = FileProblems::new(&quote_for_message(name), &mask_for_excerpts(text, &secrets));
    for problem in found {
        problems.push(problem);
    }
    (plan.filter(|_| !problems.has_errors()), problems)
}

fn too_large() -> FileProblem {
    FileProblem::new("the plan file is too large")
        .label(0..0, "more than 1 MiB")
        .help("put a list of objects into a manifest")
}

/// Returns a single problem that stops the reading.
fn single_problem(name: &str, text: &str, problem: FileProblem) -> (Option<Plan>, FileProblems) {
    let mut problems = FileProblems::new(&quote_for_message(name), &mask_for_excerpts(text, &[]));
    problems.push(problem);
    (None, problems)
}

/// Returns whether the error is a repeated key: the only syntax error after which the rest of the file is still
/// meaningful.
fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message() == "duplicate key"
}

fn syntax_problem(error: &toml::de::Error, length: usize) -> FileProblem {
    let problem = if is_duplicate(error) {
        FileProblem::new("duplicate key or table").help("TOML allows each of them once: keep one")
    } else {
        FileProblem::new("invalid TOML").help("see https://toml.io/en/v1.0.0 for the syntax")
    };
    let span = error.span().unwrap_or(0..0);
    problem.label(span.start.min(length)..span.end.min(length), error.message())
}

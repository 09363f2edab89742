//! Reads a plan file: returns a checked plan, or all problems in the file.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::check;
use super::model::Plan;
use super::tables::PlanTable;
use crate::diagnostics::FileProblems;
use crate::toml_reader::{DocumentType, DocumentValue as _, MAX_DOCUMENT_BYTES};

/// The maximum size of a plan file, in bytes. Plans are written by hand; lists of objects belong in a manifest.
pub const MAX_PLAN_BYTES: usize = MAX_DOCUMENT_BYTES;

const PLAN_FILE: DocumentType = DocumentType {
    name: "plan",
    too_large: "the plan file is too large",
    too_large_help: "put a list of objects into a manifest",
};

/// Returns the JSON Schema of plan files, for editors. It is generated from the same definitions as the parser.
#[must_use]
pub fn schema() -> Json {
    let mut schema = PlanTable::schema();
    // TOML plug-ins of editors support draft 7 best.
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("batchplan plan");
    schema
}

/// Reads a plan file from bytes. Like [`read`], but also reports a file that is not UTF-8.
#[must_use]
pub fn read_bytes(name: &str, bytes: &[u8], folder: &Path, now: Timestamp) -> (Option<Plan>, FileProblems) {
    match PLAN_FILE.decode(name, bytes) {
        Ok(text) => read(name, text, folder, now),
        Err(problems) => (None, problems),
    }
}

/// Reads a plan file and reports all problems in it.
///
/// Relative paths are resolved against `folder`, and ages are counted back from `now`. There is a plan exactly if no
/// problem is an error; there may be warnings beside it. Only a TOML syntax error hides other problems. Text that looks
/// like a credential is masked in every excerpt.
#[must_use]
pub fn read(name: &str, text: &str, folder: &Path, now: Timestamp) -> (Option<Plan>, FileProblems) {
    PLAN_FILE.read(name, text, |file: &PlanTable, reader| check::check(file, folder, now, reader))
}

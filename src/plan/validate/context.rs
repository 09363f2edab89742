//! What the checks of all tables share: the inputs of the rules, names of files, and problems with two keys of a table.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::diagnostics::FileProblem;
use crate::provider::ProviderRules;
use crate::toml_reader::{DocumentReader, ParsedField, SpannedValue, TextSpan};

/// The inputs that the rules depend on.
pub(super) struct PlanCheckContext<'a> {
    /// The rules of the plan's provider. `None` if it does not name a valid one; these rules are then skipped.
    pub(super) rules: Option<&'static ProviderRules>,
    /// The region that the plan names, if it does.
    pub(super) region: Option<&'a str>,
    /// The folder that relative paths are resolved against.
    pub(super) folder: &'a Path,
    /// The time that ages are counted back from.
    pub(super) now: Timestamp,
}

impl PlanCheckContext<'_> {
    /// Resolves a path of the plan against its folder. Warns if there is no such file, and rejects a folder.
    pub(super) fn resolve_file(&self, at: &SpannedValue<String>, reader: &mut DocumentReader) -> PathBuf {
        let path = self.folder.join(&at.value);
        if path.is_dir() {
            reader.push(
                FileProblem::new("a file is required, not a folder")
                    .label(at.span.clone(), "a folder")
                    .help("name a file in it"),
            );
        } else if !path.exists() {
            reader.push(
                FileProblem::new("the file does not exist yet")
                    .label(at.span.clone(), "not found, relative to the plan's folder")
                    .help("it must exist when you apply the plan")
                    .warning_until_use(),
            );
        }
        path
    }
}

/// Reports two keys that exclude each other.
pub(super) fn report_conflict<A, B>(
    first: &SpannedValue<A>,
    second: &SpannedValue<B>,
    title: &str,
    help: &str,
    reader: &mut DocumentReader,
) {
    let (upper, lower) =
        if first.key.start <= second.key.start { (&first.key, &second.key) } else { (&second.key, &first.key) };
    reader.push(FileProblem::new(title).label(upper.clone(), "this").label(lower.clone(), "and this").help(help));
}

pub(super) fn key_span<T>(field: &ParsedField<T>) -> Option<TextSpan> {
    field.present().map(|at| at.key.clone())
}

/// Reports a key that is not allowed beside another.
pub(super) fn report_not_allowed<A>(field: &ParsedField<A>, title: &str, help: &str, reader: &mut DocumentReader) {
    if let Some(at) = field.present() {
        reader.push(FileProblem::new(title).label(at.key.clone(), "not allowed here").help(help));
    }
}

//! Reads a TOML file: its bytes become text, its text a table, and the problems of the whole pass one list.

use toml::de::DeTable;

use super::reader::{DocumentReader, DocumentTable, TableReader};
use super::safe_text::{mask_for_excerpts, quote_for_message};
use crate::diagnostics::{FileProblem, FileProblems};

/// The maximum size of a file, in bytes. The files are written by hand.
pub(crate) const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// A type of TOML file, as messages speak of it.
pub(crate) struct DocumentType {
    /// The name, such as "plan".
    pub(crate) name: &'static str,
    /// The title of the problem that a file is too large.
    pub(crate) too_large: &'static str,
    /// How to make a file smaller.
    pub(crate) too_large_help: &'static str,
}

impl DocumentType {
    /// Returns the text of a file, or the problem that it is too large or not UTF-8.
    pub(crate) fn decode<'a>(&self, name: &str, bytes: &'a [u8]) -> Result<&'a str, FileProblems> {
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(single_problem(name, "", self.too_large()));
        }
        if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = bytes {
            let problem = FileProblem::new("the file is UTF-16").label(0..0, "not UTF-8").help("save it as UTF-8");
            return Err(single_problem(name, "", problem));
        }
        std::str::from_utf8(bytes).map_err(|error| {
            let good = error.valid_up_to();
            let text = String::from_utf8_lossy(bytes);
            let problem = FileProblem::new("the file is not UTF-8")
                .label(good..good + '\u{fffd}'.len_utf8(), format!("byte 0x{:02x}", bytes[good]))
                .help("save it as UTF-8");
            single_problem(name, &text, problem)
        })
    }

    /// Reads a file and reports all problems in it. `check` turns the tables into the result.
    ///
    /// There is a result exactly if no problem is an error; there may be warnings beside it. Only a TOML syntax error
    /// hides other problems. Text that looks like a credential is masked in every excerpt.
    pub(crate) fn read<T: DocumentTable, R>(
        &self,
        name: &str,
        text: &str,
        check: impl FnOnce(&T, &mut DocumentReader) -> Option<R>,
    ) -> (Option<R>, FileProblems) {
        if text.len() > MAX_DOCUMENT_BYTES {
            return (None, single_problem(name, "", self.too_large()));
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        if let Some(error) = errors.iter().find(|error| !is_duplicate(error)) {
            return (None, single_problem(name, text, syntax_problem(error, text.len())));
        }
        let mut reader = DocumentReader::new(self.name, &T::schema());
        for error in &errors {
            reader.push(syntax_problem(error, text.len()));
        }
        let file = TableReader::read_file::<T>(table.get_ref(), &mut reader);
        let result = check(&file, &mut reader);
        let (found, secrets) = reader.finish();
        let mut problems = FileProblems::new(&quote_for_message(name), &mask_for_excerpts(text, &secrets));
        for problem in found {
            problems.push(problem);
        }
        (result.filter(|_| !problems.has_errors()), problems)
    }

    fn too_large(&self) -> FileProblem {
        FileProblem::new(self.too_large).label(0..0, "more than 1 MiB").help(self.too_large_help)
    }
}

/// Returns a single problem that stops the reading.
fn single_problem(name: &str, text: &str, problem: FileProblem) -> FileProblems {
    let mut problems = FileProblems::new(&quote_for_message(name), &mask_for_excerpts(text, &[]));
    problems.push(problem);
    problems
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

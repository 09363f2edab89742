//! Annotations at the lines of files that have problems.

use std::fmt::Write as _;
use std::path::Path;

use crate::diagnostics::{FileProblem, FileProblems};

/// The maximum number of annotated problems. GitHub shows ten errors of a step, and the tenth is kept for the number of
/// further problems.
const MAX_ANNOTATIONS: usize = 9;

/// Returns a file's path relative to the workspace, as GitHub names it.
pub(super) fn workspace_path(workspace: Option<&Path>, name: &str) -> String {
    let absolute = std::path::absolute(name).ok();
    let inside = absolute.as_deref().zip(workspace).and_then(|(path, workspace)| path.strip_prefix(workspace).ok());
    inside.map_or_else(|| name.to_owned(), |path| path.display().to_string())
}

/// Returns the annotations, errors first, and a last line with the number of problems that were left out.
pub(super) fn annotations<'a>(
    files: impl IntoIterator<Item = &'a FileProblems>,
    place: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut all: Vec<_> = files
        .into_iter()
        .flat_map(|file| file.iter().map(move |problem| (problem.is_warning(), file, problem)))
        .collect();
    all.sort_by_key(|(warning, ..)| *warning);
    let more = all.len().saturating_sub(MAX_ANNOTATIONS);
    let mut lines: Vec<_> =
        all.iter().take(MAX_ANNOTATIONS).map(|(_, file, problem)| annotation(file, problem, &place)).collect();
    if more > 0 {
        let level = if all.iter().skip(MAX_ANNOTATIONS).any(|(warning, ..)| !warning) { "error" } else { "warning" };
        lines.push(format!("::{level}::... and {more} more; see the log of this step"));
    }
    lines
}

fn annotation(file: &FileProblems, problem: &FileProblem, place: &impl Fn(&str) -> String) -> String {
    let level = if problem.is_warning() { "warning" } else { "error" };
    let mut line = format!("::{level} file={}", escape_property(&place(file.file_name())));
    let mark = problem.label_spans().first();
    if let Some((span, _)) = mark {
        let (row, column) = file.position(span.start);
        let (end_row, end_column) = file.position(span.end);
        let _ = write!(line, ",line={row},endLine={end_row},col={column}");
        // GitHub accepts an end column only on the same line and only after the start column.
        if end_row == row && end_column > column {
            let _ = write!(line, ",endColumn={end_column}");
        }
    }
    let label = mark.map(|(_, label)| format!(": {label}")).unwrap_or_default();
    let help = problem.hint().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
    let _ = write!(line, "::{}", escape_message(&format!("{}{label}{help}", problem.title())));
    line
}

/// Returns a warning that refers to no file.
pub(super) fn warning(text: &str) -> String {
    format!("::warning::{}", escape_message(text))
}

/// Escapes the text after the second `::`, so that it cannot start another line.
fn escape_message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a value before the second `::`, so that it can start neither another value nor the text.
fn escape_property(text: &str) -> String {
    escape_message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, count: usize) -> FileProblems {
        let mut problems = FileProblems::new(name, "a = 1\nb = 2\n");
        for number in 0..count {
            problems.push(
                FileProblem::new(format!("no {number}\n::set-output name=x::y"))
                    .label(6..7, "50 % of it")
                    .help("fix it"),
            );
        }
        problems
    }

    #[test]
    fn annotations_have_positions_and_are_escaped() {
        let lines = annotations([&problems("a,b:c.toml", 1)], str::to_owned);
        assert_eq!(
            lines,
            [
                "::error file=a%2Cb%3Ac.toml,line=2,endLine=2,col=1,endColumn=2::no 0%0A::set-output name=x::y: 50 %25 of \
              it%0Ahelp: fix it"
            ]
        );
    }

    #[test]
    fn limits_the_number_of_annotations() {
        let (one, other) = (problems("a.toml", 8), problems("b.toml", 7));
        let lines = annotations([&one, &other], str::to_owned);
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[9], "::error::... and 6 more; see the log of this step");
        assert_eq!(annotations([&one], str::to_owned).len(), 8);
    }

    #[test]
    fn file_names_are_relative_to_the_workspace() {
        let here = std::env::current_dir().expect("a folder");
        assert_eq!(
            workspace_path(here.parent(), "x.toml"),
            format!("{}/x.toml", here.file_name().expect("a name").display())
        );
        assert_eq!(workspace_path(Some(Path::new("/elsewhere")), "x.toml"), "x.toml");
        assert_eq!(workspace_path(None, "x.toml"), "x.toml");
    }
}

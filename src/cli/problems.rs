//! Formats the problems of a user's file, for people or as JSON.

use miette::{GraphicalReportHandler, GraphicalTheme};
use serde_json::{Value as Json, json};

use super::terminal::Terminal;
use crate::diagnostics::{FileProblem, FileProblems};

/// The maximum size of an excerpt in bytes. Longer ones are left out: they would fill the screen and show nothing.
const MAX_EXCERPT_BYTES: usize = 4000;

/// Prints all problems for people.
pub(super) fn show(problems: &FileProblems, terminal: Terminal) {
    for problem in problems.iter() {
        terminal.eprint_unescaped(render_problem(problem, problems, terminal).trim_end());
        terminal.eprint_unescaped("");
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

/// Returns the renderer: colours and line drawing on a terminal, plain ASCII elsewhere.
fn report_handler(terminal: Terminal) -> GraphicalReportHandler {
    let theme = match (terminal.stderr_is_terminal(), terminal.colours_messages()) {
        (true, true) => GraphicalTheme::unicode(),
        (true, false) => GraphicalTheme::unicode_nocolor(),
        (false, _) => GraphicalTheme::none(),
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
pub(super) fn to_json(problems: &FileProblems) -> Json {
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

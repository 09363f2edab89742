//! What GitHub Actions is told: annotations at the lines of a file, a step's outputs, and its summary.
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::terminal::Terminal;
use crate::diagnostics::{Problem, Problems};
use crate::files::about;
use crate::web::Url;

/// GitHub shows ten errors of a step; the last place is for how many more there are.
const MOST: usize = 9;

/// Asks for an annotation at each problem's place, where this runs in a workflow.
pub(super) fn annotate<'a>(files: impl IntoIterator<Item = &'a Problems>, terminal: Terminal) {
    if !is_here() {
        return;
    }
    let workspace = std::env::var_os("GITHUB_WORKSPACE");
    let workspace = workspace.as_deref().map(Path::new);
    for line in annotations(files, |name| seen_from(workspace, name)) {
        // To where messages go: data may be read by the next program.
        terminal.say(line);
    }
}

/// Whether this runs in a workflow.
fn is_here() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

/// The page of the workflow run that this is part of, where the runner says it in a usable way.
pub(super) fn run_url() -> Option<String> {
    let variable = |name: &str| std::env::var_os(name).filter(|_| is_here())?.into_string().ok();
    page(&variable("GITHUB_SERVER_URL")?, &variable("GITHUB_REPOSITORY")?, &variable("GITHUB_RUN_ID")?)
}

fn page(server: &str, repository: &str, run: &str) -> Option<String> {
    let url = format!("{server}/{repository}/actions/runs/{run}");
    Url::parse(&url).ok().map(|url| url.in_full())
}

/// Sets outputs of the step.
pub(super) fn set_outputs(outputs: &[(&str, String)], terminal: Terminal) {
    append("GITHUB_OUTPUT", || outputs.iter().map(|(name, value)| output(name, value)).collect(), terminal);
}

/// Adds Markdown to the step's summary.
pub(super) fn summarise(markdown: impl FnOnce() -> String, terminal: Terminal) {
    append("GITHUB_STEP_SUMMARY", || shortened(&markdown()), terminal);
}

/// Appends to a file that the runner names. What has been done is done, whether or not it can be told there.
fn append(variable: &str, text: impl FnOnce() -> String, terminal: Terminal) {
    let Some(path) = std::env::var_os(variable).filter(|path| is_here() && !path.is_empty()) else { return };
    let path = Path::new(&path);
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path).map_err(about(path));
    if let Err(error) = file.and_then(|mut file| file.write_all(text().as_bytes()).map_err(about(path))) {
        terminal.say(format_args!("warning: {variable} cannot be written: {error}"));
    }
}

/// An output in the form that takes any value: what ends it is drawn anew each time, so that no value can hold it.
fn output(name: &str, value: &str) -> String {
    let end = uuid::Uuid::new_v4().simple();
    format!("{name}<<{end}\n{value}\n{end}\n")
}

/// As much as fits: GitHub leaves out a summary of more than 1 MiB.
fn shortened(text: &str) -> String {
    const MOST_BYTES: usize = (1 << 20) - 4096;
    if text.len() <= MOST_BYTES {
        return format!("{text}\n");
    }
    let mut end = MOST_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let whole_lines = text[..end].rfind('\n').unwrap_or(end);
    format!("{}\n\n... and more than there is room for\n", &text[..whole_lines])
}

/// A file as GitHub names it: from the workspace, wherever the step works.
fn seen_from(workspace: Option<&Path>, name: &str) -> String {
    let absolute = std::path::absolute(name).ok();
    let inside = absolute.as_deref().zip(workspace).and_then(|(path, workspace)| path.strip_prefix(workspace).ok());
    inside.map_or_else(|| name.to_owned(), |path| path.display().to_string())
}

/// The lines, errors first, and at last how many there is no room for.
fn annotations<'a>(files: impl IntoIterator<Item = &'a Problems>, place: impl Fn(&str) -> String) -> Vec<String> {
    let mut all: Vec<_> = files
        .into_iter()
        .flat_map(|file| file.iter().map(move |problem| (problem.is_warning(), file, problem)))
        .collect();
    all.sort_by_key(|(warning, ..)| *warning);
    let more = all.len().saturating_sub(MOST);
    let mut lines: Vec<_> = all.iter().take(MOST).map(|(_, file, problem)| annotation(file, problem, &place)).collect();
    if more > 0 {
        let level = if all.iter().skip(MOST).any(|(warning, ..)| !warning) { "error" } else { "warning" };
        lines.push(format!("::{level}::... and {more} more: the log of this step has them all"));
    }
    lines
}

fn annotation(file: &Problems, problem: &Problem, place: &impl Fn(&str) -> String) -> String {
    let level = if problem.is_warning() { "warning" } else { "error" };
    let mut line = format!("::{level} file={}", property(&place(file.file_name())));
    let mark = problem.marks().first();
    if let Some((span, _)) = mark {
        let (row, column) = file.position(span.start);
        let (end_row, end_column) = file.position(span.end);
        let _ = write!(line, ",line={row},endLine={end_row},col={column}");
        // GitHub takes an end column only within one line, and one that is behind the beginning.
        if end_row == row && end_column > column {
            let _ = write!(line, ",endColumn={end_column}");
        }
    }
    let label = mark.map(|(_, label)| format!(": {label}")).unwrap_or_default();
    let help = problem.remedy().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
    let _ = write!(line, "::{}", message(&format!("{}{label}{help}", problem.title())));
    line
}

/// A text behind the second pair of colons: nothing in it begins another line.
fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A value before it: nothing in it begins another value, or the text.
fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, count: usize) -> Problems {
        let mut problems = Problems::new(name, "a = 1\nb = 2\n");
        for number in 0..count {
            problems.push(
                Problem::new(format!("no {number}\n::set-output name=x::y")).label(6..7, "50 % of it").help("mend it"),
            );
        }
        problems
    }

    #[test]
    fn each_has_its_place_and_begins_no_line_of_its_own() {
        let lines = annotations([&problems("a,b:c.toml", 1)], str::to_owned);
        assert_eq!(
            lines,
            [
                "::error file=a%2Cb%3Ac.toml,line=2,endLine=2,col=1,endColumn=2::no 0%0A::set-output name=x::y: 50 %25 of \
              it%0Ahelp: mend it"
            ]
        );
    }

    #[test]
    fn there_are_ten_at_most_and_the_last_counts_the_rest() {
        let (one, other) = (problems("a.toml", 8), problems("b.toml", 7));
        let lines = annotations([&one, &other], str::to_owned);
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[9], "::error::... and 6 more: the log of this step has them all");
        assert_eq!(annotations([&one], str::to_owned).len(), 8);
    }

    #[test]
    fn no_value_ends_an_output_and_no_summary_is_too_long() {
        let set = output("report", "a\nreport=b\n");
        let end = set.lines().last().expect("an end");
        assert_eq!(set, format!("report<<{end}\na\nreport=b\n\n{end}\n"));
        assert_ne!(output("report", ""), output("report", ""));
        let long = shortened(&"é\n".repeat(1 << 20));
        assert!(long.len() < 1 << 20 && long.ends_with("é\n\n... and more than there is room for\n"));
        assert_eq!(shortened("short"), "short\n");
    }

    #[test]
    fn the_page_of_a_run_is_a_url_or_nothing() {
        let run = page("https://github.com", "o/r", "17");
        assert_eq!(run.as_deref(), Some("https://github.com/o/r/actions/runs/17"));
        for (server, repository) in
            [("", "o/r"), ("javascript:alert(1)", "o/r"), ("https://me:pw@h", "o/r"), ("https://h", "a b")]
        {
            assert_eq!(page(server, repository, "17"), None, "{server} {repository}");
        }
    }

    #[test]
    fn files_are_named_from_the_workspace() {
        let here = std::env::current_dir().expect("a folder");
        assert_eq!(
            seen_from(here.parent(), "x.toml"),
            format!("{}/x.toml", here.file_name().expect("a name").display())
        );
        assert_eq!(seen_from(Some(Path::new("/elsewhere")), "x.toml"), "x.toml");
        assert_eq!(seen_from(None, "x.toml"), "x.toml");
    }
}

//! Reports to GitHub Actions: annotations at the lines of a file, a step's outputs, and its summary.
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>
//!
//! | file | contents |
//! |---|---|
//! | `annotations` | problems, at their lines |
//! | `result` | the results of jobs |
//! | `comment` | the same on a pull request |

mod annotations;
mod comment;
mod result;

use std::io::Write as _;
use std::path::Path;

use super::markdown::{code, fitted};
use super::terminal::Terminal;
use crate::diagnostics::Problems;
use crate::files::about;
use crate::web::Url;
use annotations::{annotations, seen_from};
use comment::{Subject, comment};
pub(super) use result::{Outcome, tell};

/// The maximum size of a summary in bytes. GitHub drops one of more than 1 MiB. Each step has its own limit.
const MOST_OF_A_SUMMARY: usize = (1 << 20) - 4096;

/// Prints an annotation for each problem, if this process runs in a workflow.
pub(super) fn annotate<'a>(files: impl IntoIterator<Item = &'a Problems>, terminal: Terminal) {
    if !is_here() {
        return;
    }
    for line in annotations(files, workspace_name) {
        // On standard error: the next program may read the data on standard output.
        terminal.command(line);
    }
}

/// Reports a plan: the step's outputs, its summary, and a pull request comment if the step asks for one.
pub(super) fn tell_plan(
    (name, file): (&str, &str),
    outputs: &[(&str, String)],
    markdown: impl FnOnce() -> String,
    terminal: Terminal,
) {
    if !is_here() {
        return;
    }
    set_outputs(outputs, terminal);
    let markdown = markdown();
    summarise(&markdown, terminal);
    let file = workspace_name(file);
    comment(&Subject { kind: "plan", name, file: &file }, &markdown, terminal);
}

/// Returns a file's path as GitHub names it.
fn workspace_name(file: &str) -> String {
    let workspace = std::env::var_os("GITHUB_WORKSPACE");
    seen_from(workspace.as_deref().map(Path::new), file)
}

/// Returns whether this process runs in a GitHub workflow.
pub(super) fn is_here() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

/// Returns the URL of the current workflow run, if the runner's environment yields a usable one.
pub(super) fn run_url() -> Option<String> {
    let variable = |name: &str| std::env::var_os(name).filter(|_| is_here())?.into_string().ok();
    page(&variable("GITHUB_SERVER_URL")?, &variable("GITHUB_REPOSITORY")?, &variable("GITHUB_RUN_ID")?)
}

fn page(server: &str, repository: &str, run: &str) -> Option<String> {
    let url = format!("{server}/{repository}/actions/runs/{run}");
    // Nothing in the URL may end a Markdown link that contains it.
    let plain = url.chars().all(|c| c.is_ascii_alphanumeric() || "-._/:".contains(c));
    Url::parse(&url).ok().filter(|_| plain).map(|url| url.in_full())
}

/// Reports that nothing is new since this inventory.
pub(super) fn tell_nothing(inventory: &str, terminal: Terminal) {
    let none = ["total", "succeeded", "failed"].map(|name| (name, "0".to_owned()));
    set_outputs(&none, terminal);
    summarise(&nothing_since(inventory), terminal);
}

/// Returns in Markdown that nothing is new since this inventory.
pub(super) fn nothing_since(inventory: &str) -> String {
    format!("Nothing new since {}.", code(inventory))
}

fn set_outputs(outputs: &[(&str, String)], terminal: Terminal) {
    append("GITHUB_OUTPUT", || outputs.iter().map(|(name, value)| output(name, value)).collect(), terminal);
}

/// Appends Markdown to the step's summary.
fn summarise(markdown: &str, terminal: Terminal) {
    append("GITHUB_STEP_SUMMARY", || fitted(markdown, MOST_OF_A_SUMMARY, str::len) + "\n", terminal);
}

/// Appends to a file that the runner names. A failure is only a warning, because the work itself is already done.
fn append(variable: &str, text: impl FnOnce() -> String, terminal: Terminal) {
    let Some(path) = std::env::var_os(variable).filter(|path| is_here() && !path.is_empty()) else { return };
    let path = Path::new(&path);
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path).map_err(about(path));
    if let Err(error) = file.and_then(|mut file| file.write_all(text().as_bytes()).map_err(about(path))) {
        terminal.say(format_args!("warning: {variable} cannot be written: {error}"));
    }
}

/// Formats an output with any value. The delimiter is random each time, so that no value can contain it.
fn output(name: &str, value: &str) -> String {
    let end = uuid::Uuid::new_v4().simple();
    format!("{name}<<{end}\n{value}\n{end}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_a_run_is_a_url_or_nothing() {
        let run = page("https://github.com", "o/r", "17");
        assert_eq!(run.as_deref(), Some("https://github.com/o/r/actions/runs/17"));
        for (server, repository) in [
            ("", "o/r"),
            ("javascript:alert(1)", "o/r"),
            ("https://me:pw@h", "o/r"),
            ("https://h", "a b"),
            ("https://h", "a)b"),
        ] {
            assert_eq!(page(server, repository, "17"), None, "{server} {repository}");
        }
    }

    #[test]
    fn no_value_ends_an_output() {
        let set = output("report", "a\nreport=b\n");
        let end = set.lines().last().expect("an end");
        assert_eq!(set, format!("report<<{end}\na\nreport=b\n\n{end}\n"));
        assert_ne!(output("report", ""), output("report", ""));
    }
}

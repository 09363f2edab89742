//! Reports to GitHub Actions: annotations at the lines of a file, a step's outputs, and its summary.
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>
//!
//! | file | contents |
//! |---|---|
//! | `annotations` | problems, at their lines |
//! | `job_results` | the results of jobs |
//! | `comment` | the same on a pull request |

mod annotations;
mod comment;
mod job_results;

use std::io::Write as _;
use std::path::Path;

use batchplan_store::web::HttpUrl;

use super::markdown::{code, truncate_markdown};
use super::terminal::{Terminal, is_github_actions};
use crate::diagnostics::FileProblems;
use crate::files::with_path;
use annotations::{annotations, workspace_path};
use comment::{CommentSubject, update_comment};
pub(super) use job_results::{ReportedJob, report_jobs};

/// The maximum size of a summary in bytes. GitHub drops one of more than 1 MiB. Each step has its own limit.
const MAX_SUMMARY_BYTES: usize = (1 << 20) - 4096;

/// Prints an annotation for each problem, if this process runs in a workflow.
pub(super) fn annotate<'a>(files: impl IntoIterator<Item = &'a FileProblems>, terminal: Terminal) {
    if !is_github_actions() {
        return;
    }
    for line in annotations(files, workspace_name) {
        // On standard error: the next program may read the data on standard output.
        terminal.runner_command(line);
    }
}

/// Reports a plan: the step's outputs, its summary, and a pull request comment if the step asks for one.
pub(super) fn report_plan(
    (name, file): (&str, &str),
    outputs: &[(&str, String)],
    markdown: impl FnOnce() -> String,
    terminal: Terminal,
) {
    if !is_github_actions() {
        return;
    }
    set_outputs(outputs, terminal);
    let markdown = markdown();
    append_summary(&markdown, terminal);
    let file = workspace_name(file);
    update_comment(&CommentSubject { kind: "plan", name, file: &file }, &markdown, terminal);
}

/// Returns a file's path as GitHub names it.
fn workspace_name(file: &str) -> String {
    let workspace = std::env::var_os("GITHUB_WORKSPACE");
    workspace_path(workspace.as_deref().map(Path::new), file)
}

/// Returns the URL of the current workflow run, if the runner's environment yields a usable one.
pub(super) fn run_url() -> Option<String> {
    let variable = |name: &str| std::env::var_os(name).filter(|_| is_github_actions())?.into_string().ok();
    run_page_url(&variable("GITHUB_SERVER_URL")?, &variable("GITHUB_REPOSITORY")?, &variable("GITHUB_RUN_ID")?)
}

fn run_page_url(server: &str, repository: &str, run: &str) -> Option<String> {
    let url = format!("{server}/{repository}/actions/runs/{run}");
    // Nothing in the URL may end a Markdown link that contains it.
    let plain = url.chars().all(|c| c.is_ascii_alphanumeric() || "-._/:".contains(c));
    HttpUrl::parse(&url).ok().filter(|_| plain).map(|url| url.full_url())
}

/// Reports that nothing is new since this inventory.
pub(super) fn report_nothing_new(inventory: &str, terminal: Terminal) {
    let none = ["total", "succeeded", "failed"].map(|name| (name, "0".to_owned()));
    set_outputs(&none, terminal);
    append_summary(&nothing_new_markdown(inventory), terminal);
}

/// Returns in Markdown that nothing is new since this inventory.
pub(super) fn nothing_new_markdown(inventory: &str) -> String {
    format!("Nothing new since {}.", code(inventory))
}

fn set_outputs(outputs: &[(&str, String)], terminal: Terminal) {
    append_to_runner_file(
        "GITHUB_OUTPUT",
        || outputs.iter().map(|(name, value)| format_output(name, value)).collect(),
        terminal,
    );
}

/// Appends Markdown to the step's summary.
fn append_summary(markdown: &str, terminal: Terminal) {
    append_to_runner_file(
        "GITHUB_STEP_SUMMARY",
        || truncate_markdown(markdown, MAX_SUMMARY_BYTES, str::len) + "\n",
        terminal,
    );
}

/// Appends to a file that the runner names. A failure is only a warning, because the work itself is already done.
fn append_to_runner_file(variable: &str, text: impl FnOnce() -> String, terminal: Terminal) {
    let Some(path) = std::env::var_os(variable).filter(|path| is_github_actions() && !path.is_empty()) else { return };
    let path = Path::new(&path);
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path).map_err(with_path(path));
    if let Err(error) = file.and_then(|mut file| file.write_all(text().as_bytes()).map_err(with_path(path))) {
        terminal.eprint(format_args!("warning: cannot write {variable}: {error}"));
    }
}

/// Formats an output with any value. The delimiter is random each time, so that no value can contain it.
fn format_output(name: &str, value: &str) -> String {
    let end = uuid::Uuid::new_v4().simple();
    format!("{name}<<{end}\n{value}\n{end}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_page_url_rejects_unusable_values() {
        let run = run_page_url("https://github.com", "o/r", "17");
        assert_eq!(run.as_deref(), Some("https://github.com/o/r/actions/runs/17"));
        for (server, repository) in [
            ("", "o/r"),
            ("javascript:alert(1)", "o/r"),
            ("https://me:pw@h", "o/r"),
            ("https://h", "a b"),
            ("https://h", "a)b"),
        ] {
            assert_eq!(run_page_url(server, repository, "17"), None, "{server} {repository}");
        }
    }

    #[test]
    fn output_values_cannot_end_the_output() {
        let set = format_output("report", "a\nreport=b\n");
        let end = set.lines().last().expect("an end");
        assert_eq!(set, format!("report<<{end}\na\nreport=b\n\n{end}\n"));
        assert_ne!(format_output("report", ""), format_output("report", ""));
    }
}

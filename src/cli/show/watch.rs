//! Shows a job again and again until it is over or stops.
//!
//! Signals are not handled here: the first one ends the process, which leaves nothing half done.

use std::thread;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{ShowOptions, json, page};
use crate::cli::exit::{CommandError, ExitStatus};
use crate::cli::terminal::{Terminal, escape_controls, escape_line};
use crate::job::{JobId, JobStatus};
use crate::jobs::{JobDescription, JobPresence, describe};
use crate::journal::Journal;

/// The interval at which the job is read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How many times in a row a job must be seen without a process. A job that was just created has none yet.
const INTERRUPTED_POLLS: u32 = 3;

/// Shows the job whenever it has changed.
pub(super) fn watch(
    journal: &Journal,
    job: &JobId,
    terminal: Terminal,
    style: &ShowOptions,
    json: bool,
) -> Result<ExitStatus, CommandError> {
    let view = if json { WatchView::Objects } else { WatchView::for_terminal(terminal) };
    let mut last = String::new();
    let mut interrupted = 0;
    loop {
        let description = describe(journal, job)?;
        let text = view.render(&description, style);
        if text != last {
            view.show(&text, terminal)?;
            last = text;
        }
        if terminal.is_stdout_closed() {
            return Ok(ExitStatus::Success);
        }
        interrupted = if description.presence == JobPresence::Interrupted { interrupted + 1 } else { 0 };
        if is_settled(&description) || interrupted >= INTERRUPTED_POLLS {
            view.finish(&last, terminal)?;
            return Ok(ExitStatus::Success);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Returns whether the job will not change by itself.
fn is_settled(description: &JobDescription) -> bool {
    let status = description.job.status;
    let waits = matches!(status, JobStatus::Paused | JobStatus::Suspended);
    status.is_over() || (waits && description.presence == JobPresence::Unattended)
}

/// Where the job is shown.
enum WatchView {
    /// In place, on a terminal's screen.
    Screen(ProgressBar),
    /// As a line for each change.
    Lines,
    /// As a JSON object on a line of its own for each change.
    Objects,
}

impl WatchView {
    fn for_terminal(terminal: Terminal) -> Self {
        if !terminal.stdout_is_terminal() {
            return Self::Lines;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self::Screen(bar)
    }

    fn render(&self, description: &JobDescription, style: &ShowOptions) -> String {
        match self {
            Self::Screen(_) => escape_controls(&page::render(description, style)),
            Self::Lines => status_line(description),
            Self::Objects => json::render(description, style).to_string(),
        }
    }

    fn show(&self, text: &str, terminal: Terminal) -> Result<(), CommandError> {
        match self {
            Self::Screen(bar) => bar.set_message(text.to_owned()),
            Self::Lines | Self::Objects => terminal.print(text)?,
        }
        Ok(())
    }

    /// Prints what stays on the screen when watching ends.
    fn finish(&self, text: &str, terminal: Terminal) -> Result<(), CommandError> {
        if let Self::Screen(bar) = self {
            bar.finish_and_clear();
            terminal.print(text)?;
        }
        Ok(())
    }
}

/// Returns a line such as `Active: 20 of 100 objects, 1 failed`.
fn status_line(description: &JobDescription) -> String {
    let job = &description.job;
    let interrupted = if description.presence == JobPresence::Interrupted { " (interrupted)" } else { "" };
    let (settled, total) = (HumanCount(job.progress.finished()), HumanCount(job.progress.total));
    let failed = HumanCount(job.progress.failed);
    escape_line(&format!("{}{interrupted}: {settled} of {total} objects, {failed} failed", job.status))
}

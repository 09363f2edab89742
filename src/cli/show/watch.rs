//! Shows a job again and again until it is over or stops.
//!
//! Signals are not handled here: the first one ends the process, which leaves nothing half done.

use std::thread;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Style, object, page};
use crate::cli::terminal::{Terminal, cell, harmless};
use crate::cli::{Error, Exit};
use crate::job::{JobId, JobStatus};
use crate::jobs::{Description, Presence, describe};
use crate::journal::Journal;

/// The interval at which the job is read.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many times in a row a job must be seen without a process. A job that was just created has none yet.
const INTERRUPTED_LOOKS: u32 = 3;

/// Shows the job whenever it has changed.
pub(super) fn watch(
    journal: &Journal,
    job: &JobId,
    terminal: Terminal,
    style: &Style,
    json: bool,
) -> Result<Exit, Error> {
    let view = if json { View::Objects } else { View::on(terminal) };
    let mut last = String::new();
    let mut interrupted = 0;
    loop {
        let description = describe(journal, job)?;
        let text = view.text(&description, style);
        if text != last {
            view.show(&text, terminal)?;
            last = text;
        }
        if terminal.reader_has_left() {
            return Ok(Exit::Done);
        }
        interrupted = if description.presence == Presence::Interrupted { interrupted + 1 } else { 0 };
        if stands_still(&description) || interrupted >= INTERRUPTED_LOOKS {
            view.leave(&last, terminal)?;
            return Ok(Exit::Done);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Returns whether the job will not change by itself.
fn stands_still(description: &Description) -> bool {
    let status = description.job.status;
    let waits = matches!(status, JobStatus::Paused | JobStatus::Suspended);
    status.is_over() || (waits && description.presence == Presence::Nobody)
}

/// Where the job is shown.
enum View {
    /// In place, on a terminal's screen.
    Screen(ProgressBar),
    /// As a line for each change.
    Lines,
    /// As a JSON object on a line of its own for each change.
    Objects,
}

impl View {
    fn on(terminal: Terminal) -> Self {
        if !terminal.has_screen() {
            return Self::Lines;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self::Screen(bar)
    }

    fn text(&self, description: &Description, style: &Style) -> String {
        match self {
            Self::Screen(_) => harmless(&page::of(description, style)),
            Self::Lines => line(description),
            Self::Objects => object::of(description, style).to_string(),
        }
    }

    fn show(&self, text: &str, terminal: Terminal) -> Result<(), Error> {
        match self {
            Self::Screen(bar) => bar.set_message(text.to_owned()),
            Self::Lines | Self::Objects => terminal.print(text)?,
        }
        Ok(())
    }

    /// Prints what stays on the screen when watching ends.
    fn leave(&self, text: &str, terminal: Terminal) -> Result<(), Error> {
        if let Self::Screen(bar) = self {
            bar.finish_and_clear();
            terminal.print(text)?;
        }
        Ok(())
    }
}

/// Returns a line such as `Active: 20 of 100 objects, 1 failed`.
fn line(description: &Description) -> String {
    let job = &description.job;
    let interrupted = if description.presence == Presence::Interrupted { " (interrupted)" } else { "" };
    let (settled, total) = (HumanCount(job.progress.settled()), HumanCount(job.progress.total));
    let failed = HumanCount(job.progress.failed);
    cell(&format!("{}{interrupted}: {settled} of {total} objects, {failed} failed", job.status))
}

//! A job, shown again and again until it is over or stops.
//!
//! Nothing here listens to signals: the first one ends the process, and there is nothing that it could leave half done.

use std::thread;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Style, object, page};
use crate::cli::terminal::{Terminal, cell, harmless};
use crate::cli::{Error, Exit};
use crate::job::{JobId, JobStatus};
use crate::jobs::{Description, Presence, describe};
use crate::journal::Journal;

/// How often the job is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often in a row a job must be seen without its process: one that was created a moment ago has none yet.
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

/// Whether nothing will become of the job by itself.
fn stands_still(description: &Description) -> bool {
    let status = description.job.status;
    let waits = matches!(status, JobStatus::Paused | JobStatus::Suspended);
    status.is_over() || (waits && description.presence == Presence::Nobody)
}

/// Where the job is shown.
enum View {
    /// In place, on a screen.
    Screen(ProgressBar),
    /// A line each time.
    Lines,
    /// A JSON object each time, on a line of its own.
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

    /// What stays on a screen when the watching is over.
    fn leave(&self, text: &str, terminal: Terminal) -> Result<(), Error> {
        if let Self::Screen(bar) = self {
            bar.finish_and_clear();
            terminal.print(text)?;
        }
        Ok(())
    }
}

/// Such as `Active: 20 of 100 objects, 1 failed`.
fn line(description: &Description) -> String {
    let job = &description.job;
    let interrupted = if description.presence == Presence::Interrupted { " (interrupted)" } else { "" };
    let (settled, total) = (HumanCount(job.progress.settled()), HumanCount(job.progress.total));
    let failed = HumanCount(job.progress.failed);
    cell(&format!("{}{interrupted}: {settled} of {total} objects, {failed} failed", job.status))
}

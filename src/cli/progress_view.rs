//! Shows the progress of one phase: in place on a terminal, as a line every ten seconds elsewhere.

use std::time::{Duration, Instant};

use indicatif::HumanCount;

use super::descriptions::format_rate;
use super::progress_line::{plain_line, status_line};
use super::terminal::{StatusLine, Terminal};
use crate::engine::{ProgressMeter, RunProgress, RunState};
use crate::job::Progress;

/// The interval between lines where nothing can be redrawn.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The progress of one phase of one job.
pub(super) struct ProgressView {
    terminal: Terminal,
    label: String,
    line: StatusLine,
    last_line: Instant,
    started: Instant,
    /// Measures phases that do not measure themselves.
    meter: ProgressMeter,
}

impl ProgressView {
    /// Starts to show a phase. `label` names the job. It is empty if there is none yet.
    pub(super) fn new(terminal: Terminal, label: impl Into<String>) -> Self {
        let now = Instant::now();
        let (line, meter) = (StatusLine::new(terminal), ProgressMeter::new(0));
        Self { terminal, label: label.into(), line, last_line: now, started: now, meter }
    }

    /// Shows the number of rows found so far. Their total is not known.
    pub(super) fn show_found(&mut self, rows: u64) {
        let job = Progress { total: u64::MAX, succeeded: rows, ..Progress::default() };
        let rate = self.meter.measure(self.started.elapsed(), RunState { job, ..RunState::default() }).rate;
        let label = if self.label.is_empty() { String::new() } else { format!("{}  ", self.label) };
        let text = format!("{label}preparing: {} objects found, {}", HumanCount(rows), format_rate(rate));
        self.show(|_| text.clone(), || text.clone());
    }

    /// Shows how many of the objects of a preview were read.
    pub(super) fn show_read(&mut self, read: u64, total: u64) {
        let job = Progress { total, succeeded: read, ..Progress::default() };
        let progress = self.meter.measure(self.started.elapsed(), RunState { job, ..RunState::default() });
        self.show_progress(&progress);
    }

    /// Shows the progress of a run.
    pub(super) fn show_progress(&mut self, progress: &RunProgress) {
        let (label, colours) = (self.label.clone(), self.terminal.colours_messages());
        self.show(|width| status_line(&label, progress, width, colours), || plain_line(&label, progress));
    }

    fn show(&mut self, in_place: impl FnOnce(usize) -> String, plain: impl FnOnce() -> String) {
        if self.terminal.redraws_messages() {
            // A terminal that wraps a full line would leave parts of it on the screen.
            self.line.set(in_place(self.terminal.redrawn_width().saturating_sub(1)));
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            self.terminal.inform(plain());
        }
    }

    /// Removes the line from the screen.
    pub(super) fn clear(&self) {
        self.line.clear();
    }
}

//! Shows progress: a bar on a terminal, and a line every few seconds elsewhere.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal::Terminal;
use crate::job::Progress;

/// The interval between lines if there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Longer estimates are not shown: the job has only just resumed, or hardly makes progress.
const MAX_ETA: Duration = Duration::from_hours(24 * 365);

/// The averaging window of the rate in seconds: long enough to be steady, short enough to show a throttled store.
const RATE_WINDOW: f64 = 5.0;

/// Shows the progress of one phase.
pub(super) struct ProgressView {
    terminal: Terminal,
    bar: ProgressBar,
    last_line: Instant,
    last_sample: (Instant, u64),
    rate: f64,
    /// Whether objects can fail. Reading them for a preview cannot.
    shows_failures: bool,
}

impl ProgressView {
    /// Shows rows being read, whose number is not known yet.
    pub(super) fn counting(terminal: Terminal) -> Self {
        Self::new(terminal, "{spinner} preparing: {human_pos} objects found {msg}")
    }

    /// Shows objects being processed.
    pub(super) fn working(terminal: Terminal, total: u64) -> Self {
        let view = Self::new(terminal, "{wide_bar} {human_pos}/{human_len}  {msg}");
        view.bar.set_length(total);
        view
    }

    /// Shows objects being read for a preview.
    pub(super) fn previewing(terminal: Terminal, total: u64) -> Self {
        let mut view = Self::new(terminal, "{wide_bar} {human_pos}/{human_len} read  {msg}");
        view.shows_failures = false;
        view.bar.set_length(total);
        view
    }

    /// Moves the bar below those of other jobs.
    pub(super) fn add_to(mut self, others: &MultiProgress) -> Self {
        self.bar = others.add(self.bar);
        self
    }

    fn new(terminal: Terminal, template: &str) -> Self {
        let target =
            if terminal.stderr_is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let now = Instant::now();
        Self { terminal, bar, last_line: now, last_sample: (now, 0), rate: 0.0, shows_failures: true }
    }

    /// Updates the number of rows found so far.
    pub(super) fn set_found(&mut self, rows: u64) {
        self.update_rate(rows);
        self.bar.set_position(rows);
        self.bar.set_message(format!("({}/s)", per_second(self.rate)));
        self.print_line(|| format!("preparing: {} objects found", HumanCount(rows)));
    }

    /// Updates the number of objects that have succeeded or failed so far.
    pub(super) fn set_progress(&mut self, progress: Progress) {
        self.update_rate(progress.finished());
        self.bar.set_position(progress.finished());
        let message = self.message(progress);
        self.bar.set_message(message.clone());
        self.print_line(|| {
            format!("{} of {} objects, {message}", HumanCount(progress.finished()), HumanCount(progress.total))
        });
    }

    /// Removes the bar.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn message(&self, progress: Progress) -> String {
        let left = progress.total.saturating_sub(progress.finished());
        let failed =
            if self.shows_failures { format!("{} failed, ", HumanCount(progress.failed)) } else { String::new() };
        let mut message = format!("{failed}{}/s", per_second(self.rate));
        if self.rate > 0.0 && left > 0 {
            #[expect(clippy::cast_precision_loss, reason = "an estimate shown in whole minutes")]
            let eta = Duration::try_from_secs_f64(left as f64 / self.rate).unwrap_or(Duration::MAX);
            if eta < MAX_ETA {
                let _ = write!(message, ", {} left", HumanDuration(eta));
            }
        }
        message
    }

    /// Updates the rate, which is an exponentially weighted average.
    fn update_rate(&mut self, count: u64) {
        let now = Instant::now();
        let seconds = (now - self.last_sample.0).as_secs_f64();
        if seconds < 0.2 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let current = count.saturating_sub(self.last_sample.1) as f64 / seconds;
        let weight = if self.rate == 0.0 { 1.0 } else { 1.0 - (-seconds / RATE_WINDOW).exp() };
        self.rate += (current - self.rate) * weight;
        self.last_sample = (now, count);
    }

    fn print_line(&mut self, text: impl FnOnce() -> String) {
        if !self.terminal.stderr_is_terminal() && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.terminal.eprint(text());
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is small and not negative")]
fn per_second(rate: f64) -> HumanCount {
    HumanCount(rate.round() as u64)
}

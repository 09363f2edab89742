//! The line that shows the progress of one job: fitted to the width of a terminal, or plain for files and pipes.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::HumanCount;

use super::descriptions::{format_duration, format_rate};
use crate::engine::RunProgress;

/// The narrowest bar that is drawn.
const MIN_BAR: usize = 10;

/// The space between two parts of the line.
const GAP: &str = "  ";

/// A part of the line. If the line is too long, the parts with the lowest rank are left out first.
struct LinePart {
    rank: u8,
    text: String,
    colour: Option<&'static str>,
}

impl LinePart {
    fn new(rank: u8, text: impl Into<String>) -> Self {
        Self { rank, text: text.into(), colour: None }
    }

    fn coloured(self, colour: &'static str) -> Self {
        Self { colour: Some(colour), ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

const RED: &str = "31";
const YELLOW: &str = "33";

/// Returns a line of at most `width` columns. A bar fills what the text leaves, if that is enough. Numbers are never
/// cut: a narrow line has fewer of them.
pub(super) fn status_line(label: &str, progress: &RunProgress, width: usize, colours: bool) -> String {
    let mut parts = status_parts(label, progress);
    while line_width(&parts) > width && parts.len() > 1 {
        let lowest = parts.iter().map(|part| part.rank).min().unwrap_or_default();
        parts.retain(|part| part.rank != lowest);
    }
    let room = width.saturating_sub(line_width(&parts) + GAP.len());
    if room >= MIN_BAR {
        let after_label = usize::from(parts.first().is_some_and(|first| first.text == label));
        parts.insert(after_label, LinePart::new(0, bar(progress.share(), room)));
    }
    let paint = |part: LinePart| match part.colour.filter(|_| colours) {
        Some(code) => format!("\u{1b}[{code}m{}\u{1b}[0m", part.text),
        None => part.text,
    };
    parts.into_iter().map(paint).collect::<Vec<_>>().join(GAP)
}

/// Returns a line for files and pipes.
pub(super) fn plain_line(label: &str, progress: &RunProgress) -> String {
    let (done, total) = (HumanCount(progress.job.finished()), HumanCount(progress.job.total));
    let mut line = if label.is_empty() { String::new() } else { format!("{label}: ") };
    let _ = write!(
        line,
        "{done} of {total} objects ({}) in {}, {}",
        percent(progress),
        format_duration(progress.elapsed),
        format_rate(progress.rate)
    );
    for part in [waiting(progress), remaining(progress), failed(progress), throttled(progress)].into_iter().flatten() {
        let _ = write!(line, ", {part}");
    }
    line
}

fn status_parts(label: &str, progress: &RunProgress) -> Vec<LinePart> {
    let (done, total) = (HumanCount(progress.job.finished()), HumanCount(progress.job.total));
    let mut parts = Vec::new();
    if !label.is_empty() {
        parts.push(LinePart::new(5, label));
    }
    parts.push(LinePart::new(10, percent(progress)));
    parts.push(LinePart::new(7, format!("{done}/{total}")));
    parts.push(LinePart::new(2, format!("in {}", format_duration(progress.elapsed))));
    parts.push(LinePart::new(8, format_rate(progress.rate)));
    parts.extend(waiting(progress).map(|text| LinePart::new(9, text).coloured(YELLOW)));
    parts.extend(remaining(progress).map(|text| LinePart::new(9, text)));
    parts.extend(failed(progress).map(|text| LinePart::new(4, text).coloured(RED)));
    parts.extend(throttled(progress).map(|text| LinePart::new(3, text).coloured(YELLOW)));
    parts
}

/// The width of the parts with the gaps between them.
fn line_width(parts: &[LinePart]) -> usize {
    parts.iter().map(LinePart::width).sum::<usize>() + GAP.len() * parts.len().saturating_sub(1)
}

fn bar(share: f64, width: usize) -> String {
    let inner = width.saturating_sub(2);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a few columns"
    )]
    let filled = ((inner as f64 * share) as usize).min(inner);
    format!("[{}{}]", "=".repeat(filled), " ".repeat(inner - filled))
}

/// Returns the share of the objects that are done, rounded down: only a job that is done is at 100 %.
fn percent(progress: &RunProgress) -> String {
    let (done, total) = (u128::from(progress.job.finished()), u128::from(progress.job.total));
    format!("{} %", (done * 100).checked_div(total).unwrap_or(100))
}

fn remaining(progress: &RunProgress) -> Option<String> {
    let remaining = progress.remaining_time.filter(|_| progress.job.remaining() > 0)?;
    // Rounded up, so that a job that is not done never has nothing left.
    let seconds = remaining.as_secs() + u64::from(remaining.subsec_nanos() > 0);
    Some(format!("{} left", format_duration(Duration::from_secs(seconds))))
}

fn waiting(progress: &RunProgress) -> Option<String> {
    progress.stalled_for?;
    let oldest = progress.oldest_in_flight.unwrap_or_default();
    Some(match progress.in_flight {
        1 => format!("waiting for 1 object for {}", format_duration(oldest)),
        count => {
            format!("waiting for {} objects, the longest for {}", HumanCount(count), format_duration(oldest))
        }
    })
}

fn failed(progress: &RunProgress) -> Option<String> {
    (progress.job.failed > 0).then(|| format!("{} failed", HumanCount(progress.job.failed)))
}

/// Returns the share of throttled requests, if it is not close to zero.
fn throttled(progress: &RunProgress) -> Option<String> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
    let percent = (progress.throttled_share * 100.0).round() as u64;
    (percent > 0).then(|| format!("{percent} % throttled"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Progress;

    fn running() -> RunProgress {
        RunProgress {
            job: Progress { total: 200_000, succeeded: 84_000, ..Progress::default() },
            elapsed: Duration::from_secs(119),
            rate: 703.4,
            remaining_time: Some(Duration::from_millis(164_100)),
            in_flight: 64,
            oldest_in_flight: Some(Duration::from_millis(90)),
            ..RunProgress::default()
        }
    }

    fn troubled() -> RunProgress {
        let job = Progress { total: 200_000, succeeded: 83_988, failed: 12, ..Progress::default() };
        RunProgress { job, throttled_share: 0.034, ..running() }
    }

    fn stalled() -> RunProgress {
        let wait = Some(Duration::from_secs(35));
        RunProgress { rate: 0.0, remaining_time: None, stalled_for: wait, oldest_in_flight: wait, ..running() }
    }

    #[test]
    fn a_line_fits_its_terminal_and_cuts_no_number() {
        for (width, progress, line) in [
            (
                120,
                running(),
                "ODRiZWQ5  [===================                            ]\
                 \x20 42 %  84,000/200,000  in 1 min 59 s  703/s  2 min 45 s left",
            ),
            (80, running(), "ODRiZWQ5  42 %  84,000/200,000  in 1 min 59 s  703/s  2 min 45 s left"),
            (60, running(), "ODRiZWQ5  42 %  84,000/200,000  703/s  2 min 45 s left"),
            (40, running(), "[===     ]  42 %  703/s  2 min 45 s left"),
            (20, running(), "[=====       ]  42 %"),
            (
                120,
                troubled(),
                "ODRiZWQ5  [========             ]\
                 \x20 42 %  84,000/200,000  in 1 min 59 s  703/s  2 min 45 s left  12 failed  3 % throttled",
            ),
            (80, troubled(), "ODRiZWQ5  42 %  84,000/200,000  703/s  2 min 45 s left  12 failed  3 % throttled"),
            (60, troubled(), "ODRiZWQ5  42 %  84,000/200,000  703/s  2 min 45 s left"),
            (
                120,
                stalled(),
                "ODRiZWQ5  [========            ]\
                 \x20 42 %  84,000/200,000  in 1 min 59 s  0/s  waiting for 64 objects, the longest for 35 s",
            ),
            (80, stalled(), "42 %  84,000/200,000  0/s  waiting for 64 objects, the longest for 35 s"),
            (60, stalled(), "42 %  0/s  waiting for 64 objects, the longest for 35 s"),
        ] {
            let shown = status_line("ODRiZWQ5", &progress, width, false);
            assert_eq!(shown, line, "{width}");
            assert!(shown.chars().count() <= width, "{width}: {shown}");
        }
    }

    #[test]
    fn plain_lines_have_everything() {
        assert_eq!(
            plain_line("ODRiZWQ5", &troubled()),
            "ODRiZWQ5: 84,000 of 200,000 objects (42 %) in 1 min 59 s, 703/s, 2 min 45 s left, 12 failed, 3 % throttled"
        );
        assert_eq!(
            plain_line("", &stalled()),
            "84,000 of 200,000 objects (42 %) in 1 min 59 s, 0/s, waiting for 64 objects, the longest for 35 s"
        );
    }

    #[test]
    fn colours_do_not_change_the_layout() {
        let coloured = status_line("ODRiZWQ5", &troubled(), 80, true);
        assert!(coloured.contains("\u{1b}[31m12 failed\u{1b}[0m"), "{coloured}");
        let plain = coloured.replace("\u{1b}[31m", "").replace("\u{1b}[33m", "").replace("\u{1b}[0m", "");
        assert_eq!(plain, status_line("ODRiZWQ5", &troubled(), 80, false));
    }

    #[test]
    fn only_what_is_done_is_at_100_percent() {
        let job = |succeeded, total| RunProgress {
            job: Progress { total, succeeded, ..Progress::default() },
            ..RunProgress::default()
        };
        assert_eq!(percent(&job(999, 1000)), "99 %");
        assert_eq!(percent(&job(u64::MAX, u64::MAX)), "100 %");
        assert_eq!(percent(&job(0, 0)), "100 %");
    }
}

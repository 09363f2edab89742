//! A plan's preview as Markdown for a pull request: a summary, and a folded diff.
//!
//! Names and values are untrusted text. They are formatted as code and cannot break out of it.

use std::fmt::Write as _;

use indicatif::HumanCount;

use super::View;
use super::earlier::Names;
use super::numbers;
use super::text::{facts, name};
use crate::cli::markdown::{Part, block_line, code, fitted};
use crate::cli::summary::{line, objects, operation, source, store};
use crate::diff::{Fate, lines};
use crate::jobs::{advice, why_untrusted};

/// The maximum number of characters. GitHub allows 65,536 in a comment, and users may want to add their own text.
const MOST: usize = 60_000;

/// The language of the folded blocks: lines are coloured by the sign at their start.
const DIFF: &str = "diff";

/// Returns the whole preview, as far as there is room.
pub(super) fn of(view: &View<'_>) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "### batchplan: {}\n", code(&view.plan.name));
    let _ = writeln!(text, "**{}**\n", numbers::headline(view));
    if let Some(certainty) = numbers::certainty(view) {
        let _ = writeln!(text, "_{certainty}_\n");
    }
    let facts = facts(view);
    if !facts.is_empty() {
        let _ = writeln!(text, "{}\n", facts.trim());
    }
    text.push_str(&what(view));
    text.push_str(&failures(view));
    text.push_str(&cost(view));
    text.push_str(&warnings(view));
    let end = match numbers::nothing_to_do(view) {
        Some(nothing) => format!("\nnext: {nothing}\n"),
        None if view.preview.refusal.is_some() => String::new(),
        None => format!("\nnext: {}\n", code(&view.next)),
    };
    for part in [since(view), diff(view)] {
        let room = MOST.saturating_sub(text.chars().count() + end.chars().count());
        text.push_str(&part.folded(room));
    }
    fitted(&text, MOST - end.chars().count(), |text| text.chars().count()) + &end
}

fn what(view: &View<'_>) -> String {
    let rows = view.preview.frozen.rows();
    // A Markdown table needs a header, so the first row is the header.
    let mut text = format!("| plan | {} |\n|:---|:---|\n", code(&line(&view.file)));
    let mut row = |what: &str, value: &str| {
        let _ = writeln!(text, "| {what} | {} |", code(&line(value)));
    };
    row("store", &store(&view.plan.store));
    row("manifest", &format!("{} {}", objects(rows), source(&view.plan.manifest.source)));
    for it in &view.plan.operations {
        row("operation", &operation(it));
    }
    text.push('\n');
    text
}

fn failures(view: &View<'_>) -> String {
    let tally = &view.preview.tally;
    if tally.reasons.is_empty() && tally.doubts.is_empty() {
        return String::new();
    }
    let mut text = String::from("| would fail | why | what to do |\n|---:|---|---|\n");
    let of = if numbers::is_exact(view) { "" } else { " of the sample" };
    for ((error, http, operation), group) in &tally.reasons {
        let status = if *http == 0 { String::new() } else { format!("{http} ") };
        let why = code(&format!("{status}{error} ({operation})"));
        let advice = advice(error, *http).unwrap_or_default();
        let _ = writeln!(text, "| {}{of} | {why} | {advice} |", HumanCount(group.count));
    }
    for (why, group) in &tally.doubts {
        let _ = writeln!(text, "| {}{of} unknown | {} | |", HumanCount(group.count), code(why));
    }
    text.push('\n');
    text
}

fn cost(view: &View<'_>) -> String {
    let estimate = view.estimate;
    let currency = numbers::currency(estimate);
    let mut text = String::new();
    match numbers::book(estimate) {
        Ok(book) => {
            let _ = writeln!(text, "Estimated cost, by the prices of {}: **{}**", code(&book), estimate.total);
            if let Some(managed) = &estimate.managed {
                let _ = writeln!(text, "(the same by {}: {})", managed.service, managed.total);
            }
        }
        Err((why, _)) => {
            let _ = writeln!(text, "What it costs is not known: {}", code(&why));
        }
    }
    text.push_str("\n| requests | | price | |\n|---|---:|---|---:|\n");
    for it in &estimate.lines {
        let [what, quantity, price, amount] = numbers::cost_line(it, currency);
        let _ = writeln!(text, "| {} | {quantity} | {price} | {amount} |", code(&what));
    }
    text.push('\n');
    for (what, how_long) in numbers::durations(view.hours) {
        let _ = writeln!(text, "- {what}: {how_long}");
    }
    text
}

fn warnings(view: &View<'_>) -> String {
    let warnings = view.preview.frozen.warnings().iter().map(ToString::to_string);
    let mut text = String::new();
    let refusal = view.preview.refusal.iter().map(|refusal| why_untrusted(view.plan, refusal));
    for warning in warnings.chain(view.preview.cautions.iter().cloned()).chain(refusal) {
        let _ = write!(text, "\n> **Caution:** {}\n", code(&warning));
    }
    text
}

/// Returns what has changed since the plan was last applied.
fn since(view: &View<'_>) -> Part {
    let Some(earlier) = view.earlier else { return Part { heading: String::new(), language: DIFF, lines: Vec::new() } };
    let mut lines: Vec<_> = earlier.plan_diff.lines().map(block_line).collect();
    if let Names::Known(difference) = &earlier.names {
        let signed =
            [('+', difference.added, &difference.added_examples), ('-', difference.gone, &difference.gone_examples)];
        for (sign, count, some) in signed {
            lines.extend(some.iter().map(|object| block_line(&format!("{sign} {}", name(object)))));
            let more = count - some.len() as u64;
            if more > 0 {
                lines.push(format!("{sign} ... and {} more", HumanCount(more)));
            }
        }
    }
    Part { heading: format!("what changed since job {}", earlier.job), language: DIFF, lines }
}

/// Returns some objects and how they change.
fn diff(view: &View<'_>) -> Part {
    let shown = &view.preview.shown;
    let mut found = Vec::new();
    for prospect in shown.changed.iter().chain(&shown.staying) {
        let sign = if matches!(prospect.fate, Fate::Changes(_)) { '~' } else { '=' };
        found.push(block_line(&format!("{sign} {}", name(&prospect.object))));
        if let Fate::Changes(after) = &prospect.fate {
            let signed = lines(&prospect.before, after).into_iter();
            found.extend(signed.map(|line| block_line(&format!("{}   {}", line.mark.sign(), line.text))));
        }
    }
    Part { heading: "some of the objects".to_owned(), language: DIFF, lines: found }
}

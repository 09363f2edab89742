//! A plan's preview as Markdown for a pull request: a summary, and a folded diff.
//!
//! Names and values are untrusted text. They are formatted as code and cannot break out of it.

use std::fmt::Write as _;

use indicatif::HumanCount;

use super::{
    ObjectListDiff, PreviewView, confidence, cost_line, currency, durations, headline, inventory_facts, is_exact,
    nothing_to_do, object_name, price_book_name,
};
use crate::cli::descriptions::{describe_operation, describe_source, describe_store, format_objects, one_line};
use crate::cli::markdown::{FoldedBlock, block_line, code, truncate_markdown};
use crate::diff::{Effect, compare_states};
use crate::jobs::{describe_untrusted_server, hint};

/// The maximum number of characters. GitHub allows 65,536 in a comment, and users may want to add their own text.
const MAX_CHARS: usize = 60_000;

/// The language of the folded blocks: lines are coloured by the sign at their start.
const DIFF_LANGUAGE: &str = "diff";

/// Returns the whole preview, as far as there is room.
pub(crate) fn render(view: &PreviewView<'_>) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "### batchplan: {}\n", code(&view.plan.name));
    let _ = writeln!(text, "**{}**\n", headline(view));
    if let Some(certainty) = confidence(view) {
        let _ = writeln!(text, "_{certainty}_\n");
    }
    let facts = inventory_facts(view);
    if !facts.is_empty() {
        let _ = writeln!(text, "{}\n", facts.trim());
    }
    text.push_str(&plan_table(view));
    text.push_str(&failures(view));
    text.push_str(&cost(view));
    text.push_str(&warnings(view));
    let end = match nothing_to_do(view) {
        Some(nothing) => format!("\n{nothing}\n"),
        None if view.preview.refusal.is_some() => String::new(),
        None => format!("\nnext: {}\n", code(&view.next_command)),
    };
    for part in [changes_since(view), diff(view)] {
        let room = MAX_CHARS.saturating_sub(text.chars().count() + end.chars().count());
        text.push_str(&part.render(room));
    }
    truncate_markdown(&text, MAX_CHARS - end.chars().count(), |text| text.chars().count()) + &end
}

fn plan_table(view: &PreviewView<'_>) -> String {
    let rows = view.preview.frozen.rows();
    // A Markdown table needs a header, so the first row is the header.
    let mut text = format!("| plan | {} |\n|:---|:---|\n", code(&one_line(&view.file)));
    let mut row = |what: &str, value: &str| {
        let _ = writeln!(text, "| {what} | {} |", code(&one_line(value)));
    };
    row("store", &describe_store(&view.plan.store));
    row("manifest", &format!("{} {}", format_objects(rows), describe_source(&view.plan.manifest.source)));
    for it in &view.plan.operations {
        row("operation", &describe_operation(it));
    }
    text.push('\n');
    text
}

fn failures(view: &PreviewView<'_>) -> String {
    let tally = &view.preview.tally;
    if tally.failure_reasons.is_empty() && tally.unknown_reasons.is_empty() {
        return String::new();
    }
    let mut text = String::from("| would fail | why | what to do |\n|---:|---|---|\n");
    let of = if is_exact(view) { "" } else { " of the sample" };
    for ((error, http, operation), group) in &tally.failure_reasons {
        let status = if *http == 0 { String::new() } else { format!("{http} ") };
        let why = code(&format!("{status}{error} ({operation})"));
        let advice = hint(error, *http).unwrap_or_default();
        let _ = writeln!(text, "| {}{of} | {why} | {advice} |", HumanCount(group.count));
    }
    for (why, group) in &tally.unknown_reasons {
        let _ = writeln!(text, "| {}{of} unknown | {} | |", HumanCount(group.count), code(why));
    }
    text.push('\n');
    text
}

fn cost(view: &PreviewView<'_>) -> String {
    let estimate = view.estimate;
    let currency = currency(estimate);
    let mut text = String::new();
    match price_book_name(estimate) {
        Ok(book) => {
            let _ = writeln!(text, "Estimated cost (prices: {}): **{}**", code(&book), estimate.total);
            if let Some(managed) = &estimate.managed_service {
                let _ = writeln!(text, "(with {}: {})", managed.service, managed.total);
            }
        }
        Err((why, _)) => {
            let _ = writeln!(text, "Cost unknown: {}", code(&why));
        }
    }
    text.push_str("\n| requests | | price | |\n|---|---:|---|---:|\n");
    for it in &estimate.lines {
        let [what, quantity, price, amount] = cost_line(it, currency);
        let _ = writeln!(text, "| {} | {quantity} | {price} | {amount} |", code(&what));
    }
    text.push('\n');
    for (what, how_long) in durations(view) {
        let _ = writeln!(text, "- {what}: {how_long}");
    }
    text
}

fn warnings(view: &PreviewView<'_>) -> String {
    let warnings = view.preview.frozen.warnings().iter().map(ToString::to_string);
    let mut text = String::new();
    let refusal = view.preview.refusal.iter().map(|refusal| describe_untrusted_server(view.plan, refusal));
    for warning in warnings.chain(view.preview.warnings.iter().cloned()).chain(refusal) {
        let _ = write!(text, "\n> **Warning:** {}\n", code(&warning));
    }
    text
}

/// Returns what has changed since the plan was last applied.
fn changes_since(view: &PreviewView<'_>) -> FoldedBlock {
    let Some(earlier) = view.previous else {
        return FoldedBlock::new("", DIFF_LANGUAGE, Vec::new());
    };
    let mut lines: Vec<_> = earlier.plan_diff.lines().map(block_line).collect();
    if let ObjectListDiff::Known(difference) = &earlier.objects {
        let signed = [
            ('+', difference.added, &difference.added_examples),
            ('-', difference.removed, &difference.removed_examples),
        ];
        for (sign, count, some) in signed {
            lines.extend(some.iter().map(|object| block_line(&format!("{sign} {}", object_name(object)))));
            let more = count - some.len() as u64;
            if more > 0 {
                lines.push(format!("{sign} ... and {} more", HumanCount(more)));
            }
        }
    }
    FoldedBlock::new(format!("changes since job {}", earlier.job), DIFF_LANGUAGE, lines)
}

/// Returns some objects and how they change.
fn diff(view: &PreviewView<'_>) -> FoldedBlock {
    let shown = &view.preview.examples;
    let mut found = Vec::new();
    for prospect in shown.changed.iter().chain(&shown.unchanged) {
        let sign = if matches!(prospect.effect, Effect::Changes(_)) { '~' } else { '=' };
        found.push(block_line(&format!("{sign} {}", object_name(&prospect.object))));
        if let Effect::Changes(after) = &prospect.effect {
            let signed = compare_states(&prospect.before, after).into_iter();
            found.extend(signed.map(|line| block_line(&format!("{}   {}", line.change.sign(), line.text))));
        }
    }
    FoldedBlock::new("example objects", DIFF_LANGUAGE, found)
}

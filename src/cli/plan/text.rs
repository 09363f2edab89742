//! A plan's preview as text for a terminal.

use std::fmt::Write as _;

use batchplan_store::object::ObjectId;
use indicatif::HumanCount;

use super::PreviewView;
use super::numbers;
use super::previous_job::ObjectListDiff;
use crate::cli::summary::{format_objects, summary};
use crate::cli::terminal::{escape_controls, escape_line};
use crate::diff::{Effect, LineChange, Prediction, ReasonGroup, StateLine, compare_states};
use crate::jobs::hint;

/// Returns the whole preview.
pub(super) fn render(view: &PreviewView<'_>) -> String {
    let mut text = String::new();
    let rows = view.preview.frozen.rows();
    let _ = writeln!(text, "{}\n", escape_controls(&summary(view.plan, &view.plan.manifest, &view.file, rows)));
    for part in [changes_since(view), examples(view), failures(view), unknowns(view)] {
        text.push_str(&part);
    }
    let paint = AnsiColours(view.colour);
    let _ = writeln!(text, "{}", paint.bold(&numbers::headline(view)));
    if let Some(certainty) = numbers::confidence(view) {
        let _ = writeln!(text, "  {certainty}");
    }
    text.push_str(&inventory_facts(view));
    text.push_str(&costs(view));
    text.push_str(&warnings(view));
    // No next command when the server check refuses the server.
    if view.preview.refusal.is_none() {
        let _ = match numbers::nothing_to_do(view) {
            Some(nothing) => writeln!(text, "\n{nothing}"),
            None => writeln!(text, "\nnext: {}", view.next_command),
        };
    }
    text
}

/// Returns a short version, shown before asking for confirmation.
pub(super) fn render_brief(view: &PreviewView<'_>) -> String {
    let mut text = failures(view) + &unknowns(view);
    let _ = writeln!(text, "{}", AnsiColours(view.colour).bold(&numbers::headline(view)));
    if let Some(certainty) = numbers::confidence(view) {
        let _ = writeln!(text, "  {certainty}");
    }
    let total = match numbers::price_book_name(view.estimate) {
        Ok(book) => format!("{} (prices: {book})", view.estimate.total),
        Err((why, _)) => format!("unknown: {why}"),
    };
    let _ = writeln!(text, "  cost     {}", escape_line(&total));
    for (what, how_long) in numbers::durations(view) {
        let _ = writeln!(text, "  time     {what}: {how_long}");
    }
    text.push_str(&warnings(view));
    text
}

/// Returns one object and its predicted result.
pub(super) fn object(prospect: &Prediction, colour: bool) -> String {
    let paint = AnsiColours(colour);
    let name = object_name(&prospect.object);
    match &prospect.effect {
        Effect::Changes(after) => {
            let mut text = format!("  {} {name}\n", paint.yellow("~"));
            for line in compare_states(&prospect.before, after) {
                let _ = writeln!(text, "      {}", paint.diff_line(&line));
            }
            text
        }
        Effect::Unchanged => format!("  = {name}\n"),
        Effect::Fails(reason) => {
            let status = if reason.http == 0 { String::new() } else { format!("{} ", reason.http) };
            let why = format!("{status}{}: {}", reason.code, reason.message);
            format!("  {} {name}\n      {}\n", paint.red("!"), escape_line(&why))
        }
        Effect::Unknown(why) => format!("  ? {name}\n      {}\n", escape_line(why)),
    }
}

/// Formats an object as `bucket/key (version)`.
pub(super) fn object_name(object: &ObjectId) -> String {
    let version =
        object.version.as_ref().map_or_else(String::new, |id| format!(" (version {})", escape_line(id.as_str())));
    format!("{}/{}{version}", object.bucket, object.key)
}

/// Returns what has changed since the plan was last applied.
fn changes_since(view: &PreviewView<'_>) -> String {
    let Some(earlier) = view.previous else { return String::new() };
    let paint = AnsiColours(view.colour);
    let mut text = format!("Since job {} ({}, {}):\n", earlier.job, earlier.status, earlier.created);
    if earlier.plan_diff.is_empty() {
        text.push_str("  the plan file is unchanged\n");
    } else {
        text.push_str("  the plan file has changed:\n");
        for line in earlier.plan_diff.lines() {
            let shown = escape_line(line);
            let shown = match line.chars().next() {
                Some('+') => paint.green(&shown),
                Some('-') => paint.red(&shown),
                _ => shown,
            };
            let _ = writeln!(text, "    {shown}");
        }
    }
    match &earlier.objects {
        ObjectListDiff::Known(difference) if difference.added + difference.removed == 0 => {
            text.push_str("  the manifest lists the same objects\n");
        }
        ObjectListDiff::Known(difference) => {
            let (added, gone) = (format_objects(difference.added), HumanCount(difference.removed));
            let _ = writeln!(text, "  the manifest has changed: {added} added, {gone} removed");
            let signed = [
                ('+', difference.added, &difference.added_examples),
                ('-', difference.removed, &difference.removed_examples),
            ];
            for (sign, count, some) in signed {
                for object in some {
                    let line = format!("{sign} {}", object_name(object));
                    let _ = writeln!(text, "    {}", if sign == '+' { paint.green(&line) } else { paint.red(&line) });
                }
                let more = count - some.len() as u64;
                if more > 0 {
                    let _ = writeln!(text, "    {sign} ... and {} more", HumanCount(more));
                }
            }
        }
        ObjectListDiff::Unknown(why) => {
            let _ = writeln!(text, "  cannot compare the objects: {}", escape_line(why));
        }
    }
    text.push('\n');
    text
}

fn examples(view: &PreviewView<'_>) -> String {
    let shown = &view.preview.examples;
    let mut text = String::new();
    for (some, all, word) in [
        (&shown.changed, view.preview.tally.changes, "to change"),
        (&shown.unchanged, view.preview.tally.unchanged, "unchanged"),
    ] {
        for prospect in some {
            text.push_str(&object(prospect, view.colour));
        }
        let more = all - some.len() as u64;
        if more > 0 {
            let where_ = if numbers::is_exact(view) { "" } else { " in the sample" };
            let _ = writeln!(text, "    ... and {} more {word}{where_}", HumanCount(more));
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn failures(view: &PreviewView<'_>) -> String {
    let paint = AnsiColours(view.colour);
    let mut groups: Vec<_> = view.preview.tally.failure_reasons.iter().collect();
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
    let mut text = String::new();
    for ((code, http, operation), group) in groups {
        let status = if *http == 0 { String::new() } else { format!("{http} ") };
        let head = format!("{} would fail: {status}{code} ({operation})", group_size(view, group));
        let _ = writeln!(text, "  {} {}", paint.red("!"), escape_line(&head));
        push_examples(&mut text, group);
        let _ = writeln!(text, "      {}", escape_line(&group.message));
        if let Some(advice) = hint(code, *http) {
            let _ = writeln!(text, "      help: {advice}");
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn unknowns(view: &PreviewView<'_>) -> String {
    let mut text = String::new();
    for (why, group) in &view.preview.tally.unknown_reasons {
        let _ = writeln!(text, "  ? {} cannot be predicted: {}", group_size(view, group), escape_line(why));
        push_examples(&mut text, group);
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Returns the number of objects in a group, marked if it counts only the sample.
fn group_size(view: &PreviewView<'_>, group: &ReasonGroup) -> String {
    let of = if numbers::is_exact(view) { "" } else { " of the sample" };
    format!("{}{of}", format_objects(group.count))
}

fn push_examples(text: &mut String, group: &ReasonGroup) {
    for object in &group.examples {
        let _ = writeln!(text, "      {}", object_name(object));
    }
}

/// Returns which facts were taken from the inventory instead of the store.
pub(super) fn inventory_facts(view: &PreviewView<'_>) -> String {
    let told = view.preview.from_manifest;
    let Some(since) = told.as_of else { return String::new() };
    let age = numbers::format_duration(std::time::Duration::from_secs(
        u64::try_from(view.preview.read_at.as_second() - since.as_second()).unwrap_or(0),
    ));
    let facts = [("ACLs", told.acls), ("storage classes", told.classes)];
    let names: Vec<_> = facts.into_iter().filter(|(_, count)| *count > 0).map(|(name, _)| name).collect();
    if names.is_empty() {
        return String::new();
    }
    format!("  {} are from the inventory, taken {age} ago ({since}), not from the store\n", names.join(" and "))
}

fn costs(view: &PreviewView<'_>) -> String {
    let mut text = String::new();
    let estimate = view.estimate;
    match numbers::price_book_name(estimate) {
        Ok(book) => {
            let _ = writeln!(text, "\nEstimated cost (prices: {book}):");
            let currency = numbers::currency(estimate);
            let mut rows: Vec<_> = estimate.lines.iter().map(|line| numbers::cost_line(line, currency)).collect();
            rows.push(["total".to_owned(), String::new(), String::new(), estimate.total.to_string()]);
            rows.extend(estimate.report_per_month.iter().map(|line| numbers::cost_line(line, currency)));
            if let Some(managed) = &estimate.managed_service {
                rows.extend(managed.fees.iter().map(|line| {
                    let [what, quantity, price, amount] = numbers::cost_line(line, currency);
                    [format!("{}: {what}", managed.service), quantity, price, amount]
                }));
                let what = format!("total with {}", managed.service);
                rows.push([what, String::new(), String::new(), managed.total.to_string()]);
            }
            text.push_str(&table(&rows));
        }
        Err((why, help)) => {
            text.push_str("\nRequests:\n");
            let rows: Vec<_> = estimate
                .lines
                .iter()
                .map(|line| {
                    [line.description.clone(), numbers::format_quantity(line.quantity), String::new(), String::new()]
                })
                .collect();
            text.push_str(&table(&rows));
            let _ = writeln!(text, "  cost unknown: {}\n  help: {}", escape_line(&why), escape_line(&help));
        }
    }
    text.push_str("\nTime:\n");
    for (what, how_long) in numbers::durations(view) {
        let _ = writeln!(text, "  {what:<24} {how_long}");
    }
    text
}

fn warnings(view: &PreviewView<'_>) -> String {
    let mut text = String::new();
    for warning in view.preview.frozen.warnings() {
        let _ =
            writeln!(text, "warning: {}\n  help: {}", escape_line(&warning.to_string()), escape_line(&warning.help));
    }
    for warning in &view.preview.warnings {
        let _ = writeln!(text, "warning: {}", escape_line(warning));
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// Aligns columns: the first to the left, quantities to the right. Lines have no trailing spaces.
pub(super) fn table(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second, third) = (width(0), width(1), width(2));
    let mut text = String::new();
    for [what, quantity, price, amount] in rows {
        let line = format!("  {:<first$}  {quantity:>second$}  {price:<third$}  {amount}", escape_line(what));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Adds ANSI colours, if enabled.
struct AnsiColours(bool);

impl AnsiColours {
    fn apply(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn red(&self, text: &str) -> String {
        self.apply("31", text)
    }

    fn green(&self, text: &str) -> String {
        self.apply("32", text)
    }

    fn yellow(&self, text: &str) -> String {
        self.apply("33", text)
    }

    fn bold(&self, text: &str) -> String {
        self.apply("1", text)
    }

    fn diff_line(&self, line: &StateLine) -> String {
        let text = format!("{} {}", line.change.sign(), escape_line(&line.text));
        match line.change {
            LineChange::Removed => self.red(&text),
            LineChange::Added => self.green(&text),
            LineChange::Unchanged => text,
        }
    }
}

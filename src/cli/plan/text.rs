//! A plan's preview as text for a terminal.

use std::fmt::Write as _;

use indicatif::HumanCount;

use super::View;
use super::earlier::Names;
use super::numbers;
use crate::cli::summary::{objects, summary};
use crate::cli::terminal::{cell, harmless};
use crate::diff::{Fate, Group, Line, Mark, Prospect, lines};
use crate::jobs::advice;
use crate::object::ObjectId;

/// Returns the whole preview.
pub(super) fn of(view: &View<'_>) -> String {
    let mut text = String::new();
    let rows = view.preview.frozen.rows();
    let _ = writeln!(text, "{}\n", harmless(&summary(view.plan, &view.plan.manifest, &view.file, rows)));
    for part in [changes_since(view), examples(view), failures(view), doubts(view)] {
        text.push_str(&part);
    }
    let paint = Paint(view.colour);
    let _ = writeln!(text, "{}", paint.bold(&numbers::headline(view)));
    if let Some(certainty) = numbers::certainty(view) {
        let _ = writeln!(text, "  {certainty}");
    }
    text.push_str(&facts(view));
    text.push_str(&costs(view));
    text.push_str(&warnings(view));
    // No next command when the server check refuses the server.
    if view.preview.refusal.is_none() {
        let next = numbers::nothing_to_do(view).unwrap_or(&view.next);
        let _ = writeln!(text, "\nnext: {next}");
    }
    text
}

/// Returns a short version, shown before asking for confirmation.
pub(super) fn brief(view: &View<'_>) -> String {
    let mut text = failures(view) + &doubts(view);
    let _ = writeln!(text, "{}", Paint(view.colour).bold(&numbers::headline(view)));
    if let Some(certainty) = numbers::certainty(view) {
        let _ = writeln!(text, "  {certainty}");
    }
    let total = match numbers::book(view.estimate) {
        Ok(book) => format!("{}, an estimate by the prices of {book}", view.estimate.total),
        Err((why, _)) => format!("not known: {why}"),
    };
    let _ = writeln!(text, "  cost     {}", cell(&total));
    for (what, how_long) in numbers::durations(view.hours) {
        let _ = writeln!(text, "  time     {how_long}, {what}");
    }
    text.push_str(&warnings(view));
    text
}

/// Returns one object and its predicted result.
pub(super) fn object(prospect: &Prospect, colour: bool) -> String {
    let paint = Paint(colour);
    let name = name(&prospect.object);
    match &prospect.fate {
        Fate::Changes(after) => {
            let mut text = format!("  {} {name}\n", paint.yellow("~"));
            for line in lines(&prospect.before, after) {
                let _ = writeln!(text, "      {}", paint.line(&line));
            }
            text
        }
        Fate::Stays => format!("  = {name}\n"),
        Fate::Fails(reason) => {
            let status = if reason.http == 0 { String::new() } else { format!("{} ", reason.http) };
            let why = format!("{status}{}: {}", reason.code, reason.message);
            format!("  {} {name}\n      {}\n", paint.red("!"), cell(&why))
        }
        Fate::Open(why) => format!("  ? {name}\n      {}\n", cell(why)),
    }
}

/// Formats an object as `bucket/key (version)`.
pub(super) fn name(object: &ObjectId) -> String {
    let version = object.version.as_ref().map_or_else(String::new, |id| format!(" (version {})", cell(id.as_str())));
    format!("{}/{}{version}", object.bucket, object.key)
}

/// Returns what has changed since the plan was last applied.
fn changes_since(view: &View<'_>) -> String {
    let Some(earlier) = view.earlier else { return String::new() };
    let paint = Paint(view.colour);
    let mut text = format!("Since job {} ({}, {}):\n", earlier.job, earlier.status, earlier.at);
    if earlier.plan_diff.is_empty() {
        text.push_str("  the plan file is the same\n");
    } else {
        text.push_str("  the plan file has changed:\n");
        for line in earlier.plan_diff.lines() {
            let shown = cell(line);
            let shown = match line.chars().next() {
                Some('+') => paint.green(&shown),
                Some('-') => paint.red(&shown),
                _ => shown,
            };
            let _ = writeln!(text, "    {shown}");
        }
    }
    match &earlier.names {
        Names::Known(difference) if difference.added + difference.gone == 0 => {
            text.push_str("  the manifest names the same objects\n");
        }
        Names::Known(difference) => {
            let (added, gone) = (objects(difference.added), HumanCount(difference.gone));
            let _ = writeln!(text, "  the manifest has changed: {added} added, {gone} gone");
            let signed = [
                ('+', difference.added, &difference.added_examples),
                ('-', difference.gone, &difference.gone_examples),
            ];
            for (sign, count, some) in signed {
                for object in some {
                    let line = format!("{sign} {}", name(object));
                    let _ = writeln!(text, "    {}", if sign == '+' { paint.green(&line) } else { paint.red(&line) });
                }
                let more = count - some.len() as u64;
                if more > 0 {
                    let _ = writeln!(text, "    {sign} ... and {} more", HumanCount(more));
                }
            }
        }
        Names::Unknown(why) => {
            let _ = writeln!(text, "  which objects are new cannot be told: {}", cell(why));
        }
    }
    text.push('\n');
    text
}

fn examples(view: &View<'_>) -> String {
    let shown = &view.preview.shown;
    let mut text = String::new();
    for (some, all, word) in [
        (&shown.changed, view.preview.tally.changes, "to change"),
        (&shown.staying, view.preview.tally.stays, "unchanged"),
    ] {
        for prospect in some {
            text.push_str(&object(prospect, view.colour));
        }
        let more = all - some.len() as u64;
        if more > 0 {
            let where_ = if numbers::is_exact(view) { "" } else { " in the sample" };
            let _ = writeln!(text, "    ... and {} more{where_} {word}", HumanCount(more));
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn failures(view: &View<'_>) -> String {
    let paint = Paint(view.colour);
    let mut groups: Vec<_> = view.preview.tally.reasons.iter().collect();
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
    let mut text = String::new();
    for ((code, http, operation), group) in groups {
        let status = if *http == 0 { String::new() } else { format!("{http} ") };
        let head = format!("{} would fail: {status}{code} ({operation})", of_those(view, group));
        let _ = writeln!(text, "  {} {}", paint.red("!"), cell(&head));
        some(&mut text, group);
        let _ = writeln!(text, "      {}", cell(&group.message));
        if let Some(advice) = advice(code, *http) {
            let _ = writeln!(text, "      help: {advice}");
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn doubts(view: &View<'_>) -> String {
    let mut text = String::new();
    for (why, group) in &view.preview.tally.doubts {
        let _ = writeln!(text, "  ? {}: nobody can tell: {}", of_those(view, group), cell(why));
        some(&mut text, group);
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Returns the number of objects in a group, marked if it counts only the sample.
fn of_those(view: &View<'_>, group: &Group) -> String {
    let of = if numbers::is_exact(view) { "" } else { " of the sample" };
    format!("{}{of}", objects(group.count))
}

fn some(text: &mut String, group: &Group) {
    for object in &group.examples {
        let _ = writeln!(text, "      {}", name(object));
    }
}

/// Returns which facts were taken from the inventory instead of the store.
pub(super) fn facts(view: &View<'_>) -> String {
    let told = view.preview.told;
    let Some(since) = told.since else { return String::new() };
    let age = numbers::duration(std::time::Duration::from_secs(
        u64::try_from(view.preview.at.as_second() - since.as_second()).unwrap_or(0),
    ));
    let facts = [("ACLs", told.acls), ("storage classes", told.classes)];
    let names: Vec<_> = facts.into_iter().filter(|(_, count)| *count > 0).map(|(name, _)| name).collect();
    if names.is_empty() {
        return String::new();
    }
    format!(
        "  {} are as the inventory told them, {age} ago ({since}); they were not asked again\n",
        names.join(" and ")
    )
}

fn costs(view: &View<'_>) -> String {
    let mut text = String::new();
    let estimate = view.estimate;
    match numbers::book(estimate) {
        Ok(book) => {
            let _ = writeln!(text, "\nCost, an estimate by the prices of {book}:");
            let currency = numbers::currency(estimate);
            let mut rows: Vec<_> = estimate.lines.iter().map(|line| numbers::cost_line(line, currency)).collect();
            rows.push(["total".to_owned(), String::new(), String::new(), estimate.total.to_string()]);
            rows.extend(estimate.report_a_month.iter().map(|line| numbers::cost_line(line, currency)));
            if let Some(managed) = &estimate.managed {
                rows.extend(managed.fees.iter().map(|line| {
                    let [what, quantity, price, amount] = numbers::cost_line(line, currency);
                    [format!("{}: {what}", managed.service), quantity, price, amount]
                }));
                let what = format!("the same by {}", managed.service);
                rows.push([what, String::new(), String::new(), managed.total.to_string()]);
            }
            text.push_str(&table(&rows));
        }
        Err((why, help)) => {
            text.push_str("\nRequests:\n");
            let rows: Vec<_> = estimate
                .lines
                .iter()
                .map(|line| [line.what.clone(), numbers::quantity(line.quantity), String::new(), String::new()])
                .collect();
            text.push_str(&table(&rows));
            let _ = writeln!(text, "  what they cost is not known: {}\n  help: {}", cell(&why), cell(&help));
        }
    }
    text.push_str("\nTime:\n");
    for (what, how_long) in numbers::durations(view.hours) {
        let _ = writeln!(text, "  {what:<24} {how_long}");
    }
    text
}

fn warnings(view: &View<'_>) -> String {
    let mut text = String::new();
    for warning in view.preview.frozen.warnings() {
        let _ = writeln!(text, "warning: {}\n  help: {}", cell(&warning.to_string()), cell(&warning.help));
    }
    for caution in &view.preview.cautions {
        let _ = writeln!(text, "caution: {}", cell(caution));
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// Aligns columns: the first to the left, quantities to the right. Lines have no trailing spaces.
pub(super) fn table(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second, third) = (width(0), width(1), width(2));
    let mut text = String::new();
    for [what, quantity, price, amount] in rows {
        let line = format!("  {:<first$}  {quantity:>second$}  {price:<third$}  {amount}", cell(what));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Adds ANSI colours, if enabled.
struct Paint(bool);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn red(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn green(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn yellow(&self, text: &str) -> String {
        self.with("33", text)
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn line(&self, line: &Line) -> String {
        let text = format!("{} {}", line.mark.sign(), cell(&line.text));
        match line.mark {
            Mark::Goes => self.red(&text),
            Mark::Comes => self.green(&text),
            Mark::Stays => text,
        }
    }
}

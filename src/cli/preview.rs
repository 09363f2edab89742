//! The preview of a plan: its predicted results, cost and time, and what has changed since the plan's last job. Formats
//! it as text for a terminal, as JSON, and as Markdown for a pull request.
//!
//! The help of `batchplan plan` documents the JSON. New keys may be added at any time; a key is removed or changed only
//! with a new `version`. In Markdown, names and values are untrusted text: they are formatted as code and cannot break
//! out of it.

use std::fmt::Write as _;
use std::time::Duration;

use batchplan_store::object::{ObjectId, ObjectState, StorageClass, VersionId};
use batchplan_store::task::UNLISTABLE_KEY;
use indicatif::HumanCount;
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::cost_table::cost_table;
use super::descriptions::{
    describe_operation, describe_source, describe_store, format_duration, format_objects, format_price,
    format_quantity, one_line, summary,
};
use super::markdown::{FoldedBlock, code, truncate_markdown};
use super::run_time::describe_run_time;
use super::terminal::{escape_for_terminal, escape_line};
use super::wrap::wrap_words;
use crate::diff::{
    ConfidenceInterval, Effect, LineChange, Prediction, ReasonGroup, SampleShare, StateLine, compare_states,
    unified_diff,
};
use crate::estimate::{BilledQuantity, CostCategory, CostEstimate, CostLine, RunTimeEstimate, StorePrices};
use crate::job::{JobId, JobStatus};
use crate::jobs::{Preview, SavedCounts, describe_untrusted_server, hint};
use crate::journal::JobRecord;
use crate::manifest::ManifestDifference;
use crate::money::Currency;
use crate::operation::ObjectAspect;
use crate::plan::Plan;

/// The maximum number of characters of the Markdown. GitHub allows 65,536 in a comment, and users may want to add their
/// own text.
const MAX_MARKDOWN_CHARS: usize = 60_000;

/// The language of the folded blocks in Markdown: lines are coloured by the sign at their start.
const DIFF_LANGUAGE: &str = "diff";

/// How text is laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextLayout {
    /// Whether to use colours.
    pub(super) colour: bool,
    /// The columns that a line may have. Names of objects and commands may be longer, so that they can be copied.
    pub(super) width: usize,
}

/// What to do next if the job would fail.
const WOULD_FAIL: &str = "The job would fail, see the warnings above: change the plan, and run this command again.";

/// Everything that is shown of a plan.
pub(super) struct PreviewView<'a> {
    plan: &'a Plan,
    file: String,
    preview: &'a Preview,
    estimate: &'a CostEstimate,
    duration: &'a RunTimeEstimate,
    previous: Option<&'a PreviousJobDiff>,
    layout: TextLayout,
    /// The command to suggest. Empty if there is none that would work.
    next_command: String,
    /// The file that the plan was saved to, if it was.
    saved_to: Option<String>,
    /// The SHA-256 of that file.
    saved_digest: Option<String>,
}

impl<'a> PreviewView<'a> {
    /// Shows a preview with its estimate, and nothing that needs a plan file.
    pub(super) fn new(
        plan: &'a Plan,
        preview: &'a Preview,
        estimate: &'a CostEstimate,
        duration: &'a RunTimeEstimate,
        layout: TextLayout,
    ) -> Self {
        Self {
            plan,
            file: String::new(),
            preview,
            estimate,
            duration,
            previous: None,
            layout,
            next_command: String::new(),
            saved_to: None,
            saved_digest: None,
        }
    }

    /// Sets the plan file, how the plan differs from its last job, the command to suggest, and the file that the plan
    /// was saved to, if it was.
    pub(super) fn of_file(
        self,
        file: String,
        previous: Option<&'a PreviousJobDiff>,
        next_command: String,
        saved_to: Option<String>,
    ) -> Self {
        Self { file, previous, next_command, saved_to, ..self }
    }

    /// Sets the SHA-256 of the file that the plan was saved to.
    pub(super) fn with_digest(self, saved_digest: Option<String>) -> Self {
        Self { saved_digest, ..self }
    }
}

/// Returns the counts that are saved with a plan.
pub(super) fn saved_counts(view: &PreviewView<'_>) -> SavedCounts {
    let [change, unchanged, fail, unknown] = predicted_counts(view).map(|(_, count)| count.likely);
    SavedCounts { exact: is_exact(view), change, unchanged, fail, unknown }
}

/// Returns the whole preview as text for a terminal.
pub(super) fn render_text(view: &PreviewView<'_>) -> String {
    let mut text = String::new();
    let rows = view.preview.frozen.rows();
    let _ = writeln!(text, "{}\n", escape_for_terminal(&summary(view.plan, &view.plan.manifest, &view.file, rows)));
    for part in [changes_since(view), examples(view), failures(view), unknowns(view)] {
        text.push_str(&part);
    }
    push_headline(&mut text, view);
    text.push_str(&inventory_facts(view));
    text.push_str(&costs(view));
    text.push_str(&warnings(view));
    if let Some((file, digest)) = view.saved_to.as_ref().zip(view.saved_digest.as_ref()) {
        let _ = writeln!(text, "\nsaved: {} (SHA-256 {digest})", escape_line(file));
    }
    if let Some(next) = next_step(view) {
        let _ = writeln!(text, "\n{next}");
    }
    text
}

/// Returns what to do next. `None` if the plan is refused, because then an error says what to do.
fn next_step(view: &PreviewView<'_>) -> Option<String> {
    if view.preview.refusal.is_some() {
        return None;
    }
    match (nothing_to_do(view), view.next_command.as_str()) {
        (Some(nothing), _) => Some(nothing.to_owned()),
        (None, "") => None,
        (None, _) if view.preview.would_fail => Some(WOULD_FAIL.to_owned()),
        (None, next) => Some(format!("next: {next}")),
    }
}

/// Returns a short version, shown before asking for confirmation.
pub(super) fn render_brief(view: &PreviewView<'_>) -> String {
    let mut text = failures(view) + &unknowns(view);
    push_headline(&mut text, view);
    let total = match price_book_name(view.estimate) {
        Ok(book) => format!("{} (prices: {book})", view.estimate.total),
        Err((why, _)) => format!("unknown: {why}"),
    };
    push_wrapped(&mut text, view, "  cost     ", &escape_line(&total), 11);
    for (what, how_long) in describe_run_time(&view.plan.limits, view.duration) {
        push_wrapped(&mut text, view, "  time     ", &format!("{what}: {how_long}"), 11);
    }
    text.push_str(&warnings(view));
    text
}

/// Adds the headline and how certain it is.
fn push_headline(text: &mut String, view: &PreviewView<'_>) {
    let headline = wrap_words(&headline(view), view.layout.width, 2);
    let _ = writeln!(text, "{}", AnsiColours(view.layout.colour).bold(&headline));
    if let Some(certainty) = confidence(view) {
        push_wrapped(text, view, "  ", &certainty, 2);
    }
}

/// Adds a text behind its label. Further lines are indented.
fn push_wrapped(text: &mut String, view: &PreviewView<'_>, label: &str, value: &str, indent: usize) {
    let room = view.layout.width.saturating_sub(indent.max(label.chars().count()));
    let _ = writeln!(text, "{label}{}", wrap_words(value, room, indent));
}

/// Returns one object and its predicted result as text.
pub(super) fn object_text(prediction: &Prediction, colour: bool) -> String {
    let paint = AnsiColours(colour);
    let name = object_name(&prediction.object);
    match &prediction.effect {
        Effect::Changes(after) => {
            let mut text = format!("  {} {name}\n", paint.yellow("~"));
            for line in compare_states(&prediction.before, after) {
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
    let paint = AnsiColours(view.layout.colour);
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
        Ok(difference) if difference.added + difference.removed == 0 => {
            text.push_str("  the manifest lists the same objects\n");
        }
        Ok(difference) => {
            let (added, gone) = (format_objects(difference.added), HumanCount(difference.removed));
            let _ = writeln!(text, "  the manifest has changed: {added} added, {gone} removed");
            let signed = [
                ('+', difference.added, &difference.added_examples),
                ('-', difference.removed, &difference.removed_examples),
            ];
            for (sign, count, examples) in signed {
                for object in examples {
                    let line = format!("{sign} {}", object_name(object));
                    let _ = writeln!(text, "    {}", if sign == '+' { paint.green(&line) } else { paint.red(&line) });
                }
                let more = count - examples.len() as u64;
                if more > 0 {
                    let _ = writeln!(text, "    {sign} ... and {} more", HumanCount(more));
                }
            }
        }
        Err(why) => {
            let _ = writeln!(text, "  cannot compare the objects: {}", escape_line(why));
        }
    }
    text.push('\n');
    text
}

fn examples(view: &PreviewView<'_>) -> String {
    let shown = &view.preview.examples;
    let mut text = String::new();
    for (examples, all, word) in [
        (&shown.changed, view.preview.tally.changes, "to change"),
        (&shown.unchanged, view.preview.tally.unchanged, "unchanged"),
    ] {
        for prediction in examples {
            text.push_str(&object_text(prediction, view.layout.colour));
        }
        let more = all - examples.len() as u64;
        if more > 0 {
            let scope = if is_exact(view) { "" } else { " in the sample" };
            let _ = writeln!(text, "    ... and {} more {word}{scope}", HumanCount(more));
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn failures(view: &PreviewView<'_>) -> String {
    let paint = AnsiColours(view.layout.colour);
    let mut groups = failure_groups(view);
    groups.sort_by_key(|(_, group, _)| std::cmp::Reverse(group.count));
    let mut text = String::new();
    for (reason, group, is_complete) in groups {
        let (code, http, _) = &reason;
        let size = if is_complete { format_objects(group.count) } else { group_size(view, group) };
        let line = format!("{size} would fail: {}", failure_reason(&reason));
        let line = wrap_words(&escape_line(&line), view.layout.width.saturating_sub(4), 4);
        let _ = writeln!(text, "  {} {line}", paint.red("!"));
        push_examples(&mut text, group);
        push_wrapped(&mut text, view, "      ", &escape_line(&group.message), 6);
        if let Some(help) = hint(code, *http) {
            push_wrapped(&mut text, view, "      help: ", help, 12);
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
        let line = format!("{} cannot be predicted: {}", group_size(view, group), escape_line(unknown_reason(why)));
        push_wrapped(&mut text, view, "  ? ", &line, 4);
        push_examples(&mut text, group);
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Returns the objects that would fail, by error code, HTTP status and operation, and whether the group has all of
/// them, even if only a sample was read.
fn failure_groups<'a>(view: &PreviewView<'a>) -> Vec<((String, u16, String), &'a ReasonGroup, bool)> {
    let tally = &view.preview.tally;
    let mut groups: Vec<_> =
        tally.failure_reasons.iter().map(|(reason, group)| (reason.clone(), group, is_exact(view))).collect();
    if tally.unlistable.count > 0 {
        let operations = view.plan.operations().names();
        groups.push(((UNLISTABLE_KEY.to_owned(), 0, operations), &tally.unlistable, true));
    }
    groups
}

/// Formats why objects would fail, such as `403 AccessDenied (put_object_tagging)`. The group that counts the reasons
/// beyond the first 64 has no operation.
pub(super) fn failure_reason((code, http, operation): &(String, u16, String)) -> String {
    match (code.as_str(), operation.as_str()) {
        ("others", "") => "other errors".to_owned(),
        _ if *http == 0 => format!("{code} ({operation})"),
        _ => format!("{http} {code} ({operation})"),
    }
}

/// Returns the number of objects in a group, marked if it counts only the sample.
fn group_size(view: &PreviewView<'_>, group: &ReasonGroup) -> String {
    let of = if is_exact(view) { "" } else { " of the sample" };
    format!("{}{of}", format_objects(group.count))
}

fn push_examples(text: &mut String, group: &ReasonGroup) {
    for object in &group.examples {
        let _ = writeln!(text, "      {}", object_name(object));
    }
}

/// Returns which facts were taken from the inventory instead of the store.
fn inventory_facts(view: &PreviewView<'_>) -> String {
    let from_manifest = view.preview.from_manifest;
    let Some(since) = from_manifest.as_of else { return String::new() };
    let age = format_duration(Duration::from_secs(
        u64::try_from(view.preview.read_at.as_second() - since.as_second()).unwrap_or(0),
    ));
    let facts = [("ACLs", from_manifest.acls), ("storage classes", from_manifest.classes)];
    let names: Vec<_> = facts.into_iter().filter(|(_, count)| *count > 0).map(|(name, _)| name).collect();
    if names.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    let facts =
        format!("{} are from the inventory, taken {age} ago ({since}), not from the store", names.join(" and "));
    push_wrapped(&mut text, view, "  ", &facts, 2);
    text
}

fn costs(view: &PreviewView<'_>) -> String {
    let mut text = String::new();
    let estimate = view.estimate;
    match price_book_name(estimate) {
        Ok(book) => {
            let _ = writeln!(text, "\nEstimated cost (prices: {book}):");
            let currency = currency(estimate);
            let mut rows: Vec<_> = estimate.lines.iter().map(|line| cost_line(line, currency)).collect();
            rows.push(["total".to_owned(), String::new(), String::new(), estimate.total.to_string()]);
            rows.extend(estimate.report_per_month.iter().map(|line| cost_line(line, currency)));
            if let Some(managed) = &estimate.managed_service {
                rows.extend(managed.fees.iter().map(|line| {
                    let [what, quantity, price, amount] = cost_line(line, currency);
                    [format!("{}: {what}", managed.service), quantity, price, amount]
                }));
                let what = format!("total with {}", managed.service);
                rows.push([what, String::new(), String::new(), managed.total.to_string()]);
            }
            text.push_str(&cost_table(&rows, view.layout.width));
        }
        Err((why, help)) => {
            text.push_str("\nRequests:\n");
            let rows: Vec<_> = estimate
                .lines
                .iter()
                .map(|line| [line.description.clone(), format_quantity(line.quantity), String::new(), String::new()])
                .collect();
            text.push_str(&cost_table(&rows, view.layout.width));
            push_wrapped(&mut text, view, "  cost unknown: ", &escape_line(&why), 16);
            push_wrapped(&mut text, view, "  help: ", &escape_line(&help), 8);
        }
    }
    text.push_str("\nTime:\n");
    for (what, how_long) in describe_run_time(&view.plan.limits, view.duration) {
        push_wrapped(&mut text, view, &format!("  {what:<24} "), &how_long, 27);
    }
    text
}

fn warnings(view: &PreviewView<'_>) -> String {
    let mut text = String::new();
    for warning in view.preview.frozen.warnings() {
        push_wrapped(&mut text, view, "warning: ", &escape_line(&warning.to_string()), 9);
        push_wrapped(&mut text, view, "  help: ", &escape_line(&warning.help), 8);
    }
    for warning in &view.preview.warnings {
        push_wrapped(&mut text, view, "warning: ", &escape_line(warning), 9);
    }
    for recommendation in &view.preview.recommendations {
        push_wrapped(&mut text, view, "recommended: ", &escape_line(recommendation), 13);
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// Returns the step outputs for later steps of a workflow.
pub(super) fn step_outputs(view: &PreviewView<'_>) -> Vec<(&'static str, String)> {
    let changes = extrapolate(view, view.preview.tally.changes).likely;
    let cost = if view.estimate.total.is_complete() { view.estimate.total.known } else { None };
    vec![
        ("total", view.preview.frozen.rows().to_string()),
        ("changes", changes.to_string()),
        ("estimated-cost", cost.map_or_else(String::new, |cost| cost.to_string())),
        ("saved-plan", view.saved_to.clone().unwrap_or_default()),
        ("saved-plan-digest", view.saved_digest.clone().unwrap_or_default()),
    ]
}

/// Adds ANSI colours, if enabled.
pub(super) struct AnsiColours(pub(super) bool);

impl AnsiColours {
    fn apply(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(super) fn red(&self, text: &str) -> String {
        self.apply("31", text)
    }

    fn green(&self, text: &str) -> String {
        self.apply("32", text)
    }

    pub(super) fn yellow(&self, text: &str) -> String {
        self.apply("33", text)
    }

    pub(super) fn bold(&self, text: &str) -> String {
        self.apply("1", text)
    }

    pub(super) fn diff_line(&self, line: &StateLine) -> String {
        let text = format!("{} {}", line.change.sign(), escape_line(&line.text));
        match line.change {
            LineChange::Removed => self.red(&text),
            LineChange::Added => self.green(&text),
            LineChange::Unchanged => text,
        }
    }
}

/// The plan's last job, compared with the plan as it is now.
pub(super) struct PreviousJobDiff {
    job: JobId,
    status: JobStatus,
    /// When the job was created.
    created: Timestamp,
    /// A unified diff of the plan files, empty if they are equal.
    plan_diff: String,
    /// How the objects of the two manifests differ, or why that is not known: the earlier manifest no longer exists or
    /// cannot be read.
    objects: Result<ManifestDifference, String>,
}

impl PreviousJobDiff {
    /// Compares the plan's text with that of its last job. `objects` is how the objects differ, or why that is not
    /// known.
    pub(super) fn new(job: JobRecord, text: &[u8], objects: Result<ManifestDifference, String>) -> Self {
        let plan_diff = unified_diff(&String::from_utf8_lossy(&job.plan_text), &String::from_utf8_lossy(text));
        Self { job: job.id, status: job.status, created: job.created, plan_diff, objects }
    }
}

/// Returns each predicted result and the number of objects that have it. The objects that no request can name are
/// counted, not estimated.
fn predicted_counts(view: &PreviewView<'_>) -> [(&'static str, ConfidenceInterval); 4] {
    let tally = &view.preview.tally;
    let ConfidenceInterval { low, likely, high } = extrapolate(view, tally.fails);
    let [low, likely, high] = [low, likely, high].map(|count| count.saturating_add(tally.unlistable.count));
    [
        ("to change", extrapolate(view, tally.changes)),
        ("unchanged", extrapolate(view, tally.unchanged)),
        ("would fail", ConfidenceInterval { low, likely, high }),
        ("unknown", extrapolate(view, tally.unknown)),
    ]
}

/// Extrapolates a count in the sample to all objects.
fn extrapolate(view: &PreviewView<'_>, found: u64) -> ConfidenceInterval {
    share(view, found).estimate()
}

fn share(view: &PreviewView<'_>, found: u64) -> SampleShare {
    view.preview.tally.share(found, view.preview.frozen.rows())
}

/// Returns whether every object was read.
fn is_exact(view: &PreviewView<'_>) -> bool {
    share(view, 0).is_exact()
}

/// Returns the headline, such as `1,204,331 objects: 1,180,002 to change, 23,900 unchanged, 429 would fail`.
fn headline(view: &PreviewView<'_>) -> String {
    let about = if is_exact(view) { "" } else { "about " };
    let parts: Vec<_> = predicted_counts(view)
        .into_iter()
        .filter(|(word, _)| *word != "unknown" || view.preview.tally.unknown > 0)
        .map(|(word, count)| format!("{about}{} {word}", HumanCount(count.likely)))
        .collect();
    format!("{}: {}", format_objects(view.preview.frozen.rows()), parts.join(", "))
}

/// Returns the text to show instead of a command if every object was read and none would change.
pub(super) fn nothing_to_do(view: &PreviewView<'_>) -> Option<&'static str> {
    let idle = is_exact(view) && !view.preview.tally.has_changes();
    idle.then_some(match view.preview.frozen.rows() {
        0 => "Nothing to do: there are no objects.",
        _ => "Nothing to do: all objects already match the plan.",
    })
}

/// Returns the confidence intervals of a sample, or `None` if every object was read.
fn confidence(view: &PreviewView<'_>) -> Option<String> {
    if is_exact(view) {
        return None;
    }
    let ranges: Vec<_> = predicted_counts(view)
        .into_iter()
        .filter(|(word, _)| *word != "unknown" || view.preview.tally.unknown > 0)
        .map(|(word, ConfidenceInterval { low, high, .. })| {
            format!("{} to {} {word}", HumanCount(low), HumanCount(high))
        })
        .collect();
    let sampled = HumanCount(view.preview.tally.total());
    Some(format!(
        "from a random sample of {sampled} (seed {}), with 95 % confidence: {}",
        view.preview.options.seed,
        ranges.join(", ")
    ))
}

/// Returns the columns of an estimate line: what, quantity, unit price, and the amount or why it is not known.
fn cost_line(line: &CostLine, currency: Option<Currency>) -> [String; 4] {
    let unit = match (&line.price, currency) {
        (Some(price), Some(currency)) if price.amount(currency).is_zero() => "free".to_owned(),
        (Some(price), Some(currency)) => format_price(price, currency),
        _ => String::new(),
    };
    let amount = match &line.amount {
        Ok(amount) => amount.format_rounded(),
        Err(why) => format!("unknown: {why}"),
    };
    [line.description.clone(), format_quantity(line.quantity), unit, amount]
}

/// Returns the name and date of the price book. If there are no prices, returns why and what to do about it.
fn price_book_name(estimate: &CostEstimate) -> Result<String, (String, String)> {
    match &estimate.prices {
        StorePrices::Known(entry) => Ok(format!("{}, {}", entry.name, entry.dated)),
        StorePrices::Unknown(why) => Err((why.to_string(), why.help())),
    }
}

fn currency(estimate: &CostEstimate) -> Option<Currency> {
    estimate.prices.entry().map(|entry| entry.currency)
}

/// Returns the whole preview as JSON.
pub(super) fn render_json(view: &PreviewView<'_>) -> Json {
    let preview = view.preview;
    let exact = is_exact(view);
    let counts = |ConfidenceInterval { low, likely, high }| json!({ "likely": likely, "low": low, "high": high });
    let [change, unchanged, fail, unknown] = predicted_counts(view).map(|(_, count)| counts(count));
    let sample = (!exact).then(|| json!({ "looked": preview.tally.total(), "seed": preview.options.seed }));
    let shown = preview.examples.changed.iter().chain(&preview.examples.unchanged).chain(&preview.examples.unknown);
    json!({
        "plan": { "file": view.file, "name": view.plan.name, "hash": view.plan.hash() },
        "objects": preview.frozen.rows(),
        "exact": exact,
        "sample": sample,
        "counts": { "change": change, "unchanged": unchanged, "fail": fail, "unknown": unknown },
        "failures": failures_json(view),
        "unknown": preview.tally.unknown_reasons.iter().map(|(why, group)| unknown_group_json(why, group)).collect::<Vec<_>>(),
        "examples": shown.map(object_json).collect::<Vec<_>>(),
        "facts": {
            "acls": preview.from_manifest.acls,
            "classes": preview.from_manifest.classes,
            "since": preview.from_manifest.as_of.map(|since| since.to_string()),
        },
        "requests": requests_json(view),
        "cost": cost_json(view),
        "duration": {
            "requests": view.duration.requests,
            "per_second": view.duration.per_second,
            "latency_ms": view.duration.latency.as_secs_f64() * 1000.0,
            "latency_measured": view.duration.is_measured,
            "at_plan_seconds": view.duration.at_plan_rate.as_secs(),
            "at_provider_seconds": view.duration.at_provider_limits().map(|at| at.as_secs()),
        },
        "manifest": manifest_json(view),
        "plan_diff": view.previous.map(|earlier| earlier.plan_diff.as_str()),
        "earlier": view.previous.map(|earlier| json!({
            "job_id": earlier.job.as_str(),
            "status": earlier.status,
            "created": earlier.created.to_string(),
        })),
        "server_check": server_check_json(view),
        "warnings": warnings_json(view),
        "recommendations": view.preview.recommendations,
        "would_fail": view.preview.would_fail,
        "saved": view.saved_to,
        "saved_digest": view.saved_digest,
    })
}

/// Returns one object and its predicted result as JSON.
pub(super) fn object_json(prediction: &Prediction) -> Json {
    let mut object = object_name_json(&prediction.object);
    object["before"] = object_state_json(&prediction.before);
    match &prediction.effect {
        Effect::Changes(after) => {
            object["action"] = json!("change");
            object["after"] = object_state_json(after);
        }
        Effect::Unchanged => {
            object["action"] = json!("unchanged");
            object["after"] = object_state_json(&prediction.before);
        }
        Effect::Fails(reason) => {
            object["action"] = json!("fail");
            object["after"] = Json::Null;
            object["code"] = json!(reason.code);
            object["http"] = json!(reason.http);
            object["operation"] = json!(reason.operation);
            object["message"] = json!(reason.message);
        }
        Effect::Unknown(why) => {
            object["action"] = json!("unknown");
            object["after"] = Json::Null;
            object["message"] = json!(why);
        }
    }
    object
}

pub(super) fn object_name_json(object: &ObjectId) -> Json {
    json!({
        "bucket": object.bucket.as_str(),
        "key": object.key.encoded(),
        "version": object.version.as_ref().map(VersionId::as_str),
    })
}

/// Returns what is known of an object. Unknown values are null.
pub(super) fn object_state_json(state: &ObjectState) -> Json {
    let aspects = ObjectAspect::ALL.map(|aspect| aspect.rules().json(state));
    let class = ("class", json!(state.class.known().map(StorageClass::as_str)));
    aspects.into_iter().chain([class]).collect()
}

fn failures_json(view: &PreviewView<'_>) -> Vec<Json> {
    let reasons = failure_groups(view).into_iter();
    reasons
        .map(|((code, http, operation), group, _)| {
            let advice = hint(&code, http);
            json!({
                "code": code,
                "http": http,
                "operation": operation,
                "count": group.count,
                "message": group.message,
                "advice": advice,
                "examples": group.examples.iter().map(object_name_json).collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn unknown_group_json(why: &str, group: &ReasonGroup) -> Json {
    json!({
        "reason": why,
        "count": group.count,
        "examples": group.examples.iter().map(object_name_json).collect::<Vec<_>>(),
    })
}

fn requests_json(view: &PreviewView<'_>) -> Vec<Json> {
    let work = &view.preview.workload;
    let counts = [(&work.requests, false), (&work.rejected, true)].into_iter();
    counts
        .flat_map(|(counts, refused)| counts.iter().map(move |(request, count)| (request, count, refused)))
        .map(|((kind, class), count, refused)| {
            let class = class.as_ref().map(StorageClass::as_str);
            json!({ "kind": kind.to_string(), "class": class, "count": count, "refused": refused })
        })
        .collect()
}

fn cost_json(view: &PreviewView<'_>) -> Json {
    let estimate = view.estimate;
    let entry = estimate.prices.entry();
    let line = |line: &CostLine| {
        let (quantity, unit, days) = match line.quantity {
            BilledQuantity::Requests(count) => (u128::from(count), "requests", None),
            BilledQuantity::Objects(count) => (u128::from(count), "objects", None),
            BilledQuantity::Jobs(count) => (u128::from(count), "jobs", None),
            BilledQuantity::Bytes(bytes) => (bytes, "bytes", None),
            BilledQuantity::Stored { bytes, days } => (bytes, "bytes", Some(days)),
        };
        let price = line.price.as_ref().zip(entry);
        json!({
            "what": line.description,
            "for": match line.category {
                CostCategory::Objects => "objects",
                CostCategory::Overhead => "own",
                CostCategory::Fee => "fee",
            },
            // `serde_json` has no larger integers, and no bucket has that many bytes.
            "quantity": u64::try_from(quantity).unwrap_or(u64::MAX),
            "unit": unit,
            "days": days,
            "price": price.map(|(price, entry)| price.amount(entry.currency).to_string()),
            "per": price.map(|(price, _)| price.unit().to_string()),
            "source": price.and_then(|(price, _)| price.source.clone()),
            "amount": line.amount.as_ref().ok().map(ToString::to_string),
            "why": line.amount.as_ref().err().map(ToString::to_string),
        })
    };
    json!({
        "book": entry.map(|entry| entry.name.as_str()),
        "dated": entry.map(|entry| entry.dated.to_string()),
        "currency": entry.map(|entry| entry.currency.as_str().to_owned()),
        "known": estimate.total.known.map(|known| known.to_string()),
        "whole": estimate.total.is_complete(),
        "lines": estimate.lines.iter().map(line).collect::<Vec<_>>(),
        "managed": estimate.managed_service.as_ref().map(|managed| json!({
            "service": managed.service,
            "fees": managed.fees.iter().map(line).collect::<Vec<_>>(),
            "known": managed.total.known.map(|known| known.to_string()),
            "whole": managed.total.is_complete(),
        })),
    })
}

fn manifest_json(view: &PreviewView<'_>) -> Json {
    let difference = view.previous.and_then(|earlier| earlier.objects.as_ref().ok());
    let examples = |objects: &Vec<ObjectId>| objects.iter().map(object_name_json).collect::<Vec<_>>();
    json!({
        "read": view.preview.frozen.rows_read(),
        "added": difference.map(|it| it.added),
        "gone": difference.map(|it| it.removed),
        "added_examples": difference.map(|it| examples(&it.added_examples)),
        "gone_examples": difference.map(|it| examples(&it.removed_examples)),
    })
}

/// Returns how far the server was checked, and what was found.
fn server_check_json(view: &PreviewView<'_>) -> Json {
    let refusal = view.preview.refusal.as_ref();
    json!({
        "state": view.preview.server_check.as_str(),
        "found": refusal.map(|refusal| refusal.kind.as_str()),
        "object": refusal.map(|refusal| object_name_json(&refusal.object)),
        "why": refusal.map(|refusal| describe_untrusted_server(view.plan, refusal)),
    })
}

fn warnings_json(view: &PreviewView<'_>) -> Vec<String> {
    let warnings = view.preview.frozen.warnings().iter().map(ToString::to_string);
    warnings.chain(view.preview.warnings.iter().cloned()).collect()
}

/// Returns the whole preview as Markdown, as far as there is room.
pub(super) fn render_markdown(view: &PreviewView<'_>) -> String {
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
    text.push_str(&markdown_plan_table(view));
    text.push_str(&markdown_failures(view));
    text.push_str(&markdown_costs(view));
    text.push_str(&markdown_warnings(view));
    let end = match nothing_to_do(view) {
        Some(nothing) => format!("\n{nothing}\n"),
        None if view.preview.refusal.is_some() || view.next_command.is_empty() => String::new(),
        None if view.preview.would_fail => format!("\n{WOULD_FAIL}\n"),
        None => format!("\nnext: {}\n", code(&view.next_command)),
    };
    for part in [markdown_changes(view), markdown_examples(view)] {
        let room = MAX_MARKDOWN_CHARS.saturating_sub(text.chars().count() + end.chars().count());
        text.push_str(&part.render(room));
    }
    truncate_markdown(&text, MAX_MARKDOWN_CHARS - end.chars().count(), |text| text.chars().count()) + &end
}

fn markdown_plan_table(view: &PreviewView<'_>) -> String {
    let rows = view.preview.frozen.rows();
    // A Markdown table needs a header, so the first row is the header.
    let mut text = format!("| plan | {} |\n|:---|:---|\n", code(&one_line(&view.file)));
    let mut row = |what: &str, value: &str| {
        let _ = writeln!(text, "| {what} | {} |", code(&one_line(value)));
    };
    row("store", &describe_store(&view.plan.store));
    row("manifest", &format!("{} {}", format_objects(rows), describe_source(&view.plan.manifest.source)));
    for operation in &view.plan.operations {
        row("operation", &describe_operation(operation));
    }
    if let Some((file, digest)) = view.saved_to.as_ref().zip(view.saved_digest.as_ref()) {
        row("saved plan", file);
        row("its SHA-256", digest);
    }
    text.push('\n');
    text
}

fn markdown_failures(view: &PreviewView<'_>) -> String {
    let tally = &view.preview.tally;
    let groups = failure_groups(view);
    if groups.is_empty() && tally.unknown_reasons.is_empty() {
        return String::new();
    }
    let mut text = String::from("| would fail | why | what to do |\n|---:|---|---|\n");
    let of = if is_exact(view) { "" } else { " of the sample" };
    for (reason, group, is_complete) in groups {
        let (error, http, _) = &reason;
        let why = code(&failure_reason(&reason));
        let help = hint(error, *http).unwrap_or_default();
        let of = if is_complete { "" } else { of };
        let _ = writeln!(text, "| {}{of} | {why} | {help} |", HumanCount(group.count));
    }
    for (why, group) in &tally.unknown_reasons {
        let _ = writeln!(text, "| {}{of} unknown | {} | |", HumanCount(group.count), code(unknown_reason(why)));
    }
    text.push('\n');
    text
}

/// Formats why an object cannot be predicted. Reasons beyond the first 64 are counted as `others`.
pub(super) fn unknown_reason(why: &str) -> &str {
    if why == "others" { "for other reasons" } else { why }
}

fn markdown_costs(view: &PreviewView<'_>) -> String {
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
    for line in &estimate.lines {
        let [what, quantity, price, amount] = cost_line(line, currency);
        let _ = writeln!(text, "| {} | {quantity} | {price} | {amount} |", code(&what));
    }
    text.push('\n');
    for (what, how_long) in describe_run_time(&view.plan.limits, view.duration) {
        let _ = writeln!(text, "- {what}: {how_long}");
    }
    text
}

fn markdown_warnings(view: &PreviewView<'_>) -> String {
    let warnings = view.preview.frozen.warnings().iter().map(ToString::to_string);
    let mut text = String::new();
    let refusal = view.preview.refusal.iter().map(|refusal| describe_untrusted_server(view.plan, refusal));
    for warning in warnings.chain(view.preview.warnings.iter().cloned()).chain(refusal) {
        let _ = write!(text, "\n> **Warning:** {}\n", code(&warning));
    }
    for recommendation in &view.preview.recommendations {
        let _ = write!(text, "\n> **Recommended:** {}\n", code(recommendation));
    }
    text
}

/// Returns what has changed since the plan was last applied.
fn markdown_changes(view: &PreviewView<'_>) -> FoldedBlock {
    let Some(earlier) = view.previous else {
        return FoldedBlock::new("", DIFF_LANGUAGE, Vec::new());
    };
    let mut lines: Vec<_> = earlier.plan_diff.lines().map(str::to_owned).collect();
    if let Ok(difference) = &earlier.objects {
        let signed = [
            ('+', difference.added, &difference.added_examples),
            ('-', difference.removed, &difference.removed_examples),
        ];
        for (sign, count, examples) in signed {
            lines.extend(examples.iter().map(|object| format!("{sign} {}", object_name(object))));
            let more = count - examples.len() as u64;
            if more > 0 {
                lines.push(format!("{sign} ... and {} more", HumanCount(more)));
            }
        }
    }
    FoldedBlock::new(format!("changes since job {}", earlier.job), DIFF_LANGUAGE, lines)
}

/// Returns some objects and how they change.
fn markdown_examples(view: &PreviewView<'_>) -> FoldedBlock {
    let shown = &view.preview.examples;
    let mut found = Vec::new();
    for prediction in shown.changed.iter().chain(&shown.unchanged) {
        let sign = if matches!(prediction.effect, Effect::Changes(_)) { '~' } else { '=' };
        found.push(format!("{sign} {}", object_name(&prediction.object)));
        if let Effect::Changes(after) = &prediction.effect {
            let signed = compare_states(&prediction.before, after).into_iter();
            found.extend(signed.map(|line| format!("{}   {}", line.change.sign(), line.text)));
        }
    }
    FoldedBlock::new("example objects", DIFF_LANGUAGE, found)
}

#[cfg(test)]
mod tests {
    use batchplan_store::object::{BucketName, ObjectKey};

    use super::*;
    use crate::diff::{FailureReason, PredictionTotals};

    #[test]
    fn reasons_beyond_the_limit_are_named() {
        let mut tally = PredictionTotals::default();
        for number in 0..70 {
            let object = ObjectId { bucket: BucketName::new("bkt"), key: ObjectKey::from("k"), version: None };
            let (code, operation) = (format!("Error{number:02}"), "put_object_tagging".to_owned());
            let reason = FailureReason { code, http: 400, operation, message: "no".to_owned() };
            let (before, effect) = (ObjectState::default(), Effect::Fails(reason));
            tally.add(&Prediction { object, before, effect, accepted: Vec::new(), refused: Vec::new() }, None);
        }
        let names: Vec<_> = tally.failure_reasons.keys().map(failure_reason).collect();
        assert_eq!(names.len(), 65);
        assert_eq!(names[0], "400 Error00 (put_object_tagging)");
        assert!(names.contains(&"other errors".to_owned()), "{names:?}");
    }
}

//! The preview of a plan: its predicted results, cost and time in numbers and as text for a terminal, and what has
//! changed since the plan's last job.
//!
//! | file | contents |
//! |---|---|
//! | `json` | the preview as JSON |
//! | `markdown` | the preview for a pull request |

pub(super) mod json;
pub(super) mod markdown;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use batchplan_store::object::ObjectId;
use indicatif::HumanCount;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::descriptions::{format_objects, summary};
use super::exit::CommandError;
use super::plan_input::show_problems;
use super::state::{JournalAccess, StateLocationArgs};
use super::terminal::{Terminal, escape_for_terminal, escape_line};
use crate::diff::{
    ConfidenceInterval, Effect, LineChange, Prediction, ReasonGroup, SampleShare, StateLine, compare_states,
    unified_diff,
};
use crate::estimate::{
    ASSUMED_LATENCY, BilledQuantity, CostEstimate, CostLimitError, CostLine, PriceBookError, RateBottleneck,
    RunTimeEstimate, StorePrices, UnitPrice, check_cost_limit, estimate, estimate_run_time, select_prices,
};
use crate::job::{JobId, JobStatus};
use crate::jobs::{JobError, Preview, SavedCounts, hint};
use crate::journal::{JobFolder, JobRecord};
use crate::manifest::{FrozenManifest, ManifestDifference, ManifestError, compare_manifests};
use crate::money::Currency;
use crate::plan::{MAX_CONCURRENCY, Plan};

/// The minimum run time for which a higher concurrency is suggested.
const LONG_RUN_TIME: Duration = Duration::from_secs(10);

/// Everything that is shown of a plan.
pub(super) struct PreviewView<'a> {
    plan: &'a Plan,
    file: String,
    preview: &'a Preview,
    estimate: &'a CostEstimate,
    duration: &'a RunTimeEstimate,
    previous: Option<&'a PreviousJobDiff>,
    /// Whether to use colours.
    colour: bool,
    /// The command to suggest.
    next_command: String,
    /// The file that the plan was saved to, if it was.
    saved_to: Option<String>,
}

impl<'a> PreviewView<'a> {
    /// Shows a preview with its estimate, and nothing that needs a plan file.
    pub(super) fn new(
        plan: &'a Plan,
        preview: &'a Preview,
        estimate: &'a CostEstimate,
        duration: &'a RunTimeEstimate,
    ) -> Self {
        Self {
            plan,
            file: String::new(),
            preview,
            estimate,
            duration,
            previous: None,
            colour: false,
            next_command: String::new(),
            saved_to: None,
        }
    }

    /// Sets the plan file, the command to suggest, and the file that the plan was saved to, if it was.
    pub(super) fn of_file(self, file: String, next_command: String, saved_to: Option<String>) -> Self {
        Self { file, next_command, saved_to, ..self }
    }

    /// Compares the plan with its last job.
    pub(super) fn with_previous(self, previous: Option<&'a PreviousJobDiff>) -> Self {
        Self { previous, ..self }
    }

    /// Sets whether to use colours.
    pub(super) fn with_colour(self, colour: bool) -> Self {
        Self { colour, ..self }
    }
}

/// Returns the counts that are saved with a plan.
pub(super) fn saved_counts(view: &PreviewView<'_>) -> SavedCounts {
    let likely = |found| extrapolate(view, found).likely;
    let tally = &view.preview.tally;
    SavedCounts {
        exact: is_exact(view),
        change: likely(tally.changes),
        unchanged: likely(tally.unchanged),
        fail: likely(tally.fails),
        unknown: likely(tally.unknown),
    }
}

/// Returns the whole preview as text for a terminal.
pub(super) fn render_text(view: &PreviewView<'_>) -> String {
    let mut text = String::new();
    let rows = view.preview.frozen.rows();
    let _ = writeln!(text, "{}\n", escape_for_terminal(&summary(view.plan, &view.plan.manifest, &view.file, rows)));
    for part in [changes_since(view), examples(view), failures(view), unknowns(view)] {
        text.push_str(&part);
    }
    let paint = AnsiColours(view.colour);
    let _ = writeln!(text, "{}", paint.bold(&headline(view)));
    if let Some(certainty) = confidence(view) {
        let _ = writeln!(text, "  {certainty}");
    }
    text.push_str(&inventory_facts(view));
    text.push_str(&costs(view));
    text.push_str(&warnings(view));
    // No next command when the server check refuses the server.
    if view.preview.refusal.is_none() {
        let _ = match nothing_to_do(view) {
            Some(nothing) => writeln!(text, "\n{nothing}"),
            None => writeln!(text, "\nnext: {}", view.next_command),
        };
    }
    text
}

/// Returns a short version, shown before asking for confirmation.
fn render_brief(view: &PreviewView<'_>) -> String {
    let mut text = failures(view) + &unknowns(view);
    let _ = writeln!(text, "{}", AnsiColours(view.colour).bold(&headline(view)));
    if let Some(certainty) = confidence(view) {
        let _ = writeln!(text, "  {certainty}");
    }
    let total = match price_book_name(view.estimate) {
        Ok(book) => format!("{} (prices: {book})", view.estimate.total),
        Err((why, _)) => format!("unknown: {why}"),
    };
    let _ = writeln!(text, "  cost     {}", escape_line(&total));
    for (what, how_long) in durations(view) {
        let _ = writeln!(text, "  time     {what}: {how_long}");
    }
    text.push_str(&warnings(view));
    text
}

/// Returns one object and its predicted result.
pub(super) fn object_text(prospect: &Prediction, colour: bool) -> String {
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
fn object_name(object: &ObjectId) -> String {
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
            text.push_str(&object_text(prospect, view.colour));
        }
        let more = all - some.len() as u64;
        if more > 0 {
            let where_ = if is_exact(view) { "" } else { " in the sample" };
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
    let told = view.preview.from_manifest;
    let Some(since) = told.as_of else { return String::new() };
    let age = format_duration(std::time::Duration::from_secs(
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
            text.push_str(&table(&rows));
        }
        Err((why, help)) => {
            text.push_str("\nRequests:\n");
            let rows: Vec<_> = estimate
                .lines
                .iter()
                .map(|line| [line.description.clone(), format_quantity(line.quantity), String::new(), String::new()])
                .collect();
            text.push_str(&table(&rows));
            let _ = writeln!(text, "  cost unknown: {}\n  help: {}", escape_line(&why), escape_line(&help));
        }
    }
    text.push_str("\nTime:\n");
    for (what, how_long) in durations(view) {
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
fn table(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second, third) = (width(0), width(1), width(2));
    let mut text = String::new();
    for [what, quantity, price, amount] in rows {
        let line = format!("  {:<first$}  {quantity:>second$}  {price:<third$}  {amount}", escape_line(what));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Returns the prices that apply to the plan.
pub(super) fn load_rates(plan: &Plan, prices: Option<&Path>, terminal: Terminal) -> Result<StorePrices, CommandError> {
    select_prices(plan, prices).map_err(|error| {
        if let PriceBookError::Invalid(problems) = &error {
            show_problems(problems, terminal);
        }
        JobError::from(error).into()
    })
}

/// The expected results and cost of a job whose objects are known.
pub(super) struct EstimateSummary {
    pub(super) text: String,
    /// Why the job is refused because of its cost, if it is.
    pub(super) refusal: Option<CostLimitError>,
}

impl EstimateSummary {
    /// Estimates a plan from the preview of its objects and the prices.
    pub(super) fn of(plan: &Plan, preview: &Preview, rates: &StorePrices) -> Self {
        let estimate = estimate(&preview.workload, rates);
        let hours = estimate_run_time(&preview.workload, &plan.limits, rates);
        let view = PreviewView::new(plan, preview, &estimate, &hours);
        let refusal = plan.limits.max_cost.and_then(|max| check_cost_limit(&estimate, &max).error().cloned());
        Self { text: render_brief(&view), refusal }
    }
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
    ]
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

/// The plan's last job, compared with the plan as it is now.
pub(super) struct PreviousJobDiff {
    job: JobId,
    status: JobStatus,
    /// When the job was created.
    created: Timestamp,
    /// A unified diff of the plan files, empty if they are equal.
    plan_diff: String,
    objects: ObjectListDiff,
}

/// How the objects that the two manifests name differ.
enum ObjectListDiff {
    Known(ManifestDifference),
    /// The earlier manifest no longer exists or cannot be read. Contains the reason.
    Unknown(String),
}

/// The last job of a plan, and the job's folder.
pub(super) struct PreviousJob {
    job: JobRecord,
    folder: PathBuf,
}

/// Finds the last job of a plan.
pub(super) fn find_previous_job(
    plan: &Plan,
    state: &StateLocationArgs,
    terminal: Terminal,
) -> Result<Option<PreviousJob>, CommandError> {
    let Some(journal) = state.open_existing(Some(plan), JournalAccess::ReadHistory, terminal)? else { return Ok(None) };
    let Some(job) = journal.latest_with_identity(&plan.identity())? else { return Ok(None) };
    drop(journal);
    // Open the journal again to fetch the job's files. It was closed because a newer copy may take its place.
    let Some(journal) =
        state.open_existing_with_job(Some(plan), JournalAccess::ReadHistory, Some(&job.id), terminal)?
    else {
        return Ok(None);
    };
    Ok(Some(PreviousJob { folder: JobFolder::of(journal.state_folder(), &job.id).path().to_owned(), job }))
}

impl PreviousJob {
    /// Compares the job with the current plan and its objects. Returns `None` if the comparison was stopped.
    pub(super) async fn compare_with(
        self,
        text: &[u8],
        frozen: &FrozenManifest,
        scratch: &Path,
        stop: &CancellationToken,
    ) -> Option<PreviousJobDiff> {
        let Self { job, folder } = self;
        let (new, scratch, stop) = (frozen.clone(), scratch.to_owned(), stop.clone());
        let compared = tokio::task::spawn_blocking(move || match FrozenManifest::open(&folder)? {
            Some(old) => compare_manifests(&old, &new, &scratch, &stop).map(Some),
            None => Ok(None),
        });
        let names = match compared.await.ok()? {
            Ok(Some(difference)) => ObjectListDiff::Known(difference),
            Ok(None) => ObjectListDiff::Unknown("the manifest of that job was not resolved, or was deleted".to_owned()),
            Err(ManifestError::Stopped) => return None,
            Err(error) => ObjectListDiff::Unknown(error.to_string()),
        };
        let plan_diff = unified_diff(&String::from_utf8_lossy(&job.plan_text), &String::from_utf8_lossy(text));
        Some(PreviousJobDiff { job: job.id, status: job.status, created: job.created, plan_diff, objects: names })
    }
}

/// Returns each predicted result and the number of objects in the sample that have it.
fn predicted_counts(view: &PreviewView<'_>) -> [(&'static str, u64); 4] {
    let tally = &view.preview.tally;
    [
        ("to change", tally.changes),
        ("unchanged", tally.unchanged),
        ("would fail", tally.fails),
        ("unknown", tally.unknown),
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
        .filter(|(word, found)| *word != "unknown" || *found > 0)
        .map(|(word, found)| format!("{about}{} {word}", HumanCount(extrapolate(view, found).likely)))
        .collect();
    format!("{}: {}", format_objects(view.preview.frozen.rows()), parts.join(", "))
}

/// Returns the text to show instead of a command if every object was read and none would change.
pub(super) fn nothing_to_do(view: &PreviewView<'_>) -> Option<&'static str> {
    let idle = is_exact(view) && !view.preview.tally.has_changes();
    idle.then_some("Nothing to do: all objects already match the plan.")
}

/// Returns the confidence intervals of a sample, or `None` if every object was read.
fn confidence(view: &PreviewView<'_>) -> Option<String> {
    if is_exact(view) {
        return None;
    }
    let ranges: Vec<_> = predicted_counts(view)
        .into_iter()
        .filter(|(word, found)| *word != "unknown" || *found > 0)
        .map(|(word, found)| {
            let ConfidenceInterval { low, high, .. } = extrapolate(view, found);
            format!("{} to {} {word}", HumanCount(low), HumanCount(high))
        })
        .collect();
    let looked = HumanCount(view.preview.tally.total());
    Some(format!(
        "from a random sample of {looked} (seed {}), with 95 % confidence: {}",
        view.preview.options.seed,
        ranges.join(", ")
    ))
}

fn format_quantity(quantity: BilledQuantity) -> String {
    match quantity {
        BilledQuantity::Requests(count) | BilledQuantity::Objects(count) | BilledQuantity::Jobs(count) => {
            HumanCount(count).to_string()
        }
        BilledQuantity::Bytes(bytes) => format_gigabytes(bytes),
        BilledQuantity::Stored { bytes, days } => {
            format!("{} for {days} day{}", format_gigabytes(bytes), if days == 1 { "" } else { "s" })
        }
    }
}

/// Formats a size in GB of 2^30 bytes, as it is billed. A size that rounds to 0.00 GB is shown in bytes.
fn format_gigabytes(bytes: u128) -> String {
    const GB: u128 = 1 << 30;
    let hundredths = (bytes * 100 + GB / 2) / GB;
    if hundredths == 0 {
        return format!("{} bytes", HumanCount(u64::try_from(bytes).unwrap_or(u64::MAX)));
    }
    let whole = u64::try_from(hundredths / 100).unwrap_or(u64::MAX);
    format!("{}.{:02} GB", HumanCount(whole), hundredths % 100)
}

/// Formats a price, such as `0.005 USD per 1,000`.
fn format_price(price: &UnitPrice, currency: Currency) -> String {
    let unit = match price.unit() {
        crate::estimate::PriceUnit::Each(1) => "each".to_owned(),
        crate::estimate::PriceUnit::Each(count) => format!("per {}", HumanCount(u64::from(count))),
        unit => format!("per {unit}"),
    };
    format!("{} {unit}", price.amount(currency))
}

/// Returns the columns of an estimate line: what, quantity, unit price, and the amount or why it is not known.
fn cost_line(line: &CostLine, currency: Option<Currency>) -> [String; 4] {
    let unit = match (&line.price, currency) {
        (Some(it), Some(currency)) if it.amount(currency).is_zero() => "free".to_owned(),
        (Some(it), Some(currency)) => format_price(it, currency),
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

/// Returns the duration at the plan's rate and, if the provider's limits are known, at those limits.
fn durations(view: &PreviewView<'_>) -> Vec<(&'static str, String)> {
    let hours = view.duration;
    let limit = match hours.bottleneck {
        RateBottleneck::RateLimit => "`[limits] requests_per_second`".to_owned(),
        RateBottleneck::Concurrency => {
            let in_flight = HumanCount(u64::from(view.plan.limits.concurrency));
            format!("{in_flight} in flight, {} ms each", ASSUMED_LATENCY.as_millis())
        }
    };
    let (time, rate) = (format_duration(hours.at_plan_rate), HumanCount(hours.per_second));
    let mut at_plan_rate = format!("about {time} at {rate} requests/s ({limit})");
    let at_provider_limits = hours.at_provider_limits();
    let provider_allows_more = at_provider_limits.is_none_or(|at| at < hours.at_plan_rate);
    let can_be_raised = provider_allows_more && view.plan.limits.concurrency < MAX_CONCURRENCY;
    if hours.bottleneck == RateBottleneck::Concurrency && hours.at_plan_rate >= LONG_RUN_TIME && can_be_raised {
        at_plan_rate.push_str(". Raise `[limits] concurrency` to go faster");
    }
    let mut lines = vec![("at the plan's rate", at_plan_rate)];
    if let Some(at) = at_provider_limits {
        lines
            .push(("at the provider's limit", format!("at least {}, if all keys share a prefix", format_duration(at))));
    }
    lines
}

/// Formats a duration, such as `2 h 5 min` or `40 s`.
fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, 0) => format!("{minutes} min"),
        (0, 0, minutes, seconds) if minutes < 10 => format!("{minutes} min {seconds} s"),
        (0, 0, minutes, _) => format!("{minutes} min"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, _, _) => format!("{} d {hours} h", HumanCount(days)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_durations_in_two_units() {
        let cases =
            [(0, "0 s"), (59, "59 s"), (120, "2 min"), (125, "2 min 5 s"), (1199, "19 min"), (7500, "2 h 5 min")];
        for (seconds, text) in cases {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(format_duration(Duration::from_hours(25)), "1 d 1 h");
    }

    #[test]
    fn formats_billed_sizes() {
        assert_eq!(format_quantity(BilledQuantity::Bytes(1 << 30)), "1.00 GB");
        assert_eq!(format_quantity(BilledQuantity::Bytes(1000)), "1,000 bytes");
        assert_eq!(format_quantity(BilledQuantity::Stored { bytes: 5 << 40, days: 1 }), "5,120.00 GB for 1 day");
    }
}

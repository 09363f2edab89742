//! The result of a verification: which objects are not as a job or a plan wants them. Formats it as text for a terminal,
//! as JSON, and as Markdown, and writes it as a completion report.
//!
//! The help of `batchplan verify` documents the JSON. New keys may be added at any time; a key is removed or changed only
//! with a new `version`.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use batchplan_store::object::ObjectState;
use batchplan_store::task::{FaultClass, StoreError, TaskFailure, TaskOutcome};
use indicatif::HumanCount;
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::descriptions::{
    describe_operation, describe_source, describe_store, format_objects, one_line, quote_path, relative_path,
};
use super::exit::{CommandError, ExitStatus};
use super::markdown::{FoldedBlock, code};
use super::preview::{AnsiColours, failure_reason, object_name, object_name_json, object_state_json, unknown_reason};
use super::terminal::{escape_for_terminal, escape_line};
use crate::diff::{ConfidenceInterval, Effect, FailureReason, LineChange, Prediction, ReasonGroup, compare_states};
use crate::files::with_path;
use crate::job::JobId;
use crate::jobs::{Preview, hint};
use crate::notify::DriftSummary;
use crate::paths::{path_to_text, show_path};
use crate::plan::Plan;
use crate::report::{FinishedReport, MANIFEST_NAME, ROTATE_AT, ReportWriter};
use crate::report_format::{OperationNaming, ReportSpec};

/// The version of the JSON.
const JSON_VERSION: u32 = 1;

/// The maximum number of characters for the example objects in Markdown.
const MAX_EXAMPLE_CHARS: usize = 20_000;

/// The code in a report of an object that is not as it should be, and of one that could not be read.
const DRIFTED: &str = "Drifted";
const NOT_VERIFIED: &str = "NotVerified";

/// What was verified.
pub(super) struct VerifiedTarget {
    /// The job; `None` if the objects of a plan's manifest were verified.
    pub(super) job: Option<JobId>,
    /// The plan file.
    pub(super) file: PathBuf,
    /// The ` --state` flag that shown commands need, or empty.
    pub(super) flag: String,
}

/// Everything that is shown of a verification.
pub(super) struct VerificationView<'a> {
    plan: &'a Plan,
    preview: &'a Preview,
    target: VerifiedTarget,
    /// The path of the report's `manifest.json`, if a report was written.
    report: Option<PathBuf>,
    colour: bool,
}

impl<'a> VerificationView<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        preview: &'a Preview,
        target: VerifiedTarget,
        report: Option<PathBuf>,
        colour: bool,
    ) -> Self {
        Self { plan, preview, target, report, colour }
    }

    /// Returns the name of the plan.
    pub(super) fn name(&self) -> &str {
        &self.plan.name
    }

    /// Returns the plan file.
    pub(super) fn file(&self) -> &Path {
        &self.target.file
    }

    /// Returns the number of objects that were read and are not as they should be.
    fn drifted(&self) -> u64 {
        self.preview.tally.changes + self.preview.tally.fails
    }

    /// Returns whether any object is not as it should be.
    pub(super) fn has_drift(&self) -> bool {
        self.drifted() > 0
    }

    /// Returns whether any object could not be read.
    pub(super) fn has_unreadable(&self) -> bool {
        self.preview.tally.unknown + self.preview.tally.unlistable.count > 0
    }

    fn is_exact(&self) -> bool {
        self.preview.tally.share(0, self.preview.frozen.rows()).is_exact()
    }

    fn estimate(&self, found: u64) -> ConfidenceInterval {
        self.preview.tally.share(found, self.preview.frozen.rows()).estimate()
    }

    /// Returns each result and the number of objects that have it. The objects that no request can name are counted, not
    /// estimated.
    fn counts(&self) -> [(&'static str, ConfidenceInterval); 3] {
        let tally = &self.preview.tally;
        let ConfidenceInterval { low, likely, high } = self.estimate(tally.unknown);
        let [low, likely, high] = [low, likely, high].map(|count| count.saturating_add(tally.unlistable.count));
        [
            ("drifted", self.estimate(self.drifted())),
            ("as they should be", self.estimate(tally.unchanged)),
            ("not readable", ConfidenceInterval { low, likely, high }),
        ]
    }

    fn shown_counts(&self) -> impl Iterator<Item = (&'static str, ConfidenceInterval)> {
        let shows_unreadable = self.has_unreadable();
        self.counts().into_iter().filter(move |(word, _)| *word != "not readable" || shows_unreadable)
    }

    /// Returns the headline, such as `1,000 objects: 2 drifted, 998 as they should be`.
    pub(super) fn headline(&self) -> String {
        let about = if self.is_exact() { "" } else { "about " };
        let parts: Vec<_> =
            self.shown_counts().map(|(word, count)| format!("{about}{} {word}", HumanCount(count.likely))).collect();
        format!("{}: {}", format_objects(self.preview.frozen.rows()), parts.join(", "))
    }

    /// Returns the confidence intervals of a sample, or `None` if every object was read.
    fn confidence(&self) -> Option<String> {
        if self.is_exact() {
            return None;
        }
        let range = |(word, ConfidenceInterval { low, high, .. }): (&str, ConfidenceInterval)| {
            format!("{} to {} {word}", HumanCount(low), HumanCount(high))
        };
        let ranges: Vec<_> = self.shown_counts().map(range).collect();
        Some(format!(
            "from a random sample of {} (seed {}), with 95 % confidence: {}",
            HumanCount(self.preview.tally.total()),
            self.preview.options.seed,
            ranges.join(", ")
        ))
    }

    /// Returns what was verified, in one line.
    fn subject(&self) -> String {
        let file = one_line(&path_to_text(&self.target.file));
        match &self.target.job {
            Some(job) => format!("{} (job {job})", self.plan.name),
            None => format!("{} ({file})", self.plan.name),
        }
    }

    fn manifest(&self) -> String {
        let rows = self.preview.frozen.rows();
        format!("{} {}", format_objects(rows), one_line(&describe_source(&self.plan.manifest.source)))
    }

    /// Returns the command to suggest, if something has drifted.
    fn next_command(&self) -> Option<String> {
        if !self.has_drift() {
            return None;
        }
        let (file, flag) = (quote_path(&self.target.file), &self.target.flag);
        Some(match &self.report {
            Some(report) => {
                format!("batchplan retry --report {} --plan {file}{flag}", quote_path(relative_path(report)))
            }
            None => format!("batchplan plan {file}{flag}"),
        })
    }

    /// Returns the whole result as text for a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", escape_line(&self.subject()));
        let _ = writeln!(text, "  store      {}", escape_line(&one_line(&describe_store(&self.plan.store))));
        let _ = writeln!(text, "  objects    {}", escape_line(&self.manifest()));
        for operation in &self.plan.operations {
            let _ = writeln!(text, "  operation  {}", escape_for_terminal(&one_line(&describe_operation(operation))));
        }
        text.push('\n');
        let details = self.examples() + &self.failures() + &self.unreadable();
        if !details.is_empty() {
            let _ = writeln!(text, "{details}");
        }
        let _ = writeln!(text, "{}", AnsiColours(self.colour).bold(&self.headline()));
        if let Some(certainty) = self.confidence() {
            let _ = writeln!(text, "  {certainty}");
        }
        for warning in self.preview.frozen.warnings() {
            let _ = writeln!(text, "warning: {}", escape_line(&warning.to_string()));
            let _ = writeln!(text, "  help: {}", escape_line(&warning.help));
        }
        if let Some(report) = &self.report {
            let _ = writeln!(text, "  report     {}", escape_line(&show_path(relative_path(report)).to_string()));
        }
        if let Some(next) = self.next_command() {
            let _ = writeln!(text, "\nnext: {next}");
        }
        text
    }

    /// Returns some objects that drifted, and how.
    fn examples(&self) -> String {
        let paint = AnsiColours(self.colour);
        let shown = &self.preview.examples.changed;
        let mut text = String::new();
        if !shown.is_empty() {
            text.push_str("  drifted: - as it should be, + as it is\n");
        }
        for prediction in shown {
            let Effect::Changes(expected) = &prediction.effect else { continue };
            let _ = writeln!(text, "  {} {}", paint.yellow("~"), object_name(&prediction.object));
            for line in compare_states(expected, &prediction.before) {
                let _ = writeln!(text, "      {}", paint.diff_line(&line));
            }
        }
        let more = self.preview.tally.changes - shown.len() as u64;
        if more > 0 {
            let scope = if self.is_exact() { "" } else { " in the sample" };
            let _ = writeln!(text, "    ... and {} more{scope}", HumanCount(more));
        }
        text
    }

    /// Returns why objects cannot be as they should be.
    fn failures(&self) -> String {
        let paint = AnsiColours(self.colour);
        let mut text = String::new();
        for (reason, group) in &self.preview.tally.failure_reasons {
            let line = format!("{} drifted: {}", self.group_size(group), failure_reason(reason));
            let _ = writeln!(text, "  {} {}", paint.red("!"), escape_line(&line));
            push_examples(&mut text, group);
            let _ = writeln!(text, "      {}", escape_line(&group.message));
        }
        text
    }

    fn unreadable(&self) -> String {
        let mut text = String::new();
        for (why, group) in &self.preview.tally.unknown_reasons {
            let what = format!("{} not readable: {}", self.group_size(group), unknown_reason(why));
            let _ = writeln!(text, "  ? {}", escape_line(&what));
            push_examples(&mut text, group);
        }
        let unlistable = &self.preview.tally.unlistable;
        if unlistable.count > 0 {
            let what = format!("{} not readable: {}", format_objects(unlistable.count), unlistable.message);
            let _ = writeln!(text, "  ? {}", escape_line(&what));
            push_examples(&mut text, unlistable);
        }
        text
    }

    /// Returns the number of objects in a group, marked if it counts only the sample.
    fn group_size(&self, group: &ReasonGroup) -> String {
        let of = if self.is_exact() { "" } else { " of the sample" };
        format!("{}{of}", format_objects(group.count))
    }

    /// Returns the result as JSON.
    pub(super) fn json(&self) -> Json {
        let (preview, tally) = (self.preview, &self.preview.tally);
        let counts = |ConfidenceInterval { low, likely, high }| json!({ "likely": likely, "low": low, "high": high });
        let [drift, hold, unreadable] = self.counts().map(|(_, count)| counts(count));
        let examples = |group: &ReasonGroup| group.examples.iter().map(object_name_json).collect::<Vec<_>>();
        let failures = tally.failure_reasons.iter().map(|((code, http, operation), group)| {
            json!({
                "code": code, "http": http, "operation": operation, "count": group.count, "message": group.message,
                "examples": examples(group),
            })
        });
        let reasons = tally.unknown_reasons.iter().map(|(why, group)| (why.as_str(), group));
        let unlistable = Some(&tally.unlistable).filter(|group| group.count > 0);
        let reasons = reasons.chain(unlistable.map(|group| (group.message.as_str(), group)));
        let sample = (!self.is_exact()).then(|| json!({ "looked": tally.total(), "seed": preview.options.seed }));
        json!({
            "version": JSON_VERSION,
            "job": self.target.job.as_ref().map(JobId::as_str),
            "plan": { "file": path_to_text(&self.target.file), "name": self.plan.name, "hash": self.plan.hash() },
            "objects": preview.frozen.rows(),
            "exact": self.is_exact(),
            "sample": sample,
            "counts": { "hold": hold, "drift": drift, "unreadable": unreadable },
            "drifted": preview.examples.changed.iter().map(drift_json).collect::<Vec<_>>(),
            "failures": failures.collect::<Vec<_>>(),
            "unreadable": reasons
                .map(|(why, group)| json!({ "reason": why, "count": group.count, "examples": examples(group) }))
                .collect::<Vec<_>>(),
            "server_check": { "state": preview.server_check.as_str() },
            "warnings": preview.frozen.warnings().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "report": self.report.as_deref().map(path_to_text),
        })
    }

    /// Returns the result as Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("### batchplan: verification of {}\n\n", code(&self.plan.name));
        let _ = writeln!(text, "**{}**\n", self.headline());
        if let Some(certainty) = self.confidence() {
            let _ = writeln!(text, "_{certainty}_\n");
        }
        // A Markdown table needs a header, so the first row is the header.
        let _ = match &self.target.job {
            Some(job) => writeln!(text, "| job | {} |\n|:---|:---|", code(job.as_str())),
            None => writeln!(text, "| plan | {} |\n|:---|:---|", code(&one_line(&path_to_text(&self.target.file)))),
        };
        let _ = writeln!(text, "| store | {} |", code(&one_line(&describe_store(&self.plan.store))));
        let _ = writeln!(text, "| objects | {} |", code(&self.manifest()));
        for operation in &self.plan.operations {
            let _ = writeln!(text, "| operation | {} |", code(&one_line(&describe_operation(operation))));
        }
        text.push_str(&self.markdown_reasons());
        let block = FoldedBlock::new("example objects: - as it should be, + as it is", "diff", self.example_lines());
        text.push_str(&block.render(MAX_EXAMPLE_CHARS));
        if let Some(next) = self.next_command() {
            let _ = writeln!(text, "\nnext: {}", code(&next));
        }
        text
    }

    fn markdown_reasons(&self) -> String {
        let tally = &self.preview.tally;
        if tally.failure_reasons.is_empty() && !self.has_unreadable() {
            return String::new();
        }
        let mut text = String::from("\n| objects | why | what to do |\n|---:|---|---|\n");
        for (reason, group) in &tally.failure_reasons {
            let (error, http, _) = reason;
            let help = hint(error, *http).unwrap_or_default();
            let _ = writeln!(text, "| {} | {} | {help} |", self.group_size(group), code(&failure_reason(reason)));
        }
        for (why, group) in &tally.unknown_reasons {
            let _ = writeln!(text, "| {} not readable | {} | |", self.group_size(group), code(unknown_reason(why)));
        }
        if tally.unlistable.count > 0 {
            let size = format_objects(tally.unlistable.count);
            let _ = writeln!(text, "| {size} not readable | {} | |", code(&tally.unlistable.message));
        }
        text
    }

    fn example_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for prediction in &self.preview.examples.changed {
            let Effect::Changes(expected) = &prediction.effect else { continue };
            lines.push(format!("~ {}", object_name(&prediction.object)));
            let differences = compare_states(expected, &prediction.before).into_iter();
            lines.extend(differences.map(|line| format!("{}   {}", line.change.sign(), line.text)));
        }
        lines
    }

    /// Returns the step outputs for later steps of a workflow.
    pub(super) fn step_outputs(&self) -> [(&'static str, String); 4] {
        let [(_, drifted), ..] = self.counts();
        [
            ("job-id", self.target.job.as_ref().map(ToString::to_string).unwrap_or_default()),
            ("total", self.preview.frozen.rows().to_string()),
            ("drifted", drifted.likely.to_string()),
            ("report", self.report.as_deref().map(path_to_text).unwrap_or_default()),
        ]
    }

    /// Returns the drift as webhook notifications describe it.
    pub(super) fn drift_summary(&self) -> DriftSummary {
        let [(_, ConfidenceInterval { low, likely, high }), ..] = self.counts();
        let tally = &self.preview.tally;
        DriftSummary {
            job: self.target.job.clone(),
            name: self.plan.name.clone(),
            plan_file: self.target.file.clone(),
            objects: self.preview.frozen.rows(),
            read: tally.total(),
            drifted: [low, likely, high],
            unreadable: tally.unknown + tally.unlistable.count,
        }
    }
}

fn push_examples(text: &mut String, group: &ReasonGroup) {
    for object in &group.examples {
        let _ = writeln!(text, "      {}", object_name(object));
    }
}

/// Returns one object that drifted as JSON.
fn drift_json(prediction: &Prediction) -> Json {
    let mut object = object_name_json(&prediction.object);
    let expected: Option<&ObjectState> = match &prediction.effect {
        Effect::Changes(expected) => Some(expected),
        _ => None,
    };
    object["expected"] = expected.map_or(Json::Null, object_state_json);
    object["found"] = object_state_json(&prediction.before);
    object
}

/// The completion report of a verification, in a folder: objects that drifted are failed rows.
pub(super) struct DriftReport {
    folder: PathBuf,
    spec: ReportSpec,
    id: JobId,
    operations: String,
    writer: ReportWriter,
}

impl DriftReport {
    /// Starts a report in the format and with the scope that the plan's reports have.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be created, or contains anything.
    pub(super) fn create(folder: &Path, plan: &Plan) -> Result<Self, CommandError> {
        let is_in_use = match fs::read_dir(folder) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(with_path(folder)(error).into()),
        };
        if is_in_use {
            let what = format!("the folder {} already contains something", show_path(folder));
            return Err(CommandError::new(ExitStatus::Refused, what).help("choose a new or an empty folder for --out"));
        }
        let spec = ReportSpec { location: None, ..plan.report.clone() };
        let naming = OperationNaming::for_operations(plan.operations.len());
        let id = JobId::random();
        let writer = ReportWriter::create(folder, &spec, &id, naming, ROTATE_AT)?;
        Ok(Self { folder: folder.to_owned(), spec, id, operations: plan.operations().names(), writer })
    }

    /// Adds an object.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub(super) fn record(&mut self, prediction: &Prediction) -> io::Result<()> {
        let failed = |code: &str, http: u16, operation: &str, message: &str| {
            let error = StoreError::without_response(FaultClass::Rejected, code, message, String::new());
            let error = StoreError { status: Some(http).filter(|http| *http > 0), ..error };
            TaskOutcome::Failed(TaskFailure { operation: operation.to_owned(), error })
        };
        let outcome = match &prediction.effect {
            Effect::Unchanged => TaskOutcome::Succeeded { status: 200 },
            Effect::Changes(expected) => {
                failed(DRIFTED, 0, &self.operations, &describe_drift(expected, &prediction.before))
            }
            Effect::Fails(FailureReason { code, http, operation, message }) => failed(code, *http, operation, message),
            Effect::Unknown(why) => failed(NOT_VERIFIED, 0, &self.operations, why),
        };
        self.writer.record(&prediction.object, &outcome)
    }

    /// Completes the report. Returns the path of its `manifest.json`.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub(super) fn finish(self) -> io::Result<PathBuf> {
        let segments = self.writer.finish()?;
        FinishedReport::new(&self.spec, &self.id, Timestamp::now(), segments).save(&self.folder)?;
        Ok(self.folder.join(MANIFEST_NAME))
    }
}

/// Describes how an object differs from how it should be, in one line.
fn describe_drift(expected: &ObjectState, found: &ObjectState) -> String {
    let lines = compare_states(expected, found);
    let of = |change: LineChange| {
        let texts: Vec<_> =
            lines.iter().filter(|line| line.change == change).map(|line| one_line(&line.text)).collect();
        if texts.is_empty() { "nothing more".to_owned() } else { texts.join(", ") }
    };
    format!("expected {}; found {}", of(LineChange::Removed), of(LineChange::Added))
}

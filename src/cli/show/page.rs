//! A job as text for a terminal.

use std::fmt::{Display, Write as _};

use indicatif::HumanCount;

use super::ShowOptions;
use crate::cli::recurring::describe_job_scope;
use crate::cli::shown_command::next_command;
use crate::cli::summary;
use crate::cli::timestamps::format_instant;
use crate::jobs::{JobDescription, JobPresence, ReportState, hint};
use crate::journal::{FailureCode, FailureGroup, JobRecord, JobSource};

/// Returns the page, without a line break at its end. The caller must escape it before printing.
pub(super) fn render(description: &JobDescription, style: &ShowOptions) -> String {
    let mut page = JobPage(format!("job {} is {}", description.job.id, status_text(description)));
    status_rows(&mut page, description);
    plan_rows(&mut page, description);
    result_rows(&mut page, description);
    failure_rows(&mut page, &description.failures, style.examples);
    if let Some(next) = next_command(&description.job, &description.presence, &description.folder, &style.state_flag) {
        let _ = write!(page.0, "\nnext: {next}");
    }
    page.0
}

/// The width of the label column.
const LABEL_WIDTH: usize = 15;

/// Lines that consist of a label and a value.
struct JobPage(String);

impl JobPage {
    /// Adds a value on one line, so that no part of it can pass for another row.
    fn row(&mut self, label: &str, value: impl Display) {
        let value = value.to_string().replace('\n', "\\n");
        let _ = write!(self.0, "\n  {label:LABEL_WIDTH$}{value}");
    }

    /// Adds a text. The lines of a longer text start with a bar, so that none of them can pass for another row.
    fn text_if(&mut self, label: &str, text: Option<&str>) {
        let mut lines = text.iter().flat_map(|text| text.trim_end().lines()).peekable();
        let Some(first) = lines.next() else { return };
        let bar = if lines.peek().is_some() { "| " } else { "" };
        self.row(label, format_args!("{bar}{first}"));
        for line in lines {
            self.row("", format_args!("{bar}{line}"));
        }
    }

    fn row_if(&mut self, label: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.row(label, value);
        }
    }
}

/// Returns the status, such as `Active` or `Active (interrupted: its process died)`.
fn status_text(description: &JobDescription) -> String {
    let interrupted = " (interrupted: its process died)";
    let more = if description.presence == JobPresence::Interrupted { interrupted } else { "" };
    format!("{}{more}", description.job.status)
}

fn status_rows(page: &mut JobPage, description: &JobDescription) {
    let JobDescription { job, presence, plan, .. } = description;
    page.row("name", &job.name);
    page.text_if("description", job.description.as_deref());
    page.text_if("reason", job.reason.as_deref());
    if let JobPresence::HeldBy(holder) = presence {
        page.row("held by", holder);
    }
    let required = plan.as_ref().is_ok_and(|plan| plan.job.confirmation_required);
    page.row(
        "confirmation",
        match (required, job.confirmed) {
            (false, true) => "not required",
            (true, true) => "required, given",
            (_, false) => "required, not given",
        },
    );
    page.row("priority", job.priority);
    page.row_if("token", job.token.as_ref());
    page.row("created", format_instant(job.created));
    page.row("changed", format_instant(job.changed));
    page.row_if("ended", job.ended.map(format_instant));
}

fn plan_rows(page: &mut JobPage, description: &JobDescription) {
    let JobDescription { job, plan, manifest, .. } = description;
    page.row("plan", job.plan_file.display());
    page.row("plan hash", &job.plan_hash);
    page.row_if("plan error", plan.as_ref().err());
    page.text_if("manifest error", manifest.as_ref().err().map(ToString::to_string).as_deref());
    if let Ok(plan) = plan {
        page.row("store", summary::describe_store(&plan.store));
        page.row_if("manifest", description.source().ok().flatten().as_ref().map(summary::describe_source));
        for operation in &plan.operations {
            page.row("operation", summary::describe_operation(operation));
        }
    }
    match &job.source {
        JobSource::Plan => page.row_if("recurring", describe_job_scope(job)),
        JobSource::Retry { of, unattempted: false } => page.row("retry of", format!("failed objects of {of}")),
        JobSource::Retry { of, unattempted: true } => {
            page.row("retry of", format!("failed and unattempted objects of {of}"));
        }
        JobSource::Report(report) => {
            page.row("retry of", format!("failed objects in the report {}", report.location()));
        }
    }
    for retry in &description.retried_by {
        page.row("retried by", retry);
    }
}

fn result_rows(page: &mut JobPage, description: &JobDescription) {
    let JobRecord { progress, in_doubt, active_time: active, .. } = &description.job;
    page.row("objects", HumanCount(progress.total));
    page.row("succeeded", HumanCount(progress.succeeded));
    page.row("failed", HumanCount(progress.failed));
    page.row("not attempted", HumanCount(description.job.not_attempted()));
    if *in_doubt > 0 {
        let doubt = "each may have been changed without being in the report";
        page.row("in doubt", format!("{}: {doubt}", HumanCount(*in_doubt)));
    }
    if description.was_active() {
        let rate = description.objects_per_second().map_or_else(String::new, |rate| format!(", {rate:.1} objects/s"));
        page.row("active", format!("{:.1} s{rate}", active.as_secs_f64()));
    }
    if let Some(place) = description.report_location() {
        let state = match description.report_state() {
            ReportState::Absent => "",
            ReportState::Open => " (incomplete: the job has not ended)",
            ReportState::Local => " (local only)",
            ReportState::Unpublished => " (not published yet)",
            ReportState::Published => " (published)",
        };
        page.row("report", format!("{place}{state}"));
    }
    page.row("folder", description.folder.path().display());
    for kept in &description.files {
        let files = match kept.files {
            _ if !kept.name.ends_with('/') => String::new(),
            1 => "1 file, ".to_owned(),
            files => format!("{} files, ", HumanCount(files)),
        };
        page.row("", format!("{}  {files}{} bytes", kept.name, HumanCount(kept.bytes)));
    }
}

fn failure_rows(page: &mut JobPage, failures: &[(FailureCode, FailureGroup)], most: usize) {
    for (FailureCode { code, http }, FailureGroup { count, examples }) in failures {
        let status = if *http == 0 { String::new() } else { format!("{http} ") };
        let objects = if *count == 1 { "object" } else { "objects" };
        page.row("failure", format!("{} {objects}: {status}{code}", HumanCount(*count)));
        page.row_if("  hint", hint(code, *http));
        for example in examples.iter().take(most) {
            let object = &example.object;
            let version =
                object.version.as_ref().map_or_else(String::new, |version| format!(" ({})", version.as_str()));
            page.row("  example", format!("{}/{}{version}: {}", object.bucket, object.key, example.message));
        }
    }
}

//! A job as JSON. The help of `batchplan show` documents the format.

use batchplan_store::object::VersionId;
use serde_json::{Value as Json, json};

use super::ShowOptions;
use crate::cli::shown_command::next_command;
use crate::cli::summary;
use crate::jobs::{JobDescription, JobPresence, ReportState, hint};
use crate::journal::{FailureCode, FailureExample, FailureGroup, JobSource};

pub(super) fn render(description: &JobDescription, style: &ShowOptions) -> Json {
    let JobDescription { job, presence, plan, .. } = description;
    let holder = match presence {
        JobPresence::HeldBy(holder) => Some(holder),
        JobPresence::Unattended | JobPresence::Interrupted => None,
    };
    let (origin, retry_of) = origin(&job.source);
    let failures: Vec<_> = description.failures.iter().map(|failure| failure_json(failure, style.examples)).collect();
    let files: Vec<_> = description
        .files
        .iter()
        .map(|kept| json!({ "name": kept.name, "files": kept.files, "bytes": kept.bytes }))
        .collect();
    json!({
        "job_id": job.id.as_str(),
        "name": job.name,
        "description": job.description,
        "status": job.status,
        "reason": job.reason,
        "cause": job.pause_cause,
        "interrupted": *presence == JobPresence::Interrupted,
        "holder": holder,
        "confirmation_required": plan.as_ref().ok().map(|plan| plan.job.confirmation_required),
        "confirmed": job.confirmed,
        "priority": job.priority,
        "token": job.token,
        "created": job.created,
        "changed": job.changed,
        "ended": job.ended,
        "plan_file": job.plan_file.display().to_string(),
        "plan_hash": job.plan_hash,
        "plan_error": plan.as_ref().err().map(ToString::to_string),
        "store": plan.as_ref().ok().map(|plan| summary::describe_store(&plan.store)),
        "manifest": description.source().ok().flatten().as_ref().map(summary::describe_source),
        "operations": plan.as_ref().ok().map(|plan| plan.operations.iter().map(summary::describe_operation).collect::<Vec<_>>()),
        "origin": origin,
        "retry_of": retry_of,
        "retried_by": description.retried_by,
        "total": job.progress.total,
        "succeeded": job.progress.succeeded,
        "failed": job.progress.failed,
        "not_attempted": job.not_attempted(),
        "in_doubt": job.in_doubt,
        "active_seconds": description.was_active().then_some(job.active_time.as_secs_f64()),
        "objects_per_second": description.objects_per_second(),
        "failures": failures,
        "report": description.report_location(),
        "report_state": report_state_name(description.report_state()),
        "report_folder": description.folder.report_folder(),
        "folder": description.folder.path().display().to_string(),
        "files": files,
        "next": next_command(job, presence, &description.folder, &style.state_flag),
    })
}

fn origin(origin: &JobSource) -> (&'static str, Option<String>) {
    match origin {
        JobSource::Plan => ("plan", None),
        JobSource::Retry { of, .. } => ("retry", Some(of.to_string())),
        JobSource::Report(report) => ("report", Some(report.location())),
    }
}

fn failure_json((code, reason): &(FailureCode, FailureGroup), most: usize) -> Json {
    let examples: Vec<_> = reason.examples.iter().take(most).map(example_json).collect();
    json!({
        "code": code.code,
        "http": code.http,
        "count": reason.count,
        "advice": hint(&code.code, code.http),
        "examples": examples,
    })
}

fn example_json(example: &FailureExample) -> Json {
    json!({
        "bucket": example.object.bucket.as_str(),
        "key": example.object.key.encoded(),
        "version": example.object.version.as_ref().map(VersionId::as_str),
        "message": example.message,
    })
}

fn report_state_name(state: ReportState) -> &'static str {
    match state {
        ReportState::Absent => "absent",
        ReportState::Open => "open",
        ReportState::Local => "kept",
        ReportState::Unpublished => "due",
        ReportState::Published => "published",
    }
}

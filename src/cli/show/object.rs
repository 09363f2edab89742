//! A job as JSON. The help of `batchplan show` documents the format.

use serde_json::{Value as Json, json};

use super::Style;
use crate::cli::next::next;
use crate::cli::summary;
use crate::jobs::{Description, Presence, ReportState, advice};
use crate::journal::{ErrorCode, Example, Origin, Reason};
use crate::object::VersionId;

pub(super) fn of(description: &Description, style: &Style) -> Json {
    let Description { job, presence, plan, .. } = description;
    let holder = match presence {
        Presence::Held(holder) => Some(holder),
        Presence::Nobody | Presence::Interrupted => None,
    };
    let (origin, retry_of) = origin(&job.origin);
    let failures: Vec<_> = description.failures.iter().map(|failure| reason(failure, style.examples)).collect();
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
        "cause": job.cause,
        "interrupted": *presence == Presence::Interrupted,
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
        "store": plan.as_ref().ok().map(|plan| summary::store(&plan.store)),
        "manifest": description.source().ok().flatten().as_ref().map(summary::source),
        "operations": plan.as_ref().ok().map(|plan| plan.operations.iter().map(summary::operation).collect::<Vec<_>>()),
        "origin": origin,
        "retry_of": retry_of,
        "retried_by": description.retried_by,
        "total": job.progress.total,
        "succeeded": job.progress.succeeded,
        "failed": job.progress.failed,
        "not_attempted": job.not_attempted(),
        "in_doubt": job.in_doubt,
        "active_seconds": description.was_active().then_some(job.active.as_secs_f64()),
        "objects_per_second": description.objects_per_second(),
        "failures": failures,
        "report": description.report_place(),
        "report_state": state(description.report()),
        "report_folder": description.folder.report(),
        "folder": description.folder.path().display().to_string(),
        "files": files,
        "next": next(job, presence, &description.folder, &style.flag),
    })
}

fn origin(origin: &Origin) -> (&'static str, Option<String>) {
    match origin {
        Origin::Plan => ("plan", None),
        Origin::Retry { of, .. } => ("retry", Some(of.to_string())),
        Origin::Report(report) => ("report", Some(report.place())),
    }
}

fn reason((code, reason): &(ErrorCode, Reason), most: usize) -> Json {
    let examples: Vec<_> = reason.examples.iter().take(most).map(example).collect();
    json!({
        "code": code.code,
        "http": code.http,
        "count": reason.count,
        "advice": advice(&code.code, code.http),
        "examples": examples,
    })
}

fn example(example: &Example) -> Json {
    json!({
        "bucket": example.object.bucket.as_str(),
        "key": example.object.key.encoded(),
        "version": example.object.version.as_ref().map(VersionId::as_str),
        "message": example.message,
    })
}

fn state(state: ReportState) -> &'static str {
    match state {
        ReportState::Absent => "absent",
        ReportState::Open => "open",
        ReportState::Kept => "kept",
        ReportState::Due => "due",
        ReportState::Published => "published",
    }
}

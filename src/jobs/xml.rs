//! Jobs in the XML of OSS Batch Operations: `DescribeJobResult` and `ListJobsResult`.
//!
//! The elements and their order are those of the service's own samples. `RoleArn` is present if the plan names a role,
//! and `StatusUpdateReason` if there is a reason. `JobFailure` says why a job failed, never why objects failed. It has
//! no `FailureCode`, because none of the service's codes applies. Times are whole seconds since 1970.

use std::io;

use jiff::Timestamp;

use super::describe::Description;
use super::error::JobError;
use crate::job::{JobId, JobStatus, Progress};
use crate::journal::JobRecord;
use crate::plan::Plan;
use crate::plan::xml::{Document, document, parent, write_manifest, write_operation, write_report, write_text};

/// Returns a job as a `DescribeJobResult`.
///
/// # Errors
/// Returns an error if this version does not accept the plan of the job.
pub fn describe_job(description: &Description) -> Result<String, XmlError<'_>> {
    let plan = description.plan.as_ref().map_err(XmlError::Plan)?;
    let source = description.source().map_err(XmlError::Plan)?;
    document("DescribeJobResult", |to| {
        parent("Job", to, |to| {
            let job = &description.job;
            before_manifest(job, plan, to)?;
            if let Some(source) = &source {
                write_manifest(source, description.pin(), to)?;
            }
            after_manifest(description, to)
        })
    })
    .map_err(XmlError::Io)
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum XmlError<'a> {
    /// This version does not accept the plan of the job.
    #[error("{0}")]
    Plan(&'a JobError),
    /// Writing to memory failed, which does not happen in practice.
    #[error("{0}")]
    Io(io::Error),
}

fn before_manifest(job: &JobRecord, plan: &Plan, to: &mut Document) -> io::Result<()> {
    write_text("ConfirmationRequired", &plan.job.confirmation_required.to_string(), to)?;
    write_text("CreationTime", &seconds(job.created), to)?;
    parent("FailureReasons", to, |to| failure(job, to))?;
    write_text("JobId", job.id.as_str(), to)?;
    write_operation(&plan.operations, to)?;
    write_report(&plan.report, to)
}

fn after_manifest(description: &Description, to: &mut Document) -> io::Result<()> {
    let job = &description.job;
    if let Some(text) = &job.description {
        write_text("Description", text, to)?;
    }
    write_text("Priority", &job.priority.to_string(), to)?;
    if let Ok(Some(role)) = description.plan.as_ref().map(|plan| &plan.store.role_arn) {
        write_text("RoleArn", role, to)?;
    }
    parent("ProgressSummary", to, |to| {
        let Progress { total, succeeded, failed } = job.progress;
        write_text("NumberOfTasksFailed", &failed.to_string(), to)?;
        write_text("NumberOfTasksSucceeded", &succeeded.to_string(), to)?;
        write_text("TotalNumberOfTasks", &total.to_string(), to)?;
        let active = description.was_active().then(|| job.active.as_secs().to_string());
        parent("Timers", to, |to| write_text("ElapsedTimeInActiveSeconds", active.as_deref().unwrap_or("-1"), to))
    })?;
    write_text("Status", job.status.as_str(), to)?;
    if let Some(reason) = &job.reason {
        write_text("StatusUpdateReason", reason, to)?;
    }
    write_text("TerminationDate", job.ended.map(seconds).as_deref().unwrap_or("-1"), to)
}

/// Writes one element in any case, as the service does.
fn failure(job: &JobRecord, to: &mut Document) -> io::Result<()> {
    match &job.reason {
        Some(reason) if matches!(job.status, JobStatus::Failing | JobStatus::Failed) => {
            parent("JobFailure", to, |to| write_text("FailureReason", reason, to))
        }
        _ => to.create_element("JobFailure").write_empty().map(drop),
    }
}

/// Returns a page of jobs as a `ListJobsResult`; `next` is the token after which the next page starts.
///
/// # Errors
/// Returns an error only if writing to memory fails, which does not happen in practice.
pub fn list_jobs(jobs: &[JobRecord], next: Option<&JobId>) -> io::Result<String> {
    document("ListJobsResult", |to| {
        parent("Jobs", to, |to| {
            jobs.iter().try_for_each(|job| {
                parent("Job", to, |to| {
                    write_text("JobId", job.id.as_str(), to)?;
                    write_text("Status", job.status.as_str(), to)?;
                    write_text("CreationTime", &seconds(job.created), to)
                })
            })
        })?;
        next.map_or(Ok(()), |next| write_text("NextToken", next.as_str(), to))
    })
}

fn seconds(instant: Timestamp) -> String {
    instant.as_second().to_string()
}

//! Jobs in the XML of OSS Batch Operations: `DescribeJobResult` and `ListJobsResult`.
//!
//! The elements and their order are those of the service's own samples. `RoleArn` is present if the plan names a role,
//! and `StatusUpdateReason` if there is a reason. `JobFailure` says why a job failed, never why objects failed. It has
//! no `FailureCode`, because none of the service's codes applies. Times are whole seconds since 1970.

use std::io;

use jiff::Timestamp;

use super::describe::JobDescription;
use super::error::JobError;
use crate::job::{JobId, JobStatus, Progress};
use crate::journal::JobRecord;
use crate::plan::Plan;
use crate::plan::xml::{
    XmlDocument, write_document, write_manifest, write_operation, write_parent, write_report, write_text,
};

/// Returns a job as a `DescribeJobResult`.
///
/// # Errors
/// Returns an error if this version does not accept the plan of the job.
pub fn describe_job(description: &JobDescription) -> Result<String, JobXmlError<'_>> {
    let plan = description.plan.as_ref().map_err(JobXmlError::Plan)?;
    let source = description.source().map_err(JobXmlError::Plan)?;
    write_document("DescribeJobResult", |to| {
        write_parent("Job", to, |to| {
            let job = &description.job;
            write_before_manifest(job, plan, to)?;
            if let Some(source) = &source {
                write_manifest(source, description.pin(), to)?;
            }
            write_after_manifest(description, to)
        })
    })
    .map_err(JobXmlError::Io)
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum JobXmlError<'a> {
    /// This version does not accept the plan of the job.
    #[error("{0}")]
    Plan(&'a JobError),
    /// Writing to memory failed, which does not happen in practice.
    #[error("{0}")]
    Io(io::Error),
}

fn write_before_manifest(job: &JobRecord, plan: &Plan, to: &mut XmlDocument) -> io::Result<()> {
    write_text("ConfirmationRequired", &plan.job.confirmation_required.to_string(), to)?;
    write_text("CreationTime", &unix_seconds(job.created), to)?;
    write_parent("FailureReasons", to, |to| write_failure(job, to))?;
    write_text("JobId", job.id.as_str(), to)?;
    write_operation(&plan.operations, to)?;
    write_report(&plan.report, to)
}

fn write_after_manifest(description: &JobDescription, to: &mut XmlDocument) -> io::Result<()> {
    let job = &description.job;
    if let Some(text) = &job.description {
        write_text("Description", text, to)?;
    }
    write_text("Priority", &job.priority.to_string(), to)?;
    if let Ok(Some(role)) = description.plan.as_ref().map(|plan| &plan.store.role_arn) {
        write_text("RoleArn", role, to)?;
    }
    write_parent("ProgressSummary", to, |to| {
        let Progress { total, succeeded, failed, .. } = job.progress;
        write_text("NumberOfTasksFailed", &failed.to_string(), to)?;
        write_text("NumberOfTasksSucceeded", &succeeded.to_string(), to)?;
        write_text("TotalNumberOfTasks", &total.to_string(), to)?;
        let active = description.was_active().then(|| job.active_time.as_secs().to_string());
        write_parent("Timers", to, |to| write_text("ElapsedTimeInActiveSeconds", active.as_deref().unwrap_or("-1"), to))
    })?;
    write_text("Status", job.status.as_str(), to)?;
    if let Some(reason) = &job.reason {
        write_text("StatusUpdateReason", reason, to)?;
    }
    write_text("TerminationDate", job.ended.map(unix_seconds).as_deref().unwrap_or("-1"), to)
}

/// Writes one element in any case, as the service does.
fn write_failure(job: &JobRecord, to: &mut XmlDocument) -> io::Result<()> {
    match &job.reason {
        Some(reason) if matches!(job.status, JobStatus::Failing | JobStatus::Failed) => {
            write_parent("JobFailure", to, |to| write_text("FailureReason", reason, to))
        }
        _ => to.create_element("JobFailure").write_empty().map(drop),
    }
}

/// Returns a page of jobs as a `ListJobsResult`; `next` is the token after which the next page starts.
///
/// # Errors
/// Returns an error only if writing to memory fails, which does not happen in practice.
pub fn list_jobs(jobs: &[JobRecord], next: Option<&JobId>) -> io::Result<String> {
    write_document("ListJobsResult", |to| {
        write_parent("Jobs", to, |to| {
            jobs.iter().try_for_each(|job| {
                write_parent("Job", to, |to| {
                    write_text("JobId", job.id.as_str(), to)?;
                    write_text("Status", job.status.as_str(), to)?;
                    write_text("CreationTime", &unix_seconds(job.created), to)
                })
            })
        })?;
        next.map_or(Ok(()), |next| write_text("NextToken", next.as_str(), to))
    })
}

fn unix_seconds(instant: Timestamp) -> String {
    instant.as_second().to_string()
}

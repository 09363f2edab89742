//! The plan that is stored with a job, and the plan to resume the job with.

use std::path::Path;

use super::error::JobError;
use crate::journal::{JobRecord, JobSource, Journal};
use crate::paths::show_path;
use crate::plan::{self, Plan};

/// Returns the plan that a job was created from. Its ages are evaluated as of the job's creation, or as of the moment
/// the plan was saved.
///
/// # Errors
/// Returns an error if this version does not accept the plan, or if it is not the plan that was stored.
pub fn stored_plan(job: &JobRecord) -> Result<Plan, JobError> {
    let plan = read_plan(job)?;
    if plan.hash() != job.plan_hash {
        let what = "it does not match its recorded hash; the journal may be damaged".to_owned();
        return Err(JobError::StoredPlan { job: job.id.clone(), what });
    }
    Ok(match &job.source {
        JobSource::Undo(undo) => plan.undone(undo.mode()),
        JobSource::Plan | JobSource::Retry { .. } | JobSource::Report(_) => plan,
    })
}

/// Parses the plan text of a job.
fn read_plan(job: &JobRecord) -> Result<Plan, JobError> {
    let folder = job.plan_file.parent().unwrap_or(Path::new(""));
    let as_of = job.manifest_fingerprint.as_ref().map_or(job.created, |fingerprint| fingerprint.as_of);
    let (plan, problems) = plan::read_bytes(&show_path(&job.plan_file).to_string(), &job.plan_text, folder, as_of);
    let Some(mut plan) = plan else {
        let first = problems.iter().find(|problem| !problem.is_warning());
        let what = first.map_or_else(|| "it cannot be read".to_owned(), |problem| problem.title().to_owned());
        return Err(JobError::StoredPlan { job: job.id.clone(), what });
    };
    // The job may have changed objects without it.
    plan.undo.capture &= job.can_capture;
    plan.restore_endpoints(job.store_identity.as_deref(), job.environment_endpoints.as_deref());
    Ok(plan)
}

/// Returns the plan to resume a job with. `text` is the current content of the plan file. If it describes the same
/// work, it is used, and replaces the stored plan. Without `text`, and for saved plans and retries, the stored plan is
/// used.
///
/// # Errors
/// Returns an error if the plan file now describes different work, or if one of the plans is not accepted.
pub fn plan_to_resume(journal: &Journal, job: &JobRecord, text: Option<&[u8]>) -> Result<Plan, JobError> {
    let stored = stored_plan(job)?;
    let uses_stored_plan =
        matches!(job.source, JobSource::Retry { .. } | JobSource::Undo(_)) || job.manifest_fingerprint.is_some();
    let Some(text) = text.filter(|_| !uses_stored_plan) else { return Ok(stored) };
    let renewed = JobRecord { plan_text: text.to_owned(), ..job.clone() };
    let plan = read_plan(&renewed)?;
    if plan.hash() != job.plan_hash {
        let changes = stored.canonical().changes(plan.canonical());
        return Err(JobError::PlanChanged { job: job.id.clone(), changes, token: false, running: false });
    }
    journal.replace_plan(&job.id, text.to_owned(), plan.undo.keep)?;
    Ok(plan)
}

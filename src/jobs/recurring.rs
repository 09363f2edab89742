//! Plans that recur: whether there is anything new for one, and what its next job works on.
//!
//! A job of such a plan is pinned to one inventory when it is made, and to what that is compared with, so that whoever goes
//! on with it works on the same objects. What was done before counts only where it is known for certain: a job that
//! completed, of this very plan, and none of another plan since that has touched anything.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::desk::stored_plan;
use super::error::JobError;
use super::origin::left_by;
use crate::job::{JobId, JobStatus, Progress};
use crate::journal::{Inventory, JobRecord, Journal, JournalError, Origin, Portion, Recurrence};
use crate::manifest::{
    Changes, Filter, Frozen, InventoryObject, ManifestError, Source, Warning, newest as newest_inventory,
};
use crate::plan::{Plan, Recurring};
use crate::store::Store;

/// What there is for a plan that recurs to do.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// To work on this.
    Work(Recurrence),
    /// Nothing: this job of the plan has completed the newest inventory, or one that was newer and is not there any more.
    Nothing {
        /// The inventory that it completed.
        inventory: Inventory,
        /// The newest one, where that is older.
        older: Option<Inventory>,
        /// The job.
        job: JobId,
        /// When that ended.
        ended: Option<jiff::Timestamp>,
    },
}

/// The newest complete inventory of a plan that recurs, and what is worth saying of those that were passed over; `None` for a
/// plan that does not recur.
///
/// # Errors
/// When it cannot be looked for, or there is none.
pub async fn newest(
    plan: &Plan,
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
) -> Result<Option<(Inventory, Vec<Warning>)>, ManifestError> {
    let Source::Inventory { bucket, object: InventoryObject::Latest { prefix }, .. } = &plan.manifest.source else {
        return Ok(None);
    };
    if plan.recurring.is_none() {
        return Ok(None);
    }
    let (pin, warnings) = newest_inventory(bucket, prefix, store, stop).await?;
    Ok(Inventory::of(&pin).map(|inventory| (inventory, warnings)))
}

/// What there is to do for a plan, now that this is the newest inventory. Without a journal nothing was ever done.
///
/// # Errors
/// When the journal cannot be read.
pub fn due(plan: &Plan, inventory: Inventory, journal: Option<&Journal>) -> Result<Due, JobError> {
    let jobs = journal.map(|journal| journal.all_of(&plan.identity())).transpose()?.unwrap_or_default();
    let last = last_done(&jobs, &plan.hash());
    if let Last::Done { job, inventory: Some(before) } = &last
        && (before.is_same(&inventory) || before.is_later(&inventory))
    {
        let older = if before.is_same(&inventory) { None } else { Some(inventory) };
        return Ok(Due::Nothing { inventory: Inventory::clone(before), older, job: job.id.clone(), ended: job.ended });
    }
    let only_changed = plan.recurring.is_some_and(|Recurring { only_changed }| only_changed);
    let portion = match last {
        _ if !only_changed => Portion::All,
        Last::Nothing => Portion::First,
        Last::Other(job) => Portion::PlanChanged(job.id.clone()),
        Last::Done { job, inventory: None } => Portion::Unrecorded(job.id.clone()),
        Last::Done { job, inventory: Some(before) } => {
            Portion::Since { job: job.id.clone(), inventory: before.clone() }
        }
    };
    Ok(Due::Work(Recurrence { inventory, portion }))
}

/// What was done last for a plan.
enum Last<'a> {
    /// Nothing, as far as is known.
    Nothing,
    /// Another plan under the same name has touched objects.
    Other(&'a JobRecord),
    /// This job has completed.
    Done { job: &'a JobRecord, inventory: Option<&'a Inventory> },
}

/// Looks through the jobs of a work, newest first.
fn last_done<'a>(jobs: &'a [JobRecord], hash: &str) -> Last<'a> {
    for job in jobs.iter().filter(|job| job.origin == Origin::Plan) {
        let Progress { total, .. } = job.progress;
        let done = job.status == JobStatus::Complete && total > 0;
        let touched = done || job.progress.settled() > 0 || job.in_doubt > 0;
        // What is in flight is settled nowhere yet.
        let works = matches!(job.status, JobStatus::Active | JobStatus::Pausing);
        if job.plan_hash != hash {
            if touched || works {
                return Last::Other(job);
            }
        } else if job.status == JobStatus::Complete {
            return Last::Done { job, inventory: job.inventory.as_ref() };
        }
    }
    Last::Nothing
}

/// The manifest's source of a job that recurs.
///
/// # Errors
/// When the journal cannot be read.
pub fn source(recurrence: &Recurrence, journal: Option<&Journal>, plan: &Plan) -> Result<Source, JobError> {
    let Source::Inventory { dialect, .. } = &plan.manifest.source else { return Ok(plan.manifest.source.clone()) };
    let Recurrence { inventory, portion } = recurrence;
    let (bucket, key) = (inventory.bucket(), inventory.key());
    let object = if let (Portion::Since { job, inventory: before }, Some(journal)) = (portion, journal) {
        let (filter, failed, rest, lost) = match Left::by(journal, job)? {
            Ok(Left { filter, failed, rest }) => (filter, failed, rest, None),
            Err(why) => (Filter::default(), Vec::new(), None, Some(why)),
        };
        InventoryObject::Changed(Box::new(Changes {
            key,
            etag: inventory.etag.clone(),
            since_key: before.key(),
            since_etag: before.etag.clone(),
            since_filter: filter,
            failed,
            rest,
            lost,
        }))
    } else {
        let etag = Some(inventory.etag.clone()).filter(|etag| !etag.is_empty());
        InventoryObject::Exact { key, etag }
    };
    Ok(Source::Inventory { bucket, object, dialect: *dialect })
}

/// What a completed job left.
struct Left {
    /// Its filter, as it was then.
    filter: Filter,
    failed: Vec<crate::manifest::ReportFile>,
    rest: Option<crate::manifest::Rest>,
}

impl Left {
    /// What this job left, or why that is not known any more.
    fn by(journal: &Journal, id: &JobId) -> Result<Result<Self, String>, JobError> {
        let job = match journal.find(id.as_str()) {
            Ok(job) => job,
            Err(JournalError::NoSuchJob(_)) => {
                return Ok(Err(format!("job {id}, which completed the inventory before, is not known any more")));
            }
            Err(error) => return Err(error.into()),
        };
        let plan = match stored_plan(&job) {
            Ok(plan) => plan,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let Progress { failed: count, .. } = job.progress;
        let (failed, rest) = left_by(journal, &job, job.progress.left() > 0, &plan)?;
        if count > 0 && failed.is_empty() {
            return Ok(Err(format!("the {count} objects that failed in job {id} are in no report")));
        }
        Ok(Ok(Self { filter: plan.manifest.filter, failed, rest }))
    }
}

/// Notes which inventory a job of a plan was made from, where it was from one.
pub(super) fn note_inventory(journal: &Journal, job: &JobRecord, frozen: &Frozen) -> Result<(), JobError> {
    match Inventory::of(frozen.pin()).filter(|_| job.origin == Origin::Plan) {
        Some(inventory) => Ok(journal.set_inventory(&job.id, &inventory)?),
        None => Ok(()),
    }
}

//! Recurring plans: whether there is new work, and which inventories the next job works on.
//!
//! When a job of such a plan is created, it is pinned to one inventory and to the inventory that this one is compared
//! with, so that a resumed job works on the same objects. Earlier work counts only if it is certain: a job of exactly
//! this plan has completed, and no job of another plan of the same name may have changed an object since. The journal's
//! counter decides what came first, never a clock.

use std::sync::Arc;

use batchplan_store::Store;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::error::JobError;
use super::job_lease::JobLease;
use super::stored_plan::stored_plan;
use crate::job::{JobId, JobStatus};
use crate::journal::{
    DeltaScope, JobRecord, JobSource, Journal, JournalError, NamedWorkHistory, PinnedInventory, RecurringScope,
    STILL_ACTIVE,
};
use crate::manifest::{InventorySelector, ManifestError, ManifestSource, ManifestWarning, newest_inventory};
use crate::plan::{Plan, RecurringSettings};

/// What a recurring plan has to do.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DueWork {
    /// There is work for a job.
    Work(RecurringScope),
    /// Nothing: this job of the plan has completed the newest inventory, or a newer one that no longer exists.
    UpToDate {
        /// The inventory that the job completed.
        inventory: PinnedInventory,
        /// The newest inventory, if it is older than that one.
        older: Option<PinnedInventory>,
        /// The job that completed it.
        job: JobId,
        /// When that job ended.
        ended: Option<jiff::Timestamp>,
    },
}

/// Returns the newest complete inventory of a recurring plan, and warnings about those that were skipped. Returns
/// `None` if the plan does not recur.
///
/// # Errors
/// Returns an error if the search fails, or if there is no complete inventory.
pub async fn find_newest(
    plan: &Plan,
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
) -> Result<Option<(PinnedInventory, Vec<ManifestWarning>)>, ManifestError> {
    let ManifestSource::Inventory { bucket, selector: InventorySelector::Latest { prefix }, .. } =
        &plan.manifest.source
    else {
        return Ok(None);
    };
    if plan.recurring.is_none() {
        return Ok(None);
    }
    let (pin, warnings) = newest_inventory(bucket, prefix, store, stop).await?;
    Ok(PinnedInventory::from_pin(&pin).map(|inventory| (inventory, warnings)))
}

/// Returns what a plan has to do; `inventory` is the newest one. Without a journal, nothing was done before.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub fn due_work(plan: &Plan, inventory: PinnedInventory, journal: Option<&Journal>) -> Result<DueWork, JobError> {
    let history = journal.map(|journal| PlanHistory::load(plan, journal)).transpose()?.unwrap_or_default();
    let last = history.last_work();
    if let LastWork::Completed { job, inventory: Some(before) } = &last
        && (before.is_same(&inventory) || before.is_newer(&inventory))
    {
        let older = if before.is_same(&inventory) { None } else { Some(inventory) };
        return Ok(DueWork::UpToDate {
            inventory: PinnedInventory::clone(before),
            older,
            job: job.id.clone(),
            ended: job.ended,
        });
    }
    let only_changed = plan.recurring.is_some_and(|RecurringSettings { only_changed }| only_changed);
    let delta_scope = match last {
        _ if !only_changed => DeltaScope::All,
        LastWork::Unknown => DeltaScope::First,
        LastWork::OtherPlan(job) => DeltaScope::PlanChanged(job.clone()),
        LastWork::Completed { job, inventory: None } => DeltaScope::Unrecorded(job.id.clone()),
        LastWork::Completed { job, inventory: Some(before) } => {
            DeltaScope::Since { job: job.id.clone(), inventory: before.clone() }
        }
    };
    Ok(DueWork::Work(RecurringScope { inventory, delta_scope, as_of: history.as_of }))
}

/// Records for the interrupted jobs of a plan's name that no process works on them: they cannot change anything after
/// this moment. Otherwise an interrupted job that is never resumed would force every later job of another plan to work
/// on all objects.
///
/// # Errors
/// Returns an error if the journal cannot be used.
pub fn record_interrupted(plan: &Plan, journal: &Journal) -> Result<(), JobError> {
    for job in journal.work_history(&plan.name, &plan.store_identity())?.jobs {
        if job.work_span.last_touched != Some(STILL_ACTIVE) || job.status == JobStatus::Cleaning {
            continue;
        }
        match JobLease::acquire(journal, &job.id) {
            Ok(_held) => journal.mark_work_ended(&job.id, Timestamp::now())?,
            Err(JobError::Lease { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns the work on all objects of an inventory, as of now.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub fn whole_inventory(plan: &Plan, inventory: PinnedInventory, journal: &Journal) -> Result<RecurringScope, JobError> {
    let as_of = journal.work_history(&plan.name, &plan.store_identity())?.as_of;
    Ok(RecurringScope { inventory, delta_scope: DeltaScope::All, as_of })
}

/// The last work that counts for a plan.
enum LastWork<'a> {
    /// None, as far as is known.
    Unknown,
    /// A job of another plan of the same name may have changed objects.
    OtherPlan(&'a JobId),
    /// This job of the plan has completed.
    Completed { job: &'a JobRecord, inventory: Option<&'a PinnedInventory> },
}

/// The relevant work that was done under a plan's name on its store.
#[derive(Default)]
struct PlanHistory {
    /// The last completed job of exactly this plan.
    completed: Option<JobRecord>,
    /// Jobs of other plans that may have changed objects, and until when. Retries and deleted jobs are included.
    other_plans: Vec<(JobId, i64)>,
    as_of: i64,
}

impl PlanHistory {
    fn load(plan: &Plan, journal: &Journal) -> Result<Self, JobError> {
        let (identity, store, hash) = (plan.identity(), plan.store_identity(), plan.hash());
        let NamedWorkHistory { jobs, removed_jobs: past, as_of } = journal.work_history(&plan.name, &store)?;
        let is_base = |job: &&JobRecord| {
            job.source == JobSource::Plan
                && job.status == JobStatus::Complete
                && (job.plan_hash == hash && job.identity == identity)
        };
        let done = jobs.iter().find(is_base).cloned();
        let mut others = Vec::new();
        for job in jobs.into_iter().filter(|job| job.plan_hash != hash && job.may_have_changed_objects()) {
            let same_place =
                job.store_identity.is_some() || job.identity == identity || may_have_used_store(&store, &job, journal)?;
            if let Some(until) = job.work_span.last_touched.filter(|_| same_place) {
                others.push((job.id, until));
            }
        }
        let past = past.into_iter().filter(|past| past.plan_hash != hash);
        others.extend(past.map(|past| (past.job, past.last_touched)));
        Ok(Self { completed: done, other_plans: others, as_of })
    }

    /// Returns the last work that counts. An older job may have been resumed, so the time when a job may have worked
    /// decides, not the time of its creation. The completed job covers what happened before its objects were chosen; if
    /// it worked on all objects, it covers what happened before it started.
    fn last_work(&self) -> LastWork<'_> {
        let since = self.completed.as_ref().map_or(0, coverage_end);
        match (self.other_plans.iter().find(|(_, until)| *until > since), &self.completed) {
            (Some((job, _)), _) => LastWork::OtherPlan(job),
            (None, Some(job)) => LastWork::Completed { job, inventory: job.inventory.as_ref() },
            (None, None) => LastWork::Unknown,
        }
    }
}

/// Returns the moment from which a completed job no longer covers the work of other plans.
fn coverage_end(done: &JobRecord) -> i64 {
    match done.delta_scope {
        Some(DeltaScope::Since { .. }) => done.work_span.scope_decided,
        _ => done.work_span.first_active.unwrap_or(done.work_span.scope_decided),
    }
}

/// Returns whether this job alone proves that another plan of its name must work on all objects, not only on those that
/// changed. The proof outlives the job's deletion.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub fn is_only_evidence(journal: &Journal, job: &JobRecord) -> Result<bool, JobError> {
    let work = journal.work_history(&job.name, job.store_identity.as_deref().unwrap_or_default())?;
    let bases = work.jobs.iter().filter(|base| base.status == JobStatus::Complete && base.delta_scope.is_some());
    Ok(bases.into_iter().any(|base| {
        let contradicts = |other: &&JobRecord| {
            let until = other.work_span.last_touched.filter(|_| other.may_have_changed_objects());
            other.plan_hash != base.plan_hash && until.is_some_and(|until| until > coverage_end(base))
        };
        let mut others = work.jobs.iter().filter(contradicts);
        others.next().is_some_and(|other| other.id == job.id) && others.next().is_none()
    }))
}

/// Returns whether a job without a recorded store may have used this one: according to its plan, or because its plan
/// cannot be read.
fn may_have_used_store(store: &str, job: &JobRecord, journal: &Journal) -> Result<bool, JobError> {
    match journal.find(job.id.as_str()) {
        Ok(job) => Ok(stored_plan(&job).map_or(true, |plan| plan.store_identity() == store)),
        // The job is being removed, and its plan is no longer available.
        Err(JournalError::NoSuchJob(_)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Describes what the plan loses if this job is deleted; `None` if it loses nothing.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub fn deletion_cost(journal: &Journal, job: &JobRecord) -> Result<Option<String>, JobError> {
    if job.source != JobSource::Plan || job.status != JobStatus::Complete || job.delta_scope.is_none() {
        return Ok(None);
    }
    let Ok(plan) = stored_plan(job) else { return Ok(None) };
    let history = PlanHistory::load(&plan, journal)?;
    let is_base = matches!(history.last_work(), LastWork::Completed { job: base, .. } if base.id == job.id);
    let inventory = job.inventory.as_ref().filter(|_| is_base).map(PinnedInventory::folder);
    Ok(inventory.map(|inventory| match plan.recurring {
        Some(RecurringSettings { only_changed: true }) => {
            format!("the plan's next job cannot tell what has changed since {inventory}, and processes more objects")
        }
        _ => format!("there is no record that {inventory} was completed, and the plan's next job processes it again"),
    }))
}

#[cfg(test)]
#[path = "recurring_tests.rs"]
mod tests;

//! Recurring plans: whether there is new work, and what the next job works on.
//!
//! When a job of such a plan is created, it is pinned to one inventory and to the inventory that this one is compared
//! with, so that a resumed job works on the same objects. Earlier work counts only if it is certain: a job of exactly
//! this plan has completed, and no job of another plan of the same name may have changed an object since. The journal's
//! counter decides what came first, never a clock.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::desk::{Held, stored_plan};
use super::error::JobError;
use super::origin::left_by;
use crate::job::{JobId, JobStatus, Progress};
use crate::journal::{AT_WORK, Inventory, JobRecord, Journal, JournalError, NamedWork, Origin, Portion, Recurrence};
use crate::manifest::{
    Changes, Filter, Frozen, InventoryObject, ManifestError, Source, Warning, newest as newest_inventory,
};
use crate::plan::{Plan, Recurring};
use crate::store::Store;

/// What a recurring plan has to do.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// There is work for a job.
    Work(Recurrence),
    /// Nothing: this job of the plan has completed the newest inventory, or a newer one that no longer exists.
    Nothing {
        /// The inventory that the job completed.
        inventory: Inventory,
        /// The newest inventory, if it is older than that one.
        older: Option<Inventory>,
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

/// Returns what a plan has to do; `inventory` is the newest one. Without a journal, nothing was done before.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub fn due(plan: &Plan, inventory: Inventory, journal: Option<&Journal>) -> Result<Due, JobError> {
    let history = journal.map(|journal| History::of(plan, journal)).transpose()?.unwrap_or_default();
    let last = history.last_done();
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
        Last::Other(job) => Portion::PlanChanged(job.clone()),
        Last::Done { job, inventory: None } => Portion::Unrecorded(job.id.clone()),
        Last::Done { job, inventory: Some(before) } => {
            Portion::Since { job: job.id.clone(), inventory: before.clone() }
        }
    };
    Ok(Due::Work(Recurrence { inventory, portion, as_of: history.as_of }))
}

/// Records for the interrupted jobs of a plan's name that no process works on them: they cannot change anything after
/// this moment. Otherwise an interrupted job that is never resumed would force every later job of another plan to work
/// on all objects.
///
/// # Errors
/// Returns an error if the journal cannot be used.
pub fn note_interrupted(plan: &Plan, journal: &Journal) -> Result<(), JobError> {
    for job in journal.work_named(&plan.name, &plan.store_identity())?.jobs {
        if job.span.touched != Some(AT_WORK) || job.status == JobStatus::Cleaning {
            continue;
        }
        match Held::take(journal, &job.id) {
            Ok(_held) => journal.work_ended(&job.id, Timestamp::now())?,
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
pub fn whole(plan: &Plan, inventory: Inventory, journal: &Journal) -> Result<Recurrence, JobError> {
    let as_of = journal.work_named(&plan.name, &plan.store_identity())?.as_of;
    Ok(Recurrence { inventory, portion: Portion::All, as_of })
}

/// The last work that counts for a plan.
enum Last<'a> {
    /// None, as far as is known.
    Nothing,
    /// A job of another plan of the same name may have changed objects.
    Other(&'a JobId),
    /// This job of the plan has completed.
    Done { job: &'a JobRecord, inventory: Option<&'a Inventory> },
}

/// The relevant work that was done under a plan's name on its store.
#[derive(Default)]
struct History {
    /// The last completed job of exactly this plan.
    done: Option<JobRecord>,
    /// Jobs of other plans that may have changed objects, and until when. Retries and deleted jobs are included.
    others: Vec<(JobId, i64)>,
    as_of: i64,
}

impl History {
    fn of(plan: &Plan, journal: &Journal) -> Result<Self, JobError> {
        let (identity, store, hash) = (plan.identity(), plan.store_identity(), plan.hash());
        let NamedWork { jobs, past, as_of } = journal.work_named(&plan.name, &store)?;
        let is_base = |job: &&JobRecord| {
            job.origin == Origin::Plan
                && job.status == JobStatus::Complete
                && (job.plan_hash == hash && job.identity == identity)
        };
        let done = jobs.iter().find(is_base).cloned();
        let mut others = Vec::new();
        for job in jobs.into_iter().filter(|job| job.plan_hash != hash && job.may_have_touched()) {
            let same_place = job.store.is_some() || job.identity == identity || may_be_on(&store, &job, journal)?;
            if let Some(until) = job.span.touched.filter(|_| same_place) {
                others.push((job.id, until));
            }
        }
        let past = past.into_iter().filter(|past| past.plan_hash != hash);
        others.extend(past.map(|past| (past.job, past.touched)));
        Ok(Self { done, others, as_of })
    }

    /// Returns the last work that counts. An older job may have been resumed, so the time when a job may have worked
    /// decides, not the time of its creation. The completed job covers what happened before its objects were chosen; if
    /// it worked on all objects, it covers what happened before it started.
    fn last_done(&self) -> Last<'_> {
        let since = self.done.as_ref().map_or(0, valid_from);
        match (self.others.iter().find(|(_, until)| *until > since), &self.done) {
            (Some((job, _)), _) => Last::Other(job),
            (None, Some(job)) => Last::Done { job, inventory: job.inventory.as_ref() },
            (None, None) => Last::Nothing,
        }
    }
}

/// Returns the moment from which a completed job no longer covers the work of other plans.
fn valid_from(done: &JobRecord) -> i64 {
    match done.portion {
        Some(Portion::Since { .. }) => done.span.created,
        _ => done.span.began.unwrap_or(done.span.created),
    }
}

/// Returns whether this job alone proves that another plan of its name must work on all objects, not only on those that
/// changed. The proof outlives the job's deletion.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub fn is_evidence(journal: &Journal, job: &JobRecord) -> Result<bool, JobError> {
    let work = journal.work_named(&job.name, job.store.as_deref().unwrap_or_default())?;
    let bases = work.jobs.iter().filter(|base| base.status == JobStatus::Complete && base.portion.is_some());
    Ok(bases.into_iter().any(|base| {
        let contradicts = |other: &&JobRecord| {
            let until = other.span.touched.filter(|_| other.may_have_touched());
            other.plan_hash != base.plan_hash && until.is_some_and(|until| until > valid_from(base))
        };
        let mut others = work.jobs.iter().filter(contradicts);
        others.next().is_some_and(|other| other.id == job.id) && others.next().is_none()
    }))
}

/// Returns whether a job without a recorded store may have used this one: according to its plan, or because its plan
/// cannot be read.
fn may_be_on(store: &str, job: &JobRecord, journal: &Journal) -> Result<bool, JobError> {
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
pub fn cost_of_forgetting(journal: &Journal, job: &JobRecord) -> Result<Option<String>, JobError> {
    if job.origin != Origin::Plan || job.status != JobStatus::Complete || job.portion.is_none() {
        return Ok(None);
    }
    let Ok(plan) = stored_plan(job) else { return Ok(None) };
    let history = History::of(&plan, journal)?;
    let is_base = matches!(history.last_done(), Last::Done { job: base, .. } if base.id == job.id);
    let inventory = job.inventory.as_ref().filter(|_| is_base).map(Inventory::folder);
    Ok(inventory.map(|inventory| match plan.recurring {
        Some(Recurring { only_changed: true }) => {
            format!(
                "the next job of the plan cannot tell what has changed since {inventory}, and works on more than that"
            )
        }
        _ => format!(
            "there is no record any more that {inventory} was completed, and the plan's next job works on it again"
        ),
    }))
}

/// Returns the manifest source of a recurring job.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub fn source(recurrence: &Recurrence, journal: Option<&Journal>, plan: &Plan) -> Result<Source, JobError> {
    let Source::Inventory { dialect, .. } = &plan.manifest.source else { return Ok(plan.manifest.source.clone()) };
    let Recurrence { inventory, portion, .. } = recurrence;
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
        InventoryObject::Once { key, etag: inventory.etag.clone() }
    };
    Ok(Source::Inventory { bucket, object, dialect: *dialect })
}

/// What a completed job left undone.
struct Left {
    /// The filter of the job's plan at that time.
    filter: Filter,
    failed: Vec<crate::manifest::ReportFile>,
    rest: Option<crate::manifest::Rest>,
}

impl Left {
    /// Returns what this job left undone, or why that is no longer known.
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

/// Records which inventory a plan's job was made from, if it was made from one.
pub(super) fn note_inventory(journal: &Journal, job: &JobRecord, frozen: &Frozen) -> Result<(), JobError> {
    match Inventory::of(frozen.pin()).filter(|_| job.origin == Origin::Plan) {
        Some(inventory) => Ok(journal.set_inventory(&job.id, &inventory)?),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "recurring_tests.rs"]
mod tests;

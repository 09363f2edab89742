//! Plans that recur: whether there is anything new for one, and what its next job works on.
//!
//! A job of such a plan is pinned to one inventory when it is made, and to what that is compared with, so that whoever goes
//! on with it works on the same objects. What was done before counts only where it is known for certain: a job that
//! completed, of this very plan, and none of another plan under its name since that may have touched anything. What came
//! before what is told by the journal's counter, and by no clock.

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

/// The newest complete inventory of a plan that recurs, and what is worth saying of those that were passed over; `None`
/// for a plan that does not recur.
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

/// Notes of interrupted jobs of a plan's name that nobody works on them: what was done before now is done. Otherwise one that
/// is never resumed would have every later job of another plan work on all objects.
///
/// # Errors
/// When the journal cannot be used.
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

/// What all of an inventory is for a plan, as of now.
///
/// # Errors
/// When the journal cannot be read.
pub fn whole(plan: &Plan, inventory: Inventory, journal: &Journal) -> Result<Recurrence, JobError> {
    let as_of = journal.work_named(&plan.name, &plan.store_identity())?.as_of;
    Ok(Recurrence { inventory, portion: Portion::All, as_of })
}

/// What was done last for a plan.
enum Last<'a> {
    /// Nothing, as far as is known.
    Nothing,
    /// A job of another plan under the same name may have touched objects.
    Other(&'a JobId),
    /// This job has completed.
    Done { job: &'a JobRecord, inventory: Option<&'a Inventory> },
}

/// What was done under a plan's name on its store, as far as it matters.
#[derive(Default)]
struct History {
    /// The last job of this very plan that has completed.
    done: Option<JobRecord>,
    /// Jobs of other plans that may have changed objects, and until when: retries and forgotten ones are among them.
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

    /// An older job may have been resumed since: what counts is when it may have worked, and not when it was made. What has
    /// happened since the objects of the completed job were decided need not be part of that; where it took all of them,
    /// since it began.
    fn last_done(&self) -> Last<'_> {
        let since = self.done.as_ref().map_or(0, valid_from);
        match (self.others.iter().find(|(_, until)| *until > since), &self.done) {
            (Some((job, _)), _) => Last::Other(job),
            (None, Some(job)) => Last::Done { job, inventory: job.inventory.as_ref() },
            (None, None) => Last::Nothing,
        }
    }
}

/// From when on what another plan does is not part of what a completed job says.
fn valid_from(done: &JobRecord) -> i64 {
    match done.portion {
        Some(Portion::Since { .. }) => done.span.created,
        _ => done.span.began.unwrap_or(done.span.created),
    }
}

/// Whether a job alone proves that another plan of its name must work on all objects, and not only on what has changed. That
/// stays known when the job is deleted.
///
/// # Errors
/// When the journal cannot be read.
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

/// Whether a job whose store was not recorded may be on this one: its plan says it, or nobody knows.
fn may_be_on(store: &str, job: &JobRecord, journal: &Journal) -> Result<bool, JobError> {
    match journal.find(job.id.as_str()) {
        Ok(job) => Ok(stored_plan(&job).map_or(true, |plan| plan.store_identity() == store)),
        // It is being removed: its plan is not told any more.
        Err(JournalError::NoSuchJob(_)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// What deleting a job costs the plan that it was made of, in words; `None` where it costs nothing.
///
/// # Errors
/// When the journal cannot be read.
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

/// The manifest's source of a job that recurs.
///
/// # Errors
/// When the journal cannot be read.
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

#[cfg(test)]
#[path = "recurring_tests.rs"]
mod tests;

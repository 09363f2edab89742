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
    let jobs = || jobs.iter().filter(|job| job.origin == Origin::Plan);
    let done = jobs().find(|job| job.plan_hash == hash && job.status == JobStatus::Complete);
    // An older job may have been resumed since: what counts is when it worked, and not when it was made.
    let since =
        |job: &JobRecord| done.is_none_or(|done| job.number > done.number || job.changed > done.created || works(job));
    if let Some(other) = jobs().find(|job| job.plan_hash != hash && has_touched(job) && since(job)) {
        return Last::Other(other);
    }
    done.map_or(Last::Nothing, |job| Last::Done { job, inventory: job.inventory.as_ref() })
}

/// Whether a job may have changed an object. What is in flight is settled nowhere yet.
fn has_touched(job: &JobRecord) -> bool {
    job.progress.settled() > 0 || job.in_doubt > 0 || works(job)
}

fn works(job: &JobRecord) -> bool {
    matches!(job.status, JobStatus::Active | JobStatus::Pausing)
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::journal::{Checkpoint, NewJob, Why};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }

    fn inventory(day: u32) -> Inventory {
        let key = format!("daily%2F2026-01-{day:02}T00-00Z%2Fmanifest.json");
        Inventory { bucket: "lists".to_owned(), key, etag: format!("e{day}"), created: None }
    }

    fn plan(rest: &str) -> Plan {
        let text = format!(
            "name = \"p\"\n[store]\nprovider = \"sandbox\"\ndata = \"sb\"\n[manifest.inventory]\nbucket = \"lists\"\n\
             latest = \"daily/\"\n[operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n[recurring]\n\
             only_changed = true\n{rest}"
        );
        let (plan, problems) = crate::plan::read_bytes("p.toml", text.as_bytes(), Path::new("/"), at(0));
        plan.unwrap_or_else(|| panic!("{problems:?}"))
    }

    /// A job of a plan on the inventory of a day, made at this second.
    fn made(journal: &Journal, plan: &Plan, day: u32, second: i64) -> JobId {
        let id = JobId::random();
        let new = NewJob {
            id: id.clone(),
            identity: plan.identity(),
            token: None,
            name: plan.name.clone(),
            description: None,
            origin: Origin::Plan,
            plan_file: "/p.toml".into(),
            plan_hash: plan.hash(),
            plan: Vec::new(),
            confirmed: true,
            priority: 0,
            pledge: None,
            recurrence: Some(Recurrence { inventory: inventory(day), portion: Portion::First }),
        };
        let _ = journal.create(new, true, at(second)).expect("made");
        id
    }

    /// Brings a job along these statuses, with so many objects settled on the way.
    async fn bring(journal: &Journal, id: &JobId, way: &[JobStatus], settled: u64, second: i64) {
        let number = journal.find(id.as_str()).expect("found").number;
        let checkpoint = Checkpoint {
            progress: Progress { total: 10, succeeded: settled, failed: 0 },
            in_doubt: 0,
            active: Duration::ZERO,
            taken: None,
            parts: Vec::new(),
            files: Vec::new(),
            failures: Vec::new(),
        };
        journal.checkpoint(number, checkpoint).await.expect("kept");
        for status in way {
            journal.advance(id, *status, Why::default(), at(second)).expect("moved");
        }
    }

    const WORK: [JobStatus; 3] = [JobStatus::Preparing, JobStatus::Ready, JobStatus::Active];

    fn portion(plan: &Plan, journal: &Journal, day: u32) -> Result<Portion, JobId> {
        match due(plan, inventory(day), Some(journal)).expect("read") {
            Due::Work(Recurrence { inventory: on, portion }) => {
                assert_eq!(on, inventory(day));
                Ok(portion)
            }
            Due::Nothing { job, .. } => Err(job),
        }
    }

    #[tokio::test]
    async fn only_a_completed_job_of_this_very_plan_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path()).expect("a journal");
        let (plan, other) = (plan(""), plan("[manifest.filter]\nexclude = [\"x\"]\n"));
        assert_eq!(
            due(&plan, inventory(1), None).expect("read"),
            Due::Work(Recurrence { inventory: inventory(1), portion: Portion::First })
        );
        // One of another plan that has touched nothing is no change.
        let idle = made(&journal, &other, 1, 1);
        bring(&journal, &idle, &[JobStatus::Cancelling, JobStatus::Cancelled], 0, 2).await;
        assert_eq!(portion(&plan, &journal, 1), Ok(Portion::First));
        let paused = made(&journal, &other, 1, 3);
        bring(&journal, &paused, &[&WORK[..], &[JobStatus::Pausing, JobStatus::Paused]].concat(), 4, 4).await;
        assert_eq!(portion(&plan, &journal, 1), Ok(Portion::PlanChanged(paused.clone())));

        let first = made(&journal, &plan, 1, 5);
        bring(&journal, &first, &WORK, 10, 6).await;
        assert_eq!(portion(&plan, &journal, 2), Ok(Portion::PlanChanged(paused.clone())), "it has not completed");
        bring(&journal, &first, &[JobStatus::Complete], 10, 7).await;
        let since = Ok(Portion::Since { job: first.clone(), inventory: inventory(1) });
        assert_eq!(portion(&plan, &journal, 2), since);
        assert_eq!(portion(&plan, &journal, 1), Err(first.clone()));
        // One that did not complete changes nothing of that, however far it came.
        let failed = made(&journal, &plan, 2, 8);
        bring(&journal, &failed, &[&WORK[..], &[JobStatus::Failing, JobStatus::Failed]].concat(), 5, 9).await;
        assert_eq!(portion(&plan, &journal, 2), since);
        // The older job of the other plan is resumed.
        bring(&journal, &paused, &[JobStatus::Ready, JobStatus::Active], 6, 10).await;
        assert_eq!(portion(&plan, &journal, 2), Ok(Portion::PlanChanged(paused.clone())));
        bring(&journal, &paused, &[JobStatus::Complete], 10, 11).await;
        assert_eq!(portion(&plan, &journal, 2), Ok(Portion::PlanChanged(paused)));
    }
}

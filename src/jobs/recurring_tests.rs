//! Tests of what counts as done for a recurring plan.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::job::Progress;
use crate::journal::{Checkpoint, NewJob, StatusReason};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("an instant")
}

fn inventory(day: u32) -> PinnedInventory {
    let key = format!("daily%2F2026-01-{day:02}T00-00Z%2Fmanifest.json");
    PinnedInventory { bucket: "lists".to_owned(), key, etag: format!("e{day}"), created: None }
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

/// Creates a job of a plan for the inventory of `day`, at this second.
fn made(journal: &Journal, plan: &Plan, day: u32, second: i64) -> JobId {
    let due = due_work(plan, inventory(day), Some(journal)).expect("read");
    let DueWork::Work(recurrence) = due else { panic!("{due:?}") };
    made_of(journal, plan, (JobSource::Plan, plan.identity()), Some(recurrence), second)
}

fn made_of(
    journal: &Journal,
    plan: &Plan,
    (origin, identity): (JobSource, String),
    recurrence: Option<RecurringScope>,
    second: i64,
) -> JobId {
    let id = JobId::random();
    let new = NewJob {
        id: id.clone(),
        identity,
        token: None,
        name: plan.name.clone(),
        store_identity: plan.store_identity(),
        environment_endpoints: None,
        description: None,
        source: origin,
        plan_file: "/p.toml".into(),
        plan_hash: plan.hash(),
        plan_text: Vec::new(),
        confirmed: true,
        priority: 0,
        manifest_fingerprint: None,
        recurrence,
        keep: None,
    };
    let _ = journal.create(new, true, at(second)).expect("made");
    id
}

/// Moves a job through these statuses, with `settled` objects settled on the way.
async fn bring(journal: &Journal, id: &JobId, way: &[JobStatus], settled: u64, second: i64) {
    let number = journal.find(id.as_str()).expect("found").number;
    let checkpoint = Checkpoint {
        progress: Progress { total: 10, succeeded: settled, ..Progress::default() },
        in_doubt: 0,
        maybe_started: 0,
        active_time: Duration::ZERO,
        next_row: None,
        parts: Vec::new(),
        files: Vec::new(),
        failures: Vec::new(),
    };
    journal.record_checkpoint(number, checkpoint).await.expect("recorded");
    for status in way {
        journal.advance(id, *status, StatusReason::default(), at(second)).expect("moved");
    }
}

const WORK: [JobStatus; 3] = [JobStatus::Preparing, JobStatus::Ready, JobStatus::Active];

fn delta_scope(plan: &Plan, journal: &Journal, day: u32) -> Result<DeltaScope, JobId> {
    match due_work(plan, inventory(day), Some(journal)).expect("read") {
        DueWork::Work(RecurringScope { inventory: on, delta_scope, .. }) => {
            assert_eq!(on, inventory(day));
            Ok(delta_scope)
        }
        DueWork::UpToDate { job, .. } => Err(job),
    }
}

#[tokio::test]
async fn only_a_completed_job_of_this_very_plan_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path()).expect("a journal");
    let (plan, other) = (plan(""), plan("[manifest.filter]\nexclude = [\"x\"]\n"));
    assert_eq!(
        due_work(&plan, inventory(1), None).expect("read"),
        DueWork::Work(RecurringScope { inventory: inventory(1), delta_scope: DeltaScope::First, as_of: 0 })
    );
    // A job of another plan that touched no object does not count.
    let idle = made(&journal, &other, 1, 1);
    bring(&journal, &idle, &[JobStatus::Cancelling, JobStatus::Cancelled], 0, 2).await;
    assert_eq!(delta_scope(&plan, &journal, 1), Ok(DeltaScope::First));
    let paused = made(&journal, &other, 1, 3);
    bring(&journal, &paused, &[&WORK[..], &[JobStatus::Pausing, JobStatus::Paused]].concat(), 4, 4).await;
    assert_eq!(delta_scope(&plan, &journal, 1), Ok(DeltaScope::PlanChanged(paused.clone())));

    let first = made(&journal, &plan, 1, 5);
    bring(&journal, &first, &WORK, 10, 6).await;
    assert_eq!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::PlanChanged(paused.clone())), "it has not completed");
    bring(&journal, &first, &[JobStatus::Complete], 10, 7).await;
    let since = Ok(DeltaScope::Since { job: first.clone(), inventory: inventory(1) });
    assert_eq!(delta_scope(&plan, &journal, 2), since);
    assert_eq!(delta_scope(&plan, &journal, 1), Err(first.clone()));
    // However far it came, a job that did not complete does not count.
    let failed = made(&journal, &plan, 2, 8);
    bring(&journal, &failed, &[&WORK[..], &[JobStatus::Failing, JobStatus::Failed]].concat(), 5, 9).await;
    assert_eq!(delta_scope(&plan, &journal, 2), since);
    // The older job of the other plan is resumed.
    bring(&journal, &paused, &[JobStatus::Ready, JobStatus::Active], 6, 10).await;
    assert_eq!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::PlanChanged(paused.clone())));
    bring(&journal, &paused, &[JobStatus::Complete], 10, 11).await;
    assert_eq!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::PlanChanged(paused)));
}

/// Returns a journal in which the plan has completed one day, and the job that did so.
async fn after_a_day(plan: &Plan, other: &Plan) -> (tempfile::TempDir, Journal, JobId) {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path()).expect("a journal");
    let before = made(&journal, other, 1, 1000);
    bring(&journal, &before, &COMPLETE, 10, 1000).await;
    let done = made(&journal, plan, 1, 2000);
    bring(&journal, &done, &COMPLETE, 10, 2000).await;
    assert!(matches!(delta_scope(plan, &journal, 2), Ok(DeltaScope::Since { .. })));
    (folder, journal, done)
}

const COMPLETE: [JobStatus; 4] = [JobStatus::Preparing, JobStatus::Ready, JobStatus::Active, JobStatus::Complete];

fn two_plans() -> (Plan, Plan) {
    (plan(""), plan("[manifest.filter]\nexclude = [\"x\"]\n"))
}

/// The job was killed before its first checkpoint, so it is unknown what it has done.
#[tokio::test]
async fn a_job_that_was_ever_active_counts_whatever_is_recorded_of_it() {
    let (plan, other) = two_plans();
    for end in [&[JobStatus::Cancelling, JobStatus::Cancelled][..], &[JobStatus::Pausing, JobStatus::Paused], &[]] {
        let (_folder, journal, _) = after_a_day(&plan, &other).await;
        let killed = made(&journal, &other, 2, 3000);
        bring(&journal, &killed, &[&WORK[..], end].concat(), 0, 3000).await;
        assert_eq!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::PlanChanged(killed)), "{end:?}");
    }
    // A job without objects has changed none.
    let (_folder, journal, done) = after_a_day(&plan, &other).await;
    let empty = made(&journal, &other, 2, 3000);
    for status in COMPLETE {
        journal.advance(&empty, status, StatusReason::default(), at(3000)).expect("moved");
    }
    assert_eq!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::Since { job: done, inventory: inventory(1) }));
}

#[tokio::test]
async fn the_order_of_work_does_not_depend_on_clocks() {
    let (plan, other) = two_plans();
    let (_folder, journal, _) = after_a_day(&plan, &other).await;
    // By its own clock, one hour and then many years before the other job.
    for second in [2000 - 3600, -1_000_000_000] {
        let later = made(&journal, &other, 2, second);
        bring(&journal, &later, &COMPLETE, 10, second).await;
        assert_eq!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::PlanChanged(later)), "{second}");
        let done = made(&journal, &plan, 2, second);
        bring(&journal, &done, &COMPLETE, 10, second).await;
        // Nothing was done since, whatever the clock says about earlier work.
        assert_eq!(delta_scope(&plan, &journal, 2), Err(done));
    }
}

#[tokio::test]
async fn a_retry_and_a_job_with_a_token_count_as_their_plan() {
    let (plan, other) = two_plans();
    let (of, report) = (
        JobId::random(),
        crate::journal::ReportSource { bucket: None, name: "/r.csv".to_owned(), status: Vec::new(), code: Vec::new() },
    );
    let origins = [
        (JobSource::Retry { of, unattempted: false }, "retry of what failed in X"),
        (JobSource::Report(report), "retry of /r.csv by X, statuses [], codes []"),
        (JobSource::Plan, "[\"token\",\"t\"]"),
    ];
    for (origin, identity) in origins {
        let (_folder, journal, done) = after_a_day(&plan, &other).await;
        // A job of the plan itself is no contradiction, and no base either.
        let own = made_of(&journal, &plan, (origin.clone(), format!("{identity} own")), None, 3000);
        bring(&journal, &own, &COMPLETE, 10, 3000).await;
        assert_eq!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::Since { job: done, inventory: inventory(1) }));
        let job = made_of(&journal, &other, (origin.clone(), identity.to_owned()), None, 3000);
        assert!(matches!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::Since { .. })), "it was never active");
        bring(&journal, &job, &WORK, 0, 3000).await;
        assert_eq!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::PlanChanged(job)), "{origin:?}");
    }
}

#[tokio::test]
async fn evidence_of_other_work_survives_its_job() {
    let (plan, other) = two_plans();
    let (_folder, journal, done) = after_a_day(&plan, &other).await;
    let forget = |id: &JobId| {
        journal.advance(id, JobStatus::Cleaning, StatusReason::default(), at(4000)).expect("moved");
        assert!(
            matches!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::PlanChanged(job)) if job == *id),
            "it is being removed"
        );
        journal.remove_cleaned(id).expect("removed");
    };
    let later = made(&journal, &other, 2, 3000);
    bring(&journal, &later, &[&WORK[..], &[JobStatus::Cancelling, JobStatus::Cancelled]].concat(), 0, 3000).await;
    let seen = journal.find(later.as_str()).expect("found");
    assert!(is_only_evidence(&journal, &seen).expect("read"));
    let seen = journal.find(done.as_str()).expect("found");
    assert!(is_only_evidence(&journal, &seen).expect("read"), "it worked after the other plan had completed");
    forget(&later);
    assert_eq!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::PlanChanged(later.clone())));
    // Jobs of many other plans are deleted as well.
    for number in 0..4 {
        let third = self::plan(&format!("[manifest.filter]\nexclude = [\"y{number}\"]\n"));
        let job = made(&journal, &third, 2, 3000);
        bring(&journal, &job, &COMPLETE, 10, 3000).await;
        forget(&job);
    }
    let past = journal.work_history("p", &plan.store_identity()).expect("read").removed_jobs;
    assert_eq!(past.len(), 2, "{past:?}");
    assert!(matches!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::PlanChanged(_))));
    assert!(matches!(delta_scope(&other, &journal, 2), Ok(DeltaScope::PlanChanged(_))));
    // Once the plan has worked on all objects again, that job is the base.
    let again = made(&journal, &plan, 2, 3000);
    bring(&journal, &again, &COMPLETE, 10, 3000).await;
    assert_eq!(delta_scope(&plan, &journal, 2), Err(again.clone()));
    // Without any job of the name, there is nothing to contradict.
    for job in journal.work_history("p", &plan.store_identity()).expect("read").jobs {
        journal.advance(&job.id, JobStatus::Cleaning, StatusReason::default(), at(4000)).expect("moved");
        journal.remove_cleaned(&job.id).expect("removed");
    }
    assert!(journal.work_history("p", &plan.store_identity()).expect("read").removed_jobs.is_empty());
    assert_eq!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::First));
}

/// Two processes at once: another plan works after it was decided what a job works on, and before that job is created.
#[tokio::test]
async fn what_happens_between_deciding_and_making_a_job_is_not_part_of_it() {
    let (plan, other) = two_plans();
    let (_folder, journal, _) = after_a_day(&plan, &other).await;
    let DueWork::Work(decided) = due_work(&plan, inventory(2), Some(&journal)).expect("read") else {
        panic!("there is work")
    };
    let between = made(&journal, &other, 2, 3000);
    bring(&journal, &between, &COMPLETE, 10, 3000).await;
    let job = made_of(&journal, &plan, (JobSource::Plan, plan.identity()), Some(decided), 4000);
    bring(&journal, &job, &COMPLETE, 10, 4000).await;
    assert_eq!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::PlanChanged(between)));
}

/// A job that was killed and is never resumed does not force each later job to work on all objects.
#[tokio::test]
async fn interrupted_jobs_count_until_recorded_as_interrupted() {
    let (plan, other) = two_plans();
    let (_folder, journal, _) = after_a_day(&plan, &other).await;
    let killed = made(&journal, &other, 2, 3000);
    bring(&journal, &killed, &WORK, 3, 3000).await;
    let held = JobLease::acquire(&journal, &killed).expect("free");
    record_interrupted(&plan, &journal).expect("noted");
    let all = made(&journal, &plan, 2, 4000);
    bring(&journal, &all, &COMPLETE, 10, 4000).await;
    assert_eq!(
        delta_scope(&plan, &journal, 2),
        Ok(DeltaScope::PlanChanged(killed.clone())),
        "it was at work meanwhile"
    );
    drop(held);
    record_interrupted(&plan, &journal).expect("noted");
    let all = made(&journal, &plan, 2, 5000);
    bring(&journal, &all, &COMPLETE, 10, 5000).await;
    assert_eq!(delta_scope(&plan, &journal, 2), Err(all));
    // The job is resumed after all.
    journal.mark_work_resumed(&killed).expect("noted");
    assert_eq!(delta_scope(&plan, &journal, 2), Ok(DeltaScope::PlanChanged(killed)));
}

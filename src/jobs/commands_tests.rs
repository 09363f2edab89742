use std::path::PathBuf;

use jiff::SignedDuration;
use tempfile::TempDir;

use super::*;
use crate::job::{JobStatus, Progress};
use crate::jobs::check_failures_recorded;
use crate::journal::{Checkpoint, JobCreation, JobSource, NewJob, ReportFileRecord};
use crate::report_format::TaskStatus;

fn journal() -> (TempDir, Journal) {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path()).expect("a journal");
    (folder, journal)
}

/// Creates a job, and moves it through these statuses.
fn job(journal: &Journal, way: &[JobStatus]) -> JobId {
    let id = JobId::random();
    let new = NewJob {
        id: id.clone(),
        identity: id.to_string(),
        token: None,
        name: "plan".to_owned(),
        store_identity: String::new(),
        environment_endpoints: None,
        description: None,
        source: JobSource::Plan,
        plan_file: PathBuf::from("/plan.toml"),
        plan_hash: String::new(),
        plan_text: Vec::new(),
        confirmed: false,
        priority: 0,
        manifest_fingerprint: None,
        recurrence: None,
        keep: None,
    };
    assert!(matches!(journal.create(new, false, then()), Ok(JobCreation::Created(_))));
    for status in way {
        journal.advance(&id, *status, StatusReason::default(), then()).expect("a legal move");
    }
    id
}

fn then() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a timestamp")
}

fn days(days: i64) -> Timestamp {
    then() + SignedDuration::from_hours(24 * days)
}

/// Lets days pass, and calls `does` once a week.
fn pass(journal: &Journal, from: i64, to: i64, does: impl Fn(Timestamp)) {
    for day in (from..to).step_by(7).chain([to]) {
        assert!(journal.expired_jobs(days(day)).expect("read").leap.is_none());
        does(days(day));
    }
}

fn status(journal: &Journal, id: &JobId) -> Option<JobStatus> {
    journal.find(id.as_str()).ok().map(|job| job.status)
}

#[test]
fn a_job_may_be_confirmed_wherever_its_preparing_is() {
    let (_folder, journal) = journal();
    let waits = job(&journal, &[Preparing, Suspended]);
    assert_eq!(confirm(&journal, &waits).expect("confirmed").status, Ready);
    for way in [&[][..], &[Preparing]] {
        let early = job(&journal, way);
        assert!(confirm(&journal, &early).expect("confirmed").confirmed);
        // The process that prepares the job read its record before the confirmation.
        if way.is_empty() {
            journal.advance(&early, Preparing, StatusReason::default(), then()).expect("moved");
        }
        journal.advance(&early, Suspended, StatusReason::default(), then()).expect("moved");
        assert_eq!(status(&journal, &early), Some(Ready));
    }
    for way in [&[Preparing, Ready][..], &[Preparing, Ready, Active], &[Failing, Failed], &[Cancelling]] {
        let late = job(&journal, way);
        assert!(matches!(confirm(&journal, &late), Err(JobError::WrongStatus { .. })), "{way:?}");
    }
}

#[test]
fn retention_fails_unconfirmed_jobs_and_deletes_old_ones() {
    let (_folder, journal) = journal();
    let waits = job(&journal, &[Preparing, Suspended]);
    let asked = job(&journal, &[Preparing, Suspended]);
    let over = job(&journal, &[Preparing, Ready, Active, Complete]);
    let unsent = job(&journal, &[Preparing, Ready, Active, Complete]);
    journal.set_report_delivery(&unsent, ReportDelivery::Due, None).expect("set");
    let begun = job(&journal, &[Failing, Failed, Cleaning]);
    let folder = |id: &JobId| JobFolder::of(journal.state_folder(), id).path().to_owned();
    let held =
        FileLease::acquire(JobFolder::create(journal.state_folder(), &asked).expect("made").path()).expect("free");
    let made = JobFolder::create(journal.state_folder(), &over).expect("made");
    std::fs::write(made.path().join("plan.toml"), b"plan").expect("written");
    apply_retention(&journal, days(1)).expect("applied");
    assert_eq!((status(&journal, &waits), status(&journal, &over)), (Some(Suspended), Some(Complete)));
    // A command that only controls a job deletes nothing, and neither does a clock that jumps ahead.
    let leap = apply_retention(&journal, days(100)).expect("applied").expect("noticed");
    assert_eq!(leap.jobs, 3);
    pass(&journal, 1, 31, |now| expire_suspended(&journal, now).expect("applied"));
    assert_eq!((status(&journal, &waits), status(&journal, &over)), (Some(Failed), Some(Complete)));
    assert_eq!(apply_retention(&journal, days(31)).expect("applied"), None);
    assert_eq!(status(&journal, &waits), Some(Failed));
    assert_eq!(status(&journal, &asked), Some(Suspended), "somebody asks for it at this moment");
    assert_eq!((status(&journal, &over), folder(&over).exists()), (None, false));
    assert_eq!(status(&journal, &unsent), Some(Complete), "its report would be lost");
    assert!(!folder(&begun).exists());
    drop(held);
    apply_retention(&journal, days(31)).expect("applied");
    assert_eq!(status(&journal, &asked), Some(Failed));
}

/// Every command runs housekeeping when it starts, so two that start together find the same jobs.
#[test]
fn retention_may_run_several_times_at_once() {
    for _ in 0..2 {
        let (folder, journal) = journal();
        let jobs: Vec<_> = (0..4).map(|_| job(&journal, &[Failing, Failed])).collect();
        pass(&journal, 0, 30, |_| {});
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let journal = Journal::open(folder.path()).expect("opened");
                    apply_retention(&journal, days(31)).expect("applied");
                });
            }
        });
        apply_retention(&journal, days(31)).expect("applied");
        for id in &jobs {
            assert_eq!(status(&journal, id), None);
            assert!(!JobFolder::of(journal.state_folder(), id).path().exists(), "nothing is left of it");
        }
    }
}

/// Another process removed the job after it was listed.
#[test]
fn removing_a_removed_job_succeeds() {
    let (_folder, journal) = journal();
    let id = job(&journal, &[Failing, Failed]);
    let seen = journal.find(id.as_str()).expect("found");
    delete_job(&journal, &id, false).expect("forgotten");
    remove_job(&journal, &seen).expect("it is gone, as it should be");
    assert!(!JobFolder::of(journal.state_folder(), &id).path().exists(), "no folder is left behind");
}

#[test]
fn a_job_is_forgotten_only_when_it_is_over_and_its_report_is_safe() {
    let (_folder, journal) = journal();
    let works = job(&journal, &[Preparing, Ready, Active]);
    assert!(matches!(delete_job(&journal, &works, true), Err(JobError::WrongStatus { .. })));
    let due = job(&journal, &[Failing, Failed]);
    journal.set_report_delivery(&due, ReportDelivery::Due, None).expect("set");
    assert!(matches!(delete_job(&journal, &due, false), Err(JobError::ReportUnpublished(_))));
    delete_job(&journal, &due, true).expect("forgotten");
    assert_eq!(status(&journal, &due), None);
    assert!(matches!(delete_job(&journal, &due, true), Err(JobError::Journal(JournalError::NoSuchJob(_)))));
}

#[tokio::test]
async fn unattended_jobs_are_paused_and_cancelled_at_once() {
    let (_folder, journal) = journal();
    for way in [&[Preparing, Ready][..], &[Preparing, Ready, Active], &[Preparing, Ready, Active, Pausing]] {
        let id = job(&journal, way);
        let Ok(CommandOutcome::Done(paused)) = pause(&journal, &id).await else { panic!("{way:?}") };
        assert_eq!((paused.status, paused.pause_cause, paused.request), (Paused, Some(PauseCause::Person), None));
        let Ok(CommandOutcome::Done(cancelled)) = cancel(&journal, &id, Some("enough".to_owned())).await else {
            panic!("{way:?}")
        };
        assert_eq!((cancelled.status, cancelled.reason.as_deref()), (Cancelled, Some("enough")), "nothing was begun");
        assert!(matches!(pause(&journal, &id).await, Err(JobError::WrongStatus { .. })));
        assert!(matches!(cancel(&journal, &id, None).await, Err(JobError::WrongStatus { .. })));
        assert!(matches!(prioritise(&journal, &id, 1), Err(JobError::WrongStatus { .. })));
    }
}

/// A failure file, sealed or open, with this number of rows.
fn failures(number: u32, rows: u64, sealed: bool) -> ReportFileRecord {
    let (md5, status) = (Some("0".repeat(32)), TaskStatus::Failed);
    let (md5, open_md5) = if sealed { (md5, None) } else { (None, md5) };
    let name = format!("report-{number}.csv");
    ReportFileRecord { number, status, name, bytes: 10 * rows, rows, md5, open_md5, published: false }
}

#[tokio::test]
async fn a_retry_misses_no_failure_that_an_interrupted_end_left_in_an_open_file() {
    let (_folder, journal) = journal();
    for (last, missing) in [(failures(2, 3, true), false), (failures(2, 3, false), true)] {
        // As an earlier version left it whose `delete --force` was killed.
        let id = job(&journal, &[Preparing, Ready, Active, Failing, Failed]);
        let checkpoint = Checkpoint {
            progress: Progress { total: 10, failed: 5, ..Progress::default() },
            in_doubt: 0,
            maybe_started: 0,
            active_time: Duration::ZERO,
            next_row: None,
            parts: Vec::new(),
            files: vec![failures(1, 2, true), last],
            failures: Vec::new(),
        };
        let number = journal.find(id.as_str()).expect("a job").number;
        journal.record_checkpoint(number, checkpoint).await.expect("recorded");
        let job = journal.find(id.as_str()).expect("a job");
        match check_failures_recorded(&journal, &job) {
            Ok(()) => assert!(!missing),
            Err(error) => {
                assert!(missing, "{error}");
                let said = format!("the report of job {id} contains only 2 of the 5 objects that failed");
                assert_eq!(error.to_string(), said);
            }
        }
    }
}

#[test]
fn a_deletion_that_is_killed_leaves_no_job_that_looks_complete() {
    let (_folder, journal) = journal();
    let stuck = job(&journal, &[Preparing, Ready, Active, Failing]);
    let refused = journal.advance_through(&stuck, &[Failed, Active], then());
    assert!(matches!(refused, Err(JournalError::IllegalStatusMove { .. })));
    assert_eq!(status(&journal, &stuck), Some(Failing), "all moves or none");
    advance_to_cleaning(&journal, &stuck).expect("moved");
    assert_eq!(status(&journal, &stuck), None);
}

#[test]
fn a_job_that_cannot_finish_is_deleted_only_by_force() {
    let (_folder, journal) = journal();
    for ending in [Cancelling, Failing] {
        let stuck = job(&journal, &[Preparing, Ready, Active, ending]);
        let refused = delete_job(&journal, &stuck, false).expect_err("it is not over").to_string();
        assert!(refused.contains("--force"), "{refused}");
        let held = JobLease::acquire(&journal, &stuck).expect("nobody holds it");
        assert!(matches!(delete_job(&journal, &stuck, true), Err(JobError::Lease { .. })));
        assert_eq!(status(&journal, &stuck), Some(ending));
        drop(held);
        delete_job(&journal, &stuck, true).expect("forgotten");
        assert_eq!(status(&journal, &stuck), None);
    }
    let works = job(&journal, &[Preparing, Ready, Active]);
    assert!(matches!(delete_job(&journal, &works, true), Err(JobError::WrongStatus { .. })));
}

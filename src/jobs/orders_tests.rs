use std::path::PathBuf;

use jiff::SignedDuration;
use tempfile::TempDir;

use super::*;
use crate::job::JobStatus;
use crate::journal::{Creation, NewJob, Origin};

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
        store: String::new(),
        description: None,
        origin: Origin::Plan,
        plan_file: PathBuf::from("/plan.toml"),
        plan_hash: String::new(),
        plan: Vec::new(),
        confirmed: false,
        priority: 0,
        pledge: None,
        recurrence: None,
    };
    assert!(matches!(journal.create(new, false, then()), Ok(Creation::Created(_))));
    for status in way {
        journal.advance(&id, *status, Why::default(), then()).expect("a legal move");
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
        assert!(journal.outlived(days(day)).expect("read").leap.is_none());
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
            journal.advance(&early, Preparing, Why::default(), then()).expect("moved");
        }
        journal.advance(&early, Suspended, Why::default(), then()).expect("moved");
        assert_eq!(status(&journal, &early), Some(Ready));
    }
    for way in [&[Preparing, Ready][..], &[Preparing, Ready, Active], &[Failing, Failed], &[Cancelling]] {
        let late = job(&journal, way);
        assert!(matches!(confirm(&journal, &late), Err(JobError::NotNow { .. })), "{way:?}");
    }
}

#[test]
fn housekeeping_fails_what_nobody_confirmed_and_forgets_what_is_old() {
    let (_folder, journal) = journal();
    let waits = job(&journal, &[Preparing, Suspended]);
    let asked = job(&journal, &[Preparing, Suspended]);
    let over = job(&journal, &[Preparing, Ready, Active, Complete]);
    let unsent = job(&journal, &[Preparing, Ready, Active, Complete]);
    journal.set_delivery(&unsent, Delivery::Due, None).expect("set");
    let begun = job(&journal, &[Failing, Failed, Cleaning]);
    let folder = |id: &JobId| JobFolder::of(journal.state(), id).path().to_owned();
    let held = Lease::take(JobFolder::create(journal.state(), &asked).expect("made").path()).expect("free");
    JobFolder::create(journal.state(), &over).expect("made").keep_plan(b"plan").expect("written");
    keep_house(&journal, days(1)).expect("kept");
    assert_eq!((status(&journal, &waits), status(&journal, &over)), (Some(Suspended), Some(Complete)));
    // A command that only controls a job deletes nothing, and neither does a clock that jumps ahead.
    let leap = keep_house(&journal, days(100)).expect("kept").expect("noticed");
    assert_eq!(leap.jobs, 3);
    pass(&journal, 1, 31, |now| expire_suspended(&journal, now).expect("kept"));
    assert_eq!((status(&journal, &waits), status(&journal, &over)), (Some(Failed), Some(Complete)));
    assert_eq!(keep_house(&journal, days(31)).expect("kept"), None);
    assert_eq!(status(&journal, &waits), Some(Failed));
    assert_eq!(status(&journal, &asked), Some(Suspended), "somebody asks for it at this moment");
    assert_eq!((status(&journal, &over), folder(&over).exists()), (None, false));
    assert_eq!(status(&journal, &unsent), Some(Complete), "its report would be lost");
    assert!(!folder(&begun).exists());
    drop(held);
    keep_house(&journal, days(31)).expect("kept");
    assert_eq!(status(&journal, &asked), Some(Failed));
}

/// Every command runs housekeeping when it starts, so two that start together find the same jobs.
#[test]
fn several_that_keep_house_at_once_do_not_trip_over_each_other() {
    for _ in 0..2 {
        let (folder, journal) = journal();
        let jobs: Vec<_> = (0..4).map(|_| job(&journal, &[Failing, Failed])).collect();
        pass(&journal, 0, 30, |_| {});
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let journal = Journal::open(folder.path()).expect("opened");
                    keep_house(&journal, days(31)).expect("kept");
                });
            }
        });
        keep_house(&journal, days(31)).expect("kept");
        for id in &jobs {
            assert_eq!(status(&journal, id), None);
            assert!(!JobFolder::of(journal.state(), id).path().exists(), "nothing is left of it");
        }
    }
}

/// Another process removed the job after it was listed.
#[test]
fn what_is_gone_already_was_forgotten() {
    let (_folder, journal) = journal();
    let id = job(&journal, &[Failing, Failed]);
    let seen = journal.find(id.as_str()).expect("found");
    forget(&journal, &id, false).expect("forgotten");
    clean(&journal, &seen).expect("it is gone, as it should be");
    assert!(!JobFolder::of(journal.state(), &id).path().exists(), "no folder is left behind");
}

#[test]
fn a_job_is_forgotten_only_when_it_is_over_and_its_report_is_safe() {
    let (_folder, journal) = journal();
    let works = job(&journal, &[Preparing, Ready, Active]);
    assert!(matches!(forget(&journal, &works, true), Err(JobError::NotNow { .. })));
    let due = job(&journal, &[Failing, Failed]);
    journal.set_delivery(&due, Delivery::Due, None).expect("set");
    assert!(matches!(forget(&journal, &due, false), Err(JobError::Unpublished(_))));
    forget(&journal, &due, true).expect("forgotten");
    assert_eq!(status(&journal, &due), None);
    assert!(matches!(forget(&journal, &due, true), Err(JobError::Journal(JournalError::NoSuchJob(_)))));
}

#[tokio::test]
async fn a_job_that_nobody_works_on_is_paused_and_cancelled_at_once() {
    let (_folder, journal) = journal();
    for way in [&[Preparing, Ready][..], &[Preparing, Ready, Active], &[Preparing, Ready, Active, Pausing]] {
        let id = job(&journal, way);
        let Ok(Ordered::Done(paused)) = pause(&journal, &id).await else { panic!("{way:?}") };
        assert_eq!((paused.status, paused.cause, paused.request), (Paused, Some(PauseCause::Person), None));
        let Ok(Ordered::Done(cancelled)) = cancel(&journal, &id, Some("enough".to_owned())).await else {
            panic!("{way:?}")
        };
        assert_eq!((cancelled.status, cancelled.reason.as_deref()), (Cancelled, Some("enough")), "nothing was begun");
        assert!(matches!(pause(&journal, &id).await, Err(JobError::NotNow { .. })));
        assert!(matches!(cancel(&journal, &id, None).await, Err(JobError::NotNow { .. })));
        assert!(matches!(prioritise(&journal, &id, 1), Err(JobError::NotNow { .. })));
    }
}

#[test]
fn a_job_that_cannot_come_to_its_end_is_forgotten_by_force_and_by_nobody_else() {
    let (_folder, journal) = journal();
    for ending in [Cancelling, Failing] {
        let stuck = job(&journal, &[Preparing, Ready, Active, ending]);
        let refused = forget(&journal, &stuck, false).expect_err("it is not over").to_string();
        assert!(refused.contains("--force"), "{refused}");
        let held = Held::take(&journal, &stuck).expect("nobody holds it");
        assert!(matches!(forget(&journal, &stuck, true), Err(JobError::Lease { .. })));
        assert_eq!(status(&journal, &stuck), Some(ending));
        drop(held);
        forget(&journal, &stuck, true).expect("forgotten");
        assert_eq!(status(&journal, &stuck), None);
    }
    let works = job(&journal, &[Preparing, Ready, Active]);
    assert!(matches!(forget(&journal, &works, true), Err(JobError::NotNow { .. })));
}

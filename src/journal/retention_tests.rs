//! What is deleted, when, and how completely.

use std::time::Duration;

use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use proptest::prelude::*;

use super::super::checkpoint::Checkpoint;
use super::super::jobs::StatusReason;
use super::super::record::{NewJob, ReportDelivery};
use super::super::testing::{create_job, hour, insert_raw, journal, move_to, new_job, some_ids};
use super::super::{
    DeltaScope, FailureCode, FailureExample, FailureGroup, PinnedInventory, RecurringScope, ReportFileRecord,
};
use super::*;
use crate::frontier::PartWatermark;
use crate::job::{JobId, JobStatus, Progress};
use crate::report_format::TaskStatus;

fn ids(jobs: &[JobRecord]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id.clone()).collect()
}

const DAY: i64 = 24;

/// The expired jobs after the clock has advanced to `now` week by week.
fn expired(journal: &Journal, now: Timestamp) -> Vec<JobId> {
    let weeks = (0..).map(|week| hour(7 * DAY * week)).take_while(|then| *then < now);
    for week in weeks {
        journal.expired_jobs(week).expect("read");
    }
    ids(&journal.expired_jobs(now).expect("read").jobs)
}

#[test]
fn a_suspended_job_expires_after_fourteen_days() {
    let (_folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    move_to(&journal, &job.id, JobStatus::Suspended, hour(DAY));
    assert!(expired(&journal, hour(15 * DAY)).is_empty(), "it is counted from when it began to wait");
    assert_eq!(expired(&journal, hour(15 * DAY + 1)), std::slice::from_ref(&job.id));
    let why = || StatusReason::because("nobody came");
    assert!(journal.fail_suspended(&job.id, why(), hour(400)).expect("written"));
    let failed = journal.find(job.id.as_str()).expect("found");
    assert_eq!(
        (failed.status, failed.ended, failed.reason.as_deref()),
        (JobStatus::Failed, Some(hour(400)), Some("nobody came"))
    );
    // A job that was confirmed at the last moment is kept.
    let late = create_job(&journal, new_job("two"));
    move_to(&journal, &late.id, JobStatus::Ready, hour(0));
    assert!(!journal.fail_suspended(&late.id, why(), hour(400)).expect("looked"));
    assert!(!journal.fail_suspended(&JobId::random(), why(), hour(400)).expect("looked"));
    assert_eq!(journal.find(late.id.as_str()).expect("found").status, JobStatus::Ready);
}

#[test]
fn the_last_completed_job_of_work_that_recurs_is_remembered() {
    let (_folder, journal) = journal();
    let recurs = |name: &str| {
        let inventory =
            PinnedInventory { bucket: "b".to_owned(), key: "k".to_owned(), etag: "e".to_owned(), created: None };
        NewJob {
            recurrence: Some(RecurringScope { inventory, delta_scope: DeltaScope::First, as_of: 0 }),
            ..new_job(name)
        }
    };
    let ended = |new: NewJob, status| {
        let job = create_job(&journal, new);
        move_to(&journal, &job.id, status, hour(0));
        job.id
    };
    let first = ended(recurs("one"), JobStatus::Complete);
    let last = ended(recurs("one"), JobStatus::Complete);
    let failed = ended(recurs("one"), JobStatus::Failed);
    let other = ended(new_job("two"), JobStatus::Complete);
    let gone = expired(&journal, hour(100 * DAY));
    assert!(!gone.contains(&last), "{gone:?}");
    assert!([first, failed, other].iter().all(|id| gone.contains(id)) && gone.len() == 3, "{gone:?}");
    let job = journal.find(last.as_str()).expect("found");
    assert_eq!(
        (job.inventory, job.delta_scope),
        (recurs("one").recurrence.map(|it| it.inventory), Some(DeltaScope::First))
    );
}

#[test]
fn an_ended_job_expires_after_thirty_days_once_its_report_is_out() {
    for status in JobStatus::ALL.into_iter().filter(|status| !matches!(status, JobStatus::Suspended)) {
        let (_folder, journal) = journal();
        let job = create_job(&journal, new_job(&status.to_string()));
        move_to(&journal, &job.id, status, hour(0));
        let ended = matches!(status, JobStatus::Complete | JobStatus::Cancelled | JobStatus::Failed);
        let cleaning = status == JobStatus::Cleaning;
        assert_eq!(expired(&journal, hour(30 * DAY)).contains(&job.id), cleaning, "{status}");
        assert_eq!(expired(&journal, hour(30 * DAY + 1)).contains(&job.id), ended || cleaning, "{status}");
        journal.set_report_delivery(&job.id, ReportDelivery::Due, None).expect("set");
        assert_eq!(expired(&journal, hour(60 * DAY)).contains(&job.id), cleaning, "{status} unpublished");
        journal.set_report_delivery(&job.id, ReportDelivery::Done, None).expect("set");
        assert_eq!(expired(&journal, hour(60 * DAY)).contains(&job.id), ended || cleaning, "{status} published");
    }
}

#[test]
fn a_job_is_kept_as_long_as_its_plan_says() {
    let (_folder, journal) = journal();
    let keep = |days: i64| Some(SignedDuration::from_hours(days * DAY));
    let [long, short, changed] = [("long", 90), ("short", 7), ("changed", 7)].map(|(name, days)| {
        let job = create_job(&journal, NewJob { keep: keep(days), ..new_job(name) });
        move_to(&journal, &job.id, JobStatus::Complete, hour(0));
        job.id
    });
    journal.replace_plan(&changed, Vec::new(), keep(60)).expect("replaced");
    let mut gone = expired(&journal, hour(30 * DAY + 1));
    assert_eq!(gone, std::slice::from_ref(&short), "no job is kept for less than thirty days");
    gone = expired(&journal, hour(60 * DAY + 1));
    assert!(gone.contains(&changed) && !gone.contains(&long), "{gone:?}");
    assert!(!expired(&journal, hour(90 * DAY)).contains(&long));
    assert!(expired(&journal, hour(90 * DAY + 1)).contains(&long));
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_old() {
    let (_folder, journal) = journal();
    for (name, status) in [("one", JobStatus::Complete), ("two", JobStatus::Suspended)] {
        let job = create_job(&journal, new_job(name));
        move_to(&journal, &job.id, status, hour(0));
    }
    for now in [hour(-1), hour(-9000 * DAY), Timestamp::UNIX_EPOCH, Timestamp::MIN] {
        let found = journal.expired_jobs(now).expect("read");
        assert!(found.jobs.is_empty() && found.leap.is_none(), "{now}");
    }
    // A job that ends while the clock is set back is not old once the clock is right again.
    let job = create_job(&journal, new_job("three"));
    move_to(&journal, &job.id, JobStatus::Complete, hour(-9000 * DAY));
    assert!(expired(&journal, hour(5 * DAY)).is_empty());
    assert_eq!(expired(&journal, hour(31 * DAY)).len(), 3);
}

#[test]
fn a_clock_that_leaps_makes_nothing_old_until_it_goes_on_from_there() {
    let (_folder, journal) = journal();
    for (name, status) in [("one", JobStatus::Complete), ("two", JobStatus::Suspended)] {
        let job = create_job(&journal, new_job(name));
        move_to(&journal, &job.id, status, hour(0));
    }
    assert!(expired(&journal, hour(1)).is_empty());
    for ahead in [31 * DAY, 9000 * DAY] {
        for now in [hour(ahead), hour(ahead + 1), hour(ahead + 7 * DAY)] {
            let found = journal.expired_jobs(now).expect("read");
            assert!(found.jobs.is_empty(), "{now}");
            assert_eq!(found.leap.map(|leap| leap.jobs), Some(2), "{now}");
        }
        let ahead = SignedDuration::from_hours(ahead);
        assert_eq!(journal.expired_jobs(hour(1) + ahead).expect("read").leap.map(|leap| leap.ahead), Some(ahead));
        // The clock is set right.
        let right = journal.expired_jobs(hour(1)).expect("read");
        assert!(right.jobs.is_empty() && right.leap.is_none());
    }
    // A job that ends meanwhile is not old once the leap is trusted.
    let job = create_job(&journal, new_job("three"));
    move_to(&journal, &job.id, JobStatus::Complete, hour(100 * DAY));
    for day in [100, 104, 107] {
        assert!(journal.expired_jobs(hour(day * DAY)).expect("read").jobs.is_empty(), "{day}");
    }
    assert_eq!(journal.expired_jobs(hour(108 * DAY)).expect("read").jobs.len(), 2);
    assert!(expired(&journal, hour(131 * DAY)).contains(&job.id));
    assert_eq!(journal.expired_jobs(Timestamp::MAX).expect("read").jobs.len(), 3);
}

#[test]
fn ten_thousand_jobs_are_remembered_whatever_was_deleted_between() {
    let (_folder, journal) = journal();
    let most = u32::try_from(MAX_RETAINED_JOBS).expect("small");
    let ids = some_ids(most + 3);
    insert_raw(&journal, ids.clone(), "Complete");
    let mut old: Vec<_> = expired(&journal, hour(1)).iter().map(ToString::to_string).collect();
    old.sort();
    assert_eq!(old, ids[..3]);
    // Removed jobs make room for others.
    for id in &ids[5..8] {
        let id = id.parse().expect("an id");
        journal.advance(&id, JobStatus::Cleaning, StatusReason::default(), hour(1)).expect("moved");
        journal.remove_cleaned(&id).expect("removed");
    }
    assert!(expired(&journal, hour(1)).is_empty());
}

#[tokio::test]
async fn a_removed_job_leaves_nothing_behind() {
    let (_folder, journal) = journal();
    let (job, other) = (create_job(&journal, new_job("one")), create_job(&journal, new_job("two")));
    for job in [&job, &other] {
        let object = ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from("k"), version: None };
        let example = FailureExample { object, message: "no".to_owned() };
        let checkpoint = Checkpoint {
            progress: Progress::default(),
            in_doubt: 0,
            maybe_started: 0,
            active_time: Duration::ZERO,
            next_row: None,
            parts: vec![PartWatermark { part: 0, low: 64, above_bits: Vec::new() }],
            files: vec![ReportFileRecord {
                number: 0,
                status: TaskStatus::Failed,
                name: "failed-0.csv".to_owned(),
                bytes: 1,
                rows: 1,
                md5: None,
                open_md5: None,
                published: false,
            }],
            failures: vec![(
                FailureCode { code: "AccessDenied".to_owned(), http: 403 },
                FailureGroup { count: 1, examples: vec![example] },
            )],
        };
        journal.record_checkpoint(job.number, checkpoint).await.expect("recorded");
    }
    assert!(matches!(journal.remove_cleaned(&job.id), Err(JournalError::NoSuchJob(_))), "it was not cleaned");
    move_to(&journal, &job.id, JobStatus::Cleaning, hour(0));
    journal.remove_cleaned(&job.id).expect("removed");
    let rows = |table: &'static str| {
        let count = format!("SELECT count(*) FROM {table}");
        journal
            .run_blocking(move |connection| Ok(connection.query_row(&count, [], |row| row.get::<_, u32>(0))?))
            .expect("read")
    };
    for table in ["job", "frontier", "segment", "failure", "example"] {
        assert_eq!(rows(table), 1, "{table}: the other job's");
    }
    // Numbers are never reused, so a late checkpoint of a removed job cannot reach another job.
    assert!(create_job(&journal, new_job("three")).number > other.number);
}

const DAY_MILLISECONDS: i64 = 86_400_000;

/// The trusted time after the clock has shown all these times, in days.
fn after(days: &[i64]) -> i64 {
    let first = TrustedTime { latest: days[0] * DAY_MILLISECONDS, leap: None };
    days.iter().fold(first, |time, day| time.observe(day * DAY_MILLISECONDS)).latest / DAY_MILLISECONDS
}

#[test]
fn time_passes_in_steps_and_a_leap_is_doubted_until_the_clock_goes_on_from_there() {
    for (said, believed) in [
        (&[0, 1, 2, 3][..], 3),
        (&[0, 7, 14, 22], 22),
        (&[0, 31], 0),
        (&[0, 31, 1], 1),
        (&[0, 31, 32, 33, 38], 0),
        (&[0, 31, 32, 33, 39], 39),
        (&[0, 31, 32, 33, 37, 40], 40),
        (&[0, 31, 5, 12, 31], 12),
        (&[0, 31, 20, 31], 20),
        // Once a month: each leap is trusted a month later.
        (&[0, 30, 60, 90], 60),
        (&[100, 50, 60, 99], 100),
        (&[100, 50, 101], 101),
        (&[100, -20_000, 100], 100),
    ] {
        assert_eq!(after(said), believed, "{said:?}");
    }
}

proptest! {
    #[test]
    fn what_is_believed_never_goes_back_nor_beyond_what_the_clock_has_said(
        said in prop::collection::vec(-1000..1000_i64, 1..40),
    ) {
        let mut time = TrustedTime { latest: said[0] * DAY_MILLISECONDS, leap: None };
        let mut most = said[0];
        for day in said {
            let next = time.observe(day * DAY_MILLISECONDS);
            most = most.max(day);
            prop_assert!(next.latest >= time.latest && next.latest <= most * DAY_MILLISECONDS);
            time = next;
        }
    }

    #[test]
    fn one_reading_alone_never_makes_anything_older_by_more_than_a_leap(
        said in prop::collection::vec(0..30_i64, 1..20), wrong in 31..100_000_i64, place in 1..20_usize,
    ) {
        let mut said: Vec<i64> = said.iter().scan(0, |day, step| { *day += step % 8; Some(*day) }).collect();
        let right = after(&said);
        let last = said[said.len() - 1];
        said.insert(place.min(said.len()), last + wrong);
        prop_assert!(after(&said) <= right);
    }
}

//! How older journals are migrated.

use rusqlite::params;

use super::super::db::{DEFAULT_OPTIONS, JournalOptions};
use super::super::record::STILL_ACTIVE;
use super::super::testing::{hour, some_ids};
use super::super::{JobRecord, Journal, StatusReason};
use super::MIGRATIONS;
use crate::job::JobStatus;

/// A job in a journal without a change counter: its status; when it was created and last moved, in hours; how many of
/// its ten objects were finished; how many were in doubt; and the first row that was not started.
type OldJobRow = (&'static str, i64, i64, u32, u32, Option<u32>);

/// Creates these jobs in an old journal and migrates it.
fn migrated(jobs: &[OldJobRow]) -> (tempfile::TempDir, Journal, Vec<JobRecord>) {
    let folder = tempfile::tempdir().expect("a folder");
    let old = Journal::open_with(folder.path(), JournalOptions { migrations: &MIGRATIONS[..3], ..DEFAULT_OPTIONS })
        .expect("made");
    let jobs: Vec<_> = jobs.iter().copied().zip(some_ids(u32::try_from(jobs.len()).expect("few"))).collect();
    old.run_blocking(move |connection| {
        for ((status, created, changed, settled, in_doubt, taken), id) in jobs {
            connection.execute(
                "INSERT INTO job (id, identity, name, origin, plan_file, plan_hash, plan, status, confirmed, priority, created,
                                  changed, total, succeeded, in_doubt, taken_part, taken_row)
                 VALUES (?1, 'i', 'n', '\"plan\"', '/p', 'h', x'00', ?2, 1, 0, ?3, ?4, 10, ?5, ?6, ?7, ?8)",
                params![
                    id,
                    status,
                    hour(created).as_millisecond(),
                    hour(changed).as_millisecond(),
                    settled,
                    in_doubt,
                    taken.map(|_| 0),
                    taken
                ],
            )?;
        }
        Ok(())
    })
    .expect("inserted");
    drop(old);
    let journal = Journal::open(folder.path()).expect("migrated");
    let mut jobs = journal.work_history("n", "any").expect("read").jobs;
    jobs.reverse();
    (folder, journal, jobs)
}

#[test]
fn what_older_jobs_did_is_put_in_the_order_that_their_clocks_tell() {
    let (_folder, journal, jobs) = migrated(&[
        ("Complete", 0, 1, 10, 0, Some(10)),
        ("Paused", 24, 25, 5, 3, Some(9)),
        ("Complete", 48, 49, 10, 0, Some(10)),
        // Resumed since.
        ("Cancelled", 50, 100, 5, 0, Some(5)),
        ("Complete", 72, 73, 10, 0, Some(10)),
        ("Active", 74, 75, 4, 0, Some(6)),
        ("Suspended", 76, 76, 0, 0, None),
        // Clocks may differ by an hour.
        ("Failed", 77, 77, 1, 0, Some(1)),
        ("Complete", 78, 79, 10, 0, Some(10)),
    ]);
    let after = |job: usize, base: usize| {
        jobs[job].work_span.last_touched.is_some_and(|until| until > jobs[base].work_span.scope_decided)
    };
    assert!(jobs.is_sorted_by_key(|job| job.work_span.scope_decided));
    assert!(!after(0, 2) && !after(1, 2) && !after(2, 4), "they were made when the others had ended");
    assert!(after(3, 4), "it was resumed later");
    assert!(after(7, 8));
    assert_eq!(jobs[5].work_span.last_touched, Some(STILL_ACTIVE));
    assert_eq!((jobs[6].work_span.first_active, jobs[6].work_span.last_touched), (None, None));
    // Later changes come after all of these.
    let moved = journal.advance(&jobs[5].id, JobStatus::Cancelling, StatusReason::default(), hour(0)).expect("moved");
    assert_eq!(moved.work_span.last_touched, Some(STILL_ACTIVE));
    let moved = journal.advance(&jobs[5].id, JobStatus::Cancelled, StatusReason::default(), hour(0)).expect("moved");
    let last = jobs.iter().filter_map(|job| job.work_span.last_touched.filter(|until| *until != STILL_ACTIVE)).max();
    assert!(moved.work_span.last_touched > last && moved.work_span.last_touched < Some(STILL_ACTIVE));
    // Nothing expires before the latest recorded time, whatever the clock shows now.
    assert!(journal.expired_jobs(hour(-1000)).expect("read").jobs.is_empty());
}

#[test]
fn what_an_older_version_did_not_record_of_a_killed_job_is_in_doubt() {
    let (_folder, _journal, jobs) = migrated(&[
        ("Active", 0, 1, 4, 0, Some(6)),
        ("Cancelled", 0, 1, 0, 0, Some(0)),
        ("Cancelled", 0, 1, 4, 2, Some(6)),
        ("Paused", 0, 1, 4, 0, Some(4)),
        ("Cancelled", 0, 1, 0, 0, None),
    ]);
    let doubt: Vec<_> = jobs.iter().map(|job| (job.in_doubt, job.maybe_started, job.not_attempted())).collect();
    assert_eq!(doubt, [(6, 6, 0), (10, 10, 0), (2, 6, 4), (0, 0, 6), (0, 0, 10)]);
}

#[test]
fn a_journal_without_jobs_begins_to_count() {
    let (_folder, journal, jobs) = migrated(&[]);
    assert!(jobs.is_empty());
    let work = journal.work_history("n", "any").expect("read");
    assert_eq!((work.as_of, work.removed_jobs.len()), (0, 0));
    assert!(journal.expired_jobs(hour(0)).expect("read").leap.is_none());
}

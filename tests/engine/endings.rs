//! How a job's work ends: asked to, because too much fails, because the credentials are refused, or because something
//! broke.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use batchplan::engine::{DispatchOutcome, DispatchStart, EngineError, StopReason};
use batchplan::frontier::RowFrontier;
use batchplan::manifest::ManifestError;
use batchplan::operation::Operation;
use batchplan::plan::ExactShare;
use batchplan_store::object::ObjectId;
use batchplan_store::task::{FaultClass, TaskOutcome};

use crate::faulty::{Faults, FaultyStore};
use crate::memory::{MemoryStore, object, refused};
use crate::run::{Notes, Run, objects, put, rows, tags};
use crate::scripted::{Scene, Scripted};
use crate::workers::WEEK;

#[tokio::test(start_paused = true)]
async fn stopping_drains_what_is_in_flight_and_takes_no_more() {
    let store = MemoryStore::with_objects(1000);
    let slow = FaultyStore::new(store.clone(), Faults { latency: Duration::from_secs(2), ..Faults::default() }, 1);
    let run = Run::new(slow, vec![put()]);
    run.stop_after(Duration::from_secs(10));
    let (dispatched, outcomes) = run.through(objects(1000)).await;
    assert!(matches!(dispatched.stop_reason, StopReason::StopRequested), "{:?}", dispatched.stop_reason);
    assert_eq!(dispatched.progress.finished(), outcomes.len() as u64);
    assert_eq!(store.calls().len(), outcomes.len(), "what was sent was drained and recorded");
    assert!(outcomes.len() < 1000);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_drain_in_time_is_abandoned() {
    let store = MemoryStore::with_objects(10);
    let stuck = FaultyStore::new(store, Faults { latency: Duration::from_hours(9000), ..Faults::default() }, 1);
    let run = Run::new(stuck, vec![put()]);
    run.stop_after(Duration::from_secs(1));
    let start = tokio::time::Instant::now();
    let (dispatched, outcomes) = run.through(objects(8)).await;
    assert!(matches!(dispatched.stop_reason, StopReason::StopRequested), "{:?}", dispatched.stop_reason);
    assert_eq!(dispatched.abandoned, 8, "a new job begins with so many at once");
    assert!(outcomes.is_empty());
    let took = start.elapsed();
    assert!((Duration::from_secs(6)..Duration::from_secs(7)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_come_between_an_objects_requests() {
    let store = MemoryStore::with_objects(1000);
    let slow = FaultyStore::new(store.clone(), Faults { latency: Duration::from_secs(2), ..Faults::default() }, 1);
    let mut run = Run::new(slow, vec![Operation::AddTagging(tags(&[("a", "1")])), Operation::Restore(WEEK)]);
    run.stop.grace_period = Duration::from_mins(1);
    run.stop_after(Duration::from_secs(10));
    let (dispatched, outcomes) = run.through(objects(1000)).await;
    assert!(matches!(dispatched.stop_reason, StopReason::StopRequested), "{:?}", dispatched.stop_reason);
    assert_eq!(dispatched.abandoned, 0);
    assert_eq!(store.calls().len(), 3 * outcomes.len(), "each object that was begun was read, tagged and restored");
}

/// A job of a hundred objects, four at a time, each taking a while, and only so many of its rows come.
async fn broken(store: &Arc<MemoryStore>, count: u32, last: Option<ManifestError>, book: Notes) -> DispatchOutcome {
    let slow = FaultyStore::new(store.clone(), Faults { latency: Duration::from_secs(2), ..Faults::default() }, 1);
    let mut run = Run { book, breaks: last, concurrency: 4, ..Run::new(slow, vec![put()]) };
    run.stop.grace_period = Duration::from_mins(1);
    run.go(rows(&objects(count)), 100, DispatchStart::default()).await
}

#[tokio::test(start_paused = true)]
async fn a_report_that_cannot_be_written_stops_the_job_and_what_was_sent_is_counted() {
    let store = MemoryStore::with_objects(100);
    // The disk is full for one row, and then somebody makes room.
    let book = Notes::full_at(9);
    let ended = broken(&store, 100, None, book.clone()).await;
    assert!(matches!(ended.stop_reason, StopReason::InternalError(EngineError::Report(_))), "{ended:?}");
    assert_eq!(ended.abandoned, 1);
    assert_eq!(store.calls().len() as u64, ended.progress.finished() + ended.abandoned);
    assert_eq!(store.calls().len(), 13, "ten, and the three that were in flight with the tenth");
    assert_eq!(book.written().kept.progress, ended.progress, "and that was kept");
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_breaks_leaves_no_object_without_its_outcome() {
    let store = MemoryStore::with_objects(100);
    let book = Notes::new(|_| crate::run::AT_ONCE);
    let ended = broken(&store, 10, Some(ManifestError::Stopped), book.clone()).await;
    assert!(matches!(ended.stop_reason, StopReason::InternalError(EngineError::Manifest(_))), "{ended:?}");
    let outcomes = book.written().outcomes.len() as u64;
    assert_eq!((ended.progress.succeeded, ended.abandoned), (outcomes, 0));
    assert_eq!(store.calls().len() as u64, outcomes, "what was sent was recorded");
}

#[tokio::test(start_paused = true)]
async fn rows_that_never_come_are_an_error_and_no_stop() {
    let store = MemoryStore::with_objects(100);
    let ended = broken(&store, 10, None, Notes::new(|_| crate::run::AT_ONCE)).await;
    assert!(
        matches!(ended.stop_reason, StopReason::InternalError(EngineError::RowsMissing { settled: 10, total: 100 })),
        "{ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_breaks_the_job_and_the_others_are_recorded() {
    let store = MemoryStore::with_objects(100);
    let deadly = Scripted::new(&store, |id| {
        assert_ne!(*id, object("k30"), "in a test");
        Scene::Plays
    });
    let (ended, outcomes) = Run::new(deadly, vec![put()]).through(objects(100)).await;
    assert!(matches!(ended.stop_reason, StopReason::InternalError(EngineError::Worker(_))), "{ended:?}");
    assert_eq!(ended.progress.succeeded, outcomes.len() as u64);
    assert_eq!(store.calls().len(), outcomes.len());
}

/// Refuses objects whose number is one of these.
fn denying(store: &Arc<MemoryStore>, denied: impl Fn(u32) -> bool + Send + Sync + 'static) -> Run {
    let script = move |id: &ObjectId| {
        let number = id.key.as_str().ok().and_then(|key| key.strip_prefix('k')).and_then(|n| n.parse().ok());
        if denied(number.expect("a number")) {
            Scene::Answers(Err(refused(403, "AccessDenied", FaultClass::Rejected)))
        } else {
            Scene::Plays
        }
    };
    Run::new(Scripted::new(store, script), vec![put()])
}

#[tokio::test(start_paused = true)]
async fn a_wrong_role_ends_the_job_after_a_thousand_objects() {
    let store = MemoryStore::with_objects(0);
    let (ended, outcomes) = denying(&store, |_| true).through(objects(50_000)).await;
    assert!(matches!(ended.stop_reason, StopReason::FailureThreshold), "{ended:?}");
    assert!((1000..=1015).contains(&ended.progress.failed), "and what was in flight: {:?}", ended.progress);
    assert_eq!(ended.progress.failed, outcomes.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn more_than_a_fifth_of_a_small_job_ends_it_and_a_fifth_does_not() {
    let store = MemoryStore::with_objects(10);
    let run = denying(&store, |n| n < 3);
    let (ended, outcomes) = Run { concurrency: 1, ..run }.through(objects(10)).await;
    assert!(matches!(ended.stop_reason, StopReason::FailureThreshold), "{ended:?}");
    assert_eq!((ended.progress.failed, outcomes.len()), (3, 3), "nothing more was taken");
    let (ended, _) = denying(&store, |n| n < 2).through(objects(10)).await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
    assert_eq!((ended.progress.succeeded, ended.progress.failed), (8, 2));
}

#[tokio::test(start_paused = true)]
async fn the_object_that_is_one_too_many_may_be_the_last() {
    let store = MemoryStore::with_objects(10);
    let (ended, outcomes) = denying(&store, |n| n > 6).through(objects(10)).await;
    assert!(matches!(ended.stop_reason, StopReason::FailureThreshold), "{ended:?}");
    assert_eq!(outcomes.len(), 10);
    let run = Run { share: ExactShare::percent(100), ..denying(&store, |_| true) };
    let (ended, _) = run.through(objects(2000)).await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "all may fail: {ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_had_failed_too_often_is_not_gone_on_with() {
    let store = MemoryStore::with_objects(10);
    let mut start = DispatchStart::default();
    start.progress.failed = 3;
    let mut frontier = RowFrontier::default();
    for task in rows(&objects(3)) {
        frontier.mark_settled(task.id);
    }
    let ended = Run::new(store.clone(), vec![put()]).resume(&objects(10), DispatchStart { frontier, ..start }).await;
    assert!(matches!(ended.stop_reason, StopReason::FailureThreshold), "{ended:?}");
    assert!(store.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_stop_the_job_and_settle_nothing() {
    let store = MemoryStore::with_objects(1000);
    let expired = Scripted::new(&store, |_| Scene::Answers(Err(refused(400, "ExpiredToken", FaultClass::Credentials))));
    let (ended, outcomes) = Run::new(expired, vec![put()]).through(objects(1000)).await;
    let StopReason::CredentialsRejected(fault) = &ended.stop_reason else { panic!("{ended:?}") };
    assert_eq!((fault.status, fault.code.as_str()), (Some(400), "ExpiredToken"));
    assert!(outcomes.is_empty());
    assert_eq!((ended.progress.finished(), ended.frontier), (0, RowFrontier::default()));
    assert!((1..=16).contains(&ended.abandoned), "{}", ended.abandoned);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_expire_on_the_way_leave_what_was_done_before() {
    let store = MemoryStore::with_objects(1000);
    let sent = AtomicU32::new(0);
    let expiring = Scripted::new(&store, move |_| {
        if sent.fetch_add(1, Ordering::Relaxed) < 100 {
            return Scene::Plays;
        }
        Scene::Answers(Err(refused(400, "ExpiredToken", FaultClass::Credentials)))
    });
    let (ended, outcomes) = Run::new(expiring, vec![put()]).through(objects(1000)).await;
    assert!(matches!(ended.stop_reason, StopReason::CredentialsRejected(_)), "{ended:?}");
    assert_eq!((ended.progress.succeeded, ended.progress.failed, outcomes.len()), (100, 0, 100));
    let settled = rows(&objects(1000)).into_iter().filter(|task| ended.frontier.is_settled(task.id)).count();
    assert_eq!(settled, 100, "what was refused is done again");
}

/// One object at a time; the fourth one's signature is refused, or every one's.
fn mismatching(store: &Arc<MemoryStore>, all: bool) -> Run {
    let script = move |id: &ObjectId| {
        if all || *id == object("k3") {
            Scene::Answers(Err(refused(403, "SignatureDoesNotMatch", FaultClass::Credentials)))
        } else {
            Scene::Plays
        }
    };
    Run { concurrency: 1, ..Run::new(Scripted::new(store, script), vec![put()]) }
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_is_refused_after_others_were_taken_fails_only_the_object() {
    let store = MemoryStore::with_objects(10);
    let (ended, outcomes) = mismatching(&store, false).through(objects(10)).await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
    assert_eq!((ended.progress.succeeded, ended.progress.failed), (9, 1));
    let (id, TaskOutcome::Failed(failure)) = &outcomes[3] else { panic!("{outcomes:?}") };
    assert_eq!((id, failure.error.class), (&object("k3"), FaultClass::Rejected));
    let (ended, outcomes) = mismatching(&store, true).through(objects(10)).await;
    assert!(matches!(ended.stop_reason, StopReason::CredentialsRejected(_)), "none was ever taken: {ended:?}");
    assert!(outcomes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_counts_for_more_is_what_is_told() {
    // It is asked to stop, and what is in flight then meets a full disk.
    let store = MemoryStore::with_objects(100);
    let slow = FaultyStore::new(store, Faults { latency: Duration::from_secs(2), ..Faults::default() }, 1);
    let run = Run { book: Notes::full_at(30), ..Run::new(slow, vec![put()]) };
    let written = run.book.clone();
    let asked = run.stop.requested.clone();
    tokio::spawn(async move {
        while written.written().outcomes.len() < 29 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        asked.cancel();
    });
    let (ended, _) = run.through(objects(100)).await;
    assert!(matches!(ended.stop_reason, StopReason::InternalError(EngineError::Report(_))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_comes_with_the_last_object_finds_the_job_finished() {
    let store = MemoryStore::with_objects(8);
    let slow = FaultyStore::new(store, Faults { latency: Duration::from_secs(2), ..Faults::default() }, 1);
    let run = Run::new(slow, vec![put()]);
    run.stop_after(Duration::from_millis(100));
    // All of them are in flight by then.
    let (ended, outcomes) = run.through(objects(8)).await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
    assert_eq!(outcomes.len(), 8);
}

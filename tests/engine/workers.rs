//! One object's way: what is sent for it, what is looked at, and when it fails.

use std::sync::Arc;
use std::time::Duration;

use batchplan::engine::{JobQuota, Throttle, Worker, WorkerOutcome};
use batchplan::operation::{Operation, OperationSet};
use batchplan_store::Store;
use batchplan_store::backoff::RetryPolicy;
use batchplan_store::object::{ObjectAcl, RestoreRequest, RestoreState, RestoreTier};
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::{FaultClass, Task, TaskId, TaskOutcome};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::faulty::{Faults, FaultyStore};
use crate::memory::{AlwaysConflict, MemoryStore, NoTiers, object};
use crate::run::{put, tags};

pub(crate) const WEEK: RestoreRequest = RestoreRequest { days: Some(7), tier: None };

fn task(key: &str) -> Task {
    Task { id: TaskId { part: 0, row: 0 }, object: object(key), unlistable: None, origin: None }
}

fn worker(store: Arc<dyn Store>, operations: Vec<Operation>) -> Worker {
    let (throttle, stop) = (Throttle::new(JobQuota::new(1, None)), CancellationToken::new());
    Worker::new(store, OperationSet::new(operations), throttle, RetryPolicy::default(), stop)
}

#[tokio::test(start_paused = true)]
async fn a_restore_whose_answer_was_lost_is_looked_at_and_not_sent_again() {
    let store = MemoryStore::with_objects(1);
    let lossy = FaultyStore::new(store.clone(), Faults { lost: 1.0, ..Faults::default() }, 1);
    // The look's own answer is lost as well, so that it is repeated until attempts end; the restore is sent once.
    let worked = worker(lossy, vec![Operation::Restore(WEEK)]).process(&task("k0"), false).await.0;
    assert!(matches!(worked, WorkerOutcome::Finished(TaskOutcome::Failed(_))), "{worked:?}");
    let restores = store.calls().iter().filter(|(_, call)| matches!(call, ObjectRequest::Restore(_))).count();
    assert_eq!(restores, 1);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_on_restore_is_judged_by_one_look() {
    let now = Timestamp::now();
    let days = |n: i64| RestoreState::RestoredUntil(now + SignedDuration::from_hours(24 * n));
    let cases = [
        (RestoreState::InProgress, false, Err("a restore that this job did not request is in progress")),
        (RestoreState::InProgress, true, Ok(())),
        (days(8), false, Ok(())),
        (days(2), false, Err("before the requested 7 days are over")),
        (RestoreState::NotRestored, false, Err("refused")),
    ];
    for (found, asked_before, expected) in cases {
        let store = MemoryStore::with_objects(1);
        store.set_restoration(&object("k0"), found);
        let conflicting = Arc::new(AlwaysConflict(store.clone()));
        let worked = worker(conflicting, vec![Operation::Restore(WEEK)]).process(&task("k0"), asked_before).await.0;
        match (&worked, expected) {
            (WorkerOutcome::Finished(TaskOutcome::Succeeded { status: 200 }), Ok(())) => {}
            (WorkerOutcome::Finished(TaskOutcome::Failed(failure)), Err(why)) => {
                assert!(failure.error.message.contains(why), "{found:?}: {}", failure.error.message);
                assert_eq!(failure.error.status, Some(409));
            }
            _ => panic!("{found:?} {asked_before}: {worked:?}"),
        }
        assert_eq!(store.calls().len(), 1, "one look, {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_is_left_out_for_the_class_that_takes_none_and_for_no_other() {
    let bulk = RestoreRequest { days: Some(7), tier: Some(RestoreTier::Bulk) };
    let store = MemoryStore::with_objects(2);
    store.set_class(&object("k0"), "Archive");
    store.set_class(&object("k1"), "ColdArchive");
    let worker = worker(Arc::new(NoTiers(store.clone())), vec![Operation::Restore(bulk)]);
    let archive = worker.process(&task("k0"), false).await.0;
    assert_eq!(archive, WorkerOutcome::Finished(TaskOutcome::Succeeded { status: 202 }));
    let cold = worker.process(&task("k1"), false).await.0;
    let WorkerOutcome::Finished(TaskOutcome::Failed(failure)) = cold else { panic!("{cold:?}") };
    assert_eq!((failure.error.status, failure.error.code.as_str()), (Some(400), "InvalidArgument"));
    let reached: Vec<_> = store.calls().into_iter().map(|(_, call)| call).collect();
    assert_eq!(reached, [ObjectRequest::Head, ObjectRequest::Restore(WEEK), ObjectRequest::Head]);
}

#[tokio::test(start_paused = true)]
async fn an_eleventh_tag_fails_the_object_before_anything_is_written() {
    let store = MemoryStore::with_objects(0);
    let ten: Vec<_> = (0..10).map(|n| format!("t{n}")).collect();
    store.put(&object("full"), &ten.iter().map(|key| (key.as_str(), "")).collect::<Vec<_>>());
    let add = Operation::AddTagging(tags(&[("eleventh", "")]));
    let worked = worker(store.clone(), vec![add]).process(&task("full"), false).await.0;
    let WorkerOutcome::Finished(TaskOutcome::Failed(failure)) = worked else { panic!("{worked:?}") };
    assert_eq!(failure.error.code, "TooManyTags");
    assert!(store.calls().iter().all(|(_, call)| !call.is_write()));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_throttles_forever_fails_the_object_in_bounded_time() {
    let store = MemoryStore::with_objects(1);
    let throttling = FaultyStore::new(store, Faults { throttled: 1.0, ..Faults::default() }, 1);
    let start = tokio::time::Instant::now();
    let worked = worker(throttling, vec![put()]).process(&task("k0"), false).await.0;
    let WorkerOutcome::Finished(TaskOutcome::Failed(failure)) = worked else { panic!("{worked:?}") };
    assert_eq!((failure.error.status, failure.error.class), (Some(503), FaultClass::Throttled));
    assert!(failure.error.message.contains("sent 10 times"), "{}", failure.error.message);
    assert!(start.elapsed() < Duration::from_mins(4), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_costs_one_timeout_for_each_attempt() {
    let store = MemoryStore::with_objects(1);
    let silent = FaultyStore::new(store, Faults { latency: Duration::from_hours(9000), ..Faults::default() }, 1);
    let worked = worker(silent, vec![put()]).process(&task("k0"), false).await.0;
    let WorkerOutcome::Finished(TaskOutcome::Failed(failure)) = worked else { panic!("{worked:?}") };
    assert_eq!((failure.error.status, failure.error.code.as_str()), (None, "RequestTimeout"));
    assert_eq!(failure.error.request_line, "PUT memory:k0?tagging");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_as_it_should_be_is_only_read_where_that_is_wanted() {
    let store = MemoryStore::with_objects(0);
    store.put(&object("same"), &[("t", "1")]);
    store.put(&object("other"), &[("t", "2")]);
    let operations =
        OperationSet::new(vec![Operation::PutTagging(tags(&[("t", "1")])), Operation::PutAcl(ObjectAcl::Private)])
            .with_skip_unchanged(true);
    let (throttle, stop) = (Throttle::new(JobQuota::new(1, None)), CancellationToken::new());
    let worker = Worker::new(store.clone(), operations, throttle, RetryPolicy::default(), stop);
    for key in ["same", "other"] {
        let outcome = worker.process(&task(key), false).await.0;
        assert_eq!(outcome, WorkerOutcome::Finished(TaskOutcome::Succeeded { status: 200 }), "{key}");
    }
    let written: Vec<_> = store.calls().into_iter().filter(|(_, call)| call.is_write()).collect();
    assert_eq!(written, [(object("other"), ObjectRequest::PutTags(tags(&[("t", "1")])))]);
    assert_eq!(store.calls().len(), 5, "two looks at each, and one write");
}

#[tokio::test(start_paused = true)]
async fn an_object_for_which_nothing_was_sent_has_not_succeeded() {
    let store = MemoryStore::with_objects(1);
    let worked = worker(store.clone(), Vec::new()).process(&task("k0"), false).await.0;
    let WorkerOutcome::Finished(TaskOutcome::Failed(failure)) = worked else { panic!("{worked:?}") };
    assert_eq!((failure.error.code.as_str(), failure.error.class), ("NothingSent", FaultClass::Rejected));
    assert_eq!(store.calls().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_restore_whose_record_was_lost_is_looked_at_before_it_is_asked_for_again() {
    let created = Timestamp::now() - SignedDuration::from_hours(48);
    let holds = RestoreState::RestoredUntil(created + SignedDuration::from_hours(24 * 7));
    let cases = [
        (holds, true, Some(created), 0),
        (RestoreState::InProgress, true, Some(created), 0),
        (RestoreState::NotRestored, true, Some(created), 1),
        // A row that was never taken up, and a job whose record is whole.
        (holds, false, Some(created), 1),
        (holds, true, None, 1),
    ];
    for (found, asked_before, since, expected) in cases {
        let store = MemoryStore::with_objects(1);
        store.set_restoration(&object("k0"), found);
        let looking = worker(store.clone(), vec![Operation::Restore(WEEK)]).checking_restores_since(since);
        let worked = looking.process(&task("k0"), asked_before).await.0;
        let restores = store.calls().iter().filter(|(_, call)| matches!(call, ObjectRequest::Restore(_))).count();
        assert_eq!(restores, expected, "{found:?} {asked_before} {since:?}: {worked:?}");
        if expected == 0 {
            assert!(matches!(worked, WorkerOutcome::Finished(TaskOutcome::Succeeded { .. })), "{worked:?}");
        }
    }
}

//! The engine against stores that behave, and against stores that do not.

#[path = "support/faulty.rs"]
mod faulty;
#[path = "support/memory.rs"]
mod memory;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use batchplan::backoff::RetryPolicy;
use batchplan::call::{Call, Learned, Reply};
use batchplan::engine::{Dispatched, Dispatcher, EngineError, Pace, Stop, Worked, Worker};
use batchplan::manifest::ManifestError;
use batchplan::object::{Bucket, Fact, Key, ObjectId, Restoration, RestoreRequest, TagSet};
use batchplan::operation::{Operation, Operations};
use batchplan::store::{Content, ListPage, ListRequest, Opened, Store};
use batchplan::task::{Fault, FaultClass, Outcome, Seq, Task};
use faulty::{Faults, FaultyStore};
use jiff::{SignedDuration, Timestamp};
use memory::{AlwaysConflict, MemoryStore, object};
use tokio_util::sync::CancellationToken;

const WEEK: RestoreRequest = RestoreRequest { days: 7, tier: None };

fn tags(pairs: &[(&str, &str)]) -> TagSet {
    pairs.iter().copied().collect()
}

fn put() -> Operation {
    Operation::PutTagging(tags(&[("team", "data")]))
}

fn worker(store: Arc<dyn Store>, operations: Vec<Operation>) -> Worker {
    let stop = CancellationToken::new();
    Worker::new(store, Operations::new(operations), Pace::new(None), RetryPolicy::default(), stop)
}

struct Run {
    store: Arc<dyn Store>,
    operations: Vec<Operation>,
    concurrency: u32,
    requests_per_second: Option<u32>,
    policy: RetryPolicy,
    stop: Stop,
}

impl Run {
    fn new(store: Arc<dyn Store>, operations: Vec<Operation>) -> Self {
        let stop = Stop { asked: CancellationToken::new(), patience: Duration::from_secs(5) };
        Self { store, operations, concurrency: 16, requests_per_second: None, policy: RetryPolicy::default(), stop }
    }

    /// Runs the objects through a dispatcher; the outcomes by object, in the order they were recorded.
    async fn through(self, objects: Vec<ObjectId>) -> (Dispatched, Vec<(ObjectId, Outcome)>) {
        let (sender, batches) = Dispatcher::batches();
        let total = objects.len() as u64;
        tokio::spawn(async move {
            let mut row = 0;
            for chunk in objects.chunks(100) {
                let task =
                    |(n, object): (u32, &ObjectId)| Task { seq: Seq { part: 0, row: n }, object: object.clone() };
                let batch = (row..).zip(chunk).map(task).collect();
                row += u32::try_from(chunk.len()).expect("a small chunk");
                if sender.send(Ok(batch)).await.is_err() {
                    return;
                }
            }
        });
        let mut outcomes = Vec::new();
        let mut record = |object: &ObjectId, outcome: &Outcome| {
            outcomes.push((object.clone(), outcome.clone()));
            Ok(())
        };
        let mut observe = |_: batchplan::engine::Snapshot<'_>| {};
        let worker = Worker::new(
            self.store,
            Operations::new(self.operations),
            Pace::new(self.requests_per_second),
            self.policy,
            self.stop.asked.clone(),
        );
        let dispatcher = Dispatcher::new(worker, self.concurrency, total, self.stop, &mut record, &mut observe);
        let ended = dispatcher.run(batches).await;
        (ended, outcomes)
    }
}

fn objects(count: u32) -> Vec<ObjectId> {
    (0..count).map(|n| object(&format!("k{n}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn every_object_is_attempted_once_and_recorded_once() {
    let store = MemoryStore::with_objects(1000);
    let (dispatched, outcomes) = Run::new(store.clone(), vec![put()]).through(objects(1000)).await;
    assert!(dispatched.finished);
    assert_eq!((dispatched.progress.succeeded, dispatched.progress.failed), (1000, 0));
    assert_eq!((dispatched.frontier.low(0), dispatched.frontier.above()), (1000, 0));
    assert_eq!(store.calls().len(), 1000);
    assert_eq!(outcomes.len(), 1000);
    assert!(store.most_in_flight() <= 16, "{}", store.most_in_flight());
}

#[tokio::test(start_paused = true)]
async fn one_failing_object_leaves_the_others_done() {
    let store = MemoryStore::with_objects(9);
    let mut all = objects(9);
    all.insert(4, object("missing"));
    let (dispatched, outcomes) = Run::new(store.clone(), vec![put()]).through(all).await;
    let progress = dispatched.progress;
    assert_eq!((progress.succeeded, progress.failed), (9, 1));
    let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_))).collect();
    let [(id, Outcome::Failed(failure))] = failed[..] else { panic!("{failed:?}") };
    assert_eq!((id, failure.fault.status, failure.fault.code.as_str()), (&object("missing"), Some(404), "NoSuchKey"));
    assert_eq!(failure.operation, "put_object_tagging");
}

#[tokio::test(start_paused = true)]
async fn duplicates_run_once_for_each_entry_and_never_two_at_a_time() {
    let store = MemoryStore::with_objects(3);
    let slow = FaultyStore::new(store.clone(), Faults { latency: Duration::from_millis(50), ..Faults::default() }, 1);
    let thrice: Vec<_> = (0..300).map(|n| object(&format!("k{}", n % 3))).collect();
    let add = Operation::AddTagging(tags(&[("a", "1")]));
    let (dispatched, outcomes) = Run::new(slow, vec![add]).through(thrice).await;
    assert_eq!(dispatched.progress.succeeded, 300);
    assert_eq!(outcomes.len(), 300);
    assert!(!store.overlapped());
}

#[tokio::test(start_paused = true)]
async fn versions_of_one_key_never_run_at_once() {
    let store = MemoryStore::with_objects(1);
    let versions: Vec<_> = (0..20)
        .map(|n| ObjectId { version: Some(batchplan::object::VersionId::new(&format!("v{n}"))), ..object("k0") })
        .collect();
    for id in &versions {
        store.put(id, &[]);
    }
    let (dispatched, _) = Run::new(store.clone(), vec![put()]).through(versions).await;
    assert_eq!(dispatched.progress.succeeded, 20);
    assert!(!store.overlapped());
}

#[tokio::test(start_paused = true)]
async fn faults_that_pass_are_survived() {
    for seed in 0..10 {
        let store = MemoryStore::with_objects(200);
        let faults =
            Faults { throttled: 0.1, unreachable: 0.1, lost: 0.1, broken: 0.05, latency: Duration::from_millis(20) };
        let wrapped = FaultyStore::new(store.clone(), faults, seed);
        let operations = vec![Operation::AddTagging(tags(&[("a", "1")])), Operation::Restore(WEEK)];
        let mut run = Run::new(wrapped, operations);
        // Enough attempts that no seed meets the end of them.
        run.policy.attempts = 60;
        let (dispatched, outcomes) = run.through(objects(200)).await;
        let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_))).collect();
        assert!(failed.is_empty(), "seed {seed}: {failed:?}");
        assert_eq!(dispatched.progress.succeeded, 200);
        let by_object: HashMap<_, _> = outcomes.into_iter().collect();
        assert_eq!(by_object.len(), 200);
        for id in by_object.keys() {
            let state = store.state(id).unwrap();
            assert_eq!(state.tags, Fact::Known(tags(&[("a", "1")])));
            assert_eq!(state.restoration, Fact::Known(Restoration::InProgress));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restore_whose_answer_was_lost_is_looked_at_and_not_sent_again() {
    let store = MemoryStore::with_objects(1);
    let lossy = FaultyStore::new(store.clone(), Faults { lost: 1.0, ..Faults::default() }, 1);
    // The look's own answer is lost as well, so that it is repeated until attempts end; the restore is sent once.
    let worked = worker(lossy, vec![Operation::Restore(WEEK)]).work(&object("k0"), false).await;
    assert!(matches!(worked, Worked::Settled(Outcome::Failed(_))), "{worked:?}");
    let restores = store.calls().iter().filter(|(_, call)| matches!(call, Call::Restore(_))).count();
    assert_eq!(restores, 1);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_on_restore_is_judged_by_one_look() {
    let now = Timestamp::now();
    let days = |n: i64| Restoration::Until(now + SignedDuration::from_hours(24 * n));
    let cases = [
        (Restoration::InProgress, false, Err("a restore that this job did not ask for is under way")),
        (Restoration::InProgress, true, Ok(())),
        (days(8), false, Ok(())),
        (days(2), false, Err("before the 7 days asked for are over")),
        (Restoration::Absent, false, Err("refused")),
    ];
    for (found, asked_before, expected) in cases {
        let store = MemoryStore::with_objects(1);
        store.set_restoration(&object("k0"), found);
        let conflicting = Arc::new(AlwaysConflict(store.clone()));
        let worked = worker(conflicting, vec![Operation::Restore(WEEK)]).work(&object("k0"), asked_before).await;
        match (&worked, expected) {
            (Worked::Settled(Outcome::Succeeded { status: 200 }), Ok(())) => {}
            (Worked::Settled(Outcome::Failed(failure)), Err(why)) => {
                assert!(failure.fault.message.contains(why), "{found:?}: {}", failure.fault.message);
                assert_eq!(failure.fault.status, Some(409));
            }
            _ => panic!("{found:?} {asked_before}: {worked:?}"),
        }
        assert_eq!(store.calls().len(), 1, "one look, {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_eleventh_tag_fails_the_object_before_anything_is_written() {
    let store = MemoryStore::with_objects(0);
    let ten: Vec<_> = (0..10).map(|n| format!("t{n}")).collect();
    store.put(&object("full"), &ten.iter().map(|key| (key.as_str(), "")).collect::<Vec<_>>());
    let add = Operation::AddTagging(tags(&[("eleventh", "")]));
    let worked = worker(store.clone(), vec![add]).work(&object("full"), false).await;
    let Worked::Settled(Outcome::Failed(failure)) = worked else { panic!("{worked:?}") };
    assert_eq!(failure.fault.code, "TooManyTags");
    assert!(store.calls().iter().all(|(_, call)| !call.writes()));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_throttles_forever_fails_the_object_in_bounded_time() {
    let store = MemoryStore::with_objects(1);
    let throttling = FaultyStore::new(store, Faults { throttled: 1.0, ..Faults::default() }, 1);
    let start = tokio::time::Instant::now();
    let worked = worker(throttling, vec![put()]).work(&object("k0"), false).await;
    let Worked::Settled(Outcome::Failed(failure)) = worked else { panic!("{worked:?}") };
    assert_eq!((failure.fault.status, failure.fault.class), (Some(503), FaultClass::Throttled));
    assert!(failure.fault.message.contains("sent 10 times"), "{}", failure.fault.message);
    assert!(start.elapsed() < Duration::from_mins(4), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_costs_one_timeout_for_each_attempt() {
    let store = MemoryStore::with_objects(1);
    let silent = FaultyStore::new(store, Faults { latency: Duration::from_hours(9000), ..Faults::default() }, 1);
    let worked = worker(silent, vec![put()]).work(&object("k0"), false).await;
    let Worked::Settled(Outcome::Failed(failure)) = worked else { panic!("{worked:?}") };
    assert_eq!((failure.fault.status, failure.fault.code.as_str()), (None, "RequestTimeout"));
    assert_eq!(failure.fault.endpoint, "PUT memory:k0?tagging");
}

#[tokio::test(start_paused = true)]
async fn stopping_drains_what_is_in_flight_and_takes_no_more() {
    let store = MemoryStore::with_objects(1000);
    let slow = FaultyStore::new(store.clone(), Faults { latency: Duration::from_secs(2), ..Faults::default() }, 1);
    let run = Run::new(slow, vec![put()]);
    let asked = run.stop.asked.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        asked.cancel();
    });
    let (dispatched, outcomes) = run.through(objects(1000)).await;
    assert!(!dispatched.finished);
    assert_eq!(dispatched.progress.settled(), outcomes.len() as u64);
    assert_eq!(store.calls().len(), outcomes.len(), "what was sent was drained and recorded");
    assert!(outcomes.len() < 1000);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_drain_in_time_is_abandoned() {
    let store = MemoryStore::with_objects(10);
    let stuck = FaultyStore::new(store, Faults { latency: Duration::from_hours(9000), ..Faults::default() }, 1);
    let run = Run::new(stuck, vec![put()]);
    let asked = run.stop.asked.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        asked.cancel();
    });
    let start = tokio::time::Instant::now();
    let (dispatched, outcomes) = run.through(objects(10)).await;
    assert_eq!((dispatched.finished, dispatched.abandoned), (false, 10));
    assert!(outcomes.is_empty());
    let took = start.elapsed();
    assert!((Duration::from_secs(6)..Duration::from_secs(7)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_rate_cap_counts_every_attempt() {
    let store = MemoryStore::with_objects(100);
    let throttling = FaultyStore::new(store, Faults { throttled: 0.5, ..Faults::default() }, 3);
    let mut run = Run::new(throttling, vec![Operation::AddTagging(tags(&[("a", "1")]))]);
    run.policy.attempts = 60;
    run.requests_per_second = Some(50);
    let start = tokio::time::Instant::now();
    let (dispatched, _) = run.through(objects(100)).await;
    assert!(dispatched.finished);
    // 200 requests at least, and about as many refused.
    assert!(start.elapsed() > Duration::from_secs(6), "{:?}", start.elapsed());
}

/// A hundred objects, four at a time, each taking a while; what the sender gives comes before the end of the rows.
async fn broken(
    store: &Arc<MemoryStore>,
    rows: u32,
    last: Option<ManifestError>,
    record: &mut dyn FnMut(&ObjectId, &Outcome) -> std::io::Result<()>,
) -> Dispatched {
    let (sender, batches) = Dispatcher::batches();
    let tasks = objects(rows).into_iter().zip(0..).map(|(object, row)| Task { seq: Seq { part: 0, row }, object });
    sender.send(Ok(tasks.collect())).await.expect("room");
    if let Some(error) = last {
        sender.send(Err(error)).await.expect("room");
    }
    drop(sender);
    let mut observe = |_: batchplan::engine::Snapshot<'_>| {};
    let stop = Stop { asked: CancellationToken::new(), patience: Duration::from_mins(1) };
    let slow = FaultyStore::new(store.clone(), Faults { latency: Duration::from_secs(2), ..Faults::default() }, 1);
    Dispatcher::new(worker(slow, vec![put()]), 4, 100, stop, record, &mut observe).run(batches).await
}

#[tokio::test(start_paused = true)]
async fn a_report_that_cannot_be_written_stops_the_job_and_what_was_sent_is_counted() {
    let store = MemoryStore::with_objects(100);
    let mut recorded = 0;
    // The disk is full for one row, and then somebody makes room.
    let mut record = |_: &ObjectId, _: &Outcome| {
        recorded += 1;
        if recorded == 10 { Err(std::io::Error::other("No space left on device")) } else { Ok(()) }
    };
    let ended = broken(&store, 100, None, &mut record).await;
    assert!(matches!(ended.broken, Some(EngineError::Report(_))), "{ended:?}");
    assert_eq!((ended.finished, ended.abandoned), (false, 1));
    assert_eq!(store.calls().len() as u64, ended.progress.settled() + ended.abandoned);
    assert_eq!(store.calls().len(), 13, "ten, and the three that were in flight with the tenth");
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_breaks_leaves_no_object_without_its_outcome() {
    let store = MemoryStore::with_objects(100);
    let mut outcomes = 0;
    let mut record = |_: &ObjectId, _: &Outcome| {
        outcomes += 1;
        Ok(())
    };
    let ended = broken(&store, 10, Some(ManifestError::Stopped), &mut record).await;
    assert!(matches!(ended.broken, Some(EngineError::Manifest(_))), "{ended:?}");
    assert_eq!((ended.progress.succeeded, ended.abandoned), (outcomes, 0));
    assert_eq!(store.calls().len() as u64, outcomes, "what was sent was recorded");
}

#[tokio::test(start_paused = true)]
async fn rows_that_never_come_are_an_error_and_no_stop() {
    let store = MemoryStore::with_objects(100);
    let ended = broken(&store, 10, None, &mut |_: &ObjectId, _: &Outcome| Ok(())).await;
    assert!(matches!(ended.broken, Some(EngineError::RowsMissing { settled: 10, total: 100 })), "{ended:?}");
    assert!(!ended.finished);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_come_between_an_objects_requests() {
    let store = MemoryStore::with_objects(1000);
    let slow = FaultyStore::new(store.clone(), Faults { latency: Duration::from_secs(2), ..Faults::default() }, 1);
    let mut run = Run::new(slow, vec![Operation::AddTagging(tags(&[("a", "1")])), Operation::Restore(WEEK)]);
    run.stop.patience = Duration::from_mins(1);
    let asked = run.stop.asked.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        asked.cancel();
    });
    let (dispatched, outcomes) = run.through(objects(1000)).await;
    assert_eq!((dispatched.finished, dispatched.abandoned), (false, 0));
    assert_eq!(store.calls().len(), 3 * outcomes.len(), "each object that was begun was read, tagged and restored");
}

/// Never answers for `k0`, and at once for every other object.
struct OneSilent;

#[async_trait::async_trait]
impl Store for OneSilent {
    async fn call(&self, object: &ObjectId, _: &Call) -> Result<Reply, Fault> {
        if object.key == Key::from("k0") {
            std::future::pending::<()>().await;
        }
        Ok(Reply { status: 200, learned: Learned::Nothing })
    }

    async fn list(&self, _: &ListRequest) -> Result<ListPage, Fault> {
        unreachable!("objects are only changed")
    }

    async fn read(&self, _: &Bucket, _: &Key, _: Option<&str>) -> Result<Opened, Fault> {
        unreachable!("objects are only changed")
    }

    async fn write(&self, _: &Bucket, _: &Key, _: Content, _: &str) -> Result<(), Fault> {
        unreachable!("objects are only changed")
    }

    fn request_url(&self, _: &ObjectId, _: &Call) -> String {
        String::new()
    }

    fn refuses_key(&self, _: &Key) -> Option<&'static str> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn one_object_that_waits_holds_the_others_back_before_memory_grows() {
    let (dispatched, outcomes) = Run::new(Arc::new(OneSilent), vec![put()]).through(objects(70_000)).await;
    assert_eq!((dispatched.progress.succeeded, dispatched.progress.failed), (69_999, 1));
    let place = outcomes.iter().position(|(id, _)| *id == object("k0")).expect("it has an outcome");
    assert!((65_000..=65_536 + 16).contains(&place), "{place} were settled before it");
}

//! Every object once, one key at a time, whatever goes wrong on the way.

use std::collections::HashMap;
use std::time::Duration;

use batchplan::engine::StopReason;
use batchplan::operation::Operation;
use batchplan_store::object::{MaybeKnown, ObjectId, RestoreState, VersionId};
use batchplan_store::task::TaskOutcome;

use crate::faulty::{Faults, FaultyStore};
use crate::memory::{MemoryStore, object};
use crate::run::{Run, objects, put, tags};
use crate::scripted::{Scene, Scripted};
use crate::workers::WEEK;

#[tokio::test(start_paused = true)]
async fn every_object_is_attempted_once_and_recorded_once() {
    let store = MemoryStore::with_objects(1000);
    let (dispatched, outcomes) = Run::new(store.clone(), vec![put()]).through(objects(1000)).await;
    assert!(matches!(dispatched.stop_reason, StopReason::Finished), "{:?}", dispatched.stop_reason);
    assert_eq!((dispatched.progress.succeeded, dispatched.progress.failed), (1000, 0));
    assert_eq!((dispatched.frontier.first_unsettled(0), dispatched.frontier.settled_above_low()), (1000, 0));
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
    let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| matches!(outcome, TaskOutcome::Failed(_))).collect();
    let [(id, TaskOutcome::Failed(failure))] = failed[..] else { panic!("{failed:?}") };
    assert_eq!((id, failure.error.status, failure.error.code.as_str()), (&object("missing"), Some(404), "NoSuchKey"));
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
    let versions: Vec<_> =
        (0..20).map(|n| ObjectId { version: Some(VersionId::new(&format!("v{n}"))), ..object("k0") }).collect();
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
        run.policy.max_attempts = 60;
        let (dispatched, outcomes) = run.through(objects(200)).await;
        let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| matches!(outcome, TaskOutcome::Failed(_))).collect();
        assert!(failed.is_empty(), "seed {seed}: {failed:?}");
        assert_eq!(dispatched.progress.succeeded, 200);
        let by_object: HashMap<_, _> = outcomes.into_iter().collect();
        assert_eq!(by_object.len(), 200);
        for id in by_object.keys() {
            let state = store.state(id).unwrap();
            assert_eq!(state.tags, MaybeKnown::Known(tags(&[("a", "1")])));
            assert_eq!(state.restoration, MaybeKnown::Known(RestoreState::InProgress));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_cap_counts_every_attempt() {
    let store = MemoryStore::with_objects(100);
    let throttling = FaultyStore::new(store, Faults { throttled: 0.5, ..Faults::default() }, 3);
    let mut run = Run::new(throttling, vec![Operation::AddTagging(tags(&[("a", "1")]))]);
    run.policy.max_attempts = 60;
    run.requests_per_second = Some(50);
    let start = tokio::time::Instant::now();
    let (dispatched, _) = run.through(objects(100)).await;
    assert!(matches!(dispatched.stop_reason, StopReason::Finished), "{:?}", dispatched.stop_reason);
    // 200 requests at least, and about as many refused.
    assert!(start.elapsed() > Duration::from_secs(6), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_object_that_waits_holds_the_others_back_before_memory_grows() {
    let silent = object("k0");
    let store = MemoryStore::with_objects(0);
    let store = Scripted::new(&store, move |object| if *object == silent { Scene::Hangs } else { Scene::done() });
    let (dispatched, outcomes) = Run::new(store, vec![put()]).through(objects(70_000)).await;
    assert_eq!((dispatched.progress.succeeded, dispatched.progress.failed), (69_999, 1));
    let place = outcomes.iter().position(|(id, _)| *id == object("k0")).expect("it has an outcome");
    assert!((65_000..=65_536 + 16).contains(&place), "{place} were settled before it");
}

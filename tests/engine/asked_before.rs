//! A restore that is under way already: this job's own, where an earlier run may have asked for it, and otherwise
//! somebody else's.

use std::sync::Arc;

use batchplan::engine::{CheckpointPolicy, DispatchStart, StopReason};
use batchplan::operation::Operation;
use batchplan::plan::ExactShare;
use batchplan_store::object::{ObjectId, RestoreState, VersionId};
use batchplan_store::task::{TaskId, TaskOutcome};

use crate::memory::{MemoryStore, object};
use crate::run::{Run, objects, rows};
use crate::workers::WEEK;

/// A store where every restore is under way.
fn restoring(all: &[ObjectId]) -> Arc<MemoryStore> {
    let store = MemoryStore::with_objects(0);
    for id in all {
        store.put(id, &[]);
        store.set_restoration(id, RestoreState::InProgress);
    }
    store
}

/// The rows that were taken for this job's own: those that did not fail.
async fn ours(all: &[ObjectId], most: u64, start: DispatchStart) -> Vec<u32> {
    let rhythm = CheckpointPolicy { max_started_rows: most, max_unrecorded_rows: most, ..CheckpointPolicy::default() };
    let run = Run::new(restoring(all), vec![Operation::Restore(WEEK)]);
    let run = Run { rhythm, concurrency: 4, share: ExactShare::percent(100), ..run };
    let book = run.book.clone();
    let ended = run.resume(all, start).await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
    let written = book.written();
    let ours = rows(all).into_iter().filter(|task| {
        let outcome = written.outcomes.iter().find(|(object, _)| *object == task.object).map(|(_, outcome)| outcome);
        if let Some(TaskOutcome::Failed(failure)) = outcome {
            assert!(failure.error.message.contains("this job did not request"), "{}", failure.error.message);
        }
        matches!(outcome, Some(TaskOutcome::Succeeded { .. }))
    });
    ours.map(|task| task.id.row).collect()
}

fn at(row: u32) -> TaskId {
    TaskId { part: 0, row }
}

#[tokio::test(start_paused = true)]
async fn a_first_run_has_asked_for_nothing() {
    assert!(ours(&objects(40), 10, DispatchStart::default()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_died_before_its_first_checkpoint_may_have_asked_for_as_much_as_it_might() {
    let start = DispatchStart { next_row: Some(at(0)), ..DispatchStart::default() };
    assert_eq!(ours(&objects(40), 10, start).await, (0..10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_up_and_so_many_rows_beyond_are_ours() {
    // Of the twenty that were taken up, some are settled and six are not: those are beside what lies beyond.
    let mut start = DispatchStart { next_row: Some(at(20)), ..DispatchStart::default() };
    let left = [1, 2, 3, 4, 18, 19];
    for row in (0..20).filter(|row| !left.contains(row)) {
        start.frontier.mark_settled(at(row));
        start.progress.succeeded += 1;
    }
    let expected: Vec<_> = left.into_iter().chain(20..30).collect();
    assert_eq!(ours(&objects(60), 10, start).await, expected);
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_for_its_key_is_judged_by_its_place() {
    // Two versions of one key: the second goes when the first is done, and others have been taken up by then.
    let version = |version| ObjectId { version: Some(VersionId::new(version)), ..object("k0") };
    let mut all = objects(30);
    all.splice(0..1, [version("1"), version("2")]);
    let start = DispatchStart { next_row: Some(at(0)), ..DispatchStart::default() };
    assert_eq!(ours(&all, 2, start).await, [0, 1]);
}

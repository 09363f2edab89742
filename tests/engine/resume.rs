//! A job that goes on where it was stopped.

use std::time::Duration;

use batchplan::engine::{DispatchStart, StopReason};
use batchplan::job::Progress;
use batchplan_store::task::TaskId;

use crate::memory::{MemoryStore, object};
use crate::run::{Run, objects, put, rows};
use crate::scripted::{Scene, Scripted};

/// A job of so many objects of which these rows are settled.
fn after(count: u32, settled: impl Fn(u32) -> bool) -> DispatchStart {
    let mut start = DispatchStart::default();
    for task in rows(&objects(count)).into_iter().filter(|task| settled(task.id.row)) {
        start.frontier.mark_settled(task.id);
        start.progress.succeeded += 1;
        start.next_row = Some(TaskId { row: task.id.row + 1, ..task.id });
    }
    start
}

#[tokio::test(start_paused = true)]
async fn only_what_is_not_settled_is_worked_on_and_all_is_counted() {
    let store = MemoryStore::with_objects(500);
    let all = objects(500);
    let start = after(500, |row| row < 300 && row % 7 != 0);
    let before = start.progress.succeeded;
    let run = Run::new(store.clone(), vec![put()]);
    let book = run.book.clone();
    let ended = run.resume(&all, start).await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
    assert_eq!(ended.progress, Progress { total: 500, succeeded: 500, ..Progress::default() });
    assert_eq!((ended.frontier.first_unsettled(0), ended.frontier.settled_above_low()), (500, 0));
    let mut asked: Vec<_> = store.calls().into_iter().map(|(object, _)| object).collect();
    asked.sort();
    let mut expected: Vec<_> =
        (0..500).filter(|row| !(row < &300 && row % 7 != 0)).map(|row| object(&format!("k{row}"))).collect();
    expected.sort();
    assert_eq!(asked, expected);
    assert_eq!(book.written().outcomes.len() as u64, 500 - before);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_objects_are_all_settled_is_finished_at_once() {
    let store = MemoryStore::with_objects(10);
    let run = Run::new(store.clone(), vec![put()]);
    let book = run.book.clone();
    let ended = run.resume(&objects(10), after(10, |_| true)).await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
    assert!(store.calls().is_empty());
    assert_eq!(
        book.written().kept.progress,
        Progress { total: 10, succeeded: 10, ..Progress::default() },
        "the counts stay"
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_of_no_objects_is_finished_at_once() {
    let store = MemoryStore::with_objects(0);
    let ended = Run::new(store, vec![put()]).resume(&[], DispatchStart::default()).await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
}

/// The set of rows above the low mark may be full when a job is killed: then it is when it is resumed.
#[tokio::test(start_paused = true)]
async fn one_that_was_killed_while_it_waited_for_a_slow_row_goes_on() {
    let all = objects(70_000);
    for slow in [vec![0], vec![0, 1, 2, 40], (0..100).collect()] {
        let start = after(66_000, |row| !slow.contains(&row));
        assert!(start.frontier.settled_above_low() > 65_536 - 100);
        let store = MemoryStore::with_objects(0);
        let run = Run::new(Scripted::new(&store, |_| Scene::done()), vec![put()]);
        let ended = tokio::time::timeout(Duration::from_hours(1), run.resume(&all, start)).await.expect("it goes on");
        assert!(matches!(ended.stop_reason, StopReason::Finished), "{:?}", ended.stop_reason);
        assert_eq!(ended.progress.succeeded, 70_000);
    }
}

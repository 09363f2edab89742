//! When checkpoints are made, what they bound, and what becomes of a job whose checkpoint fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use batchplan::engine::{CheckpointError, CheckpointPolicy, DispatchStart, EngineError, StopReason};
use batchplan_store::object::ObjectId;
use batchplan_store::task::TaskId;
use tokio::time::Instant;

use crate::faulty::{Faults, FaultyStore};
use crate::memory::{MemoryStore, object};
use crate::run::{AT_ONCE, Fate, Notes, Run, objects, put, rows};
use crate::scripted::{Scene, Scripted};

const NEVER: Duration = Duration::from_hours(9000);

/// Each object takes up to two seconds.
fn slow(store: &Arc<MemoryStore>) -> Run {
    let slow = FaultyStore::new(store.clone(), Faults { latency: Duration::from_secs(2), ..Faults::default() }, 1);
    Run { concurrency: 4, ..Run::new(slow, vec![put()]) }
}

#[tokio::test(start_paused = true)]
async fn one_is_made_every_second_and_one_at_the_end() {
    let store = MemoryStore::with_objects(100);
    let (run, since) = (slow(&store), Instant::now());
    let book = run.book.clone();
    let (ended, _) = run.through(objects(100)).await;
    let written = book.written();
    let times: Vec<_> = written.begun.iter().map(|(at, _)| at.duration_since(since)).collect();
    let (last, others) = times.split_last().expect("at least the last");
    for gap in [Duration::ZERO].iter().chain(others).zip(others).map(|(before, after)| after.saturating_sub(*before)) {
        assert!((Duration::from_secs(1)..Duration::from_millis(1500)).contains(&gap), "{times:?}");
    }
    assert!(times.len() as u64 > last.as_secs() * 2 / 3, "{times:?}");
    assert_eq!(*last, since.elapsed(), "the last one when all is done");
    assert_eq!(written.kept.progress, ended.progress);
    assert_eq!(written.kept.frontier(), ended.frontier);
    assert_eq!(written.kept.taken, Some(TaskId { part: 0, row: 100 }));
    let told: Vec<_> = written.begun.iter().map(|(_, snapshot)| snapshot.progress.finished()).collect();
    assert!(told.is_sorted() && told.last() == Some(&100), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn none_is_made_where_nothing_is_new() {
    let store = MemoryStore::with_objects(2);
    let hanging = Scripted::new(&store, |id| if *id == object("k1") { Scene::Hangs } else { Scene::Plays });
    let mut run = Run::new(hanging, vec![put()]);
    run.policy.max_attempts = 1;
    let book = run.book.clone();
    let (ended, _) = run.through(objects(2)).await;
    assert_eq!((ended.progress.succeeded, ended.progress.failed), (1, 1));
    // One for the first object, and one at the end, when the other's time is over.
    let told: Vec<_> = book.written().begun.iter().map(|(_, snapshot)| snapshot.progress.finished()).collect();
    assert_eq!(told, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn it_is_told_about_twice_a_second_where_the_job_stands() {
    let store = MemoryStore::with_objects(100);
    let (run, since) = (slow(&store), Instant::now());
    let book = run.book.clone();
    let (ended, _) = run.through(objects(100)).await;
    let seen = &book.written().observed;
    let expected = since.elapsed().as_millis() / 500;
    assert!((expected..=expected + 3).contains(&(seen.len() as u128)), "{} in {expected} halves", seen.len());
    assert_eq!(seen.last().expect("the end").job, ended.progress);
}

#[tokio::test(start_paused = true)]
async fn an_early_one_is_made_when_much_was_taken_up() {
    let store = MemoryStore::with_objects(1000);
    let rhythm = CheckpointPolicy { max_started_rows: 50, max_unrecorded_rows: 50, interval: NEVER };
    let run = Run { rhythm, ..Run::new(store.clone(), vec![put()]) };
    let book = run.book.clone();
    let (ended, _) = run.through(objects(1000)).await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
    let told: Vec<_> = book.written().begun.iter().map(|(_, snapshot)| snapshot.progress.finished()).collect();
    assert!(told.iter().zip(&told[1..]).all(|(before, after)| after - before <= 50), "{told:?}");
    assert!(told.len() >= 20, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_rows_are_taken_up_than_a_crash_may_cost() {
    let store = MemoryStore::with_objects(1000);
    let book =
        Notes::new(|number| if number == 0 { Fate::Kept(Duration::from_hours(1), Duration::ZERO) } else { AT_ONCE });
    let rhythm = CheckpointPolicy { max_started_rows: 100, ..CheckpointPolicy::default() };
    let run = Run { rhythm, book: book.clone(), ..Run::new(store.clone(), vec![put()]) };
    let since = Instant::now();
    let stuck = store.clone();
    let look = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_mins(59)).await;
        stuck.calls().len()
    });
    let (ended, _) = run.through(objects(1000)).await;
    assert_eq!(look.await.expect("no panic"), 100, "as many as may be done again");
    assert!(matches!(ended.stop_reason, StopReason::Finished), "it went on when the disk did: {ended:?}");
    assert_eq!(ended.progress.succeeded, 1000);
    assert!(since.elapsed() < Duration::from_hours(2));
}

/// Fails the checkpoint of this number.
fn failing(number: usize) -> Notes {
    Notes::new(move |made| if made == number { Fate::Fails } else { AT_ONCE })
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_breaks_the_job_and_the_last_one_tells_it_again() {
    let store = MemoryStore::with_objects(1000);
    let run = Run { book: failing(2), ..slow(&store) };
    let book = run.book.clone();
    let (ended, outcomes) = run.through(objects(1000)).await;
    assert!(
        matches!(ended.stop_reason, StopReason::InternalError(EngineError::Checkpoint(CheckpointError::Report(_)))),
        "{ended:?}"
    );
    assert!(ended.progress.finished() < 1000);
    assert_eq!(store.calls().len(), outcomes.len(), "what was in flight was drained and recorded");
    let written = book.written();
    assert!(written.begun.len() >= 4, "two, the one that failed, and the last: {}", written.begun.len());
    assert_eq!(written.kept.progress, ended.progress);
    assert_eq!(written.kept.frontier(), ended.frontier, "with the rows that the failed one took");
    assert_eq!(written.kept.outcomes, outcomes.len());
    assert!(written.begun[3..].iter().all(|(_, snapshot)| snapshot.stopping));
}

/// A disk that is full fails outcomes and checkpoints alike; which of them it fails first is chance.
#[tokio::test(start_paused = true)]
async fn one_that_fails_after_an_outcome_is_not_made_again_and_again() {
    let store = MemoryStore::with_objects(100);
    let rhythm = CheckpointPolicy { max_started_rows: 8, max_unrecorded_rows: 8, interval: NEVER };
    let run = Run { book: Notes::full(), rhythm, ..slow(&store) };
    let book = run.book.clone();
    let (ended, _) = run.through(objects(100)).await;
    assert!(matches!(ended.stop_reason, StopReason::InternalError(EngineError::Report(_))), "{ended:?}");
    assert!(book.written().begun.len() <= 2, "one, and the last: {}", book.written().begun.len());
}

#[tokio::test(start_paused = true)]
async fn a_last_one_that_fails_breaks_a_job_whose_objects_are_all_done() {
    let store = MemoryStore::with_objects(10);
    let run = Run { book: failing(0), ..Run::new(store.clone(), vec![put()]) };
    let book = run.book.clone();
    let (ended, _) = run.through(objects(10)).await;
    assert!(matches!(ended.stop_reason, StopReason::InternalError(EngineError::Checkpoint(_))), "{ended:?}");
    assert_eq!((ended.progress.succeeded, book.written().kept.progress.succeeded), (10, 0));
}

/// A checkpoint that is on its way when the job is stopped is waited for, and the last one comes after it.
#[tokio::test(start_paused = true)]
async fn they_are_made_one_after_the_other() {
    let store = MemoryStore::with_objects(1000);
    let on_its_way = Arc::new(AtomicBool::new(false));
    let seen = on_its_way.clone();
    let book = Notes::new(move |number| {
        if number == 0 {
            seen.store(true, Ordering::Relaxed);
            return Fate::Kept(Duration::from_secs(20), Duration::from_secs(20));
        }
        AT_ONCE
    });
    let run = Run { book: book.clone(), ..slow(&store) };
    run.stop_after(Duration::from_secs(5));
    let (ended, outcomes) = run.through(objects(1000)).await;
    assert!(on_its_way.load(Ordering::Relaxed) && matches!(ended.stop_reason, StopReason::StopRequested), "{ended:?}");
    let written = book.written();
    let times: Vec<_> = written.begun.iter().map(|(at, _)| *at).collect();
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] >= Duration::from_secs(40));
    assert_eq!((written.kept.outcomes, written.kept.progress), (outcomes.len(), ended.progress));
}

/// A row that is behind another one, and that nobody has taken up when the job stops, is not among what was taken up.
#[tokio::test(start_paused = true)]
async fn what_was_taken_up_is_told_and_never_goes_back() {
    let store = MemoryStore::with_objects(100);
    let all: Vec<ObjectId> = objects(100);
    let mut start = DispatchStart { next_row: Some(TaskId { part: 0, row: 60 }), ..DispatchStart::default() };
    for task in rows(&all).iter().filter(|task| task.id.row < 60 && !matches!(task.id.row, 3 | 40)) {
        start.frontier.mark_settled(task.id);
        start.progress.succeeded += 1;
    }
    let run = slow(&store);
    let book = run.book.clone();
    let ended = run.resume(&all, start).await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
    let written = book.written();
    let taken: Vec<_> = written.begun.iter().map(|(_, snapshot)| snapshot.next_row).collect();
    assert!(taken.iter().all(|taken| *taken >= Some(TaskId { part: 0, row: 60 })), "{taken:?}");
    assert!(taken.is_sorted(), "{taken:?}");
}

//! A job that is killed again and again, and goes on from what was kept.

use std::time::Duration;

use batchplan::engine::{CheckpointPolicy, DispatchStart, StopReason};
use batchplan_store::object::ObjectId;
use proptest::prelude::*;

use crate::faulty::{Faults, FaultyStore};
use crate::memory::MemoryStore;
use crate::run::{Fate, Notes, Run, objects, put};

#[derive(Clone, Debug)]
struct Case {
    objects: u32,
    concurrency: u32,
    most: u64,
    latency: u64,
    /// How long each run lives.
    lives: Vec<u64>,
    /// How long checkpoints take until they are kept, and until that is told.
    checkpoints: (u64, u64),
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let lives = prop::collection::vec(0_u64..3000, 0..8);
    (1_u32..300, 1_u32..17, 1_u64..80, 1_u64..200, lives, (0_u64..700, 0_u64..700), any::<u64>()).prop_map(
        |(objects, concurrency, most, latency, lives, checkpoints, seed)| Case {
            objects,
            concurrency,
            most,
            latency,
            lives,
            checkpoints,
            seed,
        },
    )
}

/// Runs a job until it is done, and kills it meanwhile as often as the case says.
async fn killed_and_resumed(case: Case) -> Result<(), TestCaseError> {
    let all = objects(case.objects);
    let store = MemoryStore::with_objects(case.objects);
    let faults = Faults { latency: Duration::from_millis(case.latency), ..Faults::default() };
    let random = std::sync::Mutex::new(fastrand::Rng::with_seed(case.seed));
    let (kept, told) = case.checkpoints;
    let mut book = Notes::new(move |_| {
        let mut random = random.lock().expect("not poisoned");
        let mut upto = |most| Duration::from_millis(random.u64(..=most));
        Fate::Kept(upto(kept), upto(told))
    });
    let run = |book: &Notes, seed| Run {
        concurrency: case.concurrency,
        rhythm: CheckpointPolicy {
            interval: Duration::from_millis(500),
            max_started_rows: case.most,
            max_unrecorded_rows: case.most,
        },
        book: book.clone(),
        ..Run::new(FaultyStore::new(store.clone(), faults, seed), vec![put()])
    };
    let mut start = DispatchStart::default();
    let (mut seed, mut kills) = (case.seed, 0);
    for life in &case.lives {
        seed = seed.wrapping_add(1);
        let going = run(&book, seed).resume(&all, start.clone());
        if tokio::time::timeout(Duration::from_millis(*life), going).await.is_err() {
            kills += 1;
        }
        start = book.reopen();
    }
    let ended = run(&book, seed.wrapping_add(1)).resume(&all, start).await;
    prop_assert!(matches!(ended.stop_reason, StopReason::Finished), "{:?}", ended);
    let written = book.written();
    prop_assert_eq!(written.kept.outcomes, all.len());
    let mut settled: Vec<&ObjectId> = written.outcomes.iter().map(|(object, _)| object).collect();
    settled.sort();
    let mut expected: Vec<_> = all.iter().collect();
    expected.sort();
    prop_assert_eq!(settled, expected, "each exactly once");
    prop_assert_eq!(
        (written.kept.progress.total, written.kept.progress.succeeded),
        (all.len() as u64, all.len() as u64)
    );
    prop_assert_eq!(written.kept.frontier().first_unsettled(0), case.objects);
    let sent = store.calls().len() as u64;
    let repeats = sent - all.len() as u64;
    prop_assert!(repeats <= kills * (case.most + u64::from(case.concurrency)), "{} after {} kills", repeats, kills);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_row_is_settled_once_and_little_is_done_again(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(killed_and_resumed(case))?;
    }
}

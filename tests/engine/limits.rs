//! Stores that refuse more than so many requests a second, and that ask to be left alone.

use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use batchplan::engine::{DispatchStart, StopReason};
use batchplan_store::task::{FaultClass, StoreError};
use tokio::time::Instant;

use crate::faulty::{Faults, FaultyStore};
use crate::memory::{MemoryStore, refused};
use crate::run::{Run, objects, put};
use crate::scripted::{Scene, Scripted};

/// Takes so many requests a second, and what was not used of the last tenth of one.
struct Limit {
    rate: f64,
    start: Instant,
    /// Refusals say so.
    retry_after: Option<NonZeroU16>,
    seen: Mutex<Seen>,
}

/// When each request came, and whether it was taken.
#[derive(Default)]
struct Seen {
    came: Vec<(Duration, bool)>,
    tokens: f64,
    last: Duration,
}

impl Limit {
    fn new(rate: f64, retry_after: Option<NonZeroU16>) -> Arc<Self> {
        Arc::new(Self { rate, start: Instant::now(), retry_after, seen: Mutex::default() })
    }

    fn judge(&self) -> Scene {
        let now = self.start.elapsed();
        let mut seen = self.seen.lock().expect("nobody panicked with it");
        seen.tokens = (seen.tokens + now.saturating_sub(seen.last).as_secs_f64() * self.rate).min(self.rate / 10.0);
        seen.last = now;
        let taken = seen.tokens >= 1.0;
        if taken {
            seen.tokens -= 1.0;
        }
        seen.came.push((now, taken));
        if taken {
            return Scene::done();
        }
        let fault = refused(503, "SlowDown", FaultClass::Throttled);
        Scene::Answers(Err(StoreError { retry_after: self.retry_after, ..fault }))
    }

    fn came(&self) -> Vec<(Duration, bool)> {
        self.seen.lock().expect("nobody panicked with it").came.clone()
    }

    /// A run against a store with this limit, where requests take up to so long to arrive.
    fn run(self: &Arc<Self>, latency: Duration) -> Run {
        let limit = self.clone();
        let store = Scripted::new(&MemoryStore::with_objects(0), move |_| limit.judge());
        let far = FaultyStore::new(store, Faults { latency, ..Faults::default() }, 1);
        Run { concurrency: 64, ..Run::new(far, vec![put()]) }
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_a_limited_store_is_found_and_kept_to() {
    let limit = Limit::new(500.0, None);
    let ended = limit.run(Duration::from_millis(40)).resume(&objects(25_000), DispatchStart::default()).await;
    assert!(
        matches!(ended.stop_reason, StopReason::Finished) && ended.progress.succeeded == 25_000,
        "{:?}",
        ended.stop_reason
    );
    let seconds = Duration::from_secs(15)..Duration::from_secs(45);
    let settled: Vec<_> = limit.came().into_iter().filter(|(at, _)| seconds.contains(at)).collect();
    let taken = settled.iter().filter(|(_, taken)| *taken).count();
    assert!(taken * 10 >= 500 * 30 * 9, "{taken} in 30 s");
    let refused = settled.len() - taken;
    assert!(refused * 100 < settled.len(), "{refused} of {} refused", settled.len());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_says_for_how_long_is_left_alone_for_that_long() {
    let limit = Limit::new(100.0, NonZeroU16::new(30));
    let ended = limit.run(Duration::from_millis(10)).resume(&objects(300), DispatchStart::default()).await;
    assert!(
        matches!(ended.stop_reason, StopReason::Finished) && ended.progress.succeeded == 300,
        "{:?}",
        ended.stop_reason
    );
    let came = limit.came();
    let refused: Vec<_> = came.iter().filter(|(_, taken)| !taken).map(|(at, _)| *at).collect();
    assert!(!refused.is_empty());
    for at in refused {
        // What was on its way then still comes.
        let quiet = at + Duration::from_millis(20)..at + Duration::from_secs(30);
        assert!(came.iter().all(|(other, _)| !quiet.contains(other)), "{at:?}: {came:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_left_waiting_by_its_store_stops_at_once() {
    let run = Limit::new(0.0, Some(NonZeroU16::MAX)).run(Duration::ZERO);
    run.stop_after(Duration::from_secs(10));
    let since = Instant::now();
    let ended = run.resume(&objects(300), DispatchStart::default()).await;
    assert!(matches!(ended.stop_reason, StopReason::StopRequested), "{:?}", ended.stop_reason);
    assert!(since.elapsed() < Duration::from_secs(11), "{:?}", since.elapsed());
}

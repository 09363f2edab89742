//! Stores that refuse more than so many requests a second, and that ask to be left alone.

use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use batchplan::call::{Call, Learned, Reply};
use batchplan::engine::{End, Start};
use batchplan::object::{Bucket, Key, ObjectId};
use batchplan::store::{Content, ListPage, ListRequest, Opened, Store};
use batchplan::task::{Fault, FaultClass};
use tokio::time::Instant;

use crate::memory::refused;
use crate::run::{Run, objects, put};

/// When each request came, and whether it was taken.
#[derive(Default)]
struct Seen {
    came: Vec<(Duration, bool)>,
    tokens: f64,
    last: Duration,
}

/// Takes so many requests a second, and what was not used of the last tenth; answers after `latency`.
struct Limited {
    rate: f64,
    latency: Duration,
    start: Instant,
    /// Refusals say so.
    retry_after: Option<NonZeroU16>,
    seen: Mutex<Seen>,
}

impl Limited {
    fn new(rate: f64, latency: Duration) -> Self {
        Self { rate, latency, start: Instant::now(), retry_after: None, seen: Mutex::default() }
    }

    fn takes(&self) -> bool {
        let now = self.start.elapsed();
        let mut seen = self.seen.lock().expect("nobody panicked with it");
        seen.tokens = (seen.tokens + now.saturating_sub(seen.last).as_secs_f64() * self.rate).min(self.rate / 10.0);
        seen.last = now;
        let taken = seen.tokens >= 1.0;
        if taken {
            seen.tokens -= 1.0;
        }
        seen.came.push((now, taken));
        taken
    }

    fn came(&self) -> Vec<(Duration, bool)> {
        self.seen.lock().expect("nobody panicked with it").came.clone()
    }
}

#[async_trait]
impl Store for Limited {
    async fn call(&self, _: &ObjectId, _: &Call) -> Result<Reply, Fault> {
        tokio::time::sleep(self.latency / 2).await;
        let taken = self.takes();
        tokio::time::sleep(self.latency / 2).await;
        if taken {
            return Ok(Reply { status: 200, learned: Learned::Nothing });
        }
        let fault = refused(503, "SlowDown", FaultClass::Throttled);
        Err(Fault { retry_after: self.retry_after, ..fault })
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

    fn request_url(&self, object: &ObjectId, _: &Call) -> String {
        format!("PUT memory:{}", object.key)
    }

    fn refuses_key(&self, _: &Key) -> Option<&'static str> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_a_limited_store_is_found_and_kept_to() {
    let store = Arc::new(Limited::new(500.0, Duration::from_millis(20)));
    let run = Run { concurrency: 64, ..Run::new(store.clone(), vec![put()]) };
    let ended = run.resume(&objects(25_000), Start::default()).await;
    assert!(matches!(ended.end, End::Finished) && ended.progress.succeeded == 25_000, "{ended:?}");
    let seconds = Duration::from_secs(15)..Duration::from_secs(45);
    let settled: Vec<_> = store.came().into_iter().filter(|(at, _)| seconds.contains(at)).collect();
    let taken = settled.iter().filter(|(_, taken)| *taken).count();
    assert!(taken * 10 >= 500 * 30 * 9, "{taken} in 30 s");
    let refused = settled.len() - taken;
    assert!(refused * 100 < settled.len(), "{refused} of {} refused", settled.len());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_says_for_how_long_is_left_alone_for_that_long() {
    let store =
        Arc::new(Limited { retry_after: NonZeroU16::new(30), ..Limited::new(100.0, Duration::from_millis(10)) });
    let run = Run { concurrency: 16, ..Run::new(store.clone(), vec![put()]) };
    let ended = run.resume(&objects(300), Start::default()).await;
    assert!(matches!(ended.end, End::Finished) && ended.progress.succeeded == 300, "{ended:?}");
    let came = store.came();
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
    let store = Arc::new(Limited { retry_after: Some(NonZeroU16::MAX), ..Limited::new(0.0, Duration::ZERO) });
    let run = Run { concurrency: 16, ..Run::new(store, vec![put()]) };
    run.stop_after(Duration::from_secs(10));
    let since = Instant::now();
    let ended = run.resume(&objects(300), Start::default()).await;
    assert!(matches!(ended.end, End::Asked), "{ended:?}");
    assert!(since.elapsed() < Duration::from_secs(11), "{:?}", since.elapsed());
}

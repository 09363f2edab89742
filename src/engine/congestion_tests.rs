//! Tests the window, the learned rate and the latency baseline alone, and the congestion controller against servers
//! that are simulated event by event. The same seed gives the same run.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use batchplan_store::object_request::RequestKind;
use proptest::prelude::*;
use tokio::time::Instant;

use super::RequestKind::{GetTags, Head, PutTags};
use super::*;

/// A simulated server.
trait SimulatedServer {
    /// Returns whether the server accepts the request, and when its answer leaves.
    fn arrives(&mut self, at: Duration) -> (CongestionSignal, Duration);
}

/// Accepts `rate` requests per second. Unused ones accumulate up to `most`.
struct TokenBucketServer {
    rate: f64,
    most: f64,
    tokens: f64,
    last: Duration,
}

impl TokenBucketServer {
    fn new(rate: f64, seconds: f64) -> Self {
        Self { rate, most: rate * seconds, tokens: rate * seconds, last: Duration::ZERO }
    }
}

impl SimulatedServer for TokenBucketServer {
    fn arrives(&mut self, at: Duration) -> (CongestionSignal, Duration) {
        self.tokens = (self.tokens + at.saturating_sub(self.last).as_secs_f64() * self.rate).min(self.most);
        self.last = at;
        if self.tokens < 1.0 {
            return (CongestionSignal::Throttled(None), at);
        }
        self.tokens -= 1.0;
        (CongestionSignal::Accepted, at)
    }
}

/// Accepts `rate` requests in each second of the clock, a common way to count quotas.
struct FixedQuotaServer {
    rate: u32,
    second: u64,
    taken: u32,
}

impl SimulatedServer for FixedQuotaServer {
    fn arrives(&mut self, at: Duration) -> (CongestionSignal, Duration) {
        if at.as_secs() != self.second {
            (self.second, self.taken) = (at.as_secs(), 0);
        }
        if self.taken == self.rate {
            return (CongestionSignal::Throttled(None), at);
        }
        self.taken += 1;
        (CongestionSignal::Accepted, at)
    }
}

/// Refuses nothing. Works on a fixed number of requests at once, each for the same time; the others wait.
struct QueueingServer {
    free: Vec<Duration>,
    each: Duration,
}

impl SimulatedServer for QueueingServer {
    fn arrives(&mut self, at: Duration) -> (CongestionSignal, Duration) {
        let each = self.each;
        let Some(slot) = self.free.iter_mut().min() else { return (CongestionSignal::Accepted, at) };
        *slot = at.max(*slot) + each;
        (CongestionSignal::Accepted, *slot)
    }
}

/// Answers depending on the time.
struct ScriptedServer<F>(F);

impl<F: FnMut(Duration) -> CongestionSignal> SimulatedServer for ScriptedServer<F> {
    fn arrives(&mut self, at: Duration) -> (CongestionSignal, Duration) {
        ((self.0)(at), at)
    }
}

#[derive(Clone, Copy, Debug)]
enum SimulationEvent {
    /// A timer fired, or an object's retry wait is over.
    Wake,
    Back(u32),
    Arrives(RequestTicket, u32),
    Answered(RequestTicket, u32, CongestionSignal),
}

/// Takes the same time for each request, and works on a fixed number at once. The others wait.
struct QueueingWorkers {
    busy_until: Vec<Duration>,
    takes: Duration,
}

impl SimulatedServer for QueueingWorkers {
    fn arrives(&mut self, at: Duration) -> (CongestionSignal, Duration) {
        let first = self.busy_until.iter_mut().min().expect("a worker");
        *first = at.max(*first) + self.takes;
        (CongestionSignal::Accepted, *first)
    }
}

/// What happened in a period of time.
#[derive(Clone, Copy, Debug, Default)]
struct SimulationCounts {
    sent: u32,
    taken: u32,
    refused: u32,
    most: u32,
}

struct ThrottleSimulation<S> {
    server: S,
    latency: Duration,
    /// The variation of the network latency, as a share of the latency.
    jitter: f64,
    governor: CongestionController,
    concurrency: u32,
    /// Above it, the window opens only while answers are fast.
    start_window: f64,
    random: fastrand::Rng,
    start: Instant,
    now: Duration,
    events: BTreeMap<(Reverse<Duration>, Reverse<u64>), SimulationEvent>,
    made: u64,
    /// When the timer fires.
    wakes: Option<Duration>,
    /// Objects that are ready to be sent, each with its number of refusals.
    ready: Vec<u32>,
    in_flight: u32,
    seen: SimulationCounts,
}

impl<S: SimulatedServer> ThrottleSimulation<S> {
    fn new(server: S, latency: Duration, concurrency: u32, seed: u64) -> Self {
        Self {
            server,
            latency,
            jitter: 0.0,
            governor: CongestionController::new(),
            concurrency,
            start_window: f64::INFINITY,
            random: fastrand::Rng::with_seed(seed),
            start: Instant::now(),
            now: Duration::ZERO,
            events: BTreeMap::new(),
            made: 0,
            wakes: None,
            ready: vec![0; concurrency as usize],
            in_flight: 0,
            seen: SimulationCounts::default(),
        }
    }

    fn at(&mut self, time: Duration, event: SimulationEvent) {
        self.made += 1;
        self.events.insert((Reverse(time), Reverse(self.made)), event);
    }

    /// Runs the simulation for this time and returns what happened.
    fn run(&mut self, lasts: Duration) -> SimulationCounts {
        let end = self.now + lasts;
        self.seen = SimulationCounts::default();
        self.at(self.now, SimulationEvent::Wake);
        while let Some(((Reverse(time), _), event)) = self.events.pop_last() {
            if time > end {
                self.at(time, event);
                break;
            }
            self.now = time;
            self.happens(event);
            self.send();
        }
        self.now = end;
        self.seen
    }

    fn happens(&mut self, event: SimulationEvent) {
        match event {
            SimulationEvent::Wake => {}
            SimulationEvent::Back(refusals) => self.ready.push(refusals),
            SimulationEvent::Arrives(ticket, refusals) => {
                let (verdict, leaves) = self.server.arrives(self.now);
                self.at(leaves + self.latency / 2, SimulationEvent::Answered(ticket, refusals, verdict));
            }
            SimulationEvent::Answered(ticket, refusals, verdict) => {
                self.in_flight -= 1;
                let now = self.start + self.now;
                let max = f64::from(self.concurrency);
                let bounds = WindowBounds { start: self.start_window.min(max), max };
                self.governor.on_answer(ticket, now, RequestKind::PutTags, verdict, bounds);
                if verdict == CongestionSignal::Accepted {
                    self.seen.taken += 1;
                    self.ready.push(0);
                    return;
                }
                self.seen.refused += 1;
                // Roughly the backoff and jitter of the worker.
                let wait = (0.1 * 2_f64.powi(refusals.min(8).cast_signed()) * (0.5 + self.random.f64())).min(20.0);
                self.at(self.now + Duration::from_secs_f64(wait.max(0.1)), SimulationEvent::Back(refusals + 1));
            }
        }
    }

    fn send(&mut self) {
        while let Some(refusals) = self.ready.last().copied() {
            match self.governor.admit(self.start + self.now) {
                AdmissionDecision::Admitted(ticket) => {
                    self.ready.pop();
                    self.in_flight += 1;
                    self.seen.sent += 1;
                    self.seen.most = self.seen.most.max(self.in_flight);
                    let late = self.latency.mul_f64(0.5 + self.jitter * self.random.f64());
                    self.at(self.now + late, SimulationEvent::Arrives(ticket, refusals));
                }
                AdmissionDecision::NotBefore(turn) => {
                    // Timers have a resolution of one millisecond.
                    let turn = turn.duration_since(self.start).as_nanos().div_ceil(1_000_000);
                    let turn = Duration::from_millis(u64::try_from(turn).unwrap());
                    if self.wakes.is_none_or(|wakes| wakes > turn || wakes <= self.now) {
                        self.wakes = Some(turn);
                        self.at(turn, SimulationEvent::Wake);
                    }
                    break;
                }
                AdmissionDecision::WindowFull => break,
            }
        }
    }
}

const RATES: [u32; 3] = [200, 1000, 3000];
const LATENCIES: [u64; 3] = [1, 20, 100];

/// What a test expects: shares of the server's rate while the rate settles and afterwards, and the highest share of
/// refusals.
#[derive(Clone, Copy)]
struct ThroughputTarget {
    settling: f64,
    settled: f64,
    refused: f64,
}

/// The expectation for a server with a hard limit.
const HARD: ThroughputTarget = ThroughputTarget { settling: 0.7, settled: 0.9, refused: 0.01 };

fn finds<S: SimulatedServer>(mut world: ThrottleSimulation<S>, rate: u32, asked: ThroughputTarget, what: &str) {
    let settling = world.run(Duration::from_secs(15));
    let seen = world.run(Duration::from_mins(1));
    let part = |seen: SimulationCounts, seconds: f64| f64::from(seen.taken) / seconds / f64::from(rate);
    let (early, throughput) = (part(settling, 15.0), part(seen, 60.0));
    let refused = f64::from(seen.refused) / f64::from(seen.taken + seen.refused);
    let what = format!("{what}: {early:.3} of {rate}/s, then {throughput:.3}, {:.3} % refused", refused * 100.0);
    assert!(early >= asked.settling && throughput >= asked.settled && refused < asked.refused, "{what}");
}

#[test]
fn it_finds_the_rate_of_a_server_with_a_hard_limit() {
    for rate in RATES {
        for latency in LATENCIES {
            for burst in [0.1, 1.0] {
                let server = TokenBucketServer::new(f64::from(rate), burst);
                let world = ThrottleSimulation::new(server, Duration::from_millis(latency), 512, 1);
                finds(world, rate, HARD, &format!("{latency} ms, burst of {burst} s"));
            }
        }
    }
}

#[test]
fn it_finds_the_rate_behind_a_network_that_jitters() {
    for rate in RATES {
        for latency in LATENCIES {
            let server = TokenBucketServer::new(f64::from(rate), 0.2);
            let world = ThrottleSimulation::new(server, Duration::from_millis(latency), 512, 2);
            finds(ThrottleSimulation { jitter: 0.5, ..world }, rate, HARD, &format!("{latency} ms and more"));
        }
    }
}

#[test]
fn it_finds_a_quota_that_is_counted_by_the_second() {
    // The hardest case: the server seems unlimited for a part of each second, and down for the rest of it.
    let asked = ThroughputTarget { settling: 0.3, settled: 0.8, refused: 0.02 };
    for rate in RATES {
        for latency in LATENCIES {
            let server = FixedQuotaServer { rate, second: 0, taken: 0 };
            let world = ThrottleSimulation::new(server, Duration::from_millis(latency), 512, 3);
            finds(world, rate, asked, &format!("{latency} ms, by the second"));
        }
    }
}

#[test]
fn a_server_without_limits_is_used_to_the_cap_within_a_second() {
    for (latency, concurrency) in [(1, 64), (20, 64), (100, 64), (100, 1000)] {
        let server = ScriptedServer(|_| CongestionSignal::Accepted);
        let latency = Duration::from_millis(latency);
        let mut world = ThrottleSimulation::new(server, latency, concurrency, 4);
        world.run(Duration::from_secs(1));
        let seen = world.run(Duration::from_secs(10));
        assert_eq!(seen.most, concurrency, "{latency:?}");
        let most = f64::from(concurrency) / latency.as_secs_f64() * 10.0;
        assert!(f64::from(seen.taken) > most * 0.99, "{latency:?}: {} of {most}", seen.taken);
        assert!(world.governor.rate_limit().is_none());
    }
}

#[test]
fn a_server_that_bears_more_than_the_start_gets_more() {
    for latency in [5, 20, 100] {
        let server = ScriptedServer(|_| CongestionSignal::Accepted);
        let mut world = ThrottleSimulation::new(server, Duration::from_millis(latency), 256, 4);
        world.start_window = 64.0;
        let first = world.run(Duration::from_millis(latency * 6));
        assert!(first.most <= 96, "{latency} ms: {first:?}");
        world.run(Duration::from_secs(5));
        let seen = world.run(Duration::from_secs(10));
        assert_eq!(seen.most, 256, "{latency} ms");
    }
}

#[test]
fn a_server_that_works_on_a_hundred_at_once_gets_hardly_more() {
    // Each takes 20 ms; those beyond a hundred wait.
    for limit in [100, 150] {
        let mut busy_until = vec![Duration::ZERO; limit];
        let server = QueueingWorkers { busy_until: std::mem::take(&mut busy_until), takes: Duration::from_millis(20) };
        let mut world = ThrottleSimulation::new(server, Duration::from_millis(2), 256, 4);
        world.start_window = 64.0;
        world.run(Duration::from_secs(10));
        let seen = world.run(Duration::from_mins(1));
        let limit = u32::try_from(limit).expect("few");
        assert!((limit..limit * 9 / 5).contains(&seen.most), "{limit}: {seen:?}");
        assert!(seen.taken > limit * 50 * 60 * 95 / 100, "{limit}: {seen:?}");
    }
}

#[test]
fn a_server_that_refuses_one_in_a_thousand_whatever_it_is_sent_is_not_left_idle() {
    let mut random = fastrand::Rng::with_seed(9);
    let server = ScriptedServer(move |_| {
        if random.u32(0..1000) == 0 { CongestionSignal::Throttled(None) } else { CongestionSignal::Accepted }
    });
    let mut world = ThrottleSimulation::new(server, Duration::from_millis(20), 64, 9);
    world.run(Duration::from_secs(20));
    let seen = world.run(Duration::from_mins(1));
    assert!(seen.taken > 3200 * 60 * 9 / 10, "{seen:?}");
}

#[test]
fn a_server_that_queues_is_kept_busy_and_no_more() {
    let each = Duration::from_millis(20);
    let mut world = ThrottleSimulation::new(
        QueueingServer { free: vec![Duration::ZERO; 10], each },
        Duration::from_millis(10),
        1000,
        5,
    );
    world.run(Duration::from_secs(5));
    let seen = world.run(Duration::from_secs(20));
    assert!(seen.taken >= 9900, "{seen:?}");
    assert!(seen.most < 400, "{seen:?}");
}

#[test]
fn a_limit_that_is_raised_is_found_and_one_that_is_lowered_as_well() {
    let mut world = ThrottleSimulation::new(TokenBucketServer::new(1000.0, 0.1), Duration::from_millis(20), 512, 6);
    world.run(Duration::from_secs(30));
    world.server.rate = 3000.0;
    world.server.most = 300.0;
    world.run(Duration::from_secs(45));
    let seen = world.run(Duration::from_secs(20));
    assert!(seen.taken > 54_000, "{seen:?}");
    world.server.rate = 200.0;
    world.server.most = 20.0;
    let falling = world.run(Duration::from_secs(15));
    assert!(falling.refused < 1500, "{falling:?}");
    let seen = world.run(Duration::from_secs(30));
    assert!(seen.taken > 5400 && seen.refused * 100 < seen.taken, "{seen:?}");
}

#[test]
fn a_server_that_is_down_is_asked_now_and_then_and_found_again() {
    let mut bucket = TokenBucketServer::new(1000.0, 0.1);
    let server = ScriptedServer(move |at: Duration| match at.as_secs() {
        20..140 => CongestionSignal::Throttled(None),
        _ => bucket.arrives(at).0,
    });
    let mut world = ThrottleSimulation::new(server, Duration::from_millis(20), 64, 7);
    world.run(Duration::from_secs(30));
    let down = world.run(Duration::from_secs(110));
    assert!((20..1000).contains(&down.sent), "{down:?}");
    world.run(Duration::from_secs(30));
    let seen = world.run(Duration::from_secs(20));
    assert!(seen.taken > 18_000 && seen.refused * 100 < seen.taken, "{seen:?}");
}

#[test]
fn a_server_that_asks_to_be_left_alone_is_for_as_long_and_no_longer_than_a_minute() {
    for (asked, expected) in [(7, 7), (3600, MAX_PAUSE.as_secs())] {
        let server = ScriptedServer(move |at: Duration| match at.as_secs() {
            5 => CongestionSignal::Throttled(Some(Duration::from_secs(asked))),
            _ => CongestionSignal::Accepted,
        });
        let mut world = ThrottleSimulation::new(server, Duration::from_millis(20), 64, 8);
        world.run(Duration::from_secs(5));
        let first = world.run(Duration::from_millis(50));
        assert!(first.refused > 0 && first.refused <= 128, "{first:?}");
        let alone = world.run(Duration::from_millis(expected * 1000 - 50));
        assert_eq!((alone.sent, alone.taken), (0, 0), "{asked}: {alone:?}");
        let after = world.run(Duration::from_secs(5));
        assert!(after.taken > 100, "{asked}: {after:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any mix of answers, requests are sent, the number in flight is bounded, and all requests are accounted
    /// for.
    #[test]
    fn never_stalls_and_never_exceeds_its_limits(
        seed in any::<u64>(),
        (taken, refused, failed, asks) in (0_u32..100, 0_u32..100, 0_u32..100, 0_u32..3),
        latency in 1_u64..2000,
        concurrency in 1_u32..200,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let server = ScriptedServer(move |_| match random.u32(0..1 + taken + refused + failed + asks) {
            n if n <= taken => CongestionSignal::Accepted,
            n if n <= taken + refused => CongestionSignal::Throttled(None),
            n if n <= taken + refused + failed => CongestionSignal::Failed,
            _ => CongestionSignal::Throttled(Some(Duration::from_secs(9))),
        });
        let mut world = ThrottleSimulation::new(server, Duration::from_millis(latency), concurrency, seed);
        for _ in 0..3 {
            let seen = world.run(Duration::from_mins(1));
            prop_assert!(seen.sent > 0 && seen.most <= concurrency, "{:?}", seen);
            prop_assert!(world.governor.rate_limit().is_none_or(|limit| limit.is_finite() && limit >= 1.0));
        }
    }
}

#[test]
fn doubles_until_congestion_then_grows_linearly() {
    let mut window = CongestionWindow::new();
    for (there, then) in [(8, 16), (16, 32), (32, 64), (64, 64)] {
        (0..there).for_each(|_| window.on_answer(WindowBounds { start: 64.0, max: 64.0 }));
        assert!(window.has_room(then - 1) && !window.has_room(then), "{window:?}");
    }
    window.on_failure();
    window.on_answer(WindowBounds { start: 64.0, max: 64.0 });
    assert!(window.has_room(31) && !window.has_room(32), "{window:?}");
    (0..3).for_each(|_| window.widen(64.0));
    assert!(window.has_room(43) && !window.has_room(44), "{window:?}");
    (0..100).for_each(|_| window.on_latency_rise());
    assert!(window.has_room(3) && !window.has_room(4), "{window:?}");
}

fn settled(at: f64) -> AdaptiveRate {
    AdaptiveRate { estimate: Some(RateEstimate::near_limit(at, at * REFUSAL_FACTOR)), ..AdaptiveRate::unlimited() }
}

#[test]
fn turns_are_as_many_as_the_rate_says_however_late_they_are_taken() {
    let mut rate = AdaptiveRate {
        estimate: Some(RateEstimate { limit: 3000.0, phase: RatePhase::Seeking }),
        ..AdaptiveRate::unlimited()
    };
    let (start, mut taken) = (Instant::now(), 0);
    for millisecond in 0..1000 {
        while rate.acquire(start + Duration::from_millis(millisecond)).is_ok() {
            taken += 1;
        }
    }
    assert!((2990..=3001).contains(&taken), "{taken}");
    let later = start + Duration::from_mins(1);
    let burst = std::iter::from_fn(|| rate.acquire(later).ok()).count();
    assert!(burst <= 31, "{burst}");
}

#[test]
fn recovers_quickly_then_slowly_then_quickly() {
    let mut rate = settled(1000.0);
    let mut after = |seconds: u32| {
        (0..seconds * 10).for_each(|_| rate.grow(0.1));
        rate.limit().unwrap()
    };
    let (three, seven, ten, thirteen, forty) = (after(3), after(4), after(3), after(3), after(27));
    assert!((970.0..985.0).contains(&three), "{three}");
    assert!((995.0..1000.0).contains(&seven) && (999.9..1000.1).contains(&ten), "{seven} {ten}");
    assert!((1000.0..1005.0).contains(&thirteen), "{thirteen}");
    assert!(forty > 2000.0, "{forty}");
}

#[test]
fn rate_never_reaches_zero() {
    let mut rate = settled(1000.0);
    for _ in 0..1000 {
        rate.on_throttled(0.0);
        rate.on_overrun(0.0);
    }
    assert!(rate.limit().is_some_and(|limit| limit >= MIN_RATE), "{rate:?}");
    let start = Instant::now();
    assert!(rate.acquire(start).is_ok());
    assert!(rate.acquire(start).is_err_and(|turn| turn <= start + Duration::from_secs(1)));
}

fn rises(latency: &mut LatencyBaseline, latencies: &RoundLatencies, seconds: f64) -> bool {
    latency.add_round(latencies, seconds) == LatencyTrend::Rising
}

fn round(answers: &[(RequestKind, u32, u64)]) -> RoundLatencies {
    let mut took = RoundLatencies::default();
    for (kind, count, millis) in answers {
        (0..*count).for_each(|_| took.add(*kind, Duration::from_millis(*millis)));
    }
    took
}

#[test]
fn a_latency_that_rises_and_stays_is_noticed_and_then_usual() {
    let mut latency = LatencyBaseline::default();
    assert!((0..50).all(|_| !rises(&mut latency, &round(&[(PutTags, 20, 20)]), 0.1)));
    assert!((0..50).all(|_| !rises(&mut latency, &round(&[(PutTags, 20, 60)]), 0.01)), "that may be anything");
    assert!(!rises(&mut latency, &round(&[(PutTags, 20, 500)]), 0.1), "once is no rise");
    assert!((0..50).all(|_| rises(&mut latency, &round(&[(PutTags, 20, 500)]), 0.1)));
    let rounds = (0..1000).take_while(|_| rises(&mut latency, &round(&[(PutTags, 20, 500)]), 0.1)).count();
    assert!((50..300).contains(&rounds), "{rounds}");
}

#[test]
fn a_different_request_mix_is_not_a_latency_rise() {
    let mut latency = LatencyBaseline::default();
    assert!((0..9).all(|_| !rises(&mut latency, &round(&[(GetTags, 60, 5)]), 0.1)));
    assert!((0..9).all(|_| !rises(&mut latency, &round(&[(GetTags, 5, 5), (PutTags, 60, 300)]), 0.1)));
    assert!((0..9).all(|_| !rises(&mut latency, &round(&[(GetTags, 60, 5), (PutTags, 5, 300)]), 0.1)));
    assert!((0..9).all(|_| !rises(&mut latency, &round(&[(PutTags, 60, 300)]), 0.1)));
}

#[test]
fn every_kind_of_request_is_measured() {
    for kind in RequestKind::ALL {
        let mut latency = LatencyBaseline::default();
        assert!((0..9).all(|_| !rises(&mut latency, &round(&[(kind, 20, 20)]), 0.1)), "{kind:?}");
        let mut rises = (0..9).map(|_| rises(&mut latency, &round(&[(kind, 20, 900)]), 0.1));
        assert!(rises.any(|rise| rise), "{kind:?}");
    }
}

#[test]
fn a_few_slow_responses_are_no_latency_rise() {
    let mut latency = LatencyBaseline::default();
    assert!((0..9).all(|_| !rises(&mut latency, &round(&[(Head, 20, 5)]), 0.1)));
    assert!((0..9).all(|_| !rises(&mut latency, &round(&[(Head, 3, 9000)]), 0.1)));
}

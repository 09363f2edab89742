use super::*;

const TOTAL: u64 = 200_000;

/// A job of 200,000 objects. `per_second` is how many a run finishes per second, and `before` how many were finished earlier.
struct SteadyRun {
    meter: ProgressMeter,
    before: u64,
    per_second: u64,
}

impl SteadyRun {
    fn new(before: u64, per_second: u64) -> Self {
        Self { meter: ProgressMeter::new(before), before, per_second }
    }

    fn state(&self, elapsed: Duration) -> RunState {
        let finished = self.before + self.per_second * u64::try_from(elapsed.as_millis()).expect("short") / 1000;
        let job = Progress { total: TOTAL, succeeded: finished.min(TOTAL), ..Progress::default() };
        RunState { job, in_flight: 64, oldest_in_flight: Some(Duration::from_millis(90)), ..RunState::default() }
    }

    /// Measures twice a second, as a run does, and returns the progress after this time.
    fn after(&mut self, time: Duration) -> RunProgress {
        let step = Duration::from_millis(500);
        let mut progress = RunProgress::default();
        for tick in 0..=time.as_millis() / step.as_millis() {
            let elapsed = step * u32::try_from(tick).expect("few");
            let state = self.state(elapsed);
            progress = self.meter.measure(elapsed, state);
        }
        progress
    }
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).expect("small"))
}

fn assert_within_a_tenth(found: f64, expected: f64) {
    assert!((found - expected).abs() <= expected / 10.0, "{found} instead of {expected}");
}

#[test]
fn rate_and_remaining_time_are_those_of_this_run() {
    // A new job; one that is resumed, or taken over by another machine, with most of its objects done.
    for before in [0, 28_717, 190_000] {
        for (per_second, seconds) in [(700, 10), (700, 12), (45, 10), (1, 30)] {
            let mut run = SteadyRun::new(before, per_second);
            let progress = run.after(Duration::from_secs(seconds));
            let left = TOTAL - before - per_second * seconds;
            assert_within_a_tenth(progress.rate, number(per_second));
            assert_within_a_tenth(progress.mean_rate(), number(per_second));
            let remaining = progress.remaining_time.expect("an estimate").as_secs_f64();
            assert_within_a_tenth(remaining, number(left) / number(per_second));
            assert_eq!((progress.finished_before, progress.finished_in_run()), (before, per_second * seconds));
            assert_eq!(progress.stalled_for, None);
        }
    }
}

#[test]
fn the_rate_follows_a_store_that_becomes_slower() {
    let mut run = SteadyRun::new(0, 1000);
    run.after(Duration::from_mins(1));
    // From now on, 100 a second.
    let finished = 60_000;
    let mut progress = RunProgress::default();
    for second in 1..=40 {
        let job = Progress { total: TOTAL, succeeded: finished + second * 100, ..Progress::default() };
        let elapsed = Duration::from_secs(60 + second);
        progress = run.meter.measure(elapsed, RunState { job, in_flight: 64, ..RunState::default() });
    }
    assert_within_a_tenth(progress.rate, 100.0);
    assert_within_a_tenth(progress.mean_rate(), 640.0);
}

#[test]
fn a_stalled_run_has_no_rate_and_no_estimate() {
    let mut run = SteadyRun::new(0, 700);
    let last = run.after(Duration::from_secs(10));
    let waiting = RunState { job: last.job, in_flight: 64, ..run.state(Duration::ZERO) };
    let mut at = |seconds| {
        let oldest = Some(Duration::from_secs(seconds - 10));
        run.meter.measure(Duration::from_secs(seconds), RunState { oldest_in_flight: oldest, ..waiting })
    };
    let soon = at(14);
    assert_eq!(soon.stalled_for, None);
    assert!(soon.rate > 0.0);
    let stalled = at(45);
    assert_eq!((stalled.stalled_for, stalled.remaining_time), (Some(Duration::from_secs(35)), None));
    assert_eq!(stalled.oldest_in_flight, Some(Duration::from_secs(35)));
    assert_eq!(stalled.rate.to_bits(), 0.0_f64.to_bits());
}

#[test]
fn a_run_without_work_is_not_stalled() {
    let mut meter = ProgressMeter::new(5);
    let job = Progress { total: 10, succeeded: 5, ..Progress::default() };
    let idle = meter.measure(Duration::from_mins(1), RunState { job, ..RunState::default() });
    assert_eq!((idle.stalled_for, idle.remaining_time), (None, None));
    // Hardly any progress: no estimate of millions of years.
    let mut meter = ProgressMeter::new(0);
    let job = Progress { total: u64::MAX, succeeded: 1, ..Progress::default() };
    assert_eq!(meter.measure(Duration::from_secs(29), RunState { job, ..RunState::default() }).remaining_time, None);
}

#[test]
fn nothing_is_estimated_at_once_and_nothing_remains_at_the_end() {
    let mut run = SteadyRun::new(0, 100_000);
    assert_eq!(run.after(Duration::from_millis(500)).remaining_time, None);
    let ended = run.after(Duration::from_secs(2));
    assert_eq!(ended.remaining_time, Some(Duration::ZERO));
    assert_within_a_tenth(ended.share(), 1.0);
    assert_within_a_tenth(RunProgress::default().share(), 1.0);
}

#[test]
fn the_share_of_throttled_requests_is_that_of_the_last_half_minute() {
    let counter = super::super::request_counts::RequestCounter::default();
    let mut meter = ProgressMeter::new(0);
    let mut progress = RunProgress::default();
    for tick in 0..=120 {
        for number in 0..10 {
            counter.add_sent(batchplan_store::object_request::RequestKind::PutTags, false);
            if tick > 90 && number < 3 {
                counter.add_throttled();
            }
        }
        let state = RunState { requests: counter.counts(), ..RunState::default() };
        progress = meter.measure(Duration::from_secs(tick), state);
    }
    assert_within_a_tenth(progress.throttled_share, 0.3);
    assert_eq!((progress.requests.total(), progress.requests.throttled), (1210, 90));
}

#[test]
fn memory_is_bounded() {
    let mut meter = ProgressMeter::new(0);
    for tick in 0..1_000_000_u32 {
        meter.measure(Duration::from_millis(1) * tick, RunState::default());
    }
    assert!(meter.samples.len() <= 122, "{}", meter.samples.len());
}

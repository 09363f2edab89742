//! How far a run of a job is, how fast it is, and when it will end: the numbers that every display of progress shows.
//!
//! Rate and remaining time come only from what this run has done. What earlier runs finished is where the counts
//! start. Time is a parameter, so that nothing here depends on a clock.

use std::collections::VecDeque;
use std::time::Duration;

use super::request_counts::RequestCounts;
use crate::job::Progress;

/// The period over which the rate is averaged: long enough to be steady, and short enough to follow a store that
/// becomes slower.
const RATE_WINDOW: Duration = Duration::from_secs(30);

/// The shortest time between two measurements that are kept. This bounds their number.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// The time without a finished object after which a run counts as stalled.
const STALL_TIME: Duration = Duration::from_secs(5);

/// The time after which the remaining time is estimated. Before, a run is still opening connections.
const MIN_TIME_FOR_ESTIMATE: Duration = Duration::from_secs(1);

/// Longer estimates are not given: the job hardly makes progress, and the rate will change.
const MAX_REMAINING_TIME: Duration = Duration::from_hours(24 * 365);

/// The progress of a run at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunProgress {
    /// The number of all objects of the job, and of those that are done, in this run and in earlier ones.
    pub job: Progress,
    /// The number of objects that earlier runs had finished when this one began.
    pub finished_before: u64,
    /// The time since this run began.
    pub elapsed: Duration,
    /// Objects per second over the last half minute; 0 if the run is stalled.
    pub rate: f64,
    /// The time until the last object is done at this rate. `None` if it cannot be estimated, or is more than a year.
    pub remaining_time: Option<Duration>,
    /// The requests about objects that this run has sent.
    pub requests: RequestCounts,
    /// The share of the requests over the last half minute that the server refused because too many were sent: from 0
    /// to 1.
    pub throttled_share: f64,
    /// The number of objects that are being processed.
    pub in_flight: u64,
    /// How long the oldest of them is being processed.
    pub oldest_in_flight: Option<Duration>,
    /// If the run is stalled: how long no object was finished, although some are being processed.
    pub stalled_for: Option<Duration>,
    /// Whether the run is stopping.
    pub stopping: bool,
}

impl RunProgress {
    /// Returns the share of the objects that are done: from 0 to 1. A job without objects is done.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.job.total == 0 {
            return 1.0;
        }
        ratio(self.job.finished(), self.job.total)
    }

    /// Returns the number of objects that this run has finished.
    #[must_use]
    pub fn finished_in_run(&self) -> u64 {
        self.job.finished().saturating_sub(self.finished_before)
    }

    /// Returns the objects per second since this run began; 0 if no time has passed.
    #[must_use]
    pub fn mean_rate(&self) -> f64 {
        per_second(self.finished_in_run(), self.elapsed)
    }
}

/// What is known of a run at one moment, without its speed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunState {
    /// The counts of the job.
    pub job: Progress,
    /// The requests that the run has sent.
    pub requests: RequestCounts,
    /// The number of objects that are being processed.
    pub in_flight: u64,
    /// How long the oldest of them is being processed.
    pub oldest_in_flight: Option<Duration>,
    /// Whether the run is stopping.
    pub stopping: bool,
}

/// Measures the speed of a run. Times are counted from the beginning of the run.
#[derive(Debug)]
pub struct ProgressMeter {
    finished_before: u64,
    /// Measurements of the last `RATE_WINDOW`, and the last one before it.
    samples: VecDeque<ProgressSample>,
    /// When an object was last found finished, and how many there were.
    last_finished: (Duration, u64),
}

#[derive(Clone, Copy, Debug, Default)]
struct ProgressSample {
    at: Duration,
    finished: u64,
    sent: u64,
    throttled: u64,
}

impl ProgressMeter {
    /// Begins to measure a run of a job of which `finished_before` objects are done.
    #[must_use]
    pub fn new(finished_before: u64) -> Self {
        let start = ProgressSample { finished: finished_before, ..ProgressSample::default() };
        Self { finished_before, samples: VecDeque::from([start]), last_finished: (Duration::ZERO, finished_before) }
    }

    /// Returns the progress of a run that began `elapsed` ago.
    pub fn measure(&mut self, elapsed: Duration, state: RunState) -> RunProgress {
        let RunState { job, requests, in_flight, oldest_in_flight, stopping } = state;
        let now = ProgressSample {
            at: elapsed,
            finished: job.finished(),
            sent: requests.total(),
            throttled: requests.throttled,
        };
        let start = self.add(now);
        if now.finished > self.last_finished.1 {
            self.last_finished = (elapsed, now.finished);
        }
        let quiet = elapsed.saturating_sub(self.last_finished.0);
        let stalled_for = (in_flight > 0 && quiet >= STALL_TIME).then_some(quiet);
        let rate = match stalled_for {
            Some(_) => 0.0,
            None => per_second(now.finished.saturating_sub(start.finished), elapsed.saturating_sub(start.at)),
        };
        RunProgress {
            job,
            finished_before: self.finished_before,
            elapsed,
            rate,
            remaining_time: remaining_time(job, rate).filter(|_| elapsed >= MIN_TIME_FOR_ESTIMATE),
            requests,
            throttled_share: ratio(
                now.throttled.saturating_sub(start.throttled),
                now.sent.saturating_sub(start.sent).max(1),
            )
            .min(1.0),
            in_flight,
            oldest_in_flight,
            stalled_for,
            stopping,
        }
    }

    /// Adds a measurement, and returns the one that it is compared with.
    fn add(&mut self, now: ProgressSample) -> ProgressSample {
        while self.samples.get(1).is_some_and(|second| now.at.saturating_sub(second.at) >= RATE_WINDOW) {
            self.samples.pop_front();
        }
        let start = self.samples.front().copied().unwrap_or_default();
        if self.samples.back().is_none_or(|last| now.at.saturating_sub(last.at) >= SAMPLE_INTERVAL) {
            self.samples.push_back(now);
        }
        start
    }
}

fn remaining_time(job: Progress, rate: f64) -> Option<Duration> {
    if job.remaining() == 0 {
        return Some(Duration::ZERO);
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate that is shown in two units")]
    let seconds = job.remaining() as f64 / rate;
    Duration::try_from_secs_f64(seconds).ok().filter(|remaining| *remaining <= MAX_REMAINING_TIME)
}

fn per_second(count: u64, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = count as f64 / time.as_secs_f64();
    if rate.is_finite() { rate } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
#[path = "run_progress_tests.rs"]
mod tests;

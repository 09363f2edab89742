//! Estimates how long a job takes: at the plan's rate, and at the provider's limits.

use std::collections::BTreeMap;
use std::time::Duration;

use batchplan_store::object_request::RequestKind;

use super::price_book::ProviderRateLimit;
use super::price_selection::StorePrices;
use super::workload::JobWorkload;
use crate::plan::JobLimits;

/// The latency of a request that is assumed if none was measured. Requests in the same region are mostly faster, and
/// others slower.
pub const ASSUMED_LATENCY: Duration = Duration::from_millis(50);

/// About the most requests that this program sends per second, because one job uses one processor core. Measured with
/// `cargo bench --bench client`, on a slow core.
const REQUESTS_PER_CORE: f64 = 30_000.0;

/// How a job opens its window, as `engine/congestion` does: from a few requests in flight, doubling with each answer up
/// to the starting point, and then by half the square root of the maximum in each round, which takes as long as an
/// answer, but at least a tenth of a second.
const INITIAL_WINDOW: f64 = 8.0;
const STEP_FACTOR: f64 = 0.5;
const MIN_ROUND: f64 = 0.1;

/// What limits the rate of a job on our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateBottleneck {
    /// `requests_per_second` of the plan.
    RateLimit,
    /// The requests in flight, by `concurrency` of the plan and the latency.
    Concurrency,
    /// The processor of this machine.
    Processor,
}

/// The minimum run time of a job under one of the provider's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTimeBound {
    /// The limit.
    pub limit: ProviderRateLimit,
    /// The number of the job's requests that the limit counts.
    pub requests: u64,
    /// The time for these requests.
    pub duration: Duration,
}

/// The estimated run time of a job, without retries, listings and the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTimeEstimate {
    /// The number of requests about objects.
    pub requests: u64,
    /// The highest rate that the plan allows, in requests per second.
    pub per_second: u64,
    /// The average latency of the requests.
    pub latency: Duration,
    /// Whether the latency was measured, and not assumed.
    pub is_measured: bool,
    /// What limits this rate.
    pub bottleneck: RateBottleneck,
    /// The time for the requests at this rate.
    pub at_plan_rate: Duration,
    /// The time under each of the provider's limits that counts some of the requests.
    pub bounds: Vec<RunTimeBound>,
}

impl RunTimeEstimate {
    /// Returns the time for the requests under all provider limits that always apply. A limit for a prefix is applied
    /// as if all objects were below one prefix. Returns `None` if no such limit is known.
    #[must_use]
    pub fn at_provider_limits(&self) -> Option<Duration> {
        self.bounds.iter().filter(|bound| bound.limit.condition.is_none()).map(|bound| bound.duration).max()
    }
}

/// Estimates the run time of a job under the limits of the plan and of its provider. `latencies` are those of the kinds
/// of requests that were measured. The others are assumed to take as long as these.
#[must_use]
pub fn estimate_run_time(
    work: &JobWorkload,
    limits: &JobLimits,
    prices: &StorePrices,
    latencies: &BTreeMap<RequestKind, Duration>,
) -> RunTimeEstimate {
    let requests = sum(work.all_requests().map(|(_, count)| count));
    let measured = average_latency(work, latencies);
    let latency = measured.unwrap_or(ASSUMED_LATENCY);
    let window = WindowModel::new(limits, latency);
    let allowed = limits.requests_per_second.map_or(f64::INFINITY, f64::from);
    let (rate, bottleneck) = [
        (allowed, RateBottleneck::RateLimit),
        (window.max_rate(), RateBottleneck::Concurrency),
        (REQUESTS_PER_CORE, RateBottleneck::Processor),
    ]
    .into_iter()
    .min_by(|(one, _), (other, _)| one.total_cmp(other))
    .unwrap_or((REQUESTS_PER_CORE, RateBottleneck::Processor));
    let bound = |limit: &ProviderRateLimit| {
        let counted = work.all_requests().filter(|((kind, class), _)| limit.counts(kind.item().0, class.as_ref()));
        let requests = sum(counted.map(|(_, count)| count));
        let duration = time_for(requests, u64::from(limit.per_second.max(1)));
        (requests > 0).then(|| RunTimeBound { limit: limit.clone(), requests, duration })
    };
    let bounds = prices.entry().map(|entry| entry.limits.iter().filter_map(bound).collect()).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the rate of a core")]
    let per_second = (rate.round() as u64).max(1);
    let at_plan_rate = window.time_for(requests, rate);
    RunTimeEstimate { requests, per_second, latency, is_measured: measured.is_some(), bottleneck, at_plan_rate, bounds }
}

/// Returns the average latency of the requests. Returns `None` if none was measured.
fn average_latency(work: &JobWorkload, latencies: &BTreeMap<RequestKind, Duration>) -> Option<Duration> {
    let kinds = u32::try_from(latencies.len()).ok().filter(|kinds| *kinds > 0)?;
    let average = (latencies.values().sum::<Duration>() / kinds).as_secs_f64();
    let (mut seconds, mut requests) = (0.0, 0.0);
    for ((request, _), count) in work.all_requests() {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let count = count as f64;
        seconds += count * latencies.get(&request.kind()).map_or(average, Duration::as_secs_f64);
        requests += count;
    }
    let latency = if requests > 0.0 { seconds / requests } else { average };
    Duration::try_from_secs_f64(latency).ok()
}

/// The requests in flight over the time of a job, if the store neither throttles nor becomes slower.
#[derive(Clone, Copy, Debug)]
struct WindowModel {
    start: f64,
    max: f64,
    latency: f64,
}

impl WindowModel {
    fn new(limits: &JobLimits, latency: Duration) -> Self {
        let max = f64::from(limits.max_concurrency.max(1));
        Self { start: f64::from(limits.concurrency).min(max), max, latency: latency.as_secs_f64().max(1e-6) }
    }

    /// The requests per second with the widest window.
    fn max_rate(self) -> f64 {
        self.max / self.latency
    }

    /// Returns the time for the requests in whole seconds, rounded up, if no more than `rate` are sent per second.
    fn time_for(self, requests: u64, rate: f64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let mut left = requests as f64;
        let (mut seconds, mut window) = (0.0, INITIAL_WINDOW.min(self.max));
        while window < self.max && window / self.latency < rate {
            let doubles = window < self.start;
            let round = if doubles { self.latency } else { self.latency.max(MIN_ROUND) };
            let sent = window / self.latency * round;
            if sent >= left {
                break;
            }
            left -= sent;
            seconds += round;
            window = if doubles {
                (window * 2.0).min(self.start)
            } else {
                (window + (self.max.sqrt() * STEP_FACTOR).max(1.0)).min(self.max)
            };
        }
        // The last answers arrive one latency after their requests.
        let sending = left / rate.min(window / self.latency);
        let in_all = if requests == 0 { 0.0 } else { seconds + sending.max(self.latency) };
        // Rounding must not add a second to an exact result.
        Duration::try_from_secs_f64((in_all - 1e-6).ceil().max(0.0)).unwrap_or(Duration::MAX)
    }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// Returns the time for the requests in whole seconds, rounded up.
fn time_for(requests: u64, per_second: u64) -> Duration {
    Duration::from_secs(requests.div_ceil(per_second))
}

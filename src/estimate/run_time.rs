//! Estimates how long a job takes: at the plan's rate, and at the provider's limits.

use std::time::Duration;

use super::price_book::ProviderRateLimit;
use super::price_selection::StorePrices;
use super::workload::JobWorkload;
use crate::plan::JobLimits;

/// The assumed latency of a request, for a rate that depends on the number of requests in flight. Requests in the same
/// region are mostly faster, and others slower.
pub const ASSUMED_LATENCY: Duration = Duration::from_millis(50);

/// The number of requests per second for each request in flight.
const REQUESTS_PER_SLOT: u64 = 1000 / 50;

/// What limits the rate of a job on our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateBottleneck {
    /// `requests_per_second` of the plan.
    RateLimit,
    /// `concurrency` of the plan, with [`ASSUMED_LATENCY`] for each request.
    Concurrency,
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
    /// The rate that the plan allows, in requests per second.
    pub per_second: u64,
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

/// Estimates the run time of a job under the limits of the plan and of its provider.
#[must_use]
pub fn estimate_run_time(work: &JobWorkload, limits: &JobLimits, prices: &StorePrices) -> RunTimeEstimate {
    let requests = sum(work.all_requests().map(|(_, count)| count));
    let in_flight = u64::from(limits.concurrency.max(1)) * REQUESTS_PER_SLOT;
    let (per_second, bottleneck) = match limits.requests_per_second.map(u64::from) {
        Some(cap) if cap <= in_flight => (cap.max(1), RateBottleneck::RateLimit),
        _ => (in_flight, RateBottleneck::Concurrency),
    };
    let bound = |limit: &ProviderRateLimit| {
        let counted = work.all_requests().filter(|((kind, class), _)| limit.counts(kind.item().0, class.as_ref()));
        let requests = sum(counted.map(|(_, count)| count));
        let duration = time_for(requests, u64::from(limit.per_second.max(1)));
        (requests > 0).then(|| RunTimeBound { limit: limit.clone(), requests, duration })
    };
    let bounds = prices.entry().map(|entry| entry.limits.iter().filter_map(bound).collect()).unwrap_or_default();
    RunTimeEstimate { requests, per_second, bottleneck, at_plan_rate: time_for(requests, per_second), bounds }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// Returns the time for the requests in whole seconds, rounded up.
fn time_for(requests: u64, per_second: u64) -> Duration {
    Duration::from_secs(requests.div_ceil(per_second))
}

//! How long a job takes: at the plan's rate, and at the provider's limits.

use std::time::Duration;

use super::book::RateLimit;
use super::choose::Rates;
use super::workload::Workload;
use crate::plan::Limits;

/// How long an answer is taken to take, where the rate follows from how many requests are in flight. From the same
/// region answers mostly take less, from elsewhere more.
pub const ASSUMED_LATENCY: Duration = Duration::from_millis(50);

/// Requests that one place in flight sends a second.
const PER_PLACE: u64 = 1000 / 50;

/// What bounds a job's rate on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// `requests_per_second` of the plan.
    Capped,
    /// `concurrency` of the plan, each answer after [`ASSUMED_LATENCY`].
    InFlight,
}

/// How long a job takes at least by one of the provider's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The limit.
    pub limit: RateLimit,
    /// How many of the job's requests it counts.
    pub requests: u64,
    /// How long they take.
    pub takes: Duration,
}

/// How long a job takes. Retries, listings and the report are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// How many requests about objects there are.
    pub requests: u64,
    /// The rate that the plan allows, a second.
    pub per_second: u64,
    /// Why it is this one.
    pub pace: Pace,
    /// How long the requests take at that rate.
    pub at_plan: Duration,
    /// How long they take at each of the provider's limits that counts some of them.
    pub bounds: Vec<Bound>,
}

impl Hours {
    /// How long the requests take at the provider's limits: all those that hold always, of a prefix as if all objects
    /// were below one. `None` where no limit is known.
    #[must_use]
    pub fn at_provider(&self) -> Option<Duration> {
        self.bounds.iter().filter(|bound| bound.limit.when.is_none()).map(|bound| bound.takes).max()
    }
}

/// How long a job takes under a plan's limits and those of its provider.
#[must_use]
pub fn hours(work: &Workload, limits: &Limits, rates: &Rates) -> Hours {
    let requests = sum(work.asked().map(|(_, count)| count));
    let in_flight = u64::from(limits.concurrency.max(1)) * PER_PLACE;
    let (per_second, pace) = match limits.requests_per_second.map(u64::from) {
        Some(cap) if cap <= in_flight => (cap.max(1), Pace::Capped),
        _ => (in_flight, Pace::InFlight),
    };
    let bound = |limit: &RateLimit| {
        let counted = work.asked().filter(|((kind, class), _)| limit.counts(kind.item().0, class.as_ref()));
        let requests = sum(counted.map(|(_, count)| count));
        let takes = takes(requests, u64::from(limit.per_second.max(1)));
        (requests > 0).then(|| Bound { limit: limit.clone(), requests, takes })
    };
    let bounds = rates.entry().map(|entry| entry.limits.iter().filter_map(bound).collect()).unwrap_or_default();
    Hours { requests, per_second, pace, at_plan: takes(requests, per_second), bounds }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// Whole seconds, a begun one counted.
fn takes(requests: u64, per_second: u64) -> Duration {
    Duration::from_secs(requests.div_ceil(per_second))
}

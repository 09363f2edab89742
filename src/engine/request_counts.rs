//! Counts the requests about objects that a run sends, and measures their latency if that is needed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batchplan_store::Mutex;
use batchplan_store::object_request::RequestKind;

const KINDS: usize = RequestKind::ALL.len();

/// The most latencies of one kind that are kept. The average hardly changes with more.
const MAX_LATENCIES: usize = 4096;

/// One of this many latencies, the slowest, is left out of the average: a single request that is answered after
/// seconds would count as much as a hundred others.
const SLOWEST_LEFT_OUT: usize = 50;

/// The number of requests about objects that a run has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    by_kind: [u64; KINDS],
    /// The number of requests that were sent again because an earlier attempt failed.
    pub retries: u64,
    /// The number of requests that the server refused because too many were sent.
    pub throttled: u64,
}

impl RequestCounts {
    /// Returns the number of requests of one kind, retries included.
    #[must_use]
    pub fn of(&self, kind: RequestKind) -> u64 {
        self.by_kind[kind as usize]
    }

    /// Returns the number of all requests, retries included.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_kind.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds the requests of another run.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.by_kind.iter_mut().zip(other.by_kind) {
            *count = count.saturating_add(more);
        }
        self.retries = self.retries.saturating_add(other.retries);
        self.throttled = self.throttled.saturating_add(other.throttled);
    }
}

/// Counts requests. All workers of a run share one.
#[derive(Debug, Default)]
pub(super) struct RequestCounter {
    by_kind: [AtomicU64; KINDS],
    retries: AtomicU64,
    throttled: AtomicU64,
}

impl RequestCounter {
    /// Counts a request that is sent now.
    pub(super) fn add_sent(&self, kind: RequestKind, is_retry: bool) {
        self.by_kind[kind as usize].fetch_add(1, Ordering::Relaxed);
        self.retries.fetch_add(u64::from(is_retry), Ordering::Relaxed);
    }

    /// Counts a request that the server refused because too many were sent.
    pub(super) fn add_throttled(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the counts at this moment.
    pub(super) fn counts(&self) -> RequestCounts {
        RequestCounts {
            by_kind: std::array::from_fn(|index| self.by_kind[index].load(Ordering::Relaxed)),
            retries: self.retries.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
        }
    }
}

/// Collects the latencies of requests, in bounded memory. The first requests are left out if there are enough others,
/// because most of them had to wait for a new connection.
#[derive(Debug)]
pub(super) struct LatencyCollector {
    first_requests: usize,
    seen: Mutex<CollectedLatencies>,
}

#[derive(Debug, Default)]
struct CollectedLatencies {
    /// Those of the first requests, and those of the others.
    cold: [Vec<Duration>; KINDS],
    warm: [Vec<Duration>; KINDS],
    count: usize,
}

impl LatencyCollector {
    /// Creates a collector. `connections` is the number of connections that the requests may open.
    pub(super) fn new(connections: usize) -> Self {
        Self { first_requests: connections, seen: Mutex::default() }
    }

    /// Adds the latency of an answered request.
    pub(super) fn add(&self, kind: RequestKind, latency: Duration) {
        let mut seen = self.seen.lock();
        let is_cold = seen.count < self.first_requests;
        seen.count += 1;
        let latencies = if is_cold { &mut seen.cold } else { &mut seen.warm };
        let latencies = &mut latencies[kind as usize];
        if latencies.len() < MAX_LATENCIES {
            latencies.push(latency);
        }
    }

    /// Returns the average of each kind that was measured.
    pub(super) fn averages(&self) -> BTreeMap<RequestKind, Duration> {
        let seen = self.seen.lock();
        let of = |kind: RequestKind| average(&seen.warm[kind as usize]).or_else(|| average(&seen.cold[kind as usize]));
        RequestKind::ALL.into_iter().filter_map(|kind| Some((kind, of(kind)?))).collect()
    }
}

/// Returns the average without the slowest.
fn average(latencies: &[Duration]) -> Option<Duration> {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    sorted.truncate(sorted.len() - sorted.len() / SLOWEST_LEFT_OUT);
    let count = u32::try_from(sorted.len()).ok().filter(|count| *count > 0)?;
    Some(sorted.iter().sum::<Duration>() / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_kind_with_their_retries() {
        let counter = RequestCounter::default();
        counter.add_sent(RequestKind::GetTags, false);
        counter.add_sent(RequestKind::PutTags, false);
        counter.add_throttled();
        counter.add_sent(RequestKind::PutTags, true);
        let mut counts = counter.counts();
        assert_eq!((counts.total(), counts.of(RequestKind::PutTags), counts.of(RequestKind::Head)), (3, 2, 0));
        assert_eq!((counts.retries, counts.throttled), (1, 1));
        counts.add(&counter.counts());
        assert_eq!((counts.total(), counts.retries, counts.throttled), (6, 2, 2));
    }

    #[test]
    fn new_connections_and_the_slowest_do_not_count() {
        let milliseconds = Duration::from_millis;
        let collector = LatencyCollector::new(2);
        assert_eq!(collector.averages(), BTreeMap::new());
        collector.add(RequestKind::Head, milliseconds(300));
        assert_eq!(collector.averages()[&RequestKind::Head], milliseconds(300), "better than none");
        collector.add(RequestKind::Head, milliseconds(300));
        (0..99).for_each(|_| collector.add(RequestKind::Head, milliseconds(20)));
        collector.add(RequestKind::Head, Duration::from_secs(30));
        (0..10).for_each(|_| collector.add(RequestKind::GetTags, milliseconds(10)));
        let expected = [(RequestKind::GetTags, milliseconds(10)), (RequestKind::Head, milliseconds(20))];
        assert_eq!(collector.averages(), BTreeMap::from(expected));
    }
}

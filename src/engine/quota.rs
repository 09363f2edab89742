//! A job's quota of objects in flight and requests per second. It can change while the job runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The limits of one job. Clones share the same limits.
#[derive(Clone, Debug)]
pub struct JobQuota(Arc<QuotaLimits>);

#[derive(Debug)]
struct QuotaLimits {
    max_in_flight: AtomicU32,
    /// 0 means no limit.
    requests_per_second: AtomicU32,
}

impl JobQuota {
    /// Creates limits of `objects` in flight and `requests_per_second`. Values below one are raised to one;
    /// `None` means no rate limit.
    #[must_use]
    pub fn new(objects: u32, requests_per_second: Option<u32>) -> Self {
        let share =
            Self(Arc::new(QuotaLimits { max_in_flight: AtomicU32::new(1), requests_per_second: AtomicU32::new(0) }));
        share.set(objects, requests_per_second);
        share
    }

    /// Changes the limits. Objects in flight beyond the new limit are finished first.
    pub fn set(&self, objects: u32, requests_per_second: Option<u32>) {
        self.0.max_in_flight.store(objects.max(1), Ordering::Relaxed);
        self.0.requests_per_second.store(requests_per_second.map_or(0, |rate| rate.max(1)), Ordering::Relaxed);
    }

    /// The number of objects that may be in flight, at least 1.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.0.max_in_flight.load(Ordering::Relaxed) as usize
    }

    /// The number of requests that may be sent per second; `None` means no limit.
    #[must_use]
    pub fn requests_per_second(&self) -> Option<u32> {
        Some(self.0.requests_per_second.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }
}

//! How much of the request budget a job has, which others may change while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a job is allowed. Clones are the same share.
#[derive(Clone, Debug)]
pub struct Allowance(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    objects: AtomicU32,
    /// 0 is no cap.
    requests_per_second: AtomicU32,
}

impl Allowance {
    /// So many objects in flight, at least one, and so many requests a second, at least one, or without a cap.
    #[must_use]
    pub fn new(objects: u32, requests_per_second: Option<u32>) -> Self {
        let share = Self(Arc::new(Inner { objects: AtomicU32::new(1), requests_per_second: AtomicU32::new(0) }));
        share.set(objects, requests_per_second);
        share
    }

    /// Changes it. What is in flight beyond it is finished first.
    pub fn set(&self, objects: u32, requests_per_second: Option<u32>) {
        self.0.objects.store(objects.max(1), Ordering::Relaxed);
        self.0.requests_per_second.store(requests_per_second.map_or(0, |rate| rate.max(1)), Ordering::Relaxed);
    }

    /// Objects that may be in flight.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.0.objects.load(Ordering::Relaxed) as usize
    }

    /// Requests that may be sent in a second; `None` is no cap.
    #[must_use]
    pub fn requests_per_second(&self) -> Option<u32> {
        Some(self.0.requests_per_second.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }
}

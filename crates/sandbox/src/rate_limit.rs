//! A rate limit on requests, to rehearse a store that throttles. It is a token bucket.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The capacity of the bucket, in seconds of the request rate.
const BURST_SECONDS: f64 = 0.1;

/// Admits a limited number of requests per second, and rejects the others.
#[derive(Debug)]
pub(crate) struct RequestLimiter {
    per_second: f64,
    burst: f64,
    bucket: Mutex<TokenBucket>,
}

#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    updated: Instant,
}

impl RequestLimiter {
    /// Creates a limiter that admits `per_second` requests per second from `now` on.
    pub(crate) fn new(per_second: NonZeroU32, now: Instant) -> Self {
        let per_second = f64::from(per_second.get());
        let burst = (per_second * BURST_SECONDS).max(1.0);
        Self { per_second, burst, bucket: Mutex::new(TokenBucket { tokens: burst, updated: now }) }
    }

    /// Returns whether a request at this time is admitted.
    pub(crate) fn try_acquire(&self, now: Instant) -> bool {
        let mut saved = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(saved.updated).as_secs_f64() * self.per_second;
        saved.updated = saved.updated.max(now);
        saved.tokens = (saved.tokens + gained).min(self.burst);
        let admitted = saved.tokens >= 1.0;
        if admitted {
            saved.tokens -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Sends one request per millisecond for two seconds, and returns the number of admitted ones.
    fn admitted(per_second: u32) -> usize {
        let start = Instant::now();
        let limiter = RequestLimiter::new(per_second.try_into().unwrap(), start);
        (0..2000).filter(|at| limiter.try_acquire(start + Duration::from_millis(*at))).count()
    }

    #[test]
    fn admits_the_rate_plus_an_initial_burst() {
        assert_eq!(admitted(1), 2);
        assert!((209..=210).contains(&admitted(100)), "{}", admitted(100));
        assert_eq!(admitted(100_000), 2000);
    }

    #[test]
    fn a_pause_saves_no_more_than_a_burst() {
        let start = Instant::now();
        let limiter = RequestLimiter::new(20.try_into().unwrap(), start);
        let later = start + Duration::from_hours(1);
        assert_eq!((0..50).filter(|_| limiter.try_acquire(later)).count(), 2);
        assert!(!limiter.try_acquire(start), "time that goes back saves nothing");
    }
}

//! The plan's limit on requests per second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::quota::JobQuota;

/// Spaces requests evenly. After a pause, at most a tenth of a second's worth of requests is sent at once.
#[derive(Debug)]
pub(super) struct RequestRateLimiter {
    quota: JobQuota,
    next: Mutex<Option<Instant>>,
}

/// How much unused time counts towards a burst.
const BURST: Duration = Duration::from_millis(100);

impl RequestRateLimiter {
    /// Creates a limiter with the rate of this quota. It follows changes of the quota.
    pub(super) fn new(quota: JobQuota) -> Self {
        Self { quota, next: Mutex::new(None) }
    }

    /// Waits until this request may be sent. Returns false if there is no limit.
    pub(super) async fn acquire(&self) -> bool {
        let Some(interval) = self.interval() else { return false };
        tokio::time::sleep_until(self.reserve(Instant::now(), interval)).await;
        true
    }

    fn interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(1) / self.quota.requests_per_second()?)
    }

    fn reserve(&self, now: Instant, interval: Duration) -> Instant {
        // The lock guards one value that is consistent at every moment, so a poisoned lock is harmless.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let turn = next.map_or(now, |next| next.max(earliest));
        *next = Some(turn + interval);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thousand_requests_at_a_hundred_a_second_take_ten_seconds() {
        let pace = RequestRateLimiter::new(JobQuota::new(1, Some(100)));
        let start = Instant::now();
        for _ in 0..1000 {
            pace.acquire().await;
        }
        let took = start.elapsed();
        assert!((Duration::from_millis(9_900)..=Duration::from_millis(10_100)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_earns_only_a_small_burst() {
        let pace = RequestRateLimiter::new(JobQuota::new(1, Some(100)));
        pace.acquire().await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        let start = Instant::now();
        for _ in 0..100 {
            pace.acquire().await;
        }
        assert!(start.elapsed() >= Duration::from_millis(850), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn admits_everything_without_a_rate_limit() {
        let pace = RequestRateLimiter::new(JobQuota::new(1, None));
        let start = Instant::now();
        for _ in 0..10_000 {
            pace.acquire().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

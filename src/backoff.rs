//! Retry policy and backoff: how many times a request is sent, and how long to wait between attempts. Used by every
//! client of a store.

use std::time::Duration;

use crate::timeouts::scaled;

/// When a failed request is retried, and how often.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The shortest wait before a retry.
    pub base: Duration,
    /// The longest wait before a retry.
    pub cap: Duration,
    /// The total number of attempts, including the first.
    pub attempts: u32,
}

impl Default for RetryPolicy {
    /// Ten attempts over about 90 seconds: longer than a store needs to split a hot prefix or to fail over.
    fn default() -> Self {
        Self { base: Duration::from_millis(100), cap: Duration::from_secs(20), attempts: 10 }
    }
}

/// The retry state of one request.
#[derive(Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    sent: u32,
    last: Duration,
}

impl Backoff {
    /// Creates the state of a request that has not been sent yet.
    #[must_use]
    pub fn new(policy: RetryPolicy) -> Self {
        Self { policy, sent: 0, last: scaled(policy.base) }
    }

    /// Records a failed attempt and returns the wait before the next one, or `None` if no attempts are left.
    ///
    /// Uses decorrelated jitter: each wait is drawn between the base and three times the previous wait, so that
    /// clients that failed together do not retry together.
    pub fn after_failure(&mut self) -> Option<Duration> {
        self.sent += 1;
        if self.sent >= self.policy.attempts {
            return None;
        }
        let (base, cap) = (scaled(self.policy.base).as_secs_f64(), scaled(self.policy.cap).as_secs_f64());
        let upper = (self.last.as_secs_f64() * 3.0).max(base);
        let wait = (base + fastrand::f64() * (upper - base)).min(cap);
        self.last = Duration::from_secs_f64(wait);
        Some(self.last)
    }

    /// Returns the number of failed attempts so far.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_between_base_and_cap_and_end() {
        let policy = RetryPolicy::default();
        for _ in 0..200 {
            let mut backoff = Backoff::new(policy);
            let waits: Vec<_> = std::iter::from_fn(|| backoff.after_failure()).collect();
            assert_eq!(waits.len(), policy.attempts as usize - 1);
            assert!(waits.iter().all(|wait| (policy.base..=policy.cap).contains(wait)), "{waits:?}");
        }
    }
}

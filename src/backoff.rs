//! How long to wait before a request is sent again, and how often: one rule for whoever talks to a store.

use std::time::Duration;

use crate::timeouts::scaled;

/// When a request that may fare better later is sent again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The shortest wait.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// Requests sent in all, the first included.
    pub attempts: u32,
}

impl Default for RetryPolicy {
    /// Ten attempts over about a minute and a half: longer than a store takes to split a hot prefix or to fail over.
    fn default() -> Self {
        Self { base: Duration::from_millis(100), cap: Duration::from_secs(20), attempts: 10 }
    }
}

/// The waits of one request.
#[derive(Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    sent: u32,
    last: Duration,
}

impl Backoff {
    /// None yet.
    #[must_use]
    pub fn new(policy: RetryPolicy) -> Self {
        Self { policy, sent: 0, last: scaled(policy.base) }
    }

    /// The wait before the next attempt, or `None` when there is none left.
    ///
    /// Decorrelated jitter: each wait is drawn between the base and three times the one before, so that clients that
    /// were refused together do not come back together.
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

    /// Requests that failed so far.
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

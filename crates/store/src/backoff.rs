//! Retry policy and backoff: how many times a request is sent, and how long to wait between attempts.

use std::time::Duration;

use tracing::debug;

use crate::timeouts::{micros, scaled};

/// When a failed request is retried, and how often.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The shortest wait before a retry.
    pub base_delay: Duration,
    /// The longest wait before a retry.
    pub max_delay: Duration,
    /// The total number of attempts, including the first.
    pub max_attempts: u32,
}

impl Default for RetryPolicy {
    /// Ten attempts over about 90 seconds: longer than a store needs to split a hot prefix or to fail over.
    fn default() -> Self {
        Self { base_delay: Duration::from_millis(100), max_delay: Duration::from_secs(20), max_attempts: 10 }
    }
}

/// The retry state of one request.
#[derive(Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    attempts_made: u32,
    last_delay: Duration,
}

impl Backoff {
    /// Creates the state of a request that has not been sent yet.
    #[must_use]
    pub fn new(policy: RetryPolicy) -> Self {
        Self { policy, attempts_made: 0, last_delay: scaled(policy.base_delay) }
    }

    /// Records a failed attempt and returns the wait before the next one, or `None` if no attempts are left.
    ///
    /// Uses decorrelated jitter: each wait is drawn between the base and three times the previous wait, so that
    /// clients that failed together do not retry together.
    pub fn next_delay(&mut self) -> Option<Duration> {
        self.attempts_made += 1;
        if self.attempts_made >= self.policy.max_attempts {
            return None;
        }
        let (base, cap) = (scaled(self.policy.base_delay).as_secs_f64(), scaled(self.policy.max_delay).as_secs_f64());
        let upper = (self.last_delay.as_secs_f64() * 3.0).max(base);
        let wait = (base + fastrand::f64() * (upper - base)).min(cap);
        self.last_delay = Duration::from_secs_f64(wait);
        Some(self.last_delay)
    }

    /// Forgets the attempts made, so that the policy's number of attempts is left again. The next wait is as long as if
    /// they had failed in a row.
    pub fn renew(&mut self) {
        self.attempts_made = 0;
    }

    /// Returns the total number of attempts that the policy allows.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.policy.max_attempts
    }

    /// Returns the number of failed attempts so far.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.attempts_made
    }
}

/// Why [`retry`] gave up.
#[derive(Debug)]
pub struct RetryError<E> {
    /// The error of the last attempt.
    pub error: E,
    /// The number of attempts made.
    pub attempts: u32,
}

/// Makes attempts until one succeeds, and waits between them. Gives up when the policy allows no more attempts, or
/// after an error that `is_retryable` does not accept.
///
/// # Errors
/// Returns the error of the last attempt.
pub async fn retry<T, E, F: Future<Output = Result<T, E>>>(
    policy: RetryPolicy,
    is_retryable: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, RetryError<E>> {
    let mut backoff = Backoff::new(policy);
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match backoff.next_delay().filter(|_| is_retryable(&error)) {
            Some(delay) => {
                debug!(attempt = backoff.failures(), wait_us = micros(delay), "attempt failed, will be repeated");
                tokio::time::sleep(delay).await;
            }
            None => return Err(RetryError { error, attempts: backoff.failures() }),
        }
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
            let waits: Vec<_> = std::iter::from_fn(|| backoff.next_delay()).collect();
            assert_eq!(waits.len(), policy.max_attempts as usize - 1);
            assert!(waits.iter().all(|wait| (policy.base_delay..=policy.max_delay).contains(wait)), "{waits:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_end_with_a_success_a_final_error_or_the_policy() {
        let policy = RetryPolicy { max_attempts: 4, ..RetryPolicy::default() };
        for (answers, expected) in [
            (vec![Err(1), Err(1), Ok("done")], Ok(("done", 3))),
            (vec![Err(1), Err(2)], Err((2, 2))),
            (vec![Err(1); 9], Err((1, 4))),
        ] {
            let mut made = 0;
            let result = retry(
                policy,
                |error| *error == 1,
                || {
                    made += 1;
                    std::future::ready(answers[made - 1])
                },
            );
            let result = result.await;
            let made = u32::try_from(made).expect("a small number");
            let found = result.map(|value| (value, made)).map_err(|failed| (failed.error, failed.attempts));
            assert_eq!(found, expected);
        }
    }
}

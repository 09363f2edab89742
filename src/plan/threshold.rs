//! The failure threshold: how many objects may fail before the job fails.

use super::ExactShare;
use crate::job::Progress;

/// The number of objects that must be processed before their failure rate is meaningful for the rest.
const MIN_PROCESSED: u64 = 1000;

/// The share of objects that may fail before the job fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureThreshold(ExactShare);

impl FailureThreshold {
    /// Creates a threshold. With [`ExactShare::ALL`], every object may fail.
    #[must_use]
    pub fn new(share: ExactShare) -> Self {
        Self(share)
    }

    /// Returns whether the failed objects exceed the share of all objects, or, once enough objects are processed, the
    /// share of those.
    #[must_use]
    pub fn is_exceeded(self, progress: Progress) -> bool {
        let of = |objects| self.0.is_exceeded_by(progress.failed, objects);
        of(progress.total) || (progress.finished() >= MIN_PROCESSED && of(progress.finished()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossed(percent: u8, total: u64, succeeded: u64, failed: u64) -> bool {
        FailureThreshold::new(ExactShare::percent(percent)).is_exceeded(Progress { total, succeeded, failed })
    }

    #[test]
    fn fails_above_the_default_threshold() {
        assert!(!crossed(20, 10, 8, 2));
        assert!(crossed(20, 10, 0, 3));
        assert!(crossed(20, 1, 0, 1));
        assert!(!crossed(20, 0, 0, 0));
    }

    #[test]
    fn fails_early_after_a_thousand_objects() {
        assert!(!crossed(20, 1_000_000, 0, 999));
        assert!(crossed(20, 1_000_000, 0, 1000));
        assert!(!crossed(20, 1_000_000, 800, 200));
        assert!(crossed(20, 1_000_000, 800, 201));
    }

    #[test]
    fn thresholds_of_zero_and_one() {
        assert!(crossed(0, 10_000_000_000, 9_999, 1));
        assert!(!crossed(100, 10_000_000_000, 0, 10_000_000_000));
    }
}

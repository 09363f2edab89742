//! The failure threshold: how many objects may fail before the job fails, as an exact share of all objects.

use std::fmt;

use crate::job::Progress;

/// A share of a whole, from 0 to 1, in steps of one millionth.
///
/// The value is stored in whole millionths, so that comparing counts with it is exact for any number of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExactShare(u32);

/// Millionths in a whole.
const WHOLE: u32 = 1_000_000;

impl ExactShare {
    /// The whole: 100 %.
    pub const ALL: Self = Self(WHOLE);

    /// Returns a share of `percent` percent; values above 100 count as 100.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        Self(if percent > 100 { WHOLE } else { percent as u32 * (WHOLE / 100) })
    }

    /// Returns whether `part` is more than this share of `whole`. [`ExactShare::ALL`] is never exceeded as long as
    /// `part` is at most `whole`.
    #[must_use]
    pub fn is_exceeded_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(WHOLE) > u128::from(whole) * u128::from(self.0)
    }

    /// Returns a share of this many millionths; values above a million count as a million.
    pub(super) const fn millionths(millionths: u32) -> Self {
        Self(if millionths > WHOLE { WHOLE } else { millionths })
    }
}

/// Formats the share in percent: `20 %`, `0.5 %`.
impl fmt::Display for ExactShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / (WHOLE / 100), self.0 % (WHOLE / 100));
        if rest == 0 {
            return write!(f, "{whole} %");
        }
        let digits = format!("{rest:04}");
        write!(f, "{whole}.{} %", digits.trim_end_matches('0'))
    }
}

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

    #[test]
    fn more_than_the_share_exceeds_it_and_the_share_itself_does_not() {
        let fifth = ExactShare::percent(20);
        assert!(!fifth.is_exceeded_by(2, 10) && fifth.is_exceeded_by(3, 10));
        assert!(!fifth.is_exceeded_by(0, 0) && fifth.is_exceeded_by(1, 4));
        assert!(!ExactShare::ALL.is_exceeded_by(u64::MAX, u64::MAX));
        assert!(
            ExactShare::percent(0).is_exceeded_by(1, u64::MAX) && !ExactShare::percent(0).is_exceeded_by(0, u64::MAX)
        );
        assert_eq!(ExactShare::percent(101), ExactShare::ALL);
    }

    #[test]
    fn displays_percent() {
        let shown = [ExactShare(200_000), ExactShare(5_000), ExactShare(1), ExactShare::ALL, ExactShare(0)]
            .map(|share| share.to_string());
        assert_eq!(shown, ["20 %", "0.5 %", "0.0001 %", "100 %", "0 %"]);
    }

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

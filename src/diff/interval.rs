//! Estimates how many objects of a population have some property, from a random sample.

use statrs::distribution::{Beta, ContinuousCDF as _};

/// The confidence level: for 95 of 100 samples, the interval contains the true value.
const CONFIDENCE: f64 = 0.95;

/// The number of sampled objects that have some property, with the sizes of the sample and of the population.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleShare {
    /// The number of sampled objects that have the property.
    pub matching: u64,
    /// The number of objects in the sample.
    pub sampled: u64,
    /// The number of objects in the population.
    pub population: u64,
}

/// An estimated number of objects, with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfidenceInterval {
    /// The lower bound of the interval.
    pub low: u64,
    /// The estimate: the same share of the population as of the sample.
    pub likely: u64,
    /// The upper bound of the interval.
    pub high: u64,
}

impl SampleShare {
    /// Returns whether the sample covers the whole population, so that nothing has to be estimated.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self.sampled >= self.population
    }

    /// Estimates how many objects of the population have the property.
    ///
    /// Uses the exact interval of Clopper and Pearson (Biometrika 26, 1934, 404-413), which contains the true value
    /// at least as often as its confidence level says. It assumes draws from an infinite population, so for a finite
    /// population it contains the true value even more often.
    #[must_use]
    pub fn estimate(self) -> ConfidenceInterval {
        let Self { matching: found, sampled: looked, population: all } = self;
        if self.is_exact() {
            return ConfidenceInterval { low: found, likely: found, high: found };
        }
        if looked == 0 {
            return ConfidenceInterval { low: 0, likely: 0, high: all };
        }
        let (low, high) = clopper_pearson(found, looked);
        // Sampled objects with the property are certain to have it, and sampled objects without it are certain not
        // to.
        let (least, most) = (found, all - (looked - found));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies from 0 to all")]
        let bound = |value: f64| value.clamp(0.0, to_f64(all)) as u64;
        let low = bound((low * to_f64(all)).floor()).clamp(least, most);
        let high = bound((high * to_f64(all)).ceil()).clamp(least, most);
        let likely = u128::from(found) * u128::from(all) * 2 + u128::from(looked);
        let likely = u64::try_from(likely / (u128::from(looked) * 2)).unwrap_or(all).clamp(low, high);
        ConfidenceInterval { low, likely, high }
    }
}

#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 objects an interval is not read to the last one")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

/// Returns the bounds of the true share, each from 0 to 1.
fn clopper_pearson(found: u64, looked: u64) -> (f64, f64) {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let quantile = |a: u64, b: u64, p: f64| Beta::new(to_f64(a), to_f64(b)).map(|beta| beta.inverse_cdf(p));
    let low = if found == 0 { 0.0 } else { quantile(found, looked - found + 1, tail).unwrap_or(0.0) };
    let high = if found == looked { 1.0 } else { quantile(found + 1, looked - found, 1.0 - tail).unwrap_or(1.0) };
    (low, high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The values that R's `binom.test` gives.
    #[test]
    fn the_interval_is_the_exact_one() {
        let close = |found, looked, low: f64, high: f64| {
            let (a, b) = clopper_pearson(found, looked);
            assert!((a - low).abs() < 5e-5 && (b - high).abs() < 5e-5, "{found} of {looked}: {a} {b}");
        };
        close(0, 10, 0.0, 0.30850);
        close(10, 10, 0.69150, 1.0);
        close(5, 10, 0.18709, 0.81291);
        close(1, 200, 0.00013, 0.02754);
        close(196, 200, 0.94962, 0.99453);
    }

    #[test]
    fn complete_sample_is_exact() {
        let share = SampleShare { matching: 3, sampled: 10, population: 10 };
        assert_eq!(share.estimate(), ConfidenceInterval { low: 3, likely: 3, high: 3 });
        assert_eq!(
            SampleShare { matching: 0, sampled: 0, population: 7 }.estimate(),
            ConfidenceInterval { low: 0, likely: 0, high: 7 }
        );
    }

    proptest! {
        #[test]
        fn interval_contains_the_observed_count(all in 1_u64..1_000_000, looked in 1_u64..300, found in 0_u64..300) {
            let looked = looked.min(all);
            let found = found.min(looked);
            let ConfidenceInterval { low, likely, high } = SampleShare { matching: found, sampled: looked, population: all }.estimate();
            prop_assert!(found <= low && low <= likely && likely <= high && high <= all - (looked - found));
        }
    }
}

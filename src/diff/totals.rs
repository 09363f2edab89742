//! Totals over the predictions for many objects, in bounded memory, and what they say about the whole population if the
//! objects are a random sample.

use std::collections::BTreeMap;

use batchplan_store::object::{BucketName, ObjectId, StorageClass};
use batchplan_store::object_request::{ObjectRequest, RequestKind};
use statrs::distribution::{Beta, ContinuousCDF as _};

use super::predictor::{Effect, FailureReason, Prediction};

/// The most reasons that are counted separately. A service has a few dozen error codes at most.
const MAX_GROUPS: usize = 64;

/// The most storage classes that are counted separately. No service has half as many. Objects of further classes
/// count as objects of unknown class.
const MAX_CLASSES: usize = 64;

/// The most examples that are kept for one reason.
const MAX_EXAMPLES: usize = 3;

/// The confidence level: for 95 of 100 samples, the interval contains the true value.
const CONFIDENCE: f64 = 0.95;

/// Totals over the predictions for many objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PredictionTotals {
    /// The number of objects that would change.
    pub changes: u64,
    /// The number of objects that already have the desired state.
    pub unchanged: u64,
    /// The number of objects that the job would fail on.
    pub fails: u64,
    /// The number of objects whose effect cannot be predicted.
    pub unknown: u64,
    /// The objects that would fail, grouped by error code, HTTP status and operation.
    pub failure_reasons: BTreeMap<(String, u16, String), ReasonGroup>,
    /// The objects whose effect cannot be predicted, grouped by reason.
    pub unknown_reasons: BTreeMap<String, ReasonGroup>,
    /// The objects that no request can name, so that the job would fail on them without one. They are counted
    /// completely even if the others are a sample, and are in no other total.
    pub unlistable: ReasonGroup,
    /// The requests that would succeed, by kind and by the storage class of the object.
    pub accepted: BTreeMap<(RequestKind, Option<StorageClass>), RequestCount>,
    /// The requests that would be refused, by kind and by the storage class of the object.
    pub refused: BTreeMap<(RequestKind, Option<StorageClass>), RequestCount>,
    /// The number of objects in each storage class. `None` is an unknown class.
    pub classes: BTreeMap<Option<StorageClass>, u64>,
    /// For each storage class, the bytes that restores would bring back, and the number of restored objects of
    /// unknown size.
    pub restored: BTreeMap<Option<StorageClass>, (u64, u64)>,
}

/// Requests of the same kind. All restores of one plan ask for the same days and, except for OSS's class without tiers,
/// for the same tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestCount {
    /// One of the requests, as an example.
    pub call: ObjectRequest,
    /// The number of requests.
    pub count: u64,
}

/// Objects with the same reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReasonGroup {
    /// The number of objects.
    pub count: u64,
    /// The message of the first object.
    pub message: String,
    /// A few of the objects.
    pub examples: Vec<ObjectId>,
}

impl ReasonGroup {
    fn add(&mut self, object: &ObjectId, message: &str) {
        if self.count == 0 {
            message.clone_into(&mut self.message);
        }
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(object.clone());
        }
    }
}

/// Returns the group with this name, or the group for `others` if there are already `MAX_GROUPS` groups.
fn group_for<K: Ord>(groups: &mut BTreeMap<K, ReasonGroup>, name: K, others: impl FnOnce() -> K) -> &mut ReasonGroup {
    let name = if groups.len() < MAX_GROUPS || groups.contains_key(&name) { name } else { others() };
    groups.entry(name).or_default()
}

impl PredictionTotals {
    /// Adds the prediction for one object. `size` is the size of the object in bytes, if it is known.
    pub fn add(&mut self, prediction: &Prediction, size: Option<u64>) {
        let object = &prediction.object;
        match &prediction.effect {
            Effect::Changes(_) => self.changes += 1,
            Effect::Unchanged => self.unchanged += 1,
            Effect::Fails(FailureReason { code, http, operation, message }) => {
                self.fails += 1;
                let others = || ("others".to_owned(), 0, String::new());
                group_for(&mut self.failure_reasons, (code.clone(), *http, operation.clone()), others)
                    .add(object, message);
            }
            Effect::Unknown(why) => {
                self.unknown += 1;
                group_for(&mut self.unknown_reasons, why.clone(), || "others".to_owned()).add(object, why);
            }
        }
        let class = prediction.before.class.known().filter(|class| self.counts_separately(class)).cloned();
        *self.classes.entry(class.clone()).or_default() += 1;
        for call in &prediction.accepted {
            count_request(&mut self.accepted, call, class.as_ref());
            if matches!(call, ObjectRequest::Restore(_)) {
                let (bytes, unknown) = self.restored.entry(class.clone()).or_default();
                *bytes = bytes.saturating_add(size.unwrap_or(0));
                *unknown += u64::from(size.is_none());
            }
        }
        for call in &prediction.refused {
            count_request(&mut self.refused, call, class.as_ref());
        }
    }

    /// Returns whether a storage class is counted by its name. This limits memory if a server invents a class for
    /// each object.
    fn counts_separately(&self, class: &StorageClass) -> bool {
        self.classes.len() < MAX_CLASSES || self.classes.contains_key(&Some(class.clone()))
    }

    /// Adds objects that no request can name; the first of them are examples, each with the reason.
    pub fn add_unlistable<'a>(&mut self, count: u64, first: impl IntoIterator<Item = (&'a ObjectId, &'a str)>) {
        let before = self.unlistable.count;
        for (object, why) in first {
            self.unlistable.add(object, why);
        }
        self.unlistable.count = before + count;
    }

    /// Returns the number of objects that were added, without those that no request can name.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.changes + self.unchanged + self.fails + self.unknown
    }

    /// Returns whether any object would change, would fail, or cannot be predicted.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changes + self.fails + self.unknown + self.unlistable.count > 0
    }

    /// Returns `matching` of these objects as a share of a population of this size, which includes the objects that no
    /// request can name.
    #[must_use]
    pub fn share(&self, matching: u64, population: u64) -> SampleShare {
        let population = population.saturating_sub(self.unlistable.count);
        SampleShare { matching, sampled: self.total(), population }
    }
}

fn count_request(
    into: &mut BTreeMap<(RequestKind, Option<StorageClass>), RequestCount>,
    call: &ObjectRequest,
    class: Option<&StorageClass>,
) {
    let sent =
        into.entry((call.kind(), class.cloned())).or_insert_with(|| RequestCount { call: call.clone(), count: 0 });
    sent.count += 1;
}

/// Returns the directory that holds most objects of a sample: its bucket, its prefix, which ends with a slash unless
/// it is empty, and the number of objects in it.
#[must_use]
pub fn busiest_directory<'a>(objects: impl Iterator<Item = &'a ObjectId>) -> Option<(BucketName, Vec<u8>, u64)> {
    let mut folders: BTreeMap<(&BucketName, &[u8]), u64> = BTreeMap::new();
    for object in objects {
        let key = object.key.as_bytes();
        let end = key.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        *folders.entry((&object.bucket, &key[..end])).or_default() += 1;
    }
    let most = folders.into_iter().max_by_key(|(_, count)| *count);
    most.map(|((bucket, folder), count)| (bucket.clone(), folder.to_vec(), count))
}

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
        let Self { matching, sampled, population } = self;
        if self.is_exact() {
            return ConfidenceInterval { low: matching, likely: matching, high: matching };
        }
        if sampled == 0 {
            return ConfidenceInterval { low: 0, likely: 0, high: population };
        }
        let (low, high) = clopper_pearson(matching, sampled);
        // Sampled objects with the property are certain to have it, and sampled objects without it are certain not
        // to.
        let (min, max) = (matching, population - (sampled - matching));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies from 0 to the population")]
        let bound = |value: f64| value.clamp(0.0, to_f64(population)) as u64;
        let low = bound((low * to_f64(population)).floor()).clamp(min, max);
        let high = bound((high * to_f64(population)).ceil()).clamp(min, max);
        let doubled = u128::from(matching) * u128::from(population) * 2 + u128::from(sampled);
        let likely = u64::try_from(doubled / (u128::from(sampled) * 2)).unwrap_or(population).clamp(low, high);
        ConfidenceInterval { low, likely, high }
    }
}

#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 objects an interval is not read to the last one")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

/// Returns the bounds of the true share, each from 0 to 1.
fn clopper_pearson(matching: u64, sampled: u64) -> (f64, f64) {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let quantile = |a: u64, b: u64, p: f64| Beta::new(to_f64(a), to_f64(b)).map(|beta| beta.inverse_cdf(p));
    let low = if matching == 0 { 0.0 } else { quantile(matching, sampled - matching + 1, tail).unwrap_or(0.0) };
    let high =
        if matching == sampled { 1.0 } else { quantile(matching + 1, sampled - matching, 1.0 - tail).unwrap_or(1.0) };
    (low, high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use batchplan_store::object::{MaybeKnown, ObjectKey, ObjectState};

    #[test]
    fn bounds_the_number_of_groups() {
        let mut tally = PredictionTotals::default();
        for number in 0..1000 {
            let class = MaybeKnown::Known(StorageClass::new(&format!("CLASS-{number}")));
            let reason = FailureReason {
                code: format!("Code{number}"),
                http: 400,
                operation: "put_object_acl".to_owned(),
                message: "no".to_owned(),
            };
            let object = ObjectId { bucket: BucketName::new("bkt"), key: ObjectKey::from("k"), version: None };
            let before = ObjectState { class, ..ObjectState::default() };
            let sends = vec![ObjectRequest::GetAcl, ObjectRequest::Head];
            tally.add(
                &Prediction {
                    object,
                    before,
                    effect: Effect::Fails(reason),
                    accepted: sends,
                    refused: vec![ObjectRequest::GetTags],
                },
                None,
            );
        }
        assert_eq!((tally.fails, tally.classes.values().sum::<u64>()), (1000, 1000));
        assert!(tally.classes.len() <= MAX_CLASSES + 1 && tally.failure_reasons.len() <= MAX_GROUPS + 1);
        assert!(tally.accepted.len() <= 2 * (MAX_CLASSES + 1) && tally.refused.len() <= MAX_CLASSES + 1);
        assert_eq!(tally.classes[&None], 1000 - MAX_CLASSES as u64);
    }

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

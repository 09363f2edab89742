//! Totals over the predictions for many objects, in bounded memory.

use std::collections::BTreeMap;

use batchplan_store::object::{BucketName, ObjectId, StorageClass};
use batchplan_store::object_request::{ObjectRequest, RequestKind};

use super::interval::SampleShare;
use super::predictor::{Effect, FailureReason, Prediction};

/// The most reasons that are counted separately. A service has a few dozen error codes at most.
const MAX_GROUPS: usize = 64;

/// The most storage classes that are counted separately. No service has half as many. Objects of further classes
/// count as objects of unknown class.
const MAX_CLASSES: usize = 64;

/// The most examples that are kept for one reason.
const MAX_EXAMPLES: usize = 3;

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
    pub fn add(&mut self, prospect: &Prediction, size: Option<u64>) {
        let object = &prospect.object;
        match &prospect.effect {
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
        let class = prospect.before.class.known().filter(|class| self.counts_separately(class)).cloned();
        *self.classes.entry(class.clone()).or_default() += 1;
        for call in &prospect.accepted {
            count_request(&mut self.accepted, call, class.as_ref());
            if matches!(call, ObjectRequest::Restore(_)) {
                let (bytes, unknown) = self.restored.entry(class.clone()).or_default();
                *bytes = bytes.saturating_add(size.unwrap_or(0));
                *unknown += u64::from(size.is_none());
            }
        }
        for call in &prospect.refused {
            count_request(&mut self.refused, call, class.as_ref());
        }
    }

    /// Returns whether a storage class is counted by its name. This limits memory if a server invents a class for
    /// each object.
    fn counts_separately(&self, class: &StorageClass) -> bool {
        self.classes.len() < MAX_CLASSES || self.classes.contains_key(&Some(class.clone()))
    }

    /// Returns the number of objects that were added.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.changes + self.unchanged + self.fails + self.unknown
    }

    /// Returns whether any object would change, would fail, or cannot be predicted.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changes + self.fails + self.unknown > 0
    }

    /// Returns `found` of these objects as a share, with `all` as the size of the population.
    #[must_use]
    pub fn share(&self, found: u64, all: u64) -> SampleShare {
        SampleShare { matching: found, sampled: self.total(), population: all }
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

#[cfg(test)]
mod tests {
    use super::*;
    use batchplan_store::object::{MaybeKnown, ObjectKey, ObjectState};

    #[test]
    fn bounds_the_number_of_groups() {
        let mut tally = PredictionTotals::default();
        for number in 0..1000 {
            let class = MaybeKnown::Known(StorageClass::new(&format!("CLASS-{number}")));
            let reason = FailureReason::new(&format!("Code{number}"), 400, "put_object_acl", "no");
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
}

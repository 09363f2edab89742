//! What a job may change: which aspect of which objects. Two jobs that may change the same run one after the other.

use std::collections::BTreeSet;

use batchplan_store::object::{BucketName, ObjectKey};
use serde::{Deserialize, Serialize};

use crate::manifest::{FrozenManifest, KeyRange, KeyRanges};
use crate::operation::{ObjectAspect, Operation};
use crate::plan::Plan;

/// The aspects and objects that a job may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobScope {
    store: String,
    aspects: BTreeSet<ObjectAspect>,
    /// The ranges of keys; `None` if unknown.
    ranges: Option<Vec<EncodedKeyRange>>,
}

/// Keys are bytes and the journal stores text, so keys are URL-encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EncodedKeyRange {
    bucket: String,
    first: String,
    last: String,
}

impl JobScope {
    /// Returns what a plan may change of the objects of its frozen manifest.
    #[must_use]
    pub fn of(plan: &Plan, frozen: &FrozenManifest) -> Self {
        let ranges = match frozen.key_ranges() {
            KeyRanges::Unknown => None,
            KeyRanges::Known(ranges) => Some(ranges.iter().map(EncodedKeyRange::encode).collect()),
        };
        let aspects = plan.operations.iter().map(Operation::aspect).collect();
        Self { store: plan.store_identity(), aspects, ranges }
    }

    /// Returns whether both may change the same aspect of the same object. Unknown ranges may contain any object.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.store == other.store
            && !self.aspects.is_disjoint(&other.aspects)
            && self.key_ranges().overlaps(&other.key_ranges())
    }

    /// Returns the text that the journal stores.
    ///
    /// # Errors
    /// Returns an error only if serializing to memory fails, which does not happen in practice.
    pub fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// Parses the text that the journal stores. Returns `None` if another version wrote it; the scope is then unknown.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn key_ranges(&self) -> KeyRanges {
        match &self.ranges {
            None => KeyRanges::Unknown,
            Some(ranges) => KeyRanges::Known(ranges.iter().map(EncodedKeyRange::decode).collect()),
        }
    }
}

impl EncodedKeyRange {
    fn encode(range: &KeyRange) -> Self {
        Self { bucket: range.bucket.to_string(), first: range.first.encoded(), last: range.last.encoded() }
    }

    fn decode(&self) -> KeyRange {
        KeyRange {
            bucket: BucketName::new(&self.bucket),
            first: ObjectKey::decode(self.first.as_bytes()),
            last: ObjectKey::decode(self.last.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use batchplan_store::object::{ObjectAcl, RestoreRequest};

    fn range(bucket: &str, first: &[u8], last: &[u8]) -> EncodedKeyRange {
        EncodedKeyRange::encode(&KeyRange {
            bucket: BucketName::new(bucket),
            first: ObjectKey::new(first),
            last: ObjectKey::new(last),
        })
    }

    /// Returns a scope that covers the tags of the keys from `first` to `last`.
    fn tags(first: &str, last: &str) -> JobScope {
        JobScope {
            store: "s3 here".to_owned(),
            aspects: [ObjectAspect::Tags].into(),
            ranges: Some(vec![range("b", first.as_bytes(), last.as_bytes())]),
        }
    }

    fn overlap(one: &JobScope, other: &JobScope) -> bool {
        assert_eq!(one.overlaps(other), other.overlaps(one), "{one:?} {other:?}");
        let kept = |scope: &JobScope| JobScope::from_text(&scope.to_text().expect("text")).expect("a scope");
        assert_eq!(kept(one).overlaps(&kept(other)), one.overlaps(other));
        one.overlaps(other)
    }

    #[test]
    fn only_the_same_aspect_of_the_same_objects_in_the_same_store_overlaps() {
        let mine = tags("docs/a", "docs/m");
        let cases = [
            (tags("docs/m", "docs/z"), true),
            (tags("docs/n", "docs/z"), false),
            (JobScope { store: "s3 there".to_owned(), ..mine.clone() }, false),
            (JobScope { aspects: [ObjectAspect::Acl, ObjectAspect::Restoration].into(), ..mine.clone() }, false),
            (JobScope { aspects: [ObjectAspect::Acl, ObjectAspect::Tags].into(), ..mine.clone() }, true),
            (JobScope { aspects: BTreeSet::new(), ..mine.clone() }, false),
            (JobScope { ranges: Some(vec![range("c", b"docs/a", b"docs/m")]), ..mine.clone() }, false),
            (
                JobScope {
                    ranges: Some(vec![range("a", b"", b"z"), range("b", b"docs/b", b"docs/c")]),
                    ..mine.clone()
                },
                true,
            ),
            (JobScope { ranges: Some(Vec::new()), ..mine.clone() }, false),
            (JobScope { ranges: None, ..mine.clone() }, true),
            (JobScope { ranges: None, store: "s3 there".to_owned(), ..mine.clone() }, false),
            (JobScope { ranges: None, aspects: [ObjectAspect::Acl].into(), ..mine.clone() }, false),
        ];
        for (other, expected) in cases {
            assert_eq!(overlap(&mine, &other), expected, "{other:?}");
        }
        let unknown = JobScope { ranges: None, ..mine.clone() };
        assert!(overlap(&unknown, &unknown.clone()));
        assert!(!overlap(&unknown, &JobScope { ranges: Some(Vec::new()), ..mine }), "it has no objects");
    }

    #[test]
    fn every_operation_has_its_aspect() {
        let cases = [
            (Operation::PutTagging([("a", "1")].into_iter().collect()), ObjectAspect::Tags),
            (Operation::AddTagging([("a", "1")].into_iter().collect()), ObjectAspect::Tags),
            (Operation::DeleteTagging(None), ObjectAspect::Tags),
            (Operation::DeleteTagging(Some(vec!["a".to_owned()])), ObjectAspect::Tags),
            (Operation::PutAcl(ObjectAcl::Private), ObjectAspect::Acl),
            (Operation::Restore(RestoreRequest { days: 1, tier: None }), ObjectAspect::Restoration),
        ];
        for (operation, aspect) in cases {
            assert_eq!(operation.aspect(), aspect);
        }
    }

    #[test]
    fn unreadable_scopes_are_unknown() {
        for text in ["", "{}", "null", r#"{"store":"s","aspects":["colour"],"ranges":null}"#, r#"{"store":1}"#] {
            assert_eq!(JobScope::from_text(text), None, "{text}");
        }
        let text =
            r#"{"store":"s","aspects":["tags","restoration"],"ranges":[{"bucket":"b","first":"a%2F","last":"a%FF"}]}"#;
        let scope = JobScope::from_text(text).expect("what this version writes");
        assert_eq!(scope.to_text().expect("text"), text, "and goes on writing: other processes read it");
    }

    proptest! {
        #[test]
        fn any_key_is_kept(
            first in prop::collection::vec(any::<u8>(), 0..12), last in prop::collection::vec(any::<u8>(), 0..12),
            key in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let (first, last) = (first.clone().min(last.clone()), first.max(last));
            let scope = JobScope { ranges: Some(vec![range("b", &first, &last)]), ..tags("", "") };
            let kept = JobScope::from_text(&scope.to_text().expect("text")).expect("a scope");
            prop_assert_eq!(&kept, &scope);
            let expected = KeyRange { bucket: BucketName::new("b"), first: ObjectKey::new(first.clone()), last: ObjectKey::new(last.clone()) };
            prop_assert_eq!(kept.key_ranges(), KeyRanges::Known(vec![expected]));
            // A single object is within the range exactly if its key is.
            let object = JobScope { ranges: Some(vec![range("b", &key, &key)]), ..tags("", "") };
            prop_assert_eq!(overlap(&scope, &object), first <= key && key <= last);
        }
    }
}

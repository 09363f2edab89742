//! What a job may change: which aspect of which objects. Two jobs that may change the same run one after the other.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::manifest::{Frozen, KeyRange, Reach};
use crate::object::{Bucket, Key};
use crate::operation::{Aspect, Operation};
use crate::plan::Plan;

/// The aspects and objects that a job may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    store: String,
    aspects: BTreeSet<Aspect>,
    /// The ranges of keys; `None` if unknown.
    ranges: Option<Vec<RangeText>>,
}

/// Keys are bytes and the journal stores text, so keys are URL-encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RangeText {
    bucket: String,
    first: String,
    last: String,
}

impl Scope {
    /// Returns what a plan may change of the objects of its frozen manifest.
    #[must_use]
    pub fn of(plan: &Plan, frozen: &Frozen) -> Self {
        let ranges = match frozen.reach() {
            Reach::Unknown => None,
            Reach::Known(ranges) => Some(ranges.iter().map(RangeText::of).collect()),
        };
        let aspects = plan.operations.iter().map(Operation::aspect).collect();
        Self { store: plan.store_identity(), aspects, ranges }
    }

    /// Returns whether both may change the same aspect of the same object. Unknown ranges may contain any object.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.store == other.store && !self.aspects.is_disjoint(&other.aspects) && self.reach().overlaps(&other.reach())
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

    fn reach(&self) -> Reach {
        match &self.ranges {
            None => Reach::Unknown,
            Some(ranges) => Reach::Known(ranges.iter().map(RangeText::range).collect()),
        }
    }
}

impl RangeText {
    fn of(range: &KeyRange) -> Self {
        Self { bucket: range.bucket.to_string(), first: range.first.encoded(), last: range.last.encoded() }
    }

    fn range(&self) -> KeyRange {
        KeyRange {
            bucket: Bucket::new(&self.bucket),
            first: Key::decode(self.first.as_bytes()),
            last: Key::decode(self.last.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::object::{Acl, RestoreRequest};

    fn range(bucket: &str, first: &[u8], last: &[u8]) -> RangeText {
        RangeText::of(&KeyRange { bucket: Bucket::new(bucket), first: Key::new(first), last: Key::new(last) })
    }

    /// Returns a scope that covers the tags of the keys from `first` to `last`.
    fn tags(first: &str, last: &str) -> Scope {
        Scope {
            store: "s3 here".to_owned(),
            aspects: [Aspect::Tags].into(),
            ranges: Some(vec![range("b", first.as_bytes(), last.as_bytes())]),
        }
    }

    fn overlap(one: &Scope, other: &Scope) -> bool {
        assert_eq!(one.overlaps(other), other.overlaps(one), "{one:?} {other:?}");
        let kept = |scope: &Scope| Scope::from_text(&scope.to_text().expect("text")).expect("a scope");
        assert_eq!(kept(one).overlaps(&kept(other)), one.overlaps(other));
        one.overlaps(other)
    }

    #[test]
    fn only_the_same_aspect_of_the_same_objects_of_the_same_store_is_in_the_way() {
        let mine = tags("docs/a", "docs/m");
        let cases = [
            (tags("docs/m", "docs/z"), true),
            (tags("docs/n", "docs/z"), false),
            (Scope { store: "s3 there".to_owned(), ..mine.clone() }, false),
            (Scope { aspects: [Aspect::Acl, Aspect::Restoration].into(), ..mine.clone() }, false),
            (Scope { aspects: [Aspect::Acl, Aspect::Tags].into(), ..mine.clone() }, true),
            (Scope { aspects: BTreeSet::new(), ..mine.clone() }, false),
            (Scope { ranges: Some(vec![range("c", b"docs/a", b"docs/m")]), ..mine.clone() }, false),
            (
                Scope { ranges: Some(vec![range("a", b"", b"z"), range("b", b"docs/b", b"docs/c")]), ..mine.clone() },
                true,
            ),
            (Scope { ranges: Some(Vec::new()), ..mine.clone() }, false),
            (Scope { ranges: None, ..mine.clone() }, true),
            (Scope { ranges: None, store: "s3 there".to_owned(), ..mine.clone() }, false),
            (Scope { ranges: None, aspects: [Aspect::Acl].into(), ..mine.clone() }, false),
        ];
        for (other, expected) in cases {
            assert_eq!(overlap(&mine, &other), expected, "{other:?}");
        }
        let unknown = Scope { ranges: None, ..mine.clone() };
        assert!(overlap(&unknown, &unknown.clone()));
        assert!(!overlap(&unknown, &Scope { ranges: Some(Vec::new()), ..mine }), "it has no objects");
    }

    #[test]
    fn every_operation_has_its_aspect() {
        let cases = [
            (Operation::PutTagging([("a", "1")].into_iter().collect()), Aspect::Tags),
            (Operation::AddTagging([("a", "1")].into_iter().collect()), Aspect::Tags),
            (Operation::DeleteTagging(None), Aspect::Tags),
            (Operation::DeleteTagging(Some(vec!["a".to_owned()])), Aspect::Tags),
            (Operation::PutAcl(Acl::Private), Aspect::Acl),
            (Operation::Restore(RestoreRequest { days: 1, tier: None }), Aspect::Restoration),
        ];
        for (operation, aspect) in cases {
            assert_eq!(operation.aspect(), aspect);
        }
    }

    #[test]
    fn what_another_version_wrote_may_be_anything() {
        for text in ["", "{}", "null", r#"{"store":"s","aspects":["colour"],"ranges":null}"#, r#"{"store":1}"#] {
            assert_eq!(Scope::from_text(text), None, "{text}");
        }
        let text =
            r#"{"store":"s","aspects":["tags","restoration"],"ranges":[{"bucket":"b","first":"a%2F","last":"a%FF"}]}"#;
        let scope = Scope::from_text(text).expect("what this version writes");
        assert_eq!(scope.to_text().expect("text"), text, "and goes on writing: other processes read it");
    }

    proptest! {
        #[test]
        fn any_key_is_kept(
            first in prop::collection::vec(any::<u8>(), 0..12), last in prop::collection::vec(any::<u8>(), 0..12),
            key in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let (first, last) = (first.clone().min(last.clone()), first.max(last));
            let scope = Scope { ranges: Some(vec![range("b", &first, &last)]), ..tags("", "") };
            let kept = Scope::from_text(&scope.to_text().expect("text")).expect("a scope");
            prop_assert_eq!(&kept, &scope);
            let expected = KeyRange { bucket: Bucket::new("b"), first: Key::new(first.clone()), last: Key::new(last.clone()) };
            prop_assert_eq!(kept.reach(), Reach::Known(vec![expected]));
            // A single object is within the range exactly if its key is.
            let object = Scope { ranges: Some(vec![range("b", &key, &key)]), ..tags("", "") };
            prop_assert_eq!(overlap(&scope, &object), first <= key && key <= last);
        }
    }
}

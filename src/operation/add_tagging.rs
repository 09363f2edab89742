//! Adds tags, and keeps the others.

use batchplan_store::object::{MaybeKnown, ObjectState, TagSet};
use batchplan_store::object_request::RequestKind;

use super::rules::{
    FieldValue, ObjectAspect, OperationDescriptor, OperationDetails, OperationError, OperationRules, ServiceGap,
};
use super::tagging;

pub(super) struct AddTagging;

impl OperationRules for AddTagging {
    type Settings = TagSet;

    const DESCRIPTOR: OperationDescriptor = OperationDescriptor {
        name: "add_object_tagging",
        oss_element: "AddObjectTagging",
        is_in_oss: true,
        aws_member: None,
        aspect: ObjectAspect::Tags,
        reads_after_ambiguous_write: &[],
        fields: &[&tagging::TAG_SET],
    };

    fn details(tags: &TagSet) -> OperationDetails {
        OperationDetails {
            needs_current_state: true,
            writes: &[RequestKind::PutTags],
            settings: vec![(&tagging::TAG_SET, FieldValue::Tags(tags.clone()))],
            summary: tagging::summary(tags),
            warning: None,
            oss_gap: None,
            aws_gap: Some(ServiceGap {
                part: "[operation.add_object_tagging]",
                help: "S3PutObjectTagging replaces all tags: use [operation.put_object_tagging] if these are all, or run this \
                       operation with batchplan",
            }),
        }
    }

    fn desired(before: ObjectState, tags: &TagSet) -> Result<ObjectState, OperationError> {
        add(before, tags)
    }

    #[cfg(test)]
    fn example() -> (TagSet, ObjectState) {
        (
            TagSet::from_iter([("a", "1")]),
            ObjectState { tags: MaybeKnown::Known(TagSet::default()), ..ObjectState::default() },
        )
    }
}

/// Returns the state with these tags added; values of the same keys are overwritten. There may be too many for now: a
/// later operation of the plan may delete some.
fn add(before: ObjectState, tags: &TagSet) -> Result<ObjectState, OperationError> {
    let mut all = before.tags.known().ok_or(OperationError::TagsUnknown)?.clone();
    for (key, value) in tags.iter() {
        all.insert(key, value);
    }
    Ok(ObjectState { tags: MaybeKnown::Known(all), ..before })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(pairs: &[(&str, &str)]) -> ObjectState {
        ObjectState { tags: MaybeKnown::Known(pairs.iter().copied().collect()), ..ObjectState::default() }
    }

    #[test]
    fn adding_overwrites_the_same_key_and_keeps_the_rest() {
        let more: TagSet = [("a", "new"), ("c", "3")].into_iter().collect();
        let after = add(state(&[("a", "old"), ("b", "2")]), &more).expect("fits");
        assert_eq!(after, state(&[("a", "new"), ("b", "2"), ("c", "3")]));
    }

    #[test]
    fn ten_tags_fit_and_overwriting_one_of_ten_does_too() {
        let ten: Vec<_> = (0..10).map(|i| format!("k{i}")).collect();
        let pairs: Vec<_> = ten.iter().map(|k| (k.as_str(), "")).collect();
        let same: TagSet = [("k3", "x")].into_iter().collect();
        assert!(add(state(&pairs), &same).is_ok());
        assert_eq!(add(state(&pairs[..9]), &same).map(|s| s.tags.known().map(TagSet::len)), Ok(Some(9)));
    }

    #[test]
    fn adding_needs_known_tags() {
        assert_eq!(add(ObjectState::default(), &TagSet::default()), Err(OperationError::TagsUnknown));
    }
}

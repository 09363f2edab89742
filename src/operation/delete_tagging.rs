//! Removes all tags, or those with certain keys.

use batchplan_store::object::{MaybeKnown, ObjectState, TagSet};
use batchplan_store::object_request::RequestKind;

use super::rules::{
    FieldKind, FieldValue, ObjectAspect, OperationDescriptor, OperationDetails, OperationError, OperationField,
    OperationRules, ServiceGap,
};

pub(super) struct DeleteTagging;

static KEYS: OperationField = OperationField {
    key: "keys",
    oss_element: "Key",
    aws_path: &[],
    aws_unsupported: &[],
    kind: FieldKind::TagKeys,
    required: false,
};

/// Managed services delete all tags.
const KEYS_GAP: ServiceGap = ServiceGap {
    part: "`keys` in [operation.delete_object_tagging]",
    help: "it can only delete all tags: run this operation with batchplan, or replace all tags with those to keep",
};

impl OperationRules for DeleteTagging {
    type Settings = Option<Vec<String>>;

    const DESCRIPTOR: OperationDescriptor = OperationDescriptor {
        name: "delete_object_tagging",
        oss_element: "DeleteObjectTagging",
        is_in_oss: true,
        aws_member: Some("S3DeleteObjectTagging"),
        aspect: ObjectAspect::Tags,
        reads_after_ambiguous_write: &[],
        fields: &[&KEYS],
    };

    fn details(keys: &Option<Vec<String>>) -> OperationDetails {
        let settings = vec![(&KEYS, FieldValue::TagKeys(keys.clone()))];
        match keys {
            None => OperationDetails {
                needs_current_state: false,
                writes: &[RequestKind::DeleteTags],
                settings,
                summary: "all tags".to_owned(),
                warning: Some("all tags of every object are deleted".to_owned()),
                oss_gap: None,
                aws_gap: None,
            },
            Some(keys) => OperationDetails {
                needs_current_state: true,
                // The last tag is deleted, the others are put without those that go.
                writes: &[RequestKind::PutTags, RequestKind::DeleteTags],
                settings,
                summary: keys.join(", "),
                warning: None,
                oss_gap: Some(KEYS_GAP),
                aws_gap: Some(KEYS_GAP),
            },
        }
    }

    fn desired(before: ObjectState, keys: &Option<Vec<String>>) -> Result<ObjectState, OperationError> {
        match keys {
            None => Ok(delete_all(before)),
            Some(keys) => delete(before, keys),
        }
    }

    #[cfg(test)]
    fn example() -> (Option<Vec<String>>, ObjectState) {
        (None, ObjectState::default())
    }
}

/// Returns the state without tags.
fn delete_all(before: ObjectState) -> ObjectState {
    ObjectState { tags: MaybeKnown::Known(TagSet::default()), ..before }
}

/// Returns the state without the tags of these keys.
fn delete(before: ObjectState, keys: &[String]) -> Result<ObjectState, OperationError> {
    let mut rest = before.tags.known().ok_or(OperationError::TagsUnknown)?.clone();
    for key in keys {
        rest.remove(key);
    }
    Ok(ObjectState { tags: MaybeKnown::Known(rest), ..before })
}

#[cfg(test)]
mod tests {
    use super::super::rules::AspectRules as _;
    use super::super::tagging::TagRules;
    use super::*;
    use batchplan_store::object_request::ObjectRequest;

    fn state(pairs: &[(&str, &str)]) -> ObjectState {
        ObjectState { tags: MaybeKnown::Known(pairs.iter().copied().collect()), ..ObjectState::default() }
    }

    #[test]
    fn tag_keys_are_case_sensitive() {
        let after = delete(state(&[("Team", "x"), ("team", "y")]), &["team".into()]).expect("known");
        assert_eq!(after, state(&[("Team", "x")]));
    }

    #[test]
    fn the_last_tag_deleted_by_name_is_a_delete() {
        let before = state(&[("a", "1")]);
        let after = delete(before.clone(), &["a".into()]).expect("known");
        assert_eq!(TagRules.write_request(&before, &after), Some(ObjectRequest::DeleteTags));
    }

    #[test]
    fn deleting_by_key_needs_known_tags() {
        assert_eq!(delete(ObjectState::default(), &[]), Err(OperationError::TagsUnknown));
    }

    #[test]
    fn deleting_all_tags_of_an_object_known_to_have_none_sends_nothing() {
        let before = state(&[]);
        assert_eq!(TagRules.write_request(&before, &delete_all(before.clone())), None);
        assert_eq!(
            TagRules.write_request(&ObjectState::default(), &delete_all(before)),
            Some(ObjectRequest::DeleteTags)
        );
    }
}

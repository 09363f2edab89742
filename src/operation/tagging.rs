//! Replaces, adds and deletes tags.

use batchplan_store::object::{MAX_TAGS, MaybeKnown, ObjectState, TagSet};
use batchplan_store::object_request::ObjectRequest;

use super::{OperationError, needed_change};

/// Returns the state with exactly these tags.
pub(super) fn put(before: ObjectState, tags: &TagSet) -> ObjectState {
    ObjectState { tags: MaybeKnown::Known(tags.clone()), ..before }
}

/// Returns the state with these tags added; values of the same keys are overwritten.
pub(super) fn add(before: ObjectState, tags: &TagSet) -> Result<ObjectState, OperationError> {
    let mut all = known(&before)?.clone();
    for (key, value) in tags.iter() {
        all.insert(key, value);
    }
    if all.len() > MAX_TAGS {
        return Err(OperationError::TooManyTags { count: all.len() });
    }
    Ok(put(before, &all))
}

/// Returns the state without tags.
pub(super) fn delete_all(before: ObjectState) -> ObjectState {
    put(before, &TagSet::default())
}

/// Returns the state without the tags of these keys.
pub(super) fn delete(before: ObjectState, keys: &[String]) -> Result<ObjectState, OperationError> {
    let mut rest = known(&before)?.clone();
    for key in keys {
        rest.remove(key);
    }
    Ok(put(before, &rest))
}

/// Returns the request that sets the tags. An empty set is deleted, not put, because every server agrees on what that
/// means.
pub(super) fn request(before: &MaybeKnown<TagSet>, after: &MaybeKnown<TagSet>) -> Option<ObjectRequest> {
    let tags = needed_change(before, after)?;
    Some(if tags.is_empty() { ObjectRequest::DeleteTags } else { ObjectRequest::PutTags(tags.clone()) })
}

fn known(state: &ObjectState) -> Result<&TagSet, OperationError> {
    state.tags.known().ok_or(OperationError::TagsUnknown)
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
    fn tag_keys_are_case_sensitive() {
        let after = delete(state(&[("Team", "x"), ("team", "y")]), &["team".into()]).expect("known");
        assert_eq!(after, state(&[("Team", "x")]));
    }

    #[test]
    fn the_last_tag_deleted_by_name_is_a_delete() {
        let before = state(&[("a", "1")]);
        let after = delete(before.clone(), &["a".into()]).expect("known");
        assert_eq!(request(&before.tags, &after.tags), Some(ObjectRequest::DeleteTags));
    }

    #[test]
    fn adding_or_deleting_needs_known_tags() {
        assert_eq!(add(ObjectState::default(), &TagSet::default()), Err(OperationError::TagsUnknown));
        assert_eq!(delete(ObjectState::default(), &[]), Err(OperationError::TagsUnknown));
    }

    #[test]
    fn deleting_all_tags_of_an_object_known_to_have_none_sends_nothing() {
        let before = state(&[]);
        assert_eq!(request(&before.tags, &delete_all(before.clone()).tags), None);
        assert_eq!(request(&MaybeKnown::Unknown, &delete_all(before).tags), Some(ObjectRequest::DeleteTags));
    }
}

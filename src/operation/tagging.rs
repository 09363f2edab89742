//! The tags of an object, and what the operations on them have in common.

use std::collections::BTreeMap;

use batchplan_store::object::{MAX_TAGS, MaybeKnown, ObjectState, TagSet};
use batchplan_store::object_request::{ObjectRequest, RequestKind, ResponseData};
use serde_json::{Value as Json, json};

use super::aspect::{AspectRules, NOT_READABLE, NOT_WRITABLE};
use super::descriptor::{FieldKind, OperationField};
use super::{OperationError, needed_change};

/// The tags of an object.
pub(super) struct TagRules;

impl AspectRules for TagRules {
    fn name(&self) -> &'static str {
        "tags"
    }

    fn sub_resource(&self) -> &'static str {
        "?tagging"
    }

    fn subject(&self) -> &'static str {
        "its tags"
    }

    fn read_request(&self) -> Option<ObjectRequest> {
        Some(ObjectRequest::GetTags)
    }

    fn write_request(&self, before: &ObjectState, after: &ObjectState) -> Option<ObjectRequest> {
        request(&before.tags, &after.tags)
    }

    fn is_known(&self, state: &ObjectState) -> bool {
        state.tags.known().is_some()
    }

    fn copy(&self, from: &ObjectState, to: &mut ObjectState) {
        to.tags = from.tags.clone();
    }

    fn lines(&self, state: &ObjectState) -> Vec<String> {
        let Some(tags) = state.tags.known() else { return Vec::new() };
        let none = tags.is_empty().then(|| "no tags".to_owned());
        none.into_iter().chain(tags.iter().map(|(key, value)| format!("tag {key} = {}", quoted(value)))).collect()
    }

    fn json(&self, state: &ObjectState) -> (&'static str, Json) {
        ("tags", json!(state.tags.known().map(|tags| tags.iter().collect::<BTreeMap<_, _>>())))
    }

    fn difference(&self, sent: &ObjectRequest, found: &ResponseData) -> Option<String> {
        let ResponseData::Tags(found) = found else { return Some(NOT_READABLE.to_owned()) };
        match sent {
            ObjectRequest::PutTags(sent) if sent == found => None,
            ObjectRequest::DeleteTags if found.is_empty() => None,
            _ if found.is_empty() => Some("a read returns no tags".to_owned()),
            ObjectRequest::PutTags(sent) => Some(describe_difference(sent, found)),
            _ => Some(format!("a read returns {}", tag_count(found.len()))),
        }
    }

    fn write_back(&self, kind: RequestKind, found: &ResponseData) -> Result<ObjectRequest, &'static str> {
        match (kind, found) {
            // Deleting the tags of an object without tags changes nothing.
            (RequestKind::DeleteTags, ResponseData::Tags(found)) if found.is_empty() => Ok(ObjectRequest::DeleteTags),
            (RequestKind::DeleteTags, ResponseData::Tags(_)) => {
                Err("the object has tags, which would be deleted: name an object without tags")
            }
            (_, ResponseData::Tags(found)) => Ok(ObjectRequest::PutTags(found.clone())),
            _ => Err(NOT_WRITABLE),
        }
    }

    fn describe_response(&self, found: &ResponseData) -> Option<String> {
        let ResponseData::Tags(tags) = found else { return None };
        let all = tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
        Some(if all.is_empty() { "no tags".to_owned() } else { all })
    }
}

/// The tags that an operation sets.
pub(super) static TAG_SET: OperationField = OperationField {
    key: "tags",
    oss_element: "TagSet",
    aws_path: &["TagSet"],
    aws_unsupported: &[],
    kind: FieldKind::Tags,
    required: true,
};

/// Describes tags to set.
pub(super) fn summary(tags: &TagSet) -> String {
    if tags.is_empty() {
        return "no tags".to_owned();
    }
    tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Describes how tags that were read differ from those that were sent. Values of the server are not included: they
/// may be of any length and may contain secrets.
fn describe_difference(sent: &TagSet, found: &TagSet) -> String {
    let mut lost =
        sent.iter().filter(|(key, value)| !found.iter().any(|(other, found)| (other, found) == (*key, *value)));
    let others = found.iter().filter(|(key, _)| !sent.iter().any(|(other, _)| other == *key)).count();
    match lost.next() {
        Some((key, _)) => format!("a read does not return the tag `{key}` as sent"),
        None => format!("a read also returns {}", tag_count(others)),
    }
}

fn tag_count(tags: usize) -> String {
    if tags == 1 { "1 tag".to_owned() } else { format!("{tags} tags") }
}

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
fn request(before: &MaybeKnown<TagSet>, after: &MaybeKnown<TagSet>) -> Option<ObjectRequest> {
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

//! The tags of an object, the operation that replaces them all, and what the operations on tags have in common.

use std::collections::BTreeMap;

use batchplan_store::object::{MaybeKnown, ObjectState, TagSet};
use batchplan_store::object_request::{ObjectRequest, RequestKind, ResponseData};
use serde_json::{Value as Json, json};

use super::rules::{
    AspectRules, FieldKind, FieldValue, NOT_READABLE, NOT_WRITABLE, ObjectAspect, OperationDescriptor,
    OperationDetails, OperationError, OperationField, OperationRules, needed_change,
};

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

pub(super) struct PutTagging;

impl OperationRules for PutTagging {
    type Settings = TagSet;

    const DESCRIPTOR: OperationDescriptor = OperationDescriptor {
        name: "put_object_tagging",
        oss_element: "PutObjectTagging",
        is_in_oss: true,
        aws_member: Some("S3PutObjectTagging"),
        aspect: ObjectAspect::Tags,
        reads_after_ambiguous_write: &[],
        fields: &[&TAG_SET],
    };

    fn details(tags: &TagSet) -> OperationDetails {
        OperationDetails {
            needs_current_state: false,
            // An empty tag set is deleted, not put.
            writes: if tags.is_empty() { &[RequestKind::DeleteTags] } else { &[RequestKind::PutTags] },
            settings: vec![(&TAG_SET, FieldValue::Tags(tags.clone()))],
            summary: summary(tags),
            warning: Some("replacing tags removes all other tags of an object".to_owned()),
            oss_gap: None,
            aws_gap: None,
        }
    }

    fn desired(before: ObjectState, tags: &TagSet) -> Result<ObjectState, OperationError> {
        Ok(ObjectState { tags: MaybeKnown::Known(tags.clone()), ..before })
    }

    #[cfg(test)]
    fn example() -> (TagSet, ObjectState) {
        (TagSet::from_iter([("a", "1")]), ObjectState::default())
    }
}

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

/// Returns the request that sets the tags. An empty set is deleted, not put, because every server agrees on what that
/// means.
fn request(before: &MaybeKnown<TagSet>, after: &MaybeKnown<TagSet>) -> Option<ObjectRequest> {
    let tags = needed_change(before, after)?;
    Some(if tags.is_empty() { ObjectRequest::DeleteTags } else { ObjectRequest::PutTags(tags.clone()) })
}

//! Replaces all tags.

use batchplan_store::object::{ObjectState, TagSet};
use batchplan_store::object_request::RequestKind;

use super::descriptor::{FieldValue, OperationDescriptor, OperationDetails, OperationRules};
use super::{ObjectAspect, OperationError, tagging};

pub(super) struct PutTagging;

impl OperationRules for PutTagging {
    type Settings = TagSet;

    const DESCRIPTOR: OperationDescriptor = OperationDescriptor {
        name: "put_object_tagging",
        oss_element: "PutObjectTagging",
        is_in_oss: true,
        aws_member: Some("S3PutObjectTagging"),
        aspect: ObjectAspect::Tags,
        settling_reads: &[],
        fields: &[&tagging::TAG_SET],
    };

    fn details(tags: &TagSet) -> OperationDetails {
        OperationDetails {
            needs_current_state: false,
            // An empty tag set is deleted, not put.
            writes: if tags.is_empty() { &[RequestKind::DeleteTags] } else { &[RequestKind::PutTags] },
            settings: vec![(&tagging::TAG_SET, FieldValue::Tags(tags.clone()))],
            summary: tagging::summary(tags),
            warning: Some("replacing tags removes all other tags of an object".to_owned()),
            oss_gap: None,
            aws_gap: None,
        }
    }

    fn desired(before: ObjectState, tags: &TagSet) -> Result<ObjectState, OperationError> {
        Ok(tagging::put(before, tags))
    }

    #[cfg(test)]
    fn example() -> (TagSet, ObjectState) {
        (TagSet::from_iter([("a", "1")]), ObjectState::default())
    }
}

//! Adds tags, and keeps the others.

use batchplan_store::object::{ObjectState, TagSet};
use batchplan_store::object_request::RequestKind;

use super::descriptor::{FieldValue, OperationDescriptor, OperationDetails, OperationRules, ServiceGap};
use super::{ObjectAspect, OperationError, tagging};

pub(super) struct AddTagging;

impl OperationRules for AddTagging {
    type Settings = TagSet;

    const DESCRIPTOR: OperationDescriptor = OperationDescriptor {
        name: "add_object_tagging",
        oss_element: "AddObjectTagging",
        is_in_oss: true,
        aws_member: None,
        aspect: ObjectAspect::Tags,
        settling_reads: &[],
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
        tagging::add(before, tags)
    }

    #[cfg(test)]
    fn example() -> (TagSet, ObjectState) {
        (TagSet::from_iter([("a", "1")]), tagging::delete_all(ObjectState::default()))
    }
}

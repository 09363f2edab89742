//! Removes all tags, or those with certain keys.

use batchplan_store::object::ObjectState;
use batchplan_store::object_request::RequestKind;

use super::descriptor::{
    FieldKind, FieldValue, OperationDescriptor, OperationDetails, OperationField, OperationRules, ServiceGap,
};
use super::{ObjectAspect, OperationError, tagging};

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
        settling_reads: &[],
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
                warning: Some("deleting all tags cannot be undone".to_owned()),
                oss_gap: None,
                aws_gap: None,
            },
            Some(keys) => OperationDetails {
                needs_current_state: true,
                // The last tag is deleted, the others are put without those that go.
                writes: &[RequestKind::PutTags, RequestKind::DeleteTags],
                settings,
                summary: keys.join(", "),
                warning: Some("deleted tags cannot be recovered".to_owned()),
                oss_gap: Some(KEYS_GAP),
                aws_gap: Some(KEYS_GAP),
            },
        }
    }

    fn desired(before: ObjectState, keys: &Option<Vec<String>>) -> Result<ObjectState, OperationError> {
        match keys {
            None => Ok(tagging::delete_all(before)),
            Some(keys) => tagging::delete(before, keys),
        }
    }

    #[cfg(test)]
    fn example() -> (Option<Vec<String>>, ObjectState) {
        (None, ObjectState::default())
    }
}

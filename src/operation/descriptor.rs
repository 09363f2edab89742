//! What the program must know about each operation.

use batchplan_store::object::{ObjectState, TagSet};
use batchplan_store::object_request::{ObjectRequest, RequestKind};

use super::aspect::ObjectAspect;

/// Everything that the program knows about one operation. There are no defaults: what is forgotten does not compile.
pub(super) trait OperationRules {
    /// What a plan sets.
    type Settings;

    /// What does not depend on the settings.
    const DESCRIPTOR: OperationDescriptor;

    /// Returns what follows from the settings.
    fn details(settings: &Self::Settings) -> OperationDetails;

    /// Returns the desired state of an object in this state.
    fn desired(before: ObjectState, settings: &Self::Settings) -> Result<ObjectState, OperationError>;

    /// Returns settings, and the state of an object that they change.
    #[cfg(test)]
    fn example() -> (Self::Settings, ObjectState);
}

/// What is the same for every operation of a kind.
pub struct OperationDescriptor {
    /// The name in plan files and reports.
    pub name: &'static str,
    /// The element in the XML of OSS, or our own name if OSS does not have the operation.
    pub oss_element: &'static str,
    /// Whether OSS Batch Operations has the operation.
    pub is_in_oss: bool,
    /// The member in requests of S3 Batch Operations, if AWS has the operation.
    pub aws_member: Option<&'static str>,
    /// The aspect that the operation changes.
    pub aspect: ObjectAspect,
    /// The reads that the job sends if the answer to a write is ambiguous.
    pub settling_reads: &'static [ObjectRequest],
    /// The settings.
    pub fields: &'static [&'static OperationField],
}

/// A setting of an operation: its names, and its values in the requests of managed services.
#[derive(Debug)]
pub struct OperationField {
    /// The key in plan files, and in the canonical form.
    pub key: &'static str,
    /// The element in the XML of OSS.
    pub oss_element: &'static str,
    /// The member in requests of AWS, with the members around it; empty if AWS has no such setting.
    pub aws_path: &'static [&'static str],
    /// Members beside it that AWS knows and plans do not support, each with what to do.
    pub aws_unsupported: &'static [(&'static str, &'static str)],
    /// The type of its values in requests.
    pub kind: FieldKind,
    /// Whether requests must have it.
    pub required: bool,
}

/// The type of a setting in requests of managed services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Tags with their values.
    Tags,
    /// The keys of tags. No service has such a setting: its element is our own, and is not imported.
    TagKeys,
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// One of these names. AWS writes them in capitals.
    Choice(&'static [&'static str]),
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// Tags with their values.
    Tags(TagSet),
    /// The keys of some tags; `None` for all of them.
    TagKeys(Option<Vec<String>>),
    /// A text, or one of the names of a choice.
    Text(&'static str),
    /// A whole number.
    Number(u32),
}

/// What follows from the settings of one operation.
pub struct OperationDetails {
    /// Whether the desired state depends on the current state, which must then be read first.
    pub needs_current_state: bool,
    /// The requests that write it.
    pub writes: &'static [RequestKind],
    /// The settings that the plan has, in the order of [`OperationDescriptor::fields`].
    pub settings: Vec<(&'static OperationField, FieldValue)>,
    /// The settings in words.
    pub summary: String,
    /// What to know before the operation is applied: that something is lost, billed or made public.
    pub warning: Option<String>,
    /// Why OSS Batch Operations cannot do the same.
    pub oss_gap: Option<ServiceGap>,
    /// Why S3 Batch Operations cannot do the same.
    pub aws_gap: Option<ServiceGap>,
}

/// A part of an operation that a managed service does not support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceGap {
    /// The part, as the plan writes it.
    pub part: &'static str,
    /// What to do.
    pub help: &'static str,
}

/// Why an operation cannot be applied to an object in this state, whatever the server would answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The object would have more tags than are allowed.
    #[error("the object would have {count} tags, and at most {} are allowed", batchplan_store::object::MAX_TAGS)]
    TooManyTags {
        /// The number of tags that it would have.
        count: usize,
    },
    /// The operation needs the object's tags, which were not read.
    #[error("the object's tags are not known")]
    TagsUnknown,
}

impl OperationError {
    /// Returns an error code in the style of the services.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooManyTags { .. } => "TooManyTags",
            Self::TagsUnknown => "TagsUnknown",
        }
    }
}

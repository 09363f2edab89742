//! What the program must know about each part of an object that operations change, and about each operation.

use batchplan_store::enum_with_all;
use batchplan_store::object::{MaybeKnown, ObjectState, TagSet};
use batchplan_store::object_request::{ObjectRequest, RequestKind, ResponseData};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

enum_with_all! {
    /// The part of an object that an operation changes. Operations on different aspects do not affect each other.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum ObjectAspect {
        /// The object's tags.
        Tags,
        /// The object's ACL.
        Acl,
        /// The restored copy of an archived object.
        Restoration,
    }
}

impl ObjectAspect {
    /// Returns the aspect that requests of a kind read or change; `None` if they are about the object or a bucket.
    #[must_use]
    pub fn of_kind(kind: RequestKind) -> Option<Self> {
        match kind {
            RequestKind::GetTags | RequestKind::PutTags | RequestKind::DeleteTags => Some(Self::Tags),
            RequestKind::GetAcl | RequestKind::PutAcl => Some(Self::Acl),
            RequestKind::Restore => Some(Self::Restoration),
            RequestKind::Head | RequestKind::List | RequestKind::GetObject | RequestKind::PutObject => None,
        }
    }

    /// Returns the aspect that a request reads or changes; `None` for HEAD.
    #[must_use]
    pub fn of(call: &ObjectRequest) -> Option<Self> {
        Self::of_kind(call.kind())
    }
}

/// Everything that the program knows about one aspect. There are no defaults where a forgotten method could let a job
/// succeed without having done its work.
pub(crate) trait AspectRules: Sync {
    /// Returns the name in the journal.
    fn name(&self) -> &'static str;

    /// Returns the sub-resource, as in a URL.
    fn sub_resource(&self) -> &'static str;

    /// Returns what a read shows, for messages: `its tags`.
    fn subject(&self) -> &'static str;

    /// Returns the request that reads the aspect, if its sub-resource can be read.
    fn read_request(&self) -> Option<ObjectRequest>;

    /// Returns the request that changes the aspect from one state to the other; `None` if nothing has to change.
    fn write_request(&self, before: &ObjectState, after: &ObjectState) -> Option<ObjectRequest>;

    /// Returns whether the state includes the aspect.
    fn is_known(&self, state: &ObjectState) -> bool;

    /// Copies the aspect, known or not, from one state to the other.
    fn copy(&self, from: &ObjectState, to: &mut ObjectState);

    /// Describes the aspect in lines; empty if it is not known.
    fn lines(&self, state: &ObjectState) -> Vec<String>;

    /// Returns the key and the value in JSON output; null if the aspect is not known.
    fn json(&self, state: &ObjectState) -> (&'static str, Json);

    /// Describes how the value that was read back differs from what was sent; `None` if they are equal.
    fn difference(&self, sent: &ObjectRequest, found: &ResponseData) -> Option<String>;

    /// Returns the request with which a probe reads the value before it writes it back, or why a probe does not write
    /// the aspect.
    fn probe_read(&self) -> Result<ObjectRequest, &'static str> {
        self.read_request().ok_or("its current value cannot be read, so it cannot be written back")
    }

    /// Returns the request of this kind that writes back what was read, or why it cannot be sent without a change.
    fn write_back(&self, kind: RequestKind, found: &ResponseData) -> Result<ObjectRequest, &'static str>;

    /// Describes a value that was read, in one line; `None` if the response is about something else.
    fn describe_response(&self, found: &ResponseData) -> Option<String>;
}

/// What is said of a value that was sent and does not come back as one of its kind.
pub(super) const NOT_READABLE: &str = "it cannot be read";

/// Why a probe does not write a value back that is none of the aspect's.
pub(super) const NOT_WRITABLE: &str = "the store sent an unexpected response";

/// Returns the value to set, if the desired value is known and differs from the current one.
pub(super) fn needed_change<'a, T: PartialEq>(before: &MaybeKnown<T>, after: &'a MaybeKnown<T>) -> Option<&'a T> {
    if before == after { None } else { after.known() }
}

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
    pub reads_after_ambiguous_write: &'static [ObjectRequest],
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
    /// An undo found that the object was changed after the job that is undone.
    #[error("{what} changed after the job that is undone")]
    ChangedSince {
        /// What changed: `its tags`.
        what: &'static str,
    },
    /// An undo found another version of the object than the one that the job changed.
    #[error("the object was overwritten, or deleted and created again, after the job that is undone")]
    OtherVersion,
    /// An undo does not know what the object was like before.
    #[error(
        "its state before the job is not known: the capture was lost, or the grants of its ACL cannot be sent again"
    )]
    FormerStateUnknown,
}

impl OperationError {
    /// Returns an error code in the style of the services.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooManyTags { .. } => "TooManyTags",
            Self::TagsUnknown => "TagsUnknown",
            Self::ChangedSince { .. } | Self::OtherVersion => "ChangedSince",
            Self::FormerStateUnknown => "FormerStateUnknown",
        }
    }
}

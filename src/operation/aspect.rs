//! The parts of an object that operations change, and what the program must know about each of them.

use batchplan_store::enum_with_all;
use batchplan_store::object::{MaybeKnown, ObjectState};
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
        self.read_request().ok_or("what it has cannot be read, and so not be put back")
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

//! What the program must know about each aspect of an object.

use batchplan_store::object::ObjectState;
use batchplan_store::object_request::{ObjectRequest, RequestKind, ResponseData};
use serde_json::Value as Json;

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

//! What a job of a saved plan must find: nothing but the objects that were looked at when it was saved.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What was true of a plan's manifest when the plan was saved, and must be when its job is prepared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pledge {
    /// When it was saved: the ages of the plan count back from here.
    pub as_of: Timestamp,
    /// How many objects the manifest named.
    pub objects: u64,
    /// What it was made from, as [`Pin::to_text`](crate::manifest::Pin::to_text) gives it.
    pub pin: String,
    /// The key of the digest, in hex.
    pub key: String,
    /// The digest of bucket, key, version and `ETag` of each object.
    pub digest: String,
}

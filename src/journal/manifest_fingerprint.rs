//! The manifest fingerprint of a saved plan: its job must find exactly the objects that were checked when the plan
//! was saved.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a plan's manifest was when the plan was saved, and must still be when its job is prepared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFingerprint {
    /// When the plan was saved. The ages in the plan are counted from this instant.
    pub as_of: Timestamp,
    /// The number of objects that the manifest named.
    pub objects: u64,
    /// The manifest's source, as [`SourcePin::to_json`](crate::manifest::SourcePin::to_json) formats it.
    pub pin: String,
    /// The key of the digest, in hex.
    pub key: String,
    /// The digest of bucket, key, version and `ETag` of each object.
    pub digest: String,
}

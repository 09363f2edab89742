//! Which inventory a job is pinned to, and which part of it a recurring job processes.

use batchplan_store::object::{BucketName, ObjectKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::JobId;
use crate::manifest::SourcePin;

/// An inventory that a job is pinned to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedInventory {
    /// The bucket that holds the inventory.
    pub bucket: String,
    /// The URL-encoded key of its `manifest.json`.
    pub key: String,
    /// The `ETag` of `manifest.json`, without quotes; empty if the server sent none.
    pub etag: String,
    /// When the inventory was started, if it says so.
    pub created: Option<Timestamp>,
}

impl PinnedInventory {
    /// Returns the inventory that a manifest was made from; `None` if it was not made from one.
    #[must_use]
    pub fn from_pin(pin: &SourcePin) -> Option<Self> {
        let SourcePin::Inventory { bucket, key, etag, created } = pin else { return None };
        let bucket = bucket.as_str().to_owned();
        Some(Self { bucket, key: key.encoded(), etag: etag.clone(), created: *created })
    }

    /// Returns the bucket that holds the inventory.
    #[must_use]
    pub fn bucket(&self) -> BucketName {
        BucketName::new(&self.bucket)
    }

    /// Returns the key of its `manifest.json`.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey::decode(self.key.as_bytes())
    }

    /// Returns whether both are the same inventory. An inventory without an `ETag` is never the same as another.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let same_place = (&self.bucket, &self.key) == (&other.bucket, &other.key);
        same_place && !self.etag.is_empty() && self.etag.eq_ignore_ascii_case(&other.etag)
    }

    /// Returns whether it is newer than another inventory in the same bucket. Inventory folders are named after their
    /// date, so the keys are compared.
    #[must_use]
    pub fn is_newer(&self, other: &Self) -> bool {
        self.bucket == other.bucket && self.key() > other.key()
    }

    /// Returns the inventory's folder, for messages.
    #[must_use]
    pub fn folder(&self) -> String {
        let key = self.key().to_string();
        let folder = key.strip_suffix("manifest.json").unwrap_or(&key);
        format!("{}/{folder}", self.bucket)
    }
}

/// What a recurring job processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecurringScope {
    /// The inventory.
    pub inventory: PinnedInventory,
    /// Which of its objects. Decided when the job is created, so that a resumed job processes the same objects.
    pub delta_scope: DeltaScope,
    /// When that was decided, by the journal's change counter.
    pub as_of: i64,
}

impl DeltaScope {
    /// Returns the earlier job whose inventory and failures this scope is based on.
    #[must_use]
    pub fn base_job(&self) -> Option<&JobId> {
        match self {
            Self::Since { job, .. } => Some(job),
            Self::All | Self::First | Self::PlanChanged(_) | Self::Unrecorded(_) => None,
        }
    }
}

/// Which objects of an inventory a recurring job processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeltaScope {
    /// All objects, because the plan says so.
    All,
    /// All objects, because no job of the plan has completed before, as far as is recorded.
    First,
    /// All objects, because this job of a changed plan with the same name has touched objects since a job of this
    /// plan completed.
    PlanChanged(JobId),
    /// All objects, because it is not recorded which inventory the last completed job processed.
    Unrecorded(JobId),
    /// Objects that are new or changed since this job completed, and those that failed in it.
    Since {
        /// The job.
        job: JobId,
        /// The inventory that the job processed.
        inventory: PinnedInventory,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(key: &str, etag: &str) -> PinnedInventory {
        PinnedInventory { bucket: "b".to_owned(), key: key.to_owned(), etag: etag.to_owned(), created: None }
    }

    #[test]
    fn an_inventory_is_known_again_by_its_place_and_its_etag() {
        let one = inventory("a%20b/manifest.json", "0A");
        assert!(one.is_same(&inventory("a%20b/manifest.json", "0a")));
        assert!(!one.is_same(&inventory("a/manifest.json", "0A")));
        assert!(!one.is_same(&inventory("a%20b/manifest.json", "0B")));
        assert!(!inventory("k", "").is_same(&inventory("k", "")), "without an ETag they cannot be compared");
        assert_eq!(one.folder(), "b/a b/");
    }

    #[test]
    fn delta_scopes_survive_a_round_trip() {
        let since = DeltaScope::Since { job: JobId::random(), inventory: inventory("k", "e") };
        for portion in [DeltaScope::All, DeltaScope::First, DeltaScope::PlanChanged(JobId::random()), since] {
            let text = serde_json::to_string(&portion).expect("text");
            assert_eq!(serde_json::from_str::<DeltaScope>(&text).expect("read"), portion);
        }
    }
}

//! Which inventory a job worked on, and what a recurring job works on of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::db::Journal;
use super::error::JournalError;
use super::record::{JobRecord, listed};
use crate::job::JobId;
use crate::manifest::Pin;
use crate::object::{Bucket, Key};

/// An inventory, as a job is pinned to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The bucket that holds it.
    pub bucket: String,
    /// The key of its `manifest.json`, URL-encoded.
    pub key: String,
    /// The `ETag` of that, without quotes; empty where the server told none.
    pub etag: String,
    /// When it was begun, where it says so.
    pub created: Option<Timestamp>,
}

impl Inventory {
    /// The inventory that a manifest was made from, where it was made from one.
    #[must_use]
    pub fn of(pin: &Pin) -> Option<Self> {
        let Pin::Inventory { bucket, key, etag, created } = pin else { return None };
        let bucket = bucket.as_str().to_owned();
        Some(Self { bucket, key: key.encoded(), etag: etag.clone(), created: *created })
    }

    /// Its bucket.
    #[must_use]
    pub fn bucket(&self) -> Bucket {
        Bucket::new(&self.bucket)
    }

    /// The key of its `manifest.json`.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::decode(self.key.as_bytes())
    }

    /// Whether another one is the same, as far as can be told. One without an `ETag` is never the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let same_place = (&self.bucket, &self.key) == (&other.bucket, &other.key);
        same_place && !self.etag.is_empty() && self.etag.eq_ignore_ascii_case(&other.etag)
    }

    /// Whether it is newer than another one of the same place, by the dates that their folders are named after.
    #[must_use]
    pub fn is_later(&self, other: &Self) -> bool {
        self.bucket == other.bucket && self.key() > other.key()
    }

    /// Its folder, for people.
    #[must_use]
    pub fn folder(&self) -> String {
        let key = self.key().to_string();
        let folder = key.strip_suffix("manifest.json").unwrap_or(&key);
        format!("{}/{folder}", self.bucket)
    }
}

/// What a recurring job works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// The inventory.
    pub inventory: Inventory,
    /// Which of its objects. Decided when the job is made, so that whoever goes on with it decides nothing else.
    pub portion: Portion,
}

impl Portion {
    /// The job whose inventory and failures it goes by.
    #[must_use]
    pub fn base(&self) -> Option<&JobId> {
        match self {
            Self::Since { job, .. } => Some(job),
            Self::All | Self::First | Self::PlanChanged(_) | Self::Unrecorded(_) => None,
        }
    }
}

/// Which objects of an inventory a recurring job works on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Portion {
    /// All of them: the plan wants that.
    All,
    /// All of them: no job of the plan has completed before, as far as is known.
    First,
    /// All of them: this job of another plan under the same name has touched objects since one of this plan completed.
    PlanChanged(JobId),
    /// All of them: nobody recorded which inventory the last completed job worked on.
    Unrecorded(JobId),
    /// Those that are new or different since this job completed, and those that failed in it.
    Since {
        /// The job.
        job: JobId,
        /// The inventory that it worked on.
        inventory: Inventory,
    },
}

impl Journal {
    /// All jobs of this identity, newest first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn all_of(&self, identity: &str) -> Result<Vec<JobRecord>, JournalError> {
        let identity = identity.to_owned();
        self.wait(move |connection| {
            let sql = format!(
                "SELECT {} FROM job WHERE identity = ?1 AND status NOT IN ('Cleaning', 'Cleaned') ORDER BY number DESC",
                listed()
            );
            let mut statement = connection.prepare(&sql)?;
            let jobs = statement.query_map([identity], JobRecord::read)?;
            Ok(jobs.collect::<Result<_, _>>()?)
        })
    }

    /// Notes which inventory a job works on.
    ///
    /// # Errors
    /// When the job is gone, or the journal cannot be written.
    pub fn set_inventory(&self, id: &JobId, inventory: &Inventory) -> Result<(), JournalError> {
        // It holds nothing that cannot be written as JSON.
        self.set(id, "inventory = ?2", serde_json::to_string(inventory).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(key: &str, etag: &str) -> Inventory {
        Inventory { bucket: "b".to_owned(), key: key.to_owned(), etag: etag.to_owned(), created: None }
    }

    #[test]
    fn an_inventory_is_known_again_by_its_place_and_its_etag() {
        let one = inventory("a%20b/manifest.json", "0A");
        assert!(one.is_same(&inventory("a%20b/manifest.json", "0a")));
        assert!(!one.is_same(&inventory("a/manifest.json", "0A")));
        assert!(!one.is_same(&inventory("a%20b/manifest.json", "0B")));
        assert!(!inventory("k", "").is_same(&inventory("k", "")), "nobody can tell");
        assert_eq!(one.folder(), "b/a b/");
    }

    #[test]
    fn what_was_recorded_comes_back() {
        let since = Portion::Since { job: JobId::random(), inventory: inventory("k", "e") };
        for portion in [Portion::All, Portion::First, Portion::PlanChanged(JobId::random()), since] {
            let text = serde_json::to_string(&portion).expect("text");
            assert_eq!(serde_json::from_str::<Portion>(&text).expect("read"), portion);
        }
    }
}

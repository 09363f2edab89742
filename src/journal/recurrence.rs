//! Which inventory a job processed, and which part of it a recurring job processes.

use batchplan_store::object::{BucketName, ObjectKey};
use jiff::Timestamp;
use rusqlite::{Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::clock;
use super::db::{DatabaseCommandError, Journal};
use super::error::JournalError;
use super::record::{JobRecord, STILL_ACTIVE, columns_without_plan, parsed_column};
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

/// Everything recorded about the jobs of one plan name and store at one moment.
#[derive(Clone, Debug, Default)]
pub struct NamedWorkHistory {
    /// The jobs, newest first, without the text of their plans. Includes jobs that are being removed and jobs whose
    /// store was never recorded.
    pub jobs: Vec<JobRecord>,
    /// What jobs did that are no longer kept.
    pub removed_jobs: Vec<RemovedJobWork>,
    /// The moment, by the journal's change counter.
    pub as_of: i64,
}

/// What the removed jobs of one plan did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedJobWork {
    /// The hash of the plan.
    pub plan_hash: String,
    /// The last of the jobs.
    pub job: JobId,
    /// The last moment at which that job may have changed an object, by the journal's change counter.
    pub last_touched: i64,
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

impl Journal {
    /// Returns everything recorded about the work under a plan's name on a store, by any plan or retry.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn work_history(&self, name: &str, store: &str) -> Result<NamedWorkHistory, JournalError> {
        let (name, store) = (name.to_owned(), store.to_owned());
        self.run_blocking(move |connection| {
            let transaction = connection.transaction()?;
            let sql = format!(
                "SELECT {} FROM job WHERE name = ?1 AND (store IS NULL OR store = ?2) ORDER BY number DESC",
                columns_without_plan()
            );
            let mut statement = transaction.prepare(&sql)?;
            let jobs = statement.query_map([&name, &store], JobRecord::from_row)?.collect::<Result<_, _>>()?;
            let sql = "SELECT plan_hash, job, touched_seq FROM past_work WHERE name = ?1 AND store IN ('', ?2)";
            let mut statement = transaction.prepare(sql)?;
            let past = statement.query_map([&name, &store], |row| {
                let (plan_hash, touched) = (row.get("plan_hash")?, row.get("touched_seq")?);
                Ok(RemovedJobWork { plan_hash, job: parsed_column(row, "job")?, last_touched: touched })
            })?;
            let past = past.collect::<Result<_, _>>()?;
            Ok(NamedWorkHistory { jobs, removed_jobs: past, as_of: clock::last_change(&transaction)? })
        })
    }

    /// Records that an interrupted job which is still Active is being processed again. Until its end is recorded, it
    /// may change objects.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn mark_work_resumed(&self, id: &JobId) -> Result<(), JournalError> {
        self.set_column(id, "touched_seq = ?2", STILL_ACTIVE)
    }

    /// Records that an interrupted job is no longer being processed: it may have changed objects until now. The
    /// caller must hold the job's lease.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub fn mark_work_ended(&self, id: &JobId, now: Timestamp) -> Result<(), JournalError> {
        let id = id.clone();
        self.run_blocking(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let stamp = clock::record_change(&transaction, now)?;
            let sql = "UPDATE job SET touched_seq = ?2 WHERE id = ?1 AND touched_seq = ?3";
            transaction.execute(sql, params![id.as_str(), stamp.sequence, STILL_ACTIVE])?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// Records which inventory a job processes.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn set_inventory(&self, id: &JobId, inventory: &PinnedInventory) -> Result<(), JournalError> {
        // An inventory can always be written as JSON.
        self.set_column(id, "inventory = ?2", serde_json::to_string(inventory).ok())
    }
}

/// Records that a removed job may have changed objects, since a later job under the same name may depend on it. The
/// last two plans of each name and store are enough. If no job with the name is left, all records of the name are
/// deleted.
pub(super) fn remember_removed(transaction: &Transaction<'_>, job: &JobRecord) -> Result<(), DatabaseCommandError> {
    let store = job.store_identity.as_deref().unwrap_or("");
    if let Some(touched) = job.work_span.last_touched.filter(|_| job.may_have_changed_objects()) {
        transaction.execute(
            "INSERT INTO past_work (name, store, plan_hash, job, touched_seq) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET job = ?4, touched_seq = ?5 WHERE touched_seq < ?5",
            params![job.name, store, job.plan_hash, job.id.as_str(), touched],
        )?;
        transaction.execute(
            "DELETE FROM past_work WHERE name = ?1 AND store = ?2 AND plan_hash NOT IN
                 (SELECT plan_hash FROM past_work WHERE name = ?1 AND store = ?2 ORDER BY touched_seq DESC LIMIT 2)",
            params![job.name, store],
        )?;
    }
    transaction.execute(
        "DELETE FROM past_work WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM job WHERE name = ?1)",
        [&job.name],
    )?;
    Ok(())
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

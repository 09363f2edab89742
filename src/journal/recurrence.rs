//! Which inventory a job worked on, and what a recurring job works on of it.

use jiff::Timestamp;
use rusqlite::{Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::clock;
use super::db::{Journal, Problem};
use super::error::JournalError;
use super::record::{AT_WORK, JobRecord, listed, parsed};
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
    /// When that was decided, by the journal's counter.
    pub as_of: i64,
}

/// What is known of all jobs of one name and store, at one moment.
#[derive(Clone, Debug, Default)]
pub struct NamedWork {
    /// The jobs, newest first, without their plans' texts. Those that are being removed are among them, and those whose store was
    /// never recorded.
    pub jobs: Vec<JobRecord>,
    /// What jobs did that are not remembered any more.
    pub past: Vec<PastWork>,
    /// The moment, by the journal's counter.
    pub as_of: i64,
}

/// What jobs of one plan did that are not remembered any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastWork {
    /// The plan's hash.
    pub plan_hash: String,
    /// The last of the jobs.
    pub job: JobId,
    /// The last moment at which it may have changed an object.
    pub touched: i64,
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
    /// All that is known of the work that was done under a plan's name on a store, by whichever plan or retry.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn work_named(&self, name: &str, store: &str) -> Result<NamedWork, JournalError> {
        let (name, store) = (name.to_owned(), store.to_owned());
        self.wait(move |connection| {
            let transaction = connection.transaction()?;
            let sql = format!(
                "SELECT {} FROM job WHERE name = ?1 AND (store IS NULL OR store = ?2) ORDER BY number DESC",
                listed()
            );
            let mut statement = transaction.prepare(&sql)?;
            let jobs = statement.query_map([&name, &store], JobRecord::read)?.collect::<Result<_, _>>()?;
            let sql = "SELECT plan_hash, job, touched_seq FROM past_work WHERE name = ?1 AND store IN ('', ?2)";
            let mut statement = transaction.prepare(sql)?;
            let past = statement.query_map([&name, &store], |row| {
                let (plan_hash, touched) = (row.get("plan_hash")?, row.get("touched_seq")?);
                Ok(PastWork { plan_hash, job: parsed(row, "job")?, touched })
            })?;
            let past = past.collect::<Result<_, _>>()?;
            Ok(NamedWork { jobs, past, as_of: clock::last(&transaction)? })
        })
    }

    /// Notes that a job is worked on again that was Active all the while: until somebody says otherwise it may change objects.
    ///
    /// # Errors
    /// When the job is gone, or the journal cannot be written.
    pub fn work_resumed(&self, id: &JobId) -> Result<(), JournalError> {
        self.set(id, "touched_seq = ?2", AT_WORK)
    }

    /// Notes that nobody works on a job by now, which was interrupted: until now it may have changed objects. For whoever
    /// holds it.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn work_ended(&self, id: &JobId, now: Timestamp) -> Result<(), JournalError> {
        let id = id.clone();
        self.wait(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let stamp = clock::stamp(&transaction, now)?;
            let sql = "UPDATE job SET touched_seq = ?2 WHERE id = ?1 AND touched_seq = ?3";
            transaction.execute(sql, params![id.as_str(), stamp.sequence, AT_WORK])?;
            transaction.commit()?;
            Ok(())
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

/// Remembers of a job that is removed that it may have changed objects: a job of another plan of the name that is kept may say
/// the opposite. The last two plans of a name and store are enough, whichever is asked for; without any job of the name
/// nothing is.
pub(super) fn remember(transaction: &Transaction<'_>, job: &JobRecord) -> Result<(), Problem> {
    let store = job.store.as_deref().unwrap_or("");
    if let Some(touched) = job.span.touched.filter(|_| job.may_have_touched()) {
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

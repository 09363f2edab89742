//! Jobs whose time is over.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{TransactionBehavior, params};

use super::db::Journal;
use super::error::JournalError;
use super::jobs::{Why, advance, find_any};
use super::record::{JobRecord, listed, stored};
use crate::job::{JobId, JobStatus};

/// How long a Suspended job waits to be confirmed.
pub const SUSPENDED_FOR: SignedDuration = SignedDuration::from_hours(14 * 24);

/// How long an ended job is remembered.
pub const REMEMBERED_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How many jobs are remembered.
pub const MAX_REMEMBERED: u64 = 10_000;

impl Journal {
    /// Jobs whose time is over at `now`: Suspended ones that nobody confirmed, and ended ones that need not be remembered.
    /// What was not published is remembered for as long as it takes, and so is the last completed job of work that recurs:
    /// the next one compares with it. A clock that was set back makes nothing old.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn outlived(&self, now: Timestamp) -> Result<Vec<JobRecord>, JournalError> {
        self.wait(move |connection| {
            let ago = |age: SignedDuration| now.checked_sub(age).unwrap_or(Timestamp::MIN).as_millisecond();
            let sql = format!(
                "SELECT {} FROM job WHERE (status = 'Suspended' AND changed < ?1)
                 OR status = 'Cleaning'
                 OR (status IN ('Complete', 'Cancelled', 'Failed') AND report <> 'due'
                     AND NOT (portion IS NOT NULL AND status = 'Complete' AND number =
                              (SELECT max(number) FROM job AS other
                               WHERE other.identity = job.identity AND other.status = 'Complete'))
                     AND (ended < ?2 OR number <= (SELECT number FROM job ORDER BY number DESC LIMIT 1 OFFSET ?3)))",
                listed()
            );
            let mut statement = connection.prepare(&sql)?;
            let bounds = params![ago(SUSPENDED_FOR), ago(REMEMBERED_FOR), stored(MAX_REMEMBERED)];
            let jobs = statement.query_map(bounds, JobRecord::read)?;
            Ok(jobs.collect::<Result<_, _>>()?)
        })
    }

    /// Fails a Suspended job, for this reason. Whether it did: somebody may have confirmed or cancelled it, or forgotten it.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn fail_suspended(&self, id: &JobId, why: Why, now: Timestamp) -> Result<bool, JournalError> {
        let id = id.clone();
        let failed = self.wait(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if find_any(&transaction, &id)?.is_none_or(|job| job.status != JobStatus::Suspended) {
                return Ok(None);
            }
            advance(&transaction, &id, JobStatus::Failing, &why, now)?;
            let job = advance(&transaction, &id, JobStatus::Failed, &why, now)?;
            transaction.commit()?;
            Ok(Some(job))
        })?;
        if let Some(job) = &failed {
            self.tell_moved(job);
        }
        Ok(failed.is_some())
    }
}

#[cfg(test)]
#[path = "outlived_tests.rs"]
mod tests;

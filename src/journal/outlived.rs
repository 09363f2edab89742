//! Jobs whose time is over.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Transaction, TransactionBehavior, params};

use super::clock;
use super::db::{Journal, Problem};
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

/// Jobs whose time is over, and those of which nobody knows because the clock cannot be trusted.
#[derive(Debug)]
pub struct Outlived {
    /// Those whose time is over.
    pub jobs: Vec<JobRecord>,
    /// Set where the clock has leapt ahead, and more would be over if it were right.
    pub leap: Option<ClockLeap>,
}

/// A clock that is further ahead of the last time that was recorded than it can have gone meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockLeap {
    /// How far.
    pub ahead: SignedDuration,
    /// Jobs whose time would be over.
    pub jobs: usize,
}

impl Journal {
    /// Jobs whose time is over at `now`: Suspended ones that nobody confirmed, and ended ones that need not be remembered.
    /// What was not published is remembered for as long as it takes, and so is the last completed job of work that recurs:
    /// the next one compares with it. Time is what has passed by the journal's own account: a clock that was set back makes
    /// nothing old, and one that has leapt ahead does not either until it has gone on from there.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub fn outlived(&self, now: Timestamp) -> Result<Outlived, JournalError> {
        self.wait(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let time = clock::tick(&transaction, now)?;
            let jobs = outlived_at(&transaction, time.latest)?;
            let leap = if time.leap.is_some() {
                let ahead = SignedDuration::from_millis(now.as_millisecond().saturating_sub(time.latest));
                let doubted = outlived_at(&transaction, now.as_millisecond())?.len().saturating_sub(jobs.len());
                Some(ClockLeap { ahead, jobs: doubted }).filter(|leap| leap.jobs > 0)
            } else {
                None
            };
            transaction.commit()?;
            Ok(Outlived { jobs, leap })
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

/// Jobs whose time is over at this instant, in milliseconds.
fn outlived_at(transaction: &Transaction<'_>, instant: i64) -> Result<Vec<JobRecord>, Problem> {
    let ago = |age: SignedDuration| instant.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let sql = format!(
        "SELECT {} FROM job WHERE (status = 'Suspended' AND aged_from < ?1)
         OR status = 'Cleaning'
         OR (status IN ('Complete', 'Cancelled', 'Failed') AND report <> 'due'
             AND NOT (portion IS NOT NULL AND status = 'Complete' AND number =
                      (SELECT max(number) FROM job AS other
                       WHERE other.identity = job.identity AND other.status = 'Complete'))
             AND (aged_from < ?2 OR number <= (SELECT number FROM job ORDER BY number DESC LIMIT 1 OFFSET ?3)))",
        listed()
    );
    let mut statement = transaction.prepare(&sql)?;
    let bounds = params![ago(SUSPENDED_FOR), ago(REMEMBERED_FOR), stored(MAX_REMEMBERED)];
    let jobs = statement.query_map(bounds, JobRecord::read)?;
    Ok(jobs.collect::<Result<_, _>>()?)
}

#[cfg(test)]
#[path = "outlived_tests.rs"]
mod tests;

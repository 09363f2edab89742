//! Retention: how long jobs are kept, and which have expired. `apply_retention` in `jobs/commands.rs` deletes them.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Transaction, TransactionBehavior, params};

use super::clock;
use super::db::Journal;
use super::error::{DatabaseCommandError, JournalError};
use super::record::{JobRecord, columns_without_plan};
use super::row::count_to_sql;

/// How long a Suspended job waits for confirmation.
pub const CONFIRMATION_PERIOD: SignedDuration = SignedDuration::from_hours(14 * 24);

/// How long an ended job is kept.
pub const RETENTION_PERIOD: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The number of jobs that are kept.
pub const MAX_RETAINED_JOBS: u64 = 10_000;

/// Expired jobs, and how many more there may be if the clock is right.
#[derive(Debug)]
pub struct ExpiredJobs {
    /// The jobs that have expired.
    pub jobs: Vec<JobRecord>,
    /// Set if the clock has leapt ahead, and more jobs would have expired if it were right.
    pub leap: Option<ClockLeap>,
}

/// A clock that is further ahead of the last recorded time than can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockLeap {
    /// How far the clock is ahead of the trusted time.
    pub ahead: SignedDuration,
    /// The number of additional jobs that would have expired.
    pub jobs: usize,
}

impl Journal {
    /// Returns the jobs that have expired at `now`: Suspended jobs that were not confirmed in time, and ended jobs
    /// that are no longer kept. A job is kept until its report is published. The last completed job of recurring work
    /// is kept as well, because the next one compares with it. Age is measured by the journal's own count of time: a
    /// clock that was set back makes nothing older, and one that has leapt ahead does not until it has run on from
    /// there.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read or written.
    pub fn expired_jobs(&self, now: Timestamp) -> Result<ExpiredJobs, JournalError> {
        self.run_blocking(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let time = clock::advance_clock(&transaction, now)?;
            let jobs = expired_at(&transaction, time.latest)?;
            let leap = if time.leap.is_some() {
                let ahead = SignedDuration::from_millis(now.as_millisecond().saturating_sub(time.latest));
                let doubted = expired_at(&transaction, now.as_millisecond())?.len().saturating_sub(jobs.len());
                Some(ClockLeap { ahead, jobs: doubted }).filter(|leap| leap.jobs > 0)
            } else {
                None
            };
            transaction.commit()?;
            Ok(ExpiredJobs { jobs, leap })
        })
    }
}

/// Returns the jobs that have expired at this instant, in milliseconds since 1970.
fn expired_at(transaction: &Transaction<'_>, instant: i64) -> Result<Vec<JobRecord>, DatabaseCommandError> {
    let ago = |age: SignedDuration| instant.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let sql = format!(
        "SELECT {} FROM job WHERE (status = 'Suspended' AND aged_from < ?1)
         OR status = 'Cleaning'
         OR (status IN ('Complete', 'Cancelled', 'Failed') AND report <> 'due'
             AND NOT (portion IS NOT NULL AND status = 'Complete' AND number =
                      (SELECT max(number) FROM job AS other
                       WHERE other.identity = job.identity AND other.status = 'Complete'))
             AND (aged_from < ?2 OR number <= (SELECT number FROM job ORDER BY number DESC LIMIT 1 OFFSET ?3)))",
        columns_without_plan()
    );
    let mut statement = transaction.prepare(&sql)?;
    let bounds = params![ago(CONFIRMATION_PERIOD), ago(RETENTION_PERIOD), count_to_sql(MAX_RETAINED_JOBS)];
    let jobs = statement.query_map(bounds, JobRecord::from_row)?;
    Ok(jobs.collect::<Result<_, _>>()?)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;

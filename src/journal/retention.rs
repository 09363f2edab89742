//! Retention: how long jobs are kept, and which have expired. `apply_retention` in `jobs/commands.rs` deletes them.
//!
//! Wall clocks differ between machines, can be set, and can leap. So ages are measured by time that has passed step by
//! step: a leap of more than [`MAX_CLOCK_STEP`] is believed only after the clock has run on from there for as long, and
//! a clock that is set back makes nothing older.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Transaction, TransactionBehavior, params};

use super::db::Journal;
use super::error::{DatabaseCommandError, JournalError};
use super::record::{JobRecord, columns_without_plan};
use super::row::count_to_sql;

/// How long a Suspended job waits for confirmation.
const CONFIRMATION_PERIOD: SignedDuration = SignedDuration::from_hours(14 * 24);

/// How long an ended job is kept.
const RETENTION_PERIOD: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The number of jobs that are kept.
const MAX_RETAINED_JOBS: u64 = 10_000;

/// How far the clock may be ahead of the last recorded time before it is doubted. The interval of a weekly job never
/// counts as a leap.
pub const MAX_CLOCK_STEP: SignedDuration = SignedDuration::from_hours(8 * 24);

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
            let time = advance_clock(&transaction, now)?;
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
             AND (keep_ms = 0 OR aged_from < ?4 - keep_ms)
             AND (aged_from < ?2 OR number <= (SELECT number FROM job ORDER BY number DESC LIMIT 1 OFFSET ?3)))",
        columns_without_plan()
    );
    let mut statement = transaction.prepare(&sql)?;
    let bounds = params![ago(CONFIRMATION_PERIOD), ago(RETENTION_PERIOD), count_to_sql(MAX_RETAINED_JOBS), instant];
    let jobs = statement.query_map(bounds, JobRecord::from_row)?;
    Ok(jobs.collect::<Result<_, _>>()?)
}

/// Records the current time, and how much of it is trusted.
pub(super) fn advance_clock(
    transaction: &Transaction<'_>,
    now: Timestamp,
) -> Result<TrustedTime, DatabaseCommandError> {
    let now = now.as_millisecond();
    let before = transaction.query_row("SELECT latest, leapt_to, leapt_seen FROM clock", [], |row| {
        let leap: (Option<i64>, Option<i64>) = (row.get("leapt_to")?, row.get("leapt_seen")?);
        let leap = leap.0.zip(leap.1).map(|(to, seen)| PendingLeap { started_at: to, latest: seen });
        Ok(row.get::<_, Option<i64>>("latest")?.map(|latest| TrustedTime { latest, leap }))
    })?;
    let time = before.map_or(TrustedTime { latest: now, leap: None }, |before| before.observe(now));
    transaction.execute(
        "UPDATE clock SET latest = ?1, leapt_to = ?2, leapt_seen = ?3",
        params![time.latest, time.leap.map(|leap| leap.started_at), time.leap.map(|leap| leap.latest)],
    )?;
    Ok(time)
}

/// The latest trusted time, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrustedTime {
    pub(super) latest: i64,
    /// The time that the clock has leapt to since.
    leap: Option<PendingLeap>,
}

/// A time that is not trusted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PendingLeap {
    /// The time right after the leap.
    started_at: i64,
    /// The latest time seen after the leap.
    latest: i64,
}

impl TrustedTime {
    /// Returns the trusted time after the clock shows `now`.
    fn observe(self, now: i64) -> Self {
        let far = |from: i64| now.saturating_sub(from) > milliseconds(MAX_CLOCK_STEP);
        if !far(self.latest) {
            return Self { latest: self.latest.max(now), leap: None };
        }
        match self.leap.filter(|leap| leap.started_at <= now) {
            Some(leap) if now.saturating_sub(leap.started_at) < milliseconds(MAX_CLOCK_STEP) => {
                Self { leap: Some(PendingLeap { latest: leap.latest.max(now), ..leap }), ..self }
            }
            // The clock has run for as long as the leap: the leap was right. A further leap is doubted separately.
            Some(leap) if far(leap.latest) => {
                Self { latest: leap.latest, leap: Some(PendingLeap { started_at: now, latest: now }) }
            }
            Some(_) => Self { latest: now, leap: None },
            None => Self { leap: Some(PendingLeap { started_at: now, latest: now }), ..self },
        }
    }
}

fn milliseconds(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;

//! The order of changes, and how much time has passed, by the journal's own count.
//!
//! Wall clocks differ between machines, can be set, and can leap. So changes are ordered by a counter that increases
//! whenever a job is created or moved. Ages are measured by time that has passed step by step: a leap of more than
//! [`MAX_CLOCK_STEP`] is believed only after the clock has run on from there for as long, and a clock that is set
//! back makes nothing older.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Transaction, params};

use super::error::DatabaseCommandError;

/// How far the clock may be ahead of the last recorded time before it is doubted. The interval of a weekly job never
/// counts as a leap.
pub const MAX_CLOCK_STEP: SignedDuration = SignedDuration::from_hours(8 * 24);

/// The position and time of a recorded change.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeStamp {
    pub(super) sequence: i64,
    /// The time of the change in milliseconds, at least the latest trusted time, so that the change never seems older
    /// than it is.
    pub(super) at: i64,
}

/// Records a change that is made now.
pub(super) fn record_change(
    transaction: &Transaction<'_>,
    now: Timestamp,
) -> Result<ChangeStamp, DatabaseCommandError> {
    let time = advance_clock(transaction, now)?;
    let sequence = transaction.query_row("UPDATE clock SET moves = moves + 1 RETURNING moves", [], |row| row.get(0))?;
    Ok(ChangeStamp { sequence, at: now.as_millisecond().max(time.latest) })
}

/// Returns the number of the last change.
pub(super) fn last_change(connection: &rusqlite::Connection) -> Result<i64, DatabaseCommandError> {
    Ok(connection.query_row("SELECT moves FROM clock", [], |row| row.get(0))?)
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
    pub(super) leap: Option<PendingLeap>,
}

/// A time that is not trusted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingLeap {
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000;

    /// The trusted time after the clock has shown all these times, in days.
    fn after(days: &[i64]) -> i64 {
        let first = TrustedTime { latest: days[0] * DAY, leap: None };
        days.iter().fold(first, |time, day| time.observe(day * DAY)).latest / DAY
    }

    #[test]
    fn time_passes_in_steps_and_a_leap_is_doubted_until_the_clock_goes_on_from_there() {
        for (said, believed) in [
            (&[0, 1, 2, 3][..], 3),
            (&[0, 7, 14, 22], 22),
            (&[0, 31], 0),
            (&[0, 31, 1], 1),
            (&[0, 31, 32, 33, 38], 0),
            (&[0, 31, 32, 33, 39], 39),
            (&[0, 31, 32, 33, 37, 40], 40),
            (&[0, 31, 5, 12, 31], 12),
            (&[0, 31, 20, 31], 20),
            // Once a month: each leap is trusted a month later.
            (&[0, 30, 60, 90], 60),
            (&[100, 50, 60, 99], 100),
            (&[100, 50, 101], 101),
            (&[100, -20_000, 100], 100),
        ] {
            assert_eq!(after(said), believed, "{said:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_believed_never_goes_back_nor_beyond_what_the_clock_has_said(
            said in prop::collection::vec(-1000..1000_i64, 1..40),
        ) {
            let mut time = TrustedTime { latest: said[0] * DAY, leap: None };
            let mut most = said[0];
            for day in said {
                let next = time.observe(day * DAY);
                most = most.max(day);
                prop_assert!(next.latest >= time.latest && next.latest <= most * DAY);
                time = next;
            }
        }

        #[test]
        fn one_reading_alone_never_makes_anything_older_by_more_than_a_leap(
            said in prop::collection::vec(0..30_i64, 1..20), wrong in 31..100_000_i64, place in 1..20_usize,
        ) {
            let mut said: Vec<i64> = said.iter().scan(0, |day, step| { *day += step % 8; Some(*day) }).collect();
            let right = after(&said);
            let last = said[said.len() - 1];
            said.insert(place.min(said.len()), last + wrong);
            prop_assert!(after(&said) <= right);
        }
    }
}

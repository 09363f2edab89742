//! Restores an archived object, and resolves a restore whose answer does not tell whether it took effect.

use jiff::{SignedDuration, Timestamp};

use super::wanted;
use crate::call::Call;
use crate::object::{Fact, ObjectState, Restoration, RestoreRequest};

/// Returns the state with a restored copy for this number of days.
pub(super) fn restore(before: ObjectState, request: RestoreRequest) -> ObjectState {
    ObjectState { restoration: Fact::Known(Restoration::Wanted(request)), ..before }
}

/// Returns the request that restores the object.
pub(super) fn call(before: &Fact<Restoration>, after: &Fact<Restoration>) -> Option<Call> {
    match wanted(before, after)? {
        Restoration::Wanted(request) => Some(Call::Restore(*request)),
        Restoration::Absent | Restoration::InProgress | Restoration::Until(_) => None,
    }
}

/// What reading the object shows about a restore whose own answer was a conflict, or never arrived.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// The restore took effect: the job's own restore is in progress, or the copy is kept long enough.
    Holds,
    /// No restore is in progress: the request never arrived.
    NotThere,
    /// A restore is in progress that this job did not request. How long its copy will be kept is unknown.
    SomebodyElses,
    /// There is a copy, but it expires before the requested days are over.
    TooShort {
        /// When the copy expires.
        until: Timestamp,
    },
}

/// Evaluates what was read of an object. `asked_before` tells whether this job may already have requested the restore,
/// and `since` when it first did. The requested days are counted from then.
pub fn look(found: Restoration, request: RestoreRequest, asked_before: bool, since: Timestamp) -> Looked {
    match found {
        Restoration::Absent | Restoration::Wanted(_) => Looked::NotThere,
        Restoration::InProgress if asked_before => Looked::Holds,
        Restoration::InProgress => Looked::SomebodyElses,
        Restoration::Until(until) if until >= wanted_until(request, since) => Looked::Holds,
        Restoration::Until(until) => Looked::TooShort { until },
    }
}

/// Returns the earliest allowed expiry of the copy. Servers send whole seconds, so fractions of a second are ignored.
fn wanted_until(request: RestoreRequest, since: Timestamp) -> Timestamp {
    let whole = Timestamp::from_second(since.as_second()).unwrap_or(since);
    let span = SignedDuration::from_hours(24 * i64::from(request.days));
    whole.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: RestoreRequest = RestoreRequest { days: 7, tier: None };

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    #[test]
    fn a_restore_is_always_asked_for_since_its_days_count_from_now() {
        let after = restore(ObjectState::default(), WEEK);
        for before in [Fact::Unknown, Fact::Known(Restoration::Absent), Fact::Known(Restoration::InProgress)] {
            assert_eq!(call(&before, &after.restoration), Some(Call::Restore(WEEK)));
        }
    }

    #[test]
    fn one_under_way_holds_only_where_this_job_may_have_asked() {
        let now = at("2026-03-01T12:00:00Z");
        assert_eq!(look(Restoration::InProgress, WEEK, true, now), Looked::Holds);
        assert_eq!(look(Restoration::InProgress, WEEK, false, now), Looked::SomebodyElses);
    }

    #[test]
    fn a_copy_holds_when_it_stays_as_long_as_asked() {
        let now = at("2026-03-01T12:00:00.7Z");
        let until = |text| Restoration::Until(at(text));
        assert_eq!(look(until("2026-03-08T12:00:00Z"), WEEK, false, now), Looked::Holds);
        assert_eq!(look(until("2026-03-09T00:00:00Z"), WEEK, false, now), Looked::Holds);
        let short = at("2026-03-08T11:59:59Z");
        assert_eq!(look(Restoration::Until(short), WEEK, true, now), Looked::TooShort { until: short });
    }

    #[test]
    fn absurd_days_do_not_overflow() {
        let forever = RestoreRequest { days: u32::MAX, tier: None };
        let until = at("2030-01-01T00:00:00Z");
        assert_eq!(
            look(Restoration::Until(until), forever, false, at("2026-01-01T00:00:00Z")),
            Looked::TooShort { until }
        );
    }
}

//! Bring an archived object back, and judge a restore whose answer does not say whether it holds.

use jiff::{SignedDuration, Timestamp};

use super::wanted;
use crate::call::Call;
use crate::object::{Fact, ObjectState, Restoration, RestoreRequest};

/// A restored copy for this long.
pub(super) fn restore(before: ObjectState, request: RestoreRequest) -> ObjectState {
    ObjectState { restoration: Fact::Known(Restoration::Wanted(request)), ..before }
}

/// The request that asks for it.
pub(super) fn call(before: &Fact<Restoration>, after: &Fact<Restoration>) -> Option<Call> {
    match wanted(before, after)? {
        Restoration::Wanted(request) => Some(Call::Restore(*request)),
        Restoration::Absent | Restoration::InProgress | Restoration::Until(_) => None,
    }
}

/// What one look at the object says of a restore whose own answer was a conflict, or never came.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// The restore holds: this job's own is under way, or the copy stays long enough.
    Holds,
    /// Nobody's restore is under way: it never arrived.
    NotThere,
    /// A restore is under way that this job did not ask for; how long its copy will stay cannot be seen.
    SomebodyElses,
    /// A copy is there, but goes before the days asked for are over.
    TooShort {
        /// When it goes.
        until: Timestamp,
    },
}

/// Judges what a look found. `asked_before` says whether this job may already have asked for the object, and `since`
/// when it first did: the days asked for are counted from there.
pub fn look(found: Restoration, request: RestoreRequest, asked_before: bool, since: Timestamp) -> Looked {
    match found {
        Restoration::Absent | Restoration::Wanted(_) => Looked::NotThere,
        Restoration::InProgress if asked_before => Looked::Holds,
        Restoration::InProgress => Looked::SomebodyElses,
        Restoration::Until(until) if until >= wanted_until(request, since) => Looked::Holds,
        Restoration::Until(until) => Looked::TooShort { until },
    }
}

/// When the copy may go at the earliest. Servers send whole seconds, so what is beyond the second does not count.
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

//! Restores an archived object, and resolves a restore whose answer does not tell whether it took effect.

use batchplan_store::object::{MaybeKnown, ObjectState, RestoreRequest, RestoreState};
use batchplan_store::object_request::ObjectRequest;
use jiff::{SignedDuration, Timestamp};

use super::needed_change;

/// Returns the state with a restored copy for this number of days.
pub(super) fn restore(before: ObjectState, request: RestoreRequest) -> ObjectState {
    ObjectState { restoration: MaybeKnown::Known(RestoreState::Requested(request)), ..before }
}

/// Returns the request that restores the object.
pub(super) fn request(before: &MaybeKnown<RestoreState>, after: &MaybeKnown<RestoreState>) -> Option<ObjectRequest> {
    match needed_change(before, after)? {
        RestoreState::Requested(request) => Some(ObjectRequest::Restore(*request)),
        RestoreState::NotRestored | RestoreState::InProgress | RestoreState::RestoredUntil(_) => None,
    }
}

/// What reading the object shows about a restore whose own answer was a conflict, or never arrived.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreCheck {
    /// The restore took effect: the job's own restore is in progress, or the copy is kept long enough.
    InEffect,
    /// No restore is in progress: the request never arrived.
    NotStarted,
    /// A restore is in progress that this job did not request. How long its copy will be kept is unknown.
    ForeignRestore,
    /// There is a copy, but it expires before the requested days are over.
    ExpiresTooEarly {
        /// When the copy expires.
        until: Timestamp,
    },
}

/// Evaluates what was read of an object. `asked_before` tells whether this job may already have requested the restore,
/// and `since` when it first did. The requested days are counted from then.
pub fn check_restore(
    found: RestoreState,
    request: RestoreRequest,
    asked_before: bool,
    since: Timestamp,
) -> RestoreCheck {
    match found {
        RestoreState::NotRestored | RestoreState::Requested(_) => RestoreCheck::NotStarted,
        RestoreState::InProgress if asked_before => RestoreCheck::InEffect,
        RestoreState::InProgress => RestoreCheck::ForeignRestore,
        RestoreState::RestoredUntil(until) if until >= required_until(request, since) => RestoreCheck::InEffect,
        RestoreState::RestoredUntil(until) => RestoreCheck::ExpiresTooEarly { until },
    }
}

/// Returns the earliest allowed expiry of the copy. Servers send whole seconds, so fractions of a second are ignored.
fn required_until(request: RestoreRequest, since: Timestamp) -> Timestamp {
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
        for before in [
            MaybeKnown::Unknown,
            MaybeKnown::Known(RestoreState::NotRestored),
            MaybeKnown::Known(RestoreState::InProgress),
        ] {
            assert_eq!(request(&before, &after.restoration), Some(ObjectRequest::Restore(WEEK)));
        }
    }

    #[test]
    fn a_restore_in_progress_counts_only_if_this_job_may_have_requested_it() {
        let now = at("2026-03-01T12:00:00Z");
        assert_eq!(check_restore(RestoreState::InProgress, WEEK, true, now), RestoreCheck::InEffect);
        assert_eq!(check_restore(RestoreState::InProgress, WEEK, false, now), RestoreCheck::ForeignRestore);
    }

    #[test]
    fn a_copy_counts_only_if_it_is_kept_long_enough() {
        let now = at("2026-03-01T12:00:00.7Z");
        let until = |text| RestoreState::RestoredUntil(at(text));
        assert_eq!(check_restore(until("2026-03-08T12:00:00Z"), WEEK, false, now), RestoreCheck::InEffect);
        assert_eq!(check_restore(until("2026-03-09T00:00:00Z"), WEEK, false, now), RestoreCheck::InEffect);
        let short = at("2026-03-08T11:59:59Z");
        assert_eq!(
            check_restore(RestoreState::RestoredUntil(short), WEEK, true, now),
            RestoreCheck::ExpiresTooEarly { until: short }
        );
    }

    #[test]
    fn absurd_days_do_not_overflow() {
        let forever = RestoreRequest { days: u32::MAX, tier: None };
        let until = at("2030-01-01T00:00:00Z");
        assert_eq!(
            check_restore(RestoreState::RestoredUntil(until), forever, false, at("2026-01-01T00:00:00Z")),
            RestoreCheck::ExpiresTooEarly { until }
        );
    }
}

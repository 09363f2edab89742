//! The restored copy of an archived object, the operation that requests one, and how a restore is resolved whose answer
//! does not tell whether it took effect.

use batchplan_store::object::{MaybeKnown, ObjectState, RestoreRequest, RestoreState, RestoreTier};
use batchplan_store::object_request::{ObjectRequest, RequestKind, ResponseData};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value as Json, json};

use super::rules::{
    AspectRules, FieldKind, FieldValue, NOT_READABLE, ObjectAspect, OperationDescriptor, OperationDetails,
    OperationError, OperationField, OperationRules, ServiceGap, needed_change,
};

/// The restored copy of an archived object.
pub(super) struct RestorationRules;

const NOT_TRIED: &str = "not tried, because a restore is billed";

impl AspectRules for RestorationRules {
    fn name(&self) -> &'static str {
        "restoration"
    }

    fn sub_resource(&self) -> &'static str {
        "?restore"
    }

    /// Only HEAD shows a restore, and it is the storage class that decides about one.
    fn subject(&self) -> &'static str {
        "its storage class"
    }

    /// A restore is always requested, because its days count from now.
    fn read_request(&self) -> Option<ObjectRequest> {
        None
    }

    fn write_request(&self, before: &ObjectState, after: &ObjectState) -> Option<ObjectRequest> {
        request(&before.restoration, &after.restoration)
    }

    fn is_known(&self, state: &ObjectState) -> bool {
        state.restoration.known().is_some()
    }

    fn copy(&self, from: &ObjectState, to: &mut ObjectState) {
        to.restoration = from.restoration.clone();
        // It decides whether the object can be restored.
        to.archive_status = from.archive_status.clone();
    }

    fn lines(&self, state: &ObjectState) -> Vec<String> {
        let line = |restoration: &RestoreState| format!("restored copy: {}", describe_restored_copy(*restoration));
        state.restoration.known().map(line).into_iter().collect()
    }

    fn json(&self, state: &ObjectState) -> (&'static str, Json) {
        let restored = match &state.restoration {
            MaybeKnown::Unknown => Json::Null,
            MaybeKnown::Known(RestoreState::NotRestored) => json!("none"),
            MaybeKnown::Known(RestoreState::InProgress) => json!("in progress"),
            MaybeKnown::Known(RestoreState::RestoredUntil(until)) => json!({ "until": until.to_string() }),
            MaybeKnown::Known(RestoreState::Requested(request)) => {
                json!({ "days": request.days, "tier": request.tier.map(RestoreTier::as_str) })
            }
        };
        ("restored_copy", restored)
    }

    fn difference(&self, _: &ObjectRequest, _: &ResponseData) -> Option<String> {
        Some(NOT_READABLE.to_owned())
    }

    fn probe_read(&self) -> Result<ObjectRequest, &'static str> {
        Err(NOT_TRIED)
    }

    fn write_back(&self, _: RequestKind, _: &ResponseData) -> Result<ObjectRequest, &'static str> {
        Err(NOT_TRIED)
    }

    fn describe_response(&self, _: &ResponseData) -> Option<String> {
        None
    }
}

fn describe_restored_copy(restoration: RestoreState) -> String {
    match restoration {
        RestoreState::NotRestored => "none".to_owned(),
        RestoreState::InProgress => "in progress".to_owned(),
        RestoreState::RestoredUntil(until) => format!("until {until}"),
        RestoreState::Requested(request) => {
            let tier = request.tier.map_or_else(String::new, |tier| format!(" ({})", tier.as_str()));
            match request.days {
                Some(days) => format!("for {}{tier}", describe_days(days)),
                None => format!("without an expiry{tier}"),
            }
        }
    }
}

fn describe_days(days: u32) -> String {
    format!("{days} day{}", if days == 1 { "" } else { "s" })
}

pub(super) struct RestoreObject;

static DAYS: OperationField = OperationField {
    key: "days",
    oss_element: "Days",
    aws_path: &["ExpirationInDays"],
    aws_unsupported: &[],
    kind: FieldKind::Number,
    required: false,
};

/// Managed services have no expedited restores.
static TIER: OperationField = OperationField {
    key: "tier",
    oss_element: "Tier",
    aws_path: &["GlacierJobTier"],
    aws_unsupported: &[],
    kind: FieldKind::Choice(&["Standard", "Bulk"]),
    required: false,
};

const EXPEDITED_GAP: ServiceGap =
    ServiceGap { part: "`tier = \"Expedited\"` in [operation.restore_object]", help: "use Standard or Bulk" };

impl OperationRules for RestoreObject {
    type Settings = RestoreRequest;

    const DESCRIPTOR: OperationDescriptor = OperationDescriptor {
        name: "restore_object",
        oss_element: "RestoreObject",
        is_in_oss: true,
        aws_member: Some("S3InitiateRestoreObject"),
        aspect: ObjectAspect::Restoration,
        reads_after_ambiguous_write: &[ObjectRequest::Head],
        fields: &[&DAYS, &TIER],
    };

    fn details(request: &RestoreRequest) -> OperationDetails {
        let RestoreRequest { days, tier } = *request;
        let named_tier = tier.map_or_else(String::new, |tier| format!(", {}", tier.as_str()));
        let gap = (tier == Some(RestoreTier::Expedited)).then_some(EXPEDITED_GAP);
        let days_setting = days.map(|days| (&DAYS, FieldValue::Number(days)));
        let tier_setting = tier.map(|tier| (&TIER, FieldValue::Text(tier.as_str())));
        let kept = days.map_or_else(|| "without an expiry".to_owned(), describe_days);
        OperationDetails {
            needs_current_state: false,
            writes: &[RequestKind::Restore],
            settings: days_setting.into_iter().chain(tier_setting).collect(),
            summary: format!("{kept}{named_tier}"),
            warning: Some("restores are billed by request, size and days, and cannot be undone".to_owned()),
            oss_gap: gap,
            aws_gap: gap,
        }
    }

    fn desired(before: ObjectState, request: &RestoreRequest) -> Result<ObjectState, OperationError> {
        Ok(restore(before, *request))
    }

    #[cfg(test)]
    fn example() -> (RestoreRequest, ObjectState) {
        (RestoreRequest { days: Some(3), tier: None }, ObjectState::default())
    }
}

/// Returns the state with a restored copy for this number of days.
fn restore(before: ObjectState, request: RestoreRequest) -> ObjectState {
    ObjectState { restoration: MaybeKnown::Known(RestoreState::Requested(request)), ..before }
}

/// Returns the request that restores the object.
fn request(before: &MaybeKnown<RestoreState>, after: &MaybeKnown<RestoreState>) -> Option<ObjectRequest> {
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
        RestoreState::RestoredUntil(until) if required_until(request, since).is_none_or(|least| until >= least) => {
            RestoreCheck::InEffect
        }
        RestoreState::RestoredUntil(until) => RestoreCheck::ExpiresTooEarly { until },
    }
}

/// Returns the earliest allowed expiry of the copy, if the request asks for one. Servers send whole seconds, so fractions
/// of a second are ignored.
fn required_until(request: RestoreRequest, since: Timestamp) -> Option<Timestamp> {
    let whole = Timestamp::from_second(since.as_second()).unwrap_or(since);
    let span = SignedDuration::from_hours(24 * i64::from(request.days?));
    Some(whole.checked_add(span).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: RestoreRequest = RestoreRequest { days: Some(7), tier: None };

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
    fn a_restore_without_days_asks_for_no_expiry() {
        let request = RestoreRequest { days: None, tier: None };
        let until = RestoreState::RestoredUntil(at("2026-03-01T00:00:00Z"));
        assert_eq!(check_restore(until, request, true, at("2026-03-01T12:00:00Z")), RestoreCheck::InEffect);
        let details = RestoreObject::details(&request);
        assert_eq!((details.settings.len(), details.summary.as_str()), (0, "without an expiry"));
    }

    #[test]
    fn absurd_days_do_not_overflow() {
        let forever = RestoreRequest { days: Some(u32::MAX), tier: None };
        let until = at("2030-01-01T00:00:00Z");
        assert_eq!(
            check_restore(RestoreState::RestoredUntil(until), forever, false, at("2026-01-01T00:00:00Z")),
            RestoreCheck::ExpiresTooEarly { until }
        );
    }
}

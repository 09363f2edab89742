//! Predicts whether a service accepts a restore request, by storage class, days and tier. The service decides; this
//! module predicts its most likely answer.

use batchplan_store::object::{MaybeKnown, RestoreRequest, RestoreState, RestoreTier, StorageClass};
use batchplan_store::object_request::ObjectRequest;

use super::predictor::FailureReason;
use crate::provider::RestoreService;

/// The name of the operation in reports.
const OPERATION: &str = "restore_object";

/// The predicted response to a restore request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExpectedResponse {
    /// Accepted: at the second attempt if the request names a tier and the class has none.
    Accepted,
    /// Refused, for this reason.
    Refused(FailureReason),
    /// Not predictable, for this reason.
    Unknown(&'static str),
}

/// Predicts the response to a restore of an object, from its storage class and the state of its restored copy.
pub(super) fn expected_response(
    service: RestoreService,
    class: &MaybeKnown<StorageClass>,
    restoration: &MaybeKnown<RestoreState>,
    request: RestoreRequest,
) -> ExpectedResponse {
    let Some(class) = class.known() else {
        return ExpectedResponse::Unknown("the storage class is unknown");
    };
    let kind = RetrievalClass::of(class);
    if kind == RetrievalClass::Readable {
        let message = format!("objects of class {} can be read directly and need no restore", class.as_str());
        let (code, http) =
            if service == RestoreService::Oss { ("OperationNotSupported", 400) } else { ("InvalidObjectState", 403) };
        return ExpectedResponse::Refused(FailureReason::new(code, http, OPERATION, message));
    }
    let checked = match service {
        RestoreService::Aws => check_aws(kind, class, request),
        RestoreService::Oss => check_oss(kind, class, request),
        RestoreService::Other => Ok(()),
    };
    if let Err(reason) = checked {
        return ExpectedResponse::Refused(reason);
    }
    match restoration.known() {
        None => ExpectedResponse::Unknown("it is unknown whether a restore is in progress"),
        Some(RestoreState::InProgress) if service == RestoreService::Oss && kind == RetrievalClass::Archive => {
            in_progress(None)
        }
        Some(RestoreState::InProgress) => in_progress(Some(request.tier.unwrap_or(RestoreTier::Standard))),
        Some(_) if kind == RetrievalClass::Unknown => {
            ExpectedResponse::Unknown("it is unknown whether objects of this class need a restore")
        }
        Some(_) => ExpectedResponse::Accepted,
    }
}

/// The requests that a restore takes, without the requests before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RestoreAttempts {
    /// The requests that succeed.
    pub(super) accepted: Vec<ObjectRequest>,
    /// The requests that are refused.
    pub(super) refused: Vec<ObjectRequest>,
}

/// Returns the requests that the job sends for a restore with this predicted response.
///
/// The job sends a HEAD request after a 409 conflict. On OSS, which has a class without tiers, it also sends one
/// after a 400 response to a request that names a tier.
pub(super) fn restore_attempts(
    service: RestoreService,
    class: &MaybeKnown<StorageClass>,
    request: RestoreRequest,
    expected: &ExpectedResponse,
) -> RestoreAttempts {
    let asks = ObjectRequest::Restore(request);
    let untiered = ObjectRequest::Restore(RestoreRequest { tier: None, ..request });
    let kind = class.known().map_or(RetrievalClass::Unknown, RetrievalClass::of);
    let gives_up_tier = service == RestoreService::Oss && kind == RetrievalClass::Archive && request.tier.is_some();
    let mut attempts = RestoreAttempts::default();
    if gives_up_tier {
        attempts.refused.push(asks.clone());
        attempts.accepted.push(ObjectRequest::Head);
    }
    let last = if gives_up_tier { untiered } else { asks };
    match expected {
        ExpectedResponse::Accepted => attempts.accepted.push(last),
        ExpectedResponse::Refused(reason) => {
            attempts.refused.push(last);
            let tier = service == RestoreService::Oss && request.tier.is_some() && !gives_up_tier;
            if reason.http == 409 || (reason.http == 400 && tier) {
                attempts.accepted.push(ObjectRequest::Head);
            }
        }
        ExpectedResponse::Unknown(_) => {}
    }
    attempts
}

/// Predicts the response if a restore is already in progress. The service refuses the new one unless it is faster,
/// and the tier of the old one cannot be seen. `tier` is the tier of the new one, or `None` if the class has no
/// tiers.
fn in_progress(tier: Option<RestoreTier>) -> ExpectedResponse {
    match tier {
        None | Some(RestoreTier::Bulk) => {
            let message = "a restore of this object is already in progress, and the expiry of its copy is unknown";
            ExpectedResponse::Refused(FailureReason::new("RestoreAlreadyInProgress", 409, OPERATION, message))
        }
        Some(RestoreTier::Standard | RestoreTier::Expedited) => ExpectedResponse::Unknown(
            "a restore of unknown tier is in progress; a new one is accepted only if it is faster",
        ),
    }
}

/// Storage classes, grouped by how their objects are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetrievalClass {
    /// Objects can be read immediately.
    Readable,
    /// Objects can be read after minutes or hours: GLACIER of S3, Archive of OSS.
    Archive,
    /// `ColdArchive` of OSS.
    Cold,
    /// Objects can be read after half a day or more.
    Deep,
    /// An unknown storage class.
    Unknown,
}

impl RetrievalClass {
    fn of(class: &StorageClass) -> Self {
        match class.as_str().to_ascii_uppercase().as_str() {
            "STANDARD" | "STANDARD_IA" | "ONEZONE_IA" | "REDUCED_REDUNDANCY" | "GLACIER_IR" | "EXPRESS_ONEZONE"
            | "IA" => Self::Readable,
            "GLACIER" | "ARCHIVE" => Self::Archive,
            "COLDARCHIVE" => Self::Cold,
            "DEEP_ARCHIVE" | "DEEPCOLDARCHIVE" => Self::Deep,
            _ => Self::Unknown,
        }
    }
}

fn check_aws(kind: RetrievalClass, class: &StorageClass, request: RestoreRequest) -> Result<(), FailureReason> {
    if kind == RetrievalClass::Deep && request.tier == Some(RestoreTier::Expedited) {
        return Err(tier_not_supported("InvalidArgument", class, RestoreTier::Expedited));
    }
    Ok(())
}

fn check_oss(
    kind: RetrievalClass,
    class: &StorageClass,
    RestoreRequest { days, tier }: RestoreRequest,
) -> Result<(), FailureReason> {
    let most = if kind == RetrievalClass::Archive { 7 } else { 365 };
    if kind != RetrievalClass::Unknown && !(1..=most).contains(&days) {
        let message =
            format!("copies restored from class {} are kept for 1 to {most} days, not {days}", class.as_str());
        return Err(FailureReason::new("InvalidArgument", 400, OPERATION, message));
    }
    match tier {
        Some(tier @ RestoreTier::Bulk) if kind == RetrievalClass::Deep => {
            Err(tier_not_supported("MalformedXML", class, tier))
        }
        _ => Ok(()),
    }
}

fn tier_not_supported(code: &str, class: &StorageClass, tier: RestoreTier) -> FailureReason {
    let message = format!("objects of class {} cannot be restored with tier {}", class.as_str(), tier.as_str());
    FailureReason::new(code, 400, OPERATION, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        service: RestoreService,
        class: &str,
        restoration: RestoreState,
        days: u32,
        tier: Option<RestoreTier>,
    ) -> ExpectedResponse {
        let class = MaybeKnown::Known(StorageClass::new(class));
        expected_response(service, &class, &MaybeKnown::Known(restoration), RestoreRequest { days, tier })
    }

    fn code(expected: ExpectedResponse) -> String {
        let ExpectedResponse::Refused(reason) = expected else { panic!("{expected:?}") };
        reason.code
    }

    const NONE: RestoreState = RestoreState::NotRestored;

    #[test]
    fn services_have_different_restore_rules() {
        use RestoreService::{Aws, Oss, Other};
        assert_eq!(of(Aws, "GLACIER", NONE, 1000, Some(RestoreTier::Expedited)), ExpectedResponse::Accepted);
        assert_eq!(code(of(Aws, "DEEP_ARCHIVE", NONE, 1, Some(RestoreTier::Expedited))), "InvalidArgument");
        assert_eq!(code(of(Aws, "STANDARD", NONE, 1, None)), "InvalidObjectState");
        assert_eq!(of(Oss, "Archive", NONE, 7, None), ExpectedResponse::Accepted);
        assert_eq!(of(Oss, "Archive", NONE, 7, Some(RestoreTier::Standard)), ExpectedResponse::Accepted);
        assert_eq!(code(of(Oss, "Archive", NONE, 8, None)), "InvalidArgument");
        assert_eq!(of(Oss, "ColdArchive", NONE, 365, Some(RestoreTier::Bulk)), ExpectedResponse::Accepted);
        assert_eq!(code(of(Oss, "ColdArchive", NONE, 366, None)), "InvalidArgument");
        assert_eq!(code(of(Oss, "DeepColdArchive", NONE, 1, Some(RestoreTier::Bulk))), "MalformedXML");
        assert_eq!(code(of(Oss, "IA", NONE, 1, None)), "OperationNotSupported");
        assert_eq!(of(Other, "DEEP_ARCHIVE", NONE, 9999, Some(RestoreTier::Expedited)), ExpectedResponse::Accepted);
        assert_eq!(code(of(Other, "STANDARD", NONE, 1, None)), "InvalidObjectState");
        for (service, class) in [(Other, "CLOUDTIER"), (Aws, "INTELLIGENT_TIERING")] {
            assert!(matches!(of(service, class, NONE, 1, None), ExpectedResponse::Unknown(_)), "{class}");
        }
    }

    #[test]
    fn restore_in_progress_is_refused_for_the_slowest_tier() {
        let going = |tier| of(RestoreService::Aws, "GLACIER", RestoreState::InProgress, 1, tier);
        assert_eq!(code(going(Some(RestoreTier::Bulk))), "RestoreAlreadyInProgress");
        assert!(matches!(going(None), ExpectedResponse::Unknown(_)));
        assert!(matches!(going(Some(RestoreTier::Expedited)), ExpectedResponse::Unknown(_)));
    }

    #[test]
    fn unknown_facts_are_not_guessed() {
        let request = RestoreRequest { days: 1, tier: None };
        assert!(matches!(
            expected_response(RestoreService::Aws, &MaybeKnown::Unknown, &MaybeKnown::Known(NONE), request),
            ExpectedResponse::Unknown(_)
        ));
        let class = MaybeKnown::Known(StorageClass::new("GLACIER"));
        assert!(matches!(
            expected_response(RestoreService::Aws, &class, &MaybeKnown::Unknown, request),
            ExpectedResponse::Unknown(_)
        ));
    }
}

//! Predicts whether a service accepts a restore request, by storage class, days and tier. The service decides; this
//! module predicts its most likely answer.

use crate::call::Call;
use crate::object::{Fact, Restoration, RestoreRequest, StorageClass, Tier};
use crate::store::Provider;

use super::judge::Reason;

/// The name of the operation in reports.
const OPERATION: &str = "restore_object";

/// The service whose restore rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3. The sandbox follows the same rules.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html>
    Aws,
    /// OSS. <https://www.alibabacloud.com/help/en/oss/user-guide/restore-objects-for-access>
    Oss,
    /// A server with unknown rules. Only what is certain for every service is predicted.
    Other,
}

impl From<Provider> for Service {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Aws | Provider::Sandbox => Self::Aws,
            Provider::Oss => Self::Oss,
            Provider::S3 => Self::Other,
        }
    }
}

/// The predicted response to a restore request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Accepted: at the second attempt if the request names a tier and the class has none.
    Taken,
    /// Refused, for this reason.
    Refused(Reason),
    /// Not predictable, for this reason.
    Open(&'static str),
}

/// Predicts the response to a restore of an object, from its storage class and the state of its restored copy.
pub(super) fn expect(
    service: Service,
    class: &Fact<StorageClass>,
    restoration: &Fact<Restoration>,
    request: RestoreRequest,
) -> Expected {
    let Some(class) = class.known() else { return Expected::Open("the object's storage class is not known") };
    let kind = Kind::of(class);
    if kind == Kind::Readable {
        let message =
            format!("an object of class {} can be read as it is: there is nothing to restore", class.as_str());
        let (code, http) =
            if service == Service::Oss { ("OperationNotSupported", 400) } else { ("InvalidObjectState", 403) };
        return Expected::Refused(Reason::new(code, http, OPERATION, message));
    }
    let checked = match service {
        Service::Aws => aws(kind, class, request),
        Service::Oss => oss(kind, class, request),
        Service::Other => Ok(()),
    };
    if let Err(reason) = checked {
        return Expected::Refused(reason);
    }
    match restoration.known() {
        None => Expected::Open("whether a restore is under way is not known"),
        Some(Restoration::InProgress) if service == Service::Oss && kind == Kind::Archive => in_progress(None),
        Some(Restoration::InProgress) => in_progress(Some(request.tier.unwrap_or(Tier::Standard))),
        Some(_) if kind == Kind::Unknown => Expected::Open("whether objects of its class need a restore is not known"),
        Some(_) => Expected::Taken,
    }
}

/// The requests that a restore takes, without the requests before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    /// The requests that succeed.
    pub(super) sends: Vec<Call>,
    /// The requests that are refused.
    pub(super) refused: Vec<Call>,
}

/// Returns the requests that the job sends for a restore with this predicted response.
///
/// The job sends a HEAD request after a 409 conflict. On OSS, which has a class without tiers, it also sends one
/// after a 400 response to a request that names a tier.
pub(super) fn attempts(
    service: Service,
    class: &Fact<StorageClass>,
    request: RestoreRequest,
    expected: &Expected,
) -> Attempts {
    let asks = Call::Restore(request);
    let untiered = Call::Restore(RestoreRequest { tier: None, ..request });
    let kind = class.known().map_or(Kind::Unknown, Kind::of);
    let gives_up_tier = service == Service::Oss && kind == Kind::Archive && request.tier.is_some();
    let mut attempts = Attempts::default();
    if gives_up_tier {
        attempts.refused.push(asks.clone());
        attempts.sends.push(Call::Head);
    }
    let last = if gives_up_tier { untiered } else { asks };
    match expected {
        Expected::Taken => attempts.sends.push(last),
        Expected::Refused(reason) => {
            attempts.refused.push(last);
            let tier = service == Service::Oss && request.tier.is_some() && !gives_up_tier;
            if reason.http == 409 || (reason.http == 400 && tier) {
                attempts.sends.push(Call::Head);
            }
        }
        Expected::Open(_) => {}
    }
    attempts
}

/// Predicts the response if a restore is already in progress. The service refuses the new one unless it is faster,
/// and the tier of the old one cannot be seen. `tier` is the tier of the new one, or `None` if the class has no
/// tiers.
fn in_progress(tier: Option<Tier>) -> Expected {
    match tier {
        None | Some(Tier::Bulk) => {
            let message = "a restore of this object is under way, and how long its copy will stay cannot be seen";
            Expected::Refused(Reason::new("RestoreAlreadyInProgress", 409, OPERATION, message))
        }
        Some(Tier::Standard | Tier::Expedited) => Expected::Open(
            "a restore is under way: another is taken only if it is faster, and how fast that is cannot be seen",
        ),
    }
}

/// Storage classes, grouped by how their objects are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
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

impl Kind {
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

fn aws(kind: Kind, class: &StorageClass, request: RestoreRequest) -> Result<(), Reason> {
    if kind == Kind::Deep && request.tier == Some(Tier::Expedited) {
        return Err(no_such_tier("InvalidArgument", class, Tier::Expedited));
    }
    Ok(())
}

fn oss(kind: Kind, class: &StorageClass, RestoreRequest { days, tier }: RestoreRequest) -> Result<(), Reason> {
    let most = if kind == Kind::Archive { 7 } else { 365 };
    if kind != Kind::Unknown && !(1..=most).contains(&days) {
        let message = format!("a restored copy of class {} stays for 1 to {most} days, not {days}", class.as_str());
        return Err(Reason::new("InvalidArgument", 400, OPERATION, message));
    }
    match tier {
        Some(tier @ Tier::Bulk) if kind == Kind::Deep => Err(no_such_tier("MalformedXML", class, tier)),
        _ => Ok(()),
    }
}

fn no_such_tier(code: &str, class: &StorageClass, tier: Tier) -> Reason {
    let message = format!("objects of class {} are not restored in the tier {}", class.as_str(), tier.as_str());
    Reason::new(code, 400, OPERATION, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(service: Service, class: &str, restoration: Restoration, days: u32, tier: Option<Tier>) -> Expected {
        let class = Fact::Known(StorageClass::new(class));
        expect(service, &class, &Fact::Known(restoration), RestoreRequest { days, tier })
    }

    fn code(expected: Expected) -> String {
        let Expected::Refused(reason) = expected else { panic!("{expected:?}") };
        reason.code
    }

    const NONE: Restoration = Restoration::Absent;

    #[test]
    fn each_service_has_rules_of_its_own() {
        use Service::{Aws, Oss, Other};
        assert_eq!(of(Aws, "GLACIER", NONE, 1000, Some(Tier::Expedited)), Expected::Taken);
        assert_eq!(code(of(Aws, "DEEP_ARCHIVE", NONE, 1, Some(Tier::Expedited))), "InvalidArgument");
        assert_eq!(code(of(Aws, "STANDARD", NONE, 1, None)), "InvalidObjectState");
        assert_eq!(of(Oss, "Archive", NONE, 7, None), Expected::Taken);
        assert_eq!(of(Oss, "Archive", NONE, 7, Some(Tier::Standard)), Expected::Taken);
        assert_eq!(code(of(Oss, "Archive", NONE, 8, None)), "InvalidArgument");
        assert_eq!(of(Oss, "ColdArchive", NONE, 365, Some(Tier::Bulk)), Expected::Taken);
        assert_eq!(code(of(Oss, "ColdArchive", NONE, 366, None)), "InvalidArgument");
        assert_eq!(code(of(Oss, "DeepColdArchive", NONE, 1, Some(Tier::Bulk))), "MalformedXML");
        assert_eq!(code(of(Oss, "IA", NONE, 1, None)), "OperationNotSupported");
        assert_eq!(of(Other, "DEEP_ARCHIVE", NONE, 9999, Some(Tier::Expedited)), Expected::Taken);
        assert_eq!(code(of(Other, "STANDARD", NONE, 1, None)), "InvalidObjectState");
        for (service, class) in [(Other, "CLOUDTIER"), (Aws, "INTELLIGENT_TIERING")] {
            assert!(matches!(of(service, class, NONE, 1, None), Expected::Open(_)), "{class}");
        }
    }

    #[test]
    fn one_under_way_is_refused_where_no_tier_is_slower() {
        let going = |tier| of(Service::Aws, "GLACIER", Restoration::InProgress, 1, tier);
        assert_eq!(code(going(Some(Tier::Bulk))), "RestoreAlreadyInProgress");
        assert!(matches!(going(None), Expected::Open(_)));
        assert!(matches!(going(Some(Tier::Expedited)), Expected::Open(_)));
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let request = RestoreRequest { days: 1, tier: None };
        assert!(matches!(expect(Service::Aws, &Fact::Unknown, &Fact::Known(NONE), request), Expected::Open(_)));
        let class = Fact::Known(StorageClass::new("GLACIER"));
        assert!(matches!(expect(Service::Aws, &class, &Fact::Unknown, request), Expected::Open(_)));
    }
}

//! The rules of each service for restores: what it refuses because of the storage class, the days or the tier alone.

use batchplan_store::object::{ArchiveStatus, MaybeKnown, RestoreRequest, RestoreTier, StorageClass};

/// The service whose restore rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreService {
    /// Amazon S3. The sandbox follows the same rules.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html>
    Aws,
    /// OSS. <https://www.alibabacloud.com/help/en/oss/user-guide/restore-objects-for-access>
    Oss,
    /// A server with unknown rules. Only what is certain for every service is predicted.
    Other,
}

/// Storage classes, grouped by how their objects are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetrievalClass {
    /// Objects can be read immediately.
    Readable,
    /// S3's `INTELLIGENT_TIERING`: objects must be restored if they are in one of its archive tiers.
    IntelligentTiering,
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
    /// Returns the group of a class.
    #[must_use]
    pub fn of(class: &StorageClass) -> Self {
        match class.as_str().to_ascii_uppercase().as_str() {
            "STANDARD" | "STANDARD_IA" | "ONEZONE_IA" | "REDUCED_REDUNDANCY" | "GLACIER_IR" | "EXPRESS_ONEZONE"
            | "IA" => Self::Readable,
            "INTELLIGENT_TIERING" => Self::IntelligentTiering,
            "GLACIER" | "ARCHIVE" => Self::Archive,
            "COLDARCHIVE" => Self::Cold,
            "DEEP_ARCHIVE" | "DEEPCOLDARCHIVE" => Self::Deep,
            _ => Self::Unknown,
        }
    }
}

/// Why a service refuses a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreRefusal {
    /// The error code of the service.
    pub code: &'static str,
    /// The HTTP status.
    pub http: u16,
    /// The reason, for users.
    pub message: String,
    /// What to change in the plan.
    pub help: &'static str,
}

impl RestoreRefusal {
    fn bad_request(code: &'static str, message: String, help: &'static str) -> Self {
        Self { code, http: 400, message, help }
    }

    fn unsupported_tier(code: &'static str, class: &StorageClass, tier: RestoreTier, help: &'static str) -> Self {
        let message = format!("objects of class {} cannot be restored with tier {}", class.as_str(), tier.as_str());
        Self::bad_request(code, message, help)
    }
}

impl RestoreService {
    /// Returns why the service refuses a restore of an object of this class, whatever else its state is. `None` if it
    /// accepts the restore, or if its rules are not known.
    #[must_use]
    pub fn refusal(
        self,
        class: &StorageClass,
        archive_status: &MaybeKnown<ArchiveStatus>,
        request: RestoreRequest,
    ) -> Option<RestoreRefusal> {
        let retrieval = RetrievalClass::of(class);
        if retrieval == RetrievalClass::Readable {
            let (code, http) =
                if self == Self::Oss { ("OperationNotSupported", 400) } else { ("InvalidObjectState", 403) };
            let message = format!("objects of class {} can be read directly and need no restore", class.as_str());
            return Some(RestoreRefusal { code, http, message, help: "leave this class out of the manifest" });
        }
        match (self, retrieval) {
            (Self::Aws, RetrievalClass::IntelligentTiering) => refuse_intelligent_tiering(archive_status, request),
            (Self::Aws, _) => refuse_aws(retrieval, class, request),
            (Self::Oss, _) => refuse_oss(retrieval, class, request),
            (Self::Other, _) => None,
        }
    }
}

/// How long a restore takes, by storage class and tier.
impl RestoreService {
    /// Returns how long the service takes until a restored object can be read, for each archive class that has the tier
    /// of this name. Without a tier, services use Standard. Returns nothing if the times are not known.
    #[must_use]
    pub fn retrieval_times(self, tier: Option<&str>) -> Vec<(&'static str, &'static str)> {
        let times: &[(RestoreTier, &'static str, &'static str)] = match self {
            Self::Aws => &AWS_TIMES,
            Self::Oss => &OSS_TIMES,
            Self::Other => &[],
        };
        let tier = tier.unwrap_or(RestoreTier::Standard.as_str());
        times.iter().filter(|(of, ..)| of.as_str() == tier).map(|(_, class, time)| (*class, *time)).collect()
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html>
const AWS_TIMES: [(RestoreTier, &str, &str); 5] = [
    (RestoreTier::Expedited, "GLACIER", "in 1 to 5 minutes"),
    (RestoreTier::Standard, "GLACIER", "in 3 to 5 hours"),
    (RestoreTier::Standard, "DEEP_ARCHIVE", "within 12 hours"),
    (RestoreTier::Bulk, "GLACIER", "in 5 to 12 hours"),
    (RestoreTier::Bulk, "DEEP_ARCHIVE", "within 48 hours"),
];

/// Objects of Archive take about a minute, and have no tiers.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/restore-objects-for-access>
const OSS_TIMES: [(RestoreTier, &str, &str); 8] = [
    (RestoreTier::Expedited, "Archive", "in about 1 minute"),
    (RestoreTier::Standard, "Archive", "in about 1 minute"),
    (RestoreTier::Bulk, "Archive", "in about 1 minute"),
    (RestoreTier::Expedited, "ColdArchive", "within 1 hour"),
    (RestoreTier::Standard, "ColdArchive", "in 2 to 5 hours"),
    (RestoreTier::Bulk, "ColdArchive", "in 5 to 12 hours"),
    (RestoreTier::Expedited, "DeepColdArchive", "within 12 hours"),
    (RestoreTier::Standard, "DeepColdArchive", "within 48 hours"),
];

/// The rules for the archive tiers of S3's `INTELLIGENT_TIERING`. A restore moves an object out of them for good, so S3
/// refuses days: these objects "are not subject to restore expiry" (<https://github.com/s3tools/s3cmd/issues/1377>).
fn refuse_intelligent_tiering(
    archive_status: &MaybeKnown<ArchiveStatus>,
    RestoreRequest { days, tier }: RestoreRequest,
) -> Option<RestoreRefusal> {
    if days.is_some() {
        let message = "S3 accepts no `days` for INTELLIGENT_TIERING, because its restores do not expire";
        let help = "restore these objects with a separate plan without `days`";
        return Some(RestoreRefusal::bad_request("InvalidArgument", message.to_owned(), help));
    }
    match archive_status.known()? {
        ArchiveStatus::NotArchived => Some(RestoreRefusal {
            code: "ObjectAlreadyInActiveTierError",
            http: 403,
            message: "the object is not in an archive tier of INTELLIGENT_TIERING and needs no restore".to_owned(),
            help: "leave these objects out of the manifest",
        }),
        ArchiveStatus::DeepArchiveAccess if tier == Some(RestoreTier::Expedited) => {
            let message = "objects in the tier Deep Archive Access cannot be restored with tier Expedited";
            Some(RestoreRefusal::bad_request("InvalidArgument", message.to_owned(), "use the tier Standard or Bulk"))
        }
        ArchiveStatus::ArchiveAccess | ArchiveStatus::DeepArchiveAccess => None,
    }
}

/// S3 answers a missing number of days with `MalformedXML` (<https://github.com/aws/aws-sdk/issues/28>).
fn refuse_aws(
    retrieval: RetrievalClass,
    class: &StorageClass,
    RestoreRequest { days, tier }: RestoreRequest,
) -> Option<RestoreRefusal> {
    let is_archived = matches!(retrieval, RetrievalClass::Archive | RetrievalClass::Deep);
    if is_archived && days.is_none() {
        let message =
            format!("a restore of class {} needs `days`, the number of days to keep the restored copy", class.as_str());
        return Some(RestoreRefusal::bad_request("MalformedXML", message, "add `days` to [operation.restore_object]"));
    }
    let is_too_fast = retrieval == RetrievalClass::Deep && tier == Some(RestoreTier::Expedited);
    is_too_fast.then(|| {
        let help = "use the tier Standard or Bulk";
        RestoreRefusal::unsupported_tier("InvalidArgument", class, RestoreTier::Expedited, help)
    })
}

fn refuse_oss(
    retrieval: RetrievalClass,
    class: &StorageClass,
    RestoreRequest { days, tier }: RestoreRequest,
) -> Option<RestoreRefusal> {
    let max_days = if retrieval == RetrievalClass::Archive { 7 } else { 365 };
    let is_known = !matches!(retrieval, RetrievalClass::Unknown | RetrievalClass::IntelligentTiering);
    if let Some(days) = days.filter(|days| is_known && !(1..=max_days).contains(days)) {
        let message =
            format!("restored copies of class {} are kept for 1 to {max_days} days, not {days}", class.as_str());
        return Some(RestoreRefusal::bad_request("InvalidArgument", message, "lower `days`"));
    }
    let is_too_slow = retrieval == RetrievalClass::Deep && tier == Some(RestoreTier::Bulk);
    is_too_slow.then(|| {
        let help = "use the tier Standard or Expedited";
        RestoreRefusal::unsupported_tier("MalformedXML", class, RestoreTier::Bulk, help)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(service: RestoreService, class: &str, status: Option<ArchiveStatus>, request: RestoreRequest) -> String {
        let status = status.map_or(MaybeKnown::Unknown, MaybeKnown::Known);
        let refusal = service.refusal(&StorageClass::new(class), &status, request);
        refusal.map_or_else(|| "ok".to_owned(), |refusal| format!("{} {}", refusal.http, refusal.code))
    }

    #[test]
    fn days_are_for_copies_that_expire() {
        use ArchiveStatus::{ArchiveAccess, DeepArchiveAccess, NotArchived};
        let days = RestoreRequest { days: Some(1), tier: None };
        let forever = RestoreRequest { days: None, tier: None };
        let fast = RestoreRequest { tier: Some(RestoreTier::Expedited), ..forever };
        let smart = |status, request| code(RestoreService::Aws, "INTELLIGENT_TIERING", status, request);
        for status in [None, Some(NotArchived), Some(ArchiveAccess)] {
            assert_eq!(smart(status, days), "400 InvalidArgument", "{status:?}");
        }
        assert_eq!(smart(None, fast), "ok", "its tier is not known");
        assert_eq!(smart(Some(NotArchived), forever), "403 ObjectAlreadyInActiveTierError");
        assert_eq!(smart(Some(ArchiveAccess), fast), "ok");
        assert_eq!(smart(Some(DeepArchiveAccess), forever), "ok");
        assert_eq!(smart(Some(DeepArchiveAccess), fast), "400 InvalidArgument");
        for class in ["GLACIER", "DEEP_ARCHIVE"] {
            assert_eq!(code(RestoreService::Aws, class, None, forever), "400 MalformedXML");
            // Ceph keeps a copy for good that is restored without days.
            assert_eq!(code(RestoreService::Other, class, None, forever), "ok");
        }
        for service in [RestoreService::Oss, RestoreService::Other] {
            assert_eq!(code(service, "INTELLIGENT_TIERING", None, days), "ok", "{service:?}");
        }
    }

    #[test]
    fn retrieval_times_are_those_of_the_tier() {
        let aws = |tier| RestoreService::Aws.retrieval_times(tier);
        assert_eq!(aws(Some("Expedited")), [("GLACIER", "in 1 to 5 minutes")]);
        assert_eq!(aws(None), aws(Some("Standard")));
        assert_eq!(RestoreService::Oss.retrieval_times(Some("Bulk")).len(), 2);
        assert_eq!(RestoreService::Other.retrieval_times(None), []);
    }

    #[test]
    fn a_class_that_is_read_directly_is_refused_by_every_service() {
        let days = RestoreRequest { days: Some(1), tier: None };
        for class in ["GLACIER_IR", "STANDARD", "Standard", "IA"] {
            assert_eq!(code(RestoreService::Aws, class, None, days), "403 InvalidObjectState");
            assert_eq!(code(RestoreService::Other, class, None, days), "403 InvalidObjectState");
            assert_eq!(code(RestoreService::Oss, class, None, days), "400 OperationNotSupported");
        }
    }
}

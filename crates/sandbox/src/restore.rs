//! Restores of archived objects: how long they take, and when the restored copy expires.
//!
//! An object stores when its copy is ready and when it expires. The state of a restore is derived from these two times
//! and the clock (`progress`), so nothing runs in the background.

use std::num::NonZeroU32;

use super::model::{ObjectStorageClass, RetrievalTier, StoredObject, StoredRestore, UnixMillis};

const MINUTE: i64 = UnixMillis::MINUTE;
const HOUR: i64 = UnixMillis::HOUR;

/// The maximum number of days for which OSS keeps a restored copy of an Archive object, and of any other object.
const OSS_MAX_ARCHIVE_DAYS: u32 = 7;
const OSS_MAX_DAYS: u32 = 365;

/// The state of an object's restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestoreProgress {
    /// No restore was requested, or the copy has expired.
    Absent,
    /// The restore is not complete.
    Ongoing,
    /// The copy is readable until this time.
    ReadableUntil(UnixMillis),
}

impl RestoreProgress {
    /// Returns the state as headers and listings of both dialects show it.
    pub(crate) fn header_value(self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Ongoing => Some("ongoing-request=\"true\"".to_owned()),
            Self::ReadableUntil(expiry) => {
                Some(format!("ongoing-request=\"false\", expiry-date=\"{}\"", expiry.http_date()))
            }
        }
    }
}

/// Returns the state of an object's restore at this time.
pub(crate) fn progress(object: &StoredObject, now: UnixMillis) -> RestoreProgress {
    match object.restore.as_deref() {
        Some(restore) if now < restore.ready => RestoreProgress::Ongoing,
        Some(restore) if now < restore.expiry => RestoreProgress::ReadableUntil(restore.expiry),
        _ => RestoreProgress::Absent,
    }
}

/// Returns whether an object's content can be read at this time.
pub(crate) fn is_readable(object: &StoredObject, now: UnixMillis) -> bool {
    !object.class.is_archived() || matches!(progress(object, now), RestoreProgress::ReadableUntil(_))
}

/// The rules for a restore. They are those of the request's dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestoreDialect {
    Aws,
    Oss,
}

/// A request for a restore.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestoreParameters {
    /// How many days to keep the copy. `None` if the request does not say so, which only S3 allows.
    pub(crate) days: Option<u32>,
    /// `None` if the request does not name a tier.
    pub(crate) tier: Option<RetrievalTier>,
    pub(crate) rules: RestoreDialect,
}

/// The result of a request for a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestoreDecision {
    /// A restore starts, or an ongoing one becomes faster.
    Accepted(StoredRestore),
    /// The copy already exists. Its expiry date changes.
    Extended(StoredRestore),
    Rejected(RestoreRejection),
}

/// Why a restore is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestoreRejection {
    /// A restore is already in progress.
    AlreadyOngoing,
    /// Objects of this storage class need no restore.
    NotArchived,
    /// The object of S3's `INTELLIGENT_TIERING` is in no archive tier.
    AlreadyActive,
    /// Restored objects of this storage class do not expire, but the request has days.
    NoExpiry,
    /// The request has no days.
    DaysMissing,
    /// The storage class does not support this retrieval tier.
    NoSuchTier,
    /// The storage class has no retrieval tiers, but the request names one.
    TierNotAllowed,
    /// The copy cannot be kept for this number of days.
    DaysOutOfRange,
}

/// Decides on a request for a restore.
pub(crate) fn decide(
    object: &StoredObject,
    parameters: RestoreParameters,
    now: UnixMillis,
    scale: NonZeroU32,
) -> RestoreDecision {
    let RestoreParameters { days, rules, .. } = parameters;
    // The sandbox moves no object into an archive tier.
    let is_intelligent = object.class == ObjectStorageClass::IntelligentTiering && rules == RestoreDialect::Aws;
    let rejection = match days {
        Some(_) if is_intelligent => RestoreRejection::NoExpiry,
        None if is_intelligent => RestoreRejection::AlreadyActive,
        _ if !object.class.is_archived() => RestoreRejection::NotArchived,
        None => RestoreRejection::DaysMissing,
        Some(days) => return decide_archived(object, (parameters, days), now, scale),
    };
    RestoreDecision::Rejected(rejection)
}

/// Decides on a restore of an archived object for this number of days.
fn decide_archived(
    object: &StoredObject,
    (parameters, days): (RestoreParameters, u32),
    now: UnixMillis,
    scale: NonZeroU32,
) -> RestoreDecision {
    let rules = parameters.rules;
    let result = match rules {
        RestoreDialect::Aws => aws_duration(object.class, parameters.tier),
        RestoreDialect::Oss => oss_duration(object.class, parameters.tier, days),
    };
    let (tier, duration) = match result {
        Ok(accepted) => accepted,
        Err(rejection) => return RestoreDecision::Rejected(rejection),
    };
    let expiry = |from: UnixMillis| {
        let end = from.plus(i64::from(days) * UnixMillis::DAY);
        // OSS counts the days to the second. AWS rounds up to the next midnight.
        if rules == RestoreDialect::Aws { end.ceil_to_midnight() } else { end }
    };
    let ready = now.plus(duration / i64::from(scale.get()));
    let new = StoredRestore { ready, expiry: expiry(ready), days, tier };
    match (object.restore.as_deref(), progress(object, now)) {
        // A faster tier can replace the tier of an ongoing restore. AWS requires the same number of days.
        (Some(old), RestoreProgress::Ongoing)
            if tier > old.tier && (rules == RestoreDialect::Oss || days == old.days) =>
        {
            let ready = new.ready.min(old.ready);
            RestoreDecision::Accepted(StoredRestore { ready, ..new })
        }
        (_, RestoreProgress::Ongoing) => RestoreDecision::Rejected(RestoreRejection::AlreadyOngoing),
        (Some(old), RestoreProgress::ReadableUntil(_)) => {
            RestoreDecision::Extended(StoredRestore { expiry: expiry(now), days, ..*old })
        }
        _ => RestoreDecision::Accepted(new),
    }
}

/// Returns the tier, and the maximum duration of a restore in it according to AWS, in milliseconds.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html>
fn aws_duration(
    class: ObjectStorageClass,
    tier: Option<RetrievalTier>,
) -> Result<(RetrievalTier, i64), RestoreRejection> {
    let tier = tier.unwrap_or(RetrievalTier::Standard);
    let duration = match (class, tier) {
        (ObjectStorageClass::DeepArchive, RetrievalTier::Expedited) => return Err(RestoreRejection::NoSuchTier),
        (ObjectStorageClass::DeepArchive, RetrievalTier::Standard) => 12 * HOUR,
        (ObjectStorageClass::DeepArchive, RetrievalTier::Bulk) => 48 * HOUR,
        (_, RetrievalTier::Expedited) => 5 * MINUTE,
        (_, RetrievalTier::Standard) => 5 * HOUR,
        (_, RetrievalTier::Bulk) => 12 * HOUR,
    };
    Ok((tier, duration))
}

/// Returns the tier, and the maximum duration of a restore in it according to OSS, in milliseconds. An Archive object
/// has no tiers, and its copies cannot be kept for as long as others.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/restore-objects-for-access>
fn oss_duration(
    class: ObjectStorageClass,
    tier: Option<RetrievalTier>,
    days: u32,
) -> Result<(RetrievalTier, i64), RestoreRejection> {
    let (is_archive, is_deep) = (class == ObjectStorageClass::Glacier, class == ObjectStorageClass::DeepArchive);
    if is_archive && tier.is_some() {
        return Err(RestoreRejection::TierNotAllowed);
    }
    let max_days = if is_archive { OSS_MAX_ARCHIVE_DAYS } else { OSS_MAX_DAYS };
    if !(1..=max_days).contains(&days) {
        return Err(RestoreRejection::DaysOutOfRange);
    }
    let tier = tier.unwrap_or(RetrievalTier::Standard);
    let duration = match tier {
        _ if is_archive => MINUTE,
        RetrievalTier::Bulk if is_deep => return Err(RestoreRejection::NoSuchTier),
        RetrievalTier::Standard if is_deep => 48 * HOUR,
        RetrievalTier::Expedited if is_deep => 12 * HOUR,
        RetrievalTier::Expedited => HOUR,
        RetrievalTier::Standard => 5 * HOUR,
        RetrievalTier::Bulk => 12 * HOUR,
    };
    Ok((tier, duration))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectBlob;
    use crate::state::tests::object;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    fn archived(class: ObjectStorageClass) -> StoredObject {
        StoredObject { class, ..object(ObjectBlob::Zeros) }
    }

    fn decide(
        object: &StoredObject,
        days: u32,
        tier: RetrievalTier,
        now: UnixMillis,
        scale: NonZeroU32,
    ) -> RestoreDecision {
        super::decide(
            object,
            RestoreParameters { days: Some(days), tier: Some(tier), rules: RestoreDialect::Aws },
            now,
            scale,
        )
    }

    fn accepted(decision: RestoreDecision) -> StoredRestore {
        match decision {
            RestoreDecision::Accepted(restore) | RestoreDecision::Extended(restore) => restore,
            RestoreDecision::Rejected(hindrance) => panic!("{hindrance:?}"),
        }
    }

    #[test]
    fn a_restore_completes_and_expires() {
        let mut object = archived(ObjectStorageClass::Glacier);
        assert!(!is_readable(&object, UnixMillis(0)));
        let restore = accepted(decide(&object, 2, RetrievalTier::Standard, UnixMillis(0), ONE));
        assert_eq!((restore.ready, restore.expiry), (UnixMillis(5 * HOUR), UnixMillis(3 * UnixMillis::DAY)));
        object.restore = Some(Box::new(restore));
        assert_eq!(progress(&object, UnixMillis(5 * HOUR - 1)), RestoreProgress::Ongoing);
        assert_eq!(
            decide(&object, 2, RetrievalTier::Standard, UnixMillis(1), ONE),
            RestoreDecision::Rejected(RestoreRejection::AlreadyOngoing)
        );
        assert_eq!(
            decide(&object, 3, RetrievalTier::Expedited, UnixMillis(1), ONE),
            RestoreDecision::Rejected(RestoreRejection::AlreadyOngoing)
        );
        assert_eq!(
            accepted(decide(&object, 2, RetrievalTier::Expedited, UnixMillis(1), ONE)).ready,
            UnixMillis(5 * MINUTE + 1)
        );
        assert!(is_readable(&object, UnixMillis(5 * HOUR)));
        let longer = decide(&object, 9, RetrievalTier::Bulk, UnixMillis(6 * HOUR), ONE);
        assert_eq!(
            longer,
            RestoreDecision::Extended(StoredRestore { expiry: UnixMillis(10 * UnixMillis::DAY), days: 9, ..restore })
        );
        assert_eq!(progress(&object, restore.expiry), RestoreProgress::Absent);
        assert!(matches!(decide(&object, 1, RetrievalTier::Bulk, restore.expiry, ONE), RestoreDecision::Accepted(_)));
    }

    #[test]
    fn classes_and_tiers_are_those_of_aws() {
        let now = UnixMillis(0);
        for (class, rejection) in [
            (ObjectStorageClass::Standard, RestoreRejection::NotArchived),
            (ObjectStorageClass::GlacierIr, RestoreRejection::NotArchived),
            (ObjectStorageClass::IntelligentTiering, RestoreRejection::NoExpiry),
        ] {
            let decision = decide(&archived(class), 1, RetrievalTier::Bulk, now, ONE);
            assert_eq!(decision, RestoreDecision::Rejected(rejection));
            assert!(is_readable(&archived(class), now));
        }
        let without_days = RestoreParameters { days: None, tier: None, rules: RestoreDialect::Aws };
        for (class, rejection) in [
            (ObjectStorageClass::Standard, RestoreRejection::NotArchived),
            (ObjectStorageClass::Glacier, RestoreRejection::DaysMissing),
            (ObjectStorageClass::IntelligentTiering, RestoreRejection::AlreadyActive),
        ] {
            let decision = super::decide(&archived(class), without_days, now, ONE);
            assert_eq!(decision, RestoreDecision::Rejected(rejection));
        }
        assert_eq!(
            decide(&archived(ObjectStorageClass::DeepArchive), 1, RetrievalTier::Expedited, now, ONE),
            RestoreDecision::Rejected(RestoreRejection::NoSuchTier)
        );
        let scaled = decide(
            &archived(ObjectStorageClass::DeepArchive),
            1,
            RetrievalTier::Bulk,
            now,
            NonZeroU32::new(3600).unwrap(),
        );
        assert_eq!(accepted(scaled).ready, UnixMillis(48_000));
    }

    #[test]
    fn oss_restores_each_class_by_rules_of_its_own() {
        let ask = |class, days, tier| {
            super::decide(
                &archived(class),
                RestoreParameters { days: Some(days), tier, rules: RestoreDialect::Oss },
                UnixMillis(0),
                ONE,
            )
        };
        let archive = accepted(ask(ObjectStorageClass::Glacier, 7, None));
        assert_eq!((archive.ready, archive.expiry), (UnixMillis(MINUTE), UnixMillis(MINUTE + 7 * UnixMillis::DAY)));
        assert_eq!(
            ask(ObjectStorageClass::Glacier, 8, None),
            RestoreDecision::Rejected(RestoreRejection::DaysOutOfRange)
        );
        assert_eq!(
            ask(ObjectStorageClass::Glacier, 1, Some(RetrievalTier::Standard)),
            RestoreDecision::Rejected(RestoreRejection::TierNotAllowed)
        );
        assert_eq!(
            accepted(ask(ObjectStorageClass::ColdArchive, 365, Some(RetrievalTier::Bulk))).ready,
            UnixMillis(12 * HOUR)
        );
        assert_eq!(accepted(ask(ObjectStorageClass::ColdArchive, 1, None)).ready, UnixMillis(5 * HOUR));
        assert_eq!(
            accepted(ask(ObjectStorageClass::ColdArchive, 1, Some(RetrievalTier::Expedited))).ready,
            UnixMillis(HOUR)
        );
        assert_eq!(
            ask(ObjectStorageClass::ColdArchive, 366, None),
            RestoreDecision::Rejected(RestoreRejection::DaysOutOfRange)
        );
        assert_eq!(
            ask(ObjectStorageClass::ColdArchive, 0, None),
            RestoreDecision::Rejected(RestoreRejection::DaysOutOfRange)
        );
        assert_eq!(accepted(ask(ObjectStorageClass::DeepArchive, 1, None)).ready, UnixMillis(48 * HOUR));
        assert_eq!(
            ask(ObjectStorageClass::DeepArchive, 1, Some(RetrievalTier::Bulk)),
            RestoreDecision::Rejected(RestoreRejection::NoSuchTier)
        );
        assert_eq!(
            ask(ObjectStorageClass::StandardIa, 1, None),
            RestoreDecision::Rejected(RestoreRejection::NotArchived)
        );
    }

    #[test]
    fn oss_takes_a_faster_restore_for_other_days_and_no_slower_one() {
        let mut object = archived(ObjectStorageClass::ColdArchive);
        let ask = |object: &StoredObject, days, tier, now| {
            super::decide(
                object,
                RestoreParameters { days: Some(days), tier: Some(tier), rules: RestoreDialect::Oss },
                UnixMillis(now),
                ONE,
            )
        };
        object.restore = Some(Box::new(accepted(ask(&object, 2, RetrievalTier::Standard, 0))));
        for tier in [RetrievalTier::Standard, RetrievalTier::Bulk] {
            assert_eq!(ask(&object, 3, tier, 1), RestoreDecision::Rejected(RestoreRejection::AlreadyOngoing));
        }
        assert_eq!(accepted(ask(&object, 3, RetrievalTier::Expedited, 1)).ready, UnixMillis(HOUR + 1));
        let later = 6 * HOUR;
        let RestoreDecision::Extended(longer) = ask(&object, 5, RetrievalTier::Standard, later) else {
            panic!("it was there")
        };
        assert_eq!(longer.expiry, UnixMillis(later + 5 * UnixMillis::DAY));
    }
}

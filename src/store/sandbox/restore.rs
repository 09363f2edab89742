//! Restores of archived objects: how long they take, and when the restored copy expires.

use std::num::NonZeroU32;

use super::find::Refusal;
use super::model::{Class, Millis, Object, Restore, Tier};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// The state of an object's restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// No restore was requested, or the copy has expired.
    Absent,
    /// The restore is not complete.
    Ongoing,
    /// The copy is readable until this time.
    Until(Millis),
}

/// Returns the state of an object's restore at this time.
pub(super) fn progress(object: &Object, now: Millis) -> Progress {
    match object.restore.as_deref() {
        Some(restore) if now < restore.ready => Progress::Ongoing,
        Some(restore) if now < restore.expiry => Progress::Until(restore.expiry),
        _ => Progress::Absent,
    }
}

/// Returns whether an object's content can be read at this time.
pub(super) fn readable(object: &Object, now: Millis) -> bool {
    !object.class.archived() || matches!(progress(object, now), Progress::Until(_))
}

/// The rules for a restore. They are those of the request's dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    Aws,
    Oss,
}

/// A request for a restore.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// How many days to keep the copy.
    pub(super) days: u32,
    /// `None` if the request does not name a tier.
    pub(super) tier: Option<Tier>,
    pub(super) rules: Rules,
}

/// The result of a request for a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// A restore starts, or an ongoing one becomes faster.
    Accepted(Restore),
    /// The copy already exists. Its expiry date changes.
    Extended(Restore),
    Refused(Hindrance),
}

/// Why a restore is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// A restore is already in progress.
    AlreadyOngoing,
    /// Objects of this storage class need no restore.
    NotArchived,
    /// The storage class does not support this retrieval tier.
    NoSuchTier,
    /// The storage class has no retrieval tiers, but the request names one.
    NoTiers,
    /// The copy cannot be kept for this number of days.
    DaysOutOfRange,
}

impl From<Hindrance> for Refusal {
    fn from(hindrance: Hindrance) -> Self {
        match hindrance {
            Hindrance::AlreadyOngoing => Self::RestoreOngoing,
            Hindrance::NotArchived => Self::NotArchived,
            Hindrance::NoSuchTier => Self::NoSuchTier,
            Hindrance::NoTiers => Self::NoTiers,
            Hindrance::DaysOutOfRange => Self::DaysOutOfRange,
        }
    }
}

/// Decides on a request for a restore.
pub(super) fn decide(object: &Object, ask: Ask, now: Millis, scale: NonZeroU32) -> Decision {
    if !object.class.archived() {
        return Decision::Refused(Hindrance::NotArchived);
    }
    let Ask { days, rules, .. } = ask;
    let checked = match rules {
        Rules::Aws => aws_duration(object.class, ask.tier),
        Rules::Oss => oss_duration(object.class, ask.tier, days),
    };
    let (tier, duration) = match checked {
        Ok(checked) => checked,
        Err(hindrance) => return Decision::Refused(hindrance),
    };
    let stays_until = |from: Millis| {
        let end = from.plus(i64::from(days) * Millis::DAY);
        // OSS counts the days to the second. AWS rounds up to the next midnight.
        if rules == Rules::Aws { end.midnight_after() } else { end }
    };
    let ready = now.plus(duration / i64::from(scale.get()));
    let fresh = Restore { ready, expiry: stays_until(ready), days, tier };
    match (object.restore.as_deref(), progress(object, now)) {
        // A faster tier can replace the tier of an ongoing restore. AWS requires the same number of days.
        (Some(old), Progress::Ongoing) if tier > old.tier && (rules == Rules::Oss || days == old.days) => {
            let ready = fresh.ready.min(old.ready);
            Decision::Accepted(Restore { ready, ..fresh })
        }
        (_, Progress::Ongoing) => Decision::Refused(Hindrance::AlreadyOngoing),
        (Some(old), Progress::Until(_)) => Decision::Extended(Restore { expiry: stays_until(now), days, ..*old }),
        _ => Decision::Accepted(fresh),
    }
}

/// Returns the tier, and the maximum duration of a restore in it according to AWS, in milliseconds.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html>
fn aws_duration(class: Class, tier: Option<Tier>) -> Result<(Tier, i64), Hindrance> {
    let tier = tier.unwrap_or(Tier::Standard);
    let duration = match (class, tier) {
        (Class::DeepArchive, Tier::Expedited) => return Err(Hindrance::NoSuchTier),
        (Class::DeepArchive, Tier::Standard) => 12 * HOUR,
        (Class::DeepArchive, Tier::Bulk) => 48 * HOUR,
        (_, Tier::Expedited) => 5 * MINUTE,
        (_, Tier::Standard) => 5 * HOUR,
        (_, Tier::Bulk) => 12 * HOUR,
    };
    Ok((tier, duration))
}

/// Returns the tier, and the maximum duration of a restore in it according to OSS, in milliseconds. An Archive object
/// has no tiers, and its copies cannot be kept for as long as others.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/restore-objects-for-access>
fn oss_duration(class: Class, tier: Option<Tier>, days: u32) -> Result<(Tier, i64), Hindrance> {
    let (is_archive, is_deep) = (class == Class::Glacier, class == Class::DeepArchive);
    if is_archive && tier.is_some() {
        return Err(Hindrance::NoTiers);
    }
    let most_days = if is_archive { 7 } else { 365 };
    if !(1..=most_days).contains(&days) {
        return Err(Hindrance::DaysOutOfRange);
    }
    let tier = tier.unwrap_or(Tier::Standard);
    let duration = match tier {
        _ if is_archive => MINUTE,
        Tier::Bulk if is_deep => return Err(Hindrance::NoSuchTier),
        Tier::Standard if is_deep => 48 * HOUR,
        Tier::Expedited if is_deep => 12 * HOUR,
        Tier::Expedited => HOUR,
        Tier::Standard => 5 * HOUR,
        Tier::Bulk => 12 * HOUR,
    };
    Ok((tier, duration))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sandbox::model::Body;
    use crate::store::sandbox::state::tests::object;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    fn archived(class: Class) -> Object {
        Object { class, ..object(Body::Zeros) }
    }

    fn decide(object: &Object, days: u32, tier: Tier, now: Millis, scale: NonZeroU32) -> Decision {
        super::decide(object, Ask { days, tier: Some(tier), rules: Rules::Aws }, now, scale)
    }

    fn accepted(decision: Decision) -> Restore {
        match decision {
            Decision::Accepted(restore) | Decision::Extended(restore) => restore,
            Decision::Refused(hindrance) => panic!("{hindrance:?}"),
        }
    }

    #[test]
    fn a_restore_runs_its_course() {
        let mut object = archived(Class::Glacier);
        assert!(!readable(&object, Millis(0)));
        let restore = accepted(decide(&object, 2, Tier::Standard, Millis(0), ONE));
        assert_eq!((restore.ready, restore.expiry), (Millis(5 * HOUR), Millis(3 * Millis::DAY)));
        object.restore = Some(Box::new(restore));
        assert_eq!(progress(&object, Millis(5 * HOUR - 1)), Progress::Ongoing);
        assert_eq!(decide(&object, 2, Tier::Standard, Millis(1), ONE), Decision::Refused(Hindrance::AlreadyOngoing));
        assert_eq!(decide(&object, 3, Tier::Expedited, Millis(1), ONE), Decision::Refused(Hindrance::AlreadyOngoing));
        assert_eq!(accepted(decide(&object, 2, Tier::Expedited, Millis(1), ONE)).ready, Millis(5 * MINUTE + 1));
        assert!(readable(&object, Millis(5 * HOUR)));
        let longer = decide(&object, 9, Tier::Bulk, Millis(6 * HOUR), ONE);
        assert_eq!(longer, Decision::Extended(Restore { expiry: Millis(10 * Millis::DAY), days: 9, ..restore }));
        assert_eq!(progress(&object, restore.expiry), Progress::Absent);
        assert!(matches!(decide(&object, 1, Tier::Bulk, restore.expiry, ONE), Decision::Accepted(_)));
    }

    #[test]
    fn classes_and_tiers_are_those_of_aws() {
        let now = Millis(0);
        for class in [Class::Standard, Class::GlacierIr, Class::IntelligentTiering] {
            assert_eq!(decide(&archived(class), 1, Tier::Bulk, now, ONE), Decision::Refused(Hindrance::NotArchived));
            assert!(readable(&archived(class), now));
        }
        assert_eq!(
            decide(&archived(Class::DeepArchive), 1, Tier::Expedited, now, ONE),
            Decision::Refused(Hindrance::NoSuchTier)
        );
        let scaled = decide(&archived(Class::DeepArchive), 1, Tier::Bulk, now, NonZeroU32::new(3600).unwrap());
        assert_eq!(accepted(scaled).ready, Millis(48_000));
    }

    #[test]
    fn oss_restores_each_class_by_rules_of_its_own() {
        let ask =
            |class, days, tier| super::decide(&archived(class), Ask { days, tier, rules: Rules::Oss }, Millis(0), ONE);
        let archive = accepted(ask(Class::Glacier, 7, None));
        assert_eq!((archive.ready, archive.expiry), (Millis(MINUTE), Millis(MINUTE + 7 * Millis::DAY)));
        assert_eq!(ask(Class::Glacier, 8, None), Decision::Refused(Hindrance::DaysOutOfRange));
        assert_eq!(ask(Class::Glacier, 1, Some(Tier::Standard)), Decision::Refused(Hindrance::NoTiers));
        assert_eq!(accepted(ask(Class::ColdArchive, 365, Some(Tier::Bulk))).ready, Millis(12 * HOUR));
        assert_eq!(accepted(ask(Class::ColdArchive, 1, None)).ready, Millis(5 * HOUR));
        assert_eq!(accepted(ask(Class::ColdArchive, 1, Some(Tier::Expedited))).ready, Millis(HOUR));
        assert_eq!(ask(Class::ColdArchive, 366, None), Decision::Refused(Hindrance::DaysOutOfRange));
        assert_eq!(ask(Class::ColdArchive, 0, None), Decision::Refused(Hindrance::DaysOutOfRange));
        assert_eq!(accepted(ask(Class::DeepArchive, 1, None)).ready, Millis(48 * HOUR));
        assert_eq!(ask(Class::DeepArchive, 1, Some(Tier::Bulk)), Decision::Refused(Hindrance::NoSuchTier));
        assert_eq!(ask(Class::StandardIa, 1, None), Decision::Refused(Hindrance::NotArchived));
    }

    #[test]
    fn oss_takes_a_faster_restore_for_other_days_and_no_slower_one() {
        let mut object = archived(Class::ColdArchive);
        let ask = |object: &Object, days, tier, now| {
            super::decide(object, Ask { days, tier: Some(tier), rules: Rules::Oss }, Millis(now), ONE)
        };
        object.restore = Some(Box::new(accepted(ask(&object, 2, Tier::Standard, 0))));
        for tier in [Tier::Standard, Tier::Bulk] {
            assert_eq!(ask(&object, 3, tier, 1), Decision::Refused(Hindrance::AlreadyOngoing));
        }
        assert_eq!(accepted(ask(&object, 3, Tier::Expedited, 1)).ready, Millis(HOUR + 1));
        let later = 6 * HOUR;
        let Decision::Extended(longer) = ask(&object, 5, Tier::Standard, later) else { panic!("it was there") };
        assert_eq!(longer.expiry, Millis(later + 5 * Millis::DAY));
    }
}

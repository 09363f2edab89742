//! When an archived object can be read: how long a restore takes, and until when its copy stays.

use std::num::NonZeroU32;

use super::model::{Class, Millis, Object, Restore, Tier};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// How far an object's restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// None was asked for, or its copy has expired.
    Absent,
    /// Asked for, not done.
    Ongoing,
    /// Readable until then.
    Until(Millis),
}

/// How far an object's restore is now.
pub(super) fn progress(object: &Object, now: Millis) -> Progress {
    match object.restore.as_deref() {
        Some(restore) if now < restore.ready => Progress::Ongoing,
        Some(restore) if now < restore.expiry => Progress::Until(restore.expiry),
        _ => Progress::Absent,
    }
}

/// Whether an object's content can be read now.
pub(super) fn readable(object: &Object, now: Millis) -> bool {
    !object.class.archived() || matches!(progress(object, now), Progress::Until(_))
}

/// What becomes of a request for a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It begins, or an ongoing one becomes faster.
    Accepted(Restore),
    /// The copy is there; its expiry moves.
    Extended(Restore),
    /// One is under way.
    AlreadyOngoing,
    /// The class needs none.
    NotArchived,
    /// The class cannot be restored so fast.
    TooFast,
}

/// Decides on a request for a restore.
pub(super) fn decide(object: &Object, days: u32, tier: Tier, now: Millis, scale: NonZeroU32) -> Decision {
    if !object.class.archived() {
        return Decision::NotArchived;
    }
    let Some(duration) = duration(object.class, tier) else { return Decision::TooFast };
    let stay = i64::from(days) * Millis::DAY;
    let ready = now.plus(duration / i64::from(scale.get()));
    let fresh = Restore { ready, expiry: ready.plus(stay).midnight_after(), days, tier };
    match (object.restore.as_deref(), progress(object, now)) {
        // AWS lets an ongoing restore be upgraded to a faster tier, for the same days only.
        (Some(old), Progress::Ongoing) if tier > old.tier && days == old.days => {
            let ready = fresh.ready.min(old.ready);
            Decision::Accepted(Restore { ready, ..fresh })
        }
        (_, Progress::Ongoing) => Decision::AlreadyOngoing,
        (Some(old), Progress::Until(_)) => {
            Decision::Extended(Restore { expiry: now.plus(stay).midnight_after(), days, ..*old })
        }
        _ => Decision::Accepted(fresh),
    }
}

/// The longest that AWS says a restore takes, in milliseconds; `None` where there is no such tier.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html>
fn duration(class: Class, tier: Tier) -> Option<i64> {
    match (class, tier) {
        (Class::DeepArchive, Tier::Expedited) => None,
        (Class::DeepArchive, Tier::Standard) => Some(12 * HOUR),
        (Class::DeepArchive, Tier::Bulk) => Some(48 * HOUR),
        (_, Tier::Expedited) => Some(5 * MINUTE),
        (_, Tier::Standard) => Some(5 * HOUR),
        (_, Tier::Bulk) => Some(12 * HOUR),
    }
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

    fn accepted(decision: Decision) -> Restore {
        match decision {
            Decision::Accepted(restore) | Decision::Extended(restore) => restore,
            other => panic!("{other:?}"),
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
        assert_eq!(decide(&object, 2, Tier::Standard, Millis(1), ONE), Decision::AlreadyOngoing);
        assert_eq!(decide(&object, 3, Tier::Expedited, Millis(1), ONE), Decision::AlreadyOngoing);
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
            assert_eq!(decide(&archived(class), 1, Tier::Bulk, now, ONE), Decision::NotArchived);
            assert!(readable(&archived(class), now));
        }
        assert_eq!(decide(&archived(Class::DeepArchive), 1, Tier::Expedited, now, ONE), Decision::TooFast);
        let scaled = decide(&archived(Class::DeepArchive), 1, Tier::Bulk, now, NonZeroU32::new(3600).unwrap());
        assert_eq!(accepted(scaled).ready, Millis(48_000));
    }
}

//! Predicts what a job would do to each object before it runs, and shows what differs: of an object's state before and
//! after a job, and of two plan files.
//!
//! This module sends no requests. Given the state of an object, a [`Predictor`] predicts the effect on it. A
//! [`PredictionTotals`] adds up the predictions for many objects: exactly, or, if the objects are a sample, with a
//! confidence interval.
//!
//! | file | what it does |
//! |---|---|
//! | `mod` | the lines that differ: [`compare_states`], [`unified_diff`] |
//! | `predictor` | predicts the effect on one object, restores included |
//! | `totals` | totals over many objects, and estimates for the whole population from a sample |

mod predictor;
mod totals;

use batchplan_store::object::ObjectState;
use similar::{ChangeTag, TextDiff};

pub use predictor::{AclAcceptance, Effect, FailureReason, Prediction, Predictor, ReadFailure};
pub use totals::{ConfidenceInterval, PredictionTotals, ReasonGroup, RequestCount, SampleShare, busiest_directory};

use crate::operation::ObjectAspect;

/// Whether a line is removed, added or unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineChange {
    /// The line is only in the state before.
    Removed,
    /// The line is only in the state after.
    Added,
    /// The line is in both states.
    Unchanged,
}

impl LineChange {
    /// Returns the sign to print before the line: `-`, `+` or a space.
    #[must_use]
    pub fn sign(self) -> char {
        match self {
            Self::Removed => '-',
            Self::Added => '+',
            Self::Unchanged => ' ',
        }
    }
}

/// A line that describes part of an object's state. The text is not escaped for terminals yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateLine {
    /// Whether the line is removed, added or unchanged.
    pub change: LineChange,
    /// The text of the line, without a newline.
    pub text: String,
}

/// Compares two states line by line.
#[must_use]
pub fn compare_states(before: &ObjectState, after: &ObjectState) -> Vec<StateLine> {
    // Compare each aspect separately, so that a removed line is next to the line that replaces it.
    let compare = |aspect: ObjectAspect| compare_lines(&aspect.rules().lines(before), &aspect.rules().lines(after));
    ObjectAspect::ALL.into_iter().flat_map(compare).collect()
}

fn compare_lines(before: &[String], after: &[String]) -> Vec<StateLine> {
    let old: Vec<&str> = before.iter().map(String::as_str).collect();
    let new: Vec<&str> = after.iter().map(String::as_str).collect();
    let diff = TextDiff::from_slices(&old, &new);
    let line = |change: similar::Change<&str>| StateLine {
        change: match change.tag() {
            ChangeTag::Delete => LineChange::Removed,
            ChangeTag::Insert => LineChange::Added,
            ChangeTag::Equal => LineChange::Unchanged,
        },
        text: change.value().to_owned(),
    };
    diff.iter_all_changes().map(line).collect()
}

/// The number of unchanged lines that are shown around a change.
const CONTEXT: usize = 2;

/// Returns the unified diff of two texts without its header, or an empty string if they are equal.
#[must_use]
pub fn unified_diff(old: &str, new: &str) -> String {
    TextDiff::from_lines(old, new).unified_diff().context_radius(CONTEXT).missing_newline_hint(false).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use batchplan_store::object::{MaybeKnown, ObjectAcl, RestoreRequest, RestoreState, RestoreTier, TagSet};

    fn text(before: &ObjectState, after: &ObjectState) -> String {
        let line = |line: &StateLine| format!("{} {}\n", line.change.sign(), line.text);
        compare_states(before, after).iter().map(line).collect::<Vec<_>>().concat()
    }

    #[test]
    fn separates_changed_from_unchanged_lines() {
        let tags = |pairs: &[(&str, &str)]| MaybeKnown::Known(pairs.iter().copied().collect::<TagSet>());
        let before = ObjectState {
            tags: tags(&[("owner", "kim"), ("stage", "dev")]),
            acl: MaybeKnown::Known(ObjectAcl::Private),
            ..ObjectState::default()
        };
        let after = ObjectState { tags: tags(&[("owner", "kim"), ("stage", "a \"b\"")]), ..before.clone() };
        assert_eq!(
            text(&before, &after),
            "  tag owner = \"kim\"\n- tag stage = \"dev\"\n+ tag stage = \"a \\\"b\\\"\"\n  acl private\n"
        );
        let none = ObjectState { tags: tags(&[]), ..ObjectState::default() };
        let one = ObjectState { tags: tags(&[("a", "")]), ..ObjectState::default() };
        assert_eq!(text(&none, &one), "- no tags\n+ tag a = \"\"\n");
        let absent =
            ObjectState { restoration: MaybeKnown::Known(RestoreState::NotRestored), ..ObjectState::default() };
        let wanted = RestoreState::Requested(RestoreRequest { days: Some(7), tier: Some(RestoreTier::Bulk) });
        let wanted = ObjectState { restoration: MaybeKnown::Known(wanted), ..ObjectState::default() };
        assert_eq!(text(&absent, &wanted), "- restored copy: none\n+ restored copy: for 7 days (Bulk)\n");
    }

    #[test]
    fn shows_only_changes_with_context() {
        let old = "a\nb\nc\nd\ne\nf\n";
        assert_eq!(unified_diff(old, old), "");
        assert_eq!(unified_diff(old, &old.replace("e\n", "E\n")), "@@ -3,4 +3,4 @@\n c\n d\n-e\n+E\n f\n");
    }
}

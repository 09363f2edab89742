//! Describes an object's state before and after a job as lines.

use similar::{ChangeTag, TextDiff};

use batchplan_store::object::{ObjectState, RestoreState};

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
    // Compare each kind of fact separately, so that a removed line is next to the line that replaces it.
    describe(before)
        .into_iter()
        .zip(describe(after))
        .flat_map(|(before, after)| compare_lines(&before, &after))
        .collect()
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

/// Describes what is known about an object: one line per tag, one for the ACL and one for the restored copy.
fn describe(state: &ObjectState) -> [Vec<String>; 3] {
    let tags = state.tags.known().map_or_else(Vec::new, |tags| {
        let none = tags.is_empty().then(|| "no tags".to_owned());
        none.into_iter().chain(tags.iter().map(|(key, value)| format!("tag {key} = {}", quoted(value)))).collect()
    });
    let acl = state.acl.known().map(|acl| format!("acl {}", acl.as_str()));
    let restored =
        state.restoration.known().map(|restoration| format!("restored copy: {}", describe_restored_copy(*restoration)));
    [tags, Vec::from_iter(acl), Vec::from_iter(restored)]
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn describe_restored_copy(restoration: RestoreState) -> String {
    match restoration {
        RestoreState::NotRestored => "none".to_owned(),
        RestoreState::InProgress => "in progress".to_owned(),
        RestoreState::RestoredUntil(until) => format!("until {until}"),
        RestoreState::Requested(request) => {
            let tier = request.tier.map_or_else(String::new, |tier| format!(" ({})", tier.as_str()));
            format!("for {} day{}{tier}", request.days, if request.days == 1 { "" } else { "s" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use batchplan_store::object::{MaybeKnown, ObjectAcl, RestoreRequest, RestoreTier, TagSet};

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
        let wanted = RestoreState::Requested(RestoreRequest { days: 7, tier: Some(RestoreTier::Bulk) });
        let wanted = ObjectState { restoration: MaybeKnown::Known(wanted), ..ObjectState::default() };
        assert_eq!(text(&absent, &wanted), "- restored copy: none\n+ restored copy: for 7 days (Bulk)\n");
    }
}

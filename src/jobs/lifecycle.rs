//! What a change of tags means for a lifecycle rule of the bucket that selects objects by their tags.

use batchplan_store::TagLifecycleRule;
use batchplan_store::object::{BucketName, TagSet};

use crate::manifest::ManifestSource;
use crate::operation::Operation;
use crate::plan::Plan;
use crate::toml_reader::quote_for_message;

/// What the operations of a plan do with a tag, whatever an object's tags were before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TagOutcome {
    /// The object has the tag afterwards.
    Present,
    /// The object does not have the tag afterwards.
    Absent,
    /// The tag stays as it is.
    Untouched,
}

impl TagOutcome {
    fn of(operations: &[Operation], key: &str, value: &str) -> Self {
        operations.iter().fold(Self::Untouched, |before, operation| match operation {
            Operation::PutTagging(tags) => Self::among(tags, key, value).unwrap_or(Self::Absent),
            Operation::AddTagging(tags) => Self::among(tags, key, value).unwrap_or(before),
            Operation::DeleteTagging(None) => Self::Absent,
            Operation::DeleteTagging(Some(keys)) if keys.iter().any(|deleted| deleted == key) => Self::Absent,
            Operation::DeleteTagging(Some(_)) | Operation::PutAcl(_) | Operation::Restore(_) => before,
        })
    }

    /// Returns the outcome of setting these tags, if the key is one of them.
    fn among(tags: &TagSet, key: &str, value: &str) -> Option<Self> {
        let (_, set) = tags.iter().find(|(name, _)| *name == key)?;
        Some(if set == value { Self::Present } else { Self::Absent })
    }
}

/// Returns a warning if the plan changes whether a rule applies to its objects: what the rule then does or no longer
/// does. Returns `None` if the rule applies to other objects, or if it applies afterwards exactly as before.
pub(super) fn warning(plan: &Plan, bucket: &BucketName, rule: &TagLifecycleRule) -> Option<String> {
    if !may_share_objects(&plan.manifest.source, rule) {
        return None;
    }
    let outcome = |(key, value): &(String, String)| TagOutcome::of(&plan.operations, key, value);
    let required = rule.tags.iter().map(|tag| (tag, outcome(tag)));
    // An object with a tag that the rule excludes is left alone, so an excluded tag that disappears is one that fits.
    let excluded = rule.excluded_tags.iter().map(|tag| match outcome(tag) {
        TagOutcome::Present => (tag, TagOutcome::Absent),
        TagOutcome::Absent => (tag, TagOutcome::Present),
        TagOutcome::Untouched => (tag, TagOutcome::Untouched),
    });
    let fits: Vec<_> = required.chain(excluded).collect();
    let with = |wanted| fits.iter().filter(move |(_, outcome)| *outcome == wanted).map(|(tag, _)| *tag);
    let name = match rule.id.as_str() {
        "" => "rule without a name".to_owned(),
        id => format!("rule `{}`", quote_for_message(id)),
    };
    let (selected, done) = (selection(rule), action(rule));
    if with(TagOutcome::Absent).next().is_some() {
        return Some(format!(
            "lifecycle {name} of {bucket} will apply to none of these objects ({selected}): it will not {done} those that \
             it applies to now"
        ));
    }
    with(TagOutcome::Present).next()?;
    let which = match with(TagOutcome::Untouched).next() {
        Some(_) => "those of these objects that have its other tags",
        None => "all these objects",
    };
    Some(format!("lifecycle {name} of {bucket} will apply to {which} ({selected}): it will {done} them"))
}

/// Returns whether the rule may apply to objects of the source: those in one bucket and below one prefix may be others.
fn may_share_objects(source: &ManifestSource, rule: &TagLifecycleRule) -> bool {
    let ManifestSource::Prefix { prefix, .. } = source else { return true };
    let (listed, selected) = (prefix.as_bytes(), rule.prefix.as_bytes());
    listed.starts_with(selected) || selected.starts_with(listed)
}

/// Returns what the rule does to objects, as a verb.
fn action(rule: &TagLifecycleRule) -> &'static str {
    match (rule.deletes, rule.moves) {
        (true, true) => "move and delete",
        (true, false) => "delete",
        (false, true) => "move",
        (false, false) => "act on",
    }
}

/// Returns the tags of the rule, such as `Env=tmp, not keep=yes`.
fn selection(rule: &TagLifecycleRule) -> String {
    let shown = |not: &str, (key, value): &(String, String)| {
        format!("{not}{}={}", quote_for_message(key), quote_for_message(value))
    };
    let required = rule.tags.iter().map(|tag| shown("", tag));
    required.chain(rule.excluded_tags.iter().map(|tag| shown("not ", tag))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;

    use super::*;

    fn warn(operations: &str, rule: &TagLifecycleRule) -> Option<String> {
        let text = format!(
            "name = \"p\"\n[store]\nprovider = \"sandbox\"\ndata = \"sb\"\n[manifest.prefix]\nbucket = \"bkt\"\n\
             prefix = \"logs/2024/\"\n{operations}"
        );
        let (plan, problems) = crate::plan::read_bytes("p.toml", text.as_bytes(), Path::new(""), Timestamp::UNIX_EPOCH);
        let plan = plan.unwrap_or_else(|| panic!("{problems:?}"));
        warning(&plan, &BucketName::new("bkt"), rule)
    }

    fn tags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn rule(pairs: &[(&str, &str)]) -> TagLifecycleRule {
        TagLifecycleRule { id: "old".to_owned(), tags: tags(pairs), deletes: true, ..TagLifecycleRule::default() }
    }

    const PUT: &str = "[operation.put_object_tagging]\ntags = { env = \"tmp\" }\n";
    const ADD: &str = "[operation.add_object_tagging]\ntags = { env = \"tmp\" }\n";
    const DELETE: &str = "[operation.delete_object_tagging]\nkeys = [\"env\"]\n";

    #[test]
    fn rule_filter_and_value_are_compared_with_what_the_plan_sets() {
        let enters = "lifecycle rule `old` of bkt will apply to all these objects (env=tmp): it will delete them";
        let leaves = |selected: &str| {
            Some(format!(
                "lifecycle rule `old` of bkt will apply to none of these objects ({selected}): it will not delete those \
                 that it applies to now"
            ))
        };
        assert_eq!(warn(PUT, &rule(&[("env", "tmp")])).as_deref(), Some(enters));
        assert_eq!(warn(ADD, &rule(&[("env", "tmp")])).as_deref(), Some(enters));
        assert_eq!(warn(ADD, &rule(&[("env", "prod")])), leaves("env=prod"));
        assert_eq!(warn(DELETE, &rule(&[("env", "tmp")])), leaves("env=tmp"));
        assert_eq!(warn("[operation.delete_object_tagging]\n", &rule(&[("team", "a")])), leaves("team=a"));
        // A plan that replaces all tags removes the others.
        assert_eq!(warn(PUT, &rule(&[("team", "a")])), leaves("team=a"));
        assert_eq!(warn(PUT, &rule(&[("env", "tmp"), ("team", "a")])), leaves("env=tmp, team=a"));
        // One that adds tags leaves them as they are.
        assert_eq!(warn(ADD, &rule(&[("team", "a")])), None);
        assert_eq!(warn(DELETE, &rule(&[("team", "a")])), None);
        assert_eq!(
            warn(ADD, &rule(&[("env", "tmp"), ("team", "a")])).as_deref(),
            Some(
                "lifecycle rule `old` of bkt will apply to those of these objects that have its other tags (env=tmp, \
                 team=a): it will delete them"
            )
        );
    }

    #[test]
    fn a_rule_for_other_objects_is_no_concern() {
        let of = |prefix: &str| TagLifecycleRule { prefix: prefix.to_owned(), ..rule(&[("env", "tmp")]) };
        for prefix in ["", "logs/", "logs/2024/", "logs/2024/01/"] {
            assert!(warn(PUT, &of(prefix)).is_some(), "{prefix}");
        }
        for prefix in ["data/", "logs/2023/", "logs2/"] {
            assert_eq!(warn(PUT, &of(prefix)), None, "{prefix}");
        }
    }

    #[test]
    fn a_tag_that_a_rule_excludes_counts_the_other_way_round() {
        let keep = TagLifecycleRule {
            id: String::new(),
            excluded_tags: tags(&[("env", "tmp")]),
            moves: true,
            ..TagLifecycleRule::default()
        };
        assert_eq!(
            warn(ADD, &keep).as_deref(),
            Some(
                "lifecycle rule without a name of bkt will apply to none of these objects (not env=tmp): it will not move \
                 those that it applies to now"
            )
        );
        assert_eq!(
            warn(DELETE, &keep).as_deref(),
            Some(
                "lifecycle rule without a name of bkt will apply to all these objects (not env=tmp): it will move them"
            )
        );
    }
}

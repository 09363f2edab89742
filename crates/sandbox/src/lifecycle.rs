//! Lifecycle rules of buckets, independent of the dialect. They are stored and returned, but have no effect.

use std::collections::HashSet;

use super::model::{ObjectStorageClass, random_id};
use super::tags::SharedTags;

/// The maximum number of rules in a lifecycle, at both AWS and OSS.
const MAX_RULES: usize = 1000;
/// The maximum length of a rule's ID, in bytes.
const MAX_ID: usize = 255;

/// A lifecycle rule, independent of the dialect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LifecycleRule {
    /// Generated if the request has none.
    pub(crate) id: Box<str>,
    pub(crate) enabled: bool,
    pub(crate) prefix: Box<str>,
    /// The rule applies to objects that have all of these tags.
    pub(crate) tags: SharedTags,
    /// The age in days after which objects are deleted.
    pub(crate) expiration_days: Option<u32>,
    /// The ages in days after which objects change to another storage class.
    pub(crate) transitions: Vec<(u32, ObjectStorageClass)>,
}

/// What is wrong with a lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LifecycleError {
    /// The lifecycle has no rules, or too many.
    RuleCount,
    /// An ID is too long, or two rules have the same ID.
    InvalidId,
    /// A rule has no action.
    NoAction,
    /// An object would expire after zero days.
    InvalidDays,
}

impl LifecycleError {
    /// Returns a message for people.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::RuleCount => "A lifecycle must have 1 to 1000 rules",
            Self::InvalidId => "A rule's ID must be unique and have at most 255 characters",
            Self::NoAction => "A rule must have at least one action",
            Self::InvalidDays => "Days must be a positive number",
        }
    }
}

/// Checks rules, and generates the IDs of those that have none.
pub(crate) fn validate_rules(mut rules: Vec<LifecycleRule>) -> Result<Vec<LifecycleRule>, LifecycleError> {
    if rules.is_empty() || rules.len() > MAX_RULES {
        return Err(LifecycleError::RuleCount);
    }
    for rule in rules.iter_mut().filter(|rule| rule.id.is_empty()) {
        rule.id = random_id();
    }
    let mut ids = HashSet::new();
    for rule in &rules {
        if rule.id.len() > MAX_ID || !ids.insert(&rule.id) {
            return Err(LifecycleError::InvalidId);
        }
        if rule.expiration_days.is_none() && rule.transitions.is_empty() {
            return Err(LifecycleError::NoAction);
        }
        if rule.expiration_days == Some(0) {
            return Err(LifecycleError::InvalidDays);
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str) -> LifecycleRule {
        LifecycleRule { id: id.into(), expiration_days: Some(1), ..LifecycleRule::default() }
    }

    #[test]
    fn rules_are_named_and_checked() {
        let named = validate_rules(vec![rule(""), rule("b"), rule("")]).unwrap();
        assert!(!named[0].id.is_empty() && named[0].id != named[2].id && &*named[1].id == "b");
        let idle = LifecycleRule { expiration_days: None, ..rule("a") };
        let at_once = LifecycleRule { expiration_days: Some(0), ..rule("a") };
        let many = (0..=MAX_RULES).map(|n| rule(&n.to_string())).collect();
        for (rules, fault) in [
            (vec![], LifecycleError::RuleCount),
            (many, LifecycleError::RuleCount),
            (vec![rule("a"), rule("a")], LifecycleError::InvalidId),
            (vec![rule(&"i".repeat(256))], LifecycleError::InvalidId),
            (vec![idle], LifecycleError::NoAction),
            (vec![at_once], LifecycleError::InvalidDays),
        ] {
            assert_eq!(validate_rules(rules), Err(fault));
        }
    }
}

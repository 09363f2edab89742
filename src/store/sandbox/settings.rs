//! Bucket settings other than versioning and the ACL. They are stored and returned. Only object ownership has an
//! effect.

use std::collections::HashSet;

use super::find::Refusal;
use super::model::{Class, Ownership};
use super::state::Change;
use super::tags::TagsRef;
use super::vault::{Sandbox, random_id};

/// The maximum number of rules in a lifecycle, at both AWS and OSS.
const MAX_RULES: usize = 1000;
/// The maximum length of a rule's ID, in bytes.
const MAX_ID: usize = 255;

/// A lifecycle rule, independent of the dialect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LifecycleRule {
    /// Generated if the request has none.
    pub(super) id: Box<str>,
    pub(super) enabled: bool,
    pub(super) prefix: Box<str>,
    /// The rule applies to objects that have all of these tags.
    pub(super) tags: TagsRef,
    /// The age in days after which objects are deleted.
    pub(super) expires: Option<u32>,
    /// The ages in days after which objects change to another storage class.
    pub(super) moves: Vec<(u32, Class)>,
}

/// What is wrong with a lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LifecycleFault {
    /// The lifecycle has no rules, or too many.
    Rules,
    /// An ID is too long, or two rules have the same ID.
    Id,
    /// A rule has no action.
    Idle,
    /// An object would expire after zero days.
    Days,
}

impl LifecycleFault {
    /// Returns a message for people.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Rules => "A lifecycle has from one rule to a thousand",
            Self::Id => "A rule's ID has up to 255 characters, and no other rule has it",
            Self::Idle => "A rule has at least one action",
            Self::Days => "Days must be a positive number",
        }
    }
}

/// Checks rules, and generates the IDs of those that have none.
pub(super) fn checked(mut rules: Vec<LifecycleRule>) -> Result<Vec<LifecycleRule>, LifecycleFault> {
    if rules.is_empty() || rules.len() > MAX_RULES {
        return Err(LifecycleFault::Rules);
    }
    for rule in rules.iter_mut().filter(|rule| rule.id.is_empty()) {
        rule.id = random_id();
    }
    let mut ids = HashSet::new();
    for rule in &rules {
        if rule.id.len() > MAX_ID || !ids.insert(&rule.id) {
            return Err(LifecycleFault::Id);
        }
        if rule.expires.is_none() && rule.moves.is_empty() {
            return Err(LifecycleFault::Idle);
        }
        if rule.expires == Some(0) {
            return Err(LifecycleFault::Days);
        }
    }
    Ok(rules)
}

impl Sandbox {
    /// Replaces the lifecycle of a bucket. An empty list removes it.
    pub(super) fn set_lifecycle(&self, name: &str, rules: Vec<LifecycleRule>) -> Result<(), Refusal> {
        let mut vault = self.vault();
        vault.state().bucket(name)?;
        self.commit(&mut vault, vec![Change::SetLifecycle { bucket: name.into(), rules }])
    }

    pub(super) fn set_ownership(&self, name: &str, ownership: Ownership) -> Result<(), Refusal> {
        let mut vault = self.vault();
        vault.state().bucket(name)?;
        self.commit(&mut vault, vec![Change::SetOwnership { bucket: name.into(), ownership }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str) -> LifecycleRule {
        LifecycleRule { id: id.into(), expires: Some(1), ..LifecycleRule::default() }
    }

    #[test]
    fn rules_are_named_and_checked() {
        let named = checked(vec![rule(""), rule("b"), rule("")]).unwrap();
        assert!(!named[0].id.is_empty() && named[0].id != named[2].id && &*named[1].id == "b");
        let idle = LifecycleRule { expires: None, ..rule("a") };
        let at_once = LifecycleRule { expires: Some(0), ..rule("a") };
        let many = (0..=MAX_RULES).map(|n| rule(&n.to_string())).collect();
        for (rules, fault) in [
            (vec![], LifecycleFault::Rules),
            (many, LifecycleFault::Rules),
            (vec![rule("a"), rule("a")], LifecycleFault::Id),
            (vec![rule(&"i".repeat(256))], LifecycleFault::Id),
            (vec![idle], LifecycleFault::Idle),
            (vec![at_once], LifecycleFault::Days),
        ] {
            assert_eq!(checked(rules), Err(fault));
        }
    }
}

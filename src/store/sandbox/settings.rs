//! What a bucket is set to besides versioning and its ACL: kept, told, and, but for the ownership of objects, without effect.

use std::collections::HashSet;

use super::find::Refusal;
use super::model::{Class, Ownership};
use super::state::Change;
use super::tags::TagsRef;
use super::vault::{Sandbox, random_id};

/// The most rules of a lifecycle, at AWS and OSS alike.
const MAX_RULES: usize = 1000;
/// The longest name of a rule, in bytes.
const MAX_ID: usize = 255;

/// A rule of a lifecycle, without the dialect that it was said in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LifecycleRule {
    /// Its name; one is made up where none is said.
    pub(super) id: Box<str>,
    pub(super) enabled: bool,
    pub(super) prefix: Box<str>,
    /// It is about objects that have all of these.
    pub(super) tags: TagsRef,
    /// After so many days objects are to be deleted.
    pub(super) expires: Option<u32>,
    /// After so many days they are to be of another class.
    pub(super) moves: Vec<(u32, Class)>,
}

/// What is wrong with a lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LifecycleFault {
    /// It has no rule, or too many.
    Rules,
    /// A name is too long, or two rules have it.
    Id,
    /// A rule does nothing.
    Idle,
    /// Something is to happen after no day.
    Days,
}

impl LifecycleFault {
    /// For a person.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Rules => "A lifecycle has from one rule to a thousand",
            Self::Id => "A rule's ID has up to 255 characters, and no other rule has it",
            Self::Idle => "A rule has at least one action",
            Self::Days => "Days must be a positive number",
        }
    }
}

/// Checks rules, and names those that have no name.
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
    /// Replaces a bucket's lifecycle; without rules there is none.
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

//! Why objects failed: how many by each error code, and a few examples of each.

use std::collections::{BTreeMap, BTreeSet};

use crate::object::ObjectId;
use crate::task::Failure;

/// Error codes that are told apart: a server that makes up a new one for every object must not make the journal grow.
const MAX_REASONS: usize = 64;

/// Examples of each.
const MAX_EXAMPLES: usize = 10;

/// The longest code and message that are kept, in characters.
const MAX_CODE: usize = 128;
const MAX_MESSAGE: usize = 300;

/// The code under which all others are counted once there are too many.
pub const OTHER_CODES: &str = "(other codes)";

/// An error code and the HTTP status that came with it; 0 where no answer came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorCode {
    /// The server's code, or ours.
    pub code: String,
    /// The HTTP status.
    pub http: u16,
}

/// What is known of the objects that failed with one code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// How many they are.
    pub count: u64,
    /// The first few of them.
    pub examples: Vec<Example>,
}

/// One object that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The object.
    pub object: ObjectId,
    /// What the server said.
    pub message: String,
}

/// The failures of one job, by code. Its size is bounded whatever the server says.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    reasons: BTreeMap<ErrorCode, Reason>,
    changed: BTreeSet<ErrorCode>,
}

impl Tally {
    /// The tally that was kept as these reasons.
    #[must_use]
    pub fn of(reasons: impl IntoIterator<Item = (ErrorCode, Reason)>) -> Self {
        Self { reasons: reasons.into_iter().collect(), changed: BTreeSet::new() }
    }

    /// Counts a failed object.
    pub fn add(&mut self, object: &ObjectId, failure: &Failure) {
        let fault = &failure.fault;
        let mut code = ErrorCode { code: cut(&fault.code, MAX_CODE), http: fault.status.unwrap_or(0) };
        if !self.reasons.contains_key(&code) && self.reasons.len() >= MAX_REASONS {
            code = ErrorCode { code: OTHER_CODES.to_owned(), http: 0 };
        }
        let reason = self.reasons.entry(code.clone()).or_default();
        reason.count += 1;
        if reason.examples.len() < MAX_EXAMPLES {
            let message = cut(&fault.message, MAX_MESSAGE);
            reason.examples.push(Example { object: object.clone(), message });
        }
        self.changed.insert(code);
    }

    /// Every code, with what is known of it.
    pub fn reasons(&self) -> impl Iterator<Item = (&ErrorCode, &Reason)> {
        self.reasons.iter()
    }

    /// What changed since this was last asked.
    pub fn take_changes(&mut self) -> Vec<(ErrorCode, Reason)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|code| self.reasons.get(&code).cloned().map(|reason| (code, reason))).collect()
    }

    /// Has these told again: what was taken of them could not be kept.
    pub fn put_back(&mut self, codes: impl IntoIterator<Item = ErrorCode>) {
        self.changed.extend(codes);
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Bucket, Key};
    use crate::task::{Fault, FaultClass};

    fn failure(code: &str, message: &str) -> Failure {
        let fault = Fault::unanswered(FaultClass::Rejected, code, message, String::new());
        Failure { operation: "put_object_acl".to_owned(), fault }
    }

    fn object(n: u32) -> ObjectId {
        ObjectId { bucket: Bucket::new("b"), key: Key::from(n.to_string().as_str()), version: None }
    }

    #[test]
    fn it_counts_all_and_keeps_the_first_ten() {
        let mut tally = Tally::default();
        (0..1000).for_each(|n| tally.add(&object(n), &failure("AccessDenied", "no")));
        let [(code, reason)] = &tally.reasons().collect::<Vec<_>>()[..] else { panic!("one code") };
        assert_eq!((code.code.as_str(), reason.count, reason.examples.len()), ("AccessDenied", 1000, 10));
        assert_eq!(reason.examples[9].object, object(9));
    }

    #[test]
    fn a_server_that_makes_up_codes_does_not_make_it_grow() {
        let mut tally = Tally::default();
        let long = "é".repeat(100_000);
        (0..10_000).for_each(|n| tally.add(&object(n), &failure(&format!("{n}{long}"), &long)));
        assert_eq!(tally.reasons().count(), 65);
        assert_eq!(tally.reasons().map(|(_, reason)| reason.count).sum::<u64>(), 10_000);
        let kept: usize = tally
            .reasons()
            .map(|(code, reason)| code.code.len() + reason.examples.iter().map(|e| e.message.len()).sum::<usize>())
            .sum();
        assert!(kept < 128 * 1024, "{kept}");
        assert_eq!(tally.take_changes().len(), 65);
        assert!(tally.take_changes().is_empty());
    }
}

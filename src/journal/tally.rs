//! Why objects failed: the number of objects for each error code, and a few examples of each.

use std::collections::{BTreeMap, BTreeSet};

use crate::object::ObjectId;
use crate::task::Failure;

/// The number of distinct error codes. A server that invents a new code for every object must not make the journal
/// grow.
const MAX_REASONS: usize = 64;

/// The number of examples of each code.
const MAX_EXAMPLES: usize = 10;

/// The maximum length of a code and of a message, in characters.
const MAX_CODE: usize = 128;
const MAX_MESSAGE: usize = 300;

/// The code that counts all failures with further codes once there are too many.
pub const OTHER_CODES: &str = "(other codes)";

/// An error code and its HTTP status; 0 if no answer came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorCode {
    /// The error code of the server or of this program.
    pub code: String,
    /// The HTTP status.
    pub http: u16,
}

/// The objects that failed with one code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// The number of objects.
    pub count: u64,
    /// The first few of them.
    pub examples: Vec<Example>,
}

/// One object that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The object that failed.
    pub object: ObjectId,
    /// The error message, cut to a maximum length.
    pub message: String,
}

/// The failures of one job, by error code. Its size is bounded, whatever the server sends.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    reasons: BTreeMap<ErrorCode, Reason>,
    changed: BTreeSet<ErrorCode>,
}

impl Tally {
    /// Creates a tally from recorded reasons.
    #[must_use]
    pub fn of(reasons: impl IntoIterator<Item = (ErrorCode, Reason)>) -> Self {
        Self { reasons: reasons.into_iter().collect(), changed: BTreeSet::new() }
    }

    /// Adds a failed object.
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

    /// Iterates over all codes with their failures.
    pub fn reasons(&self) -> impl Iterator<Item = (&ErrorCode, &Reason)> {
        self.reasons.iter()
    }

    /// Returns the failures that changed since the last call.
    pub fn take_changes(&mut self) -> Vec<(ErrorCode, Reason)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|code| self.reasons.get(&code).cloned().map(|reason| (code, reason))).collect()
    }

    /// Marks these codes as changed again, because their changes could not be recorded.
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

//! Why objects failed: the number of objects for each error code, and a few examples of each.

use std::collections::{BTreeMap, BTreeSet};

use batchplan_store::object::ObjectId;
use batchplan_store::task::TaskFailure;

/// The number of distinct error codes. A server that invents a new code for every object must not make the journal
/// grow.
const MAX_DISTINCT_CODES: usize = 64;

/// The number of examples of each code.
const MAX_EXAMPLES: usize = 10;

/// The maximum length of a code and of a message, in characters.
const MAX_CODE_CHARS: usize = 128;
const MAX_MESSAGE_CHARS: usize = 300;

/// The code that counts all failures with further codes once there are too many.
const OTHER_CODES: &str = "(other codes)";

/// An error code and its HTTP status; 0 if no answer came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailureCode {
    /// The error code of the server or of this program.
    pub code: String,
    /// The HTTP status.
    pub http: u16,
}

/// The objects that failed with one code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureGroup {
    /// The number of objects.
    pub count: u64,
    /// The first few of them.
    pub examples: Vec<FailureExample>,
}

/// One object that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureExample {
    /// The object that failed.
    pub object: ObjectId,
    /// The error message, cut to a maximum length.
    pub message: String,
}

/// The failures of one job, by error code. Its size is bounded, whatever the server sends.
#[derive(Clone, Debug, Default)]
pub struct FailureTally {
    groups: BTreeMap<FailureCode, FailureGroup>,
    changed: BTreeSet<FailureCode>,
}

impl FailureTally {
    /// Creates a tally from recorded reasons.
    #[must_use]
    pub fn from_groups(reasons: impl IntoIterator<Item = (FailureCode, FailureGroup)>) -> Self {
        Self { groups: reasons.into_iter().collect(), changed: BTreeSet::new() }
    }

    /// Adds a failed object.
    pub fn add(&mut self, object: &ObjectId, failure: &TaskFailure) {
        let fault = &failure.error;
        let mut code = FailureCode { code: truncate(&fault.code, MAX_CODE_CHARS), http: fault.status.unwrap_or(0) };
        if !self.groups.contains_key(&code) && self.groups.len() >= MAX_DISTINCT_CODES {
            code = FailureCode { code: OTHER_CODES.to_owned(), http: 0 };
        }
        let reason = self.groups.entry(code.clone()).or_default();
        reason.count += 1;
        if reason.examples.len() < MAX_EXAMPLES {
            let message = truncate(&fault.message, MAX_MESSAGE_CHARS);
            reason.examples.push(FailureExample { object: object.clone(), message });
        }
        self.changed.insert(code);
    }

    /// Iterates over all codes with their failures.
    pub fn groups(&self) -> impl Iterator<Item = (&FailureCode, &FailureGroup)> {
        self.groups.iter()
    }

    /// Returns the failures that changed since the last call.
    pub fn take_changes(&mut self) -> Vec<(FailureCode, FailureGroup)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|code| self.groups.get(&code).cloned().map(|reason| (code, reason))).collect()
    }

    /// Marks these codes as changed again, because their changes could not be recorded.
    pub fn mark_changed(&mut self, codes: impl IntoIterator<Item = FailureCode>) {
        self.changed.extend(codes);
    }
}

fn truncate(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use batchplan_store::object::{BucketName, ObjectKey};
    use batchplan_store::task::{FaultClass, StoreError};

    fn failure(code: &str, message: &str) -> TaskFailure {
        let fault = StoreError::without_response(FaultClass::Rejected, code, message, String::new());
        TaskFailure { operation: "put_object_acl".to_owned(), error: fault }
    }

    fn object(n: u32) -> ObjectId {
        ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from(n.to_string().as_str()), version: None }
    }

    #[test]
    fn it_counts_all_and_keeps_the_first_ten() {
        let mut tally = FailureTally::default();
        (0..1000).for_each(|n| tally.add(&object(n), &failure("AccessDenied", "no")));
        let [(code, reason)] = &tally.groups().collect::<Vec<_>>()[..] else { panic!("one code") };
        assert_eq!((code.code.as_str(), reason.count, reason.examples.len()), ("AccessDenied", 1000, 10));
        assert_eq!(reason.examples[9].object, object(9));
    }

    #[test]
    fn a_server_that_makes_up_codes_does_not_make_it_grow() {
        let mut tally = FailureTally::default();
        let long = "é".repeat(100_000);
        (0..10_000).for_each(|n| tally.add(&object(n), &failure(&format!("{n}{long}"), &long)));
        assert_eq!(tally.groups().count(), 65);
        assert_eq!(tally.groups().map(|(_, reason)| reason.count).sum::<u64>(), 10_000);
        let stored: usize = tally
            .groups()
            .map(|(code, reason)| code.code.len() + reason.examples.iter().map(|e| e.message.len()).sum::<usize>())
            .sum();
        assert!(stored < 128 * 1024, "{stored}");
        assert_eq!(tally.take_changes().len(), 65);
        assert!(tally.take_changes().is_empty());
    }
}

//! Job IDs in messages: abbreviated to the shortest beginning that no other job's ID has. Every command accepts such a
//! beginning in place of the ID.
//!
//! Texts are made with full IDs, also in the library, and [`Terminal`](super::terminal::Terminal) abbreviates them when
//! it prints messages. Data for programs keeps full IDs, and so do paths and the names of reports.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Bound;

use batchplan_store::Mutex;

use crate::job::JobId;
use crate::journal::Journal;

/// The minimum number of characters of an abbreviated ID: 24 random bits, as an ID is hexadecimal digits in Base64.
const MIN_LENGTH: usize = 8;

/// The length of a full ID.
const FULL_LENGTH: usize = 44;

/// The IDs of the jobs in the journals that this process has opened.
static KNOWN_IDS: Mutex<JobIds> = Mutex::new(JobIds(BTreeSet::new()));

/// A set of IDs, any of which may be abbreviated.
#[derive(Debug, Default)]
struct JobIds(BTreeSet<String>);

/// Learns the IDs of the jobs in a journal. If they cannot be read, which the command reports itself, IDs are
/// abbreviated to the minimum length.
pub(super) fn learn(journal: &Journal) {
    if let Ok(ids) = journal.ids() {
        KNOWN_IDS.lock().0.extend(ids.into_iter().map(String::from));
    }
}

/// Abbreviates every ID in a text, unless it is part of a path or of another name.
pub(super) fn abbreviate(text: &str) -> Cow<'_, str> {
    // Every ID ends with the padding of Base64.
    if !text.contains('=') {
        return Cow::Borrowed(text);
    }
    KNOWN_IDS.lock().abbreviate_all(text)
}

impl JobIds {
    /// Returns the shortest prefix of an ID, of at least [`MIN_LENGTH`] characters, that no other known ID has.
    fn abbreviate<'a>(&mut self, id: &'a str) -> &'a str {
        if !self.0.contains(id) {
            // A job that was created after the journal was read.
            self.0.insert(id.to_owned());
        }
        // The ID with the longest common prefix is next to it in sort order.
        let before = self.0.range::<str, _>((Bound::Unbounded, Bound::Excluded(id))).next_back();
        let after = self.0.range::<str, _>((Bound::Excluded(id), Bound::Unbounded)).next();
        let needed = |other: &String| shared_length(id, other) + 1;
        let length = before.into_iter().chain(after).map(needed).fold(MIN_LENGTH, usize::max);
        &id[..length.min(id.len())]
    }

    fn abbreviate_all<'a>(&mut self, text: &'a str) -> Cow<'a, str> {
        let mut out = String::new();
        let mut copied = 0;
        for (padding, _) in text.match_indices('=') {
            let Some(start) = (padding + 1).checked_sub(FULL_LENGTH).filter(|start| *start >= copied) else { continue };
            let Some(id) = text.get(start..=padding).filter(|id| id.parse::<JobId>().is_ok()) else { continue };
            if is_part_of_name(&text[..start], &text[padding + 1..]) {
                continue;
            }
            out.push_str(&text[copied..start]);
            out.push_str(self.abbreviate(id));
            copied = padding + 1;
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[copied..]);
        Cow::Owned(out)
    }
}

/// Returns whether what stands before and after an ID makes it a part of a path, a URL, or a longer word.
fn is_part_of_name(before: &str, after: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || "/\\-_+=%.~?&@".contains(c);
    let mut following = after.chars();
    let ends_sentence = |next: Option<char>| next.is_none_or(char::is_whitespace);
    before.ends_with(joins)
        || match following.next() {
            Some('.') => !ends_sentence(following.next()),
            next => next.is_some_and(joins),
        }
}

fn shared_length(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=";

    #[test]
    fn ids_are_abbreviated_where_they_are_words() {
        let mut ids = JobIds::default();
        for (text, expected) in [
            ("job [ID] is Paused: [ID], [ID].", "job ODRiZWQ5 is Paused: ODRiZWQ5, ODRiZWQ5."),
            ("next: batchplan show [ID] --watch", "next: batchplan show ODRiZWQ5 --watch"),
            ("([ID])\n[ID]", "(ODRiZWQ5)\nODRiZWQ5"),
            ("größe=[ID] ü[ID] [ID]", "größe=[ID] ü[ID] ODRiZWQ5"),
            ("report: s3://b/job-[ID]/manifest.json", "report: s3://b/job-[ID]/manifest.json"),
            ("cat .batchplan/jobs/[ID]/report", "cat .batchplan/jobs/[ID]/report"),
            ("[ID].log [ID]/x [ID]= =[ID]", "[ID].log [ID]/x [ID]= =[ID]"),
            ("a = b, and ==", "a = b, and =="),
            ("", ""),
        ] {
            let text = text.replace("[ID]", ID);
            assert_eq!(ids.abbreviate_all(&text), expected.replace("[ID]", ID));
        }
    }

    /// IDs of 32 hexadecimal digits, like real ones, that differ only in their last digits.
    fn similar_id(number: u32) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(format!("{number:032x}"))
    }

    proptest! {
        #[test]
        fn an_abbreviation_stands_for_one_job_and_could_not_be_shorter(
            numbers in prop::collection::btree_set(0_u32..5000, 0..30),
        ) {
            let all: Vec<_> = numbers.into_iter().map(similar_id).chain([JobId::random().to_string()]).collect();
            let mut ids = JobIds(all.iter().cloned().collect());
            for id in &all {
                let short = ids.abbreviate(id);
                let named = |prefix: &str| all.iter().filter(|other| other.starts_with(prefix)).count();
                prop_assert_eq!(named(short), 1, "{}", short);
                prop_assert!(short.len() == MIN_LENGTH || named(&short[..short.len() - 1]) > 1, "{}", short);
            }
        }
    }

    #[test]
    fn a_job_created_later_is_told_apart() {
        let mut ids = JobIds::default();
        let [one, other] = [1, 2].map(similar_id);
        assert_eq!(ids.abbreviate(&one), &one[..MIN_LENGTH]);
        assert_ne!(ids.abbreviate(&other).to_owned(), ids.abbreviate(&one));
    }
}

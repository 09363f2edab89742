//! Sees to it that a listing goes forward and ends: a server that repeats itself would be listed for ever, and each
//! object worked on again and again.

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64;

use crate::object::{Key, VersionId};
use crate::store::{ListMark, ListPage, Listed};

/// Pages without any object that are borne one behind the other: a million delete markers in a row make a thousand.
pub(super) const EMPTY_PAGES: u32 = 100_000;

/// Versions of one key that are remembered, eight bytes each: more of them are looked over for the last one only.
const MOST_VERSIONS: usize = 1 << 17;

/// The way through one range.
#[derive(Clone)]
pub(super) struct Walk {
    pub(super) prefix: Key,
    pub(super) all_versions: bool,
    /// Where the range begins: no key of it is this one, or smaller.
    pub(super) after: Option<Key>,
    pub(super) last: Option<Key>,
    /// Which version of it came last; not known where the listing goes on from an earlier attempt.
    pub(super) version: Option<VersionId>,
    /// Hashes of the versions of that key that came so far.
    pub(super) versions: HashSet<u64>,
    pub(super) empty: u32,
}

impl Walk {
    /// Takes out the entry that a page begins with where it was to begin behind it, and it ended the page before: some
    /// servers repeat it. Where it has not been seen yet, the server means by its marker what comes next.
    pub(super) fn drop_repeated(&self, from: Option<&ListMark>, page: &mut ListPage) {
        let Some(ListMark::After { key, version: Some(version) }) = from else { return };
        let is_marker = |first: &Listed| first.key == *key && first.version.as_ref() == Some(version);
        let was_last = self.last.as_ref() == Some(key) && self.version.as_ref().is_none_or(|last| last == version);
        if was_last && page.entries.first().is_some_and(is_marker) {
            page.entries.remove(0);
        }
    }

    /// Takes a page in that was asked for from there, or says why it cannot be trusted.
    pub(super) fn check(&mut self, from: Option<&ListMark>, page: &ListPage) -> Result<(), String> {
        self.check_mark(from, page)?;
        self.check_entries(&page.entries)
    }

    pub(super) fn check_mark(&mut self, from: Option<&ListMark>, page: &ListPage) -> Result<(), String> {
        self.empty = if page.entries.is_empty() { self.empty + 1 } else { 0 };
        if self.empty > EMPTY_PAGES {
            return Err(format!("it sent {EMPTY_PAGES} empty pages one after the other"));
        }
        let Some(next) = &page.next else { return Ok(()) };
        if from == Some(next) {
            return Err("it goes on where it began, and would never end".to_owned());
        }
        match (from, next) {
            (Some(ListMark::After { key: before, .. }), ListMark::After { key, .. }) if key < before => {
                Err(format!("it goes on at {key}, which lies before {before}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a version of the key at hand comes for the first time, as far as that is remembered.
    fn is_new(&mut self, version: &VersionId) -> bool {
        let hash = xxh3_64(version.as_str().as_bytes());
        if self.versions.len() < MOST_VERSIONS { self.versions.insert(hash) } else { !self.versions.contains(&hash) }
    }

    fn check_entries(&mut self, entries: &[Listed]) -> Result<(), String> {
        for entry in entries {
            if !entry.key.as_bytes().starts_with(self.prefix.as_bytes()) {
                return Err(format!("{} does not begin with {}", entry.key, self.prefix));
            }
            let forward = match &self.last {
                None => self.after.as_ref().is_none_or(|after| entry.key > *after),
                Some(last) if self.all_versions => entry.key >= *last,
                Some(last) => entry.key > *last,
            };
            if !forward {
                let before = self.last.as_ref().or(self.after.as_ref()).unwrap_or(&entry.key);
                return Err(format!("{} comes behind {before}", entry.key));
            }
            if self.last.as_ref() != Some(&entry.key) {
                self.versions.clear();
            }
            if let Some(version) = entry.version.as_ref().filter(|_| self.all_versions)
                && !self.is_new(version)
            {
                return Err(format!("it lists version {} of {} twice", version.as_str(), entry.key));
            }
            self.last = Some(entry.key.clone());
            self.version.clone_from(&entry.version);
        }
        Ok(())
    }
}

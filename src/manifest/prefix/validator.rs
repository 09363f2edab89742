//! Checks that a listing moves forward and ends: a server that repeats itself would be listed forever, and each object
//! would be processed again and again.

use std::collections::HashSet;

use batchplan_store::object::{ObjectKey, VersionId};
use batchplan_store::{ListCursor, ListPage, ListPosition, ListedObject};
use xxhash_rust::xxh3::xxh3_64;

use crate::manifest::cursor::{RangeCursor, RangePosition};

/// The maximum number of consecutive pages without objects: a million delete markers in a row fill a thousand pages.
pub(super) const MAX_EMPTY_PAGES: u32 = 100_000;

/// The maximum number of versions of one key that are remembered, at eight bytes each. Beyond that, only the last
/// version is checked for repetition.
const MAX_VERSIONS: usize = 1 << 17;

/// The position in one range.
#[derive(Clone)]
pub(super) struct ListingValidator {
    prefix: ObjectKey,
    all_versions: bool,
    /// The start of the range: all its keys are greater.
    pub(super) after: Option<ObjectKey>,
    /// The last key that was received.
    pub(super) last: Option<ObjectKey>,
    /// The last version of that key; unknown after a resume.
    last_version: Option<VersionId>,
    /// The hashes of the versions of that key that were received so far.
    seen_versions: HashSet<u64>,
    cursor: ListCursor,
}

impl ListingValidator {
    pub(super) fn new(prefix: ObjectKey, all_versions: bool, mark: &RangeCursor) -> Self {
        Self {
            prefix,
            all_versions,
            after: mark.after.clone(),
            last: mark.last.clone(),
            last_version: None,
            seen_versions: HashSet::new(),
            cursor: ListCursor::new(all_versions, MAX_EMPTY_PAGES),
        }
    }

    /// Returns where a range of an earlier attempt resumes. A range of current versions that started at an invented key
    /// resumes after the last key received, whatever the checkpoint says: earlier releases saved the server's token,
    /// and with that token some servers skip a key.
    pub(super) fn resume_position(mark: &RangeCursor) -> RangePosition {
        match (&mark.position, &mark.after) {
            (RangePosition::ListFrom(Some(ListPosition::Token(_))), Some(after)) => {
                let key = mark.last.as_ref().unwrap_or(after).clone();
                RangePosition::ListFrom(Some(ListPosition::After { key, version: None }))
            }
            (next, _) => next.clone(),
        }
    }

    /// Records a page that was requested from `from`, and removes the entry that it repeats. Returns where the listing
    /// continues. The error says why the page cannot be trusted.
    pub(super) fn accept_page(
        &mut self,
        from: Option<&ListPosition>,
        page: &mut ListPage,
    ) -> Result<Option<ListPosition>, String> {
        self.drop_repeated(from, page)?;
        for entry in &page.entries {
            self.accept_entry(entry)?;
        }
        if let Some((key, version)) = &page.trailing_delete_marker {
            self.advance(key)?;
            self.last_version = Some(version.clone());
        }
        self.cursor.advance(from, page)
    }

    /// Removes the entries that the page repeats from the previous page.
    ///
    /// Some servers start a page with the entry that ended the previous one. If that entry has not been received yet,
    /// the server's marker means the next entry. If that version has been deleted, some servers start its key again.
    fn drop_repeated(&self, from: Option<&ListPosition>, page: &mut ListPage) -> Result<(), String> {
        let Some(ListPosition::After { key, version }) = from else { return Ok(()) };
        if self.last.as_ref() != Some(key) {
            return Ok(());
        }
        let head = page.entries.iter().take_while(|entry| entry.key == *key).count();
        let marked = page.entries[..head].iter().position(|entry| !self.all_versions || entry.version == *version);
        let was_last = self.last_version.is_none() || !self.all_versions || self.last_version == *version;
        match marked {
            Some(0) if was_last => drop(page.entries.remove(0)),
            None if head > 0 => self.drop_seen_versions(head, page)?,
            _ => {}
        }
        Ok(())
    }

    /// Removes the versions at the start of a page that were received before, if something follows them.
    fn drop_seen_versions(&self, head: usize, page: &mut ListPage) -> Result<(), String> {
        let is_remembered =
            |entry: &ListedObject| entry.version.as_ref().is_some_and(|id| self.seen_versions.contains(&hash(id)));
        let again = page.entries[..head].iter().take_while(|entry| is_remembered(entry)).count();
        if again == page.entries.len() && page.next.is_none() {
            return Err(format!("it ends with versions of {} that it listed before", page.entries[0].key));
        }
        page.entries.drain(..again);
        Ok(())
    }

    fn accept_entry(&mut self, entry: &ListedObject) -> Result<(), String> {
        if !entry.key.as_bytes().starts_with(self.prefix.as_bytes()) {
            return Err(format!("{} does not begin with {}", entry.key, self.prefix));
        }
        self.advance(&entry.key)?;
        self.last_version.clone_from(&entry.version);
        match entry.version.as_ref().filter(|_| self.all_versions) {
            Some(version) if !self.is_new(version) => {
                Err(format!("it lists version {} of {} twice", version.as_str(), entry.key))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether a version of the current key is new, as far as versions are remembered.
    fn is_new(&mut self, version: &VersionId) -> bool {
        let hash = hash(version);
        if self.seen_versions.len() < MAX_VERSIONS {
            self.seen_versions.insert(hash)
        } else {
            !self.seen_versions.contains(&hash)
        }
    }

    /// Advances to a key. It must be greater than all earlier keys, or be the same key with another version.
    fn advance(&mut self, key: &ObjectKey) -> Result<(), String> {
        let before = self.last.as_ref().or(self.after.as_ref());
        let is_same = self.last.as_ref() == Some(key);
        match before.filter(|before| key <= *before && !(is_same && self.all_versions)) {
            Some(before) => Err(format!("it went backwards: {key} after {before}")),
            None if is_same => Ok(()),
            None => {
                self.seen_versions.clear();
                self.last = Some(key.clone());
                Ok(())
            }
        }
    }
}

fn hash(version: &VersionId) -> u64 {
    xxh3_64(version.as_str().as_bytes())
}

//! Sees to it that a listing goes forward and ends: a server that repeats itself would be listed for ever, and each
//! object worked on again and again.

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64;

use crate::manifest::draft::{Next, RangeMark};
use crate::object::{Key, VersionId};
use crate::store::{ListCursor, ListMark, ListPage, Listed};

/// Pages without any object that are borne one behind the other: a million delete markers in a row make a thousand.
pub(super) const EMPTY_PAGES: u32 = 100_000;

/// Versions of one key that are remembered, eight bytes each: more of them are looked over for the last one only.
const MOST_VERSIONS: usize = 1 << 17;

/// The way through one range.
#[derive(Clone)]
pub(super) struct Walk {
    prefix: Key,
    all_versions: bool,
    /// Where the range begins: no key of it is this one, or smaller.
    pub(super) after: Option<Key>,
    /// The last key that was received.
    pub(super) last: Option<Key>,
    /// Which version of it came last; not known where the listing goes on from an earlier attempt.
    version: Option<VersionId>,
    /// Hashes of the versions of it that came so far.
    versions: HashSet<u64>,
    cursor: ListCursor,
}

impl Walk {
    /// Continues a range.
    pub(super) fn new(prefix: Key, all_versions: bool, mark: &RangeMark) -> Self {
        Self {
            prefix,
            all_versions,
            after: mark.after.clone(),
            last: mark.last.clone(),
            version: None,
            versions: HashSet::new(),
            cursor: ListCursor::new(all_versions, EMPTY_PAGES),
        }
    }

    /// Where a range is continued that an earlier attempt left. One of current versions that began at an invented key
    /// continues after the last key received, whatever is written down: earlier releases wrote the server's token there,
    /// which leaves a key out on some servers.
    pub(super) fn resumed(mark: &RangeMark) -> Next {
        match (&mark.next, &mark.after) {
            (Next::List(Some(ListMark::Token(_))), Some(after)) => {
                let key = mark.last.as_ref().unwrap_or(after).clone();
                Next::List(Some(ListMark::After { key, version: None }))
            }
            (next, _) => next.clone(),
        }
    }

    /// Takes a page in that was asked for from there, without the entry that it repeats. Gives where the listing
    /// continues, or says why the page cannot be trusted.
    pub(super) fn take(&mut self, from: Option<&ListMark>, page: &mut ListPage) -> Result<Option<ListMark>, String> {
        self.drop_repeated(from, page)?;
        for entry in &page.entries {
            self.receive(entry)?;
        }
        if let Some((key, version)) = &page.deleted_last {
            self.advance(key)?;
            self.version = Some(version.clone());
        }
        self.cursor.follow(from, page)
    }

    /// Takes out what a page repeats of the page before.
    ///
    /// Some servers begin a page with the entry that ended the page before. Where that has not been seen yet, the server
    /// means by its marker what comes next. And where that version is gone by now, some servers begin its key again.
    fn drop_repeated(&self, from: Option<&ListMark>, page: &mut ListPage) -> Result<(), String> {
        let Some(ListMark::After { key, version }) = from else { return Ok(()) };
        if self.last.as_ref() != Some(key) {
            return Ok(());
        }
        let head = page.entries.iter().take_while(|entry| entry.key == *key).count();
        let marked = page.entries[..head].iter().position(|entry| !self.all_versions || entry.version == *version);
        let was_last = self.version.is_none() || !self.all_versions || self.version == *version;
        match marked {
            Some(0) if was_last => drop(page.entries.remove(0)),
            None if head > 0 => self.drop_remembered(head, page)?,
            _ => {}
        }
        Ok(())
    }

    /// Takes out the versions at the head of a page that were received before, where there is something behind them.
    fn drop_remembered(&self, head: usize, page: &mut ListPage) -> Result<(), String> {
        let is_remembered = |entry: &Listed| entry.version.as_ref().is_some_and(|id| self.versions.contains(&hash(id)));
        let again = page.entries[..head].iter().take_while(|entry| is_remembered(entry)).count();
        if again == page.entries.len() && page.next.is_none() {
            return Err(format!("it ends with versions of {} that it has named before", page.entries[0].key));
        }
        page.entries.drain(..again);
        Ok(())
    }

    fn receive(&mut self, entry: &Listed) -> Result<(), String> {
        if !entry.key.as_bytes().starts_with(self.prefix.as_bytes()) {
            return Err(format!("{} does not begin with {}", entry.key, self.prefix));
        }
        self.advance(&entry.key)?;
        self.version.clone_from(&entry.version);
        match entry.version.as_ref().filter(|_| self.all_versions) {
            Some(version) if !self.is_new(version) => {
                Err(format!("it names version {} of {} twice", version.as_str(), entry.key))
            }
            _ => Ok(()),
        }
    }

    /// Whether a version of the key at hand comes for the first time, as far as that is remembered.
    fn is_new(&mut self, version: &VersionId) -> bool {
        let hash = hash(version);
        if self.versions.len() < MOST_VERSIONS { self.versions.insert(hash) } else { !self.versions.contains(&hash) }
    }

    /// Goes on to a key, which must be greater than all before, or have more versions.
    fn advance(&mut self, key: &Key) -> Result<(), String> {
        let before = self.last.as_ref().or(self.after.as_ref());
        let is_same = self.last.as_ref() == Some(key);
        match before.filter(|before| key <= *before && !(is_same && self.all_versions)) {
            Some(before) => Err(format!("{key} comes behind {before}")),
            None if is_same => Ok(()),
            None => {
                self.versions.clear();
                self.last = Some(key.clone());
                Ok(())
            }
        }
    }
}

fn hash(version: &VersionId) -> u64 {
    xxh3_64(version.as_str().as_bytes())
}

//! The ranges of a listing: the progress of each, which one to split next, and which entries of a page belong to it.

use std::collections::HashSet;

use batchplan_store::object::{ObjectKey, VersionId};
use batchplan_store::{ListCursor, ListPage, ListPosition, ListedObject};
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use super::concurrency::ListingConcurrency;
use super::consumer::ListingMessage;
use super::split_point::{KeyAlphabet, shared_prefix_len};
use crate::manifest::cursor::{PartitionId, RangeCursor, RangePosition};

/// The maximum number of ranges. A listing that has reached it is not split further.
const MAX_RANGES: usize = 2048;

/// A range is not split if it probably has less than this share of the whole listing left. This limits even a very long
/// listing to hundreds of ranges.
const SMALLEST_SHARE: f64 = 1.0 / 512.0;

/// The maximum number of consecutive pages without objects: a million delete markers in a row fill a thousand pages.
pub(super) const MAX_EMPTY_PAGES: u32 = 100_000;

/// The maximum number of versions of one key that are remembered, at eight bytes each. Beyond that, only the last
/// version is checked for repetition.
const MAX_VERSIONS: usize = 1 << 17;

/// All ranges, in key order.
pub(super) struct ListingRanges {
    all: Vec<ListingRange>,
    prefix: ObjectKey,
    all_versions: bool,
    concurrency: ListingConcurrency,
    alphabet: KeyAlphabet,
    pages: u64,
    split_attempts: u64,
    /// Whether the server has been seen to ignore or reject a requested start.
    splitting_disabled: bool,
    /// Which method of guessing last succeeded: the keys of a bucket are similar, so it is tried first.
    middle_first: bool,
}

struct ListingRange {
    partition: PartitionId,
    until: Option<ObjectKey>,
    validator: ListingValidator,
    position: RangePosition,
    /// Whether its next page is being requested.
    in_flight: bool,
    /// Signals that its last page was consumed; `None` before the first page.
    consumed: Option<oneshot::Receiver<()>>,
    /// Whether `position` comes from an earlier attempt.
    resumed: bool,
    /// The first key that was listed.
    first: Option<ObjectKey>,
    /// The range has no key between this one and its end.
    empty_after: Option<ObjectKey>,
    /// The number of bytes that all keys of the last page share.
    shared_bytes: usize,
    pages: u32,
    /// The number of pages since the last attempt to split it.
    pages_since_attempt: u32,
    /// The number of split points with nothing after them, since the last successful one.
    misses: u32,
    /// The split point that is being probed.
    probing: Option<ObjectKey>,
}

/// A page to request.
pub(super) struct PageRequest {
    /// The range that it belongs to.
    pub(super) partition: PartitionId,
    /// Where the page starts.
    pub(super) from: Option<ListPosition>,
    /// The alternative start, if the server rejects `from`.
    pub(super) fallback: Option<RangePosition>,
    /// Signals that the previous page was consumed: each range has at most one page waiting in memory.
    pub(super) previous_consumed: Option<oneshot::Receiver<()>>,
}

/// The result of a probe.
pub(super) enum ProbeOutcome {
    /// The range is not split.
    NotSplit,
    /// The part after the split point is a new range.
    Split {
        /// The split point.
        at: ObjectKey,
        /// The first page after it.
        message: ListingMessage,
    },
    /// The server cannot start a listing at a key; contains the reason.
    Unsupported(String),
}

impl ListingRanges {
    /// Creates the ranges at these positions.
    pub(super) fn new(
        prefix: ObjectKey,
        all_versions: bool,
        cursors: &[RangeCursor],
        spread: ListingConcurrency,
    ) -> Self {
        let mut alphabet = KeyAlphabet::new(&prefix);
        cursors.iter().filter_map(|cursor| cursor.last.as_ref()).for_each(|last| alphabet.record(last));
        let mut ranges = Self {
            all: Vec::new(),
            prefix,
            all_versions,
            concurrency: spread,
            alphabet,
            pages: 0,
            split_attempts: 0,
            splitting_disabled: false,
            middle_first: true,
        };
        ranges.all = cursors.iter().map(|cursor| ranges.new_range(cursor, true)).collect();
        ranges
    }

    fn new_range(&self, cursor: &RangeCursor, resumed: bool) -> ListingRange {
        ListingRange {
            partition: cursor.partition,
            until: cursor.until.clone(),
            validator: ListingValidator::new(self.prefix.clone(), self.all_versions, cursor),
            position: if resumed { ListingValidator::resume_position(cursor) } else { cursor.position.clone() },
            in_flight: false,
            consumed: None,
            resumed,
            first: None,
            empty_after: None,
            shared_bytes: 0,
            pages: 0,
            pages_since_attempt: 0,
            misses: 0,
            probing: None,
        }
    }

    pub(super) fn all_versions(&self) -> bool {
        self.all_versions
    }

    /// Starts over with a single range that is never split.
    pub(super) fn restart(&mut self) {
        self.splitting_disabled = true;
        self.all = vec![self.new_range(&RangeCursor::unstarted(), false)];
    }

    /// Returns the request for the next page of a range that has none in flight.
    pub(super) fn next_request(&mut self) -> Option<PageRequest> {
        let range = self.all.iter_mut().find(|range| !range.in_flight && range.position != RangePosition::Finished)?;
        let RangePosition::ListFrom(from) = range.position.clone() else { return None };
        range.in_flight = true;
        let is_token = matches!(from, Some(ListPosition::Token(_)));
        let otherwise = (range.resumed && is_token).then(|| {
            let behind = range.validator.last.clone().or_else(|| range.validator.after.clone());
            RangePosition::ListFrom(behind.map(|key| ListPosition::After { key, version: None }))
        });
        Some(PageRequest {
            partition: range.partition,
            from,
            fallback: otherwise,
            previous_consumed: range.consumed.take(),
        })
    }

    /// Records a page of a range. Returns the message for the consumer.
    pub(super) fn record_page(
        &mut self,
        partition: PartitionId,
        from: Option<&ListPosition>,
        mut page: ListPage,
    ) -> Result<ListingMessage, String> {
        self.pages += 1;
        let all_versions = self.all_versions;
        let Some(range) = self.all.iter_mut().find(|range| range.partition == partition) else {
            return Err("the server sent a page that was not requested".to_owned());
        };
        (range.in_flight, range.resumed) = (false, false);
        let next = range.validator.accept_page(from, &mut page)?;
        Ok(range.advance(page, next, all_versions, &mut self.alphabet))
    }

    /// Returns whether a range that starts at an invented key has received nothing yet: the server may be unable to
    /// start there.
    pub(super) fn is_unproven(&self, partition: PartitionId) -> bool {
        let range = self.all.iter().find(|range| range.partition == partition);
        range.is_some_and(|range| range.validator.after.is_some() && range.first.is_none())
    }

    /// Returns the range that benefits most from a split, and the split point to probe, if an attempt is due.
    pub(super) fn next_split(&mut self) -> Option<(PartitionId, ObjectKey)> {
        let due = self.pages / self.concurrency.pages_per_split.max(1);
        if self.splitting_disabled
            || self.split_attempts >= due
            || self.all.len() >= MAX_RANGES
            || self.concurrency.workers < 2
        {
            return None;
        }
        let least = (to_f64(self.pages) * SMALLEST_SHARE).max(f64::from(self.concurrency.min_pages_left));
        let left = |range: &ListingRange| range.pages_left(&self.alphabet);
        let candidates =
            self.all.iter().filter(|range| range.may_be_split()).map(|range| (range.partition, left(range)));
        let mut candidates: Vec<_> = candidates.filter(|(_, left)| *left >= least).collect();
        candidates.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        candidates.into_iter().find_map(|(partition, _)| {
            let range = self.all.iter_mut().find(|range| range.partition == partition)?;
            range.pages_since_attempt = 0;
            let end = range.empty_after.as_ref().or(range.until.as_ref());
            let middle = range.misses.is_multiple_of(2) == self.middle_first;
            let at = self.alphabet.split_point(range.validator.last.as_ref()?, end, range.shared_bytes, middle)?;
            self.record_attempt(partition, at.clone());
            Some((partition, at))
        })
    }

    /// Records that a split point is being probed.
    fn record_attempt(&mut self, partition: PartitionId, at: ObjectKey) {
        self.split_attempts += 1;
        if let Some(range) = self.all.iter_mut().find(|range| range.partition == partition) {
            range.probing = Some(at);
        }
    }

    /// Records that the server rejected a probe. No further probes are sent.
    pub(super) fn probe_rejected(&mut self, partition: PartitionId) {
        self.splitting_disabled = true;
        self.probe_failed(partition);
    }

    /// Records that a probe gave no result.
    pub(super) fn probe_failed(&mut self, partition: PartitionId) {
        if let Some(range) = self.all.iter_mut().find(|range| range.partition == partition) {
            range.probing = None;
        }
    }

    /// Records the first page after a split point.
    pub(super) fn record_probe(&mut self, partition: PartitionId, mut page: ListPage) -> ProbeOutcome {
        self.pages += 1;
        let new = PartitionId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        let Some(place) = self.all.iter().position(|range| range.partition == partition) else {
            return ProbeOutcome::NotSplit;
        };
        let Some(at) = self.all[place].probing.take() else { return ProbeOutcome::NotSplit };
        let from = ListPosition::After { key: at.clone(), version: None };
        let next = RangePosition::ListFrom(Some(from.clone()));
        let until = self.all[place].until.clone();
        let cursor = RangeCursor { partition: new, after: Some(at.clone()), until, last: None, position: next };
        let mut behind = self.new_range(&cursor, false);
        let next = match behind.validator.accept_page(Some(&from), &mut page) {
            Ok(next) => next,
            Err(why) => {
                self.splitting_disabled = true;
                return ProbeOutcome::Unsupported(why);
            }
        };
        let range = &mut self.all[place];
        let ends = next.is_none() || page.entries.last().is_some_and(|last| !behind.contains(&last.key));
        let has_none = page.entries.first().is_none_or(|first| !behind.contains(&first.key));
        // A page without objects may consist of delete markers only: what follows is unknown.
        if has_none && ends {
            range.misses += 1;
            range.empty_after = Some(at);
            return ProbeOutcome::NotSplit;
        }
        // In the meantime the range may have been listed beyond the split point.
        if range.position == RangePosition::Finished || range.validator.last.as_ref().is_some_and(|last| *last > at) {
            return ProbeOutcome::NotSplit;
        }
        self.middle_first ^= !range.misses.is_multiple_of(2);
        range.misses = 0;
        behind.empty_after = range.empty_after.take();
        range.until = Some(at.clone());
        let message = behind.advance(page, next, self.all_versions, &mut self.alphabet);
        self.all.insert(place + 1, behind);
        ProbeOutcome::Split { at, message }
    }
}

impl ListingRange {
    fn contains(&self, key: &ObjectKey) -> bool {
        self.until.as_ref().is_none_or(|until| key <= until)
    }

    fn may_be_split(&self) -> bool {
        self.position != RangePosition::Finished
            && self.probing.is_none()
            && self.pages_since_attempt > 0
            && self.first.is_some()
    }

    /// Estimates the number of pages left: extrapolated from the share of the key range that is listed, but at least
    /// half the number of pages since the last attempt, because a listing that has been long is likely to stay long.
    fn pages_left(&self, alphabet: &KeyAlphabet) -> f64 {
        let half = f64::from(self.pages_since_attempt) / 2.0;
        let (Some(first), Some(last)) = (&self.first, &self.validator.last) else { return half };
        let end = self.empty_after.as_ref().or(self.until.as_ref());
        (f64::from(self.pages) * alphabet.remaining_ratio(first, last, end)).max(half)
    }

    /// Moves the range forward by a page that has been checked.
    fn advance(
        &mut self,
        page: ListPage,
        next: Option<ListPosition>,
        all_versions: bool,
        alphabet: &mut KeyAlphabet,
    ) -> ListingMessage {
        self.pages += 1;
        self.pages_since_attempt += 1;
        let mut entries = page.entries;
        self.record_keys(&entries, alphabet);
        // The whole page is checked first; only then are the entries of the next range removed.
        let inside = entries.partition_point(|entry| self.contains(&entry.key));
        let beyond = inside < entries.len();
        entries.truncate(inside);
        self.position = match next {
            Some(next) if !beyond && !self.is_past_end(&next) => RangePosition::ListFrom(Some(next)),
            _ => RangePosition::Finished,
        };
        if !all_versions {
            // Some servers name the current version. The plan means the version that is current when the object is
            // processed.
            for entry in &mut entries {
                entry.version = None;
            }
        }
        if let Some(last) = entries.last().filter(|_| beyond) {
            self.validator.last = Some(last.key.clone());
        }
        let (taken, receiver) = oneshot::channel();
        self.consumed = Some(receiver);
        ListingMessage::Page {
            partition: self.partition,
            entries,
            last: self.validator.last.clone(),
            next: self.position.clone(),
            consumed: taken,
        }
    }

    /// Returns whether a page that starts there has no entry of the range, so that it is at its end even if this page
    /// ended with delete markers.
    fn is_past_end(&self, next: &ListPosition) -> bool {
        match (next, &self.until) {
            (ListPosition::After { key, .. }, Some(until)) => key > until,
            _ => false,
        }
    }

    fn record_keys(&mut self, entries: &[ListedObject], alphabet: &mut KeyAlphabet) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        self.shared_bytes = shared_prefix_len(first.key.as_bytes(), last.key.as_bytes());
        self.first.get_or_insert_with(|| first.key.clone());
        entries.iter().step_by(KEY_SAMPLING).for_each(|entry| alphabet.record(&entry.key));
        alphabet.record(&last.key);
    }
}

/// One key out of this number is added to the alphabet.
const KEY_SAMPLING: usize = 16;

fn to_f64(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

/// Checks that the listing of a range moves forward and ends: a server that repeats itself would be listed forever, and
/// each object would be processed again and again.
#[derive(Clone)]
pub(super) struct ListingValidator {
    prefix: ObjectKey,
    all_versions: bool,
    /// The start of the range: all its keys are greater.
    after: Option<ObjectKey>,
    /// The last key that was received.
    last: Option<ObjectKey>,
    /// The last version of that key; unknown after a resume.
    last_version: Option<VersionId>,
    /// The hashes of the versions of that key that were received so far.
    seen_versions: HashSet<u64>,
    cursor: ListCursor,
}

impl ListingValidator {
    pub(super) fn new(prefix: ObjectKey, all_versions: bool, cursor: &RangeCursor) -> Self {
        Self {
            prefix,
            all_versions,
            after: cursor.after.clone(),
            last: cursor.last.clone(),
            last_version: None,
            seen_versions: HashSet::new(),
            cursor: ListCursor::new(all_versions, MAX_EMPTY_PAGES),
        }
    }

    /// Returns where a range of an earlier attempt resumes. A range of current versions that started at an invented key
    /// resumes after the last key received, whatever the checkpoint says: earlier releases saved the server's token,
    /// and with that token some servers skip a key.
    pub(super) fn resume_position(cursor: &RangeCursor) -> RangePosition {
        match (&cursor.position, &cursor.after) {
            (RangePosition::ListFrom(Some(ListPosition::Token(_))), Some(after)) => {
                let key = cursor.last.as_ref().unwrap_or(after).clone();
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

#[cfg(test)]
mod tests;

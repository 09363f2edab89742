//! The ranges of a listing: the progress of each, which one to split next, and which entries of a page belong to it.

use batchplan_store::object::ObjectKey;
use batchplan_store::{ListPage, ListPosition, ListedObject};
use tokio::sync::oneshot;

use super::concurrency::ListingConcurrency;
use super::consumer::ListingMessage;
use super::split_point::{KeyAlphabet, shared_prefix_len};
use super::validator::ListingValidator;
use crate::manifest::cursor::{PartitionId, RangeCursor, RangePosition};

/// The maximum number of ranges. A listing that has reached it is not split further.
const MAX_RANGES: usize = 2048;

/// A range is not split if it probably has less than this share of the whole listing left. This limits even a very long
/// listing to hundreds of ranges.
const SMALLEST_SHARE: f64 = 1.0 / 512.0;

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
        marks: &[RangeCursor],
        spread: ListingConcurrency,
    ) -> Self {
        let mut alphabet = KeyAlphabet::new(&prefix);
        marks.iter().filter_map(|mark| mark.last.as_ref()).for_each(|last| alphabet.record(last));
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
        ranges.all = marks.iter().map(|mark| ranges.new_range(mark, true)).collect();
        ranges
    }

    fn new_range(&self, mark: &RangeCursor, resumed: bool) -> ListingRange {
        ListingRange {
            partition: mark.partition,
            until: mark.until.clone(),
            validator: ListingValidator::new(self.prefix.clone(), self.all_versions, mark),
            position: if resumed { ListingValidator::resume_position(mark) } else { mark.position.clone() },
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
        lane: PartitionId,
        from: Option<&ListPosition>,
        mut page: ListPage,
    ) -> Result<ListingMessage, String> {
        self.pages += 1;
        let all_versions = self.all_versions;
        let Some(range) = self.all.iter_mut().find(|range| range.partition == lane) else {
            return Err("the server sent a page that was not requested".to_owned());
        };
        (range.in_flight, range.resumed) = (false, false);
        let next = range.validator.accept_page(from, &mut page)?;
        Ok(range.advance(page, next, all_versions, &mut self.alphabet))
    }

    /// Returns whether a range that starts at an invented key has received nothing yet: the server may be unable to
    /// start there.
    pub(super) fn is_unproven(&self, lane: PartitionId) -> bool {
        let range = self.all.iter().find(|range| range.partition == lane);
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
        candidates.into_iter().find_map(|(lane, _)| {
            let range = self.all.iter_mut().find(|range| range.partition == lane)?;
            range.pages_since_attempt = 0;
            let end = range.empty_after.as_ref().or(range.until.as_ref());
            let middle = range.misses.is_multiple_of(2) == self.middle_first;
            let at = self.alphabet.split_point(range.validator.last.as_ref()?, end, range.shared_bytes, middle)?;
            self.record_attempt(lane, at.clone());
            Some((lane, at))
        })
    }

    /// Records that a split point is being probed.
    fn record_attempt(&mut self, lane: PartitionId, at: ObjectKey) {
        self.split_attempts += 1;
        if let Some(range) = self.all.iter_mut().find(|range| range.partition == lane) {
            range.probing = Some(at);
        }
    }

    /// Records that the server rejected a probe. No further probes are sent.
    pub(super) fn probe_rejected(&mut self, lane: PartitionId) {
        self.splitting_disabled = true;
        self.probe_failed(lane);
    }

    /// Records that a probe gave no result.
    pub(super) fn probe_failed(&mut self, lane: PartitionId) {
        if let Some(range) = self.all.iter_mut().find(|range| range.partition == lane) {
            range.probing = None;
        }
    }

    /// Records the first page after a split point.
    pub(super) fn record_probe(&mut self, lane: PartitionId, mut page: ListPage) -> ProbeOutcome {
        self.pages += 1;
        let new = PartitionId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        let Some(place) = self.all.iter().position(|range| range.partition == lane) else {
            return ProbeOutcome::NotSplit;
        };
        let Some(at) = self.all[place].probing.take() else { return ProbeOutcome::NotSplit };
        let from = ListPosition::After { key: at.clone(), version: None };
        let next = RangePosition::ListFrom(Some(from.clone()));
        let until = self.all[place].until.clone();
        let mark = RangeCursor { partition: new, after: Some(at.clone()), until, last: None, position: next };
        let mut behind = self.new_range(&mark, false);
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

#[cfg(test)]
mod tests;

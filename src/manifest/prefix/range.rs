//! The ranges of a listing: the progress of each, which one to split next, and which entries of a page belong to it.

use tokio::sync::oneshot;

use super::Spread;
use super::cut::{Alphabet, common};
use super::take::Message;
use super::walk::Walk;
use crate::manifest::draft::{Next, RangeMark};
use crate::manifest::part::Lane;
use crate::object::Key;
use crate::store::{ListMark, ListPage, Listed};

/// The maximum number of ranges. A listing that has reached it is not split further.
const MAX_RANGES: usize = 2048;

/// A range is not split if it probably has less than this share of the whole listing left. This limits even a very long
/// listing to hundreds of ranges.
const SMALLEST_SHARE: f64 = 1.0 / 512.0;

/// All ranges, in key order.
pub(super) struct Ranges {
    all: Vec<Range>,
    prefix: Key,
    all_versions: bool,
    spread: Spread,
    alphabet: Alphabet,
    pages: u64,
    cuts: u64,
    /// Whether the server has been seen to ignore or reject a requested start.
    alone: bool,
    /// Which method of guessing last succeeded: the keys of a bucket are similar, so it is tried first.
    middle_first: bool,
}

struct Range {
    lane: Lane,
    until: Option<Key>,
    walk: Walk,
    next: Next,
    /// Whether its next page is being requested.
    asked: bool,
    /// Signals that its last page was consumed; `None` before the first page.
    taken: Option<oneshot::Receiver<()>>,
    /// Whether `next` comes from an earlier attempt.
    resumed: bool,
    /// The first key that was listed.
    first: Option<Key>,
    /// The range has no key between this one and its end.
    bare: Option<Key>,
    /// The number of bytes that all keys of the last page share.
    turn: usize,
    pages: u32,
    /// The number of pages since the last attempt to split it.
    fresh: u32,
    /// The number of split points with nothing after them, since the last successful one.
    misses: u32,
    /// The split point that is being probed.
    cut: Option<Key>,
}

/// A page to request.
pub(super) struct Wanted {
    /// The range that it belongs to.
    pub(super) lane: Lane,
    /// Where the page starts.
    pub(super) from: Option<ListMark>,
    /// The alternative start, if the server rejects `from`.
    pub(super) otherwise: Option<Next>,
    /// Signals that the previous page was consumed: each range has at most one page waiting in memory.
    pub(super) taken: Option<oneshot::Receiver<()>>,
}

/// The result of a probe.
pub(super) enum Probed {
    /// The range is not split.
    Vain,
    /// The part after the split point is a new range.
    Cut {
        /// The split point.
        at: Key,
        /// The first page after it.
        message: Message,
    },
    /// The server cannot start a listing at a key; contains the reason.
    Ignored(String),
}

impl RangeMark {
    /// Returns the position of a listing that has not started.
    pub(super) fn whole() -> Self {
        Self { lane: Lane(0), after: None, until: None, last: None, next: Next::List(None) }
    }
}

impl Ranges {
    /// Creates the ranges at these positions.
    pub(super) fn new(prefix: Key, all_versions: bool, marks: &[RangeMark], spread: Spread) -> Self {
        let mut alphabet = Alphabet::new(&prefix);
        marks.iter().filter_map(|mark| mark.last.as_ref()).for_each(|last| alphabet.note(last));
        let mut ranges = Self {
            all: Vec::new(),
            prefix,
            all_versions,
            spread,
            alphabet,
            pages: 0,
            cuts: 0,
            alone: false,
            middle_first: true,
        };
        ranges.all = marks.iter().map(|mark| ranges.range(mark, true)).collect();
        ranges
    }

    fn range(&self, mark: &RangeMark, resumed: bool) -> Range {
        Range {
            lane: mark.lane,
            until: mark.until.clone(),
            walk: Walk::new(self.prefix.clone(), self.all_versions, mark),
            next: if resumed { Walk::resumed(mark) } else { mark.next.clone() },
            asked: false,
            taken: None,
            resumed,
            first: None,
            bare: None,
            turn: 0,
            pages: 0,
            fresh: 0,
            misses: 0,
            cut: None,
        }
    }

    pub(super) fn all_versions(&self) -> bool {
        self.all_versions
    }

    /// Starts over with a single range that is never split.
    pub(super) fn start_over(&mut self) {
        self.alone = true;
        self.all = vec![self.range(&RangeMark::whole(), false)];
    }

    /// Returns the request for the next page of a range that has none in flight.
    pub(super) fn next_waiting(&mut self) -> Option<Wanted> {
        let range = self.all.iter_mut().find(|range| !range.asked && range.next != Next::Done)?;
        let Next::List(from) = range.next.clone() else { return None };
        range.asked = true;
        let is_token = matches!(from, Some(ListMark::Token(_)));
        let otherwise = (range.resumed && is_token).then(|| {
            let behind = range.walk.last.clone().or_else(|| range.walk.after.clone());
            Next::List(behind.map(|key| ListMark::After { key, version: None }))
        });
        Some(Wanted { lane: range.lane, from, otherwise, taken: range.taken.take() })
    }

    /// Records a page of a range. Returns the message for the consumer.
    pub(super) fn take(&mut self, lane: Lane, from: Option<&ListMark>, mut page: ListPage) -> Result<Message, String> {
        self.pages += 1;
        let all_versions = self.all_versions;
        let Some(range) = self.all.iter_mut().find(|range| range.lane == lane) else {
            return Err("it answered what was not asked".to_owned());
        };
        (range.asked, range.resumed) = (false, false);
        let next = range.walk.take(from, &mut page)?;
        Ok(range.advance(page, next, all_versions, &mut self.alphabet))
    }

    /// Returns whether a range that starts at an invented key has received nothing yet: the server may be unable to
    /// start there.
    pub(super) fn is_unproven(&self, lane: Lane) -> bool {
        let range = self.all.iter().find(|range| range.lane == lane);
        range.is_some_and(|range| range.walk.after.is_some() && range.first.is_none())
    }

    /// Returns the range that benefits most from a split, and the split point to probe, if an attempt is due.
    pub(super) fn next_cut(&mut self) -> Option<(Lane, Key)> {
        let due = self.pages / self.spread.pages_a_cut.max(1);
        if self.alone || self.cuts >= due || self.all.len() >= MAX_RANGES || self.spread.workers < 2 {
            return None;
        }
        let least = (pages(self.pages) * SMALLEST_SHARE).max(f64::from(self.spread.least));
        let left = |range: &Range| range.left(&self.alphabet);
        let candidates = self.all.iter().filter(|range| range.may_be_cut()).map(|range| (range.lane, left(range)));
        let mut candidates: Vec<_> = candidates.filter(|(_, left)| *left >= least).collect();
        candidates.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        candidates.into_iter().find_map(|(lane, _)| {
            let range = self.all.iter_mut().find(|range| range.lane == lane)?;
            range.fresh = 0;
            let end = range.bare.as_ref().or(range.until.as_ref());
            let middle = range.misses.is_multiple_of(2) == self.middle_first;
            let at = self.alphabet.cut(range.walk.last.as_ref()?, end, range.turn, middle)?;
            self.try_cut(lane, at.clone());
            Some((lane, at))
        })
    }

    /// Records that a split point is being probed.
    fn try_cut(&mut self, lane: Lane, at: Key) {
        self.cuts += 1;
        if let Some(range) = self.all.iter_mut().find(|range| range.lane == lane) {
            range.cut = Some(at);
        }
    }

    /// Records that the server rejected a probe. No further probes are sent.
    pub(super) fn refused(&mut self, lane: Lane) {
        self.alone = true;
        self.abandoned(lane);
    }

    /// Records that a probe gave no result.
    pub(super) fn abandoned(&mut self, lane: Lane) {
        if let Some(range) = self.all.iter_mut().find(|range| range.lane == lane) {
            range.cut = None;
        }
    }

    /// Records the first page after a split point.
    pub(super) fn probed(&mut self, lane: Lane, mut page: ListPage) -> Probed {
        self.pages += 1;
        let new = Lane(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        let Some(place) = self.all.iter().position(|range| range.lane == lane) else { return Probed::Vain };
        let Some(at) = self.all[place].cut.take() else { return Probed::Vain };
        let from = ListMark::After { key: at.clone(), version: None };
        let next = Next::List(Some(from.clone()));
        let until = self.all[place].until.clone();
        let mark = RangeMark { lane: new, after: Some(at.clone()), until, last: None, next };
        let mut behind = self.range(&mark, false);
        let next = match behind.walk.take(Some(&from), &mut page) {
            Ok(next) => next,
            Err(why) => {
                self.alone = true;
                return Probed::Ignored(why);
            }
        };
        let range = &mut self.all[place];
        let ends = next.is_none() || page.entries.last().is_some_and(|last| !behind.holds(&last.key));
        let has_none = page.entries.first().is_none_or(|first| !behind.holds(&first.key));
        // A page without objects may consist of delete markers only: what follows is unknown.
        if has_none && ends {
            range.misses += 1;
            range.bare = Some(at);
            return Probed::Vain;
        }
        // In the meantime the range may have been listed beyond the split point.
        if range.next == Next::Done || range.walk.last.as_ref().is_some_and(|last| *last > at) {
            return Probed::Vain;
        }
        self.middle_first ^= !range.misses.is_multiple_of(2);
        range.misses = 0;
        behind.bare = range.bare.take();
        range.until = Some(at.clone());
        let message = behind.advance(page, next, self.all_versions, &mut self.alphabet);
        self.all.insert(place + 1, behind);
        Probed::Cut { at, message }
    }
}

impl Range {
    fn holds(&self, key: &Key) -> bool {
        self.until.as_ref().is_none_or(|until| key <= until)
    }

    fn may_be_cut(&self) -> bool {
        self.next != Next::Done && self.cut.is_none() && self.fresh > 0 && self.first.is_some()
    }

    /// Estimates the number of pages left: extrapolated from the share of the key range that is listed, but at least
    /// half the number of pages since the last attempt, because a listing that has been long is likely to stay long.
    fn left(&self, alphabet: &Alphabet) -> f64 {
        let half = f64::from(self.fresh) / 2.0;
        let (Some(first), Some(last)) = (&self.first, &self.walk.last) else { return half };
        let end = self.bare.as_ref().or(self.until.as_ref());
        (f64::from(self.pages) * alphabet.to_go(first, last, end)).max(half)
    }

    /// Moves the range forward by a page that has been checked.
    fn advance(
        &mut self,
        page: ListPage,
        next: Option<ListMark>,
        all_versions: bool,
        alphabet: &mut Alphabet,
    ) -> Message {
        self.pages += 1;
        self.fresh += 1;
        let mut entries = page.entries;
        self.look_at(&entries, alphabet);
        // The whole page is checked first; only then are the entries of the next range removed.
        let inside = entries.partition_point(|entry| self.holds(&entry.key));
        let beyond = inside < entries.len();
        entries.truncate(inside);
        self.next = match next {
            Some(next) if !beyond && !self.is_behind_end(&next) => Next::List(Some(next)),
            _ => Next::Done,
        };
        if !all_versions {
            // Some servers name the current version. The plan means the version that is current when the object is
            // processed.
            for entry in &mut entries {
                entry.version = None;
            }
        }
        if let Some(last) = entries.last().filter(|_| beyond) {
            self.walk.last = Some(last.key.clone());
        }
        let (taken, receiver) = oneshot::channel();
        self.taken = Some(receiver);
        Message::Page { lane: self.lane, entries, last: self.walk.last.clone(), next: self.next.clone(), taken }
    }

    /// Returns whether a page that starts there has no entry of the range, so that it is at its end even if this page
    /// ended with delete markers.
    fn is_behind_end(&self, next: &ListMark) -> bool {
        match (next, &self.until) {
            (ListMark::After { key, .. }, Some(until)) => key > until,
            _ => false,
        }
    }

    fn look_at(&mut self, entries: &[Listed], alphabet: &mut Alphabet) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        self.turn = common(first.key.as_bytes(), last.key.as_bytes());
        self.first.get_or_insert_with(|| first.key.clone());
        entries.iter().step_by(SAMPLE).for_each(|entry| alphabet.note(&entry.key));
        alphabet.note(&last.key);
    }
}

/// One key out of this number is added to the alphabet.
const SAMPLE: usize = 16;

fn pages(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests;

//! The ranges of a listing: how far each has come, which is cut next, and what of a page belongs to it.

use std::collections::HashSet;

use tokio::sync::oneshot;

use super::Spread;
use super::cut::{Alphabet, common};
use super::take::Message;
use super::walk::Walk;
use crate::manifest::draft::{Next, RangeMark};
use crate::manifest::part::Lane;
use crate::object::Key;
use crate::store::{ListMark, ListPage, Listed};

/// The most ranges; a listing that has so many goes on with those that are left.
const MAX_RANGES: usize = 2048;

/// A range is not cut where what it has left is thought to be less than this share of all: so there are hundreds of them
/// and not millions, however long a listing is.
const SMALLEST_SHARE: f64 = 1.0 / 512.0;

/// All ranges, in the order of their keys.
pub(super) struct Ranges {
    all: Vec<Range>,
    prefix: Key,
    all_versions: bool,
    spread: Spread,
    alphabet: Alphabet,
    pages: u64,
    cuts: u64,
    /// The server was seen not to begin where it is told to.
    alone: bool,
    /// Which way of guessing found something last: the keys of a bucket are alike, so that it is tried first.
    middle_first: bool,
}

struct Range {
    lane: Lane,
    until: Option<Key>,
    walk: Walk,
    next: Next,
    /// Whether its next page is being asked for.
    asked: bool,
    /// Whether its last page was taken; `None` before there is one.
    taken: Option<oneshot::Receiver<()>>,
    /// Whether `next` is of an earlier attempt.
    resumed: bool,
    /// The first key that was seen.
    first: Option<Key>,
    /// No key of the range lies between this one and its end.
    bare: Option<Key>,
    /// How many bytes all keys of the last page share.
    turn: usize,
    pages: u32,
    /// Pages since a cut was tried.
    fresh: u32,
    /// Cuts with nothing behind them, since the last one with something.
    misses: u32,
    /// The cut that is being tried.
    cut: Option<Key>,
}

/// A page that is to be asked for.
pub(super) struct Wanted {
    /// The range that it is of.
    pub(super) lane: Lane,
    /// Where it begins.
    pub(super) from: Option<ListMark>,
    /// Where it begins if the server does not take that.
    pub(super) otherwise: Option<Next>,
    /// Told when the page before was taken: so much of a range waits in memory, and no more.
    pub(super) taken: Option<oneshot::Receiver<()>>,
}

/// What came of a cut.
pub(super) enum Probed {
    /// Nothing.
    Vain,
    /// What is behind it has a range of its own.
    Cut {
        /// Where.
        at: Key,
        /// The first page behind it.
        message: Message,
    },
    /// The server cannot be asked to begin at a key; why not.
    Ignored(String),
}

impl RangeMark {
    /// A listing that has not begun.
    pub(super) fn whole() -> Self {
        Self { lane: Lane(0), after: None, until: None, last: None, next: Next::List(None) }
    }
}

impl Ranges {
    /// Goes on with these.
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
        let RangeMark { lane, after, until, last, next } = mark.clone();
        let walk = Walk {
            prefix: self.prefix.clone(),
            all_versions: self.all_versions,
            after,
            last,
            version: None,
            versions: HashSet::new(),
            empty: 0,
        };
        Range {
            lane,
            until,
            walk,
            next,
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

    /// Whether every version is listed.
    pub(super) fn all_versions(&self) -> bool {
        self.all_versions
    }

    /// Begins again with one range, which is not cut.
    pub(super) fn start_over(&mut self) {
        self.alone = true;
        self.all = vec![self.range(&RangeMark::whole(), false)];
    }

    /// The next page of a range that nobody is listing.
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

    /// Takes in a page of a range, and says what is to be taken of it.
    pub(super) fn take(&mut self, lane: Lane, from: Option<&ListMark>, mut page: ListPage) -> Result<Message, String> {
        self.pages += 1;
        let all_versions = self.all_versions;
        let Some(range) = self.all.iter_mut().find(|range| range.lane == lane) else {
            return Err("it answered what was not asked".to_owned());
        };
        (range.asked, range.resumed) = (false, false);
        range.walk.drop_repeated(from, &mut page);
        range.walk.check(from, &page)?;
        Ok(range.advance(page, all_versions, &mut self.alphabet))
    }

    /// The range that is best cut now, if there is one and a cut may be tried, and where.
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

    /// Notes that a range is asked what is behind this key.
    fn try_cut(&mut self, lane: Lane, at: Key) {
        self.cuts += 1;
        if let Some(range) = self.all.iter_mut().find(|range| range.lane == lane) {
            range.cut = Some(at);
        }
    }

    /// Takes in that the server would not say what is behind a cut.
    pub(super) fn refused(&mut self) {
        self.alone = true;
    }

    /// Takes in the first page behind a cut.
    pub(super) fn probed(&mut self, lane: Lane, page: ListPage) -> Probed {
        self.pages += 1;
        let new = Lane(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        let Some(place) = self.all.iter().position(|range| range.lane == lane) else { return Probed::Vain };
        let Some(at) = self.all[place].cut.take() else { return Probed::Vain };
        let from = ListMark::After { key: at.clone(), version: None };
        let next = Next::List(Some(from.clone()));
        let until = self.all[place].until.clone();
        let mark = RangeMark { lane: new, after: Some(at.clone()), until, last: None, next };
        let mut behind = self.range(&mark, false);
        if let Err(why) = behind.walk.check(Some(&from), &page) {
            self.alone = true;
            return Probed::Ignored(why);
        }
        let range = &mut self.all[place];
        let ends = page.next.is_none() || page.entries.last().is_some_and(|last| !behind.holds(&last.key));
        let has_none = page.entries.first().is_none_or(|first| !behind.holds(&first.key));
        // A page without any object may be one of delete markers alone: nothing is known of what follows.
        if has_none && ends {
            range.misses += 1;
            range.bare = Some(at);
            return Probed::Vain;
        }
        // By now the range may have been listed beyond the cut itself.
        if range.next == Next::Done || range.walk.last.as_ref().is_some_and(|last| *last > at) {
            return Probed::Vain;
        }
        self.middle_first ^= !range.misses.is_multiple_of(2);
        range.misses = 0;
        behind.bare = range.bare.take();
        range.until = Some(at.clone());
        let message = behind.advance(page, self.all_versions, &mut self.alphabet);
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

    /// How many pages it is thought to have left: as many as the share of its keys that is left would make at the pace so
    /// far, or half as many as it has sent since that was asked last, because what has gone on for long goes on.
    fn left(&self, alphabet: &Alphabet) -> f64 {
        let half = f64::from(self.fresh) / 2.0;
        let (Some(first), Some(last)) = (&self.first, &self.walk.last) else { return half };
        let end = self.bare.as_ref().or(self.until.as_ref());
        (f64::from(self.pages) * alphabet.to_go(first, last, end)).max(half)
    }

    /// Goes on behind a page that was checked.
    fn advance(&mut self, page: ListPage, all_versions: bool, alphabet: &mut Alphabet) -> Message {
        self.pages += 1;
        self.fresh += 1;
        let ListPage { mut entries, next, .. } = page;
        self.look_at(&entries, alphabet);
        // Everything of a page is checked, and only then is left out what the next range has.
        let inside = entries.partition_point(|entry| self.holds(&entry.key));
        let beyond = inside < entries.len();
        entries.truncate(inside);
        self.next = match next {
            Some(next) if !beyond && !self.is_behind_end(&next) => Next::List(Some(next)),
            _ => Next::Done,
        };
        if !all_versions {
            // Some servers name the current version; the plan means whichever is current when its turn comes.
            for entry in &mut entries {
                entry.version = None;
            }
        }
        if let Some(last) = entries.last() {
            self.walk.last = Some(last.key.clone());
        }
        let (taken, receiver) = oneshot::channel();
        self.taken = Some(receiver);
        Message::Page { lane: self.lane, entries, last: self.walk.last.clone(), next: self.next.clone(), taken }
    }

    /// Whether a page that begins there has nothing of the range: delete markers alone may lie before.
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

/// One key in so many is looked at for its bytes.
const SAMPLE: usize = 16;

fn pages(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests;

//! Tracks which rows of the manifest snapshot are settled. Its size depends on the rows in flight, not on the size of
//! the job.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::task::Seq;

/// The settled rows: for each part a low mark, below which all rows are settled, and the settled rows above it.
#[derive(Clone, Debug, Default)]
pub struct Frontier {
    parts: BTreeMap<u32, PartFrontier>,
    above: usize,
    changed: BTreeSet<u32>,
}

/// Compares the settled rows only, not which parts have changed.
impl PartialEq for Frontier {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for Frontier {}

/// The settled rows of one part, as they are saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartMark {
    /// The number of the manifest part.
    pub part: u32,
    /// A row number, a multiple of 64. All rows below it are settled.
    pub low: u32,
    /// One bit for each row from `low` on, 64 rows per word, the first in the lowest bit: 1 if the row is settled.
    pub above: Vec<u64>,
}

impl PartMark {
    /// Returns whether this can come from a frontier: `low` is at the start of a word, and the row numbers do not
    /// overflow.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let words = u64::from(self.low / 64) + self.above.len() as u64;
        self.low.is_multiple_of(64) && words < u64::from(u32::MAX / 64)
    }
}

impl Frontier {
    /// Records that a row is settled, that is, has an outcome. Recording it again has no effect.
    pub fn settle(&mut self, seq: Seq) {
        let part = self.parts.entry(seq.part).or_default();
        self.above -= part.above;
        part.settle(seq.row);
        self.above += part.above;
        self.changed.insert(seq.part);
    }

    /// Restores a frontier from its saved parts. If a part occurs more than once, the last one counts.
    #[must_use]
    pub fn of(marks: impl IntoIterator<Item = PartMark>) -> Self {
        let parts: BTreeMap<_, _> = marks.into_iter().map(|mark| (mark.part, PartFrontier::of(mark))).collect();
        let above = parts.values().map(|part| part.above).sum();
        Self { parts, above, changed: BTreeSet::new() }
    }

    /// Returns the parts that have changed since the last call.
    pub fn take_changes(&mut self) -> Vec<PartMark> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|part| Some(self.parts.get(&part)?.mark(part))).collect()
    }

    /// Marks these parts as changed again, because they could not be saved.
    pub fn put_back(&mut self, parts: impl IntoIterator<Item = u32>) {
        self.changed.extend(parts);
    }

    /// Returns whether a row is settled.
    #[must_use]
    pub fn is_settled(&self, seq: Seq) -> bool {
        self.parts.get(&seq.part).is_some_and(|part| part.is_settled(seq.row))
    }

    /// Returns the number of settled rows.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.parts.values().map(PartFrontier::settled).sum()
    }

    /// Returns the number of the first row of a part that is not settled.
    #[must_use]
    pub fn low(&self, part: u32) -> u32 {
        self.parts.get(&part).map_or(0, PartFrontier::low)
    }

    /// Returns the number of settled rows above the low marks. It grows when one object is slow and the others are not.
    #[must_use]
    pub fn above(&self) -> usize {
        self.above
    }
}

/// The settled rows of one part, as a bitmap. Full words are dropped from its front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PartFrontier {
    /// The number of full words that were dropped from the front.
    dropped: u32,
    words: VecDeque<u64>,
    /// The number of settled rows above the low mark.
    above: usize,
}

impl PartFrontier {
    fn of(mark: PartMark) -> Self {
        let mut part = Self { dropped: mark.low / 64, words: mark.above.into(), above: 0 };
        part.drop_full();
        let settled: u32 = part.words.iter().map(|word| word.count_ones()).sum();
        part.above = (settled - part.words.front().map_or(0, |word| word.trailing_ones())) as usize;
        part
    }

    fn mark(&self, part: u32) -> PartMark {
        PartMark { part, low: self.dropped * 64, above: self.words.iter().copied().collect() }
    }

    fn settled(&self) -> u64 {
        let above: u64 = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        u64::from(self.dropped) * 64 + above
    }

    fn drop_full(&mut self) {
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.dropped += 1;
        }
    }

    fn settle(&mut self, row: u32) {
        let Some(index) = (row / 64).checked_sub(self.dropped) else { return };
        let index = index as usize;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        let bit = 1u64 << (row % 64);
        if self.words[index] & bit != 0 {
            return;
        }
        let low = self.low();
        self.words[index] |= bit;
        self.above += 1;
        self.drop_full();
        self.above -= (self.low() - low) as usize;
    }

    fn is_settled(&self, row: u32) -> bool {
        match (row / 64).checked_sub(self.dropped) {
            None => true,
            Some(index) => self.words.get(index as usize).is_some_and(|word| word & (1 << (row % 64)) != 0),
        }
    }

    fn low(&self) -> u32 {
        self.dropped * 64 + self.words.front().map_or(0, |word| word.trailing_ones())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn in_order_it_holds_nothing_but_the_mark() {
        let mut frontier = Frontier::default();
        for row in 0..10_000 {
            frontier.settle(Seq { part: 0, row });
            assert_eq!(frontier.above(), 0);
        }
        assert_eq!(frontier.low(0), 10_000);
        assert!(frontier.parts[&0].words.len() <= 1);
    }

    #[test]
    fn one_slow_row_keeps_the_mark_and_counts_what_passed_it() {
        let mut frontier = Frontier::default();
        (1..=500).for_each(|row| frontier.settle(Seq { part: 2, row }));
        assert_eq!((frontier.low(2), frontier.above()), (0, 500));
        frontier.settle(Seq { part: 2, row: 0 });
        assert_eq!((frontier.low(2), frontier.above()), (501, 0));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(rows in prop::collection::vec((0u32..3, 0u32..300), 0..800)) {
            let mut frontier = Frontier::default();
            let mut model = BTreeSet::new();
            for (part, row) in rows {
                frontier.settle(Seq { part, row });
                model.insert((part, row));
            }
            let mut above = 0;
            for part in 0..3 {
                let low = (0..=300).find(|row| !model.contains(&(part, *row))).unwrap_or(0);
                prop_assert_eq!(frontier.low(part), low);
                above += model.range((part, low)..(part + 1, 0)).count();
                for row in 0..320 {
                    prop_assert_eq!(frontier.is_settled(Seq { part, row }), model.contains(&(part, row)));
                }
            }
            prop_assert_eq!(frontier.above(), above);
        }

        #[test]
        fn what_is_kept_of_it_gives_it_back(rows in prop::collection::vec((0u32..3, 0u32..300), 0..400), cut in 0usize..400) {
            let mut frontier = Frontier::default();
            let mut kept = Vec::new();
            for (place, (part, row)) in rows.iter().enumerate() {
                if place == cut {
                    kept.extend(frontier.take_changes());
                }
                frontier.settle(Seq { part: *part, row: *row });
            }
            let lost: Vec<_> = frontier.take_changes().into_iter().map(|mark| mark.part).collect();
            frontier.put_back(lost);
            kept.extend(frontier.take_changes());
            prop_assert!(frontier.take_changes().is_empty());
            let again = Frontier::of(kept);
            prop_assert_eq!(again.above(), frontier.above());
            for part in 0..3 {
                prop_assert_eq!(again.low(part), frontier.low(part));
                for row in 0..320 {
                    let seq = Seq { part, row };
                    prop_assert_eq!(again.is_settled(seq), frontier.is_settled(seq));
                }
            }
        }
    }
}

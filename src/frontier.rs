//! Tracks which rows of the frozen manifest are settled. Its size depends on the rows in flight, not on the size of
//! the job.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use batchplan_store::task::TaskId;

/// The settled rows: for each part a low mark, below which all rows are settled, and the settled rows above it.
#[derive(Clone, Debug, Default)]
pub struct RowFrontier {
    parts: BTreeMap<u32, PartFrontier>,
    settled_above_low: usize,
    changed: BTreeSet<u32>,
}

/// Compares the settled rows only, not which parts have changed.
impl PartialEq for RowFrontier {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for RowFrontier {}

/// The settled rows of one part, as they are saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartWatermark {
    /// The number of the manifest part.
    pub part: u32,
    /// A row number, a multiple of 64. All rows below it are settled.
    pub low: u32,
    /// One bit for each row from `low` on, 64 rows per word, the first in the lowest bit: 1 if the row is settled.
    pub above_bits: Vec<u64>,
}

impl PartWatermark {
    /// Returns whether this can come from a frontier: `low` is at the start of a word, and the row numbers do not
    /// overflow.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let words = u64::from(self.low / 64) + self.above_bits.len() as u64;
        self.low.is_multiple_of(64) && words < u64::from(u32::MAX / 64)
    }
}

impl RowFrontier {
    /// Records that a row is settled, that is, has an outcome. Recording it again has no effect.
    pub fn mark_settled(&mut self, seq: TaskId) {
        let part = self.parts.entry(seq.part).or_default();
        self.settled_above_low -= part.settled_above_low;
        part.mark_settled(seq.row);
        self.settled_above_low += part.settled_above_low;
        self.changed.insert(seq.part);
    }

    /// Restores a frontier from its saved parts. If a part occurs more than once, the last one counts.
    #[must_use]
    pub fn from_parts(marks: impl IntoIterator<Item = PartWatermark>) -> Self {
        let parts: BTreeMap<_, _> =
            marks.into_iter().map(|mark| (mark.part, PartFrontier::from_watermark(mark))).collect();
        let settled_above_low = parts.values().map(|part| part.settled_above_low).sum();
        Self { parts, settled_above_low, changed: BTreeSet::new() }
    }

    /// Returns the parts that have changed since the last call.
    pub fn take_changes(&mut self) -> Vec<PartWatermark> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|part| Some(self.parts.get(&part)?.watermark(part))).collect()
    }

    /// Marks these parts as changed again, because they could not be saved.
    pub fn mark_changed(&mut self, parts: impl IntoIterator<Item = u32>) {
        self.changed.extend(parts);
    }

    /// Returns whether a row is settled.
    #[must_use]
    pub fn is_settled(&self, seq: TaskId) -> bool {
        self.parts.get(&seq.part).is_some_and(|part| part.is_settled(seq.row))
    }

    /// Returns the number of settled rows.
    #[must_use]
    pub fn settled_count(&self) -> u64 {
        self.parts.values().map(PartFrontier::settled_count).sum()
    }

    /// Returns the number of the first row of a part that is not settled.
    #[must_use]
    pub fn first_unsettled(&self, part: u32) -> u32 {
        self.parts.get(&part).map_or(0, PartFrontier::first_unsettled)
    }

    /// Returns the number of settled rows above the low marks. It grows when one object is slow and the others are not.
    #[must_use]
    pub fn settled_above_low(&self) -> usize {
        self.settled_above_low
    }
}

/// The settled rows of one part, as a bitmap. Full words are dropped from its front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PartFrontier {
    /// The number of full words that were dropped from the front.
    dropped_words: u32,
    words: VecDeque<u64>,
    /// The number of settled rows above the low mark.
    settled_above_low: usize,
}

impl PartFrontier {
    fn from_watermark(mark: PartWatermark) -> Self {
        let mut part = Self { dropped_words: mark.low / 64, words: mark.above_bits.into(), settled_above_low: 0 };
        part.drop_full_words();
        let settled: u32 = part.words.iter().map(|word| word.count_ones()).sum();
        part.settled_above_low = (settled - part.words.front().map_or(0, |word| word.trailing_ones())) as usize;
        part
    }

    fn watermark(&self, part: u32) -> PartWatermark {
        PartWatermark { part, low: self.dropped_words * 64, above_bits: self.words.iter().copied().collect() }
    }

    fn settled_count(&self) -> u64 {
        let above: u64 = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        u64::from(self.dropped_words) * 64 + above
    }

    fn drop_full_words(&mut self) {
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.dropped_words += 1;
        }
    }

    fn mark_settled(&mut self, row: u32) {
        let Some(index) = (row / 64).checked_sub(self.dropped_words) else { return };
        let index = index as usize;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        let bit = 1u64 << (row % 64);
        if self.words[index] & bit != 0 {
            return;
        }
        let low = self.first_unsettled();
        self.words[index] |= bit;
        self.settled_above_low += 1;
        self.drop_full_words();
        self.settled_above_low -= (self.first_unsettled() - low) as usize;
    }

    fn is_settled(&self, row: u32) -> bool {
        match (row / 64).checked_sub(self.dropped_words) {
            None => true,
            Some(index) => self.words.get(index as usize).is_some_and(|word| word & (1 << (row % 64)) != 0),
        }
    }

    fn first_unsettled(&self) -> u32 {
        self.dropped_words * 64 + self.words.front().map_or(0, |word| word.trailing_ones())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn in_order_it_holds_nothing_but_the_mark() {
        let mut frontier = RowFrontier::default();
        for row in 0..10_000 {
            frontier.mark_settled(TaskId { part: 0, row });
            assert_eq!(frontier.settled_above_low(), 0);
        }
        assert_eq!(frontier.first_unsettled(0), 10_000);
        assert!(frontier.parts[&0].words.len() <= 1);
    }

    #[test]
    fn one_slow_row_keeps_the_mark_and_counts_what_passed_it() {
        let mut frontier = RowFrontier::default();
        (1..=500).for_each(|row| frontier.mark_settled(TaskId { part: 2, row }));
        assert_eq!((frontier.first_unsettled(2), frontier.settled_above_low()), (0, 500));
        frontier.mark_settled(TaskId { part: 2, row: 0 });
        assert_eq!((frontier.first_unsettled(2), frontier.settled_above_low()), (501, 0));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(rows in prop::collection::vec((0u32..3, 0u32..300), 0..800)) {
            let mut frontier = RowFrontier::default();
            let mut model = BTreeSet::new();
            for (part, row) in rows {
                frontier.mark_settled(TaskId { part, row });
                model.insert((part, row));
            }
            let mut above = 0;
            for part in 0..3 {
                let low = (0..=300).find(|row| !model.contains(&(part, *row))).unwrap_or(0);
                prop_assert_eq!(frontier.first_unsettled(part), low);
                above += model.range((part, low)..(part + 1, 0)).count();
                for row in 0..320 {
                    prop_assert_eq!(frontier.is_settled(TaskId { part, row }), model.contains(&(part, row)));
                }
            }
            prop_assert_eq!(frontier.settled_above_low(), above);
        }

        #[test]
        fn what_is_kept_of_it_gives_it_back(rows in prop::collection::vec((0u32..3, 0u32..300), 0..400), cut in 0usize..400) {
            let mut frontier = RowFrontier::default();
            let mut saved = Vec::new();
            for (place, (part, row)) in rows.iter().enumerate() {
                if place == cut {
                    saved.extend(frontier.take_changes());
                }
                frontier.mark_settled(TaskId { part: *part, row: *row });
            }
            let lost: Vec<_> = frontier.take_changes().into_iter().map(|mark| mark.part).collect();
            frontier.mark_changed(lost);
            saved.extend(frontier.take_changes());
            prop_assert!(frontier.take_changes().is_empty());
            let again = RowFrontier::from_parts(saved);
            prop_assert_eq!(again.settled_above_low(), frontier.settled_above_low());
            for part in 0..3 {
                prop_assert_eq!(again.first_unsettled(part), frontier.first_unsettled(part));
                for row in 0..320 {
                    let seq = TaskId { part, row };
                    prop_assert_eq!(again.is_settled(seq), frontier.is_settled(seq));
                }
            }
        }
    }
}

//! Which rows of the frozen manifest are settled, in a size that depends on what is in flight and not on the job.

use std::collections::{BTreeMap, VecDeque};

use crate::task::Seq;

/// The settled rows: for each part a low mark, below which every row is settled, and the settled rows above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    parts: BTreeMap<u32, PartFrontier>,
    above: usize,
}

impl Frontier {
    /// Notes that a row has its outcome. Noting it again changes nothing.
    pub fn settle(&mut self, seq: Seq) {
        let part = self.parts.entry(seq.part).or_default();
        self.above -= part.above;
        part.settle(seq.row);
        self.above += part.above;
    }

    /// Whether a row has its outcome.
    #[must_use]
    pub fn is_settled(&self, seq: Seq) -> bool {
        self.parts.get(&seq.part).is_some_and(|part| part.is_settled(seq.row))
    }

    /// The first row of a part that is not settled.
    #[must_use]
    pub fn low(&self, part: u32) -> u32 {
        self.parts.get(&part).map_or(0, PartFrontier::low)
    }

    /// How many settled rows stand above a low mark: what grows when one object is slow and the others are not.
    #[must_use]
    pub fn above(&self) -> usize {
        self.above
    }
}

/// One part's settled rows, as a bitmap whose front words are dropped as soon as they are full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PartFrontier {
    /// Number of full words dropped from the front.
    dropped: u32,
    words: VecDeque<u64>,
    /// Settled rows above the low mark.
    above: usize,
}

impl PartFrontier {
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
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.dropped += 1;
        }
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
    }
}

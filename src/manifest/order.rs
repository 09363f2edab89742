//! The order in which the rows of a frozen manifest are processed.
//!
//! Adjacent rows have adjacent keys, and stores keep adjacent keys on one machine: processing rows strictly in sequence
//! overloads that machine and leaves the others idle. A large manifest is therefore divided into segments of equal
//! length, and each segment in turn contributes a few rows.
//!
//! The [`Seq`] of a row is its position in this order. Progress, and the rows that a crash leaves in doubt, are
//! recorded as positions. The order depends only on the number of rows and of segments, so it is the same whenever a
//! job resumes.

use std::ops::Range;

use crate::frontier::Frontier;
use crate::task::Seq;

/// The number of rows that a segment contributes per turn.
const TURN: u64 = 256;

/// The maximum number of segments: each keeps one block of the manifest in memory, of up to a megabyte.
pub(super) const MAX_LANES: u64 = 6;

/// The minimum number of rows per segment, the size of a block: spreading fewer rows has no benefit.
const LANE_ROWS: u64 = 1 << 16;

/// The number of positions per `part` of a [`Seq`], in manifests where `part` is not the number of a file.
const PLACES: u64 = 1 << 22;

/// The order of the rows of a manifest with several segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    rows: u64,
    lanes: u64,
}

/// Returns the number of segments for a manifest with this number of rows.
pub(super) fn lanes_for(rows: u64) -> u32 {
    u32::try_from((rows / LANE_ROWS).clamp(1, MAX_LANES)).unwrap_or(1)
}

impl Order {
    /// Creates the order of this number of rows and segments; 0 segments count as one.
    pub(super) fn new(rows: u64, lanes: u32) -> Self {
        Self { rows, lanes: u64::from(lanes.max(1)) }
    }

    /// Returns the rows of a segment, counted over all files.
    pub(super) fn lane(self, lane: u64) -> Range<u64> {
        let at = |lane: u64| {
            let row = u128::from(self.rows) * u128::from(lane) / u128::from(self.lanes);
            u64::try_from(row).unwrap_or(self.rows)
        };
        at(lane)..at(lane + 1)
    }

    pub(super) fn lanes(self) -> u64 {
        self.lanes
    }

    /// Returns the number of turns that each segment has.
    pub(super) fn turns(self) -> u64 {
        let longest = self.rows.div_ceil(self.lanes);
        longest.div_ceil(TURN)
    }

    /// Returns the rows that a segment contributes in a turn, counted from its first row.
    pub(super) fn turn(self, lane: u64, turn: u64) -> Range<u64> {
        let Range { start, end } = self.lane(lane);
        let length = end - start;
        (turn * TURN).min(length)..((turn + 1) * TURN).min(length)
    }

    /// Returns the position of the first row that a segment contributes in a turn.
    pub(super) fn place(self, lane: u64, turn: u64) -> u64 {
        let given = |other: u64| {
            let Range { start, end } = self.turn(other, turn);
            if other < lane { end } else { start }
        };
        (0..self.lanes).map(given).sum()
    }

    /// Returns the position of a row, counted over all files.
    pub(super) fn place_of(self, row: u64) -> u64 {
        // Segment bounds are rounded down: the row may be the first of the next segment.
        let guess = u64::try_from(u128::from(row) * u128::from(self.lanes) / u128::from(self.rows.max(1))).unwrap_or(0);
        let lane = if guess + 1 < self.lanes && self.lane(guess).end <= row { guess + 1 } else { guess };
        let offset = row - self.lane(lane).start;
        self.place(lane, offset / TURN) + offset % TURN
    }

    /// Returns a turn such that all rows of earlier turns are finished.
    pub(super) fn first_turn(self, frontier: &Frontier) -> u64 {
        let parts = 0..u32::try_from(self.rows / PLACES + 1).unwrap_or(u32::MAX);
        // The first part with an unfinished row contains the first unfinished row.
        let low = parts.map(|part| (part, u64::from(frontier.low(part)))).find(|(_, low)| *low < PLACES);
        let settled = low.map_or(0, |(part, low)| u64::from(part) * PLACES + low);
        // Every turn except the last takes the full number of rows from every segment.
        (settled / (self.lanes * TURN)).min(self.turns().saturating_sub(1))
    }
}

/// Converts a position to the form in which progress is recorded.
pub(super) fn seq(place: u64) -> Seq {
    let fits = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Seq { part: fits(place / PLACES), row: fits(place % PLACES) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_is_large_is_spread() {
        assert_eq!([0, 1, 65_536, 131_071, 131_072, 10_000_000].map(lanes_for), [1, 1, 1, 1, 2, 6]);
    }

    #[test]
    fn a_place_is_told_across_parts() {
        assert_eq!(seq(0), Seq { part: 0, row: 0 });
        assert_eq!(seq(PLACES - 1), Seq { part: 0, row: (1 << 22) - 1 });
        assert_eq!(seq(3 * PLACES + 7), Seq { part: 3, row: 7 });
    }

    proptest! {
        #[test]
        fn every_row_has_one_place_and_lanes_take_turns(rows in 0_u64..5_000, lanes in 1_u32..9) {
            let order = Order::new(rows, lanes);
            let mut places = Vec::new();
            for turn in 0..order.turns() {
                for lane in 0..order.lanes() {
                    let Range { start, end } = order.turn(lane, turn);
                    prop_assert!(end - start <= TURN);
                    prop_assert_eq!(order.place(lane, turn), places.len() as u64);
                    places.extend((start..end).map(|offset| order.lane(lane).start + offset));
                }
            }
            prop_assert_eq!(places.len() as u64, rows);
            for (place, row) in (0..).zip(&places) {
                prop_assert_eq!(order.place_of(*row), place);
            }
        }

        #[test]
        fn nothing_that_is_left_lies_before_the_first_turn(rows in 1_u64..5_000, lanes in 1_u32..9, done in 0_u64..5_000) {
            let order = Order::new(rows, lanes);
            let mut frontier = Frontier::default();
            (0..done.min(rows)).for_each(|place| frontier.settle(seq(place)));
            let first = order.first_turn(&frontier);
            prop_assert!(order.place(0, first) <= done);
            // At most two turns of all segments are read again.
            prop_assert!(done.min(rows) - order.place(0, first) <= 2 * u64::from(lanes) * TURN);
        }
    }
}

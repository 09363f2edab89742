//! The order in which the rows of a frozen manifest are worked on.
//!
//! Rows that follow each other have keys that follow each other, and stores keep such keys on one machine: whoever works
//! through them in a row hammers that machine and leaves the others idle. So a large manifest is cut into lanes of equal
//! length, and each lane in turn gives a few rows.
//!
//! A row's [`Seq`] is its place in that order. Progress, and what a crash leaves in doubt, is told in places of an order
//! that depends on nothing but the number of rows and of lanes, so that it is the same whenever a job goes on.

use std::ops::Range;

use crate::frontier::Frontier;
use crate::task::Seq;

/// Rows that a lane gives in its turn.
const TURN: u64 = 256;

/// The most lanes: as many blocks of the manifest are open at once, of up to a megabyte each.
pub(super) const MAX_LANES: u64 = 6;

/// The fewest rows of a lane, those of a block: what is smaller is not worth spreading.
const LANE_ROWS: u64 = 1 << 16;

/// Places that go by one part of a [`Seq`], where it does not count a manifest's files.
const PLACES: u64 = 1 << 22;

/// The order of so many rows in so many lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    rows: u64,
    lanes: u64,
}

/// How many lanes a manifest of so many rows is given.
pub(super) fn lanes_for(rows: u64) -> u32 {
    u32::try_from((rows / LANE_ROWS).clamp(1, MAX_LANES)).unwrap_or(1)
}

impl Order {
    /// The order of so many rows in so many lanes, at least one.
    pub(super) fn new(rows: u64, lanes: u32) -> Self {
        Self { rows, lanes: u64::from(lanes.max(1)) }
    }

    /// The rows of a lane, counted over all files.
    pub(super) fn lane(self, lane: u64) -> Range<u64> {
        let at = |lane: u64| {
            let row = u128::from(self.rows) * u128::from(lane) / u128::from(self.lanes);
            u64::try_from(row).unwrap_or(self.rows)
        };
        at(lane)..at(lane + 1)
    }

    /// How many lanes there are.
    pub(super) fn lanes(self) -> u64 {
        self.lanes
    }

    /// How often each lane has its turn.
    pub(super) fn turns(self) -> u64 {
        let longest = self.rows.div_ceil(self.lanes);
        longest.div_ceil(TURN)
    }

    /// The rows that a lane gives in a turn, counted from its first.
    pub(super) fn turn(self, lane: u64, turn: u64) -> Range<u64> {
        let Range { start, end } = self.lane(lane);
        let length = end - start;
        (turn * TURN).min(length)..((turn + 1) * TURN).min(length)
    }

    /// The place of the first row that a lane gives in a turn.
    pub(super) fn place(self, lane: u64, turn: u64) -> u64 {
        let given = |other: u64| {
            let Range { start, end } = self.turn(other, turn);
            if other < lane { end } else { start }
        };
        (0..self.lanes).map(given).sum()
    }

    /// The place of a row, counted over all files.
    pub(super) fn place_of(self, row: u64) -> u64 {
        // A lane's bounds are rounded down: the row may be the first of the next one.
        let guess = u64::try_from(u128::from(row) * u128::from(self.lanes) / u128::from(self.rows.max(1))).unwrap_or(0);
        let lane = if guess + 1 < self.lanes && self.lane(guess).end <= row { guess + 1 } else { guess };
        let offset = row - self.lane(lane).start;
        self.place(lane, offset / TURN) + offset % TURN
    }

    /// A turn before which every row is settled.
    pub(super) fn first_turn(self, frontier: &Frontier) -> u64 {
        let parts = 0..u32::try_from(self.rows / PLACES + 1).unwrap_or(u32::MAX);
        // The first part that is not settled to its end holds the first row that is not settled.
        let low = parts.map(|part| (part, u64::from(frontier.low(part)))).find(|(_, low)| *low < PLACES);
        let settled = low.map_or(0, |(part, low)| u64::from(part) * PLACES + low);
        // Every turn but the last is a full one of every lane.
        (settled / (self.lanes * TURN)).min(self.turns().saturating_sub(1))
    }
}

/// A place as progress is recorded by it.
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
            // Nor is more read again than two turns of all lanes.
            prop_assert!(done.min(rows) - order.place(0, first) <= 2 * u64::from(lanes) * TURN);
        }
    }
}

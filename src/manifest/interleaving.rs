//! The order in which the rows of a frozen manifest are processed.
//!
//! Adjacent rows have adjacent keys, and stores keep adjacent keys on one machine: processing rows strictly in sequence
//! overloads that machine and leaves the others idle. A large manifest is therefore divided into segments of equal
//! length, and each segment in turn contributes a few rows.
//!
//! The [`TaskId`] of a row is its position in this order. Progress, and the rows that a crash leaves in doubt, are
//! recorded as positions. The order depends only on the number of rows and of segments, so it is the same whenever a
//! job resumes.

use std::ops::Range;

use batchplan_store::task::TaskId;

use crate::frontier::RowFrontier;

/// The number of rows that a segment contributes per turn.
const ROWS_PER_TURN: u64 = 256;

/// The maximum number of segments: each keeps one block of the manifest in memory, of up to a megabyte.
pub(super) const MAX_SEGMENTS: u64 = 6;

/// The minimum number of rows per segment, the size of a block: spreading fewer rows has no benefit.
const MIN_SEGMENT_ROWS: u64 = 1 << 16;

/// The number of positions per `part` of a [`TaskId`], in manifests where `part` is not the number of a file.
const POSITIONS_PER_PART: u64 = 1 << 22;

/// The order of the rows of a manifest with several segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interleaving {
    rows: u64,
    segments: u64,
}

/// Returns the number of segments for a manifest with this number of rows.
pub(super) fn segments_for(rows: u64) -> u32 {
    u32::try_from((rows / MIN_SEGMENT_ROWS).clamp(1, MAX_SEGMENTS)).unwrap_or(1)
}

impl Interleaving {
    /// Creates the order of this number of rows and segments; 0 segments count as one.
    pub(super) fn new(rows: u64, lanes: u32) -> Self {
        Self { rows, segments: u64::from(lanes.max(1)) }
    }

    /// Returns the rows of a segment, counted over all files.
    pub(super) fn segment_rows(self, lane: u64) -> Range<u64> {
        let at = |lane: u64| {
            let row = u128::from(self.rows) * u128::from(lane) / u128::from(self.segments);
            u64::try_from(row).unwrap_or(self.rows)
        };
        at(lane)..at(lane + 1)
    }

    pub(super) fn segments(self) -> u64 {
        self.segments
    }

    /// Returns the number of turns that each segment has.
    pub(super) fn turns(self) -> u64 {
        let longest = self.rows.div_ceil(self.segments);
        longest.div_ceil(ROWS_PER_TURN)
    }

    /// Returns the rows that a segment contributes in a turn, counted from its first row.
    pub(super) fn turn_rows(self, lane: u64, turn: u64) -> Range<u64> {
        let Range { start, end } = self.segment_rows(lane);
        let length = end - start;
        (turn * ROWS_PER_TURN).min(length)..((turn + 1) * ROWS_PER_TURN).min(length)
    }

    /// Returns the position of the first row that a segment contributes in a turn.
    pub(super) fn turn_position(self, lane: u64, turn: u64) -> u64 {
        let given = |other: u64| {
            let Range { start, end } = self.turn_rows(other, turn);
            if other < lane { end } else { start }
        };
        (0..self.segments).map(given).sum()
    }

    /// Returns the position of a row, counted over all files.
    pub(super) fn position_of(self, row: u64) -> u64 {
        // Segment bounds are rounded down: the row may be the first of the next segment.
        let guess =
            u64::try_from(u128::from(row) * u128::from(self.segments) / u128::from(self.rows.max(1))).unwrap_or(0);
        let lane = if guess + 1 < self.segments && self.segment_rows(guess).end <= row { guess + 1 } else { guess };
        let offset = row - self.segment_rows(lane).start;
        self.turn_position(lane, offset / ROWS_PER_TURN) + offset % ROWS_PER_TURN
    }

    /// Returns a turn such that all rows of earlier turns are finished.
    pub(super) fn first_unfinished_turn(self, frontier: &RowFrontier) -> u64 {
        let parts = 0..u32::try_from(self.rows / POSITIONS_PER_PART + 1).unwrap_or(u32::MAX);
        // The first part with an unfinished row contains the first unfinished row.
        let low = parts
            .map(|part| (part, u64::from(frontier.first_unsettled(part))))
            .find(|(_, low)| *low < POSITIONS_PER_PART);
        let settled = low.map_or(0, |(part, low)| u64::from(part) * POSITIONS_PER_PART + low);
        // Every turn except the last takes the full number of rows from every segment.
        (settled / (self.segments * ROWS_PER_TURN)).min(self.turns().saturating_sub(1))
    }
}

/// Converts a position to the form in which progress is recorded.
pub(super) fn position_to_seq(place: u64) -> TaskId {
    let fits = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    TaskId { part: fits(place / POSITIONS_PER_PART), row: fits(place % POSITIONS_PER_PART) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_is_large_is_spread() {
        assert_eq!([0, 1, 65_536, 131_071, 131_072, 10_000_000].map(segments_for), [1, 1, 1, 1, 2, 6]);
    }

    #[test]
    fn a_place_is_told_across_parts() {
        assert_eq!(position_to_seq(0), TaskId { part: 0, row: 0 });
        assert_eq!(position_to_seq(POSITIONS_PER_PART - 1), TaskId { part: 0, row: (1 << 22) - 1 });
        assert_eq!(position_to_seq(3 * POSITIONS_PER_PART + 7), TaskId { part: 3, row: 7 });
    }

    proptest! {
        #[test]
        fn every_row_has_one_place_and_lanes_take_turns(rows in 0_u64..5_000, lanes in 1_u32..9) {
            let order = Interleaving::new(rows, lanes);
            let mut places = Vec::new();
            for turn in 0..order.turns() {
                for lane in 0..order.segments() {
                    let Range { start, end } = order.turn_rows(lane, turn);
                    prop_assert!(end - start <= ROWS_PER_TURN);
                    prop_assert_eq!(order.turn_position(lane, turn), places.len() as u64);
                    places.extend((start..end).map(|offset| order.segment_rows(lane).start + offset));
                }
            }
            prop_assert_eq!(places.len() as u64, rows);
            for (place, row) in (0..).zip(&places) {
                prop_assert_eq!(order.position_of(*row), place);
            }
        }

        #[test]
        fn nothing_that_is_left_lies_before_the_first_turn(rows in 1_u64..5_000, lanes in 1_u32..9, done in 0_u64..5_000) {
            let order = Interleaving::new(rows, lanes);
            let mut frontier = RowFrontier::default();
            (0..done.min(rows)).for_each(|place| frontier.mark_settled(position_to_seq(place)));
            let first = order.first_unfinished_turn(&frontier);
            prop_assert!(order.turn_position(0, first) <= done);
            // At most two turns of all segments are read again.
            prop_assert!(done.min(rows) - order.turn_position(0, first) <= 2 * u64::from(lanes) * ROWS_PER_TURN);
        }
    }
}

use std::collections::BTreeSet;

use batchplan_store::object::ObjectKey;
use proptest::prelude::*;

use super::*;
use crate::manifest::FrozenManifest;
use crate::manifest::frozen::tests::{PartLimits, freeze};

fn frozen(rows: u32, limits: PartLimits, lanes: u32) -> (tempfile::TempDir, FrozenManifest) {
    let keys: Vec<String> = (0..rows).map(|row| format!("k/{row:06}")).collect();
    let names: Vec<_> = keys.iter().map(|key| ("b", key.as_bytes(), None)).collect();
    let (folder, frozen) = freeze(&names, limits);
    (folder, frozen.with_segments(lanes))
}

fn taken(rows: impl Iterator<Item = Result<Vec<Task>, crate::manifest::ManifestError>>) -> Vec<Task> {
    rows.flat_map(|batch| batch.expect("rows")).collect()
}

#[test]
fn lanes_begin_far_apart() {
    let (_folder, frozen) = frozen(2_000, PartLimits::new(100, 700), 4);
    let batches: Vec<_> = frozen.interleaved_tasks(&RowFrontier::default(), 256).map(Result::unwrap).collect();
    let firsts: Vec<_> = batches.iter().map(|batch| batch[0].object.key.to_string()).collect();
    assert_eq!(firsts[..5], ["k/000000", "k/000500", "k/001000", "k/001500", "k/000256"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_left_comes_once_and_in_the_order_of_its_places(
        rows in 1_u32..3_000,
        block_rows in 1_usize..400,
        part_rows in 1_u32..900,
        lanes in 2_u32..9,
        batch in 1_usize..400,
        settled in proptest::collection::btree_set(0_u64..3_000, 0..300),
        run in 0_u64..3_200,
    ) {
        let (_folder, frozen) = frozen(rows, PartLimits::new(block_rows, part_rows), lanes);
        let all = taken(frozen.interleaved_tasks(&RowFrontier::default(), batch));
        let keys: BTreeSet<_> = all.iter().map(|task| task.object.key.clone()).collect();
        prop_assert_eq!(keys.len() as u64, u64::from(rows));
        prop_assert!((0..).zip(&all).all(|(place, task)| task.id == position_to_task_id(place)));

        let is_settled = |place: u64| place < run || settled.contains(&place);
        let mut frontier = RowFrontier::default();
        (0..u64::from(rows)).filter(|place| is_settled(*place)).for_each(|place| frontier.mark_settled(position_to_task_id(place)));
        let left = taken(frozen.interleaved_tasks(&frontier, batch));
        let expected: Vec<_> =
            (0..).zip(all.clone()).filter(|(place, _)| !is_settled(*place)).map(|(_, task)| task).collect();
        prop_assert_eq!(&left, &expected);
        prop_assert!(frozen.interleaved_tasks(&frontier, batch).all(|rows| (1..=batch).contains(&rows.expect("rows").len())));

        // In file order, the same rows have the same positions.
        let mut in_files = taken(frozen.unfinished_tasks(&frontier, batch));
        let sorted: Vec<ObjectKey> = in_files.iter().map(|task| task.object.key.clone()).collect();
        prop_assert!(sorted.is_sorted());
        in_files.sort_by_key(|task| task.id);
        prop_assert_eq!(in_files, expected);
    }
}

#[test]
fn only_what_is_large_is_spread() {
    assert_eq!([0, 1, 65_536, 131_071, 131_072, 10_000_000].map(segments_for), [1, 1, 1, 1, 2, 6]);
}

#[test]
fn a_place_is_told_across_parts() {
    assert_eq!(position_to_task_id(0), TaskId { part: 0, row: 0 });
    assert_eq!(position_to_task_id(POSITIONS_PER_PART - 1), TaskId { part: 0, row: (1 << 22) - 1 });
    assert_eq!(position_to_task_id(3 * POSITIONS_PER_PART + 7), TaskId { part: 3, row: 7 });
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
        (0..done.min(rows)).for_each(|place| frontier.mark_settled(position_to_task_id(place)));
        let first = order.first_unfinished_turn(&frontier);
        prop_assert!(order.turn_position(0, first) <= done);
        // At most two turns of all segments are read again.
        prop_assert!(done.min(rows) - order.turn_position(0, first) <= 2 * u64::from(lanes) * ROWS_PER_TURN);
    }
}

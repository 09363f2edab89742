//! A day of many objects: what is touched is what has changed, and memory stays that of a sort.

use std::fmt::Write as _;

use crate::days::{Days, ONLY_CHANGED, SCHEMA};
use crate::scene::Dialect;

/// Rows of each inventory; `BATCHPLAN_RECURRING_ROWS` says how many otherwise.
fn rows() -> u64 {
    std::env::var("BATCHPLAN_RECURRING_ROWS").ok().map_or(100_000, |text| text.parse().expect("a number"))
}

/// An inventory in no order, of which every so manyth object is another one on the second day.
fn files(rows: u64, day: u64) -> Vec<String> {
    // Coprime to any number of rows that is no multiple of it, so that each place is met once.
    const STRIDE: u64 = 7_368_787;
    let mut files = vec![String::new(); 4];
    for number in 0..rows {
        let place = number * STRIDE % rows;
        if place == 17 && day == 2 {
            continue;
        }
        let state = if place % 10_000 == 3 { day } else { 1 };
        let file = &mut files[(number % 4) as usize];
        let _ = writeln!(
            file,
            "bkt,documents/2026/{place:09}.pdf,{place},2026-01-01T00:00:00.000Z,{:032x}",
            place * 1000 + state
        );
    }
    files
}

#[test]
fn a_day_of_many_objects_touches_the_few_that_have_changed() {
    let rows = rows();
    let changed: Vec<String> =
        (0..rows).filter(|place| place % 10_000 == 3).map(|place| format!("documents/2026/{place:09}.pdf")).collect();
    let mut keys: Vec<&str> = changed.iter().map(String::as_str).collect();
    keys.push("new");
    let days = Days::of(Dialect::Aws, &keys);
    days.plan(ONLY_CHANGED);
    days.files(1, SCHEMA, &files(rows, 1));
    days.complete_without_work();
    let mut second = files(rows, 2);
    second[3].push_str("bkt,new,1,2026-01-02T00:00:00.000Z,e\n");
    days.files(2, SCHEMA, &second);
    let applied = days.touches(&keys);
    assert_eq!(applied.ended(0).result["total"], keys.len());
}

//! Where what was done before is not known for certain, all of the new inventory is worked on, and it is said why.

use std::fs;

use crate::days::{Days, ONLY_CHANGED, folder};
use crate::scene::Dialect;

/// A plan that has completed its first day.
fn after_a_day(dialect: Dialect) -> Days {
    let days = Days::of(dialect, &["a", "b", "c"]);
    days.plan(ONLY_CHANGED);
    days.inventory(1, &[("a", 1), ("b", 1)]);
    days.touches(&["a", "b"]).ended(0);
    days
}

#[test]
fn an_inventory_that_was_removed_cannot_be_compared_with() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let days = after_a_day(dialect);
        days.remove_inventory(1);
        days.inventory(2, &[("a", 1), ("b", 1), ("c", 1)]);
        let second = days.touches(&["a", "b", "c"]);
        second.ended(0).says("cannot compare with the previous inventory (cannot read lists/daily/2026");
        second.says("including the complete new inventory (3 objects)");
        // And on from there.
        days.inventory(3, &[("a", 1), ("b", 2), ("c", 1)]);
        days.touches(&["b"]).ended(0);
    }
}

#[test]
fn nor_can_one_whose_data_is_gone_or_that_was_written_over() {
    let days = after_a_day(Dialect::Aws);
    days.remove("lists", "daily/data/1-0.csv.gz");
    days.inventory(2, &[("a", 1), ("b", 1)]);
    days.touches(&["a", "b"])
        .ended(0)
        .says("daily/data/1-0.csv.gz: manifest.json lists this data file, but it does not exist");
    days.inventory(3, &[("a", 1), ("b", 1)]);
    days.put("lists", &format!("{}manifest.json", folder(2)), b"{}".to_vec());
    days.touches(&["a", "b"]).ended(0).says("has changed");
}

#[test]
fn an_older_inventory_that_is_the_newest_now_is_nothing_new() {
    let days = after_a_day(Dialect::Oss);
    days.inventory(2, &[("a", 1), ("b", 2)]);
    days.touches(&["b"]).ended(0);
    days.remove_inventory(2);
    let nothing = days.finds_nothing();
    assert!(
        nothing.stderr.contains("the newest inventory now is an older one: lists/daily/2026-01-01"),
        "{}",
        nothing.stderr
    );
    // One that is written again under the same name is another one.
    days.inventory(2, &[("a", 1), ("b", 3)]);
    days.touches(&["a", "b"]).ended(0).says("cannot compare with the previous inventory");
}

#[test]
fn an_inventory_that_is_not_complete_yet_is_passed_over() {
    let days = after_a_day(Dialect::Aws);
    days.inventory(2, &[("a", 1), ("b", 2)]);
    days.remove("lists", &format!("{}manifest.checksum", folder(2)));
    let ran = days.apply().ended(0);
    assert!(
        ran.stderr.starts_with("warning: skipped lists/daily/2026-01-02T00-00Z/: it has no manifest.checksum"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("nothing new since lists/daily/2026-01-01T00-00Z/"), "{}", ran.stderr);
    assert!(days.touched().is_empty());
}

#[test]
fn without_any_inventory_no_job_is_made() {
    let days = Days::of(Dialect::Aws, &["a"]);
    days.plan(ONLY_CHANGED);
    let ran = days.run(&["apply", "plan.toml", "--auto-approve"]).ended(1);
    assert!(ran.stderr.contains("there is no folder named like 2026-01-31T00-00Z/ below it"), "{}", ran.stderr);
    assert!(days.scene.world.jobs().is_empty());
}

#[test]
fn another_plan_under_the_name_begins_anew_and_so_does_the_first_one_after_it() {
    let days = after_a_day(Dialect::Aws);
    days.plan(&format!("{ONLY_CHANGED}[manifest.filter]\nexclude = [\"none\"]\n"));
    // The inventory is the same, and the plan is not.
    days.touches(&["a", "b"]).ended(0).says("all objects, because the plan differs from that of job");
    days.finds_nothing();
    days.plan(ONLY_CHANGED);
    days.inventory(2, &[("a", 1), ("b", 1), ("c", 1)]);
    days.touches(&["a", "b", "c"]).ended(0).says("because the plan differs from that of job");
    // How it is run is no change.
    days.plan(&format!("{ONLY_CHANGED}[limits]\nconcurrency = 3\n"));
    days.finds_nothing();
    // To take only what has changed is.
    days.plan("[recurring]\n");
    days.touches(&["a", "b", "c"]).ended(0);
}

#[test]
fn what_failed_must_be_known_or_all_is_done_again() {
    let days = Days::of(Dialect::Aws, &["a"]);
    days.plan(&format!("{ONLY_CHANGED}[limits]\nfailure_threshold = 1\n"));
    days.inventory(1, &[("a", 1), ("none", 1)]);
    let first = days.touches(&["a", "none"]);
    let report = days.scene.world.path(first.ended(3).result["report_folder"].as_str().expect("a folder"));
    fs::remove_dir_all(report).expect("removed");
    days.inventory(2, &[("a", 1), ("none", 1)]);
    let second = days.touches(&["a", "none"]);
    second.ended(3).says("cannot read which objects failed last time");
    // The job itself may be forgotten as well, between the making of the next one and its preparing.
    days.run(&["delete", second.job(), "--force", "--auto-approve"]).ended(0);
    days.run(&["delete", first.job(), "--force", "--auto-approve"]).ended(0);
    days.inventory(3, &[("a", 1)]);
    days.touches(&["a"]).ended(0).says("no job of this plan has completed before");
}

#[test]
fn columns_that_tell_nothing_make_all_of_it_new() {
    let days = Days::of(Dialect::Aws, &["a", "b"]);
    days.plan(ONLY_CHANGED);
    days.files(1, "Bucket, Key, Size", &["bkt,a,1\n".to_owned()]);
    days.touches(&["a"]).ended(0);
    days.files(2, "Bucket, Key, Size", &["bkt,a,1\nbkt,b,1\n".to_owned()]);
    days.touches(&["a", "b"])
        .ended(0)
        .says("changes cannot be detected: including the complete new inventory (2 objects)");
}

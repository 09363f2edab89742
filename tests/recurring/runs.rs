//! Day after day: what is worked on, and what is said of it.

use crate::days::{Days, ONLY_CHANGED, SCHEMA, folder};
use crate::scene::Dialect;

/// Whatever fails, the job completes.
const BEARS_ALL: &str = "[limits]\nfailure_threshold = 1\n";

#[test]
fn each_day_exactly_what_has_changed_is_touched() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let days = Days::of(dialect, &["a", "b", "c", "d", "e", "f"]);
        days.plan(ONLY_CHANGED);
        days.inventory(1, &[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
        days.touches(&["a", "b", "c", "d"]).ended(0).says("no job of this plan has completed before");

        // `b` is written over, `d` deleted, `e` new and named twice.
        days.inventory(2, &[("c", 1), ("e", 1), ("b", 2), ("e", 1), ("a", 1)]);
        let second = days.touches(&["b", "e"]);
        second.ended(0).says("since lists/daily/2026-01-01T00-00Z/, which job");
        second.says("inventory lists/daily/2026-01-02T00-00Z/ (created 2026-01-02T00:00:00Z)");
        assert_eq!(second.result["total"], 2);
        let inventory = &second.result["inventory"];
        assert_eq!(inventory["key"], "daily%2F2026-01-02T00-00Z%2Fmanifest.json");
        assert_eq!(inventory["since"]["key"], "daily%2F2026-01-01T00-00Z%2Fmanifest.json");

        let nothing = days.finds_nothing();
        let said = format!("nothing new since lists/{} (job {}, ended ", folder(2), &second.job()[..8]);
        assert!(nothing.stderr.starts_with(&said), "{}", nothing.stderr);
        assert_eq!(nothing.json()["completed_by"]["job_id"], second.job());

        // `d` comes back as it was.
        days.inventory(3, &[("f", 1), ("a", 1), ("d", 1), ("b", 2), ("e", 2), ("c", 1)]);
        days.touches(&["d", "e", "f"]).ended(0);
        days.finds_nothing();
        // An inventory in which nothing has changed is a job of no objects.
        days.inventory(4, &[("f", 1), ("a", 1), ("d", 1), ("b", 2), ("e", 2), ("c", 1)]);
        let none = days.touches(&[]);
        assert_eq!(
            (none.ended(0).result["total"].as_u64(), none.result["status"].as_str()),
            (Some(0), Some("Complete"))
        );
        days.finds_nothing();
    }
}

#[test]
fn without_only_changed_each_new_inventory_is_worked_on_whole() {
    let days = Days::of(Dialect::Aws, &["a", "b", "c"]);
    days.plan("[recurring]\n");
    days.inventory(1, &[("a", 1), ("b", 1)]);
    days.touches(&["a", "b"]).ended(0).says(": all objects\n");
    days.finds_nothing();
    days.inventory(2, &[("a", 1), ("b", 1), ("c", 1)]);
    days.touches(&["a", "b", "c"]).ended(0);
    days.finds_nothing();
    // Unless somebody insists.
    let again = days.run(&["apply", "plan.toml", "--auto-approve", "--json", "--new"]).ended(0);
    assert_eq!(again.json()["total"], 3);
    assert_eq!(days.touched().len(), 3);
    days.finds_nothing();
}

#[test]
fn what_failed_is_tried_again_until_it_succeeds_or_is_gone() {
    // Two of them are in the inventories, and not in the bucket.
    let days = Days::of(Dialect::Aws, &["a", "b"]);
    days.plan(&format!("{ONLY_CHANGED}{BEARS_ALL}"));
    days.inventory(1, &[("a", 1), ("late", 1), ("gone", 1), ("b", 1)]);
    days.touches(&["a", "b", "gone", "late"]).ended(3);
    days.finds_nothing();
    days.inventory(2, &[("a", 2), ("late", 1), ("gone", 1), ("b", 1)]);
    days.touches(&["a", "gone", "late"]).ended(3);
    // It is there at last, and as old as ever by the inventory; the other is gone from that as well.
    days.put("bkt", "late", b"here".to_vec());
    days.inventory(3, &[("a", 2), ("late", 1), ("b", 1)]);
    days.touches(&["late"]).ended(0).says("left out 1 object that failed last time");
    days.inventory(4, &[("a", 2), ("late", 1), ("b", 1)]);
    days.touches(&[]).ended(0);
}

#[test]
fn what_failed_is_found_in_the_bucket_once_its_report_has_left_the_machine() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let days = Days::of(dialect, &["a"]);
        let report = "[report]\nbucket = \"audit\"\nprefix = \"r/\"\nkeep_local = false\n";
        days.plan(&format!("{ONLY_CHANGED}{BEARS_ALL}{report}"));
        days.inventory(1, &[("a", 1), ("lost", 1)]);
        let first = days.touches(&["a", "lost"]);
        let folder = first.ended(3).result["report_folder"].as_str().expect("a folder").to_owned();
        let left: Vec<_> = std::fs::read_dir(days.scene.world.path(&folder)).expect("a folder").collect();
        assert!(
            left.iter().all(|it| !it.as_ref().expect("a file").file_name().to_string_lossy().ends_with(".csv")),
            "{left:?}"
        );
        days.inventory(2, &[("a", 1), ("lost", 1)]);
        days.touches(&["lost"]).ended(3);
    }
}

#[test]
fn a_missed_day_is_made_up_for() {
    let days = Days::of(Dialect::Oss, &["a", "b", "c", "d"]);
    days.plan(ONLY_CHANGED);
    days.inventory(1, &[("a", 1), ("b", 1)]);
    days.touches(&["a", "b"]).ended(0);
    days.inventory(2, &[("a", 2), ("b", 1), ("c", 1)]);
    // Nobody was there; and on the third day `c` is as it was on the second.
    days.inventory(3, &[("a", 2), ("b", 1), ("c", 1), ("d", 1)]);
    days.touches(&["a", "c", "d"])
        .ended(0)
        .says("inventory lists/daily/2026-01-03T00-00Z/")
        .says("since lists/daily/2026-01-01T00-00Z/");
}

#[test]
fn the_filter_holds_for_what_has_changed_and_for_what_failed() {
    let days = Days::of(Dialect::Aws, &["docs/a", "docs/b", "tmp/a"]);
    let filter = "[manifest.filter]\ninclude = [\"docs/*\"]\nlarger_than = 1\n";
    days.plan(&format!("{ONLY_CHANGED}{BEARS_ALL}{filter}"));
    // Sizes are the states: what has one byte is left out.
    days.inventory(1, &[("docs/a", 2), ("docs/b", 1), ("tmp/a", 2), ("docs/none", 2)]);
    days.touches(&["docs/a", "docs/none"]).ended(3);
    days.inventory(2, &[("docs/a", 3), ("docs/b", 2), ("tmp/a", 3), ("docs/none", 1)]);
    days.touches(&["docs/a", "docs/b"]).ended(0).says("left out 1 object that failed last time");
}

#[test]
fn what_has_come_of_age_is_worked_on_though_it_has_not_changed() {
    let days = Days::of(Dialect::Aws, &["young", "old"]);
    days.plan(&format!("{ONLY_CHANGED}[manifest.filter]\nolder_than = \"30d\"\n"));
    let ago = |days: i64| {
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    // What was 29 days old when it was looked at last is 31 days old now: the job is made older than it is.
    let rows = format!("bkt,young,1,{},e1\nbkt,old,1,{},e2\n", ago(31), ago(100));
    days.files(1, SCHEMA, std::slice::from_ref(&rows));
    days.touches(&["old", "young"]).ended(0);
    days.age_jobs(2);
    days.files(2, SCHEMA, &[rows]);
    days.touches(&["young"]).ended(0);
}

#[test]
fn an_unfinished_job_is_gone_on_with_and_the_newer_inventory_waits() {
    let days = Days::of(Dialect::Aws, &["a", "b", "c"]);
    days.plan(ONLY_CHANGED);
    days.inventory(1, &[("a", 1), ("b", 1)]);
    let created = days.run(&["create", "plan.toml", "--json"]).ended(0);
    assert_eq!(created.json()["status"], "Suspended");
    days.inventory(2, &[("a", 1), ("b", 1), ("c", 1)]);
    let first = days.touches(&["a", "b"]);
    first.ended(0).says("there is a newer inventory: lists/daily/2026-01-02T00-00Z/; job");
    first.says("continues with lists/daily/2026-01-01T00-00Z/, and the next apply uses the newer one");
    assert_eq!(first.job(), created.json()["job_id"]);
    days.touches(&["c"]).ended(0);
    let nothing = days.run(&["create", "plan.toml", "--json"]).ended(0);
    assert_eq!(nothing.json()["nothing_new"], true);
    assert_eq!(days.scene.world.jobs().len(), 2, "no job was made");
}

#[test]
fn a_queue_works_on_what_its_jobs_were_made_of() {
    let days = Days::of(Dialect::Oss, &["a", "b", "c"]);
    days.plan(&format!("{ONLY_CHANGED}[job]\nconfirmation_required = false\n"));
    days.inventory(1, &[("a", 1), ("b", 1)]);
    days.run(&["create", "plan.toml"]).ended(0);
    days.run(&["run"]).ended(0);
    assert_eq!(days.touched().len(), 2);
    days.inventory(2, &[("a", 1), ("b", 1), ("c", 1)]);
    days.run(&["create", "plan.toml"]).ended(0);
    days.inventory(3, &[("a", 2), ("b", 1), ("c", 1)]);
    days.run(&["run"]).ended(0);
    assert_eq!(days.touched().into_keys().collect::<Vec<_>>(), ["c"]);
    days.touches(&["a"]).ended(0);
}

#[test]
fn a_job_that_did_not_complete_does_not_count() {
    let days = Days::of(Dialect::Aws, &["a", "b", "c"]);
    days.plan(&format!("{ONLY_CHANGED}[limits]\nfailure_threshold = 0\n"));
    days.inventory(1, &[("a", 1), ("b", 1)]);
    days.touches(&["a", "b"]).ended(0);
    days.inventory(2, &[("a", 1), ("b", 1), ("c", 1), ("none", 1)]);
    days.apply().ended(4);
    days.put("bkt", "none", b"here".to_vec());
    // The same inventory again, against that of the job that completed.
    days.touches(&["c", "none"]).ended(0).says("since lists/daily/2026-01-01T00-00Z/");
    days.finds_nothing();
}

#[test]
fn a_saved_plan_is_applied_to_what_was_looked_at() {
    let days = Days::of(Dialect::Aws, &["a", "b", "c"]);
    days.plan(ONLY_CHANGED);
    days.inventory(1, &[("a", 1), ("b", 1)]);
    days.touches(&["a", "b"]).ended(0);
    days.inventory(2, &[("a", 1), ("b", 2)]);
    days.run(&["plan", "plan.toml", "--out", "plan.bpl"]).ended(0);
    days.run(&["apply", "plan.bpl", "--auto-approve", "--json"]).ended(0);
    assert_eq!(days.touched().into_keys().collect::<Vec<_>>(), ["b"]);
    days.inventory(3, &[("a", 1), ("b", 2), ("c", 1)]);
    days.run(&["plan", "plan.toml", "--out", "plan.bpl"]).ended(0);
    days.inventory(4, &[("a", 2), ("b", 2), ("c", 1)]);
    let stale = days.run(&["apply", "plan.bpl", "--auto-approve"]).ended(6);
    assert!(stale.stderr.contains("the inventory was lists/daily/2026-01-03"), "{}", stale.stderr);
    assert!(days.touched().is_empty());
}

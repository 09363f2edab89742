//! What is said, and counted, of jobs whose process died before it could record what it did.

use std::os::unix::process::ExitStatusExt as _;

use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY};
use serde_json::Value as Json;

use crate::days::{Days, ONLY_CHANGED};
use crate::scene::Dialect;

const OTHER: &str = "[manifest.filter]\nexclude = [\"none\"]\n";

/// Applies with a checkpoint due after each object, and the process killed there.
fn killed(days: &Days, point: &str) {
    days.scene.gate.forget();
    let mut command = days.scene.world.command(&["apply", "plan.toml", "--auto-approve"]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.env("BATCHPLAN_CHECKPOINT_EVERY", "4").env("BATCHPLAN_FAILPOINT", point);
    let output = command.output().expect("the binary runs");
    assert_eq!(output.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A day that a plan has completed, and another plan of its name that was killed before its first checkpoint.
fn after_a_killed_one() -> Days {
    let days = Days::of(Dialect::Aws, &["a", "b", "c", "d", "e", "f"]);
    days.plan(ONLY_CHANGED);
    days.inventory(1, &[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1), ("f", 1)]);
    days.touches(&["a", "b", "c", "d", "e", "f"]).ended(0);
    days.plan(&format!("{ONLY_CHANGED}{OTHER}"));
    // Before the journal knows of any outcome, and after objects were changed.
    killed(&days, "report-flushed:1");
    assert!(!days.touched().is_empty());
    days
}

#[test]
fn a_job_that_was_killed_before_its_first_checkpoint_and_cancelled_is_not_taken_for_nothing() {
    let days = after_a_killed_one();
    let written = days.touched().len() as u64;
    let job = days.listed()[0]["job_id"].as_str().expect("an id").to_owned();
    let interrupted = days.run(&["show", &job, "--json"]).ended(0).json();
    let cancelled = days.run(&["cancel", &job, "--json"]).ended(0);
    let shown = days.run(&["show", &job, "--json"]).ended(0).json();
    for told in [interrupted, cancelled.json(), shown] {
        let count = |name: &str| told[name].as_u64().expect("a count");
        let settled = count("succeeded") + count("failed");
        assert!(count("in_doubt") >= written - settled, "{written} were written: {told}");
        assert_eq!(settled + count("in_doubt") + count("not_attempted"), count("total"), "{told}");
    }
    let page = days.run(&["show", &job]).ended(0).stdout;
    assert!(page.contains("each may have been changed without being in the report"), "{page}");

    // The first plan again: nobody knows what the other one has left of its work.
    days.plan(ONLY_CHANGED);
    days.inventory(2, &[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1), ("f", 2)]);
    days.touches(&["a", "b", "c", "d", "e", "f"])
        .ended(0)
        .says(&format!("the plan differs from that of job {}", &job[..8]));
    days.inventory(3, &[("a", 2), ("b", 1), ("c", 1), ("d", 1), ("e", 1), ("f", 2)]);
    days.touches(&["a"]).ended(0);
}

#[test]
fn what_is_resumed_is_in_doubt_no_more() {
    let days = after_a_killed_one();
    let resumed = days.touches(&["a", "b", "c", "d", "e", "f"]);
    let result = &resumed.ended(0).result;
    assert_eq!((&result["in_doubt"], &result["not_attempted"]), (&0.into(), &0.into()), "{result}");
}

#[test]
fn a_job_that_is_killed_and_never_resumed_makes_the_next_one_take_all_once() {
    let days = after_a_killed_one();
    days.plan(ONLY_CHANGED);
    let args = ["apply", "plan.toml", "--auto-approve", "--json", "--new"];
    days.run(&args).ended(0);
    assert_eq!(days.touched().len(), 6, "the other plan may have changed any of them");
    let killed = &days.listed()[1];
    assert_eq!((&killed["status"], &killed["interrupted"]), (&"Active".into(), &true.into()));
    let job = killed["job_id"].as_str().expect("an id");
    days.inventory(2, &[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1), ("f", 2)]);
    days.run(&args).ended(0);
    assert_eq!(days.touched().into_keys().collect::<Vec<_>>(), ["f"]);
    // Unless it is resumed after all.
    days.run(&["resume", job, "--stored-plan", "--auto-approve"]).ended(0);
    days.touches(&["a", "b", "c", "d", "e", "f"]).ended(0);
}

#[test]
fn a_retry_of_an_older_plan_is_another_plan_that_has_worked() {
    let days = Days::of(Dialect::Aws, &["a", "b", "c"]);
    let bears_all = format!("{ONLY_CHANGED}[limits]\nfailure_threshold = 1\n");
    days.plan(&format!("{bears_all}{OTHER}"));
    days.inventory(1, &[("a", 1), ("b", 1), ("late", 1)]);
    let older = days.touches(&["a", "b", "late"]);
    let (older, report) = (older.ended(3).job().to_owned(), older.result["report_folder"].clone());
    let older_plan = std::fs::read(days.scene.world.path("plan.toml")).expect("the plan");
    days.scene.world.write("older.toml", older_plan);
    let report = format!("{}/manifest.json", report.as_str().expect("a folder"));
    days.plan(&bears_all);
    days.put("bkt", "late", b"here".to_vec());
    let retry = ["retry", &older, "--auto-approve"];
    let by_report = ["retry", "--report", &report, "--plan", "older.toml", "--auto-approve"];
    for (day, retry) in (1..).zip([&retry[..], &by_report]) {
        if day > 1 {
            days.inventory(day, &[("a", 1), ("b", 1), ("late", 1)]);
        }
        days.apply().ended(0);
        days.run(retry).ended(0);
        assert_eq!(days.touched().into_keys().collect::<Vec<_>>(), ["late"], "{retry:?}");
        // The same inventory, and not the same work any more.
        days.touches(&["a", "b", "late"]).ended(0).says("because the plan differs from that of job");
        days.finds_nothing();
    }
}

#[test]
fn what_another_plan_did_stays_known_when_its_job_is_deleted() {
    let days = Days::of(Dialect::Aws, &["a", "b"]);
    days.plan(ONLY_CHANGED);
    days.inventory(1, &[("a", 1), ("b", 1)]);
    let first = days.touches(&["a", "b"]).ended(0).job().to_owned();
    days.plan(&format!("{ONLY_CHANGED}{OTHER}"));
    let other = days.touches(&["a", "b"]).ended(0).job().to_owned();
    // Each is the last that its plan has completed.
    let refused = days.run(&["delete", &other, "--auto-approve"]).ended(6);
    assert!(refused.stderr.contains("cannot tell what has changed since lists/daily/2026-01-01"), "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("batchplan delete {} --force", &other[..8])), "{}", refused.stderr);
    let deleted = days.run(&["delete", &other, "--auto-approve", "--force"]).ended(0);
    assert!(deleted.stderr.contains("it may have changed objects: if you apply an earlier plan"), "{}", deleted.stderr);
    days.plan(ONLY_CHANGED);
    days.inventory(2, &[("a", 1), ("b", 1)]);
    days.touches(&["a", "b"]).ended(0).says(&format!("that of job {}, which ran last", &other[..8]));
    // The first is not the last any more: nothing goes by it.
    days.run(&["delete", &first, "--auto-approve"]).ended(0);
    days.finds_nothing();
}

#[test]
fn whoever_only_looks_deletes_nothing_and_a_clock_that_leaps_does_not_either() {
    let days = Days::of(Dialect::Aws, &["a", "b"]);
    days.plan(ONLY_CHANGED);
    for day in 1..=3 {
        days.inventory(day, &[("a", day), ("b", 1)]);
        days.apply().ended(0);
    }
    days.inventory(4, &[("a", 3), ("b", 1)]);
    days.run(&["create", "plan.toml"]).ended(0);
    let world = &days.scene.world;
    let there = || {
        let text = |job: &Json, name: &str| job[name].as_str().expect("a text").to_owned();
        let jobs: Vec<_> = days.listed().iter().map(|job| (text(job, "job_id"), text(job, "status"))).collect();
        let folders = std::fs::read_dir(world.path(".batchplan/jobs")).expect("a folder").count();
        (jobs, folders)
    };
    let before = there();
    assert_eq!((before.0.len(), before.1), (4, 4));
    days.set_clock(31 * 24);
    for args in [&["list"][..], &["list", "--json"], &["show", &before.0[0].0], &["plan", "plan.toml"]] {
        days.run(args).ended(0);
        assert_eq!(there(), before, "{args:?}");
    }
    // A command that works says that the clock has leapt.
    let ran = days.run(&["run"]);
    assert!(ran.stderr.contains("the clock is 31 days ahead of the last record in the journal"), "{}", ran.stderr);
    assert!(ran.stderr.contains(": 3 expired jobs are kept"), "{}", ran.stderr);
    assert_eq!(there(), before);
    for days_ahead in [0, -400, 0] {
        days.set_clock(days_ahead * 24);
        let ran = days.run(&["run"]);
        assert!(!ran.stderr.contains("the clock"), "{}", ran.stderr);
        assert_eq!(there(), before);
    }
    // Time that passes makes them old, all but the one that the next goes by.
    for days_ahead in [7, 14, 21, 28, 35] {
        days.set_clock(days_ahead * 24);
        days.run(&["run"]);
    }
    let left = there();
    assert_eq!((left.0.len(), left.1), (2, 2), "{left:?}");
    assert_eq!((left.0[0].1.as_str(), left.0[1].1.as_str()), ("Failed", "Complete"));
}

#[test]
fn a_row_that_is_there_twice_counts_once_in_a_job_of_all_objects() {
    for (dialect, recurring) in [(Dialect::Aws, ONLY_CHANGED), (Dialect::Oss, "[recurring]\n")] {
        let days = Days::of(dialect, &["a", "b"]);
        days.plan(recurring);
        days.inventory(1, &[("a", 1), ("b", 1), ("a", 1), ("b", 2)]);
        let first = days.touches(&["a", "b"]);
        assert_eq!(first.ended(0).result["total"], 2);
        // Likewise where all is taken because nothing can be compared with.
        days.remove_inventory(1);
        days.inventory(2, &[("a", 1), ("b", 1), ("b", 1)]);
        days.touches(&["a", "b"]).ended(0);
    }
}

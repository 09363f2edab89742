//! Checkpoints that earlier versions left are resumed by this one. See the README beside this file.

mod kept;

#[path = "../support/folders.rs"]
mod folders;
#[path = "../apply/world.rs"]
#[expect(dead_code, reason = "tests of applying use the rest")]
mod world;

use std::collections::BTreeSet;

use serde_json::Value as Json;

use kept::{Checkpoint, Left, key, keys};

/// Resumes the only unfinished job with this command, and expects it to end Complete with this many objects.
#[track_caller]
fn resumes(left: &Left, args: &[&str], objects: u64) -> Json {
    let before = left.unfinished();
    let done = left.run(args).ended(0).json();
    let done = done.get("jobs").map_or_else(|| done.clone(), |jobs| jobs[0].clone());
    assert_eq!(done["job_id"], before.as_str(), "another job was made: {done}");
    assert_eq!((&done["status"], &done["succeeded"]), (&"Complete".into(), &objects.into()), "{done}");
    done
}

/// The keys in the rows of a finished job's report, sorted. Each stands there once.
#[track_caller]
fn reported(left: &Left, done: &Json) -> BTreeSet<String> {
    let folder = left.path(done["report_folder"].as_str().expect("a folder"));
    let rows: Vec<_> = world::report_rows(&folder).into_iter().map(|row| row[1].clone()).collect();
    let keys: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(keys.len(), rows.len(), "a row stands there twice");
    keys
}

/// Resumes a job in the middle of its work: what was settled is not done again, and everything is in the report once.
#[track_caller]
fn goes_on_in_the_middle(name: &str) {
    let left = Left::of(name, &Checkpoint::default());
    let job = left.unfinished();
    let settled = left.settled(&job);
    let done = resumes(&left, &["resume", &job, "--state", "state", "--json"], 60);
    assert_eq!(reported(&left, &done), keys(60));
    let tagged = left.tagged();
    assert!(0 < settled && settled < 60, "{name} was to be stopped in its middle: {settled}");
    assert!(tagged.len() < 60, "{name} began again");
    assert!(tagged.len() as u64 >= 60 - settled, "{name}: {settled} were settled, and only {tagged:?} done now");
}

#[test]
fn one_that_is_paused_goes_on() {
    goes_on_in_the_middle("paused");
}

#[test]
fn one_that_was_killed_goes_on() {
    goes_on_in_the_middle("interrupted");
}

#[test]
fn one_that_was_killed_between_its_report_and_its_journal_goes_on() {
    goes_on_in_the_middle("between-report-and-journal");
}

#[test]
fn one_that_waits_to_be_confirmed_is_confirmed_and_done() {
    let left = Left::of("suspended", &Checkpoint::default());
    let job = left.unfinished();
    left.run(&["confirm", &job, "--state", "state"]).ended(0);
    let done = resumes(&left, &["run", "--state", "state", "--json"], 60);
    assert_eq!((reported(&left, &done), left.tagged()), (keys(60), keys(60)));
}

#[test]
fn one_that_is_ready_is_done() {
    let left = Left::of("ready", &Checkpoint::default());
    let done = resumes(&left, &["run", "--state", "state", "--json"], 60);
    assert_eq!((reported(&left, &done), left.tagged()), (keys(60), keys(60)));
}

#[test]
fn one_whose_listing_was_interrupted_lists_the_rest() {
    let all: Vec<_> = (0..12_000).map(kept::listed_key).collect();
    // What was listed before is not asked for again, so that it may be gone by now.
    let rest = all[1..].to_vec();
    let left = Left::of("half-listed", &Checkpoint { keys: rest, ..Checkpoint::default() });
    let job = left.unfinished();
    let made = left.run(&["create", "plan.toml", "--state", "state", "--json"]).ended(0).json();
    assert_eq!((&made["job_id"], &made["total"]), (&job.into(), &12_000.into()), "{made}");
}

#[test]
fn one_whose_report_is_finished_is_concluded() {
    let left = Left::of("report-finished", &Checkpoint::default());
    let job = left.unfinished();
    let done = resumes(&left, &["resume", &job, "--state", "state", "--json"], 60);
    assert_eq!(reported(&left, &done), keys(60));
    assert_eq!(left.tagged(), BTreeSet::new(), "nothing was left to do");
}

#[test]
fn a_report_that_was_not_published_is_published() {
    let left = Left::of("report-not-published", &Checkpoint::default());
    let job = left.newest();
    left.run(&["publish", &job, "--state", "state"]).ended(0);
    let uploads = left.uploads("later", "out/");
    assert!(uploads.iter().any(|name| name.ends_with("manifest.json")), "{uploads:?}");
    assert!(uploads.iter().any(|name| name.ends_with("report-0.csv")), "{uploads:?}");
}

#[test]
fn a_day_of_a_recurring_plan_goes_on_and_the_day_is_done_once() {
    let mut all: Vec<_> = (0..60).map(key).collect();
    all.extend((0..10).map(|n| format!("new{n}")));
    let left = Left::of("recurring", &Checkpoint { keys: all, ..Checkpoint::default() });
    let job = left.unfinished();
    // Of the second day: every third object is another one, and ten are new.
    let done = resumes(&left, &["resume", &job, "--state", "state", "--json"], 30);
    let mut expected: BTreeSet<_> = (0..60).step_by(3).map(key).collect();
    expected.extend((0..10).map(|n| format!("new{n}")));
    assert_eq!(reported(&left, &done), expected);
    let again = left.run(&["apply", "plan.toml", "--auto-approve", "--state", "state"]).ended(0);
    assert!(left.tagged().is_subset(&expected), "a day was worked on again: {}", again.stderr);
}

#[test]
fn a_day_that_is_complete_is_not_done_again() {
    let left = Left::of("recurring-complete", &Checkpoint { files_of: Some("recurring"), ..Checkpoint::default() });
    left.run(&["apply", "plan.toml", "--auto-approve", "--state", "state"]).ended(0);
    assert_eq!(left.tagged(), BTreeSet::new());
}

#[test]
fn a_saved_plan_is_applied() {
    let left = Left::of("saved-plan", &Checkpoint { in_process: true, ..Checkpoint::default() });
    let args = ["apply", "saved.bpl", "--plan", "plan.toml", "--auto-approve", "--state", "state", "--json"];
    let done = left.run(&args).ended(0).json();
    assert_eq!(reported(&left, &done), keys(60));
}

/// Applies the plan of a state in a bucket, whose server has an address that only Linux has by itself, on a machine
/// that has nothing of it, and says how many objects were settled now.
#[cfg(target_os = "linux")]
#[track_caller]
fn goes_on_elsewhere(name: &str) -> usize {
    let left = Left::of(name, &Checkpoint::default());
    let url = left.state_url();
    let listed = left.run(&["list", "--state", &url, "--json"]).ended(0).json();
    let done = left.run(&["apply", "plan.toml", "--auto-approve", "--state", &url, "--json"]).ended(0).json();
    assert_eq!(done["job_id"], listed["jobs"][0]["job_id"], "another job was made");
    assert_eq!(done["succeeded"], 60);
    assert_eq!(reported(&left, &done), keys(60));
    left.tagged().len()
}

#[cfg(target_os = "linux")]
#[test]
fn one_in_a_bucket_that_waits_to_be_confirmed_is_done() {
    assert_eq!(goes_on_elsewhere("remote-suspended"), 60);
}

#[cfg(target_os = "linux")]
#[test]
fn one_in_a_bucket_that_is_paused_goes_on() {
    assert!(goes_on_elsewhere("remote-paused") < 60);
}

#[cfg(target_os = "linux")]
#[test]
fn one_in_a_bucket_whose_process_is_gone_goes_on() {
    assert!(goes_on_elsewhere("remote-interrupted") < 60);
}

//! `confirm`, `pause`, `cancel`, `priority` and `delete` on jobs that nobody works on.

use std::collections::BTreeMap;

use crate::fixture::{ONE_FAILS, TAG, create, id, killed, newest, short, show, world};
use crate::world::{Ran, World, report_rows};

/// Behind a checkpoint that has outcomes: the first one may be made before any object was attempted.
const MIDWAY: &str = "journal-after-commit:2";

fn status(world: &World, job: &str) -> String {
    show(world, job)["status"].as_str().expect("a status").to_owned()
}

/// Kills a cancel in the midst of completing the report.
fn half_cancelled(world: &World, job: &str) {
    let mut command = world.command(&["cancel", job]);
    let ran = Ran::of(&command.env("BATCHPLAN_FAILPOINT", "report-finished:1").output().expect("the binary runs"));
    assert_eq!((ran.code, status(world, job)), (-1, "Cancelling".to_owned()), "{}", ran.stderr);
}

#[test]
fn created_confirmed_and_worked_on() {
    let world = world(TAG);
    let job = create(&world);
    let ran = world.run(&["confirm", &job[..9], "--json"]).ended(0);
    assert_eq!(ran.stderr, format!("job {job} is Ready\nnext: batchplan run\n", job = short(&job)));
    assert_eq!((&ran.json()["status"], &ran.json()["total"]), (&"Ready".into(), &2.into()));
    assert!(show(&world, &job)["confirmed"].as_bool().expect("a bool"));
    world.run(&["resume", &job]).ended(0);
    assert_eq!(world.objects().tags("a", None), "t=1");
    let ran = world.run(&["confirm", &job]).ended(6);
    assert_eq!(
        ran.stderr,
        format!(
            "error: job {job} is Complete: it is not waiting for confirmation\n  help: batchplan show {job}\n",
            job = short(&job)
        )
    );
}

#[test]
fn a_job_goes_only_where_it_may() {
    /// A status, how a job gets there, and how each command ends on one.
    type Row = (&'static str, fn(&World) -> String, [i32; 5]);
    let commands = ["confirm", "pause", "priority", "delete", "cancel"];
    let world = world(ONE_FAILS);
    let make: [Row; 9] = [
        ("Suspended", create, [0, 6, 0, 6, 0]),
        ("Ready", |world| ready(world), [6, 0, 0, 6, 0]),
        ("Paused", |world| paused(world), [6, 0, 0, 6, 0]),
        ("Complete", |world| applied(world), [6, 6, 6, 0, 6]),
        ("Cancelled", |world| cancelled(world), [6, 6, 6, 0, 6]),
        ("Preparing", |world| killed(world, "status-changed:1"), [0, 6, 0, 6, 0]),
        ("Active", |world| killed(world, MIDWAY), [6, 0, 0, 6, 0]),
        ("Failing", |world| failing(world), [6, 6, 6, 6, 0]),
        ("Cancelling", |world| cancelling(world), [6, 6, 6, 6, 0]),
    ];
    for (name, make, moves) in make {
        for (command, code) in commands.into_iter().zip(moves) {
            let job = make(&world);
            assert_eq!(status(&world, &job), name);
            let more = match command {
                "priority" => &["7"][..],
                "delete" => &["--auto-approve"],
                _ => &[],
            };
            let ran = world.run(&[&[command, &job], more].concat());
            assert_eq!(ran.code, code, "{command} of one that is {name}: {}", ran.stderr);
            if code == 6 {
                assert!(
                    ran.stderr.contains(&format!("job {job} is {name}: ", job = short(&job))),
                    "{command}: {}",
                    ran.stderr
                );
                assert_eq!(status(&world, &job), name, "{command}");
            }
        }
    }
}

fn ready(world: &World) -> String {
    let job = create(world);
    world.run(&["confirm", &job]).ended(0);
    job
}

fn paused(world: &World) -> String {
    let job = ready(world);
    world.run(&["pause", &job]).ended(0);
    job
}

fn applied(world: &World) -> String {
    id(&world.run(&["apply", "plan.toml", "--auto-approve", "--new", "--json"]).ended(3))
}

fn cancelled(world: &World) -> String {
    let job = create(world);
    world.run(&["cancel", &job]).ended(0);
    job
}

/// One that failed too often, and was interrupted before its report was complete.
fn failing(world: &World) -> String {
    let plan = std::fs::read_to_string(world.path("plan.toml")).expect("the plan");
    world.write("plan.toml", plan.replace("failure_threshold = 1\n", "failure_threshold = 0.1\n"));
    let job = killed(world, "status-changed:4");
    world.write("plan.toml", plan);
    job
}

fn cancelling(world: &World) -> String {
    let job = killed(world, MIDWAY);
    half_cancelled(world, &job);
    job
}

/// What is in the report of a job that is over, and what is recorded of it, agree.
#[track_caller]
fn reported(world: &World, job: &str, expected: &str) {
    let shown = show(world, job);
    assert_eq!(shown["status"], expected, "{shown}");
    let rows = report_rows(&world.path(shown["folder"].as_str().expect("a folder")).join("report"));
    let settled = shown["succeeded"].as_u64().expect("a count") + shown["failed"].as_u64().expect("a count");
    assert!(settled > 0, "{shown}");
    assert_eq!(rows.len() as u64, settled, "{shown}");
    let mut times = BTreeMap::<_, u32>::new();
    for row in &rows {
        *times.entry(row[1].as_str()).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "each object once: {times:?}");
}

#[test]
fn a_job_that_was_interrupted_is_cancelled_with_its_report() {
    let world = world(ONE_FAILS);
    let job = killed(&world, MIDWAY);
    let ran = world.run(&["cancel", &job, "--reason", "enough", "--json"]).ended(0);
    assert!(ran.stderr.starts_with(&format!("job {job} is Cancelled: enough\n", job = short(&job))), "{}", ran.stderr);
    assert!(ran.stderr.ends_with(&format!("report: s3://bkt/r/{job}/results/manifest.json\n")), "{}", ran.stderr);
    assert_eq!((&ran.json()["status"], &ran.json()["reason"]), (&"Cancelled".into(), &"enough".into()));
    reported(&world, &job, "Cancelled");
    assert_eq!(show(&world, &job)["report_state"], "published");
}

#[test]
fn a_cancel_that_was_interrupted_is_done_again() {
    let world = world(ONE_FAILS);
    let job = cancelling(&world);
    world.run(&["cancel", &job]).ended(0);
    reported(&world, &job, "Cancelled");
}

#[test]
fn a_job_that_was_failing_when_it_was_interrupted_has_failed() {
    let world = world(ONE_FAILS);
    let job = failing(&world);
    let ran = world.run(&["cancel", &job]).ended(0);
    assert!(ran.stderr.starts_with(&format!("job {job} is Failed: 1 of ", job = short(&job))), "{}", ran.stderr);
    reported(&world, &job, "Failed");
}

#[test]
fn where_the_store_cannot_be_reached_the_report_is_completed_here() {
    let world = world(ONE_FAILS);
    for (make, ended) in [(killed as fn(&_, &str) -> String, "Cancelled"), (|world, _| failing(world), "Failed")] {
        let job = make(&world, MIDWAY);
        let busy = world.objects();
        let ran = world.run(&["cancel", &job, "--json"]).ended(1);
        let publish = |job: &str| format!("batchplan publish {job}");
        assert!(ran.stderr.contains("could not be published"), "{}", ran.stderr);
        assert!(ran.stderr.contains("is in use by another process"), "{}", ran.stderr);
        assert!(ran.stderr.ends_with(&format!("publish it again: {}\n", publish(short(&job)))), "{}", ran.stderr);
        assert_eq!(ran.json()["status"], ended);
        reported(&world, &job, ended);
        let shown = show(&world, &job);
        assert_eq!((&shown["report_state"], &shown["next"]), (&"due".into(), &publish(&job).into()));
        // Nothing may lose it meanwhile.
        let refused = world.run(&["delete", &job, "--auto-approve"]).ended(6);
        assert!(refused.stderr.contains("is not published yet"), "{}", refused.stderr);
        drop(busy);
        world.run(&["publish", &job]).ended(0);
        assert_eq!(show(&world, &job)["report_state"], "published");
    }
}

#[test]
fn what_is_deleted_is_gone() {
    let world = world(ONE_FAILS);
    let job = applied(&world);
    let folder = world.path(".batchplan/jobs").join(&job);
    assert!(folder.is_dir());
    let ran = world.run(&["delete", &job]).ended(6);
    assert!(ran.stderr.contains("there is no terminal to ask on"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("batchplan delete {} --auto-approve\n", short(&job))), "{}", ran.stderr);
    let ran = world.run(&["delete", &job[..8], "--auto-approve", "--json"]).ended(0);
    assert_eq!(ran.json(), serde_json::json!({ "version": 2, "job_id": job, "deleted": true }));
    assert!(!folder.exists());
    world.run(&["show", &job]).ended(2);
    assert_eq!(world.run(&["list"]).ended(0).stderr, "no jobs\n");
}

#[test]
fn a_report_that_was_not_published_is_lost_only_by_force() {
    let world = world(ONE_FAILS);
    let job = killed(&world, MIDWAY);
    let busy = world.objects();
    world.run(&["cancel", &job]).ended(1);
    drop(busy);
    let ran = world.run(&["delete", &job, "--auto-approve"]).ended(6);
    assert!(ran.stderr.contains(&format!("batchplan delete {} --force", short(&job))), "{}", ran.stderr);
    world.run(&["delete", &job, "--auto-approve", "--force"]).ended(0);
    world.run(&["show", &job]).ended(2);
}

#[test]
fn ids_are_told_apart_or_refused() {
    let world = world(TAG);
    // The first character of an id is one of five.
    let jobs: Vec<_> = (0..6).map(|_| create(&world)).collect();
    let mut firsts = BTreeMap::<_, u32>::new();
    for job in &jobs {
        *firsts.entry(&job[..1]).or_default() += 1;
    }
    let (shared, count) = firsts.into_iter().max_by_key(|(_, count)| *count).expect("jobs");
    assert!(count > 1);
    let everything =
        [&["show"][..], &["confirm"], &["pause"], &["cancel"], &["delete", "--auto-approve"], &["priority"]];
    for command in everything {
        let with = |id: &str| {
            let mut args = command.to_vec();
            args.insert(1, id);
            args.extend((command[0] == "priority").then_some("1"));
            world.run(&args).ended(2).stderr
        };
        let said = with(shared);
        assert!(said.starts_with(&format!("error: {count} job IDs start with {shared}\n  help: ")), "{said}");
        for unknown in ["zzzz", "", "../../etc", "*", &"x".repeat(100_000)] {
            let said = with(unknown);
            assert!(said.starts_with("error: there is no job "), "{command:?} {unknown:.10}: {said:.200}");
            assert!(said.len() < 1000, "{}", said.len());
        }
    }
    assert_eq!(
        world.run(&["list", "--status", "suspended", "--json"]).json()["jobs"].as_array().map(Vec::len),
        Some(6)
    );
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let world = world(TAG);
    let job = create(&world);
    for args in [
        &["priority", &job, "-1"][..],
        &["priority", &job, "2147483648"],
        &["priority", &job],
        &["cancel", &job, "--reason", ""],
        &["cancel", &job, "--reason", &"é".repeat(257)],
        &["pause"],
        &["show", &job, "--json", "--format", "xml"],
    ] {
        world.run(args).ended(2);
    }
    world.run(&["priority", &job, "2147483647"]).ended(0);
    assert_eq!(show(&world, &job)["priority"], 2_147_483_647);
    world.run(&["cancel", &job, "--reason", &"é".repeat(256)]).ended(0);
}

#[test]
fn another_state_folder_is_named_in_what_comes_next() {
    let world = world(TAG);
    let job = id(&world.run(&["create", "plan.toml", "--json", "--state", "my state"]).ended(0));
    let ran = world.run(&["confirm", &job, "--state", "my state"]).ended(0);
    assert!(ran.stderr.ends_with("next: batchplan run --state 'my state'\n"), "{}", ran.stderr);
    world.run(&["show", &job]).ended(2);
    let shown = world.run(&["show", &job, "--state", "my state"]).ended(0).stdout;
    assert!(shown.ends_with("next: batchplan run --state 'my state'\n"), "{shown}");
    // What the rooms below advise knows no flags by itself.
    let refused = world.run(&["confirm", &job, "--state", "my state"]).ended(6).stderr;
    assert!(refused.ends_with(&format!("help: batchplan show --state 'my state' {}\n", short(&job))), "{refused}");
}

#[test]
fn a_retry_of_other_failures_is_not_gone_on_with() {
    let world = world(ONE_FAILS);
    let first = id(&world.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(3));
    let report = format!(".batchplan/jobs/{first}/report/manifest.json");
    let retry = ["retry", "--report", &report, "--plan", "plan.toml", "--auto-approve", "--json"];
    let mut killed = world.command(&[&retry[..], &["--status", "404"]].concat());
    killed.env("BATCHPLAN_FAILPOINT", "journal-after-commit:1").env("BATCHPLAN_CHECKPOINT_EVERY", "1");
    assert_eq!(Ran::of(&killed.output().expect("the binary runs")).code, -1);
    let job = newest(&world);
    let other = world.run(&[&retry[..], &["--status", "403"]].concat()).ended(0);
    assert_ne!(id(&other), job);
    assert_eq!(other.json()["total"], 0);
    let elsewhere = ["retry", "--report", "https://a.example/manifest.json", "--plan", "plan.toml", "--auto-approve"];
    assert!(world.run(&elsewhere).ended(2).stderr.contains("s3://BUCKET/KEY"));
    let same = world.run(&[&retry[..], &["--status", "404"]].concat()).ended(3);
    assert!(same.stderr.starts_with(&format!("resuming job {job} (", job = short(&job))), "{}", same.stderr);
    assert_eq!(id(&same), job);
}

#[test]
fn only_a_report_that_is_complete_is_published() {
    let world = world(TAG);
    let job = create(&world);
    let refused = world.run(&["publish", &job]).ended(6).stderr;
    let said = format!(
        "error: job {job} is Suspended: its report is not complete\n  help: batchplan show {job}\n",
        job = short(&job)
    );
    assert_eq!(refused, said);
    world.run(&["cancel", &job]).ended(0);
    let refused = world.run(&["publish", &job]).ended(6).stderr;
    assert!(
        refused.starts_with(&format!("error: job {job} is Cancelled: it has no report\n", job = short(&job))),
        "{refused}"
    );
}

//! `show`: everything that is known of a job.

use crate::fixture::{ONE_FAILS, TAG, create, expect, id, killed, normal, normal_json, short, show, world};

#[test]
fn a_job_is_shown_whole() {
    let world = world(ONE_FAILS);
    let job = id(&world.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(3));
    let ran = world.run(&["show", &job[..10]]).ended(0);
    expect("show-complete.txt", &normal(&world, &ran.stdout));
    assert_eq!(ran.stderr, "");
    expect("show-complete.json", &normal_json(&world, &show(&world, &job)));
    expect("show-complete.xml", &normal(&world, &world.run(&["show", &job, "--format", "xml"]).ended(0).stdout));
}

#[test]
fn a_job_that_was_never_active_is_shown_as_such() {
    let world = world(TAG);
    let job = create(&world);
    expect("show-suspended.txt", &normal(&world, &world.run(&["show", &job]).ended(0).stdout));
    expect("show-suspended.xml", &normal(&world, &world.run(&["show", &job, "--format", "xml"]).ended(0).stdout));
    world.run(&["cancel", &job, "--reason", "wrong <bucket> & \"co\""]).ended(0);
    expect("show-cancelled.txt", &normal(&world, &world.run(&["show", &job]).ended(0).stdout));
    expect("show-cancelled.xml", &normal(&world, &world.run(&["show", &job, "--format", "xml"]).ended(0).stdout));
}

#[test]
fn an_interrupted_job_is_shown_as_such() {
    let world = world(ONE_FAILS);
    let job = killed(&world, "journal-after-commit:1");
    let page = world.run(&["show", &job]).ended(0).stdout;
    assert!(
        page.starts_with(&format!("job {job} is Active (interrupted: its process died)\n", job = short(&job))),
        "{page}"
    );
    assert!(page.ends_with(&format!("\nnext: batchplan resume {job}\n", job = short(&job))), "{page}");
    let shown = show(&world, &job);
    assert_eq!((&shown["status"], &shown["interrupted"]), (&"Active".into(), &true.into()));
    assert_eq!((&shown["holder"], &shown["report_state"]), (&serde_json::Value::Null, &"open".into()));
    // Nobody will go on with it by itself: watching ends.
    let watched = world.run(&["show", &job, "--watch"]).ended(0).stdout;
    assert_eq!(watched.lines().count(), 1, "{watched}");
    assert!(watched.starts_with("Active (interrupted): "), "{watched}");
}

#[test]
fn a_job_whose_manifest_is_wrong_says_why_it_failed() {
    let world = world(ONE_FAILS);
    world.write("list.csv", "bkt\n");
    let job = id(&world.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(4));
    expect("show-failed.txt", &normal(&world, &world.run(&["show", &job]).ended(0).stdout));
    expect("show-failed.xml", &normal(&world, &world.run(&["show", &job, "--format", "xml"]).ended(0).stdout));
}

#[test]
fn one_example_is_shown_or_ten() {
    let world = world(ONE_FAILS);
    let rows: Vec<_> = (0..12).map(|n| format!("bkt,gone{n:02}\n")).collect();
    world.write("list.csv", rows.concat());
    let job = id(&world.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(3));
    let examples = |args: &[&str]| {
        let text = world.run(&[&["show", &job], args].concat()).ended(0).stdout;
        text.matches("bkt/gone").count()
    };
    assert_eq!((examples(&[]), examples(&["--examples"])), (1, 10));
    let json = world.run(&["show", &job, "--json", "--examples"]).ended(0).json();
    let failures = json["failures"].as_array().expect("failures");
    assert_eq!((failures.len(), &failures[0]["count"], &failures[0]["http"]), (1, &12.into(), &404.into()));
    assert_eq!(failures[0]["examples"].as_array().map(Vec::len), Some(10));
}

#[test]
fn nothing_that_is_shown_commands_the_terminal() {
    let world = world(ONE_FAILS);
    world.write("list.csv", "bkt,%1B%5B2Jx%0A%20%20priority%20%20%209\n");
    let job = id(&world.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(3));
    let other = create(&world);
    let cancelled = world.run(&["cancel", &other, "--reason", "\u{1b}[2J\n  priority       9\u{202e}"]).ended(0);
    for text in [
        world.run(&["show", &job]).ended(0).stdout,
        world.run(&["show", &other]).ended(0).stdout,
        world.run(&["show", &other, "--watch"]).ended(0).stdout,
        cancelled.stderr,
    ] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        assert!(!text.contains("\n  priority       9"), "{text}");
    }
}

#[test]
fn a_retry_and_what_it_retries_know_each_other() {
    let world = world(ONE_FAILS);
    let first = id(&world.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(3));
    let retry = id(&world.run(&["retry", &first, "--auto-approve", "--json"]).ended(3));
    let (one, other) = (show(&world, &first), show(&world, &retry));
    assert_eq!((&one["retried_by"], &one["retry_of"]), (&serde_json::json!([retry]), &serde_json::Value::Null));
    assert_eq!((&other["retry_of"], &other["origin"]), (&first.as_str().into(), &"retry".into()));
    assert_eq!(other["total"], 1);
    let xml = world.run(&["show", &retry, "--format", "xml"]).ended(0).stdout;
    assert!(!xml.contains("Manifest"), "its objects are those that the first job left: {xml}");
}

#[test]
fn what_a_journal_keeps_may_be_a_plan_that_is_not_accepted_any_more() {
    let world = world(TAG);
    let job = create(&world);
    let journal = rusqlite::Connection::open(world.path(".batchplan/journal.db")).expect("the journal");
    journal.execute("UPDATE job SET plan = CAST('name = 7' AS BLOB)", []).expect("changed");
    drop(journal);
    let shown = show(&world, &job);
    assert!(shown["plan_error"].as_str().expect("an error").contains("no longer valid"), "{shown}");
    assert_eq!((&shown["confirmation_required"], &shown["status"]), (&serde_json::Value::Null, &"Suspended".into()));
    assert!(world.run(&["show", &job]).ended(0).stdout.contains("  plan error"));
    let ran = world.run(&["show", &job, "--format", "xml"]).ended(1);
    assert!(ran.stderr.contains("use the version of batchplan that created the job"), "{}", ran.stderr);
}

#[test]
fn a_job_whose_manifest_could_not_be_read_is_to_be_applied_again() {
    let world = world(ONE_FAILS);
    world.write("list.csv", "bkt\n");
    world.run(&["apply", "plan.toml", "--auto-approve"]).ended(4);
    let page = world.run(&["show", &crate::fixture::newest(&world)]).ended(0).stdout;
    assert!(
        page.contains(" is Failed (before it started: nothing was changed)\n")
            && page.ends_with("\nnext: batchplan apply plan.toml\n"),
        "{page}"
    );
}

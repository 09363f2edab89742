//! `list`: which jobs, in which order, in which form.

use std::collections::BTreeSet;

use crate::fixture::{ONE_FAILS, TAG, create, expect, id, killed, normal, normal_json, world};
use crate::world::{Ran, World};

fn listed(ran: &Ran) -> Vec<String> {
    let json = ran.json();
    let jobs = json["jobs"].as_array().expect("jobs").iter();
    jobs.map(|job| job["job_id"].as_str().expect("an id").to_owned()).collect()
}

/// Five jobs in five statuses, oldest first.
fn five() -> (World, Vec<String>) {
    let world = world(ONE_FAILS);
    let complete = id(&world.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(3));
    let cancelled = create(&world);
    world.run(&["cancel", &cancelled]).ended(0);
    let paused = create(&world);
    world.run(&["confirm", &paused]).ended(0);
    world.run(&["pause", &paused]).ended(0);
    world.run(&["priority", &paused, "2147483647"]).ended(0);
    let interrupted = killed(&world, "journal-after-commit:1");
    let suspended = create(&world);
    (world, vec![complete, cancelled, paused, interrupted, suspended])
}

#[test]
fn jobs_are_listed_newest_first() {
    let (world, jobs) = five();
    let ran = world.run(&["list"]).ended(0);
    let short = |text: &str| jobs.iter().fold(text.to_owned(), |text, job| text.replace(&job[..8], "[SHORT]"));
    expect("list.txt", &normal(&world, &short(&ran.stdout)));
    assert_eq!(ran.stderr, "");
    expect("list.xml", &normal(&world, &world.run(&["list", "--format", "xml"]).ended(0).stdout));
    let ran = world.run(&["list", "--json"]).ended(0);
    let newest_first: Vec<_> = jobs.iter().rev().cloned().collect();
    assert_eq!(listed(&ran), newest_first);
    expect("list.json", &normal_json(&world, &ran.json()));
}

#[test]
fn a_status_or_a_time_narrows_the_list() {
    let (world, jobs) = five();
    let [complete, cancelled, paused, interrupted, suspended] = &jobs[..] else { panic!("five") };
    let all = [suspended, interrupted, paused, cancelled, complete];
    for (args, expected) in [
        (vec!["--status", "paused"], vec![paused]),
        (vec!["--status", "ACTIVE,complete"], vec![interrupted, complete]),
        (vec!["--status", "Suspended", "--status", "cancelled"], vec![suspended, cancelled]),
        (vec!["--status", "Failed"], vec![]),
        (vec!["--since", "1h"], all.to_vec()),
        (vec!["--since", "2000-01-01", "--until", "2100-01-01T00:00:00+08:00"], all.to_vec()),
        (vec!["--until", "1d"], vec![]),
        (vec!["--since", "2100-01-01"], vec![]),
        (vec!["--after", paused], vec![cancelled, complete]),
        (vec!["--after", &paused[..12], "--limit", "1"], vec![cancelled]),
        (vec!["--after", complete], vec![]),
    ] {
        let ran = world.run(&[&["list", "--json"], &args[..]].concat()).ended(0);
        assert_eq!(listed(&ran).iter().collect::<Vec<_>>(), expected, "{args:?}");
    }
    let ran = world.run(&["list", "--status", "failed"]).ended(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", "no jobs\n"));
}

#[test]
fn pages_follow_each_other_to_the_end() {
    let world = world(TAG);
    let mut jobs: Vec<_> = (0..5).map(|_| create(&world)).collect();
    jobs.reverse();
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut args = vec!["list", "--limit", "2", "--since", "2d", "--status", "suspended"];
        args.extend(after.iter().flat_map(|after| ["--after", after]));
        let json = world.run(&[&args[..], &["--json"]].concat()).ended(0);
        seen.extend(listed(&json));
        let next = json.json()["next"].as_str().map(str::to_owned);
        let xml = world.run(&[&args[..], &["--format", "xml"]].concat()).ended(0).stdout;
        let token = xml.split_once("<NextToken>").map(|(_, rest)| rest.split('<').next().expect("closed").to_owned());
        assert_eq!(token, next);
        let table = world.run(&args).ended(0);
        let Some(next) = next else {
            assert_eq!(table.stderr, "");
            break;
        };
        // The command that is shown gives the page after this one, of the same list.
        let command = table.stderr.trim_end().strip_prefix("for more jobs: batchplan ").expect("a command");
        let words: Vec<_> = command.split(' ').chain(["--json"]).collect();
        assert!(words.contains(&"--since") && words.contains(&"Suspended"), "{command}");
        let following = listed(&world.run(&words).ended(0));
        assert_eq!(following, jobs[seen.len()..jobs.len().min(seen.len() + 2)]);
        after = Some(next);
    }
    assert_eq!(seen, jobs);
}

#[test]
fn short_ids_name_one_job_each() {
    let world = world(TAG);
    let jobs: BTreeSet<_> = (0..6).map(|_| create(&world)).collect();
    let table = world.run(&["list"]).ended(0).stdout;
    let shorts: Vec<_> = table.lines().skip(1).map(|line| line.split(' ').next().expect("an id")).collect();
    let found: BTreeSet<_> = shorts
        .iter()
        .map(|short| {
            assert!(short.len() >= 8, "{short}");
            id(&world.run(&["priority", short, "1", "--json"]).ended(0))
        })
        .collect();
    assert_eq!(found, jobs);
}

#[test]
fn where_there_are_no_jobs_the_list_is_empty() {
    let world = world(TAG);
    assert_eq!(world.run(&["list"]).ended(0).stderr, "no jobs\n");
    assert_eq!(
        world.run(&["list", "--json"]).ended(0).json(),
        serde_json::json!({ "version": 2, "jobs": [], "next": null })
    );
    let xml = world.run(&["list", "--format", "xml"]).ended(0).stdout;
    assert!(xml.contains("<ListJobsResult>") && !xml.contains("<Job>"), "{xml}");
    assert!(!world.path(".batchplan").exists(), "looking makes nothing");
}

#[test]
fn a_list_that_makes_no_sense_is_refused() {
    let world = world(TAG);
    create(&world);
    for (args, says) in [
        (["--status", "running"], "expected one of New, "),
        (["--status", "Cleaning"], "expected one of New, "),
        (["--since", "yesterday"], "or an age such as 7d"),
        (["--limit", "0"], "must be a whole number from 1 to 1000"),
        (["--limit", "1001"], "must be a whole number from 1 to 1000"),
        (["--after", "zzzz"], "there is no job zzzz"),
        (["--format", "yaml"], "xml"),
    ] {
        let ran = world.run(&["list", args[0], args[1]]).ended(2);
        assert!(ran.stderr.contains(says), "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}

//! What one machine begins, another ends.

use std::os::unix::process::ExitStatusExt as _;

use crate::bucket::{Kind, Manner};
use crate::place::{APPLY, Place, keys, until};

#[test]
fn what_was_paused_on_one_machine_is_gone_on_with_in_an_empty_folder() {
    let place = Place::with_objects(120);
    let (here, there) = (place.machine("here"), place.machine("there"));
    let running = here.start_and_hold(40);
    running.interrupt();
    running.says("Pausing: finishing requests in flight");
    place.let_go();
    let paused = running.over().ended(5);
    assert_eq!(paused.json()["status"], "Paused");
    let done = there.apply().ended(0).said("resuming job");
    assert_eq!(
        (done.json()["job_id"].clone(), done.json()["succeeded"].clone()),
        (paused.json()["job_id"].clone(), 120.into())
    );
    assert_eq!(place.reported(), keys(120));
    // Everything was pushed at the pause: nothing is done twice.
    assert_eq!(place.work.count(Kind::PutTags).served, 120);
}

#[test]
fn what_was_killed_on_one_machine_is_gone_on_with_in_an_empty_folder() {
    let place = Place::with_objects(120);
    let (here, there) = (place.machine("here"), place.machine("there"));
    let running = here.start_and_hold(60);
    let chest = place.chest();
    until("something was pushed", || !chest.names("heads/").is_empty());
    running.kill();
    place.let_go();
    let done = there.apply().ended(0);
    assert_eq!(done.json()["succeeded"], 120);
    assert_eq!(place.reported(), keys(120));
    // The killed one's lock was waited for, and says who it was.
    done.said("the state is held by here@");
    // The same machine, again: the job of this token is over.
    assert_eq!(here.apply().ended(0).json()["job_id"], there.apply().ended(0).json()["job_id"]);
}

#[test]
fn a_killed_run_is_gone_on_with_at_once_on_its_own_machine() {
    let place = Place::with_objects(60);
    let here = place.machine("here");
    let running = here.start_and_hold(30);
    until("something was pushed", || !place.chest().names("heads/").is_empty());
    running.kill();
    place.let_go();
    let done = here.apply().ended(0);
    assert!(!done.stderr.contains("is held by"), "{}", done.stderr);
    assert_eq!(place.reported(), keys(60));
}

#[test]
fn that_work_begins_is_pushed_before_the_first_object_is_touched() {
    let place = Place::with_objects(40);
    let (here, there) = (place.machine("here"), place.machine("there"));
    let mut command = here.command(&APPLY);
    // Its machine is gone after its first objects, before its first checkpoint, and long before a push is due.
    command.env("BATCHPLAN_PUSH_MS", "600000").env("BATCHPLAN_FAILPOINT", "report-flushed:1");
    let killed = command.output().expect("the binary runs");
    assert_eq!(killed.status.signal(), Some(9), "{}", String::from_utf8_lossy(&killed.stderr));
    let written = place.work.count(Kind::PutTags).served;
    assert!(written > 0);
    let url = place.url();
    let listed = there.run(&["list", "--json", "--state", &url]).ended(0).json();
    assert_eq!(listed["jobs"][0]["status"], "Active");
    let id = listed["jobs"][0]["job_id"].as_str().expect("an id");
    let shown = there.run(&["show", id, "--json", "--state", &url]).ended(0).json();
    assert!(shown["in_doubt"].as_u64() >= Some(written), "{written}: {shown}");
}

#[test]
fn jobs_are_listed_shown_and_retried_from_anywhere() {
    let place = Place::with_objects(50);
    place.work.behave(|seen| {
        let denied = seen.kind.works() && seen.key.ends_with('7');
        if denied { Manner::Refuse(403, "AccessDenied") } else { Manner::Serve }
    });
    let done = place.machine("here").apply().ended(3).json();
    let id = done["job_id"].as_str().expect("an id");
    let url = place.url();
    let there = place.machine("there");
    let listed = there.run(&["list", "--json", "--state", &url]).ended(0).json();
    assert_eq!(listed["jobs"][0]["job_id"], id);
    let shown = there.run(&["show", id, "--examples", "--state", &url]).ended(0).stdout;
    assert!(shown.contains("AccessDenied") && shown.contains("k0007"), "{shown}");
    // Looking takes no lock.
    assert_eq!(place.chest().names("lock/").len(), 1);
    place.let_go();
    let retried = there.run(&["retry", id, "--auto-approve", "--json", "--state", &url]).ended(0).json();
    assert_eq!((retried["total"].clone(), retried["succeeded"].clone()), (5.into(), 5.into()));
    let elsewhere = place.machine("elsewhere").run(&["list", "--json", "--state", &url]).ended(0).json();
    assert_eq!(elsewhere["jobs"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_job_whose_manifest_was_being_resolved_is_gone_on_with_elsewhere() {
    let place = Place::with_objects(450);
    // The third page of the listing never comes.
    let mut pages = 0;
    place.work.behave(move |seen| {
        pages += u32::from(seen.kind == Kind::List);
        if seen.kind == Kind::List && pages > 2 { Manner::Wait } else { Manner::Serve }
    });
    let running = place.machine("here").start(&APPLY);
    until("pages wait", || place.work.count(Kind::List).arrived > 2);
    let chest = place.chest();
    until("the job was pushed", || !chest.names("heads/").is_empty());
    running.kill();
    place.let_go();
    let done = place.machine("there").apply().ended(0).json();
    assert_eq!(done["succeeded"], 450);
    assert_eq!(place.reported(), keys(450));
}

#[test]
fn a_state_is_kept_in_oss_as_well() {
    let place = Place::with_objects(30);
    let url = format!("oss://states/team?region=cn-hangzhou&endpoint={}", place.state.endpoint());
    let (here, there) = (place.machine_with("here", &url), place.machine_with("there", &url));
    let running = here.start_and_hold(10);
    there.apply().ended(6).said("the state is held by here@");
    place.let_go();
    let done = running.over().ended(0);
    assert_eq!(there.apply().ended(0).json()["job_id"], done.json()["job_id"]);
    assert_eq!(place.reported(), keys(30));
}

#[test]
fn a_state_that_does_not_answer_keeps_no_cancelled_run() {
    let place = Place::with_objects(60);
    let url = format!("s3://states/team?endpoint={}&lock=false", place.work.endpoint());
    let here = place.machine_with("here", &url);
    let running = here.start_and_hold(20);
    until("something was pushed", || place.work.uploads("states").keys().any(|key| key.contains("heads/")));
    // From here on nothing that is pushed is answered, and all else is.
    place.work.behave(|seen| if seen.bucket == "states" { Manner::Wait } else { Manner::Serve });
    running.interrupt();
    // How long that takes is bounded by what a runner grants; here, that it ends at all.
    running.over().ended(1).said("there was no time to push the last changes");
}

#[test]
fn what_only_a_killed_run_knew_is_put_aside_once() {
    let place = Place::with_objects(120);
    let (here, there) = (place.machine("here"), place.machine("there"));
    let running = here.start_and_hold(60);
    let chest = place.chest();
    until("something was pushed", || !chest.names("heads/").is_empty());
    running.kill();
    place.let_go();
    there.apply().ended(0);
    let url = place.url();
    let list = ["list", "--json", "--state", &url];
    let listed = here.run(&list).ended(0).said("changes that were not pushed are kept in");
    assert_eq!(listed.json()["jobs"][0]["status"], "Complete");
    let id = listed.json()["jobs"][0]["job_id"].as_str().expect("an id").to_owned();
    there.run(&["delete", &id, "--auto-approve", "--state", &url]).ended(0);
    let again = here.run(&list).ended(0);
    assert!(!again.stderr.contains("are kept in"), "{}", again.stderr);
    let mirror = std::fs::read_dir(here.path(".batchplan/remote")).expect("a folder").next().expect("one").expect("it");
    let entries = std::fs::read_dir(mirror.path()).expect("a folder");
    let aside: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("aside-")))
        .collect();
    let [aside] = &aside[..] else { panic!("{aside:?}") };
    assert!(aside.join("jobs").join(&id).join("report/report-0.csv").exists());
}

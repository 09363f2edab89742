//! Two never hold a state at once.

use crate::bucket::{Kind, Manner};
use crate::place::{APPLY, Place, keys, until};

#[test]
fn a_second_one_is_refused_with_the_holders_name() {
    let place = Place::with_objects(60);
    let (here, there) = (place.machine("here"), place.machine("there"));
    let running = here.start_and_hold(20);
    let refused = there.apply().ended(6).said("error: the state is held by here@").said("batchplan state unlock");
    assert_eq!(refused.json()["error"]["code"], "InUse");
    // It has not worked on anything.
    assert_eq!(place.work.count(Kind::PutTags).arrived, 24);
    place.let_go();
    running.over().ended(0);
    assert_eq!(place.reported(), keys(60));
}

#[test]
fn a_second_one_waits_where_it_is_told_to() {
    let place = Place::with_objects(60);
    let (here, there) = (place.machine("here"), place.machine("there"));
    let running = here.start_and_hold(20);
    let waiting = there.start(&[&APPLY[..], &["--lock-timeout", "5m"]].concat());
    waiting.says("checking whether it is still running");
    place.let_go();
    let first = running.over().ended(0);
    let second = waiting.over().ended(0);
    assert_eq!(first.json()["job_id"], second.json()["job_id"]);
    assert_eq!(place.work.count(Kind::PutTags).served, 60);
}

#[test]
fn another_process_of_the_machine_can_pause_what_is_worked_on() {
    let place = Place::with_objects(60);
    let here = place.machine("here");
    let running = here.start_and_hold(20);
    let url = place.url();
    let listed = here.run(&["list", "--json", "--state", &url]).ended(0).json();
    let id = listed["jobs"][0]["job_id"].as_str().expect("a job").to_owned();
    here.run(&APPLY).ended(6).said("the state is in use on this machine");
    let pausing = here.start(&["pause", &id, "--state", &url]);
    // It is answered once the process that works has stopped taking.
    place.let_go();
    let code = running.over().code;
    let said = pausing.over();
    // Whatever was faster, the job's end or the pause.
    assert!(
        matches!((code, said.code), (Some(5), Some(0)) | (Some(0), Some(6))),
        "{code:?} {:?} {}",
        said.code,
        said.stderr
    );
    here.apply().ended(0);
    assert_eq!(place.reported(), keys(60));
}

#[test]
fn a_lock_is_taken_only_when_that_is_confirmed_and_its_holder_stops() {
    let place = Place::with_objects(60);
    let (here, there) = (place.machine("here"), place.machine("there"));
    let running = here.start_and_hold(20);
    let url = place.url();
    there.run(&["state", "unlock", "--state", &url]).ended(6).said("warning: ").said("held by here@");
    there.run(&["state", "unlock", "--auto-approve", "--state", &url]).ended(0).said("unlocked");
    // It finds out by itself, although nothing of what it waits for is answered.
    let lost = running.over();
    assert!(lost.code == Some(1), "{:?} {}", lost.code, lost.stderr);
    place.let_go();
    there.apply().ended(0);
    assert_eq!(place.reported(), keys(60));
}

#[test]
fn a_store_that_knows_no_condition_is_found_out() {
    let place = Place::with_objects(20);
    let url = format!("s3://states/team?endpoint={}", place.work.endpoint());
    let here = place.machine_with("here", &url);
    here.apply().ended(6).said("the store cannot lock the state").said("lock=false");
    assert_eq!(place.work.count(Kind::PutTags).arrived, 0);
    let there = place.machine_with("there", &format!("{url}&lock=false"));
    there.apply().ended(0);
    assert_eq!(place.reported(), keys(20));
}

#[test]
fn a_copy_of_the_folder_is_another_machine() {
    let place = Place::with_objects(60);
    let (here, copy) = (place.machine("here"), place.machine("copy"));
    let running = here.start_and_hold(20);
    let chest = place.chest();
    until("something was pushed", || !chest.names("heads/").is_empty());
    let status = std::process::Command::new("cp")
        .args(["-r".as_ref(), here.path(".batchplan").as_os_str(), copy.path(".batchplan").as_os_str()])
        .status();
    assert!(status.expect("cp runs").success());
    copy.apply().ended(6).said("the state is held by here@");
    place.let_go();
    running.over().ended(0);
    assert_eq!(place.work.count(Kind::PutTags).served, 60);
}

#[test]
fn whoever_does_without_a_lock_does_not_work_beside_one() {
    let place = Place::with_objects(60);
    let here = place.machine("here");
    let there = place.machine_with("there", &format!("{}&lock=false", place.url()));
    let running = here.start_and_hold(20);
    there.apply().ended(6).said("the state is held by here@");
    place.let_go();
    running.over().ended(0);
    assert_eq!(there.apply().ended(0).json()["succeeded"], 60);
}

#[test]
fn a_lock_that_was_removed_does_not_undo_what_was_pushed() {
    let place = Place::with_objects(20);
    let done = place.machine("here").apply().ended(0).json();
    let chest = place.chest();
    for name in chest.names("lock/") {
        chest.remove(&name);
    }
    let there = place.machine("there");
    assert_eq!(there.apply().ended(0).json()["job_id"], done["job_id"]);
    let url = place.url();
    there.run(&["delete", done["job_id"].as_str().expect("an id"), "--auto-approve", "--state", &url]).ended(0);
    assert!(
        chest.names("heads/").iter().all(|name| name.as_str() > "heads/000000000002"),
        "{:?}",
        chest.names("heads/")
    );
    place.machine("elsewhere").run(&["list", "--state", &url]).ended(0).said("no jobs");
}

#[test]
fn a_lock_that_cannot_be_read_can_be_taken() {
    let place = Place::with_objects(20);
    let here = place.machine("here");
    here.apply().ended(0);
    let chest = place.chest();
    let lock = chest.names("lock/").pop().expect("a lock");
    chest.write(&lock, b"?");
    here.apply().ended(1).said("cannot read the state: lock/");
    here.run(&["state", "unlock", "--plan", "plan.toml", "--auto-approve"]).ended(0).said("cannot read ");
    here.apply().ended(0);
}

#[test]
fn what_is_to_be_done_about_a_held_state_is_said_in_full() {
    let place = Place::with_objects(60);
    let (here, there) = (place.machine("here"), place.machine("there"));
    let running = here.start_and_hold(20);
    let refused = there.apply().ended(6);
    let command = format!("batchplan state unlock --state '{}", place.url());
    assert!(refused.stderr.contains(&command), "{}", refused.stderr);
    place.let_go();
    running.over().ended(0);
}

#[test]
fn what_is_worked_on_elsewhere_is_not_interrupted() {
    let place = Place::with_objects(60);
    let (here, there) = (place.machine("here"), place.machine("there"));
    let running = here.start_and_hold(20);
    let (chest, url) = (place.chest(), place.url());
    until("the job was pushed as Active", || {
        !chest.names("heads/").is_empty()
            && there.run(&["list", "--json", "--state", &url]).ended(0).json()["jobs"][0]["status"] == "Active"
    });
    let listed = there.run(&["list", "--json", "--state", &url]).ended(0).json();
    assert_eq!(listed["jobs"][0]["interrupted"], false);
    let id = listed["jobs"][0]["job_id"].as_str().expect("an id");
    let shown = there.run(&["show", id, "--state", &url]).ended(0).stdout;
    assert!(shown.contains("here@") && !shown.contains("interrupted"), "{shown}");
    there.run(&["show", id, "--watch", "--state", &url]).ended(6).said("cannot be watched from here");
    place.let_go();
    running.over().ended(0);
}

#[test]
fn a_store_that_is_busy_with_the_name_is_asked_again_for_the_same() {
    let place = Place::with_objects(20);
    place.work.honour_conditions();
    let mut left = 2;
    place.work.behave(move |seen| {
        let creates = seen.kind == Kind::PutObject && seen.key == "team/lock/000000000001.json";
        if !creates || left == 0 {
            return Manner::Serve;
        }
        left -= 1;
        Manner::Refuse(409, "ConditionalRequestConflict")
    });
    let url = format!("s3://states/team?endpoint={}", place.work.endpoint());
    place.machine_with("here", &url).apply().ended(0);
    // Two conflicts, the lock, and the proof that it is not made again: nothing is listed in between.
    let log = place.work.log().into_iter().filter(|seen| seen.bucket == "states").map(|seen| seen.kind);
    let from_first: Vec<_> = log.skip_while(|kind| *kind != Kind::PutObject).take(6).collect();
    let (put, get) = (Kind::PutObject, Kind::GetObject);
    assert_eq!(from_first, [put, get, put, get, put, put]);
}

#[test]
fn whoever_does_without_a_lock_stops_when_another_acquires_it() {
    let place = Place::with_objects(60);
    let there = place.machine_with("there", &format!("{}&lock=false", place.url()));
    let running = there.start_and_hold(20);
    let chest = place.chest();
    until("something was pushed", || !chest.names("heads/").is_empty());
    let lock = serde_json::json!({
        "version": 1, "id": "0123456789abcdef0123456789abcdef", "holder": "another", "since": "2026-01-01T00:00:00Z",
        "renewed": "2026-01-01T00:00:00Z", "renewals": 3, "lease_ms": 1000, "released": false,
    });
    chest.write("lock/000000000001.json", lock.to_string().as_bytes());
    // It finds out by itself, although nothing of what it waits for is answered.
    running.over().ended(1).said("the state was taken over by another");
    place.let_go();
    place.machine("here").apply().ended(0);
    assert_eq!(place.reported(), keys(60));
}

//! `batchplan state`.

use std::fs;

use crate::place::{Place, keys};

#[test]
fn a_state_is_shown_pulled_and_pushed() {
    let place = Place::with_objects(20);
    let here = place.machine("here");
    here.run(&["state", "show", "--plan", "plan.toml"]).ended(2).said("there is no state yet");
    here.run(&["state", "show"]).ended(2).said("no state in a bucket is set");
    here.run(&["list", "--state", &place.url()]).ended(0).said("no jobs");
    let job = here.apply().ended(0).json()["job_id"].clone();

    let shown = here.run(&["state", "show", "--plan", "plan.toml", "--json"]).ended(0).json();
    assert_eq!(shown["pushed"]["jobs"][0]["job_id"], job);
    assert_eq!((shown["lock"]["released"].clone(), shown["pushed"]["generation"].clone()), (true.into(), 1.into()));
    let page = here.run(&["state", "show", "--state", &place.url()]).ended(0).stdout;
    assert!(page.contains("free; last held by here@") && page.contains("1, push"), "{page}");

    let there = place.machine("there");
    there.run(&["state", "pull", "copy", "--plan", "plan.toml"]).ended(0).said("batchplan list --state copy");
    let listed = there.run(&["list", "--json", "--state", "copy"]).ended(0).json();
    assert_eq!(listed["jobs"][0]["job_id"], job);
    assert!(there.path("copy/jobs").join(job.as_str().expect("an id")).join("report/manifest.json").exists());
    there.run(&["state", "push", "copy", "--plan", "plan.toml"]).ended(0).said("nothing to push");

    // The state moves on, and the copy does not.
    let id = job.as_str().expect("an id");
    here.run(&["delete", id, "--auto-approve", "--state", &place.url()]).ended(0);
    let stale = there.run(&["state", "push", "copy", "--plan", "plan.toml"]).ended(6);
    // The hint names the state, which the command took from the plan.
    let command = |name: &str| format!("batchplan state {name} --state '{}'", place.url());
    // Without the folder, the command would push this machine's own copy.
    let force = format!("{} copy --force", command("push"));
    stale.said("newer changes would be lost").said(&command("show")).said(&force);
    there.run(&["state", "push", "copy", "--plan", "plan.toml", "--force"]).ended(0).said("pushed");
    let listed = here.run(&["list", "--json", "--state", &place.url()]).ended(0).json();
    assert_eq!(listed["jobs"][0]["job_id"], job);
}

#[test]
fn a_job_is_verified_on_another_machine() {
    let place = Place::with_objects(20);
    let here = place.machine("here");
    let job = here.apply().ended(0).json()["job_id"].clone();
    let (id, url) = (job.as_str().expect("an id"), place.url());
    let there = place.machine("there");
    let names = place.chest().names("");
    there.run(&["verify", id, "--full", "--state", &url]).ended(0);
    assert_eq!(place.chest().names(""), names, "no lock and no state is written");
    here.run(&["apply", "plan.toml", "--new", "--auto-approve"]).ended(0);
    let said = there.run(&["verify", &id[..8], "--json", "--state", &url]).ended(0).json();
    assert_eq!((&said["job"], &said["counts"]["hold"]["likely"]), (&job, &20.into()));
}

#[test]
fn jobs_of_a_folder_are_moved_to_a_bucket() {
    let place = Place::with_objects(20);
    let here = place.machine("here");
    let done = here.run(&["apply", "plan.toml", "--auto-approve", "--json", "--state", "mine"]).ended(0).json();
    here.run(&["state", "push", "nowhere", "--plan", "plan.toml"]).ended(2).said("has no jobs");
    here.run(&["state", "push", "mine", "--plan", "plan.toml"]).ended(0).said("pushed");
    let there = place.machine("there").apply().ended(0);
    assert_eq!(there.json()["job_id"], done["job_id"]);
    assert_eq!(place.reported(), keys(20));
    // A folder that comes from nowhere does not take the place of what is there.
    let other = place.machine("other");
    other.run(&["apply", "plan.toml", "--auto-approve", "--state", "mine"]).ended(0);
    other.run(&["state", "push", "mine", "--plan", "plan.toml"]).ended(6).said("is not a copy of this state");
}

#[test]
fn no_secret_is_kept_in_a_state() {
    let place = Place::with_objects(20);
    place.machine("here").apply().ended(0);
    let (chest, there) = (place.chest(), place.machine("there"));
    there.run(&["state", "pull", "copy", "--plan", "plan.toml"]).ended(0);
    let secret = batchplan_sandbox::SECRET_KEY.as_bytes();
    let holds = |content: &[u8]| content.windows(secret.len()).any(|window| window == secret);
    for name in chest.names("").iter().filter(|name| !name.starts_with("pieces/")) {
        assert!(!holds(&chest.read(name)), "{name}");
    }
    // What the pieces are made of, the journal unpacked.
    let mut left = vec![there.path("copy")];
    let mut files = 0;
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                left.push(entry);
            } else {
                files += 1;
                assert!(!holds(&fs::read(&entry).expect("read")), "{}", entry.display());
            }
        }
    }
    assert!(files > 5, "{files}");
}

#[test]
fn a_folder_that_is_something_else_is_not_pulled_over() {
    let place = Place::with_objects(20);
    place.machine("here").apply().ended(0);
    let there = place.machine("there");
    fs::create_dir_all(there.path("w/jobs")).expect("made");
    fs::write(there.path("w/jobs/x.c"), "int x;").expect("written");
    let pull = ["state", "pull", "w", "--plan", "plan.toml"];
    there.run(&pull).ended(6).said("contains other files, or changes that were not pushed");
    assert_eq!(fs::read_to_string(there.path("w/jobs/x.c")).expect("it is there"), "int x;");
    assert_eq!(fs::read_dir(there.path("w")).expect("a folder").count(), 1, "nothing of ours was left there");
    there.run(&["state", "pull", "empty", "--plan", "plan.toml"]).ended(0);
    there.run(&["state", "pull", "empty", "--plan", "plan.toml"]).ended(0);
}

#[test]
fn a_folder_that_is_worked_on_is_neither_pushed_nor_pulled_over() {
    let place = Place::with_objects(40);
    let here = place.machine("here");
    place.hold_after(10);
    let running = here.start(&["apply", "plan.toml", "--auto-approve", "--state", "mine"]);
    place.wait_until_held(10);
    here.run(&["state", "push", "mine", "--plan", "plan.toml"]).ended(6).said("the state is in use on this machine");
    place.let_go();
    running.over().ended(0);
    here.run(&["state", "push", "mine", "--plan", "plan.toml"]).ended(0);
}

#[test]
fn places_that_cannot_be_are_refused_with_the_way_out() {
    let place = Place::with_objects(1);
    let here = place.machine("here");
    for (url, what) in [
        ("gs://bucket/x", "its scheme is `gs`, not s3 or oss"),
        ("s3:bucket/x", "its scheme is not followed by ://"),
        ("s3://b/x", "its bucket name `b` is too short: 1 character (minimum 3)"),
        ("s3://b%20t/x", "its bucket name `b%20t` contains `%`"),
        ("s3://key:secret@bucket/x", "treat these as leaked"),
        ("s3://bkt/x?colour=red", "valid parameters: endpoint, region"),
        ("oss://bkt/x", "such as ?region=cn-hangzhou"),
        ("s3://bkt/x?endpoint=http://example.org", "its endpoint is not encrypted"),
    ] {
        let refused = here.run(&["list", "--state", url]).ended(2).said(what);
        assert!(!refused.stderr.contains("secret@"), "{}", refused.stderr);
    }
    let plan =
        fs::read_to_string(here.path("plan.toml")).expect("a plan").replace("s3://states", "s3://k:hushhush@states");
    fs::write(here.path("plan.toml"), plan).expect("written");
    let refused = here.run(&["validate", "plan.toml"]).ended(2).said("invalid state URL");
    assert!(!refused.stderr.contains("hushhush"), "{}", refused.stderr);
}

#[test]
fn what_was_done_in_a_copy_is_not_pulled_over() {
    let place = Place::with_objects(20);
    let (here, there) = (place.machine("here"), place.machine("there"));
    here.apply().ended(0);
    there.run(&["state", "pull", "copy", "--plan", "plan.toml"]).ended(0);
    let again = ["apply", "plan.toml", "--auto-approve", "--new", "--state", "copy"];
    let plan =
        fs::read_to_string(there.path("plan.toml")).expect("a plan").replace("client_request_token = \"once\"", "");
    fs::write(there.path("plan.toml"), plan).expect("written");
    there.run(&again).ended(0);
    // The state moves on as well.
    let url = place.url();
    let job = here.run(&["list", "--json", "--state", &url]).ended(0).json()["jobs"][0]["job_id"].clone();
    here.run(&["delete", job.as_str().expect("an id"), "--auto-approve", "--state", &url]).ended(0);
    let pull = ["state", "pull", "copy", "--plan", "plan.toml"];
    there.run(&pull).ended(6).said("contains other files, or changes that were not pushed");
    let jobs = |folder: &str| there.run(&["list", "--json", "--state", folder]).ended(0).json()["jobs"].clone();
    assert_eq!(jobs("copy").as_array().map(Vec::len), Some(2));
    there.run(&["state", "pull", "copy", "--plan", "plan.toml", "--force"]).ended(0);
    assert_eq!(jobs("copy").as_array().map(Vec::len), Some(0));
}

#[test]
fn a_push_by_force_keeps_the_files_that_this_machine_never_fetched() {
    let place = Place::with_objects(20);
    let (here, there) = (place.machine("here"), place.machine("there"));
    let job = here.apply().ended(0).json()["job_id"].clone();
    let url = place.url();
    // It knows of the job, and has none of its files.
    there.run(&["list", "--state", &url]).ended(0);
    here.run(&["retry", "--report", "x.csv", "--plan", "plan.toml", "--auto-approve"]).ended(4);
    there
        .run(&["state", "push", "--state", &url])
        .ended(6)
        .said(&format!("batchplan state push --state '{url}' --force"));
    there.run(&["state", "push", "--force", "--state", &url]).ended(0);
    let elsewhere = place.machine("elsewhere");
    elsewhere.run(&["state", "pull", "copy", "--state", &url]).ended(0);
    let folder = elsewhere.path("copy/jobs").join(job.as_str().expect("an id"));
    assert!(folder.join("manifest/index.json").exists());
}

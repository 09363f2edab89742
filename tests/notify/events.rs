//! What is told, when, and how often.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use batchplan::job::JobStatus;

use crate::receiver::{Receiver, SECRET};
use crate::scene::{APPLY, Scene, TAG, assert_stands};
use crate::world::Ran;

/// Everything that can be told of statuses, signed.
const ALL: &str = "secret_env = \"HOOK\"\n\
    on = [\"active\", \"suspended\", \"paused\", \"complete\", \"failed\", \"cancelled\"]";

const ONE: &str = "[limits]\nconcurrency = 1\n";

/// The binary, with the secret in its environment.
pub(crate) fn run(scene: &Scene, args: &[&str]) -> Ran {
    let output = scene.command(args).env("HOOK", SECRET).output().expect("the binary runs");
    Ran::of(&output)
}

fn start(scene: &Scene, args: &[&str]) -> crate::scene::Running {
    let mut command = scene.command(args);
    command.env("HOOK", SECRET);
    crate::scene::Running::of(command)
}

#[test]
fn a_job_that_goes_well_is_told_from_its_beginning_to_its_end() {
    let (scene, receiver) = (Scene::with_objects(10), Receiver::new());
    scene.plan(&format!("{TAG}{}[job]\npriority = 7\n", receiver.hook(ALL)));
    let output = scene
        .command(&APPLY)
        .envs([("HOOK", SECRET), ("GITHUB_ACTIONS", "true"), ("GITHUB_SERVER_URL", "https://github.com")])
        .envs([("GITHUB_REPOSITORY", "o/r"), ("GITHUB_RUN_ID", "17")])
        .output()
        .expect("it runs");
    let ran = Ran::of(&output).ended(0);
    assert_eq!(receiver.events(), ["active", "complete"]);
    let letters = receiver.letters();
    for letter in &letters {
        letter.assert_signed();
        assert_eq!(letter.target, format!("POST /hook/{SECRET}?key=pathkey HTTP/1.1"));
        assert_eq!(letter.headers["content-type"], "application/json");
        assert_eq!(letter.headers["x-batchplan-event"], letter.event());
        assert_eq!(letter.headers["x-batchplan-delivery"], letter.body["id"].as_str().expect("an id"));
        assert_eq!(letter.body["version"], 1);
    }
    assert_ne!(letters[0].body["id"], letters[1].body["id"]);
    let (last, result) = (&letters[1].body, ran.json());
    assert_eq!(last["job"]["id"], result["job_id"]);
    assert_eq!((&last["job"]["name"], &last["job"]["status"]), (&"plan".into(), &"Complete".into()));
    assert_eq!((&last["job"]["reason"], &last["job"]["priority"]), (&serde_json::Value::Null, &7.into()));
    let progress = serde_json::json!({ "total": 10, "succeeded": 10, "failed": 0, "left": 0, "failure_rate": 0.0 });
    assert_eq!(last["progress"], progress);
    assert_eq!((&last["failures"], &last["report"]), (&serde_json::json!([]), &serde_json::Value::Null));
    assert_eq!(last["plan_file"], "plan.toml");
    assert_eq!(last["run_url"], "https://github.com/o/r/actions/runs/17");
    let text = last["text"].as_str().expect("a text");
    assert!(text.starts_with("batchplan: plan is complete (10 of 10 succeeded, 0 failed, job "), "{text}");
    assert!(!ran.stderr.contains("\nwarning: "), "{}", ran.stderr);
}

#[test]
fn failed_objects_are_told_by_their_codes_and_thresholds_once() {
    let (scene, receiver) = (Scene::with_objects(10), Receiver::new());
    scene.deny(|key| ["k0001", "k0003"].contains(&key));
    let report = "[report]\nbucket = \"reports\"\nprefix = \"r\"\n";
    let hook = receiver.hook("failure_rate = 0.05\nrun_time = \"0s\"");
    scene.plan(&format!("{TAG}{ONE}{report}{hook}"));
    run(&scene, &APPLY).ended(3);
    let mut events = receiver.events();
    assert_eq!(events.pop().as_deref(), Some("complete"));
    events.sort();
    assert_eq!(events, ["failure-rate", "run-time"]);
    let last = &receiver.letters()[2];
    assert_eq!(last.body["failures"], serde_json::json!([{ "code": "AccessDenied", "http": 403, "count": 2 }]));
    assert_eq!(last.body["progress"]["failure_rate"], 0.2);
    assert_eq!(last.body["report"]["published"], true);
    let place = last.body["report"]["place"].as_str().expect("a place");
    assert!(place.starts_with("s3://reports/r/") && place.ends_with("manifest.json"), "{place}");
    assert!(!last.headers.contains_key("x-batchplan-signature"), "no secret was named");
}

#[test]
fn too_many_failures_are_told_with_their_reason() {
    let (scene, receiver) = (Scene::with_objects(10), Receiver::new());
    scene.deny(|_| true);
    scene.plan(&format!("{TAG}{ONE}{}", receiver.hook("failure_rate = 1.0")));
    run(&scene, &APPLY).ended(4);
    assert_eq!(receiver.events(), ["failed"], "all of them is no more than all of them");
    let told = &receiver.letters()[0].body;
    assert_eq!(
        told["job"]["reason"],
        "all 3 objects attempted so far failed (limit 20 %, `failure_threshold`); 7 were not attempted"
    );
}

#[test]
fn a_manifest_that_cannot_be_resolved_is_told() {
    let (scene, receiver) = (Scene::with_objects(1), Receiver::new());
    let csv = "[manifest.csv]\npath = \"list.csv\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
    scene.write("list.csv", "bkt,%ZZ\n");
    scene.plan(&format!("{csv}{}", receiver.hook("")));
    run(&scene, &APPLY).ended(4);
    assert_eq!(receiver.events(), ["failed"]);
}

#[test]
fn who_waits_to_be_confirmed_is_told_and_then_what_becomes_of_it() {
    let (scene, receiver) = (Scene::with_objects(3), Receiver::new());
    scene.plan(&format!("{TAG}{}", receiver.hook(ALL)));
    let created = run(&scene, &["create", "plan.toml", "--json"]).ended(0).json();
    assert_eq!(receiver.events(), ["suspended"]);
    let id = created["job_id"].as_str().expect("an id");
    run(&scene, &["confirm", id]).ended(0);
    run(&scene, &["run"]).ended(0);
    assert_eq!(receiver.events(), ["suspended", "active", "complete"]);

    let created = run(&scene, &["create", "plan.toml", "--json"]).ended(0).json();
    run(&scene, &["cancel", created["job_id"].as_str().expect("an id"), "--reason", "not today"]).ended(0);
    assert_eq!(receiver.events()[3..], ["suspended", "cancelled"]);
    assert_eq!(receiver.letters()[4].body["job"]["reason"], "not today");
    receiver.letters().iter().for_each(crate::receiver::Letter::assert_signed);
}

#[test]
fn who_is_asked_at_a_terminal_waits_too_and_may_decline() {
    let (scene, receiver) = (Scene::with_objects(3), Receiver::new());
    scene.plan(&format!("{TAG}{}", receiver.hook(ALL)));
    let mut child = Command::new("script")
        .args(["-qec", &format!("exec '{}' apply plan.toml", env!("CARGO_BIN_EXE_batchplan")), "/dev/null"])
        .current_dir(scene.path(""))
        .env_remove("BATCHPLAN_STATE")
        .envs([("HOOK", SECRET), ("AWS_ACCESS_KEY_ID", "AKIDSEEN"), ("AWS_SECRET_ACCESS_KEY", "hushhush")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("script, of the package bsdutils or util-linux");
    // Somebody who heard of it may confirm it elsewhere.
    receiver.wait_for("suspended");
    child.stdin.take().expect("piped").write_all(b"no\n").expect("typed");
    assert_eq!(child.wait().expect("it ends").code(), Some(7));
    assert_eq!(receiver.events(), ["suspended", "cancelled"]);
    let why = &receiver.letters()[1].body["job"]["reason"];
    assert_eq!(why, "declined at the confirmation prompt");
}

#[test]
fn who_is_confirmed_beforehand_does_not_wait_unless_it_has_to() {
    let (scene, receiver) = (Scene::with_objects(3), Receiver::new());
    scene.plan(&format!("{TAG}{}", receiver.hook(ALL)));
    run(&scene, &["apply", "plan.toml", "--auto-approve", "--expect-count", "4"]).ended(6);
    assert_eq!(receiver.events(), ["cancelled"]);
    scene.plan(&format!("{TAG}[limits]\nmax_cost = \"1 USD\"\n{}", receiver.hook(ALL)));
    run(&scene, &APPLY).ended(6);
    assert_eq!(receiver.events(), ["cancelled", "suspended"], "it waits for a higher limit");
}

#[test]
fn an_interrupted_job_is_told_to_be_paused_and_to_go_on() {
    let (scene, receiver) = (Scene::with_objects(12), Receiver::new());
    scene.plan(&format!("{TAG}[limits]\nconcurrency = 4\n{}", receiver.hook(ALL)));
    scene.hold_after(5);
    let running = start(&scene, &APPLY);
    scene.wait_until_held(5, 4);
    running.signal("INT");
    running.wait_for("Pausing: finishing requests in flight");
    scene.wait_for(JobStatus::Pausing);
    scene.let_go();
    let first = running.over().ended(5).json();
    assert_eq!(receiver.events(), ["active", "paused"]);
    assert_eq!(receiver.letters()[1].body["job"]["reason"], "stopped by Ctrl-C or a signal");
    assert_eq!(receiver.letters()[1].body["progress"]["left"], 3);
    run(&scene, &["resume", first["job_id"].as_str().expect("an id")]).ended(0);
    assert_eq!(receiver.events(), ["active", "paused", "active", "complete"]);
}

#[test]
fn what_was_passed_before_a_pause_is_not_told_again() {
    let (scene, receiver) = (Scene::with_objects(12), Receiver::new());
    let hook = receiver.hook("on = [\"paused\"]\nrun_time = \"0s\"");
    scene.plan(&format!("{TAG}[limits]\nconcurrency = 4\n{hook}"));
    scene.hold_after(5);
    let running = start(&scene, &APPLY);
    scene.wait_until_held(5, 4);
    receiver.wait_for("run-time");
    running.signal("TERM");
    scene.wait_for(JobStatus::Pausing);
    scene.let_go();
    let first = running.over().ended(5).json();
    run(&scene, &["resume", first["job_id"].as_str().expect("an id")]).ended(0);
    assert_eq!(receiver.events(), ["run-time", "paused"]);
}

#[test]
fn what_others_ask_of_a_job_is_told_once_by_whoever_works_on_it() {
    for (order, event, code) in [("pause", "paused", 5), ("cancel", "cancelled", 7)] {
        let (scene, receiver) = (Scene::with_objects(12), Receiver::new());
        scene.plan(&format!("{TAG}[limits]\nconcurrency = 4\n{}", receiver.hook(ALL)));
        scene.hold_after(5);
        let running = start(&scene, &APPLY);
        scene.wait_until_held(5, 4);
        let asked = start(&scene, &[order, scene.newest().id.as_str()]);
        scene.wait_for(if order == "pause" { JobStatus::Pausing } else { JobStatus::Cancelling });
        scene.let_go();
        running.over().ended(code);
        asked.over().ended(0);
        assert_eq!(receiver.events(), ["active", event], "{order}");
    }
}

#[test]
fn a_retry_tells_whom_the_stored_plan_names() {
    let (scene, receiver, other) = (Scene::with_objects(10), Receiver::new(), Receiver::new());
    scene.deny(|key| key == "k0001");
    scene.plan(&format!("{TAG}{}", receiver.hook("")));
    let first = run(&scene, &APPLY).ended(3).json();
    scene.plan(&format!("{TAG}{}", other.hook("")));
    scene.let_go();
    run(&scene, &["retry", first["job_id"].as_str().expect("an id"), "--auto-approve"]).ended(0);
    assert_eq!((receiver.events(), other.events()), (vec!["complete".to_owned(); 2], vec![]));
}

#[test]
fn who_is_told_makes_no_other_plan() {
    let (scene, receiver) = (Scene::with_objects(4), Receiver::new());
    scene.plan(TAG);
    let first = run(&scene, &["create", "plan.toml", "--json"]).ended(0).json();
    scene.plan(&format!("{TAG}{}", receiver.hook(ALL)));
    let second = run(&scene, &APPLY).ended(0).json();
    assert_eq!(first["job_id"], second["job_id"]);
    assert_eq!(receiver.events(), ["active", "complete"]);
    assert_stands(&scene.job(&second), JobStatus::Complete, 4, 0);
}

#[test]
fn no_name_and_no_reason_breaks_a_message() {
    let (scene, receiver) = (Scene::with_objects(2), Receiver::new());
    scene.plan(&format!("{TAG}{}", receiver.hook(ALL)));
    let plan = fs::read_to_string(scene.path("plan.toml")).expect("the plan");
    let name = "x\\\", \\\"event\\\": \\\"complete\\\" <!channel> @all é";
    scene.write("plan.toml", plan.replace("name = \"plan\"", &format!("name = \"{name}\"")));
    let created = run(&scene, &["create", "plan.toml", "--json"]).ended(0).json();
    let reason = "a\r\nX-Injected: yes\u{1b}[2J\"}";
    run(&scene, &["cancel", created["job_id"].as_str().expect("an id"), "--reason", reason]).ended(0);
    let letters = receiver.letters();
    assert_eq!(receiver.events(), ["suspended", "cancelled"]);
    assert_eq!(letters[1].body["job"]["name"], "x\", \"event\": \"complete\" <!channel> @all é");
    assert_eq!(letters[1].body["job"]["reason"], "a  X-Injected: yes [2J\"}");
    assert!(letters.iter().all(|letter| !letter.headers.contains_key("x-injected")));
    let text = letters[1].body["text"].as_str().expect("a text");
    assert!(!text.contains(['<', '@', '\n', '\r', '\u{1b}']), "{text}");
}

#[test]
fn drift_is_told_to_those_who_ask_for_it() {
    let (scene, receiver, other) = (Scene::with_objects(4), Receiver::new(), Receiver::new());
    let drift = receiver.hook("secret_env = \"HOOK\"\non = [\"drift\"]");
    scene.plan(&format!("{TAG}{drift}{}", other.hook("")));
    run(&scene, &["verify", "plan.toml"]).ended(3);
    let [letter] = &receiver.letters()[..] else { panic!("one letter") };
    letter.assert_signed();
    assert_eq!((letter.event(), &letter.body["job"]["id"]), ("drift", &serde_json::Value::Null));
    let found = serde_json::json!({
        "objects": 4, "read": 4, "drifted": { "likely": 4, "low": 4, "high": 4 }, "unreadable": 0,
    });
    assert_eq!(letter.body["drift"], found);
    assert_eq!(letter.body["text"], "batchplan: plan has drifted (4 of 4 objects are not as they should be)");
    let job = run(&scene, &APPLY).ended(0).json();
    run(&scene, &["verify", job["job_id"].as_str().expect("an id"), "--full"]).ended(0);
    assert_eq!(receiver.events(), ["drift"], "nothing has drifted since");
    assert_eq!(other.events(), ["complete"]);
    let unset = scene.command(&["verify", "plan.toml"]).output().expect("it runs");
    let refused = Ran::of(&unset).ended(6);
    assert!(refused.stderr.contains("environment variable HOOK is not set"), "{}", refused.stderr);
}

//! Jobs that were stopped go on where they were, and only if they are still the same work.

use std::fs;

use batchplan::job::JobStatus;
use serde_json::Value as Json;

use crate::bucket::{Kind, Manner, Object};
use crate::scene::{APPLY, Running, Scene, TAG, assert_stands, keys, rows, until};
use crate::world::Ran;

/// Four objects in flight at once.
const FOUR: &str = "[limits]\nconcurrency = 4\n";

/// A job of so many objects, held with five of them done and four in flight.
fn held(objects: usize, rest: &str) -> (Scene, Running) {
    let scene = Scene::with_objects(objects);
    scene.plan(&format!("{TAG}{FOUR}{rest}"));
    let running = scene.start_and_hold(5, 4);
    (scene, running)
}

/// Stops it so that what is in flight is finished.
fn stop(scene: &Scene, running: Running, signal: &str) -> Json {
    running.signal(signal);
    running.wait_for("Pausing: finishing requests in flight");
    scene.wait_for(JobStatus::Pausing);
    scene.let_go();
    running.over().ended(5).json()
}

/// A job of twelve objects that was stopped when nine were done.
fn stopped(rest: &str) -> (Scene, Json) {
    let (scene, running) = held(12, rest);
    let result = stop(&scene, running, "TERM");
    assert_stands(&scene.job(&result), JobStatus::Paused, 9, 0);
    (scene, result)
}

fn id(result: &Json) -> &str {
    result["job_id"].as_str().expect("an id")
}

/// Goes on with the job, by its id or by its plan.
fn go_on(scene: &Scene, first: &Json, resume: bool) -> Ran {
    if resume { scene.run(&["resume", id(first), "--json"]) } else { scene.apply() }
}

/// Fails unless it went on with the job, and what was left was done once.
#[track_caller]
fn completed(scene: &Scene, first: &Json, ran: Ran) {
    let result = ran.ended(0).json();
    assert_eq!(id(&result), id(first));
    let job = scene.job(&result);
    assert_stands(&job, JobStatus::Complete, job.progress.total, 0);
    let total = usize::try_from(job.progress.total).expect("few");
    scene.assert_reported(&job, keys(total));
    assert!(keys(total).all(|key| scene.tags(&key) == "t=1"));
}

#[test]
fn one_signal_finishes_what_is_in_flight_and_nothing_is_done_twice() {
    for (signal, resume) in [("TERM", false), ("INT", false), ("TERM", true), ("INT", true)] {
        let (scene, running) = held(12, "");
        let first = stop(&scene, running, signal);
        assert_eq!((&first["succeeded"], &first["not_attempted"]), (&9.into(), &3.into()), "{first}");
        assert_eq!(scene.job(&first).reason.as_deref(), Some("stopped by Ctrl-C or a signal"));
        completed(&scene, &first, go_on(&scene, &first, resume));
        assert!(scene.writes().values().all(|count| *count == 1), "{:?}", scene.writes());
    }
}

#[test]
fn a_second_signal_leaves_at_once_and_the_job_goes_on() {
    for (signal, resume) in [("TERM", false), ("INT", true)] {
        let (scene, running) = held(12, "");
        running.signal(signal);
        running.wait_for("Press Ctrl-C again to quit now");
        running.signal(signal);
        // It leaves although no answer has come.
        running.over().ended(5);
        scene.let_go();
        let first = serde_json::json!({ "job_id": scene.newest().id.as_str() });
        completed(&scene, &first, go_on(&scene, &first, resume));
        let again = scene.writes().values().filter(|count| **count > 1).count();
        assert!(again <= 9, "{:?}", scene.writes());
    }
}

#[test]
fn a_job_whose_process_was_killed_goes_on() {
    for resume in [false, true] {
        let (scene, running) = held(12, "");
        running.signal("KILL");
        assert_eq!(running.over().code, -1);
        scene.let_go();
        let job = scene.newest();
        assert_eq!(job.status, JobStatus::Active, "nobody could say that it was killed");
        let first = serde_json::json!({ "job_id": job.id.as_str() });
        completed(&scene, &first, go_on(&scene, &first, resume));
    }
}

#[test]
fn a_changed_plan_is_refused_with_what_changed() {
    let (scene, first) = stopped("");
    let plan = fs::read_to_string(scene.path("plan.toml")).expect("the plan");
    scene.write("plan.toml", plan.replace("t = \"1\"", "t = \"2\""));
    let before = scene.server.requests();
    let said = "\
error: the plan has changed since job [JOB] was created
  help: operation.put_object_tagging.tags.t: `1` is now `2`
        resume with the stored plan (batchplan resume [JOB] --stored-plan), cancel the job (batchplan cancel [JOB]), \
or leave it and create another one (batchplan apply PLAN --new)
";
    for args in [&APPLY[..], &["resume", id(&first)]] {
        let ran = scene.run(args).ended(6);
        assert_eq!(scene.normal(&ran.stderr), said, "{args:?}");
    }
    assert_eq!(scene.server.requests(), before, "nothing was sent");
    completed(&scene, &first, scene.run(&["resume", id(&first), "--stored-plan", "--json"]));
}

#[test]
fn new_starts_afresh_and_leaves_the_old_job_as_it_is() {
    let (scene, first) = stopped("");
    let plan = fs::read_to_string(scene.path("plan.toml")).expect("the plan");
    scene.write("plan.toml", plan.replace("t = \"1\"", "t = \"2\""));
    let ran = scene.run(&["apply", "plan.toml", "--auto-approve", "--new", "--json"]).ended(0);
    assert_ne!(id(&ran.json()), id(&first));
    assert_stands(&scene.job(&ran.json()), JobStatus::Complete, 12, 0);
    assert_stands(&scene.job(&first), JobStatus::Paused, 9, 0);
    assert!(keys(12).all(|key| scene.tags(&key) == "t=2"));
}

#[test]
fn limits_comments_and_order_are_no_other_plan() {
    for resume in [false, true] {
        let (scene, first) = stopped("[job]\npriority = 3\n");
        let head = fs::read_to_string(scene.path("plan.toml")).expect("the plan");
        let (head, _) = head.split_once("[manifest.prefix]").expect("the manifest");
        let rest = "# Slower now.\n[limits]\nrequests_per_second = 900\nconcurrency = 1\n[job]\npriority = 7\n\
                    [operation.put_object_tagging]\ntags.t = '1'\n[manifest.prefix]\nbucket = \"bkt\"\n";
        scene.write("plan.toml", format!("{head}{rest}"));
        completed(&scene, &first, go_on(&scene, &first, resume));
    }
}

#[test]
fn a_plan_file_that_is_gone_is_not_needed_to_resume() {
    let (scene, first) = stopped("");
    fs::remove_file(scene.path("plan.toml")).expect("removed");
    let ran = scene.run(&["resume", id(&first), "--json"]);
    let note = "plan.toml is gone or cannot be read: using the plan that the job was created from\n";
    assert!(ran.stderr.starts_with("note: ") && ran.stderr.contains(note), "{}", ran.stderr);
    completed(&scene, &first, ran);
}

const CSV: &str = "[manifest.csv]\npath = \"list.csv\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

/// A job of twelve rows of this source that was stopped when nine were done.
fn stopped_in_rows(source: &str) -> (Scene, Json) {
    let scene = Scene::with_objects(12);
    let rows = rows(keys(12));
    scene.write("list.csv", &rows);
    scene.server.put("lists", "list.csv", Object { body: rows.into(), ..Object::default() });
    scene.plan(&format!("{source}{FOUR}"));
    let running = scene.start_and_hold(5, 4);
    let result = stop(&scene, running, "TERM");
    (scene, result)
}

#[test]
fn a_changed_or_missing_csv_is_refused_unless_the_frozen_rows_will_do() {
    for gone in [false, true] {
        let (scene, first) = stopped_in_rows(CSV);
        let list = scene.path("list.csv");
        if gone {
            fs::remove_file(&list).expect("removed");
        } else {
            // Other bytes of the same length, so that only a look at them tells.
            fs::write(&list, fs::read_to_string(&list).expect("rows").replace("k0011", "k0000")).expect("written");
        }
        let before = scene.server.requests();
        for args in [&APPLY[..], &["resume", id(&first), "--json"]] {
            let ran = scene.run(args).ended(6);
            let what =
                if gone { "list.csv no longer exists" } else { "list.csv has changed since the job was prepared" };
            assert!(ran.stderr.contains(&format!("cannot resume job {}: ", &id(&first)[..8])), "{}", ran.stderr);
            assert!(ran.stderr.contains(what) && ran.stderr.contains("SHA-256"), "{}", ran.stderr);
            assert!(
                ran.stderr.contains(&format!("batchplan resume {} --frozen-manifest", &id(&first)[..8])),
                "{}",
                ran.stderr
            );
        }
        assert_eq!(scene.server.requests(), before, "nothing was sent");
        completed(&scene, &first, scene.run(&["resume", id(&first), "--frozen-manifest", "--json"]));
    }
}

#[test]
fn a_csv_that_was_only_touched_is_the_same() {
    let (scene, first) = stopped_in_rows(CSV);
    let list = scene.path("list.csv");
    let rows = fs::read(&list).expect("rows");
    fs::remove_file(&list).expect("removed");
    fs::write(&list, rows).expect("written");
    completed(&scene, &first, scene.apply());
}

#[test]
fn a_csv_in_a_bucket_is_held_to_its_etag() {
    let source = CSV.replace("path = \"list.csv\"", "bucket = \"lists\"\nobject = \"list.csv\"");
    let (scene, first) = stopped_in_rows(&source);
    scene.server.put("lists", "list.csv", Object { body: "bkt,k0000\n".into(), ..Object::default() });
    let before = scene.written().len();
    let ran = scene.apply().ended(6);
    assert!(
        ran.stderr.contains("lists/list.csv has changed since the job was prepared: its ETag was"),
        "{}",
        ran.stderr
    );
    assert_eq!(scene.written().len(), before, "no object was touched");
    completed(&scene, &first, scene.run(&["resume", id(&first), "--frozen-manifest", "--json"]));
}

#[test]
fn what_appears_below_the_prefix_later_is_not_touched() {
    let (scene, first) = stopped("");
    for key in ["a", "k0010a", "z"] {
        scene.server.put("bkt", key, Object::default());
    }
    let lists = scene.server.count(Kind::List).arrived;
    completed(&scene, &first, scene.apply());
    assert_eq!(scene.server.count(Kind::List).arrived, lists, "it is not listed again");
    assert!(["a", "k0010a", "z"].iter().all(|key| scene.tags(key).is_empty()));
}

#[test]
fn a_listing_that_was_interrupted_goes_on_where_it_was() {
    for kill in [false, true] {
        // Twenty pages, and the thirteenth does not come.
        let scene = Scene::paged(100, 5);
        scene.plan(TAG);
        let mut left = 12;
        scene.server.behave(move |seen| {
            if seen.kind == Kind::List && left == 0 {
                return Manner::Wait;
            }
            left -= u32::from(seen.kind == Kind::List);
            Manner::Serve
        });
        let running = scene.start(&APPLY);
        until("a page is held", || {
            scene.server.count(Kind::List).served == 12 && scene.server.count(Kind::List).arrived > 12
        });
        let before = scene.server.count(Kind::List).arrived;
        if kill {
            running.signal("KILL");
            running.over();
        } else {
            running.signal("TERM");
            let ran = running.over().ended(5);
            assert!(ran.stderr.contains("stopped: nothing was changed"), "{}", ran.stderr);
            assert_eq!(ran.json()["status"], "Preparing");
        }
        scene.let_go();
        let first = serde_json::json!({ "job_id": scene.newest().id.as_str() });
        completed(&scene, &first, scene.apply());
        let again = scene.server.count(Kind::List).arrived - before;
        if !kill {
            // Nine are left, and looking for what a second worker could list is at most one request in eight.
            assert!(again <= 9 + 3, "{again} pages were asked for again, of 20");
        }
    }
}

const TOKEN: &str = "[job]\nclient_request_token = \"tok-1\"\n";

#[test]
fn a_token_does_its_work_once() {
    let scene = Scene::with_objects(12);
    scene.deny(|key| key == "k0003");
    scene.plan(&format!("{TAG}{TOKEN}"));
    let first = scene.apply().ended(3).json();
    let before = scene.server.requests();
    let ran = scene.apply().ended(3);
    assert_eq!(scene.server.requests(), before, "nothing was sent");
    assert_eq!(
        scene.normal(&ran.stderr),
        "job [JOB] with this token is already Complete: nothing to do\n11 changed, 1 failed\n"
    );
    let (mut told, mut again) = (first, ran.json());
    told["elapsed_seconds"] = Json::Null;
    again["elapsed_seconds"] = Json::Null;
    assert_eq!(told, again);

    let plan = fs::read_to_string(scene.path("plan.toml")).expect("the plan");
    scene.write("plan.toml", plan.replace("t = \"1\"", "t = \"2\""));
    for args in [&APPLY[..], &["apply", "plan.toml", "--auto-approve", "--new"]] {
        let ran = scene.run(args).ended(6);
        assert!(ran.stderr.contains("the plan has changed since job"), "{}", ran.stderr);
        assert!(ran.stderr.contains("`1` is now `2`"), "{}", ran.stderr);
        assert_eq!(scene.server.requests(), before, "nothing was sent");
    }
}

#[test]
fn without_a_token_the_same_plan_is_done_again() {
    let scene = Scene::with_objects(3);
    scene.plan(TAG);
    let first = scene.apply().ended(0).json();
    let second = scene.apply().ended(0).json();
    assert_ne!(id(&first), id(&second));
    assert!(scene.writes().values().all(|count| *count == 2));
}

#[test]
fn two_terminals_do_not_work_on_one_job() {
    let (scene, running) = held(12, "");
    let job = scene.newest();
    let before = scene.server.requests();
    for args in [&APPLY[..], &["resume", job.id.as_str()]] {
        let ran = scene.run(args).ended(6);
        assert!(ran.stderr.contains(": it is in use by process "), "{}", ran.stderr);
        assert!(
            ran.stderr.contains(&format!("help: batchplan show {} --watch", &job.id.as_str()[..8])),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(scene.server.requests(), before);
    scene.let_go();
    let first = serde_json::json!({ "job_id": job.id.as_str() });
    completed(&scene, &first, running.over());
    assert!(scene.writes().values().all(|count| *count == 1));
}

#[test]
fn what_is_over_is_not_resumed() {
    let scene = Scene::with_objects(1);
    scene.plan(TAG);
    scene.apply().ended(0);
    let job = scene.newest();
    let ran = scene.run(&["resume", job.id.as_str()]).ended(6);
    assert_eq!(
        scene.normal(&ran.stderr),
        "error: job [JOB] is Complete: there is nothing to resume\n  \
         help: batchplan show [JOB]; to retry what failed: batchplan retry [JOB]\n"
    );
    assert_eq!(scene.run(&["resume", "nosuchjob"]).code, 2);
}

#[test]
fn what_is_as_it_should_be_is_left_alone_where_the_plan_wants_it() {
    let scene = Scene::with_objects(12);
    let plan = format!("{TAG}[job]\nskip_unchanged = true\n");
    scene.plan(&plan);
    let changed = scene.apply().ended(0).json();
    assert_stands(&scene.job(&changed), JobStatus::Complete, 12, 0);
    assert_eq!(scene.writes().values().sum::<usize>(), 12);
    let again = scene.apply().ended(0).json();
    assert_ne!(again["job_id"], changed["job_id"]);
    assert_stands(&scene.job(&again), JobStatus::Complete, 12, 0);
    scene.assert_reported(&scene.job(&again), keys(12));
    assert_eq!(scene.writes().values().sum::<usize>(), 12, "nothing was written again");
}

//! `run`: the queue, worked off by one process or several.

use batchplan::job::JobStatus;
use batchplan::journal::PauseCause;
use serde_json::Value as Json;

use crate::bucket::{Kind, Object};
use crate::scene::{APPLY, Running, Scene, TAG, assert_stands, keys, short, until};

const NO_QUESTION: &str = "[job]\nconfirmation_required = false\n";

/// A bucket with so many objects below each of these prefixes.
fn below(prefixes: &[&str], count: usize) -> Scene {
    let scene = Scene::with_objects(0);
    for prefix in prefixes {
        (0..count).for_each(|n| scene.server.put("bkt", format!("{prefix}{n}"), Object::default()));
    }
    scene
}

/// A plan that tags what is below a prefix.
fn tagging(prefix: &str, priority: u32, rest: &str) -> String {
    format!(
        "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"{prefix}\"\n[operation.put_object_tagging]\n\
         tags = {{ t = \"1\" }}\n{NO_QUESTION}priority = {priority}\n{rest}"
    )
}

/// Makes a job of a plan of this name.
#[track_caller]
fn create(scene: &Scene, name: &str, plan: &str) -> String {
    scene.plan_named(name, plan);
    let created = scene.run(&["create", &format!("{name}.toml"), "--json"]).ended(0).json();
    created["job_id"].as_str().expect("an id").to_owned()
}

fn statuses(scene: &Scene) -> Vec<JobStatus> {
    scene.jobs().into_iter().map(|job| job.status).collect()
}

#[test]
fn what_was_confirmed_is_done_and_nothing_else() {
    let scene = below(&["a/", "b/", "c/"], 5);
    let ask = |prefix: &str| tagging(prefix, 0, "").replace("false", "true");
    let [a, b] = ["a", "b"].map(|name| create(&scene, name, &ask(&format!("{name}/"))));
    create(&scene, "c", &tagging("c/", 0, ""));
    assert_eq!(statuses(&scene), [JobStatus::Ready, JobStatus::Suspended, JobStatus::Suspended]);
    scene.run(&["confirm", &a]).ended(0);
    let ran = scene.run(&["run", "--json"]).ended(0);
    let told = ran.json();
    let jobs = told["jobs"].as_array().expect("jobs");
    let mut names: Vec<_> = jobs.iter().map(|job| job["name"].as_str().expect("a name")).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "c"]);
    assert!(jobs.iter().all(|job| job["status"] == "Complete" && job["succeeded"] == 5), "{told}");
    assert_eq!(statuses(&scene), [JobStatus::Complete, JobStatus::Suspended, JobStatus::Complete]);
    assert!(scene.tags("b/0").is_empty());

    scene.run(&["confirm", &b]).ended(0);
    scene.run(&["run"]).ended(0);
    assert_eq!(scene.tags("b/0"), "t=1");
    let ran = scene.run(&["run", "--json"]).ended(0);
    assert_eq!((&*ran.stderr, ran.json()), ("no jobs are ready\n", serde_json::json!({ "version": 2, "jobs": [] })));
}

#[test]
fn what_is_more_urgent_goes_first() {
    let scene = below(&["a/", "b/", "c/", "d/"], 5);
    for (name, priority) in [("a", 1), ("b", 9), ("c", 5), ("d", 9)] {
        create(&scene, name, &tagging(&format!("{name}/"), priority, ""));
    }
    scene.run(&["run", "--slots", "1"]).ended(0);
    let mut order: Vec<_> = scene.written().into_iter().map(|key| key[..1].to_owned()).collect();
    order.dedup();
    assert_eq!(order, ["b", "d", "c", "a"], "by priority, then by age");
}

/// Whether something below each of these prefixes was asked for.
fn are_asked_for(scene: &Scene, prefixes: &[&str]) -> bool {
    let written = scene.written();
    prefixes.iter().all(|prefix| written.iter().any(|key| key.starts_with(prefix)))
}

/// Two jobs that may touch the same objects, of which the second touches half of those of the first.
fn overlapping(second: &str) -> Scene {
    let scene = below(&["d/a", "d/x"], 6);
    let four = "[limits]\nconcurrency = 4\n";
    create(&scene, "all", &tagging("d/", 0, four));
    create(&scene, "some", &second.replace("PREFIX", "d/x"));
    scene.hold_after(0);
    scene
}

#[test]
fn jobs_that_may_touch_the_same_go_one_after_the_other() {
    let scene = overlapping(&tagging("PREFIX", 0, "[limits]\nconcurrency = 4\n"));
    let running = scene.start(&["run"]);
    scene.wait_until_held(0, 4);
    assert_eq!(statuses(&scene), [JobStatus::Ready, JobStatus::Active]);
    scene.let_go();
    running.over().ended(0);
    let written = scene.written();
    let (mut first, second) = (written[..12].to_vec(), &written[12..]);
    first.sort();
    first.dedup();
    assert_eq!(first.len(), 12, "the first job is done before the second begins: {written:?}");
    assert!(second.len() == 6 && second.iter().all(|key| key.starts_with("d/x")), "{written:?}");
}

#[test]
fn other_aspects_of_the_same_objects_are_no_overlap() {
    let acl = "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"PREFIX\"\n[operation.put_object_acl]\nacl = \"private\"\n\
               [job]\nconfirmation_required = false\n[limits]\nconcurrency = 4\n";
    let scene = overlapping(acl);
    let running = scene.start(&["run"]);
    until("both are at work", || {
        [Kind::PutTags, Kind::PutAcl].iter().all(|kind| scene.server.count(*kind).arrived > 0)
    });
    scene.let_go();
    running.over().ended(0);
}

#[test]
fn overlap_can_be_allowed() {
    let scene = overlapping(&tagging("PREFIX", 0, "[limits]\nconcurrency = 4\n"));
    let running = scene.start(&["run", "--allow-overlap"]);
    // The first would come there only when it was answered.
    until("both are at work", || are_asked_for(&scene, &["d/a", "d/x"]));
    scene.let_go();
    running.over().ended(0);
    assert_eq!(scene.written().len(), 18);
}

#[test]
fn an_apply_waits_for_a_job_that_may_touch_the_same() {
    let scene = below(&["d/a", "d/x"], 6);
    scene.plan_named("plan", &tagging("d/", 0, "[limits]\nconcurrency = 4\n"));
    let first = scene.start_and_hold(0, 4);
    let ahead = scene.newest().id;
    scene.plan_named("some", &tagging("d/x", 0, ""));
    let second = scene.start(&["apply", "some.toml"]);
    second.wait_for(&format!("waiting: job {} may change the same objects and runs first", short(&ahead)));
    assert_eq!(scene.server.count(Kind::PutTags).arrived, 4, "nothing of it was sent");
    scene.let_go();
    first.over().ended(0);
    second.over().ended(0);
    assert_eq!(scene.written().len(), 18);
}

fn taken_up(running: &Running) -> usize {
    running.said().matches(": started (").count()
}

#[test]
fn six_are_worked_on_at_once_in_all_processes_together() {
    let prefixes = ["a/", "b/", "c/", "d/", "e/", "f/", "g/", "h/"];
    let scene = below(&prefixes, 2);
    for prefix in prefixes {
        create(&scene, &prefix[..1], &tagging(prefix, 0, "[limits]\nconcurrency = 1\n"));
    }
    scene.hold_after(0);
    let first = scene.start(&["run", "--slots", "3"]);
    scene.wait_until_held(0, 3);
    let second = scene.start(&["run"]);
    scene.wait_until_held(0, 6);
    assert_eq!((taken_up(&first), taken_up(&second)), (3, 3));
    assert_eq!(statuses(&scene).into_iter().filter(|status| *status == JobStatus::Active).count(), 6);
    assert_eq!(scene.server.count(Kind::PutTags).arrived, 6);
    scene.let_go();
    first.over().ended(0);
    second.over().ended(0);
    assert!(statuses(&scene).into_iter().all(|status| status == JobStatus::Complete));
    assert_eq!(scene.written().len(), 16);
    assert!(scene.writes().values().all(|count| *count == 1), "no job was worked on twice");
}

#[test]
fn what_was_interrupted_is_taken_up_again() {
    for signal in ["KILL", "TERM"] {
        let scene = Scene::with_objects(12);
        scene.plan(&format!("{TAG}[limits]\nconcurrency = 4\n"));
        let running = scene.start_and_hold(5, 4);
        running.signal(signal);
        if signal == "TERM" {
            running.wait_for("Pausing: ");
            scene.let_go();
        }
        running.over();
        scene.let_go();
        let ran = scene.run(&["run", "--json"]).ended(0);
        assert_eq!(ran.json()["jobs"][0]["job_id"], scene.newest().id.as_str());
        assert_stands(&scene.newest(), JobStatus::Complete, 12, 0);
        scene.assert_reported(&scene.newest(), keys(12));
    }
}

#[test]
fn what_a_person_paused_is_left_alone() {
    let scene = Scene::with_objects(12);
    scene.plan(&format!("{TAG}[limits]\nconcurrency = 4\n"));
    let running = scene.start_and_hold(5, 4);
    let job = scene.newest().id;
    let asking = scene.start(&["pause", job.as_str()]);
    scene.wait_for(JobStatus::Pausing);
    scene.let_go();
    running.over().ended(5);
    asking.over().ended(0);
    assert_eq!(scene.newest().pause_cause, Some(PauseCause::Person));
    let ran = scene.run(&["run"]).ended(0);
    let waits = "  help: paused jobs must be resumed or cancelled: batchplan list --status Paused\n";
    assert_eq!(ran.stderr, format!("no jobs are ready\n{waits}"));
    assert_stands(&scene.newest(), JobStatus::Paused, 9, 0);
    // Whoever names it means it.
    scene.run(&["resume", job.as_str()]).ended(0);
    assert_stands(&scene.newest(), JobStatus::Complete, 12, 0);
}

#[test]
fn the_worst_of_all_jobs_is_the_exit_code() {
    let lax = "[limits]\nfailure_threshold = 1\n";
    for (jobs, code) in [
        (&[("a", "")][..], 0),
        (&[("a", ""), ("b", lax)], 3),
        (&[("a", ""), ("b", lax), ("c", "")], 4),
        (&[("a", ""), ("c", "")], 4),
    ] {
        let scene = below(&["a/", "b/", "c/"], 4);
        // Of a none fails, of b two, of c all.
        scene.deny(|key| ["b/0", "b/1"].contains(&key) || key.starts_with("c/"));
        for (name, rest) in jobs {
            create(&scene, name, &tagging(&format!("{name}/"), 0, rest));
        }
        let ran = scene.run(&["run", "--json"]).ended(code);
        let told: Json = ran.json();
        assert_eq!(told["jobs"].as_array().map(Vec::len), Some(jobs.len()));
        for job in told["jobs"].as_array().expect("jobs") {
            let (status, failed) = match job["name"].as_str().expect("a name") {
                "a" => ("Complete", 0),
                "b" => ("Complete", 2),
                _ => ("Failed", 0),
            };
            assert_eq!(job["status"], status, "{job}");
            assert!(status == "Failed" || job["failed"] == failed, "{job}");
        }
    }
}

#[test]
fn a_signal_stops_all_jobs_and_the_next_run_goes_on() {
    let scene = below(&["a/", "b/"], 6);
    for name in ["a", "b"] {
        create(&scene, name, &tagging(&format!("{name}/"), 0, "[limits]\nconcurrency = 2\n"));
    }
    scene.hold_after(0);
    let running = scene.start(&["run", "--json"]);
    until("both are at work", || are_asked_for(&scene, &["a/", "b/"]));
    running.signal("TERM");
    until("both are stopping", || statuses(&scene) == [JobStatus::Pausing, JobStatus::Pausing]);
    scene.let_go();
    let told = running.over().ended(5).json();
    assert!(told["jobs"].as_array().expect("jobs").iter().all(|job| job["status"] == "Paused"), "{told}");
    scene.run(&["run"]).ended(0);
    assert!(scene.jobs().iter().all(|job| job.status == JobStatus::Complete && job.progress.succeeded == 6));
    assert!(scene.writes().values().all(|count| *count == 1));
}

#[test]
fn one_job_that_cannot_be_worked_on_does_not_keep_back_the_others() {
    let scene = below(&["a/", "b/"], 3);
    scene.write("list.csv", "bkt,a/0\nbkt,a/1\n");
    let csv = format!(
        "[manifest.csv]\npath = \"list.csv\"\n[operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n{NO_QUESTION}"
    );
    let stuck = create(&scene, "a", &csv);
    create(&scene, "b", &tagging("b/", 0, ""));
    scene.write("list.csv", "bkt,a/2\n");
    let ran = scene.run(&["run", "--json"]).ended(6);
    assert!(ran.stderr.contains("list.csv has changed since the job was prepared"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("batchplan resume {} --frozen-manifest", &stuck[..8])), "{}", ran.stderr);
    assert_eq!((scene.tags("a/0"), scene.tags("a/2"), scene.tags("b/2")), (String::new(), String::new(), "t=1".into()));
    let told = ran.json();
    let job = told["jobs"].as_array().expect("jobs").iter().find(|job| job["job_id"] == *stuck).expect("told");
    assert!(job["error"]["message"].as_str().is_some_and(|error| error.contains("has changed")), "{job}");
    assert_eq!(scene.run(&APPLY).code, 2, "there is no plan.toml here");
}

#[cfg(unix)]
#[test]
fn a_job_that_another_process_takes_first_is_left_to_it_and_that_is_no_failure() {
    let scene = below(&["a/", "b/"], 3);
    let lost = create(&scene, "a", &tagging("a/", 9, ""));
    create(&scene, "b", &tagging("b/", 0, ""));
    // Whoever looks sees it free, and whoever takes it is too late.
    let lease = std::fs::File::open(scene.path(".batchplan/jobs").join(&lost).join("lease")).expect("a lease");
    lease.lock_shared().expect("locked");
    let running = scene.start(&["run", "--json"]);
    until("the other job is done", || statuses(&scene).contains(&JobStatus::Complete));
    assert_eq!(scene.tags("a/0"), "", "it is not worked on");
    drop(lease);
    let ran = running.over().ended(0);
    assert!(!ran.stderr.contains("error"), "{}", ran.stderr);
    assert!(statuses(&scene).into_iter().all(|status| status == JobStatus::Complete));
    assert_eq!(ran.json()["jobs"].as_array().map(Vec::len), Some(2), "{}", ran.stdout);
    assert_eq!((scene.tags("a/0"), taken_up_in(&ran.stderr)), ("t=1".to_owned(), 2));
}

#[test]
fn many_runs_on_one_folder_share_its_jobs() {
    let prefixes: Vec<_> = (0..12).map(|n| format!("p{n:02}/")).collect();
    let names: Vec<_> = prefixes.iter().map(String::as_str).collect();
    let scene = below(&names, 2);
    for prefix in &prefixes {
        create(&scene, prefix.trim_end_matches('/'), &tagging(prefix, 0, ""));
    }
    let runs: Vec<_> = (0..4).map(|_| scene.start(&["run", "--slots", "12"])).collect();
    let ran: Vec<_> = runs.into_iter().map(|running| running.over().ended(0)).collect();
    assert!(statuses(&scene).into_iter().all(|status| status == JobStatus::Complete));
    assert!(scene.writes().values().all(|count| *count == 1), "no job was worked on twice");
    assert_eq!(ran.iter().map(|ran| taken_up_in(&ran.stderr)).sum::<usize>(), 12);
}

fn taken_up_in(said: &str) -> usize {
    said.matches(": started (").count()
}

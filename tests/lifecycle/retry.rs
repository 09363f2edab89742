//! What failed, done again: of a job that is known, or of a report that is all that is left.

use std::fs;
use std::path::Path;

use batchplan::job::JobStatus;
use batchplan::journal::{JobRecord, JobSource};
use serde_json::Value as Json;

use crate::scene::{APPLY, Scene, TAG, assert_stands, key, keys};
use crate::world::Ran;

/// One after the other, so that it is known which come before the job fails.
const ONE: &str = "[limits]\nconcurrency = 1\n";

/// A job of ten objects with these failing, and everything allowed since.
fn failing(rest: &str, denied: &'static [&str]) -> (Scene, JobRecord) {
    let scene = Scene::with_objects(10);
    scene.deny(|key| denied.contains(&key));
    scene.plan(&format!("{TAG}{ONE}{rest}"));
    scene.apply();
    scene.let_go();
    let job = scene.newest();
    (scene, job)
}

fn complete(rest: &str) -> (Scene, JobRecord) {
    let (scene, job) = failing(rest, &["k0002", "k0007"]);
    assert_stands(&job, JobStatus::Complete, 8, 2);
    (scene, job)
}

fn retry(scene: &Scene, job: &JobRecord, more: &[&str]) -> Ran {
    let args = ["retry", job.id.as_str(), "--auto-approve", "--json"];
    scene.run(&[&args[..], more].concat())
}

/// The keys that a job attempted.
fn attempted(scene: &Scene, result: &Json) -> Vec<String> {
    scene.reported(&scene.job(result))
}

#[test]
fn of_a_complete_job_only_what_failed() {
    for report in ["", "[report]\nbucket = \"reports\"\nformat = \"aws\"\n", "[report]\nbucket = \"reports\"\n"] {
        let (scene, first) = complete(report);
        let ran = retry(&scene, &first, &[]).ended(0);
        let second = scene.job(&ran.json());
        assert_ne!(second.id, first.id);
        assert_eq!(second.source, JobSource::Retry { of: first.id.clone(), unattempted: false });
        assert_stands(&second, JobStatus::Complete, 2, 0);
        assert!(ran.stderr.contains("that failed in the first job"), "{}", ran.stderr);
        assert_eq!(scene.writes().values().sum::<usize>(), 12);
        assert!(keys(10).all(|key| scene.tags(&key) == "t=1"));
        assert_stands(&scene.job(&serde_json::json!({ "job_id": first.id.as_str() })), JobStatus::Complete, 8, 2);
    }
}

#[test]
fn of_a_failed_job_also_what_was_never_attempted() {
    let (scene, first) = failing("", &["k0000", "k0001", "k0002"]);
    assert_stands(&first, JobStatus::Failed, 0, 3);
    let only = retry(&scene, &first, &["--failed-only"]).ended(0).json();
    assert_eq!(attempted(&scene, &only), [key(0), key(1), key(2)]);
    let rest = retry(&scene, &first, &[]).ended(0).json();
    assert_eq!(attempted(&scene, &rest), keys(10).collect::<Vec<_>>());
}

#[test]
fn of_a_cancelled_job_also_what_was_never_attempted() {
    let scene = Scene::with_objects(10);
    scene.plan(&format!("{TAG}{ONE}"));
    let running = scene.start_and_hold(3, 1);
    let first = scene.newest();
    let asking = scene.start(&["cancel", first.id.as_str()]);
    scene.wait_for(JobStatus::Cancelling);
    scene.let_go();
    running.over().ended(7);
    asking.over().ended(0);
    assert_stands(&scene.newest(), JobStatus::Cancelled, 4, 0);
    let rest = retry(&scene, &first, &[]).ended(0).json();
    assert_eq!(attempted(&scene, &rest), keys(10).skip(4).collect::<Vec<_>>());
    let none = retry(&scene, &first, &["--failed-only"]).ended(0);
    assert!(none.stderr.contains("has nothing to retry"), "{}", none.stderr);
}

#[test]
fn a_retry_that_fails_is_retried_as_any_job() {
    let (scene, first) = complete("");
    scene.deny(|key| key == "k0002");
    let second = retry(&scene, &first, &[]).ended(4).json();
    scene.let_go();
    let third = retry(&scene, &scene.job(&second), &[]).ended(0).json();
    // The first failed at a share of one half, so that the other may not have been attempted.
    assert!(attempted(&scene, &third).contains(&key(2)));
    assert!(keys(10).all(|key| scene.tags(&key) == "t=1"));
}

#[test]
fn a_retry_that_was_interrupted_is_gone_on_with() {
    let (scene, first) = complete("");
    scene.hold_after(0);
    let before = scene.server.count(crate::bucket::Kind::PutTags).served;
    let running = scene.start(&["retry", first.id.as_str(), "--auto-approve", "--json"]);
    scene.wait_until_held(before, 1);
    running.signal("TERM");
    running.wait_for("Pausing: ");
    scene.let_go();
    let second = running.over().ended(5).json();
    assert_eq!((&second["total"], &second["succeeded"]), (&2.into(), &1.into()));
    let again = retry(&scene, &first, &[]).ended(0);
    assert!(again.stderr.contains("2 changed, 0 failed"), "{}", again.stderr);
    assert_eq!(again.json()["job_id"], second["job_id"]);
    assert_eq!(scene.jobs().len(), 2);
    assert_eq!(scene.writes().values().sum::<usize>(), 12, "nothing is done a third time");
}

#[test]
fn a_retry_of_other_objects_is_another_job() {
    let (scene, first) = failing("", &["k0000", "k0001", "k0002"]);
    scene.hold_after(0);
    let before = scene.server.count(crate::bucket::Kind::PutTags).served;
    let running = scene.start(&["retry", first.id.as_str(), "--auto-approve", "--json"]);
    scene.wait_until_held(before, 1);
    running.signal("TERM");
    running.wait_for("Pausing: ");
    scene.let_go();
    let all = running.over().ended(5).json();
    assert_eq!(all["total"], 10);
    let only = retry(&scene, &first, &["--failed-only"]).ended(0).json();
    assert_ne!(only["job_id"], all["job_id"]);
    assert_eq!(attempted(&scene, &only), [key(0), key(1), key(2)]);
}

#[test]
fn nothing_to_retry_is_said() {
    let (scene, first) = failing("", &[]);
    let ran = scene.run(&["retry", first.id.as_str()]).ended(0);
    assert_eq!(scene.normal(&ran.stderr), "job [JOB] has nothing to retry\n");
    assert_eq!(ran.stdout, "");
    let shown = scene.run(&["retry", first.id.as_str(), "--json"]).ended(0).json();
    assert_eq!((&shown["nothing_to_retry"], &shown["retry_of"]), (&true.into(), &first.id.as_str().into()));
    assert_eq!((&shown["job_id"], &shown["total"], &shown["failed"]), (&Json::Null, &0.into(), &0.into()));
    assert_eq!(scene.jobs().len(), 1);
}

#[test]
fn what_is_not_over_is_not_retried() {
    let scene = Scene::with_objects(4);
    scene.plan(&format!("{TAG}{ONE}"));
    let running = scene.start_and_hold(1, 1);
    let job = scene.newest();
    let ran = scene.run(&["retry", job.id.as_str(), "--auto-approve"]).ended(6);
    assert_eq!(
        scene.normal(&ran.stderr),
        "error: job [JOB] is Active: it has not ended\n  help: wait until it ends: batchplan show [JOB] --watch\n"
    );
    scene.let_go();
    running.over().ended(0);
    let ran = scene.run(&["retry", "nosuchjob", "--auto-approve"]).ended(2);
    assert!(ran.stderr.contains("there is no job nosuchjob"), "{}", ran.stderr);
}

#[test]
fn a_retry_asks_as_apply_does() {
    let (scene, first) = complete("");
    let before = scene.server.requests();
    let ran = scene.run(&["retry", first.id.as_str()]).ended(6);
    assert!(ran.stderr.contains("this retry needs confirmation, but there is no terminal to ask on"), "{}", ran.stderr);
    assert_eq!((scene.jobs().len(), scene.server.requests()), (1, before));
}

#[test]
fn a_report_that_left_this_machine_is_read_from_its_bucket() {
    for scope in ["all-tasks", "failed-tasks-only"] {
        let report =
            format!("[report]\nbucket = \"reports\"\nprefix = \"r/\"\nkeep_local = false\nscope = \"{scope}\"\n");
        let (scene, first) = complete(&report);
        let local = scene.folder(&first).join("report");
        let csv = |folder: &Path| {
            let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
            entries.filter(|path| path.extension().is_some_and(|kind| kind == "csv")).count()
        };
        assert_eq!(csv(&local), 0, "the report's files are gone from here");
        let ran = retry(&scene, &first, &[]).ended(0);
        assert_stands(&scene.job(&ran.json()), JobStatus::Complete, 2, 0);
        assert!(keys(10).all(|key| scene.tags(&key) == "t=1"));
    }
}

/// What a failed job leaves behind, and an empty state folder beside it.
fn only_a_report(format: &str) -> (Scene, JobRecord) {
    let scene = Scene::with_objects(10);
    scene.server.behave(|seen| match seen.key.as_str() {
        "k0002" => crate::bucket::Manner::Refuse(403, "AccessDenied"),
        "k0007" => crate::bucket::Manner::Refuse(404, "NoSuchKey"),
        _ => crate::bucket::Manner::Serve,
    });
    let report = format!("[report]\nbucket = \"reports\"\nformat = \"{format}\"\nscope = \"all-tasks\"\n");
    scene.plan(&format!("{TAG}{ONE}{report}"));
    scene.apply().ended(3);
    scene.let_go();
    let job = scene.newest();
    fs::rename(scene.path(".batchplan"), scene.path("elsewhere")).expect("moved");
    (scene, job)
}

fn of_report(scene: &Scene, report: &str, more: &[&str]) -> Json {
    let args = ["retry", "--report", report, "--plan", "plan.toml", "--auto-approve", "--json"];
    scene.run(&[&args[..], more].concat()).ended(0).json()
}

#[test]
fn a_report_alone_is_enough() {
    for format in ["oss", "aws"] {
        let (scene, first) = only_a_report(format);
        let sent = scene.server.uploads("reports");
        let keys_of = |end: &str| {
            let found: Vec<_> = sent.keys().filter(|key| key.ends_with(end)).cloned().collect();
            assert_eq!(found.len(), 1, "{sent:?}");
            format!("s3://reports/{}", found[0])
        };
        let report = scene.path("elsewhere/jobs").join(first.id.as_str()).join("report");
        let files = if format == "aws" { report.join("results") } else { report.clone() };
        let failed = fs::read_dir(files)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .find(|path| fs::read_to_string(path).is_ok_and(|text| text.starts_with("bkt,k0002,")))
            .expect("the file of failures");
        let bare = failed.to_string_lossy().into_owned();
        let name = failed.file_name().expect("a name").to_string_lossy();
        let published_csv = sent.keys().find(|key| key.ends_with(&*name)).expect("published");
        let sources = [
            report.join("manifest.json").to_string_lossy().into_owned(),
            bare,
            keys_of("manifest.json"),
            format!("s3://reports/{published_csv}"),
        ];
        for (n, source) in sources.iter().enumerate() {
            let state = format!("state {n}");
            let result = of_report(&scene, source, &["--state", &state]);
            assert_eq!((&result["total"], &result["succeeded"]), (&2.into(), &2.into()), "{source}");
        }
        assert_eq!(scene.writes()["k0002"], 1 + sources.len());
        assert_eq!(scene.writes()["k0007"], 1 + sources.len());
        assert_eq!(scene.writes().values().sum::<usize>(), 10 + 2 * sources.len());
    }
}

#[test]
fn what_is_no_location_of_a_report_is_refused_with_its_reason() {
    let scene = Scene::with_objects(2);
    scene.plan(TAG);
    for (report, shown, why) in [
        ("oss://reports/manifest.json", "", "its scheme is `oss`, but the plan's store has `provider = \"s3\"`"),
        ("S3://reports/manifest.json", "", "its scheme has upper-case letters"),
        ("s3:/reports/manifest.json", "", "its scheme is not followed by ://"),
        (
            "https://reports.s3.amazonaws.com/m?X-Amz-Signature=hush",
            "https://reports.s3.amazonaws.com/m",
            "its scheme is `https`, not s3 or oss",
        ),
        ("s3://reports/r/", "", "its key is a folder"),
        ("s3://AKIDEXAMPLE:hush/hush@reports/r", "-", "its bucket name is a URL, an ARN or a path; use only the name"),
        ("s3:user:hush@reports", "-", "its scheme is not followed by ://"),
    ] {
        let shown = match shown {
            "" => format!(" {report}"),
            "-" => String::new(),
            shown => format!(" {shown}"),
        };
        let ran = scene.run(&["retry", "--report", report, "--plan", "plan.toml", "--auto-approve"]).ended(2);
        let said = format!("error: invalid --report{shown}: {why}\n  help: ");
        assert!(ran.stderr.starts_with(&said) && !ran.stderr.contains("hush"), "{}", ran.stderr);
    }
    assert_eq!(scene.server.requests(), 0);
    assert!(scene.jobs().is_empty());
}

#[test]
fn status_and_code_narrow_a_report() {
    for format in ["oss", "aws"] {
        let (scene, first) = only_a_report(format);
        let report = scene.path("elsewhere/jobs").join(first.id.as_str()).join("report/manifest.json");
        let report = report.to_string_lossy();
        for (narrow, wanted) in [
            (&["--status", "403"][..], vec![key(2)]),
            (&["--status", "403,404"], vec![key(2), key(7)]),
            (&["--code", "NoSuchKey"], vec![key(7)]),
            (&["--code", "NoSuchKey", "--status", "403"], vec![]),
            (&["--status", "503"], vec![]),
        ] {
            let result = of_report(&scene, &report, narrow);
            assert_eq!(attempted(&scene, &result), wanted, "{format} {narrow:?}");
        }
    }
}

#[test]
fn another_narrowing_of_a_report_is_another_job() {
    let (scene, first) = only_a_report("oss");
    let report = scene.path("elsewhere/jobs").join(first.id.as_str()).join("report/manifest.json");
    let report = report.to_string_lossy();
    scene.hold_after(0);
    let before = scene.server.count(crate::bucket::Kind::PutTags).served;
    let args = ["retry", "--report", &report, "--plan", "plan.toml", "--auto-approve", "--json", "--status", "403"];
    let running = scene.start(&args);
    scene.wait_until_held(before, 1);
    running.signal("KILL");
    running.over();
    scene.let_go();
    let denied = scene.newest();
    let missing = of_report(&scene, &report, &["--status", "404"]);
    assert_ne!(missing["job_id"], denied.id.as_str());
    assert_eq!(attempted(&scene, &missing), [key(7)]);
    // The one that was begun is found again.
    assert_eq!(of_report(&scene, &report, &["--status", "403"])["job_id"], denied.id.as_str());
}

#[test]
fn a_retry_does_not_count_as_its_plan() {
    // The plan's own unfinished job and the retry of another are two works.
    let (scene, first) = complete("");
    let before = scene.server.count(crate::bucket::Kind::PutTags).served;
    scene.hold_after(3);
    let running = scene.start(&APPLY);
    scene.wait_until_held(before + 3, 1);
    running.signal("KILL");
    running.over();
    scene.let_go();
    let plans = scene.newest();
    let retried = retry(&scene, &first, &[]).ended(0).json();
    assert_ne!(retried["job_id"], plans.id.as_str());
    assert_eq!(scene.apply().ended(0).json()["job_id"], plans.id.as_str());
}

/// Sets the version in the index of a job's frozen manifest to one that only a later program knows.
fn make_index_newer(scene: &Scene, job: &JobRecord) {
    let index = scene.folder(job).join("manifest/index.json");
    let text = fs::read_to_string(&index).expect("an index");
    // Without its checksum, the version cannot be taken for damage.
    let digest = text.find(",\n  \"sha256\"").expect("a checksum");
    let newer = format!("{}\n}}", &text[..digest]).replacen("\"version\": 1", "\"version\": 9", 1);
    assert!(newer.contains("\"version\": 9"), "{newer}");
    fs::write(&index, newer).expect("written");
}

#[test]
fn a_manifest_of_a_newer_version_fails_no_job() {
    // A retry of what was never attempted reads the manifest of the first job.
    let (scene, first) = failing("", &["k0000", "k0001", "k0002"]);
    make_index_newer(&scene, &first);
    let ran = retry(&scene, &first, &[]).ended(6);
    assert!(ran.stderr.contains("was written by a newer batchplan"), "{}", ran.stderr);
    let second = scene.newest();
    assert_ne!(second.id, first.id);
    assert_eq!(second.status, JobStatus::Preparing, "it goes on when the program is newer");
}

//! How many objects may fail before the job does, and what is no failure of an object's at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use batchplan::job::JobStatus;
use batchplan::journal::PauseCause;

use crate::bucket::{Kind, Manner, Object};
use crate::scene::{Scene, TAG, assert_stands, key, keys, short};

/// One after the other, so that it is known which come before the job fails.
const ONE: &str = "[limits]\nconcurrency = 1\n";

const REPORT: &str = "[report]\nbucket = \"reports\"\nprefix = \"r\"\nscope = \"all-tasks\"\n";

#[test]
fn more_than_a_fifth_fails_the_job_and_its_report_is_published() {
    let scene = Scene::with_objects(10);
    scene.deny(|key| ["k0001", "k0003", "k0004"].contains(&key));
    scene.plan(&format!("{TAG}{ONE}{REPORT}"));
    let ran = scene.apply().ended(4);
    let job = scene.job(&ran.json());
    assert_stands(&job, JobStatus::Failed, 2, 3);
    let reason = "3 of 5 objects attempted so far failed (limit 20 %, `failure_threshold`); 5 were not attempted";
    assert_eq!(job.reason.as_deref(), Some(reason));
    assert_eq!(ran.json()["not_attempted"], 5);
    let help = batchplan::jobs::hint("AccessDenied", 403).expect("advice");
    let said = format!(
        "Failed: {reason}\n2 changed, 3 failed, 5 not attempted\n\
         \x20 time      [TIME]\n\
         \x20 requests  5\n\
         \x20 failures  3 objects: 403 AccessDenied\n\
         \x20           help: {help}\n\
         report: s3://reports/r/[JOB]/results/manifest.json\n\
         next: batchplan show [JOB] && batchplan retry [JOB]\n"
    );
    let normal = scene.normal(&ran.stderr);
    assert!(normal.ends_with(&said), "{normal}");
    scene.assert_reported(&job, keys(5));
    let sent = scene.server.uploads("reports");
    let suffixes = ["results/manifest.json", "results/report-0.csv", "results/report-1.csv"];
    assert_eq!(sent.len(), suffixes.len(), "{sent:?}");
    for suffix in suffixes {
        let local = scene.folder(&job).join("report").join(suffix.trim_start_matches("results/"));
        let sent = sent.get(&format!("r/{}/{suffix}", job.id)).unwrap_or_else(|| panic!("no {suffix}: {sent:?}"));
        assert_eq!(*sent, std::fs::read(local).expect("kept here too"));
    }

    scene.let_go();
    let again = scene.run(&["retry", job.id.as_str(), "--auto-approve", "--json"]).ended(0).json();
    assert_stands(&scene.job(&again), JobStatus::Complete, 8, 0);
    let mut undone: Vec<_> = keys(10).skip(5).collect();
    undone.extend([1, 3, 4].map(key));
    scene.assert_reported(&scene.job(&again), undone);
    assert!(keys(10).all(|key| scene.tags(&key) == "t=1"));
}

#[test]
fn a_fifth_may_fail() {
    let scene = Scene::with_objects(10);
    scene.deny(|key| ["k0001", "k0003"].contains(&key));
    scene.plan(&format!("{TAG}{ONE}"));
    let ran = scene.apply().ended(3);
    let job = scene.job(&ran.json());
    assert_stands(&job, JobStatus::Complete, 8, 2);
    assert_eq!(job.reason, None);
    scene.assert_reported(&job, keys(10));
}

#[test]
fn a_wrong_role_does_not_burn_five_thousand_requests() {
    let scene = Scene::with_objects(8000);
    scene.deny(|_| true);
    scene.plan(&format!("{TAG}[limits]\nconcurrency = 50\n"));
    let ran = scene.apply().ended(4);
    let job = scene.job(&ran.json());
    assert_eq!(job.status, JobStatus::Failed);
    let failed = job.progress.failed;
    assert!((1000..1000 + 50).contains(&failed), "{failed}");
    assert_eq!(scene.server.count(Kind::PutTags).arrived, failed, "none was asked for in vain");
    let reported = scene.reported(&job).len();
    assert_eq!(u64::try_from(reported).expect("few"), failed);
}

#[test]
fn a_share_of_nothing_ends_at_the_first_failure() {
    let scene = Scene::with_objects(10);
    scene.deny(|key| key == "k0003");
    scene.plan(&format!("{TAG}{ONE}failure_threshold = 0\n"));
    let ran = scene.apply().ended(4);
    assert_stands(&scene.job(&ran.json()), JobStatus::Failed, 3, 1);
}

#[test]
fn a_share_of_everything_lets_all_fail() {
    let scene = Scene::with_objects(1100);
    scene.deny(|_| true);
    scene.plan(&format!("{TAG}[limits]\nconcurrency = 50\nfailure_threshold = 1\n"));
    let ran = scene.apply().ended(3);
    assert_stands(&scene.job(&ran.json()), JobStatus::Complete, 0, 1100);
}

#[test]
fn a_job_that_is_gone_on_with_is_judged_by_all_that_has_failed() {
    let scene = Scene::with_objects(10);
    scene.plan(&format!("{TAG}{ONE}"));
    // Two failures, then a request that is never answered.
    let mut left = 4;
    scene.server.behave(move |seen| match (seen.kind, left) {
        (Kind::PutTags, 0) => Manner::Wait,
        (Kind::PutTags, _) => {
            left -= 1;
            if left >= 2 { Manner::Refuse(403, "AccessDenied") } else { Manner::Serve }
        }
        _ => Manner::Serve,
    });
    let running = scene.start(&crate::scene::APPLY);
    scene.wait_until_held(4, 1);
    running.signal("TERM");
    running.wait_for("Pausing: ");
    scene.let_go();
    let first = running.over().ended(5).json();
    assert_eq!((&first["succeeded"], &first["failed"]), (&3.into(), &2.into()));
    scene.deny(|key| key == "k0006");
    let ran = scene.apply().ended(4);
    let job = scene.job(&ran.json());
    assert_eq!(ran.json()["job_id"], first["job_id"]);
    assert_stands(&job, JobStatus::Failed, 4, 3);
    scene.assert_reported(&job, keys(7));
}

/// Refuses the credentials from the `nth` write on, until told otherwise; gives how many were refused.
fn expire(scene: &Scene, nth: u64, status: u16, code: &'static str) -> Arc<AtomicU64> {
    let refused = Arc::new(AtomicU64::new(0));
    let (counts, mut seen_so_far) = (Arc::clone(&refused), 0);
    scene.server.behave(move |seen| {
        seen_so_far += u64::from(seen.kind.works());
        if !seen.kind.works() || seen_so_far < nth {
            return Manner::Serve;
        }
        counts.fetch_add(1, Ordering::Relaxed);
        Manner::Refuse(status, code)
    });
    refused
}

#[test]
fn expired_credentials_pause_the_job_and_fail_no_object() {
    for (status, code) in [(400, "ExpiredToken"), (403, "ExpiredToken"), (403, "InvalidAccessKeyId"), (401, "Denied")] {
        let scene = Scene::with_objects(200);
        scene.plan(&format!("{TAG}[limits]\nconcurrency = 8\n"));
        let refused = expire(&scene, 50, status, code);
        let ran = scene.apply().ended(5);
        let (first, job) = (ran.json(), scene.newest());
        assert_eq!((job.status, job.pause_cause), (JobStatus::Paused, Some(PauseCause::Credentials)));
        let reason = job.reason.as_deref().unwrap_or_default();
        assert!(reason.starts_with("the service rejected the credentials: ") && reason.contains(code), "{reason}");
        assert!(ran.stderr.contains(&format!("Paused: {reason}")), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("next: batchplan resume {}", short(&job.id))), "{}", ran.stderr);
        assert_stands(&job, JobStatus::Paused, 49, 0);
        let refused = refused.load(Ordering::Relaxed);
        assert!((1..=8).contains(&refused), "no more than what was in flight: {refused}");

        scene.let_go();
        let again = scene.apply().ended(0).json();
        assert_eq!(again["job_id"], first["job_id"]);
        assert_stands(&scene.job(&again), JobStatus::Complete, 200, 0);
        scene.assert_reported(&scene.job(&again), keys(200));
        let twice = scene.writes().values().filter(|count| **count > 1).count();
        assert_eq!(u64::try_from(twice).expect("few"), refused, "only what was refused is asked for again");
    }
}

#[test]
fn credentials_that_are_refused_at_once_change_nothing() {
    let scene = Scene::with_objects(3);
    scene.write("list.csv", crate::scene::rows(keys(3)));
    scene.plan("[manifest.csv]\npath = \"list.csv\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n");
    expire(&scene, 1, 403, "InvalidAccessKeyId");
    scene.apply().ended(5);
    assert_stands(&scene.newest(), JobStatus::Paused, 0, 0);
    scene.server.put("bkt", "k0000", Object::default());
    scene.let_go();
    scene.apply().ended(0);
    assert_stands(&scene.newest(), JobStatus::Complete, 3, 0);
}

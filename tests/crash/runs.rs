//! Kills at instants that a seed draws over requests and failpoints, at each failpoint, and at each upload.
//!
//! `BATCHPLAN_CRASH_RUNS` sets the number of seeds, 20 where it is absent; `BATCHPLAN_CRASH_SEED` runs one of them
//! alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use batchplan::captures::{CaptureReader, FormerValue};
use batchplan::frontier::RowFrontier;
use batchplan::manifest::FrozenManifest;
use batchplan_store::object::{ObjectKey, TagSet};
use bytes::Bytes;
use serde_json::Value as Json;

use crate::bucket::{BucketServer, Kind, Moment};
use crate::judge::{Observed, complaints};
use crate::process::{Ended, apply};
use crate::report::{Report, read};
use crate::scenario::{Among, BUCKETS, FAILPOINTS, Kill, PAGE, Scenario, before};

/// What came of one scenario.
struct Outcome {
    /// Whether each kill struck; a run that is over sooner is not killed.
    struck: Vec<bool>,
    /// What was not as promised.
    complaints: Vec<String>,
}

/// Runs a job through all its kills and to its end, and judges it.
fn survive(scenario: &Scenario) -> Outcome {
    let server = BucketServer::start(BUCKETS, PAGE, scenario.faults, scenario.seed);
    let folder = tempfile::tempdir().expect("a folder");
    scenario.lay_out(&server, folder.path());
    let mut struck = Vec::new();
    let mut ended = None;
    for kill in &scenario.kills {
        let run = apply(folder.path(), &server, Some(kill));
        struck.push(run.killed());
        if !run.killed() {
            ended = Some(run);
            break;
        }
    }
    let ended = ended.unwrap_or_else(|| apply(folder.path(), &server, None));
    let kills = struck.iter().filter(|struck| **struck).count() as u64;
    let result: Json = serde_json::from_str(&ended.stdout).unwrap_or_default();
    let observed = Observed {
        exit: ended.code(),
        report: report(scenario, &server, folder.path(), &result),
        result,
        wrong: scenario.wrong_objects(&server),
        kills,
        gets: server.count(Kind::GetTags),
        puts: server.count(Kind::PutTags),
    };
    let mut complaints = complaints(&scenario.expected(), &observed);
    complaints.extend(wrong_captures(scenario, folder.path(), &observed.result, false));
    if !complaints.is_empty() {
        complaints.push(said(&ended));
    }
    Outcome { struck, complaints }
}

/// The rows whose objects were not captured, and the objects that were not captured as they were before the job. A later
/// row of the same object shows what the job made of it. Captures that were lost with their machine may be unknown.
pub(crate) fn wrong_captures(scenario: &Scenario, folder: &Path, result: &Json, may_be_unknown: bool) -> Vec<String> {
    let report = result["report_folder"].as_str().map(|report| folder.join(report));
    let Some(job) = report.as_deref().and_then(Path::parent) else { return Vec::new() };
    let mut captures = CaptureReader::open(&job.join("captures")).expect("captures").into_lookup();
    let manifest = FrozenManifest::open(job).expect("a manifest").expect("it is complete");
    let (mut wrong, mut found) = (Vec::new(), BTreeMap::<ObjectKey, Vec<FormerValue<TagSet>>>::new());
    for task in manifest.interleaved_tasks(&RowFrontier::default(), 100).flat_map(|batch| batch.expect("rows")) {
        let is_there = scenario.rows.iter().any(|(key, there)| *there && *key == task.object.key);
        match captures.get(task.id).expect("a capture") {
            Some(capture) => {
                found.entry(task.object.key).or_default().push(capture.former.tags.clone());
            }
            None if is_there => wrong.push(format!("{} was not captured", task.object.key)),
            None => {}
        }
    }
    let before = FormerValue::Known(TagSet::from_iter(before()));
    let is_right = |state: &FormerValue<TagSet>| *state == before || (may_be_unknown && state.is_unknown());
    let lost = found.into_iter().filter(|(_, states)| !states.iter().any(is_right));
    wrong.extend(lost.map(|(key, states)| format!("{key} was captured as {states:?}")));
    wrong
}

/// The report, from the bucket where it was published, and nothing else is there; from the job's folder otherwise.
pub(crate) fn report(
    scenario: &Scenario,
    server: &BucketServer,
    folder: &Path,
    result: &Json,
) -> Result<Report, String> {
    if !scenario.published {
        let place = result["report_folder"].as_str().ok_or("the result names no report folder")?;
        let place = folder.join(place);
        let manifest = fs::read(place.join("manifest.json")).map_err(|error| format!("manifest.json: {error}"))?;
        return read(&manifest, |name| fs::read(place.join(name)).ok().map(Bytes::from));
    }
    let uploads = server.uploads("reports");
    let manifests: Vec<_> = uploads.keys().filter(|key| key.ends_with("/manifest.json")).collect();
    let [manifest] = manifests[..] else { return Err(format!("published were {:?}", uploads.keys())) };
    let report = read(&uploads[manifest], |name| uploads.get(name).cloned())?;
    let unlisted = uploads.keys().find(|key| *key != manifest && !report.files.contains(*key));
    unlisted.map_or(Ok(report), |key| Err(format!("{key} was published and is not listed")))
}

pub(crate) fn said(ended: &Ended) -> String {
    format!("it said:\n{}{}", ended.stdout, ended.stderr)
}

#[track_caller]
fn assert_kept(what: &str, scenario: &Scenario, outcome: &Outcome) {
    let Scenario { source, adds, published, faults, kills, .. } = scenario;
    assert!(
        outcome.complaints.is_empty(),
        "{what}:\n  {}\nmanifest {source:?}, adds {adds}, published {published}, {faults:?}\nkills {kills:?}\nstruck {:?}",
        outcome.complaints.join("\n  "),
        outcome.struck,
    );
}

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// Jobs that are killed side by side.
const AT_ONCE: usize = 4;

#[test]
fn a_job_survives_being_killed_at_any_instant() {
    let seeds = match number("BATCHPLAN_CRASH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("BATCHPLAN_CRASH_RUNS").unwrap_or(20),
    };
    // Each waits for most of its time, for leases that run out and stores that throttle.
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    survives(seed);
                }
            });
        }
    });
}

fn survives(seed: u64) {
    let scenario = Scenario::drawn(seed);
    let outcome = survive(&scenario);
    let again = format!("seed {seed}; run it alone with BATCHPLAN_CRASH_SEED={seed} cargo test --test crash");
    assert_kept(&again, &scenario, &outcome);
    assert!(outcome.struck[0], "{again}: the first kill did not strike");
}

/// How often each failpoint is certain to be passed by a job of this size whose report is published.
fn passed(name: &str) -> u64 {
    match name {
        // The report has a file of successes and one of failures.
        "segment-sealed" | "segment-sent" => 2,
        "part-sealed" | "report-finished" => 1,
        _ => 3,
    }
}

#[test]
fn a_job_survives_each_failpoint() {
    for (index, name) in (0..).zip(FAILPOINTS) {
        for nth in 1..=3 {
            // Seeds whose reports are published, over both manifests and both operations.
            let mut scenario = Scenario::quiet(4 + (index + nth) % 4, 80);
            // The run that resumes is killed as well, where it comes by the point.
            scenario.kills = vec![Kill::Failpoint { name, nth }, Kill::Failpoint { name, nth: 1 }];
            let outcome = survive(&scenario);
            let what = format!("{name}:{nth}");
            assert_kept(&what, &scenario, &outcome);
            assert!(outcome.struck[0] || nth > passed(name), "{what} was not passed");
        }
    }
}

#[test]
fn a_report_survives_a_kill_at_each_upload() {
    for moment in [Moment::Arrived, Moment::CarriedOut] {
        // Successes, failures, and the manifest that lists both.
        for nth in 1..=3 {
            let mut scenario = Scenario::quiet(4 + nth, 40);
            scenario.kills = vec![Kill::Request { nth, among: Among::Uploads, moment }];
            let outcome = survive(&scenario);
            let what = format!("upload {nth}, {moment:?}");
            assert_kept(&what, &scenario, &outcome);
            assert!(outcome.struck[0], "{what} was not sent");
        }
    }
}

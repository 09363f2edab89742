//! Kills of a job whose state is kept in a bucket: whoever goes on with it does so on another machine, in an empty
//! folder.
//!
//! `BATCHPLAN_HANDOVER_KILLS` sets how many kills must have struck before the test is content, 6 where it is absent.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use batchplan_sandbox::{Sandbox, SandboxOptions, SandboxServer};
use serde_json::Value as Json;

use crate::bucket::{BucketServer, Kind};
use crate::judge::{Expected, Observed, complaints};
use crate::process::{Ended, apply_with};
use crate::runs::{number, report, said, wrong_captures};
use crate::scenario::{BUCKETS, Kill, PAGE, Scenario};

/// Where the state is kept: a store of its own, so that no request to it is counted with those of the work.
struct State {
    server: SandboxServer,
}

impl State {
    fn new(folder: &Path) -> Self {
        let fill = folder.join("state.csv");
        fs::write(&fill, "bucket,key\nstates,readme\n").expect("written");
        let sandbox = Sandbox::in_memory(Some(&fill), SandboxOptions::default()).expect("a sandbox");
        Self { server: SandboxServer::start(sandbox, (Ipv4Addr::LOCALHOST, 0).into(), false).expect("a server") }
    }

    fn url(&self) -> String {
        format!("s3://states/crash?endpoint={}", self.server.endpoint())
    }
}

/// An empty folder with the plan, and the list that it names.
fn machine(home: &Path, number: usize, from: &Path) -> std::path::PathBuf {
    let folder = home.join(format!("machine-{number}"));
    fs::create_dir(&folder).expect("a folder");
    for name in ["plan.toml", "list.csv"] {
        let file = from.join(name);
        if file.exists() {
            fs::copy(&file, folder.join(name)).expect("copied");
        }
    }
    folder
}

/// Runs a job from machine to machine to its end, and judges it. How many kills struck, and what was not as promised.
fn hand_over(scenario: &Scenario) -> (usize, Vec<String>) {
    let server = BucketServer::start(BUCKETS, PAGE, scenario.faults, scenario.seed);
    let home = tempfile::tempdir().expect("a folder");
    let state = State::new(home.path());
    scenario.lay_out(&server, home.path());
    let mut killed = 0;
    let mut turns = 0;
    let mut turn = |kill: Option<&Kill>| {
        turns += 1;
        let folder = machine(home.path(), turns, home.path());
        let ended = apply_with(&folder, &server, kill, Some(&state.url()));
        (folder, ended)
    };
    let mut last = None;
    for kill in &scenario.kills {
        let (folder, ended) = turn(Some(kill));
        if !ended.killed() && !lost(&ended) {
            last = Some((folder, ended));
            break;
        }
        killed += 1;
    }
    // On a machine that is very busy, a lock may run out under whoever holds it: that is as good as a kill.
    for _ in 0..20 {
        if last.as_ref().is_some_and(|(_, ended)| !lost(ended)) {
            break;
        }
        last = Some(turn(None));
    }
    let (folder, ended) = last.expect("a last turn");
    let result: Json = serde_json::from_str(&ended.stdout).unwrap_or_default();
    let observed = Observed {
        exit: ended.code(),
        report: report(scenario, &server, &folder, &result),
        result,
        wrong: scenario.wrong_objects(&server),
        kills: killed as u64,
        gets: server.count(Kind::GetTags),
        puts: server.count(Kind::PutTags),
    };
    // What was done since the last push is done again: with each kill it may be all.
    let expected = Expected { checkpoint_every: scenario.rows.len() as u64, ..scenario.expected() };
    let mut complaints = complaints(&expected, &observed);
    complaints.extend(wrong_captures(scenario, &folder, &observed.result, true));
    if !complaints.is_empty() {
        complaints.push(said(&ended));
    }
    (killed, complaints)
}

fn lost(ended: &Ended) -> bool {
    ended.code() == Some(1) && ended.stderr.contains("was not renewed in time")
}

#[test]
fn a_job_is_handed_over_at_any_instant_and_its_report_is_exact() {
    let wanted = usize::try_from(number("BATCHPLAN_HANDOVER_KILLS").unwrap_or(6)).expect("a number");
    let mut struck = 0;
    for seed in 1000.. {
        if struck >= wanted {
            break;
        }
        let mut scenario = Scenario::drawn(seed);
        // How a job slows down for a store that throttles is other tests' matter, and takes its time.
        scenario.faults.throttled = 0.0;
        let (killed, complaints) = hand_over(&scenario);
        assert!(complaints.is_empty(), "seed {seed}:\n  {}\nkills {:?}", complaints.join("\n  "), scenario.kills);
        struck += killed;
    }
}

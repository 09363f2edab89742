//! A job and its undo, killed at instants that a seed draws: every object has its former state in the end, but for those
//! that others changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use batchplan::job::JobStatus;
use batchplan::journal::JobRecord;
use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY};

use crate::objects::{ACLS, State, States, failed, read, scene, write};
use crate::scene::{Dialect, Scene};

const OBJECTS: usize = 60;

/// The operations of a plan, and what they make of a state.
struct Operations {
    text: String,
    replaces: Option<BTreeMap<String, String>>,
    adds: BTreeMap<String, String>,
    deletes: Vec<String>,
    acl: Option<&'static str>,
}

impl Operations {
    fn drawn(random: &mut fastrand::Rng) -> Self {
        let mut operations =
            Self { text: String::new(), replaces: None, adds: BTreeMap::new(), deletes: Vec::new(), acl: None };
        let kind = random.u8(..5);
        let pair = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        match kind {
            0 => {
                operations.replaces = Some(pair("a", "2"));
                operations.text.push_str("[operation.put_object_tagging]\ntags = { a = \"2\" }\n");
            }
            1 => {
                operations.replaces = Some(BTreeMap::new());
                operations.text.push_str("[operation.delete_object_tagging]\n");
            }
            2 | 3 => {
                operations.adds = pair("b", "3");
                operations.deletes.push("c".to_owned());
                operations.text.push_str("[operation.add_object_tagging]\ntags = { b = \"3\" }\n");
                operations.text.push_str("[operation.delete_object_tagging]\nkeys = [\"c\"]\n");
            }
            _ => {}
        }
        if kind > 2 {
            let acl = ACLS[random.usize(..ACLS.len())];
            operations.acl = Some(acl);
            let _ = writeln!(operations.text, "[operation.put_object_acl]\nacl = \"{acl}\"");
        }
        operations
    }

    fn applied(&self, before: &State) -> State {
        let mut after = before.clone();
        if let Some(tags) = &self.replaces {
            after.tags.clone_from(tags);
        }
        after.tags.extend(self.adds.clone());
        after.tags.retain(|key, _| !self.deletes.contains(key));
        after.acl = self.acl.unwrap_or(after.acl);
        after
    }

    /// What an undo makes of an object that is in a state now, or `None` if it leaves it alone.
    fn undone(&self, now: &State, was: &State) -> Option<State> {
        let became = self.applied(was);
        let mut undone = now.clone();
        if self.replaces.is_some() || !self.adds.is_empty() {
            if now.tags != was.tags && now.tags != became.tags {
                return None;
            }
            undone.tags.clone_from(&was.tags);
        }
        if self.acl.is_some() {
            if now.acl != was.acl && now.acl != became.acl {
                return None;
            }
            undone.acl = was.acl;
        }
        Some(undone)
    }
}

/// Runs a command until its job is over, killed as often as there are numbers: once the gate has seen so many requests.
/// Returns the job.
fn survive(scene: &Scene, args: &[&str], kills: &[usize]) -> JobRecord {
    let before = scene.world.jobs().len();
    for kill in kills.iter().map(Some).chain([None]) {
        scene.gate.forget();
        let mut child = command(scene, args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
        while child.try_wait().expect("a process").is_none() {
            if kill.is_some_and(|kill| scene.gate.log().len() >= *kill) {
                child.kill().expect("killed");
            }
            thread::sleep(Duration::from_millis(1));
        }
        let said = child.wait_with_output().expect("ended").stderr;
        let jobs = scene.world.jobs();
        // It may be killed after its last write to the journal, and be over sooner than it is killed.
        if let Some(job) = jobs.first().filter(|job| jobs.len() > before && job.status.is_over()) {
            assert_eq!(job.status, JobStatus::Complete, "{}", String::from_utf8_lossy(&said));
            return job.clone();
        }
        assert!(kill.is_some(), "it is not over: {}", String::from_utf8_lossy(&said));
    }
    unreachable!("the last run is not killed")
}

fn command(scene: &Scene, args: &[&str]) -> std::process::Command {
    let mut command = scene.world.command(args);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.env("OSS_ACCESS_KEY_ID", ACCESS_KEY).env("OSS_ACCESS_KEY_SECRET", SECRET_KEY);
    command.env("BATCHPLAN_CHECKPOINT_EVERY", "8");
    command
}

/// Two instants before the end of the command.
fn kills(random: &mut fastrand::Rng) -> Vec<usize> {
    (0..2).map(|_| random.usize(3..OBJECTS)).collect()
}

fn undo(scene: &Scene, job: &JobRecord, kills: &[usize]) -> JobRecord {
    survive(scene, &["undo", job.id.as_str(), "--auto-approve", "--json"], kills)
}

#[track_caller]
fn assert_equal(what: &str, found: &States, expected: &States) {
    for (key, state) in expected {
        assert_eq!(&found[key], state, "{what}: {key}");
    }
}

fn survives(dialect: Dialect, seed: u64) {
    let what = format!("{dialect:?}, seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let before: States = (0..OBJECTS).map(|number| (format!("d/{number:03}"), State::drawn(&mut random))).collect();
    let operations = Operations::drawn(&mut random);
    let scene = scene(dialect, &before);
    let limits = "[limits]\nconcurrency = 8\nfailure_threshold = 1.0\n[undo]\ncapture = true\n";
    scene.plan(&format!("[manifest.prefix]\nbucket = \"bkt\"\n{}{limits}", operations.text));
    let apply = ["apply", "plan.toml", "--auto-approve", "--json"];
    let job = survive(&scene, &apply, &kills(&mut random));
    assert_eq!(job.progress.failed, 0, "{what}");
    let after: States = before.iter().map(|(key, state)| (key.clone(), operations.applied(state))).collect();
    assert_equal(&what, &read(&scene, &before), &after);

    // Others change some of them.
    let mut others = States::new();
    for key in before.keys() {
        if random.u8(..8) == 0 {
            let state = State::drawn(&mut random);
            write(&scene, key, &state);
            others.insert(key.clone(), state);
        }
    }
    let undone = undo(&scene, &job, &kills(&mut random));
    let (mut expected, mut left) = (before.clone(), Vec::new());
    for (key, now) in &others {
        // An object that the job did not change is not undone.
        let undone = if after[key] == before[key] { Some(now.clone()) } else { operations.undone(now, &before[key]) };
        if undone.is_none() {
            left.push(key.clone());
        }
        expected.insert(key.clone(), undone.unwrap_or_else(|| now.clone()));
    }
    let found = read(&scene, &before);
    assert_equal(&what, &found, &expected);
    let failures = failed(&scene, undone.id.as_str());
    assert_eq!(failures.keys().cloned().collect::<Vec<_>>(), left, "{what}");
    assert!(failures.values().all(|row| row.contains("ChangedSince")), "{what}: {failures:?}");

    // The undo of the undo makes it as it was after the job.
    let again = undo(&scene, &undone, &kills(&mut random));
    assert_eq!(failed(&scene, again.id.as_str()), BTreeMap::new(), "{what}");
    let found = read(&scene, &before);
    for key in before.keys().filter(|key| !others.contains_key(*key)) {
        assert_eq!(found[key], after[key], "{what}: {key}");
    }
    for key in &left {
        assert_eq!(found[key], others[key], "{what}: {key}");
    }
}

#[test]
fn a_job_is_undone_whenever_both_are_killed() {
    let seeds = std::env::var("BATCHPLAN_CRASH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(6_u64);
    thread::scope(|scope| {
        for dialect in [Dialect::Aws, Dialect::Oss] {
            scope.spawn(move || (0..seeds).for_each(|seed| survives(dialect, seed)));
        }
    });
}

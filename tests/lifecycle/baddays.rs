//! Days on which the machine does not play along: each has a clear message, loses nothing, and names the next command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use batchplan::job::JobStatus;
use batchplan::journal::{JobRecord, PauseCause};
use rusqlite::Connection;

use crate::bucket::Object;
use crate::scene::{APPLY, Running, Scene, TAG, assert_stands, keys};
use crate::world::Ran;

/// A job of twelve objects of which nine are done, and whose process was killed or stopped.
fn stopped() -> (Scene, JobRecord) {
    let scene = Scene::with_objects(12);
    scene.plan(&format!("{TAG}[limits]\nconcurrency = 4\n"));
    let running = scene.start_and_hold(5, 4);
    running.signal("TERM");
    running.wait_for("Pausing: ");
    scene.let_go();
    running.over().ended(5);
    let job = scene.newest();
    assert_stands(&job, JobStatus::Paused, 9, 0);
    (scene, job)
}

/// What was stopped is gone on with, and everything is done and told once.
#[track_caller]
fn goes_on(scene: &Scene, job: &JobRecord) {
    let ran = scene.apply().ended(0);
    assert_eq!(ran.json()["job_id"], job.id.as_str());
    assert_stands(&scene.newest(), JobStatus::Complete, 12, 0);
    scene.assert_reported(&scene.newest(), keys(12));
    assert!(scene.writes().values().all(|count| *count == 1));
}

/// Runs it, and fails unless it ended so, said this and sent nothing.
#[track_caller]
fn refused(scene: &Scene, args: &[&str], code: i32, said: &str) {
    let before = scene.server.requests();
    let ran = scene.run(args).ended(code);
    assert_eq!(scene.normal(&ran.stderr), said, "{args:?}");
    assert_eq!(scene.server.requests(), before, "{args:?}");
}

/// As `apply`, but no file may become larger than so many blocks of 512 bytes.
fn apply_with_full_disk(scene: &Scene, blocks: u32) -> Ran {
    let plain = scene.command(&[]);
    let mut command = Command::new("sh");
    let line = format!("ulimit -f {blocks}; exec '{}' {}", env!("CARGO_BIN_EXE_batchplan"), APPLY.join(" "));
    command.args(["-c", &line]).current_dir(scene.path("")).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // By count and not by time, so that something is recorded before there is no room.
    command.env("BATCHPLAN_CHECKPOINT_EVERY", "64");
    Running::of(command).over()
}

#[test]
fn a_full_disk_pauses_the_job_and_room_lets_it_complete() {
    let scene = Scene::with_objects(0);
    let keys: Vec<_> = (0..800).map(|n| format!("{n:04}{}", "x".repeat(900))).collect();
    for key in &keys {
        scene.server.put("bkt", key.as_str(), Object::default());
    }
    scene.plan(TAG);
    let reason = "cannot write the report: .batchplan/jobs/[JOB]/report/report-0.csv: File too large (os error 27)";
    // Three quarters of a megabyte of report find no room in half of one; the journal does. The second time it is as
    // full.
    for _ in 0..2 {
        let ran = apply_with_full_disk(&scene, 1024).ended(1);
        let job = scene.newest();
        assert_eq!((job.status, job.pause_cause), (JobStatus::Paused, Some(PauseCause::Machine)));
        assert_eq!(scene.normal(job.reason.as_deref().unwrap_or_default()), reason);
        let (done, left, in_doubt) = (job.progress.succeeded, job.progress.remaining(), job.in_doubt);
        assert!(done > 0 && left > 0 && done + left == 800, "{:?}", job.progress);
        // What was done since the last checkpoint could not be recorded.
        assert!(in_doubt > 0 && in_doubt <= left, "{in_doubt}");
        // The rest may have been in flight.
        let untouched = match left - in_doubt {
            0 => String::new(),
            untouched => format!(", {untouched} not attempted"),
        };
        let said = format!(
            "Paused: {reason}\n{in_doubt} objects may have been changed without being in the report\n\
             {done} changed, 0 failed{untouched}\n"
        );
        let heard = scene.normal(&ran.stderr);
        assert!(heard.contains(&said) && heard.ends_with("\nnext: batchplan resume [JOB]\n"), "{heard}");
    }
    let job = scene.newest();
    let ran = scene.apply().ended(0);
    assert_eq!(ran.json()["job_id"], job.id.as_str());
    assert_stands(&scene.newest(), JobStatus::Complete, 800, 0);
    scene.assert_reported(&scene.newest(), keys);
}

#[test]
fn a_disk_without_room_for_a_journal_is_said() {
    let scene = Scene::with_objects(3);
    scene.plan(TAG);
    let ran = apply_with_full_disk(&scene, 8).ended(1);
    assert_eq!(
        ran.stderr,
        "error: cannot write .batchplan/journal.db: the disk is full\n  \
         help: free some space, then run the command again: recorded progress is kept\n"
    );
    assert_eq!(scene.server.requests(), 0);
    scene.apply().ended(0);
}

/// Where the journal is.
fn journal(scene: &Scene) -> PathBuf {
    scene.path(".batchplan/journal.db")
}

/// Leaves the journal in one file.
fn fold_in(scene: &Scene) {
    let other = Connection::open(journal(scene)).expect("opened");
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("folded in");
    drop(other);
    assert!(!scene.path(".batchplan/journal.db-wal").exists(), "the last that has it open takes it away");
}

/// Spoils the journal, sees what is said, brings it back, and goes on.
#[track_caller]
fn spoilt(spoil: impl Fn(&mut Vec<u8>), what: &str) {
    let (scene, job) = stopped();
    fold_in(&scene);
    let whole = fs::read(journal(&scene)).expect("the journal");
    let mut bytes = whole.clone();
    spoil(&mut bytes);
    fs::write(journal(&scene), &bytes).expect("written");
    for args in [&APPLY[..], &["resume", job.id.as_str()], &["run"]] {
        let before = scene.server.requests();
        let heard = scene.run(args).ended(1).stderr;
        // Where in the file it is damaged may be said in between.
        assert!(heard.starts_with(&format!("error: .batchplan/journal.db is damaged: {what}\n")), "{heard}");
        assert!(heard.ends_with(&format!("\n  help: {RESTORE}\n")), "{heard}");
        assert_eq!(scene.server.requests(), before);
    }
    assert_eq!(fs::read(journal(&scene)).expect("the journal"), bytes, "nothing is made worse");
    fs::write(journal(&scene), &whole).expect("written");
    goes_on(&scene, &job);
}

/// What is to be done about a damaged journal.
const RESTORE: &str = "the reports and frozen manifests in .batchplan/jobs are not affected: restore the file from a backup, \
                       or move it away and apply the plan again (setting tags and ACLs twice has the same result)";

#[test]
fn a_truncated_journal_is_said() {
    spoilt(|bytes| bytes.truncate(bytes.len() / 2), "database disk image is malformed");
    spoilt(|bytes| bytes.truncate(5000), "database disk image is malformed");
}

#[test]
fn a_journal_with_flipped_bits_is_said() {
    // Every page but the first, which says what kind of file it is, is full of them.
    let flip = |bytes: &mut Vec<u8>| bytes[4096..].iter_mut().step_by(7).for_each(|byte| *byte ^= 0x55);
    spoilt(flip, "database disk image is malformed");
    // And one in the file's first bytes.
    spoilt(|bytes| bytes[3] ^= 1, "file is not a database");
}

#[test]
fn a_journal_that_is_none_is_said() {
    spoilt(|bytes| *bytes = b"Dear diary, today nothing was changed. ".repeat(500), "file is not a database");
}

#[test]
fn a_locked_journal_is_waited_for_and_then_said() {
    let (scene, job) = stopped();
    let other = Connection::open(journal(&scene)).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("begun");
    refused(
        &scene,
        &APPLY,
        6,
        "error: .batchplan/journal.db is locked by another process\n  \
         help: nothing was changed; wait for the other batchplan, or close the program that has the file open\n",
    );
    other.execute_batch("ROLLBACK").expect("ended");
    drop(other);
    goes_on(&scene, &job);
}

#[test]
fn a_journal_of_a_newer_batchplan_is_left_alone() {
    let (scene, job) = stopped();
    let other = Connection::open(journal(&scene)).expect("opened");
    let known: u32 = other.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a version");
    other.pragma_update(None, "user_version", known + 98).expect("set");
    drop(other);
    let said = format!(
        "error: .batchplan/journal.db has format {}; this batchplan supports formats up to {known}\n  \
         help: update batchplan, or use another folder with --state DIR\n",
        known + 98
    );
    refused(&scene, &APPLY, 6, &said);
    let other = Connection::open(journal(&scene)).expect("opened");
    other.pragma_update(None, "user_version", known).expect("set");
    drop(other);
    goes_on(&scene, &job);
}

#[test]
fn a_state_folder_that_cannot_be_one_is_said() {
    let scene = Scene::with_objects(3);
    scene.plan(TAG);
    scene.write("file", "here already");
    for (state, why) in [("file/state", "Not a directory (os error 20)"), ("file", "File exists (os error 17)")] {
        let said =
            format!("error: {state}: {why}\n  help: use another folder with --state DIR if this one cannot be used\n");
        refused(&scene, &["apply", "plan.toml", "--auto-approve", "--state", state], 1, &said);
    }
    assert_eq!(fs::read_to_string(scene.path("file")).expect("a file"), "here already");
    scene.apply().ended(0);
}

/// Takes away or changes something of the job's folder; sees what is said, brings it back, and goes on.
#[track_caller]
fn without(name: &str, change: impl Fn(&Path), said: &str) {
    let (scene, job) = stopped();
    let path = scene.folder(&job).join(name);
    let kept = scene.path("kept");
    let copied = Command::new("cp").args(["-a"]).arg(&path).arg(&kept).status().expect("cp");
    assert!(copied.success());
    change(&path);
    refused(&scene, &APPLY, 1, &format!("resuming job [JOB] (Paused)\n{UNCHECKED}{said}"));
    refused(&scene, &["resume", job.id.as_str()], 1, &format!("{UNCHECKED}{said}"));
    let after = scene.newest();
    assert!(!after.status.is_over(), "{}", after.status);
    assert_eq!(after.progress, job.progress);
    // What may have been made there meanwhile goes.
    let _ = fs::remove_dir_all(&path);
    let _ = fs::remove_file(&path);
    fs::rename(&kept, &path).expect("brought back");
    goes_on(&scene, &job);
}

/// What is said of a plan that trusts its server, as these do.
const UNCHECKED: &str = "warning: the server check is off (`skip_server_check`): a server that does not support tags, ACLs \
                         or restores may replace, empty or delete objects\n";

/// What is said of a part of the frozen manifest that is not there.
fn missing(name: &str) -> String {
    format!(
        "error: .batchplan/jobs/[JOB]/{name} is missing: the frozen manifest is incomplete\n  \
         help: restore the file from a backup, or apply the plan with --new to start over in a new job\n"
    )
}

/// What is said of a file of the report that is not what was written.
fn report(why: &str) -> String {
    format!(
        "note: .batchplan/jobs/[JOB]/report/report-0.csv: {why}: the outcomes of job [JOB] are lost, and all its objects are \
         processed again, 9 of them for the second time\n"
    )
}

fn gone(path: &Path) {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
}

#[test]
fn a_missing_part_of_the_manifest_is_said() {
    for name in ["manifest/part-00000.bpm", "manifest"] {
        without(name, gone, &missing(name));
    }
}

#[test]
fn a_jobs_folder_that_is_gone_is_said() {
    without("", gone, &missing("manifest"));
}

#[test]
fn a_report_file_that_is_not_what_was_written_is_said_and_its_objects_are_worked_on_again() {
    redone(gone, "missing (144 bytes are recorded)");
    let cut = |path: &Path| {
        let bytes = fs::read(path).expect("a file");
        fs::write(path, &bytes[..bytes.len() - 5]).expect("written");
    };
    let kept = "(kept as .batchplan/jobs/[JOB]/report/report-0.csv.damaged)";
    redone(cut, &format!("changed since the job wrote it (139 bytes, 144 are recorded) {kept}"));
}

/// Changes the report of a job that was stopped, and goes on: that is said, and what it told of is done again.
#[track_caller]
fn redone(change: impl Fn(&Path), why: &str) {
    let (scene, job) = stopped();
    change(&scene.folder(&job).join("report/report-0.csv"));
    let ran = scene.apply().ended(0);
    assert!(scene.normal(&ran.stderr).contains(&report(why)), "{}", scene.normal(&ran.stderr));
    assert_eq!(scene.newest().id, job.id);
    assert_stands(&scene.newest(), JobStatus::Complete, 12, 0);
    scene.assert_reported(&scene.newest(), keys(12));
    let again = scene.writes().values().filter(|count| **count == 2).count();
    assert_eq!(again, 9, "{:?}", scene.writes());
}

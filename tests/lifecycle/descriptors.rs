//! A process that may have few files and connections open: it does what it can, loses nothing, and says so.

use std::process::Command;

use batchplan::job::JobStatus;

use crate::scene::{APPLY, Running, Scene, TAG, assert_stands, keys};
use crate::world::Ran;

/// Runs the binary where so many files may be open: by the soft limit alone, or by both.
fn run_within(scene: &Scene, limit: &str, args: &[&str]) -> Ran {
    let plain = scene.command(&[]);
    let mut command = Command::new("sh");
    let line = format!("{limit}; exec '{}' {}", env!("CARGO_BIN_EXE_batchplan"), args.join(" "));
    command.args(["-c", &line]).current_dir(scene.path("")).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Running::of(command).over()
}

/// A plan that would have far more in flight than there are descriptors for.
fn wide(scene: &Scene) {
    scene.plan(&format!("{TAG}[limits]\nconcurrency = 256\n"));
}

#[test]
fn a_low_soft_limit_is_raised() {
    let scene = Scene::with_objects(600);
    wide(&scene);
    let ran = run_within(&scene, "ulimit -Sn 48", &APPLY).ended(0);
    assert!(!ran.stderr.contains("in flight at once"), "{}", ran.stderr);
    assert_stands(&scene.newest(), JobStatus::Complete, 600, 0);
    scene.assert_reported(&scene.newest(), keys(600));
}

#[test]
fn a_low_hard_limit_bounds_what_is_in_flight_and_that_is_said() {
    for limit in [64, 48] {
        let scene = Scene::with_objects(600);
        wide(&scene);
        let ran = run_within(&scene, &format!("ulimit -n {limit}"), &APPLY).ended(0);
        let note = format!("instead of 256: this process may open only {limit} files and connections (ulimit -n)");
        assert!(ran.stderr.contains(&note), "{}", ran.stderr);
        assert_stands(&scene.newest(), JobStatus::Complete, 600, 0);
        scene.assert_reported(&scene.newest(), keys(600));
        assert!(scene.writes().values().all(|count| *count == 1), "{limit}");
    }
}

/// However few there are: clear words, no panic, and what was done is recorded or said to be in doubt.
#[test]
fn however_few_there_are_nothing_is_lost() {
    let scene = Scene::with_objects(200);
    wide(&scene);
    for limit in (5..34).step_by(2) {
        let ran = run_within(&scene, &format!("ulimit -n {limit}"), &APPLY);
        let said = format!("{limit}, exit {}\n{}{}", ran.code, ran.stdout, ran.stderr);
        assert!([0, 1, 5].contains(&ran.code) && !ran.stderr.contains("panicked"), "{said}");
        let jobs = scene.jobs();
        let Some(job) = jobs.first().filter(|job| !job.status.is_over()) else { continue };
        // A job whose first record failed has no more to tell than what was sent for.
        let changed = scene.writes().len() as u64;
        let known = job.progress.finished() + job.in_doubt;
        assert!(known >= changed, "{changed} changed, {known} known of\n{said}");
    }
    scene.apply().ended(0);
    assert!(scene.jobs().iter().all(|job| job.status.is_over()));
    assert_stands(&scene.newest(), JobStatus::Complete, 200, 0);
    scene.assert_reported(&scene.newest(), keys(200));
}

/// Two jobs of a queue do not take each other's descriptors.
#[test]
fn a_queue_takes_up_no_more_jobs_than_there_are_descriptors_for() {
    let scene = Scene::with_objects(100);
    for name in ["one", "two", "three", "four", "five"] {
        scene.plan_named(name, &format!("{TAG}[limits]\nconcurrency = 64\n[job]\nconfirmation_required = false\n"));
        scene.run(&["create", &format!("{name}.toml")]).ended(0);
    }
    run_within(&scene, "ulimit -n 48", &["run", "--allow-overlap"]).ended(0);
    for job in scene.jobs() {
        assert_stands(&job, JobStatus::Complete, 100, 0);
        scene.assert_reported(&job, keys(100));
    }
}

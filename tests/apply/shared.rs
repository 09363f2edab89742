//! Names that mean more to others, and folders that others may write to.

use std::fs;

use serde_json::Value as Json;

use crate::world::{Ran, World};

const TAG: &str = "[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

fn world() -> World {
    let world = World::filled("bucket,key\nbkt,a\nbkt,b\n");
    world.plan(TAG);
    world
}

/// The names in a folder, sorted.
fn names(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.path(".")).expect("a folder").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_folder_of_the_jobs_is_the_one_that_is_named() {
    for state in ["file:x", "file:x?mode=memory", "file:x?vfs=none", ":memory:", "file:a%20b", "x?y#z"] {
        let world = world();
        let before = names(&world);
        let applied = world.run(&["apply", "plan.toml", "--auto-approve", "--state", state]).ended(0);
        assert!(world.path(state).join("journal.db").is_file(), "{state}: {}", applied.stderr);
        let listed: Json = world.run(&["list", "--json", "--state", state]).ended(0).json();
        assert_eq!(listed["jobs"].as_array().map(Vec::len), Some(1), "{state}");
        let first = state.split('/').next().expect("a name").to_owned();
        let new: Vec<_> = names(&world).into_iter().filter(|name| !before.contains(name) && *name != "data").collect();
        assert_eq!(new, [first], "{state}");
    }
}

#[cfg(unix)]
#[test]
fn a_name_that_is_no_text_has_its_own_folder() {
    use std::os::unix::ffi::OsStrExt as _;

    let world = world();
    let state = std::ffi::OsStr::from_bytes(b"st\xffate");
    let mut command = world.command(&["apply", "plan.toml", "--auto-approve", "--state"]);
    assert_eq!(command.arg(state).status().expect("it runs").code(), Some(0));
    assert!(world.path(".").join(state).join("journal.db").is_file());
}

#[cfg(unix)]
#[test]
fn what_is_saved_follows_no_link_and_waits_at_no_pipe() {
    use std::os::unix::fs::symlink;

    let world = world();
    world.write("precious", "precious");
    let precious = || fs::read_to_string(world.path("precious")).expect("it is there");
    symlink(world.path("precious"), world.path("tag.plan.draft")).expect("a link");
    world.run(&["plan", "plan.toml", "--out", "tag.plan"]).ended(0);
    assert_eq!(precious(), "precious");
    assert!(fs::symlink_metadata(world.path("tag.plan")).expect("a file").is_file());

    let created = world.run(&["create", "plan.toml", "--json"]).ended(0).json();
    let job = created["job_id"].as_str().expect("an id").to_owned();
    let lease = world.path(".batchplan/jobs").join(&job).join("lease");
    fs::remove_file(&lease).expect("removed");
    symlink(world.path("precious"), &lease).expect("a link");
    let refused = world.run(&["resume", &job, "--auto-approve"]);
    assert_ne!(refused.code, 0);
    assert!(
        refused
            .stderr
            .contains("lease: it is a symbolic link, which batchplan does not follow: replace it with its target"),
        "{}",
        refused.stderr
    );
    assert_eq!(precious(), "precious");
    fs::remove_file(&lease).expect("removed");
    assert!(std::process::Command::new("mkfifo").arg(&lease).status().expect("it runs").success());
    let refused = world.run(&["list"]).ended(1);
    assert!(refused.stderr.contains("lease: it is not a regular file; remove it"), "{}", refused.stderr);
    fs::remove_file(&lease).expect("removed");

    let report = world.path(".batchplan/jobs").join(&job).join("report");
    fs::create_dir(world.path("elsewhere")).expect("a folder");
    symlink(world.path("elsewhere"), &report).expect("a link");
    let refused = world.run(&["resume", &job, "--auto-approve"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("it is a symbolic link"), "{}", refused.stderr);
    assert_eq!(fs::read_dir(world.path("elsewhere")).expect("a folder").count(), 0);
    fs::remove_file(&report).expect("removed");
    world.run(&["resume", &job, "--auto-approve"]).ended(0);

    let jobs = world.path(".batchplan/jobs");
    fs::rename(&jobs, world.path("moved")).expect("moved");
    symlink(world.path("moved"), &jobs).expect("a link");
    for args in [&["apply", "plan.toml", "--auto-approve", "--new"][..], &["publish", &job]] {
        let refused = world.run(args).ended(1);
        assert!(refused.stderr.contains("jobs: it is a symbolic link"), "{}", refused.stderr);
    }
    assert_eq!(fs::read_dir(world.path("moved")).expect("a folder").count(), 1);
    fs::remove_file(&jobs).expect("removed");
    fs::rename(world.path("moved"), &jobs).expect("moved");

    fs::rename(world.path(".batchplan/journal.db"), world.path("journal.db")).expect("moved");
    symlink(world.path("journal.db"), world.path(".batchplan/journal.db")).expect("a link");
    let refused = world.run(&["list"]).ended(1);
    assert!(refused.stderr.contains("journal.db: it is a symbolic link"), "{}", refused.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_printed_is_told_as_that() {
    let world = world();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("the device");
    let mut command = world.command(&["apply", "plan.toml", "--auto-approve", "--json"]);
    let ran = Ran::of(&command.stdout(full).output().expect("it runs")).ended(1);
    assert!(ran.stderr.contains("error: cannot write standard output: No space left"), "{}", ran.stderr);
    assert!(ran.stderr.contains(" changed, 0 failed"), "the work is done all the same: {}", ran.stderr);
}

/// What moves a cursor, changes what is on a screen, or turns the direction of a text.
fn drives(text: &str) -> Option<char> {
    let drives = |c: &char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().find(drives)
}

#[cfg(unix)]
#[test]
fn no_name_drives_the_terminal_that_it_is_printed_on() {
    let hostile = "p\u{1b}[2J\u{7f}\u{9b}31m\u{85}\u{202e}\u{2066}\u{200f}";
    let world = World::filled("bucket,key\nbkt,a%1B%5D0%3Bx%07%C2%9B%E2%80%AE\n");
    world.plan(&format!("{TAG}[job]\nconfirmation_required = false\n[report]\nbucket = \"bkt\"\n"));
    let folder = world.path(hostile);
    fs::create_dir(&folder).expect("a folder");
    let plan = format!("{hostile}/{hostile}.toml");
    fs::copy(world.path("plan.toml"), world.path(&plan)).expect("copied");
    fs::copy(world.path("fill.csv"), folder.join("fill.csv")).expect("copied");
    let state = format!("{hostile}/state");
    world.write(&format!("{hostile}/bad.toml"), format!("name = \"{hostile}\"\n\"{hostile}\" = 1\n"));
    let bad = format!("{hostile}/bad.toml");
    world.write(&format!("{hostile}/bad.json"), format!("{{ \"{hostile}\": \"{hostile}\" }}"));
    let bad_json = format!("{hostile}/bad.json");
    let applied = world.run(&["apply", &plan, "--auto-approve", "--json", "--state", &state]).ended(0);
    let job = applied.json()["job_id"].as_str().expect("an id").to_owned();
    assert_eq!(drives(&format!("{}{}", applied.stdout, applied.stderr)), None, "{}{}", applied.stdout, applied.stderr);
    let hostile_cron = format!("{hostile} * * * *");
    for args in [
        &["show", &job, "--state", &state][..],
        &["show", &job, "--json", "--state", &state],
        &["show", &job, "--format", "xml", "--state", &state],
        &["show", &job, "--watch", "--json", "--state", &state],
        &["list", "--state", &state],
        &["list", "--json", "--state", &state],
        &["list", "--format", "xml", "--state", &state],
        &["plan", &plan, "--state", &state],
        &["plan", &plan, "--all", "--state", &state],
        &["plan", &plan, "--all", "--json", "--state", &state],
        &["plan", &plan, "--json", "--state", &state],
        &["plan", &plan, "--format", "markdown", "--state", &state],
        &["validate", &plan, &bad],
        &["validate", &plan, &bad, "--json"],
        &["policy", &bad],
        &["export", &plan, "--to", "oss"],
        &["export", &bad, "--to", "aws"],
        &["import", &bad_json],
        &["schedule", &plan, "--cron", "17 3 * * *"],
        &["schedule", &plan, "--cron", "17 3 * * *", "--as", "crontab", "--state", &state],
        &["schedule", "plan.toml", "--cron", &hostile_cron],
        &["schedule", "plan.toml", "--cron", hostile],
        &["show", hostile, "--state", &state],
        &["list", "--status", hostile],
        &["apply", hostile],
        &["apply", "plan.toml", hostile],
        &["retry", "--report", hostile, "--plan", &plan],
        &["delete", &job, "--json", "--state", &state],
    ] {
        let ran = world.run(args);
        assert_eq!(drives(&ran.stdout), None, "{args:?} prints {:?}", ran.stdout);
        assert_eq!(drives(&ran.stderr), None, "{args:?} says {:?}", ran.stderr);
        if args.contains(&"--json") && !args.contains(&"--all") && !args.contains(&"--watch") && !ran.stdout.is_empty()
        {
            ran.json();
        }
    }
    let shown = world.run(&["show", &job, "--json", "--state", &state]);
    assert!(shown.code != 0 || shown.json()["plan_file"].as_str().is_some_and(|file| file.ends_with(&plan)));
}

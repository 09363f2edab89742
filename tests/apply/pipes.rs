//! Readers that leave before everything is said.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use crate::world::World;

const TAG: &str = "[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

fn world(objects: usize) -> World {
    let rows: Vec<_> = (0..objects).map(|n| format!("bkt,k{n:04}\n")).collect();
    let world = World::filled(&format!("bucket,key\n{}", rows.concat()));
    world.plan(&format!("{TAG}[job]\nconfirmation_required = false\n"));
    world
}

/// Runs it with nobody at the other end of its standard output: the exit code, and what was said.
#[track_caller]
fn unread(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = world.command(args).stdout(writer).stderr(Stdio::piped()).output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_command_whose_reader_has_left_ends_quietly() {
    let world = world(3);
    let job = world.apply().ended(0).json()["job_id"].as_str().expect("an id").to_owned();
    world.write("bad.toml", "nothing = 1\n");
    world.write("request.json", world.run(&["export", "plan.toml", "--to", "oss"]).stdout);
    for (args, code) in [
        (&["list"][..], 0),
        (&["list", "--json"], 0),
        (&["list", "--format", "xml"], 0),
        (&["show", &job], 0),
        (&["show", &job, "--json"], 0),
        (&["show", &job, "--watch"], 0),
        (&["show", &job, "--format", "xml"], 0),
        (&["plan", "plan.toml"], 0),
        (&["plan", "plan.toml", "--all"], 0),
        (&["plan", "plan.toml", "--json"], 0),
        (&["plan", "plan.toml", "--format", "markdown"], 0),
        (&["policy", "plan.toml"], 0),
        (&["check", "plan.toml"], 0),
        (&["schema"], 0),
        (&["completions", "bash"], 0),
        (&["init", "-"], 0),
        (&["schedule", "plan.toml", "--cron", "17 3 * * *"], 0),
        (&["validate", "plan.toml"], 0),
        (&["validate", "plan.toml", "--json"], 0),
        (&["--help"], 0),
        (&["--version"], 0),
        // What has a result of its own keeps it.
        (&["validate", "bad.toml", "--json"], 2),
        (&["apply", "plan.toml", "--auto-approve", "--json"], 0),
        (&["run", "--json"], 0),
    ] {
        let (ended, said) = unread(&world, args);
        assert_eq!(ended, Some(code), "{args:?}: {said}");
        assert!(!said.contains("pipe") && !said.contains("error") && !said.contains("panic"), "{args:?}: {said}");
    }
}

#[test]
fn looking_at_every_object_ends_with_its_reader() {
    let world = world(3000);
    let mut child = world
        .command(&["plan", "plan.toml", "--all"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut line = String::new();
    BufReader::with_capacity(64, child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    assert!(line.contains("k0000"), "{line}");
    // The reader was dropped above.
    let mut said = String::new();
    child.stderr.take().expect("its messages").read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{said}");
    assert!(!said.contains("pipe") && !said.contains("error"), "{said}");
}

#[test]
fn a_job_goes_on_when_nobody_reads_what_it_says() {
    let world = world(500);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command: Command = world.command(&["apply", "plan.toml", "--auto-approve"]);
    let status = command.stdout(writer.try_clone().expect("a pipe")).stderr(writer).status().expect("it runs");
    assert_eq!(status.code(), Some(0));
    let job = world.jobs().pop().expect("a job");
    assert_eq!((job.status, job.progress.succeeded), (batchplan::job::JobStatus::Complete, 500));
}

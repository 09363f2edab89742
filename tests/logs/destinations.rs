//! Log files: new and old ones, ones that cannot be opened, a full disk, and a process that is killed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;

use crate::{APPLY, RESULT, is_log_line, normal, one_object};

#[test]
fn a_log_file_is_private_and_appended_to() {
    let world = one_object();
    fs::write(world.path("old.log"), "before\n").expect("written");
    let ran = world.run(&[&APPLY[..], &["--log-file", "old.log"]].concat()).ended(0);
    assert!(!ran.stderr.lines().any(is_log_line), "{}", ran.stderr);
    let log = fs::read_to_string(world.path("old.log")).expect("a log");
    assert!(log.starts_with("before\n") && log.lines().skip(1).all(is_log_line), "{log}");
    assert!(log.contains("batchplan::cli: command started command=apply") && log.contains("exit_code=0\n"), "{log}");
    world.run(&["list", "--log-file", "new.log"]).ended(0);
    assert_eq!(fs::metadata(world.path("new.log")).expect("a log").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_log_file_that_cannot_be_opened_is_named_and_nothing_begins() {
    let world = one_object();
    for (file, why) in [("none/x.log", "No such file or directory"), (".", "Is a directory")] {
        let ran = world.run(&[&APPLY[..], &["--log-file", file]].concat()).ended(1);
        assert_eq!(
            ran.stderr,
            format!(
                "error: cannot open the log file: {file}: {why} (os error {})\n  \
                 help: name another file with --log-file, or leave it out to log to standard error\n",
                if file == "." { 21 } else { 2 }
            )
        );
    }
    assert!(world.jobs().is_empty());
}

#[test]
fn a_pipe_that_is_never_read_is_named() {
    let world = one_object();
    let made = std::process::Command::new("mkfifo").arg(world.path("pipe")).status().expect("mkfifo");
    assert!(made.success());
    let ran = world.run(&[&APPLY[..], &["--log-file", "pipe"]].concat()).ended(1);
    assert!(ran.stderr.starts_with("error: cannot open the log file: pipe: "), "{}", ran.stderr);
}

#[test]
fn a_full_disk_below_the_log_stops_no_job() {
    let world = one_object();
    let ran = world.run(&[&APPLY[..], &["-q", "-vvv", "--log-file", "/dev/full"]].concat()).ended(0);
    let warning = "warning: cannot write the log file: /dev/full: No space left on device (os error 28): log lines are lost \
                   until this is fixed, and the command continues\n";
    assert_eq!(normal(&world, &ran.stderr), format!("{warning}{RESULT}"));
    assert_eq!(world.objects().tags("a", None), "t=1");
}

#[test]
fn a_killed_process_leaves_whole_lines() {
    for point in ["status-changed:2", "report-flushed:1", "journal-after-commit:2", "report-finished:1"] {
        let world = one_object();
        let mut command = world.command(&[&APPLY[..], &["-vvv", "--log-format", "json", "--log-file", "log"]].concat());
        let ended = command.env("PATH", "/usr/bin:/bin").env("BATCHPLAN_FAILPOINT", point).output().expect("it runs");
        assert_eq!(ended.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&ended.stderr));
        let log = fs::read_to_string(world.path("log")).expect("a log");
        assert!(log.ends_with('\n'), "{log}");
        for line in log.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{point}: {error}: {line}"));
        }
    }
}

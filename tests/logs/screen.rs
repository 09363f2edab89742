//! The log at a terminal with a progress bar: the binary below `script`, which gives it a terminal of its own.

use std::process::{Command, Stdio};

use crate::world::World;
use crate::{APPLY, is_log_line};

/// Removes escape sequences that move the cursor or erase, and returns the lines.
fn lines(screen: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = screen;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |at| at + 1);
        rest = &after[end..];
    }
    plain.push_str(rest);
    plain.split(['\r', '\n']).map(str::to_owned).collect()
}

#[test]
fn log_lines_are_whole_above_the_progress_bar() {
    let rows: Vec<_> = (0..300).map(|number| format!("bkt,key-{number:03}")).collect();
    let world = World::filled(&format!("bucket,key\n{}\n", rows.join("\n")));
    world.plan("[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n");
    let words = [&APPLY[..], &["-vvv", "--color", "never"]].concat().join(" ");
    let ran = Command::new("script")
        .args(["-qec", &format!("stty cols 400; exec '{}' {words}", env!("CARGO_BIN_EXE_batchplan")), "/dev/null"])
        .current_dir(world.path(""))
        .env_remove("BATCHPLAN_STATE")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("script, of the package bsdutils or util-linux");
    let screen = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{screen}");
    let lines = lines(&screen);
    let succeeded: Vec<_> = lines.iter().filter(|line| line.contains("object succeeded")).collect();
    assert_eq!(succeeded.len(), 300);
    for line in lines.iter().filter(|line| line.contains("batchplan::") || line.contains("batchplan_store::")) {
        assert!(is_log_line(line), "{line:?}");
    }
}

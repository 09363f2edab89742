//! What is logged at each level, and what `RUST_LOG` changes.

use crate::world::Ran;
use crate::{APPLY, RESULT, is_result, normal, object_named, one_object};

/// The lines of the log, without progress that a slow machine records more often.
fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.dedup_by_key(|line| if line.contains("checkpoint recorded") { "checkpoint" } else { *line });
    lines
}

#[test]
fn the_main_events_of_a_job() {
    let world = one_object();
    let ran = world.run(&[&APPLY[..], &["-q", "-v"]].concat()).ended(0);
    let expected = include_str!("expected/info.txt");
    assert_eq!(normal(&world, &ran.stderr), expected, "{}", ran.stderr);
}

#[test]
fn the_details_of_a_job_in_json() {
    let world = one_object();
    let ran = world.run(&[&APPLY[..], &["-q", "-vv", "--log-format", "json"]].concat()).ended(0);
    for line in ran.stderr.lines().filter(|line| !is_result(line)) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["fields"]["message"].is_string() && event["spans"].is_array(), "{line}");
    }
    let shown = normal(&world, &ran.stderr);
    assert_eq!(lines(&shown).join("\n") + "\n", include_str!("expected/debug.json"), "{}", ran.stderr);
}

#[test]
fn rust_log_selects_modules_and_comes_before_the_option() {
    let targets = |args: &[&str], rust_log: &str| {
        let world = one_object();
        let mut command =
            world.command(&[&APPLY[..], &["-q", "--log-format", "json", "--log-file", "log"], args].concat());
        Ran::of(&command.env("RUST_LOG", rust_log).output().expect("it runs")).ended(0);
        let log = std::fs::read_to_string(world.path("log")).expect("a log");
        let mut targets: Vec<_> = log
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .map(|event| {
                format!("{} {}", event["level"].as_str().expect("a level"), event["target"].as_str().expect("one"))
            })
            .collect();
        targets.sort();
        targets.dedup();
        targets
    };
    assert_eq!(
        targets(&[], "off,batchplan_store::http_client::client=trace"),
        ["TRACE batchplan_store::http_client::client"]
    );
    assert_eq!(
        targets(&["-vvv"], "batchplan_store=off,batchplan::engine=off,warn,batchplan::cli=info"),
        ["INFO batchplan::cli"]
    );
    assert_eq!(targets(&["-vvv"], "off"), [""; 0]);
    // The sandbox's library logs requests with their headers.
    let all = targets(&[], "trace,s3s=trace,hyper=trace,hyper_util=trace,mio=trace,tokio=trace");
    assert!(all.iter().all(|line| line.contains(" batchplan") || !line.starts_with(['T', 'D'])), "{all:?}");
    assert!(all.contains(&"TRACE batchplan::engine::worker".to_owned()), "{all:?}");
}

#[test]
fn a_directive_that_cannot_be_used_is_a_warning() {
    let world = one_object();
    let mut command = world.command(&[&APPLY[..], &["-q"]].concat());
    let ran = Ran::of(&command.env("RUST_LOG", "app[x]=loud").output().expect("it runs")).ended(0);
    let warning = "warning: `app[x]=loud` in RUST_LOG is ignored: it is neither a level nor TARGET=LEVEL\n";
    assert_eq!(normal(&world, &ran.stderr), format!("{warning}{RESULT}"));
}

#[test]
fn a_hostile_key_is_escaped_and_cannot_forge_a_line() {
    // The sandbox is filled from a CSV file, in which keys are percent-encoded.
    let key = "a%0A2026-01-01T00:00:00Z%20INFO%20forged%1B%5B2J%E2%80%AE##[error]b";
    for format in ["text", "json"] {
        let world = object_named(key);
        let mut command = world.command(&[&APPLY[..], &["-q", "-vvv", "--log-format", format]].concat());
        let ran = Ran::of(&command.env("GITHUB_ACTIONS", "true").output().expect("it runs")).ended(0);
        let odd = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!ran.stderr.contains(odd) && !ran.stderr.contains("##["), "{}", ran.stderr);
        assert!(ran.stderr.contains("forged"), "{}", ran.stderr);
        let begins = if format == "text" { "20" } else { "{\"timestamp\"" };
        for line in ran.stderr.lines().filter(|line| !is_result(line)) {
            assert!(line.starts_with(begins) && !line.starts_with("2026-01-01"), "{line}");
        }
    }
}

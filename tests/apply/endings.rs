//! What the end of a run says, and what progress looks like: on terminals of several widths, on dumb ones, in pipes.

use std::process::{Command, Stdio};

use crate::world::World;

const TAG: &str = "[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

/// Ten objects, and a manifest that names two more.
fn ten_of_twelve() -> World {
    let rows =
        |names: std::ops::Range<u32>| names.map(|number| format!("bkt,k{number}")).collect::<Vec<_>>().join("\n");
    let world = World::filled(&format!("bucket,key\n{}\n", rows(0..10)));
    world.write("list.csv", rows(0..12));
    world
}

/// The end of what `apply` says, from the outcomes on.
fn ending(world: &World, columns: Option<&str>) -> String {
    let mut command = world.command(&["apply", "plan.toml", "--auto-approve"]);
    if let Some(columns) = columns {
        command.env("COLUMNS", columns);
    }
    let output = command.output().expect("the binary runs");
    let text = world.normal(&String::from_utf8_lossy(&output.stderr));
    let start = text.lines().position(|line| line.contains(" failed") && !line.starts_with(' '));
    text.split_inclusive('\n').skip(start.unwrap_or_default()).collect()
}

#[test]
fn the_end_of_a_run_says_what_it_did_and_why_objects_failed() {
    let world = ten_of_twelve();
    let prices = "[prices]\nbook = \"aws-us-east-1\"\n[undo]\ncapture = false\n";
    world.plan(&format!("[manifest.csv]\npath = \"list.csv\"\n{TAG}{prices}"));
    let help = batchplan::jobs::hint("NoSuchKey", 404).expect("advice");
    let expected = format!(
        "10 changed, 2 failed\n\
         \x20 time      [TIME]\n\
         \x20 requests  12\n\
         \x20 cost      less than 0.01 USD\n\
         \x20 failures  2 objects: 404 NoSuchKey\n\
         \x20           help: {help}\n\
         report: .batchplan/jobs/[JOB]/report/manifest.json\n\
         next: batchplan show [JOB] && batchplan retry [JOB]\n"
    );
    assert_eq!(ending(&world, None), expected);
    world.plan(&format!("[manifest.csv]\npath = \"list.csv\"\n{TAG}[job]\nskip_unchanged = true\n{prices}"));
    let again = ending(&world, None);
    assert!(again.starts_with("0 changed, 10 already right, 2 failed\n"), "{again}");
    let job = &world.jobs()[0];
    assert_eq!((job.progress.succeeded, job.progress.unchanged, job.progress.changed()), (10, 10, 0));
}

#[test]
fn advice_is_broken_at_the_width_of_the_terminal() {
    for columns in ["60", "80", "120"] {
        let world = ten_of_twelve();
        world.plan(&format!("[manifest.csv]\npath = \"list.csv\"\n{TAG}"));
        let said = ending(&world, Some(columns));
        let width: usize = columns.parse().expect("a number");
        for line in said.lines().filter(|line| line.starts_with("  ")) {
            assert!(line.chars().count() <= width, "{columns}: {line:?}");
        }
        assert!(said.contains("  failures  2 objects: 404 NoSuchKey\n            help: "), "{said}");
    }
}

/// Applies a plan of about two seconds at a terminal of so many columns, and gives what the screen showed.
fn screen(term: &str, columns: u32) -> String {
    let rows: Vec<_> = (0..60).map(|number| format!("bkt,k{number:02}")).collect();
    let world = World::filled(&format!("bucket,key\n{}\n", rows.join("\n")));
    world.plan(&format!(
        "[manifest.prefix]\nbucket = \"bkt\"\n{TAG}[limits]\nrequests_per_second = 30\n[undo]\ncapture = false\n"
    ));
    let binary = env!("CARGO_BIN_EXE_batchplan");
    let words = format!("stty rows 24 cols {columns}; exec '{binary}' apply plan.toml --auto-approve --color never");
    let ran = Command::new("script")
        .args(["-qec", &words, "/dev/null"])
        .current_dir(world.path(""))
        .env_remove("BATCHPLAN_STATE")
        .env("TERM", term)
        .stdin(Stdio::null())
        .output()
        .expect("script, of the package bsdutils or util-linux");
    let screen = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && screen.contains("60 changed, 0 failed"), "{screen}");
    screen
}

/// Each state of the line that is redrawn.
fn drawn(screen: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = screen;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        plain.push('\n');
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |at| at + 1);
        rest = &after[end..];
    }
    plain.push_str(rest);
    plain.split(['\r', '\n']).filter(|line| line.contains("/60")).map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn progress_fits_the_terminal() {
    for columns in [60, 80, 120] {
        let screen = screen("xterm", columns);
        let drawn = drawn(&screen);
        assert!(!drawn.is_empty(), "{columns}: {screen:?}");
        for line in &drawn {
            assert!(line.chars().count() < columns as usize, "{columns}: {line:?}");
            assert!(line.contains(" %  ") && line.contains("/s"), "{columns}: {line:?}");
        }
    }
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let screen = screen("dumb", 80);
    assert!(!screen.contains('\u{1b}'), "{screen:?}");
    assert_eq!(drawn(&screen), Vec::<String>::new());
}

#[test]
fn a_pipe_gets_no_escapes_unless_colours_are_wanted() {
    let world = ten_of_twelve();
    world.plan(&format!("[manifest.csv]\npath = \"list.csv\"\n{TAG}"));
    let plain = world.run(&["plan", "plan.toml"]).ended(0);
    assert!(!plain.stdout.contains('\u{1b}') && !plain.stderr.contains('\u{1b}'), "{}", plain.stdout);
    let coloured = world.run(&["plan", "plan.toml", "--color", "always"]).ended(0);
    assert!(coloured.stdout.contains("\u{1b}[1m12 objects: "), "{}", coloured.stdout);
    let mut command = world.command(&["plan", "plan.toml"]);
    let dumb = command.env("TERM", "dumb").output().expect("the binary runs");
    // Only the measured time differs.
    let others = |text: &str| {
        text.lines().filter(|line| !line.contains("at the plan's rate")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(others(&String::from_utf8_lossy(&dumb.stdout)), others(&plain.stdout));
}

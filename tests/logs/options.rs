//! `-q`, `--color`, and where the options may stand.

use crate::world::World;
use crate::{APPLY, RESULT, is_log_line, is_result, normal, one_object};

const ESCAPE: char = '\u{1b}';

#[test]
fn quiet_leaves_results_warnings_and_errors() {
    let world = one_object();
    let ran = world.run(&[&APPLY[..], &["-q"]].concat()).ended(0);
    assert_eq!(normal(&world, &ran.stderr), RESULT);
    assert_eq!(ran.stdout, "");
    let ran = world.run(&["-q", "apply", "none.toml", "--auto-approve"]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("error: no such file: none.toml\n"), "{}", ran.stderr);
    let loud = one_object().run(&APPLY).ended(0);
    for said in ["store", "operation"] {
        assert!(loud.stderr.contains(said), "{}", loud.stderr);
    }
}

#[test]
fn quiet_does_not_change_the_log_and_the_log_not_the_data() {
    let data = |args: &[&str]| {
        let world = one_object();
        let ran = world.run(&[&APPLY[..], &["--json"], args].concat()).ended(0);
        let mut result = ran.json();
        for differs in ["job_id", "report_folder", "elapsed_seconds", "report"] {
            result[differs] = "".into();
        }
        (result, ran.stderr)
    };
    let (plain, _) = data(&[]);
    let (logged, stderr) = data(&["-q", "-vvv"]);
    assert_eq!(plain, logged);
    let mut others = stderr.lines().filter(|line| !is_log_line(line));
    assert!(others.all(is_result), "{stderr}");
    assert!(stderr.lines().count() > 20, "{stderr}");
}

#[test]
fn the_color_option_comes_before_the_environment() {
    let world = World::filled("");
    world.write("plan.toml", "name = \"x\"\n[stor]\nprovider = \"sandbox\"\n");
    world.write("good.toml", include_str!("../../plans/quickstart.toml"));
    for (args, set, coloured) in [
        (&[][..], &[][..], false),
        (&["--color", "always"], &[], true),
        (&["--color=always"], &[("NO_COLOR", "1")], true),
        (&["--color", "never"], &[("CLICOLOR_FORCE", "1")], false),
        (&["--color", "auto"], &[("CLICOLOR_FORCE", "1")], true),
        (&[], &[("CLICOLOR_FORCE", "1")], true),
        (&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        (&[], &[("CLICOLOR_FORCE", "0")], false),
    ] {
        for command in [&["validate", "plan.toml"][..], &["validate", "--nonsense"], &["apply", "--help"]] {
            let mut command = world.command(&[command, args].concat());
            let ran = crate::world::Ran::of(&command.envs(set.iter().copied()).output().expect("it runs"));
            let said = format!("{}{}", ran.stdout, ran.stderr);
            assert_eq!(said.contains(ESCAPE), coloured, "{args:?} {set:?}: {said:?}");
        }
    }
    assert_eq!(world.run(&["validate", "plan.toml", "--color", "sometimes"]).code, 2);
}

#[test]
fn the_levels_of_a_log_are_coloured_on_request_and_never_in_a_file() {
    let world = one_object();
    let ran = world.run(&[&APPLY[..], &["-v", "--color", "always"]].concat()).ended(0);
    assert!(ran.stderr.contains("Z \u{1b}[32m INFO\u{1b}[0m "), "{}", ran.stderr);
    let world = one_object();
    world.run(&[&APPLY[..], &["-v", "--color", "always", "--log-file", "log"]].concat()).ended(0);
    let log = std::fs::read_to_string(world.path("log")).expect("a log");
    assert!(log.contains("Z  INFO ") && !log.contains(ESCAPE), "{log}");
}

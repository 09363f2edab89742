//! States that are found without their URLs: by the plan that has them, and by names.

use std::fs;

use crate::place::{Place, until};

#[test]
fn every_command_finds_the_state_of_a_plan() {
    let place = Place::with_objects(3);
    let here = place.machine("here");
    let applied = here.apply().ended(0).said("state: s3://states/team?endpoint=").said("([state] of handed over)");
    let job = applied.json()["job_id"].as_str().expect("an id").to_owned();
    let there = place.machine("there");
    let of = ["--state-of", "plan.toml"];
    let listed = there.run(&[&["list", "--json"], &of[..]].concat()).ended(0).json();
    assert_eq!(listed["jobs"][0]["job_id"], *job);
    let page = there.run(&[&["show", &job[..8]], &of[..]].concat()).ended(0).stdout;
    assert!(page.starts_with(&format!("job {} is Complete\n", &job[..8])), "{page}");
    let refused = there.run(&[&["resume", &job], &of[..]].concat()).ended(6);
    let help = format!("help: batchplan show --state-of plan.toml {}; ", &job[..8]);
    refused.said("state: s3://states/team?").said("([state] of plan.toml)").said(&help);
    there.run(&[&["state", "show"], &of[..]].concat()).ended(0);
    // A saved plan has the state of its plan.
    there.run(&["plan", "plan.toml", "--out", "plan.bpl"]).ended(0);
    let listed = there.run(&["list", "--json", "--state-of", "plan.bpl"]).ended(0).json();
    assert_eq!(listed["jobs"][0]["job_id"], *job);
}

#[test]
fn the_plan_that_keeps_its_jobs_elsewhere_is_named() {
    let place = Place::with_objects(3);
    let here = place.machine("here");
    let job = here.apply().ended(0).json()["job_id"].as_str().expect("an id").to_owned();
    let url = place.url();
    let list = "batchplan list --state-of plan.toml";
    let ran = here.run(&["list"]).ended(0);
    assert_eq!(ran.stderr, format!("No jobs in .batchplan. plan.toml keeps its jobs in {url}: {list}\n"));
    for args in [&["show", &job][..], &["resume", &job], &["cancel", "zzzz"]] {
        let ran = here.run(args).ended(2);
        ran.said("there is no job ").said(&format!("help: plan.toml keeps its jobs in {url}: {list}"));
    }
    // With two of them, or where a state is given, nobody knows better.
    for args in [&["list", "--state", "nowhere"][..], &["list", "--status", "Failed", "--state", "nowhere"]] {
        assert_eq!(here.run(args).ended(0).stderr, "no jobs\n");
    }
    fs::copy(here.path("plan.toml"), here.path("other.toml")).expect("copied");
    assert_eq!(here.run(&["list"]).ended(0).stderr, "no jobs\n");
}

#[test]
fn a_state_has_a_name() {
    let place = Place::with_objects(3);
    let here = place.machine("here");
    here.apply().ended(0);
    let there = place.machine_with("there", "s3://elsewhere/state");
    fs::create_dir(there.path(".batchplan")).expect("a folder");
    let config = format!("[states.big]\nurl = \"{}\"\n", place.url());
    fs::write(there.path(".batchplan/config.toml"), config).expect("written");
    let listed = there.run(&["list", "--state", "big", "--json"]).ended(0).json();
    let job = listed["jobs"][0]["job_id"].as_str().expect("a job").to_owned();
    there.run(&["priority", &job, "1", "--state", "big"]).ended(6).said("([states.big])").said("show --state big ");
    there.run(&["list", "--state", "bgi"]).ended(2).said("no state `bgi`").said("did you mean `big`?");
    there.run(&["list", "--state", "./bgi"]).ended(0).said("no jobs");
    fs::write(there.path(".batchplan/config.toml"), "[states.big]\nurl = \"big/state\"\n").expect("written");
    there.run(&["list", "--state", "big"]).ended(2).said("config.toml:2:7: invalid state URL: it has no scheme");
}

#[test]
fn an_option_that_names_no_state_is_refused() {
    let place = Place::with_objects(0);
    let here = place.machine("here");
    here.run(&["list", "--state-of", "gone.toml"])
        .ended(2)
        .said("gone.toml is not a valid plan: no such file: gone.toml");
    let both = ["list", "--state-of", "plan.toml", "--state", "x"];
    here.run(&both).ended(2).said("--state and --state-of cannot be used together");
    // The variable says what is meant where nothing else does.
    let output =
        here.command(&["list", "--state-of", "plan.toml"]).env("BATCHPLAN_STATE", "y").output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let plan = fs::read_to_string(here.path("plan.toml")).expect("the plan");
    fs::write(here.path("local.toml"), plan.split("[state]").next().expect("a part")).expect("written");
    let ran = here.run(&["list", "--state-of", "local.toml"]).ended(2);
    ran.said("local.toml has no [state]: its jobs are kept in .batchplan").said("leave out --state-of");
}

#[test]
fn a_job_elsewhere_is_shown_as_of_its_last_push() {
    let place = Place::with_objects(120);
    let (here, there) = (place.machine("here"), place.machine("there"));
    let running = here.start_and_hold(40);
    let listed = there.run(&["list", "--json", "--state-of", "plan.toml"]).ended(0).json();
    let job = listed["jobs"][0]["job_id"].as_str().expect("a job").to_owned();
    let show = |args: &[&str]| there.run(&[&["show", &job, "--state-of", "plan.toml"], args].concat()).ended(0);
    until("something of it is pushed", || {
        show(&["--json"]).json()["percent"].as_f64().is_some_and(|percent| percent > 0.0)
    });
    let shown = show(&["--json"]).json();
    assert!(shown["as_of"].is_string() && shown["percent"].as_f64().is_some_and(|percent| percent < 100.0), "{shown}");
    let page = show(&[]).stdout;
    let row = page.lines().find(|line| line.starts_with("  progress")).expect("a row");
    assert!(row.contains(" %") && row.contains(", as of 20"), "{row}");
    place.let_go();
    running.over().ended(0);
    assert!(show(&["--json"]).json()["as_of"].is_null());
}

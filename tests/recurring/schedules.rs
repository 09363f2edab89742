//! `batchplan schedule`: what it prints, held to whoever is to read it.

use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

use crate::world::{Ran, World};

/// A plan of this name in a file of this name, for this provider.
fn world(file: &str, name: &str, provider: &str) -> World {
    let world = World::filled("");
    let store = match provider {
        "oss" => "provider = \"oss\"\nendpoint = \"https://oss-cn-hangzhou.aliyuncs.com\"\nregion = \"cn-hangzhou\"\n",
        "s3" => "provider = \"s3\"\nendpoint = \"https://s3.example.org\"\n",
        _ => "provider = \"aws\"\nregion = \"eu-central-1\"\n",
    };
    let name = serde_json::Value::from(name);
    world.write(
        file,
        format!(
            "name = {name}\n[store]\n{store}[manifest.inventory]\nbucket = \"lists\"\nlatest = \"daily/\"\n\
             [operation.put_object_tagging]\ntags = {{ a = \"1\" }}\n[recurring]\nonly_changed = true\n"
        ),
    );
    world
}

fn schedule(world: &World, args: &[&str]) -> Ran {
    world.run(&[&["schedule"], args].concat())
}

/// The text with what is of this machine replaced by names.
fn normal(world: &World, text: &str) -> String {
    let folder = std::fs::canonicalize(world.path("")).expect("a folder").display().to_string();
    text.replace(env!("CARGO_BIN_EXE_batchplan"), "/bin/batchplan").replace(&folder, "/srv")
}

#[test]
fn a_workflow_is_printed_whole() {
    let world = world("plans/nightly.toml", "nightly-tags", "aws");
    let args = ["plans/nightly.toml", "--cron", "17 3 * * *", "--state", "s3://state/jobs"];
    let ran = schedule(&world, &args).ended(0);
    assert_eq!(
        ran.stdout,
        "\
# .github/workflows/batchplan-nightly-tags.yml
#
# To use this workflow, save it there and replace OWNER below with the owner of the batchplan repository.
# In the repository's settings, create the environment `batchplan` for the default branch only, without reviewers.
# Also create the variables AWS_REGION and AWS_ROLE (a role that trusts this environment).
name: \"nightly-tags\"

on:
  schedule:
    # every day at 03:17, UTC
    - cron: \"17 3 * * *\"
  workflow_dispatch: {}

permissions:
  contents: read
  id-token: write # for the role

# One run at a time. GitHub keeps only the newest waiting run, which resumes an unfinished job.
concurrency:
  group: batchplan-nightly-tags
  cancel-in-progress: false

jobs:
  apply:
    runs-on: ubuntu-latest
    environment: batchplan
    steps:
      - uses: actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2
        with:
          persist-credentials: false
      - uses: aws-actions/configure-aws-credentials@8df5847569e6427dd6c4fb1cf565c83acfa8afa7 # v6.0.0
        with:
          role-to-assume: ${{ vars.AWS_ROLE }}
          aws-region: ${{ vars.AWS_REGION }}
          role-duration-seconds: 21600 # as long as a job may run; the role must allow sessions of that length
      - uses: OWNER/batchplan@v0.1.0
        with:
          command: apply
          plan: \"plans/nightly.toml\"
          args: --auto-approve --lock-timeout 1h
          state: \"s3://state/jobs\"
"
    );
    assert_eq!(
        ran.stderr,
        "next: save it as .github/workflows/batchplan-nightly-tags.yml, and follow its first lines\n"
    );
}

/// The only document of a YAML text.
fn yaml(text: &str) -> Yaml {
    let mut documents = YamlLoader::load_from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

#[test]
fn names_of_all_kinds_stay_strings_in_a_workflow() {
    let names = [
        ("it's: \"odd\" # é {{ x }} %h $HOME", "odd: # 'x' \"y\" 100%.toml"),
        ("${{ secrets.KEY }}", "${{ secrets.KEY }}.toml"),
        ("- [1, 2]: &a *b !c", "null.toml"),
    ];
    for (name, file) in names {
        for provider in ["aws", "oss", "s3"] {
            let world = world(file, name, provider);
            let ran = schedule(&world, &[file, "--cron", "0 3 * * MON,7", "--as", "github"]).ended(0);
            let read = yaml(&ran.stdout);
            assert_eq!(read["name"].as_str(), Some(name.replace("${{", "$ {{").as_str()));
            let keys: Vec<_> =
                read.as_hash().expect("a mapping").keys().map(|key| key.as_str().expect("text")).collect();
            assert_eq!(keys, ["name", "on", "permissions", "concurrency", "jobs"]);
            assert_eq!(read["on"]["schedule"][0]["cron"].as_str(), Some("0 3 * * 0,1"));
            let steps = read["jobs"]["apply"]["steps"].as_vec().expect("steps");
            let with = &steps.last().expect("a step")["with"];
            assert_eq!(with["plan"].as_str(), Some(file.replace("${{", "${{ '${{' }}").as_str()));
            assert_eq!(with["state"].as_str(), Some("${{ vars.BATCHPLAN_STATE }}"));
            assert_eq!(steps.len(), if provider == "aws" { 3 } else { 2 });
            let secrets = steps.last().expect("a step")["env"].as_hash().into_iter().flatten().count();
            assert_eq!(secrets, if provider == "aws" { 0 } else { 2 });
            assert!(ran.stdout.contains("create the variable BATCHPLAN_STATE"), "{}", ran.stdout);
            let group = read["concurrency"]["group"].as_str().expect("a group");
            assert!(group.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{group}");
        }
    }
}

#[test]
fn a_timer_is_printed_whole_and_systemd_takes_it() {
    let world = world("my plan 100%.toml", "nightly", "oss");
    let args = ["my plan 100%.toml", "--cron", "*/30 1-3 1,15 * MON-FRI", "--as", "systemd", "--state", "jobs"];
    let ran = schedule(&world, &args).ended(0);
    assert_eq!(
        normal(&world, &ran.stdout),
        "\
# ~/.config/systemd/user/batchplan-nightly.service
[Unit]
Description=Apply the batchplan plan nightly
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory=/srv
# Credentials, as NAME=value lines in a file that only you can read:
# EnvironmentFile=%h/.config/batchplan/nightly.env
ExecStart=/bin/batchplan apply \"/srv/my plan 100%%.toml\" --auto-approve --state /srv/jobs
# The next run resumes an interrupted job.
KillSignal=SIGINT
TimeoutStartSec=infinity
TimeoutStopSec=60

# ~/.config/systemd/user/batchplan-nightly.timer
[Unit]
Description=Schedule of the batchplan plan nightly

[Timer]
# at the given times, in this machine's time zone (cron: */30 1-3 1,15 * MON-FRI)
OnCalendar=*-*-01,15 01..03:00,30:00
OnCalendar=Mon..Fri *-*-* 01..03:00,30:00
# Catch up on a missed run.
Persistent=true

[Install]
WantedBy=timers.target
"
    );
    assert!(ran.stderr.contains("systemctl --user enable --now batchplan-nightly.timer"), "{}", ran.stderr);
    let expressions = ["17 3 * * *", "*/7 * 29 2 *", "0 0 1,15 1-3,12 5-7", "5-59/10 9-17 * * MON-FRI", "* * * * *"];
    for expression in expressions {
        let ran = schedule(&world, &["my plan 100%.toml", "--cron", expression, "--as", "systemd"]).ended(0);
        for event in ran.stdout.lines().filter_map(|line| line.strip_prefix("OnCalendar=")) {
            match Command::new("systemd-analyze").args(["calendar", event]).output() {
                Ok(taken) => assert!(taken.status.success(), "{event}: {}", String::from_utf8_lossy(&taken.stderr)),
                // Not every machine has it.
                Err(missing) => assert_eq!(missing.kind(), std::io::ErrorKind::NotFound),
            }
        }
    }
}

#[test]
fn a_line_of_a_crontab_runs_as_it_says() {
    let world = world("it's 100%.toml", "nightly", "oss");
    let ran = schedule(&world, &["it's 100%.toml", "--cron", "17  3 * * *", "--as", "crontab"]).ended(0);
    let folder = std::fs::canonicalize(world.path("")).expect("a folder");
    let line = normal(&world, &ran.stdout);
    assert_eq!(line, "17 3 * * * cd /srv && /bin/batchplan apply '/srv/it'\\''s 100\\%.toml' --auto-approve\n");
    // What cron hands to the shell, which finds the plan: it wants credentials, and there are none.
    let command = ran.stdout.trim_start_matches("17 3 * * * ").replace("\\%", "%");
    let shell =
        Command::new("sh").args(["-c", &command]).env_clear().env("PATH", "/bin:/usr/bin").current_dir("/").output();
    let said = String::from_utf8_lossy(&shell.expect("a shell").stderr).into_owned();
    assert!(said.starts_with("error: no credentials"), "{said}");
    assert!(folder.join(".batchplan").exists(), "jobs are kept where the command was given");
}

#[test]
fn what_is_wrong_is_shown_at_its_place() {
    let world = world("plan.toml", "nightly", "oss");
    let ran = schedule(&world, &["plan.toml", "--cron", "60 3 */2 FOO MON"]).ended(2);
    assert_eq!(ran.stdout, "");
    assert_eq!(
        ran.stderr,
        "  x `60` is not a valid minute
   ,-[--cron:1:1]
 1 | 60 3 */2 FOO MON
   : ^|
   :  `-- from 0 to 59
   `----
  help: a field is *, a value, a range such as 1-5, a step such as */15, or a list of these with commas

  x `FOO` is not a valid month
   ,-[--cron:1:10]
 1 | 60 3 */2 FOO MON
   :          ^|^
   :           `-- from 1 to 12, or JAN to DEC
   `----
  help: a field is *, a value, a range such as 1-5, a step such as */15, or a list of these with commas

error: the cron expression is not valid
  help: fix the problems shown above; an example: --cron \"17 3 * * *\"
"
    );
    let elsewhere = schedule(&world, &["../plan.toml", "--cron", "0 3 * * *"]);
    assert_eq!(elsewhere.code, 2, "{}", elsewhere.stderr);
    let often = schedule(&world, &["plan.toml", "--cron", "*/2 * * * *"]).ended(0);
    assert!(often.stderr.contains("at most every 5 minutes"), "{}", often.stderr);
    for (state, said) in [("s3://abc/x\nrun: x", "invalid --state"), ("jobs\nrun: x", "a schedule cannot hold")] {
        let hostile = schedule(&world, &["plan.toml", "--cron", "0 3 * * *", "--state", state]).ended(2);
        assert!(hostile.stderr.contains(said) && hostile.stdout.is_empty(), "{}", hostile.stderr);
    }
}

#[test]
fn a_plan_that_says_where_its_jobs_are_kept_is_left_to_say_it() {
    let world = World::filled("");
    world.plan(
        "[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { a = \"1\" }\n\
         [state]\nurl = \"s3://kept/jobs\"\n",
    );
    let ran = schedule(&world, &["plan.toml", "--cron", "0 3 * * *", "--as", "github"]).ended(0);
    assert!(!ran.stdout.contains("state"), "{}", ran.stdout);
}

#[test]
fn a_plan_that_does_not_recur_is_scheduled_with_a_word_of_it() {
    let world = World::filled("");
    world.plan("[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { a = \"1\" }\n");
    let ran = schedule(&world, &["plan.toml", "--cron", "0 3 * * *"]).ended(0);
    assert!(ran.stderr.contains("the plan has no [recurring]"), "{}", ran.stderr);
    yaml(&ran.stdout);
}

//! Rules for plans: each command that can change objects keeps them, and a refused plan changes nothing.

use std::fs;

use batchplan::job::JobStatus;

use crate::world::{Ran, World};

const FILL: &str = "bucket,key,size\nbkt,k1,5\nbkt,k2,5\nother,k3,5\n";
const TAG: &str = "[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

fn world() -> World {
    let world = World::filled(FILL);
    world.plan(&format!("[manifest.prefix]\nbucket = \"bkt\"\n{TAG}"));
    world
}

/// A plan with objects of two buckets.
fn world_of_two_buckets() -> World {
    let world = World::filled(FILL);
    world.write("list.csv", "bkt,k1\nother,k3\n");
    world.plan(&format!("[manifest.csv]\npath = \"list.csv\"\n{TAG}"));
    world
}

fn run(world: &World, command: &[&str]) -> Ran {
    world.run(&[command, &["--rules", "rules.toml"]].concat())
}

const APPLY: [&str; 3] = ["apply", "plan.toml", "--auto-approve"];

#[test]
fn a_broken_rule_is_shown_in_the_plan_and_nothing_is_opened() {
    let world = world();
    world.write("rules.toml", "allowed_buckets = [\"prod-*\"]\nrequired_tags = [\"Owner\"]\n");
    for command in [&APPLY[..], &["plan", "plan.toml"], &["create", "plan.toml"]] {
        let ran = run(&world, command).ended(6);
        assert_eq!(
            ran.stderr,
            "  x the bucket `bkt` is not allowed
   ,-[plan.toml:8:10]
 7 | [manifest.prefix]
 8 | bucket = \"bkt\"
   :          ^^|^^
   :            `-- not allowed
 9 | [operation.put_object_tagging]
   `----
  help: use a bucket that matches prod-*; the rule is `allowed_buckets`, rules.toml:1:1

  x put_object_tagging would remove the tag `Owner`
    ,-[plan.toml:10:8]
  9 | [operation.put_object_tagging]
 10 | tags = { t = \"1\" }
    :        ^^^^^|^^^^^
    :             `-- not kept
    `----
  help: set these tags, or leave them as they are; the rule is `required_tags`, rules.toml:2:1

error: plan.toml breaks 2 rules of rules.toml: `allowed_buckets`, `required_tags`
  help: nothing was changed; change the plan as shown above
",
            "{command:?}"
        );
        assert_eq!(ran.stdout, "");
    }
    assert!(!world.path(".batchplan").exists() && !world.path("data").exists());
    // Anyone's plan passes if it keeps them.
    world.write(
        "rules.toml",
        "allowed_buckets = [\"bk*\"]\nrequired_tags = [\"t\"]\nallowed_providers = [\"sandbox\"]\n",
    );
    run(&world, &APPLY).ended(0);
}

#[test]
fn the_variable_is_as_good_as_the_option() {
    let world = world();
    world.write("rules.toml", "allowed_providers = [\"aws\"]\n");
    let mut command = world.command(&APPLY);
    let ran = Ran::of(&command.env("BATCHPLAN_RULES", "rules.toml").output().expect("the binary runs")).ended(6);
    assert!(
        ran.stderr.contains("error: plan.toml breaks the rule `allowed_providers` of rules.toml\n"),
        "{}",
        ran.stderr
    );
}

#[test]
fn without_its_rules_no_plan_is_accepted() {
    let world = world();
    let ran = run(&world, &APPLY).ended(2);
    assert!(ran.stderr.starts_with("error: cannot read the rules in rules.toml: "), "{}", ran.stderr);
    world.write("rules.toml", "max_object = 5\n");
    for command in
        [&APPLY[..], &["plan", "plan.toml"], &["create", "plan.toml"], &["run"], &["resume", "A"], &["retry", "A"]]
    {
        let ran = run(&world, command).ended(2);
        assert!(ran.stderr.contains("rules.toml:1:1"), "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("did you mean `max_objects`?"), "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("error: rules.toml is not a valid file of rules\n"), "{command:?}: {}", ran.stderr);
    }
    assert!(!world.path(".batchplan").exists());
}

#[test]
fn too_many_objects_are_refused_before_the_first_is_changed() {
    let world = world();
    world.write("rules.toml", "max_objects = 1\n");
    for command in [&APPLY[..], &["plan", "plan.toml"], &["create", "plan.toml"]] {
        let ran = run(&world, command).ended(6);
        assert!(
            ran.stderr.contains("objects, the maximum\n") || ran.stderr.contains("at most 1 are allowed\n"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("plan.toml:7:1]"), "{}", ran.stderr);
        assert!(ran.stderr.contains("; the rule is `max_objects`, rules.toml:1:1\n"), "{}", ran.stderr);
        assert!(ran.stderr.contains("plan.toml breaks the rule `max_objects` of rules.toml\n"), "{}", ran.stderr);
    }
    assert_eq!(world.objects().tags("k1", None), "");
    // A limit of the plan that is reached first is the plan's own.
    world.write("rules.toml", "max_objects = 2\n");
    world.plan(&format!("[manifest.prefix]\nbucket = \"bkt\"\n{TAG}[limits]\nmax_objects = 1\n"));
    let ran = run(&world, &["plan", "plan.toml"]).ended(6);
    assert!(!ran.stderr.contains("rules.toml"), "{}", ran.stderr);
}

#[test]
fn buckets_that_only_the_manifest_names_are_checked_as_well() {
    let world = world_of_two_buckets();
    world.write("rules.toml", "allowed_buckets = [\"bk*\"]\n");
    for command in [&APPLY[..], &["create", "plan.toml"]] {
        let ran = run(&world, command).ended(6);
        assert!(ran.stderr.contains("x the manifest names objects in other\n"), "{}", ran.stderr);
        assert!(ran.stderr.contains("plan.toml:7:1]"), "{}", ran.stderr);
    }
    // The preview is shown, because it says what the plan would do.
    let ran = run(&world, &["plan", "plan.toml"]).ended(6);
    assert!(ran.stdout.contains("2 objects: 2 to change"), "{}", ran.stdout);
    assert!(ran.stderr.contains("x the manifest names objects in other\n"), "{}", ran.stderr);
    assert_eq!(world.objects().tags("k1", None), "");
}

#[test]
fn a_job_that_costs_too_much_is_refused_and_the_sandbox_costs_nothing() {
    let world = world();
    world.write("rules.toml", "max_cost = [\"1 EUR\", \"0.000001 USD\"]\n");
    run(&world, &["plan", "plan.toml"]).ended(0);
    let prices = "[prices]\nbook = \"aws-us-east-1\"\n";
    world.plan(&format!("[manifest.prefix]\nbucket = \"bkt\"\n{TAG}{prices}"));
    for command in [&["plan", "plan.toml"][..], &APPLY] {
        let ran = run(&world, command).ended(6);
        assert!(ran.stderr.contains("more than max_cost (0.000001 USD)\n"), "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("; the rule is `max_cost`, rules.toml:1:1\n"), "{command:?}: {}", ran.stderr);
    }
    assert_eq!(world.objects().tags("k1", None), "");
    world.write("rules.toml", "max_cost = \"1 EUR\"\n");
    let ran = run(&world, &APPLY).ended(6);
    assert!(ran.stderr.contains("are in USD"), "{}", ran.stderr);
    world.write("rules.toml", "max_cost = \"1 USD\"\n");
    run(&world, &APPLY).ended(0);
    assert_eq!(world.objects().tags("k1", None), "t=1");
}

#[test]
fn jobs_that_were_created_without_rules_run_only_if_they_keep_them() {
    let world = world();
    let created = world.run(&["create", "plan.toml", "--json"]).ended(0).json();
    let job = created["job_id"].as_str().expect("a job").to_owned();
    world.run(&["confirm", &job]).ended(0);
    world.write("rules.toml", "allowed_buckets = [\"prod-*\"]\n");
    let ran = run(&world, &["run"]).ended(6);
    assert!(ran.stderr.contains("x the bucket `bkt` is not allowed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("breaks the rule `allowed_buckets` of rules.toml"), "{}", ran.stderr);
    run(&world, &["resume", &job, "--auto-approve"]).ended(6);
    let jobs = world.jobs();
    assert_eq!(jobs.iter().map(|job| job.status).collect::<Vec<_>>(), [JobStatus::Ready]);
    assert_eq!(world.objects().tags("k1", None), "");
    world.write("rules.toml", "allowed_buckets = [\"bk*\"]\n");
    run(&world, &["run"]).ended(0);
    assert_eq!(world.objects().tags("k1", None), "t=1");
}

#[test]
fn a_retry_keeps_the_rules() {
    let world = World::filled("bucket,key\nbkt,k1\n");
    world.write("list.csv", "bkt,k1\nbkt,gone\n");
    world.plan(&format!("[manifest.csv]\npath = \"list.csv\"\n{TAG}[limits]\nfailure_threshold = 1\n"));
    let first = world.apply().ended(3).json();
    let job = first["job_id"].as_str().expect("a job");
    world.write("rules.toml", "required_tags = [\"Owner\"]\n");
    let ran = run(&world, &["retry", job, "--auto-approve"]).ended(6);
    assert!(ran.stderr.contains("would remove the tag `Owner`"), "{}", ran.stderr);
    assert_eq!(world.jobs().len(), 1);
    world.write("rules.toml", "required_tags = [\"t\"]\n");
    run(&world, &["retry", job, "--auto-approve"]).ended(3);
}

#[test]
fn broken_rules_are_annotations_at_the_lines_of_the_plan() {
    let world = world();
    world.write("rules.toml", "allowed_buckets = [\"prod-*\"]\n");
    let mut command = world.command(&["plan", "plan.toml", "--rules", "rules.toml"]);
    let ran = Ran::of(&command.env("GITHUB_ACTIONS", "true").output().expect("the binary runs")).ended(6);
    let annotation = "::error file=plan.toml,line=8,endLine=8,col=10,endColumn=15::the bucket `bkt` is not allowed: \
                      not allowed%0Ahelp: use a bucket that matches prod-*; the rule is `allowed_buckets`, rules.toml:1:1";
    assert!(ran.stderr.lines().any(|line| line == annotation), "{}", ran.stderr);
}

#[test]
fn a_saved_plan_keeps_the_rules_of_the_moment_it_is_applied() {
    let world = world();
    world.run(&["plan", "plan.toml", "--out", "plan.bpl"]).ended(0);
    world.write("rules.toml", "allowed_buckets = [\"prod-*\"]\n");
    let ran = run(&world, &["apply", "plan.bpl", "--auto-approve"]).ended(6);
    assert!(ran.stderr.contains("plan.toml:8:10]"), "{}", ran.stderr);
    // A plan that breaks a rule is not saved.
    fs::remove_file(world.path("plan.bpl")).expect("removed");
    world.write("rules.toml", "max_objects = 1\n");
    run(&world, &["plan", "plan.toml", "--out", "plan.bpl"]).ended(6);
    assert!(!world.path("plan.bpl").exists());
}

//! `--json`: every command prints one object on standard output, also if it fails, and each kind of error has its code.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value as Json;

use crate::world::{Ran, World};

const TAG: &str = "[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

const OSS: &str = "https://oss-cn-hangzhou.aliyuncs.com";

/// Returns the only JSON value on standard output: an object of this version of the format.
#[track_caller]
fn one_object(ran: &Ran, what: &[&str]) -> Json {
    let values: Vec<_> = serde_json::Deserializer::from_str(&ran.stdout).into_iter::<Json>().collect();
    let [Ok(value)] = values.as_slice() else { panic!("{what:?}: {values:?}\n{}", ran.stderr) };
    assert_eq!(value["version"], 2, "{what:?}: {value}");
    assert!(value.is_object(), "{what:?}: {value}");
    value.clone()
}

/// Returns the object of a command that failed, which has an error whose code is one of the documented.
#[track_caller]
fn failed(ran: &Ran, what: &[&str]) -> Json {
    let value = one_object(ran, what);
    let error = &value["error"];
    let code = error["code"].as_str().unwrap_or_else(|| panic!("{what:?}: {value}"));
    assert!(batchplan::cli::error_codes().iter().any(|(known, _)| *known == code), "{what:?}: {code}");
    assert!(error["message"].is_string(), "{what:?}: {value}");
    assert!(error["help"].is_string() || error["help"].is_null(), "{what:?}: {value}");
    assert!(ran.stderr.contains("error: "), "{what:?}: people read it, too: {}", ran.stderr);
    value
}

fn json(world: &World, args: &[&str]) -> Ran {
    world.run(&[args, &["--json"]].concat())
}

/// The names of all commands that can be run.
fn leaves(command: &clap::Command, name: &str, found: &mut BTreeSet<String>) {
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        let name = format!("{name} {}", inner.get_name()).trim_start().to_owned();
        if inner.has_subcommands() {
            leaves(inner, &name, found);
        } else {
            found.insert(name);
        }
    }
}

#[test]
fn every_command_that_fails_prints_one_object_with_the_error() {
    let world = World::filled("bucket,key\nbkt,a\n");
    world.plan(TAG);
    world.write("bad.toml", "name = 1\n");
    let mut seen = BTreeSet::new();
    for args in [
        &["init"][..],
        &["plan", "bad.toml"],
        &["check", "bad.toml"],
        &["apply", "bad.toml"],
        &["create", "bad.toml"],
        &["confirm", "A"],
        &["list", "--state", "s3://"],
        &["show", "A"],
        &["run", "--state", "s3://"],
        &["pause", "A"],
        &["resume", "A"],
        &["retry", "A"],
        &["cancel", "A"],
        &["priority", "A", "1"],
        &["delete", "A"],
        &["publish", "A"],
        &["verify", "A"],
        &["captured", "A"],
        &["undo", "A"],
        &["state", "show"],
        &["state", "pull"],
        &["state", "push"],
        &["state", "unlock"],
        &["policy", "bad.toml"],
        &["export", "bad.toml"],
        &["import", "bad.toml", "--name", "x"],
        &["schedule", "bad.toml", "--cron", "1 1 * * *", "--as", "crontab"],
        &["man", "fill.csv/x"],
        &["sandbox", "--data", "d", "--listen", "0.0.0.0:0"],
        &["completions", "no-shell"],
        &["schema", "extra"],
        &["version", "extra"],
        &["validate"],
    ] {
        let ran = json(&world, args);
        assert_ne!(ran.code, 0, "{args:?}");
        failed(&ran, args);
        let name = if args[0] == "state" { args[..2].join(" ") } else { args[0].to_owned() };
        seen.insert(name);
    }
    let mut all = BTreeSet::new();
    leaves(&batchplan::cli::command(), "", &mut all);
    // It prints words for completion scripts, or none: it never fails.
    all.remove("complete");
    let missing: Vec<_> = all.difference(&seen).collect();
    assert!(missing.is_empty(), "add these commands to the table above: {missing:?}");
}

#[test]
fn every_command_that_succeeds_prints_one_object() {
    let world = World::filled("bucket,key\nbkt,a\nbkt,b\n");
    world.plan(TAG);
    world.write("request.xml", include_str!("../fixtures/interchange/add-tags-prefix.xml"));
    let created = one_object(&json(&world, &["create", "plan.toml"]).ended(0), &["create"]);
    let job = created["job_id"].as_str().expect("a job").to_owned();
    let job = job.as_str();
    for args in [
        &["validate", "plan.toml"][..],
        &["plan", "plan.toml"],
        &["check", "plan.toml"],
        &["list"],
        &["show", job],
        &["priority", job, "7"],
        &["confirm", job],
        &["run"],
        &["show", job, "--watch"],
        &["retry", job],
        &["verify", job],
        &["delete", job, "--auto-approve"],
        &["apply", "plan.toml", "--auto-approve"],
        &["policy", "plan.toml", "--for", "iam"],
        &["schema"],
        &["schema", "--rules"],
        &["completions", "bash"],
        &["man", "pages"],
        &["version"],
        &["init", "new.toml", "--provider", "aws"],
        &["import", "request.xml", "--name", "x", "--region", "cn-hangzhou", "--endpoint", OSS, "--out", "oss.toml"],
        &["export", "oss.toml"],
        &["init", "-"],
        &["schedule", "plan.toml", "--cron", "1 1 * * *", "--as", "crontab"],
    ] {
        let ran = json(&world, args).ended(0);
        let value = one_object(&ran, args);
        assert!(value["error"].is_null(), "{args:?}: {value}");
    }
    let version = one_object(&json(&world, &["version"]).ended(0), &["version"]);
    assert_eq!(version["program"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(world.run(&["version"]).ended(0).stdout, format!("batchplan {}\n", env!("CARGO_PKG_VERSION")));
}

/// The codes that unit tests of the errors cover.
const TESTED_BESIDE_THE_ERRORS: [&str; 13] = [
    "CaptureDenied",
    "InvalidStoreSetting",
    "EndpointChanged",
    "ServerNotTrusted",
    "QueueFull",
    "NewerFormat",
    "StateDiverged",
    "NoState",
    "StateUnusable",
    "ReportNotPublished",
    "JobNeeded",
    "CredentialsRejected",
    "Interrupted",
];

/// Runs a command that fails, and returns the code of its error.
#[track_caller]
fn code(world: &World, args: &[&str]) -> String {
    failed(&json(world, args), args)["error"]["code"].as_str().expect("a code").to_owned()
}

#[test]
fn each_kind_of_error_has_its_code() {
    let fresh = |plan: &str| {
        let world = World::filled("bucket,key,size\nbkt,a,5\nbkt,b,5\n");
        world.plan(plan);
        world
    };
    let limited = |limit: &str| fresh(&format!("{TAG}[limits]\n{limit}\n"));
    let apply = ["apply", "plan.toml", "--auto-approve"];
    let world = fresh(TAG);
    world.write("bad.toml", "name = 1\n");
    world.write("rules.toml", "allowed_providers = [\"aws\"]\n");
    let mut seen: BTreeSet<String> = TESTED_BESIDE_THE_ERRORS.map(str::to_owned).into();
    let mut expect = |found: String, expected: &str| {
        assert_eq!(found, expected);
        seen.insert(found);
    };
    expect(code(&world, &["apply", "--nonsense"]), "InvalidUsage");
    expect(code(&world, &["policy", "plan.toml", "--bucket", "a b"]), "InvalidArgument");
    expect(code(&world, &["apply", "bad.toml"]), "InvalidPlan");
    expect(code(&world, &["plan", "plan.toml", "--rules", "bad.toml"]), "InvalidRules");
    expect(code(&world, &["plan", "plan.toml", "--prices", "bad.toml"]), "InvalidPriceBook");
    expect(code(&world, &["list", "--state", "s3://"]), "InvalidState");
    expect(code(&world, &["import", "bad.toml", "--name", "x"]), "NotConvertible");
    world.write("aws.toml", format!("name = \"x\"\n[store]\nprovider = \"aws\"\nregion = \"us-east-1\"\n{TAG}"));
    expect(code(&world, &["plan", "aws.toml"]), "NoCredentials");
    expect(code(&world, &["show", "A"]), "NoSuchJob");
    expect(code(&world, &["init", "plan.toml"]), "FileExists");
    expect(code(&world, &["apply", "plan.toml"]), "ConfirmationRequired");
    expect(code(&world, &["apply", "plan.toml", "--plan", "plan.toml"]), "SavedPlanRefused");
    expect(code(&world, &["plan", "plan.toml", "--rules", "rules.toml"]), "RulesBroken");
    expect(code(&world, &["sandbox", "--data", "d", "--listen", "0.0.0.0:0"]), "Refused");
    expect(code(&world, &["man", "fill.csv/x"]), "ToolFailed");
    expect(code(&fresh(TAG), &[&apply[..], &["--expect-count", "7"]].concat()), "UnexpectedCount");
    expect(code(&limited("max_objects = 1"), &apply), "TooManyObjects");
    expect(code(&limited("max_cost = \"1 USD\""), &apply), "TooExpensive");
    let missing = TAG.replace("\"bkt\"", "\"missing\"");
    expect(code(&fresh(&missing), &apply), "ManifestUnreadable");
    expect(code(&fresh(&format!("{TAG}[report]\nbucket = \"missing\"\n")), &apply), "ReportPlaceUnusable");
    let source = "[manifest.csv]\nbucket = \"bkt\"\nobject = \"a\"\netag = \"0\"\n";
    let operation = &TAG[TAG.find("[operation").expect("an operation")..];
    expect(code(&fresh(&format!("{source}{operation}")), &apply), "ManifestChanged");
    let world = fresh(TAG);
    let held = world.objects();
    expect(code(&world, &apply), "InUse");
    drop(held);
    let ended = json(&world, &apply).ended(0).json();
    let job = ended["job_id"].as_str().expect("a job");
    expect(code(&world, &["resume", job]), "WrongJobStatus");
    let damage = |content: &str| {
        for file in fs::read_dir(world.path(&format!(".batchplan/jobs/{job}/captures"))).expect("captures") {
            fs::write(file.expect("a file").path(), content).expect("written");
        }
    };
    damage(&"junk".repeat(100));
    expect(code(&world, &["captured", job]), "CapturesUnreadable");
    // What is cut off to nothing is not taken for nothing to undo.
    damage("cut");
    expect(code(&world, &["undo", job, "--auto-approve"]), "NotUndoable");
    let without = fresh(&format!("{TAG}[undo]\ncapture = false\n"));
    let ended = json(&without, &apply).ended(0).json();
    expect(code(&without, &["undo", ended["job_id"].as_str().expect("a job")]), "NotUndoable");
    json(&world, &["create", "plan.toml"]).ended(0);
    world.plan(&TAG.replace("\"1\"", "\"2\""));
    expect(code(&world, &["create", "plan.toml"]), "PlanChanged");
    // IDs begin with one of five letters.
    for _ in 0..5 {
        json(&world, &["create", "plan.toml", "--new"]).ended(0);
    }
    let letters = ["M", "N", "O", "Y", "Z"].map(|letter| code_if_failed(&world, letter));
    expect(letters.into_iter().flatten().find(|code| code != "NoSuchJob").expect("two jobs"), "AmbiguousJob");
    world.write(".batchplan/journal.db", "no database");
    expect(code(&world, &["list"]), "JournalUnusable");
    let all: BTreeSet<String> = batchplan::cli::error_codes().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(seen, all, "each code is tested");
}

/// Shows the job with this prefix, and returns the code of the error, if it is one.
fn code_if_failed(world: &World, prefix: &str) -> Option<String> {
    let ran = json(world, &["show", prefix]);
    (ran.code != 0).then(|| failed(&ran, &["show", prefix])["error"]["code"].as_str().expect("a code").to_owned())
}

#[test]
fn an_error_has_its_place_its_help_and_the_result() {
    let world = World::filled("bucket,key\nbkt,a\n");
    world.write("bad.toml", format!("name = \"x\"\n[store]\nprovider = \"asw\"\n{TAG}"));
    let error = &failed(&json(&world, &["apply", "bad.toml"]).ended(2), &["apply"])["error"];
    assert_eq!(error["place"], serde_json::json!({ "file": "bad.toml", "line": 3, "column": 12 }));
    assert_eq!(error["help"], "fix the problems shown above; nothing was sent");
    let problems = error["problems"].as_array().expect("problems");
    assert!(problems.iter().any(|problem| problem["message"] == "`provider` cannot be `asw`"), "{error}");
    // A broken rule has its place in both files.
    world.plan(TAG);
    world.write("rules.toml", "allowed_buckets = [\"prod-*\"]\n");
    let error = &failed(&json(&world, &["plan", "plan.toml", "--rules", "rules.toml"]).ended(6), &["plan"])["error"];
    assert_eq!(error["place"], serde_json::json!({ "file": "plan.toml", "line": 8, "column": 10 }));
    let rule = serde_json::json!({
        "name": "allowed_buckets", "place": { "file": "rules.toml", "line": 1, "column": 1 },
    });
    assert_eq!(error["problems"][0]["rule"], rule);
    // The preview of a plan that is refused is in the same object as the error.
    world.plan(&format!("{TAG}[limits]\nmax_cost = \"1 USD\"\n"));
    let refused = failed(&json(&world, &["plan", "plan.toml"]).ended(6), &["plan"]);
    assert_eq!((&refused["objects"], &refused["error"]["code"]), (&1.into(), &"TooExpensive".into()));
    assert_eq!(refused["error"]["place"], Json::Null);
    // So is the record of a job that could not be run. A shown command finds the same jobs.
    let job = failed(&json(&world, &["apply", "plan.toml", "--auto-approve", "--state", "other"]).ended(6), &["apply"]);
    assert!(job["job_id"].is_string() && job["status"].is_string(), "{job}");
}

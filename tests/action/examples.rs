//! The example workflows, from checkout to summary, on the sandbox.

use std::fs;

use serde_json::{Value as Json, json};

use crate::cloud::{Cloud, expect};
use crate::expression::Status;
use crate::github::GitHub;
use crate::machine::{Machine, Trigger, root, yaml};

const INVENTORY: &str = "[manifest.inventory]\nbucket = \"acme-archive\"\nlatest = \"inventories/acme-archive/daily/\"\n\
                         [manifest.filter]\ninclude = [\"documents/2024/*\"]\n";

/// A runner of a repository that has what the examples want in its settings.
fn machine() -> Machine {
    let mut machine = Machine::new();
    let state = machine.path("state").display().to_string();
    for (name, value) in [
        ("AWS_REGION", "us-east-1"),
        ("AWS_ROLE", "arn:aws:iam::123456789012:role/batchplan"),
        ("AWS_ROLE_TO_READ", "arn:aws:iam::123456789012:role/batchplan-read"),
        ("BATCHPLAN_STATE", &state),
    ] {
        machine.vars.insert(name.to_owned(), json!(value));
    }
    machine
}

fn push() -> Trigger {
    Trigger { event: "push", payload: json!({}) }
}

#[test]
fn a_plan_is_shown_on_its_pull_request_and_applied_once_somebody_approves() {
    let (cloud, github, mut machine) = (Cloud::start(), GitHub::start(), machine());
    machine.github.1.clone_from(&github.address);
    machine.write("plans/tag-documents.toml", cloud.plan("tag-documents", INVENTORY));
    let workflow = yaml("plans/workflows/review-and-apply.yml");

    let pull = json!({ "pull_request": { "number": 7, "head": { "repo": { "full_name": "acme/data" } } } });
    let run = machine.run(&workflow, &Trigger { event: "pull_request", payload: pull }, &mut || false);
    let done: Vec<_> = run.jobs.iter().filter(|job| job.ended.is_some()).map(|job| job.id.as_str()).collect();
    assert_eq!(done, ["plan", "validate"]);
    let job = run.jobs.iter().find(|job| job.id == "plan").expect("the job");
    job.ended(Status::Success);
    let changes: u64 = job.action().outputs["changes"].parse().expect("a number");
    assert!(changes > 0 && job.action().outputs["total"] == changes.to_string());
    let comment = github.of("github-actions[bot]").pop().expect("a comment");
    assert!(comment.contains("```diff\n~ acme-archive/documents/2024/"), "{comment}");
    // How old the inventory is changes by the hour, and how long answers take with each run.
    let varies = ["from the inventory, taken", "in flight, "];
    let lasting: String =
        comment.split_inclusive('\n').filter(|line| !varies.iter().any(|part| line.contains(part))).collect();
    let state = machine.vars["BATCHPLAN_STATE"].as_str().expect("a place");
    expect("plan.md", &cloud.normal(&lasting.replace(state, "STATE"), &[]));
    let key = "documents/2024/01/legal minutes.docx";
    assert_eq!(cloud.tags(key), "Team=legal", "nothing is changed by looking");

    let fork = json!({ "pull_request": { "number": 8, "head": { "repo": { "full_name": "stranger/data" } } } });
    let run = machine.run(&workflow, &Trigger { event: "pull_request", payload: fork }, &mut || false);
    assert_eq!(run.job().ended(Status::Success).id, "validate", "a fork's has no credentials to plan with");

    machine.approves = false;
    let run = machine.run(&workflow, &push(), &mut || false);
    let saved = run.job().ended(Status::Success);
    assert_eq!(saved.id, "save", "nothing is applied before somebody approves");
    let digest = saved.outputs["digest"].as_str();
    assert!(digest.len() == 64 && saved.summary().contains(digest), "{}", saved.summary());
    assert_eq!(cloud.tags(key), "Team=legal");

    machine.approves = true;
    let run = machine.run(&workflow, &push(), &mut || false);
    let job = run.jobs.iter().find(|job| job.id == "apply").expect("the job");
    job.ended(Status::Success);
    let outputs = &job.action().outputs;
    assert_eq!((outputs["status"].as_str(), outputs["failed"].as_str()), ("Complete", "0"));
    assert_eq!(outputs["succeeded"], changes.to_string());
    assert_eq!(cloud.tags(key), "Reviewed=2024-11 Team=legal");
    assert!(outputs["report"].starts_with("s3://acme-archive/reports/"), "{outputs:?}");
    expect(
        "applied.md",
        &cloud.normal(
            &job.summary(),
            &[(&outputs["job-id"], "JOB"), (&machine.path("").display().to_string(), "/machine/")],
        ),
    );
}

#[test]
fn what_was_not_reviewed_is_not_applied() {
    let (cloud, machine) = (Cloud::start(), machine());
    machine.write("plans/tag-documents.toml", cloud.plan("tag-documents", INVENTORY));
    let mut workflow = yaml("plans/workflows/review-and-apply.yml");
    // Another saved plan takes the place of the artifact.
    let steps = workflow["jobs"]["save"]["steps"].as_array_mut().expect("steps");
    let upload = steps.pop().expect("the last step");
    let again = json!({ "uses": "OWNER/batchplan@v0.1.0", "with": {
        "command": "plan", "plan": "${{ env.PLAN }}", "args": "--out reviewed.bpl",
    } });
    steps.extend([again, upload]);
    let run = machine.run(&workflow, &push(), &mut || false);
    let job = run.jobs.iter().find(|job| job.id == "apply").expect("the job").ended(Status::Failure);
    assert!(job.log().contains("error: the saved plan reviewed.bpl has the digest "), "{}", job.log());
    assert_eq!(cloud.tags("documents/2024/01/legal minutes.docx"), "Team=legal");
}

#[test]
fn a_nightly_job_works_on_the_newest_inventory_once() {
    let (cloud, machine) = (Cloud::start(), machine());
    let recurring = "[recurring]\nonly_changed = true\n";
    machine.write("plans/nightly.toml", cloud.plan("nightly", &format!("{INVENTORY}{recurring}")));
    let workflow = yaml("plans/workflows/nightly.yml");
    let night = || machine.run(&workflow, &Trigger { event: "schedule", payload: json!({}) }, &mut || false);
    let first = night();
    let job = first.job();
    job.ended(Status::Success);
    assert!(job.summary().contains("### batchplan: `nightly` is Complete"), "{}", job.summary());
    assert_ne!(job.action().outputs["total"], "0");

    let second = night();
    let job = second.job();
    job.ended(Status::Success);
    let newest = "acme-archive/inventories/acme-archive/daily/2024-11-01T00-00Z/";
    assert_eq!(job.summary(), format!("Nothing new since `{newest}`.\n"));
    assert!(job.log().contains(&format!("nothing new since {newest} (job ")), "{}", job.log());
    assert_eq!(job.action().outputs.get("job-id").map(String::as_str).unwrap_or_default(), "", "no job was made");
}

#[test]
fn drift_is_found_at_night() {
    let (cloud, machine) = (Cloud::start(), machine());
    machine.write("plans/tag-documents.toml", cloud.plan("tag-documents", INVENTORY));
    let night = || {
        let schedule = Trigger { event: "schedule", payload: json!({}) };
        machine.run(&yaml("plans/workflows/verify.yml"), &schedule, &mut || false)
    };
    let before = night();
    let job = before.job();
    job.ended(Status::Failure);
    let outputs = &job.action().outputs;
    assert_eq!(job.action().code, Some(3), "nothing has the tags yet");
    assert!(outputs["drifted"] == outputs["total"] && outputs["total"] != "0", "{outputs:?}");
    assert!(job.log().contains("::error file=plans/tag-documents.toml::"), "{}", job.log());
    let summary = job.summary();
    assert!(summary.starts_with("### batchplan: verification of `tag-documents`\n"), "{summary}");
    assert!(summary.contains("```diff\n~ acme-archive/documents/2024/"), "{summary}");

    let run = machine.run(&yaml("plans/workflows/review-and-apply.yml"), &push(), &mut || false);
    assert!(run.jobs.iter().any(|job| job.id == "apply" && job.ended == Some(Status::Success)));
    let after = night();
    let job = after.job();
    job.ended(Status::Success);
    assert_eq!(job.action().outputs["drifted"], "0");
    assert!(!job.log().contains("::error"), "{}", job.log());
}

#[test]
fn what_failed_is_done_again_from_its_report() {
    let (cloud, machine) = (Cloud::start(), machine());
    let list = "acme-archive,documents%2F2024%2Fno%20such\nacme-archive,photos%2F%60%7C%40all%60\n";
    machine.write("plans/list.csv", list);
    let csv = "[manifest.csv]\npath = \"list.csv\"\n";
    machine.write("plans/tag-documents.toml", cloud.plan("tag-documents", csv));
    let first = machine.run(&yaml("plans/workflows/review-and-apply.yml"), &push(), &mut || false);
    let first = first.jobs.iter().find(|job| job.id == "apply").expect("the job");
    first.ended(Status::Failure);
    assert_eq!(first.action().code, Some(3), "some objects failed");
    let outputs = &first.action().outputs;
    assert_eq!(outputs["failed"], "2", "a failed step has its outputs");
    let folder = machine.path("").display().to_string();
    expect("failed.md", &cloud.normal(&first.summary(), &[(&outputs["job-id"], "JOB"), (&folder, "/machine/")]));

    let workflow = yaml("plans/workflows/retry.yml");
    let payload = json!({ "inputs": { "report": outputs["report"] } });
    let run = machine.run(&workflow, &Trigger { event: "workflow_dispatch", payload }, &mut || false);
    let job = run.job();
    job.ended(Status::Failure);
    let again = &job.action().outputs;
    assert_eq!((again["total"].as_str(), again["failed"].as_str()), ("2", "2"), "{}", job.log());
    assert_ne!(again["job-id"], outputs["job-id"]);
}

#[test]
fn a_release_is_laid_out_as_the_action_and_cargo_binstall_look_for_it() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).expect("a file").parse().expect("TOML");
    let binstall = &manifest["package"]["metadata"]["binstall"];
    let filled = |key: &str| {
        let template = binstall[key].as_str().expect("a template");
        let values = [
            ("name", "batchplan"),
            ("target", "TARGET"),
            ("version", "1.2.3"),
            ("bin", "batchplan"),
            ("binary-ext", ""),
        ];
        values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("{{ {name} }}"), value))
    };
    assert_eq!(filled("pkg-url"), "{ repo }/releases/download/v1.2.3/batchplan-TARGET-v1.2.3.tar.gz");
    assert_eq!(filled("bin-dir"), "batchplan-TARGET-v1.2.3/batchplan");
    // What the tests of the action take from a release is named in the same way.
    let action = fs::read_to_string(root().join("action.yml")).expect("a file");
    assert!(action.contains("name=batchplan-$TARGET-v$VERSION\n"), "the folder and the archive");
    let package = fs::read_to_string(root().join(".github/package")).expect("a file");
    assert!(package.contains("name=batchplan-$1-$2\n"), "and so where they are made");
    let release = yaml(".github/workflows/release.yml").to_string();
    for target in
        ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl", "x86_64-apple-darwin", "aarch64-apple-darwin"]
    {
        assert!(release.contains(target) && action.contains(target), "{target}");
    }
}

/// Every workflow of the repository, and every example.
fn workflows() -> Vec<(String, Json)> {
    let mut found = Vec::new();
    for folder in [".github/workflows", "plans/workflows"] {
        for entry in fs::read_dir(root().join(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            found.push((format!("{folder}/{name}"), yaml(&format!("{folder}/{name}"))));
        }
    }
    assert!(found.len() >= 5, "{}", found.len());
    found
}

#[test]
fn every_workflow_takes_no_more_than_it_needs() {
    for (name, workflow) in workflows() {
        let whole = workflow.to_string();
        assert!(!whole.contains("pull_request_target"), "{name}: strangers' code would have the secrets");
        assert!(workflow.get("permissions").is_some(), "{name} says nothing of its permissions");
        assert!(workflow["permissions"].as_str().is_none_or(|all| all == "{}"), "{name} takes all of some kind");
        for (id, job) in workflow["jobs"].as_object().expect("jobs") {
            let writes = job["steps"]
                .as_array()
                .expect("steps")
                .iter()
                .any(|step| matches!(step["with"]["command"].as_str(), Some("apply" | "retry" | "run" | "resume")));
            let concurrency = job.get("concurrency").unwrap_or(&workflow["concurrency"]);
            let one_by_one = concurrency["group"].is_string() && concurrency["cancel-in-progress"] == false;
            assert!(!writes || one_by_one, "{name}, {id}: two at once, or one ends the other");
            for step in job["steps"].as_array().expect("steps") {
                let script = step["run"].as_str().unwrap_or_default();
                assert!(!script.contains("${{"), "{name}, {id}: an expression in a script: {script}");
                let uses = step["uses"].as_str().unwrap_or_default();
                let (action, reference) = uses.split_once('@').unwrap_or((uses, ""));
                let ours = action == "OWNER/batchplan" || action == "./" || uses.is_empty();
                assert!(
                    ours || (reference.len() == 40 && reference.bytes().all(|b| b.is_ascii_hexdigit())),
                    "{name}: {uses}"
                );
                if action == "actions/checkout" {
                    assert_eq!(step["with"]["persist-credentials"], false, "{name}: the token stays in .git");
                }
            }
        }
    }
}

#[test]
fn no_input_of_the_action_is_part_of_a_script() {
    let action = yaml("action.yml");
    let steps = action["runs"]["steps"].as_array().expect("steps");
    for step in steps {
        let script = step["run"].as_str().unwrap_or_default();
        assert!(!script.contains("${{"), "{script}");
        assert!(!script.contains("eval"), "{script}");
        if let Some(uses) = step["uses"].as_str() {
            let (action, reference) = uses.split_once('@').expect("a reference");
            assert!(action.starts_with("actions/cache/") && reference.len() == 40, "{uses}");
        }
    }
    let last = steps.last().expect("a step")["run"].as_str().expect("a script").trim_end().lines().last();
    assert!(last.is_some_and(|line| line.starts_with("exec ")), "{last:?}: the runner signals one process alone");
    for (name, _) in action["outputs"].as_object().expect("outputs") {
        assert_eq!(action["outputs"][name]["value"], format!("${{{{ steps.run.outputs.{name} }}}}"));
    }
}

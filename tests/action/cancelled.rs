//! A workflow that is cancelled, and the run after it.

use std::collections::BTreeSet;
use std::fs;

use batchplan_sandbox::{Sandbox, SandboxOptions, SandboxServer};
use serde_json::{Value as Json, json};

use crate::bucket::{BucketServer, Faults, Kind, Manner, Object};
use crate::cloud::store;
use crate::expression::Status;
use crate::machine::{Machine, Trigger, yaml};

const OBJECTS: usize = 300;

#[test]
fn a_cancelled_run_is_gone_on_with_by_the_next_one_from_a_folder_that_both_have() {
    let folder = tempfile::tempdir().expect("a folder");
    is_gone_on_with(&folder.path().join("state").display().to_string());
}

#[test]
fn a_cancelled_run_is_gone_on_with_by_the_next_one_in_an_empty_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let fill = folder.path().join("fill.csv");
    fs::write(&fill, "bucket,key\nstates,readme\n").expect("written");
    let sandbox = Sandbox::in_memory(Some(&fill), SandboxOptions::default()).expect("a sandbox");
    let server = SandboxServer::start(sandbox, (std::net::Ipv4Addr::LOCALHOST, 0).into(), false).expect("a server");
    is_gone_on_with(&format!("s3://states/nightly?endpoint={}", server.endpoint()));
}

/// Cancels the nightly workflow in the middle of its job, and has the next run go on with it.
fn is_gone_on_with(state: &str) {
    let server = BucketServer::start(&["bkt", "reports"], 1000, Faults::default(), 0);
    for number in 0..OBJECTS {
        server.put("bkt", format!("k{number:04}"), Object::default());
    }
    let mut machine = Machine::new();
    for (name, value) in [("AWS_REGION", "us-east-1"), ("AWS_ROLE", "arn"), ("BATCHPLAN_STATE", state)] {
        machine.vars.insert(name.to_owned(), json!(value));
    }
    let plan = "[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n\
                [undo]\ncapture = false\n\
                [report]\nenabled = true\nbucket = \"reports\"\nprefix = \"r\"\nscope = \"all-tasks\"\n";
    // Requests are held one by one: those that check the server would be as well.
    let trusted = store(&server.endpoint()).replace("[store]\n", "[store]\nskip_server_check = true\n");
    machine.write("plans/nightly.toml", format!("name = \"nightly\"\n{trusted}{plan}"));
    let workflow = yaml("plans/workflows/nightly.yml");
    let night = Trigger { event: "schedule", payload: json!({}) };

    // A third is served, the rest gets no answer until the step is cancelled.
    let mut left = OBJECTS / 3;
    server.behave(move |seen| {
        if !seen.kind.works() {
            return Manner::Serve;
        }
        if left == 0 {
            return Manner::Wait;
        }
        left -= 1;
        Manner::Serve
    });
    let run = machine.run(&workflow, &night, &mut || {
        let count = server.count(Kind::PutTags);
        count.served >= (OBJECTS / 3) as u64 && count.arrived > count.served
    });
    let cancelled = run.job();
    cancelled.ended(Status::Cancelled);
    let step = cancelled.action();
    assert_eq!(step.signals, ["INT"], "it left before the runner insisted:\n{}", cancelled.log());
    assert_eq!(step.last().code, Some(5), "{}", cancelled.log());
    assert_eq!(step.outputs["status"], "Paused");
    assert!(cancelled.summary().contains("is Paused") && cancelled.summary().contains("batchplan resume"));

    server.behave(|_| Manner::Serve);
    let run = machine.run(&workflow, &night, &mut || false);
    let resumed = run.job();
    resumed.ended(Status::Success);
    assert_ne!(resumed.workspace, cancelled.workspace, "it began in an empty folder");
    let outputs = &resumed.action().outputs;
    assert_eq!(outputs["job-id"], step.outputs["job-id"], "the same job");
    assert_eq!((outputs["status"].as_str(), outputs["succeeded"].as_str()), ("Complete", "300"));

    let uploads = server.uploads("reports");
    let (_, manifest) = uploads.iter().find(|(key, _)| key.ends_with("manifest.json")).expect("a manifest");
    let manifest: Json = serde_json::from_slice(manifest).expect("JSON");
    let mut keys = Vec::new();
    for listed in manifest["Results"].as_array().expect("results") {
        let file = &uploads[listed["Key"].as_str().expect("a key")];
        let rows = csv::ReaderBuilder::new().has_headers(false).from_reader(&file[..]);
        keys.extend(rows.into_records().map(|row| row.expect("a row")[1].to_owned()));
    }
    let distinct: BTreeSet<_> = keys.iter().cloned().collect();
    assert_eq!((keys.len(), distinct.len()), (OBJECTS, OBJECTS), "each object stands in the report once");
    assert!((0..OBJECTS).all(|number| distinct.contains(&format!("k{number:04}"))));
}

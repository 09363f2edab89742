//! `batchplan verify`: what has drifted since a job, or from a plan, and nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use batchplan_store::object::ObjectAcl;
use batchplan_store::object::TagSet;
use batchplan_store::object_request::{ObjectRequest, ResponseData};
use serde_json::json;

use crate::gate::denied;
use crate::scene::{Dialect, Scene};
use crate::situations::says;
use crate::world::{World, report_rows};

const OBJECTS: usize = 100_000;
const HIDDEN: usize = 50;

const TAG: &str = "[manifest.prefix]\nbucket = \"bkt\"\n[operation.add_object_tagging]\ntags = { team = \"web\" }\n";

/// Whether the object with this number has drifted: 50 of them, in no order.
fn is_hidden(number: usize) -> bool {
    number.wrapping_mul(7919) % OBJECTS < HIDDEN
}

#[test]
fn each_hidden_drift_among_a_hundred_thousand_objects_is_found_and_nothing_else() {
    let mut table = String::from("bucket,key,tags\n");
    let mut hidden = BTreeSet::new();
    for number in 0..OBJECTS {
        let key = format!("d/{:02}/{number:06}", number % 50);
        let tags = match (is_hidden(number), number % 3) {
            (true, 0) => "",
            (true, 1) => "team=ops",
            (true, _) => "other=1",
            (false, 0) => "team=web",
            (false, _) => "other=1&team=web",
        };
        let _ = writeln!(table, "bkt,{key},{tags}");
        if is_hidden(number) {
            hidden.insert(key);
        }
    }
    assert_eq!(hidden.len(), HIDDEN);
    let world = World::filled(&table);
    world.plan(TAG);
    let said = world.run(&["verify", "plan.toml", "--full", "--json", "--out", "drift"]).ended(3).json();
    assert_eq!((&said["objects"], &said["exact"], &said["sample"]), (&json!(OBJECTS), &json!(true), &json!(null)));
    let exactly = |count: usize| json!({ "likely": count, "low": count, "high": count });
    let counts = json!({ "hold": exactly(OBJECTS - HIDDEN), "drift": exactly(HIDDEN), "unreadable": exactly(0) });
    assert_eq!(said["counts"], counts);
    let rows = report_rows(&world.path("drift"));
    assert!(rows.len() == HIDDEN && rows.iter().all(|row| row.concat().contains("Drifted")), "{rows:?}");
    let found: BTreeSet<_> = rows.iter().map(|row| row[1].replace("%2F", "/")).collect();
    assert_eq!(found, hidden);

    // A sample of them: the interval that is printed holds the truth.
    let said = world.run(&["verify", "plan.toml", "--json", "--sample", "1000", "--seed", "7"]);
    assert!(said.code == 0 || said.code == 3, "{}", said.stderr);
    let drift = &said.json()["counts"]["drift"];
    let (low, high) = (drift["low"].as_u64().expect("a number"), drift["high"].as_u64().expect("a number"));
    assert!((low..=high).contains(&(HIDDEN as u64)), "{drift}");
    assert!(high < 2_000, "{drift}");
}

const TABLE: &str = "bucket,key,size,storage_class,tags,acl\n\
     bkt,d/a,3,STANDARD,team=ops&old=1,public-read\n\
     bkt,d/b,3,STANDARD,,private\n\
     bkt,d/c,3,STANDARD,a=1,private\n\
     bkt,d/d,3,STANDARD,team=web,private\n\
     bkt,d/e,3,STANDARD,a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9&j=10,private\n";

const CSV: &str = "[manifest.csv]\npath = \"list.csv\"\n";

#[test]
fn what_has_drifted_from_a_plan_is_shown() {
    let scene = Scene::filled(Dialect::Aws, TABLE, |world| {
        world.write("list.csv", "bkt,d/a\nbkt,d/b\nbkt,d/d\nbkt,d/e\nbkt,gone\n");
    });
    scene.plan(&format!(
        "{CSV}[operation.add_object_tagging]\ntags = {{ team = \"web\" }}\n[operation.put_object_acl]\nacl = \"private\"\n"
    ));
    says(&scene, "verify.txt", &scene.run(&["verify", "plan.toml"]));
    says(&scene, "verify.md", &scene.run(&["verify", "plan.toml", "--format", "markdown"]));
    says(&scene, "verify.json", &scene.run(&["verify", "plan.toml", "--json"]));
    assert_eq!(scene.gate.writes(), Vec::<String>::new());
    assert!(!scene.world.path(".batchplan").exists(), "it leaves no job behind");
}

fn set_tags(scene: &Scene, key: &str, tags: &[(&str, &str)]) {
    scene.ask("bkt", key, &ObjectRequest::PutTags(tags.iter().copied().collect::<TagSet>())).expect("written");
}

fn tags(scene: &Scene, key: &str) -> Vec<(String, String)> {
    let Ok(ResponseData::Tags(tags)) = scene.ask("bkt", key, &ObjectRequest::GetTags) else { panic!("no tags") };
    tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The files below a folder with their contents.
fn contents(folder: &Path) -> BTreeSet<(String, Vec<u8>)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert((path.display().to_string(), fs::read(&path).expect("a file")));
        }
    }
    found
}

#[test]
fn a_job_is_held_to_what_it_reported_as_succeeded() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let rules = [denied("PUT", "d/c?tagging"), denied("PUT", "d%2Fc?tagging")];
        let scene = Scene::guarded(dialect, TABLE, |_| {}, &rules);
        // The object with ten tags fails as well, and so does the denied one.
        scene.plan_unchecked(&format!("{TAG}[limits]\nfailure_threshold = 1.0\n"));
        let job = scene.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(3).json();
        let id = job["job_id"].as_str().expect("an ID").to_owned();
        scene.gate.forget();
        let before = contents(&scene.world.path(".batchplan"));
        let ran = scene.run(&["verify", &id[..8], "--full"]).ended(0);
        assert!(ran.stdout.contains("3 objects: 0 drifted, 3 as they should be"), "{}", ran.stdout);
        assert!(!ran.stdout.contains("d/c") && !ran.stdout.contains("next: "), "{}", ran.stdout);

        set_tags(&scene, "d/b", &[("team", "ops"), ("kept", "1")]);
        let said = scene.run(&["verify", &id, "--json", "--out", "drift"]).ended(3).json();
        assert_eq!((&said["job"], &said["counts"]["drift"]["likely"]), (&json!(id), &json!(1)));
        let [drifted] = &said["drifted"].as_array().expect("objects")[..] else { panic!("{said}") };
        assert_eq!(drifted["key"], "d%2Fb");
        let (expected, found) = (&drifted["expected"]["tags"], &drifted["found"]["tags"]);
        assert_eq!((expected, found), (&json!({ "kept": "1", "team": "web" }), &json!({ "kept": "1", "team": "ops" })));
        assert_eq!(contents(&scene.world.path(".batchplan")), before, "the job's files stay as they are");
        assert_eq!(scene.gate.writes(), Vec::<String>::new());

        // What it found can be applied again.
        let next = scene.run(&["verify", &id, "--out", "again"]).ended(3).stdout;
        let next = next.lines().find_map(|line| line.strip_prefix("next: batchplan ")).expect("a command").to_owned();
        assert_eq!(next, "retry --report again/manifest.json --plan plan.toml");
        let args: Vec<_> = next.split(' ').chain(["--auto-approve", "--json"]).collect();
        let retried = scene.run(&args).ended(0).json();
        assert_eq!(retried["total"], 1);
        assert_eq!(tags(&scene, "d/b"), [("kept".to_owned(), "1".to_owned()), ("team".to_owned(), "web".to_owned())]);
        scene.run(&["verify", &id, "--full"]).ended(0);
    }
}

#[test]
fn an_acl_that_was_changed_has_drifted() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let scene = Scene::filled(dialect, TABLE, |_| {});
        scene.plan("[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_acl]\nacl = \"private\"\n");
        let said = scene.run(&["verify", "plan.toml", "--json"]).ended(3).json();
        assert_eq!(said["counts"]["drift"]["likely"], 1);
        let job = scene.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(0).json();
        let id = job["job_id"].as_str().expect("an ID");
        scene.run(&["verify", id, "--full"]).ended(0);
        scene.ask("bkt", "d/d", &ObjectRequest::PutAcl(ObjectAcl::PublicReadWrite)).expect("written");
        let ran = scene.run(&["verify", id, "--full"]).ended(3);
        let expected = "  ~ bkt/d/d\n      - acl private\n      + acl public-read-write\n";
        assert!(ran.stdout.contains(expected), "{}", ran.stdout);
    }
}

#[test]
fn a_restore_holds_while_it_is_in_progress_and_once_the_copy_is_there() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let (glacier, deep) =
            if dialect == Dialect::Oss { ("Archive", "ColdArchive") } else { ("GLACIER", "DEEP_ARCHIVE") };
        let table =
            format!("bucket,key,size,storage_class\nbkt,a/1,3,{glacier}\nbkt,a/2,3,{deep}\nbkt,b/1,3,{glacier}\n");
        let scene = Scene::filled(dialect, &table, |world| world.write("list.csv", "bkt,a/1\nbkt,a/2\n"));
        let restore = "[operation.restore_object]\ndays = 2\ntier = \"Standard\"\n";
        scene.plan(&format!("{CSV}{restore}"));
        let ran = scene.run(&["verify", "plan.toml"]).ended(3);
        assert!(ran.stdout.contains("2 objects: 2 drifted, 0 as they should be"), "{}", ran.stdout);
        assert!(ran.stdout.contains("      - restored copy: for 2 days (Standard)\n      + restored copy: none\n"));
        let job = scene.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(0).json();
        scene.run(&["verify", job["job_id"].as_str().expect("an ID")]).ended(0);
        scene.run(&["verify", "plan.toml"]).ended(0);
        scene.plan(&format!("[manifest.prefix]\nbucket = \"bkt\"\n{restore}"));
        let ran = scene.run(&["verify", "plan.toml"]).ended(3);
        assert!(ran.stdout.contains("3 objects: 1 drifted, 2 as they should be"), "{}", ran.stdout);
    }
}

#[test]
fn what_cannot_be_read_is_no_drift() {
    let rules = [denied("GET", "d/c?tagging"), denied("GET", "d%2Fc?tagging")];
    let scene = Scene::guarded(Dialect::Aws, TABLE, |world| world.write("list.csv", "bkt,d/c\nbkt,d/d\n"), &rules);
    scene.plan_unchecked(&format!("{CSV}[operation.add_object_tagging]\ntags = {{ team = \"web\" }}\n"));
    let ran = scene.run(&["verify", "plan.toml"]).ended(1);
    let unreadable = "  ? 1 object not readable: its tags could not be read: 403 AccessDenied\n      bkt/d/c\n";
    assert!(ran.stdout.contains(unreadable), "{}", ran.stdout);
    assert!(ran.stdout.contains("2 objects: 0 drifted, 1 as they should be, 1 not readable"), "{}", ran.stdout);
    // Drift that was found counts more than what was not read.
    scene.world.write("list.csv", "bkt,d/c\nbkt,d/b\n");
    scene.run(&["verify", "plan.toml"]).ended(3);
}

#[test]
fn only_a_job_that_has_ended_and_an_empty_folder_are_taken() {
    let world = World::filled("bucket,key\nbkt,a\n");
    world.plan(TAG);
    let created = world.run(&["create", "plan.toml", "--json"]).ended(0).json();
    let refused = world.run(&["verify", created["job_id"].as_str().expect("an ID")]).ended(6);
    assert!(refused.stderr.contains("it has not ended"), "{}", refused.stderr);
    world.write("drift/other", "kept");
    let refused = world.run(&["verify", "plan.toml", "--out", "drift"]).ended(6);
    assert!(refused.stderr.contains("the folder drift already contains something"), "{}", refused.stderr);
    assert_eq!(fs::read(world.path("drift/other")).expect("kept"), b"kept");
    world.run(&["verify", "nothing"]).ended(2);
    world.run(&["verify", "no.toml"]).ended(2);
}

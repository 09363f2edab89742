//! What `plan` says of each object against what `apply` then does to it: random states, operations and combinations.

use std::collections::{BTreeMap, BTreeSet};

use batchplan_store::object::{MaybeKnown, ObjectAcl, ObjectState, RestoreState, StorageClass};
use batchplan_store::object_request::ObjectRequest;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::Value as Json;

use crate::model::{Case, case};
use crate::scene::{Dialect, Scene};

/// Bucket and key, as the plan and the report write them.
type Name = (String, String);

/// An object as it is: everything that can be read of it.
fn state(scene: &Scene, (bucket, key): &Name) -> ObjectState {
    let key = batchplan_store::object::ObjectKey::decode(key.as_bytes()).as_str().expect("UTF-8").to_owned();
    let mut state = ObjectState::default();
    for call in [ObjectRequest::GetTags, ObjectRequest::GetAcl, ObjectRequest::Head] {
        state.apply(scene.ask(bucket, &key, &call).unwrap_or_else(|fault| panic!("{key:?}: {fault}")));
    }
    state
}

/// What a state is in JSON, as `plan` writes it, but for the restored copy.
fn told(state: &ObjectState) -> Json {
    let tags = state.tags.known().map(|tags| tags.iter().collect::<BTreeMap<_, _>>());
    let (acl, class) = (state.acl.known().map(ObjectAcl::as_str), state.class.known().map(StorageClass::as_str));
    serde_json::json!({ "tags": tags, "acl": acl, "class": class })
}

/// Whether a copy is there or on its way that stays as long as was asked for; `since` is before it was asked for.
fn is_restored(state: &ObjectState, wanted: &Json, since: Timestamp) -> bool {
    let days = wanted["days"].as_i64().expect("days");
    let least = since + SignedDuration::from_hours(24 * days) - SignedDuration::from_secs(1);
    match state.restoration {
        MaybeKnown::Known(RestoreState::InProgress) => true,
        MaybeKnown::Known(RestoreState::RestoredUntil(until)) => until >= least,
        _ => false,
    }
}

fn name(object: &Json) -> Name {
    let text = |key: &str| object[key].as_str().expect("a text").to_owned();
    (text("bucket"), text("key"))
}

/// Requests about objects, by what they are called: those that passed the gate.
fn passed(log: &[String]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for request in log {
        let (method, target) = request.split_once(' ').expect("a request");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (bucket, key) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        if key.is_empty() || bucket == "audit" {
            continue;
        }
        let kind = match (method, query) {
            ("GET", "tagging") => "GetObjectTagging",
            ("PUT", "tagging") => "PutObjectTagging",
            ("DELETE", "tagging") => "DeleteObjectTagging",
            ("GET", "acl") => "GetObjectAcl",
            ("PUT", "acl") => "PutObjectAcl",
            ("POST", "restore") => "RestoreObject",
            ("HEAD", "") => "HeadObject",
            _ => panic!("{request}"),
        };
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

/// Requests about objects, likewise: those that were announced.
fn announced(whole: &Json) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for one in whole["requests"].as_array().expect("requests") {
        let kind = one["kind"].as_str().expect("a kind");
        let kind = kind.split_once(',').map_or(kind, |(kind, _)| kind).to_owned();
        if !["ListObjects", "GetObject", "PutObject"].contains(&kind.as_str()) {
            *counts.entry(kind).or_default() += one["count"].as_u64().expect("a count");
        }
    }
    counts
}

/// Code, HTTP status and, where the report names it, the operation of each failure that is reported.
fn reported(scene: &Scene, result: &Json) -> BTreeMap<Name, (String, u64, Option<String>)> {
    let rows = scene.world.report_rows(result).into_iter();
    rows.map(|row| {
        let json = row[4].find('{').map(|at| serde_json::from_str::<Json>(&row[4][at..]).expect("JSON"));
        let json = json.unwrap_or_else(|| panic!("a failure: {row:?}"));
        let operation = json["Operation"].as_str().map(str::to_owned);
        let code = json["Error Code"].as_str().expect("a code").to_owned();
        ((row[0].clone(), row[1].clone()), (code, row[3].parse().unwrap_or(0), operation))
    })
    .collect()
}

/// Plans the case, applies it, and holds one against the other.
fn holds(case: &Case) -> TestCaseResult {
    let scene = case.scene();
    let was: BTreeMap<Name, ObjectState> =
        case.there().into_iter().map(|name| (name.clone(), state(&scene, &name))).collect();
    scene.gate.forget();
    let (objects, whole) = scene.objects();
    prop_assert_eq!(scene.gate.writes(), Vec::<String>::new());
    let planned: BTreeSet<Name> = objects.iter().map(name).collect();
    prop_assert_eq!(&planned, &case.named());
    scene.gate.forget();
    let since = Timestamp::now();
    let ran = scene.run(&["apply", "plan.toml", "--auto-approve", "--json"]);
    let (result, sent) = (ran.json(), passed(&scene.gate.log()));
    prop_assert_eq!(&result["status"], "Complete", "{}", ran.stderr);
    let mut failures = reported(&scene, &result);
    let (mut counts, mut left) = (BTreeMap::<&str, u64>::new(), was.clone());
    for object in &objects {
        let name = name(object);
        let before = left.remove(&name);
        let action = object["action"].as_str().expect("an action");
        *counts
            .entry(match action {
                "change" => "change",
                "unchanged" => "unchanged",
                "fail" => "fail",
                _ => "unknown",
            })
            .or_default() += 1;
        let failed = failures.remove(&name);
        // What was said to be so was so.
        if let Some(before) = &before {
            let is = told(before);
            for fact in ["tags", "acl", "class"] {
                let said = &object["before"][fact];
                prop_assert!(said.is_null() || *said == is[fact], "{object}: {is}");
            }
        }
        match (action, failed) {
            ("fail", Some((code, status, operation))) => {
                prop_assert_eq!((&object["code"], &object["http"]), (&code.into(), &status.into()), "{}", object);
                if let Some(operation) = operation {
                    prop_assert_eq!(&object["operation"], &Json::from(operation), "{}", object);
                }
            }
            ("unknown", _) | ("change" | "unchanged", None) => {}
            (_, failed) => prop_assert!(false, "{object}, and it came to {failed:?}"),
        }
        let Some(before) = before else { continue };
        let after = state(&scene, &name);
        let mut expected = told(&before);
        match action {
            "change" | "unchanged" => {
                for fact in ["tags", "acl"] {
                    if !object["after"][fact].is_null() {
                        expected[fact] = object["after"][fact].clone();
                    }
                }
                let wanted = &object["after"]["restored_copy"];
                if wanted["days"].is_null() {
                    prop_assert_eq!(&after.restoration, &before.restoration, "{}", object);
                } else {
                    prop_assert!(is_restored(&after, wanted, since), "{object}: {after:?}");
                }
            }
            "fail" => {
                case.before_failing(object, &mut expected);
                prop_assert_eq!(&after.restoration, &before.restoration, "{}", object);
            }
            _ => {
                // Nobody could tell of the restore alone: what comes before it is done.
                case.before_failing(&serde_json::json!({ "operation": "restore_object", "http": 1 }), &mut expected);
            }
        }
        prop_assert_eq!(told(&after), expected, "{}", object);
    }
    prop_assert!(failures.is_empty(), "nobody foretold {failures:?}");
    for (name, before) in left {
        prop_assert_eq!(state(&scene, &name), before, "the plan does not name it");
    }
    for fate in ["change", "unchanged", "fail", "unknown"] {
        prop_assert_eq!(&whole["counts"][fate]["likely"], &Json::from(counts.get(fate).copied().unwrap_or(0)));
    }
    if !counts.contains_key("unknown") {
        let sent: BTreeMap<String, u64> = sent.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect();
        prop_assert_eq!(announced(&whole), sent, "{}", serde_json::to_string_pretty(&objects).expect("JSON"));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn apply_does_to_aws_what_plan_said(case in case(Dialect::Aws)) {
        holds(&case)?;
    }

    #[test]
    fn apply_does_to_oss_what_plan_said(case in case(Dialect::Oss)) {
        holds(&case)?;
    }
}

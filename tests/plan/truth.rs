//! The counts of `plan --full` against what is known to be there.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use crate::world::World;

/// Objects in known states.
const OBJECTS: usize = 100_000;

/// The classes that they have, in turn.
const CLASSES: [&str; 4] = ["STANDARD", "STANDARD_IA", "GLACIER", "DEEP_ARCHIVE"];

/// The tags of an object by its number: of each count from none to ten, some of those that the plan deals with, and
/// some with letters of other scripts and signs that are written otherwise in queries and in XML.
fn tags(number: usize) -> BTreeMap<String, String> {
    let count = number % 11;
    let mut tags = BTreeMap::new();
    if count > 0 && number.is_multiple_of(3) {
        tags.insert("stage".to_owned(), if number.is_multiple_of(2) { "live" } else { "dev" }.to_owned());
    }
    if count > 1 && number.is_multiple_of(5) {
        tags.insert("old".to_owned(), String::new());
    }
    if count > 2 && number.is_multiple_of(7) {
        tags.insert("büro: +/-@_.".to_owned(), "a+b=c/d é".to_owned());
    }
    let mut next = 0;
    while tags.len() < count {
        tags.insert(format!("k{next}"), format!("v{}", number % 13));
        next += 1;
    }
    tags
}

/// What becomes of an object by a plan that adds the tag `stage=live` and deletes `old`: worked out by hand.
fn becomes(mut tags: BTreeMap<String, String>) -> &'static str {
    let before = tags.clone();
    tags.insert("stage".to_owned(), "live".to_owned());
    tags.remove("old");
    // An eleventh tag is refused only if it is still there in the end.
    if tags.len() > 10 {
        return "fail";
    }
    if tags == before { "unchanged" } else { "change" }
}

fn encoded(text: &str) -> String {
    batchplan_store::object::ObjectKey::from(text).encoded()
}

#[test]
fn exact_counts_are_the_truth_of_a_hundred_thousand_objects() {
    let mut table = String::from("bucket,key,size,storage_class,tags,acl\n");
    let mut truth: BTreeMap<&str, u64> = BTreeMap::new();
    let mut writes: BTreeMap<&str, u64> = BTreeMap::new();
    for number in 0..OBJECTS {
        let tags = tags(number);
        let query: Vec<_> = tags.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
        let class = CLASSES[number % CLASSES.len()];
        let acl = if number.is_multiple_of(10) { "public-read" } else { "private" };
        let _ = writeln!(table, "bkt,d/{:02}/{number:06},{number},{class},{},{acl}", number % 50, query.join("&"));
        let fate = becomes(tags);
        *truth.entry(fate).or_default() += 1;
        if fate == "change" {
            *writes.entry(class).or_default() += 1;
        }
    }
    let world = World::filled(&table);
    world.plan(
        "[manifest.prefix]\nbucket = \"bkt\"\n[operation.add_object_tagging]\ntags = { stage = \"live\" }\n\
         [operation.delete_object_tagging]\nkeys = [\"old\"]\n",
    );
    let said = world.run(&["plan", "plan.toml", "--full", "--json"]).ended(0).json();
    assert_eq!((&said["objects"], &said["exact"], &said["sample"]), (&json!(OBJECTS), &json!(true), &json!(null)));
    for fate in ["change", "unchanged", "fail", "unknown"] {
        let count = truth.get(fate).copied().unwrap_or(0);
        assert!(count > 4_000 || fate == "unknown", "{truth:?} is worth counting");
        assert_eq!(said["counts"][fate], json!({ "likely": count, "low": count, "high": count }), "{fate}");
    }
    let [reason] = &said["failures"].as_array().expect("reasons")[..] else { panic!("{}", said["failures"]) };
    assert_eq!((&reason["code"], &reason["count"]), (&json!("TooManyTags"), &json!(truth["fail"])));
    let requests = said["requests"].as_array().expect("requests");
    let of = |kind: &str| requests.iter().filter(|it| it["kind"] == kind).collect::<Vec<_>>();
    for (class, count) in writes {
        let one = of("PutObjectTagging").into_iter().find(|it| it["class"] == class).expect("its writes");
        assert_eq!(one["count"], json!(count), "{class}");
    }
    let reads: u64 = of("GetObjectTagging").iter().filter_map(|it| it["count"].as_u64()).sum();
    assert_eq!(reads, OBJECTS as u64);
}

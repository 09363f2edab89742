//! The most telling situations, as a reader sees them: whole outputs, beside what is expected of them.
//!
//! `UPDATE_EXPECTED=1` writes the files of `expected/`; look at them before they are kept.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use jiff::Timestamp;

use crate::scene::{Dialect, INVENTORY, Scene, inventory};
use crate::world::Ran;

const PREFIX: &str = "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"docs/\"\n";
const CSV: &str = "[manifest.csv]\npath = \"list.csv\"\n";
const TAG: &str = "[operation.add_object_tagging]\ntags = { team = \"data\", stage = \"live\" }\n";
const RESTORE: &str = "[operation.restore_object]\ndays = 7\ntier = \"Standard\"\n";

/// Compares all that a run said and how it ended with a file.
#[track_caller]
pub(crate) fn says(scene: &Scene, name: &str, ran: &Ran) {
    let said = format!("{}---\n{}---\nexit {}\n", ran.stdout, ran.stderr, ran.code);
    let said = normal(&scene.world.normal(&said).replace(&scene.gate.endpoint(), "[ENDPOINT]"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan/expected").join(name);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&file, &said).expect("written");
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(said, expected, "{name}: look, then UPDATE_EXPECTED=1");
}

/// Hides how long a job takes, which depends on how fast this machine answers.
fn hide_run_time(text: &str) -> String {
    const MEASURED: [&str; 4] =
        ["  at the plan's rate       ", "- at the plan's rate: ", "    \"latency_ms\": ", "    \"per_second\": "];
    let mut out = String::new();
    let mut is_measured = false;
    for line in text.lines() {
        // It may go on in the next lines.
        if is_measured && line.starts_with("                           ") {
            continue;
        }
        let label = MEASURED.iter().find(|label| line.starts_with(**label));
        is_measured = label.is_some();
        let shown = label.map_or_else(|| line.to_owned(), |label| format!("{label}[MEASURED]"));
        let _ = writeln!(out, "{shown}");
    }
    out
}

/// A text with names in the place of ages, times, durations and hashes.
fn normal(text: &str) -> String {
    let text = hide_run_time(text);
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.');
    let mut out = String::new();
    for piece in text.split_inclusive(|c| !inner(c)) {
        let word = piece.trim_end_matches(|c| !inner(c)).trim_end_matches('.');
        let is_time = word.contains('T') && word.ends_with('Z') && word.parse::<Timestamp>().is_ok();
        let is_hash = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let name = if is_time {
            "[TIME]"
        } else if is_hash {
            "[HASH]"
        } else {
            word
        };
        out.push_str(name);
        out.push_str(&piece[word.len()..]);
    }
    match out.split_once("the inventory, taken ").map(|(front, rest)| (front.to_owned(), rest.split_once(" ago"))) {
        Some((front, Some((_, rest)))) => format!("{front}the inventory, taken [AGE] ago{rest}"),
        _ => out,
    }
}

/// Two thousand documents, of which some have the tags already and some have ten others.
fn documents() -> String {
    let mut table = String::from("bucket,key,size,storage_class,tags\n");
    for number in 0..2000_u32 {
        let tags = match number % 20 {
            0..8 => "team=web".to_owned(),
            8..15 => String::new(),
            15..19 => "team=data&stage=live".to_owned(),
            _ => (0..9).map(|tag| format!("k{tag}=1")).collect::<Vec<_>>().join("&"),
        };
        let class = if number.is_multiple_of(4) { "STANDARD_IA" } else { "STANDARD" };
        let _ = writeln!(table, "bkt,docs/{}/{number:04}.pdf,{},{class},{tags}", number % 7, 20_000 + number);
    }
    table
}

#[test]
fn a_sample_with_its_interval() {
    let scene = Scene::filled(Dialect::Aws, &documents(), |_| {});
    scene.plan(&format!("{PREFIX}{TAG}[report]\nbucket = \"bkt\"\nprefix = \"reports/\"\n"));
    says(&scene, "sample.txt", &scene.look(&[]));
}

#[test]
fn exact_counts_with_failures_of_several_reasons() {
    let table = "bucket,key,size,storage_class,tags\n\
        bkt,docs/a,5000000,GLACIER,team=web\nbkt,docs/b,7000,STANDARD,\nbkt,docs/c,1,STANDARD_IA,team=data\n\
        bkt,docs/full,9,GLACIER,a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9\nbkt,docs/smart,10,INTELLIGENT_TIERING,\n";
    let scene = Scene::filled(Dialect::Aws, table, |_| {});
    let list =
        "bkt,docs/a\nbkt,docs/b\nbkt,docs/c\nbkt,docs/full\nbkt,docs/smart\nbkt,docs/gone\nbkt,docs/lost\nnowhere,x\n";
    scene.world.write("list.csv", list);
    scene.plan(&format!("{CSV}{TAG}{RESTORE}"));
    says(&scene, "failures.txt", &scene.look(&["--full"]));
}

#[test]
fn a_filter_that_includes_nothing_is_a_likely_mistake() {
    let scene = Scene::filled(Dialect::Aws, "bucket,key\nbkt,docs/a\nbkt,docs/b\n", |_| {});
    scene.plan(&format!("{PREFIX}[manifest.filter]\ninclude = [\"Docs/*\"]\n{TAG}"));
    let ran = scene.look(&[]);
    let all = format!("{}{}", ran.stdout, ran.stderr);
    let warning = "warning: none of the 2 objects in the listing of bkt/docs/ match [manifest.filter]";
    assert!(all.contains(warning) && all.contains("\nNothing to do: there are no objects.\n"), "{all}");
}

#[test]
fn nothing_to_do() {
    let table = "bucket,key,tags\nbkt,docs/a,team=data&stage=live\nbkt,docs/b,team=data&stage=live&x=1\n";
    let scene = Scene::filled(Dialect::Aws, table, |_| {});
    scene.plan(&format!("{PREFIX}{TAG}"));
    says(&scene, "nothing.txt", &scene.look(&["--full", "--detailed-exitcode"]));
}

#[test]
fn what_cannot_be_undone_in_a_bucket_that_keeps_versions() {
    let table = "bucket,key,tags,version_id\nbkt,docs/a,owner=kim&case=2024-118,v1\nbkt,docs/a,owner=lee,v2\n\
        bkt,docs/b,,v3\n";
    let scene = Scene::filled(Dialect::Aws, table, |_| {});
    scene.plan(&format!("{PREFIX}[operation.delete_object_tagging]\n"));
    says(&scene, "deletes.txt", &scene.look(&["--full"]));
}

/// Some dozens of archived objects of some gigabytes, and one that can be read as it is.
fn archive(classes: [&str; 3]) -> String {
    let mut table = String::from("bucket,key,size,storage_class\nbkt,docs/index.json,4000,STANDARD\n");
    for number in 0..60_u64 {
        let class = classes[usize::try_from(number % 3).expect("small")];
        let _ = writeln!(table, "bkt,docs/{number:02}.tar,{},{class}", (number + 1) << 30);
    }
    table
}

#[test]
fn restores_with_what_they_cost_at_aws() {
    let scene = Scene::filled(Dialect::Aws, &archive(["GLACIER", "DEEP_ARCHIVE", "GLACIER"]), |_| {});
    scene.plan(&format!("{PREFIX}{RESTORE}"));
    says(&scene, "restores-aws.txt", &scene.look(&["--full"]));
}

#[test]
fn restores_with_what_they_cost_at_oss() {
    let scene = Scene::filled(Dialect::Oss, &archive(["Archive", "ColdArchive", "ColdArchive"]), |_| {});
    scene.plan(&format!("{PREFIX}{RESTORE}"));
    says(&scene, "restores-oss.txt", &scene.look(&["--full"]));
}

#[test]
fn acls_for_a_bucket_that_takes_none() {
    let scene = Scene::filled(Dialect::Aws, "bucket,key\nbkt,docs/a\nbkt,docs/b\n", |_| {});
    scene.close("bkt");
    scene.plan(&format!("{PREFIX}[operation.put_object_acl]\nacl = \"public-read\"\n"));
    says(&scene, "acls.txt", &scene.look(&[]));
}

#[test]
fn facts_of_an_inventory_with_their_age() {
    let table = "bucket,key,acl\nbkt,docs/a,public-read\nbkt,docs/b,private\n";
    let scene = Scene::filled(Dialect::Oss, table, |world| {
        let rows = "bkt,docs/a,10,Standard,public-read\nbkt,docs/b,20,Standard,private\n";
        inventory(world, Dialect::Oss, "Bucket, Key, Size, StorageClass, ObjectAcl", rows, "1730419200000");
    });
    scene.plan(&format!("{INVENTORY}[operation.put_object_acl]\nacl = \"private\"\n"));
    says(&scene, "inventory.txt", &scene.look(&["--full"]));
}

#[test]
fn what_has_changed_since_it_was_applied() {
    let scene = Scene::filled(Dialect::Aws, "bucket,key\nbkt,docs/a\nbkt,docs/b\nbkt,docs/c\n", |_| {});
    scene.world.write("list.csv", "bkt,docs/a\nbkt,docs/b\n");
    scene.plan(&format!("{CSV}{TAG}"));
    scene.run(&["apply", "plan.toml", "--auto-approve"]).ended(0);
    scene.world.write("list.csv", "bkt,docs/b\nbkt,docs/c\n");
    scene.plan(&format!("{CSV}{}", TAG.replace("live", "test")));
    says(&scene, "changed.txt", &scene.look(&["--full"]));
}

#[test]
fn a_pull_request_with_strangers_names() {
    let keys = [
        "docs/```",
        "docs/<img src=x>",
        "docs/a|b @all",
        "docs/\u{202e}fdp.exe",
        "docs/[x](http://y) *z*",
        "docs/\n## no",
    ];
    let rows: Vec<_> = keys.iter().map(|key| batchplan_store::object::ObjectKey::from(*key).encoded()).collect();
    let (mut table, mut list) = (String::from("bucket,key,tags\n"), String::from("bkt,docs%2F%3Cb%3E%60gone%60\n"));
    for (number, key) in rows.iter().enumerate() {
        // Each has other tags, so that each is worth showing.
        let _ = writeln!(table, "bkt,{key},team={number}-_@:");
        let _ = writeln!(list, "bkt,{key}");
    }
    let scene = Scene::filled(Dialect::Aws, &table, |_| {});
    scene.world.write("list.csv", list);
    scene.plan(&format!("{CSV}{TAG}"));
    says(&scene, "markdown.md", &scene.look(&["--full", "--format", "markdown"]));
}

#[test]
fn a_small_one_for_programs() {
    let scene =
        Scene::filled(Dialect::Aws, "bucket,key,tags\nbkt,docs/a,team=web\nbkt,docs/b,team=data&stage=live\n", |_| {});
    scene.world.write("list.csv", "bkt,docs/a\nbkt,docs/b\nbkt,docs/gone\n");
    scene.plan(&format!("{CSV}{TAG}"));
    let mut ran = scene.look(&["--full", "--json"]);
    // One line is for programs; people compare many.
    ran.stdout = format!("{:#}\n", ran.json());
    says(&scene, "small.json", &ran);
}

#[test]
fn more_than_it_may_cost() {
    let scene = Scene::filled(Dialect::Aws, &archive(["GLACIER", "DEEP_ARCHIVE", "GLACIER"]), |_| {});
    scene.plan(&format!("{PREFIX}{RESTORE}[limits]\nmax_cost = \"1 USD\"\n"));
    says(&scene, "max-cost.txt", &scene.look(&["--full"]));
}

#[test]
fn the_end_of_restores_with_their_cost_and_times() {
    let table = "bucket,key,size,storage_class\nbkt,docs/a,1073741824,GLACIER\nbkt,docs/b,1073741824,DEEP_ARCHIVE\n";
    let scene = Scene::filled(Dialect::Aws, table, |_| {});
    scene.plan_unchecked(&format!("{PREFIX}{RESTORE}[limits]\nmax_cost = \"10 USD\"\nconcurrency = 1\n"));
    says(&scene, "restores-end.txt", &scene.run(&["apply", "plan.toml", "--auto-approve"]));
}

#[test]
fn a_preview_fits_the_terminal() {
    let scene = Scene::filled(Dialect::Aws, &documents(), |_| {});
    scene.plan(&format!("{PREFIX}{TAG}[report]\nbucket = \"bkt\"\nprefix = \"reports/\"\n"));
    for (columns, width) in [(60, 60_usize), (80, 80), (120, 120)] {
        let ran = scene.look_at_width(columns, &[]);
        for line in ran.stdout.lines().filter(|line| !line.starts_with("  store ")) {
            assert!(line.chars().count() <= width, "{columns}: {line:?}");
        }
        says(&scene, &format!("sample-{columns}.txt"), &ran);
    }
    says(&scene, "sample-80-coloured.txt", &scene.look_at_width(80, &["--color", "always"]));
}

//! Looking without writing.

use crate::gate::{denied, refused};
use crate::scene::{PREFIX, Scene};

/// All aspects at once, everything read, and a report.
const EVERYTHING: &str = "[operation.add_object_tagging]\ntags = { team = \"ops\" }\n\
     [operation.put_object_acl]\nacl = \"private\"\n\
     [operation.restore_object]\ndays = 1\n\
     [report]\nbucket = \"audit\"\nprefix = \"reports/\"\n[job]\nskip_unchanged = true\n";

const TAG: &str = "[operation.put_object_tagging]\ntags = { a = \"1\" }\n";

fn everything() -> String {
    format!("{PREFIX}{EVERYTHING}")
}

#[test]
fn what_can_be_read_is_read_and_nothing_is_written() {
    for provider in ["s3", "oss"] {
        let scene = Scene::new(provider, &everything(), &[]);
        scene.says(&format!("look-{provider}"), &scene.check(&[]));
        let log = scene.gate.log();
        assert_eq!(scene.gate.writes(), Vec::<String>::new(), "{log:?}");
        for (asked, times) in [("docs/a.txt?tagging", 3), ("docs/a.txt?acl", 2)] {
            // Once for the plan, once to see whether the server knows it, and the first to see that the object is
            // there.
            assert_eq!(log.iter().filter(|request| request.ends_with(asked)).count(), times, "{log:?}");
        }
        assert!(log.len() <= 12, "{log:?}");
    }
}

#[test]
fn what_is_denied_is_told_with_the_action_that_is_missing() {
    let rules = [denied("GET", "?acl"), denied("GET", "?tagging"), denied("HEAD", "docs/")];
    for provider in ["s3", "oss"] {
        let scene = Scene::new(provider, &everything(), &rules);
        scene.says(&format!("denied-{provider}"), &scene.check(&[]));
        let json = scene.check(&["--json"]).json();
        let expected = if provider == "oss" {
            ["oss:GetObjectTagging", "oss:GetObjectAcl", "oss:GetObject"]
        } else {
            ["s3:GetObjectTagging", "s3:GetObjectAcl", "s3:GetObject"]
        };
        assert_eq!(json["missing"], serde_json::json!(expected));
        assert_eq!(scene.gate.writes(), Vec::<String>::new());
    }
}

#[test]
fn a_listing_that_is_denied_names_its_action_and_nothing_hangs_on_it() {
    for (provider, versions, action) in [
        ("s3", "", "s3:ListBucket"),
        ("s3", "versions = \"all\"\n", "s3:ListBucketVersions"),
        ("oss", "", "oss:ListObjects"),
        ("oss", "versions = \"all\"\n", "oss:ListObjectVersions"),
    ] {
        let scene = Scene::new(provider, &format!("{PREFIX}{versions}{TAG}"), &[denied("GET", "prefix=docs")]);
        let ran = scene.check(&["--json"]);
        assert_eq!((ran.code, &ran.json()["missing"]), (6, &serde_json::json!([action])));
        assert!(ran.stderr.contains("`batchplan policy plan.toml` prints"), "{}", ran.stderr);
    }
}

#[test]
fn a_csv_is_read_to_its_first_row_wherever_it_is() {
    let csv = |place: &str| {
        format!("[manifest.csv]\n{place}fields = [\"Bucket\", \"Key\"]\n{TAG}[job]\nskip_unchanged = true\n")
    };
    let scene = Scene::new("s3", &csv("path = \"list.csv\"\n"), &[denied("GET", "?tagging")]);
    scene.write("list.csv", "bkt,other\nbkt,docs/a.txt\n");
    scene.says("csv-denied", &scene.check(&[]));
    assert_eq!(scene.gate.log(), ["GET /bkt/other?tagging"; 3]);

    scene.write("list.csv", "bkt,%zz\nbkt,other\n");
    let bad = scene.check(&[]);
    assert!(bad.code == 1 && bad.stdout.contains("has 1 bad row"), "{}", bad.stdout);

    let remote = Scene::new("oss", &csv("bucket = \"audit\"\nobject = \"list.csv\"\n"), &[denied("GET", "list.csv")]);
    let ran = remote.check(&["--json"]);
    assert_eq!((ran.code, &ran.json()["missing"]), (6, &serde_json::json!(["oss:GetObject"])));
    assert!(ran.stderr.contains("policy plan.toml --bucket NAME"), "{}", ran.stderr);
    assert!(ran.stdout.contains("the manifest could not be read"), "{}", ran.stdout);
    let missing = Scene::new("oss", &csv("bucket = \"audit\"\nobject = \"list.csv\"\n"), &[]).check(&[]);
    assert!(missing.code == 1 && missing.stdout.contains("404 NoSuchKey"), "{}", missing.stdout);
}

#[test]
fn an_object_that_is_missing_is_passed_over() {
    let csv = format!("[manifest.csv]\npath = \"list.csv\"\nfields = [\"Bucket\", \"Key\"]\n{TAG}");
    let scene = Scene::new("s3", &csv, &[]);
    scene.write("list.csv", "bkt,docs/gone\nbkt,docs/lost\nbkt,docs/a.txt\n");
    let ran = scene.check(&[]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("ok           server support for ?tagging: bkt/docs/a.txt"), "{}", ran.stdout);

    let gone = (0..12).map(|n| format!("bkt,docs/gone{n}\n")).collect::<Vec<_>>().concat();
    scene.write("list.csv", &gone);
    let ran = scene.check(&[]);
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("the first 10 objects are missing (bkt/docs/gone0: 404 NoSuchKey"), "{}", ran.stdout);
    assert!(!ran.stderr.contains("next: batchplan apply"), "{}", ran.stderr);
}

#[test]
fn a_filter_that_takes_nothing_leaves_the_reads_untried() {
    let filter = "[manifest.filter]\ninclude = [\"*.pdf\"]\n";
    let scene = Scene::new("s3", &format!("{PREFIX}{filter}{EVERYTHING}"), &[]);
    scene.says("nothing-taken", &scene.check(&[]));
    let empty = Scene::new("s3", &format!("{}{TAG}", PREFIX.replace("docs/", "none/")), &[]).check(&[]);
    assert_eq!(empty.code, 0, "{}{}", empty.stdout, empty.stderr);
    assert!(empty.stderr.ends_with("next: batchplan plan plan.toml\n"), "{}", empty.stderr);
}

#[test]
fn credentials_that_are_refused_are_asked_with_once() {
    let scene = Scene::new("s3", &everything(), &[]);
    scene.says("refused", &scene.check_as("wrong", &[]));
    assert_eq!(scene.gate.log().len(), 1, "{:?}", scene.gate.log());
}

#[test]
fn what_is_no_plan_or_no_probe_of_it_sends_nothing() {
    let scene = Scene::new("s3", &format!("{PREFIX}{TAG}"), &[]);
    for (args, help) in [
        (&["--report-probe"][..], "does not publish a report"),
        (&["--write-probe", "other"], "does not start with the plan's prefix docs/"),
        (&["--write-probe", "docs/a.txt", "--bucket", "audit"], "bucket is bkt, not audit"),
        (&["--bucket", "bkt"], "--write-probe"),
    ] {
        let ran = scene.check(args);
        assert!(ran.code == 2 && ran.stderr.contains(help), "{args:?}: {}", ran.stderr);
    }
    let of_versions = format!("{PREFIX}versions = \"all\"\n{TAG}");
    scene.plan_at(&scene.gate.endpoint(), &of_versions);
    let ran = scene.check(&["--write-probe", "docs/a.txt"]);
    assert!(ran.code == 2 && ran.stderr.contains("--version-id ID"), "{}", ran.stderr);
    scene.plan_at(&scene.gate.endpoint(), "");
    assert_eq!(scene.check(&[]).code, 2);
    assert_eq!(scene.gate.log(), Vec::<String>::new());
}

#[test]
fn a_store_that_nobody_serves_is_told_so_and_not_waited_for_again() {
    let scene = Scene::new("s3", "", &[]);
    // A port that was free a moment ago may be another test's by now. Nothing serves this one any more.
    scene.plan_at("http://127.0.0.1:1", &everything());
    let ran = scene.check(&[]);
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("failed") && ran.stdout.contains("ConnectionError"), "{}", ran.stdout);
}

#[test]
fn what_came_to_something_else_is_neither_allowed_nor_denied() {
    let odd = refused("GET", "?acl", 400, "InvalidArgument");
    let scene = Scene::new("s3", &everything(), &[odd]);
    let ran = scene.check(&["--json"]);
    let json = ran.json();
    let failed: Vec<_> =
        json["checks"].as_array().expect("checks").iter().filter(|it| it["verdict"] == "failed").collect();
    let whats: Vec<_> = failed.iter().map(|it| it["what"].as_str().expect("text")).collect();
    assert_eq!(
        (ran.code, &whats[..]),
        (1, &["read the ACL of bkt/docs/a.txt", "server support for ?acl: bkt/docs/a.txt"][..])
    );
}

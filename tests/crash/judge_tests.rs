//! The judge sees what is wrong, and nothing else.

use std::collections::BTreeMap;

use batchplan_store::hex::hex;
use batchplan_store::object::ObjectKey;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use serde_json::json;

use crate::bucket::Count;
use crate::judge::{Expected, Observed, complaints};
use crate::report::{Report, Row, read};

const ROWS: u64 = 300;

fn served(served: u64) -> Count {
    Count { arrived: served + 7, served }
}

fn row(key: &ObjectKey, succeeded: bool) -> Row {
    Row { bucket: "b".to_owned(), key: key.clone(), succeeded, status: Some(if succeeded { 200 } else { 404 }) }
}

/// A job over 300 rows, every tenth of them missing and one named twice, that was killed twice and kept its promise.
fn kept() -> (Expected, Observed) {
    let key = |n: u64| ObjectKey::from(format!("k{}", n.max(2)).as_str());
    let rows: Vec<_> = (1..=ROWS).map(|n| (key(n), n % 10 != 0)).collect();
    let report = Report { rows: rows.iter().map(|(key, there)| row(key, *there)).collect(), ..Report::default() };
    let expected = Expected { bucket: "b", rows, skips: false, concurrency: 8, checkpoint_every: 16 };
    let observed = Observed {
        exit: Some(3),
        result: json!({ "status": "Complete", "total": 300, "succeeded": 270, "failed": 30 }),
        report: Ok(report),
        wrong: Vec::new(),
        kills: 2,
        gets: served(ROWS + 48),
        puts: served(270 + 48),
    };
    (expected, observed)
}

/// Whether a change to what was observed brings exactly one complaint, which says this.
#[track_caller]
fn told(change: impl FnOnce(&mut Expected, &mut Observed), says: &str) {
    let (mut expected, mut observed) = kept();
    change(&mut expected, &mut observed);
    let found = complaints(&expected, &observed);
    assert!(found.len() == 1 && found[0].contains(says), "{found:?}");
}

#[test]
fn a_promise_kept_is_no_complaint() {
    let (expected, observed) = kept();
    assert_eq!(complaints(&expected, &observed), Vec::<String>::new());
}

#[test]
fn each_breach_is_told() {
    fn rows(observed: &mut Observed) -> &mut Vec<Row> {
        &mut observed.report.as_mut().expect("a report").rows
    }
    told(|_, observed| observed.wrong.push("k7".to_owned()), "k7 has a wrong state");
    told(|_, observed| observed.exit = Some(0), "exit code");
    told(|_, observed| observed.result["failed"] = 29.into(), "failed is 29, not 30");
    told(|_, observed| observed.report = Err("gone".to_owned()), "the report: gone");
    told(|_, observed| drop(rows(observed).pop()), "b/k300 as a failure -1 times");
    told(|_, observed| rows(observed).push(row(&ObjectKey::from("k2"), true)), "b/k2 as a success +1 times");
    told(|_, observed| rows(observed)[5].status = Some(204), "the status Some(204)");
}

#[test]
fn what_a_kill_explains_is_no_repeat() {
    // Half of the work again is what a restart from zero costs on average; a checkpoint's worth and one is too much.
    told(|_, observed| observed.gets = served(ROWS + ROWS / 2), "2 kills explain 48 more");
    told(|_, observed| observed.gets = served(ROWS + 49), "2 kills explain 48 more");
    told(|_, observed| observed.puts = served(270 + 49), "319 writes were served for 270 objects");
    told(|_, observed| (observed.kills, observed.puts) = (1, served(270)), "1 kills explain 24 more");
    told(|_, observed| observed.gets = served(ROWS - 1), "299 requests were served for 300 rows");
}

#[test]
fn who_skips_what_is_done_writes_each_object_once() {
    let skipping = |gets, puts| {
        move |expected: &mut Expected, observed: &mut Observed| {
            expected.skips = true;
            (observed.gets, observed.puts) = (served(gets), served(puts));
        }
    };
    told(skipping(ROWS + 49, 269), "requests were served");
    // Two of the 270 rows that are there name the same object.
    told(skipping(ROWS, 269 + 49), "318 writes were served for 269 objects");
    let (mut expected, mut observed) = kept();
    skipping(ROWS + 48, 269 + 48)(&mut expected, &mut observed);
    assert_eq!(complaints(&expected, &observed), Vec::<String>::new());
}

/// A report's manifest over these files, and the files.
fn report_of(format: &str, files: &[(&str, &str, &str)]) -> (String, BTreeMap<String, Bytes>) {
    let md5 = |text: &str| hex(&Md5::digest(text));
    let listed = files.iter().map(|(name, status, text)| {
        json!({ "Key": name, "TaskExecutionStatus": status, "MD5Checksum": format!("\"{}\"", md5(text)) })
    });
    let manifest = json!({ "Format": format, "Results": listed.collect::<Vec<_>>() }).to_string();
    let files = files.iter().map(|(name, _, text)| ((*name).to_owned(), Bytes::from((*text).to_owned())));
    (manifest, files.collect())
}

#[test]
fn both_formats_of_reports_are_read() {
    let oss =
        [("p/0.csv", "succeeded", "b,a%2Fb%252C,,200,\n"), ("p/1.csv", "failed", "b,c,,404,\"no, \"\"not\"\"\"\n")];
    let aws = [
        ("p/0.csv", "succeeded", "b,a/b%252C,,succeeded,200,,Successful\n"),
        ("p/1.csv", "failed", "b,c,,failed,404,X,y\n"),
    ];
    let rows = vec![row(&ObjectKey::from("a/b%2C"), true), row(&ObjectKey::from("c"), false)];
    for (format, files) in [("Report_CSV_20250901", oss), ("Report_CSV_20180820", aws)] {
        let (manifest, files) = report_of(format, &files);
        let report = read(manifest.as_bytes(), |name| files.get(name).cloned()).expect("a report");
        assert_eq!(report.rows, rows, "{format}");
        assert_eq!(report.files, files.into_keys().collect());
    }
}

#[test]
fn a_report_that_does_not_hold_together_is_told() {
    let good = ("0.csv", "succeeded", "b,k,,200,\n");
    let why = |files: &[(&str, &str, &str)], find: &dyn Fn(&str, Bytes) -> Option<Bytes>| {
        let (manifest, files) = report_of("Report_CSV_20250901", files);
        read(manifest.as_bytes(), |name| find(name, files.get(name)?.clone())).expect_err("a complaint")
    };
    let as_it_is = |_: &str, content: Bytes| Some(content);
    assert!(why(&[good], &|_, _| None).contains("0.csv is listed and not there"));
    assert!(why(&[good], &|_, content| Some(content.slice(1..))).contains("0.csv is not the file that is listed"));
    assert!(why(&[good, good], &as_it_is).contains("0.csv is listed twice"));
    assert!(why(&[("0.csv", "failed", "b,k,,200,\n")], &as_it_is).contains("stands in the wrong file"));
    assert!(why(&[("0.csv", "succeeded", "b,k,,20")], &as_it_is).contains("a row has 4 columns"));
}

//! A server whose keys cannot all be listed or sent, and the real binary: every key has exactly one outcome, in every
//! listing, format and command, however often the process is killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use batchplan_store::object::ObjectKey;
use serde_json::Value as Json;

/// The number of entries on a page.
const PAGE: usize = 7;

/// One entry: the key as it is in a URL, the key as the listing writes it, and the row that is expected: the key of the
/// report, and whether it fails.
struct Entry {
    key: Vec<u8>,
    written: Vec<u8>,
    reported: Vec<u8>,
    fails: bool,
}

/// A key that a request can name.
fn sound(key: &[u8], written: &[u8]) -> Entry {
    Entry { key: key.to_vec(), written: written.to_vec(), reported: key.to_vec(), fails: false }
}

/// A key that no request can name, and what the report has of it.
fn unlistable(key: &[u8], written: &[u8], reported: &[u8]) -> Entry {
    Entry { key: key.to_vec(), written: written.to_vec(), reported: reported.to_vec(), fails: true }
}

/// A bucket of a server that does not support URL encoding, in the order of its keys. Its keys are bytes.
fn entries() -> Vec<Entry> {
    let long = vec![b'm'; 1500];
    let mut entries = vec![unlistable(b"", b"", b"")];
    entries.extend((0..20).map(|n| format!("a/{n:02}").into_bytes()).map(|key| sound(&key, &key)));
    entries.extend([
        unlistable(b"b\x01", "b\u{fffd}".as_bytes(), "b\u{fffd}".as_bytes()),
        unlistable(b"b\x02", "b\u{fffd}".as_bytes(), "b\u{fffd}".as_bytes()),
        sound(b"b/../c", b"b/../c"),
        sound(b"b\x7f", b"b\x7f"),
        sound(b"caf\xe9", b"caf\xe9"),
        unlistable(b"d\xed\xa0\x80", b"d&#xD800;", b"d&#xD800;"),
        sound(b"e\0", b"e&#0;"),
        unlistable(&long, &long, &long),
        sound(b"z<&", b"z&lt;&amp;"),
    ]);
    entries
}

/// The requests about objects that the server received: the method and the key, as it was sent.
type Requests = Arc<Mutex<Vec<(String, String)>>>;

/// Serves the bucket on loopback until the process ends.
fn serve() -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let requests = Requests::default();
    let noted = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let noted = Arc::clone(&noted);
            std::thread::spawn(move || answer_all(stream, &noted));
        }
    });
    (endpoint, requests)
}

fn answer_all(stream: TcpStream, noted: &Mutex<Vec<(String, String)>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            match header.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
                Some(_) => {}
                None => break,
            }
        }
        reader.by_ref().take(length).read_to_end(&mut Vec::new()).ok()?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = match path.strip_prefix("/bkt/").or(path.strip_prefix("/bkt")) {
            Some("") => page(query),
            Some(key) => {
                noted.lock().expect("sound").push((method.to_owned(), key.to_owned()));
                b"<Tagging><TagSet></TagSet></Tagging>".to_vec()
            }
            None => Vec::new(),
        };
        let head = format!("HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: {}\r\n\r\n", body.len());
        let body = if method == "HEAD" { &[][..] } else { &body };
        writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body)).ok()?;
    }
}

/// Answers a request for a page of the listing.
fn page(query: &str) -> Vec<u8> {
    let pairs: BTreeMap<&str, Vec<u8>> = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name, ObjectKey::decode(value.as_bytes()).as_bytes().to_vec()))
        .collect();
    let entries = entries();
    let all = pairs.contains_key("versions");
    let after = pairs.get(if all { "key-marker" } else { "start-after" });
    let token = pairs.get("continuation-token").and_then(|token| String::from_utf8_lossy(token).parse().ok());
    let start = token.unwrap_or_else(|| after.map_or(0, |key| entries.partition_point(|entry| entry.key <= *key)));
    let end = (start + PAGE).min(entries.len());
    let (root, element) = if all { ("ListVersionsResult", "Version") } else { ("ListBucketResult", "Contents") };
    let mut body = format!("<{root}><IsTruncated>{}</IsTruncated>", end < entries.len()).into_bytes();
    for entry in &entries[start..end] {
        body.extend_from_slice(format!("<{element}><Key>").as_bytes());
        body.extend_from_slice(&entry.written);
        body.extend_from_slice(b"</Key><VersionId>v1</VersionId><Size>1</Size>");
        body.extend_from_slice(format!("<LastModified>2026-01-01T00:00:00Z</LastModified></{element}>").as_bytes());
    }
    if end < entries.len() {
        body.extend_from_slice(
            format!("<NextContinuationToken>{end}</NextContinuationToken><NextKeyMarker>").as_bytes(),
        );
        body.extend_from_slice(&entries[end - 1].written);
        body.extend_from_slice(b"</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>");
    }
    body.extend_from_slice(format!("</{root}>").as_bytes());
    body
}

/// A folder with a plan for this server.
fn plan(endpoint: &str, prefix_keys: &str, format: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "name = \"t\"\n[store]\nprovider = \"s3\"\nendpoint = \"{endpoint}\"\nskip_server_check = true\n\
         [manifest.prefix]\nbucket = \"bkt\"\n{prefix_keys}\n[operation.put_object_tagging]\ntags = {{ a = \"b\" }}\n\
         [report]\nenabled = false\nscope = \"all-tasks\"\nformat = \"{format}\"\n[limits]\nfailure_threshold = 1\n"
    );
    fs::write(folder.path().join("plan.toml"), text).expect("written");
    folder
}

fn batchplan(folder: &Path, args: &[&str], failpoint: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batchplan"));
    command
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .envs([("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hushhush")])
        .env("BATCHPLAN_CHECKPOINT_EVERY", "1")
        .stdin(Stdio::null());
    if let Some(failpoint) = failpoint {
        command.env("BATCHPLAN_FAILPOINT", failpoint);
    }
    command.output().expect("the binary runs")
}

/// Runs a command that prints JSON, and expects this exit code.
fn json(folder: &Path, args: &[&str], code: i32) -> Json {
    let output = batchplan(folder, args, None);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stdout}\n{stderr}");
    serde_json::from_str(stdout.lines().last().expect("a line")).expect("JSON")
}

/// A row of a report: key, version, and whether the object failed without a request.
type ReportRow = (String, String, bool);

/// Returns the rows of a job's report.
fn report(folder: &Path, result: &Json) -> Vec<ReportRow> {
    let mut folders = vec![folder.join(result["report_folder"].as_str().expect("a folder"))];
    let mut rows = Vec::new();
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).expect("a report").flatten().map(|file| file.path()) {
            if file.is_dir() {
                folders.push(file);
            } else if file.extension().is_some_and(|kind| kind == "csv") {
                let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(file).expect("a file");
                rows.extend(reader.records().map(|row| {
                    let row = row.expect("a row");
                    let failed = row.iter().any(|field| field.contains("UnlistableKey"));
                    (ObjectKey::decode(row[1].as_bytes()).encoded(), row[2].to_owned(), failed)
                }));
            }
        }
    }
    rows.sort();
    rows
}

fn expected(version: &str, failed_only: bool) -> Vec<ReportRow> {
    let entries = entries().into_iter().filter(|entry| entry.fails || !failed_only);
    let row = |entry: Entry| (ObjectKey::new(entry.reported).encoded(), version.to_owned(), entry.fails);
    let mut rows: Vec<_> = entries.map(row).collect();
    rows.sort();
    rows
}

fn counts() -> (Json, Json, Json) {
    let entries = entries();
    let failed = entries.iter().filter(|entry| entry.fails).count();
    (entries.len().into(), (entries.len() - failed).into(), failed.into())
}

/// Checks that each sound key was named by a request, as it is, and that no other was.
fn check_requests(requests: &Requests) {
    let named: std::collections::BTreeSet<_> = requests.lock().expect("sound").iter().map(|it| it.1.clone()).collect();
    let sound = entries().into_iter().filter(|entry| !entry.fails);
    let sound = sound.map(|entry| ObjectKey::new(entry.key).encoded_keeping_slashes()).collect();
    assert_eq!(named, sound);
}

#[test]
fn every_key_is_in_the_report_once_in_both_formats_and_of_all_versions() {
    for (format, versions, version) in [("oss", "current", ""), ("aws", "current", ""), ("oss", "all", "v1")] {
        let (endpoint, requests) = serve();
        let keys = format!("on_unlistable = \"report\"\nversions = \"{versions}\"");
        let folder = plan(&endpoint, &keys, format);
        let result = json(folder.path(), &["apply", "plan.toml", "--auto-approve", "--json"], 3);
        let found = (result["total"].clone(), result["succeeded"].clone(), result["failed"].clone());
        assert_eq!(found, counts(), "{format} {versions}: {result}");
        assert_eq!(report(folder.path(), &result), expected(version, false), "{format} {versions}");
        check_requests(&requests);
        // A retry reads the rows, fails on them again in the same way, and names none of them.
        requests.lock().expect("sound").clear();
        let job = result["job_id"].as_str().expect("an id");
        let again = json(folder.path(), &["retry", job, "--auto-approve", "--json"], 3);
        assert_eq!((&again["total"], &again["failed"]), (&counts().2, &counts().2), "{again}");
        assert_eq!(report(folder.path(), &again), expected(version, true));
        assert_eq!(*requests.lock().expect("sound"), []);
    }
}

#[test]
fn the_preview_counts_and_shows_them_even_if_they_are_not_in_the_sample() {
    let (endpoint, _) = serve();
    let folder = plan(&endpoint, "on_unlistable = \"report\"", "oss");
    for sample in [&["--sample", "3"][..], &["--full"]] {
        let args = [&["plan", "plan.toml", "--json", "--detailed-exitcode"], sample].concat();
        let preview = json(folder.path(), &args, 10);
        let (total, _, failed) = counts();
        assert_eq!((&preview["objects"], &preview["counts"]["fail"]["likely"]), (&total, &failed), "{preview}");
        let group = &preview["failures"][0];
        assert_eq!((&group["code"], &group["count"], &group["http"]), (&"UnlistableKey".into(), &failed, &0.into()));
        assert_eq!(group["operation"], "put_object_tagging");
        assert_eq!(group["examples"].as_array().map(Vec::len), Some(3));
    }
    let text = batchplan(folder.path(), &["plan", "plan.toml", "--sample", "3"], None);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("! 5 objects would fail: UnlistableKey (put_object_tagging)\n      bkt/\n"), "{text}");
    let all = batchplan(folder.path(), &["plan", "plan.toml", "--all"], None);
    let shown = String::from_utf8_lossy(&all.stdout).matches("UnlistableKey: ").count();
    assert_eq!(shown, 5, "{}", String::from_utf8_lossy(&all.stdout));
    let saved = batchplan(folder.path(), &["plan", "plan.toml", "--out", "plan.bpl"], None);
    assert_eq!(saved.status.code(), Some(0));
    let result = json(folder.path(), &["apply", "plan.bpl", "--auto-approve", "--json"], 3);
    assert_eq!(result["failed"], counts().2);
}

#[test]
fn by_default_nothing_is_done_and_the_message_says_how_to_go_on() {
    let (endpoint, requests) = serve();
    let folder = plan(&endpoint, "", "oss");
    for (args, code) in [(&["apply", "plan.toml", "--auto-approve"][..], 4), (&["plan", "plan.toml"], 1)] {
        let output = batchplan(folder.path(), args, None);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        for part in [
            "the listing of bkt/ has 5 keys that no request can name",
            "entry 1: \"\": the key is empty",
            "entry 23: \"b\u{fffd}\": the server replaced bytes of the key with U+FFFD",
            "entry 27: \"d&#xD800;\": the server sent the key as invalid XML",
            "the key has 1500 bytes (maximum 1024)",
            "on_unlistable = \"report\"",
            "[manifest.inventory]",
        ] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
    }
    assert_eq!(*requests.lock().expect("sound"), []);
}

#[test]
fn a_job_that_is_killed_reports_each_key_once() {
    let moments = ["part-sealed", "journal-before-commit", "journal-after-commit", "report-flushed", "report-finished"];
    for (number, moment) in moments.iter().flat_map(|moment| (1..=6).step_by(2).map(move |number| (number, moment))) {
        let (endpoint, requests) = serve();
        let folder = plan(&endpoint, "on_unlistable = \"report\"", if number == 1 { "aws" } else { "oss" });
        let failpoint = format!("{moment}:{number}");
        let apply = ["apply", "plan.toml", "--auto-approve", "--json"];
        let killed = batchplan(folder.path(), &apply, Some(&failpoint));
        assert!(number > 1 || killed.status.code().is_none(), "{failpoint} kills the process");
        let result = if killed.status.code().is_none() {
            json(folder.path(), &apply, 3)
        } else {
            serde_json::from_slice(&killed.stdout).expect("JSON")
        };
        assert_eq!(result["failed"], counts().2, "{failpoint}: {result}");
        assert_eq!(report(folder.path(), &result), expected("", false), "{failpoint}");
        check_requests(&requests);
    }
}

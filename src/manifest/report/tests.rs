use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batchplan_store::Store;
use batchplan_store::object::{ObjectId, VersionId};
use batchplan_store::task::{FaultClass, StoreError, TaskFailure, TaskOutcome};
use globset::Glob;
use jiff::Timestamp;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::manifest::sources::FirstObjects;
use crate::manifest::testing::{MemoryStore, etag, freeze_until, keys, objects, refusal};
use crate::manifest::{Filter, FrozenManifest, KeyGlobs, Manifest, ManifestSource};
use crate::report_format::{OperationNaming, ReportFormat, ReportRowEncoder, report_manifest_json};

const OSS_FAILED: &str = concat!(
    "media,a%2F1%20x,,403,\"Error returned by Service. {\"\"Error Code\"\":\"\"AccessDenied\"\"}\"\n",
    "media,a%2F2,v%2B,404,\"Error returned by Service. {\"\"Error Code\"\":\"\"NoSuchKey\"\"}\"\n",
    "media,a%2F3,,,\"No answer from the service. {\"\"Error Code\"\":\"\"Timeout\"\"}\"\n",
    "media,a%2F4,,503,what is this\n",
);

/// In the order of the AWS schema, except the first row: some tools follow one order, some the other.
const AWS_FAILED: &str = concat!(
    "media,a/1%20x,,failed,403,AccessDenied,Access Denied (x)\n",
    "media,a/2,v%2B,failed,NoSuchKey,404,\"gone, it seems\"\n",
    "media,a/3,,failed,,Timeout,\n",
    "media,a/4,,failed,503,,\n",
);

const SUCCEEDED: &str = "media,fine,,200,\n";

fn at(key: &str) -> FileLocation {
    FileLocation::Object { bucket: BucketName::new("audit"), key: ObjectKey::from(key), etag: None }
}

fn source(place: FileLocation) -> ManifestSource {
    ManifestSource::Report { location: place, row_filter: ReportRowFilter::default() }
}

fn listed(status: TaskStatus, bucket: &str, key: &str, text: &str) -> ReportManifestEntry {
    ReportManifestEntry { status, bucket: bucket.to_owned(), key: key.to_owned(), md5: etag(text.as_bytes()) }
}

fn list(format: ReportFormat, files: &[ReportManifestEntry]) -> String {
    report_manifest_json(format, Timestamp::UNIX_EPOCH, files).unwrap()
}

/// Creates a bucket with an OSS report. Its file of successful rows does not exist.
fn published() -> MemoryStore {
    let list = list(
        ReportFormat::Oss,
        &[
            listed(TaskStatus::Succeeded, "audit", "r/ID/results/report-0.csv", SUCCEEDED),
            listed(TaskStatus::Failed, "audit", "r/ID/results/report-1.csv", OSS_FAILED),
        ],
    );
    MemoryStore::with(&[
        ("r/ID/results/manifest.json", list.as_bytes()),
        ("r/ID/results/report-1.csv", OSS_FAILED.as_bytes()),
    ])
}

fn published_at() -> FileLocation {
    at("r/ID/results/manifest.json")
}

#[test]
fn a_published_report_gives_the_rows_of_its_failed_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(published());
    let frozen =
        freeze_until(folder.path(), &store, source(published_at()), Filter::default(), &CancellationToken::new());
    let frozen = frozen.unwrap();
    let text = &store.objects[&b"r/ID/results/manifest.json"[..]];
    let expected = SourcePin::Object {
        bucket: BucketName::new("audit"),
        key: ObjectKey::from("r/ID/results/manifest.json"),
        etag: etag(text),
        sha256: sha256(text),
    };
    assert_eq!(frozen.pin(), &expected);
    assert_eq!((frozen.rows(), frozen.rows_read(), frozen.warnings()), (4, 4, &[][..]));
    let requests = store.requests.lock().unwrap();
    let read: Vec<_> = requests.iter().map(|request| request.split(' ').nth(1).unwrap()).collect();
    assert_eq!(read, ["r/ID/results/manifest.json", "r/ID/results/report-1.csv"]);

    let (_, found) = objects(published(), source(published_at()), Filter::default()).unwrap();
    assert_eq!(keys(&found), ["a/1 x", "a/2", "a/3", "a/4"]);
    assert!(found.iter().all(|object| object.bucket.as_str() == "media"));
    let versions: Vec<_> = found.iter().map(|object| object.version.as_ref().map(VersionId::as_str)).collect();
    assert_eq!(versions, [None, Some("v%2B"), None, None]);
}

#[test]
fn reads_a_single_csv_file_in_either_format() {
    let oss = format!("{SUCCEEDED}{OSS_FAILED}{SUCCEEDED}media,odd,,200,yet an error\n");
    let aws = format!("media,fine,,succeeded,200,,Successful\r\n{AWS_FAILED}media,odd,,failed,,,\n");
    for (text, read) in [(oss, 7), (aws, 6)] {
        let store = MemoryStore::with(&[("x.csv", text.as_bytes())]);
        let (frozen, found) = objects(store, source(at("x.csv")), Filter::default()).unwrap();
        assert_eq!(keys(&found), ["a/1 x", "a/2", "a/3", "a/4", "odd"]);
        assert_eq!(frozen.rows_read(), read);
        let SourcePin::Object { sha256: digest, .. } = frozen.pin() else { panic!("an object") };
        assert_eq!(digest, &sha256(text.as_bytes()));
    }
}

#[test]
fn filters_by_status_and_code_and_warns_about_missing_codes() {
    let narrowed = |status: Option<&[u16]>, code: Option<&[&str]>| {
        let narrowing = ReportRowFilter {
            status: status.map(<[u16]>::to_vec),
            code: code.map(|codes| codes.iter().map(|code| (*code).to_owned()).collect()),
        };
        [OSS_FAILED, AWS_FAILED].map(|text| {
            let place = at("x.csv");
            let store = MemoryStore::with(&[("x.csv", text.as_bytes())]);
            let source = ManifestSource::Report { location: place, row_filter: narrowing.clone() };
            let (frozen, found) = objects(store, source, Filter::default()).unwrap();
            assert_eq!(frozen.rows_read(), 4);
            (keys(&found), frozen.warnings().iter().map(ToString::to_string).collect::<Vec<_>>())
        })
    };
    for (found, warnings) in narrowed(Some(&[404, 503]), None) {
        assert_eq!((found, warnings), (vec!["a/2".to_owned(), "a/4".to_owned()], vec![]));
    }
    for (found, warnings) in narrowed(None, Some(&["accessdenied", "Timeout"])) {
        assert_eq!(found, ["a/1 x", "a/3"]);
        let [warning] = warnings.as_slice() else { panic!("one warning") };
        assert_eq!(warning, "left out 1 failed row without an error code (first: row 4 of audit/x.csv)");
    }
    for (found, _) in narrowed(Some(&[403, 404]), Some(&["NoSuchKey", "Timeout"])) {
        assert_eq!(found, ["a/2"]);
    }
    for (found, _) in narrowed(Some(&[418]), None) {
        assert_eq!(found, [""; 0]);
    }
}

/// Writes files into a local folder.
fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let listing = folder.path().join("manifest.json");
    (folder, listing)
}

fn local(path: &Path) -> ManifestSource {
    source(FileLocation::Local(path.to_owned()))
}

#[test]
fn a_report_on_this_machine_may_be_ours_or_downloaded() {
    let file = |key: &str, text| listed(TaskStatus::Failed, "", key, text);
    let oss_name = [file("report-0.csv", OSS_FAILED)];
    let oss_key = [file("r/ID=/results/report-0.csv", OSS_FAILED)];
    let aws_name = [file("results/0a.csv", AWS_FAILED)];
    let aws_key = [file("r/job-ID=/results/0a.csv", AWS_FAILED)];
    for (format, files, name, text) in [
        (ReportFormat::Oss, &oss_name, "report-0.csv", OSS_FAILED),
        (ReportFormat::Oss, &oss_key, "report-0.csv", OSS_FAILED),
        (ReportFormat::Aws, &aws_name, "results/0a.csv", AWS_FAILED),
        (ReportFormat::Aws, &aws_key, "results/0a.csv", AWS_FAILED),
        (ReportFormat::Aws, &aws_key, "0a.csv", AWS_FAILED),
    ] {
        let list = list(format, files);
        let (_folder, path) = folder(&[("manifest.json", &list), (name, text)]);
        let (frozen, found) = objects(MemoryStore::default(), local(&path), Filter::default()).unwrap();
        assert_eq!(keys(&found), ["a/1 x", "a/2", "a/3", "a/4"]);
        assert_eq!(pinned(&frozen), (path.clone(), sha256(list.as_bytes())));
    }
    let (folder, _) = folder(&[("failed.csv", AWS_FAILED)]);
    let path = folder.path().join("failed.csv");
    let (frozen, found) = objects(MemoryStore::default(), local(&path), Filter::default()).unwrap();
    assert_eq!(found.len(), 4);
    assert_eq!(pinned(&frozen), (path.clone(), sha256(AWS_FAILED.as_bytes())));
}

/// Returns the local file that the manifest was made from, and its digest.
fn pinned(frozen: &FrozenManifest) -> (PathBuf, String) {
    let SourcePin::File { path, sha256, .. } = frozen.pin() else { panic!("{:?}", frozen.pin()) };
    (path.clone(), sha256.clone())
}

#[test]
fn the_pin_of_a_relative_path_is_absolute() {
    let here = std::path::absolute(".").unwrap();
    let folder = tempfile::tempdir_in(&here).unwrap();
    fs::write(folder.path().join("failed.csv"), AWS_FAILED).unwrap();
    let path = folder.path().strip_prefix(&here).unwrap().join("failed.csv");
    let (frozen, _) = objects(MemoryStore::default(), local(&path), Filter::default()).unwrap();
    assert_eq!(pinned(&frozen).0, here.join(&path));
}

#[test]
fn a_report_without_failures_is_an_empty_manifest() {
    let list = list(ReportFormat::Aws, &[listed(TaskStatus::Succeeded, "audit", "gone.csv", SUCCEEDED)]);
    for (name, text, read) in [("m.json", list.as_str(), 0), ("x.csv", SUCCEEDED, 1), ("x.csv", "", 0)] {
        let store = MemoryStore::with(&[(name, text.as_bytes())]);
        let (frozen, found) = objects(store, source(at(name)), Filter::default()).unwrap();
        assert_eq!((frozen.rows_read(), found.len()), (read, 0), "{name}");
    }
}

#[test]
fn damaged_file_is_reported_before_its_rows() {
    let refused = |store| {
        let error = refusal(store, source(published_at()), Filter::default());
        format!("{error}; {}", error.help().unwrap())
    };
    let mut store = published();
    store.put("r/ID/results/report-1.csv", b"not the same\n");
    let text = refused(store);
    assert!(
        text.starts_with("audit/r/ID/results/report-1.csv: its MD5 is ") && text.contains("another copy"),
        "{text}"
    );

    let mut store = published();
    store.objects.remove(&b"r/ID/results/report-1.csv"[..]);
    let text = refused(store);
    assert!(text.contains("the report lists this file, but it does not exist; the report is incomplete"), "{text}");

    let list = list(ReportFormat::Oss, &[listed(TaskStatus::Failed, "b", "report-0.csv", OSS_FAILED)]);
    let (_folder, path) = folder(&[("manifest.json", &list), ("report-0.csv", &OSS_FAILED[..40])]);
    let text = refusal(MemoryStore::default(), local(&path), Filter::default()).to_string();
    assert!(text.contains("report-0.csv: its MD5 is "), "{text}");
}

#[test]
fn bad_rows_are_reported_by_number() {
    let text = "b,k,,403,\nb,%zz,,403,\nb,k\nb,k,,x,\nev il/,k,,403,\nb,,,403,\nb,.,,403,\nb,k,,200,\n";
    let store = MemoryStore::with(&[("x.csv", text.as_bytes())]);
    let ManifestError::BadRows { total, first, .. } = refusal(store, source(at("x.csv")), Filter::default()) else {
        panic!("bad rows")
    };
    let rows: Vec<_> = first.iter().map(|bad| bad.row).collect();
    assert_eq!((total, rows), (6, vec![2, 3, 4, 5, 6, 7]));
    assert!(first[1].why.contains("expected 5 columns, found 2"), "{}", first[1].why);
    assert!(first[5].why.contains("does not support the key"), "{}", first[5].why);
}

#[test]
fn rejects_files_that_are_not_reports() {
    let refused = |name: &str, text: &str| {
        let store = MemoryStore::with(&[(name, text.as_bytes())]);
        refusal(store, source(at(name)), Filter::default()).to_string()
    };
    assert!(refused("x.csv", "bucket,key\n").contains("row 1 has 2 columns (OSS reports have 5, AWS reports 7)"));
    assert!(refused("x.csv", "\u{feff}bucket,key\n").contains("row 1 has 2 columns"));
    assert!(refused("x.csv", "b,k,,403,\"open\n").contains("a quote is not closed"));
    assert!(refused("x.csv", &"x".repeat(2 << 20)).contains("longer than"));
    assert!(refused("m.json", "{\"sourceBucket\":\"b\"}").contains("not the manifest of a completion report"));
    assert!(refused("M.JSON", "").contains("not the manifest of a completion report"));
    let file = listed(TaskStatus::Failed, "audit", "a.csv", "");
    assert!(refused("m.json", &list(ReportFormat::Oss, &[file.clone(), file])).contains("lists the file a.csv twice"));
    let strange = listed(TaskStatus::Failed, "evil.example/", "a.csv", "");
    assert!(refused("m.json", &list(ReportFormat::Oss, &[strange])).contains("invalid bucket"));
    let error = refusal(MemoryStore::default(), source(at("no.csv")), Filter::default());
    assert!(error.to_string().starts_with("cannot read audit/no.csv"), "{error}");
    let (folder, path) = folder(&[("manifest.json", "")]);
    fs::File::create(&path).unwrap().set_len(MAX_LISTING_BYTES + 1).unwrap();
    let text = refusal(MemoryStore::default(), local(&path), Filter::default()).to_string();
    assert!(text.contains("is larger than"), "{text}");
    let text = refusal(MemoryStore::default(), local(folder.path()), Filter::default()).to_string();
    assert!(text.starts_with("cannot read "), "{text}");
}

#[test]
fn another_etag_is_another_report() {
    let place = FileLocation::Object {
        bucket: BucketName::new("audit"),
        key: ObjectKey::from("r/ID/results/manifest.json"),
        etag: Some("0a".to_owned()),
    };
    let error = refusal(published(), source(place), Filter::default());
    assert!(matches!(error, ManifestError::Changed { .. }), "{error}");
}

#[test]
fn a_filter_may_ask_for_names_only() {
    let globs = KeyGlobs::new([Glob::new("*2").unwrap()]).unwrap();
    let filter = Filter { include: Some(globs), ..Filter::default() };
    let (_, found) = objects(published(), source(published_at()), filter).unwrap();
    assert_eq!(keys(&found), ["a/2"]);
    let filter = Filter { larger_than: Some(1), ..Filter::default() };
    let text = refusal(published(), source(published_at()), filter).to_string();
    assert!(text.contains("needs the object's size, but a completion report has only names"), "{text}");
}

#[test]
fn raw_plus_is_kept_with_a_warning() {
    let store = MemoryStore::with(&[("x.csv", b"b,a+b,,200,\nb,a+b,,403,\nb,c%2Bd,,403,\n")]);
    let (frozen, found) = objects(store, source(at("x.csv")), Filter::default()).unwrap();
    assert_eq!(keys(&found), ["a+b", "c+d"]);
    let [warning] = frozen.warnings() else { panic!("one warning") };
    assert!(
        warning.message.starts_with("a raw `+` in 1 key is read as a plus (first in row 2 of audit/x.csv)"),
        "{warning}"
    );
}

fn ending() -> impl Strategy<Value = TaskOutcome> {
    let failed = (proptest::option::of(300_u16..600), ".{0,9}", ".{0,9}").prop_map(|(status, code, message)| {
        let (request_id, ec, request_line) = (String::new(), String::new(), String::new());
        let (class, at) = (FaultClass::Rejected, Timestamp::UNIX_EPOCH);
        let fault = StoreError {
            class,
            status,
            code,
            message,
            request_id,
            ec,
            request_line,
            at,
            retry_after: None,
            headers: batchplan_store::object_request::ObjectHeaderSet::default(),
        };
        TaskOutcome::Failed(TaskFailure { operation: "put_object_acl".to_owned(), error: fault })
    });
    prop_oneof![(200_u16..300).prop_map(|status| TaskOutcome::Succeeded { status }), failed]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_failures_that_were_written_are_frozen(
        aws in any::<bool>(),
        rows in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 2..20), ending()), 0..20),
    ) {
        let format = if aws { ReportFormat::Aws } else { ReportFormat::Oss };
        let mut encoder = ReportRowEncoder::new(format, OperationNaming::Named);
        let (mut text, mut failed) = (Vec::new(), Vec::new());
        for (key, outcome) in &rows {
            let object = ObjectId { bucket: BucketName::new("b"), key: ObjectKey::new(key.as_slice()), version: None };
            encoder.encode(&object, outcome, &mut text).unwrap();
            failed.extend(matches!(outcome, TaskOutcome::Failed(_)).then_some(object));
        }
        let (frozen, found) =
            objects(MemoryStore::with(&[("x.csv", &text)]), source(at("x.csv")), Filter::default()).unwrap();
        prop_assert_eq!(frozen.rows_read(), rows.len() as u64);
        prop_assert_eq!(found, failed);
    }
}

#[tokio::test]
async fn peek_reads_the_first_failed_row() {
    let store: Arc<dyn Store> = Arc::new(published());
    let manifest = Manifest { source: source(published_at()), filter: Filter::default() };
    let seen = manifest.peek(&store, 1, &CancellationToken::new()).await.unwrap();
    let first = ObjectId { bucket: BucketName::new("media"), key: ObjectKey::from("a/1 x"), version: None };
    assert_eq!(seen, FirstObjects { objects: vec![first], rows_read: 1, complete: false });
}

fn file(bucket: &str, key: &str) -> ReportManifestEntry {
    ReportManifestEntry {
        status: TaskStatus::Failed,
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        md5: "0".repeat(32),
    }
}

#[test]
fn finds_a_listed_file_next_to_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let listing = folder.path().join("manifest.json");
    let find = |key: &str| ReportListFolder::of(&listing).find(&file("b", key), "manifest.json");
    let missing = find("audit/job-ID=/results/ab.csv").unwrap_err().to_string();
    let tried = [folder.path().join("results").join("ab.csv"), folder.path().join("ab.csv")];
    let tried = tried.map(|path| path.display().to_string()).join(" or ");
    assert!(missing.ends_with(&format!("but there is no {tried}")), "{missing}");

    std::fs::create_dir(folder.path().join("results")).unwrap();
    for name in ["report-0.csv", "ab.csv", "results/ab.csv"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let found = |key: &str| std::fs::read_to_string(find(key).unwrap()).unwrap();
    assert_eq!(found("report-0.csv"), "report-0.csv");
    assert_eq!(found("audit/ID=/results/report-0.csv"), "report-0.csv");
    assert_eq!(found("results/ab.csv"), "results/ab.csv");
    assert_eq!(found("audit/job-ID=/results/ab.csv"), "results/ab.csv");
    assert_eq!(found("audit/job-ID=/ab.csv"), "ab.csv");
}

#[test]
fn rejects_names_that_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(folder.path().join("secret.csv"), "s").unwrap();
    let listing = inner.join("manifest.json");
    let refused = |key: &str| ReportListFolder::of(&listing).find(&file("b", key), "m").unwrap_err().to_string();
    for key in ["..", "a/..", "a/", ".", "results/..", "a\\..\\b", "C:x", "a\0b"] {
        assert!(refused(key).contains("not a valid file name"), "{key}");
    }
    for key in ["../secret.csv", "/secret.csv", "../results/secret.csv"] {
        assert!(refused(key).contains("there is no"), "{key}");
    }
}

#[test]
fn rejects_invalid_buckets() {
    let refused = |bucket: &str| listed_object(&file(bucket, "k"), "m").unwrap_err().to_string();
    assert!(refused("evil.example/").contains("invalid bucket"));
    assert!(refused("").contains("not published"));
    assert_eq!(listed_object(&file("b", "../k"), "m").unwrap(), (BucketName::new("b"), ObjectKey::from("../k")));
}

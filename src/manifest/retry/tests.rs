use std::fs;
use std::path::Path;

use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::{FaultClass, TaskId};

use super::*;
use crate::frontier::RowFrontier;
use crate::manifest::testing::{MemoryStore, csv_source, etag, fault, freeze_in, keys, objects, refusal};
use crate::manifest::{FileLocation, Filter, ManifestSource, SourcePin};
use crate::report_format::ReportFormat;

const OSS_FAILED: &str = "b,k%2F2,,503,x\nb,fine,,200,\nb,k%2F9,v,,y\n";
const AWS_FAILED: &str = "b,k/4,,failed,403,AccessDenied,Access Denied\n";

fn in_bucket(key: &str, format: ReportFormat, text: &str) -> FailedRowsFile {
    let place = FileLocation::Object { bucket: BucketName::new("audit"), key: ObjectKey::from(key), etag: None };
    FailedRowsFile { location: place, format, md5: etag(text.as_bytes()) }
}

fn local(path: &Path, format: ReportFormat, text: &str) -> FailedRowsFile {
    FailedRowsFile { location: FileLocation::Local(path.to_owned()), format, md5: etag(text.as_bytes()) }
}

/// Creates a first job with the keys `k/0` to `k/9`, in parts of seven rows. The rows in `settled` are finished.
fn first_job(folder: &Path, settled: impl IntoIterator<Item = u32>) -> UnfinishedRows {
    let rows = "b,k/0\nb,k/1\nb,k/2\nb,k/3\nb,k/4\nb,k/5\nb,k/6\nb,k/7\nb,k/8\nb,k/9\n";
    freeze_in(folder, MemoryStore::with(&[("m.csv", rows.as_bytes())]), csv_source("m.csv"), Filter::default())
        .unwrap();
    let mut frontier = RowFrontier::default();
    settled.into_iter().for_each(|row| frontier.mark_settled(TaskId { part: row / 7, row: row % 7 }));
    UnfinishedRows { folder: folder.to_owned(), frontier }
}

#[test]
fn the_failed_come_first_and_the_rest_follows() {
    let folder = tempfile::tempdir().unwrap();
    let rest = first_job(folder.path(), (0..6).chain([8, 9]));
    let path = folder.path().join("report-0.csv");
    fs::write(&path, OSS_FAILED).unwrap();
    let failed = vec![local(&path, ReportFormat::Oss, OSS_FAILED), in_bucket("a.csv", ReportFormat::Aws, AWS_FAILED)];
    let store = || MemoryStore::with(&[("a.csv", AWS_FAILED.as_bytes())]);
    let source = ManifestSource::Retry { failed: failed.clone(), unfinished: Some(rest) };
    let (frozen, found) = objects(store(), source, Filter::default()).unwrap();
    assert_eq!(keys(&found), ["k/2", "k/9", "k/4", "k/6", "k/7"]);
    assert_eq!(found[1].version, Some(VersionId::new("v")));
    assert_eq!((frozen.rows_read(), frozen.pin()), (6, &SourcePin::Listing));

    let (_, found) = objects(store(), ManifestSource::Retry { failed, unfinished: None }, Filter::default()).unwrap();
    assert_eq!(keys(&found), ["k/2", "k/9", "k/4"]);
}

#[test]
fn an_object_may_be_in_both() {
    let folder = tempfile::tempdir().unwrap();
    let rest = first_job(folder.path(), (0..10).filter(|row| *row != 4));
    let store = MemoryStore::with(&[("a.csv", AWS_FAILED.as_bytes())]);
    let failed = vec![in_bucket("a.csv", ReportFormat::Aws, AWS_FAILED)];
    let (_, found) =
        objects(store, ManifestSource::Retry { failed, unfinished: Some(rest) }, Filter::default()).unwrap();
    assert_eq!(keys(&found), ["k/4", "k/4"]);
}

#[test]
fn nothing_left_is_an_empty_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let rest = Some(first_job(folder.path(), 0..10));
    let (frozen, _) = objects(
        MemoryStore::default(),
        ManifestSource::Retry { failed: Vec::new(), unfinished: rest },
        Filter::default(),
    )
    .unwrap();
    assert_eq!((frozen.rows(), frozen.rows_read()), (0, 0));
}

#[test]
fn rejects_missing_or_damaged_inputs() {
    let refused = |store, failed, rest| {
        refusal(store, ManifestSource::Retry { failed, unfinished: rest }, Filter::default()).to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let rest = first_job(folder.path(), 0..6);
    fs::write(folder.path().join("manifest").join("part-00000.bpm"), b"junk").unwrap();
    assert!(refused(MemoryStore::default(), Vec::new(), Some(rest.clone())).contains("the index says"));
    fs::remove_dir_all(folder.path().join("manifest")).unwrap();
    assert!(refused(MemoryStore::default(), Vec::new(), Some(rest)).contains("was not frozen completely"));

    let failed = vec![in_bucket("a.csv", ReportFormat::Aws, AWS_FAILED)];
    let swapped = MemoryStore::with(&[("a.csv", b"b,k/5,,failed,403,AccessDenied,x\n")]);
    assert!(refused(swapped, failed.clone(), None).contains("its MD5 is"));
    assert!(refused(MemoryStore::default(), failed.clone(), None).contains("it does not exist"));
    let denied = MemoryStore::default();
    denied.faults.lock().unwrap().push_back(fault(FaultClass::Rejected, 403, "AccessDenied"));
    assert!(refused(denied, failed, None).starts_with("cannot read audit/a.csv: "));
    let gone = local(&folder.path().join("gone.csv"), ReportFormat::Oss, OSS_FAILED);
    assert!(refused(MemoryStore::default(), vec![gone], None).starts_with("cannot read "));
}

#[test]
fn the_format_is_the_first_jobs() {
    let store = MemoryStore::with(&[("a.csv", AWS_FAILED.as_bytes())]);
    let failed = vec![in_bucket("a.csv", ReportFormat::Oss, AWS_FAILED)];
    let text = refusal(store, ManifestSource::Retry { failed, unfinished: None }, Filter::default()).to_string();
    assert!(text.contains("row 1: expected 5 columns, found 7"), "{text}");
}

use std::path::Path;
use std::sync::Arc;

use batchplan_store::object::{BucketName, ObjectKey, TagSet};
use batchplan_store::task::TaskId;

use super::*;
use crate::captures::{CaptureWriter, FormerState, FormerValue};
use crate::manifest::testing::{MemoryStore, csv_source, freeze_in, keys, objects, refusal};
use crate::manifest::{FileLocation, Filter, ManifestSource, ReportRowFilter};

fn id(row: u32) -> TaskId {
    TaskId { part: row / 7, row: row % 7 }
}

fn former(value: &str) -> Arc<FormerState> {
    let tags: TagSet = [("t", value)].into_iter().collect();
    Arc::new(FormerState { tags: FormerValue::Known(tags), ..FormerState::default() })
}

/// Creates a job with the keys `k/0` to `k/9`, in parts of seven rows, with captures of these rows.
fn job(folder: &Path, rows: &[(u32, &str)]) -> UndoneJob {
    let names = (0..10).map(|row| format!("b,k/{row}\n")).collect::<Vec<_>>().concat();
    freeze_in(folder, MemoryStore::with(&[("m.csv", names.as_bytes())]), csv_source("m.csv"), Filter::default())
        .unwrap();
    let captures = folder.join("captures");
    let mut writer = CaptureWriter::open(&captures).unwrap();
    let group: Vec<_> =
        rows.iter().map(|(row, value)| Capture { row: id(*row), version: None, former: former(value) }).collect();
    writer.append(&group).unwrap();
    let changes =
        |former: &FormerState| former.tags.known().is_none_or(|tags| tags.iter().all(|(_, value)| value != "same"));
    UndoneJob { folder: folder.to_owned(), captures, report: None, changes: Arc::new(changes) }
}

#[test]
fn captured_and_changed_rows_are_passed_on_with_their_origins() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(folder.path(), &[(8, "x"), (2, "x"), (5, "same"), (2, "same"), (6, "y")]);
    let undo = tempfile::tempdir().unwrap();
    let frozen = freeze_in(undo.path(), MemoryStore::default(), ManifestSource::Undo(job), Filter::default()).unwrap();
    let tasks: Vec<_> = frozen.tasks(TaskId { part: 0, row: 0 }, 10).flat_map(Result::unwrap).collect();
    let found: Vec<_> = tasks.iter().map(|task| task.object.clone()).collect();
    assert_eq!(keys(&found), ["k/2", "k/6", "k/8"]);
    let origins: Vec<_> = tasks.iter().map(|task| task.origin.expect("an origin")).collect();
    assert_eq!(origins, [2, 6, 8].map(|row| RowOrigin { row: id(row), made_by: None }));
}

#[test]
fn captures_of_another_manifest_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(folder.path(), &[(3, "x"), (12, "x")]);
    let text = refusal(MemoryStore::default(), ManifestSource::Undo(job.clone()), Filter::default()).to_string();
    assert!(text.contains("it has captures of rows that the job's manifest does not have"), "{text}");
    std::fs::remove_dir_all(folder.path().join("manifest")).unwrap();
    let text = refusal(MemoryStore::default(), ManifestSource::Undo(job), Filter::default()).to_string();
    assert!(text.contains("the job's manifest no longer exists"), "{text}");
}

#[test]
fn the_rows_of_an_undo_keep_their_own_origins() {
    let folder = tempfile::tempdir().unwrap();
    let first = job(folder.path(), &[(2, "x"), (9, "y")]);
    let undo = tempfile::tempdir().unwrap();
    freeze_in(undo.path(), MemoryStore::default(), ManifestSource::Undo(first), Filter::default()).unwrap();
    let captures = undo.path().join("captures");
    let capture = Capture { row: TaskId { part: 0, row: 1 }, version: None, former: former("z") };
    CaptureWriter::open(&captures).unwrap().append(&[capture]).unwrap();
    let second = UndoneJob { folder: undo.path().to_owned(), captures, report: None, changes: Arc::new(|_| true) };
    let again = tempfile::tempdir().unwrap();
    let frozen =
        freeze_in(again.path(), MemoryStore::default(), ManifestSource::Undo(second), Filter::default()).unwrap();
    let task = frozen.tasks(TaskId { part: 0, row: 0 }, 10).next().unwrap().unwrap().pop().unwrap();
    assert_eq!(task.object.key.to_string(), "k/9");
    assert_eq!(task.origin, Some(RowOrigin { row: TaskId { part: 0, row: 1 }, made_by: Some(id(9)) }));
}

#[test]
fn a_report_narrows_an_undo_to_its_failed_rows() {
    let folder = tempfile::tempdir().unwrap();
    let report = "b,k/2,,failed,403,AccessDenied,no\nb,k/5,v,failed,403,AccessDenied,no\nb,k/8,,failed,,Drifted,no\n\
                  b,k/9,,succeeded,200,,Successful\nb,other,,failed,403,AccessDenied,no\n";
    let location = FileLocation::Object { bucket: BucketName::new("audit"), key: ObjectKey::from("r.csv"), etag: None };
    let all = job(folder.path(), &[(8, "x"), (9, "x"), (5, "x"), (2, "x")]);
    let narrowed = UndoneJob { report: Some((location, ReportRowFilter::default())), ..all };
    let store = MemoryStore::with(&[("r.csv", report.as_bytes())]);
    let (_, found) = objects(store, ManifestSource::Undo(narrowed), Filter::default()).unwrap();
    assert_eq!(keys(&found), ["k/2", "k/8"], "another version is another object");
}

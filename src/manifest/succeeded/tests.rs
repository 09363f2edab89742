use std::collections::BTreeSet;
use std::path::Path;

use batchplan_store::object::{BucketName, ObjectKey};
use proptest::prelude::*;

use super::*;
use crate::frontier::RowFrontier;
use crate::manifest::testing::{MemoryStore, csv_source, etag, freeze_in, keys, objects, refusal};
use crate::manifest::{FileLocation, Filter, ManifestSource};
use crate::report_format::ReportFormat;

/// Creates a job with the keys `k/0` to `k/9`, in parts of seven rows. The rows in `settled` have an outcome.
fn job(folder: &Path, settled: impl IntoIterator<Item = u32>) -> SettledRows {
    let rows = (0..10).map(|row| format!("b,k/{row}\n")).collect::<Vec<_>>().concat();
    freeze_in(folder, MemoryStore::with(&[("m.csv", rows.as_bytes())]), csv_source("m.csv"), Filter::default())
        .unwrap();
    let mut frontier = RowFrontier::default();
    settled.into_iter().for_each(|row| frontier.mark_settled(TaskId { part: row / 7, row: row % 7 }));
    SettledRows { folder: folder.to_owned(), frontier }
}

/// A report file with these failures, in the store.
fn failures(rows: &str) -> (Vec<FailedRowsFile>, MemoryStore) {
    let location = FileLocation::Object { bucket: BucketName::new("audit"), key: ObjectKey::from("f.csv"), etag: None };
    let file = FailedRowsFile { location, format: ReportFormat::Aws, md5: etag(rows.as_bytes()) };
    (vec![file], MemoryStore::with(&[("f.csv", rows.as_bytes())]))
}

#[test]
fn without_failures_all_rows_with_an_outcome_are_passed_on_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let source = ManifestSource::Succeeded { settled: job(folder.path(), [9, 0, 3, 7]), failed: Vec::new() };
    let (_, found) = objects(MemoryStore::default(), source, Filter::default()).unwrap();
    assert_eq!(keys(&found), ["k/0", "k/3", "k/7", "k/9"]);
}

#[test]
fn only_the_failed_version_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (failed, store) = failures("b,k/4,,failed,403,AccessDenied,no\nb,k/5,v1,failed,403,AccessDenied,no\n");
    let source = ManifestSource::Succeeded { settled: job(folder.path(), 3..8), failed };
    let (_, found) = objects(store, source, Filter::default()).unwrap();
    assert_eq!(keys(&found), ["k/3", "k/5", "k/6", "k/7"]);
}

#[test]
fn a_job_without_its_manifest_cannot_be_verified() {
    let folder = tempfile::tempdir().unwrap();
    let settled = job(folder.path(), 0..6);
    std::fs::remove_dir_all(folder.path().join("manifest")).unwrap();
    let source = ManifestSource::Succeeded { settled, failed: Vec::new() };
    let text = refusal(MemoryStore::default(), source, Filter::default()).to_string();
    assert!(text.contains("the job's manifest no longer exists"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn exactly_the_settled_rows_without_a_failure_remain(
        settled in prop::collection::btree_set(0_u32..10, 0..10), failed in prop::collection::btree_set(0_u32..10, 1..10),
    ) {
        let failed: BTreeSet<_> = failed.intersection(&settled).copied().collect();
        let folder = tempfile::tempdir().unwrap();
        let row = |row: &u32| format!("b,k/{row},,failed,500,InternalError,x\n");
        let rows = failed.iter().map(row).collect::<Vec<_>>().concat();
        let (files, store) = failures(&rows);
        let source = ManifestSource::Succeeded {
            settled: job(folder.path(), settled.iter().copied()),
            failed: if failed.is_empty() { Vec::new() } else { files },
        };
        let (_, found) = objects(store, source, Filter::default()).unwrap();
        let expected: Vec<_> = settled.difference(&failed).map(|row| format!("k/{row}")).collect();
        prop_assert_eq!(keys(&found), expected);
    }
}

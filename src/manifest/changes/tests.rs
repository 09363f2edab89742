use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use batchplan_store::Store;
use batchplan_store::task::FaultClass;
use proptest::prelude::*;

use super::*;
use crate::frontier::RowFrontier;
use crate::manifest::freeze::FreezeConfig;
use crate::manifest::freeze::freeze_with_config;
use crate::manifest::testing::{
    MemoryStore, add_inventory, csv_source, data_key, etag, fault, freeze_in, freeze_until, keys, objects, refusal,
};
use crate::manifest::{FailedRowsFile, FileLocation, FrozenManifest, Manifest, ManifestSource, UnfinishedRows};
use crate::report_format::ReportFormat;

const OLD: &str = "inv/2026-01-30T00-00Z/";
const NEW: &str = "inv/2026-01-31T00-00Z/";
const SCHEMA: &str = "Key, Size, LastModifiedDate, ETag";

/// Creates a store with both inventories, made of these files.
fn store(schemas: [&str; 2], old: &[&str], new: &[&str]) -> MemoryStore {
    let mut store = MemoryStore::default();
    for (folder, schema, files) in [(OLD, schemas[0], old), (NEW, schemas[1], new)] {
        let files: Vec<_> = files.iter().map(|text| text.as_bytes()).collect();
        add_inventory(&mut store, folder, "acs:oss:::dest", schema, &files);
    }
    store
}

fn changes(store: &MemoryStore) -> InventoryChanges {
    let pinned = |folder: &str| {
        let key = format!("{folder}manifest.json");
        let etag = etag(&store.objects[key.as_bytes()]);
        (ObjectKey::from(key.as_str()), etag)
    };
    let ((since_key, since_etag), (key, etag)) = (pinned(OLD), pinned(NEW));
    InventoryChanges {
        key,
        etag,
        since_key,
        since_etag,
        since_filter: Filter::default(),
        failed: Vec::new(),
        unfinished: None,
        unavailable: None,
    }
}

fn source(changes: InventoryChanges) -> ManifestSource {
    let object = InventorySelector::Changed(Box::new(changes));
    ManifestSource::Inventory { bucket: BucketName::new("dest"), selector: object, dialect: InventoryDialect::Oss }
}

fn taken(store: MemoryStore, changes: InventoryChanges) -> (Vec<String>, Vec<String>) {
    let (frozen, found) = objects(store, source(changes), Filter::default()).unwrap();
    (keys(&found), said(&frozen))
}

fn said(frozen: &FrozenManifest) -> Vec<String> {
    frozen.warnings().iter().map(|warning| warning.message.clone()).collect()
}

/// Creates a report file of an earlier job that records these failures.
fn report(folder: &Path, keys: &[&str]) -> FailedRowsFile {
    let text = keys.iter().fold(String::new(), |mut text, key| {
        let _ = writeln!(text, "src,{key},,503,x");
        text
    });
    let path = folder.join("failed.csv");
    fs::write(&path, &text).unwrap();
    FailedRowsFile { location: FileLocation::Local(path), format: ReportFormat::Oss, md5: etag(text.as_bytes()) }
}

#[test]
fn includes_only_new_or_changed_objects() {
    let old = ["same,1,2026-01-01T00:00:00Z,a\nsize,1,,b\n", "when,1,2026-01-01T00:00:00Z,c\netag,1,,d\ngone,1,,e\n"];
    let new = [
        "etag,1,,D2\nnew,1,,f\nnew,1,,f\n",
        "when,1,2026-01-01T00:00:01Z,c\nsize,2,,b\nsame,1,2026-01-01T00:00:00Z,A\n",
    ];
    let store = store([SCHEMA; 2], &old, &new);
    let changes = changes(&store);
    let (frozen, found) = objects(store, source(changes.clone()), Filter::default()).unwrap();
    assert_eq!(keys(&found), ["etag", "new", "size", "when"], "in the order of their names, each once");
    assert_eq!(said(&frozen), [""; 0]);
    assert_eq!((frozen.rows(), frozen.rows_read()), (4, 6));
    let SourcePin::Inventory { key, etag, .. } = frozen.pin() else { panic!("{:?}", frozen.pin()) };
    assert_eq!((key, etag), (&changes.key, &changes.etag));
}

#[test]
fn facts_of_one_inventory_are_not_compared() {
    let rows = ["a,1,,x\nb,2,,y\n"];
    let narrow = store(["Key, ETag", SCHEMA], &["a,x\nb,z\n"], &rows);
    let changes_of_it = changes(&narrow);
    let (found, said) = taken(narrow, changes_of_it);
    assert_eq!(found, ["b"]);
    assert!(said[0].contains("overwritten with the same content counts as unchanged"), "{said:?}");
    // Sizes alone prove nothing.
    let blind = store(["Key, Size", SCHEMA], &["a,1\nb,2\n"], &rows);
    let changes_of_it = changes(&blind);
    let (found, said) = taken(blind, changes_of_it);
    assert_eq!(found, ["a", "b"]);
    assert!(
        said[0].contains("changes cannot be detected: including the complete new inventory (2 objects)"),
        "{said:?}"
    );
}

#[test]
fn includes_failed_objects_that_are_still_listed() {
    let folder = tempfile::tempdir().unwrap();
    let rows = ["a,1,2026-01-01T00:00:00Z,x\nb,2,2026-01-01T00:00:00Z,y\nc,2,,y\n"];
    let store = || store([SCHEMA; 2], &rows, &rows);
    let failed = || vec![report(folder.path(), &["c", "gone"])];
    let (found, said) = taken(store(), InventoryChanges { failed: failed(), ..changes(&store()) });
    assert_eq!(found, ["c"]);
    assert!(said[0].starts_with("left out 1 object that failed last time"), "{said:?}");

    // Rows that were never attempted are included too.
    let first = "src,a\nsrc,b\n";
    freeze_in(folder.path(), MemoryStore::with(&[("m.csv", first.as_bytes())]), csv_source("m.csv"), Filter::default())
        .unwrap();
    let rest = Some(UnfinishedRows { folder: folder.path().to_owned(), frontier: RowFrontier::default() });
    let (found, _) = taken(store(), InventoryChanges { failed: failed(), unfinished: rest, ..changes(&store()) });
    assert_eq!(found, ["a", "b", "c"]);
}

#[test]
fn includes_all_objects_if_comparison_is_impossible() {
    let folder = tempfile::tempdir().unwrap();
    let rows = ["b,1,,x\na,2,,y\n", "b,1,,x\na,3,,z\n"];
    let good = || store([SCHEMA; 2], &rows, &rows);
    let whole = |store: MemoryStore, changes: InventoryChanges, why: &str| {
        let (found, said) = taken(store, changes);
        assert_eq!(found, ["a", "b"], "{why}");
        assert!(said[0].contains(why) && said[0].contains("the complete new inventory (2 objects)"), "{said:?}");
    };
    let known = changes(&good());

    let mut gone = good();
    gone.objects.remove(known.since_key.as_bytes());
    whole(gone, known.clone(), "404 NoSuchKey");

    let mut without_data = good();
    without_data.objects.remove(data_key(OLD, 0).as_bytes());
    whole(without_data, known.clone(), "it does not exist");

    let mut replaced = good();
    replaced.put(&format!("{OLD}manifest.json"), b"{}");
    whole(replaced, known.clone(), "has changed");

    let mut broken = good();
    broken.put(&data_key(OLD, 0), b"other");
    whole(broken, known.clone(), "manifest.json says");

    whole(good(), InventoryChanges { since_etag: String::new(), ..known.clone() }, "sent no ETag");

    let why = "job X is not known any more".to_owned();
    whole(good(), InventoryChanges { unavailable: Some(why.clone()), ..known.clone() }, &why);

    let failed = report(folder.path(), &["a"]);
    fs::write(folder.path().join("failed.csv"), "src,b,,503,x\n").unwrap();
    whole(good(), InventoryChanges { failed: vec![failed.clone()], ..known.clone() }, "its MD5 is");
    fs::remove_file(folder.path().join("failed.csv")).unwrap();
    whole(good(), InventoryChanges { failed: vec![failed], ..known }, "cannot read which objects failed last time");
}

#[test]
fn distinct_selector_includes_each_object_once() {
    let rows = ["b,1,,x\na,2,,y\nb,1,,x\n", "a,3,,z\nc,1,,x\n"];
    let store = store([SCHEMA; 2], &rows, &rows);
    let InventoryChanges { key, etag, .. } = changes(&store);
    let object = InventorySelector::Distinct { key: key.clone(), etag: etag.clone() };
    let source =
        ManifestSource::Inventory { bucket: BucketName::new("dest"), selector: object, dialect: InventoryDialect::Oss };
    let (frozen, found) = objects(store, source, Filter::default()).unwrap();
    assert_eq!(keys(&found), ["a", "b", "c"]);
    assert_eq!(said(&frozen), [""; 0]);
    assert_eq!((frozen.rows(), frozen.rows_read()), (3, 5));
    assert!(
        matches!(frozen.pin(), SourcePin::Inventory { key: pinned, etag: tag, .. } if (pinned, tag) == (&key, &etag))
    );
}

#[test]
fn temporary_failures_and_a_broken_new_inventory_are_errors() {
    let rows = ["a,1,,x\n"];
    let denied = store([SCHEMA; 2], &rows, &rows);
    let known = changes(&denied);
    denied.faults.lock().unwrap().push_back(fault(FaultClass::Rejected, 403, "AccessDenied"));
    let error = refusal(denied, source(known.clone()), Filter::default());
    assert!(error.to_string().contains("403 AccessDenied"), "{error}");

    let mut broken = store([SCHEMA; 2], &rows, &rows);
    broken.objects.remove(data_key(NEW, 0).as_bytes());
    let error = refusal(broken, source(known), Filter::default());
    assert!(error.to_string().contains("it does not exist"), "{error}");
}

#[test]
fn each_inventory_has_the_filter_of_its_time() {
    let schema = "Key, LastModifiedDate";
    let rows = ["young,2026-01-20T00:00:00Z\nold,2026-01-01T00:00:00Z\nyoungest,2026-01-29T00:00:00Z\n"];
    let before = |day: &str| Filter {
        modified_before: Some(format!("2026-01-{day}T00:00:00Z").parse().unwrap()),
        ..Filter::default()
    };
    let store = store([schema; 2], &rows, &rows);
    // An object that was too young for the earlier job is old enough now.
    let changes = InventoryChanges { since_filter: before("10"), ..changes(&store) };
    let (_, found) = objects(store, source(changes), before("25")).unwrap();
    assert_eq!(keys(&found), ["young"]);
}

#[test]
fn comparison_respects_max_disk_and_removes_its_files() {
    let rows: Vec<String> = (0..20)
        .map(|file| {
            (0..1000).fold(String::new(), |mut text, row| {
                let _ = writeln!(text, "{file}/{row},{row},,{}", etag(format!("{file}/{row}").as_bytes()));
                text
            })
        })
        .collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let store = Arc::new(store([SCHEMA; 2], &rows, &rows[1..]));
    let manifest = Manifest { source: source(changes(&store)), filter: Filter::default() };
    let store: Arc<dyn Store> = store;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let attempt = |max_disk: u64| {
        let folder = tempfile::tempdir().unwrap();
        let room = super::super::sort::SortBudget { bytes: 20_000, runs: 8 };
        let sizes = FreezeConfig { sort_budget: room, max_disk: Some(max_disk), ..FreezeConfig::default() };
        let stop = CancellationToken::new();
        let done = runtime.block_on(freeze_with_config(&manifest, &store, folder.path(), &|_| {}, &stop, sizes));
        let left: Vec<_> =
            fs::read_dir(folder.path().join("manifest")).unwrap().map(|it| it.unwrap().file_name()).collect();
        (done.map(|frozen| frozen.rows()), left)
    };
    let (refused, left) = attempt(100_000);
    let error = refused.unwrap_err();
    assert!(matches!(error, ManifestError::ComparisonTooLarge { limit: 100_000, .. }), "{error}");
    assert!(left.is_empty(), "{left:?}");
    let (done, left) = attempt(10_000_000);
    assert_eq!(done.unwrap(), 0);
    assert_eq!(left, ["index.json"], "what was sorted is gone");
}

#[test]
fn temporary_files_of_a_comparison_are_where_the_visitor_wants_them() {
    let folder = tempfile::tempdir().unwrap();
    let (store, progress) = (Arc::new(MemoryStore::default()), tokio::sync::watch::Sender::default());
    let intake = RowIntake::new(Filter::default(), store, progress, CancellationToken::new());
    let scratch = ScratchSpace { folder: Some(folder.path().to_owned()), ..ScratchSpace::default() };
    let visitor = ComparisonSorter::new(intake, scratch);
    let comparison = new_comparison(&visitor, Filter::default());
    assert_eq!(comparison.scratch().folder, Some(folder.path().to_owned()));
}

#[tokio::test]
async fn peek_finds_a_changed_object() {
    let store = store([SCHEMA; 2], &["a,1,,x\n"], &["a,1,,x\nb,2,,y\nc,3,,z\n"]);
    let manifest = Manifest { source: source(changes(&store)), filter: Filter::default() };
    let store: Arc<dyn Store> = Arc::new(store);
    let seen = manifest.peek(&store, 1, &CancellationToken::new()).await.unwrap();
    assert_eq!((keys(&seen.objects), seen.complete), (vec!["b".to_owned()], false));
}

#[test]
fn stop_leaves_no_manifest() {
    let rows = ["a,1,,x\n"];
    let store = Arc::new(store([SCHEMA; 2], &rows, &rows));
    let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let known = source(changes(&store));
    stop.cancel();
    let stopped = freeze_until(folder.path(), &store, known.clone(), Filter::default(), &stop);
    assert!(matches!(stopped, Err(ManifestError::Stopped)));
    assert_eq!(FrozenManifest::open(folder.path()).unwrap(), None);
    let done = freeze_until(folder.path(), &store, known, Filter::default(), &CancellationToken::new()).unwrap();
    assert_eq!(done.rows(), 0);
}

/// A row of the model: key, version, size, last-modified date and `ETag`.
type ModelRow = (u8, u8, Option<u8>, Option<u8>, Option<u8>);

/// Whether the inventory has the columns `VersionId`, `Size`, `LastModifiedDate` and `ETag`.
type ModelSchema = [bool; 4];

fn schema_text(schema: ModelSchema) -> String {
    let names = ["VersionId", "Size", "LastModifiedDate", "ETag"];
    let there = names.iter().zip(schema).filter(|(_, there)| *there).map(|(name, _)| *name);
    std::iter::once("Key").chain(there).collect::<Vec<_>>().join(",")
}

fn row_text((key, version, size, modified, etag): ModelRow, schema: ModelSchema) -> String {
    let cells = [
        format!("v{version}"),
        size.map_or_else(String::new, |size| size.to_string()),
        modified.map_or_else(String::new, |second| format!("2026-01-01T00:00:0{second}Z")),
        etag.map_or_else(String::new, |etag| format!("e{etag}")),
    ];
    let there = cells.into_iter().zip(schema).filter(|(_, there)| *there).map(|(cell, _)| cell);
    std::iter::once(format!("k{key}")).chain(there).collect::<Vec<_>>().join(",") + "\n"
}

/// The objects of the new inventory that must be included, following the documentation word for word.
fn model(old: &[ModelRow], new: &[ModelRow], schemas: [ModelSchema; 2], failed: &BTreeSet<u8>) -> BTreeSet<(u8, u8)> {
    let name = |row: &ModelRow, schema: ModelSchema| (row.0, if schema[0] { row.1 } else { u8::MAX });
    let fact =
        |row: &ModelRow, which: usize, schema: ModelSchema| [row.2, row.3, row.4][which].filter(|_| schema[which + 1]);
    let told = |rows: &[ModelRow], which: usize, schema: ModelSchema| {
        rows.iter().any(|row| fact(row, which, schema).is_some())
    };
    let compared: Vec<usize> =
        (0..3).filter(|which| told(old, *which, schemas[0]) && told(new, *which, schemas[1])).collect();
    let unchanged = |row: &ModelRow| {
        old.iter().filter(|before| name(before, schemas[0]) == name(row, schemas[1])).any(|before| {
            let alike = |which: &usize| fact(before, *which, schemas[0]) == fact(row, *which, schemas[1]);
            let speaks = |which: usize| compared.contains(&which) && fact(row, which, schemas[1]).is_some();
            compared.iter().all(alike) && (speaks(1) || speaks(2))
        })
    };
    let named = |row: &ModelRow| name(row, schemas[1]);
    let changed = new.iter().filter(|row| !unchanged(row)).map(named);
    // The reports in these tests name no versions.
    let again = new.iter().filter(|row| !schemas[1][0] && failed.contains(&row.0)).map(named);
    changed.chain(again).collect()
}

fn any_row() -> impl Strategy<Value = ModelRow> {
    let fact = || proptest::option::weighted(0.8, 0..2_u8);
    (0..12_u8, 0..2_u8, fact(), fact(), fact())
}

fn any_inventory() -> impl Strategy<Value = (ModelSchema, Vec<ModelRow>)> {
    let column = || proptest::bool::weighted(0.8);
    (
        (proptest::bool::weighted(0.2), column(), column(), column()).prop_map(|(a, b, c, d)| [a, b, c, d]),
        proptest::collection::vec(any_row(), 0..40),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn included_objects_match_the_model(
        (old_schema, old) in any_inventory(), (new_schema, new) in any_inventory(),
        failed in proptest::collection::btree_set(0..12_u8, 0..3), cut in 0..40_usize,
        larger_than in proptest::option::of(Just(0_u64)),
    ) {
        let folder = tempfile::tempdir().unwrap();
        // A filter needs its column, and a value in each row.
        let larger_than = larger_than.filter(|_| [(&old, old_schema), (&new, new_schema)].iter()
            .all(|(rows, schema)| schema[1] && rows.iter().all(|row| row.2.is_some())));
        let texts = |rows: &[ModelRow], schema: ModelSchema| {
            let text = |rows: &[ModelRow]| rows.iter().map(|row| row_text(*row, schema)).collect::<String>();
            let (one, other) = rows.split_at(cut.min(rows.len()));
            [text(one), text(other)]
        };
        let (old_text, new_text) = (texts(&old, old_schema), texts(&new, new_schema));
        let (old_columns, new_columns) = (schema_text(old_schema), schema_text(new_schema));
        let (old_text, new_text) = (old_text.each_ref().map(String::as_str), new_text.each_ref().map(String::as_str));
        let store = store([&old_columns, &new_columns], &old_text, &new_text);
        let failed_keys: Vec<String> = failed.iter().map(|key| format!("k{key}")).collect();
        let failed_keys: Vec<&str> = failed_keys.iter().map(String::as_str).collect();
        let filter = Filter { larger_than, ..Filter::default() };
        let failed_files = if failed.is_empty() { Vec::new() } else { vec![report(folder.path(), &failed_keys)] };
        let changes = InventoryChanges { since_filter: filter.clone(), failed: failed_files, ..changes(&store) };
        let passes = |rows: Vec<ModelRow>| -> Vec<ModelRow> {
            rows.into_iter().filter(|row| larger_than.is_none() || row.2.is_some_and(|size| size > 0)).collect()
        };
        let expected = model(&passes(old), &passes(new), [old_schema, new_schema], &failed);
        let (_, found) = objects(store, source(changes), filter).unwrap();
        let found: Vec<(u8, u8)> = found.iter().map(|object| {
            let number = |text: &str| text[1..].parse().unwrap();
            let version = object.version.as_ref().map_or(u8::MAX, |version| number(version.as_str()));
            (number(&object.key.to_string()), version)
        }).collect();
        prop_assert_eq!(found.len(), found.iter().collect::<BTreeSet<_>>().len(), "each once");
        prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

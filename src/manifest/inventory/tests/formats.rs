//! Checks that Parquet, ORC and CSV files with the same rows give the same manifest.

#[path = "../../../../tests/support/inventory.rs"]
mod written;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use batchplan_store::Store;
use batchplan_store::object::{ObjectId, ObjectKey, StorageClass};
use batchplan_store::task::TaskId;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::{manifest_key, source};
use crate::manifest::freeze::FreezeConfig;
use crate::manifest::freeze::{freeze_and_sample, freeze_with_config};
use crate::manifest::part::PartLimits;
use crate::manifest::sources::FirstObjects;
use crate::manifest::spec::InventorySelector;
use crate::manifest::testing::{MemoryStore, etag, freeze_in, freeze_until, keys, objects, refusal};
use crate::manifest::{
    Filter, FreezeLimits, FrozenManifest, Manifest, ManifestError, ManifestSource, SampleOptions, SourceMetadata,
    StorageClassStats,
};
use written::{Format, Layout, Row, write};

const LAYOUT: Layout<'_> = Layout {
    format: Format::Parquet,
    source: "src",
    destination: "dest",
    prefix: "inv/b/daily/",
    date: "2026-01-31T00-00Z",
    versions: true,
    files: 3,
};

fn stored(layout: Layout<'_>, rows: &[Row]) -> MemoryStore {
    let mut store = MemoryStore::default();
    let inventory = write(layout, rows.iter().cloned());
    assert_eq!(inventory.manifest, manifest_key());
    for (key, content) in inventory.objects {
        store.put(&key, &content);
    }
    store
}

fn exact() -> ManifestSource {
    source(InventorySelector::Exact { key: ObjectKey::from(manifest_key().as_str()), etag: None })
}

fn row(key: &str) -> Row {
    Row { bucket: "src".to_owned(), key: key.into(), is_latest: true, ..Row::default() }
}

/// Replaces the content of a data file, and updates its MD5 and size in `manifest.json`.
fn replace(store: &mut MemoryStore, number: usize, content: &[u8]) {
    let is_ours = |key: &&Vec<u8>| String::from_utf8_lossy(key).contains(&format!("Z-{number}."));
    let key = store.objects.keys().find(is_ours).unwrap().clone();
    let before = store.objects.insert(key, content.to_vec()).unwrap();
    let json = String::from_utf8(store.objects[manifest_key().as_bytes()].clone()).unwrap();
    let entry = |content: &[u8]| format!(r#""size":{},"MD5checksum":"{}""#, content.len(), etag(content));
    assert!(json.contains(&entry(&before)));
    store.put(&manifest_key(), json.replace(&entry(&before), &entry(content)).as_bytes());
}

fn data(store: &MemoryStore, number: usize) -> Vec<u8> {
    let is_ours = |key: &&Vec<u8>| String::from_utf8_lossy(key).contains(&format!("Z-{number}."));
    store.objects[store.objects.keys().find(is_ours).unwrap()].clone()
}

fn swapped(content: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let (mut content, mut found) = (content.to_vec(), 0);
    for at in 0..content.len().saturating_sub(from.len() - 1) {
        if content[at..].starts_with(from.as_bytes()) {
            content[at..at + from.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0);
    content
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let key = prop_oneof![
        "[a-z/+% é\"',]{1,12}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 1..8).prop_filter("a key that the store carries", |key| key != b"."),
    ];
    let class = prop::option::of(prop::sample::select(vec!["STANDARD", "GLACIER", "DEEP_ARCHIVE"]));
    let facts = (prop::option::of(0_u64..1 << 45), prop::option::of(0_i64..2_000_000_000_000), class);
    let row = (key, prop::option::of("[a-zA-Z0-9._-]{1,32}"), any::<bool>(), any::<bool>(), facts);
    let row = row.prop_map(|(key, version_id, is_latest, is_delete_marker, (size, last_modified, class))| Row {
        bucket: "src".to_owned(),
        etag: size.map(|size| format!("{size:032x}")),
        key,
        version_id,
        is_latest,
        is_delete_marker,
        size,
        last_modified,
        storage_class: class.map(str::to_owned),
    });
    prop::collection::vec(row, 1..60)
}

/// The objects, the rows read, the counts by storage class, the metadata of each object, and the digest.
type Come = (Vec<ObjectId>, u64, Option<StorageClassStats>, Vec<SourceMetadata>, String);

/// Returns everything in a manifest, including all metadata of its objects.
fn whole(store: MemoryStore, filter: Filter) -> Result<Come, String> {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let wish = SampleOptions { size: 1000, seed: 1, digest: Some([7; 16]), all_metadata: false };
    let manifest = Manifest { source: exact(), filter };
    let stop = CancellationToken::new();
    let frozen = freeze_and_sample(&manifest, &store, folder.path(), (FreezeLimits::default(), wish), &|_| {}, &stop);
    let (frozen, surveyed) = runtime.block_on(frozen).map_err(|error| error.to_string())?;
    let tasks = frozen.tasks(TaskId { part: 0, row: 0 }, 100).flat_map(|batch| batch.unwrap());
    let told = surveyed.sample.into_iter().map(|sampled| sampled.metadata).collect();
    let objects = tasks.map(|task| task.object).collect();
    Ok((objects, frozen.rows_read(), frozen.class_stats().cloned(), told, surveyed.digest.unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_same_rows_come_to_the_same_manifest_in_every_format(
        rows in rows(), versions in any::<bool>(), files in 1_usize..5, filtered in any::<bool>(),
    ) {
        let filter = Filter {
            larger_than: filtered.then_some(1 << 40),
            modified_before: filtered.then(|| "2020-01-01T00:00:00Z".parse().unwrap()),
            storage_class: filtered.then(|| vec![StorageClass::new("Glacier")]),
            ..Filter::default()
        };
        // A condition on a fact that a row does not have is an error in every format.
        let mut rows = rows;
        if filtered {
            rows.retain(|row| row.size.is_some() && row.last_modified.is_some() && row.storage_class.is_some());
            rows.push(Row { size: Some(1 << 41), last_modified: Some(5), storage_class: Some("GLACIER".to_owned()), ..row("k") });
        }
        let come_to = |format| whole(stored(Layout { format, versions, files, ..LAYOUT }, &rows), filter.clone());
        let csv = come_to(Format::AwsCsv).unwrap();
        let dealt = (0..files).flat_map(|file| rows.iter().skip(file).step_by(files));
        let taken = dealt.filter(|row| !versions || !row.is_delete_marker).filter(|row| {
            !filtered || (row.size > Some(1 << 40) && row.last_modified < Some(1_577_836_800_000)
                && row.storage_class.as_deref() == Some("GLACIER"))
        });
        let names: Vec<_> = taken.map(|row| row.key.clone()).collect();
        prop_assert_eq!(csv.0.iter().map(|object| object.key.as_bytes().to_vec()).collect::<Vec<_>>(), names);
        for format in Format::ALL {
            let found = come_to(format);
            prop_assert_eq!(found.as_ref(), Ok(&csv), "{:?}", format);
        }
    }
}

#[test]
fn keys_arrive_exactly_as_they_are() {
    for format in [Format::Parquet, Format::Orc] {
        let names = ["a+b", "a%20b", "%zz", "with \"quotes\",\n", "é", "Key"];
        let rows: Vec<Row> = names.map(row).into();
        let (frozen, found) =
            objects(stored(Layout { format, files: 1, ..LAYOUT }, &rows), exact(), Filter::default()).unwrap();
        let found_names: Vec<_> = found.iter().map(|object| object.key.as_bytes()).collect();
        assert_eq!(found_names, names.map(str::as_bytes), "{format:?}");
        assert_eq!(frozen.warnings(), []);
        assert!(found.iter().all(|object| object.version.as_ref().unwrap().as_str() == "null"));
    }
}

#[test]
fn bad_rows_are_reported_by_number() {
    let mut rows = vec![row("k1"), row(""), row(&"k".repeat(1025)), row("k4")];
    rows[3].bucket = "../b".to_owned();
    for format in [Format::Parquet, Format::Orc] {
        let error =
            refusal(stored(Layout { format, files: 1, ..LAYOUT }, &rows), exact(), Filter::default()).to_string();
        assert!(
            error.contains(" has 3 bad rows\n  row 2: the key is empty\n  row 3: the key has 1025 bytes"),
            "{error}"
        );
        assert!(
            error.contains("\n  row 4: `../b` is a URL, an ARN or a path: write only the bucket's name"),
            "{error}"
        );
    }
}

#[test]
fn rejects_rows_without_a_fact_that_the_filter_needs() {
    let filter = || Filter { larger_than: Some(1), ..Filter::default() };
    let rows = [Row { size: Some(2), ..row("k1") }, row("k2")];
    for format in [Format::Parquet, Format::Orc] {
        let layout = Layout { format, files: 1, ..LAYOUT };
        let error = refusal(stored(layout, &rows), exact(), filter()).to_string();
        assert!(
            error.contains("row 2: the filter's `larger_than` needs the object's size, but k2 has none"),
            "{error}"
        );
        if format == Format::Parquet {
            let mut store = stored(layout, &rows);
            let content = swapped(&data(&store, 0), "size", "sise");
            replace(&mut store, 0, &content);
            let error = refusal(store, exact(), filter());
            assert!(error.to_string().contains("no column Size (it has bucket, key, version_id, "), "{error}");
        }
    }
}

#[test]
fn rejects_unusable_columns() {
    let layout = Layout { files: 1, ..LAYOUT };
    let changed = |changes: &[(&str, &str)]| {
        let mut store = stored(layout, &[Row { size: Some(1), ..row("k1") }]);
        let content = changes.iter().fold(data(&store, 0), |content, (from, to)| swapped(&content, from, to));
        replace(&mut store, 0, &content);
        store
    };
    let refused = |changes: &[(&str, &str)]| refusal(changed(changes), exact(), Filter::default()).to_string();
    let place = "dest/inv/b/daily/data/2026-01-31T00-00Z-0.parquet: ";
    assert_eq!(refused(&[("bucket", "bukket")]), format!("{place}it has no Bucket column"));
    assert_eq!(refused(&[("key", "kex")]), format!("{place}it has no Key column"));
    assert_eq!(refused(&[("size", "ke_y")]), format!("{place}it has Key twice"));
    let why = "column ke_y cannot be used: it holds integers, but must hold strings";
    assert_eq!(refused(&[("key", "kex"), ("size", "ke_y")]), format!("{place}{why}"));
    // A column that is only passed on is ignored.
    let (_, found) = objects(changed(&[("size", "si_e"), ("e_tag", "si_ze")]), exact(), Filter::default()).unwrap();
    assert_eq!(keys(&found), ["k1"]);
}

#[test]
fn rejects_changed_or_missing_data_files_unread() {
    for format in [Format::Parquet, Format::Orc] {
        let layout = Layout { format, files: 2, ..LAYOUT };
        let mut store = stored(layout, &[row("k1"), row("k2")]);
        let key = store.objects.keys().find(|key| String::from_utf8_lossy(key).contains("Z-1.")).unwrap().clone();
        store.objects.get_mut(&key).unwrap()[9] ^= 1;
        let error = refusal(store, exact(), Filter::default()).to_string();
        assert!(error.contains("its MD5 is ") && error.contains("but manifest.json says "), "{error}");
        let mut store = stored(layout, &[row("k1"), row("k2")]);
        store.objects.remove(&key);
        assert!(refusal(store, exact(), Filter::default()).to_string().ends_with("but it does not exist"));
    }
}

#[test]
fn names_damaged_files_with_a_matching_md5() {
    for format in [Format::Parquet, Format::Orc] {
        let rows: Vec<Row> = (0..300).map(|number| row(&format!("k{number}"))).collect();
        let layout = Layout { format, files: 2, ..LAYOUT };
        let content = data(&stored(layout, &rows), 1);
        for end in (0..content.len()).step_by(97) {
            let mut store = stored(layout, &rows);
            replace(&mut store, 1, &content[..end]);
            let error = refusal(store, exact(), Filter::default());
            let place = "dest/inv/b/daily/data/2026-01-31T00-00Z-1.";
            assert!(error.to_string().starts_with(place), "{error}");
            assert!(matches!(error, ManifestError::Malformed { .. }), "{error}");
        }
    }
}

/// Flips bits in files whose MD5 is right. Reading them must end with a result or an error.
#[test]
fn flipped_bits_end_in_an_answer() {
    let mut dice = fastrand::Rng::with_seed(97);
    for format in [Format::Parquet, Format::Orc] {
        let rows: Vec<Row> = (0..50).map(|number| Row { size: Some(number), ..row(&format!("k{number}")) }).collect();
        let layout = Layout { format, files: 1, ..LAYOUT };
        let content = data(&stored(layout, &rows), 0);
        let mut refused = 0;
        for _ in 0..200 {
            let mut torn = content.clone();
            let at = dice.usize(0..torn.len());
            torn[at] ^= 1 << dice.u32(0..8);
            let mut store = stored(layout, &rows);
            replace(&mut store, 0, &torn);
            let limits = FreezeConfig { max_objects: Some(10_000), ..FreezeConfig::default() };
            refused += u32::from(frozen_within(store, limits).is_err());
        }
        assert!(refused > 20, "{format:?}: {refused}");
    }
}

fn frozen_within(store: MemoryStore, sizes: FreezeConfig) -> Result<FrozenManifest, ManifestError> {
    let folder = tempfile::tempdir().unwrap();
    frozen_in(folder.path(), &Arc::new(store), sizes)
}

fn frozen_in(folder: &Path, store: &Arc<MemoryStore>, sizes: FreezeConfig) -> Result<FrozenManifest, ManifestError> {
    let store: Arc<dyn Store> = store.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let manifest = Manifest { source: exact(), filter: Filter::default() };
    runtime.block_on(freeze_with_config(&manifest, &store, folder, &|_| {}, &CancellationToken::new(), sizes))
}

#[test]
fn data_file_counts_against_max_disk() {
    let rows: Vec<Row> = (0..2000).map(|number| row(&format!("k{number:x}"))).collect();
    let store = Arc::new(stored(Layout { versions: false, ..LAYOUT }, &rows));
    let sizes: Vec<u64> = (0..3).map(|number| data(&store, number).len() as u64).collect();
    let folder = tempfile::tempdir().unwrap();
    let limits = PartLimits::new(10, 1000);
    let tight = |limit| FreezeConfig { max_disk: Some(limit), part_limits: limits, ..FreezeConfig::default() };
    let error = frozen_in(folder.path(), &store, tight(sizes.iter().sum::<u64>() - 1)).unwrap_err();
    assert!(matches!(error, ManifestError::ProbablyTooLarge { .. }), "{error}");

    // With a filter, the size cannot be estimated in advance.
    let filter = Filter { exclude: crate::manifest::KeyGlobs::new([]).ok(), ..Filter::default() };
    let manifest = Manifest { source: exact(), filter };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dynamic: Arc<dyn Store> = store.clone();
    let freeze = |limit| {
        let stop = CancellationToken::new();
        runtime.block_on(async {
            freeze_with_config(&manifest, &dynamic, folder.path(), &|_| {}, &stop, tight(limit)).await
        })
    };
    let error = freeze(sizes[0] - 1).unwrap_err();
    assert!(
        matches!(error, ManifestError::NoRoomForDataFile { size, used: 0, .. } if size == sizes[0])
            && error.is_retryable(),
        "{error}"
    );
    let error = freeze(sizes[0] + 100).unwrap_err();
    assert!(error.to_string().contains("-0.parquet would exceed max_disk"), "{error}");
    let roomy = freeze(sizes.iter().sum::<u64>() + (1 << 20)).unwrap();
    assert_eq!(roomy.rows(), 2000);
    let left = fs::read_dir(folder.path().join("manifest")).unwrap();
    let names: Vec<String> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.iter().filter(|name| *name != "index.json" && !name.contains(".bpm")).count(), 0, "{names:?}");
}

#[test]
fn interrupted_freeze_resumes_after_its_last_file() {
    for format in [Format::Parquet, Format::Orc] {
        let rows: Vec<Row> = (0..30).map(|number| row(&format!("k{number:02}"))).collect();
        let layout = Layout { format, files: 5, ..LAYOUT };
        let (folder, stop, seen) = (tempfile::tempdir().unwrap(), CancellationToken::new(), Arc::default());
        let mut store = stored(layout, &rows);
        let (token, counted): (_, Arc<std::sync::atomic::AtomicU32>) = (stop.clone(), Arc::clone(&seen));
        store.on_row = Some(Box::new(move || {
            // Cancel in the third file, which is still read to its end and kept.
            if counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 14 {
                token.cancel();
            }
        }));
        let stopped = freeze_until(folder.path(), &Arc::new(store), exact(), Filter::default(), &stop);
        assert!(matches!(stopped, Err(ManifestError::Stopped)), "{stopped:?}");

        let store = Arc::new(stored(layout, &rows));
        let frozen =
            freeze_until(folder.path(), &store, exact(), Filter::default(), &CancellationToken::new()).unwrap();
        let requests = store.requests.lock().unwrap().join("\n");
        let asked: Vec<bool> = (0..5).map(|number| requests.contains(&format!("Z-{number}."))).collect();
        assert_eq!(asked, [false, false, false, true, true], "{requests}");
        let at_once = tempfile::tempdir().unwrap();
        let whole = freeze_in(at_once.path(), stored(layout, &rows), exact(), Filter::default()).unwrap();
        let names = |frozen: &FrozenManifest| {
            let tasks = frozen.tasks(TaskId { part: 0, row: 0 }, 7).flat_map(|batch| batch.unwrap());
            tasks.map(|task| (task.id, task.object)).collect::<Vec<_>>()
        };
        assert_eq!(names(&frozen), names(&whole), "{format:?}");
        assert_eq!((frozen.rows(), frozen.rows_read()), (30, 30));
    }
}

#[tokio::test]
async fn peek_fetches_the_smallest_file_and_keeps_nothing() {
    for format in [Format::Parquet, Format::Orc] {
        let mut rows: Vec<Row> = (0..1000).map(|number| row(&format!("long/{number:064}"))).collect();
        rows.truncate(3);
        rows[0].is_delete_marker = true;
        let mut store = stored(Layout { format, files: 2, ..LAYOUT }, &rows);
        let large = data(&stored(Layout { format, files: 1, ..LAYOUT }, &vec![row("other"); 200_000]), 0);
        replace(&mut store, 1, &large);
        let store = Arc::new(store);
        let reading: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
        let manifest = Manifest { source: exact(), filter: Filter::default() };
        let seen = manifest.peek(&reading, 1, &CancellationToken::new()).await.unwrap();
        let FirstObjects { objects, rows_read: 2, complete: false } = seen else { panic!("{seen:?}") };
        assert!(objects[0].key.to_string().ends_with("02"), "{objects:?}");
        let requests = store.requests.lock().unwrap().join("\n");
        assert!(requests.contains("Z-0.") && !requests.contains("Z-1."), "{requests}");
    }
}

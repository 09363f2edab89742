//! Listings by several workers, from the first request to the frozen manifest.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use batchplan_store::Store;
use batchplan_store::task::TaskId;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::manifest::freeze::FreezeCheckpointPolicy;
use crate::manifest::freeze::FreezeConfig;
use crate::manifest::freeze::freeze_with_config;
use crate::manifest::frozen::{self, FrozenManifest};
use crate::manifest::part::PartLimits;
use crate::manifest::row_visitor::FreezeProgress;
use crate::manifest::sort::SortBudget;
use crate::manifest::spec::Manifest;
use crate::manifest::testing::{SINGLE_WORKER, StartAfterSupport};

pub(super) const EAGER: ListingConcurrency = ListingConcurrency::new(4, 1, 0);

pub(super) fn sizes(spread: ListingConcurrency) -> FreezeConfig {
    let limits = PartLimits::new(3, 7);
    FreezeConfig {
        part_limits: limits,
        checkpoint_policy: FreezeCheckpointPolicy::new(2, 1000),
        listing: spread,
        sort_budget: SortBudget { bytes: 256, runs: 3 },
        max_disk: None,
        max_objects: None,
    }
}

fn freeze(
    folder: &Path,
    store: &Arc<MemoryStore>,
    versions: ListedVersions,
    sizes: FreezeConfig,
    observer: &(dyn Fn(FreezeProgress) + Send + Sync),
    stop: &CancellationToken,
) -> Result<FrozenManifest, ManifestError> {
    let store: Arc<dyn Store> = store.clone();
    let manifest = Manifest { source: source("p/", versions), filter: Filter::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(freeze_with_config(&manifest, &store, folder, observer, stop, sizes))
}

fn listed_by(folder: &Path, store: &Arc<MemoryStore>, spread: ListingConcurrency) -> FrozenManifest {
    freeze(folder, store, ListedVersions::Current, sizes(spread), &|_| {}, &CancellationToken::new()).unwrap()
}

fn names(frozen: &FrozenManifest) -> Vec<String> {
    let tasks = frozen.tasks(TaskId { part: 0, row: 0 }, 100).flat_map(|batch| batch.unwrap());
    tasks.map(|task| task.object.key.to_string()).collect()
}

fn hundred() -> MemoryStore {
    let mut store = MemoryStore { page: 3, ..MemoryStore::default() };
    (0..100).for_each(|number| store.put(&format!("p/{number:02}"), b""));
    store
}

fn expected() -> Vec<String> {
    (0..100).map(|number| format!("p/{number:02}")).collect()
}

#[test]
fn several_ranges_make_one_manifest_in_order() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(hundred()));
    let frozen = listed_by(folder.path(), &store, EAGER);
    assert_eq!(names(&frozen), expected());
    let begun = store.requests.lock().unwrap().iter().filter(|request| request.contains("After")).count();
    assert!(begun > 2, "{begun} cuts");
    assert!(frozen.warnings().is_empty());
    assert_eq!(FrozenManifest::open(folder.path()).unwrap(), Some(frozen));
    let files = fs::read_dir(frozen::manifest_folder(folder.path())).unwrap().map(|it| it.unwrap().file_name());
    assert!(files.into_iter().all(|name| !name.to_str().unwrap().starts_with("lane")));
}

#[test]
fn server_without_start_after_is_listed_by_one_worker() {
    for (begins, why) in [
        (StartAfterSupport::Ignored, "it went backwards: p/00 after "),
        (StartAfterSupport::Rejected, "501 NotImplemented"),
    ] {
        let (folder, store) =
            (tempfile::tempdir().unwrap(), Arc::new(MemoryStore { start_after: begins, ..hundred() }));
        let frozen = listed_by(folder.path(), &store, EAGER);
        assert_eq!(names(&frozen), expected());
        let requests = store.requests.lock().unwrap();
        assert_eq!(requests.iter().filter(|request| request.contains("After")).count(), 1, "{requests:?}");
        let message = &frozen.warnings()[0].message;
        let told = format!("b/p/ is listed by one worker: the server cannot list from a given key: {why}");
        assert!(message.starts_with(&told), "{message}");
    }
}

#[test]
fn progress_counts_all_ranges() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(hundred()));
    let seen = std::sync::Mutex::new(Vec::new());
    let observer = |prepared: FreezeProgress| seen.lock().unwrap().push(prepared.rows_read);
    freeze(folder.path(), &store, ListedVersions::Current, sizes(EAGER), &observer, &CancellationToken::new()).unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.is_sorted() && seen.last() == Some(&100), "{seen:?}");
}

#[test]
fn max_disk_is_for_all_ranges_together() {
    let store = Arc::new(hundred());
    let folder = tempfile::tempdir().unwrap();
    let run = |limit| {
        let tight = FreezeConfig { max_disk: Some(limit), ..sizes(EAGER) };
        freeze(folder.path(), &store, ListedVersions::Current, tight, &|_| {}, &CancellationToken::new())
    };
    for limit in [300, 900, 1500] {
        let error = run(limit).unwrap_err();
        assert!(matches!(error, ManifestError::TooLarge { limit: told, .. } if told == limit), "{error}");
        let files = fs::read_dir(frozen::manifest_folder(folder.path())).unwrap().map(|it| it.unwrap());
        let parts = files.filter(|it| it.path().extension().is_some_and(|it| it == "bpm"));
        let there: u64 = parts.map(|it| it.metadata().unwrap().len()).sum();
        assert!(there <= limit, "{there} bytes, and {limit} are allowed");
    }
    assert_eq!(names(&run(100_000).unwrap()), expected());
}

#[test]
fn rejection_ends_all_workers_and_the_next_attempt_resumes() {
    let requests = |store: &MemoryStore| store.requests.lock().unwrap().len();
    // A listing has 34 pages, so an attempt succeeds only if those before it have left something listed.
    let (folder, allowed) = (tempfile::tempdir().unwrap(), 12);
    for _ in 0..1000 {
        let refusing = Arc::new(MemoryStore { refuses_from: allowed, ..hundred() });
        let stop = CancellationToken::new();
        let listed = freeze(folder.path(), &refusing, ListedVersions::Current, sizes(EAGER), &|_| {}, &stop);
        // One for each worker that was already running.
        assert!(requests(&refusing) < allowed + 4);
        match listed {
            Ok(frozen) => return assert_eq!(names(&frozen), expected()),
            Err(error) => assert!(error.to_string().contains("403 AccessDenied"), "{error}"),
        }
    }
    panic!("what was listed is listed again");
}

#[test]
fn stop_ends_all_workers_and_keeps_their_progress() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(hundred()));
    let stop = CancellationToken::new();
    let seldom = FreezeConfig { checkpoint_policy: FreezeCheckpointPolicy::new(100, 10_000), ..sizes(EAGER) };
    let stopping = Arc::new(MemoryStore {
        on_row: Some(Box::new({
            let (stop, rows) = (stop.clone(), AtomicUsize::new(0));
            move || {
                if rows.fetch_add(1, Ordering::Relaxed) == 50 {
                    stop.cancel();
                }
            }
        })),
        ..hundred()
    });
    let error = freeze(folder.path(), &stopping, ListedVersions::Current, seldom, &|_| {}, &stop).unwrap_err();
    assert!(matches!(error, ManifestError::Stopped), "{error}");
    let listed = stopping.requests.lock().unwrap().len();
    assert_eq!(names(&listed_by(folder.path(), &store, SINGLE_WORKER)), expected());
    let (rest, pages) = (store.requests.lock().unwrap().len(), 34);
    assert!(rest < pages, "{rest} requests behind {listed}");
}

#[test]
fn a_draft_of_an_earlier_form_is_left_alone() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(hundred()));
    let home = frozen::manifest_folder(folder.path());
    fs::create_dir_all(&home).unwrap();
    let draft = r#"{"crc32":0,"draft":{"version":1,"fingerprint":"x","read":0,"taken":0,"sealed":[],"open":null,
        "warnings":[],"reach":[],"mark":{"token":{"token":"t","last":null}}}}"#;
    fs::write(home.join("progress.json"), draft).unwrap();
    assert_eq!(names(&listed_by(folder.path(), &store, EAGER)), expected());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bucket_is_listed_as_one_worker_would(
        keys in proptest::collection::btree_set("[a-c0-3/é~]{1,6}", 1..80),
        ids in proptest::collection::btree_set("[0-9]{1,3}", 0..3),
        page in 1_usize..6,
        all in any::<bool>(),
        begins in prop_oneof![Just(StartAfterSupport::Supported), Just(StartAfterSupport::Ignored), Just(StartAfterSupport::Rejected)],
        (workers, pages_a_cut, least) in (2_u32..20, 1_u64..4, 0_u32..3),
    ) {
        let mut store = MemoryStore { page, versions: ids.iter().cloned().collect(), start_after: begins, ..MemoryStore::default() };
        for key in &keys {
            store.put(&format!("p/{key}"), b"");
        }
        let versions = if all { ListedVersions::All } else { ListedVersions::Current };
        let folder = tempfile::tempdir().unwrap();
        let spread = ListingConcurrency::new(workers, pages_a_cut, least);
        let frozen =
            freeze(folder.path(), &Arc::new(store), versions, sizes(spread), &|_| {}, &CancellationToken::new()).unwrap();
        let each = if all { ids.len().max(1) } else { 1 };
        let expected: Vec<_> = keys.iter().flat_map(|key| std::iter::repeat_n(format!("p/{key}"), each)).collect();
        prop_assert_eq!(names(&frozen), expected);
        prop_assert_eq!(frozen.rows_read(), frozen.rows());
    }
}

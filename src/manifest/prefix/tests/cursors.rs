//! Cursors that cannot be trusted, from the first request to the frozen manifest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use batchplan_store::Store;
use batchplan_store::object::VersionId;
use batchplan_store::task::TaskId;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::models::{Model, Row, Rule};
use super::spread::{EAGER, sizes};
use super::*;
use crate::manifest::Manifest;
use crate::manifest::freeze::freeze_with_config;
use crate::manifest::freeze_checkpoint::FreezeCheckpointStore;
use crate::manifest::frozen::{self, FrozenManifest};

/// An object in the manifest.
type Name = (ObjectKey, Option<String>);

fn manifest(versions: ListedVersions) -> Manifest {
    Manifest { source: source("p/", versions), filter: Filter::default() }
}

fn freeze(
    folder: &Path,
    model: Model,
    versions: ListedVersions,
    spread: ListingConcurrency,
) -> Result<FrozenManifest, ManifestError> {
    freeze_manifest(folder, model, &manifest(versions), spread)
}

pub(super) fn freeze_manifest(
    folder: &Path,
    model: Model,
    manifest: &Manifest,
    spread: ListingConcurrency,
) -> Result<FrozenManifest, ManifestError> {
    let store: Arc<dyn Store> = Arc::new(model);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let stop = CancellationToken::new();
    // The clock does not advance by itself while a thread consumes pages.
    let passing = async {
        loop {
            tokio::time::advance(Duration::from_millis(2)).await;
            tokio::task::yield_now().await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            frozen = freeze_with_config(manifest, &store, folder, &|_| {}, &stop, sizes(spread)) => frozen,
            () = passing => unreachable!("time has no end"),
        }
    })
}

fn names(frozen: &FrozenManifest) -> Vec<Name> {
    let tasks = frozen.tasks(TaskId { part: 0, row: 0 }, 1000).flat_map(|batch| batch.unwrap());
    tasks.map(|task| (task.object.key, task.object.version.map(|id| id.as_str().to_owned()))).collect()
}

fn objects_of(rows: &[Row], all: bool) -> Vec<Name> {
    let live = rows.iter().filter(|row| row.2);
    live.map(|(key, version, _)| (key.clone(), all.then(|| version.as_str().to_owned()))).collect()
}

/// A folder for each key, a common layout of applications.
fn folders(count: usize) -> Vec<Row> {
    (0..count).map(|n| (ObjectKey::from(format!("p/{n:04}/data.json").as_str()), VersionId::null(), true)).collect()
}

#[test]
fn a_cursor_beyond_the_last_key_of_a_page_leaves_nothing_out() {
    let rows = folders(400);
    let folder = tempfile::tempdir().unwrap();
    let model = Model::new(rows.clone(), 7, Rule::Minio);
    let frozen = freeze(folder.path(), model, ListedVersions::Current, EAGER).unwrap();
    assert!(frozen.warnings().is_empty(), "{:?}", frozen.warnings());
    assert_eq!(names(&frozen), objects_of(&rows, false));
}

/// The behaviour in the MinIO issue: two of five keys, and a token after the third.
#[test]
fn the_model_of_minio_skips_what_minio_skips() {
    let keys = ["aaa/aaa", "bbb/bbb", "ccc/ccc", "ddd/ddd", "eee/eee"];
    let rows = keys.iter().map(|key| (ObjectKey::from(*key), VersionId::null(), true)).collect();
    let model = Model::new(rows, 2, Rule::Minio);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let list = |from: Option<ListPosition>| {
        let request = batchplan_store::ListRequest {
            bucket: BucketName::new("b"),
            prefix: ObjectKey::from(""),
            all_versions: false,
            group_by_directory: false,
            from,
        };
        let page = runtime.block_on(model.list(&request)).unwrap();
        let keys: Vec<_> = page.entries.iter().map(|entry| entry.key.to_string()).collect();
        (keys.join(" "), page.next)
    };
    let token = |token: &str| Some(ListPosition::Token(token.to_owned()));
    let after = |key: &str| Some(ListPosition::After { key: ObjectKey::from(key), version: None });
    assert_eq!(list(after("111")), ("aaa/aaa bbb/bbb".to_owned(), token("ddd/")));
    assert_eq!(list(token("ddd/")), ("ddd/ddd eee/eee".to_owned(), None));
    // A listing from the beginning, and one that starts at an existing key, are complete.
    assert_eq!(list(None), ("aaa/aaa bbb/bbb".to_owned(), token("ccc/")));
    assert_eq!(list(token("ccc/")), ("ccc/ccc ddd/ddd".to_owned(), token("ddd/ddd")));
    assert_eq!(list(after("bbb/bbb")), ("ccc/ccc ddd/ddd".to_owned(), token("eee/")));
}

#[test]
fn a_server_that_fails_where_a_listing_is_to_begin_is_listed_by_one_worker() {
    for status in [400, 403, 404, 500, 501] {
        let (rows, folder) = (folders(60), tempfile::tempdir().unwrap());
        let model = Model::new(rows.clone(), 5, Rule::TokenOrRefusal(status));
        let frozen = freeze(folder.path(), model, ListedVersions::Current, EAGER).unwrap();
        assert_eq!(names(&frozen), objects_of(&rows, false), "{status}");
        let warning = &frozen.warnings()[0].message;
        assert!(warning.contains("listed by one worker") && warning.contains(&status.to_string()), "{warning}");
    }
}

#[test]
fn a_server_that_is_busy_where_a_listing_is_to_begin_is_asked_again() {
    let (rows, folder) = (folders(60), tempfile::tempdir().unwrap());
    let model = Model::new(rows.clone(), 5, Rule::TokenOrRefusal(503));
    let frozen = freeze(folder.path(), model, ListedVersions::Current, EAGER).unwrap();
    assert_eq!(names(&frozen), objects_of(&rows, false));
    assert!(frozen.warnings().is_empty(), "{:?}", frozen.warnings());
}

#[test]
fn tokens_that_lead_in_a_circle_end_the_listing() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::new(folders(60), 5, Rule::Circle(3));
    let error =
        freeze(folder.path(), model, ListedVersions::Current, crate::manifest::testing::SINGLE_WORKER).unwrap_err();
    assert!(error.to_string().contains("is inconsistent: its pages form a loop"), "{error}");
}

#[test]
fn a_version_that_is_listed_twice_is_refused() {
    let version = |id: &str| crate::manifest::testing::listed(b"p/1", 1, Some(id));
    let after = |id: &str| Some(ListPosition::After { key: ObjectKey::from("p/1"), version: Some(VersionId::new(id)) });
    let page = |ids: [&str; 2], next| ListPage { entries: ids.map(version).into(), next, ..ListPage::default() };
    let bad = pages(vec![page(["4", "3"], after("3")), page(["4", "3"], None)]);
    let error = refusal(bad, source("p/", ListedVersions::All), Filter::default()).to_string();
    assert!(error.contains("it lists version 4 of p/1 twice"), "{error}");
}

/// The version that ended a page is deleted before the next page is requested, and the server starts its key again.
#[test]
fn a_key_that_is_begun_again_is_not_taken_twice() {
    let page = |ids: &[&str], next: Option<&str>| ListPage {
        entries: ids.iter().map(|id| crate::manifest::testing::listed(b"p/1", 1, Some(id))).collect(),
        next: next.map(|id| ListPosition::After { key: ObjectKey::from("p/1"), version: Some(VersionId::new(id)) }),
        ..ListPage::default()
    };
    let again = pages(vec![page(&["4", "3"], Some("3")), page(&["4", "2"], Some("2")), page(&["1"], None)]);
    let (_, found) = super::objects(again, source("p/", ListedVersions::All), Filter::default()).unwrap();
    let ids: Vec<_> = found.iter().map(|object| object.version.as_ref().unwrap().as_str()).collect();
    assert_eq!(ids, ["4", "3", "2", "1"]);
    let ends = pages(vec![page(&["5", "4"], Some("4")), page(&["3", "2"], Some("2")), page(&["5"], None)]);
    let error = refusal(ends, source("p/", ListedVersions::All), Filter::default()).to_string();
    assert!(error.contains("it ends with versions of p/1 that it listed before"), "{error}");
}

#[test]
fn the_range_of_an_earlier_release_drops_the_token_that_it_kept() {
    let mark = |after: Option<&str>, last: Option<&str>, next: RangePosition| RangeCursor {
        partition: PartitionId(0),
        after: after.map(ObjectKey::from),
        until: None,
        last: last.map(ObjectKey::from),
        position: next,
    };
    let token = || RangePosition::ListFrom(Some(ListPosition::Token("t".to_owned())));
    let behind =
        |key: &str| RangePosition::ListFrom(Some(ListPosition::After { key: ObjectKey::from(key), version: None }));
    assert_eq!(ListingValidator::resume_position(&mark(Some("b"), Some("c"), token())), behind("c"));
    assert_eq!(ListingValidator::resume_position(&mark(Some("b"), None, token())), behind("b"));
    assert_eq!(ListingValidator::resume_position(&mark(None, Some("c"), token())), token());
    assert_eq!(
        ListingValidator::resume_position(&mark(Some("b"), Some("c"), RangePosition::Finished)),
        RangePosition::Finished
    );
}

/// The checkpoint of an earlier release, of a listing on MinIO: it has the server's token for each range, even if the
/// range started at an invented key, so that the token skips a key.
#[test]
fn a_listing_of_an_earlier_release_is_resumed_without_its_tokens() {
    let (rows, folder) = (folders(400), tempfile::tempdir().unwrap());
    let mut refusing = Model::new(rows.clone(), 7, Rule::Minio);
    refusing.refuses_from = 30;
    let error = freeze(folder.path(), refusing, ListedVersions::Current, EAGER).unwrap_err();
    assert!(error.to_string().contains("403 AccessDenied"), "{error}");
    let manifest = manifest(ListedVersions::Current);
    let keeper = FreezeCheckpointStore::new(&frozen::manifest_folder(folder.path()), &manifest).unwrap();
    let mut draft = keeper.load().unwrap().expect("a draft");
    let SourceCursor::Listing(ranges) = &mut draft.cursor else { panic!("a listing") };
    let mut tokens = 0;
    for range in ranges.iter_mut().filter(|range| range.after.is_some()) {
        let RangePosition::ListFrom(Some(ListPosition::After { key, version: None })) = &range.position else {
            continue;
        };
        let Some(at) = rows.iter().position(|row| row.0 == *key) else { continue };
        let Some((beyond, ..)) = rows.get(at + 2) else { continue };
        let token = beyond.to_string().replace("data.json", "");
        range.position = RangePosition::ListFrom(Some(ListPosition::Token(token)));
        tokens += 1;
    }
    assert!(tokens > 1, "{:?}", draft.cursor);
    keeper.save(&draft).unwrap();
    let frozen =
        freeze(folder.path(), Model::new(rows.clone(), 7, Rule::Minio), ListedVersions::Current, EAGER).unwrap();
    assert_eq!(names(&frozen), objects_of(&rows, false));
}

pub(super) fn rows_of(keys: &BTreeMap<String, (usize, Vec<bool>)>, all: bool) -> Vec<Row> {
    let ids = |versions: &usize| (0..if all { *versions } else { 1 }).rev();
    let of = |(key, (versions, live)): (&String, &(usize, Vec<bool>))| -> Vec<Row> {
        let row = |id: usize| (ObjectKey::from(format!("p/{key}").as_str()), VersionId::new(&id.to_string()), live[id]);
        ids(versions).map(row).collect()
    };
    keys.iter().flat_map(of).collect()
}

fn rules() -> impl Strategy<Value = Rule> {
    prop_oneof![
        1 => Just(Rule::Aws),
        4 => Just(Rule::Minio),
        2 => Just(Rule::TokenOnly),
        2 => prop_oneof![Just(400_u16), Just(500), Just(501), Just(503)].prop_map(Rule::TokenOrRefusal),
        1 => Just(Rule::StartOnly),
        2 => (1_usize..6).prop_map(Rule::Repeats),
        1 => Just(Rule::Loses),
        1 => Just(Rule::NamesNext),
        2 => Just(Rule::BeginsAgain),
        1 => (2_usize..6).prop_map(Rule::Circle),
    ]
}

/// `PROPTEST_CASES` sets the number of cases. Each case is a whole listing, so only a quarter of it is run.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.div_ceil(4), ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_object_is_listed_once_or_the_listing_ends_with_an_error(
        keys in proptest::collection::btree_map(
            "[a-c0-3]{1,2}(/[a-c0-3]{1,2}){0,2}|[a-c0-3/é~-]{1,5}",
            (1_usize..6, proptest::collection::vec(proptest::bool::weighted(0.8), 6)),
            1..70,
        ),
        rule in rules(),
        page in 1_usize..8,
        all in any::<bool>(),
        (workers, pages_a_cut, least) in (1_u32..20, 1_u64..4, 0_u32..3),
    ) {
        let rows = rows_of(&keys, all);
        let expected = objects_of(&rows, all);
        prop_assume!(!expected.is_empty());
        let folder = tempfile::tempdir().unwrap();
        let spread = ListingConcurrency::new(workers, pages_a_cut, least);
        let versions = if all { ListedVersions::All } else { ListedVersions::Current };
        match freeze(folder.path(), Model::new(rows, page, rule), versions, spread) {
            Ok(frozen) => prop_assert_eq!(names(&frozen), expected),
            Err(error) => {
                // No client can repair these faults; with every other server the listing is complete.
                let hopeless = matches!(rule, Rule::StartOnly | Rule::Repeats(_) | Rule::Circle(_));
                prop_assert!(hopeless, "{rule:?}: {error}");
                prop_assert!(matches!(error, ManifestError::InconsistentListing { .. }), "{error}");
                prop_assert!(error.help().is_some());
            }
        }
    }
}

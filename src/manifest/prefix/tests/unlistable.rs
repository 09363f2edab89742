//! Keys that no request can name: each is a row of its own, exactly once, however the listing is split or interrupted.

use std::collections::BTreeMap;

use batchplan_store::InexactName;
use batchplan_store::object::MAX_KEY_BYTES;
use batchplan_store::task::TaskId;
use globset::Glob;
use proptest::prelude::*;

use super::cursors::{freeze_manifest, rows_of};
use super::models::{Model, Row, Rule, UNWRITABLE, as_written};
use super::*;
use crate::manifest::frozen::FrozenManifest;
use crate::manifest::testing::{SINGLE_WORKER, freeze_in};
use crate::manifest::{Manifest, OnUnlistable};

/// A row of the manifest: key, version, and why it is unlistable.
type FrozenRow = (ObjectKey, Option<String>, Option<String>);

fn rows(frozen: &FrozenManifest) -> Vec<FrozenRow> {
    let tasks = frozen.tasks(TaskId { part: 0, row: 0 }, 100).flat_map(|batch| batch.unwrap());
    let version = |id: VersionId| id.as_str().to_owned();
    tasks.map(|task| (task.object.key, task.object.version.map(version), task.unlistable.map(String::from))).collect()
}

/// Freezes these pages with `on_unlistable = "report"`. Returns key and reason of each row.
fn reported(list: Vec<ListPage>, filter: Filter) -> Vec<(String, Option<String>)> {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with("", ListedVersions::Current, OnUnlistable::Report);
    let frozen = freeze_in(folder.path(), pages(list), source, filter).unwrap();
    rows(&frozen).into_iter().map(|(key, _, why)| (key.to_string(), why)).collect()
}

fn row(key: &str, why: Option<&str>) -> (String, Option<String>) {
    (key.to_owned(), why.map(str::to_owned))
}

/// A page with keys of every kind.
fn mixed() -> ListPage {
    let long = "m".repeat(MAX_KEY_BYTES + 1);
    let mut page = page(&["", ".", "a", &long, "x"], None);
    page.entries.insert(3, listed("k\u{fffd}".as_bytes(), 1, None));
    page.entries[3].inexact = Some(InexactName::ReplacedBytes);
    page.entries.insert(4, listed(b"l\xff", 1, None));
    page
}

#[test]
fn each_key_is_a_row_with_its_reason() {
    let long = "m".repeat(MAX_KEY_BYTES + 1);
    let expected = [
        row("", Some("the key is empty")),
        row(".", Some("a URL cannot say it")),
        row("a", None),
        row("k\u{fffd}", Some("the server replaced bytes of the key with U+FFFD")),
        row("l\\xff", None),
        row(&long, Some("the key has 1025 bytes (maximum 1024)")),
        row("x", None),
    ];
    assert_eq!(reported(vec![mixed()], Filter::default()), expected);
}

#[test]
fn by_default_the_listing_fails_and_names_them() {
    let error = refusal(pages(vec![mixed()]), source("", ListedVersions::Current), Filter::default()).to_string();
    let lines: Vec<_> = error.lines().map(|line| line.chars().take(40).collect::<String>()).collect();
    let expected = [
        "the listing of b/ has 4 keys that no req",
        "  entry 1: \"\": the key is empty",
        "  entry 2: \".\": a URL cannot say it",
        "  entry 4: \"k\u{fffd}\": the server replaced byt",
        "  entry 6: \"mmmmmmmmmmmmmmmmmmmmmmmmmmmm",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_filter_excludes_them_but_not_by_a_key_that_is_not_exact() {
    let only = KeyGlobs::new([Glob::new("[ax]").unwrap()]).ok();
    let kept = reported(vec![mixed()], Filter { include: only, ..Filter::default() });
    let replaced = Some("the server replaced bytes of the key with U+FFFD");
    assert_eq!(kept, [row("a", None), row("k\u{fffd}", replaced), row("x", None)]);
    let large = Filter { larger_than: Some(1), ..Filter::default() };
    assert_eq!(reported(vec![mixed()], large), []);
}

#[test]
fn a_size_that_is_missing_matters_only_to_a_filter_for_it() {
    let mut without_sizes = mixed();
    for entry in &mut without_sizes.entries {
        entry.size = None;
    }
    let only = |glob: &str| KeyGlobs::new([Glob::new(glob).unwrap()]).ok();
    let kept = reported(vec![without_sizes.clone()], Filter { include: only("a"), ..Filter::default() });
    let replaced = Some("the server replaced bytes of the key with U+FFFD");
    assert_eq!(kept, [row("a", None), row("k\u{fffd}", replaced)]);
    // The key that is not exact may be one that the filter includes.
    let filter = Filter { larger_than: Some(0), include: only("none"), ..Filter::default() };
    let source = source_with("", ListedVersions::Current, OnUnlistable::Report);
    let error = refusal(pages(vec![without_sizes]), source, filter).to_string();
    assert!(error.contains("`larger_than`") && error.ends_with("has none for k\u{fffd}"), "{error}");
}

#[test]
fn a_version_that_no_request_can_name_is_a_row_about_a_version() {
    let folder = tempfile::tempdir().unwrap();
    let long = "v".repeat(2000);
    let entries = vec![listed(b"k", 1, Some("1\0")), listed(b"k", 1, Some(&long)), listed(b"k", 1, Some("3"))];
    let source = source_with("", ListedVersions::All, OnUnlistable::Report);
    let store = pages(vec![ListPage { entries, ..ListPage::default() }]);
    let frozen = freeze_in(folder.path(), store, source, Filter::default()).unwrap();
    let found: Vec<_> = rows(&frozen).into_iter().map(|(_, id, why)| (id.unwrap(), why)).collect();
    let expected = [
        ("1".to_owned(), Some("the version ID contains a zero byte".to_owned())),
        ("v".repeat(1024), Some("the version ID has 2000 bytes (maximum 1024)".to_owned())),
        ("3".to_owned(), None),
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_unlistable_object_counts_as_an_object_but_in_no_class() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = Manifest {
        source: source_with("p/", ListedVersions::Current, OnUnlistable::Report),
        filter: Filter::default(),
    };
    let keys = [("\u{1}".to_owned(), (1, vec![true; 6])), ("a".to_owned(), (1, vec![true; 6]))].into();
    let mut model = Model::new(rows_of(&keys, false), 10, Rule::Aws);
    model.replaces_bytes = true;
    let frozen = freeze_manifest(folder.path(), model, &manifest, SINGLE_WORKER).unwrap();
    assert_eq!((frozen.rows(), frozen.rows_read()), (2, 2));
    assert_eq!(frozen.class_stats().unwrap().objects(), 1, "an unlistable object is in no class");
}

/// The rows that the manifest should have.
fn expected_rows(rows: &[Row], all: bool) -> Vec<FrozenRow> {
    let live = rows.iter().filter(|row| row.2);
    live.map(|(key, version, _)| {
        let why = if key.as_bytes().contains(&UNWRITABLE) {
            Some("the server replaced bytes of the key with U+FFFD".to_owned())
        } else {
            let bytes = key.as_bytes().len();
            (bytes > MAX_KEY_BYTES).then(|| format!("the key has {bytes} bytes (maximum {MAX_KEY_BYTES})"))
        };
        (as_written(key), all.then(|| version.as_str().to_owned()), why)
    })
    .collect()
}

/// Returns whether a page may have no key at all that a page can start after.
fn may_be_stuck(rows: &[Row], page: usize) -> bool {
    // A delete marker does not help: it may precede the keys that are left to the next page, or follow them.
    let unnamable =
        |row: &&Row| !row.2 || row.0.as_bytes().contains(&UNWRITABLE) || row.0.as_bytes().len() > MAX_KEY_BYTES;
    let longest = rows.chunk_by(|one, other| unnamable(&one) == unnamable(&other));
    let longest = longest.filter(|run| unnamable(&&run[0])).map(<[Row]>::len).max().unwrap_or(0);
    // Some servers start a page with the entry that it should start after.
    longest + 1 >= page
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(4), ..ProptestConfig::default() })]

    #[test]
    fn every_key_is_a_row_once_however_the_listing_is_split_and_interrupted(
        keys in proptest::collection::btree_map(
            "[a-c0-3]{1,2}(/[a-c0-3]{1,2}){0,2}|[a-c0-3/é~\u{1}L-]{1,5}",
            (1_usize..4, proptest::collection::vec(proptest::bool::weighted(0.8), 6)),
            1..60,
        ),
        rule in prop_oneof![Just(Rule::Aws), Just(Rule::BeginsAgain), Just(Rule::Loses), Just(Rule::TokenOnly)],
        page in 2_usize..9,
        all in any::<bool>(),
        refuses_from in 0_usize..20,
        (workers, pages_a_cut, least) in (1_u32..20, 1_u64..4, 0_u32..3),
    ) {
        // Two of them make a key too long, and five do not make it so long that a part would cut it.
        let longer = |(key, versions): (String, _)| (key.replace('L', &"x".repeat(800)), versions);
        let keys: BTreeMap<_, _> = keys.into_iter().map(longer).collect();
        let objects = rows_of(&keys, all);
        let expected = expected_rows(&objects, all);
        prop_assume!(!expected.is_empty());
        let versions = if all { ListedVersions::All } else { ListedVersions::Current };
        let source = source_with("p/", versions, OnUnlistable::Report);
        let manifest = Manifest { source, filter: Filter::default() };
        let (folder, spread) = (tempfile::tempdir().unwrap(), ListingConcurrency::new(workers, pages_a_cut, least));
        let model = |refuses_from| {
            let mut model = Model::new(objects.clone(), page, rule);
            (model.replaces_bytes, model.refuses_from) = (true, refuses_from);
            model
        };
        if refuses_from > 0 {
            // This attempt may end anywhere; the next one resumes.
            let _ = freeze_manifest(folder.path(), model(refuses_from), &manifest, spread);
        }
        match freeze_manifest(folder.path(), model(0), &manifest, spread) {
            Ok(frozen) => prop_assert_eq!(rows(&frozen), expected),
            Err(error) => prop_assert!(may_be_stuck(&objects, page), "{error}"),
        }
    }
}

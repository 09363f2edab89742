//! Checkpoints that can be loaded, and checkpoints that must be rejected.

use batchplan_store::object::BucketName;
use globset::Glob;

use super::*;
use crate::manifest::KeyGlobs;
use crate::manifest::filter::Filter;
use crate::manifest::key_ranges::{KeyRange, KeyRanges};
use crate::manifest::spec::{FileLocation, InventoryDialect, ListedVersions, OnUnlistable};

fn store(folder: &Path, fingerprint: &str) -> FreezeCheckpointStore {
    FreezeCheckpointStore { manifest_dir: folder.to_owned(), fingerprint: fingerprint.to_owned() }
}

fn saved_partition() -> PartitionCheckpoint {
    let key = ObjectKey::new(&b"a+b/%41\xff\n"[..]);
    PartitionCheckpoint {
        progress: FreezeProgress { rows_read: 12, rows_included: 9 },
        parts: WrittenParts {
            sealed: vec![ManifestPart { rows: 7, bytes: 99 }],
            open: Some(ManifestPart { rows: 2, bytes: 40 }),
        },
        class_stats: crate::manifest::StorageClassStats::default(),
        key_ranges: KeyRanges::Known(vec![KeyRange { bucket: BucketName::new("b"), first: key.clone(), last: key }]),
    }
}

fn draft(mark: SourceCursor) -> FreezeCheckpoint {
    let lanes = if let SourceCursor::Listing(ranges) = &mark { ranges.len() } else { 1 };
    let warnings = vec![ManifestWarning { message: "m".into(), help: "h".into() }];
    FreezeCheckpoint { partitions: vec![saved_partition(); lanes], warnings, cursor: mark }
}

fn range(
    lane: u32,
    after: Option<&str>,
    until: Option<&str>,
    last: Option<ObjectKey>,
    next: RangePosition,
) -> RangeCursor {
    RangeCursor {
        partition: PartitionId(lane),
        after: after.map(ObjectKey::from),
        until: until.map(ObjectKey::from),
        last,
        position: next,
    }
}

fn marks() -> Vec<SourceCursor> {
    let key = ObjectKey::new(&b"k +%20\xff"[..]);
    let token = |token: &str| RangePosition::ListFrom(Some(ListPosition::Token(token.into())));
    let after = |version: Option<&str>| {
        RangePosition::ListFrom(Some(ListPosition::After { key: key.clone(), version: version.map(VersionId::new) }))
    };
    vec![
        SourceCursor::Listing(vec![range(0, None, None, None, RangePosition::ListFrom(None))]),
        SourceCursor::Listing(vec![range(0, None, None, Some(key.clone()), token("t\"\n"))]),
        SourceCursor::Listing(vec![
            range(0, None, Some("k"), Some(ObjectKey::from("a")), RangePosition::Finished),
            range(2, Some("k"), Some("l +"), Some(key.clone()), after(None)),
            range(1, Some("l +"), None, Some(ObjectKey::from("z")), after(Some("v%20"))),
        ]),
        SourceCursor::Inventory { key, etag: "e".into(), files: 3, raw_plus: Some(("row 1".into(), 2)) },
    ]
}

#[test]
fn rejects_ranges_with_gaps_or_a_shared_partition() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = store(folder.path(), "mine");
    let done = |lane, after, until| range(lane, after, until, None, RangePosition::Finished);
    let whole = [done(0, None, Some("k")), done(1, Some("k"), None)];
    let broken = [
        vec![],
        vec![done(0, None, Some("k"))],
        vec![done(0, Some("k"), None)],
        vec![done(0, None, None), done(1, None, None)],
        vec![done(0, None, Some("k")), done(1, Some("l"), None)],
        vec![done(0, None, Some("k")), done(0, Some("k"), None)],
        vec![done(0, None, Some("k")), done(2, Some("k"), None)],
    ];
    for (ranges, good) in broken.into_iter().map(|it| (it, false)).chain([(whole.to_vec(), true)]) {
        keeper.save(&draft(SourceCursor::Listing(ranges.clone()))).unwrap();
        assert_eq!(keeper.load().unwrap().is_some(), good, "{ranges:?}");
    }
    let short =
        FreezeCheckpoint { partitions: vec![saved_partition()], ..draft(SourceCursor::Listing(whole.to_vec())) };
    keeper.save(&short).unwrap();
    assert_eq!(keeper.load().unwrap(), None);
}

#[test]
fn checkpoint_loads_only_with_its_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = store(folder.path(), "mine");
    assert_eq!(keeper.load().unwrap(), None);
    for mark in marks() {
        keeper.save(&draft(mark.clone())).unwrap();
        assert_eq!(keeper.load().unwrap(), Some(draft(mark)));
        assert_eq!(store(folder.path(), "another").load().unwrap(), None);
    }
    assert!(exists(folder.path()));
    fs::write(folder.path().join(TEMPORARY), b"torn").unwrap();
    remove(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn ignores_a_damaged_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = store(folder.path(), "mine");
    let saved = draft(marks().remove(2));
    keeper.save(&saved).unwrap();
    let path = folder.path().join(NAME);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        fs::write(&path, &whole[..at]).unwrap();
        assert_eq!(keeper.load().unwrap(), None, "cut at {at}");
        for bit in 0..8 {
            let mut torn = whole.clone();
            torn[at] ^= 1 << bit;
            fs::write(&path, &torn).unwrap();
            assert_eq!(keeper.load().unwrap(), None, "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn another_source_or_filter_has_another_fingerprint() {
    let prefix = |bucket: &str, prefix: &[u8], versions| ManifestSource::Prefix {
        on_unlistable: OnUnlistable::Fail,
        bucket: BucketName::new(bucket),
        prefix: ObjectKey::new(prefix),
        versions,
    };
    let inventory =
        |object, dialect| ManifestSource::Inventory { bucket: BucketName::new("b"), selector: object, dialect };
    let exact =
        |etag: Option<&str>| InventorySelector::Exact { key: ObjectKey::from("k"), etag: etag.map(str::to_owned) };
    let latest = InventorySelector::Latest { prefix: ObjectKey::from("k") };
    let sources = [
        prefix("b", b"", ListedVersions::Current),
        prefix("b", b"p", ListedVersions::Current),
        prefix("b", b"p", ListedVersions::All),
        prefix("c", b"p", ListedVersions::Current),
        prefix("b", b"\xff", ListedVersions::Current),
        prefix("b", b"\\xff", ListedVersions::Current),
        ManifestSource::Prefix {
            on_unlistable: OnUnlistable::Report,
            bucket: BucketName::new("b"),
            prefix: ObjectKey::from("p"),
            versions: ListedVersions::Current,
        },
        inventory(exact(None), InventoryDialect::Aws),
        inventory(exact(None), InventoryDialect::Oss),
        inventory(exact(Some("e")), InventoryDialect::Aws),
        inventory(latest, InventoryDialect::Aws),
    ];
    let globs = |glob: &str| KeyGlobs::new([Glob::new(glob).unwrap()]).ok();
    let filters = [
        Filter::default(),
        Filter { include: globs("*.pdf"), ..Filter::default() },
        Filter { include: globs("*.txt"), ..Filter::default() },
        Filter { exclude: globs("*.txt"), ..Filter::default() },
        Filter { larger_than: Some(1), ..Filter::default() },
        Filter { smaller_than: Some(1), ..Filter::default() },
    ];
    let mut seen = std::collections::HashSet::new();
    for source in &sources {
        for filter in &filters {
            let manifest = Manifest { source: source.clone(), filter: filter.clone() };
            let found = fingerprint(&manifest).unwrap();
            assert_eq!(fingerprint(&manifest.clone()), Some(found.clone()));
            assert!(seen.insert(found), "{manifest:?}");
        }
    }
    let place = FileLocation::Local("x.csv".into());
    let csv = ManifestSource::Csv { location: place, fields: Vec::new(), plus_is_space: false };
    assert_eq!(fingerprint(&Manifest { source: csv, filter: Filter::default() }), None);
}

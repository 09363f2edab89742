//! Checkpoints that can be loaded, and checkpoints that must be rejected.

use globset::Glob;

use super::*;
use crate::manifest::KeyGlobs;
use crate::manifest::reach::KeyRange;
use crate::manifest::spec::{CsvPlace, Dialect, Filter, Versions};
use crate::object::Bucket;

fn kept() -> Kept {
    let key = Key::new(&b"a+b/%41\xff\n"[..]);
    Kept {
        prepared: Prepared { read: 12, taken: 9 },
        written: Written { sealed: vec![PartInfo { rows: 7, bytes: 99 }], open: Some(PartInfo { rows: 2, bytes: 40 }) },
        census: crate::manifest::census::Census::default(),
        reach: Reach::Known(vec![KeyRange { bucket: Bucket::new("b"), first: key.clone(), last: key }]),
    }
}

fn draft(mark: Mark) -> Draft {
    let lanes = if let Mark::Listing(ranges) = &mark { ranges.len() } else { 1 };
    let warnings = vec![Warning { message: "m".into(), help: "h".into() }];
    Draft { lanes: vec![kept(); lanes], warnings, mark }
}

fn range(lane: u32, after: Option<&str>, until: Option<&str>, last: Option<Key>, next: Next) -> RangeMark {
    RangeMark { lane: Lane(lane), after: after.map(Key::from), until: until.map(Key::from), last, next }
}

fn marks() -> Vec<Mark> {
    let key = Key::new(&b"k +%20\xff"[..]);
    let token = |token: &str| Next::List(Some(ListMark::Token(token.into())));
    let after = |version: Option<&str>| {
        Next::List(Some(ListMark::After { key: key.clone(), version: version.map(VersionId::new) }))
    };
    vec![
        Mark::Listing(vec![range(0, None, None, None, Next::List(None))]),
        Mark::Listing(vec![range(0, None, None, Some(key.clone()), token("t\"\n"))]),
        Mark::Listing(vec![
            range(0, None, Some("k"), Some(Key::from("a")), Next::Done),
            range(2, Some("k"), Some("l +"), Some(key.clone()), after(None)),
            range(1, Some("l +"), None, Some(Key::from("z")), after(Some("v%20"))),
        ]),
        Mark::Inventory { key, etag: "e".into(), files: 3, plus: Some(("row 1".into(), 2)) },
    ]
}

#[test]
fn ranges_that_leave_a_gap_or_share_a_lane_are_as_good_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = Keeper::new(folder.path(), "mine".into());
    let done = |lane, after, until| range(lane, after, until, None, Next::Done);
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
        keeper.save(&draft(Mark::Listing(ranges.clone()))).unwrap();
        assert_eq!(keeper.load().unwrap().is_some(), good, "{ranges:?}");
    }
    let short = Draft { lanes: vec![kept()], ..draft(Mark::Listing(whole.to_vec())) };
    keeper.save(&short).unwrap();
    assert_eq!(keeper.load().unwrap(), None);
}

#[test]
fn a_draft_comes_back_under_its_own_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = Keeper::new(folder.path(), "mine".into());
    assert_eq!(keeper.load().unwrap(), None);
    for mark in marks() {
        keeper.save(&draft(mark.clone())).unwrap();
        assert_eq!(keeper.load().unwrap(), Some(draft(mark)));
        assert_eq!(Keeper::new(folder.path(), "another".into()).load().unwrap(), None);
    }
    assert!(is_there(folder.path()));
    fs::write(folder.path().join(TEMPORARY), b"torn").unwrap();
    remove(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn any_damage_makes_it_as_good_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = Keeper::new(folder.path(), "mine".into());
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
    let prefix = |bucket: &str, prefix: &[u8], versions| Source::Prefix {
        bucket: Bucket::new(bucket),
        prefix: Key::new(prefix),
        versions,
    };
    let inventory = |object, dialect| Source::Inventory { bucket: Bucket::new("b"), object, dialect };
    let exact = |etag: Option<&str>| InventoryObject::Exact { key: Key::from("k"), etag: etag.map(str::to_owned) };
    let latest = InventoryObject::Latest { prefix: Key::from("k") };
    let sources = [
        prefix("b", b"", Versions::Current),
        prefix("b", b"p", Versions::Current),
        prefix("b", b"p", Versions::All),
        prefix("c", b"p", Versions::Current),
        prefix("b", b"\xff", Versions::Current),
        prefix("b", b"\\xff", Versions::Current),
        inventory(exact(None), Dialect::Aws),
        inventory(exact(None), Dialect::Oss),
        inventory(exact(Some("e")), Dialect::Aws),
        inventory(latest, Dialect::Aws),
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
    let place = CsvPlace::Local("x.csv".into());
    let csv = Source::Csv { place, fields: Vec::new(), plus_is_space: false };
    assert_eq!(fingerprint(&Manifest { source: csv, filter: Filter::default() }), None);
}

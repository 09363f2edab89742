//! Interrupted and resumed freezes, and their limits.

mod any;
mod breaking;

use std::fs;

use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::FaultClass;
use batchplan_store::{ListPage, ListPosition};
use globset::Glob;

use super::FreezeCheckpointPolicy;
use super::*;
use crate::manifest::SourcePin;
use crate::manifest::filter::Filter;
use crate::manifest::spec::{ListedVersions, OnUnlistable};
use crate::manifest::testing::{MemoryStore, StartAfterSupport, csv_source, etag, fault, listed};
use crate::manifest::{KeyGlobs, KeyRanges};
use breaking::{
    Breaking, End, INVENTORY, SMALL, asked, attempt, broken, bucket, exact, finish, inventory_of, latest, listing,
    manifest, part_files, rows, same_as_fresh, ten_files, whole,
};

#[test]
fn listing_resumes_after_its_last_page() {
    for (versions, end) in [
        (ListedVersions::Current, End::Stop),
        (ListedVersions::Current, End::Drop),
        (ListedVersions::Current, End::Fail),
        (ListedVersions::All, End::Stop),
    ] {
        for after in [1, 2, 5, 9] {
            let (folder, store) = (tempfile::tempdir().unwrap(), bucket());
            broken(folder.path(), &store, &listing(versions), after, end);
            assert_eq!(asked(&store).len(), after);
            let frozen = whole(folder.path(), &store, &listing(versions), SMALL).unwrap();
            assert_eq!(asked(&store).len(), 10 - after, "no page is listed again");
            same_as_fresh(folder.path(), &frozen, &store, &listing(versions), SMALL);
        }
    }
}

#[test]
fn stop_saves_rows_before_a_checkpoint_is_due() {
    let seldom = FreezeConfig { checkpoint_policy: FreezeCheckpointPolicy::new(100, 1000), ..SMALL };
    for (end, again) in [(End::Stop, 5), (End::Fail, 5), (End::Drop, 10)] {
        let (folder, store) = (tempfile::tempdir().unwrap(), bucket());
        attempt(folder.path(), &Breaking::new(&store, 5, end), &listing(ListedVersions::Current), seldom);
        asked(&store);
        whole(folder.path(), &store, &listing(ListedVersions::Current), seldom).unwrap();
        assert_eq!(asked(&store).len(), again, "{end:?}");
    }
}

#[test]
fn rows_make_a_checkpoint_due_as_pages_do() {
    let (folder, store) = (tempfile::tempdir().unwrap(), bucket());
    let sizes = FreezeConfig { checkpoint_policy: FreezeCheckpointPolicy::new(100, 5), ..SMALL };
    attempt(folder.path(), &Breaking::new(&store, 8, End::Drop), &listing(ListedVersions::Current), sizes);
    asked(&store);
    whole(folder.path(), &store, &listing(ListedVersions::Current), sizes).unwrap();
    // Eight pages hold sixteen rows: the sixth and the twelfth row end a page at which five rows have been read.
    assert_eq!(asked(&store).len(), 4);
}

#[test]
fn a_token_that_has_aged_is_not_the_end() {
    let manifest = listing(ListedVersions::Current);
    let (folder, store) = (tempfile::tempdir().unwrap(), bucket());
    broken(folder.path(), &store, &manifest, 5, End::Drop);
    asked(&store);
    store.faults.lock().unwrap().push_back(fault(FaultClass::Rejected, 400, "InvalidArgument"));
    finish(folder.path(), &store, &manifest);
    let seen = asked(&store);
    assert!(seen[0].contains("Token(\"p/09") && seen[1].contains("After { key: Key(p/09)"), "{seen:?}");
    assert_eq!(seen[1 + 5], "list None", "no page is listed again, and what follows is another attempt");

    // If the server ignores `start-after` too, everything is listed again.
    let (folder, mut store) = (tempfile::tempdir().unwrap(), bucket());
    broken(folder.path(), &store, &manifest, 5, End::Drop);
    Arc::get_mut(&mut store).unwrap().start_after = StartAfterSupport::Ignored;
    store.faults.lock().unwrap().push_back(fault(FaultClass::Rejected, 400, "InvalidArgument"));
    asked(&store);
    let frozen = whole(folder.path(), &store, &manifest, SMALL).unwrap();
    assert!(asked(&store)[2].contains("list None"));
    assert!(frozen.warnings()[0].message.contains("listed by one worker"), "{:?}", frozen.warnings());
    let fresh = tempfile::tempdir().unwrap();
    assert_eq!(rows(&frozen), rows(&whole(fresh.path(), &store, &manifest, SMALL).unwrap()));

    // Refused in the middle, the token is not of an earlier attempt. Refused again, the token is not the cause.
    for (refused_at, left) in [(1, 4), (0, 5)] {
        let (folder, store) = (tempfile::tempdir().unwrap(), bucket());
        broken(folder.path(), &store, &manifest, 5, End::Drop);
        let mut breaking = Arc::into_inner(Breaking::new(&store, refused_at, End::Fail)).unwrap();
        breaking.status = 400;
        let error = attempt(folder.path(), &Arc::new(breaking), &manifest, SMALL).unwrap().unwrap_err();
        assert!(matches!(error, ManifestError::Store { .. }), "{error}");
        asked(&store);
        whole(folder.path(), &store, &manifest, SMALL).unwrap();
        assert_eq!(asked(&store).len(), left, "nothing is given up");
    }

    // Any other refusal changes nothing.
    let (folder, store) = (tempfile::tempdir().unwrap(), bucket());
    broken(folder.path(), &store, &manifest, 5, End::Drop);
    broken(folder.path(), &store, &manifest, 0, End::Fail);
    asked(&store);
    whole(folder.path(), &store, &manifest, SMALL).unwrap();
    assert_eq!(asked(&store).len(), 5);
}

#[test]
fn a_listing_that_turns_back_after_a_resume_is_still_seen() {
    let (folder, store) = (tempfile::tempdir().unwrap(), bucket());
    broken(folder.path(), &store, &listing(ListedVersions::Current), 5, End::Drop);
    let entries = vec![listed(b"p/03", 1, None)];
    let page = ListPage { entries, next: Some(ListPosition::Token("x".into())), ..ListPage::default() };
    store.pages.lock().unwrap().push_back(page);
    let error = whole(folder.path(), &store, &listing(ListedVersions::Current), SMALL).unwrap_err();
    assert!(error.to_string().contains("it went backwards: p/03 after p/09"), "{error}");
    assert!(error.help().unwrap().ends_with("use [manifest.csv] or [manifest.inventory] instead"));
    assert_eq!(fs::read_dir(frozen::manifest_folder(folder.path())).unwrap().count(), 0, "it cannot be resumed");
}

#[test]
fn bad_rows_end_a_resumed_freezing_for_good() {
    let mut store = MemoryStore { page: 2, ..MemoryStore::default() };
    for key in ["a", "b", ".", "x", "y", "z"] {
        store.put(key, b"");
    }
    let source = ManifestSource::Prefix {
        on_unlistable: OnUnlistable::Fail,
        bucket: BucketName::new("b"),
        prefix: ObjectKey::from(""),
        versions: ListedVersions::Current,
    };
    let (folder, store, manifest) = (tempfile::tempdir().unwrap(), Arc::new(store), manifest(source));
    for after in 1..3 {
        broken(folder.path(), &store, &manifest, after, End::Stop);
    }
    let error = whole(folder.path(), &store, &manifest, SMALL).unwrap_err();
    assert!(error.to_string().contains("entry 1: \".\": a URL cannot say it"), "{error}");
    assert_eq!(fs::read_dir(frozen::manifest_folder(folder.path())).unwrap().count(), 0);
}

#[test]
fn inventory_resumes_after_its_last_data_file() {
    for (manifest, before) in [(exact(), 1), (latest(), 3)] {
        for end in [End::Stop, End::Drop, End::Fail] {
            for done in [1, 4, 9] {
                let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(ten_files()));
                // Listing `latest` and reading its two small files are requests, too.
                broken(folder.path(), &store, &manifest, before + done, end);
                asked(&store);
                let frozen = whole(folder.path(), &store, &manifest, SMALL).unwrap();
                let seen = asked(&store);
                assert!(seen[0].starts_with(&format!("read {INVENTORY} Some(")), "{seen:?}");
                assert_eq!(seen.len(), 1 + 10 - done, "no file that was done is read again: {seen:?}");
                same_as_fresh(folder.path(), &frozen, &store, &manifest, SMALL);
                let plus = &frozen.warnings().last().unwrap().message;
                assert!(plus.contains("a raw `+` in 30 keys is read as a plus (first in row 1 of b/data/0"), "{plus}");
            }
        }
    }
}

#[test]
fn an_inventory_that_has_changed_is_read_anew() {
    for manifest in [exact(), latest()] {
        let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(ten_files()));
        broken(folder.path(), &store, &manifest, 6, End::Drop);
        let other = Arc::new(inventory_of(&[vec!["x".into(), "y".into()], vec!["z".into()]]));
        finish(folder.path(), &other, &manifest);
    }
    let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(ten_files()));
    broken(folder.path(), &store, &exact(), 6, End::Drop);
    let error = whole(folder.path(), &Arc::default(), &exact(), SMALL).unwrap_err();
    assert!(error.to_string().contains("404 NoSuchKey"), "{error}");
    assert!(part_files(folder.path()).is_empty());
}

#[test]
fn the_newest_inventory_is_chosen_once() {
    let (folder, store) = (tempfile::tempdir().unwrap(), ten_files());
    let objects = store.objects.clone();
    broken(folder.path(), &Arc::new(store), &latest(), 6, End::Drop);
    let mut newer = MemoryStore { objects, ..MemoryStore::default() };
    newer.put("inv/2026-02-01T00-00Z/manifest.json", b"{}");
    newer.put("inv/2026-02-01T00-00Z/manifest.checksum", etag(b"{}").as_bytes());
    let frozen = whole(folder.path(), &Arc::new(newer), &latest(), SMALL).unwrap();
    assert!(matches!(frozen.pin(), SourcePin::Inventory { key, .. } if *key == ObjectKey::from(INVENTORY)));
    assert_eq!(frozen.rows(), 30);
}

#[test]
fn a_csv_file_is_read_from_its_beginning() {
    let store = Arc::new(MemoryStore::with(&[("m.csv", b"b,k1\nb,k2\nb,k3\nb,k4\n")]));
    for end in [End::Stop, End::Drop, End::Fail] {
        let folder = tempfile::tempdir().unwrap();
        broken(folder.path(), &store, &manifest(csv_source("m.csv")), 0, end);
        assert!(!freeze_checkpoint::exists(&frozen::manifest_folder(folder.path())));
        finish(folder.path(), &store, &manifest(csv_source("m.csv")));
    }
}

#[test]
fn ignores_the_checkpoint_of_another_manifest() {
    let (folder, store) = (tempfile::tempdir().unwrap(), bucket());
    broken(folder.path(), &store, &listing(ListedVersions::Current), 5, End::Drop);
    let filter = Filter { exclude: KeyGlobs::new([Glob::new("*7").unwrap()]).ok(), ..Filter::default() };
    finish(folder.path(), &store, &Manifest { filter, ..listing(ListedVersions::Current) });
}

#[test]
fn freezes_a_finished_manifest_again_on_request() {
    let (folder, store) = (tempfile::tempdir().unwrap(), bucket());
    broken(folder.path(), &store, &listing(ListedVersions::Current), 5, End::Drop);
    let home = frozen::manifest_folder(folder.path());
    let left = fs::read(home.join("progress.json")).unwrap();
    whole(folder.path(), &store, &listing(ListedVersions::Current), SMALL).unwrap();
    // Like a kill between writing the index and removing the checkpoint.
    fs::write(home.join("progress.json"), left).unwrap();
    assert_eq!(FrozenManifest::open(folder.path()).unwrap().unwrap().rows(), 20);
    asked(&store);
    whole(folder.path(), &store, &listing(ListedVersions::Current), SMALL).unwrap();
    assert_eq!(asked(&store)[0], "list None");
}

#[test]
fn freeze_beyond_max_disk_resumes_with_a_higher_limit() {
    let (folder, store) = (tempfile::tempdir().unwrap(), bucket());
    let tight = FreezeConfig { max_disk: Some(300), ..SMALL };
    let error = whole(folder.path(), &store, &listing(ListedVersions::Current), tight).unwrap_err();
    let ManifestError::TooLarge { used, limit: 300, rows } = error else { panic!("{error}") };
    assert!((1..=300).contains(&used) && (1..20).contains(&rows), "{used} {rows}");
    let told = format!("max_disk (300 bytes): its first {rows} objects take {used} bytes");
    assert!(error.to_string().contains(&told), "{error}");
    assert!(error.help().unwrap().contains("`max_disk`"));
    asked(&store);
    let frozen = whole(folder.path(), &store, &listing(ListedVersions::Current), SMALL).unwrap();
    assert!(asked(&store).len() < 10);
    same_as_fresh(folder.path(), &frozen, &store, &listing(ListedVersions::Current), SMALL);
}

#[test]
fn freeze_beyond_max_objects_resumes_with_a_higher_limit() {
    let (folder, store) = (tempfile::tempdir().unwrap(), bucket());
    let at_most = |limit| FreezeConfig { max_objects: Some(limit), ..SMALL };
    let error = whole(folder.path(), &store, &listing(ListedVersions::Current), at_most(7)).unwrap_err();
    assert!(matches!(error, ManifestError::TooManyObjects { limit: 7, found: None }), "{error}");
    assert_eq!(error.to_string(), "the manifest names more objects than max_objects (7)");
    assert!(asked(&store).len() < 10, "what is beyond is not listed");
    let frozen = whole(folder.path(), &store, &listing(ListedVersions::Current), at_most(20)).unwrap();
    assert_eq!(frozen.rows(), 20);
    same_as_fresh(folder.path(), &frozen, &store, &listing(ListedVersions::Current), SMALL);
}

#[test]
fn an_inventory_that_may_be_too_large_is_refused_before_it_is_read() {
    let manifest = exact();
    let bytes: u64 =
        ten_files().objects.iter().filter(|(key, _)| key.starts_with(b"data/")).map(|(_, it)| it.len() as u64).sum();
    let run = |manifest: &Manifest, limit| {
        let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(ten_files()));
        let result = whole(folder.path(), &store, manifest, FreezeConfig { max_disk: Some(limit), ..SMALL });
        (result, asked(&store).len())
    };
    let (error, requests) = run(&manifest, bytes - 1);
    let error = error.unwrap_err();
    assert!(error.to_string().contains(&format!("its data files have {bytes} bytes")), "{error}");
    assert_eq!(requests, 1, "manifest.json alone was read");
    // A filter may include almost nothing: then only the bytes written count.
    let filter = Filter { include: KeyGlobs::new([Glob::new("k+1/*").unwrap()]).ok(), ..Filter::default() };
    let (frozen, _) = run(&Manifest { filter, ..manifest }, 200);
    assert_eq!(frozen.unwrap().rows(), 3);
}

#[test]
fn a_checkpoint_that_cannot_be_written_loses_nothing() {
    let (folder, store, manifest) = (tempfile::tempdir().unwrap(), bucket(), listing(ListedVersions::Current));
    broken(folder.path(), &store, &manifest, 5, End::Drop);
    let temporary = frozen::manifest_folder(folder.path()).join("progress.json.draft");
    // The file cannot be created because a folder has its name.
    fs::create_dir(&temporary).unwrap();
    let error = whole(folder.path(), &store, &manifest, SMALL).unwrap_err();
    assert!(error.to_string().starts_with("cannot write ") && error.to_string().contains("progress.json"), "{error}");
    fs::remove_dir(&temporary).unwrap();
    asked(&store);
    let frozen = whole(folder.path(), &store, &manifest, SMALL).unwrap();
    assert_eq!(asked(&store).len(), 5);
    same_as_fresh(folder.path(), &frozen, &store, &manifest, SMALL);
}

#[test]
fn key_ranges_cover_the_rows_and_a_listings_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let ranges_of = |frozen: FrozenManifest| match frozen.key_ranges() {
        KeyRanges::Known(ranges) => {
            ranges.iter().map(|it| format!("{} {}..{}", it.bucket, it.first, it.last)).collect::<Vec<_>>()
        }
        KeyRanges::Unknown => panic!("known"),
    };
    let listed = whole(folder.path(), &bucket(), &listing(ListedVersions::Current), SMALL).unwrap();
    assert_eq!(ranges_of(listed), ["b p/..p/19"]);
    let nothing = Filter { larger_than: Some(1000), ..Filter::default() };
    let nothing = Manifest { filter: nothing, ..listing(ListedVersions::Current) };
    assert!(ranges_of(whole(folder.path(), &bucket(), &nothing, SMALL).unwrap()).is_empty());
    let store = Arc::new(MemoryStore::with(&[("m.csv", b"y,m\nx,k\ny,a\ny,z\n")]));
    let named = whole(folder.path(), &store, &manifest(csv_source("m.csv")), SMALL).unwrap();
    assert_eq!(ranges_of(named), ["x k..k", "y a..z"]);
}

#[test]
fn temporary_files_are_in_the_folder_of_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let manifest_dir = folder.path().join("manifest");
    let start = FreezeStart::load(manifest_dir.clone(), None, FreezeConfig::default()).unwrap();
    let (store, progress) = (Arc::new(MemoryStore::default()), watch::Sender::default());
    let writer = ManifestWriter::new(Filter::default(), store, start, progress, CancellationToken::new());
    assert_eq!(writer.scratch().folder, Some(manifest_dir));
}

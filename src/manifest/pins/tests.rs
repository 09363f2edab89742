use std::fs::File as Disk;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use batchplan_store::hex::hex;
use batchplan_store::task::FaultClass;

use super::*;
use crate::manifest::testing::{MemoryStore, csv_source, etag, fault, freeze_in};
use crate::manifest::{CsvField, FileLocation, Filter, ManifestSource};
use sha2::Digest;

fn check(pin: &SourcePin, store: MemoryStore) -> Result<(), SourceChangedError> {
    check_with(pin, store, &CancellationToken::new())
}

fn check_with(pin: &SourcePin, store: MemoryStore, stop: &CancellationToken) -> Result<(), SourceChangedError> {
    let store: Arc<dyn Store> = Arc::new(store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(check_pin(pin, &store, stop))
}

fn object_pins(etag: &str) -> [SourcePin; 2] {
    let (bucket, key, etag) = (BucketName::new("m"), ObjectKey::from("m.csv"), etag.to_owned());
    [
        SourcePin::Object { bucket: bucket.clone(), key: key.clone(), etag: etag.clone(), sha256: "00".into() },
        SourcePin::Inventory { bucket, key, etag, created: None },
    ]
}

#[test]
fn a_listing_has_nothing_to_compare() {
    assert!(check(&SourcePin::Listing, MemoryStore::default()).is_ok());
}

#[test]
fn an_object_is_opened_and_not_read() {
    let text = b"b,k\n";
    for pin in object_pins(&etag(text)) {
        for strict_etag in [false, true] {
            // A body that is cut off makes the test fail if it is read.
            let store = MemoryStore { strict_etag, missing_bytes: 4, ..MemoryStore::with(&[("m.csv", text)]) };
            check(&pin, store).unwrap();
        }
        for blind in [false, true] {
            let store = MemoryStore { ignores_if_match: blind, ..MemoryStore::with(&[("m.csv", b"other")]) };
            let error = check(&pin, store).unwrap_err();
            let (was, now) = (etag(text), etag(b"other"));
            let expected =
                format!("m/m.csv has changed since the job was prepared: its ETag was {was} and is now {now}");
            assert_eq!(error.to_string(), expected);
            assert!(error.help().unwrap().contains("--new"));
        }
        let error = check(&pin, MemoryStore::default()).unwrap_err();
        assert!(matches!(&error, SourceChangedError::Missing { place, .. } if place == "m/m.csv"), "{error}");
        assert!(error.to_string().contains(&etag(text)));
    }
    for pin in object_pins("") {
        check(&pin, MemoryStore::with(&[("m.csv", text)])).unwrap();
        assert!(matches!(check(&pin, MemoryStore::default()), Err(SourceChangedError::Missing { .. })));
    }
}

#[test]
fn unreadable_source_is_neither_unchanged_nor_changed() {
    let text = b"b,k\n";
    let [pin, _] = object_pins(&etag(text));
    let denied = MemoryStore::with(&[("m.csv", text)]);
    denied.faults.lock().unwrap().push_back(fault(FaultClass::Rejected, 403, "AccessDenied"));
    let error = check(&pin, denied).unwrap_err();
    assert!(
        matches!(error, SourceChangedError::Unreadable(_)) && error.to_string().contains("403 AccessDenied"),
        "{error}"
    );
    assert!(error.help().unwrap().contains("permission to list the bucket and read"));

    let stop = CancellationToken::new();
    stop.cancel();
    let error = check_with(&pin, MemoryStore { mute: true, ..MemoryStore::default() }, &stop).unwrap_err();
    assert!(matches!(error, SourceChangedError::Unreadable(cause) if matches!(*cause, ManifestError::Stopped)));
}

/// Creates a local file and a frozen manifest of it.
fn local() -> (tempfile::TempDir, PathBuf, SourcePin) {
    local_while(|_| {})
}

/// Does the same as [`local`], and runs `happen` while the file is read.
fn local_while(happen: impl Fn(&Path) + Send + Sync + 'static) -> (tempfile::TempDir, PathBuf, SourcePin) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.csv");
    fs::write(&path, b"b,k1\n").unwrap();
    let meant = path.clone();
    let store = MemoryStore { on_row: Some(Box::new(move || happen(&meant))), ..MemoryStore::default() };
    let fields = vec![CsvField::Bucket, CsvField::Key];
    let source = ManifestSource::Csv { location: FileLocation::Local(path.clone()), fields, plus_is_space: false };
    let frozen = freeze_in(folder.path(), store, source, Filter::default()).unwrap();
    (folder, path, frozen.pin().clone())
}

fn touch(path: &Path, modified: SystemTime) {
    Disk::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[test]
fn a_file_that_looks_the_same_is_not_read_again() {
    let (_folder, path, pin) = local();
    let SourcePin::File { stamp: Some(seen), .. } = &pin else { panic!("{pin:?}") };
    // Different bytes with the same size and time pass: the file was not read.
    fs::write(&path, b"b,k2\n").unwrap();
    touch(&path, seen.modified.into());
    check(&pin, MemoryStore::default()).unwrap();
}

#[test]
fn a_file_that_looks_different_is_compared_by_its_bytes() {
    let (_folder, path, pin) = local();
    let SourcePin::File { stamp: Some(seen), sha256, path: told } = pin.clone() else { panic!("{pin:?}") };
    let unrecorded = SourcePin::File { stamp: None, sha256: sha256.clone(), path: told };
    touch(&path, SystemTime::from(seen.modified) + Duration::from_secs(5));
    check(&pin, MemoryStore::default()).unwrap();
    check(&unrecorded, MemoryStore::default()).unwrap();
    fs::write(&path, b"b,k2\nb,k3\n").unwrap();
    for pin in [&pin, &unrecorded] {
        let error = check(pin, MemoryStore::default()).unwrap_err();
        let now = hex(&Sha256::digest(b"b,k2\nb,k3\n"));
        assert!(error.to_string().ends_with(&format!("its SHA-256 was {sha256} and is now {now}")), "{error}");
    }
    fs::remove_file(&path).unwrap();
    for pin in [&pin, &unrecorded] {
        let error = check(pin, MemoryStore::default()).unwrap_err();
        assert!(
            matches!(&error, SourceChangedError::Missing { place, .. } if *place == path.display().to_string()),
            "{error}"
        );
    }
    fs::create_dir(&path).unwrap();
    assert!(matches!(check(&pin, MemoryStore::default()), Err(SourceChangedError::Unreadable(_))));
}

#[test]
fn file_written_during_its_read_is_compared_by_content() {
    let (_folder, path, pin) = local_while(|path| touch(path, SystemTime::UNIX_EPOCH));
    assert!(matches!(pin, SourcePin::File { stamp: None, .. }), "{pin:?}");
    check(&pin, MemoryStore::default()).unwrap();
    fs::write(&path, b"b,k2\n").unwrap();
    touch(&path, SystemTime::UNIX_EPOCH);
    assert!(matches!(check(&pin, MemoryStore::default()), Err(SourceChangedError::Changed { .. })));
}

#[test]
fn a_pin_of_a_relative_path_is_good_from_any_folder() {
    let (_folder, path, pin) = local();
    let SourcePin::File { path: told, .. } = pin else { panic!() };
    assert!(Path::new(&told).is_absolute() && Path::new(&told) == path);
}

#[test]
fn a_csv_object_is_pinned_as_it_is_frozen() {
    let folder = tempfile::tempdir().unwrap();
    let text: &[u8] = b"b,k\n";
    let store = || MemoryStore::with(&[("m.csv", text)]);
    let frozen = freeze_in(folder.path(), store(), csv_source("m.csv"), Filter::default()).unwrap();
    check(frozen.pin(), store()).unwrap();
    assert!(check(frozen.pin(), MemoryStore::with(&[("m.csv", b"b,l\n")])).is_err());
}

use jiff::Timestamp;

use super::*;
use crate::manifest::pins::FileStamp;

fn frozen(folder: &Path, pin: SourcePin) -> FrozenManifest {
    let warnings = vec![ManifestWarning { message: "m".into(), help: "h".into() }];
    let (first, last) = (ObjectKey::new(&b"%a+ \xff"[..]), ObjectKey::new(&b"z\n"[..]));
    let key_ranges = KeyRanges::Known(vec![KeyRange { bucket: BucketName::new("b"), first, last }]);
    let parts = vec![ManifestPart { rows: 3, bytes: 99 }];
    let class_stats = Some(Box::default());
    FrozenManifest {
        folder: folder.to_owned(),
        rows_read: 7,
        parts,
        pin,
        warnings,
        key_ranges,
        class_stats,
        segments: 1,
        has_checksum: true,
    }
}

#[test]
fn an_index_comes_back_with_any_pin() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = BucketName::new("b");
    let key = ObjectKey::new(&b"a+b/\xff c"[..]);
    let seen = FileStamp { size: 7, modified: Timestamp::new(3, 141_592_653).unwrap() };
    let pins = [
        SourcePin::Listing,
        SourcePin::Object { bucket: bucket.clone(), key: key.clone(), etag: "e".into(), sha256: "00".into() },
        SourcePin::File { path: "x/y.csv".into(), sha256: "00".into(), stamp: None },
        SourcePin::File { path: "x/y.csv".into(), sha256: "00".into(), stamp: Some(seen) },
        SourcePin::Inventory { bucket, key, etag: "e".into(), created: Some(Timestamp::UNIX_EPOCH) },
    ];
    for pin in pins {
        let saved = frozen(folder.path(), pin);
        save_index(&saved).unwrap();
        assert_eq!(load_index(folder.path()).unwrap(), Some(saved));
    }
    assert!(!folder.path().join(INDEX_TEMPORARY).exists());
    fs::write(folder.path().join(INDEX_TEMPORARY), b"torn").unwrap();
    remove_index(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(load_index(folder.path()).unwrap(), None);
}

#[test]
fn index_of_an_earlier_build_has_unknown_key_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let pin = r#"{"file":{"path":"x.csv","sha256":"00"}}"#;
    let text = format!(r#"{{"version":1,"rows":0,"read":5,"parts":[],"pin":{pin},"warnings":[]}}"#);
    fs::write(folder.path().join(INDEX_NAME), text).unwrap();
    let frozen = load_index(folder.path()).unwrap().unwrap();
    assert_eq!(frozen.key_ranges, KeyRanges::Unknown);
    assert_eq!(frozen.pin, SourcePin::File { path: "x.csv".into(), sha256: "00".into(), stamp: None });
    assert!(!frozen.has_checksum);
    save_index(&frozen).unwrap();
    assert_eq!(load_index(folder.path()).unwrap(), Some(FrozenManifest { has_checksum: true, ..frozen }));
}

#[test]
fn every_flipped_bit_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let saved = FrozenManifest { segments: 3, ..frozen(folder.path(), SourcePin::Listing) };
    save_index(&saved).unwrap();
    let path = folder.path().join(INDEX_NAME);
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        match load_index(folder.path()) {
            Err(ManifestError::Corrupt { file, .. }) => assert_eq!(file, path),
            // The flipped bit is in the name of the checksum itself, or in white space.
            Ok(Some(found)) => assert_eq!(FrozenManifest { has_checksum: true, ..found }, saved, "bit {bit}"),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}

#[test]
fn earlier_builds_reject_a_segmented_index() {
    let folder = tempfile::tempdir().unwrap();
    let spread = FrozenManifest { segments: 3, ..frozen(folder.path(), SourcePin::Listing) };
    save_index(&spread).unwrap();
    assert_eq!(load_index(folder.path()).unwrap(), Some(spread.clone()));
    let text = fs::read_to_string(folder.path().join(INDEX_NAME)).unwrap();
    assert!(text.contains(r#""version": 2"#), "{text}");
    save_index(&FrozenManifest { segments: 9, ..spread }).unwrap();
    assert!(load_index(folder.path()).unwrap_err().to_string().contains("9 segments"));
}

#[test]
fn junk_is_named_as_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let save = |text: &str| fs::write(folder.path().join(INDEX_NAME), text).unwrap();
    let wrong_sum = r#"{"version":1,"rows":5,"read":5,"parts":[],"pin":"listing","warnings":[]}"#;
    let too_old = r#"{"version":0,"rows":0,"read":0,"parts":[],"pin":"listing","warnings":[]}"#;
    for text in ["", "{", "[1]", wrong_sum, too_old] {
        save(text);
        let error = load_index(folder.path()).unwrap_err();
        assert!(matches!(error, ManifestError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("index.json"), "{error}");
    }
}

#[test]
fn an_index_of_a_newer_program_is_not_damaged() {
    let folder = tempfile::tempdir().unwrap();
    for text in [r#"{"version":3,"rows":0,"read":0,"parts":[],"pin":"listing","warnings":[]}"#, r#"{"version":3}"#] {
        fs::write(folder.path().join(INDEX_NAME), text).unwrap();
        let error = load_index(folder.path()).unwrap_err();
        assert!(matches!(error, ManifestError::NewerFormat { found: 3, known: 2, .. }), "{error}");
        let end =
            "index.json was written by a newer batchplan: it has format 3; this batchplan supports formats up to 2";
        assert!(error.to_string().ends_with(end), "{error}");
    }
}

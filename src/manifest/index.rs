//! `index.json`: written last and atomically, so that a folder without it is not a frozen manifest.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use batchplan_store::object::{BucketName, ObjectKey};
use serde::{Deserialize, Serialize};

use super::class_stats::StorageClassStatsJson;
use super::error::{ManifestError, ManifestWarning};
use super::frozen::{FrozenManifest, ManifestPart};
use super::interleaving::MAX_SEGMENTS;
use super::key_ranges::{KeyRange, KeyRanges};
use super::pins::SourcePinJson;
use crate::files::{json_digest, open_regular, write_atomic};

const NAME: &str = "index.json";

/// The name of the temporary file that replaces it.
const TEMPORARY: &str = "index.json.draft";

/// The version of the file format for a single segment, the only one that earlier releases can read.
const VERSION: u32 = 1;

/// The version for several segments: releases that do not know segments must not take positions for rows.
const SEGMENTED_VERSION: u32 = 2;

/// The maximum size of an index in bytes: enough for 500 billion rows.
const MAX_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct ManifestIndexJson {
    version: u32,
    rows: u64,
    read: u64,
    parts: Vec<ManifestPartJson>,
    pin: SourcePinJson,
    warnings: Vec<ManifestWarningJson>,
    /// Earlier releases wrote none, and ignore it.
    #[serde(default)]
    reach: KeyRangesJson,
    /// The same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    census: Option<StorageClassStatsJson>,
    #[serde(default = "one_lane", skip_serializing_if = "is_one_lane")]
    lanes: u32,
    /// The digest of all other members. Earlier releases wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

fn one_lane() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_one_lane(lanes: &u32) -> bool {
    *lanes == 1
}

#[derive(Serialize, Deserialize)]
struct ManifestPartJson {
    rows: u32,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ManifestWarningJson {
    message: String,
    help: String,
}

impl From<&ManifestWarning> for ManifestWarningJson {
    fn from(warning: &ManifestWarning) -> Self {
        Self { message: warning.message.clone(), help: warning.help.clone() }
    }
}

impl From<ManifestWarningJson> for ManifestWarning {
    fn from(shape: ManifestWarningJson) -> Self {
        Self { message: shape.message, help: shape.help }
    }
}

/// The key ranges; `null` means unknown.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct KeyRangesJson(Option<Vec<KeyRangeJson>>);

#[derive(Serialize, Deserialize)]
struct KeyRangeJson {
    bucket: String,
    first: String,
    last: String,
}

impl From<&KeyRanges> for KeyRangesJson {
    fn from(reach: &KeyRanges) -> Self {
        Self(match reach {
            KeyRanges::Unknown => None,
            KeyRanges::Known(ranges) => Some(ranges.iter().map(KeyRangeJson::from).collect()),
        })
    }
}

impl From<KeyRangesJson> for KeyRanges {
    fn from(shape: KeyRangesJson) -> Self {
        match shape.0 {
            None => Self::Unknown,
            Some(ranges) => Self::Known(ranges.iter().map(KeyRange::from).collect()),
        }
    }
}

impl From<&KeyRange> for KeyRangeJson {
    fn from(range: &KeyRange) -> Self {
        Self {
            bucket: range.bucket.to_string(),
            first: range.first.encoded_keeping_slashes(),
            last: range.last.encoded_keeping_slashes(),
        }
    }
}

impl From<&KeyRangeJson> for KeyRange {
    fn from(shape: &KeyRangeJson) -> Self {
        Self {
            bucket: BucketName::new(&shape.bucket),
            first: ObjectKey::decode(shape.first.as_bytes()),
            last: ObjectKey::decode(shape.last.as_bytes()),
        }
    }
}

/// Writes the index of a manifest whose parts are on disk.
pub(super) fn save(frozen: &FrozenManifest) -> Result<(), ManifestError> {
    let path = frozen.folder.join(NAME);
    let write = || {
        let mut shape = index_json(frozen);
        shape.sha256 = Some(json_digest(&shape)?);
        write_atomic(&frozen.folder, NAME, &serde_json::to_vec_pretty(&shape)?)
    };
    write().map_err(|cause| ManifestError::disk("write", &path, cause))
}

/// Returns whether there is an index.
pub(super) fn exists(home: &Path) -> bool {
    home.join(NAME).exists()
}

/// Reads the index. Returns `None` if there is none.
pub(super) fn load(home: &Path) -> Result<Option<FrozenManifest>, ManifestError> {
    let path = home.join(NAME);
    let file = match open_regular(&path, File::options().read(true)) {
        Ok(file) => file,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(ManifestError::disk("open", &path, cause)),
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(|cause| ManifestError::disk("read", &path, cause))?;
    let corrupt = |why: String| ManifestError::corrupt(&path, why);
    let mut shape: ManifestIndexJson = serde_json::from_slice(&text).map_err(|why| corrupt(why.to_string()))?;
    if !(VERSION..=SEGMENTED_VERSION).contains(&shape.version) {
        let found = shape.version;
        return Err(corrupt(format!("unsupported format version {found} (the newest is {SEGMENTED_VERSION})")));
    }
    let sha256 = shape.sha256.take();
    if let Some(recorded) = &sha256
        && json_digest(&shape).map_err(|why| corrupt(why.to_string()))? != *recorded
    {
        return Err(corrupt("it fails its checksum".to_owned()));
    }
    let frozen = FrozenManifest {
        has_checksum: sha256.is_some(),
        folder: home.to_owned(),
        rows_read: shape.read,
        parts: shape.parts.iter().map(|part| ManifestPart { rows: part.rows, bytes: part.bytes }).collect(),
        pin: shape.pin.into_pin().map_err(corrupt)?,
        warnings: shape.warnings.into_iter().map(ManifestWarning::from).collect(),
        key_ranges: shape.reach.into(),
        class_stats: shape.census.map(|census| Box::new(census.into())),
        segments: shape.lanes,
    };
    if !(1..=MAX_SEGMENTS).contains(&u64::from(frozen.segments)) {
        return Err(corrupt(format!("it has {} segments (maximum {MAX_SEGMENTS})", frozen.segments)));
    }
    if frozen.rows() != shape.rows {
        return Err(corrupt("its row count does not match its parts".to_owned()));
    }
    Ok(Some(frozen))
}

/// Removes the index, and a temporary file that was never renamed.
pub(super) fn remove(home: &Path) -> Result<(), ManifestError> {
    for path in [home.join(NAME), home.join(TEMPORARY)] {
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(ManifestError::disk("remove", &path, cause));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn index_json(frozen: &FrozenManifest) -> ManifestIndexJson {
    ManifestIndexJson {
        sha256: None,
        version: if frozen.segments > 1 { SEGMENTED_VERSION } else { VERSION },
        lanes: frozen.segments,
        rows: frozen.rows(),
        read: frozen.rows_read,
        parts: frozen.parts.iter().map(|part| ManifestPartJson { rows: part.rows, bytes: part.bytes }).collect(),
        pin: (&frozen.pin).into(),
        warnings: frozen.warnings.iter().map(ManifestWarningJson::from).collect(),
        reach: (&frozen.key_ranges).into(),
        census: frozen.class_stats.as_deref().map(StorageClassStatsJson::from),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::manifest::pins::{FileStamp, SourcePin};

    fn frozen(folder: &Path, pin: SourcePin) -> FrozenManifest {
        let warnings = vec![ManifestWarning { message: "m".into(), help: "h".into() }];
        let (first, last) = (ObjectKey::new(&b"%a+ \xff"[..]), ObjectKey::new(&b"z\n"[..]));
        let reach = KeyRanges::Known(vec![KeyRange { bucket: BucketName::new("b"), first, last }]);
        let parts = vec![ManifestPart { rows: 3, bytes: 99 }];
        let census = Some(Box::default());
        FrozenManifest {
            folder: folder.to_owned(),
            rows_read: 7,
            parts,
            pin,
            warnings,
            key_ranges: reach,
            class_stats: census,
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
            save(&saved).unwrap();
            assert_eq!(load(folder.path()).unwrap(), Some(saved));
        }
        assert!(!folder.path().join(TEMPORARY).exists());
        fs::write(folder.path().join(TEMPORARY), b"torn").unwrap();
        remove(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(load(folder.path()).unwrap(), None);
    }

    #[test]
    fn index_of_an_earlier_build_has_unknown_key_ranges() {
        let folder = tempfile::tempdir().unwrap();
        let pin = r#"{"file":{"path":"x.csv","sha256":"00"}}"#;
        let text = format!(r#"{{"version":1,"rows":0,"read":5,"parts":[],"pin":{pin},"warnings":[]}}"#);
        fs::write(folder.path().join(NAME), text).unwrap();
        let frozen = load(folder.path()).unwrap().unwrap();
        assert_eq!(frozen.key_ranges, KeyRanges::Unknown);
        assert_eq!(frozen.pin, SourcePin::File { path: "x.csv".into(), sha256: "00".into(), stamp: None });
        assert!(!frozen.has_checksum);
        save(&frozen).unwrap();
        assert_eq!(load(folder.path()).unwrap(), Some(FrozenManifest { has_checksum: true, ..frozen }));
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let saved = FrozenManifest { segments: 3, ..frozen(folder.path(), SourcePin::Listing) };
        save(&saved).unwrap();
        let path = folder.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            match load(folder.path()) {
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
        save(&spread).unwrap();
        assert_eq!(load(folder.path()).unwrap(), Some(spread.clone()));
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert!(text.contains(r#""version": 2"#), "{text}");
        save(&FrozenManifest { segments: 9, ..spread }).unwrap();
        assert!(load(folder.path()).unwrap_err().to_string().contains("9 segments"));
    }

    #[test]
    fn junk_is_named_as_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let save = |text: &str| fs::write(folder.path().join(NAME), text).unwrap();
        let wrong_sum = r#"{"version":1,"rows":5,"read":5,"parts":[],"pin":"listing","warnings":[]}"#;
        let newer = r#"{"version":3,"rows":0,"read":0,"parts":[],"pin":"listing","warnings":[]}"#;
        for text in ["", "{", "[1]", wrong_sum, newer] {
            save(text);
            let error = load(folder.path()).unwrap_err();
            assert!(matches!(error, ManifestError::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains("index.json"), "{error}");
        }
    }
}

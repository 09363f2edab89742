//! `index.json`: written last and atomically, so that a folder without it is not a frozen manifest.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::census::CensusShape;
use super::error::{ManifestError, Warning};
use super::frozen::{Frozen, PartInfo, Pin, Seen};
use super::order::MAX_LANES;
use super::reach::{KeyRange, Reach};
use crate::files::{json_digest, open_own, write_at_once};
use crate::object::{Bucket, Key};

const NAME: &str = "index.json";

/// The name of the temporary file that replaces it.
const TEMPORARY: &str = "index.json.draft";

/// The version of the file format for a single segment, the only one that earlier releases can read.
const VERSION: u32 = 1;

/// The version for several segments: releases that do not know segments must not take positions for rows.
const SPREAD_VERSION: u32 = 2;

/// The maximum size of an index in bytes: enough for 500 billion rows.
const MAX_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct IndexShape {
    version: u32,
    rows: u64,
    read: u64,
    parts: Vec<PartShape>,
    pin: PinShape,
    warnings: Vec<WarningShape>,
    /// Earlier releases wrote none, and ignore it.
    #[serde(default)]
    reach: ReachShape,
    /// The same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    census: Option<CensusShape>,
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
struct PartShape {
    rows: u32,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WarningShape {
    message: String,
    help: String,
}

impl From<&Warning> for WarningShape {
    fn from(warning: &Warning) -> Self {
        Self { message: warning.message.clone(), help: warning.help.clone() }
    }
}

impl From<WarningShape> for Warning {
    fn from(shape: WarningShape) -> Self {
        Self { message: shape.message, help: shape.help }
    }
}

/// The key ranges; `null` means unknown.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct ReachShape(Option<Vec<RangeShape>>);

#[derive(Serialize, Deserialize)]
struct RangeShape {
    bucket: String,
    first: String,
    last: String,
}

impl From<&Reach> for ReachShape {
    fn from(reach: &Reach) -> Self {
        Self(match reach {
            Reach::Unknown => None,
            Reach::Known(ranges) => Some(ranges.iter().map(RangeShape::from).collect()),
        })
    }
}

impl From<ReachShape> for Reach {
    fn from(shape: ReachShape) -> Self {
        match shape.0 {
            None => Self::Unknown,
            Some(ranges) => Self::Known(ranges.iter().map(KeyRange::from).collect()),
        }
    }
}

impl From<&KeyRange> for RangeShape {
    fn from(range: &KeyRange) -> Self {
        Self {
            bucket: range.bucket.to_string(),
            first: range.first.encoded_keeping_slashes(),
            last: range.last.encoded_keeping_slashes(),
        }
    }
}

impl From<&RangeShape> for KeyRange {
    fn from(shape: &RangeShape) -> Self {
        Self {
            bucket: Bucket::new(&shape.bucket),
            first: Key::decode(shape.first.as_bytes()),
            last: Key::decode(shape.last.as_bytes()),
        }
    }
}

/// Keys are URL-encoded, because they are bytes and JSON is text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PinShape {
    Listing,
    Object {
        bucket: String,
        key: String,
        etag: String,
        sha256: String,
    },
    File {
        path: String,
        sha256: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<SeenShape>,
    },
    Inventory {
        bucket: String,
        key: String,
        etag: String,
        created: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
struct SeenShape {
    size: u64,
    modified: String,
}

/// Writes the index of a manifest whose parts are on disk.
pub(super) fn save(frozen: &Frozen) -> Result<(), ManifestError> {
    let path = frozen.folder.join(NAME);
    let write = || {
        let mut shape = shape(frozen);
        shape.sha256 = Some(json_digest(&shape)?);
        write_at_once(&frozen.folder, NAME, &serde_json::to_vec_pretty(&shape)?)
    };
    write().map_err(|cause| ManifestError::disk("write", &path, cause))
}

/// Returns whether there is an index.
pub(super) fn is_there(home: &Path) -> bool {
    home.join(NAME).exists()
}

/// Reads the index. Returns `None` if there is none.
pub(super) fn load(home: &Path) -> Result<Option<Frozen>, ManifestError> {
    let path = home.join(NAME);
    let file = match open_own(&path, File::options().read(true)) {
        Ok(file) => file,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(ManifestError::disk("open", &path, cause)),
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(|cause| ManifestError::disk("read", &path, cause))?;
    let corrupt = |why: String| ManifestError::corrupt(&path, why);
    let mut shape: IndexShape = serde_json::from_slice(&text).map_err(|why| corrupt(why.to_string()))?;
    if !(VERSION..=SPREAD_VERSION).contains(&shape.version) {
        let found = shape.version;
        return Err(corrupt(format!("it has version {found} of the format, and the newest is {SPREAD_VERSION}")));
    }
    let sha256 = shape.sha256.take();
    if let Some(recorded) = &sha256
        && json_digest(&shape).map_err(|why| corrupt(why.to_string()))? != *recorded
    {
        return Err(corrupt("it fails its checksum".to_owned()));
    }
    let frozen = Frozen {
        proven: sha256.is_some(),
        folder: home.to_owned(),
        read: shape.read,
        parts: shape.parts.iter().map(|part| PartInfo { rows: part.rows, bytes: part.bytes }).collect(),
        pin: pin(shape.pin).map_err(corrupt)?,
        warnings: shape.warnings.into_iter().map(Warning::from).collect(),
        reach: shape.reach.into(),
        census: shape.census.map(|census| Box::new(census.into())),
        lanes: shape.lanes,
    };
    if !(1..=MAX_LANES).contains(&u64::from(frozen.lanes)) {
        return Err(corrupt(format!("it has {} lanes, and the most is {MAX_LANES}", frozen.lanes)));
    }
    if frozen.rows() != shape.rows {
        return Err(corrupt("its parts do not add up".to_owned()));
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

fn shape(frozen: &Frozen) -> IndexShape {
    IndexShape {
        sha256: None,
        version: if frozen.lanes > 1 { SPREAD_VERSION } else { VERSION },
        lanes: frozen.lanes,
        rows: frozen.rows(),
        read: frozen.read,
        parts: frozen.parts.iter().map(|part| PartShape { rows: part.rows, bytes: part.bytes }).collect(),
        pin: pin_shape(&frozen.pin),
        warnings: frozen.warnings.iter().map(WarningShape::from).collect(),
        reach: (&frozen.reach).into(),
        census: frozen.census.as_deref().map(CensusShape::from),
    }
}

impl Pin {
    /// Returns the JSON text, for storage outside of the index.
    ///
    /// # Errors
    /// Returns the errors of [`serde_json::to_string`], none of which occurs in practice.
    pub fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string(&pin_shape(self))
    }

    /// Parses such a text. Returns `None` if it is invalid.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        pin(serde_json::from_str(text).ok()?).ok()
    }
}

fn pin_shape(pin: &Pin) -> PinShape {
    match pin {
        Pin::Listing => PinShape::Listing,
        Pin::Object { bucket, key, etag, sha256 } => PinShape::Object {
            bucket: bucket.to_string(),
            key: key.encoded_keeping_slashes(),
            etag: etag.clone(),
            sha256: sha256.clone(),
        },
        Pin::File { path, sha256, seen } => PinShape::File {
            path: path.clone(),
            sha256: sha256.clone(),
            seen: seen.map(|seen| SeenShape { size: seen.size, modified: seen.modified.to_string() }),
        },
        Pin::Inventory { bucket, key, etag, created } => PinShape::Inventory {
            bucket: bucket.to_string(),
            key: key.encoded_keeping_slashes(),
            etag: etag.clone(),
            created: created.map(|at| at.to_string()),
        },
    }
}

fn pin(shape: PinShape) -> Result<Pin, String> {
    Ok(match shape {
        PinShape::Listing => Pin::Listing,
        PinShape::Object { bucket, key, etag, sha256 } => {
            Pin::Object { bucket: Bucket::new(&bucket), key: Key::decode(key.as_bytes()), etag, sha256 }
        }
        PinShape::File { path, sha256, seen } => {
            Pin::File { path, sha256, seen: seen.as_ref().map(seen_of).transpose()? }
        }
        PinShape::Inventory { bucket, key, etag, created } => Pin::Inventory {
            bucket: Bucket::new(&bucket),
            key: Key::decode(key.as_bytes()),
            etag,
            created: created.as_deref().map(moment).transpose()?,
        },
    })
}

fn seen_of(shape: &SeenShape) -> Result<Seen, String> {
    Ok(Seen { size: shape.size, modified: moment(&shape.modified)? })
}

fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|why: jiff::Error| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frozen(folder: &Path, pin: Pin) -> Frozen {
        let warnings = vec![Warning { message: "m".into(), help: "h".into() }];
        let (first, last) = (Key::new(&b"%a+ \xff"[..]), Key::new(&b"z\n"[..]));
        let reach = Reach::Known(vec![KeyRange { bucket: Bucket::new("b"), first, last }]);
        let parts = vec![PartInfo { rows: 3, bytes: 99 }];
        let census = Some(Box::default());
        Frozen { folder: folder.to_owned(), read: 7, parts, pin, warnings, reach, census, lanes: 1, proven: true }
    }

    #[test]
    fn an_index_comes_back_with_any_pin() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::new("b");
        let key = Key::new(&b"a+b/\xff c"[..]);
        let seen = Seen { size: 7, modified: Timestamp::new(3, 141_592_653).unwrap() };
        let pins = [
            Pin::Listing,
            Pin::Object { bucket: bucket.clone(), key: key.clone(), etag: "e".into(), sha256: "00".into() },
            Pin::File { path: "x/y.csv".into(), sha256: "00".into(), seen: None },
            Pin::File { path: "x/y.csv".into(), sha256: "00".into(), seen: Some(seen) },
            Pin::Inventory { bucket, key, etag: "e".into(), created: Some(Timestamp::UNIX_EPOCH) },
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
    fn an_index_of_an_earlier_build_has_an_unknown_reach() {
        let folder = tempfile::tempdir().unwrap();
        let pin = r#"{"file":{"path":"x.csv","sha256":"00"}}"#;
        let text = format!(r#"{{"version":1,"rows":0,"read":5,"parts":[],"pin":{pin},"warnings":[]}}"#);
        fs::write(folder.path().join(NAME), text).unwrap();
        let frozen = load(folder.path()).unwrap().unwrap();
        assert_eq!(frozen.reach, Reach::Unknown);
        assert_eq!(frozen.pin, Pin::File { path: "x.csv".into(), sha256: "00".into(), seen: None });
        assert!(!frozen.proven);
        save(&frozen).unwrap();
        assert_eq!(load(folder.path()).unwrap(), Some(Frozen { proven: true, ..frozen }));
    }

    #[test]
    fn no_bit_of_an_index_can_turn_unseen() {
        let folder = tempfile::tempdir().unwrap();
        let saved = Frozen { lanes: 3, ..frozen(folder.path(), Pin::Listing) };
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
                Ok(Some(found)) => assert_eq!(Frozen { proven: true, ..found }, saved, "bit {bit}"),
                other => panic!("bit {bit}: {other:?}"),
            }
        }
    }

    #[test]
    fn lanes_are_told_in_a_form_that_earlier_builds_refuse() {
        let folder = tempfile::tempdir().unwrap();
        let spread = Frozen { lanes: 3, ..frozen(folder.path(), Pin::Listing) };
        save(&spread).unwrap();
        assert_eq!(load(folder.path()).unwrap(), Some(spread.clone()));
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert!(text.contains(r#""version": 2"#), "{text}");
        save(&Frozen { lanes: 9, ..spread }).unwrap();
        assert!(load(folder.path()).unwrap_err().to_string().contains("9 lanes"));
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

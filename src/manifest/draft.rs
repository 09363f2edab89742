//! `progress.json`: how far an unfinished freezing has come, so that the next attempt goes on there.
//!
//! The rows in the parts that it names are exactly those that the source has before its mark. It is written at once, and
//! only when the parts are on disk: after a crash there is this draft or the one before, and parts that have at least
//! what it says of them. A draft that is damaged, or that is not about this source and filter, is as good as none.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{ManifestError, Warning};
use super::frozen::PartInfo;
use super::index::{ReachShape, WarningShape};
use super::part::Written;
use super::reach::Reach;
use super::sink::Prepared;
use super::spec::{InventoryObject, Manifest, Source};
use crate::files::write_at_once;
use crate::hex::hex;
use crate::object::{Key, VersionId};
use crate::store::ListMark;

/// The file's name.
const NAME: &str = "progress.json";

/// Its name while it is written.
const TEMPORARY: &str = "progress.json.draft";

/// The version of the file's form; a draft of another one is left alone, and preparing begins again.
const VERSION: u32 = 1;

/// The longest draft there can be, by the same reckoning as the index.
const MAX_BYTES: u64 = 16 << 20;

/// An unfinished freezing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) prepared: Prepared,
    pub(super) written: Written,
    pub(super) warnings: Vec<Warning>,
    pub(super) reach: Reach,
    pub(super) mark: Mark,
}

/// Where in its source an unfinished freezing goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Behind a page of a listing.
    Listing {
        /// What the server is asked to go on from.
        from: ListMark,
        /// The last key that was listed.
        last: Option<Key>,
    },
    /// Behind a data file of an inventory.
    Inventory {
        /// The key of its `manifest.json`.
        key: Key,
        /// The `ETag` that this had, without quotes.
        etag: String,
        /// How many of its data files are done.
        files: usize,
        /// The first row with a raw `+`, and how many there are.
        plus: Option<(String, u64)>,
    },
}

/// What an unfinished freezing must have been of to be gone on with: a digest of source and filter; `None` for a
/// source that is always read from its beginning.
pub(super) fn fingerprint(manifest: &Manifest) -> Option<String> {
    let source = match &manifest.source {
        Source::Prefix { bucket, prefix, versions } => format!("prefix {bucket} {} {versions:?}", prefix.encoded()),
        Source::Inventory { bucket, object, dialect } => {
            let object = match object {
                InventoryObject::Exact { key, etag } => format!("{} {etag:?}", key.encoded()),
                InventoryObject::Latest { prefix } => format!("latest {}", prefix.encoded()),
            };
            format!("inventory {bucket} {object} {dialect:?}")
        }
        // One pinned file, or few: their beginning is read again faster than what is frozen of it could be checked.
        Source::Csv { .. } | Source::Report { .. } | Source::Retry { .. } => return None,
    };
    Some(hex(&Sha256::digest(format!("{source}\n{:?}", manifest.filter))))
}

/// Keeps the draft of one freezing.
pub(super) struct Keeper {
    home: std::path::PathBuf,
    fingerprint: String,
}

impl Keeper {
    /// Keeps it in this folder, under this fingerprint.
    pub(super) fn new(home: &Path, fingerprint: String) -> Self {
        Self { home: home.to_owned(), fingerprint }
    }

    /// Replaces the draft. What it says of the parts must be on disk.
    pub(super) fn save(&self, draft: &Draft) -> Result<(), ManifestError> {
        let shape = DraftShape {
            version: VERSION,
            fingerprint: self.fingerprint.clone(),
            read: draft.prepared.read,
            taken: draft.prepared.taken,
            sealed: draft.written.sealed.iter().map(pair).collect(),
            open: draft.written.open.as_ref().map(pair),
            warnings: draft.warnings.iter().map(WarningShape::from).collect(),
            reach: (&draft.reach).into(),
            mark: (&draft.mark).into(),
        };
        let write = || {
            let crc32 = shape.crc32()?;
            write_at_once(&self.home, NAME, &serde_json::to_vec(&Checked { crc32, draft: shape })?)
        };
        write().map_err(|cause| ManifestError::disk("write", &self.home.join(NAME), cause))
    }

    /// The draft that was kept last, where it is whole and of this source and filter.
    pub(super) fn load(&self) -> Result<Option<Draft>, ManifestError> {
        let path = self.home.join(NAME);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(ManifestError::disk("open", &path, cause)),
        };
        let mut text = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(|cause| ManifestError::disk("read", &path, cause))?;
        let Ok(Checked { crc32, draft }) = serde_json::from_slice(&text) else { return Ok(None) };
        let ours = draft.version == VERSION && draft.fingerprint == self.fingerprint;
        let whole = draft.crc32().is_ok_and(|found| found == crc32);
        Ok(if ours && whole { draft.read() } else { None })
    }
}

/// Whether there is one, of whatever source.
pub(super) fn is_there(home: &Path) -> bool {
    home.join(NAME).exists()
}

/// Removes the draft, where there is one, and one that was never finished.
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

/// A digit that flipped is still a digit, so that JSON alone does not show damage.
#[derive(Serialize, Deserialize)]
struct Checked {
    crc32: u32,
    draft: DraftShape,
}

/// Parts are pairs of rows and bytes, and keys are URL-encoded.
#[derive(Serialize, Deserialize)]
struct DraftShape {
    version: u32,
    fingerprint: String,
    read: u64,
    taken: u64,
    sealed: Vec<(u32, u64)>,
    open: Option<(u32, u64)>,
    warnings: Vec<WarningShape>,
    reach: ReachShape,
    mark: MarkShape,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MarkShape {
    Token { token: String, last: Option<String> },
    After { key: String, version: Option<String>, last: Option<String> },
    Inventory { key: String, etag: String, files: usize, plus: Option<(String, u64)> },
}

impl DraftShape {
    /// CRC-32 of its own text; the same for the same content.
    fn crc32(&self) -> Result<u32, serde_json::Error> {
        Ok(crc32fast::hash(&serde_json::to_vec(self)?))
    }

    fn read(self) -> Option<Draft> {
        let written = Written { sealed: self.sealed.into_iter().map(info).collect(), open: self.open.map(info) };
        let rows: u64 = written.sealed.iter().chain(&written.open).map(|part| u64::from(part.rows)).sum();
        (rows == self.taken).then(|| Draft {
            prepared: Prepared { read: self.read, taken: self.taken },
            written,
            warnings: self.warnings.into_iter().map(Warning::from).collect(),
            reach: self.reach.into(),
            mark: self.mark.into(),
        })
    }
}

impl From<&Mark> for MarkShape {
    fn from(mark: &Mark) -> Self {
        let encoded = Key::encoded_keeping_slashes;
        match mark {
            Mark::Listing { from: ListMark::Token(token), last } => {
                Self::Token { token: token.clone(), last: last.as_ref().map(encoded) }
            }
            Mark::Listing { from: ListMark::After { key, version }, last } => Self::After {
                key: encoded(key),
                version: version.as_ref().map(|version| version.as_str().to_owned()),
                last: last.as_ref().map(encoded),
            },
            Mark::Inventory { key, etag, files, plus } => {
                Self::Inventory { key: encoded(key), etag: etag.clone(), files: *files, plus: plus.clone() }
            }
        }
    }
}

impl From<MarkShape> for Mark {
    fn from(shape: MarkShape) -> Self {
        let decoded = |text: String| Key::decode(text.as_bytes());
        match shape {
            MarkShape::Token { token, last } => Self::Listing { from: ListMark::Token(token), last: last.map(decoded) },
            MarkShape::After { key, version, last } => Self::Listing {
                from: ListMark::After { key: decoded(key), version: version.as_deref().map(VersionId::new) },
                last: last.map(decoded),
            },
            MarkShape::Inventory { key, etag, files, plus } => Self::Inventory { key: decoded(key), etag, files, plus },
        }
    }
}

fn pair(part: &PartInfo) -> (u32, u64) {
    (part.rows, part.bytes)
}

fn info((rows, bytes): (u32, u64)) -> PartInfo {
    PartInfo { rows, bytes }
}

#[cfg(test)]
mod tests {
    use globset::Glob;

    use super::*;
    use crate::manifest::KeyGlobs;
    use crate::manifest::reach::KeyRange;
    use crate::manifest::spec::{CsvPlace, Dialect, Filter, Versions};
    use crate::object::Bucket;

    fn draft(mark: Mark) -> Draft {
        let key = Key::new(&b"a+b/%41\xff\n"[..]);
        Draft {
            prepared: Prepared { read: 12, taken: 9 },
            written: Written {
                sealed: vec![PartInfo { rows: 7, bytes: 99 }],
                open: Some(PartInfo { rows: 2, bytes: 40 }),
            },
            warnings: vec![Warning { message: "m".into(), help: "h".into() }],
            reach: Reach::Known(vec![KeyRange { bucket: Bucket::new("b"), first: key.clone(), last: key }]),
            mark,
        }
    }

    fn marks() -> Vec<Mark> {
        let key = Key::new(&b"k +%20\xff"[..]);
        vec![
            Mark::Listing { from: ListMark::Token("t\"\n".into()), last: None },
            Mark::Listing { from: ListMark::Token(String::new()), last: Some(key.clone()) },
            Mark::Listing { from: ListMark::After { key: key.clone(), version: None }, last: Some(key.clone()) },
            Mark::Listing {
                from: ListMark::After { key: key.clone(), version: Some(VersionId::new("v%20")) },
                last: Some(key.clone()),
            },
            Mark::Inventory { key, etag: "e".into(), files: 3, plus: Some(("row 1".into(), 2)) },
        ]
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
        let saved = draft(marks().remove(1));
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
}

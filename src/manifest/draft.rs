//! `progress.json`: the checkpoint of an unfinished freeze, which the next attempt resumes from.
//!
//! The parts that it lists hold exactly the rows that the source has before its cursor. It is replaced atomically, and
//! only after the parts are on disk: after a crash there is either this checkpoint or the previous one, and the parts
//! hold at least the rows that it records. A checkpoint that is damaged, or that belongs to another source or filter,
//! is ignored.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::census::{Census, CensusShape};
use super::error::{ManifestError, Warning};
use super::frozen::PartInfo;
use super::index::{ReachShape, WarningShape};
use super::part::{Lane, Written};
use super::reach::Reach;
use super::sink::Prepared;
use super::spec::{InventoryObject, Manifest, Source};
use crate::files::{open_own, write_at_once};
use crate::hex::hex;
use crate::object::{Key, VersionId};
use crate::store::ListMark;

const NAME: &str = "progress.json";

/// The name of the temporary file that replaces it.
const TEMPORARY: &str = "progress.json.draft";

/// The version of the file format. A checkpoint of another version is ignored, and the freeze starts over.
const VERSION: u32 = 3;

/// The maximum size of the file in bytes, derived like that of the index.
const MAX_BYTES: u64 = 16 << 20;

/// The checkpoint of an unfinished freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    /// The partitions, by number.
    pub(super) lanes: Vec<Kept>,
    pub(super) warnings: Vec<Warning>,
    pub(super) mark: Mark,
}

/// The rows of a partition that survive a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) prepared: Prepared,
    pub(super) written: Written,
    pub(super) reach: Reach,
    pub(super) census: Census,
}

/// The position in the source where an unfinished freeze resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// After a page of each range of a listing. In key order, the ranges cover the prefix without gaps.
    Listing(Vec<RangeMark>),
    /// After a data file of an inventory.
    Inventory {
        /// The key of its `manifest.json`.
        key: Key,
        /// The `ETag` of the `manifest.json`, without quotes.
        etag: String,
        /// The number of data files that have been read.
        files: usize,
        /// The first row with a raw `+`, and the number of such rows.
        plus: Option<(String, u64)>,
    },
}

/// The progress in one range of a listing: the keys after `after`, up to and including `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RangeMark {
    /// The partition that holds its rows.
    pub(super) lane: Lane,
    /// `None` is the beginning of the prefix.
    pub(super) after: Option<Key>,
    /// `None` is the end of the prefix.
    pub(super) until: Option<Key>,
    /// The last key that was listed.
    pub(super) last: Option<Key>,
    /// The next request for the range.
    pub(super) next: Next,
}

/// Where the listing of a range continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// List from here; `None` is the beginning of the prefix.
    List(Option<ListMark>),
    /// The range has been listed to its end.
    Done,
}

/// Returns the digest of source and filter that a checkpoint must match to be resumed. Returns `None` for a source that
/// is always read from its beginning.
pub(super) fn fingerprint(manifest: &Manifest) -> Option<String> {
    let source = match &manifest.source {
        Source::Prefix { bucket, prefix, versions } => format!("prefix {bucket} {} {versions:?}", prefix.encoded()),
        Source::Inventory { bucket, object, dialect } => {
            let object = match object {
                InventoryObject::Exact { key, etag } => format!("{} {etag:?}", key.encoded()),
                // These are sorted again in every attempt.
                InventoryObject::Changed(_) | InventoryObject::Once { .. } => return None,
                InventoryObject::Latest { prefix } => format!("latest {}", prefix.encoded()),
            };
            format!("inventory {bucket} {object} {dialect:?}")
        }
        // One or few pinned files: reading them again is faster than checking what is already frozen.
        Source::Csv { .. } | Source::Report { .. } | Source::Retry { .. } => return None,
    };
    Some(hex(&Sha256::digest(format!("{source}\n{:?}", manifest.filter))))
}

/// Loads and saves the checkpoint of one freeze.
pub(super) struct Keeper {
    home: std::path::PathBuf,
    fingerprint: String,
}

impl Keeper {
    pub(super) fn new(home: &Path, fingerprint: String) -> Self {
        Self { home: home.to_owned(), fingerprint }
    }

    /// Replaces the checkpoint. The parts that it lists must be on disk.
    pub(super) fn save(&self, draft: &Draft) -> Result<(), ManifestError> {
        let shape = DraftShape {
            version: VERSION,
            fingerprint: self.fingerprint.clone(),
            lanes: draft.lanes.iter().map(LaneShape::from).collect(),
            warnings: draft.warnings.iter().map(WarningShape::from).collect(),
            mark: (&draft.mark).into(),
        };
        let write = || {
            let crc32 = shape.crc32()?;
            write_at_once(&self.home, NAME, &serde_json::to_vec(&Checked { crc32, draft: shape })?)
        };
        write().map_err(|cause| ManifestError::disk("write", &self.home.join(NAME), cause))
    }

    /// Loads the last checkpoint, if it is intact and belongs to this source and filter.
    pub(super) fn load(&self) -> Result<Option<Draft>, ManifestError> {
        let path = self.home.join(NAME);
        let file = match open_own(&path, File::options().read(true)) {
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

/// Returns whether there is a checkpoint, of any source.
pub(super) fn is_there(home: &Path) -> bool {
    home.join(NAME).exists()
}

/// Removes the checkpoint, and a temporary file that was never renamed.
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

/// Adds a checksum: a flipped bit may turn one digit into another, which is still valid JSON.
#[derive(Serialize, Deserialize)]
struct Checked {
    crc32: u32,
    draft: DraftShape,
}

/// The JSON form. Keys are URL-encoded.
#[derive(Serialize, Deserialize)]
struct DraftShape {
    version: u32,
    fingerprint: String,
    lanes: Vec<LaneShape>,
    warnings: Vec<WarningShape>,
    mark: MarkShape,
}

/// A part is a pair of rows and bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LaneShape {
    read: u64,
    taken: u64,
    sealed: Vec<(u32, u64)>,
    open: Option<(u32, u64)>,
    reach: ReachShape,
    census: CensusShape,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MarkShape {
    Listing(Vec<RangeShape>),
    Inventory { key: String, etag: String, files: usize, plus: Option<(String, u64)> },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeShape {
    lane: u32,
    after: Option<String>,
    until: Option<String>,
    last: Option<String>,
    next: NextShape,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum NextShape {
    Beginning,
    Token(String),
    After { key: String, version: Option<String> },
    Done,
}

impl DraftShape {
    /// Returns the CRC-32 of the JSON text, which depends only on the content.
    fn crc32(&self) -> Result<u32, serde_json::Error> {
        Ok(crc32fast::hash(&serde_json::to_vec(self)?))
    }

    fn read(self) -> Option<Draft> {
        let lanes = self.lanes.into_iter().map(LaneShape::read).collect::<Option<Vec<_>>>()?;
        let mark = Mark::from(self.mark);
        let has_lanes = match &mark {
            Mark::Listing(ranges) => are_whole(ranges, lanes.len()),
            Mark::Inventory { .. } => lanes.len() == 1,
        };
        has_lanes.then(|| Draft { lanes, warnings: self.warnings.into_iter().map(Warning::from).collect(), mark })
    }
}

/// Returns whether the ranges cover the prefix without gaps, and each range has its own partition.
fn are_whole(ranges: &[RangeMark], lanes: usize) -> bool {
    let mut numbers: Vec<u32> = ranges.iter().map(|range| range.lane.0).collect();
    numbers.sort_unstable();
    let joined = ranges.windows(2).all(|pair| pair[0].until.is_some() && pair[0].until == pair[1].after);
    let ends =
        ranges.first().is_some_and(|it| it.after.is_none()) && ranges.last().is_some_and(|it| it.until.is_none());
    ranges.len() == lanes && joined && ends && (0_u32..).zip(&numbers).all(|(lane, found)| lane == *found)
}

impl From<&Kept> for LaneShape {
    fn from(kept: &Kept) -> Self {
        Self {
            read: kept.prepared.read,
            taken: kept.prepared.taken,
            sealed: kept.written.sealed.iter().map(pair).collect(),
            open: kept.written.open.as_ref().map(pair),
            reach: (&kept.reach).into(),
            census: (&kept.census).into(),
        }
    }
}

impl LaneShape {
    fn read(self) -> Option<Kept> {
        let written = Written { sealed: self.sealed.into_iter().map(info).collect(), open: self.open.map(info) };
        let rows: u64 = written.sealed.iter().chain(&written.open).map(|part| u64::from(part.rows)).sum();
        let prepared = Prepared { read: self.read, taken: self.taken };
        (rows == self.taken).then(|| Kept { prepared, written, reach: self.reach.into(), census: self.census.into() })
    }
}

impl From<&Mark> for MarkShape {
    fn from(mark: &Mark) -> Self {
        match mark {
            Mark::Listing(ranges) => Self::Listing(ranges.iter().map(RangeShape::from).collect()),
            Mark::Inventory { key, etag, files, plus } => {
                Self::Inventory { key: encoded(key), etag: etag.clone(), files: *files, plus: plus.clone() }
            }
        }
    }
}

impl From<MarkShape> for Mark {
    fn from(shape: MarkShape) -> Self {
        match shape {
            MarkShape::Listing(ranges) => Self::Listing(ranges.into_iter().map(RangeMark::from).collect()),
            MarkShape::Inventory { key, etag, files, plus } => {
                Self::Inventory { key: decoded(&key), etag, files, plus }
            }
        }
    }
}

impl From<&RangeMark> for RangeShape {
    fn from(range: &RangeMark) -> Self {
        Self {
            lane: range.lane.0,
            after: range.after.as_ref().map(encoded),
            until: range.until.as_ref().map(encoded),
            last: range.last.as_ref().map(encoded),
            next: match &range.next {
                Next::List(None) => NextShape::Beginning,
                Next::List(Some(ListMark::Token(token))) => NextShape::Token(token.clone()),
                Next::List(Some(ListMark::After { key, version })) => NextShape::After {
                    key: encoded(key),
                    version: version.as_ref().map(|version| version.as_str().to_owned()),
                },
                Next::Done => NextShape::Done,
            },
        }
    }
}

impl From<RangeShape> for RangeMark {
    fn from(shape: RangeShape) -> Self {
        Self {
            lane: Lane(shape.lane),
            after: shape.after.as_deref().map(decoded),
            until: shape.until.as_deref().map(decoded),
            last: shape.last.as_deref().map(decoded),
            next: match shape.next {
                NextShape::Beginning => Next::List(None),
                NextShape::Token(token) => Next::List(Some(ListMark::Token(token))),
                NextShape::After { key, version } => Next::List(Some(ListMark::After {
                    key: decoded(&key),
                    version: version.as_deref().map(VersionId::new),
                })),
                NextShape::Done => Next::Done,
            },
        }
    }
}

fn encoded(key: &Key) -> String {
    key.encoded_keeping_slashes()
}

fn decoded(text: &str) -> Key {
    Key::decode(text.as_bytes())
}

fn pair(part: &PartInfo) -> (u32, u64) {
    (part.rows, part.bytes)
}

fn info((rows, bytes): (u32, u64)) -> PartInfo {
    PartInfo { rows, bytes }
}

#[cfg(test)]
mod tests;

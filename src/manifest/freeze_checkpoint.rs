//! `progress.json`: the checkpoint of an unfinished freeze, and how the next attempt resumes from it.
//!
//! The parts that it lists hold exactly the rows that the source has before its cursor. It is replaced atomically, and
//! only after the parts are on disk: after a crash there is either this checkpoint or the previous one, and the parts
//! hold at least the rows that it records. A checkpoint that is damaged, or that belongs to another source or filter,
//! is ignored.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use batchplan_store::ListPosition;
use batchplan_store::hex::hex;
use batchplan_store::object::{ObjectKey, VersionId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{ManifestError, ManifestWarning};
use super::frozen::{KeyRangesJson, ManifestWarningJson};
use super::key_ranges::KeyRanges;
use super::part::{ManifestPart, WrittenParts};
use super::row_visitor::{FreezeProgress, PartitionId, RangeCursor, RangePosition, SourceCursor};
use super::source_metadata::{StorageClassStats, StorageClassStatsJson};
use super::spec::{InventorySelector, Manifest, ManifestSource, OnUnlistable};
use crate::files::{open_regular, write_atomic};

const NAME: &str = "progress.json";

/// The name of the temporary file that replaces it.
const TEMPORARY: &str = "progress.json.draft";

/// The version of the file format. A checkpoint of another version is ignored, and the freeze starts over.
const VERSION: u32 = 3;

/// The maximum size of the file in bytes, derived like that of the index.
const MAX_BYTES: u64 = 16 << 20;

/// The rows of a partition that survive a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartitionCheckpoint {
    pub(super) progress: FreezeProgress,
    pub(super) parts: WrittenParts,
    pub(super) key_ranges: KeyRanges,
    pub(super) class_stats: StorageClassStats,
}

/// The checkpoint of an unfinished freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FreezeCheckpoint {
    /// The partitions, by number.
    pub(super) partitions: Vec<PartitionCheckpoint>,
    pub(super) warnings: Vec<ManifestWarning>,
    pub(super) cursor: SourceCursor,
}

/// Returns the digest of source and filter that a checkpoint must match to be resumed. Returns `None` for a source that
/// is always read from its beginning.
fn fingerprint(manifest: &Manifest) -> Option<String> {
    let source = match &manifest.source {
        ManifestSource::Prefix { bucket, prefix, versions, on_unlistable } => {
            let listed = format!("prefix {bucket} {} {versions:?}", prefix.encoded());
            // Earlier releases wrote nothing here, and failed.
            match on_unlistable {
                OnUnlistable::Fail => listed,
                OnUnlistable::Report => format!("{listed} report"),
            }
        }
        ManifestSource::Inventory { bucket, selector, dialect } => {
            let inventory = match selector {
                InventorySelector::Exact { key, etag } => format!("{} {etag:?}", key.encoded()),
                // These are sorted again in every attempt.
                InventorySelector::Changed(_) | InventorySelector::Distinct { .. } => return None,
                InventorySelector::Latest { prefix } => format!("latest {}", prefix.encoded()),
            };
            format!("inventory {bucket} {inventory} {dialect:?}")
        }
        // One or few pinned files: reading them again is faster than checking what is already frozen.
        ManifestSource::Csv { .. }
        | ManifestSource::Report { .. }
        | ManifestSource::Retry { .. }
        | ManifestSource::Succeeded { .. }
        | ManifestSource::Undo(_) => return None,
    };
    Some(hex(&Sha256::digest(format!("{source}\n{:?}", manifest.filter))))
}

/// Loads and saves the checkpoint of one freeze.
pub(super) struct FreezeCheckpointStore {
    manifest_dir: PathBuf,
    fingerprint: String,
}

impl FreezeCheckpointStore {
    /// Returns `None` for a source that is always read from its beginning.
    pub(super) fn new(manifest_dir: &Path, manifest: &Manifest) -> Option<Self> {
        Some(Self { manifest_dir: manifest_dir.to_owned(), fingerprint: fingerprint(manifest)? })
    }

    /// Replaces the checkpoint. The parts that it lists must be on disk.
    pub(super) fn save(&self, checkpoint: &FreezeCheckpoint) -> Result<(), ManifestError> {
        let json = FreezeCheckpointJson {
            version: VERSION,
            fingerprint: self.fingerprint.clone(),
            partitions: checkpoint.partitions.iter().map(PartitionCheckpointJson::from).collect(),
            warnings: checkpoint.warnings.iter().map(ManifestWarningJson::from).collect(),
            cursor: (&checkpoint.cursor).into(),
        };
        let write = || {
            let crc32 = json.crc32()?;
            write_atomic(
                &self.manifest_dir,
                NAME,
                &serde_json::to_vec(&ChecksummedCheckpoint { crc32, checkpoint: json })?,
            )
        };
        write().map_err(|cause| ManifestError::disk("write", &self.manifest_dir.join(NAME), cause))
    }

    /// Loads the last checkpoint, if it is intact and belongs to this source and filter.
    pub(super) fn load(&self) -> Result<Option<FreezeCheckpoint>, ManifestError> {
        let path = self.manifest_dir.join(NAME);
        let file = match open_regular(&path, File::options().read(true)) {
            Ok(file) => file,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(ManifestError::disk("open", &path, cause)),
        };
        let mut text = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(|cause| ManifestError::disk("read", &path, cause))?;
        let Ok(ChecksummedCheckpoint { crc32, checkpoint: json }) = serde_json::from_slice(&text) else {
            return Ok(None);
        };
        let ours = json.version == VERSION && json.fingerprint == self.fingerprint;
        let intact = json.crc32().is_ok_and(|found| found == crc32);
        Ok(if ours && intact { json.into_checkpoint() } else { None })
    }
}

/// Returns whether there is a checkpoint, of any source.
pub(super) fn exists(manifest_dir: &Path) -> bool {
    manifest_dir.join(NAME).exists()
}

/// Removes the checkpoint, and a temporary file that was never renamed.
pub(super) fn remove(manifest_dir: &Path) -> Result<(), ManifestError> {
    for path in [manifest_dir.join(NAME), manifest_dir.join(TEMPORARY)] {
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
struct ChecksummedCheckpoint {
    crc32: u32,
    #[serde(rename = "draft")]
    checkpoint: FreezeCheckpointJson,
}

/// The JSON form. Keys are URL-encoded.
#[derive(Serialize, Deserialize)]
struct FreezeCheckpointJson {
    version: u32,
    fingerprint: String,
    #[serde(rename = "lanes")]
    partitions: Vec<PartitionCheckpointJson>,
    warnings: Vec<ManifestWarningJson>,
    #[serde(rename = "mark")]
    cursor: SourceCursorJson,
}

/// A part is a pair of rows and bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartitionCheckpointJson {
    #[serde(rename = "read")]
    rows_read: u64,
    #[serde(rename = "taken")]
    rows_included: u64,
    sealed: Vec<(u32, u64)>,
    open: Option<(u32, u64)>,
    #[serde(rename = "reach")]
    key_ranges: KeyRangesJson,
    #[serde(rename = "census")]
    class_stats: StorageClassStatsJson,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SourceCursorJson {
    Listing(Vec<RangeCursorJson>),
    Inventory { key: String, etag: String, files: usize, plus: Option<(String, u64)> },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeCursorJson {
    #[serde(rename = "lane")]
    partition: u32,
    after: Option<String>,
    until: Option<String>,
    last: Option<String>,
    #[serde(rename = "next")]
    position: RangePositionJson,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum RangePositionJson {
    Beginning,
    Token(String),
    After { key: String, version: Option<String> },
    Done,
}

impl FreezeCheckpointJson {
    /// Returns the CRC-32 of the JSON text, which depends only on the content.
    fn crc32(&self) -> Result<u32, serde_json::Error> {
        Ok(crc32fast::hash(&serde_json::to_vec(self)?))
    }

    fn into_checkpoint(self) -> Option<FreezeCheckpoint> {
        let partitions =
            self.partitions.into_iter().map(PartitionCheckpointJson::into_checkpoint).collect::<Option<Vec<_>>>()?;
        let cursor = SourceCursor::from(self.cursor);
        let has_all_partitions = match &cursor {
            SourceCursor::Listing(ranges) => cover_prefix(ranges, partitions.len()),
            SourceCursor::Inventory { .. } => partitions.len() == 1,
        };
        has_all_partitions.then(|| FreezeCheckpoint {
            partitions,
            warnings: self.warnings.into_iter().map(ManifestWarning::from).collect(),
            cursor,
        })
    }
}

/// Returns whether the ranges cover the prefix without gaps, and each range has its own partition.
fn cover_prefix(ranges: &[RangeCursor], partitions: usize) -> bool {
    let mut numbers: Vec<u32> = ranges.iter().map(|range| range.partition.0).collect();
    numbers.sort_unstable();
    let joined = ranges.windows(2).all(|pair| pair[0].until.is_some() && pair[0].until == pair[1].after);
    let ends =
        ranges.first().is_some_and(|it| it.after.is_none()) && ranges.last().is_some_and(|it| it.until.is_none());
    ranges.len() == partitions && joined && ends && (0_u32..).zip(&numbers).all(|(number, found)| number == *found)
}

impl From<&PartitionCheckpoint> for PartitionCheckpointJson {
    fn from(saved: &PartitionCheckpoint) -> Self {
        Self {
            rows_read: saved.progress.rows_read,
            rows_included: saved.progress.rows_included,
            sealed: saved.parts.sealed.iter().map(part_to_pair).collect(),
            open: saved.parts.open.as_ref().map(part_to_pair),
            key_ranges: (&saved.key_ranges).into(),
            class_stats: (&saved.class_stats).into(),
        }
    }
}

impl PartitionCheckpointJson {
    fn into_checkpoint(self) -> Option<PartitionCheckpoint> {
        let written = WrittenParts {
            sealed: self.sealed.into_iter().map(part_from_pair).collect(),
            open: self.open.map(part_from_pair),
        };
        let rows: u64 = written.sealed.iter().chain(&written.open).map(|part| u64::from(part.rows)).sum();
        let progress = FreezeProgress { rows_read: self.rows_read, rows_included: self.rows_included };
        (rows == self.rows_included).then(|| PartitionCheckpoint {
            progress,
            parts: written,
            key_ranges: self.key_ranges.into(),
            class_stats: self.class_stats.into(),
        })
    }
}

impl From<&SourceCursor> for SourceCursorJson {
    fn from(cursor: &SourceCursor) -> Self {
        match cursor {
            SourceCursor::Listing(ranges) => Self::Listing(ranges.iter().map(RangeCursorJson::from).collect()),
            SourceCursor::Inventory { key, etag, files, raw_plus: plus } => {
                Self::Inventory { key: encode_key(key), etag: etag.clone(), files: *files, plus: plus.clone() }
            }
        }
    }
}

impl From<SourceCursorJson> for SourceCursor {
    fn from(json: SourceCursorJson) -> Self {
        match json {
            SourceCursorJson::Listing(ranges) => Self::Listing(ranges.into_iter().map(RangeCursor::from).collect()),
            SourceCursorJson::Inventory { key, etag, files, plus } => {
                Self::Inventory { key: decode_key(&key), etag, files, raw_plus: plus }
            }
        }
    }
}

impl From<&RangeCursor> for RangeCursorJson {
    fn from(range: &RangeCursor) -> Self {
        Self {
            partition: range.partition.0,
            after: range.after.as_ref().map(encode_key),
            until: range.until.as_ref().map(encode_key),
            last: range.last.as_ref().map(encode_key),
            position: match &range.position {
                RangePosition::ListFrom(None) => RangePositionJson::Beginning,
                RangePosition::ListFrom(Some(ListPosition::Token(token))) => RangePositionJson::Token(token.clone()),
                RangePosition::ListFrom(Some(ListPosition::After { key, version })) => RangePositionJson::After {
                    key: encode_key(key),
                    version: version.as_ref().map(|version| version.as_str().to_owned()),
                },
                RangePosition::Finished => RangePositionJson::Done,
            },
        }
    }
}

impl From<RangeCursorJson> for RangeCursor {
    fn from(json: RangeCursorJson) -> Self {
        Self {
            partition: PartitionId(json.partition),
            after: json.after.as_deref().map(decode_key),
            until: json.until.as_deref().map(decode_key),
            last: json.last.as_deref().map(decode_key),
            position: match json.position {
                RangePositionJson::Beginning => RangePosition::ListFrom(None),
                RangePositionJson::Token(token) => RangePosition::ListFrom(Some(ListPosition::Token(token))),
                RangePositionJson::After { key, version } => RangePosition::ListFrom(Some(ListPosition::After {
                    key: decode_key(&key),
                    version: version.as_deref().map(VersionId::new),
                })),
                RangePositionJson::Done => RangePosition::Finished,
            },
        }
    }
}

fn encode_key(key: &ObjectKey) -> String {
    key.encoded_keeping_slashes()
}

fn decode_key(text: &str) -> ObjectKey {
    ObjectKey::decode(text.as_bytes())
}

fn part_to_pair(part: &ManifestPart) -> (u32, u64) {
    (part.rows, part.bytes)
}

fn part_from_pair((rows, bytes): (u32, u64)) -> ManifestPart {
    ManifestPart { rows, bytes }
}

#[cfg(test)]
mod tests;

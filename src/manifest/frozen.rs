//! A frozen manifest: its source and its rows.
//!
//! Its `index.json` is written last and atomically, so that a folder without it is not a frozen manifest.
//!
//! # The order in which the rows are processed
//!
//! Adjacent rows have adjacent keys, and stores keep adjacent keys on one machine: processing rows strictly in sequence
//! overloads that machine and leaves the others idle. A large manifest is therefore divided into segments of equal
//! length, and each segment in turn contributes a few rows.
//!
//! The [`TaskId`] of a row is its position in this order. Progress, and the rows that a crash leaves in doubt, are
//! recorded as positions. The order depends only on the number of rows and of segments, so it is the same whenever a
//! job resumes.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::vec;

use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::{Task, TaskId};
use serde::{Deserialize, Serialize};

use super::error::{ManifestError, ManifestWarning};
use super::key_ranges::{KeyRange, KeyRanges};
use super::part::{ManifestPart, PartReader, PartRow, check_part, part_path};
use super::pins::{SourcePin, SourcePinJson};
use super::source_metadata::{MetadataReader, StorageClassStats, StorageClassStatsJson};
use crate::files::{json_digest, open_regular, write_atomic};
use crate::frontier::RowFrontier;

/// The maximum number of rows in a batch, whatever the caller asks for: keys are up to 1 KiB each.
const MAX_BATCH: usize = 65_536;

/// A manifest that was read to its end, checked, filtered and written to the job's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenManifest {
    folder: PathBuf,
    rows_read: u64,
    parts: Vec<ManifestPart>,
    pin: SourcePin,
    warnings: Vec<ManifestWarning>,
    key_ranges: KeyRanges,
    /// `None` if an earlier release wrote the index.
    class_stats: Option<Box<StorageClassStats>>,
    /// The number of segments that are read in turn. If it is 1, a [`TaskId`] is a part and a row in it.
    segments: u32,
    has_checksum: bool,
}

/// What a freeze has written to the parts of a manifest.
pub(crate) struct FreezeOutput {
    pub(crate) parts: Vec<ManifestPart>,
    pub(crate) rows_read: u64,
    pub(crate) warnings: Vec<ManifestWarning>,
    pub(crate) key_ranges: KeyRanges,
    pub(crate) class_stats: StorageClassStats,
}

impl FrozenManifest {
    /// Completes the manifest in this folder, whose parts are on disk: writes its index. `is_spread` says that the rows are
    /// to be processed in the order in which they are.
    pub(crate) fn create(
        folder: PathBuf,
        output: FreezeOutput,
        pin: SourcePin,
        is_spread: bool,
    ) -> Result<Self, ManifestError> {
        let FreezeOutput { parts, rows_read, warnings, key_ranges, class_stats } = output;
        let frozen = Self {
            folder,
            rows_read,
            segments: if is_spread { 1 } else { segments_for(parts.iter().map(|part| u64::from(part.rows)).sum()) },
            parts,
            pin,
            warnings,
            key_ranges,
            class_stats: Some(Box::new(class_stats)),
            has_checksum: true,
        };
        save_index(&frozen)?;
        Ok(frozen)
    }

    #[cfg(test)]
    fn with_segments(self, segments: u32) -> Self {
        Self { segments, ..self }
    }

    /// Opens the frozen manifest in a job's folder. Returns `None` if there is none, or if it is unfinished.
    ///
    /// # Errors
    /// Returns an error if the index cannot be read or is invalid, if a part is missing or its size differs from the
    /// index, or if a newer program wrote the index or a part.
    pub fn open(folder: &Path) -> Result<Option<Self>, ManifestError> {
        let manifest_dir = manifest_folder(folder);
        let Some(frozen) = load_index(&manifest_dir)? else { return Ok(None) };
        for (number, part) in (0_u32..).zip(&frozen.parts) {
            check_part(&part_path(&manifest_dir, number), number, *part)?;
        }
        Ok(Some(frozen))
    }

    /// Returns the number of rows. An object that the source names twice counts twice.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.rows)).sum()
    }

    /// Returns the number of rows in the source, before the filter was applied and delete markers were skipped.
    #[must_use]
    pub fn rows_read(&self) -> u64 {
        self.rows_read
    }

    /// Returns the parts, in order. With a single segment, the part number of a [`TaskId`] is an index into them.
    #[must_use]
    pub fn parts(&self) -> &[ManifestPart] {
        &self.parts
    }

    /// Returns whether the index has a checksum. Earlier releases wrote none.
    #[must_use]
    pub fn has_checksum(&self) -> bool {
        self.has_checksum
    }

    /// Adds a checksum to an index that has none.
    ///
    /// # Errors
    /// Returns an error if the index cannot be written.
    pub fn add_checksum(&self) -> Result<(), ManifestError> {
        if self.has_checksum { Ok(()) } else { save_index(self) }
    }

    /// Returns the identity of the source.
    #[must_use]
    pub fn pin(&self) -> &SourcePin {
        &self.pin
    }

    /// Returns the warnings that the freeze produced.
    #[must_use]
    pub fn warnings(&self) -> &[ManifestWarning] {
        &self.warnings
    }

    /// Returns the key ranges that the rows lie in; for a listing, a range starts with the prefix itself.
    #[must_use]
    pub fn key_ranges(&self) -> &KeyRanges {
        &self.key_ranges
    }

    /// Returns object and byte counts per storage class, as far as the source reports them. `None` if an earlier
    /// release froze the manifest.
    #[must_use]
    pub fn class_stats(&self) -> Option<&StorageClassStats> {
        self.class_stats.as_deref()
    }

    /// Opens the metadata of the objects, which a sampling pass stores on request.
    ///
    /// # Errors
    /// Returns an error if the file does not exist.
    pub fn source_metadata(&self) -> Result<MetadataReader, ManifestError> {
        MetadataReader::open(&self.folder)
    }

    /// Returns the rows from `from` to the end, in batches of at most `batch`. A batch never has rows of two parts.
    /// With several segments, `from` must be the start.
    ///
    /// The iterator reads files and decompresses: use it on a thread that may block.
    #[must_use]
    pub fn tasks(&self, from: TaskId, batch: usize) -> ManifestTasks {
        let parts = (0_u32..).zip(&self.parts).filter(|(part, _)| *part >= from.part);
        let spans: Vec<PartSpan> = parts
            .map(|(part, info)| PartSpan {
                path: part_path(&self.folder, part),
                part,
                rows: info.rows,
                from: if part == from.part { from.row } else { 0 },
            })
            .collect();
        let batch = batch.clamp(1, MAX_BATCH);
        ManifestTasks {
            spans: spans.into_iter(),
            open: None,
            batch,
            selection: RowSelection::All,
            interleaving: None,
            rows_seen: 0,
        }
    }

    /// Returns the rows that `frontier` does not contain, in processing order: a large manifest is read from several
    /// places in turn. These are the rows that a job still has to process, when it starts or resumes.
    ///
    /// The iterator reads files and decompresses: use it on a thread that may block.
    #[must_use]
    pub fn interleaved_tasks(
        &self,
        frontier: &RowFrontier,
        batch: usize,
    ) -> Box<dyn Iterator<Item = Result<Vec<Task>, ManifestError>> + Send> {
        if self.segments > 1 {
            Box::new(InterleavedTasks::new(
                (&self.folder, &self.parts),
                self.interleaving(),
                frontier,
                batch.clamp(1, MAX_BATCH),
            ))
        } else {
            Box::new(self.unfinished_tasks(frontier, batch))
        }
    }

    /// Like [`tasks`](Self::tasks) from the start, but returns only the rows that `frontier` does not contain: the rows
    /// that a retried job never finished. With a single segment, starts each part at its first unfinished row and does
    /// not open parts that are finished.
    #[must_use]
    pub(crate) fn unfinished_tasks(&self, frontier: &RowFrontier, batch: usize) -> ManifestTasks {
        let mut tasks = self.tasks(TaskId { part: 0, row: 0 }, batch);
        if self.segments > 1 {
            tasks.interleaving = Some(self.interleaving());
        } else {
            let unfinished = tasks.spans.filter_map(|span| {
                let from = frontier.first_unsettled(span.part);
                (from < span.rows).then_some(PartSpan { from, ..span })
            });
            tasks.spans = unfinished.collect::<Vec<_>>().into_iter();
        }
        tasks.selection = RowSelection::NotIn(frontier.clone());
        tasks
    }

    /// Like [`tasks`](Self::tasks) from the start, but returns only the rows that `frontier` contains: those with an
    /// outcome.
    #[must_use]
    pub(crate) fn settled_tasks(&self, frontier: &RowFrontier, batch: usize) -> ManifestTasks {
        let mut tasks = self.tasks(TaskId { part: 0, row: 0 }, batch);
        tasks.interleaving = (self.segments > 1).then(|| self.interleaving());
        tasks.selection = RowSelection::In(frontier.clone());
        tasks
    }

    fn interleaving(&self) -> Interleaving {
        Interleaving::new(self.rows(), self.segments)
    }
}

/// The rows of a frozen manifest, in batches. Ends after an error.
pub struct ManifestTasks {
    spans: vec::IntoIter<PartSpan>,
    open: Option<(u32, PartReader)>,
    batch: usize,
    selection: RowSelection,
    /// The order that gives each row its [`TaskId`], if that is not its part and row.
    interleaving: Option<Interleaving>,
    /// The number of rows read so far, from the first row of the manifest.
    rows_seen: u64,
}

/// The rows to return.
enum RowSelection {
    All,
    NotIn(RowFrontier),
    In(RowFrontier),
}

impl RowSelection {
    fn includes(&self, id: TaskId) -> bool {
        match self {
            Self::All => true,
            Self::NotIn(frontier) => !frontier.is_settled(id),
            Self::In(frontier) => frontier.is_settled(id),
        }
    }
}

struct PartSpan {
    path: PathBuf,
    part: u32,
    rows: u32,
    from: u32,
}

impl ManifestTasks {
    fn next_batch(&mut self) -> Result<Vec<Task>, ManifestError> {
        let mut tasks = Vec::new();
        while tasks.is_empty() {
            let Some((part, reader)) = &mut self.open else {
                let Some(span) = self.spans.next() else { break };
                let reader = PartReader::open(span.path, span.part, span.rows, span.from)?;
                self.open = Some((span.part, reader));
                continue;
            };
            tasks.reserve(self.batch);
            while tasks.len() < self.batch {
                let Some((row, PartRow { object, unlistable, origin })) = reader.next_row()? else {
                    self.open = None;
                    break;
                };
                let id = self.interleaving.map_or(TaskId { part: *part, row }, |order| {
                    position_to_task_id(order.position_of(self.rows_seen))
                });
                self.rows_seen += 1;
                if self.selection.includes(id) {
                    tasks.push(Task { id, object, unlistable, origin });
                }
            }
        }
        Ok(tasks)
    }
}

impl Iterator for ManifestTasks {
    type Item = Result<Vec<Task>, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_batch() {
            Ok(tasks) if tasks.is_empty() => None,
            Ok(tasks) => Some(Ok(tasks)),
            Err(error) => {
                self.open = None;
                self.spans = Vec::new().into_iter();
                Some(Err(error))
            }
        }
    }
}

/// Returns the folder of the manifest in a job's folder.
pub(crate) fn manifest_folder(folder: &Path) -> PathBuf {
    folder.join("manifest")
}

const INDEX_NAME: &str = "index.json";

/// The name of the temporary file that is renamed to it.
const INDEX_TEMPORARY: &str = "index.json.draft";

/// The version of the file format for a single segment, the only one that earlier releases can read.
const INDEX_VERSION: u32 = 1;

/// The version for several segments: releases that do not know segments refuse the file,
/// instead of reading positions as row numbers.
const SEGMENTED_VERSION: u32 = 2;

/// The maximum size of an index in bytes: enough for 500 billion rows.
const MAX_INDEX_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct ManifestIndexJson {
    version: u32,
    rows: u64,
    #[serde(rename = "read")]
    rows_read: u64,
    parts: Vec<ManifestPartJson>,
    pin: SourcePinJson,
    warnings: Vec<ManifestWarningJson>,
    /// Earlier releases wrote none, and ignore it.
    #[serde(default, rename = "reach")]
    key_ranges: KeyRangesJson,
    /// Earlier releases wrote none, and ignore it.
    #[serde(default, rename = "census", skip_serializing_if = "Option::is_none")]
    class_stats: Option<StorageClassStatsJson>,
    #[serde(default = "one_segment", rename = "lanes", skip_serializing_if = "is_one_segment")]
    segments: u32,
    /// The digest of all other members. Earlier releases wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

fn one_segment() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_one_segment(segments: &u32) -> bool {
    *segments == 1
}

#[derive(Serialize, Deserialize)]
struct ManifestPartJson {
    rows: u32,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ManifestWarningJson {
    message: String,
    help: String,
}

impl From<&ManifestWarning> for ManifestWarningJson {
    fn from(warning: &ManifestWarning) -> Self {
        Self { message: warning.message.clone(), help: warning.help.clone() }
    }
}

impl From<ManifestWarningJson> for ManifestWarning {
    fn from(json: ManifestWarningJson) -> Self {
        Self { message: json.message, help: json.help }
    }
}

/// The key ranges; `null` means unknown.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct KeyRangesJson(Option<Vec<KeyRangeJson>>);

#[derive(Serialize, Deserialize)]
struct KeyRangeJson {
    bucket: String,
    first: String,
    last: String,
}

impl From<&KeyRanges> for KeyRangesJson {
    fn from(ranges: &KeyRanges) -> Self {
        Self(match ranges {
            KeyRanges::Unknown => None,
            KeyRanges::Known(ranges) => Some(ranges.iter().map(KeyRangeJson::from).collect()),
        })
    }
}

impl From<KeyRangesJson> for KeyRanges {
    fn from(json: KeyRangesJson) -> Self {
        match json.0 {
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
    fn from(json: &KeyRangeJson) -> Self {
        Self {
            bucket: BucketName::new(&json.bucket),
            first: ObjectKey::decode(json.first.as_bytes()),
            last: ObjectKey::decode(json.last.as_bytes()),
        }
    }
}

/// Writes the index of a manifest whose parts are on disk.
fn save_index(frozen: &FrozenManifest) -> Result<(), ManifestError> {
    let path = frozen.folder.join(INDEX_NAME);
    let write = || {
        let mut json = index_json(frozen);
        json.sha256 = Some(json_digest(&json)?);
        write_atomic(&frozen.folder, INDEX_NAME, &serde_json::to_vec_pretty(&json)?)
    };
    write().map_err(|cause| ManifestError::disk("write", &path, cause))
}

/// Returns whether there is an index.
pub(crate) fn index_exists(manifest_dir: &Path) -> bool {
    manifest_dir.join(INDEX_NAME).exists()
}

/// Reads the index. Returns `None` if there is none.
fn load_index(manifest_dir: &Path) -> Result<Option<FrozenManifest>, ManifestError> {
    let path = manifest_dir.join(INDEX_NAME);
    let file = match open_regular(&path, File::options().read(true)) {
        Ok(file) => file,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(ManifestError::disk("open", &path, cause)),
    };
    let mut text = Vec::new();
    file.take(MAX_INDEX_BYTES + 1).read_to_end(&mut text).map_err(|cause| ManifestError::disk("read", &path, cause))?;
    let corrupt = |why: String| ManifestError::corrupt(&path, why);
    reject_newer_index(&text, &path)?;
    let mut json: ManifestIndexJson = serde_json::from_slice(&text).map_err(|why| corrupt(why.to_string()))?;
    if json.version < INDEX_VERSION {
        let found = json.version;
        return Err(corrupt(format!("unsupported format version {found} (the newest is {SEGMENTED_VERSION})")));
    }
    let sha256 = json.sha256.take();
    if let Some(recorded) = &sha256
        && json_digest(&json).map_err(|why| corrupt(why.to_string()))? != *recorded
    {
        return Err(corrupt("it fails its checksum".to_owned()));
    }
    let frozen = FrozenManifest {
        has_checksum: sha256.is_some(),
        folder: manifest_dir.to_owned(),
        rows_read: json.rows_read,
        parts: json.parts.iter().map(|part| ManifestPart { rows: part.rows, bytes: part.bytes }).collect(),
        pin: json.pin.into_pin().map_err(corrupt)?,
        warnings: json.warnings.into_iter().map(ManifestWarning::from).collect(),
        key_ranges: json.key_ranges.into(),
        class_stats: json.class_stats.map(|class_stats| Box::new(class_stats.into())),
        segments: json.segments,
    };
    if !(1..=MAX_SEGMENTS).contains(&u64::from(frozen.segments)) {
        return Err(corrupt(format!("it has {} segments (maximum {MAX_SEGMENTS})", frozen.segments)));
    }
    if frozen.rows() != json.rows {
        return Err(corrupt("its row count does not match its parts".to_owned()));
    }
    Ok(Some(frozen))
}

/// Returns an error if a newer program wrote the index, whose other members may have changed.
fn reject_newer_index(text: &[u8], path: &Path) -> Result<(), ManifestError> {
    #[derive(Deserialize)]
    struct IndexVersionJson {
        version: u32,
    }
    let Ok(IndexVersionJson { version: found }) = serde_json::from_slice(text) else { return Ok(()) };
    if found <= SEGMENTED_VERSION {
        return Ok(());
    }
    if has_damaged_version(text) {
        return Err(ManifestError::corrupt(path, format!("its format version {found} fails its checksum")));
    }
    Err(ManifestError::NewerFormat { file: path.to_owned(), found, known: SEGMENTED_VERSION })
}

/// Returns whether the checksum of an index holds with another version than the one in it.
fn has_damaged_version(text: &[u8]) -> bool {
    let Ok(mut json) = serde_json::from_slice::<ManifestIndexJson>(text) else { return false };
    let recorded = json.sha256.take();
    recorded.is_some()
        && (INDEX_VERSION..=SEGMENTED_VERSION).any(|version| {
            json.version = version;
            json_digest(&json).ok() == recorded
        })
}

/// Removes the index, and a temporary file that was never renamed.
pub(crate) fn remove_index(manifest_dir: &Path) -> Result<(), ManifestError> {
    for path in [manifest_dir.join(INDEX_NAME), manifest_dir.join(INDEX_TEMPORARY)] {
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
        version: if frozen.segments > 1 { SEGMENTED_VERSION } else { INDEX_VERSION },
        segments: frozen.segments,
        rows: frozen.rows(),
        rows_read: frozen.rows_read,
        parts: frozen.parts.iter().map(|part| ManifestPartJson { rows: part.rows, bytes: part.bytes }).collect(),
        pin: (&frozen.pin).into(),
        warnings: frozen.warnings.iter().map(ManifestWarningJson::from).collect(),
        key_ranges: (&frozen.key_ranges).into(),
        class_stats: frozen.class_stats.as_deref().map(StorageClassStatsJson::from),
    }
}

/// The number of rows that a segment contributes per turn.
const ROWS_PER_TURN: u64 = 256;

/// The maximum number of segments: each keeps one block of the manifest in memory, of up to a megabyte.
const MAX_SEGMENTS: u64 = 6;

/// The minimum number of rows per segment, the size of a block: spreading fewer rows has no benefit.
const MIN_SEGMENT_ROWS: u64 = 1 << 16;

/// The number of positions per `part` of a [`TaskId`], in manifests where `part` is not the number of a file.
const POSITIONS_PER_PART: u64 = 1 << 22;

/// The order of the rows of a manifest with several segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interleaving {
    rows: u64,
    segments: u64,
}

/// Returns the number of segments for a manifest with this number of rows.
fn segments_for(rows: u64) -> u32 {
    u32::try_from((rows / MIN_SEGMENT_ROWS).clamp(1, MAX_SEGMENTS)).unwrap_or(1)
}

impl Interleaving {
    /// Creates the order of this number of rows and segments; 0 segments count as one.
    fn new(rows: u64, segments: u32) -> Self {
        Self { rows, segments: u64::from(segments.max(1)) }
    }

    /// Returns the rows of a segment, as numbers in the whole manifest.
    fn segment_rows(self, segment: u64) -> Range<u64> {
        let at = |segment: u64| {
            let row = u128::from(self.rows) * u128::from(segment) / u128::from(self.segments);
            u64::try_from(row).unwrap_or(self.rows)
        };
        at(segment)..at(segment + 1)
    }

    fn segments(self) -> u64 {
        self.segments
    }

    /// Returns the number of turns that each segment has.
    fn turns(self) -> u64 {
        let longest = self.rows.div_ceil(self.segments);
        longest.div_ceil(ROWS_PER_TURN)
    }

    /// Returns the rows that a segment contributes in a turn, counted from its first row.
    fn turn_rows(self, segment: u64, turn: u64) -> Range<u64> {
        let Range { start, end } = self.segment_rows(segment);
        let length = end - start;
        (turn * ROWS_PER_TURN).min(length)..((turn + 1) * ROWS_PER_TURN).min(length)
    }

    /// Returns the position of the first row that a segment contributes in a turn.
    fn turn_position(self, segment: u64, turn: u64) -> u64 {
        let given = |other: u64| {
            let Range { start, end } = self.turn_rows(other, turn);
            if other < segment { end } else { start }
        };
        (0..self.segments).map(given).sum()
    }

    /// Returns the position of a row, as numbers in the whole manifest.
    fn position_of(self, row: u64) -> u64 {
        // Segment bounds are rounded down: the row may be the first of the next segment.
        let guess =
            u64::try_from(u128::from(row) * u128::from(self.segments) / u128::from(self.rows.max(1))).unwrap_or(0);
        let segment = if guess + 1 < self.segments && self.segment_rows(guess).end <= row { guess + 1 } else { guess };
        let offset = row - self.segment_rows(segment).start;
        self.turn_position(segment, offset / ROWS_PER_TURN) + offset % ROWS_PER_TURN
    }

    /// Returns the turn to continue with: all rows of earlier turns are finished. It may be too early, never too late.
    fn first_unfinished_turn(self, frontier: &RowFrontier) -> u64 {
        let parts = 0..u32::try_from(self.rows / POSITIONS_PER_PART + 1).unwrap_or(u32::MAX);
        // The first part with an unfinished row contains the first unfinished row.
        let low = parts
            .map(|part| (part, u64::from(frontier.first_unsettled(part))))
            .find(|(_, low)| *low < POSITIONS_PER_PART);
        let settled = low.map_or(0, |(part, low)| u64::from(part) * POSITIONS_PER_PART + low);
        // Every turn except the last takes the full number of rows from every segment.
        (settled / (self.segments * ROWS_PER_TURN)).min(self.turns().saturating_sub(1))
    }
}

/// Converts a position to the form in which progress is recorded.
fn position_to_task_id(position: u64) -> TaskId {
    let fits = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    TaskId { part: fits(position / POSITIONS_PER_PART), row: fits(position % POSITIONS_PER_PART) }
}

/// Iterates over unfinished rows, a batch per turn of a segment. Ends after an error.
struct InterleavedTasks {
    folder: PathBuf,
    interleaving: Interleaving,
    segments: Vec<SegmentReader>,
    finished: RowFrontier,
    batch: usize,
    /// The current turn and segment, and the number of rows that the segment has contributed in this turn.
    turn: u64,
    segment: u64,
    rows_taken: u64,
}

/// A segment, open at its next row.
struct SegmentReader {
    spans: VecDeque<SegmentSpan>,
    open: Option<PartReader>,
}

/// A range of rows in a part.
struct SegmentSpan {
    path: PathBuf,
    part: u32,
    rows: u32,
    from: u32,
}

impl InterleavedTasks {
    /// Returns the rows that `frontier` does not contain, in batches of at most `batch`.
    fn new(
        (folder, parts): (&Path, &[ManifestPart]),
        interleaving: Interleaving,
        frontier: &RowFrontier,
        batch: usize,
    ) -> Self {
        let turn = interleaving.first_unfinished_turn(frontier);
        let segments = (0..interleaving.segments()).map(|segment| {
            let rows = interleaving.segment_rows(segment);
            SegmentReader {
                spans: segment_spans(
                    (folder, parts),
                    rows.start + interleaving.turn_rows(segment, turn).start,
                    rows.end,
                ),
                open: None,
            }
        });
        Self {
            folder: folder.to_owned(),
            interleaving,
            segments: segments.collect(),
            finished: frontier.clone(),
            batch: batch.max(1),
            turn,
            segment: 0,
            rows_taken: 0,
        }
    }

    fn next_batch(&mut self) -> Result<Vec<Task>, ManifestError> {
        let mut tasks = Vec::new();
        while tasks.is_empty() && self.turn < self.interleaving.turns() {
            let rows = self.interleaving.turn_rows(self.segment, self.turn);
            let place = self.interleaving.turn_position(self.segment, self.turn);
            while self.rows_taken < rows.end - rows.start && tasks.len() < self.batch {
                let PartRow { object, unlistable, origin } = self.next_row()?;
                let id = position_to_task_id(place + self.rows_taken);
                if !self.finished.is_settled(id) {
                    tasks.push(Task { id, object, unlistable, origin });
                }
                self.rows_taken += 1;
            }
            if self.rows_taken == rows.end - rows.start {
                self.next_segment();
            }
        }
        Ok(tasks)
    }

    fn next_segment(&mut self) {
        self.rows_taken = 0;
        self.segment += 1;
        if self.segment == self.interleaving.segments() {
            self.segment = 0;
            self.turn += 1;
        }
    }

    fn next_row(&mut self) -> Result<PartRow, ManifestError> {
        let segment = usize::try_from(self.segment).ok().and_then(|segment| self.segments.get_mut(segment));
        let row = segment.map_or(Ok(None), SegmentReader::next_row)?;
        row.ok_or_else(|| ManifestError::corrupt(&self.folder, "it has fewer rows than its index says"))
    }
}

impl SegmentReader {
    fn next_row(&mut self) -> Result<Option<PartRow>, ManifestError> {
        loop {
            if let Some(reader) = &mut self.open {
                if let Some((_, row)) = reader.next_row()? {
                    return Ok(Some(row));
                }
                self.open = None;
            }
            let Some(SegmentSpan { path, part, rows, from }) = self.spans.pop_front() else { return Ok(None) };
            self.open = Some(PartReader::open(path, part, rows, from)?);
        }
    }
}

/// Returns the parts that hold these rows, which are as numbers in the whole manifest.
fn segment_spans((folder, parts): (&Path, &[ManifestPart]), from: u64, to: u64) -> VecDeque<SegmentSpan> {
    let mut spans = VecDeque::new();
    let mut first = 0;
    for (part, info) in (0_u32..).zip(parts) {
        let end = first + u64::from(info.rows);
        if first < to && from < end {
            let from = u32::try_from(from.saturating_sub(first)).unwrap_or(info.rows);
            spans.push_back(SegmentSpan { path: part_path(folder, part), part, rows: info.rows, from });
        }
        first = end;
    }
    spans
}

impl Iterator for InterleavedTasks {
    type Item = Result<Vec<Task>, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_batch() {
            Ok(tasks) if tasks.is_empty() => None,
            Ok(tasks) => Some(Ok(tasks)),
            Err(error) => {
                self.turn = self.interleaving.turns();
                self.segments.clear();
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod interleaving_tests;
#[cfg(test)]
pub(crate) mod tests;

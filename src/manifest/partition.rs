//! Writes a partition: the rows of a source that is read sequentially, or of one range of a listing. Its rows go into
//! parts of their own, which are put in order in the end; its checkpoint says which rows survive a crash.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::ManifestError;
use super::filter::ManifestRow;
use super::key_ranges::{KeyRangeTracker, KeyRanges};
use super::part::{
    BlockCompressor, BlockHeader, HEADER_BYTES, MAX_BLOCK_ROWS, ManifestPart, RowBlockWriter, file_header, is_intact,
    part_path,
};
use super::prefix::ListingConcurrency;
use super::row_visitor::{FreezeProgress, PartitionId};
use super::sort::SortBudget;
use super::source_metadata::{ClassCounter, StorageClassStats};
use crate::failpoint;
use crate::files::{create_replacing, open_regular};

/// The number of rows in a block of every partition except the first. With this, sixteen partitions need no more memory
/// than five full blocks. Deflate, with its window of 32 KiB, loses almost nothing.
const PARTITION_BLOCK_ROWS: usize = 8192;

/// The rows of a partition that survive a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartitionCheckpoint {
    pub(super) progress: FreezeProgress,
    pub(super) parts: WrittenParts,
    pub(super) key_ranges: KeyRanges,
    pub(super) class_stats: StorageClassStats,
}

/// The rows of one partition so far.
pub(super) struct PartitionWriter {
    id: PartitionId,
    progress: FreezeProgress,
    key_ranges: KeyRangeTracker,
    class_counter: ClassCounter,
    rows: PartitionRows,
    /// The state at the last checkpoint.
    saved: PartitionCheckpoint,
    /// The number of pages or data files since that checkpoint.
    steps: u32,
}

enum PartitionRows {
    /// More rows may follow.
    Open(Box<PartitionPartsWriter>),
    /// The partition is complete.
    Sealed(Vec<ManifestPart>),
}

impl PartitionWriter {
    /// Creates an empty partition.
    pub(super) fn new(home: &Path, id: PartitionId, config: FreezeConfig) -> Self {
        let writer = PartitionPartsWriter::for_partition(home, id, partition_limits(id, config.part_limits))
            .with_max_disk(config.max_disk);
        let nothing = FreezeProgress::default();
        let key_ranges = KeyRanges::Known(Vec::new());
        Self {
            id,
            progress: nothing,
            key_ranges: KeyRangeTracker::new(),
            class_counter: ClassCounter::default(),
            rows: PartitionRows::Open(Box::new(writer)),
            saved: PartitionCheckpoint {
                progress: nothing,
                parts: WrittenParts::default(),
                key_ranges,
                class_stats: StorageClassStats::default(),
            },
            steps: 0,
        }
    }

    /// Resumes from a checkpoint. Returns `None` if the files are not all intact.
    pub(super) fn resume(
        home: &Path,
        id: PartitionId,
        config: FreezeConfig,
        checkpoint: &PartitionCheckpoint,
    ) -> Result<Option<Self>, ManifestError> {
        let Some(writer) =
            PartitionPartsWriter::resume(home, id, partition_limits(id, config.part_limits), checkpoint.parts.clone())?
        else {
            return Ok(None);
        };
        let rows = PartitionRows::Open(Box::new(writer.with_max_disk(config.max_disk)));
        Ok(Some(Self { rows, ..Self::restore(id, checkpoint) }))
    }

    /// Restores a complete partition from a checkpoint, wherever its files are now.
    pub(super) fn restore(id: PartitionId, checkpoint: &PartitionCheckpoint) -> Self {
        Self {
            id,
            progress: checkpoint.progress,
            key_ranges: KeyRangeTracker::from_ranges(checkpoint.key_ranges.clone()),
            class_counter: ClassCounter::from_stats(&checkpoint.class_stats),
            rows: PartitionRows::Sealed(checkpoint.parts.sealed.clone()),
            saved: checkpoint.clone(),
            steps: 0,
        }
    }

    pub(super) fn id(&self) -> PartitionId {
        self.id
    }

    /// Returns the paths of its files.
    pub(super) fn files(&self, home: &Path) -> Vec<PathBuf> {
        match &self.rows {
            PartitionRows::Open(writer) => writer.files().collect(),
            PartitionRows::Sealed(parts) => {
                (0_u32..).zip(parts).map(|(number, _)| partition_path(home, self.id, number)).collect()
            }
        }
    }

    /// Returns the total number of rows and bytes of its parts.
    pub(super) fn totals(&self) -> PartTotals {
        match &self.rows {
            PartitionRows::Open(writer) => writer.totals(),
            PartitionRows::Sealed(parts) => parts.iter().fold(PartTotals::default(), |sum, part| PartTotals {
                rows: sum.rows + u64::from(part.rows),
                bytes: sum.bytes + part.bytes,
            }),
        }
    }

    /// Sets the totals of the other partitions.
    pub(super) fn set_other_totals(&mut self, others: PartTotals) {
        if let PartitionRows::Open(writer) = &mut self.rows {
            writer.set_other_totals(others);
        }
    }

    pub(super) fn progress(&self) -> FreezeProgress {
        self.progress
    }

    pub(super) fn count_row(&mut self) {
        self.progress.rows_read += 1;
    }

    pub(super) fn set_rows_read(&mut self, rows: u64) {
        self.progress.rows_read = rows;
    }

    /// Extends the key ranges to a key that need not be in a row.
    pub(super) fn extend_key_range(&mut self, bucket: &str, key: &[u8]) {
        self.key_ranges.record(bucket, key);
    }

    pub(super) fn key_ranges(&self) -> KeyRanges {
        self.key_ranges.key_ranges()
    }

    pub(super) fn class_stats(&self) -> StorageClassStats {
        self.class_counter.stats()
    }

    pub(super) fn push(&mut self, row: &ManifestRow<'_>) -> Result<(), ManifestError> {
        let ManifestRow { bucket, key, version, metadata: facts } = row;
        self.progress.rows_included += 1;
        self.key_ranges.record(bucket, key);
        self.class_counter.count(facts, version.is_some());
        match &mut self.rows {
            PartitionRows::Open(writer) => writer.push(bucket, key, *version),
            PartitionRows::Sealed(_) => Ok(()),
        }
    }

    /// Records the end of a page or data file. Returns whether a checkpoint is due.
    pub(super) fn checkpoint_due(&mut self, policy: FreezeCheckpointPolicy) -> bool {
        self.steps += 1;
        self.steps >= policy.steps || self.progress.rows_read - self.saved.progress.rows_read >= policy.rows
    }

    /// Returns whether there are pages or data files since the last checkpoint.
    pub(super) fn has_unsaved(&self) -> bool {
        self.steps > 0
    }

    /// Syncs all rows to disk, and records this state as the checkpoint.
    pub(super) fn sync(&mut self) -> Result<(), ManifestError> {
        let written = match &mut self.rows {
            PartitionRows::Open(writer) => writer.checkpoint()?,
            PartitionRows::Sealed(parts) => WrittenParts { sealed: parts.clone(), open: None },
        };
        let (key_ranges, class_stats) = (self.key_ranges(), self.class_stats());
        self.saved = PartitionCheckpoint { progress: self.progress, parts: written, key_ranges, class_stats };
        self.steps = 0;
        Ok(())
    }

    /// Returns the state at the last checkpoint.
    pub(super) fn saved(&self) -> &PartitionCheckpoint {
        &self.saved
    }

    /// Ends the last part. The parts are on disk when this returns.
    pub(super) fn seal(&mut self) -> Result<(), ManifestError> {
        if let PartitionRows::Open(writer) = &mut self.rows {
            self.rows = PartitionRows::Sealed(writer.seal()?);
        }
        Ok(())
    }

    /// Returns the parts of a sealed partition.
    pub(super) fn parts(&self) -> &[ManifestPart] {
        match &self.rows {
            PartitionRows::Open(_) => &[],
            PartitionRows::Sealed(parts) => parts,
        }
    }
}

fn partition_limits(id: PartitionId, limits: PartLimits) -> PartLimits {
    if id == PartitionId(0) {
        limits
    } else {
        PartLimits { block_rows: limits.block_rows.min(PARTITION_BLOCK_ROWS), ..limits }
    }
}

/// The limits and buffer sizes of a freeze; smaller in tests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FreezeConfig {
    pub(super) part_limits: PartLimits,
    pub(super) checkpoint_policy: FreezeCheckpointPolicy,
    pub(super) listing: ListingConcurrency,
    /// The maximum size of the parts on disk, in bytes.
    pub(super) max_disk: Option<u64>,
    /// The memory and the number of runs that a sort may use.
    pub(super) sort_budget: SortBudget,
    /// The maximum number of objects in the manifest.
    pub(super) max_objects: Option<u64>,
}

/// The distance between two checkpoints: whichever limit is reached first.
///
/// Counted and not timed, so that a run can be reproduced. A checkpoint costs a few disk flushes, some tens of
/// milliseconds at worst; 64 pages of a listing take seconds, which is the time that a crash may cost. It ends the
/// current block, which would be full after as many rows anyway, so the parts do not become larger. It does not end the
/// part: the checkpoint records the length of the part, and ten billion rows need some 2,400 parts instead of 150,000.
#[derive(Clone, Copy, Debug)]
pub(super) struct FreezeCheckpointPolicy {
    /// Pages of a listing, or data files of an inventory.
    pub(super) steps: u32,
    /// Rows read, whether included or not.
    pub(super) rows: u64,
}

impl Default for FreezeCheckpointPolicy {
    fn default() -> Self {
        Self { steps: 64, rows: 65_536 }
    }
}

/// The maximum number of rows in blocks and parts; smaller in tests.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartLimits {
    /// Per block, at most 65,536.
    pub(super) block_rows: usize,
    /// Per part, at most `u32::MAX`.
    pub(super) part_rows: u32,
}

impl Default for PartLimits {
    fn default() -> Self {
        Self { block_rows: MAX_BLOCK_ROWS, part_rows: 4 << 20 }
    }
}

/// The parts that survive a crash: when writing resumes, the open part is truncated to the recorded length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenParts {
    /// The parts that have their end mark.
    pub(super) sealed: Vec<ManifestPart>,
    /// The part after them, as of the last checkpoint.
    pub(super) open: Option<ManifestPart>,
}

/// Returns the path of a part of a partition. The parts of partitions other than 0 have temporary names until
/// [`assemble_parts`] gives them their final ones.
fn partition_path(folder: &Path, partition: PartitionId, number: u32) -> PathBuf {
    match partition.0 {
        0 => part_path(folder, number),
        lane => folder.join(format!("lane-{lane:05}-{number:05}.bpm")),
    }
}

/// Writes the rows of one partition into as many parts as necessary.
pub(super) struct PartitionPartsWriter {
    folder: PathBuf,
    partition: PartitionId,
    limits: PartLimits,
    block: RowBlockWriter,
    compressor: BlockCompressor,
    raw: Vec<u8>,
    packed: Vec<u8>,
    open: Option<OpenPart>,
    sealed: Vec<ManifestPart>,
    /// The maximum size of the parts of all partitions, in bytes.
    max_disk: Option<u64>,
    /// The totals of the other partitions.
    other_totals: PartTotals,
}

/// The total number of rows and bytes of some parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PartTotals {
    pub(super) rows: u64,
    /// Includes end marks that are not written yet.
    pub(super) bytes: u64,
}

struct OpenPart {
    path: PathBuf,
    file: File,
    rows: u32,
    bytes: u64,
}

impl PartitionPartsWriter {
    /// Creates a writer for partition 0.
    #[cfg(test)]
    pub(super) fn new(folder: &Path, limits: PartLimits) -> Self {
        Self::for_partition(folder, PartitionId(0), limits)
    }

    /// Creates a writer for a partition that has no parts yet.
    fn for_partition(folder: &Path, partition: PartitionId, limits: PartLimits) -> Self {
        Self {
            folder: folder.to_owned(),
            partition,
            limits,
            block: RowBlockWriter::default(),
            compressor: BlockCompressor::new(),
            raw: Vec::new(),
            packed: Vec::new(),
            open: None,
            sealed: Vec::new(),
            max_disk: None,
            other_totals: PartTotals::default(),
        }
    }

    /// Sets the maximum size of all parts, in bytes.
    fn with_max_disk(self, max_disk: Option<u64>) -> Self {
        Self { max_disk, ..self }
    }

    /// Sets the totals of the other partitions, which count towards the maximum size.
    fn set_other_totals(&mut self, elsewhere: PartTotals) {
        self.other_totals = elsewhere;
    }

    /// Returns the total number of rows and bytes.
    fn totals(&self) -> PartTotals {
        let mut tally = PartTotals::default();
        for part in self.sealed.iter().copied().chain(self.open.as_ref().map(OpenPart::recorded)) {
            tally.rows += u64::from(part.rows);
            tally.bytes += part.bytes;
        }
        let mark = if self.open.is_some() { HEADER_BYTES } else { 0 };
        tally.bytes += u64::try_from(mark).unwrap_or(u64::MAX);
        tally
    }

    /// Resumes after the recorded parts, and truncates what was written later. Returns `None` if the recorded parts are
    /// not all intact. Parts that were started later remain until [`remove_other_parts`] removes them.
    fn resume(
        folder: &Path,
        lane: PartitionId,
        limits: PartLimits,
        written: WrittenParts,
    ) -> Result<Option<Self>, ManifestError> {
        for (number, part) in (0_u32..).zip(&written.sealed) {
            let path = partition_path(folder, lane, number);
            if file_size(&path)? != Some(part.bytes) || !is_intact(&path, number, *part, true)? {
                return Ok(None);
            }
        }
        let open = match written.open {
            None => None,
            Some(part) => {
                match OpenPart::reopen(
                    partition_path(folder, lane, part_count(&written.sealed)),
                    part_count(&written.sealed),
                    part,
                )? {
                    None => return Ok(None),
                    open => open,
                }
            }
        };
        Ok(Some(Self { open, sealed: written.sealed, ..Self::for_partition(folder, lane, limits) }))
    }

    /// Returns the paths of the files that it has written.
    fn files(&self) -> impl Iterator<Item = PathBuf> {
        (0..part_count(&self.sealed) + u32::from(self.open.is_some()))
            .map(|number| partition_path(&self.folder, self.partition, number))
    }

    /// Syncs all rows so far to disk, and returns the parts to record.
    fn checkpoint(&mut self) -> Result<WrittenParts, ManifestError> {
        self.end_block()?;
        let open = self.open.as_ref().map(OpenPart::flush).transpose()?;
        Ok(WrittenParts { sealed: self.sealed.clone(), open })
    }

    /// Adds a row. The caller must have checked that no field is too long.
    pub(super) fn push(&mut self, bucket: &str, key: &[u8], version: Option<&str>) -> Result<(), ManifestError> {
        self.block.push(bucket, key, version);
        let written = self.open.as_ref().map_or(0, |part| part.rows);
        let in_part = written.saturating_add(u32::try_from(self.block.rows()).unwrap_or(u32::MAX));
        let part_is_full = in_part >= self.limits.part_rows;
        if part_is_full || self.block.rows() >= self.limits.block_rows || !self.block.has_room() {
            self.end_block()?;
        }
        if part_is_full { self.end_part() } else { Ok(()) }
    }

    /// Writes the remaining rows and the end mark. The parts are on disk when this returns.
    fn seal(&mut self) -> Result<Vec<ManifestPart>, ManifestError> {
        self.end_block()?;
        self.end_part()?;
        Ok(self.sealed.clone())
    }

    /// Seals a writer in a test.
    #[cfg(test)]
    pub(super) fn finish(mut self) -> Result<Vec<ManifestPart>, ManifestError> {
        self.seal()
    }

    fn end_block(&mut self) -> Result<(), ManifestError> {
        let rows = self.block.rows();
        if rows == 0 {
            return Ok(());
        }
        self.block.drain_into(&mut self.raw);
        self.packed.clear();
        let number = part_count(&self.sealed);
        let path = partition_path(&self.folder, self.partition, number);
        self.compressor
            .compress(rows, &self.raw, &mut self.packed)
            .map_err(|why| ManifestError::disk("write", &path, io::Error::other(why)))?;
        self.check_room()?;
        if self.open.is_none() {
            self.open = Some(OpenPart::create(path, number)?);
        }
        match &mut self.open {
            Some(part) => part.append(&self.packed, u32::try_from(rows).unwrap_or(u32::MAX)),
            None => Ok(()),
        }
    }

    /// Returns an error if the packed block with the file header and end mark would exceed the limit, before any of it
    /// is written.
    fn check_room(&self) -> Result<(), ManifestError> {
        let Some(limit) = self.max_disk else { return Ok(()) };
        let (ours, others) = (self.totals(), self.other_totals);
        let used = ours.bytes.saturating_add(others.bytes);
        // The end mark of an open part is already counted.
        let around = if self.open.is_some() { 0 } else { 2 * HEADER_BYTES };
        let more = u64::try_from(self.packed.len() + around).unwrap_or(u64::MAX);
        if used.saturating_add(more) <= limit {
            return Ok(());
        }
        Err(ManifestError::TooLarge { used, limit, rows: ours.rows.saturating_add(others.rows) })
    }

    fn end_part(&mut self) -> Result<(), ManifestError> {
        if let Some(part) = self.open.take() {
            self.sealed.push(part.close()?);
            failpoint::hit("part-sealed");
        }
        Ok(())
    }
}

impl OpenPart {
    fn create(path: PathBuf, number: u32) -> Result<Self, ManifestError> {
        let file = create_replacing(&path).map_err(|cause| ManifestError::disk("create", &path, cause))?;
        let mut part = Self { path, file, rows: 0, bytes: 0 };
        part.append(&file_header(number), 0)?;
        Ok(part)
    }

    /// Opens a part without end mark, and truncates it to its recorded length. Returns `None` if it is shorter or
    /// damaged.
    fn reopen(path: PathBuf, number: u32, part: ManifestPart) -> Result<Option<Self>, ManifestError> {
        if file_size(&path)?.is_none_or(|found| found < part.bytes) || !is_intact(&path, number, part, false)? {
            return Ok(None);
        }
        let cut = || {
            let mut file = open_regular(&path, File::options().write(true))?;
            file.set_len(part.bytes)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = cut().map_err(|cause| ManifestError::disk("open", &path, cause))?;
        Ok(Some(Self { path, file, rows: part.rows, bytes: part.bytes }))
    }

    fn recorded(&self) -> ManifestPart {
        ManifestPart { rows: self.rows, bytes: self.bytes }
    }

    fn flush(&self) -> Result<ManifestPart, ManifestError> {
        self.file.sync_all().map_err(|cause| ManifestError::disk("write", &self.path, cause))?;
        Ok(self.recorded())
    }

    fn append(&mut self, bytes: &[u8], rows: u32) -> Result<(), ManifestError> {
        self.file.write_all(bytes).map_err(|cause| ManifestError::disk("write", &self.path, cause))?;
        self.rows = self.rows.saturating_add(rows);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn close(mut self) -> Result<ManifestPart, ManifestError> {
        let end = BlockHeader::End { rows: self.rows };
        self.append(&end.to_bytes(), 0)?;
        self.flush()
    }
}

/// Gives the sealed parts of several partitions their final names and numbers, in the order given. Can be repeated if
/// it was interrupted. Returns `false` if a part exists under neither name.
pub(super) fn assemble_parts(folder: &Path, lanes: &[(PartitionId, Vec<ManifestPart>)]) -> Result<bool, ManifestError> {
    let mut kept = HashSet::new();
    let mut moves = Vec::new();
    for (lane, parts) in lanes {
        for (number, part) in (0_u32..).zip(parts) {
            let (from, place) = (partition_path(folder, *lane, number), u32::try_from(kept.len()).unwrap_or(u32::MAX));
            let to = part_path(folder, place);
            // Check the old name first: another part may still have the new name.
            if file_size(&from)? == Some(part.bytes) {
                if from != to {
                    moves.push((from, to.clone(), place));
                }
            } else if file_size(&to)? != Some(part.bytes) {
                return Ok(false);
            }
            kept.insert(to);
        }
    }
    for (from, to, place) in moves {
        let renumber = || {
            let mut file = open_regular(&from, File::options().write(true))?;
            file.write_all(&file_header(place))?;
            file.sync_all()?;
            fs::rename(&from, &to)
        };
        renumber().map_err(|cause| ManifestError::disk("rename", &from, cause))?;
        failpoint::hit("part-settled");
    }
    remove_other_parts(folder, &kept)?;
    Ok(true)
}

fn part_count(parts: &[ManifestPart]) -> u32 {
    u32::try_from(parts.len()).unwrap_or(u32::MAX)
}

/// Returns the size of a file. Returns `None` if there is no file.
fn file_size(path: &Path) -> Result<Option<u64>, ManifestError> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(ManifestError::disk("open", path, cause)),
    }
}

/// Removes all parts except these files.
pub(super) fn remove_other_parts(home: &Path, kept: &HashSet<PathBuf>) -> Result<(), ManifestError> {
    let failed = |path: &Path, cause: io::Error| ManifestError::disk("clear", path, cause);
    for entry in fs::read_dir(home).map_err(|cause| failed(home, cause))? {
        let path = entry.map_err(|cause| failed(home, cause))?.path();
        if path.extension().is_some_and(|extension| extension == "bpm") && !kept.contains(&path) {
            fs::remove_file(&path).map_err(|cause| failed(&path, cause))?;
        }
    }
    Ok(())
}
#[cfg(test)]
mod part_tests;

//! A partition: the rows of a source that is read sequentially, or of one range of a listing.

use std::path::{Path, PathBuf};

use super::cursor::PartitionId;
use super::error::ManifestError;
use super::filter::ManifestRow;
use super::freeze_config::{FreezeCheckpointPolicy, FreezeConfig};
use super::key_ranges::{KeyRangeTracker, KeyRanges};
use super::part::{ManifestPart, PartLimits, PartTotals, PartitionPartsWriter, WrittenParts, partition_path};
use super::row_visitor::FreezeProgress;
use super::source_metadata::{ClassCounter, StorageClassStats};

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

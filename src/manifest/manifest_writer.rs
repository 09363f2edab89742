//! Writes the rows of a source to the parts of a frozen manifest, and checkpoints of how far it got.

use std::path::PathBuf;
use std::sync::Arc;

use batchplan_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::checkpoint::{FreezeCheckpoint, FreezeCheckpointStore, FreezeStart, clear_folder, parts_in_order};
use super::cursor::{PartitionId, SourceCursor};
use super::error::ManifestError;
use super::filter::{Filter, ManifestRow};
use super::freeze_config::FreezeConfig;
use super::frozen::FreezeOutput;
use super::key_ranges::KeyRangeTracker;
use super::part::{PartTotals, assemble_parts};
use super::partition::PartitionWriter;
use super::row_visitor::{FreezeProgress, ResumableReading, RowFlow, RowIntake, RowVisitor, ScratchSpace};
use super::source_metadata::StorageClassStats;

/// Writes rows to one partition at a time. There is a single partition unless the source adds others.
pub(super) struct ManifestWriter {
    intake: RowIntake,
    partitions: Vec<PartitionWriter>,
    /// The index of the partition that rows go to now.
    current: usize,
    /// The order of the partitions in the manifest.
    order: Vec<PartitionId>,
    checkpoints: Option<FreezeCheckpointStore>,
    home: PathBuf,
    config: FreezeConfig,
    /// The cursor of the checkpoint that was loaded, for the source to resume from.
    cursor: Option<SourceCursor>,
    /// The size of a temporary file beside the parts, in bytes.
    temporary_bytes: u64,
}

impl ManifestWriter {
    /// Creates a writer that starts from `start`.
    pub(super) fn new(
        filter: Filter,
        store: Arc<dyn Store>,
        start: FreezeStart,
        progress: watch::Sender<FreezeProgress>,
        stop: CancellationToken,
    ) -> Self {
        let FreezeStart { home, checkpoints, mut partitions, checkpoint, config } = start;
        let (warnings, cursor) = checkpoint.map_or((Vec::new(), None), |it| (it.warnings, Some(it.cursor)));
        if partitions.is_empty() {
            partitions.push(PartitionWriter::new(&home, PartitionId(0), config));
        }
        let mut total = FreezeProgress::default();
        for progress in partitions.iter().map(PartitionWriter::progress) {
            total.rows_read += progress.rows_read;
            total.rows_included += progress.rows_included;
        }
        let mut intake = RowIntake::new(filter, store, progress, stop);
        intake.resume(total, warnings);
        let order = partitions.iter().map(PartitionWriter::id).collect();
        Self { intake, partitions, current: 0, order, checkpoints, home, config, cursor, temporary_bytes: 0 }
    }

    /// Seals the partitions and puts them in order. The parts are on disk when this returns.
    pub(super) fn finish(mut self) -> Result<FreezeOutput, ManifestError> {
        let (mut key_ranges, mut class_stats) = (KeyRangeTracker::new(), StorageClassStats::default());
        for partition in &mut self.partitions {
            partition.seal()?;
            key_ranges.merge(&partition.key_ranges());
            class_stats.merge(&partition.class_stats());
        }
        let partitions = parts_in_order(&self.partitions, &self.order);
        if !assemble_parts(&self.home, &partitions)? {
            return Err(ManifestError::Missing { file: self.home });
        }
        self.intake.report_progress();
        Ok(FreezeOutput {
            parts: partitions.into_iter().flat_map(|(_, parts)| parts).collect(),
            rows_read: self.intake.rows_read(),
            key_ranges: key_ranges.key_ranges(),
            class_stats,
            warnings: self.intake.into_warnings(),
        })
    }
}

impl RowVisitor for ManifestWriter {
    fn intake(&self) -> &RowIntake {
        &self.intake
    }

    fn intake_mut(&mut self) -> &mut RowIntake {
        &mut self.intake
    }

    fn count_row(&mut self) -> Result<RowFlow, ManifestError> {
        self.partitions[self.current].count_row();
        self.intake.count_row()?;
        Ok(RowFlow::Continue)
    }

    fn include(&mut self, row: &ManifestRow<'_>) -> Result<RowFlow, ManifestError> {
        if let Some(limit) = self.config.max_objects.filter(|limit| self.intake.rows_included() >= *limit) {
            return Err(ManifestError::TooManyObjects { limit, found: None });
        }
        self.intake.count_included();
        self.partitions[self.current].push(row)?;
        Ok(RowFlow::Continue)
    }

    fn set_listed_prefix(&mut self, bucket: &str, prefix: &[u8]) {
        if self.intake.rows_included() > 0 {
            self.partitions[self.current].extend_key_range(bucket, prefix);
        }
    }

    fn set_rows_read(&mut self, rows: u64) {
        self.intake.set_rows_read(rows);
        self.partitions[self.current].set_rows_read(rows);
    }

    fn scratch(&self) -> ScratchSpace {
        let FreezeConfig { sort_budget, max_disk, .. } = self.config;
        ScratchSpace { folder: Some(self.home.clone()), sort_budget, max_disk }
    }

    fn reserve_temporary(&mut self, place: &str, bytes: u64) -> Result<(), ManifestError> {
        self.temporary_bytes = bytes;
        let partition = &mut self.partitions[self.current];
        partition.set_other_totals(PartTotals { rows: 0, bytes });
        let used = partition.totals().bytes;
        match self.config.max_disk {
            Some(limit) if bytes > 0 && used.saturating_add(bytes) > limit => {
                Err(ManifestError::NoRoomForDataFile { place: place.to_owned(), size: bytes, used, limit })
            }
            _ => Ok(()),
        }
    }

    fn blame_temporary(&self, error: ManifestError, place: &str) -> ManifestError {
        match error {
            ManifestError::TooLarge { used, limit, .. } if self.temporary_bytes > 0 => {
                let (size, used) = (self.temporary_bytes, used.saturating_sub(self.temporary_bytes));
                ManifestError::NoRoomForDataFile { place: place.to_owned(), size, used, limit }
            }
            other => other,
        }
    }

    fn reject_too_large(&self, place: &str, estimate: u64) -> Result<(), ManifestError> {
        match self.config.max_disk {
            Some(limit) if estimate > limit && self.intake.filter().accepts_everything() => {
                Err(ManifestError::ProbablyTooLarge { place: place.to_owned(), estimate, limit })
            }
            _ => Ok(()),
        }
    }
}

impl ResumableReading for ManifestWriter {
    fn take_cursor(&mut self) -> Option<SourceCursor> {
        self.cursor.take()
    }

    fn restart(&mut self) -> Result<(), ManifestError> {
        clear_folder(&self.home)?;
        self.partitions = vec![PartitionWriter::new(&self.home, PartitionId(0), self.config)];
        self.current = 0;
        self.order = vec![PartitionId(0)];
        self.intake.restart();
        Ok(())
    }

    fn add_partition(&mut self) -> PartitionId {
        let id = PartitionId(u32::try_from(self.partitions.len()).unwrap_or(u32::MAX));
        self.partitions.push(PartitionWriter::new(&self.home, id, self.config));
        id
    }

    fn select_partition(&mut self, partition: PartitionId) {
        let Some(found) = self.partitions.iter().position(|it| it.id() == partition) else { return };
        self.current = found;
        let mut others = PartTotals::default();
        for (index, other) in self.partitions.iter().enumerate().filter(|_| self.config.max_disk.is_some()) {
            if index != found {
                let totals = other.totals();
                others.rows += totals.rows;
                others.bytes += totals.bytes;
            }
        }
        self.partitions[found].set_other_totals(others);
    }

    fn set_partition_order(&mut self, order: Vec<PartitionId>) {
        self.order = order;
    }

    fn seal_partition(&mut self) -> Result<(), ManifestError> {
        self.partitions[self.current].seal()
    }

    fn save_due(&mut self) -> bool {
        self.partitions[self.current].checkpoint_due(self.config.checkpoint_policy)
    }

    fn unsaved_partitions(&self) -> Vec<PartitionId> {
        self.partitions.iter().filter(|it| it.has_unsaved()).map(PartitionWriter::id).collect()
    }

    fn sync_partition(&mut self) -> Result<(), ManifestError> {
        if self.checkpoints.is_some() { self.partitions[self.current].sync() } else { Ok(()) }
    }

    fn save_cursor(&mut self, cursor: SourceCursor) -> Result<(), ManifestError> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        let partitions = self.partitions.iter().map(|it| it.saved().clone()).collect();
        checkpoints.save(&FreezeCheckpoint { partitions, warnings: self.intake.warnings().to_vec(), cursor })
    }
}

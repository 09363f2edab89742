//! Freezes a source: writes its rows to the parts of a frozen manifest, and checkpoints of how far it got. Resumes from
//! the checkpoint of an earlier attempt.
//!
//! The rows of each partition, which is all of a source that is read sequentially or one range of a listing, go into
//! parts of their own. In the end the partitions are put in order.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batchplan_store::{MAX_LISTED_KEY_BYTES, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::empty_source;
use super::error::ManifestError;
use super::filter::{Filter, ManifestRow};
use super::freeze_checkpoint::{self, FreezeCheckpoint, FreezeCheckpointStore, PartitionCheckpoint};
use super::frozen::{self, FreezeOutput, FrozenManifest, index_exists, remove_index};
use super::input::run_blocking;
use super::key_ranges::{KeyRangeTracker, KeyRanges};
use super::part::{
    MAX_REASON_BYTES, ManifestPart, PartLimits, PartTotals, PartitionPartsWriter, WrittenParts, assemble_parts,
    is_intact, part_path, partition_path, remove_other_parts,
};
use super::prefix::ListingConcurrency;
use super::retrying_store::RetryingStore;
use super::row_visitor::{
    FreezeProgress, MAX_VERSION_BYTES, PartitionId, RangePosition, ResumableReading, RowFlow, RowIntake, RowVisitor,
    ScratchSpace, SourceCursor,
};
use super::sampling::{SampleOptions, SampleResult, SamplingPass, SamplingTee};
use super::sort::SortBudget;
use super::source_metadata::{ClassCounter, StorageClassStats};
use super::sources::read_source;
use super::spec::{Manifest, ManifestSource};
use crate::files::create_folder;

/// The limits of a freeze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreezeLimits {
    /// The maximum size on disk in bytes, for the frozen names and for a temporary copy of an inventory data file that
    /// cannot be read as a stream. `None` means no limit.
    pub max_disk: Option<u64>,
    /// The maximum number of objects; `None` means no limit.
    pub max_objects: Option<u64>,
    /// The maximum number of concurrent listing requests. `None` and larger values mean 16.
    pub concurrency: Option<u32>,
}

/// Reads the source of a manifest to its end and writes the objects that the filter includes into the folder
/// `manifest/` of the job's folder.
///
/// Needs a tokio runtime with timers enabled; a `current_thread` runtime is enough. `observer` is called with the
/// progress from time to time, on the caller's task.
///
/// Resumes an unfinished attempt with the same source and filter in this folder, whether it was ended by the stop
/// token, a dropped future or a killed process. A listing resumes at most 64 pages back in each of its ranges; an
/// inventory resumes after its last checkpointed data file, and starts over if it has changed. A CSV file is always
/// read from its beginning: it is one pinned file. Two attempts must not run in one folder at the same time. After the
/// future is dropped, a thread may still be working until the runtime shuts down.
///
/// Removes a finished manifest in the folder: call [`FrozenManifest::open`] first to reuse it.
///
/// If the filter excludes all rows, the frozen manifest has no rows. A source without rows is an error, unless the
/// source is a report or a retry.
///
/// # Errors
/// Returns an error if the source cannot be read, is not the one that the plan pins, or has rows that name no valid
/// object (one error reports all of them), if one of the `limits` is exceeded, or if the disk is full. If another
/// attempt may succeed, the files are kept for it; otherwise they are removed.
pub async fn freeze(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    limits: FreezeLimits,
    observer: &(dyn Fn(FreezeProgress) + Send + Sync),
    stop: &CancellationToken,
) -> Result<FrozenManifest, ManifestError> {
    let listing = ListingConcurrency::default().limited_to(limits.concurrency);
    let config =
        FreezeConfig { max_disk: limits.max_disk, max_objects: limits.max_objects, listing, ..FreezeConfig::default() };
    freeze_with_config(manifest, store, folder, observer, stop, config).await
}

/// Does the same as [`freeze`], and also collects a sample of the objects. Does not resume an earlier attempt.
///
/// # Errors
/// Returns the errors of [`freeze`].
pub async fn freeze_and_sample(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    (limits, options): (FreezeLimits, SampleOptions),
    observer: &(dyn Fn(FreezeProgress) + Send + Sync),
    stop: &CancellationToken,
) -> Result<(FrozenManifest, SampleResult), ManifestError> {
    let listing =
        ListingConcurrency::default().limited_to(if options.all_metadata { Some(1) } else { limits.concurrency });
    let config =
        FreezeConfig { max_disk: limits.max_disk, max_objects: limits.max_objects, listing, ..FreezeConfig::default() };
    run_freeze(manifest, store, folder, observer, stop, (config, Some(options))).await
}

/// Does the same as [`freeze`], with any sizes of blocks and parts.
pub(super) async fn freeze_with_config(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    observer: &(dyn Fn(FreezeProgress) + Send + Sync),
    stop: &CancellationToken,
    config: FreezeConfig,
) -> Result<FrozenManifest, ManifestError> {
    run_freeze(manifest, store, folder, observer, stop, (config, None)).await.map(|(frozen, _)| frozen)
}

async fn run_freeze(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    observer: &(dyn Fn(FreezeProgress) + Send + Sync),
    stop: &CancellationToken,
    (config, options): (FreezeConfig, Option<SampleOptions>),
) -> Result<(FrozenManifest, SampleResult), ManifestError> {
    let manifest_dir = frozen::manifest_folder(folder);
    // The checkpoint does not include the sample, so a sampling pass cannot resume.
    let checkpoints = FreezeCheckpointStore::new(&manifest_dir, manifest).filter(|_| options.is_none());
    let start_dir = manifest_dir.clone();
    let (start, sampling) = run_blocking(move || {
        let start = FreezeStart::load(start_dir, checkpoints, config)?;
        let sampling =
            options.map(|options| SamplingPass::new(options, Some(start.manifest_dir.clone()))).transpose()?;
        Ok((start, sampling))
    })
    .await?;
    let (progress, mut seen) = watch::channel(FreezeProgress::default());
    // A listing checks for a stop between pages only, so that the checkpoint ends at a whole page.
    let whole_pages = matches!(manifest.source, ManifestSource::Prefix { .. });
    let token = if whole_pages { CancellationToken::new() } else { stop.clone() };
    let writer = ManifestWriter::new(manifest.filter.clone(), Arc::clone(store), start, progress, token);
    let retrying = RetryingStore::new(Arc::clone(store), stop.clone());
    let mut work =
        Box::pin(write_manifest(&manifest.source, &retrying, config.listing, (writer, sampling), &manifest_dir));
    let done = loop {
        tokio::select! {
            biased;
            done = &mut work => break done,
            Ok(()) = seen.changed() => observer(*seen.borrow_and_update()),
        }
    };
    match done {
        Ok((frozen, sampled)) => {
            observer(FreezeProgress { rows_read: frozen.rows_read(), rows_included: frozen.rows() });
            Ok((frozen, sampled))
        }
        Err(error) => {
            let error = if stop.is_cancelled() { ManifestError::Stopped } else { error };
            // Files that cannot be removed have no index, so they are not taken for a manifest. Report the first error.
            let left = manifest_dir.clone();
            run_blocking(move || {
                let _ = clean_up_after(&left, &error);
                Err(error)
            })
            .await
        }
    }
}

/// Reads all rows of a source, then writes the index.
async fn write_manifest(
    source: &ManifestSource,
    retrying: &RetryingStore,
    listing: ListingConcurrency,
    (writer, sampling): (ManifestWriter, Option<SamplingPass>),
    manifest_dir: &Path,
) -> Result<(FrozenManifest, SampleResult), ManifestError> {
    let (mut writer, sampling, pin) = match sampling {
        None => {
            let (writer, pin) = read_source(source, retrying, listing, writer).await?;
            (writer, None, pin)
        }
        Some(sampling) => {
            let (tee, pin) = read_source(source, retrying, listing, SamplingTee::new(writer, sampling)).await?;
            let (writer, sampling) = tee.into_parts();
            (writer, Some(sampling), pin)
        }
    };
    let intake = &writer.intake;
    let empty = match intake.rows_read() {
        0 => empty_source::warning(source, retrying).await,
        read if intake.rows_included() == 0 && !intake.filter().accepts_everything() => {
            empty_source::selection_warning(source, read)
        }
        _ => None,
    };
    writer.intake.add_warnings(empty.into_iter().collect());
    let (source, manifest_dir) = (source.clone(), manifest_dir.to_owned());
    run_blocking(move || {
        let output = writer.finish()?;
        source.reject_empty(output.rows_read)?;
        let sampled = sampling.map(SamplingPass::finish).transpose()?.unwrap_or_default();
        // The rows of an undo already are in an order that spreads the requests.
        let is_spread = matches!(source, ManifestSource::Undo(_));
        let frozen = FrozenManifest::create(manifest_dir.clone(), output, pin, is_spread)?;
        // The manifest is complete: a checkpoint that cannot be removed is ignored.
        let _ = freeze_checkpoint::remove(&manifest_dir);
        Ok((frozen, sampled))
    })
    .await
}

/// Writes rows to one partition at a time. There is a single partition unless the source adds others.
struct ManifestWriter {
    intake: RowIntake,
    partitions: Vec<PartitionWriter>,
    /// The index of the partition that rows go to now.
    current: usize,
    /// The order of the partitions in the manifest.
    order: Vec<PartitionId>,
    checkpoints: Option<FreezeCheckpointStore>,
    manifest_dir: PathBuf,
    config: FreezeConfig,
    /// The cursor of the checkpoint that was loaded, for the source to resume from.
    cursor: Option<SourceCursor>,
    /// The size of a temporary file beside the parts, in bytes.
    temporary_bytes: u64,
}

impl ManifestWriter {
    /// Creates a writer that starts from `start`.
    fn new(
        filter: Filter,
        store: Arc<dyn Store>,
        start: FreezeStart,
        progress: watch::Sender<FreezeProgress>,
        stop: CancellationToken,
    ) -> Self {
        let FreezeStart { manifest_dir, checkpoints, mut partitions, checkpoint, config } = start;
        let (warnings, cursor) = checkpoint.map_or((Vec::new(), None), |it| (it.warnings, Some(it.cursor)));
        if partitions.is_empty() {
            partitions.push(PartitionWriter::new(&manifest_dir, PartitionId(0), config));
        }
        let mut total = FreezeProgress::default();
        for progress in partitions.iter().map(PartitionWriter::progress) {
            total.rows_read += progress.rows_read;
            total.rows_included += progress.rows_included;
        }
        let mut intake = RowIntake::new(filter, store, progress, stop);
        intake.resume(total, warnings);
        let order = partitions.iter().map(PartitionWriter::id).collect();
        Self { intake, partitions, current: 0, order, checkpoints, manifest_dir, config, cursor, temporary_bytes: 0 }
    }

    /// Returns an error if the manifest has as many objects as it may have.
    fn reject_too_many(&self) -> Result<(), ManifestError> {
        match self.config.max_objects.filter(|limit| self.intake.rows_included() >= *limit) {
            Some(limit) => Err(ManifestError::TooManyObjects { limit, found: None }),
            None => Ok(()),
        }
    }

    /// Seals the partitions and puts them in order. The parts are on disk when this returns.
    fn finish(mut self) -> Result<FreezeOutput, ManifestError> {
        let (mut key_ranges, mut class_stats) = (KeyRangeTracker::default(), StorageClassStats::default());
        for partition in &mut self.partitions {
            partition.seal()?;
            key_ranges.merge(&partition.key_ranges());
            class_stats.merge(&partition.class_stats());
        }
        let partitions = parts_in_order(&self.partitions, &self.order);
        if !assemble_parts(&self.manifest_dir, &partitions)? {
            return Err(ManifestError::Missing { file: self.manifest_dir });
        }
        let parts = partitions.iter().map(|(_, parts)| parts.len()).sum::<usize>();
        debug!(parts, rows = self.intake.rows_included(), "manifest parts frozen");
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
        self.reject_too_many()?;
        self.intake.count_included();
        self.partitions[self.current].push(row)?;
        Ok(RowFlow::Continue)
    }

    fn include_unlistable(&mut self, row: &ManifestRow<'_>, why: &str) -> Result<RowFlow, ManifestError> {
        self.reject_too_many()?;
        self.intake.count_included();
        self.partitions[self.current].push_unlistable(row, why)?;
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
        ScratchSpace { folder: Some(self.manifest_dir.clone()), sort_budget, max_disk }
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
        clear_folder(&self.manifest_dir)?;
        self.partitions = vec![PartitionWriter::new(&self.manifest_dir, PartitionId(0), self.config)];
        self.current = 0;
        self.order = vec![PartitionId(0)];
        self.intake.restart();
        Ok(())
    }

    fn add_partition(&mut self) -> PartitionId {
        let id = PartitionId(u32::try_from(self.partitions.len()).unwrap_or(u32::MAX));
        self.partitions.push(PartitionWriter::new(&self.manifest_dir, id, self.config));
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

/// The state that a freeze starts from.
struct FreezeStart {
    manifest_dir: PathBuf,
    /// `None` if the source is always read from its beginning.
    checkpoints: Option<FreezeCheckpointStore>,
    /// The partitions with the rows they already have; empty without a checkpoint.
    partitions: Vec<PartitionWriter>,
    /// The checkpoint that the freeze resumes from.
    checkpoint: Option<FreezeCheckpoint>,
    config: FreezeConfig,
}

impl FreezeStart {
    /// Loads the checkpoint in this folder. Empties the folder if there is none that can be used.
    fn load(
        manifest_dir: PathBuf,
        checkpoints: Option<FreezeCheckpointStore>,
        config: FreezeConfig,
    ) -> Result<Self, ManifestError> {
        if let Some((checkpoint, partitions)) = load_checkpoint(&manifest_dir, checkpoints.as_ref(), config)? {
            return Ok(Self { manifest_dir, checkpoints, partitions, checkpoint: Some(checkpoint), config });
        }
        clear_folder(&manifest_dir)?;
        Ok(Self { manifest_dir, checkpoints, partitions: Vec::new(), checkpoint: None, config })
    }
}

/// Loads the checkpoint and the partitions of an earlier attempt, if all their files are intact. Returns `None` if the
/// manifest is complete: to freeze again is to ask for a new manifest.
fn load_checkpoint(
    manifest_dir: &Path,
    checkpoints: Option<&FreezeCheckpointStore>,
    config: FreezeConfig,
) -> Result<Option<(FreezeCheckpoint, Vec<PartitionWriter>)>, ManifestError> {
    let Some(checkpoints) = checkpoints.filter(|_| !index_exists(manifest_dir)) else { return Ok(None) };
    let Some(checkpoint) = checkpoints.load()? else { return Ok(None) };
    let numbered = || (0_u32..).map(PartitionId).zip(&checkpoint.partitions);
    if let Some(order) = finished_order(&checkpoint) {
        // A crash may have interrupted `assemble_parts`: some parts may already have their final names.
        let partitions: Vec<PartitionWriter> =
            numbered().map(|(id, saved)| PartitionWriter::restore(id, saved)).collect();
        let parts = parts_in_order(&partitions, &order);
        let intact = assemble_parts(manifest_dir, &parts)? && parts_are_intact(manifest_dir, &parts)?;
        return Ok(intact.then_some((checkpoint, partitions)));
    }
    let mut partitions = Vec::new();
    for (id, saved) in numbered() {
        let Some(partition) = PartitionWriter::resume(manifest_dir, id, config, saved)? else { return Ok(None) };
        partitions.push(partition);
    }
    remove_other_parts(manifest_dir, &partitions.iter().flat_map(|it| it.files(manifest_dir)).collect())?;
    Ok(Some((checkpoint, partitions)))
}

/// Returns whether parts that have their final names match what was written.
fn parts_are_intact(
    manifest_dir: &Path,
    partitions: &[(PartitionId, Vec<ManifestPart>)],
) -> Result<bool, ManifestError> {
    for (place, part) in (0_u32..).zip(partitions.iter().flat_map(|(_, parts)| parts)) {
        if !is_intact(&part_path(manifest_dir, place), place, *part, true)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The partitions in the order of their rows, if every range has been listed to its end.
fn finished_order(checkpoint: &FreezeCheckpoint) -> Option<Vec<PartitionId>> {
    let SourceCursor::Listing(ranges) = &checkpoint.cursor else { return None };
    ranges.iter().map(|range| (range.position == RangePosition::Finished).then_some(range.partition)).collect()
}

/// Returns the parts of the partitions, in this order.
fn parts_in_order(partitions: &[PartitionWriter], order: &[PartitionId]) -> Vec<(PartitionId, Vec<ManifestPart>)> {
    let find = |id: &PartitionId| partitions.iter().find(|it| it.id() == *id);
    order.iter().filter_map(find).map(|it| (it.id(), it.parts().to_vec())).collect()
}

/// Cleans up after an error: keeps the files that the next attempt can resume from, and removes everything else.
fn clean_up_after(manifest_dir: &Path, error: &ManifestError) -> Result<(), ManifestError> {
    if error.is_retryable() && freeze_checkpoint::exists(manifest_dir) { Ok(()) } else { clear_folder(manifest_dir) }
}

/// Creates an empty folder for a manifest. Removes the files of an earlier attempt.
fn clear_folder(manifest_dir: &Path) -> Result<(), ManifestError> {
    create_folder(manifest_dir).map_err(|cause| ManifestError::disk("create", manifest_dir, cause))?;
    // Remove checkpoint and index first, so that an incomplete set of parts is never taken for a complete one.
    freeze_checkpoint::remove(manifest_dir)?;
    remove_index(manifest_dir)?;
    remove_other_parts(manifest_dir, &HashSet::new())
}

/// The rows of one partition so far.
struct PartitionWriter {
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
    fn new(manifest_dir: &Path, id: PartitionId, config: FreezeConfig) -> Self {
        let writer = PartitionPartsWriter::new(manifest_dir, id, config.part_limits, config.max_disk);
        let nothing = FreezeProgress::default();
        let key_ranges = KeyRanges::Known(Vec::new());
        Self {
            id,
            progress: nothing,
            key_ranges: KeyRangeTracker::default(),
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
    fn resume(
        manifest_dir: &Path,
        id: PartitionId,
        config: FreezeConfig,
        checkpoint: &PartitionCheckpoint,
    ) -> Result<Option<Self>, ManifestError> {
        let Some(writer) = PartitionPartsWriter::resume(
            manifest_dir,
            id,
            config.part_limits,
            config.max_disk,
            checkpoint.parts.clone(),
        )?
        else {
            return Ok(None);
        };
        let rows = PartitionRows::Open(Box::new(writer));
        Ok(Some(Self { rows, ..Self::restore(id, checkpoint) }))
    }

    /// Restores a complete partition from a checkpoint, wherever its files are now.
    fn restore(id: PartitionId, checkpoint: &PartitionCheckpoint) -> Self {
        Self {
            id,
            progress: checkpoint.progress,
            key_ranges: KeyRangeTracker::from(checkpoint.key_ranges.clone()),
            class_counter: ClassCounter::from_stats(&checkpoint.class_stats),
            rows: PartitionRows::Sealed(checkpoint.parts.sealed.clone()),
            saved: checkpoint.clone(),
            steps: 0,
        }
    }

    fn id(&self) -> PartitionId {
        self.id
    }

    /// Returns the paths of its files.
    fn files(&self, manifest_dir: &Path) -> Vec<PathBuf> {
        match &self.rows {
            PartitionRows::Open(writer) => writer.files().collect(),
            PartitionRows::Sealed(parts) => {
                (0_u32..).zip(parts).map(|(number, _)| partition_path(manifest_dir, self.id, number)).collect()
            }
        }
    }

    /// Returns the total number of rows and bytes of its parts.
    fn totals(&self) -> PartTotals {
        match &self.rows {
            PartitionRows::Open(writer) => writer.totals(),
            PartitionRows::Sealed(parts) => parts.iter().fold(PartTotals::default(), |sum, part| PartTotals {
                rows: sum.rows + u64::from(part.rows),
                bytes: sum.bytes + part.bytes,
            }),
        }
    }

    /// Sets the totals of the other partitions.
    fn set_other_totals(&mut self, others: PartTotals) {
        if let PartitionRows::Open(writer) = &mut self.rows {
            writer.set_other_totals(others);
        }
    }

    fn progress(&self) -> FreezeProgress {
        self.progress
    }

    fn count_row(&mut self) {
        self.progress.rows_read += 1;
    }

    fn set_rows_read(&mut self, rows: u64) {
        self.progress.rows_read = rows;
    }

    /// Extends the key ranges to a key that need not be in a row.
    fn extend_key_range(&mut self, bucket: &str, key: &[u8]) {
        self.key_ranges.record(bucket, key);
    }

    fn key_ranges(&self) -> KeyRanges {
        self.key_ranges.key_ranges()
    }

    fn class_stats(&self) -> StorageClassStats {
        self.class_counter.stats()
    }

    fn push(&mut self, row: &ManifestRow<'_>) -> Result<(), ManifestError> {
        let ManifestRow { bucket, key, version, metadata: facts } = row;
        self.progress.rows_included += 1;
        self.key_ranges.record(bucket, key);
        self.class_counter.count(facts, version.is_some());
        match &mut self.rows {
            PartitionRows::Open(writer) => writer.push(bucket, key, *version, facts.origin),
            PartitionRows::Sealed(_) => Ok(()),
        }
    }

    /// Adds a row whose object no request can name. It counts in no key range and in no storage class, because nothing
    /// is requested for it.
    fn push_unlistable(&mut self, row: &ManifestRow<'_>, why: &str) -> Result<(), ManifestError> {
        self.progress.rows_included += 1;
        let key = &row.key[..row.key.len().min(MAX_LISTED_KEY_BYTES)];
        // A part of a version ID names nothing, but the row must say that it is not about the current version.
        let version = row.version.map(|id| cut_text(id.split('\0').next().unwrap_or_default(), MAX_VERSION_BYTES));
        match &mut self.rows {
            PartitionRows::Open(writer) => {
                writer.push_unlistable(row.bucket, key, version, cut_text(why, MAX_REASON_BYTES))
            }
            PartitionRows::Sealed(_) => Ok(()),
        }
    }

    /// Records the end of a page or data file. Returns whether a checkpoint is due.
    fn checkpoint_due(&mut self, policy: FreezeCheckpointPolicy) -> bool {
        self.steps += 1;
        self.steps >= policy.steps || self.progress.rows_read - self.saved.progress.rows_read >= policy.rows
    }

    /// Returns whether there are pages or data files since the last checkpoint.
    fn has_unsaved(&self) -> bool {
        self.steps > 0
    }

    /// Syncs all rows to disk, and records this state as the checkpoint.
    fn sync(&mut self) -> Result<(), ManifestError> {
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
    fn saved(&self) -> &PartitionCheckpoint {
        &self.saved
    }

    /// Ends the last part. The parts are on disk when this returns.
    fn seal(&mut self) -> Result<(), ManifestError> {
        if let PartitionRows::Open(writer) = &mut self.rows {
            self.rows = PartitionRows::Sealed(writer.seal()?);
        }
        Ok(())
    }

    /// Returns the parts of a sealed partition.
    fn parts(&self) -> &[ManifestPart] {
        match &self.rows {
            PartitionRows::Open(_) => &[],
            PartitionRows::Sealed(parts) => parts,
        }
    }
}

/// Returns the start of a text, of at most `limit` bytes.
fn cut_text(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
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
    steps: u32,
    /// Rows read, whether included or not.
    rows: u64,
}

impl Default for FreezeCheckpointPolicy {
    fn default() -> Self {
        Self { steps: 64, rows: 65_536 }
    }
}

#[cfg(test)]
impl FreezeCheckpointPolicy {
    pub(super) const fn new(steps: u32, rows: u64) -> Self {
        Self { steps, rows }
    }
}

#[cfg(test)]
mod tests;

//! The destination of the rows of every source: applies the filter, and writes the rows to partitions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use batchplan_store::Store;
use batchplan_store::object::{MAX_KEY_BYTES, ObjectKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::changes::{ComparisonSide, ComparisonSorter};
use super::checkpoint::{FreezeCheckpoint, FreezeCheckpointStore, SourceCursor};
use super::class_stats::StorageClassStats;
use super::error::{ManifestError, ManifestWarning};
use super::filter::{FilterDecision, ManifestRow};
use super::freeze_start::{FreezeConfig, FreezeStart, parts_in_order};
use super::frozen::{self, ManifestPart};
use super::input::UnreadBytes;
use super::key_ranges::{KeyRangeTracker, KeyRanges};
use super::part::{MAX_BUCKET_BYTES, MAX_VERSION_BYTES, PartTotals, PartitionId, assemble_parts};
use super::partition::PartitionWriter;
use super::peek::PeekCollector;
use super::prefix::ListingConcurrency;
use super::sampling::SamplingPass;
use super::spec::Filter;

/// The number of rows between two checks of the stop token, which are also the progress reports.
const STOP_CHECK_INTERVAL: u64 = 4096;

/// The number of characters that a message shows of an unsupported key.
const MAX_SHOWN_CHARS: usize = 256;

/// The progress in reading a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreezeProgress {
    /// The number of rows read from the source.
    pub rows_read: u64,
    /// The number of rows that the filter included.
    pub rows_included: u64,
}

/// Accepts the rows of a source.
///
/// Rows go to one partition at a time. There is a single partition unless the source adds others.
pub(super) struct RowWriter {
    filter: Filter,
    store: Arc<dyn Store>,
    partitions: Vec<PartitionWriter>,
    /// The index of the partition that rows go to now.
    current: usize,
    /// The order of the partitions in the manifest.
    order: Vec<PartitionId>,
    /// The total of all partitions.
    total: FreezeProgress,
    progress: watch::Sender<FreezeProgress>,
    stop: CancellationToken,
    warnings: Vec<ManifestWarning>,
    checkpoints: Option<FreezeCheckpointStore>,
    home: PathBuf,
    config: FreezeConfig,
    /// The cursor of the checkpoint that was loaded, for the source to resume from.
    cursor: Option<SourceCursor>,
    /// Samples every row that is included.
    sampling: Option<SamplingPass>,
    /// Set if reading stops after the first objects.
    peek: Option<PeekCollector>,
    /// The size of a temporary file beside the parts, in bytes.
    temporary_bytes: u64,
    /// If set, rows go here and not to the parts.
    comparison: Option<Box<ComparisonSorter>>,
}

/// The result of a freeze.
pub(super) struct FreezeOutput {
    pub(super) parts: Vec<ManifestPart>,
    pub(super) rows_read: u64,
    pub(super) warnings: Vec<ManifestWarning>,
    pub(super) key_ranges: KeyRanges,
    pub(super) class_stats: StorageClassStats,
    pub(super) sampling: Option<SamplingPass>,
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

impl RowWriter {
    /// Creates a row writer that starts from `begun`.
    pub(super) fn new(
        filter: Filter,
        store: Arc<dyn Store>,
        begun: FreezeStart,
        progress: watch::Sender<FreezeProgress>,
        stop: CancellationToken,
        sampling: Option<SamplingPass>,
    ) -> Self {
        let FreezeStart { home, checkpoints, mut partitions, checkpoint: draft, config } = begun;
        let (warnings, cursor) = draft.map_or((Vec::new(), None), |draft| (draft.warnings, Some(draft.cursor)));
        if partitions.is_empty() {
            partitions.push(PartitionWriter::new(&home, PartitionId(0), config));
        }
        let mut total = FreezeProgress::default();
        for lane in &partitions {
            total.rows_read += lane.progress.rows_read;
            total.rows_included += lane.progress.rows_included;
        }
        progress.send_replace(total);
        let order = partitions.iter().map(PartitionWriter::id).collect();
        Self {
            filter,
            store,
            partitions,
            current: 0,
            order,
            total,
            progress,
            stop,
            warnings,
            checkpoints,
            home,
            config,
            cursor,
            sampling,
            peek: None,
            temporary_bytes: 0,
            comparison: None,
        }
    }

    /// Creates a row writer that writes nothing, and stops once enough objects have been found.
    pub(super) fn for_peek(filter: Filter, store: Arc<dyn Store>, glance: PeekCollector) -> Self {
        let sizes =
            FreezeConfig { listing: ListingConcurrency::default().limited_to(Some(1)), ..FreezeConfig::default() };
        let begun = FreezeStart {
            home: PathBuf::new(),
            checkpoints: None,
            partitions: Vec::new(),
            checkpoint: None,
            config: sizes,
        };
        let sink = Self::new(filter, store, begun, watch::Sender::default(), CancellationToken::new(), None);
        Self { peek: Some(glance), ..sink }
    }

    /// Creates another row writer with this filter, whose rows are only collected for a comparison.
    pub(super) fn for_comparison(&self, filter: Filter) -> Self {
        let pile = ComparisonSorter::new(&self.home, self.config.sort_budget, self.config.max_disk, &self.stop);
        let begun = FreezeStart {
            home: PathBuf::new(),
            checkpoints: None,
            partitions: Vec::new(),
            checkpoint: None,
            config: self.config,
        };
        let (store, progress, stop) = (Arc::clone(&self.store), self.progress.clone(), self.stop.clone());
        Self { comparison: Some(Box::new(pile)), ..Self::new(filter, store, begun, progress, stop, None) }
    }

    /// Collects rows of this side from now on, with another filter.
    pub(super) fn with_side(mut self, side: ComparisonSide, filter: Filter) -> Self {
        if let Some(pile) = &mut self.comparison {
            pile.set_side(side);
        }
        Self { filter, ..self }
    }

    /// Returns the collected rows, and the warnings.
    pub(super) fn into_comparison(self) -> Result<(ComparisonSorter, Vec<ManifestWarning>), ManifestError> {
        let none = || ManifestError::corrupt(&self.home, "no rows were collected in it");
        Ok((*self.comparison.ok_or_else(none)?, self.warnings))
    }

    /// Adds the warnings of another row writer.
    pub(super) fn add_warnings(&mut self, warnings: Vec<ManifestWarning>) {
        self.warnings.extend(warnings);
    }

    /// Returns what to do with the rest of a file when reading stops early: skip it if only the first objects are
    /// needed.
    pub(super) fn unread_bytes(&self) -> UnreadBytes {
        if self.peek.is_some() { UnreadBytes::Skip } else { UnreadBytes::Digest }
    }

    /// Returns whether reading stops after the first objects.
    pub(super) fn is_peek(&self) -> bool {
        self.peek.is_some()
    }

    /// Returns the folder for temporary files. Returns `None` if nothing is written.
    pub(super) fn home(&self) -> Option<&Path> {
        if self.peek.is_some() { None } else { Some(&self.home) }
    }

    /// Sets the size of the temporary file beside the parts. Returns an error if both together exceed the limit.
    pub(super) fn reserve_temporary(&mut self, place: &str, bytes: u64) -> Result<(), ManifestError> {
        self.temporary_bytes = bytes;
        let lane = &mut self.partitions[self.current];
        lane.set_other_totals(PartTotals { rows: 0, bytes });
        let used = lane.totals().bytes;
        match self.config.max_disk {
            Some(limit) if bytes > 0 && used.saturating_add(bytes) > limit => {
                Err(ManifestError::NoRoomForDataFile { place: place.to_owned(), size: bytes, used, limit })
            }
            _ => Ok(()),
        }
    }

    /// Converts an exceeded limit to an error that names the temporary file, if there is one.
    pub(super) fn blame_temporary(&self, error: ManifestError, place: &str) -> ManifestError {
        match error {
            ManifestError::TooLarge { used, limit, .. } if self.temporary_bytes > 0 => {
                let (size, used) = (self.temporary_bytes, used.saturating_sub(self.temporary_bytes));
                ManifestError::NoRoomForDataFile { place: place.to_owned(), size, used, limit }
            }
            other => other,
        }
    }

    /// Returns the cursor that the source resumes from, if any. Returns it only once.
    pub(super) fn take_cursor(&mut self) -> Option<SourceCursor> {
        self.cursor.take()
    }

    pub(super) fn config(&self) -> FreezeConfig {
        self.config
    }

    /// Removes all rows: the source cannot resume.
    pub(super) fn restart(&mut self) -> Result<(), ManifestError> {
        frozen::clear_folder(&self.home)?;
        self.partitions = vec![PartitionWriter::new(&self.home, PartitionId(0), self.config)];
        self.current = 0;
        self.order = vec![PartitionId(0)];
        self.total = FreezeProgress::default();
        self.warnings.clear();
        match &mut self.sampling {
            Some(survey) => survey.restart(&self.home),
            None => Ok(()),
        }
    }

    /// Adds a partition, for rows that do not follow the last row.
    pub(super) fn add_partition(&mut self) -> PartitionId {
        let lane = PartitionId(u32::try_from(self.partitions.len()).unwrap_or(u32::MAX));
        self.partitions.push(PartitionWriter::new(&self.home, lane, self.config));
        lane
    }

    /// Sets the partition that the next rows go to.
    pub(super) fn select_partition(&mut self, lane: PartitionId) {
        let Some(found) = self.partitions.iter().position(|it| it.id() == lane) else { return };
        self.current = found;
        let mut others = PartTotals::default();
        for (place, lane) in self.partitions.iter().enumerate().filter(|_| self.config.max_disk.is_some()) {
            if place != found {
                let tally = lane.totals();
                others.rows += tally.rows;
                others.bytes += tally.bytes;
            }
        }
        self.partitions[found].set_other_totals(others);
    }

    /// Sets the order of the partitions in the manifest, if it differs from the order in which they were added.
    pub(super) fn set_order(&mut self, order: Vec<PartitionId>) {
        self.order = order;
    }

    /// Records the end of a page or data file. Returns whether a checkpoint is due.
    pub(super) fn checkpoint_due(&mut self) -> bool {
        self.partitions[self.current].checkpoint_due(self.config.checkpoint_policy)
    }

    /// Returns the partitions with pages or data files since their last checkpoint.
    pub(super) fn unsaved_partitions(&self) -> Vec<PartitionId> {
        self.partitions.iter().filter(|lane| lane.has_unsaved()).map(PartitionWriter::id).collect()
    }

    /// Seals the current partition: it has all its rows.
    pub(super) fn seal(&mut self) -> Result<(), ManifestError> {
        self.partitions[self.current].seal()
    }

    /// Syncs the rows of the current partition to disk. Does not write the checkpoint that records them.
    pub(super) fn sync_partition(&mut self) -> Result<(), ManifestError> {
        if self.checkpoints.is_some() { self.partitions[self.current].sync() } else { Ok(()) }
    }

    /// Writes the checkpoint: the synced rows of each partition, and the cursor after them.
    pub(super) fn write_checkpoint(&self, mark: SourceCursor) -> Result<(), ManifestError> {
        let Some(keeper) = &self.checkpoints else { return Ok(()) };
        let lanes = self.partitions.iter().map(|lane| lane.saved().clone()).collect();
        keeper.save(&FreezeCheckpoint { partitions: lanes, warnings: self.warnings.clone(), cursor: mark })
    }

    /// Writes a checkpoint of a source with a single partition, including its rows.
    pub(super) fn sync_and_checkpoint(&mut self, mark: SourceCursor) -> Result<(), ManifestError> {
        self.sync_partition()?;
        self.write_checkpoint(mark)
    }

    /// Returns an error if the rows of a source probably exceed the limit on disk.
    ///
    /// The size of the compressed data files of an inventory is known before any of them is read. They contain more
    /// than names, so the estimate is usually too high. With a filter it is meaningless, and only the bytes actually
    /// written count.
    pub(super) fn reject_too_large(&self, place: &str, estimate: u64) -> Result<(), ManifestError> {
        match self.config.max_disk {
            Some(limit) if estimate > limit && self.filter.accepts_everything() && self.comparison.is_none() => {
                Err(ManifestError::ProbablyTooLarge { place: place.to_owned(), estimate, limit })
            }
            _ => Ok(()),
        }
    }

    /// Extends the key ranges by the prefix that the rows were listed under.
    pub(super) fn extend_to_prefix(&mut self, bucket: &str, prefix: &[u8]) {
        if self.total.rows_included > 0 {
            self.partitions[self.current].key_ranges.record(bucket, prefix);
        }
    }

    /// Returns whether a source must report every fact it has, and not only those that the filter and the class
    /// statistics need.
    pub(super) fn needs_all_metadata(&self) -> bool {
        self.sampling.is_some() || self.comparison.is_some()
    }

    /// Returns the filter, for a source that must know which facts to read.
    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(super) fn rows_read(&self) -> u64 {
        self.total.rows_read
    }

    /// Sets the number of rows read, for a source whose rows went to another row writer first.
    pub(super) fn set_rows_read(&mut self, rows: u64) {
        self.total.rows_read = rows;
        self.partitions[self.current].progress.rows_read = rows;
    }

    /// Returns the number of objects included so far.
    pub(super) fn rows_included(&self) -> u64 {
        self.total.rows_included
    }

    pub(super) fn warn(&mut self, message: String, help: &str) {
        self.warnings.push(ManifestWarning { message, help: help.to_owned() });
    }

    /// Adds a warning, unless there is one with the same message.
    pub(super) fn warn_once(&mut self, message: String, help: &str) {
        if !self.warnings.iter().any(|warning| warning.message == message) {
            self.warn(message, help);
        }
    }

    /// Records that a page of a listing was read, with or without objects.
    pub(super) fn count_page(&self) -> Result<(), ManifestError> {
        let enough = self.peek.as_ref().is_some_and(|glance| glance.count_page(self.total.rows_read));
        if enough { Err(ManifestError::Stopped) } else { Ok(()) }
    }

    /// Counts a row that is not an object to process, such as a delete marker.
    pub(super) fn count_row(&mut self) -> Result<(), ManifestError> {
        if self.peek.as_ref().is_some_and(|glance| glance.row_limit_reached(self.total.rows_read)) {
            return Err(ManifestError::Stopped);
        }
        self.total.rows_read += 1;
        self.partitions[self.current].progress.rows_read += 1;
        if self.total.rows_read.is_multiple_of(STOP_CHECK_INTERVAL) {
            self.progress.send_replace(self.total);
            if self.stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
        }
        Ok(())
    }

    /// Adds a row if the filter includes it. The inner error says why the row names no object that the store can
    /// process.
    pub(super) fn push(&mut self, row: &ManifestRow<'_>) -> Result<Result<(), String>, ManifestError> {
        self.count_row()?;
        if let Err(why) = check_name(row) {
            return Ok(Err(why));
        }
        match self.filter.evaluate(row) {
            FilterDecision::Excluded => return Ok(Ok(())),
            FilterDecision::Unknown(fact) => {
                return Ok(Err(format!("the filter needs {}, but it is empty", fact.label())));
            }
            FilterDecision::Included => {}
        }
        if let Some(why) = self.store.unsupported_key_reason(&ObjectKey::new(row.key)) {
            let shown: String = ObjectKey::new(row.key).to_string().chars().take(MAX_SHOWN_CHARS).collect();
            return Ok(Err(format!("the store does not support the key {shown}: {why}")));
        }
        if let Some(glance) = &self.peek {
            let enough = glance.add(row, self.total.rows_read);
            return if enough { Err(ManifestError::Stopped) } else { Ok(Ok(())) };
        }
        match &mut self.comparison {
            Some(pile) => pile.push(row)?,
            None => self.write_row(row)?,
        }
        Ok(Ok(()))
    }

    /// Adds a row that has been checked and filtered.
    pub(super) fn write_row(&mut self, row: &ManifestRow<'_>) -> Result<(), ManifestError> {
        if let Some(limit) = self.config.max_objects.filter(|limit| self.total.rows_included >= *limit) {
            return Err(ManifestError::TooManyObjects { limit, found: None });
        }
        self.total.rows_included += 1;
        if let Some(survey) = &mut self.sampling {
            survey.record(row)?;
        }
        self.partitions[self.current].push(row)
    }

    /// Seals the partitions and puts them in order. The parts are on disk when this returns.
    pub(super) fn finish(mut self) -> Result<FreezeOutput, ManifestError> {
        let (mut tracker, mut census) = (KeyRangeTracker::new(), StorageClassStats::default());
        for lane in &mut self.partitions {
            lane.seal()?;
            tracker.merge(&lane.key_ranges.key_ranges());
            census.merge(&lane.class_counter.stats());
        }
        let lanes = parts_in_order(&self.partitions, &self.order);
        if !assemble_parts(&self.home, &lanes)? {
            return Err(ManifestError::Missing { file: self.home });
        }
        self.progress.send_replace(self.total);
        let parts = lanes.into_iter().flat_map(|(_, parts)| parts).collect();
        let reach = tracker.key_ranges();
        Ok(FreezeOutput {
            parts,
            rows_read: self.total.rows_read,
            warnings: self.warnings,
            key_ranges: reach,
            class_stats: census,
            sampling: self.sampling,
        })
    }
}

/// Checks the rules for names that apply to every store.
fn check_name(row: &ManifestRow<'_>) -> Result<(), String> {
    check_bucket(row.bucket)?;
    match row.key.len() {
        0 => return Err("the key is empty".to_owned()),
        1..=MAX_KEY_BYTES => {}
        bytes => return Err(format!("the key has {bytes} bytes (maximum {MAX_KEY_BYTES})")),
    }
    let version = row.version.unwrap_or_default();
    if version.contains('\0') {
        // Samples and digests separate the fields of a row by zero bytes.
        return Err("the version id contains a zero byte".to_owned());
    }
    match version.len() {
        0..=MAX_VERSION_BYTES => Ok(()),
        bytes => Err(format!("the version id has {bytes} bytes (maximum {MAX_VERSION_BYTES})")),
    }
}

/// Checks a bucket name. It becomes part of a host name or a path: a malicious name in a file from elsewhere could send
/// signed requests to a foreign host.
pub(super) fn check_bucket(bucket: &str) -> Result<(), String> {
    if bucket.is_empty() {
        return Err("the bucket is empty".to_owned());
    }
    if bucket.len() > MAX_BUCKET_BYTES {
        return Err(format!("the bucket name has {} bytes (maximum {MAX_BUCKET_BYTES})", bucket.len()));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !bucket.bytes().all(legal) || matches!(bucket, "." | "..") {
        return Err(format!("`{}` is not a valid bucket name", bucket.escape_debug()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::filter::RowMetadata;

    #[test]
    fn names_are_checked_whatever_the_store() {
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        let check = |bucket: &str, key: &str, version: Option<&str>| {
            check_name(&ManifestRow { bucket, key: key.as_bytes(), version, metadata: RowMetadata::default() })
        };
        assert_eq!(check("my-bucket.x_Y9", &long[1..], Some("null")), Ok(()));
        assert!(check("", "k", None).unwrap_err().contains("bucket is empty"));
        assert!(check("b", "", None).unwrap_err().contains("key is empty"));
        assert!(check("b", &long, None).unwrap_err().contains("1025 bytes"));
        assert!(check("b", "k", Some(&long)).unwrap_err().contains("version id has 1025"));
        assert!(check(&"b".repeat(256), "k", None).unwrap_err().contains("256 bytes"));
        for bucket in ["evil.example/", "a b", "b@host", "b:80", "..", "b#", "b\n", "é"] {
            assert!(check(bucket, "k", None).unwrap_err().contains("not a valid bucket name"), "{bucket}");
        }
    }
}

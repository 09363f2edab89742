//! An external sort, for more records than fit into memory.
//!
//! Records are byte strings, sorted in byte order. Records that fit into the memory budget are sorted and written out
//! as a run. When a level has as many runs as can be merged at once, they are merged into one run of the next level:
//! memory and open files are bounded, and a record is written once per level. A small sort never touches the disk.

use std::io;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use self::merge::RunMerger;
use self::run::{MAX_RECORD, RunFile};
use super::error::ManifestError;

mod merge;
mod run;

/// The limits of a sort.
#[derive(Clone, Copy, Debug)]
pub(super) struct SortBudget {
    /// Bytes of memory per run: for the records and their positions.
    pub(super) bytes: usize,
    /// The number of runs that are merged at once, at least two.
    pub(super) runs: usize,
}

impl Default for SortBudget {
    fn default() -> Self {
        Self { bytes: 32 << 20, runs: 64 }
    }
}

/// Accepts records in any order.
pub(super) struct ExternalSorter {
    folder: PathBuf,
    budget: SortBudget,
    stop: CancellationToken,
    batch: SortBatch,
    levels: Vec<RunFile>,
}

impl ExternalSorter {
    /// Sorts with unnamed temporary files in this folder, which vanish when they are closed.
    pub(super) fn new(folder: &Path, room: SortBudget, stop: &CancellationToken) -> Self {
        let budget = SortBudget { runs: room.runs.max(2), ..room };
        Self { folder: folder.to_owned(), budget, stop: stop.clone(), batch: SortBatch::default(), levels: Vec::new() }
    }

    /// Adds a record of at most 64 KiB.
    pub(super) fn push(&mut self, record: &[u8]) -> Result<(), ManifestError> {
        if record.len() > MAX_RECORD {
            let cause = io::Error::new(io::ErrorKind::InvalidInput, "a record is too long");
            return Err(ManifestError::disk("sort in", &self.folder, cause));
        }
        if !self.batch.spans.is_empty() && self.batch.size_with(record) > self.budget.bytes {
            self.spill()?;
        }
        self.batch.push(record);
        Ok(())
    }

    /// Returns the number of bytes on disk. During a merge, the runs of one level exist twice.
    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.levels.iter().map(RunFile::bytes).sum()
    }

    /// Returns all records in order, without duplicates.
    pub(super) fn finish(mut self) -> Result<SortedRecords, ManifestError> {
        if self.levels.is_empty() {
            self.batch.sort();
            return Ok(SortedRecords(SortedStorage::Memory { batch: self.batch, next: 0 }));
        }
        self.spill()?;
        self.batch = SortBatch::default();
        // The lower levels have the shorter runs.
        let mut level = 0;
        while self.levels.iter().map(RunFile::len).sum::<usize>() > self.budget.runs && level + 1 < self.levels.len() {
            self.merge(level)?;
            level += 1;
        }
        let runs = self.levels.iter_mut().flat_map(RunFile::take_runs).collect();
        Ok(SortedRecords(SortedStorage::Disk(RunMerger::new(runs, self.folder, self.stop)?)))
    }

    /// Writes the records in memory to a run, and merges the levels that are full.
    fn spill(&mut self) -> Result<(), ManifestError> {
        self.batch.sort();
        self.ensure_level(0)?;
        let write = |runs: &mut RunFile| {
            let mut writer = runs.start_run()?;
            self.batch.records().try_for_each(|record| writer.push(record))?;
            writer.finish()
        };
        write(&mut self.levels[0]).map_err(|cause| write_error(&self.folder, cause))?;
        self.batch.clear();
        let mut level = 0;
        while self.levels.get(level).is_some_and(|runs| runs.len() >= self.budget.runs) {
            self.merge(level)?;
            level += 1;
        }
        Ok(())
    }

    /// Merges all runs of a level into one run of the next level.
    fn merge(&mut self, level: usize) -> Result<(), ManifestError> {
        self.ensure_level(level + 1)?;
        let mut merge = RunMerger::new(self.levels[level].take_runs(), self.folder.clone(), self.stop.clone())?;
        let failed = |cause| write_error(&self.folder, cause);
        let mut writer = self.levels[level + 1].start_run().map_err(failed)?;
        while merge.advance()? {
            writer.push(merge.record()).map_err(failed)?;
        }
        writer.finish().map_err(failed)?;
        drop(merge);
        self.levels[level].truncate().map_err(failed)
    }

    fn ensure_level(&mut self, level: usize) -> Result<(), ManifestError> {
        if level == self.levels.len() {
            let failed = |cause| ManifestError::disk("create a file in", &self.folder, cause);
            self.levels.push(RunFile::create(&self.folder).map_err(failed)?);
        }
        Ok(())
    }
}

fn write_error(folder: &Path, cause: io::Error) -> ManifestError {
    ManifestError::disk("write sort data to a file in", folder, cause)
}

/// Records in memory.
#[derive(Default)]
struct SortBatch {
    text: Vec<u8>,
    spans: Vec<RecordSpan>,
}

/// The position of a record in the buffer.
#[derive(Clone, Copy)]
struct RecordSpan {
    from: usize,
    to: usize,
}

impl SortBatch {
    fn size_with(&self, record: &[u8]) -> usize {
        self.text.len() + record.len() + (self.spans.len() + 1) * size_of::<RecordSpan>()
    }

    fn push(&mut self, record: &[u8]) {
        let from = self.text.len();
        self.text.extend_from_slice(record);
        self.spans.push(RecordSpan { from, to: self.text.len() });
    }

    fn sort(&mut self) {
        let text = self.text.as_slice();
        self.spans.sort_unstable_by(|a, b| text[a.from..a.to].cmp(&text[b.from..b.to]));
        self.spans.dedup_by(|a, b| text[a.from..a.to] == text[b.from..b.to]);
    }

    fn record(&self, place: usize) -> &[u8] {
        self.spans.get(place).map_or(&[], |span| &self.text[span.from..span.to])
    }

    fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| &self.text[span.from..span.to])
    }

    /// Removes the records for the next run, but keeps the memory.
    fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
    }
}

/// Records in ascending order, without duplicates. Unusable after an error.
pub(super) struct SortedRecords(SortedStorage);

enum SortedStorage {
    Memory { batch: SortBatch, next: usize },
    Disk(RunMerger),
}

impl SortedRecords {
    /// Advances to the next record, initially to the first. Returns `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, ManifestError> {
        match &mut self.0 {
            SortedStorage::Memory { batch, next } => {
                *next += 1;
                Ok(*next <= batch.spans.len())
            }
            SortedStorage::Disk(merge) => merge.advance(),
        }
    }

    /// Returns the current record.
    pub(super) fn record(&self) -> &[u8] {
        match &self.0 {
            SortedStorage::Memory { batch, next } => batch.record(next.saturating_sub(1)),
            SortedStorage::Disk(merge) => merge.record(),
        }
    }
}

#[cfg(test)]
mod tests;

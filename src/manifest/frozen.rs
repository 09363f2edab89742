//! A frozen manifest: its source and its rows.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::vec;

use batchplan_store::task::{Task, TaskId};

use super::class_stats::StorageClassStats;
use super::error::{ManifestError, ManifestWarning};
use super::index;
use super::interleaved_tasks::InterleavedTasks;
use super::interleaving::{Interleaving, position_to_seq};
use super::key_ranges::KeyRanges;
use super::part::PartReader;
use super::pins::SourcePin;
use super::source_metadata::MetadataReader;
use crate::frontier::RowFrontier;

/// The maximum number of rows in a batch, whatever the caller asks for: keys are up to 1 KiB each.
const MAX_BATCH: usize = 65_536;

/// One part of a frozen manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestPart {
    /// The number of rows, at least one.
    pub rows: u32,
    /// The size of the file in bytes.
    pub bytes: u64,
}

/// A manifest that was read to its end, checked, filtered and written to the job's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenManifest {
    pub(super) folder: PathBuf,
    pub(super) rows_read: u64,
    pub(super) parts: Vec<ManifestPart>,
    pub(super) pin: SourcePin,
    pub(super) warnings: Vec<ManifestWarning>,
    pub(super) key_ranges: KeyRanges,
    /// `None` if an earlier release wrote the index.
    pub(super) class_stats: Option<Box<StorageClassStats>>,
    /// The number of segments that are read in turn; with one, a [`TaskId`] is a part and a row in it.
    pub(super) segments: u32,
    pub(super) has_checksum: bool,
}

impl FrozenManifest {
    /// Opens the frozen manifest in a job's folder. Returns `None` if there is none, or if it is unfinished.
    ///
    /// # Errors
    /// Returns an error if the index cannot be read or is invalid, or if a part is missing or its size differs from the
    /// index.
    pub fn open(folder: &Path) -> Result<Option<Self>, ManifestError> {
        let home = manifest_folder(folder);
        let Some(frozen) = index::load(&home)? else { return Ok(None) };
        for (number, part) in (0_u32..).zip(&frozen.parts) {
            let path = part_path(&home, number);
            let found = fs::metadata(&path).map_err(|cause| ManifestError::unopened_part(&path, cause))?.len();
            if found != part.bytes {
                let what = format!("it has {found} bytes, but the index says {}", part.bytes);
                return Err(ManifestError::corrupt(&path, what));
            }
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

    /// Returns the parts, in order; the part number of a [`TaskId`] is an index into them.
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
        if self.has_checksum { Ok(()) } else { index::save(self) }
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
    ///
    /// The iterator reads files and decompresses: use it on a thread that may block.
    #[must_use]
    pub fn tasks(&self, from: TaskId, batch: usize) -> ManifestTasks {
        self.tasks_of_parts(from, u32::MAX, batch)
    }

    /// Like [`tasks`](Self::tasks), but ends with the part of `from`: for a reader that has several parts open.
    #[must_use]
    pub fn part_tasks(&self, from: TaskId, batch: usize) -> ManifestTasks {
        self.tasks_of_parts(from, from.part, batch)
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
            Box::new(InterleavedTasks::new(self, frontier, batch.clamp(1, MAX_BATCH)))
        } else {
            Box::new(self.unfinished_tasks(frontier, batch))
        }
    }

    /// Like [`tasks`](Self::tasks) from the start, but returns only the rows that `frontier` does not contain: the rows
    /// that a retried job never finished. With a single segment, starts each part at its low mark and does not open
    /// parts that are finished.
    #[must_use]
    pub fn unfinished_tasks(&self, frontier: &RowFrontier, batch: usize) -> ManifestTasks {
        let mut tasks = self.tasks(TaskId { part: 0, row: 0 }, batch);
        if self.segments > 1 {
            tasks.interleaving = Some(self.interleaving());
        } else {
            let open = tasks.spans.filter_map(|span| {
                let from = frontier.first_unsettled(span.part);
                (from < span.rows).then_some(PartSpan { from, ..span })
            });
            tasks.spans = open.collect::<Vec<_>>().into_iter();
        }
        tasks.finished = frontier.clone();
        tasks
    }

    pub(super) fn interleaving(&self) -> Interleaving {
        Interleaving::new(self.rows(), self.segments)
    }

    fn tasks_of_parts(&self, from: TaskId, last: u32, batch: usize) -> ManifestTasks {
        let parts = (0_u32..).zip(&self.parts).filter(|(part, _)| (from.part..=last).contains(part));
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
            finished: RowFrontier::default(),
            interleaving: None,
            rows_seen: 0,
        }
    }
}

/// The rows of a frozen manifest, in batches. Ends after an error.
pub struct ManifestTasks {
    spans: vec::IntoIter<PartSpan>,
    open: Option<(u32, PartReader)>,
    batch: usize,
    /// Rows to skip.
    finished: RowFrontier,
    /// The order that gives each row its [`TaskId`], if that is not its part and row; and the number of rows read so
    /// far, counted from the first row of the manifest.
    interleaving: Option<Interleaving>,
    rows_seen: u64,
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
                let Some((row, object)) = reader.next_row()? else {
                    self.open = None;
                    break;
                };
                let seq = self
                    .interleaving
                    .map_or(TaskId { part: *part, row }, |order| position_to_seq(order.position_of(self.rows_seen)));
                self.rows_seen += 1;
                if !self.finished.is_settled(seq) {
                    tasks.push(Task { id: seq, object });
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
pub(super) fn manifest_folder(folder: &Path) -> PathBuf {
    folder.join("manifest")
}

/// Returns the path of a part.
pub(super) fn part_path(home: &Path, part: u32) -> PathBuf {
    home.join(format!("part-{part:05}.bpm"))
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
pub(super) mod tests;

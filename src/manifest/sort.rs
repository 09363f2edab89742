//! An external sort, for more records than fit into memory.
//!
//! Records are byte strings, sorted in byte order. Records that fit into the memory budget are sorted and written out
//! as a run. When a level has as many runs as can be merged at once, they are merged into one run of the next level:
//! memory and open files are bounded, and a record is written once per level. A small sort never touches the disk.
//!
//! A run is records in ascending order, each encoded by its difference from the previous one. A file holds many runs,
//! one after the other, so that a sort of any size has few open files. On systems that support it, the file has no name
//! and vanishes when the process ends, however it ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memchr;
use tokio_util::sync::CancellationToken;

use super::error::ManifestError;
use crate::varint;

/// Encodes a zero byte in a name, so that it differs from the terminator.
const ESCAPED_ZERO: [u8; 2] = [0, 1];

/// The terminator of a bucket or key: smaller than any byte sequence that continues it.
pub(crate) const TERMINATOR: [u8; 2] = [0, 0];

/// Precedes a version, so that an empty version id differs from no version.
pub(crate) const VERSION_MARK: u8 = 1;

/// The limits of a sort.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SortBudget {
    /// Bytes of memory per run: for the records and their positions.
    pub(crate) bytes: usize,
    /// The number of runs that are merged at once, at least two.
    pub(crate) runs: usize,
}

impl Default for SortBudget {
    fn default() -> Self {
        Self { bytes: 32 << 20, runs: 64 }
    }
}

/// Accepts records in any order.
pub(crate) struct ExternalSorter {
    folder: PathBuf,
    budget: SortBudget,
    stop: CancellationToken,
    batch: SortBatch,
    levels: Vec<RunFile>,
}

impl ExternalSorter {
    /// Sorts with unnamed temporary files in this folder, which vanish when they are closed.
    pub(crate) fn new(folder: &Path, budget: SortBudget, stop: &CancellationToken) -> Self {
        let budget = SortBudget { runs: budget.runs.max(2), ..budget };
        Self { folder: folder.to_owned(), budget, stop: stop.clone(), batch: SortBatch::default(), levels: Vec::new() }
    }

    /// Adds a record of at most 64 KiB.
    pub(crate) fn push(&mut self, record: &[u8]) -> Result<(), ManifestError> {
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
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        self.levels.iter().map(RunFile::bytes).sum()
    }

    /// Returns all records in order, without duplicates.
    pub(crate) fn finish(mut self) -> Result<SortedRecords, ManifestError> {
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
pub(crate) struct SortedRecords(SortedStorage);

enum SortedStorage {
    Memory { batch: SortBatch, next: usize },
    Disk(RunMerger),
}

impl SortedRecords {
    /// Advances to the next record, initially to the first. Returns `false` at the end.
    pub(crate) fn advance(&mut self) -> Result<bool, ManifestError> {
        match &mut self.0 {
            SortedStorage::Memory { batch, next } => {
                *next += 1;
                Ok(*next <= batch.spans.len())
            }
            SortedStorage::Disk(merge) => merge.advance(),
        }
    }

    /// Returns the current record.
    pub(crate) fn record(&self) -> &[u8] {
        match &self.0 {
            SortedStorage::Memory { batch, next } => batch.record(next.saturating_sub(1)),
            SortedStorage::Disk(merge) => merge.record(),
        }
    }
}

/// The buffer size in bytes; there are as many buffers as runs are merged.
const BUFFER: usize = 64 << 10;

/// The maximum size of a record in bytes, which only guards against interpreting garbage as a length.
const MAX_RECORD: usize = 1 << 16;

/// One run in a file.
struct SortedRun {
    file: Arc<File>,
    from: u64,
    to: u64,
    records: u64,
}

/// A file of runs.
struct RunFile {
    file: Arc<File>,
    end: u64,
    runs: Vec<SortedRun>,
}

impl RunFile {
    /// Creates an empty file in a folder.
    fn create(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: Arc::new(tempfile::tempfile_in(folder)?), end: 0, runs: Vec::new() })
    }

    fn len(&self) -> usize {
        self.runs.len()
    }

    /// Returns the size of all runs in bytes.
    fn bytes(&self) -> u64 {
        self.end
    }

    /// Removes all runs from the list; their data remain until the file is [truncated](Self::truncate).
    fn take_runs(&mut self) -> Vec<SortedRun> {
        std::mem::take(&mut self.runs)
    }

    /// Truncates the file, which releases the disk space of all runs.
    fn truncate(&mut self) -> io::Result<()> {
        self.end = 0;
        self.file.set_len(0)
    }

    /// Starts another run. It counts once it is [finished](SortedRunWriter::finish).
    fn start_run(&mut self) -> io::Result<SortedRunWriter<'_>> {
        (&*self.file).seek(SeekFrom::Start(self.end))?;
        let out = BufWriter::with_capacity(BUFFER, Arc::clone(&self.file));
        Ok(SortedRunWriter { file: self, out, bytes: 0, records: 0, last: Vec::new(), head: Vec::new() })
    }
}

struct SortedRunWriter<'a> {
    file: &'a mut RunFile,
    out: BufWriter<Arc<File>>,
    bytes: usize,
    records: u64,
    last: Vec<u8>,
    head: Vec<u8>,
}

impl SortedRunWriter<'_> {
    /// Adds a record, unless it equals the previous one.
    fn push(&mut self, record: &[u8]) -> io::Result<()> {
        if self.records > 0 && self.last == record {
            return Ok(());
        }
        let shared = self.last.iter().zip(record).take_while(|(a, b)| a == b).count();
        let rest = &record[shared..];
        self.head.clear();
        varint::put(&mut self.head, shared);
        varint::put(&mut self.head, rest.len());
        self.out.write_all(&self.head)?;
        self.out.write_all(rest)?;
        self.bytes += self.head.len() + rest.len();
        self.records += 1;
        self.last.truncate(shared);
        self.last.extend_from_slice(rest);
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        let from = self.file.end;
        let to = from + self.bytes as u64;
        self.file.end = to;
        self.file.runs.push(SortedRun { file: Arc::clone(&self.file.file), from, to, records: self.records });
        Ok(())
    }
}

struct SortedRunReader {
    bytes: BufReader<FileSection>,
    remaining: u64,
}

impl SortedRunReader {
    fn new(run: SortedRun) -> Self {
        let section = FileSection { file: run.file, at: run.from, to: run.to };
        Self { bytes: BufReader::with_capacity(BUFFER, section), remaining: run.records }
    }

    /// Replaces the previous record in `record` by the next one. Returns `false` at the end.
    fn next_into(&mut self, record: &mut Vec<u8>) -> io::Result<bool> {
        if self.remaining == 0 {
            return Ok(false);
        }
        self.remaining -= 1;
        let (shared, rest) = (self.read_length()?, self.read_length()?);
        if shared > record.len() || shared + rest > MAX_RECORD {
            return Err(corrupt_run());
        }
        record.resize(shared + rest, 0);
        self.bytes.read_exact(&mut record[shared..])?;
        Ok(true)
    }

    fn read_length(&mut self) -> io::Result<usize> {
        let mut value = 0;
        for shift in (0..21).step_by(7) {
            let byte = *self.bytes.fill_buf()?.first().ok_or(io::ErrorKind::UnexpectedEof)?;
            self.bytes.consume(1);
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(corrupt_run())
    }
}

fn corrupt_run() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its content is not what was written")
}

/// A section of a file. Several readers share the file and its position.
struct FileSection {
    file: Arc<File>,
    at: u64,
    to: u64,
}

impl Read for FileSection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.to - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.read(&mut buffer[..wanted])?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The number of records between two checks of the stop token.
const STOP_CHECK_INTERVAL: u64 = 4096;

/// The records of several runs in order, without duplicates.
struct RunMerger {
    folder: PathBuf,
    stop: CancellationToken,
    readers: Vec<SortedRunReader>,
    /// The next record of each run that is not at its end.
    next_records: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    record: Option<Vec<u8>>,
    steps: u64,
}

impl RunMerger {
    /// Reads the first record of each run. Errors name the folder.
    fn new(runs: Vec<SortedRun>, folder: PathBuf, stop: CancellationToken) -> Result<Self, ManifestError> {
        let mut readers: Vec<SortedRunReader> = runs.into_iter().map(SortedRunReader::new).collect();
        let mut heads = BinaryHeap::with_capacity(readers.len());
        for (run, reader) in readers.iter_mut().enumerate() {
            let mut record = Vec::new();
            if reader.next_into(&mut record).map_err(|cause| read_error(&folder, cause))? {
                heads.push(Reverse((record, run)));
            }
        }
        Ok(Self { folder, stop, readers, next_records: heads, record: None, steps: 0 })
    }

    /// Advances to the next record. Returns `false` at the end.
    fn advance(&mut self) -> Result<bool, ManifestError> {
        while let Some(mut top) = self.next_records.peek_mut() {
            if self.steps.is_multiple_of(STOP_CHECK_INTERVAL) && self.stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
            self.steps += 1;
            let Reverse((head, run)) = &mut *top;
            let known = self.record.as_ref() == Some(head);
            if !known {
                self.record.get_or_insert_default().clone_from(head);
            }
            if !self.readers[*run].next_into(head).map_err(|cause| read_error(&self.folder, cause))? {
                PeekMut::pop(top);
            }
            if !known {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the current record.
    fn record(&self) -> &[u8] {
        self.record.as_deref().unwrap_or_default()
    }
}

fn read_error(folder: &std::path::Path, cause: io::Error) -> ManifestError {
    ManifestError::disk("read back sort data in", folder, cause)
}

/// Appends a text and its terminator.
pub(crate) fn put_text(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = memchr(0, text) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(&ESCAPED_ZERO);
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
    out.extend_from_slice(&TERMINATOR);
}

/// Removes a text and its terminator from the front.
pub(crate) fn take_text(rest: &mut &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some(at) = memchr(0, rest) {
        text.extend_from_slice(&rest[..at]);
        let ends = rest[at..].starts_with(&TERMINATOR);
        *rest = rest.get(at + TERMINATOR.len()..).unwrap_or_default();
        if ends {
            break;
        }
        text.push(0);
    }
    text
}

#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod tests;

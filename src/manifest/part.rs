//! Frozen manifest parts: object names on disk, compressed, checksummed, and readable from any row.
//!
//! # The format, version 1
//!
//! Integers are little-endian; a varint is LEB128, at most ten bytes. A part is a file header, blocks, and an end mark.
//!
//! | bytes | file header |
//! |---|---|
//! | 8 | `89 42 50 4D 0D 0A 1A 0A`: like the signature of PNG, so that a transfer in text mode is detected |
//! | 4 | version: 1 |
//! | 4 | number of the part, from 0 |
//! | 4 | CRC-32 of the 16 bytes before |
//!
//! | bytes | block header |
//! |---|---|
//! | 4 | number of rows, 1 to 65,536 |
//! | 4 | uncompressed size of the rows, at most 1 MiB |
//! | 4 | compressed size of the rows (raw deflate) |
//! | 4 | CRC-32 of the compressed bytes |
//! | 4 | CRC-32 of the 16 bytes before |
//!
//! The end mark is a block header with 0 rows, the number of rows of the whole part, 0 and 0: a part that was cut off
//! between two blocks is not taken for a shorter one. A block does not depend on other blocks, so a reader skips to any
//! row by reading headers only, and decompresses one block.
//!
//! A block stores its rows as columns, because adjacent similar values compress best:
//!
//! 1. `u32`, the size of the varint column;
//! 2. one flag byte per row: bit 0, the bucket differs from the previous row; bits 1 and 2, the version: 0 none, 1 the
//!    last one named in this block, 2 another;
//! 3. varints, row by row: with bit 0, the length of the bucket; the number of bytes that the key shares with the
//!    previous key, and the number of bytes that follow; with version 2, the same for the version;
//! 4. the bytes of those lengths: bucket, rest of the key, rest of the version.
//!
//! Before the first row of a block, the bucket, key and version are empty.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use batchplan_store::object::ObjectId;

use super::block::{
    BlockCompressor, BlockDecompressor, BlockHeader, HEADER_BYTES, MAX_BLOCK_ROWS, RowBlockReader, RowBlockWriter,
    check_file_header, file_header,
};
use super::cursor::PartitionId;
use super::error::ManifestError;
use crate::failpoint;
use crate::files::{create_replacing, open_regular};

/// One part of a frozen manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestPart {
    /// The number of rows, at least one.
    pub rows: u32,
    /// The size of the file in bytes.
    pub bytes: u64,
}

/// Returns whether a part matches what was recorded of it: every checksum is right. A part that is not `ended` need
/// not have its end mark. Nothing is decompressed.
pub(super) fn is_intact(path: &Path, number: u32, part: ManifestPart, ended: bool) -> Result<bool, ManifestError> {
    let mut reader = match PartReader::open(path.to_owned(), number, part.rows, 0) {
        Ok(reader) => reader,
        Err(error) => return not_intact(error),
    };
    let mut at = HEADER_BYTES as u64;
    let mut packed_bytes = Vec::new();
    while at < part.bytes {
        let (packed, crc) = match reader.next_block_header() {
            Ok(Some((_, _, packed, crc))) => (packed, crc),
            // The end mark counts as well.
            Ok(None) => return Ok(ended && at + HEADER_BYTES as u64 == part.bytes),
            Err(error) => return not_intact(error),
        };
        packed_bytes.clear();
        packed_bytes.resize(packed, 0);
        if let Err(error) = reader.read_exact(&mut packed_bytes) {
            return not_intact(error);
        }
        if crc32fast::hash(&packed_bytes) != crc {
            return Ok(false);
        }
        at += (HEADER_BYTES + packed) as u64;
    }
    Ok(!ended && at == part.bytes && reader.rows_seen == part.rows)
}

/// Returns `false` for a part that is damaged or missing; passes on other errors, after which the part may be intact.
fn not_intact(error: ManifestError) -> Result<bool, ManifestError> {
    match error {
        ManifestError::Corrupt { .. } | ManifestError::Missing { .. } => Ok(false),
        other => Err(other),
    }
}

/// A part that is open at a row.
pub(super) struct PartReader {
    path: PathBuf,
    file: File,
    decompressor: BlockDecompressor,
    /// The buffer of the last block while no block is open.
    spare: Vec<u8>,
    block: Option<RowBlockReader>,
    /// The number of rows in all blocks so far, including the open block.
    rows_seen: u32,
    /// The index of the next row in the part.
    row: u32,
    /// The number of rows according to the index.
    rows: u32,
    /// Whether the end mark has been read.
    at_end: bool,
}

impl PartReader {
    /// Opens a part with this number of rows, at the row `from`. Skips the blocks before it without reading them.
    pub(super) fn open(path: PathBuf, part: u32, rows: u32, from: u32) -> Result<Self, ManifestError> {
        let file = open_regular(&path, File::options().read(true))
            .map_err(|cause| ManifestError::unopened_part(&path, cause))?;
        let mut reader = Self {
            path,
            file,
            decompressor: BlockDecompressor::new(),
            spare: Vec::new(),
            block: None,
            rows_seen: 0,
            row: 0,
            rows,
            at_end: false,
        };
        let header = reader.read_header()?;
        check_file_header(&header, part).map_err(|why| ManifestError::corrupt(&reader.path, why))?;
        reader.skip_to(from.min(rows))?;
        Ok(reader)
    }

    /// Returns the next row and its index. Returns `None` at the end.
    pub(super) fn next_row(&mut self) -> Result<Option<(u32, ObjectId)>, ManifestError> {
        if !self.advance()? {
            return Ok(None);
        }
        let object = self.block.as_ref().ok_or("no block is open").and_then(RowBlockReader::object);
        let object = object.map_err(|why| ManifestError::corrupt(&self.path, why))?;
        Ok(Some((self.row - 1, object)))
    }

    fn skip_to(&mut self, from: u32) -> Result<(), ManifestError> {
        while self.row < from {
            if self.block.is_none() {
                let Some((rows, raw, packed, crc)) = self.next_block_header()? else { return Ok(()) };
                if self.rows_seen <= from {
                    self.row = self.rows_seen;
                    let over = i64::try_from(packed).unwrap_or(i64::MAX);
                    self.file.seek_relative(over).map_err(|cause| ManifestError::disk("read", &self.path, cause))?;
                    continue;
                }
                self.open_block(rows, raw, packed, crc)?;
            }
            if !self.advance()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Advances to the next row, in the next block if this one ends. Returns `false` at the end of the part.
    fn advance(&mut self) -> Result<bool, ManifestError> {
        loop {
            if let Some(block) = &mut self.block {
                if block.advance().map_err(|why| ManifestError::corrupt(&self.path, why))? {
                    self.row += 1;
                    return Ok(true);
                }
                self.spare = self.block.take().map(RowBlockReader::into_buffer).unwrap_or_default();
            }
            let Some((rows, raw, packed, crc)) = self.next_block_header()? else { return Ok(false) };
            self.open_block(rows, raw, packed, crc)?;
        }
    }

    /// Reads the header of the next block: rows, size, compressed size and checksum. Returns `None` at the end mark.
    fn next_block_header(&mut self) -> Result<Option<(usize, usize, usize, u32)>, ManifestError> {
        if self.at_end {
            return Ok(None);
        }
        let header = self.read_header()?;
        let corrupt = |why: &str| ManifestError::corrupt(&self.path, why);
        match BlockHeader::parse(&header).map_err(corrupt)? {
            BlockHeader::Block { rows, raw, packed, crc } => {
                let passed = u32::try_from(rows).ok().and_then(|rows| self.rows_seen.checked_add(rows));
                let passed = passed.filter(|passed| *passed <= self.rows);
                self.rows_seen = passed.ok_or_else(|| corrupt("it has more rows than the index says"))?;
                Ok(Some((rows, raw, packed, crc)))
            }
            BlockHeader::End { rows } if rows == self.rows_seen && rows == self.rows => {
                self.expect_end()?;
                self.at_end = true;
                Ok(None)
            }
            BlockHeader::End { .. } => Err(corrupt("it has fewer rows than the index says")),
        }
    }

    fn open_block(&mut self, rows: usize, raw: usize, packed: usize, crc: u32) -> Result<(), ManifestError> {
        // Not reused: several parts are open at once, and a block has up to 65,536 rows.
        let mut stored = vec![0; packed];
        self.read_exact(&mut stored)?;
        let corrupt = |why: &str| ManifestError::corrupt(&self.path, why);
        let mut buffer = std::mem::take(&mut self.spare);
        self.decompressor.decompress(&stored, crc, raw, &mut buffer).map_err(corrupt)?;
        self.block = Some(RowBlockReader::new(buffer, rows).map_err(corrupt)?);
        Ok(())
    }

    fn read_header(&mut self) -> Result<[u8; HEADER_BYTES], ManifestError> {
        let mut header = [0; HEADER_BYTES];
        self.read_exact(&mut header)?;
        Ok(header)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ManifestError> {
        self.file.read_exact(buffer).map_err(|cause| {
            if cause.kind() == io::ErrorKind::UnexpectedEof {
                ManifestError::corrupt(&self.path, "it is truncated")
            } else {
                ManifestError::disk("read", &self.path, cause)
            }
        })
    }

    fn expect_end(&mut self) -> Result<(), ManifestError> {
        let more = self.file.read(&mut [0]).map_err(|cause| ManifestError::disk("read", &self.path, cause))?;
        if more == 0 { Ok(()) } else { Err(ManifestError::corrupt(&self.path, "it has extra data at its end")) }
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
pub(super) fn partition_path(folder: &Path, partition: PartitionId, number: u32) -> PathBuf {
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
    pub(super) fn for_partition(folder: &Path, partition: PartitionId, limits: PartLimits) -> Self {
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
    pub(super) fn with_max_disk(self, max_disk: Option<u64>) -> Self {
        Self { max_disk, ..self }
    }

    /// Sets the totals of the other partitions, which count towards the maximum size.
    pub(super) fn set_other_totals(&mut self, elsewhere: PartTotals) {
        self.other_totals = elsewhere;
    }

    /// Returns the total number of rows and bytes.
    pub(super) fn totals(&self) -> PartTotals {
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
    pub(super) fn resume(
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
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        (0..part_count(&self.sealed) + u32::from(self.open.is_some()))
            .map(|number| partition_path(&self.folder, self.partition, number))
    }

    /// Syncs all rows so far to disk, and returns the parts to record.
    pub(super) fn checkpoint(&mut self) -> Result<WrittenParts, ManifestError> {
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
    pub(super) fn seal(&mut self) -> Result<Vec<ManifestPart>, ManifestError> {
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
mod tests {
    use super::*;

    const SMALL: PartLimits = PartLimits { block_rows: 3, part_rows: 7 };

    fn push(writer: &mut PartitionPartsWriter, rows: std::ops::Range<u32>) {
        for row in rows {
            writer.push("b", format!("k{row:03}").as_bytes(), None).unwrap();
        }
    }

    fn going_on(folder: &Path, written: WrittenParts) -> Option<PartitionPartsWriter> {
        let writer = PartitionPartsWriter::resume(folder, PartitionId(0), SMALL, written).unwrap()?;
        remove_other_parts(folder, &writer.files().collect()).unwrap();
        Some(writer)
    }

    fn files(folder: &Path) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    #[test]
    fn resume_truncates_data_after_the_checkpoint() {
        for (before, after) in [(0, 5), (4, 2), (5, 12), (7, 7), (9, 0), (20, 30)] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = PartitionPartsWriter::new(folder.path(), SMALL);
            push(&mut writer, 0..before);
            let written = writer.checkpoint().unwrap();
            let there = files(folder.path());
            push(&mut writer, before..before + after);
            drop(writer);
            let mut again = going_on(folder.path(), written.clone()).unwrap();
            assert_eq!(files(folder.path()), there, "{before} and {after}");
            assert_eq!(again.checkpoint().unwrap(), written);
            push(&mut again, before..before + 3);
            let rows: u32 = again.finish().unwrap().iter().map(|part| part.rows).sum();
            assert_eq!(rows, before + 3);
        }
    }

    #[test]
    fn resume_rejects_an_incomplete_part() {
        for (part, bytes) in [(0, None), (0, Some(30)), (1, None), (1, Some(30))] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = PartitionPartsWriter::new(folder.path(), SMALL);
            push(&mut writer, 0..9);
            let written = writer.checkpoint().unwrap();
            assert_eq!((written.sealed.len(), written.open.map(|open| open.rows)), (1, Some(2)));
            let path = part_path(folder.path(), part);
            match bytes {
                None => fs::remove_file(&path).unwrap(),
                Some(bytes) => File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap(),
            }
            assert!(going_on(folder.path(), written).is_none(), "{part} {bytes:?}");
        }
    }

    #[test]
    fn ordering_partitions_survives_interruptions() {
        let lanes = |folder: &Path| {
            let lane = |number, rows| {
                let mut writer = PartitionPartsWriter::for_partition(folder, PartitionId(number), SMALL);
                push(&mut writer, rows);
                (PartitionId(number), writer.finish().unwrap())
            };
            // Partition 3 has no rows.
            [lane(0, 0..9), lane(2, 9..30), lane(3, 30..30), lane(1, 30..31)]
        };
        let whole = tempfile::tempdir().unwrap();
        let made = lanes(whole.path());
        assert!(assemble_parts(whole.path(), &made).unwrap());
        let read = |folder: &Path| {
            let parts = made.iter().flat_map(|(_, parts)| parts);
            let rows = (0..).zip(parts).flat_map(|(number, part)| {
                let path = part_path(folder, number);
                let mut reader = PartReader::open(path, number, part.rows, 0).unwrap();
                std::iter::from_fn(move || reader.next_row().unwrap()).map(|(_, object)| object.key.to_string())
            });
            rows.collect::<Vec<_>>()
        };
        assert_eq!(read(whole.path()), (0..31).map(|row| format!("k{row:03}")).collect::<Vec<_>>());
        for moved in 0..=4_u32 {
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(lanes(folder.path()), made);
            for (place, (lane, number)) in (2_u32..).zip([(2, 0), (2, 1), (2, 2), (1, 0)]) {
                let from = partition_path(folder.path(), PartitionId(lane), number);
                if place - 2 < moved {
                    fs::copy(part_path(whole.path(), place), part_path(folder.path(), place)).unwrap();
                    fs::remove_file(from).unwrap();
                } else if place - 2 == moved {
                    // Its header was being written.
                    let mut file = File::options().write(true).open(from).unwrap();
                    file.write_all(&file_header(place)[..13]).unwrap();
                }
            }
            assert!(assemble_parts(folder.path(), &made).unwrap(), "{moved}");
            assert_eq!(files(folder.path()), files(whole.path()), "{moved}");
            fs::remove_file(part_path(folder.path(), 3)).unwrap();
            assert!(!assemble_parts(folder.path(), &made).unwrap());
        }
    }

    #[test]
    fn no_more_is_written_than_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let mut free = PartitionPartsWriter::new(folder.path(), SMALL);
        push(&mut free, 0..30);
        let whole: u64 = free.finish().unwrap().iter().map(|part| part.bytes).sum();
        for limit in (0..whole - 30).step_by(11).chain(whole - 30..whole + 3) {
            remove_other_parts(folder.path(), &HashSet::new()).unwrap();
            let mut writer = PartitionPartsWriter::new(folder.path(), SMALL).with_max_disk(Some(limit));
            let mut rows = (0..30).map(|row| writer.push("b", format!("k{row:03}").as_bytes(), None));
            let pushed = rows.find_map(Result::err);
            let error = pushed.or_else(|| writer.checkpoint().err());
            let there: u64 = files(folder.path()).iter().map(|file| file.len() as u64).sum();
            match error {
                None => assert!(limit >= whole, "{limit}"),
                Some(ManifestError::TooLarge { used, limit: told, rows }) => {
                    assert!(told == limit && used <= limit && limit < whole && rows < 30, "{limit}: {used}, {rows}");
                    assert_eq!(used == 0, rows == 0);
                }
                Some(other) => panic!("{other}"),
            }
            assert!(there <= limit, "{there} bytes, and {limit} are allowed");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn full_disk_error_names_the_file() {
        // Every write to this device fails like on a full disk.
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut part = OpenPart { path: part_path(Path::new("folder"), 0), file, rows: 0, bytes: 0 };
        let error = part.append(&file_header(0), 0).unwrap_err();
        let told = error.to_string();
        assert!(
            told.starts_with("no space left on the disk: cannot write ") && told.contains("part-00000.bpm"),
            "{told}"
        );
        assert!(error.help().unwrap().contains("preparing resumes"), "{error:?}");
    }
}

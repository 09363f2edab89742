//! Frozen manifest parts: object names on disk, compressed, checksummed, and readable from any row. Their blocks encode
//! rows as columns.
//!
//! # The format, versions 1 and 2
//!
//! Integers are little-endian; a varint is LEB128, at most ten bytes. A part is a file header, blocks, and an end mark.
//!
//! | bytes | file header |
//! |---|---|
//! | 8 | `89 42 50 4D 0D 0A 1A 0A`: like the signature of PNG, so that a transfer in text mode is detected |
//! | 4 | version: 3 if a row has an origin, 2 if a row is unlistable, otherwise 1 |
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
//!    last one named in this block, 2 another; bit 3 (format 2), the row is unlistable: no request can name its object,
//!    and a reason follows; bit 4 (format 3), the row has an origin;
//! 3. varints, row by row: with bit 0, the length of the bucket; the number of bytes that the key shares with the
//!    previous key, and the number of bytes that follow; with version 2, the same for the version; with bit 3, the same
//!    for the reason; with bit 4, the same for the origin;
//! 4. the bytes of those lengths: bucket, rest of the key, rest of the version, rest of the reason, rest of the origin:
//!    part and row, each a big-endian `u32`, and once more if the job that is undone is itself an undo.
//!
//! Before the first row of a block, the bucket, key, version, reason and origin are empty. The key of an unlistable row may
//! have up to [`MAX_LISTED_KEY_BYTES`](batchplan_store::MAX_LISTED_KEY_BYTES) bytes, or none.

mod row_block;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use batchplan_store::task::RowOrigin;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use self::row_block::{MAX_BLOCK_BYTES, MAX_BLOCK_ROWS, OptionalColumns, RowBlockReader, RowBlockWriter};
pub(super) use self::row_block::{MAX_REASON_BYTES, PartRow};
use super::error::ManifestError;
use super::row_visitor::PartitionId;
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

/// Checks that a part exists, has its recorded size, and was not written by a newer program. Nothing but its header is
/// read: other damage is found when its rows are read.
pub(super) fn check_part(path: &Path, number: u32, part: ManifestPart) -> Result<(), ManifestError> {
    let found = fs::metadata(path).map_err(|cause| ManifestError::unopened_part(path, cause))?.len();
    if found != part.bytes {
        return Err(ManifestError::corrupt(path, format!("it has {found} bytes, but the index says {}", part.bytes)));
    }
    let mut header = [0; HEADER_BYTES];
    let read = open_regular(path, File::options().read(true)).and_then(|mut file| file.read_exact(&mut header));
    match read.map(|()| check_file_header(&header, number, path)) {
        Ok(Err(newer @ ManifestError::NewerFormat { .. })) => Err(newer),
        Ok(_) | Err(_) => Ok(()),
    }
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

/// Returns `false` for a part that is damaged, missing, or of another program; passes on other errors, after which the
/// part may be intact.
fn not_intact(error: ManifestError) -> Result<bool, ManifestError> {
    match error {
        ManifestError::Corrupt { .. } | ManifestError::NewerFormat { .. } | ManifestError::Missing { .. } => Ok(false),
        other => Err(other),
    }
}

/// A part that is open at a row.
pub(super) struct PartReader {
    path: PathBuf,
    file: File,
    /// The format version in its header.
    version: u32,
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
            version: VERSION,
            decompressor: BlockDecompressor::new(),
            spare: Vec::new(),
            block: None,
            rows_seen: 0,
            row: 0,
            rows,
            at_end: false,
        };
        let header = reader.read_header()?;
        reader.version = check_file_header(&header, part, &reader.path)?;
        reader.skip_to(from.min(rows))?;
        Ok(reader)
    }

    /// Returns the next row and its index. Returns `None` at the end.
    pub(super) fn next_row(&mut self) -> Result<Option<(u32, PartRow)>, ManifestError> {
        if !self.advance()? {
            return Ok(None);
        }
        let row = self.block.as_ref().ok_or("no block is open").and_then(RowBlockReader::current_row);
        let row = row.map_err(|why| ManifestError::corrupt(&self.path, why))?;
        Ok(Some((self.row - 1, row)))
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
                let rows_seen = u32::try_from(rows).ok().and_then(|rows| self.rows_seen.checked_add(rows));
                let rows_seen = rows_seen.filter(|rows_seen| *rows_seen <= self.rows);
                self.rows_seen = rows_seen.ok_or_else(|| corrupt("it has more rows than the index says"))?;
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
        let allowed = OptionalColumns {
            unlistable: self.version >= UNLISTABLE_VERSION,
            origins: self.version >= ORIGINS_VERSION,
        };
        self.block = Some(RowBlockReader::new(buffer, rows, allowed).map_err(corrupt)?);
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

/// Returns the path of a part.
pub(super) fn part_path(folder: &Path, part: u32) -> PathBuf {
    folder.join(format!("part-{part:05}.bpm"))
}

/// The maximum compressed size of a block, in bytes: deflate can make incompressible data longer, but never by this
/// much.
const MAX_PACKED_BYTES: usize = MAX_BLOCK_BYTES + MAX_BLOCK_BYTES / 4;

/// The size of the file header and of a block header, in bytes.
const HEADER_BYTES: usize = 20;

/// The first bytes of a part.
const MAGIC: [u8; 8] = *b"\x89BPM\r\n\x1a\n";

/// The format version of parts without unlistable rows.
const VERSION: u32 = 1;

/// The format version of parts with unlistable rows.
const UNLISTABLE_VERSION: u32 = 2;

/// The format version of parts with the origins of rows, which only the manifest of an undo has.
const ORIGINS_VERSION: u32 = 3;

/// The compression level. Level 6 makes the whole freeze 50 % slower, and the parts only 4 % smaller.
const LEVEL: u32 = 3;

/// A block header, or the end mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockHeader {
    Block {
        /// The number of rows.
        rows: usize,
        /// The uncompressed size in bytes.
        raw: usize,
        /// The compressed size in bytes.
        packed: usize,
        /// The CRC-32 of the compressed bytes.
        crc: u32,
    },
    /// The end mark.
    End {
        /// The number of rows of all blocks.
        rows: u32,
    },
}

impl BlockHeader {
    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let four = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        match self {
            Self::Block { rows, raw, packed, crc } => with_checksum([four(rows), four(raw), four(packed), crc]),
            Self::End { rows } => with_checksum([0, rows, 0, 0]),
        }
    }

    /// Parses a header. Rejects lengths that no writer produces, before anything is allocated for them.
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        let [rows, raw, packed, crc] = verify_checksum(bytes).ok_or("a block's header fails its checksum")?;
        if rows == 0 {
            return if packed == 0 && crc == 0 { Ok(Self::End { rows: raw }) } else { Err("a block has no rows") };
        }
        let bounded = |value: u32, limit: usize| usize::try_from(value).ok().filter(|value| *value <= limit);
        let rows = bounded(rows, MAX_BLOCK_ROWS).ok_or("a block has too many rows")?;
        let raw = bounded(raw, MAX_BLOCK_BYTES).ok_or("a block is too long")?;
        let packed = bounded(packed, MAX_PACKED_BYTES).ok_or("a compressed block is too long")?;
        Ok(Self::Block { rows, raw, packed, crc })
    }
}

/// Returns the file header of a part.
fn file_header(version: u32, part: u32) -> [u8; HEADER_BYTES] {
    let [a, b] = [&MAGIC[..4], &MAGIC[4..]].map(|half| u32::from_le_bytes([half[0], half[1], half[2], half[3]]));
    with_checksum([a, b, version, part])
}

/// Checks the file header of a part, and returns its format version.
fn check_file_header(bytes: &[u8; HEADER_BYTES], part: u32, path: &Path) -> Result<u32, ManifestError> {
    if !bytes.starts_with(&MAGIC) {
        return Err(ManifestError::corrupt(path, "it is not a manifest part"));
    }
    let [_, _, version, number] =
        verify_checksum(bytes).ok_or_else(|| ManifestError::corrupt(path, "its header fails its checksum"))?;
    if version > ORIGINS_VERSION {
        return Err(ManifestError::NewerFormat { file: path.to_owned(), found: version, known: ORIGINS_VERSION });
    }
    if version < VERSION {
        let what = format!(
            "its format version is {version}, but this version of batchplan reads only {VERSION} to \
             {ORIGINS_VERSION}"
        );
        return Err(ManifestError::corrupt(path, what));
    }
    if number != part {
        return Err(ManifestError::corrupt(path, format!("its header says part {number}, not part {part}")));
    }
    Ok(version)
}

/// Returns the format version in a file header that is not checked.
fn header_version(bytes: &[u8; HEADER_BYTES]) -> u32 {
    u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]])
}

fn with_checksum(words: [u32; 4]) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    for (word, place) in words.iter().zip(bytes.chunks_exact_mut(4)) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn verify_checksum(bytes: &[u8; HEADER_BYTES]) -> Option<[u32; 4]> {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    (crc32fast::hash(&bytes[..16]) == word(16)).then(|| [word(0), word(4), word(8), word(12)])
}

/// Compresses blocks, reusing its state.
struct BlockCompressor(Compress);

impl BlockCompressor {
    fn new() -> Self {
        Self(Compress::new(Compression::new(LEVEL), false))
    }

    /// Appends a whole block to `out`, including its header.
    fn compress(&mut self, rows: usize, raw: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        out.reserve(MAX_PACKED_BYTES.min(raw.len() + raw.len() / 4 + 64));
        self.0.reset();
        match self.0.compress_vec(raw, out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => {}
            Ok(_) | Err(_) => return Err("compression did not finish"),
        }
        let packed = &out[start + HEADER_BYTES..];
        let header = BlockHeader::Block { rows, raw: raw.len(), packed: packed.len(), crc: crc32fast::hash(packed) };
        out[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
        Ok(())
    }
}

/// Decompresses blocks, reusing its state.
struct BlockDecompressor(Decompress);

impl BlockDecompressor {
    fn new() -> Self {
        Self(Decompress::new(false))
    }

    /// Decompresses a block to `length` bytes, the length in its header, and never more.
    fn decompress(&mut self, packed: &[u8], crc: u32, length: usize, raw: &mut Vec<u8>) -> Result<(), &'static str> {
        if crc32fast::hash(packed) != crc {
            return Err("a block fails its checksum");
        }
        self.0.reset(false);
        raw.clear();
        raw.resize(length, 0);
        let end = self.0.decompress(packed, raw, FlushDecompress::Finish);
        let complete = self.0.total_out() == as_u64(length) && self.0.total_in() == as_u64(packed.len());
        match end {
            Ok(Status::StreamEnd) if complete => Ok(()),
            Ok(_) | Err(_) => Err("a block does not decompress to its recorded length"),
        }
    }
}

fn as_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// The maximum number of rows in blocks and parts; smaller in tests.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartLimits {
    /// Per block, at most 65,536.
    block_rows: usize,
    /// Per part, at most `u32::MAX`.
    part_rows: u32,
}

impl Default for PartLimits {
    fn default() -> Self {
        Self { block_rows: MAX_BLOCK_ROWS, part_rows: 4 << 20 }
    }
}

impl PartLimits {
    #[cfg(test)]
    pub(super) const fn new(block_rows: usize, part_rows: u32) -> Self {
        Self { block_rows, part_rows }
    }

    fn for_partition(self, partition: PartitionId) -> Self {
        if partition == PartitionId(0) {
            self
        } else {
            Self { block_rows: self.block_rows.min(PARTITION_BLOCK_ROWS), ..self }
        }
    }
}

/// The number of rows in a block of every partition except the first. With this, sixteen partitions need no more memory
/// than five full blocks. Deflate, with its window of 32 KiB, loses almost nothing.
const PARTITION_BLOCK_ROWS: usize = 8192;

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
        partition => folder.join(format!("lane-{partition:05}-{number:05}.bpm")),
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
    number: u32,
    /// The format version in its header.
    version: u32,
    rows: u32,
    bytes: u64,
}

impl PartitionPartsWriter {
    /// Creates a writer for a partition that has no parts yet. `max_disk` limits the parts of all partitions together.
    pub(super) fn new(folder: &Path, partition: PartitionId, limits: PartLimits, max_disk: Option<u64>) -> Self {
        Self {
            folder: folder.to_owned(),
            partition,
            limits: limits.for_partition(partition),
            block: RowBlockWriter::default(),
            compressor: BlockCompressor::new(),
            raw: Vec::new(),
            packed: Vec::new(),
            open: None,
            sealed: Vec::new(),
            max_disk,
            other_totals: PartTotals::default(),
        }
    }

    /// Sets the totals of the other partitions, which count towards the maximum size.
    pub(super) fn set_other_totals(&mut self, others: PartTotals) {
        self.other_totals = others;
    }

    /// Returns the total number of rows and bytes.
    pub(super) fn totals(&self) -> PartTotals {
        let mut totals = PartTotals::default();
        for part in self.sealed.iter().copied().chain(self.open.as_ref().map(OpenPart::recorded)) {
            totals.rows += u64::from(part.rows);
            totals.bytes += part.bytes;
        }
        let end_mark = if self.open.is_some() { HEADER_BYTES } else { 0 };
        totals.bytes += u64::try_from(end_mark).unwrap_or(u64::MAX);
        totals
    }

    /// Resumes after the recorded parts, and truncates what was written later. Returns `None` if the recorded parts are
    /// not all intact. Parts that were started later remain until [`remove_other_parts`] removes them.
    pub(super) fn resume(
        folder: &Path,
        partition: PartitionId,
        limits: PartLimits,
        max_disk: Option<u64>,
        written: WrittenParts,
    ) -> Result<Option<Self>, ManifestError> {
        for (number, part) in (0_u32..).zip(&written.sealed) {
            let path = partition_path(folder, partition, number);
            if file_size(&path)? != Some(part.bytes) || !is_intact(&path, number, *part, true)? {
                return Ok(None);
            }
        }
        let number = part_count(&written.sealed);
        let open = match written.open {
            None => None,
            Some(part) => match OpenPart::reopen(partition_path(folder, partition, number), number, part)? {
                None => return Ok(None),
                open => open,
            },
        };
        Ok(Some(Self { open, sealed: written.sealed, ..Self::new(folder, partition, limits, max_disk) }))
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
    pub(super) fn push(
        &mut self,
        bucket: &str,
        key: &[u8],
        version: Option<&str>,
        origin: Option<RowOrigin>,
    ) -> Result<(), ManifestError> {
        self.push_row(bucket, key, version, (None, origin))
    }

    /// Adds a row whose object no request can name, and the reason. The caller must have checked that no field is too
    /// long: the key may be as long as a listing shows it, the reason [`MAX_REASON_BYTES`].
    pub(super) fn push_unlistable(
        &mut self,
        bucket: &str,
        key: &[u8],
        version: Option<&str>,
        reason: &str,
    ) -> Result<(), ManifestError> {
        self.push_row(bucket, key, version, (Some(reason), None))
    }

    fn push_row(
        &mut self,
        bucket: &str,
        key: &[u8],
        version: Option<&str>,
        (unlistable, origin): (Option<&str>, Option<RowOrigin>),
    ) -> Result<(), ManifestError> {
        self.block.push(bucket, key, version, (unlistable, origin));
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

    fn end_block(&mut self) -> Result<(), ManifestError> {
        let rows = self.block.rows();
        if rows == 0 {
            return Ok(());
        }
        let version = match (self.block.has_origins(), self.block.has_unlistable()) {
            (true, _) => ORIGINS_VERSION,
            (false, true) => UNLISTABLE_VERSION,
            (false, false) => VERSION,
        };
        self.block.drain_into(&mut self.raw);
        self.packed.clear();
        let number = part_count(&self.sealed);
        let path = partition_path(&self.folder, self.partition, number);
        self.compressor
            .compress(rows, &self.raw, &mut self.packed)
            .map_err(|why| ManifestError::disk("write", &path, io::Error::other(why)))?;
        self.check_room()?;
        if self.open.is_none() {
            self.open = Some(OpenPart::create(path, number, version)?);
        }
        let Some(part) = &mut self.open else { return Ok(()) };
        part.require_version(version)?;
        part.append(&self.packed, u32::try_from(rows).unwrap_or(u32::MAX))
    }

    /// Returns an error if the packed block with the file header and end mark would exceed the limit, before any of it
    /// is written.
    fn check_room(&self) -> Result<(), ManifestError> {
        let Some(limit) = self.max_disk else { return Ok(()) };
        let (own, others) = (self.totals(), self.other_totals);
        let used = own.bytes.saturating_add(others.bytes);
        // The end mark of an open part is already counted.
        let around = if self.open.is_some() { 0 } else { 2 * HEADER_BYTES };
        let more = u64::try_from(self.packed.len() + around).unwrap_or(u64::MAX);
        if used.saturating_add(more) <= limit {
            return Ok(());
        }
        Err(ManifestError::TooLarge { used, limit, rows: own.rows.saturating_add(others.rows) })
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
    fn create(path: PathBuf, number: u32, version: u32) -> Result<Self, ManifestError> {
        let file = create_replacing(&path).map_err(|cause| ManifestError::disk("create", &path, cause))?;
        let mut part = Self { path, file, number, version, rows: 0, bytes: 0 };
        part.append(&file_header(version, number), 0)?;
        Ok(part)
    }

    /// Raises the format version in the header, before the first block that needs it is written.
    fn require_version(&mut self, version: u32) -> Result<(), ManifestError> {
        if version <= self.version {
            return Ok(());
        }
        let mut rewrite = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&file_header(version, self.number))?;
            self.file.seek(SeekFrom::End(0))
        };
        rewrite().map_err(|cause| ManifestError::disk("write", &self.path, cause))?;
        self.version = version;
        Ok(())
    }

    /// Opens a part without end mark, and truncates it to its recorded length. Returns `None` if it is shorter or
    /// damaged.
    fn reopen(path: PathBuf, number: u32, part: ManifestPart) -> Result<Option<Self>, ManifestError> {
        if file_size(&path)?.is_none_or(|found| found < part.bytes) || !is_intact(&path, number, part, false)? {
            return Ok(None);
        }
        let cut = || {
            let mut file = open_regular(&path, File::options().read(true).write(true))?;
            let mut header = [0; HEADER_BYTES];
            file.read_exact(&mut header)?;
            file.set_len(part.bytes)?;
            file.seek(SeekFrom::End(0))?;
            Ok((file, header_version(&header)))
        };
        let (file, version) = cut().map_err(|cause| ManifestError::disk("open", &path, cause))?;
        Ok(Some(Self { path, file, number, version, rows: part.rows, bytes: part.bytes }))
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
pub(super) fn assemble_parts(
    folder: &Path,
    partitions: &[(PartitionId, Vec<ManifestPart>)],
) -> Result<bool, ManifestError> {
    let mut wanted = HashSet::new();
    let mut moves = Vec::new();
    for (partition, parts) in partitions {
        for (number, part) in (0_u32..).zip(parts) {
            let (from, place) =
                (partition_path(folder, *partition, number), u32::try_from(wanted.len()).unwrap_or(u32::MAX));
            let to = part_path(folder, place);
            // Check the old name first: another part may still have the new name.
            if file_size(&from)? == Some(part.bytes) {
                if from != to {
                    moves.push((from, to.clone(), place));
                }
            } else if file_size(&to)? != Some(part.bytes) {
                return Ok(false);
            }
            wanted.insert(to);
        }
    }
    for (from, to, place) in moves {
        let renumber = || {
            let mut file = open_regular(&from, File::options().read(true).write(true))?;
            // A write of this header that a crash interrupted has not changed the version.
            let mut header = [0; HEADER_BYTES];
            file.read_exact(&mut header)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&file_header(header_version(&header), place))?;
            file.sync_all()?;
            fs::rename(&from, &to)
        };
        renumber().map_err(|cause| ManifestError::disk("rename", &from, cause))?;
        failpoint::hit("part-settled");
    }
    remove_other_parts(folder, &wanted)?;
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
pub(super) fn remove_other_parts(folder: &Path, wanted: &HashSet<PathBuf>) -> Result<(), ManifestError> {
    let failed = |path: &Path, cause: io::Error| ManifestError::disk("clear", path, cause);
    for entry in fs::read_dir(folder).map_err(|cause| failed(folder, cause))? {
        let path = entry.map_err(|cause| failed(folder, cause))?.path();
        if path.extension().is_some_and(|extension| extension == "bpm") && !wanted.contains(&path) {
            fs::remove_file(&path).map_err(|cause| failed(&path, cause))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod block_tests;
#[cfg(test)]
mod tests;

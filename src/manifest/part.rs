//! Frozen manifest parts: object names on disk, compressed, checksummed, and readable from any row. Their blocks encode
//! rows as columns.
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

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use batchplan_store::object::{BucketName, MAX_KEY_BYTES, ObjectId, ObjectKey, VersionId};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::error::ManifestError;
use super::varint;
use crate::files::open_regular;

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

/// Returns the path of a part.
pub(super) fn part_path(home: &Path, part: u32) -> PathBuf {
    home.join(format!("part-{part:05}.bpm"))
}

/// The maximum length of a version id, in bytes.
pub(super) const MAX_VERSION_BYTES: usize = 1024;

/// The maximum length of a bucket name, in bytes: the limit of AWS in its first years.
pub(super) const MAX_BUCKET_BYTES: usize = 255;

/// The maximum number of rows in a block.
pub(super) const MAX_BLOCK_ROWS: usize = 65_536;

/// The maximum uncompressed size of a block, in bytes.
const MAX_BLOCK_BYTES: usize = 1 << 20;

/// The maximum compressed size of a block, in bytes: deflate can make incompressible data longer, but never by this
/// much.
const MAX_PACKED_BYTES: usize = MAX_BLOCK_BYTES + MAX_BLOCK_BYTES / 4;

/// The size of the file header and of a block header, in bytes.
pub(super) const HEADER_BYTES: usize = 20;

/// The first bytes of a part.
const MAGIC: [u8; 8] = *b"\x89BPM\r\n\x1a\n";

const VERSION: u32 = 1;

/// Flag: the bucket differs from the previous row.
const NEW_BUCKET: u8 = 0b001;

/// The bit position of the version kind in the flags.
const VERSION_SHIFT: u32 = 1;

const NO_VERSION: u8 = 0;

/// Version kind: the last version named in this block.
const SAME_VERSION: u8 = 1;

/// Version kind: another version, encoded by the prefix that it shares with the last one.
const NEW_VERSION: u8 = 2;

/// Collects the rows of a block.
#[derive(Default)]
pub(super) struct RowBlockWriter {
    flags: Vec<u8>,
    lengths: Vec<u8>,
    text: Vec<u8>,
    bucket: Vec<u8>,
    key: Vec<u8>,
    version: Vec<u8>,
}

impl RowBlockWriter {
    pub(super) fn rows(&self) -> usize {
        self.flags.len()
    }

    /// Returns whether another row of any size still fits.
    pub(super) fn has_room(&self) -> bool {
        // Five lengths of at most three bytes each, and the flags.
        const LONGEST_ROW: usize = MAX_BUCKET_BYTES + MAX_KEY_BYTES + MAX_VERSION_BYTES + 16;
        let bytes = self.flags.len() + self.lengths.len() + self.text.len() + size_of::<u32>();
        self.rows() < MAX_BLOCK_ROWS && bytes + LONGEST_ROW <= MAX_BLOCK_BYTES
    }

    /// Adds a row. The caller must have checked that it fits and that no field is too long.
    pub(super) fn push(&mut self, bucket: &str, key: &[u8], version: Option<&str>) {
        let mut flags = 0;
        if self.bucket != bucket.as_bytes() {
            flags |= NEW_BUCKET;
            varint::put(&mut self.lengths, bucket.len());
            self.text.extend_from_slice(bucket.as_bytes());
            self.bucket.clear();
            self.bucket.extend_from_slice(bucket.as_bytes());
        }
        front_code(&mut self.key, key, &mut self.lengths, &mut self.text);
        let kind = match version {
            None => NO_VERSION,
            Some(id) if self.version == id.as_bytes() => SAME_VERSION,
            Some(id) => {
                front_code(&mut self.version, id.as_bytes(), &mut self.lengths, &mut self.text);
                NEW_VERSION
            }
        };
        self.flags.push(flags | kind << VERSION_SHIFT);
    }

    /// Writes the columns to `out`, and starts the next block.
    pub(super) fn drain_into(&mut self, out: &mut Vec<u8>) {
        out.clear();
        let lengths = u32::try_from(self.lengths.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&lengths.to_le_bytes());
        for column in [&mut self.flags, &mut self.lengths, &mut self.text] {
            out.append(column);
        }
        self.bucket.clear();
        self.key.clear();
        self.version.clear();
    }
}

/// Appends the part of a value that differs from the previous one, and replaces the previous one.
fn front_code(before: &mut Vec<u8>, value: &[u8], lengths: &mut Vec<u8>, text: &mut Vec<u8>) {
    let shared = before.iter().zip(value).take_while(|(a, b)| a == b).count();
    let rest = &value[shared..];
    varint::put(lengths, shared);
    varint::put(lengths, rest.len());
    text.extend_from_slice(rest);
    before.truncate(shared);
    before.extend_from_slice(rest);
}

/// A message that says how a block is damaged.
type BlockDamage = &'static str;

/// Decodes the rows of a block one by one.
struct RowBlockReader {
    raw: Vec<u8>,
    rows: usize,
    row: usize,
    lengths_at: usize,
    lengths_end: usize,
    text_at: usize,
    bucket: BucketName,
    key: Vec<u8>,
    version: Vec<u8>,
    has_version: bool,
}

impl RowBlockReader {
    fn new(raw: Vec<u8>, rows: usize) -> Result<Self, BlockDamage> {
        let (head, columns) = raw.split_first_chunk::<4>().ok_or("a block is too short for its columns")?;
        let lengths = usize::try_from(u32::from_le_bytes(*head)).map_err(|_| "a column is too long")?;
        let lengths_end = rows.checked_add(lengths).filter(|end| *end <= columns.len());
        let lengths_end = lengths_end.ok_or("a column is longer than its block")? + head.len();
        Ok(Self {
            lengths_at: head.len() + rows,
            lengths_end,
            text_at: lengths_end,
            raw,
            rows,
            row: 0,
            bucket: BucketName::new(""),
            key: Vec::new(),
            version: Vec::new(),
            has_version: false,
        })
    }

    /// Advances to the next row. Returns `false` at the end.
    fn advance(&mut self) -> Result<bool, BlockDamage> {
        if self.row == self.rows {
            if self.lengths_at != self.lengths_end || self.text_at != self.raw.len() {
                return Err("a block has data after its last row");
            }
            return Ok(false);
        }
        let flags = self.raw[size_of::<u32>() + self.row];
        self.row += 1;
        if flags & NEW_BUCKET != 0 {
            let length = self.next_length()?;
            let text = take_text(&self.raw, &mut self.text_at, length)?;
            self.bucket = BucketName::new(std::str::from_utf8(text).map_err(|_| "a bucket's name is not UTF-8")?);
        }
        let (shared, rest) = (self.next_length()?, self.next_length()?);
        apply_front_coding(&mut self.key, shared, take_text(&self.raw, &mut self.text_at, rest)?, MAX_KEY_BYTES)?;
        match flags >> VERSION_SHIFT {
            NO_VERSION => self.has_version = false,
            SAME_VERSION => self.has_version = true,
            NEW_VERSION => {
                let (shared, rest) = (self.next_length()?, self.next_length()?);
                let rest = take_text(&self.raw, &mut self.text_at, rest)?;
                apply_front_coding(&mut self.version, shared, rest, MAX_VERSION_BYTES)?;
                self.has_version = true;
            }
            _ => return Err("a row has invalid flags"),
        }
        Ok(true)
    }

    /// Returns the current row.
    fn object(&self) -> Result<ObjectId, BlockDamage> {
        let version = if self.has_version {
            Some(VersionId::new(std::str::from_utf8(&self.version).map_err(|_| "a version id is not UTF-8")?))
        } else {
            None
        };
        Ok(ObjectId { bucket: self.bucket.clone(), key: ObjectKey::new(self.key.as_slice()), version })
    }

    /// Returns the buffer for reuse.
    fn into_buffer(self) -> Vec<u8> {
        self.raw
    }

    fn next_length(&mut self) -> Result<usize, BlockDamage> {
        varint::take(&self.raw[..self.lengths_end], &mut self.lengths_at).ok_or("a row has no lengths")
    }
}

fn take_text<'a>(raw: &'a [u8], at: &mut usize, length: usize) -> Result<&'a [u8], BlockDamage> {
    let end = at.checked_add(length).ok_or("a row is too long")?;
    let text = raw.get(*at..end).ok_or("a row is longer than its block")?;
    *at = end;
    Ok(text)
}

fn apply_front_coding(value: &mut Vec<u8>, shared: usize, rest: &[u8], limit: usize) -> Result<(), BlockDamage> {
    if shared > value.len() {
        return Err("a row shares more bytes with the previous row than that row has");
    }
    // Without this limit, a few bytes per row could make a key longer by the length of a block, row after row.
    if shared + rest.len() > limit {
        return Err("a key or version id is too long");
    }
    value.truncate(shared);
    value.extend_from_slice(rest);
    Ok(())
}

/// The compression level. Level 6 makes the whole freeze 50 % slower, and the parts only 4 % smaller.
const LEVEL: u32 = 3;

/// A block header, or the end mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockHeader {
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
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
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
pub(super) fn file_header(part: u32) -> [u8; HEADER_BYTES] {
    let [a, b] = [&MAGIC[..4], &MAGIC[4..]].map(|half| u32::from_le_bytes([half[0], half[1], half[2], half[3]]));
    with_checksum([a, b, VERSION, part])
}

/// Checks the file header of a part.
fn check_file_header(bytes: &[u8; HEADER_BYTES], part: u32) -> Result<(), String> {
    if !bytes.starts_with(&MAGIC) {
        return Err("it is not a manifest part".to_owned());
    }
    let [_, _, version, number] = verify_checksum(bytes).ok_or("its header fails its checksum")?;
    if version != VERSION {
        return Err(format!("its format version is {version}, but this version of batchplan reads only {VERSION}"));
    }
    if number != part {
        return Err(format!("its header says part {number}, not part {part}"));
    }
    Ok(())
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
pub(super) struct BlockCompressor(Compress);

impl BlockCompressor {
    pub(super) fn new() -> Self {
        Self(Compress::new(Compression::new(LEVEL), false))
    }

    /// Appends a whole block to `out`, including its header.
    pub(super) fn compress(&mut self, rows: usize, raw: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
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
        let whole = self.0.total_out() == as_u64(length) && self.0.total_in() == as_u64(packed.len());
        match end {
            Ok(Status::StreamEnd) if whole => Ok(()),
            Ok(_) | Err(_) => Err("a block does not decompress to its recorded length"),
        }
    }
}

fn as_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Name = (String, Vec<u8>, Option<String>);

    fn name() -> impl Strategy<Value = Name> {
        let bucket = prop_oneof![Just("alpha".to_owned()), "[a-z.-]{0,20}"];
        let key = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "dir/[ab]{1,9}".prop_map(String::into_bytes),
            Just(vec![b'k'; MAX_KEY_BYTES]),
        ];
        let version = prop_oneof![Just(None), Just(Some("null".to_owned())), "\\PC{0,20}".prop_map(Some)];
        (bucket, key, version)
    }

    proptest! {
        #[test]
        fn rows_round_trip(names in proptest::collection::vec(name(), 0..60)) {
            let mut writer = RowBlockWriter::default();
            for (bucket, key, version) in &names {
                prop_assert!(writer.has_room());
                writer.push(bucket, key, version.as_deref());
            }
            let mut raw = Vec::new();
            writer.drain_into(&mut raw);
            let mut reader = RowBlockReader::new(raw, names.len()).unwrap();
            for (bucket, key, version) in &names {
                prop_assert!(reader.advance().unwrap());
                let object = reader.object().unwrap();
                prop_assert_eq!(object.bucket.as_str(), bucket);
                prop_assert_eq!(object.key.as_bytes(), key.as_slice());
                prop_assert_eq!(object.version.as_ref().map(VersionId::as_str), version.as_deref());
            }
            prop_assert!(!reader.advance().unwrap());
        }

        #[test]
        fn junk_is_an_error_and_no_panic(raw in proptest::collection::vec(any::<u8>(), 0..200), rows in 0_usize..80) {
            let Ok(mut reader) = RowBlockReader::new(raw, rows) else { return Ok(()) };
            while let Ok(true) = reader.advance() {
                let _ = reader.object();
            }
        }
    }

    /// The columns of format version 1, byte by byte.
    #[test]
    fn the_columns_are_pinned() {
        let mut writer = RowBlockWriter::default();
        writer.push("alpha", b"a/1", None);
        writer.push("alpha", b"a/2", Some("v1"));
        writer.push("beta", b"a/2\xff", Some("v1"));
        writer.push("beta", b"", Some("v2"));
        let mut raw = Vec::new();
        writer.drain_into(&mut raw);
        let lengths = [5, 0, 3, 2, 1, 0, 2, 4, 3, 1, 0, 0, 1, 1];
        let expected = [&[14, 0, 0, 0, 0b001, 0b100, 0b011, 0b100][..], &lengths, b"alphaa/12v1beta\xff2"].concat();
        assert_eq!(raw, expected);
    }

    #[test]
    fn a_key_cannot_grow_without_bound() {
        let mut writer = RowBlockWriter::default();
        let long = vec![b'k'; MAX_KEY_BYTES + 1];
        writer.push("b", &long, None);
        let mut raw = Vec::new();
        writer.drain_into(&mut raw);
        let mut reader = RowBlockReader::new(raw, 1).unwrap();
        assert_eq!(reader.advance(), Err("a key or version id is too long"));
    }

    #[test]
    fn a_block_is_bounded_in_bytes() {
        let mut writer = RowBlockWriter::default();
        let mut row = 0_u32;
        while writer.has_room() {
            let mut key = vec![b'k'; MAX_KEY_BYTES];
            key[..4].copy_from_slice(&row.to_be_bytes());
            writer.push("b", &key, Some(&format!("{row:0>1024}")));
            row = row.wrapping_add(0x0101_0101);
        }
        let mut raw = Vec::new();
        writer.drain_into(&mut raw);
        assert!(raw.len() <= MAX_BLOCK_BYTES && raw.len() > MAX_BLOCK_BYTES / 2, "{}", raw.len());
    }

    #[test]
    fn headers_come_back() {
        for header in [BlockHeader::Block { rows: 1, raw: 2, packed: 3, crc: 4 }, BlockHeader::End { rows: 9 }] {
            assert_eq!(BlockHeader::parse(&header.to_bytes()), Ok(header));
        }
    }

    #[test]
    fn wild_lengths_are_refused_before_anything_is_allocated() {
        let limit = u32::try_from(MAX_BLOCK_BYTES).unwrap();
        assert_eq!(BlockHeader::parse(&with_checksum([65_537, 1, 1, 0])), Err("a block has too many rows"));
        assert_eq!(BlockHeader::parse(&with_checksum([1, limit + 1, 1, 0])), Err("a block is too long"));
        assert_eq!(BlockHeader::parse(&with_checksum([1, 1, u32::MAX, 0])), Err("a compressed block is too long"));
        assert_eq!(BlockHeader::parse(&with_checksum([0, 1, 1, 0])), Err("a block has no rows"));
        let mut torn = with_checksum([1, 1, 1, 0]);
        torn[0] ^= 1;
        assert_eq!(BlockHeader::parse(&torn), Err("a block's header fails its checksum"));
    }

    #[test]
    fn a_block_inflates_to_its_length_or_not_at_all() {
        let raw = b"abcabcabcabcabcabc";
        let mut out = Vec::new();
        BlockCompressor::new().compress(1, raw, &mut out).unwrap();
        let packed = &out[HEADER_BYTES..];
        let crc = crc32fast::hash(packed);
        let (mut unpacker, mut back) = (BlockDecompressor::new(), Vec::new());
        assert_eq!(unpacker.decompress(packed, crc, raw.len(), &mut back), Ok(()));
        assert_eq!(back, raw);
        for length in [0, raw.len() - 1, raw.len() + 1] {
            assert!(unpacker.decompress(packed, crc, length, &mut back).is_err(), "{length}");
        }
        assert_eq!(unpacker.decompress(packed, crc ^ 1, raw.len(), &mut back), Err("a block fails its checksum"));
    }
}

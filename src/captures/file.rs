//! Files of blocks: their names, headers and checksums, and where a log was cut off.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batchplan_store::task::TaskId;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::block::{self, BlockEncoder, CaptureDamage, MAX_BLOCK_BYTES, MAX_BLOCK_ROWS, StoredCapture};
use super::error::CaptureError;
use crate::files::open_regular;

/// The first bytes of a file.
const MAGIC: [u8; 8] = *b"\x89BPC\r\n\x1a\n";

const VERSION: u32 = 1;

/// The size of a file header, in bytes.
pub(super) const FILE_HEADER_BYTES: usize = 20;

/// The size of a block header, in bytes.
const BLOCK_HEADER_BYTES: usize = 36;

/// The longest log that is read, in bytes: a full one, and a last group of captures.
const MAX_LOG_BYTES: u64 = 256 << 20;

/// The compression level. It makes all the difference to the columns, which repeat themselves, and higher ones none.
const LEVEL: u32 = 3;

/// The numbers of the files in a folder, in order.
#[derive(Debug, Default)]
pub(super) struct FileNumbers {
    pub(super) sealed: Vec<u32>,
    /// Logs without a sealed file.
    pub(super) logs: Vec<u32>,
    /// Logs that a sealed file has replaced.
    pub(super) replaced: Vec<u32>,
}

impl FileNumbers {
    /// Lists the files of a folder, which need not exist.
    pub(super) fn list(folder: &Path) -> Result<Self, CaptureError> {
        let mut found = Self::default();
        let entries = match fs::read_dir(folder) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries.map_err(CaptureError::at(folder))?,
        };
        for entry in entries {
            let name = entry.map_err(CaptureError::at(folder))?.file_name();
            let Some((stem, extension)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let Some(number) = stem.strip_prefix("captures-").and_then(|number| number.parse().ok()) else { continue };
            match extension {
                "bpc" => found.sealed.push(number),
                "log" => found.logs.push(number),
                _ => {}
            }
        }
        found.sealed.sort_unstable();
        found.logs.sort_unstable();
        (found.replaced, found.logs) = found.logs.into_iter().partition(|log| found.sealed.binary_search(log).is_ok());
        Ok(found)
    }
}

/// Returns the path of a log.
pub(super) fn log_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("captures-{number:05}.log"))
}

/// Returns the name of a sealed file.
pub(super) fn sealed_name(number: u32) -> String {
    format!("captures-{number:05}.bpc")
}

/// Returns the header of the file with this number.
pub(super) fn file_header(number: u32) -> [u8; FILE_HEADER_BYTES] {
    let mut bytes = [0; FILE_HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&number.to_le_bytes());
    add_checksum(&mut bytes);
    bytes
}

/// Checks a file header.
fn check_file_header(header: &[u8], number: u32, path: &Path) -> Result<(), CaptureError> {
    let damaged = |what: &str| CaptureError::damaged(path, what);
    if !header.starts_with(&MAGIC) {
        return Err(damaged("it has another signature"));
    }
    if !has_checksum(header) {
        return Err(damaged("its header fails its checksum"));
    }
    match word(header, 8) {
        VERSION if word(header, 12) == number => Ok(()),
        VERSION => Err(damaged("its header has the number of another file")),
        found => Err(CaptureError::NewerFormat { path: path.to_owned(), found }),
    }
}

fn add_checksum(header: &mut [u8]) {
    let end = header.len() - 4;
    let crc = crc32fast::hash(&header[..end]);
    header[end..].copy_from_slice(&crc.to_le_bytes());
}

fn has_checksum(header: &[u8]) -> bool {
    let end = header.len() - 4;
    crc32fast::hash(&header[..end]) == word(header, end)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A block header, or the end mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CaptureBlockHeader {
    /// The number of captures; 0 for the end mark.
    count: usize,
    /// The uncompressed size in bytes. In the end mark, the number of captures of the file.
    raw: usize,
    /// The stored size in bytes.
    stored: usize,
    /// The CRC-32 of the stored bytes.
    crc: u32,
    /// The row of the first capture.
    pub(super) first: TaskId,
    /// The row of the last capture.
    pub(super) last: TaskId,
}

impl CaptureBlockHeader {
    fn to_bytes(self) -> [u8; BLOCK_HEADER_BYTES] {
        let four = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let words = [
            four(self.count),
            four(self.raw),
            four(self.stored),
            self.crc,
            self.first.part,
            self.first.row,
            self.last.part,
            self.last.row,
        ];
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        for (word, place) in words.iter().zip(bytes.chunks_exact_mut(4)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        add_checksum(&mut bytes);
        bytes
    }

    /// Parses a header. Rejects lengths that no writer produces, before anything is allocated for them.
    fn parse(bytes: &[u8]) -> Result<Self, CaptureDamage> {
        if !has_checksum(bytes) {
            return Err("a block's header fails its checksum");
        }
        let size = |at: usize| usize::try_from(word(bytes, at)).unwrap_or(usize::MAX);
        let task = |at: usize| TaskId { part: word(bytes, at), row: word(bytes, at + 4) };
        let (count, raw, stored) = (size(0), size(4), size(8));
        if count > 0 && (count > MAX_BLOCK_ROWS || raw > MAX_BLOCK_BYTES || stored > raw) {
            return Err("a block is too long");
        }
        Ok(Self { count, raw, stored, crc: word(bytes, 12), first: task(16), last: task(24) })
    }
}

/// Encodes blocks, reusing its state.
pub(super) struct BlockPacker {
    encoder: BlockEncoder,
    raw: Vec<u8>,
    /// `None` if blocks are not compressed.
    compress: Option<Compress>,
}

impl BlockPacker {
    /// Creates a packer of small blocks, which are not worth the time of compressing them.
    pub(super) fn uncompressed() -> Self {
        Self { encoder: BlockEncoder::default(), raw: Vec::new(), compress: None }
    }

    /// Creates a packer that compresses blocks.
    pub(super) fn compressed() -> Self {
        Self { compress: Some(Compress::new(Compression::new(LEVEL), false)), ..Self::uncompressed() }
    }

    /// Adds a capture, and appends the block before it to `out` if that is full.
    pub(super) fn push(&mut self, capture: &StoredCapture, out: &mut Vec<u8>) -> io::Result<()> {
        if !self.encoder.has_room(capture) {
            self.end_block(out)?;
        }
        self.encoder.push(capture);
        Ok(())
    }

    /// Appends the captures since the last block to `out`, if there are any.
    pub(super) fn end_block(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some((first, last)) = self.encoder.span() else { return Ok(()) };
        let count = self.encoder.count();
        self.encoder.drain_into(&mut self.raw);
        let start = out.len();
        out.extend_from_slice(&[0; BLOCK_HEADER_BYTES]);
        let content = start + BLOCK_HEADER_BYTES;
        if let Some(compress) = &mut self.compress {
            out.reserve(self.raw.len() + self.raw.len() / 4 + 64);
            compress.reset();
            let end = compress.compress_vec(&self.raw, out, FlushCompress::Finish);
            if !matches!(end, Ok(Status::StreamEnd)) {
                return Err(io::Error::other("compression did not finish"));
            }
        }
        if self.compress.is_none() || out.len() - content >= self.raw.len() {
            out.truncate(content);
            out.extend_from_slice(&self.raw);
        }
        let stored = out.len() - content;
        let crc = crc32fast::hash(&out[content..]);
        let header = CaptureBlockHeader { count, raw: self.raw.len(), stored, crc, first, last };
        out[start..content].copy_from_slice(&header.to_bytes());
        Ok(())
    }
}

/// Returns the end mark of a sealed file with this number of captures.
pub(super) fn end_mark(captures: usize) -> [u8; BLOCK_HEADER_BYTES] {
    let none = TaskId { part: 0, row: 0 };
    CaptureBlockHeader { count: 0, raw: captures, stored: 0, crc: 0, first: none, last: none }.to_bytes()
}

/// Decodes the stored bytes of a block.
fn unpack(header: &CaptureBlockHeader, stored: &[u8]) -> Result<Vec<StoredCapture>, CaptureDamage> {
    if crc32fast::hash(stored) != header.crc {
        return Err("a block fails its checksum");
    }
    let mut inflated = Vec::new();
    let raw = if header.stored == header.raw {
        stored
    } else {
        inflated.resize(header.raw, 0);
        let mut decompress = Decompress::new(false);
        let end = decompress.decompress(stored, &mut inflated, FlushDecompress::Finish);
        let lengths = (usize::try_from(decompress.total_in()), usize::try_from(decompress.total_out()));
        if !matches!(end, Ok(Status::StreamEnd)) || lengths != (Ok(stored.len()), Ok(header.raw)) {
            return Err("a block does not decompress to its recorded length");
        }
        &inflated
    };
    let captures = block::decode(raw, header.count)?;
    let span = captures.first().zip(captures.last()).map(|(first, last)| (first.row, last.row));
    if span != Some((header.first, header.last)) {
        return Err("a block does not have the rows that its header says");
    }
    Ok(captures)
}

/// The captures of a log, in the order in which they were appended.
pub(super) struct LogContent {
    pub(super) captures: Vec<StoredCapture>,
    /// The length up to the end of the last whole block, in bytes. What follows was cut off by a crash.
    pub(super) bytes: u64,
}

/// Reads a log. Leaves out a last group that a crash has cut off: no write was sent for its objects. Everything else
/// that does not match is damage.
pub(super) fn read_log(path: &Path, number: u32) -> Result<LogContent, CaptureError> {
    let mut file = open_regular(path, File::options().read(true)).map_err(CaptureError::at(path))?;
    let mut content = Vec::new();
    (&mut file).take(MAX_LOG_BYTES + 1).read_to_end(&mut content).map_err(CaptureError::at(path))?;
    if content.len() as u64 > MAX_LOG_BYTES {
        return Err(CaptureError::damaged(path, "it is longer than any log"));
    }
    let mut log = LogContent { captures: Vec::new(), bytes: 0 };
    let Some((header, mut rest)) = content.split_at_checked(FILE_HEADER_BYTES) else { return Ok(log) };
    check_file_header(header, number, path)?;
    log.bytes = FILE_HEADER_BYTES as u64;
    // Every group has its own copy of its states, which are the same few in most jobs.
    let mut states = HashSet::new();
    while let Some(step) = next_log_block(rest) {
        let (captures, behind) = step.map_err(|what| CaptureError::damaged(path, what))?;
        log.captures.extend(captures.into_iter().map(|mut capture| {
            match states.get(&capture.state) {
                Some(known) => capture.state = Arc::clone(known),
                None => _ = states.insert(Arc::clone(&capture.state)),
            }
            capture
        }));
        log.bytes += (rest.len() - behind.len()) as u64;
        rest = behind;
    }
    Ok(log)
}

/// The captures of the first block in some bytes, and what follows it.
type BlockAndRest<'a> = (Vec<StoredCapture>, &'a [u8]);

/// Decodes the next block of a log. Returns `None` at the end, and where a crash has cut the log off.
///
/// Only the last group can be incomplete, because every group is synced before the next one is written. So a block that
/// does not match is damage if other blocks follow it, and cut off otherwise.
fn next_log_block(bytes: &[u8]) -> Option<Result<BlockAndRest<'_>, CaptureDamage>> {
    let (header, rest) = bytes.split_at_checked(BLOCK_HEADER_BYTES)?;
    let decoded = CaptureBlockHeader::parse(header).and_then(|header| {
        let (stored, rest) = rest.split_at_checked(header.stored).ok_or("a block is truncated")?;
        if header.count == 0 {
            return Err("a log has an end mark");
        }
        Ok((unpack(&header, stored)?, rest))
    });
    match decoded {
        Err(_) if !has_later_block(&bytes[1..]) => None,
        decoded => Some(decoded),
    }
}

/// Returns whether a whole block begins anywhere in these bytes.
fn has_later_block(bytes: &[u8]) -> bool {
    bytes.windows(BLOCK_HEADER_BYTES).enumerate().any(|(at, window)| {
        let header = CaptureBlockHeader::parse(window).ok().filter(|header| header.count > 0);
        let stored = header.and_then(|header| {
            let from = at + BLOCK_HEADER_BYTES;
            Some((header, bytes.get(from..from + header.stored)?))
        });
        stored.is_some_and(|(header, stored)| crc32fast::hash(stored) == header.crc)
    })
}

/// Where a block of a sealed file is.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockPlace {
    pub(super) header: CaptureBlockHeader,
    offset: u64,
}

/// A sealed file. It is open only while it is read, since a job may have thousands of them.
#[derive(Debug)]
pub(super) struct SealedFile {
    path: PathBuf,
    /// The blocks, in the order of their rows.
    pub(super) blocks: Vec<BlockPlace>,
}

impl SealedFile {
    /// Reads the headers of a sealed file. It must be complete.
    pub(super) fn open(folder: &Path, number: u32) -> Result<Self, CaptureError> {
        let path = folder.join(sealed_name(number));
        let mut file = open_regular(&path, File::options().read(true)).map_err(CaptureError::at(&path))?;
        let mut header = [0; FILE_HEADER_BYTES];
        read_exact(&mut file, &mut header, &path)?;
        check_file_header(&header, number, &path)?;
        let (mut blocks, mut captures) = (Vec::<BlockPlace>::new(), 0);
        let mut offset = FILE_HEADER_BYTES as u64;
        loop {
            let mut header = [0; BLOCK_HEADER_BYTES];
            read_exact(&mut file, &mut header, &path)?;
            let header = CaptureBlockHeader::parse(&header).map_err(|what| CaptureError::damaged(&path, what))?;
            if header.count == 0 {
                let is_whole = header.raw == captures;
                return if is_whole {
                    Ok(Self { path, blocks })
                } else {
                    Err(CaptureError::damaged(&path, "blocks are missing"))
                };
            }
            if header.first > header.last || blocks.last().is_some_and(|before| before.header.last >= header.first) {
                return Err(CaptureError::damaged(&path, "its blocks are not sorted"));
            }
            offset += BLOCK_HEADER_BYTES as u64;
            captures += header.count;
            blocks.push(BlockPlace { header, offset });
            offset += header.stored as u64;
            file.seek(SeekFrom::Start(offset)).map_err(CaptureError::at(&path))?;
        }
    }

    /// Reads a block.
    pub(super) fn read(&self, place: &BlockPlace) -> Result<Vec<StoredCapture>, CaptureError> {
        let mut file = open_regular(&self.path, File::options().read(true)).map_err(CaptureError::at(&self.path))?;
        file.seek(SeekFrom::Start(place.offset)).map_err(CaptureError::at(&self.path))?;
        let mut stored = vec![0; place.header.stored];
        read_exact(&mut file, &mut stored, &self.path)?;
        unpack(&place.header, &stored).map_err(|what| CaptureError::damaged(&self.path, what))
    }
}

fn read_exact(file: &mut File, buffer: &mut [u8], path: &Path) -> Result<(), CaptureError> {
    file.read_exact(buffer).map_err(|cause| match cause.kind() {
        io::ErrorKind::UnexpectedEof => CaptureError::damaged(path, "it is truncated"),
        _ => CaptureError::at(path)(cause),
    })
}

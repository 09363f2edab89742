//! Reads a part, starting at any row.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use batchplan_store::object::ObjectId;

use super::HEADER_BYTES;
use super::block::RowBlockReader;
use super::block_codec::{BlockDecompressor, BlockHeader, check_file_header};
use crate::files::open_regular;
use crate::manifest::error::ManifestError;
use crate::manifest::frozen::ManifestPart;

/// Returns whether a part matches what was recorded of it: every checksum is right. A part that is not `ended` need
/// not have its end mark. Nothing is decompressed.
pub(in crate::manifest) fn is_intact(
    path: &Path,
    number: u32,
    part: ManifestPart,
    ended: bool,
) -> Result<bool, ManifestError> {
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
pub(in crate::manifest) struct PartReader {
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
    pub(in crate::manifest) fn open(path: PathBuf, part: u32, rows: u32, from: u32) -> Result<Self, ManifestError> {
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
    pub(in crate::manifest) fn next_row(&mut self) -> Result<Option<(u32, ObjectId)>, ManifestError> {
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

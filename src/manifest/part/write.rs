//! Writes parts, one after the other.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::block::BlockWriter;
use super::pack::{Header, Packer, file_header};
use crate::manifest::error::ManifestError;
use crate::manifest::frozen::{PartInfo, part_path};

/// Where blocks and parts end; smaller in tests.
#[derive(Clone, Copy, Debug)]
pub(in crate::manifest) struct Limits {
    /// Rows of a block, at most 65,536.
    pub(in crate::manifest) block_rows: usize,
    /// Rows of a part, at most `u32::MAX`.
    pub(in crate::manifest) part_rows: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { block_rows: super::MAX_BLOCK_ROWS, part_rows: 4 << 20 }
    }
}

/// Writes rows into as many parts as they need.
pub(in crate::manifest) struct PartsWriter {
    folder: PathBuf,
    limits: Limits,
    block: BlockWriter,
    packer: Packer,
    raw: Vec<u8>,
    packed: Vec<u8>,
    open: Option<OpenPart>,
    done: Vec<PartInfo>,
}

struct OpenPart {
    path: PathBuf,
    file: File,
    rows: u32,
    bytes: u64,
}

impl PartsWriter {
    /// Writes into this folder, from part 0.
    pub(in crate::manifest) fn new(folder: &Path, limits: Limits) -> Self {
        Self {
            folder: folder.to_owned(),
            limits,
            block: BlockWriter::default(),
            packer: Packer::new(),
            raw: Vec::new(),
            packed: Vec::new(),
            open: None,
            done: Vec::new(),
        }
    }

    /// Adds a row. The caller has seen to it that nothing in it is too long.
    pub(in crate::manifest) fn push(
        &mut self,
        bucket: &str,
        key: &[u8],
        version: Option<&str>,
    ) -> Result<(), ManifestError> {
        self.block.push(bucket, key, version);
        let written = self.open.as_ref().map_or(0, |part| part.rows);
        let in_part = written.saturating_add(u32::try_from(self.block.rows()).unwrap_or(u32::MAX));
        let part_is_full = in_part >= self.limits.part_rows;
        if part_is_full || self.block.rows() >= self.limits.block_rows || !self.block.has_room() {
            self.end_block()?;
        }
        if part_is_full { self.end_part() } else { Ok(()) }
    }

    /// Writes what is left; the parts are on disk when this returns.
    pub(in crate::manifest) fn finish(mut self) -> Result<Vec<PartInfo>, ManifestError> {
        self.end_block()?;
        self.end_part()?;
        Ok(self.done)
    }

    fn end_block(&mut self) -> Result<(), ManifestError> {
        let rows = self.block.rows();
        if rows == 0 {
            return Ok(());
        }
        self.block.drain_into(&mut self.raw);
        self.packed.clear();
        let number = u32::try_from(self.done.len()).unwrap_or(u32::MAX);
        let path = part_path(&self.folder, number);
        self.packer
            .pack(rows, &self.raw, &mut self.packed)
            .map_err(|why| ManifestError::disk("write", &path, io::Error::other(why)))?;
        if self.open.is_none() {
            self.open = Some(OpenPart::create(path, number)?);
        }
        match &mut self.open {
            Some(part) => part.append(&self.packed, u32::try_from(rows).unwrap_or(u32::MAX)),
            None => Ok(()),
        }
    }

    fn end_part(&mut self) -> Result<(), ManifestError> {
        if let Some(part) = self.open.take() {
            self.done.push(part.close()?);
        }
        Ok(())
    }
}

impl OpenPart {
    fn create(path: PathBuf, number: u32) -> Result<Self, ManifestError> {
        let file = File::create(&path).map_err(|cause| ManifestError::disk("create", &path, cause))?;
        let mut part = Self { path, file, rows: 0, bytes: 0 };
        part.append(&file_header(number), 0)?;
        Ok(part)
    }

    fn append(&mut self, bytes: &[u8], rows: u32) -> Result<(), ManifestError> {
        self.file.write_all(bytes).map_err(|cause| ManifestError::disk("write", &self.path, cause))?;
        self.rows = self.rows.saturating_add(rows);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn close(mut self) -> Result<PartInfo, ManifestError> {
        let end = Header::End { rows: self.rows };
        self.append(&end.bytes(), 0)?;
        self.file.sync_all().map_err(|cause| ManifestError::disk("write", &self.path, cause))?;
        Ok(PartInfo { rows: self.rows, bytes: self.bytes })
    }
}

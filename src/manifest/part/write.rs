//! Writes parts, one after the other.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::HEADER_BYTES;
use super::block::BlockWriter;
use super::pack::{Header, Packer, file_header};
use crate::failpoint;
use crate::manifest::error::ManifestError;
use crate::manifest::frozen::{PartInfo, keep_parts, part_path};

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

/// What of the parts survives a crash: the rest of the open one is cut when writing goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::manifest) struct Written {
    /// The parts that have their end mark.
    pub(in crate::manifest) sealed: Vec<PartInfo>,
    /// The part behind them, as far as it was whole.
    pub(in crate::manifest) open: Option<PartInfo>,
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
    /// The most bytes that the parts may take.
    max_disk: Option<u64>,
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
            max_disk: None,
        }
    }

    /// Writes no more than so many bytes in all.
    pub(in crate::manifest) fn within(self, max_disk: Option<u64>) -> Self {
        Self { max_disk, ..self }
    }

    /// The most bytes that the parts may take.
    pub(in crate::manifest) fn max_disk(&self) -> Option<u64> {
        self.max_disk
    }

    /// Begins again from part 0, in the same place and within the same limits.
    pub(in crate::manifest) fn begun_again(&self) -> Self {
        Self::new(&self.folder, self.limits).within(self.max_disk)
    }

    /// Goes on behind what is there, and removes what was written after it; `None` where it is not all there.
    pub(in crate::manifest) fn going_on(
        folder: &Path,
        limits: Limits,
        written: Written,
    ) -> Result<Option<Self>, ManifestError> {
        for (number, part) in (0_u32..).zip(&written.sealed) {
            if length(&part_path(folder, number))? != Some(part.bytes) {
                return Ok(None);
            }
        }
        let number = u32::try_from(written.sealed.len()).unwrap_or(u32::MAX);
        let open = match written.open {
            None => None,
            Some(part) => match OpenPart::reopen(part_path(folder, number), part)? {
                None => return Ok(None),
                open => open,
            },
        };
        keep_parts(folder, number.saturating_add(u32::from(open.is_some())))?;
        Ok(Some(Self { open, done: written.sealed, ..Self::new(folder, limits) }))
    }

    /// Brings all rows so far to the disk, and says what is there.
    pub(in crate::manifest) fn checkpoint(&mut self) -> Result<Written, ManifestError> {
        self.end_block()?;
        let open = self.open.as_ref().map(OpenPart::flush).transpose()?;
        Ok(Written { sealed: self.done.clone(), open })
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
        self.see_to_room()?;
        if self.open.is_none() {
            self.open = Some(OpenPart::create(path, number)?);
        }
        match &mut self.open {
            Some(part) => part.append(&self.packed, u32::try_from(rows).unwrap_or(u32::MAX)),
            None => Ok(()),
        }
    }

    /// Refuses a block that would not fit, with the file's header and end mark, before any of it is written.
    fn see_to_room(&self) -> Result<(), ManifestError> {
        let Some(limit) = self.max_disk else { return Ok(()) };
        let infos = || self.done.iter().copied().chain(self.open.as_ref().map(OpenPart::info));
        let used: u64 = infos().map(|part| part.bytes).sum();
        let around = if self.open.is_some() { HEADER_BYTES } else { 2 * HEADER_BYTES };
        let more = u64::try_from(self.packed.len() + around).unwrap_or(u64::MAX);
        if used.saturating_add(more) <= limit {
            return Ok(());
        }
        Err(ManifestError::TooLarge { used, limit, rows: infos().map(|part| u64::from(part.rows)).sum() })
    }

    fn end_part(&mut self) -> Result<(), ManifestError> {
        if let Some(part) = self.open.take() {
            self.done.push(part.close()?);
            failpoint::reach("part-sealed");
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

    /// Opens a part that has no end mark yet, and cuts it where it was last known to be whole; `None` where it is
    /// shorter than that.
    fn reopen(path: PathBuf, part: PartInfo) -> Result<Option<Self>, ManifestError> {
        if length(&path)?.is_none_or(|found| found < part.bytes) {
            return Ok(None);
        }
        let cut = || {
            let mut file = File::options().write(true).open(&path)?;
            file.set_len(part.bytes)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = cut().map_err(|cause| ManifestError::disk("open", &path, cause))?;
        Ok(Some(Self { path, file, rows: part.rows, bytes: part.bytes }))
    }

    fn info(&self) -> PartInfo {
        PartInfo { rows: self.rows, bytes: self.bytes }
    }

    fn flush(&self) -> Result<PartInfo, ManifestError> {
        self.file.sync_all().map_err(|cause| ManifestError::disk("write", &self.path, cause))?;
        Ok(self.info())
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
        self.flush()
    }
}

/// A file's bytes; `None` where there is no file.
fn length(path: &Path) -> Result<Option<u64>, ManifestError> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(ManifestError::disk("open", path, cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits { block_rows: 3, part_rows: 7 };

    fn push(writer: &mut PartsWriter, rows: std::ops::Range<u32>) {
        for row in rows {
            writer.push("b", format!("k{row:03}").as_bytes(), None).unwrap();
        }
    }

    fn files(folder: &Path) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    #[test]
    fn what_was_written_after_a_checkpoint_is_cut() {
        for (before, after) in [(0, 5), (4, 2), (5, 12), (7, 7), (9, 0), (20, 30)] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = PartsWriter::new(folder.path(), SMALL);
            push(&mut writer, 0..before);
            let written = writer.checkpoint().unwrap();
            let there = files(folder.path());
            push(&mut writer, before..before + after);
            drop(writer);
            let mut again = PartsWriter::going_on(folder.path(), SMALL, written.clone()).unwrap().unwrap();
            assert_eq!(files(folder.path()), there, "{before} and {after}");
            assert_eq!(again.checkpoint().unwrap(), written);
            push(&mut again, before..before + 3);
            let rows: u32 = again.finish().unwrap().iter().map(|part| part.rows).sum();
            assert_eq!(rows, before + 3);
        }
    }

    #[test]
    fn a_part_that_is_not_all_there_is_not_gone_on_with() {
        for (part, bytes) in [(0, None), (0, Some(30)), (1, None), (1, Some(30))] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = PartsWriter::new(folder.path(), SMALL);
            push(&mut writer, 0..9);
            let written = writer.checkpoint().unwrap();
            assert_eq!((written.sealed.len(), written.open.map(|open| open.rows)), (1, Some(2)));
            let path = part_path(folder.path(), part);
            match bytes {
                None => fs::remove_file(&path).unwrap(),
                Some(bytes) => File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap(),
            }
            assert!(PartsWriter::going_on(folder.path(), SMALL, written).unwrap().is_none(), "{part} {bytes:?}");
        }
    }

    #[test]
    fn no_more_is_written_than_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let mut free = PartsWriter::new(folder.path(), SMALL);
        push(&mut free, 0..30);
        let whole: u64 = free.finish().unwrap().iter().map(|part| part.bytes).sum();
        for limit in (0..whole - 30).step_by(11).chain(whole - 30..whole + 3) {
            keep_parts(folder.path(), 0).unwrap();
            let mut writer = PartsWriter::new(folder.path(), SMALL).within(Some(limit));
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
    fn a_full_disk_says_what_was_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = part_path(folder.path(), 0);
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut writer = PartsWriter::new(folder.path(), SMALL);
        let error = (0..9).find_map(|_| writer.push("b", b"k", None).err()).unwrap();
        let told = error.to_string();
        assert!(told.starts_with("no room on the disk: cannot write ") && told.contains("part-00000.bpm"), "{told}");
        assert!(error.help().unwrap().contains("goes on"), "{error:?}");
    }
}

//! Writes the parts of a partition.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::HEADER_BYTES;
use super::block::RowBlockWriter;
use super::block_codec::{BlockCompressor, BlockHeader, file_header};
use super::read::is_intact;
use crate::failpoint;
use crate::files::{create_replacing, open_regular};
use crate::manifest::cursor::PartitionId;
use crate::manifest::error::ManifestError;
use crate::manifest::frozen::{ManifestPart, part_path, remove_other_parts};

/// The maximum number of rows in blocks and parts; smaller in tests.
#[derive(Clone, Copy, Debug)]
pub(in crate::manifest) struct PartLimits {
    /// Per block, at most 65,536.
    pub(in crate::manifest) block_rows: usize,
    /// Per part, at most `u32::MAX`.
    pub(in crate::manifest) part_rows: u32,
}

impl Default for PartLimits {
    fn default() -> Self {
        Self { block_rows: super::MAX_BLOCK_ROWS, part_rows: 4 << 20 }
    }
}

/// The parts that survive a crash: when writing resumes, the open part is truncated to the recorded length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::manifest) struct WrittenParts {
    /// The parts that have their end mark.
    pub(in crate::manifest) sealed: Vec<ManifestPart>,
    /// The part after them, as of the last checkpoint.
    pub(in crate::manifest) open: Option<ManifestPart>,
}

/// Returns the path of a part of a partition. The parts of partitions other than 0 have temporary names until
/// [`assemble_parts`] gives them their final ones.
pub(in crate::manifest) fn partition_path(folder: &Path, partition: PartitionId, number: u32) -> PathBuf {
    match partition.0 {
        0 => part_path(folder, number),
        lane => folder.join(format!("lane-{lane:05}-{number:05}.bpm")),
    }
}

/// Writes the rows of one partition into as many parts as necessary.
pub(in crate::manifest) struct PartitionPartsWriter {
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
pub(in crate::manifest) struct PartTotals {
    pub(in crate::manifest) rows: u64,
    /// Includes end marks that are not written yet.
    pub(in crate::manifest) bytes: u64,
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
    pub(in crate::manifest) fn new(folder: &Path, limits: PartLimits) -> Self {
        Self::for_partition(folder, PartitionId(0), limits)
    }

    /// Creates a writer for a partition that has no parts yet.
    pub(in crate::manifest) fn for_partition(folder: &Path, partition: PartitionId, limits: PartLimits) -> Self {
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
    pub(in crate::manifest) fn with_max_disk(self, max_disk: Option<u64>) -> Self {
        Self { max_disk, ..self }
    }

    /// Sets the totals of the other partitions, which count towards the maximum size.
    pub(in crate::manifest) fn set_other_totals(&mut self, elsewhere: PartTotals) {
        self.other_totals = elsewhere;
    }

    /// Returns the total number of rows and bytes.
    pub(in crate::manifest) fn totals(&self) -> PartTotals {
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
    pub(in crate::manifest) fn resume(
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
    pub(in crate::manifest) fn files(&self) -> impl Iterator<Item = PathBuf> {
        (0..part_count(&self.sealed) + u32::from(self.open.is_some()))
            .map(|number| partition_path(&self.folder, self.partition, number))
    }

    /// Syncs all rows so far to disk, and returns the parts to record.
    pub(in crate::manifest) fn checkpoint(&mut self) -> Result<WrittenParts, ManifestError> {
        self.end_block()?;
        let open = self.open.as_ref().map(OpenPart::flush).transpose()?;
        Ok(WrittenParts { sealed: self.sealed.clone(), open })
    }

    /// Adds a row. The caller must have checked that no field is too long.
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

    /// Writes the remaining rows and the end mark. The parts are on disk when this returns.
    pub(in crate::manifest) fn seal(&mut self) -> Result<Vec<ManifestPart>, ManifestError> {
        self.end_block()?;
        self.end_part()?;
        Ok(self.sealed.clone())
    }

    /// Seals a writer in a test.
    #[cfg(test)]
    pub(in crate::manifest) fn finish(mut self) -> Result<Vec<ManifestPart>, ManifestError> {
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
pub(in crate::manifest) fn assemble_parts(
    folder: &Path,
    lanes: &[(PartitionId, Vec<ManifestPart>)],
) -> Result<bool, ManifestError> {
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
                let mut reader = super::super::PartReader::open(path, number, part.rows, 0).unwrap();
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

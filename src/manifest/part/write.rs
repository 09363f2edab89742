//! Writes the parts of a partition.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::HEADER_BYTES;
use super::block::BlockWriter;
use super::pack::{Header, Packer, file_header};
use super::read::is_whole;
use crate::failpoint;
use crate::files::{create_anew, open_own};
use crate::manifest::error::ManifestError;
use crate::manifest::frozen::{PartInfo, keep_only, part_path};

/// The maximum number of rows in blocks and parts; smaller in tests.
#[derive(Clone, Copy, Debug)]
pub(in crate::manifest) struct Limits {
    /// Per block, at most 65,536.
    pub(in crate::manifest) block_rows: usize,
    /// Per part, at most `u32::MAX`.
    pub(in crate::manifest) part_rows: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { block_rows: super::MAX_BLOCK_ROWS, part_rows: 4 << 20 }
    }
}

/// The parts that survive a crash: when writing resumes, the open part is truncated to the recorded length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::manifest) struct Written {
    /// The parts that have their end mark.
    pub(in crate::manifest) sealed: Vec<PartInfo>,
    /// The part after them, as of the last checkpoint.
    pub(in crate::manifest) open: Option<PartInfo>,
}

/// The number of a partition, which tells several writers in one folder apart. Partition 0 has the first parts of the
/// manifest. The parts of other partitions have temporary names until [`settle`] gives them their final ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::manifest) struct Lane(pub(in crate::manifest) u32);

impl Lane {
    /// Returns the path of the partition's part with this number.
    pub(in crate::manifest) fn path(self, folder: &Path, number: u32) -> PathBuf {
        match self.0 {
            0 => part_path(folder, number),
            lane => folder.join(format!("lane-{lane:05}-{number:05}.bpm")),
        }
    }
}

/// Writes the rows of one partition into as many parts as necessary.
pub(in crate::manifest) struct PartsWriter {
    folder: PathBuf,
    lane: Lane,
    limits: Limits,
    block: BlockWriter,
    packer: Packer,
    raw: Vec<u8>,
    packed: Vec<u8>,
    open: Option<OpenPart>,
    done: Vec<PartInfo>,
    /// The maximum size of the parts of all partitions, in bytes.
    max_disk: Option<u64>,
    /// The totals of the other partitions.
    elsewhere: Tally,
}

/// The total number of rows and bytes of some parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::manifest) struct Tally {
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

impl PartsWriter {
    /// Creates a writer for partition 0.
    #[cfg(test)]
    pub(in crate::manifest) fn new(folder: &Path, limits: Limits) -> Self {
        Self::in_lane(folder, Lane(0), limits)
    }

    /// Creates a writer for a partition that has no parts yet.
    pub(in crate::manifest) fn in_lane(folder: &Path, lane: Lane, limits: Limits) -> Self {
        Self {
            folder: folder.to_owned(),
            lane,
            limits,
            block: BlockWriter::default(),
            packer: Packer::new(),
            raw: Vec::new(),
            packed: Vec::new(),
            open: None,
            done: Vec::new(),
            max_disk: None,
            elsewhere: Tally::default(),
        }
    }

    /// Sets the maximum size of all parts, in bytes.
    pub(in crate::manifest) fn within(self, max_disk: Option<u64>) -> Self {
        Self { max_disk, ..self }
    }

    /// Sets the totals of the other partitions, which count towards the maximum size.
    pub(in crate::manifest) fn beside(&mut self, elsewhere: Tally) {
        self.elsewhere = elsewhere;
    }

    /// Returns the total number of rows and bytes.
    pub(in crate::manifest) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for part in self.done.iter().copied().chain(self.open.as_ref().map(OpenPart::info)) {
            tally.rows += u64::from(part.rows);
            tally.bytes += part.bytes;
        }
        let mark = if self.open.is_some() { HEADER_BYTES } else { 0 };
        tally.bytes += u64::try_from(mark).unwrap_or(u64::MAX);
        tally
    }

    /// Resumes after the recorded parts, and truncates what was written later. Returns `None` if the recorded parts are
    /// not all intact. Parts that were started later remain until [`keep_only`] removes them.
    pub(in crate::manifest) fn going_on(
        folder: &Path,
        lane: Lane,
        limits: Limits,
        written: Written,
    ) -> Result<Option<Self>, ManifestError> {
        for (number, part) in (0_u32..).zip(&written.sealed) {
            let path = lane.path(folder, number);
            if length(&path)? != Some(part.bytes) || !is_whole(&path, number, *part, true)? {
                return Ok(None);
            }
        }
        let open = match written.open {
            None => None,
            Some(part) => {
                match OpenPart::reopen(lane.path(folder, count(&written.sealed)), count(&written.sealed), part)? {
                    None => return Ok(None),
                    open => open,
                }
            }
        };
        Ok(Some(Self { open, done: written.sealed, ..Self::in_lane(folder, lane, limits) }))
    }

    /// Returns the paths of the files that it has written.
    pub(in crate::manifest) fn files(&self) -> impl Iterator<Item = PathBuf> {
        (0..count(&self.done) + u32::from(self.open.is_some())).map(|number| self.lane.path(&self.folder, number))
    }

    /// Syncs all rows so far to disk, and returns the parts to record.
    pub(in crate::manifest) fn checkpoint(&mut self) -> Result<Written, ManifestError> {
        self.end_block()?;
        let open = self.open.as_ref().map(OpenPart::flush).transpose()?;
        Ok(Written { sealed: self.done.clone(), open })
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
    pub(in crate::manifest) fn seal(&mut self) -> Result<Vec<PartInfo>, ManifestError> {
        self.end_block()?;
        self.end_part()?;
        Ok(self.done.clone())
    }

    /// Seals a writer in a test.
    #[cfg(test)]
    pub(in crate::manifest) fn finish(mut self) -> Result<Vec<PartInfo>, ManifestError> {
        self.seal()
    }

    fn end_block(&mut self) -> Result<(), ManifestError> {
        let rows = self.block.rows();
        if rows == 0 {
            return Ok(());
        }
        self.block.drain_into(&mut self.raw);
        self.packed.clear();
        let number = count(&self.done);
        let path = self.lane.path(&self.folder, number);
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

    /// Returns an error if the packed block with the file header and end mark would exceed the limit, before any of it
    /// is written.
    fn see_to_room(&self) -> Result<(), ManifestError> {
        let Some(limit) = self.max_disk else { return Ok(()) };
        let (ours, others) = (self.tally(), self.elsewhere);
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
            self.done.push(part.close()?);
            failpoint::reach("part-sealed");
        }
        Ok(())
    }
}

impl OpenPart {
    fn create(path: PathBuf, number: u32) -> Result<Self, ManifestError> {
        let file = create_anew(&path).map_err(|cause| ManifestError::disk("create", &path, cause))?;
        let mut part = Self { path, file, rows: 0, bytes: 0 };
        part.append(&file_header(number), 0)?;
        Ok(part)
    }

    /// Opens a part without end mark, and truncates it to its recorded length. Returns `None` if it is shorter or
    /// damaged.
    fn reopen(path: PathBuf, number: u32, part: PartInfo) -> Result<Option<Self>, ManifestError> {
        if length(&path)?.is_none_or(|found| found < part.bytes) || !is_whole(&path, number, part, false)? {
            return Ok(None);
        }
        let cut = || {
            let mut file = open_own(&path, File::options().write(true))?;
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

/// Gives the sealed parts of several partitions their final names and numbers, in the order given. Can be repeated if
/// it was interrupted. Returns `false` if a part exists under neither name.
pub(in crate::manifest) fn settle(folder: &Path, lanes: &[(Lane, Vec<PartInfo>)]) -> Result<bool, ManifestError> {
    let mut kept = HashSet::new();
    let mut moves = Vec::new();
    for (lane, parts) in lanes {
        for (number, part) in (0_u32..).zip(parts) {
            let (from, place) = (lane.path(folder, number), u32::try_from(kept.len()).unwrap_or(u32::MAX));
            let to = part_path(folder, place);
            // Check the old name first: another part may still have the new name.
            if length(&from)? == Some(part.bytes) {
                if from != to {
                    moves.push((from, to.clone(), place));
                }
            } else if length(&to)? != Some(part.bytes) {
                return Ok(false);
            }
            kept.insert(to);
        }
    }
    for (from, to, place) in moves {
        let renumber = || {
            let mut file = open_own(&from, File::options().write(true))?;
            file.write_all(&file_header(place))?;
            file.sync_all()?;
            fs::rename(&from, &to)
        };
        renumber().map_err(|cause| ManifestError::disk("rename", &from, cause))?;
        failpoint::reach("part-settled");
    }
    keep_only(folder, &kept)?;
    Ok(true)
}

fn count(parts: &[PartInfo]) -> u32 {
    u32::try_from(parts.len()).unwrap_or(u32::MAX)
}

/// Returns the size of a file. Returns `None` if there is no file.
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

    fn going_on(folder: &Path, written: Written) -> Option<PartsWriter> {
        let writer = PartsWriter::going_on(folder, Lane(0), SMALL, written).unwrap()?;
        keep_only(folder, &writer.files().collect()).unwrap();
        Some(writer)
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
            let mut again = going_on(folder.path(), written.clone()).unwrap();
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
            assert!(going_on(folder.path(), written).is_none(), "{part} {bytes:?}");
        }
    }

    #[test]
    fn lanes_are_put_in_order_however_often_that_is_interrupted() {
        let lanes = |folder: &Path| {
            let lane = |number, rows| {
                let mut writer = PartsWriter::in_lane(folder, Lane(number), SMALL);
                push(&mut writer, rows);
                (Lane(number), writer.finish().unwrap())
            };
            // Partition 3 has no rows.
            [lane(0, 0..9), lane(2, 9..30), lane(3, 30..30), lane(1, 30..31)]
        };
        let whole = tempfile::tempdir().unwrap();
        let made = lanes(whole.path());
        assert!(settle(whole.path(), &made).unwrap());
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
                let from = Lane(lane).path(folder.path(), number);
                if place - 2 < moved {
                    fs::copy(part_path(whole.path(), place), part_path(folder.path(), place)).unwrap();
                    fs::remove_file(from).unwrap();
                } else if place - 2 == moved {
                    // Its header was being written.
                    let mut file = File::options().write(true).open(from).unwrap();
                    file.write_all(&file_header(place)[..13]).unwrap();
                }
            }
            assert!(settle(folder.path(), &made).unwrap(), "{moved}");
            assert_eq!(files(folder.path()), files(whole.path()), "{moved}");
            fs::remove_file(part_path(folder.path(), 3)).unwrap();
            assert!(!settle(folder.path(), &made).unwrap());
        }
    }

    #[test]
    fn no_more_is_written_than_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let mut free = PartsWriter::new(folder.path(), SMALL);
        push(&mut free, 0..30);
        let whole: u64 = free.finish().unwrap().iter().map(|part| part.bytes).sum();
        for limit in (0..whole - 30).step_by(11).chain(whole - 30..whole + 3) {
            keep_only(folder.path(), &HashSet::new()).unwrap();
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
        // Every write to this device fails like on a full disk.
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut part = OpenPart { path: part_path(Path::new("folder"), 0), file, rows: 0, bytes: 0 };
        let error = part.append(&file_header(0), 0).unwrap_err();
        let told = error.to_string();
        assert!(told.starts_with("no room on the disk: cannot write ") && told.contains("part-00000.bpm"), "{told}");
        assert!(error.help().unwrap().contains("goes on"), "{error:?}");
    }
}

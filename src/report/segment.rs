//! One file of a report: open while rows are added, sealed when it is full or the job ends.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use md5::{Digest as _, Md5};

use crate::codec::TaskStatus;
use crate::files::{open_regular, with_path};
use crate::report::digest::{self, Md5Digest};
use crate::report::layout;
use crate::report::position::OpenReportFile;
use crate::report::resume::ReportResumeError;

/// The most bytes of rows that are kept in memory before they are written.
const BUFFER: usize = 64 * 1024;

/// A sealed file of a report, which does not change any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSegment {
    /// The index in the order in which the report's files were started, from 0.
    pub number: u32,
    /// Whether the rows of the file are successes or failures.
    pub status: TaskStatus,
    /// The name relative to the report's folder and to the report's root in the bucket, with `/` between its parts.
    pub name: String,
    /// The length in bytes.
    pub bytes: u64,
    /// The number of rows, one per object.
    pub rows: u64,
    /// The MD5 of the content.
    pub md5: Md5Digest,
    /// Whether the file is known to be in its bucket. Only then may the local file be missing.
    pub published: bool,
}

impl ReportSegment {
    /// Returns the path in the report's folder. The file is there unless it was freed.
    #[must_use]
    pub fn path(&self, folder: &Path) -> PathBuf {
        layout::local_path(folder, &self.name)
    }
}

/// Removes the local file of a segment that is in its bucket. Can be repeated.
///
/// First record that the segment is published, in a place that survives a crash: a missing file without such a record
/// counts as lost.
///
/// # Errors
/// Returns an error if the segment is not marked as published, or its file cannot be removed. The message names the
/// file.
pub fn remove_local_file(folder: &Path, segment: &ReportSegment) -> io::Result<()> {
    let path = segment.path(folder);
    if !segment.published {
        let why = format!("{}: not removed, because it may not be published yet", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(with_path(&path)),
    }
}

/// An open report file, shared by its writer and the thread that syncs it.
#[derive(Debug)]
pub(super) struct ReportFileHandle {
    file: File,
    path: PathBuf,
    /// Whether a sync has failed before. The operating system then discards the data that it could not write, and
    /// reports success the next time.
    sync_failed: AtomicBool,
}

impl ReportFileHandle {
    fn new(file: File, path: PathBuf) -> Arc<Self> {
        Arc::new(Self { file, path, sync_failed: AtomicBool::new(false) })
    }

    /// Waits until the content of the file is on disk, so that it survives a crash of the machine.
    ///
    /// Once this has failed, it always fails: only data that an earlier call synced is safe.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.sync_failed.load(Ordering::Acquire) {
            let why = format!("{}: a part of it was not written to disk", self.path.display());
            return Err(io::Error::other(why));
        }
        self.file.sync_data().map_err(|error| {
            self.sync_failed.store(true, Ordering::Release);
            with_path(&self.path)(error)
        })
    }
}

/// A file that rows are added to.
#[derive(Debug)]
pub(super) struct OpenReportSegment {
    number: u32,
    status: TaskStatus,
    name: String,
    handle: Arc<ReportFileHandle>,
    md5: Md5,
    /// The number of bytes handed to the operating system. They are included in `md5`.
    written: u64,
    rows: u64,
    buffer: Vec<u8>,
}

impl OpenReportSegment {
    /// Creates a file. Never overwrites an existing one, which may be all that is left of a job.
    pub(super) fn create(folder: &Path, number: u32, name: String, status: TaskStatus) -> io::Result<Self> {
        let path = layout::local_path(folder, &name);
        let file = File::create_new(&path).map_err(with_path(&path))?;
        let handle = ReportFileHandle::new(file, path);
        let buffer = Vec::with_capacity(BUFFER);
        Ok(Self { number, status, name, handle, md5: Md5::new(), written: 0, rows: 0, buffer })
    }

    /// Opens a file to continue at its recorded length, and reads the content before that once. Does not change the
    /// file yet.
    ///
    /// # Errors
    /// Returns an error if the file is missing, is shorter than recorded, or has different content.
    pub(super) fn resume(folder: &Path, recorded: &OpenReportFile) -> Result<Self, ReportResumeError> {
        let path = layout::local_path(folder, &recorded.name);
        let bytes = recorded.bytes;
        let mut file = match open_regular(&path, File::options().read(true).write(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ReportResumeError::Missing { path, bytes });
            }
            opened => opened.map_err(with_path(&path))?,
        };
        let (found, md5) = digest::digest_all(&mut (&mut file).take(bytes)).map_err(with_path(&path))?;
        if found != bytes {
            return Err(ReportResumeError::Changed { path, found, bytes });
        }
        if let Some(recorded) = recorded.md5.filter(|recorded| *recorded != Md5Digest::of(&md5)) {
            return Err(ReportResumeError::Damaged { path, found: Md5Digest::of(&md5), recorded });
        }
        Ok(Self {
            number: recorded.number,
            status: recorded.status,
            name: recorded.name.clone(),
            handle: ReportFileHandle::new(file, path),
            md5,
            written: bytes,
            rows: recorded.rows,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Truncates the file to the recorded length.
    pub(super) fn truncate(&self) -> io::Result<()> {
        self.handle.file.set_len(self.written).map_err(with_path(&self.handle.path))
    }

    /// Returns the length in bytes, including rows in memory.
    pub(super) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds one row. After an error, the row is not part of the file and can be added again.
    pub(super) fn push_row(&mut self, row: &[u8]) -> io::Result<()> {
        if self.buffer.len() + row.len() > BUFFER {
            self.write_buffer()?;
        }
        self.buffer.extend_from_slice(row);
        self.rows += 1;
        Ok(())
    }

    /// Writes all rows in memory to the file, without syncing it.
    ///
    /// After an error, everything written before is intact, and the next call writes everything that is missing.
    pub(super) fn write_buffer(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut file = &self.handle.file;
        // A write that failed halfway (a full disk) has left part of the block: start again at the same offset.
        file.seek(SeekFrom::Start(self.written))
            .and_then(|_| file.write_all(&self.buffer))
            .map_err(with_path(&self.handle.path))?;
        self.md5.update(&self.buffer);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Returns what a checkpoint records about the file, right after [`write_buffer`](Self::write_buffer).
    pub(super) fn to_open_file(&self) -> OpenReportFile {
        OpenReportFile {
            number: self.number,
            status: self.status,
            name: self.name.clone(),
            bytes: self.written,
            rows: self.rows,
            md5: Some(Md5Digest::of(&self.md5)),
        }
    }

    /// Returns the sealed file, if nothing was added since the last [`write_buffer`](Self::write_buffer).
    pub(super) fn to_segment(&self) -> ReportSegment {
        ReportSegment {
            number: self.number,
            status: self.status,
            name: self.name.clone(),
            bytes: self.written,
            rows: self.rows,
            md5: Md5Digest::of(&self.md5),
            published: false,
        }
    }

    /// Returns the file handle, for syncing.
    pub(super) fn handle(&self) -> Arc<ReportFileHandle> {
        Arc::clone(&self.handle)
    }

    /// Replaces the file, to test write errors.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) -> File {
        let other = ReportFileHandle::new(file, self.handle.path.clone());
        Arc::try_unwrap(std::mem::replace(&mut self.handle, other)).unwrap().file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/dev/null` accepts every byte and cannot be synced.
    #[cfg(target_os = "linux")]
    #[test]
    fn sync_fails_forever_after_one_failure() {
        let folder = tempfile::tempdir().unwrap();
        let good = File::create(folder.path().join("f")).unwrap();
        let mut handle = ReportFileHandle { file: good, path: PathBuf::from("f"), sync_failed: AtomicBool::new(false) };
        handle.sync().unwrap();
        let good = std::mem::replace(&mut handle.file, File::options().write(true).open("/dev/null").unwrap());
        assert!(handle.sync().unwrap_err().to_string().starts_with("f: "));
        handle.file = good;
        assert_eq!(handle.sync().unwrap_err().to_string(), "f: a part of it was not written to disk");
    }

    #[test]
    fn only_a_published_file_is_freed() {
        let folder = tempfile::tempdir().unwrap();
        let mut segment = ReportSegment {
            number: 3,
            status: TaskStatus::Failed,
            name: "report-3.csv".to_owned(),
            bytes: 1,
            rows: 1,
            md5: Md5Digest::of(&Md5::new()),
            published: false,
        };
        fs::write(segment.path(folder.path()), "x").unwrap();
        assert!(
            remove_local_file(folder.path(), &segment).unwrap_err().to_string().contains("report-3.csv: not removed")
        );
        assert!(segment.path(folder.path()).exists());
        segment.published = true;
        for _ in 0..2 {
            remove_local_file(folder.path(), &segment).unwrap();
            assert!(!segment.path(folder.path()).exists());
        }
    }
}

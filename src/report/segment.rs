//! One file of a report: open while rows come, sealed when it is full or the job is over.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use md5::{Digest as _, Md5};

use crate::codec::TaskStatus;
use crate::files::{about, open_own};
use crate::report::digest::{self, Digest};
use crate::report::layout;
use crate::report::position::OpenFile;
use crate::report::reopen::ReopenError;

/// How many bytes of rows are kept in memory before they are written.
const BUFFER: usize = 64 * 1024;

/// A sealed file of a report: it does not change any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its place in the order in which the report's files were begun, from 0.
    pub number: u32,
    /// What its rows tell of.
    pub status: TaskStatus,
    /// Its name below the report's folder and below the report's root alike, with `/` between its parts.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// How many objects it tells of.
    pub rows: u64,
    /// The MD5 of its content.
    pub md5: Digest,
    /// Whether it is known to be in its bucket. Only then may it be missing in the folder.
    pub published: bool,
}

impl Segment {
    /// Where it lies in the report's folder, unless it was freed.
    #[must_use]
    pub fn path(&self, folder: &Path) -> PathBuf {
        layout::local_path(folder, &self.name)
    }
}

/// Removes the local file of a segment that is in its bucket. Harmless to repeat.
///
/// Whoever calls it has recorded that the segment is published where that survives a crash: a file that is missing
/// without such a record is a lost one.
///
/// # Errors
/// When the segment is not marked as published, or its file cannot be removed; the message names it.
pub fn free(folder: &Path, segment: &Segment) -> io::Result<()> {
    let path = segment.path(folder);
    if !segment.published {
        let why = format!("{}: stays, because it is not known to be in its bucket", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(about(&path)),
    }
}

/// A report file in the system's hands, shared by who writes it and who makes it survive a crash.
#[derive(Debug)]
pub(super) struct Handle {
    file: File,
    path: PathBuf,
    /// Whether the system once failed to bring it to the disk. It then forgets what it could not write, and would
    /// say that all is well the next time.
    lost: AtomicBool,
}

impl Handle {
    fn new(file: File, path: PathBuf) -> Arc<Self> {
        Arc::new(Self { file, path, lost: AtomicBool::new(false) })
    }

    /// Makes what is in the file survive a crash of the machine. It may take as long as the disk does.
    ///
    /// Where that fails once, it fails ever after: only what an earlier call made safe can be relied on.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.lost.load(Ordering::Acquire) {
            let why = format!("{}: a part of it did not reach the disk", self.path.display());
            return Err(io::Error::other(why));
        }
        self.file.sync_data().map_err(|error| {
            self.lost.store(true, Ordering::Release);
            about(&self.path)(error)
        })
    }
}

/// A file that rows are added to.
#[derive(Debug)]
pub(super) struct OpenSegment {
    number: u32,
    status: TaskStatus,
    name: String,
    handle: Arc<Handle>,
    md5: Md5,
    /// Bytes that the system has taken, and that are in `md5`.
    written: u64,
    rows: u64,
    buffer: Vec<u8>,
}

impl OpenSegment {
    /// Begins a file. One that is already there is never overwritten: it may be all that is left of a job.
    pub(super) fn begin(folder: &Path, number: u32, name: String, status: TaskStatus) -> io::Result<Self> {
        let path = layout::local_path(folder, &name);
        let file = File::create_new(&path).map_err(about(&path))?;
        let handle = Handle::new(file, path);
        let buffer = Vec::with_capacity(BUFFER);
        Ok(Self { number, status, name, handle, md5: Md5::new(), written: 0, rows: 0, buffer })
    }

    /// Opens a file to go on at its recorded length, and reads what is before that once. Nothing of it is changed yet.
    ///
    /// # Errors
    /// When it is missing, shorter than was recorded, or holds something else.
    pub(super) fn reopen(folder: &Path, recorded: &OpenFile) -> Result<Self, ReopenError> {
        let path = layout::local_path(folder, &recorded.name);
        let bytes = recorded.bytes;
        let mut file = match open_own(&path, File::options().read(true).write(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReopenError::Missing { path, bytes }),
            opened => opened.map_err(about(&path))?,
        };
        let (found, md5) = digest::absorb(&mut (&mut file).take(bytes)).map_err(about(&path))?;
        if found != bytes {
            return Err(ReopenError::Changed { path, found, bytes });
        }
        if let Some(recorded) = recorded.md5.filter(|recorded| *recorded != Digest::of(&md5)) {
            return Err(ReopenError::Damaged { path, found: Digest::of(&md5), recorded });
        }
        Ok(Self {
            number: recorded.number,
            status: recorded.status,
            name: recorded.name.clone(),
            handle: Handle::new(file, path),
            md5,
            written: bytes,
            rows: recorded.rows,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Cuts off what is behind the recorded length.
    pub(super) fn cut(&self) -> io::Result<()> {
        self.handle.file.set_len(self.written).map_err(about(&self.handle.path))
    }

    /// Its length, rows in memory included.
    pub(super) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds one row. After an error it is not part of the file and may be added again.
    pub(super) fn push(&mut self, row: &[u8]) -> io::Result<()> {
        if self.buffer.len() + row.len() > BUFFER {
            self.write_out()?;
        }
        self.buffer.extend_from_slice(row);
        self.rows += 1;
        Ok(())
    }

    /// Hands everything so far to the system, which need not have it on the disk yet.
    ///
    /// After an error nothing that was written before is damaged, and the next try writes all that is missing.
    pub(super) fn write_out(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut file = &self.handle.file;
        // A write that failed half-way (a full disk) has left a piece of the block behind: start again at its place.
        file.seek(SeekFrom::Start(self.written))
            .and_then(|_| file.write_all(&self.buffer))
            .map_err(about(&self.handle.path))?;
        self.md5.update(&self.buffer);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// What the file is right after [`write_out`](Self::write_out).
    pub(super) fn recorded(&self) -> OpenFile {
        OpenFile {
            number: self.number,
            status: self.status,
            name: self.name.clone(),
            bytes: self.written,
            rows: self.rows,
            md5: Some(Digest::of(&self.md5)),
        }
    }

    /// What the file is when nothing comes after the last [`write_out`](Self::write_out).
    pub(super) fn sealed(&self) -> Segment {
        Segment {
            number: self.number,
            status: self.status,
            name: self.name.clone(),
            bytes: self.written,
            rows: self.rows,
            md5: Digest::of(&self.md5),
            published: false,
        }
    }

    /// The file, for who makes it survive a crash.
    pub(super) fn handle(&self) -> Arc<Handle> {
        Arc::clone(&self.handle)
    }

    /// Puts another file in its place, to see what a failing one does.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) -> File {
        let other = Handle::new(file, self.handle.path.clone());
        Arc::try_unwrap(std::mem::replace(&mut self.handle, other)).unwrap().file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/dev/null` takes every byte and cannot bring one to a disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_once_did_not_reach_the_disk_is_never_called_safe() {
        let folder = tempfile::tempdir().unwrap();
        let good = File::create(folder.path().join("f")).unwrap();
        let mut handle = Handle { file: good, path: PathBuf::from("f"), lost: AtomicBool::new(false) };
        handle.sync().unwrap();
        let good = std::mem::replace(&mut handle.file, File::options().write(true).open("/dev/null").unwrap());
        assert!(handle.sync().unwrap_err().to_string().starts_with("f: "));
        handle.file = good;
        assert_eq!(handle.sync().unwrap_err().to_string(), "f: a part of it did not reach the disk");
    }

    #[test]
    fn only_a_published_file_is_freed() {
        let folder = tempfile::tempdir().unwrap();
        let mut segment = Segment {
            number: 3,
            status: TaskStatus::Failed,
            name: "report-3.csv".to_owned(),
            bytes: 1,
            rows: 1,
            md5: Digest::of(&Md5::new()),
            published: false,
        };
        fs::write(segment.path(folder.path()), "x").unwrap();
        assert!(free(folder.path(), &segment).unwrap_err().to_string().contains("report-3.csv: stays"));
        assert!(segment.path(folder.path()).exists());
        segment.published = true;
        for _ in 0..2 {
            free(folder.path(), &segment).unwrap();
            assert!(!segment.path(folder.path()).exists());
        }
    }
}

//! One file of a report: open while rows come, sealed when it is full or the job is over.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

use crate::codec::TaskStatus;
use crate::files::about;
use crate::report::digest::Digest;
use crate::report::layout;

/// How many bytes of rows are kept in memory before they are written.
const BUFFER: usize = 64 * 1024;

/// A sealed file of a report: it does not change any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
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
}

/// A file that rows are added to.
#[derive(Debug)]
pub(super) struct OpenSegment {
    number: u32,
    status: TaskStatus,
    name: String,
    path: PathBuf,
    file: File,
    md5: Md5,
    /// Bytes that are in the file for certain, and in `md5`.
    written: u64,
    rows: u64,
    buffer: Vec<u8>,
}

impl OpenSegment {
    /// Begins a file. One that is already there is never overwritten: it may be all that is left of a job.
    pub(super) fn begin(folder: &Path, number: u32, name: String, status: TaskStatus) -> io::Result<Self> {
        let path = layout::local_path(folder, &name);
        let file = File::create_new(&path).map_err(about(&path))?;
        let buffer = Vec::with_capacity(BUFFER);
        Ok(Self { number, status, name, path, file, md5: Md5::new(), written: 0, rows: 0, buffer })
    }

    /// The file's place in the order in which the report's files were begun.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The file's name.
    pub(super) fn name(&self) -> &str {
        &self.name
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

    /// Makes everything so far survive a crash of the machine.
    pub(super) fn persist(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.file.sync_data().map_err(about(&self.path))
    }

    /// What the file is once it is [persisted](Self::persist).
    pub(super) fn sealed(&self) -> Segment {
        Segment {
            status: self.status,
            name: self.name.clone(),
            bytes: self.written,
            rows: self.rows,
            md5: Digest::of(&self.md5),
        }
    }

    /// Puts another file in its place, to see what a failing one does.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        // A write that failed half-way (a full disk) has left a piece of the block behind: start again at its place.
        self.file
            .seek(SeekFrom::Start(self.written))
            .and_then(|_| self.file.write_all(&self.buffer))
            .map_err(about(&self.path))?;
        self.md5.update(&self.buffer);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

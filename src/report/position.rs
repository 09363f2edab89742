//! How far a report has come: what a checkpoint records, and what a resumed job starts from.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::codec::TaskStatus;
use crate::files::{about, sync_folder};
use crate::report::digest::Digest;
use crate::report::segment::{Handle, Segment};

/// What a checkpoint records of a report: the open files, and what was sealed since an earlier one.
///
/// Each file has its number, so that a journal can keep one row for each and replace it by what comes later: an open
/// file grows until it is sealed, and a sealed one does not change. A file that is told of again is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The files that rows are still added to, at most one of each status.
    pub open: Vec<OpenFile>,
    /// The files sealed since, in the order in which they were sealed.
    pub sealed: Vec<Segment>,
    /// How many files are sealed in all: what [`ReportWriter::flush`](crate::report::ReportWriter::flush) wants to know
    /// the next time, once this position is recorded.
    pub sealed_in_all: usize,
}

/// A file that rows are still added to, as a checkpoint records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Its place in the order in which the report's files were begun, from 0.
    pub number: u32,
    /// What its rows tell of.
    pub status: TaskStatus,
    /// Its name, as [`Segment::name`].
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// How many objects it tells of.
    pub rows: u64,
    /// The MD5 of so much of it; `None` where an earlier build recorded none.
    pub md5: Option<Digest>,
}

/// All that was recorded of a report: the open files of the last [`Position`], and what all of them sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportState {
    /// The files that rows were still added to.
    pub open: Vec<OpenFile>,
    /// The files that do not change any more, in any order.
    pub sealed: Vec<Segment>,
}

/// Rows that the system has and the disk may not have yet. Nothing in it points back to the writer, which can go on.
#[must_use = "a position may be recorded only once it is synced"]
#[derive(Debug)]
pub struct Flushed {
    pub(super) position: Position,
    pub(super) files: Vec<Arc<Handle>>,
    pub(super) folders: Vec<PathBuf>,
}

impl Flushed {
    /// Makes all that the position tells of survive a crash of the machine, and returns it to be recorded. It takes as
    /// long as the disk does: not for a thread that others wait for.
    ///
    /// # Errors
    /// When the system could not bring a file to the disk; the message names it. The position must then not be
    /// recorded, nor will a later one be that needs the same file: the job goes on from the last that was.
    pub fn sync(self) -> io::Result<Position> {
        self.files.iter().try_for_each(|file| file.sync())?;
        self.folders.iter().try_for_each(|folder| sync_folder(folder).map_err(about(folder)))?;
        Ok(self.position)
    }
}

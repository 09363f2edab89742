//! The progress of a report, which a checkpoint records and a resumed job starts from.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::codec::TaskStatus;
use crate::files::{sync_folder, with_path};
use crate::report::digest::Md5Digest;
use crate::report::segment::{ReportFileHandle, ReportSegment};

/// What a checkpoint records about a report: the open files, and the files sealed since an earlier checkpoint.
///
/// Each file has a number, so that a journal can keep one row per file and replace it by a later one: an open file
/// grows until it is sealed, and a sealed file does not change. A sealed file that is included again is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportPosition {
    /// The files that rows are still added to, at most one per status.
    pub open: Vec<OpenReportFile>,
    /// The files sealed since then, in the order in which they were sealed.
    pub sealed: Vec<ReportSegment>,
    /// The total number of sealed files. Pass it to the next
    /// [`ReportWriter::flush`](crate::report::ReportWriter::flush) once this position is recorded.
    pub total_sealed: usize,
}

/// A file that rows are still added to, as a checkpoint records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReportFile {
    /// The index in the order in which the report's files were started, from 0.
    pub number: u32,
    /// Whether the rows of the file are successes or failures.
    pub status: TaskStatus,
    /// The name, as in [`ReportSegment::name`].
    pub name: String,
    /// The length in bytes.
    pub bytes: u64,
    /// The number of rows, one per object.
    pub rows: u64,
    /// The MD5 of the first `bytes` bytes, or `None` if an earlier build recorded none.
    pub md5: Option<Md5Digest>,
}

/// Everything that was recorded about a report: the open files of the last [`ReportPosition`], and the sealed files
/// of all positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedReport {
    /// The files that rows were still added to.
    pub open: Vec<OpenReportFile>,
    /// The sealed files, in any order.
    pub sealed: Vec<ReportSegment>,
}

/// Rows that were handed to the operating system and may not be on disk yet. This holds no reference to the writer,
/// which can continue.
#[must_use = "a position may be recorded only once it is synced"]
#[derive(Debug)]
pub struct UnsyncedReportPosition {
    pub(super) position: ReportPosition,
    pub(super) files: Vec<Arc<ReportFileHandle>>,
    pub(super) folders: Vec<PathBuf>,
}

impl UnsyncedReportPosition {
    /// Waits until everything in the position is on disk, so that it survives a crash of the machine, and returns the
    /// position to be recorded. This takes as long as the disk does: do not call it on a thread that others wait for.
    ///
    /// # Errors
    /// Returns an error if the operating system cannot write a file to disk. The message names it. The position must
    /// then not be recorded. Later positions that need the same file fail too: the job resumes from the last recorded
    /// position.
    pub fn sync(self) -> io::Result<ReportPosition> {
        self.files.iter().try_for_each(|file| file.sync())?;
        self.folders.iter().try_for_each(|folder| sync_folder(folder).map_err(with_path(folder)))?;
        Ok(self.position)
    }
}

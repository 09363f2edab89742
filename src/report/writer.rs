//! Where a running job writes what became of each object.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};

use crate::codec::{Naming, RowEncoder, TaskStatus};
use crate::completion::{ReportFormat, ReportScope, ReportSpec};
use crate::files::{about, sync_folder};
use crate::job::JobId;
use crate::object::ObjectId;
use crate::report::layout;
use crate::report::segment::{OpenSegment, Segment};
use crate::task::Outcome;

/// When a file is full: 256 MiB, small enough to be uploaded in one request and sent again without regret.
pub const ROTATE_AT: u64 = 256 * 1024 * 1024;

/// Writes a report's rows into files of at most so many bytes, success and failure apart.
///
/// A file is begun when its first row comes. After an error nothing is lost and nothing is written twice: the row that
/// [`record`](Self::record) refused may be recorded again.
#[derive(Debug)]
pub struct ReportWriter {
    folder: PathBuf,
    format: ReportFormat,
    scope: ReportScope,
    job: JobId,
    rotate_at: u64,
    encoder: RowEncoder,
    row: Vec<u8>,
    begun: u32,
    succeeded: Option<OpenSegment>,
    failed: Option<OpenSegment>,
    sealed: BTreeMap<u32, Segment>,
}

/// How far a report has come. What a checkpoint records, right after [`ReportWriter::persist`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The files that rows are still added to, at most one of each status.
    pub open: Vec<OpenLength>,
    /// The files that do not change any more, in the order in which they were begun.
    pub sealed: Vec<Segment>,
}

/// An open file's length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLength {
    /// Its name, as [`Segment::name`].
    pub name: String,
    /// Bytes, rows still in memory included.
    pub bytes: u64,
}

impl ReportWriter {
    /// A report of `job` in `folder`, which is made where it is missing. `rotate_at` is how many bytes fill a file; only
    /// a single row that is longer makes a longer one.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn create(folder: &Path, spec: &ReportSpec, job: &JobId, naming: Naming, rotate_at: u64) -> io::Result<Self> {
        let deepest = match layout::subfolder(spec.format) {
            Some(name) => folder.join(name),
            None => folder.to_owned(),
        };
        fs::create_dir_all(&deepest).map_err(about(&deepest))?;
        Ok(Self {
            folder: folder.to_owned(),
            format: spec.format,
            scope: spec.scope,
            job: job.clone(),
            rotate_at,
            encoder: RowEncoder::new(spec.format, naming),
            row: Vec::new(),
            begun: 0,
            succeeded: None,
            failed: None,
            sealed: BTreeMap::new(),
        })
    }

    /// Adds what became of one object, where the report's scope lists it.
    ///
    /// # Errors
    /// When a file cannot be begun, written or sealed; the message names it. The row is then not in the report.
    pub fn record(&mut self, object: &ObjectId, outcome: &Outcome) -> io::Result<()> {
        let status = TaskStatus::of(outcome);
        if self.scope == ReportScope::FailedTasksOnly && status == TaskStatus::Succeeded {
            return Ok(());
        }
        let mut row = mem::take(&mut self.row);
        row.clear();
        let encoded = self.encoder.encode(object, outcome, &mut row);
        let added = encoded.and_then(|()| self.segment_for(status, row.len())?.push(&row));
        self.row = row;
        added
    }

    /// Makes every row so far survive a crash, so that [`position`](Self::position) may be relied on after it.
    ///
    /// # Errors
    /// When a file cannot be written; the message names it.
    pub fn persist(&mut self) -> io::Result<()> {
        for segment in [&mut self.succeeded, &mut self.failed].into_iter().flatten() {
            segment.persist()?;
        }
        self.sync_folders()
    }

    /// How far the report has come.
    #[must_use]
    pub fn position(&self) -> Position {
        let open = [&self.succeeded, &self.failed].into_iter().flatten();
        Position {
            open: open.map(|file| OpenLength { name: file.name().to_owned(), bytes: file.len() }).collect(),
            sealed: self.sealed.values().cloned().collect(),
        }
    }

    /// Seals what is open and returns every file of the report in the order in which they were begun.
    ///
    /// It cannot be tried again: whoever wants to wait for a disk to be freed does so with [`persist`](Self::persist)
    /// first.
    ///
    /// # Errors
    /// When a file cannot be written; the message names it.
    pub fn finish(mut self) -> io::Result<Vec<Segment>> {
        // Both, whatever becomes of the one: rows that are still in memory are lost with this writer.
        let succeeded = self.seal(TaskStatus::Succeeded);
        self.seal(TaskStatus::Failed).and(succeeded)?;
        self.sync_folders()?;
        Ok(self.sealed.into_values().collect())
    }

    /// The file that the next row of this length goes to.
    fn segment_for(&mut self, status: TaskStatus, row: usize) -> io::Result<&mut OpenSegment> {
        let rotate_at = self.rotate_at;
        let full = |file: &OpenSegment| file.len() > 0 && file.len() + row as u64 > rotate_at;
        if self.slot(status).as_ref().is_some_and(full) {
            self.seal(status)?;
        }
        let open = match self.slot(status).take() {
            Some(open) => open,
            None => self.begin(status)?,
        };
        Ok(self.slot(status).insert(open))
    }

    fn begin(&mut self, status: TaskStatus) -> io::Result<OpenSegment> {
        let name = layout::segment_name(self.format, &self.job, self.begun);
        let segment = OpenSegment::begin(&self.folder, self.begun, name, status)?;
        self.begun += 1;
        Ok(segment)
    }

    fn seal(&mut self, status: TaskStatus) -> io::Result<()> {
        let Some(open) = self.slot(status) else { return Ok(()) };
        open.persist()?;
        let (number, segment) = (open.number(), open.sealed());
        *self.slot(status) = None;
        self.sealed.insert(number, segment);
        Ok(())
    }

    fn slot(&mut self, status: TaskStatus) -> &mut Option<OpenSegment> {
        match status {
            TaskStatus::Succeeded => &mut self.succeeded,
            TaskStatus::Failed => &mut self.failed,
        }
    }

    fn sync_folders(&self) -> io::Result<()> {
        if let Some(name) = layout::subfolder(self.format) {
            let folder = self.folder.join(name);
            sync_folder(&folder).map_err(about(&folder))?;
        }
        sync_folder(&self.folder).map_err(about(&self.folder))
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;

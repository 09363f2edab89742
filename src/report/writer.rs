//! Where a running job writes what became of each object.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::{Naming, RowEncoder, TaskStatus};
use crate::completion::{ReportFormat, ReportScope, ReportSpec};
use crate::files::{about, create_own_folder, sync_folder};
use crate::job::JobId;
use crate::object::ObjectId;
use crate::report::layout;
use crate::report::position::{Flushed, Position};
use crate::report::segment::{Handle, OpenSegment, Segment};
use crate::task::Outcome;

/// When a file is full: 256 MiB, small enough to be uploaded in one request and sent again without regret.
pub const ROTATE_AT: u64 = 256 * 1024 * 1024;

/// Writes a report's rows into files of at most so many bytes, success and failure apart.
///
/// A file is begun when its first row comes. After an error nothing is lost and nothing is written twice: the row that
/// [`record`](Self::record) refused may be recorded again.
///
/// A checkpoint is [`flush`](Self::flush), then [`Flushed::sync`] on another thread, then the recording of what that
/// returns; [`reopen`](Self::reopen) goes on from the last that was recorded.
#[derive(Debug)]
pub struct ReportWriter {
    folder: PathBuf,
    format: ReportFormat,
    scope: ReportScope,
    job: JobId,
    rotate_at: u64,
    encoder: RowEncoder,
    row: Vec<u8>,
    pub(super) begun: u32,
    pub(super) succeeded: Option<OpenSegment>,
    pub(super) failed: Option<OpenSegment>,
    /// In the order in which they were sealed.
    pub(super) sealed: Vec<Segment>,
    /// The files of the last of `sealed`: those of which nobody said yet that they are recorded, and hence synced.
    unrecorded: VecDeque<Arc<Handle>>,
}

impl ReportWriter {
    /// A report of `job` in `folder`, which is made where it is missing. `rotate_at` is how many bytes fill a file; only
    /// a single row that is longer makes a longer one.
    ///
    /// # Errors
    /// When the folder cannot be made, or made to survive a crash.
    pub fn create(folder: &Path, spec: &ReportSpec, job: &JobId, naming: Naming, rotate_at: u64) -> io::Result<Self> {
        let inner = layout::subfolder(spec.format).map(|name| folder.join(name));
        for made in [Some(folder), inner.as_deref()].into_iter().flatten() {
            create_own_folder(made).map_err(about(made))?;
        }
        // The files' names are synced with the files; that of the folder they are in would be nobody's.
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent).map_err(about(parent))?;
        }
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
            sealed: Vec::new(),
            unrecorded: VecDeque::new(),
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

    /// Hands every row so far to the system and says where the report stands, without waiting for the disk.
    ///
    /// `known_sealed` is how many sealed files are recorded, [`Position::sealed_in_all`] of the last position that is:
    /// the new one tells only of the others. After [`reopen`](Self::reopen) it is the length of
    /// [`ReportState::sealed`](crate::report::ReportState::sealed).
    ///
    /// # Errors
    /// When a file cannot be written; the message names it. Nothing is lost: once there is room again, so it goes on.
    pub fn flush(&mut self, known_sealed: usize) -> io::Result<Flushed> {
        for segment in [&mut self.succeeded, &mut self.failed].into_iter().flatten() {
            segment.write_out()?;
        }
        let known = known_sealed.min(self.sealed.len());
        while self.unrecorded.len() > self.sealed.len() - known {
            self.unrecorded.pop_front();
        }
        let open = || [&self.succeeded, &self.failed].into_iter().flatten();
        let position = Position {
            open: open().map(OpenSegment::recorded).collect(),
            sealed: self.sealed[known..].to_vec(),
            sealed_in_all: self.sealed.len(),
        };
        let files = self.unrecorded.iter().cloned().chain(open().map(OpenSegment::handle)).collect();
        Ok(Flushed { position, files, folders: self.folders() })
    }

    /// Makes every row so far survive a crash. It waits for the disk.
    ///
    /// # Errors
    /// When a file cannot be written; the message names it.
    pub fn persist(&mut self) -> io::Result<()> {
        let recorded = self.sealed.len() - self.unrecorded.len();
        self.flush(recorded)?.sync().map(|_| ())
    }

    /// Notes that a sealed file is in its bucket, so that [`finish`](Self::finish) and later positions say so.
    pub fn mark_published(&mut self, number: u32) {
        if let Some(segment) = self.sealed.iter_mut().find(|segment| segment.number == number) {
            segment.published = true;
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
        let failed = self.seal(TaskStatus::Failed);
        let files = mem::take(&mut self.unrecorded).into();
        let synced = Flushed { position: Position::default(), files, folders: self.folders() }.sync();
        succeeded.and(failed).and(synced)?;
        self.sealed.sort_by_key(|segment| segment.number);
        Ok(self.sealed)
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

    /// Ends a file without waiting for the disk: the next [`Flushed::sync`] does.
    fn seal(&mut self, status: TaskStatus) -> io::Result<()> {
        let Some(open) = self.slot(status) else { return Ok(()) };
        open.write_out()?;
        let (segment, handle) = (open.sealed(), open.handle());
        *self.slot(status) = None;
        self.sealed.push(segment);
        self.unrecorded.push_back(handle);
        Ok(())
    }

    pub(super) fn slot(&mut self, status: TaskStatus) -> &mut Option<OpenSegment> {
        match status {
            TaskStatus::Succeeded => &mut self.succeeded,
            TaskStatus::Failed => &mut self.failed,
        }
    }

    /// The folders that hold the names of the files, the deepest first.
    fn folders(&self) -> Vec<PathBuf> {
        let below = layout::subfolder(self.format).map(|name| self.folder.join(name));
        below.into_iter().chain([self.folder.clone()]).collect()
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;

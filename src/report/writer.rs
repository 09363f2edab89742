//! Writes the outcome of each object while a job runs.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batchplan_store::object::ObjectId;
use batchplan_store::task::TaskOutcome;

use crate::codec::{OperationNaming, ReportRowEncoder, TaskStatus};
use crate::completion::{ReportFormat, ReportScope, ReportSpec};
use crate::files::{create_folder, sync_folder, with_path};
use crate::job::JobId;
use crate::report::layout;
use crate::report::position::{ReportPosition, UnsyncedReportPosition};
use crate::report::segment::{OpenReportSegment, ReportFileHandle, ReportSegment};

/// The size at which a file is full: 256 MiB. This is small enough to upload in one request, and to send again
/// cheaply.
pub const ROTATE_AT: u64 = 256 * 1024 * 1024;

/// Writes the rows of a report into files of limited size, with success and failure in separate files.
///
/// A file is started by its first row. After an error, nothing is lost and nothing is written twice: a row that
/// [`record`](Self::record) refused can be recorded again.
///
/// A checkpoint consists of [`flush`](Self::flush), then [`UnsyncedReportPosition::sync`] on another thread, then
/// recording the position that it returns. [`resume`](Self::resume) resumes from the last recorded position.
#[derive(Debug)]
pub struct ReportWriter {
    folder: PathBuf,
    format: ReportFormat,
    scope: ReportScope,
    job: JobId,
    rotate_at: u64,
    encoder: ReportRowEncoder,
    row: Vec<u8>,
    pub(super) started: u32,
    pub(super) succeeded: Option<OpenReportSegment>,
    pub(super) failed: Option<OpenReportSegment>,
    /// In the order in which they were sealed.
    pub(super) sealed: Vec<ReportSegment>,
    /// The last files of `to_segment`: those not known to be recorded, and therefore perhaps not synced.
    unrecorded: VecDeque<Arc<ReportFileHandle>>,
}

impl ReportWriter {
    /// Creates a report of `job` in `folder`, which is created if it is missing. `rotate_at` is the size in bytes at
    /// which a file is full. Only a single longer row makes a longer file.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be created or synced.
    pub fn create(
        folder: &Path,
        spec: &ReportSpec,
        job: &JobId,
        naming: OperationNaming,
        rotate_at: u64,
    ) -> io::Result<Self> {
        let inner = layout::subfolder(spec.format).map(|name| folder.join(name));
        for made in [Some(folder), inner.as_deref()].into_iter().flatten() {
            create_folder(made).map_err(with_path(made))?;
        }
        // Each folder's entries are synced with the files. The entry of the folder itself has to be synced here.
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent).map_err(with_path(parent))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            format: spec.format,
            scope: spec.scope,
            job: job.clone(),
            rotate_at,
            encoder: ReportRowEncoder::new(spec.format, naming),
            row: Vec::new(),
            started: 0,
            succeeded: None,
            failed: None,
            sealed: Vec::new(),
            unrecorded: VecDeque::new(),
        })
    }

    /// Adds the outcome of one object, if the report's scope includes it.
    ///
    /// # Errors
    /// Returns an error if a file cannot be created, written or sealed. The message names it. The row is then not in
    /// the report.
    pub fn record(&mut self, object: &ObjectId, outcome: &TaskOutcome) -> io::Result<()> {
        let status = TaskStatus::of(outcome);
        if self.scope == ReportScope::FailedTasksOnly && status == TaskStatus::Succeeded {
            return Ok(());
        }
        let mut row = mem::take(&mut self.row);
        row.clear();
        let encoded = self.encoder.encode(object, outcome, &mut row);
        let added = encoded.and_then(|()| self.segment_for(status, row.len())?.push_row(&row));
        self.row = row;
        added
    }

    /// Hands all rows so far to the operating system and returns the position of the report, without waiting for the
    /// disk.
    ///
    /// `known_sealed` is the number of sealed files that are recorded: [`ReportPosition::total_sealed`] of the last
    /// recorded position. The new position includes only the other sealed files. After [`resume`](Self::resume), it
    /// is the length of [`RecordedReport::sealed`](crate::report::RecordedReport::sealed).
    ///
    /// # Errors
    /// Returns an error if a file cannot be written. The message names it. Nothing is lost: try again once there is
    /// space.
    pub fn flush(&mut self, known_sealed: usize) -> io::Result<UnsyncedReportPosition> {
        for segment in [&mut self.succeeded, &mut self.failed].into_iter().flatten() {
            segment.write_buffer()?;
        }
        let known = known_sealed.min(self.sealed.len());
        while self.unrecorded.len() > self.sealed.len() - known {
            self.unrecorded.pop_front();
        }
        let open = || [&self.succeeded, &self.failed].into_iter().flatten();
        let position = ReportPosition {
            open: open().map(OpenReportSegment::to_open_file).collect(),
            sealed: self.sealed[known..].to_vec(),
            total_sealed: self.sealed.len(),
        };
        let files = self.unrecorded.iter().cloned().chain(open().map(OpenReportSegment::handle)).collect();
        Ok(UnsyncedReportPosition { position, files, folders: self.folders() })
    }

    /// Writes all rows so far to disk and waits for it, so that they survive a crash.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written. The message names it.
    pub fn persist(&mut self) -> io::Result<()> {
        let recorded = self.sealed.len() - self.unrecorded.len();
        self.flush(recorded)?.sync().map(|_| ())
    }

    /// Marks a sealed file as published, so that [`finish`](Self::finish) and later positions include the mark.
    pub fn mark_published(&mut self, number: u32) {
        if let Some(segment) = self.sealed.iter_mut().find(|segment| segment.number == number) {
            segment.published = true;
        }
    }

    /// Seals the open files and returns every file of the report, in the order in which they were started.
    ///
    /// This cannot be retried. To wait until disk space is freed, call [`persist`](Self::persist) first.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written. The message names it.
    pub fn finish(mut self) -> io::Result<Vec<ReportSegment>> {
        // Seal both, even if the first one fails: rows that are still in memory are lost with this writer.
        let succeeded = self.seal(TaskStatus::Succeeded);
        let failed = self.seal(TaskStatus::Failed);
        let files = mem::take(&mut self.unrecorded).into();
        let synced =
            UnsyncedReportPosition { position: ReportPosition::default(), files, folders: self.folders() }.sync();
        succeeded.and(failed).and(synced)?;
        self.sealed.sort_by_key(|segment| segment.number);
        Ok(self.sealed)
    }

    /// Returns the file for the next row, which is `row` bytes long.
    fn segment_for(&mut self, status: TaskStatus, row: usize) -> io::Result<&mut OpenReportSegment> {
        let rotate_at = self.rotate_at;
        let full = |file: &OpenReportSegment| file.len() > 0 && file.len() + row as u64 > rotate_at;
        if self.open_segment_mut(status).as_ref().is_some_and(full) {
            self.seal(status)?;
        }
        let open = match self.open_segment_mut(status).take() {
            Some(open) => open,
            None => self.create_segment(status)?,
        };
        Ok(self.open_segment_mut(status).insert(open))
    }

    fn create_segment(&mut self, status: TaskStatus) -> io::Result<OpenReportSegment> {
        let name = layout::segment_name(self.format, &self.job, self.started);
        let segment = OpenReportSegment::create(&self.folder, self.started, name, status)?;
        self.started += 1;
        Ok(segment)
    }

    /// Seals a file without waiting for the disk. The next [`UnsyncedReportPosition::sync`] waits for it.
    fn seal(&mut self, status: TaskStatus) -> io::Result<()> {
        let Some(open) = self.open_segment_mut(status) else { return Ok(()) };
        open.write_buffer()?;
        let (segment, handle) = (open.to_segment(), open.handle());
        *self.open_segment_mut(status) = None;
        self.sealed.push(segment);
        self.unrecorded.push_back(handle);
        Ok(())
    }

    pub(super) fn open_segment_mut(&mut self, status: TaskStatus) -> &mut Option<OpenReportSegment> {
        match status {
            TaskStatus::Succeeded => &mut self.succeeded,
            TaskStatus::Failed => &mut self.failed,
        }
    }

    /// Returns the folders that hold the report's files, the deepest first.
    fn folders(&self) -> Vec<PathBuf> {
        let below = layout::subfolder(self.format).map(|name| self.folder.join(name));
        below.into_iter().chain([self.folder.clone()]).collect()
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;

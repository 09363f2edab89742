//! Writes the outcome of each object while a job runs, into open files that are sealed when they are full or the job
//! ends. A checkpoint records the position of a report, and after a crash the report resumes there: its files are
//! restored to exactly what was recorded.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use batchplan_store::object::ObjectId;
use batchplan_store::task::TaskOutcome;
use md5::{Digest as _, Md5};

use crate::files::{create_folder, open_regular, sync_folder, with_path};
use crate::job::JobId;
use crate::paths::show_path;
use crate::report::segment::{
    MANIFEST_NAME, Md5Digest, ReportSegment, SIDECAR_NAME, digest_all, is_segment_name, local_path, segment_name,
    subfolder,
};
use crate::report_format::{OperationNaming, ReportFormat, ReportRowEncoder, ReportScope, ReportSpec, TaskStatus};

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
    started: u32,
    succeeded: Option<OpenReportSegment>,
    failed: Option<OpenReportSegment>,
    /// In the order in which they were sealed.
    sealed: Vec<ReportSegment>,
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
        let inner = subfolder(spec.format).map(|name| folder.join(name));
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
        let name = segment_name(self.format, &self.job, self.started);
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

    fn open_segment_mut(&mut self, status: TaskStatus) -> &mut Option<OpenReportSegment> {
        match status {
            TaskStatus::Succeeded => &mut self.succeeded,
            TaskStatus::Failed => &mut self.failed,
        }
    }

    /// Returns the folders that hold the report's files, the deepest first.
    fn folders(&self) -> Vec<PathBuf> {
        let below = subfolder(self.format).map(|name| self.folder.join(name));
        below.into_iter().chain([self.folder.clone()]).collect()
    }
}

/// Why a report cannot be resumed. Its files are unchanged, except after [`ReportResumeError::Io`].
#[derive(Debug, thiserror::Error)]
pub enum ReportResumeError {
    /// A file or folder cannot be read, truncated or removed. The message names it. Resuming can be retried.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The recorded state cannot belong to this job's report.
    #[error("the recorded state of the report is inconsistent: {why}")]
    InvalidState {
        /// What contradicts itself in the state.
        why: String,
    },
    /// A recorded file does not exist.
    #[error("{}: missing ({bytes} bytes are recorded)", show_path(path))]
    Missing {
        /// The path of the file.
        path: PathBuf,
        /// Its recorded length in bytes.
        bytes: u64,
    },
    /// A file does not have the recorded length. A file that is still open may be longer.
    #[error("{}: changed since the job wrote it ({found} bytes, {bytes} are recorded)", show_path(path))]
    Changed {
        /// The path of the file.
        path: PathBuf,
        /// Its actual length in bytes.
        found: u64,
        /// Its recorded length in bytes.
        bytes: u64,
    },
    /// A file has the recorded length, but different content.
    #[error("{}: damaged since the job wrote it (its MD5 is {}, but {} is recorded)", show_path(path), found.hex(), recorded.hex())]
    Damaged {
        /// The path of the file.
        path: PathBuf,
        /// The MD5 of the actual content.
        found: Md5Digest,
        /// The MD5 of the content that was written.
        recorded: Md5Digest,
    },
}

impl ReportResumeError {
    /// Returns the path of the file that is not what the job wrote, or `None` if the error is not about a file's
    /// content.
    #[must_use]
    pub fn lost_file(&self) -> Option<&Path> {
        match self {
            Self::Missing { path, .. } | Self::Changed { path, .. } | Self::Damaged { path, .. } => Some(path),
            Self::Io(_) | Self::InvalidState { .. } => None,
        }
    }
}

impl ReportWriter {
    /// Resumes the report of `job` in `folder` at the recorded `state`. Rows that were written later are removed, and
    /// the writer continues where the earlier one was. Every existing file is read once and compared with its
    /// recorded MD5.
    ///
    /// Also removes the `manifest.json` and `segments.json` of an earlier end of the job.
    ///
    /// # Errors
    /// Returns an error if the state cannot belong to this report, or the files are not what was recorded. Everything
    /// is checked before anything is changed.
    pub fn resume(
        folder: &Path,
        spec: &ReportSpec,
        job: &JobId,
        naming: OperationNaming,
        rotate_at: u64,
        state: &RecordedReport,
    ) -> Result<Self, ReportResumeError> {
        let begun = check_numbers(state).and_then(|begun| check_names(spec.format, job, state).map(|()| begun));
        let begun = begun.map_err(|why| ReportResumeError::InvalidState { why })?;
        state.sealed.iter().try_for_each(|segment| check_sealed(folder, segment))?;
        let open =
            state.open.iter().map(|open| OpenReportSegment::resume(folder, open).map(|file| (open.status, file)));
        let open = open.collect::<Result<Vec<_>, _>>()?;
        let mut writer = Self::create(folder, spec, job, naming, rotate_at)?;
        remove_unrecorded(folder, spec.format, state)?;
        for (status, file) in open {
            file.truncate()?;
            *writer.open_segment_mut(status) = Some(file);
        }
        writer.started = begun;
        writer.sealed.clone_from(&state.sealed);
        Ok(writer)
    }
}

/// Returns the number of files that were started. Returns an error if their numbers are not unique and without gaps,
/// or if two open files have the same status.
fn check_numbers(state: &RecordedReport) -> Result<u32, String> {
    let numbers = state.open.iter().map(|file| file.number).chain(state.sealed.iter().map(|file| file.number));
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    let mut begun = 0;
    for number in numbers {
        if number != begun {
            let what = if number > begun { "is missing" } else { "is recorded twice" };
            return Err(format!("file number {} {what}", number.min(begun)));
        }
        begun += 1;
    }
    for (at, one) in state.open.iter().enumerate() {
        if let Some(other) = state.open[at + 1..].iter().find(|other| other.status == one.status) {
            return Err(format!("{} and {} are both open", one.name, other.name));
        }
    }
    Ok(begun)
}

/// Checks that the files have the names that follow from their numbers. No other file is ever truncated.
fn check_names(format: ReportFormat, job: &JobId, state: &RecordedReport) -> Result<(), String> {
    let open = state.open.iter().map(|file| (file.number, &file.name));
    let sealed = state.sealed.iter().map(|file| (file.number, &file.name));
    for (number, name) in open.chain(sealed) {
        let expected = segment_name(format, job, number);
        if *name != expected {
            return Err(format!("file number {number} is called {name:?} instead of {expected:?}"));
        }
    }
    Ok(())
}

fn check_sealed(folder: &Path, segment: &ReportSegment) -> Result<(), ReportResumeError> {
    let path = segment.path(folder);
    let bytes = segment.bytes;
    match file_length(&path)? {
        None if segment.published => Ok(()),
        None => Err(ReportResumeError::Missing { path, bytes }),
        Some(found) if found != bytes => Err(ReportResumeError::Changed { path, found, bytes }),
        Some(_) => match Md5Digest::of_file(&path)? {
            (_, found) if found != segment.md5 => {
                Err(ReportResumeError::Damaged { path, found, recorded: segment.md5 })
            }
            _ => Ok(()),
        },
    }
}

fn file_length(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(with_path(path)(error)),
    }
}

/// Removes `manifest.json` and `segments.json`, which are about to become wrong, and the files that were started
/// after the state was recorded.
fn remove_unrecorded(folder: &Path, format: ReportFormat, state: &RecordedReport) -> io::Result<()> {
    for name in [MANIFEST_NAME, SIDECAR_NAME] {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(with_path(&path))?,
        }
    }
    let open = state.open.iter().map(|file| file.name.as_str());
    let recorded: BTreeSet<&str> = open.chain(state.sealed.iter().map(|file| file.name.as_str())).collect();
    let subfolder = subfolder(format);
    let place = subfolder.map_or_else(|| folder.to_owned(), |name| folder.join(name));
    for entry in fs::read_dir(&place).map_err(with_path(&place))? {
        let entry = entry.map_err(with_path(&place))?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        let name = subfolder.map_or_else(|| file.clone(), |subfolder| format!("{subfolder}/{file}"));
        if is_segment_name(format, &name) && !recorded.contains(name.as_str()) {
            fs::remove_file(entry.path()).map_err(with_path(&entry.path()))?;
        }
    }
    Ok(())
}

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
    position: ReportPosition,
    files: Vec<Arc<ReportFileHandle>>,
    folders: Vec<PathBuf>,
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

/// The most bytes of rows that are kept in memory before they are written.
const BUFFER: usize = 64 * 1024;

/// An open report file, shared by its writer and the thread that syncs it.
#[derive(Debug)]
struct ReportFileHandle {
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
    fn sync(&self) -> io::Result<()> {
        if self.sync_failed.load(Ordering::Acquire) {
            let why = format!("{}: a part of it was not written to disk", show_path(&self.path));
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
struct OpenReportSegment {
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
    fn create(folder: &Path, number: u32, name: String, status: TaskStatus) -> io::Result<Self> {
        let path = local_path(folder, &name);
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
    fn resume(folder: &Path, recorded: &OpenReportFile) -> Result<Self, ReportResumeError> {
        let path = local_path(folder, &recorded.name);
        let bytes = recorded.bytes;
        let mut file = match open_regular(&path, File::options().read(true).write(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ReportResumeError::Missing { path, bytes });
            }
            opened => opened.map_err(with_path(&path))?,
        };
        let (found, md5) = digest_all(&mut (&mut file).take(bytes)).map_err(with_path(&path))?;
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
    fn truncate(&self) -> io::Result<()> {
        self.handle.file.set_len(self.written).map_err(with_path(&self.handle.path))
    }

    /// Returns the length in bytes, including rows in memory.
    fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds one row. After an error, the row is not part of the file and can be added again.
    fn push_row(&mut self, row: &[u8]) -> io::Result<()> {
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
    fn write_buffer(&mut self) -> io::Result<()> {
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
    fn to_open_file(&self) -> OpenReportFile {
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
    fn to_segment(&self) -> ReportSegment {
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

    fn handle(&self) -> Arc<ReportFileHandle> {
        Arc::clone(&self.handle)
    }

    /// Replaces the file, to test write errors.
    #[cfg(test)]
    fn replace_file(&mut self, file: File) -> File {
        let other = ReportFileHandle::new(file, self.handle.path.clone());
        Arc::try_unwrap(std::mem::replace(&mut self.handle, other)).unwrap().file
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;

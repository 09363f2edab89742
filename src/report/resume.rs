//! Resumes a report after a crash: restores its files to exactly what was recorded.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::codec::OperationNaming;
use crate::completion::{ReportFormat, ReportSpec};
use crate::files::with_path;
use crate::job::JobId;
use crate::report::digest::Md5Digest;
use crate::report::layout;
use crate::report::position::RecordedReport;
use crate::report::segment::{OpenReportSegment, ReportSegment};
use crate::report::writer::ReportWriter;

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
    #[error("{}: missing ({bytes} bytes are recorded)", path.display())]
    Missing {
        /// The path of the file.
        path: PathBuf,
        /// Its recorded length in bytes.
        bytes: u64,
    },
    /// A file does not have the recorded length. A file that is still open may be longer.
    #[error("{}: changed since the job wrote it ({found} bytes, {bytes} are recorded)", path.display())]
    Changed {
        /// The path of the file.
        path: PathBuf,
        /// Its actual length in bytes.
        found: u64,
        /// Its recorded length in bytes.
        bytes: u64,
    },
    /// A file has the recorded length, but different content.
    #[error("{}: damaged since the job wrote it (its MD5 is {}, but {} is recorded)", path.display(), found.hex(), recorded.hex())]
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
        let expected = layout::segment_name(format, job, number);
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
    for name in [layout::MANIFEST_NAME, layout::SIDECAR_NAME] {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(with_path(&path))?,
        }
    }
    let open = state.open.iter().map(|file| file.name.as_str());
    let recorded: BTreeSet<&str> = open.chain(state.sealed.iter().map(|file| file.name.as_str())).collect();
    let subfolder = layout::subfolder(format);
    let place = subfolder.map_or_else(|| folder.to_owned(), |name| folder.join(name));
    for entry in fs::read_dir(&place).map_err(with_path(&place))? {
        let entry = entry.map_err(with_path(&place))?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        let name = subfolder.map_or_else(|| file.clone(), |subfolder| format!("{subfolder}/{file}"));
        if layout::is_segment_name(format, &name) && !recorded.contains(name.as_str()) {
            fs::remove_file(entry.path()).map_err(with_path(&entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;

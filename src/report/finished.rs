//! A finished report in the job's folder. The folder alone is enough to publish the report later.

use std::io;
use std::path::{Component, Path, PathBuf};

use batchplan_store::object::{BucketName, ObjectKey};
use jiff::Timestamp;

use crate::codec::{ReportManifestEntry, report_manifest_json};
use crate::completion::{ReportFormat, ReportLocation, ReportSpec};
use crate::files::{create_folder, read_regular, with_path, write_atomic};
use crate::job::JobId;
use crate::report::destination::ReportDestination;
use crate::report::digest::Md5Digest;
use crate::report::layout;
use crate::report::segment::{ReportSegment, remove_local_file};
use crate::report::sidecar::ReportSidecar;

/// A finished report: its files, and where they are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedReport {
    pub(super) job: JobId,
    pub(super) format: ReportFormat,
    pub(super) location: Option<ReportLocation>,
    pub(super) created: Timestamp,
    pub(super) segments: Vec<ReportSegment>,
}

/// Why a report cannot be loaded from its folder.
#[derive(Debug, thiserror::Error)]
pub enum ReportLoadError {
    /// A file cannot be read. The message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// `segments.json` is invalid, or its version is unknown.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The path of `segments.json`.
        path: PathBuf,
        /// What is wrong with the file.
        why: String,
    },
    /// A report file is not the one that the job wrote.
    #[error("{}: changed since the job wrote it ({why})", path.display())]
    Changed {
        /// The path of the report file.
        path: PathBuf,
        /// What differs: the length or the MD5.
        why: String,
    },
}

impl FinishedReport {
    /// Creates the report of `job` from what [`ReportWriter::finish`](crate::report::ReportWriter::finish) returned.
    #[must_use]
    pub fn new(spec: &ReportSpec, job: &JobId, created: Timestamp, segments: Vec<ReportSegment>) -> Self {
        Self { job: job.clone(), format: spec.format, location: spec.location.clone(), created, segments }
    }

    /// Returns the files of the report, in the order in which they were started.
    #[must_use]
    pub fn segments(&self) -> &[ReportSegment] {
        &self.segments
    }

    /// Returns the bucket and key where `manifest.json` is published, or `None` for a local report.
    #[must_use]
    pub fn manifest_location(&self) -> Option<(BucketName, ObjectKey)> {
        let destination = self.destination()?;
        Some((destination.bucket().clone(), destination.manifest_key()))
    }

    /// Returns where the files are published, or `None` for a local report.
    #[must_use]
    pub fn destination(&self) -> Option<ReportDestination> {
        ReportDestination::new(self.format, self.location.as_ref(), &self.job)
    }

    /// Returns the text of `manifest.json`. For a local report, its buckets are empty and its keys are file names.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`report_manifest_json`].
    pub fn manifest_text(&self) -> io::Result<String> {
        let destination = self.destination();
        let files: Vec<ReportManifestEntry> =
            self.segments.iter().map(|segment| manifest_entry(destination.as_ref(), segment)).collect();
        report_manifest_json(self.format, self.created, &files)
    }

    /// Writes `segments.json`, then `manifest.json`, each atomically. Can be repeated.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written. The message names it.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        create_folder(folder).map_err(with_path(folder))?;
        let sidecar = ReportSidecar::from(self).into_text()?;
        write_file(folder, layout::SIDECAR_NAME, &sidecar)?;
        write_file(folder, layout::MANIFEST_NAME, &self.manifest_text()?)
    }

    /// Loads a saved report, and checks the length and MD5 of every file. A file may be missing only if it is marked
    /// as published: its local copy was removed.
    ///
    /// # Errors
    /// Returns an error if a file is missing or unreadable, or is not the one that the job wrote.
    pub fn load(folder: &Path) -> Result<Self, ReportLoadError> {
        let path = folder.join(layout::SIDECAR_NAME);
        let unreadable = |why: String| ReportLoadError::Unreadable { path: path.clone(), why };
        let text = read_regular(&path).map_err(with_path(&path))?;
        let sidecar: ReportSidecar = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        let report = sidecar.into_report().map_err(unreadable)?;
        if let Some(stray) = report.segments.iter().find(|segment| escapes_folder(&segment.name)) {
            return Err(unreadable(format!("{:?} is not a file of the report", stray.name)));
        }
        report.segments.iter().try_for_each(|segment| verify_segment(folder, segment))?;
        Ok(report)
    }

    /// Records that every file of the report is in its bucket, after [`publish()`](crate::report::publish()) has sent
    /// them. Then removes the files from `folder`, unless `keep_local` is set. Can be repeated, even after an error.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written or removed. The message names it.
    pub fn record_published(&mut self, folder: &Path, keep_local: bool) -> io::Result<()> {
        self.segments.iter_mut().for_each(|segment| segment.published = true);
        self.save(folder)?;
        if keep_local {
            Ok(())
        } else {
            self.segments.iter().try_for_each(|segment| remove_local_file(folder, segment))
        }
    }
}

fn manifest_entry(destination: Option<&ReportDestination>, segment: &ReportSegment) -> ReportManifestEntry {
    let (bucket, key) = match destination {
        // Prefixes come from plan files, which are UTF-8. JSON cannot represent anything else.
        Some(destination) => (
            destination.bucket().to_string(),
            String::from_utf8_lossy(destination.segment_key(segment).as_bytes()).into_owned(),
        ),
        None => (String::new(), segment.name.clone()),
    };
    ReportManifestEntry { status: segment.status, bucket, key, md5: segment.md5.hex() }
}

fn write_file(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    write_atomic(folder, name, text.as_bytes()).map_err(with_path(&folder.join(name)))
}

/// Returns whether a name points outside the folder that it is joined to.
fn escapes_folder(name: &str) -> bool {
    name.is_empty() || !Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Checks that a report file is the one that the job wrote. Only a published file may be missing.
pub(super) fn verify_segment(folder: &Path, segment: &ReportSegment) -> Result<(), ReportLoadError> {
    let path = segment.path(folder);
    let (bytes, md5) = match Md5Digest::of_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && segment.published => return Ok(()),
        read => read?,
    };
    if bytes != segment.bytes {
        let why = format!("{bytes} bytes instead of {}", segment.bytes);
        return Err(ReportLoadError::Changed { path, why });
    }
    if md5 != segment.md5 {
        let why = format!("MD5 {} instead of {}", md5.hex(), segment.md5.hex());
        return Err(ReportLoadError::Changed { path, why });
    }
    Ok(())
}

#[cfg(test)]
#[path = "finished_tests.rs"]
mod tests;

//! A finished report in the job's folder. The folder alone is enough to publish the report later.

use std::io;
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

use crate::codec::{ListedFile, manifest_json};
use crate::completion::{ReportFormat, ReportPlace, ReportSpec};
use crate::files::{about, create_own_folder, read_own, write_at_once};
use crate::job::JobId;
use crate::object::{Bucket, Key};
use crate::report::destination::Destination;
use crate::report::digest::Digest;
use crate::report::layout;
use crate::report::segment::{Segment, free};
use crate::report::sidecar::Sidecar;

/// A finished report: its files, and where they are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub(super) job: JobId,
    pub(super) format: ReportFormat,
    pub(super) place: Option<ReportPlace>,
    pub(super) created: Timestamp,
    pub(super) segments: Vec<Segment>,
}

/// Why a report cannot be loaded from its folder.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
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

impl Report {
    /// Creates the report of `job` from what [`ReportWriter::finish`](crate::report::ReportWriter::finish) returned.
    #[must_use]
    pub fn new(spec: &ReportSpec, job: &JobId, created: Timestamp, segments: Vec<Segment>) -> Self {
        Self { job: job.clone(), format: spec.format, place: spec.place.clone(), created, segments }
    }

    /// Returns the files of the report, in the order in which they were started.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Returns the bucket and key where `manifest.json` is published, or `None` for a local report.
    #[must_use]
    pub fn address(&self) -> Option<(Bucket, Key)> {
        let destination = self.destination()?;
        Some((destination.bucket().clone(), destination.manifest()))
    }

    /// Returns where the files are published, or `None` for a local report.
    #[must_use]
    pub fn destination(&self) -> Option<Destination> {
        Destination::new(self.format, self.place.as_ref(), &self.job)
    }

    /// Returns the text of `manifest.json`. For a local report, its buckets are empty and its keys are file names.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`manifest_json`].
    pub fn manifest(&self) -> io::Result<String> {
        let destination = self.destination();
        let files: Vec<ListedFile> =
            self.segments.iter().map(|segment| listed(destination.as_ref(), segment)).collect();
        manifest_json(self.format, self.created, &files)
    }

    /// Writes `segments.json`, then `manifest.json`, each atomically. Can be repeated.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written. The message names it.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        create_own_folder(folder).map_err(about(folder))?;
        let sidecar = Sidecar::from(self).into_text()?;
        write(folder, layout::SIDECAR_NAME, &sidecar)?;
        write(folder, layout::MANIFEST_NAME, &self.manifest()?)
    }

    /// Loads a saved report, and checks the length and MD5 of every file. A file may be missing only if it is marked
    /// as published: its local copy was removed.
    ///
    /// # Errors
    /// Returns an error if a file is missing or unreadable, or is not the one that the job wrote.
    pub fn load(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join(layout::SIDECAR_NAME);
        let unreadable = |why: String| LoadError::Unreadable { path: path.clone(), why };
        let text = read_own(&path).map_err(about(&path))?;
        let sidecar: Sidecar = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        let report = sidecar.report().map_err(unreadable)?;
        if let Some(stray) = report.segments.iter().find(|segment| leaves_folder(&segment.name)) {
            return Err(unreadable(format!("{:?} is not a file of the report", stray.name)));
        }
        report.segments.iter().try_for_each(|segment| verify(folder, segment))?;
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
        if keep_local { Ok(()) } else { self.segments.iter().try_for_each(|segment| free(folder, segment)) }
    }
}

fn listed(destination: Option<&Destination>, segment: &Segment) -> ListedFile {
    let (bucket, key) = match destination {
        // Prefixes come from plan files, which are UTF-8. JSON cannot represent anything else.
        Some(destination) => (
            destination.bucket().to_string(),
            String::from_utf8_lossy(destination.segment(segment).as_bytes()).into_owned(),
        ),
        None => (String::new(), segment.name.clone()),
    };
    ListedFile { status: segment.status, bucket, key, md5: segment.md5.hex() }
}

fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    write_at_once(folder, name, text.as_bytes()).map_err(about(&folder.join(name)))
}

/// Returns whether a name points outside the folder that it is joined to.
fn leaves_folder(name: &str) -> bool {
    name.is_empty() || !Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Checks that a report file is the one that the job wrote. Only a published file may be missing.
pub(super) fn verify(folder: &Path, segment: &Segment) -> Result<(), LoadError> {
    let path = segment.path(folder);
    let (bytes, md5) = match Digest::of_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && segment.published => return Ok(()),
        read => read?,
    };
    if bytes != segment.bytes {
        let why = format!("{bytes} bytes instead of {}", segment.bytes);
        return Err(LoadError::Changed { path, why });
    }
    if md5 != segment.md5 {
        let why = format!("MD5 {} instead of {}", md5.hex(), segment.md5.hex());
        return Err(LoadError::Changed { path, why });
    }
    Ok(())
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;

//! A finished report as it lies in the job's folder: whole, checked, and enough by itself to be published.

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

/// A finished report: which files it has, and where they belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub(super) job: JobId,
    pub(super) format: ReportFormat,
    pub(super) place: Option<ReportPlace>,
    pub(super) created: Timestamp,
    pub(super) segments: Vec<Segment>,
}

/// Why a report cannot be read back from its folder.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// `segments.json` is not what this version writes.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A report file is not the one that the job wrote.
    #[error("{}: changed since the job wrote it ({why})", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What differs.
        why: String,
    },
}

impl Report {
    /// The report of `job`, from what [`ReportWriter::finish`](crate::report::ReportWriter::finish) returned.
    #[must_use]
    pub fn new(spec: &ReportSpec, job: &JobId, created: Timestamp, segments: Vec<Segment>) -> Self {
        Self { job: job.clone(), format: spec.format, place: spec.place.clone(), created, segments }
    }

    /// Its files in the order in which they were begun.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Where its `manifest.json` is published: bucket and key. `None` for a report that stays local.
    #[must_use]
    pub fn address(&self) -> Option<(Bucket, Key)> {
        let destination = self.destination()?;
        Some((destination.bucket().clone(), destination.manifest()))
    }

    /// Where its files are published. `None` for a report that stays local.
    #[must_use]
    pub fn destination(&self) -> Option<Destination> {
        Destination::new(self.format, self.place.as_ref(), &self.job)
    }

    /// The text of `manifest.json`. A report that stays local has an empty bucket and plain file names in it.
    ///
    /// # Errors
    /// As [`manifest_json`].
    pub fn manifest(&self) -> io::Result<String> {
        let destination = self.destination();
        let files: Vec<ListedFile> =
            self.segments.iter().map(|segment| listed(destination.as_ref(), segment)).collect();
        manifest_json(self.format, self.created, &files)
    }

    /// Writes `segments.json`, then `manifest.json`, each at once or not at all. Harmless to repeat.
    ///
    /// # Errors
    /// When a file cannot be written; the message names it.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        create_own_folder(folder).map_err(about(folder))?;
        let sidecar = Sidecar::from(self).into_text()?;
        write(folder, layout::SIDECAR_NAME, &sidecar)?;
        write(folder, layout::MANIFEST_NAME, &self.manifest()?)
    }

    /// Reads a saved report back and checks length and MD5 of every file. Only one that is marked as published may be
    /// missing: it was freed.
    ///
    /// # Errors
    /// When a file is missing or unreadable, or is not the one that the job wrote.
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

    /// Notes, once [`publish()`](crate::report::publish()) has sent it, that every file of the report is in its bucket,
    /// and then frees those in `folder`, unless they stay there. Harmless to repeat, whatever came of it before.
    ///
    /// # Errors
    /// When a file cannot be written or removed; the message names it.
    pub fn record_published(&mut self, folder: &Path, keep_local: bool) -> io::Result<()> {
        self.segments.iter_mut().for_each(|segment| segment.published = true);
        self.save(folder)?;
        if keep_local { Ok(()) } else { self.segments.iter().try_for_each(|segment| free(folder, segment)) }
    }
}

fn listed(destination: Option<&Destination>, segment: &Segment) -> ListedFile {
    let (bucket, key) = match destination {
        // Prefixes come from plan files, which are UTF-8; JSON could not say another.
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

/// Whether a name reaches out of the folder it is joined to.
fn leaves_folder(name: &str) -> bool {
    name.is_empty() || !Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Proves that a file of a report is what the job wrote. Only one that is published may be missing.
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

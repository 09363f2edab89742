//! A finished report as it lies in the job's folder: whole, checked, and enough by itself to be published.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codec::{ListedFile, manifest_json};
use crate::completion::{ReportFormat, ReportPlace, ReportSpec};
use crate::files::{about, write_at_once};
use crate::job::JobId;
use crate::object::{Bucket, Key};
use crate::report::digest::Digest;
use crate::report::layout;
use crate::report::segment::Segment;

/// The version of `segments.json` that is written and read.
const SIDECAR_VERSION: u32 = 1;

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
        let place = self.place.as_ref()?;
        Some((place.bucket.clone(), self.key_of(place, layout::MANIFEST_NAME)))
    }

    /// The text of `manifest.json`. A report that stays local has an empty bucket and plain file names in it.
    ///
    /// # Errors
    /// As [`manifest_json`].
    pub fn manifest(&self) -> io::Result<String> {
        let files: Vec<ListedFile> = self.segments.iter().map(|segment| self.listed(segment)).collect();
        manifest_json(self.format, self.created, &files)
    }

    /// Writes `segments.json`, then `manifest.json`, each at once or not at all. Harmless to repeat.
    ///
    /// # Errors
    /// When a file cannot be written; the message names it.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder).map_err(about(folder))?;
        let sidecar = serde_json::to_string_pretty(&Sidecar::from(self))?;
        write(folder, layout::SIDECAR_NAME, &sidecar)?;
        write(folder, layout::MANIFEST_NAME, &self.manifest()?)
    }

    /// Reads a saved report back and checks length and MD5 of every file.
    ///
    /// # Errors
    /// When a file is missing or unreadable, or is not the one that the job wrote.
    pub fn load(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join(layout::SIDECAR_NAME);
        let unreadable = |why: String| LoadError::Unreadable { path: path.clone(), why };
        let text = fs::read(&path).map_err(about(&path))?;
        let sidecar: Sidecar = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        if sidecar.version != SIDECAR_VERSION {
            return Err(unreadable(format!("version {} is not known to this batchplan", sidecar.version)));
        }
        let report = sidecar.report().map_err(unreadable)?;
        if let Some(stray) = report.segments.iter().find(|segment| leaves_folder(&segment.name)) {
            return Err(unreadable(format!("{:?} is not a file of the report", stray.name)));
        }
        report.segments.iter().try_for_each(|segment| verify(folder, segment))?;
        Ok(report)
    }

    /// The key of one of the report's files in the place it is published to.
    pub(super) fn key_of(&self, place: &ReportPlace, name: &str) -> Key {
        layout::remote_key(self.format, &place.prefix, &self.job, name)
    }

    fn listed(&self, segment: &Segment) -> ListedFile {
        let (bucket, key) = match &self.place {
            // Prefixes come from plan files, which are UTF-8; JSON could not say another.
            Some(place) => (
                place.bucket.to_string(),
                String::from_utf8_lossy(self.key_of(place, &segment.name).as_bytes()).into_owned(),
            ),
            None => (String::new(), segment.name.clone()),
        };
        ListedFile { status: segment.status, bucket, key, md5: segment.md5.hex() }
    }
}

fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    write_at_once(folder, name, text.as_bytes()).map_err(about(&folder.join(name)))
}

/// Whether a name reaches out of the folder it is joined to.
fn leaves_folder(name: &str) -> bool {
    name.is_empty() || !Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

fn verify(folder: &Path, segment: &Segment) -> Result<(), LoadError> {
    let path = layout::local_path(folder, &segment.name);
    let (bytes, md5) = Digest::of_file(&path)?;
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

/// `segments.json`. The prefix is percent-encoded, because a key may be any bytes.
#[derive(Serialize, Deserialize)]
struct Sidecar {
    version: u32,
    job: JobId,
    format: SidecarFormat,
    place: Option<SidecarPlace>,
    created: String,
    segments: Vec<Segment>,
}

#[derive(Serialize, Deserialize)]
struct SidecarPlace {
    bucket: String,
    prefix: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SidecarFormat {
    Oss,
    Aws,
}

impl From<&Report> for Sidecar {
    fn from(report: &Report) -> Self {
        let place = report.place.as_ref().map(|place| SidecarPlace {
            bucket: place.bucket.to_string(),
            prefix: place.prefix.encoded_keeping_slashes(),
        });
        Self {
            version: SIDECAR_VERSION,
            job: report.job.clone(),
            format: report.format.into(),
            place,
            created: report.created.to_string(),
            segments: report.segments.clone(),
        }
    }
}

impl Sidecar {
    fn report(self) -> Result<Report, String> {
        let place = self.place.map(|place| ReportPlace {
            bucket: Bucket::new(&place.bucket),
            prefix: Key::decode(place.prefix.as_bytes()),
        });
        let created = self.created.parse().map_err(|error: jiff::Error| error.to_string())?;
        Ok(Report { job: self.job, format: self.format.into(), place, created, segments: self.segments })
    }
}

impl From<ReportFormat> for SidecarFormat {
    fn from(format: ReportFormat) -> Self {
        match format {
            ReportFormat::Oss => Self::Oss,
            ReportFormat::Aws => Self::Aws,
        }
    }
}

impl From<SidecarFormat> for ReportFormat {
    fn from(format: SidecarFormat) -> Self {
        match format {
            SidecarFormat::Oss => Self::Oss,
            SidecarFormat::Aws => Self::Aws,
        }
    }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;

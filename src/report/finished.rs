//! A finished report in the job's folder, the format of its `segments.json`, and where the report is published. The
//! folder alone is enough to publish the report later.

use std::io;
use std::path::{Component, Path, PathBuf};

use batchplan_store::object::{BucketName, ObjectKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::files::{create_folder, json_digest, read_regular, with_path, write_atomic};
use crate::job::JobId;
use crate::paths::show_path;
use crate::report::segment::{MANIFEST_NAME, Md5Digest, ReportSegment, SIDECAR_NAME, remote_key, remove_local_file};
use crate::report_format::{
    ReportFormat, ReportLocation, ReportManifestEntry, ReportSpec, TaskStatus, report_manifest_json,
};

/// A finished report: its files, and where they are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedReport {
    job: JobId,
    format: ReportFormat,
    location: Option<ReportLocation>,
    created: Timestamp,
    pub(super) segments: Vec<ReportSegment>,
}

/// Why a report cannot be loaded from its folder.
#[derive(Debug, thiserror::Error)]
pub enum ReportLoadError {
    /// A file cannot be read. The message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// `segments.json` is invalid, or its version is unknown.
    #[error("{}: {why}", show_path(path))]
    Unreadable {
        /// The path of `segments.json`.
        path: PathBuf,
        /// What is wrong with the file.
        why: String,
    },
    /// A report file is not the one that the job wrote.
    #[error("{}: changed since the job wrote it ({why})", show_path(path))]
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

    /// Returns the same report with another location, where none of its files is published yet.
    #[must_use]
    pub fn moved_to(mut self, location: ReportLocation) -> Self {
        self.location = Some(location);
        self.segments.iter_mut().for_each(|segment| segment.published = false);
        self
    }

    /// Returns the path of a file of the report that is no longer in its folder, if there is one.
    #[must_use]
    pub fn missing_file(&self, folder: &Path) -> Option<PathBuf> {
        self.segments.iter().map(|segment| segment.path(folder)).find(|path| !path.exists())
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
        write_file(folder, SIDECAR_NAME, &sidecar)?;
        write_file(folder, MANIFEST_NAME, &self.manifest_text()?)
    }

    /// Loads a saved report, and checks the length and MD5 of every file. A file may be missing only if it is marked
    /// as published: its local copy was removed.
    ///
    /// # Errors
    /// Returns an error if a file is missing or unreadable, or is not the one that the job wrote.
    pub fn load(folder: &Path) -> Result<Self, ReportLoadError> {
        let path = folder.join(SIDECAR_NAME);
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

/// Where a job's report is published. It determines all keys of the report, and is known before the first row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportDestination {
    format: ReportFormat,
    location: ReportLocation,
    job: JobId,
}

impl ReportDestination {
    /// Returns the destination of the report of `job`, or `None` for a local report.
    #[must_use]
    pub fn of(spec: &ReportSpec, job: &JobId) -> Option<Self> {
        Self::new(spec.format, spec.location.as_ref(), job)
    }

    fn new(format: ReportFormat, place: Option<&ReportLocation>, job: &JobId) -> Option<Self> {
        Some(Self { format, location: place?.clone(), job: job.clone() })
    }

    /// Returns the bucket that the files are published to.
    #[must_use]
    pub fn bucket(&self) -> &BucketName {
        &self.location.bucket
    }

    /// Returns the key of one of the report's files.
    #[must_use]
    pub fn segment_key(&self, segment: &ReportSegment) -> ObjectKey {
        self.key_for(&segment.name)
    }

    /// Returns the key of the report's `manifest.json`.
    #[must_use]
    pub fn manifest_key(&self) -> ObjectKey {
        self.key_for(MANIFEST_NAME)
    }

    fn key_for(&self, name: &str) -> ObjectKey {
        remote_key(self.format, &self.location.prefix, &self.job, name)
    }
}

/// The version that is written. A program that knows only version 1 would take a freed file for a lost one, so it
/// must refuse this version.
const VERSION: u32 = 2;

/// The oldest version that can be read.
const OLDEST_VERSION: u32 = 1;

/// The content of `segments.json`. The prefix is percent-encoded, because a key may be any bytes.
#[derive(Serialize, Deserialize)]
struct ReportSidecar {
    version: u32,
    job: JobId,
    format: ReportSidecarFormat,
    place: Option<ReportSidecarLocation>,
    created: String,
    segments: Vec<ReportSidecarSegment>,
    /// The digest of all other members. Earlier builds wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ReportSidecarLocation {
    bucket: String,
    prefix: String,
}

/// Version 1 has neither `number` nor `published`: it lists all files in order, and all of them are in the folder.
#[derive(Serialize, Deserialize)]
struct ReportSidecarSegment {
    number: Option<u32>,
    status: TaskStatus,
    name: String,
    bytes: u64,
    rows: u64,
    md5: Md5Digest,
    #[serde(default)]
    published: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReportSidecarFormat {
    Oss,
    Aws,
}

impl From<&FinishedReport> for ReportSidecar {
    fn from(report: &FinishedReport) -> Self {
        let place = report.location.as_ref().map(|place| ReportSidecarLocation {
            bucket: place.bucket.to_string(),
            prefix: place.prefix.encoded_keeping_slashes(),
        });
        Self {
            version: VERSION,
            job: report.job.clone(),
            format: report.format.into(),
            place,
            created: report.created.to_string(),
            segments: report.segments.iter().map(ReportSidecarSegment::from).collect(),
            sha256: None,
        }
    }
}

impl ReportSidecar {
    /// Returns the JSON text, with its checksum.
    fn into_text(mut self) -> serde_json::Result<String> {
        self.sha256 = Some(json_digest(&self)?);
        serde_json::to_string_pretty(&self)
    }

    /// Validates the content and converts it to a report.
    fn into_report(mut self) -> Result<FinishedReport, String> {
        if !(OLDEST_VERSION..=VERSION).contains(&self.version) {
            return Err(format!("version {} is not supported by this version of batchplan", self.version));
        }
        if let Some(recorded) = self.sha256.take()
            && json_digest(&self).map_err(|error| error.to_string())? != recorded
        {
            return Err("damaged since the job wrote it: it fails its checksum".to_owned());
        }
        let place = self.place.map(|place| ReportLocation {
            bucket: BucketName::new(&place.bucket),
            prefix: ObjectKey::decode(place.prefix.as_bytes()),
        });
        let created = self.created.parse().map_err(|error: jiff::Error| error.to_string())?;
        let segments = (0..).zip(self.segments).map(|(place, segment)| segment.into_segment(place)).collect();
        Ok(FinishedReport { job: self.job, format: self.format.into(), location: place, created, segments })
    }
}

impl From<&ReportSegment> for ReportSidecarSegment {
    fn from(segment: &ReportSegment) -> Self {
        let ReportSegment { number, status, name, bytes, rows, md5, published } = segment.clone();
        Self { number: Some(number), status, name, bytes, rows, md5, published }
    }
}

impl ReportSidecarSegment {
    fn into_segment(self, place: u32) -> ReportSegment {
        let Self { number, status, name, bytes, rows, md5, published } = self;
        ReportSegment { number: number.unwrap_or(place), status, name, bytes, rows, md5, published }
    }
}

impl From<ReportFormat> for ReportSidecarFormat {
    fn from(format: ReportFormat) -> Self {
        match format {
            ReportFormat::Oss => Self::Oss,
            ReportFormat::Aws => Self::Aws,
        }
    }
}

impl From<ReportSidecarFormat> for ReportFormat {
    fn from(format: ReportSidecarFormat) -> Self {
        match format {
            ReportSidecarFormat::Oss => Self::Oss,
            ReportSidecarFormat::Aws => Self::Aws,
        }
    }
}

#[cfg(test)]
#[path = "finished_tests.rs"]
mod tests;

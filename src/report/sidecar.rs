//! The format of `segments.json`, which stores the state of a finished report in its folder.

use batchplan_store::object::{BucketName, ObjectKey};
use serde::{Deserialize, Serialize};

use crate::codec::TaskStatus;
use crate::completion::{ReportFormat, ReportLocation};
use crate::files::json_digest;
use crate::job::JobId;
use crate::report::digest::Md5Digest;
use crate::report::finished::FinishedReport;
use crate::report::segment::ReportSegment;

/// The version that is written. A program that knows only version 1 would take a freed file for a lost one, so it
/// must refuse this version.
const VERSION: u32 = 2;

/// The oldest version that can be read.
const OLDEST_VERSION: u32 = 1;

/// The content of `segments.json`. The prefix is percent-encoded, because a key may be any bytes.
#[derive(Serialize, Deserialize)]
pub(super) struct ReportSidecar {
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
    pub(super) fn into_text(mut self) -> serde_json::Result<String> {
        self.sha256 = Some(json_digest(&self)?);
        serde_json::to_string_pretty(&self)
    }

    /// Validates the content and converts it to a report.
    pub(super) fn into_report(mut self) -> Result<FinishedReport, String> {
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

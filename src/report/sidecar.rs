//! The format of `segments.json`, which stores the state of a finished report in its folder.

use serde::{Deserialize, Serialize};

use crate::codec::TaskStatus;
use crate::completion::{ReportFormat, ReportPlace};
use crate::files::json_digest;
use crate::job::JobId;
use crate::object::{Bucket, Key};
use crate::report::digest::Digest;
use crate::report::folder::Report;
use crate::report::segment::Segment;

/// The version that is written. A program that knows only version 1 would take a freed file for a lost one, so it
/// must refuse this version.
const VERSION: u32 = 2;

/// The oldest version that can be read.
const OLDEST: u32 = 1;

/// The content of `segments.json`. The prefix is percent-encoded, because a key may be any bytes.
#[derive(Serialize, Deserialize)]
pub(super) struct Sidecar {
    version: u32,
    job: JobId,
    format: SidecarFormat,
    place: Option<SidecarPlace>,
    created: String,
    segments: Vec<SidecarSegment>,
    /// The digest of all other members. Earlier builds wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct SidecarPlace {
    bucket: String,
    prefix: String,
}

/// Version 1 has neither `number` nor `published`: it lists all files in order, and all of them are in the folder.
#[derive(Serialize, Deserialize)]
struct SidecarSegment {
    number: Option<u32>,
    status: TaskStatus,
    name: String,
    bytes: u64,
    rows: u64,
    md5: Digest,
    #[serde(default)]
    published: bool,
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
            version: VERSION,
            job: report.job.clone(),
            format: report.format.into(),
            place,
            created: report.created.to_string(),
            segments: report.segments.iter().map(SidecarSegment::from).collect(),
            sha256: None,
        }
    }
}

impl Sidecar {
    /// Returns the JSON text, with its checksum.
    pub(super) fn into_text(mut self) -> serde_json::Result<String> {
        self.sha256 = Some(json_digest(&self)?);
        serde_json::to_string_pretty(&self)
    }

    /// Validates the content and converts it to a report.
    pub(super) fn report(mut self) -> Result<Report, String> {
        if !(OLDEST..=VERSION).contains(&self.version) {
            return Err(format!("version {} is not known to this batchplan", self.version));
        }
        if let Some(recorded) = self.sha256.take()
            && json_digest(&self).map_err(|error| error.to_string())? != recorded
        {
            return Err("damaged since the job wrote it: it fails its checksum".to_owned());
        }
        let place = self.place.map(|place| ReportPlace {
            bucket: Bucket::new(&place.bucket),
            prefix: Key::decode(place.prefix.as_bytes()),
        });
        let created = self.created.parse().map_err(|error: jiff::Error| error.to_string())?;
        let segments = (0..).zip(self.segments).map(|(place, segment)| segment.segment(place)).collect();
        Ok(Report { job: self.job, format: self.format.into(), place, created, segments })
    }
}

impl From<&Segment> for SidecarSegment {
    fn from(segment: &Segment) -> Self {
        let Segment { number, status, name, bytes, rows, md5, published } = segment.clone();
        Self { number: Some(number), status, name, bytes, rows, md5, published }
    }
}

impl SidecarSegment {
    fn segment(self, place: u32) -> Segment {
        let Self { number, status, name, bytes, rows, md5, published } = self;
        Segment { number: number.unwrap_or(place), status, name, bytes, rows, md5, published }
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

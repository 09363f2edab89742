//! Where a job's report is published.

use crate::completion::{ReportFormat, ReportPlace, ReportSpec};
use crate::job::JobId;
use crate::object::{Bucket, Key};
use crate::report::layout;
use crate::report::segment::Segment;

/// Where a job's report is published. It determines all keys of the report, and is known before the first row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    format: ReportFormat,
    place: ReportPlace,
    job: JobId,
}

impl Destination {
    /// Returns the destination of the report of `job`, or `None` for a local report.
    #[must_use]
    pub fn of(spec: &ReportSpec, job: &JobId) -> Option<Self> {
        Self::new(spec.format, spec.place.as_ref(), job)
    }

    pub(super) fn new(format: ReportFormat, place: Option<&ReportPlace>, job: &JobId) -> Option<Self> {
        Some(Self { format, place: place?.clone(), job: job.clone() })
    }

    /// Returns the bucket that the files are published to.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.place.bucket
    }

    /// Returns the key of one of the report's files.
    #[must_use]
    pub fn segment(&self, segment: &Segment) -> Key {
        self.key_of(&segment.name)
    }

    /// Returns the key of the report's `manifest.json`.
    #[must_use]
    pub fn manifest(&self) -> Key {
        self.key_of(layout::MANIFEST_NAME)
    }

    fn key_of(&self, name: &str) -> Key {
        layout::remote_key(self.format, &self.place.prefix, &self.job, name)
    }
}

//! Where a job's report is published.

use batchplan_store::object::{BucketName, ObjectKey};

use crate::completion::{ReportFormat, ReportLocation, ReportSpec};
use crate::job::JobId;
use crate::report::layout;
use crate::report::segment::ReportSegment;

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

    pub(super) fn new(format: ReportFormat, place: Option<&ReportLocation>, job: &JobId) -> Option<Self> {
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
        self.key_for(layout::MANIFEST_NAME)
    }

    fn key_for(&self, name: &str) -> ObjectKey {
        layout::remote_key(self.format, &self.location.prefix, &self.job, name)
    }
}

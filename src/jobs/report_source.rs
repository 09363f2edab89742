//! The completion report that a job takes its objects from, or that narrows them.

use batchplan_store::object::{BucketName, ObjectKey};

use crate::journal::ReportSource;
use crate::manifest::{FileLocation, ManifestSource, ReportRowFilter};
use crate::paths::path_from_text;

/// Returns the manifest source of a job that retries rows of a report.
pub(super) fn report_source(report: &ReportSource) -> ManifestSource {
    let (location, row_filter) = report_location(report);
    ManifestSource::Report { location, row_filter }
}

/// Returns where a report is, and which of its rows are meant.
pub(super) fn report_location(report: &ReportSource) -> (FileLocation, ReportRowFilter) {
    let location = match &report.bucket {
        Some(bucket) => FileLocation::Object {
            bucket: BucketName::new(bucket),
            // With a bucket, the name is a URL-encoded key, otherwise a path.
            key: ObjectKey::decode(report.name.as_bytes()),
            etag: None,
        },
        None => FileLocation::Local(path_from_text(&report.name)),
    };
    let status = Some(report.status.clone()).filter(|status| !status.is_empty());
    let code = Some(report.code.clone()).filter(|code| !code.is_empty());
    (location, ReportRowFilter { status, code })
}

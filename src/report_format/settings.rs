//! The completion report that a plan asks for: destination, scope and format.

use batchplan_store::object::{BucketName, ObjectKey};

/// The service whose report format is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportFormat {
    /// OSS Batch Operations: `Report_CSV_20250901`.
    Oss,
    /// S3 Batch Operations: `Report_CSV_20180820`.
    Aws,
}

/// Which objects a report lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportScope {
    /// Every object that was attempted.
    AllTasks,
    /// Only objects that failed.
    FailedTasksOnly,
}

/// Where a report is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportLocation {
    /// The bucket, in the plan's store.
    pub bucket: BucketName,
    /// The key prefix, followed by the job ID.
    pub prefix: ObjectKey,
}

impl ReportLocation {
    /// Returns the prefix of the folders of all reports: the key prefix with a slash at its end, unless it is empty.
    #[must_use]
    pub fn root(&self) -> ObjectKey {
        let mut root = self.prefix.as_bytes().to_vec();
        if !root.is_empty() && !root.ends_with(b"/") {
            root.push(b'/');
        }
        ObjectKey::new(root)
    }
}

/// The report that a plan asks for. Its files are always written to the job's folder. `location` is where they are
/// published in addition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSpec {
    /// Where the report is published, or `None` for a local report.
    pub location: Option<ReportLocation>,
    /// Which objects the report lists.
    pub scope: ReportScope,
    /// The service whose format the report has.
    pub format: ReportFormat,
    /// Whether the files stay in the job's folder after they are published.
    pub keep_local: bool,
}

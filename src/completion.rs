//! What a completion report is: where it goes, what it lists, in which service's form.

use crate::object::{Bucket, Key};

/// Which service's report format is written.
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
    /// Every attempted object.
    AllTasks,
    /// Only those that failed.
    FailedTasksOnly,
}

/// Where a report is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportPlace {
    /// The bucket, in the plan's store.
    pub bucket: Bucket,
    /// What stands before the job's id in the keys.
    pub prefix: Key,
}

/// The report a plan asks for. Its files are always kept with the job; `place` is where else they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSpec {
    /// The bucket to publish to, if any.
    pub place: Option<ReportPlace>,
    /// Which objects it lists.
    pub scope: ReportScope,
    /// Its format.
    pub format: ReportFormat,
    /// Whether its files stay with the job once they are in the bucket.
    pub keep_local: bool,
}

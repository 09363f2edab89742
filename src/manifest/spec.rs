//! The manifest section of a plan, checked.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use batchplan_store::object::{BucketName, ObjectKey};

use super::filter::Filter;
use crate::captures::FormerState;
use crate::frontier::RowFrontier;
use crate::report_format::ReportFormat;

/// The objects that a plan applies to.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The source of the object names.
    pub source: ManifestSource,
    /// The objects of the source that are included.
    pub filter: Filter,
}

/// The source of the object names.
#[derive(Clone, Debug)]
pub enum ManifestSource {
    /// The listing of a prefix.
    Prefix {
        /// The bucket to list.
        bucket: BucketName,
        /// The prefix; empty for the whole bucket.
        prefix: ObjectKey,
        /// Whether to list current versions or all versions.
        versions: ListedVersions,
        /// What to do with objects that no request can name.
        on_unlistable: OnUnlistable,
    },
    /// A CSV file without header.
    Csv {
        /// The location of the file.
        location: FileLocation,
        /// The columns, in the order of the file.
        fields: Vec<CsvField>,
        /// Whether a raw `+` in a key means a space.
        plus_is_space: bool,
    },
    /// A bucket inventory.
    Inventory {
        /// The bucket that holds the inventory.
        bucket: BucketName,
        /// Which inventory to read.
        selector: InventorySelector,
        /// The convention for what the inventory itself does not specify, set by the plan's provider.
        dialect: InventoryDialect,
    },
    /// The failed rows of an earlier completion report, in the format of OSS or AWS.
    Report {
        /// The location of its `manifest.json` (if the name ends in `.json`) or of one of its CSV files.
        location: FileLocation,
        /// The failed rows to include.
        row_filter: ReportRowFilter,
    },
    /// The objects that failed in an earlier job or have no outcome in it. Plans cannot express this source; `retry`
    /// creates it. The filter of that job has already been applied, so this source takes no filter or one that needs
    /// only names.
    Retry {
        /// The report files with failures. Their rows of successful objects are skipped.
        failed: Vec<FailedRowsFile>,
        /// The rows without an outcome, if they are to be included; they come last.
        unfinished: Option<UnfinishedRows>,
    },
    /// The objects that succeeded in an earlier job. Plans cannot express this source; `verify` creates it. The filter
    /// of that job has already been applied, so this source takes no filter or one that needs only names.
    Succeeded {
        /// The rows with an outcome.
        settled: SettledRows,
        /// The report files with the failures among them.
        failed: Vec<FailedRowsFile>,
    },
    /// The objects that an earlier job captured and changed. Plans cannot express this source; `undo` creates it. It takes
    /// no filter or one that needs only names.
    Undo(UndoneJob),
}

/// Selects failed rows of a report: all conditions must hold, and an absent condition always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportRowFilter {
    /// The HTTP status is one of these. A row without a response has no status.
    pub status: Option<Vec<u16>>,
    /// The error code is one of these, compared without regard to case.
    pub code: Option<Vec<String>>,
}

/// A completed file of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRowsFile {
    /// The location of the file. An `ETag` in it is ignored, because the MD5 proves more.
    pub location: FileLocation,
    /// The format of its rows.
    pub format: ReportFormat,
    /// The expected MD5 of its content, in hex; the file is rejected if it differs.
    pub md5: String,
}

/// The rows without an outcome in an earlier job: those that it never attempted, and those in doubt, which it may have
/// attempted without recording an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedRows {
    /// The folder of that job, which contains its frozen manifest.
    pub folder: PathBuf,
    /// The rows with an outcome.
    pub frontier: RowFrontier,
}

/// The rows with an outcome in an earlier job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledRows {
    /// The folder of that job, which contains its frozen manifest.
    pub folder: PathBuf,
    /// The rows with an outcome.
    pub frontier: RowFrontier,
}

/// A job that is undone.
#[derive(Clone)]
pub struct UndoneJob {
    /// The folder of the job, which contains its frozen manifest.
    pub folder: PathBuf,
    /// The folder with its captures.
    pub captures: PathBuf,
    /// Only objects that are failed rows of this report; `None` means all.
    pub report: Option<(FileLocation, ReportRowFilter)>,
    /// Returns whether the job changed objects in this state.
    pub changes: Arc<dyn Fn(&FormerState) -> bool + Send + Sync>,
}

impl fmt::Debug for UndoneJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UndoneJob").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The convention that an inventory follows.
///
/// A `manifest.json` shows it by the format of its `destinationBucket`: `arn:aws:s3:::name` or `acs:oss:::name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InventoryDialect {
    /// Amazon S3 Inventory: a raw `+` in a key is a space.
    Aws,
    /// OSS bucket inventory: a raw `+` is a plus.
    Oss,
}

/// Which inventory to read.
#[derive(Clone, Debug)]
pub enum InventorySelector {
    /// Exactly this `manifest.json`, as long as its `ETag` is unchanged.
    Exact {
        /// The key of the `manifest.json`.
        key: ObjectKey,
        /// Its `ETag` without quotes, compared without regard to case. `None` if the plan pins none.
        etag: Option<String>,
    },
    /// The newest complete inventory under a prefix.
    Latest {
        /// The prefix, such as `inventories/my-bucket/daily/`.
        prefix: ObjectKey,
    },
    /// This inventory, with each object once even if several rows name it. Plans cannot express this; a recurring job
    /// creates it.
    Distinct {
        /// The key of its `manifest.json`.
        key: ObjectKey,
        /// Its `ETag` without quotes; empty if the server sent none.
        etag: String,
    },
    /// The changes in an inventory since another one. Plans cannot express this; a recurring job creates it.
    Changed(Box<InventoryChanges>),
}

/// The changes in an inventory since an earlier one in the same bucket, and the objects that failed in an earlier job
/// or have no outcome in it.
#[derive(Clone, Debug)]
pub struct InventoryChanges {
    /// The key of the new inventory's `manifest.json`.
    pub key: ObjectKey,
    /// Its `ETag` without quotes; empty if the server sent none.
    pub etag: String,
    /// The key of the earlier inventory's `manifest.json`.
    pub since_key: ObjectKey,
    /// The `ETag` of the earlier `manifest.json` without quotes; empty if the server sent none.
    pub since_etag: String,
    /// The filter as it was for the earlier inventory: its ages were computed at that time.
    pub since_filter: Filter,
    /// The report files of the earlier job that contain failures.
    pub failed: Vec<FailedRowsFile>,
    /// The rows without an outcome in the earlier job, if any.
    pub unfinished: Option<UnfinishedRows>,
    /// The reason why the earlier state is not available. If set, all objects of the new inventory are included.
    pub unavailable: Option<String>,
}

/// The object versions that a listing includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedVersions {
    /// The current version of each key, named by its key only.
    Current,
    /// Every version, named by its version id; delete markers are skipped.
    All,
}

/// What a listing does with an object that no request can name: its key is empty or too long, or the server does not
/// show it exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnlistable {
    /// Fail with an error that names the objects.
    #[default]
    Fail,
    /// Include the object as a row whose task fails without a request.
    Report,
}

/// The location of a CSV manifest or a completion report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileLocation {
    /// An object in the plan's store.
    Object {
        /// The bucket of the object.
        bucket: BucketName,
        /// The key of the object.
        key: ObjectKey,
        /// Its `ETag` without quotes, compared without regard to case. `None` if the plan pins none.
        etag: Option<String>,
    },
    /// A local file. Relative paths in a plan are resolved against the folder of the plan file.
    Local(PathBuf),
}

/// A column of a CSV manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsvField {
    /// The name of the bucket.
    Bucket,
    /// The key, URL-encoded.
    Key,
    /// The version id, not encoded; empty means none.
    VersionId,
    /// A column that is ignored, as in S3 Batch Operations.
    Ignore,
}

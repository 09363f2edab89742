//! What a plan says of its manifest, checked.

use std::path::PathBuf;

use jiff::Timestamp;

use super::filter::KeyGlobs;
use crate::completion::ReportFormat;
use crate::frontier::Frontier;
use crate::object::{Bucket, Key, StorageClass};

/// Which objects a plan is about.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Where their names come from.
    pub source: Source,
    /// Which of them.
    pub filter: Filter,
}

/// Where the names come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Everything in a bucket whose key begins so.
    Prefix {
        /// The bucket.
        bucket: Bucket,
        /// The prefix; empty for the whole bucket.
        prefix: Key,
        /// Current versions or all.
        versions: Versions,
    },
    /// A CSV file without header.
    Csv {
        /// Where the file is.
        place: CsvPlace,
        /// Its columns, in the file's order.
        fields: Vec<CsvField>,
        /// Whether a raw `+` in a key means a space.
        plus_is_space: bool,
    },
    /// A bucket inventory's `manifest.json`.
    Inventory {
        /// The bucket that holds the inventory.
        bucket: Bucket,
        /// The manifest.
        object: InventoryObject,
        /// Whose habits it follows where it does not say: the plan's provider decides.
        dialect: Dialect,
    },
    /// The failed rows of an earlier completion report, in OSS's form or AWS's.
    Report {
        /// Its `manifest.json`, if the name ends in `.json`; otherwise one of its CSV files.
        place: CsvPlace,
        /// Which of them.
        narrowing: Narrowing,
    },
    /// What an earlier job did not achieve. No plan can say it: a retry makes it. What the first job's filter left out
    /// is left out already, so this goes with a filter that asks for names only, or with none.
    Retry {
        /// The files of its report that tell of failures; the rows of one that succeeded are passed over.
        failed: Vec<ReportFile>,
        /// The rows that it never settled, if they are wanted; they follow.
        rest: Option<Rest>,
    },
}

/// Which failed rows of a report are taken: all conditions must hold, and an absent one always does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// The HTTP status is one of these. A row without an answer has none.
    pub status: Option<Vec<u16>>,
    /// The error code is one of these, compared without regard to case.
    pub code: Option<Vec<String>>,
}

/// One sealed file of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFile {
    /// Where it is. An `ETag` is not looked at: the MD5 says more.
    pub place: CsvPlace,
    /// The form of its rows.
    pub format: ReportFormat,
    /// The MD5 of its bytes, in hex; a file with another one is refused.
    pub md5: String,
}

/// What an earlier job left undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// That job's folder, which holds its frozen manifest.
    pub folder: PathBuf,
    /// What it settled.
    pub frontier: Frontier,
}

/// Whose habits an inventory follows.
///
/// A `manifest.json` shows it by the form of its `destinationBucket`: `arn:aws:s3:::name` or `acs:oss:::name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Amazon S3 Inventory: a raw `+` in a key is a space.
    Aws,
    /// OSS bucket inventory: a raw `+` is itself.
    Oss,
}

/// Which inventory.
#[derive(Clone, Debug)]
pub enum InventoryObject {
    /// This very `manifest.json`, while its `ETag` is still that one.
    Exact {
        /// Its key.
        key: Key,
        /// Its `ETag` without quotes, compared without regard to case.
        etag: Option<String>,
    },
    /// The newest complete one below this prefix.
    Latest {
        /// The prefix, such as `inventories/my-bucket/daily/`.
        prefix: Key,
    },
    /// This one, and each object of it once, however often it is named. No plan can say it: a recurring job makes it.
    Once {
        /// The key of its `manifest.json`.
        key: Key,
        /// Its `ETag` without quotes; empty where the server told none.
        etag: String,
    },
    /// What has changed in one since another. No plan can say it: a recurring job makes it.
    Changed(Box<Changes>),
}

/// What has changed in an inventory since an earlier one in the same bucket, and what an earlier job left.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The key of the new inventory's `manifest.json`.
    pub key: Key,
    /// Its `ETag` without quotes; empty where the server told none.
    pub etag: String,
    /// The key of the earlier inventory's `manifest.json`.
    pub since_key: Key,
    /// Its `ETag`, likewise.
    pub since_etag: String,
    /// The filter as it was when the earlier inventory was worked on: its ages counted back from then.
    pub since_filter: Filter,
    /// The files of the earlier job's report that tell of failures.
    pub failed: Vec<ReportFile>,
    /// The rows that it never settled, if there are any.
    pub rest: Option<Rest>,
    /// Why none of this is known any more, where it is not: then all objects of the new inventory are taken.
    pub lost: Option<String>,
}

/// Which versions a listing takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// The current one of each key, by key alone.
    Current,
    /// Every one, by its id; delete markers are left out.
    All,
}

/// Where a CSV manifest or a completion report is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CsvPlace {
    /// In a bucket of the plan's store.
    Object {
        /// The bucket.
        bucket: Bucket,
        /// The key.
        key: Key,
        /// Its `ETag` without quotes, compared without regard to case.
        etag: Option<String>,
    },
    /// A file on this machine, resolved against the plan file's folder.
    Local(PathBuf),
}

/// A column of a CSV manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsvField {
    /// The bucket's name.
    Bucket,
    /// The key, URL-encoded.
    Key,
    /// The version id, as it is; empty is none.
    VersionId,
    /// Not looked at (`Ignore`, as S3 Batch Operations has it).
    Ignore,
}

/// Which of the source's objects are taken: all conditions must hold, and an absent one always does.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// At least one of these globs matches the key.
    pub include: Option<KeyGlobs>,
    /// None of these does.
    pub exclude: Option<KeyGlobs>,
    /// More bytes than this.
    pub larger_than: Option<u64>,
    /// Fewer bytes than this.
    pub smaller_than: Option<u64>,
    /// Last written after this instant.
    pub modified_after: Option<Timestamp>,
    /// Last written before this instant. The plan's `older_than` is turned into it when the plan is read.
    pub modified_before: Option<Timestamp>,
    /// One of these storage classes.
    pub storage_class: Option<Vec<StorageClass>>,
}

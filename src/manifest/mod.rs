//! The objects that a job works on: each source is read once, checked row by row and frozen before the first object is
//! changed.
//!
//! Freezing writes the names of the objects into compressed manifest parts in the job's folder. After that the job does
//! not depend on its source: objects that appear later are not touched, a file that is replaced is not read half and
//! half, and the position of a row ([`TaskId`](batchplan_store::task::TaskId)) is the same in every run.
//!
//! An interrupted freeze resumes from its last checkpoint: see `checkpoint`.
//!
//! | file | what it does |
//! |---|---|
//! | `spec` | the manifest section of a plan, checked |
//! | `freeze`, `freeze_config` | turns a source into a frozen manifest |
//! | `sources` | reads whichever source a manifest has |
//! | `prefix`, `csv`, `inventory`, `report`, `retry` | the sources; inventories in CSV, Parquet and ORC |
//! | `changes` | the objects that are new or changed since an earlier inventory; a visitor sorts the rows of both |
//! | `row_visitor`, `filter` | what a source passes its rows to, and which rows are included |
//! | `manifest_writer`, `partition` | the visitor that writes the rows to the parts of a frozen manifest |
//! | `peek` | the visitor that reads only the first objects |
//! | `csv_records` | CSV records |
//! | `input`, `retrying_store` | bytes and listings from the store or the disk, with retries |
//! | `part`, `block`, `varint`, `frozen` | the files of a frozen manifest |
//! | `interleaving` | the order in which the rows of a frozen manifest are processed |
//! | `checkpoint`, `cursor` | checkpoints of an unfinished freeze, and how it resumes |
//! | `key_ranges` | the key ranges that the rows cover |
//! | `sampling` | the visitor that samples and digests the rows that another visitor includes |
//! | `source_metadata` | counts per storage class, and the metadata of each object |
//! | `compare`, `sort` | compares two frozen manifests, sorted for it in bounded memory |
//! | `pins` | checks that a source has not changed |
//! | `error` | errors and warnings |

mod block;
mod changes;
mod checkpoint;
mod compare;
mod csv;
mod csv_records;
mod cursor;
mod error;
mod filter;
mod freeze;
mod freeze_config;
mod frozen;
mod input;
mod interleaving;
mod inventory;
mod key_ranges;
mod manifest_writer;
mod part;
mod partition;
mod peek;
mod pins;
mod prefix;
mod report;
mod retry;
mod retrying_store;
mod row_visitor;
mod sampling;
mod sort;
mod source_metadata;
mod sources;
mod spec;
#[cfg(test)]
mod testing;
mod varint;

pub use compare::{ManifestDifference, compare_manifests};
pub use csv::count_rows;
pub use error::{BadRow, ManifestError, ManifestWarning};
pub use filter::{Filter, KeyGlobs};
pub use freeze::{FreezeLimits, freeze, freeze_and_sample};
pub use frozen::{FrozenManifest, ManifestTasks};
pub use inventory::newest_inventory;
pub use key_ranges::{KeyRange, KeyRanges};
pub use part::ManifestPart;
pub use peek::FirstObjects;
pub use pins::{FileStamp, SourceChangedError, SourcePin, check_pin};
pub use row_visitor::FreezeProgress;
pub use sampling::{SampleOptions, SampleResult, SampledObject, SeededSample, sample_frozen};
pub use source_metadata::{ClassTotals, MetadataReader, SourceMetadata, StorageClassStats};
pub use spec::{
    CsvField, FailedRowsFile, FileLocation, InventoryChanges, InventoryDialect, InventorySelector, ListedVersions,
    Manifest, ManifestSource, ReportRowFilter, UnfinishedRows,
};

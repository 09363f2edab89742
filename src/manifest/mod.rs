//! The objects that a job works on: each source is read once, checked row by row and frozen before the first object is
//! changed.
//!
//! Freezing writes the names of the objects into compressed manifest parts in the job's folder. After that the job does
//! not depend on its source: objects that appear later are not touched, a file that is replaced is not read half and
//! half, and the position of a row ([`TaskId`](batchplan_store::task::TaskId)) is the same in every run.
//!
//! An interrupted freeze resumes from its last checkpoint: see `freeze_checkpoint`.
//!
//! | file | what it does |
//! |---|---|
//! | `spec` | the manifest section of a plan, checked |
//! | `sources` | reads whichever source a manifest has, to its end or only its first objects |
//! | `prefix`, `csv`, `inventory`, `report`, `retry`, `succeeded`, `undo` | the sources; inventories in CSV, Parquet and ORC |
//! | `changes` | the objects that are new or changed since an earlier inventory; a visitor sorts the rows of both |
//! | `row_visitor`, `filter` | what a source passes its rows to, where it resumes, and which rows are included |
//! | `input`, `retrying_store` | bytes and listings from the store or the disk, with retries |
//! | `pins` | checks that a source has not changed |
//! | `freeze` | turns a source into a frozen manifest: the visitor that writes the rows of each partition to parts |
//! | `freeze_checkpoint` | the file that an interrupted freeze resumes from |
//! | `frozen` | a frozen manifest, and the order in which its rows are processed |
//! | `part` | the files of a frozen manifest |
//! | `key_ranges` | the key ranges that the rows cover |
//! | `sampling` | the visitor that samples and digests the rows that another visitor includes |
//! | `source_metadata` | counts per storage class, and the metadata of each object |
//! | `name_sorter` | finds the objects of a job that a report lists |
//! | `compare`, `sort` | compares two frozen manifests, sorted for it in bounded memory |
//! | `error` | errors and warnings |

mod changes;
mod compare;
mod csv;
mod empty_source;
mod error;
mod filter;
mod freeze;
mod freeze_checkpoint;
mod frozen;
mod input;
mod inventory;
mod key_ranges;
mod name_sorter;
mod part;
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
mod succeeded;
#[cfg(test)]
mod testing;
mod undo;

pub use compare::{ManifestDifference, compare_manifests};
pub use csv::count_rows;
pub use error::{ManifestError, ManifestWarning, UnlistableKey};
pub use filter::{Filter, KeyGlobs, OwnReports};
pub use freeze::{FreezeLimits, freeze, freeze_and_sample};
pub use frozen::FrozenManifest;
pub use inventory::newest_inventory;
pub use key_ranges::{KeyRange, KeyRanges};
pub use pins::{SourceChangedError, SourcePin, check_pin};
pub use row_visitor::FreezeProgress;
pub use sampling::{SampleOptions, SampleResult, SampledObject, SeededSample, UnlistableSample, sample_frozen};
pub use source_metadata::{ClassTotals, SourceMetadata, StorageClassStats};
pub use spec::{
    CsvField, FailedRowsFile, FileLocation, InventoryChanges, InventoryDialect, InventorySelector, ListedVersions,
    Manifest, ManifestSource, OnUnlistable, ReportRowFilter, SettledRows, UndoneJob, UnfinishedRows,
};
pub use undo::for_each_captured;

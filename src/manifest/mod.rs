//! The objects that a job works on: each source is read once, checked row by row and frozen before the first object is
//! changed.
//!
//! Freezing writes the names of the objects into compressed manifest parts in the job's folder. After that the job does
//! not depend on its source: objects that appear later are not touched, a file that is replaced is not read half and
//! half, and the position of a row ([`Seq`](crate::task::Seq)) is the same in every run.
//!
//! An interrupted freeze resumes from its last checkpoint: see `draft` and `begin`.
//!
//! | file | what it does |
//! |---|---|
//! | `spec` | the manifest section of a plan, checked |
//! | `freeze` | turns a source into a frozen manifest |
//! | `prefix`, `csv`, `inventory`, `report`, `retry` | the sources; inventories in CSV, Parquet and ORC |
//! | `changes` | the objects that are new or changed since an earlier inventory |
//! | `glance` | reads only the first objects |
//! | `sink`, `stretch`, `filter` | filters the rows and writes them to partitions |
//! | `records` | CSV records |
//! | `input`, `patient`, `continued` | bytes and listings from the store or the disk, with retries |
//! | `part`, `frozen`, `index` | the files of a frozen manifest |
//! | `order`, `turns` | the order in which the rows of a frozen manifest are processed |
//! | `begin`, `draft` | checkpoints of an unfinished freeze, and how it resumes |
//! | `reach` | the key ranges that the rows cover |
//! | `census` | object and byte counts per storage class |
//! | `survey`, `facts` | what a plan collects during a freeze: a sample, a digest, metadata of each object |
//! | `compare`, `names`, `sort` | compares two frozen manifests, sorted for it in bounded memory |
//! | `pins` | checks that a source has not changed |
//! | `error` | errors and warnings |

mod begin;
mod census;
mod changes;
mod compare;
mod continued;
mod csv;
mod draft;
mod error;
mod facts;
mod filter;
mod freeze;
mod frozen;
mod glance;
mod index;
mod input;
mod inventory;
mod names;
mod order;
mod part;
mod patient;
mod pins;
mod prefix;
mod reach;
mod records;
mod report;
mod retry;
mod sink;
mod sort;
mod spec;
mod stretch;
mod survey;
#[cfg(test)]
mod testing;
mod turns;

use crate::codec::escape;

pub use census::{Census, ClassTally};
pub use compare::{Difference, compare};
pub use csv::count_rows;
pub use error::{BadRow, ManifestError, Warning};
pub use facts::FactsReader;
pub use filter::KeyGlobs;
pub use freeze::{Bounds, freeze, survey};
pub use frozen::{Frozen, PartInfo, Pin, Seen, Tasks};
pub use glance::Glanced;
pub use inventory::newest;
pub use pins::{PinBroken, unchanged};
pub use reach::{KeyRange, Reach};
pub use sink::Prepared;
pub use spec::{
    Changes, CsvField, CsvPlace, Dialect, Filter, InventoryObject, Manifest, Narrowing, ReportFile, Rest, Source,
    Versions,
};
pub use survey::{Sample, Sampled, Surveyed, Told, Wish, sample_of};

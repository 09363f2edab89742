//! Which objects: every source is read once, checked row by row and frozen before the first object is touched.
//!
//! Freezing writes the objects' names into compressed manifest parts in the job's folder. From then on the job is
//! independent of what happens to its source: objects that appear later are not touched, a file that is replaced is
//! not half-read, and a row's place ([`Seq`](crate::task::Seq)) means the same on every run.
//!
//! Freezing that was interrupted goes on near where it was: see the room `freeze`.
//!
//! | file | what it does |
//! |---|---|
//! | `spec` | what a plan says of its manifest |
//! | `freeze` | one source into one frozen manifest |
//! | `prefix`, `csv`, `inventory`, `report`, `retry` | the sources: each gives rows to the sink; inventories in CSV, Parquet and ORC |
//! | `changes` | what is new or different in an inventory since an earlier one |
//! | `glance` | its first objects, without the rest |
//! | `sink`, `stretch`, `filter` | which rows are taken, and where they go |
//! | `records` | CSV rows |
//! | `input`, `patient` | bytes and listings from the store or the disk, with retries |
//! | `part`, `frozen`, `index` | the files of a frozen manifest |
//! | `begin`, `draft` | how far an unfinished one has come, and how it is gone on with |
//! | `reach` | between which keys its rows lie |
//! | `census` | what they come to, by storage class |
//! | `survey`, `facts` | what a plan learns of them beside: a sample, a digest, what is told of each |
//! | `compare`, `names`, `sort` | what differs between two of them, which are put in order for it within bounded memory |
//! | `pins` | whether its source is still what it was |
//! | `error` | why there is none |

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

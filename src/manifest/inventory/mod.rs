//! The manifest source `inventory`: a bucket inventory of OSS or AWS, which consists of a `manifest.json` and the
//! data files that it lists.
//!
//! Data files are CSV on OSS, and CSV, Parquet or ORC on AWS. Rows mean the same in every format: delete markers and
//! older versions without a version ID are skipped, and objects have the same facts. Two things differ. CSV
//! percent-encodes keys, and the other formats do not. The columns of CSV are named in `fileSchema`, and the other
//! files name their own.
//!
//! | file | what it does |
//! |---|---|
//! | `manifest_json`, `latest` | parses `manifest.json`, and finds the newest one |
//! | `read` | reads one data file after another |
//! | `columns` | interprets columns, and decodes CSV rows |
//! | `acl` | parses the ACL column |
//!
//! The formats are documented in the AWS S3 User Guide ("Locating your inventory list") and in OSS's "Bucket
//! inventory".

mod acl;
mod columns;
mod latest;
mod manifest_json;
mod read;
#[cfg(test)]
mod tests;

pub use latest::newest_inventory;
pub(super) use read::read_inventory;

//! The source `inventory`: a bucket inventory's `manifest.json` and the data files it names, of OSS or AWS.
//!
//! Data files are CSV at OSS, and CSV, Parquet or ORC at AWS. Whatever their form, a row is a row: delete markers and older
//! versions without an id are passed over, and the same facts are told of an object. What differs is that CSV URL-encodes
//! keys and the other two do not, and where columns are named: `fileSchema` names those of CSV, and the other files
//! their own.
//!
//! | file | what it does |
//! |---|---|
//! | `document`, `latest` | `manifest.json`, and the newest one |
//! | `read` | one data file after the other; the rows of CSV |
//! | `tables` | the rows of columnar files |
//! | `fields` | what columns mean |
//! | `columns` | the fields of CSV |
//! | `columnar` | the values of Parquet and ORC |
//! | `acl` | what an ACL column tells |
//!
//! The wire forms are those of the AWS S3 User Guide ("Locating your inventory list") and of OSS's "Bucket inventory".

mod acl;
mod columnar;
mod columns;
mod document;
mod fields;
mod latest;
mod read;
mod tables;
#[cfg(test)]
mod tests;

pub use latest::newest;
pub(super) use read::read;

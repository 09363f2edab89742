//! The source `inventory`: a bucket inventory's `manifest.json` and the data files it names, of OSS or AWS.
//!
//! The wire forms are those of the AWS S3 User Guide ("Locating your inventory list") and of OSS's "Bucket inventory".

mod acl;
mod columns;
mod document;
mod latest;
mod read;
#[cfg(test)]
mod tests;

pub use latest::newest;
pub(super) use read::read;

//! Converts plans to and from the job requests of the cloud services, as far as both can express them.
//!
//! The requests are OSS Batch Operations' `CreateJobRequest`, in XML, and the input of S3 Batch Operations'
//! `CreateJob`, in the JSON that the AWS CLI reads. A request has one operation, so a plan with several operations
//! becomes several requests.
//!
//! Nothing is dropped that would change which objects are changed or how: features that the other side does not support
//! are rejected by name. Settings that only concern this program, such as the concurrency, are left out of a request
//! and reported.
//!
//! An import has three passes. `tree` holds a document with its spans, read by `xml_tree` or `json_tree` under
//! hard limits. `import_oss` and `import_aws` write its contents into a `toml_writer`, a plan file that records
//! where each of its values came from. Then the plan file is read like any other, so that the rules of every plan
//! apply to it, while its problems point into the document.

mod export;
mod export_aws;
mod export_oss;
mod import;
mod import_aws;
mod import_oss;
mod json_tree;
mod toml_writer;
mod tree;
mod xml_tree;

pub use export::{ExportOptions, ExportedRequests, export};
pub use import::{ImportOptions, MAX_REQUEST_BYTES, import};

/// The format of an AWS CSV manifest.
const AWS_CSV: &str = "S3BatchOperations_CSV_20180820";

/// The format of an AWS completion report.
const AWS_REPORT: &str = "Report_CSV_20180820";

#[cfg(test)]
mod tests;

//! Plans and the cloud services' own job requests: one becomes the other, as far as both can say it.
//!
//! The requests are OSS Batch Operations' `CreateJobRequest`, in XML, and the input of S3 Batch Operations' `CreateJob`, in
//! the JSON that the AWS CLI reads. A request has one operation, so that a plan with several becomes as many requests.
//!
//! Nothing is dropped that would change which objects become what: what the other side cannot say is refused by name. What
//! is only about this program (how many requests at once, say) is left out of a request, and told.
//!
//! An import has three passes. [`tree`] holds a document with its places, read by [`xml_tree`] or [`json_tree`] under hard
//! limits; `import_oss` and `import_aws` write what it says into a [`sheet`], a plan file that knows where each of its
//! values came from; and the plan file is read as any other, so that its rules are those of every plan, while its problems
//! point into the document.

mod export;
mod export_aws;
mod export_oss;
mod import;
mod import_aws;
mod import_oss;
mod json_tree;
mod sheet;
mod tree;
mod xml_tree;

pub use export::{Beside, Export, Service, export};
pub use import::{Given, MAX_REQUEST_BYTES, import};

/// The form of a CSV manifest at AWS.
const AWS_CSV: &str = "S3BatchOperations_CSV_20180820";

/// The form of a completion report at AWS.
const AWS_REPORT: &str = "Report_CSV_20180820";

#[cfg(test)]
mod tests;

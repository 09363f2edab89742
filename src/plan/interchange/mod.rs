//! Converts plans to and from the job requests of the cloud services, as far as both can express them.
//!
//! The requests are OSS Batch Operations' `CreateJobRequest`, in XML, and the input of S3 Batch Operations'
//! `CreateJob`, in the JSON that the AWS CLI reads. A request has one operation, so a plan with several operations
//! becomes several requests.
//!
//! Nothing is dropped that would change which objects are changed or how: features that the other side does not support
//! are rejected with an error that names them. Settings that only concern this program, such as the concurrency, are
//! left out of a request and reported.
//!
//! `export` writes requests. An import has three passes. `document` parses a request into a tree with spans, under hard
//! limits. `import` writes its contents as a plan file with `toml_writer`, which records where each value came from.
//! Then the plan file is read like any other, so that the rules of every plan apply to it, and each problem is shown at
//! its position in the request.

mod document;
mod export;
mod import;
mod toml_writer;

pub use export::{ExportOptions, ExportedRequests, export};
pub use import::{ImportOptions, MAX_REQUEST_BYTES, import};

#[cfg(test)]
mod tests;

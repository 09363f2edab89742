//! Exports an operation of a plan as a `CreateJobRequest` of OSS Batch Operations.

use std::io;

use super::export::JobRequestParts;
use crate::manifest::{CsvField, ManifestSource};
use crate::plan::xml::{write_document, write_manifest, write_operation, write_report, write_text};

/// Writes the request. The elements are in the order of the service's own samples.
pub(super) fn request(order: &JobRequestParts<'_>) -> io::Result<String> {
    let JobRequestParts { plan, source, role_arn, token, operation, .. } = order;
    write_document("CreateJobRequest", |to| {
        write_text("ConfirmationRequired", &plan.job.confirmation_required.to_string(), to)?;
        write_operation(std::slice::from_ref(*operation), to)?;
        write_report(&plan.report, to)?;
        write_text("ClientRequestToken", token, to)?;
        write_manifest(source, None, to)?;
        if let Some(text) = &plan.description {
            write_text("Description", text, to)?;
        }
        write_text("Priority", &plan.job.priority.to_string(), to)?;
        write_text("RoleArn", role_arn, to)
    })
}

/// Returns the columns of a CSV manifest, by name, if OSS does not support them, and what to do.
pub(super) fn unsupported_columns(source: &ManifestSource) -> Option<(&'static str, &'static str)> {
    let ManifestSource::Csv { fields, .. } = source else { return None };
    let known = fields[..] == [CsvField::Bucket, CsvField::Key]
        || fields[..] == [CsvField::Bucket, CsvField::Key, CsvField::VersionId];
    let help = "use the columns Bucket,Key or Bucket,Key,VersionId";
    (!known).then_some(("these `fields` in [manifest.csv]", help))
}

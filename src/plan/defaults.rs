//! Defaults of plan keys, most of which depend on other keys such as the provider.

use batchplan_store::{AddressingStyle, StoreProvider};

use crate::completion::{ReportFormat, ReportScope};
use crate::manifest::CsvField;

/// The default columns of a CSV manifest.
pub(super) const CSV_FIELDS: [CsvField; 2] = [CsvField::Bucket, CsvField::Key];

/// The default region to sign for; `None` means the environment's region.
pub(super) fn region(provider: StoreProvider) -> Option<&'static str> {
    matches!(provider, StoreProvider::S3 | StoreProvider::Sandbox).then_some("us-east-1")
}

/// The default position of the bucket name in a URL: in the host or in the path.
pub(super) fn addressing(provider: StoreProvider) -> AddressingStyle {
    match provider {
        StoreProvider::Aws | StoreProvider::Oss => AddressingStyle::Virtual,
        StoreProvider::S3 | StoreProvider::Sandbox => AddressingStyle::Path,
    }
}

/// A published report lists all tasks by default. A report that only stays with the job lists the failed tasks.
pub(super) fn scope(published: bool) -> ReportScope {
    if published { ReportScope::AllTasks } else { ReportScope::FailedTasksOnly }
}

/// The AWS format on aws. Elsewhere the OSS format, which has more detail about a failure.
pub(super) fn format(provider: Option<StoreProvider>) -> ReportFormat {
    if provider == Some(StoreProvider::Aws) { ReportFormat::Aws } else { ReportFormat::Oss }
}

//! Defaults of plan keys, most of which depend on other keys such as the provider.

use crate::completion::{ReportFormat, ReportScope};
use crate::manifest::CsvField;
use crate::store::{Addressing, Provider};

/// The default columns of a CSV manifest.
pub(super) const CSV_FIELDS: [CsvField; 2] = [CsvField::Bucket, CsvField::Key];

/// The default region to sign for; `None` means the environment's region.
pub(super) fn region(provider: Provider) -> Option<&'static str> {
    matches!(provider, Provider::S3 | Provider::Sandbox).then_some("us-east-1")
}

/// The default position of the bucket name in a URL: in the host or in the path.
pub(super) fn addressing(provider: Provider) -> Addressing {
    match provider {
        Provider::Aws | Provider::Oss => Addressing::Virtual,
        Provider::S3 | Provider::Sandbox => Addressing::Path,
    }
}

/// A published report lists all tasks by default. A report that only stays with the job lists the failed tasks.
pub(super) fn scope(published: bool) -> ReportScope {
    if published { ReportScope::AllTasks } else { ReportScope::FailedTasksOnly }
}

/// The AWS format on aws. Elsewhere the OSS format, which has more detail about a failure.
pub(super) fn format(provider: Option<Provider>) -> ReportFormat {
    if provider == Some(Provider::Aws) { ReportFormat::Aws } else { ReportFormat::Oss }
}

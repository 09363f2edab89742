//! What a plan means where it says nothing, as far as that depends on something else in it.

use crate::completion::{ReportFormat, ReportScope};
use crate::manifest::CsvField;
use crate::store::{Addressing, Provider};

/// The columns of a CSV manifest.
pub(super) const CSV_FIELDS: [CsvField; 2] = [CsvField::Bucket, CsvField::Key];

/// The region to sign for; `None` takes the environment's.
pub(super) fn region(provider: Provider) -> Option<&'static str> {
    matches!(provider, Provider::S3 | Provider::Sandbox).then_some("us-east-1")
}

/// Where the bucket stands in a URL.
pub(super) fn addressing(provider: Provider) -> Addressing {
    match provider {
        Provider::Aws | Provider::Oss => Addressing::Virtual,
        Provider::S3 | Provider::Sandbox => Addressing::Path,
    }
}

/// Everything is published; the job's own copy alone lists what failed.
pub(super) fn scope(published: bool) -> ReportScope {
    if published { ReportScope::AllTasks } else { ReportScope::FailedTasksOnly }
}

/// AWS's own format on aws; everywhere else that of OSS, which says more about a failure.
pub(super) fn format(provider: Option<Provider>) -> ReportFormat {
    if provider == Some(Provider::Aws) { ReportFormat::Aws } else { ReportFormat::Oss }
}

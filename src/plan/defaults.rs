//! Defaults of plan keys, most of which depend on other keys such as the provider.

use crate::completion::{ReportFormat, ReportScope};
use crate::manifest::CsvField;
use crate::provider::ProviderRules;

/// The default columns of a CSV manifest.
pub(super) const CSV_FIELDS: [CsvField; 2] = [CsvField::Bucket, CsvField::Key];

/// A published report lists all tasks by default. A report that only stays with the job lists the failed tasks.
pub(super) fn scope(published: bool) -> ReportScope {
    if published { ReportScope::AllTasks } else { ReportScope::FailedTasksOnly }
}

/// The format of the provider's own service. Elsewhere the OSS format, which has more detail about a failure.
pub(super) fn format(rules: Option<&ProviderRules>) -> ReportFormat {
    rules.map_or(ReportFormat::Oss, |rules| rules.report_format)
}

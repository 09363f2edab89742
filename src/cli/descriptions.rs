//! Plans, jobs and amounts in words: the summary that `apply` shows before it asks for confirmation, and its parts.

use std::fmt::Write as _;
use std::path::Path;

use batchplan_store::StoreConfig;
use indicatif::HumanCount;
use jiff::Timestamp;

use crate::completion::{ReportFormat, ReportScope};
use crate::job::Progress;
use crate::journal::JobRecord;
use crate::manifest::{FileLocation, InventorySelector, ListedVersions, Manifest, ManifestSource, ReportRowFilter};
use crate::operation::Operation;
use crate::plan::Plan;

/// Returns the summary, with one line for each part of the plan.
pub(crate) fn summary(plan: &Plan, manifest: &Manifest, file: &str, rows: u64) -> String {
    let mut text = format!("{} ({})\n", plan.name, one_line(file));
    if let Some(description) = &plan.description {
        // Further lines start with a bar, so that none of them can pass for a line of the summary.
        let _ = writeln!(text, "{}", description.trim_end().replace('\n', "\n| "));
    }
    let _ = writeln!(text, "  store      {}", one_line(&describe_store(&plan.store)));
    let _ = writeln!(text, "  manifest   {} {}", format_objects(rows), one_line(&describe_source(&manifest.source)));
    for operation in &plan.operations {
        let _ = writeln!(text, "  operation  {}", one_line(&describe_operation(operation)));
    }
    let _ = write!(text, "  report     {}", one_line(&describe_report(plan)));
    text
}

/// Returns a value on one line, so that no part of it can pass for a line of the summary.
pub(crate) fn one_line(value: &str) -> String {
    value.replace('\n', "\\n")
}

/// Formats a number of objects, such as `1 object` or `1,204 objects`.
pub(crate) fn format_objects(count: u64) -> String {
    format!("{} object{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

/// Formats an instant in UTC, to the second.
pub(crate) fn format_instant(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Formats the outcomes of a job, such as `1,203 succeeded, 1 failed`.
pub(crate) fn format_outcomes(progress: Progress) -> String {
    format!("{} succeeded, {} failed", HumanCount(progress.succeeded), HumanCount(progress.failed))
}

/// Returns a path relative to the current folder if it is below it.
pub(crate) fn relative_path(path: &Path) -> &Path {
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path)
}

/// Describes a store.
pub(crate) fn describe_store(store: &StoreConfig) -> String {
    let place = match (&store.endpoint, &store.data, &store.region) {
        (Some(endpoint), _, _) => endpoint.clone(),
        (None, Some(data), _) => relative_path(data).display().to_string(),
        (None, None, Some(region)) => region.clone(),
        (None, None, None) => "the environment's region".to_owned(),
    };
    let role = store.role_arn.as_ref().map_or_else(String::new, |role| format!(", in the role {role}"));
    format!("{}, {place}{role}", store.provider.as_str())
}

/// Describes how many objects of a job are in doubt, if any.
pub(crate) fn describe_doubt(job: &JobRecord) -> Option<String> {
    let may = "may have been changed without being in the report";
    (job.in_doubt > 0).then(|| format!("{} {may}", format_objects(job.in_doubt)))
}

/// Describes where objects come from, in words that follow their number.
pub(crate) fn describe_source(source: &ManifestSource) -> String {
    match source {
        ManifestSource::Prefix { bucket, prefix, versions } => {
            let versions = if *versions == ListedVersions::All { ", all versions" } else { "" };
            format!("below {bucket}/{prefix}{versions}")
        }
        ManifestSource::Csv { location: place, .. } => format!("in {}", describe_file(place)),
        ManifestSource::Inventory {
            bucket,
            selector: InventorySelector::Exact { key, .. } | InventorySelector::Distinct { key, .. },
            ..
        } => {
            format!("in the inventory {bucket}/{key}")
        }
        ManifestSource::Inventory { bucket, selector: InventorySelector::Changed(changes), .. } => {
            format!("changed in the inventory {bucket}/{}", changes.key)
        }
        ManifestSource::Inventory { bucket, selector: InventorySelector::Latest { prefix }, .. } => {
            format!("in the latest inventory below {bucket}/{prefix}")
        }
        ManifestSource::Report { location: place, row_filter: narrowing } => {
            format!("that failed{} in the report {}", describe_narrowing(narrowing), describe_file(place))
        }
        ManifestSource::Retry { unfinished: None, .. } => "that failed in the first job".to_owned(),
        ManifestSource::Retry { unfinished: Some(_), .. } => {
            "that failed or were not attempted in the first job".to_owned()
        }
    }
}

fn describe_file(place: &FileLocation) -> String {
    match place {
        FileLocation::Local(path) => relative_path(path).display().to_string(),
        FileLocation::Object { bucket, key, .. } => format!("{bucket}/{key}"),
    }
}

/// Describes which failures of a report are selected. Returns an empty string for all of them.
fn describe_narrowing(narrowing: &ReportRowFilter) -> String {
    let statuses = narrowing.status.iter().flatten().map(u16::to_string).collect::<Vec<_>>();
    let codes = narrowing.code.iter().flatten().cloned().collect::<Vec<_>>();
    let conditions = [statuses.join(" or "), codes.join(" or ")];
    let conditions: Vec<_> = conditions.into_iter().filter(|condition| !condition.is_empty()).collect();
    if conditions.is_empty() { String::new() } else { format!(" with {}", conditions.join(" and ")) }
}

/// Describes an operation.
pub(crate) fn describe_operation(operation: &Operation) -> String {
    format!("{}  {}", operation.name(), operation.details().summary)
}

fn describe_report(plan: &Plan) -> String {
    let spec = &plan.report;
    let scope = match spec.scope {
        ReportScope::AllTasks => "all tasks",
        ReportScope::FailedTasksOnly => "failed tasks only",
    };
    let format = match spec.format {
        ReportFormat::Oss => "OSS format",
        ReportFormat::Aws => "AWS format",
    };
    let place = match &spec.location {
        Some(place) => format!("{}://{}/{}", plan.store.provider.profile().url_scheme, place.bucket, place.prefix),
        None => "local only".to_owned(),
    };
    format!("{place} ({scope}, {format})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use batchplan_store::object::TagSet;

    #[test]
    fn values_stay_on_one_line() {
        let tags: TagSet = [("a", "x\n  operation  none")].into_iter().collect();
        let described = one_line(&describe_operation(&Operation::PutTagging(tags)));
        assert_eq!(described, r"put_object_tagging  a=x\n  operation  none");
    }
}

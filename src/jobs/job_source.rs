//! Resolves where a job's objects come from: the manifest of its plan, for a recurring plan what its inventories say,
//! or what an earlier job did not complete.

use std::path::{Path, PathBuf};

use batchplan_store::object::{BucketName, ObjectKey};

use super::error::{JobError, format_count};
use super::job_request::stored_plan;
use crate::engine::report_state;
use crate::job::{JobId, Progress};
use crate::journal::{
    DeltaScope, JobFolder, JobRecord, JobSource, Journal, JournalError, RecurringScope, ReportSource,
};
use crate::manifest::{
    FailedRowsFile, FileLocation, Filter, InventoryChanges, InventorySelector, Manifest, ManifestSource,
    ReportRowFilter, UnfinishedRows,
};
use crate::plan::Plan;
use crate::report::{ReportDestination, ReportSegment};
use crate::report_format::TaskStatus;

/// Returns the manifest of a job: that of its plan, or everything that an earlier job did not complete. The latter has
/// already passed the plan's filter.
///
/// # Errors
/// Returns an error if what the earlier job left cannot be found.
pub fn job_manifest(journal: &Journal, job: &JobRecord, plan: &Plan) -> Result<Manifest, JobError> {
    let source = match &job.source {
        JobSource::Plan => {
            let recurrence = job.inventory.clone().zip(job.delta_scope.clone());
            let Some((inventory, delta_scope)) = recurrence else { return Ok(plan.manifest.clone()) };
            let recurrence = RecurringScope { inventory, delta_scope, as_of: job.work_span.scope_decided };
            let source = recurring_source(&recurrence, Some(journal), plan)?;
            return Ok(Manifest { source, filter: plan.manifest.filter.clone() });
        }
        JobSource::Retry { of, unattempted } => retry_source(journal, of, *unattempted, plan)?,
        JobSource::Report(report) => report_source(report),
    };
    Ok(Manifest { source, filter: Filter::default() })
}

/// Returns the manifest source of a recurring job.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub fn recurring_source(
    recurrence: &RecurringScope,
    journal: Option<&Journal>,
    plan: &Plan,
) -> Result<ManifestSource, JobError> {
    let ManifestSource::Inventory { dialect, .. } = &plan.manifest.source else {
        return Ok(plan.manifest.source.clone());
    };
    let RecurringScope { inventory, delta_scope, .. } = recurrence;
    let (bucket, key) = (inventory.bucket(), inventory.key());
    let object = if let (DeltaScope::Since { job, inventory: before }, Some(journal)) = (delta_scope, journal) {
        let (filter, failed, rest, lost) = match UnfinishedWork::of_job(journal, job)? {
            Ok(UnfinishedWork { filter, failed, rest }) => (filter, failed, rest, None),
            Err(why) => (Filter::default(), Vec::new(), None, Some(why)),
        };
        InventorySelector::Changed(Box::new(InventoryChanges {
            key,
            etag: inventory.etag.clone(),
            since_key: before.key(),
            since_etag: before.etag.clone(),
            since_filter: filter,
            failed,
            unfinished: rest,
            unavailable: lost,
        }))
    } else {
        InventorySelector::Distinct { key, etag: inventory.etag.clone() }
    };
    Ok(ManifestSource::Inventory { bucket, selector: object, dialect: *dialect })
}

/// What a completed job left undone.
struct UnfinishedWork {
    /// The filter of the job's plan at that time.
    filter: Filter,
    failed: Vec<FailedRowsFile>,
    rest: Option<UnfinishedRows>,
}

impl UnfinishedWork {
    /// Returns what this job left undone, or why that is no longer known.
    fn of_job(journal: &Journal, id: &JobId) -> Result<Result<Self, String>, JobError> {
        let job = match journal.find(id.as_str()) {
            Ok(job) => job,
            Err(JournalError::NoSuchJob(_)) => {
                return Ok(Err(format!("job {id}, which completed the earlier inventory, no longer exists")));
            }
            Err(error) => return Err(error.into()),
        };
        let plan = match stored_plan(&job) {
            Ok(plan) => plan,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let Progress { failed: count, .. } = job.progress;
        let (failed, rest) = remaining_rows(journal, &job, job.progress.remaining() > 0, &plan)?;
        if count > 0 && failed.is_empty() {
            let objects = format_count(count, "object");
            return Ok(Err(format!("no report contains the {objects} that failed in job {id}")));
        }
        Ok(Ok(Self { filter: plan.manifest.filter, failed, rest }))
    }
}

/// Returns the manifest source of a job that retries rows of a report.
pub(super) fn report_source(report: &ReportSource) -> ManifestSource {
    let location = match &report.bucket {
        Some(bucket) => FileLocation::Object {
            bucket: BucketName::new(bucket),
            key: ObjectKey::decode(report.name.as_bytes()),
            etag: None,
        },
        None => FileLocation::Local(PathBuf::from(&report.name)),
    };
    let status = Some(report.status.clone()).filter(|status| !status.is_empty());
    let code = Some(report.code.clone()).filter(|code| !code.is_empty());
    ManifestSource::Report { location, row_filter: ReportRowFilter { status, code } }
}

/// Returns the failed rows of an earlier job's report and, with `unattempted`, the rows that it never attempted.
fn retry_source(journal: &Journal, of: &JobId, unattempted: bool, plan: &Plan) -> Result<ManifestSource, JobError> {
    let (failed, rest) = remaining_rows(journal, &journal.find(of.as_str())?, unattempted, plan)?;
    Ok(ManifestSource::Retry { failed, unfinished: rest })
}

/// Returns the files of a job's report that contain failures and, with `unattempted`, the rows that the job never
/// settled.
fn remaining_rows(
    journal: &Journal,
    first: &JobRecord,
    unattempted: bool,
    plan: &Plan,
) -> Result<(Vec<FailedRowsFile>, Option<UnfinishedRows>), JobError> {
    let recorded = journal.recorded_progress(first.number)?;
    let folder = JobFolder::of(journal.state_folder(), &first.id);
    let failed = recorded.files.iter().filter(|file| file.status == TaskStatus::Failed).cloned().collect::<Vec<_>>();
    let segments = report_state(&failed)?.sealed;
    let destination = ReportDestination::of(&plan.report, &first.id);
    let location = |segment: &ReportSegment| segment_location(segment, &folder.report_folder(), destination.as_ref());
    let failed = segments
        .iter()
        .map(|segment| FailedRowsFile {
            location: location(segment),
            format: plan.report.format,
            md5: segment.md5.hex(),
        })
        .collect();
    let rest = unattempted.then(|| UnfinishedRows { folder: folder.path().to_owned(), frontier: recorded.frontier });
    Ok((failed, rest))
}

/// Returns the local file while it exists, and the published object once the file was removed.
fn segment_location(segment: &ReportSegment, folder: &Path, destination: Option<&ReportDestination>) -> FileLocation {
    let path = segment.path(folder);
    match destination.filter(|_| segment.published && !path.exists()) {
        Some(destination) => FileLocation::Object {
            bucket: destination.bucket().clone(),
            key: destination.segment_key(segment),
            etag: None,
        },
        None => FileLocation::Local(path),
    }
}

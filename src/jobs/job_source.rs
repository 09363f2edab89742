//! Resolves where a job's objects come from: the manifest of its plan, an inventory of a recurring plan or what changed
//! in it, an earlier job, or a completion report.
//!
//! An earlier job leaves two kinds of rows: rows that failed, which are in the failure files of its report, and rows
//! without an outcome, which are not in its frontier. Most rows without an outcome were never attempted. The others are
//! in doubt: their requests may have been executed, but the job stopped before it recorded the outcome.

use std::path::Path;

use super::error::JobError;
use super::report_source::report_source;
use super::stored_plan::stored_plan;
use super::undo::undo_manifest;
use crate::engine::report_state;
use crate::job::JobId;
use crate::journal::{
    DeltaScope, JobFolder, JobRecord, JobSource, Journal, JournalError, PinnedInventory, ReportFileRecord,
};
use crate::manifest::{
    FailedRowsFile, FileLocation, Filter, InventoryChanges, InventorySelector, Manifest, ManifestSource, SettledRows,
    UnfinishedRows,
};
use crate::plan::Plan;
use crate::report::{ReportDestination, ReportSegment};
use crate::report_format::TaskStatus;

/// Returns the manifest of a job, by its source:
/// - that of its plan;
/// - for a recurring plan, the inventory or the changes in it, with the plan's filter;
/// - the rows that failed in an earlier job, and if requested those without an outcome;
/// - the failures in a completion report;
/// - the objects that an earlier job changed, to undo that, with the filter of the undo.
///
/// Retries and failures in a report have no filter: their rows have already passed the one of the earlier job.
///
/// # Errors
/// Returns an error if the journal cannot be read, or if it does not contain the earlier job.
pub fn job_manifest(journal: &Journal, job: &JobRecord, plan: &Plan) -> Result<Manifest, JobError> {
    let source = match &job.source {
        JobSource::Plan => {
            let (Some(inventory), Some(delta_scope)) = (&job.inventory, &job.delta_scope) else {
                return Ok(plan.manifest.clone());
            };
            let source = recurring_source(inventory, delta_scope, Some(journal), plan)?;
            return Ok(Manifest { source, filter: plan.manifest.filter.clone() });
        }
        JobSource::Retry { of, unattempted } => retry_source(journal, of, *unattempted, plan)?,
        JobSource::Report(report) => report_source(report),
        JobSource::Undo(undo) => return undo_manifest(journal, undo),
    };
    Ok(Manifest { source, filter: Filter::default() })
}

/// Returns the objects that a job that is over reported as succeeded. `plan` is the job's stored plan. The manifest has
/// no filter: its rows have passed the job's.
///
/// # Errors
/// Returns an error if the journal cannot be read, or if the job's report does not contain all objects that failed.
pub fn succeeded_objects(journal: &Journal, job: &JobRecord, plan: &Plan) -> Result<Manifest, JobError> {
    let recorded = journal.recorded_progress(job.number)?;
    let folder = JobFolder::of(journal.state_folder(), &job.id);
    let failed = failed_rows_files(job, &folder, &recorded.files, plan)?;
    let settled = SettledRows { folder: folder.path().to_owned(), frontier: recorded.frontier };
    Ok(Manifest { source: ManifestSource::Succeeded { settled, failed }, filter: Filter::default() })
}

/// Returns the manifest source of a recurring job. The source has all objects of the inventory if `journal` is `None`,
/// also for [`DeltaScope::Since`], because what the earlier job left is then not known.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub fn recurring_source(
    inventory: &PinnedInventory,
    delta_scope: &DeltaScope,
    journal: Option<&Journal>,
    plan: &Plan,
) -> Result<ManifestSource, JobError> {
    let ManifestSource::Inventory { dialect, .. } = &plan.manifest.source else {
        return Ok(plan.manifest.source.clone());
    };
    let (bucket, key) = (inventory.bucket(), inventory.key());
    let selector = if let (DeltaScope::Since { job, inventory: before }, Some(journal)) = (delta_scope, journal) {
        let (since_filter, failed, unfinished, unavailable) = match RemainingWork::of_job(journal, job)? {
            Ok(RemainingWork { filter, failed, unfinished }) => (filter, failed, unfinished, None),
            Err(why) => (Filter::default(), Vec::new(), None, Some(why)),
        };
        InventorySelector::Changed(Box::new(InventoryChanges {
            key,
            etag: inventory.etag.clone(),
            since_key: before.key(),
            since_etag: before.etag.clone(),
            since_filter,
            failed,
            unfinished,
            unavailable,
        }))
    } else {
        InventorySelector::Distinct { key, etag: inventory.etag.clone() }
    };
    Ok(ManifestSource::Inventory { bucket, selector, dialect: *dialect })
}

/// The rows that a completed job left.
struct RemainingWork {
    /// The filter of the job's plan at that time.
    filter: Filter,
    /// The files with the rows that failed.
    failed: Vec<FailedRowsFile>,
    /// The rows without an outcome, if any.
    unfinished: Option<UnfinishedRows>,
}

impl RemainingWork {
    /// Returns the rows that this job left, or why they are no longer known.
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
        match remaining_rows(journal, &job, job.progress.remaining() > 0, &plan) {
            Ok((failed, unfinished)) => Ok(Ok(Self { filter: plan.manifest.filter, failed, unfinished })),
            Err(missing @ JobError::FailuresMissing { .. }) => Ok(Err(missing.to_string())),
            Err(error) => Err(error),
        }
    }
}

/// Returns the rows that failed in an earlier job and, with `unattempted`, those without an outcome. A retry has the
/// stored plan of the earlier job, so `plan` says where that job's report is.
fn retry_source(journal: &Journal, of: &JobId, unattempted: bool, plan: &Plan) -> Result<ManifestSource, JobError> {
    let (failed, unfinished) = remaining_rows(journal, &journal.find(of.as_str())?, unattempted, plan)?;
    Ok(ManifestSource::Retry { failed, unfinished })
}

/// Checks that the report of a job that is over contains all objects that failed in it.
///
/// # Errors
/// Returns an error if it does not, or if the journal cannot be read.
pub fn check_failures_recorded(journal: &Journal, job: &JobRecord) -> Result<(), JobError> {
    sealed_failures(job, &journal.recorded_progress(job.number)?.files).map(drop)
}

/// Returns the sealed files with the failed rows of a job that is over. The end of a job seals its open files. A file
/// that is still open was never completed, and has no checksum that proves which rows it must contain.
fn sealed_failures(job: &JobRecord, files: &[ReportFileRecord]) -> Result<Vec<ReportSegment>, JobError> {
    let failed = files.iter().filter(|file| file.status == TaskStatus::Failed).cloned().collect::<Vec<_>>();
    let segments = report_state(&failed)?.sealed;
    let recorded = segments.iter().map(|segment| segment.rows).sum();
    if recorded < job.progress.failed {
        return Err(JobError::FailuresMissing {
            job: job.id.clone(),
            failed: job.progress.failed,
            recorded,
            plan_file: job.plan_file.clone(),
        });
    }
    Ok(segments)
}

/// Returns the files with the rows that failed in a job that is over and, with `unattempted`, the rows without an
/// outcome. `plan` is the job's stored plan, which has the format and the location of its report.
fn remaining_rows(
    journal: &Journal,
    earlier: &JobRecord,
    unattempted: bool,
    plan: &Plan,
) -> Result<(Vec<FailedRowsFile>, Option<UnfinishedRows>), JobError> {
    let recorded = journal.recorded_progress(earlier.number)?;
    let folder = JobFolder::of(journal.state_folder(), &earlier.id);
    let failed = failed_rows_files(earlier, &folder, &recorded.files, plan)?;
    let unfinished =
        unattempted.then(|| UnfinishedRows { folder: folder.path().to_owned(), frontier: recorded.frontier });
    Ok((failed, unfinished))
}

/// Returns the files with the rows that failed in a job that is over. `plan` is the job's stored plan.
fn failed_rows_files(
    job: &JobRecord,
    folder: &JobFolder,
    files: &[ReportFileRecord],
    plan: &Plan,
) -> Result<Vec<FailedRowsFile>, JobError> {
    let destination = ReportDestination::of(&plan.report, &job.id);
    let file = |segment: &ReportSegment| FailedRowsFile {
        location: segment_location(segment, &folder.report_folder(), destination.as_ref()),
        format: plan.report.format,
        md5: segment.md5.hex(),
    };
    Ok(sealed_failures(job, files)?.iter().map(file).collect())
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

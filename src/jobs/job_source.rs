//! Resolves where a job's objects come from: the manifest of its plan, or what an earlier job did not complete.

use std::path::{Path, PathBuf};

use batchplan_store::object::{BucketName, ObjectKey};

use crate::codec::TaskStatus;
use crate::job::JobId;
use crate::journal::{JobFolder, JobRecord, JobSource, Journal, RecurringScope, ReportSource};
use crate::manifest::{
    FailedRowsFile, FileLocation, Filter, Manifest, ManifestSource, ReportRowFilter, UnfinishedRows,
};
use crate::plan::Plan;
use crate::report::{ReportDestination, ReportSegment};

use super::error::JobError;
use super::recurring;
use crate::engine::report_state;

/// Returns the manifest of a job: that of its plan, or everything that an earlier job did not complete. The latter has
/// already passed the plan's filter.
///
/// # Errors
/// Returns an error if what the earlier job left cannot be found.
pub fn job_manifest(journal: &Journal, job: &JobRecord, plan: &Plan) -> Result<Manifest, JobError> {
    let source = match &job.source {
        JobSource::Plan => {
            let recurrence = job.inventory.clone().zip(job.delta_scope.clone());
            let Some((inventory, portion)) = recurrence else { return Ok(plan.manifest.clone()) };
            let recurrence = RecurringScope { inventory, delta_scope: portion, as_of: job.work_span.scope_decided };
            let source = recurring::manifest_source(&recurrence, Some(journal), plan)?;
            return Ok(Manifest { source, filter: plan.manifest.filter.clone() });
        }
        JobSource::Retry { of, unattempted } => retry_source(journal, of, *unattempted, plan)?,
        JobSource::Report(report) => report_source(report),
    };
    Ok(Manifest { source, filter: Filter::default() })
}

pub(super) fn report_source(report: &ReportSource) -> ManifestSource {
    let place = match &report.bucket {
        Some(bucket) => FileLocation::Object {
            bucket: BucketName::new(bucket),
            key: ObjectKey::decode(report.name.as_bytes()),
            etag: None,
        },
        None => FileLocation::Local(PathBuf::from(&report.name)),
    };
    let status = Some(report.status.clone()).filter(|status| !status.is_empty());
    let code = Some(report.code.clone()).filter(|code| !code.is_empty());
    ManifestSource::Report { location: place, row_filter: ReportRowFilter { status, code } }
}

/// Returns the failed rows of an earlier job's report and, with `unattempted`, the rows that it never attempted.
fn retry_source(journal: &Journal, of: &JobId, unattempted: bool, plan: &Plan) -> Result<ManifestSource, JobError> {
    let (failed, rest) = remaining_rows(journal, &journal.find(of.as_str())?, unattempted, plan)?;
    Ok(ManifestSource::Retry { failed, unfinished: rest })
}

/// Returns the files of a job's report that contain failures and, with `unattempted`, the rows that the job never
/// settled.
pub(super) fn remaining_rows(
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
    let place = |segment: &ReportSegment| segment_location(segment, &folder.report_folder(), destination.as_ref());
    let failed = segments
        .iter()
        .map(|segment| FailedRowsFile { location: place(segment), format: plan.report.format, md5: segment.md5.hex() })
        .collect();
    let rest = unattempted.then(|| UnfinishedRows { folder: folder.path().to_owned(), frontier: recorded.frontier });
    Ok((failed, rest))
}

/// Returns the local file while it exists, and the published object once the file was removed.
fn segment_location(segment: &ReportSegment, folder: &Path, destination: Option<&ReportDestination>) -> FileLocation {
    let path = segment.path(folder);
    match destination.filter(|_| segment.published && !path.exists()) {
        Some(there) => {
            FileLocation::Object { bucket: there.bucket().clone(), key: there.segment_key(segment), etag: None }
        }
        None => FileLocation::Local(path),
    }
}

//! Resolves where a job's objects come from: the manifest of its plan, or what an earlier job did not complete.

use std::path::{Path, PathBuf};

use crate::codec::TaskStatus;
use crate::job::JobId;
use crate::journal::{JobFolder, JobRecord, Journal, Origin, Recurrence, ReportOrigin};
use crate::manifest::{CsvPlace, Filter, Manifest, Narrowing, ReportFile, Rest, Source};
use crate::object::{Bucket, Key};
use crate::plan::Plan;
use crate::report::{Destination, Segment};

use super::error::JobError;
use super::recurring;
use crate::engine::state_of;

/// Returns the manifest of a job: that of its plan, or everything that an earlier job did not complete. The latter has
/// already passed the plan's filter.
///
/// # Errors
/// Returns an error if what the earlier job left cannot be found.
pub fn manifest(journal: &Journal, job: &JobRecord, plan: &Plan) -> Result<Manifest, JobError> {
    let source = match &job.origin {
        Origin::Plan => {
            let recurrence = job.inventory.clone().zip(job.portion.clone());
            let Some((inventory, portion)) = recurrence else { return Ok(plan.manifest.clone()) };
            let recurrence = Recurrence { inventory, portion, as_of: job.span.created };
            let source = recurring::source(&recurrence, Some(journal), plan)?;
            return Ok(Manifest { source, filter: plan.manifest.filter.clone() });
        }
        Origin::Retry { of, unattempted } => retry(journal, of, *unattempted, plan)?,
        Origin::Report(report) => from_report(report),
    };
    Ok(Manifest { source, filter: Filter::default() })
}

pub(super) fn from_report(report: &ReportOrigin) -> Source {
    let place = match &report.bucket {
        Some(bucket) => {
            CsvPlace::Object { bucket: Bucket::new(bucket), key: Key::decode(report.name.as_bytes()), etag: None }
        }
        None => CsvPlace::Local(PathBuf::from(&report.name)),
    };
    let status = Some(report.status.clone()).filter(|status| !status.is_empty());
    let code = Some(report.code.clone()).filter(|code| !code.is_empty());
    Source::Report { place, narrowing: Narrowing { status, code } }
}

/// Returns the failed rows of an earlier job's report and, with `unattempted`, the rows that it never attempted.
fn retry(journal: &Journal, of: &JobId, unattempted: bool, plan: &Plan) -> Result<Source, JobError> {
    let (failed, rest) = left_by(journal, &journal.find(of.as_str())?, unattempted, plan)?;
    Ok(Source::Retry { failed, rest })
}

/// Returns the files of a job's report that contain failures and, with `unattempted`, the rows that the job never
/// settled.
pub(super) fn left_by(
    journal: &Journal,
    first: &JobRecord,
    unattempted: bool,
    plan: &Plan,
) -> Result<(Vec<ReportFile>, Option<Rest>), JobError> {
    let recorded = journal.recorded(first.number)?;
    let folder = JobFolder::of(journal.state(), &first.id);
    let failed = recorded.files.iter().filter(|file| file.status == TaskStatus::Failed).cloned().collect::<Vec<_>>();
    let segments = state_of(&failed)?.sealed;
    let destination = Destination::of(&plan.report, &first.id);
    let place = |segment: &Segment| place_of(segment, &folder.report(), destination.as_ref());
    let failed = segments
        .iter()
        .map(|segment| ReportFile { place: place(segment), format: plan.report.format, md5: segment.md5.hex() })
        .collect();
    let rest = unattempted.then(|| Rest { folder: folder.path().to_owned(), frontier: recorded.frontier });
    Ok((failed, rest))
}

/// Returns the local file while it exists, and the published object once the file was removed.
fn place_of(segment: &Segment, folder: &Path, destination: Option<&Destination>) -> CsvPlace {
    let path = segment.path(folder);
    match destination.filter(|_| segment.published && !path.exists()) {
        Some(there) => CsvPlace::Object { bucket: there.bucket().clone(), key: there.segment(segment), etag: None },
        None => CsvPlace::Local(path),
    }
}

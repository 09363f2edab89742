//! The source of an undo: the rows whose objects the undone job captured and changed, in the order in which that job
//! processed them. That order spreads the requests over the keys, and the captures are read in it.

use std::path::Path;

use batchplan_store::object::{ObjectId, VersionId};
use batchplan_store::task::{RowOrigin, Task};

use super::error::ManifestError;
use super::filter::{ManifestRow, RowMetadata};
use super::frozen::FrozenManifest;
use super::input;
use super::name_sorter::{NameSorter, RowSorter, SortedRows};
use super::report;
use super::retrying_store::RetryingStore;
use super::row_visitor::{BadRows, RowFlow, RowVisitor};
use super::spec::UndoneJob;
use crate::captures::{Capture, CaptureError, CaptureReader};
use crate::frontier::RowFrontier;
use crate::paths::show_path;

/// The number of rows read from the job's manifest at once.
const BATCH: usize = 1024;

/// Passes the rows that the job captured and changed to the visitor, each with its origin.
pub(super) async fn read<V: RowVisitor>(
    job: &UndoneJob,
    retrying: &RetryingStore,
    mut visitor: V,
) -> Result<V, ManifestError> {
    visitor.intake().filter().require_names_only("an undo")?;
    let mut selected = match &job.report {
        None => None,
        Some((location, row_filter)) => {
            let (names, _) = report::read(location, row_filter, retrying, NameSorter::new(&visitor)).await?;
            let (rows, job) = (RowSorter::new(&visitor), job.clone());
            Some(input::run_blocking(move || select_reported(&job, names, rows)).await?)
        }
    };
    let job = job.clone();
    input::run_blocking(move || {
        let mut bad = BadRows::default();
        let mut row = 0;
        let mut next = selected.as_mut().map(SortedRows::next).transpose()?.flatten();
        for_each_captured(&job.folder, &job.captures, &mut |task, capture| {
            if let Some(selected) = &mut selected {
                if next != Some(task.id) {
                    return Ok(next.is_some());
                }
                next = selected.next()?;
            }
            if !(job.changes)(&capture.former) {
                return Ok(true);
            }
            row += 1;
            match visitor.visit(&row_of(task))? {
                RowFlow::Continue => {}
                RowFlow::Invalid(why) => bad.push(row, row, why),
                RowFlow::Stop => return Err(ManifestError::Stopped),
            }
            Ok(!bad.limit_reached())
        })?;
        bad.into_result(&show_path(&job.folder).to_string())?;
        Ok(visitor)
    })
    .await
}

/// Returns the captured rows of objects that a report lists as failed.
fn select_reported(job: &UndoneJob, mut names: NameSorter, mut rows: RowSorter) -> Result<SortedRows, ManifestError> {
    for_each_captured(&job.folder, &job.captures, &mut |task, _| names.push(&task.object, task.id).map(|()| true))?;
    names.visit(|_, row, is_reported| {
        if is_reported {
            rows.push(row)?;
        }
        Ok(RowFlow::Continue)
    })?;
    rows.finish()
}

/// Calls `visit` for each object that a job captured, in the order in which the job processed them, until it returns
/// `false`. `folder` is the job's folder, and `captures` the folder with its captures.
///
/// Reads files and decompresses: call it on a thread that may block.
///
/// # Errors
/// Returns an error if the manifest or the captures cannot be read or do not belong together, and the errors of `visit`.
pub fn for_each_captured(
    folder: &Path,
    captures: &Path,
    visit: &mut dyn FnMut(&Task, &Capture) -> Result<bool, ManifestError>,
) -> Result<(), ManifestError> {
    let frozen = FrozenManifest::open(folder)?.ok_or_else(|| {
        let help = "restore the objects from a backup, or with another plan";
        ManifestError::malformed(&show_path(folder).to_string(), "the job's manifest no longer exists", help)
    })?;
    let reader = CaptureReader::open(captures).map_err(|error| capture_error(captures, &error))?;
    let mut rows = reader.iter();
    let mut next_capture = || rows.next().transpose().map_err(|error| capture_error(captures, &error));
    let mut next = next_capture()?;
    for batch in frozen.interleaved_tasks(&RowFrontier::default(), BATCH) {
        if next.is_none() {
            return Ok(());
        }
        for task in batch? {
            let Some(capture) = next.take_if(|capture| capture.row == task.id) else { continue };
            if !visit(&task, &capture)? {
                return Ok(());
            }
            next = next_capture()?;
        }
    }
    match next {
        None => Ok(()),
        Some(_) => {
            Err(ManifestError::corrupt(captures, "it has captures of rows that the job's manifest does not have"))
        }
    }
}

/// Converts an error of the captures, and adds what to do about it.
fn capture_error(captures: &Path, error: &CaptureError) -> ManifestError {
    let why = match error.help() {
        Some(help) => format!("{error}: {help}"),
        None => error.to_string(),
    };
    ManifestError::Read { place: show_path(captures).to_string(), cause: std::io::Error::other(why) }
}

fn row_of(task: &Task) -> ManifestRow<'_> {
    let ObjectId { bucket, key, version } = &task.object;
    let origin = RowOrigin { row: task.id, made_by: task.origin.map(|origin| origin.row) };
    ManifestRow {
        bucket: bucket.as_str(),
        key: key.as_bytes(),
        version: version.as_ref().map(VersionId::as_str),
        metadata: RowMetadata { origin: Some(origin), ..RowMetadata::default() },
    }
}

#[cfg(test)]
mod tests;

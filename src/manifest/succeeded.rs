//! The source of `verify` for a job: the objects that succeeded in an earlier job, which are those with an outcome
//! except those that failed.
//!
//! The journal knows which rows have an outcome by their position, and the job's report knows which objects failed by
//! their name. If any failed, both sets of names are sorted together on disk, so that one pass in bounded memory leaves
//! out those that failed. An object with two rows, of which only one failed, is left out too: its state is whatever the
//! other row made of it, before or after the failure.

use batchplan_store::object::{ObjectId, VersionId};
use batchplan_store::task::TaskId;

use super::error::ManifestError;
use super::filter::{ManifestRow, RowMetadata};
use super::frozen::FrozenManifest;
use super::input;
use super::name_sorter::NameSorter;
use super::report;
use super::retrying_store::RetryingStore;
use super::row_visitor::{BadRows, RowFlow, RowVisitor};
use super::spec::{FailedRowsFile, SettledRows};
use crate::paths::show_path;

/// The number of rows read from the job's manifest at once.
const BATCH: usize = 1024;

/// Passes the objects that succeeded to the visitor. If any object of the job failed, they are in the order of their
/// names, each once.
pub(super) async fn read<V: RowVisitor>(
    settled: &SettledRows,
    failed: &[FailedRowsFile],
    retrying: &RetryingStore,
    visitor: V,
) -> Result<V, ManifestError> {
    visitor.intake().filter().require_names_only("a verification")?;
    let settled = settled.clone();
    if failed.is_empty() {
        return input::run_blocking(move || {
            let mut visitor = visitor;
            for_each_settled(&settled, |object| visitor.visit(&row_of(object)))?;
            Ok(visitor)
        })
        .await;
    }
    let mut names = report::read_failed_rows(failed, retrying, NameSorter::new(&visitor)).await?;
    input::run_blocking(move || {
        let mut visitor = visitor;
        // Rows with the same name are one object.
        let row = TaskId { part: 0, row: 0 };
        for_each_settled(&settled, |object| names.push(object, row).map(|()| RowFlow::Continue))?;
        names.visit(
            |object, _, has_failed| {
                if has_failed { Ok(RowFlow::Continue) } else { visitor.visit(&row_of(&object)) }
            },
        )?;
        Ok(visitor)
    })
    .await
}

/// Passes the objects of all rows with an outcome. A row whose object no request can name has failed.
fn for_each_settled(
    settled: &SettledRows,
    mut visit: impl FnMut(&ObjectId) -> Result<RowFlow, ManifestError>,
) -> Result<(), ManifestError> {
    let SettledRows { folder, frontier } = settled;
    let name = show_path(folder).to_string();
    let frozen = FrozenManifest::open(folder)?.ok_or_else(|| {
        ManifestError::malformed(&name, "the job's manifest no longer exists", "verify the plan file instead")
    })?;
    let mut bad = BadRows::default();
    let mut row = 0;
    for batch in frozen.settled_tasks(frontier, BATCH) {
        for task in batch?.into_iter().filter(|task| task.unlistable.is_none()) {
            row += 1;
            match visit(&task.object)? {
                RowFlow::Continue => {}
                RowFlow::Invalid(why) => bad.push(row, row, why),
                RowFlow::Stop => return Err(ManifestError::Stopped),
            }
        }
        if bad.limit_reached() {
            break;
        }
    }
    bad.into_result(&name)
}

fn row_of(ObjectId { bucket, key, version }: &ObjectId) -> ManifestRow<'_> {
    ManifestRow {
        bucket: bucket.as_str(),
        key: key.as_bytes(),
        version: version.as_ref().map(VersionId::as_str),
        metadata: RowMetadata::default(),
    }
}

#[cfg(test)]
mod tests;

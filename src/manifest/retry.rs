//! The source of a retry: the failed rows in the report files of an earlier job, then the rows that it never finished.

use batchplan_store::object::{ObjectId, VersionId};
use batchplan_store::task::Task;

use super::error::ManifestError;
use super::filter::{ManifestRow, RowMetadata};
use super::frozen::FrozenManifest;
use super::input;
use super::report;
use super::retrying_store::RetryingStore;
use super::row_visitor::{BadRows, RowFlow, RowVisitor};
use super::spec::{FailedRowsFile, UnfinishedRows};
use crate::paths::show_path;

/// The number of rows read from the first job's manifest at once.
const BATCH: usize = 1024;

/// Passes both kinds of rows to the visitor. An object that occurs in both gives two rows.
pub(super) async fn read<V: RowVisitor>(
    failed: &[FailedRowsFile],
    rest: Option<&UnfinishedRows>,
    retrying: &RetryingStore,
    visitor: V,
) -> Result<V, ManifestError> {
    visitor.intake().filter().require_names_only("a retry")?;
    let visitor = report::read_failed_rows(failed, retrying, visitor).await?;
    match rest {
        Some(rest) => read_unfinished(rest, visitor).await,
        None => Ok(visitor),
    }
}

async fn read_unfinished<V: RowVisitor>(rest: &UnfinishedRows, mut visitor: V) -> Result<V, ManifestError> {
    let UnfinishedRows { folder, frontier } = rest.clone();
    input::run_blocking(move || {
        let name = show_path(&folder).to_string();
        let frozen = FrozenManifest::open(&folder)?.ok_or_else(|| {
            let help = "retry it with --failed-only, or apply its plan with --new";
            ManifestError::malformed(&name, "the first job's manifest was not frozen completely", help)
        })?;
        let mut bad = BadRows::default();
        let mut row = 0;
        for batch in frozen.unfinished_tasks(&frontier, BATCH) {
            for task in batch? {
                row += 1;
                match visit_task(&mut visitor, &task)? {
                    RowFlow::Continue => {}
                    RowFlow::Invalid(why) => bad.push(row, row, why),
                    RowFlow::Stop => return Err(ManifestError::Stopped),
                }
            }
            if bad.limit_reached() {
                break;
            }
        }
        bad.into_result(&name)?;
        Ok(visitor)
    })
    .await
}

fn visit_task(visitor: &mut dyn RowVisitor, task: &Task) -> Result<RowFlow, ManifestError> {
    let ObjectId { bucket, key, version } = &task.object;
    let row = ManifestRow {
        bucket: bucket.as_str(),
        key: key.as_bytes(),
        version: version.as_ref().map(VersionId::as_str),
        metadata: RowMetadata::default(),
    };
    match &task.unlistable {
        None => visitor.visit(&row),
        Some(why) => visitor.visit_unlistable(&row, Some(why)),
    }
}

#[cfg(test)]
mod tests;

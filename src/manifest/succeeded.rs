//! The source of `verify` for a job: the objects that succeeded in an earlier job, which are those with an outcome
//! except those that failed.
//!
//! The journal knows which rows have an outcome by their position, and the job's report knows which objects failed by
//! their name. If any failed, both sets of names are sorted together on disk, so that one pass in bounded memory leaves
//! out those that failed. An object with two rows, of which only one failed, is left out too: its state is whatever the
//! other row made of it, before or after the failure.

use std::mem;

use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};

use super::error::ManifestError;
use super::filter::{Filter, ManifestRow, RowMetadata};
use super::frozen::FrozenManifest;
use super::input;
use super::report;
use super::retrying_store::RetryingStore;
use super::row_visitor::{BadRows, ResumableReading, RowFlow, RowIntake, RowVisitor, ScratchSpace};
use super::sort::{ExternalSorter, VERSION_MARK, put_text, take_text};
use super::spec::{FailedRowsFile, SettledRows};
use crate::paths::show_path;

/// The number of rows read from the job's manifest at once.
const BATCH: usize = 1024;

/// The number of objects between two checks of the stop token.
const STOP_CHECK_INTERVAL: u64 = 4096;

/// Follows a key that has no version.
const NO_VERSION: u8 = 0;

/// The last byte of a record: what is known of the object. Of two records of one object, that of a failure comes first.
const FAILED: u8 = 0;
const SETTLED: u8 = 1;

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
        names.kind = SETTLED;
        for_each_settled(&settled, |object| names.visit(&row_of(object)))?;
        names.visit_succeeded(visitor)
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

/// Sorts the names of objects with what is known of them.
struct NameSorter {
    intake: RowIntake,
    sorter: ExternalSorter,
    scratch: ScratchSpace,
    kind: u8,
    record: Vec<u8>,
}

impl NameSorter {
    /// Creates an empty sort for names of failed objects, in the folder of the visitor that will get the others.
    fn new(visitor: &dyn RowVisitor) -> Self {
        let scratch = visitor.scratch();
        let intake = visitor.intake().with_filter(Filter::default());
        let folder = scratch.folder.clone().unwrap_or_else(tempfile::env::temp_dir);
        let sorter = ExternalSorter::new(&folder, scratch.sort_budget, intake.stop_token());
        Self { intake, sorter, scratch, kind: FAILED, record: Vec::new() }
    }

    /// Passes each object without a failure to the visitor.
    fn visit_succeeded<V: RowVisitor>(self, mut visitor: V) -> Result<V, ManifestError> {
        let stop = self.intake.stop_token().clone();
        let mut sorted = self.sorter.finish()?;
        let (mut failed, mut count) = (Vec::new(), 0_u64);
        while sorted.advance()? {
            count += 1;
            if count.is_multiple_of(STOP_CHECK_INTERVAL) && stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
            let Some((kind, name)) = sorted.record().split_last() else { continue };
            if *kind == FAILED {
                name.clone_into(&mut failed);
            } else if name != failed && visitor.visit(&row_of(&decode_name(name)))? == RowFlow::Stop {
                return Err(ManifestError::Stopped);
            }
        }
        Ok(visitor)
    }
}

impl RowVisitor for NameSorter {
    fn intake(&self) -> &RowIntake {
        &self.intake
    }

    fn intake_mut(&mut self) -> &mut RowIntake {
        &mut self.intake
    }

    fn count_row(&mut self) -> Result<RowFlow, ManifestError> {
        self.intake.count_row()?;
        Ok(RowFlow::Continue)
    }

    fn include(&mut self, row: &ManifestRow<'_>) -> Result<RowFlow, ManifestError> {
        let mut record = mem::take(&mut self.record);
        encode_name(row, &mut record);
        record.push(self.kind);
        self.sorter.push(&record)?;
        self.record = record;
        Ok(RowFlow::Continue)
    }

    /// Such an object has failed, and is not among those with an outcome that can be read.
    fn include_unlistable(&mut self, _: &ManifestRow<'_>, _: &str) -> Result<RowFlow, ManifestError> {
        Ok(RowFlow::Continue)
    }

    fn scratch(&self) -> ScratchSpace {
        self.scratch.clone()
    }
}

impl ResumableReading for NameSorter {}

/// Encodes a name so that no other name continues it, and the records of one name are adjacent.
fn encode_name(row: &ManifestRow<'_>, out: &mut Vec<u8>) {
    out.clear();
    put_text(out, row.bucket.as_bytes());
    put_text(out, row.key);
    match row.version {
        Some(version) => {
            out.push(VERSION_MARK);
            put_text(out, version.as_bytes());
        }
        None => out.push(NO_VERSION),
    }
}

fn decode_name(mut rest: &[u8]) -> ObjectId {
    let (bucket, key) = (take_text(&mut rest), take_text(&mut rest));
    let version = rest.strip_prefix(&[VERSION_MARK]).map(|mut rest| take_text(&mut rest));
    ObjectId {
        bucket: BucketName::new(&String::from_utf8_lossy(&bucket)),
        key: ObjectKey::new(key),
        version: version.map(|id| VersionId::new(&String::from_utf8_lossy(&id))),
    }
}

#[cfg(test)]
mod tests;

//! The source of a retry: the failed rows in the report files of an earlier job, then the rows that it never finished.

use batchplan_store::object::{ObjectId, VersionId};

use super::csv::reject_metadata_filter;
use super::error::{BadRows, ManifestError};
use super::filter::{ManifestRow, RowMetadata};
use super::frozen::FrozenManifest;
use super::input;
use super::report::FailedRowReader;
use super::retrying_store::RetryingStore;
use super::row_writer::RowWriter;
use super::spec::{FailedRowsFile, FileLocation, ReportRowFilter, UnfinishedRows};

/// The number of rows read from the first job's manifest at once.
const BATCH: usize = 1024;

/// Writes both kinds of rows to the row writer. An object that occurs in both gives two rows.
pub(super) async fn read(
    failed: &[FailedRowsFile],
    rest: Option<&UnfinishedRows>,
    patient: &RetryingStore,
    mut sink: RowWriter,
) -> Result<RowWriter, ManifestError> {
    reject_metadata_filter(sink.filter(), "a retry")?;
    let mut rows = FailedRowReader::new(ReportRowFilter::default());
    for file in failed {
        (sink, rows) = read_file(file, patient, (sink, rows)).await?;
    }
    rows.add_warnings(&mut sink);
    match rest {
        Some(rest) => read_unfinished(rest, sink).await,
        None => Ok(sink),
    }
}

async fn read_file(
    file: &FailedRowsFile,
    patient: &RetryingStore,
    hands: (RowWriter, FailedRowReader),
) -> Result<(RowWriter, FailedRowReader), ManifestError> {
    match &file.location {
        FileLocation::Object { bucket, key, .. } => {
            FailedRowReader::read_object(bucket, key, file.format, &file.md5, patient, hands).await
        }
        FileLocation::Local(path) => {
            let (path, format, md5, stop) = (path.clone(), file.format, file.md5.clone(), patient.stop_token().clone());
            input::run_blocking(move || FailedRowReader::read_file(&path, format, &md5, &stop, hands)).await
        }
    }
}

async fn read_unfinished(rest: &UnfinishedRows, mut sink: RowWriter) -> Result<RowWriter, ManifestError> {
    let UnfinishedRows { folder, frontier } = rest.clone();
    input::run_blocking(move || {
        let name = folder.display().to_string();
        let frozen = FrozenManifest::open(&folder)?.ok_or_else(|| {
            let help = "retry it with --failed-only, or apply its plan with --new";
            ManifestError::malformed(&name, "the first job's manifest was not frozen completely", help)
        })?;
        let mut bad = BadRows::new();
        let mut row = 0;
        for batch in frozen.unfinished_tasks(&frontier, BATCH) {
            for task in batch? {
                row += 1;
                if let Err(why) = write_object(&mut sink, &task.object)? {
                    bad.push(row, row, why);
                }
            }
            if bad.limit_reached() {
                break;
            }
        }
        bad.into_result(&name)?;
        Ok(sink)
    })
    .await
}

fn write_object(sink: &mut RowWriter, object: &ObjectId) -> Result<Result<(), String>, ManifestError> {
    sink.push(&ManifestRow {
        bucket: object.bucket.as_str(),
        key: object.key.as_bytes(),
        version: object.version.as_ref().map(VersionId::as_str),
        metadata: RowMetadata::default(),
    })
}

#[cfg(test)]
mod tests;

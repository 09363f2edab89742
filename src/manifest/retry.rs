//! The source of a retry: the failed rows in the report files of an earlier job, then the rows that it never finished.

use super::csv::refuse_facts;
use super::error::{BadRows, ManifestError};
use super::filter::{Facts, Row};
use super::frozen::Frozen;
use super::input;
use super::patient::Patient;
use super::report::FailedRows;
use super::sink::Sink;
use super::spec::{CsvPlace, Narrowing, ReportFile, Rest};
use crate::object::{ObjectId, VersionId};

/// The number of rows read from the first job's manifest at once.
const BATCH: usize = 1024;

/// Writes both kinds of rows to the row writer. An object that occurs in both gives two rows.
pub(super) async fn read(
    failed: &[ReportFile],
    rest: Option<&Rest>,
    patient: &Patient,
    mut sink: Sink,
) -> Result<Sink, ManifestError> {
    refuse_facts(sink.filter(), "a retry")?;
    let mut rows = FailedRows::new(Narrowing::default());
    for file in failed {
        (sink, rows) = read_file(file, patient, (sink, rows)).await?;
    }
    rows.warn(&mut sink);
    match rest {
        Some(rest) => read_rest(rest, sink).await,
        None => Ok(sink),
    }
}

async fn read_file(
    file: &ReportFile,
    patient: &Patient,
    hands: (Sink, FailedRows),
) -> Result<(Sink, FailedRows), ManifestError> {
    match &file.place {
        CsvPlace::Object { bucket, key, .. } => {
            FailedRows::read_object(bucket, key, file.format, &file.md5, patient, hands).await
        }
        CsvPlace::Local(path) => {
            let (path, format, md5, stop) = (path.clone(), file.format, file.md5.clone(), patient.stop().clone());
            input::blocking(move || FailedRows::read_file(&path, format, &md5, &stop, hands)).await
        }
    }
}

async fn read_rest(rest: &Rest, mut sink: Sink) -> Result<Sink, ManifestError> {
    let Rest { folder, frontier } = rest.clone();
    input::blocking(move || {
        let name = folder.display().to_string();
        let frozen = Frozen::open(&folder)?.ok_or_else(|| {
            let help = "retry it with --failed-only, or apply its plan with --new";
            ManifestError::malformed(&name, "the first job's manifest was not frozen to its end", help)
        })?;
        let mut bad = BadRows::new();
        let mut row = 0;
        for batch in frozen.unsettled(&frontier, BATCH) {
            for task in batch? {
                row += 1;
                if let Err(why) = push(&mut sink, &task.object)? {
                    bad.push(row, row, why);
                }
            }
            if bad.are_hopeless() {
                break;
            }
        }
        bad.verdict(&name)?;
        Ok(sink)
    })
    .await
}

fn push(sink: &mut Sink, object: &ObjectId) -> Result<Result<(), String>, ManifestError> {
    sink.push(&Row {
        bucket: object.bucket.as_str(),
        key: object.key.as_bytes(),
        version: object.version.as_ref().map(VersionId::as_str),
        facts: Facts::default(),
    })
}

#[cfg(test)]
mod tests;

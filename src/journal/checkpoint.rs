//! Checkpoints: a job's progress, written in one transaction and read when the job is resumed. A consistent copy of the
//! journal, made for remote state while jobs are running, contains the progress at one moment.
//!
//! A checkpoint contains the settled rows. The row at which a killed job continues is found from them: `frontier` has
//! the first unsettled row of each part (`first_unsettled`), and `manifest/frozen` reads the manifest from there
//! (`interleaved_tasks`, `unfinished_tasks`).

use std::path::Path;
use std::time::Duration;

use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use batchplan_store::task::TaskId;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::db::{Journal, copy_database, open_database};
use super::error::{DatabaseCommandError, JournalError};
use super::failure_tally::{FailureCode, FailureExample, FailureGroup, FailureTally};
use super::row::{
    ChecksumProof, ChecksumValue, checksum, count_column, count_to_sql, invalid_value, milliseconds, named_column,
    parsed_column, verify,
};
use crate::failpoint;
use crate::frontier::{PartWatermark, RowFrontier};
use crate::job::{JobId, JobStatus, Progress};
use crate::report_format::TaskStatus;

/// A job's progress since the last checkpoint. The report files are already synced to disk up to the recorded
/// position.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Row counts at this checkpoint.
    pub progress: Progress,
    /// The number of objects that may be changed without an outcome before the next checkpoint, or that were
    /// abandoned if this is the last one.
    pub in_doubt: u64,
    /// How many of the remaining rows, in processing order, may be started before the next checkpoint.
    pub maybe_started: u64,
    /// How long the job has been active in all runs.
    pub active_time: Duration,
    /// The first row that was not started.
    pub next_row: Option<TaskId>,
    /// The parts of the frontier that changed.
    pub parts: Vec<PartWatermark>,
    /// The report files that changed.
    pub files: Vec<ReportFileRecord>,
    /// The failures whose counts changed.
    pub failures: Vec<(FailureCode, FailureGroup)>,
}

/// A report file, as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFileRecord {
    /// The file's number, in the order in which the report's files were started.
    pub number: u32,
    /// The status of the tasks in the file's rows.
    pub status: TaskStatus,
    /// The file's name relative to the report folder.
    pub name: String,
    /// The number of valid bytes; bytes after them are ignored.
    pub bytes: u64,
    /// The number of rows in these bytes.
    pub rows: u64,
    /// The MD5 of a sealed file in hex; `None` while it is open.
    pub md5: Option<String>,
    /// The MD5 of the valid bytes of an open file in hex. Earlier versions recorded none.
    pub open_md5: Option<String>,
    /// Whether the file is published where the plan wants it.
    pub published: bool,
}

/// A job's progress as of its last checkpoint.
#[derive(Clone, Debug, Default)]
pub struct RecordedProgress {
    /// The rows that have an outcome.
    pub frontier: RowFrontier,
    /// The report files.
    pub files: Vec<ReportFileRecord>,
    /// The failures by error code.
    pub tally: FailureTally,
    /// Whether an earlier version recorded a part of it without checksums.
    pub unverified: bool,
}

impl Journal {
    /// Records a checkpoint in one transaction. On an error, nothing is recorded.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub async fn record_checkpoint(&self, job: i64, checkpoint: Checkpoint) -> Result<(), JournalError> {
        let (progress, active) = (checkpoint.progress, checkpoint.active_time);
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            write_checkpoint(&transaction, job, &checkpoint)?;
            failpoint::hit("journal-before-commit");
            transaction.commit()?;
            failpoint::hit("journal-after-commit");
            Ok(())
        })
        .await?;
        self.notify_checkpoint(job, progress, active);
        Ok(())
    }

    /// Reads the recorded progress of a job.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read or a checksum does not match.
    pub fn recorded_progress(&self, job: i64) -> Result<RecordedProgress, JournalError> {
        self.run_blocking(move |connection| {
            let mut proofs = vec![verify_job_row(connection, job)?];
            let frontier = read_frontier(connection, job, &mut proofs)?;
            let files = report_files_with_proofs(connection, job, &mut proofs)?;
            let open_unproven = files.iter().any(|file| file.md5.is_none() && file.open_md5.is_none());
            let unproven = open_unproven || proofs.contains(&ChecksumProof::Missing);
            Ok(RecordedProgress { frontier, files, tally: read_failure_tally(connection, job)?, unverified: unproven })
        })
    }

    /// Accepts progress that an earlier version recorded without checksums, and adds the checksums.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub fn accept_unverified(&self, job: i64) -> Result<(), JournalError> {
        self.run_blocking(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let marks = frontier_marks(&transaction, job, &mut Vec::new())?;
            record_frontier(&transaction, job, &marks)?;
            for file in report_files(&transaction, job)? {
                update_segment_checksum(&transaction, job, file.number)?;
            }
            update_job_checksum(&transaction, job)?;
            Ok(transaction.commit()?)
        })
    }

    /// Discards the outcomes of a job whose report is lost: all its objects are processed again. It stays recorded
    /// that they may have been changed.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub fn discard_outcomes(&self, job: i64) -> Result<(), JournalError> {
        self.run_blocking(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // The first rows are those that were finished, followed by those that may have been started.
            let sql = "UPDATE job SET lost = max(lost, succeeded + failed), succeeded = 0, failed = 0, unchanged = 0,
                                      in_doubt = min(total, succeeded + failed + in_doubt),
                                      reach = min(total, succeeded + failed + reach)
                       WHERE number = ?1";
            transaction.execute(sql, [job])?;
            for table in ["frontier", "segment", "example", "failure"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE job = ?1"), [job])?;
            }
            update_job_checksum(&transaction, job)?;
            Ok(transaction.commit()?)
        })
    }

    /// Records that a report file is published where the plan wants it.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub async fn mark_published(&self, job: i64, number: u32) -> Result<(), JournalError> {
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let sql = "UPDATE segment SET published = 1 WHERE job = ?1 AND number = ?2";
            transaction.execute(sql, params![job, number])?;
            update_segment_checksum(&transaction, job, number)?;
            Ok(transaction.commit()?)
        })
        .await
    }
}

fn write_checkpoint(
    transaction: &Transaction<'_>,
    job: i64,
    checkpoint: &Checkpoint,
) -> Result<(), DatabaseCommandError> {
    let Checkpoint { progress, in_doubt, maybe_started, active_time, next_row, parts, files, failures } = checkpoint;
    let updated = transaction
        .prepare_cached(
            "UPDATE job SET total = ?2, succeeded = ?3, failed = ?4, in_doubt = ?5, active_ms = ?6, taken_part = ?7,
                        taken_row = ?8, reach = ?9, unchanged = ?10
         WHERE number = ?1",
        )?
        .execute(params![
            job,
            count_to_sql(progress.total),
            count_to_sql(progress.succeeded),
            count_to_sql(progress.failed),
            count_to_sql(*in_doubt),
            milliseconds(*active_time),
            next_row.map(|row| row.part),
            next_row.map(|row| row.row),
            count_to_sql(*maybe_started),
            count_to_sql(progress.unchanged),
        ])?;
    if updated != 1 {
        return Err(JournalError::NoSuchJob(format!("number {job}")).into());
    }
    update_job_checksum(transaction, job)?;
    record_frontier(transaction, job, parts)?;
    record_report_files(transaction, job, files)?;
    for (code, reason) in failures {
        record_failure(transaction, job, code, reason)?;
    }
    Ok(())
}

fn record_frontier(
    transaction: &Transaction<'_>,
    job: i64,
    parts: &[PartWatermark],
) -> Result<(), DatabaseCommandError> {
    for PartWatermark { part, low, above_bits: above } in parts {
        let above: Vec<u8> = above.iter().flat_map(|word| word.to_le_bytes()).collect();
        let sum = frontier_checksum(job, *part, *low, &above);
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO frontier (job, part, low, above, checksum) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![job, part, low, above, sum])?;
    }
    Ok(())
}

/// Records report files, each with its checksum.
fn record_report_files(
    transaction: &Transaction<'_>,
    job: i64,
    files: &[ReportFileRecord],
) -> Result<(), DatabaseCommandError> {
    for file in files {
        // Never reset `mark_published`: a checkpoint prepared earlier may be recorded later.
        transaction
            .prepare_cached(
                "INSERT INTO segment (job, number, status, name, bytes, rows, md5, published, open_md5)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT DO UPDATE SET bytes = ?5, rows = ?6, md5 = ?7, published = max(published, ?8),
                                           open_md5 = ?9",
            )?
            .execute(params![
                job,
                file.number,
                file.status.as_str(),
                file.name,
                count_to_sql(file.bytes),
                count_to_sql(file.rows),
                file.md5,
                file.published,
                file.open_md5,
            ])?;
        update_segment_checksum(transaction, job, file.number)?;
    }
    Ok(())
}

fn record_failure(
    transaction: &Transaction<'_>,
    job: i64,
    code: &FailureCode,
    reason: &FailureGroup,
) -> Result<(), DatabaseCommandError> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO failure (job, code, http, count) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![job, code.code, code.http, count_to_sql(reason.count)])?;
    for (place, FailureExample { object, message }) in (0_u32..).zip(&reason.examples) {
        transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO example (job, code, http, place, bucket, key, version, message)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                job,
                code.code,
                code.http,
                place,
                object.bucket.as_str(),
                object.key.as_bytes(),
                object.version.as_ref().map(VersionId::as_str),
                message,
            ])?;
    }
    Ok(())
}

/// Verifies the checksum of the counts in a job's own row.
fn verify_job_row(connection: &Connection, job: i64) -> Result<ChecksumProof, DatabaseCommandError> {
    let sql = format!("SELECT {CHECKED_JOB_COLUMNS} FROM job WHERE number = ?1");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([job])?;
    match rows.next()? {
        Some(row) => {
            let has_no_checkpoint = row.get::<_, Option<i64>>("taken_part")?.is_none();
            let proof = verify(row, job_checksum(row)?)?;
            // A job without a checkpoint has nothing to verify.
            Ok(if has_no_checkpoint { ChecksumProof::Verified } else { proof })
        }
        None => Ok(ChecksumProof::Verified),
    }
}

fn read_frontier(
    connection: &Connection,
    job: i64,
    proofs: &mut Vec<ChecksumProof>,
) -> Result<RowFrontier, DatabaseCommandError> {
    Ok(RowFrontier::from_parts(frontier_marks(connection, job, proofs)?))
}

fn frontier_marks(
    connection: &Connection,
    job: i64,
    proofs: &mut Vec<ChecksumProof>,
) -> Result<Vec<PartWatermark>, DatabaseCommandError> {
    let mut statement = connection.prepare("SELECT part, low, above, checksum FROM frontier WHERE job = ?1")?;
    let marks = statement.query_map([job], |row| {
        let above: Vec<u8> = row.get("above")?;
        let (part, low) = (row.get("part")?, row.get("low")?);
        let proof = verify(row, frontier_checksum(job, part, low, &above))?;
        let (words, rest) = above.as_chunks::<8>();
        let above: Vec<_> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let mark = PartWatermark { part, low, above_bits: above };
        if rest.is_empty() && mark.is_valid() {
            Ok((mark, proof))
        } else {
            Err(invalid_value(row, "above", FrontierMarkError))
        }
    })?;
    let (marks, found): (Vec<_>, Vec<_>) = marks.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    proofs.extend(found);
    Ok(marks)
}

/// The journal holds finished rows that no part can have.
#[derive(Debug, thiserror::Error)]
#[error("not valid settled rows")]
struct FrontierMarkError;

fn report_files(connection: &Connection, job: i64) -> Result<Vec<ReportFileRecord>, DatabaseCommandError> {
    report_files_with_proofs(connection, job, &mut Vec::new())
}

fn report_files_with_proofs(
    connection: &Connection,
    job: i64,
    proofs: &mut Vec<ChecksumProof>,
) -> Result<Vec<ReportFileRecord>, DatabaseCommandError> {
    let mut statement = connection.prepare("SELECT * FROM segment WHERE job = ?1 ORDER BY number")?;
    let files = statement.query_map([job], |row| {
        proofs.push(verify(row, segment_checksum(row)?)?);
        let status = |name: &str| TaskStatus::ALL.into_iter().find(|status| status.as_str() == name);
        Ok(ReportFileRecord {
            number: row.get("number")?,
            status: named_column(row, "status", status)?,
            name: report_file_name(row)?,
            bytes: count_column(row, "bytes")?,
            rows: count_column(row, "rows")?,
            md5: row.get("md5")?,
            open_md5: row.get("open_md5")?,
            published: row.get("published")?,
        })
    })?;
    Ok(files.collect::<Result<_, _>>()?)
}

/// Reads the name of a report file. The journal may come from another source, so the name must not lead outside the
/// report folder.
fn report_file_name(row: &Row<'_>) -> rusqlite::Result<String> {
    let name: String = row.get("name")?;
    let plain = |part: &str| {
        let bytes = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(bytes)
    };
    if name.split('/').all(plain) { Ok(name) } else { Err(invalid_value(row, "name", ReportFileNameError)) }
}

/// The journal holds a file name that no report has.
#[derive(Debug, thiserror::Error)]
#[error("not the name of a report file")]
struct ReportFileNameError;

fn read_failure_tally(connection: &Connection, job: i64) -> Result<FailureTally, DatabaseCommandError> {
    let mut statement = connection.prepare("SELECT code, http, count FROM failure WHERE job = ?1")?;
    let reasons = statement.query_map([job], |row| {
        let code = FailureCode { code: row.get("code")?, http: row.get("http")? };
        Ok((code, count_column(row, "count")?))
    })?;
    let mut examples = connection.prepare(
        "SELECT bucket, key, version, message FROM example WHERE job = ?1 AND code = ?2 AND http = ?3 ORDER BY place",
    )?;
    let mut found = Vec::new();
    for reason in reasons {
        let (code, count) = reason?;
        let rows = examples.query_map(params![job, code.code, code.http], |row| {
            let bucket: String = row.get("bucket")?;
            let version: Option<String> = row.get("version")?;
            let object = ObjectId {
                bucket: BucketName::new(&bucket),
                key: ObjectKey::new(row.get::<_, Vec<u8>>("key")?),
                version: version.as_deref().map(VersionId::new),
            };
            Ok(FailureExample { object, message: row.get("message")? })
        })?;
        found.push((code, FailureGroup { count, examples: rows.collect::<Result<_, _>>()? }));
    }
    Ok(FailureTally::from_groups(found))
}

/// A job in a copy of the journal.
#[derive(Clone, Debug)]
pub struct JournalCopyJob {
    /// The job's id.
    pub id: JobId,
    /// The job's status in the copy.
    pub status: JobStatus,
    /// The files of the job's report. An open file may have more bytes on disk than recorded here.
    pub files: Vec<ReportFileRecord>,
}

impl Journal {
    /// Writes a copy to a new file. Returns the jobs in it.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read or the copy cannot be written.
    pub async fn copy_to(&self, path: &Path) -> Result<Vec<JournalCopyJob>, JournalError> {
        let path = path.to_owned();
        self.run(move |connection| {
            copy_database(connection, &path)?;
            // Query the copy: another process may have written to the journal meanwhile.
            jobs_in_copy(&open_database(&path)?)
        })
        .await
    }
}

fn jobs_in_copy(copy: &Connection) -> Result<Vec<JournalCopyJob>, DatabaseCommandError> {
    let mut statement = copy.prepare("SELECT number, id, status FROM job ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        let (id, status) = (parsed_column(row, "id")?, parsed_column(row, "status")?);
        jobs.push(JournalCopyJob { id, status, files: report_files(copy, number)? });
    }
    Ok(jobs)
}

/// Computes the checksum of the progress in a job's own row.
fn job_checksum(row: &Row<'_>) -> rusqlite::Result<i64> {
    let numbers = ["number", "succeeded", "failed", "taken_part", "taken_row", "lost", "in_doubt", "reach"];
    let values = numbers.map(|column| row.get(column).map(ChecksumValue::Number));
    Ok(checksum("job", &values.into_iter().collect::<rusqlite::Result<Vec<_>>>()?))
}

/// The columns that [`job_checksum`] reads.
const CHECKED_JOB_COLUMNS: &str = "number, succeeded, failed, taken_part, taken_row, lost, in_doubt, reach, checksum";

/// Computes the checksum of a part of the frontier.
fn frontier_checksum(job: i64, part: u32, low: u32, above: &[u8]) -> i64 {
    let numbers = [job, i64::from(part), i64::from(low)].map(|number| ChecksumValue::Number(Some(number)));
    let values: Vec<_> = numbers.into_iter().chain([ChecksumValue::Bytes(Some(above))]).collect();
    checksum("frontier", &values)
}

/// Computes the checksum of a report file's row.
fn segment_checksum(row: &Row<'_>) -> rusqlite::Result<i64> {
    let texts = ["status", "name", "md5", "open_md5"].map(|column| row.get::<_, Option<String>>(column));
    let texts = texts.into_iter().collect::<rusqlite::Result<Vec<_>>>()?;
    let numbers =
        ["job", "number", "bytes", "rows", "published"].map(|column| row.get(column).map(ChecksumValue::Number));
    let mut values = numbers.into_iter().collect::<rusqlite::Result<Vec<_>>>()?;
    values.extend(texts.iter().map(|text| ChecksumValue::Bytes(text.as_deref().map(str::as_bytes))));
    Ok(checksum("segment", &values))
}

/// Updates the checksum of a job's own row.
pub(super) fn update_job_checksum(connection: &Connection, job: i64) -> Result<(), DatabaseCommandError> {
    let sql = format!("SELECT {CHECKED_JOB_COLUMNS} FROM job WHERE number = ?1");
    let sum = connection.prepare_cached(&sql)?.query_row([job], job_checksum).optional()?;
    connection.prepare_cached("UPDATE job SET checksum = ?2 WHERE number = ?1")?.execute(params![job, sum])?;
    Ok(())
}

fn update_segment_checksum(connection: &Connection, job: i64, number: u32) -> Result<(), DatabaseCommandError> {
    let sum = connection
        .prepare_cached("SELECT * FROM segment WHERE job = ?1 AND number = ?2")?
        .query_row([job, i64::from(number)], segment_checksum)
        .optional()?;
    connection
        .prepare_cached("UPDATE segment SET checksum = ?3 WHERE job = ?1 AND number = ?2")?
        .execute(params![job, number, sum])?;
    Ok(())
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;

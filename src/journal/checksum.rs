//! Checksums of recorded progress, one for each row. `SQLite` detects a damaged page structure, but not a flipped bit
//! in a value.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use xxhash_rust::xxh3::xxh3_64;

use super::db::DatabaseCommandError;

/// The result of verifying a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChecksumProof {
    /// The row is as it was recorded.
    Verified,
    /// An earlier version recorded the row without a checksum.
    Missing,
}

/// A value of a row, as input of the checksum.
pub(super) enum ChecksumValue<'a> {
    Number(Option<i64>),
    /// Text or bytes.
    Bytes(Option<&'a [u8]>),
}

/// Computes the checksum of a row of this table.
pub(super) fn checksum(table: &str, values: &[ChecksumValue<'_>]) -> i64 {
    let mut text = table.as_bytes().to_vec();
    for value in values {
        match value {
            ChecksumValue::Number(None) | ChecksumValue::Bytes(None) => text.push(0),
            ChecksumValue::Number(Some(number)) => {
                text.push(1);
                text.extend(number.to_le_bytes());
            }
            ChecksumValue::Bytes(Some(bytes)) => {
                text.push(2);
                text.extend((bytes.len() as u64).to_le_bytes());
                text.extend(*bytes);
            }
        }
    }
    xxh3_64(&text).cast_signed()
}

/// Compares a row with the checksum in its `checksum` column.
///
/// # Errors
/// Returns an error if they differ.
pub(super) fn verify(row: &Row<'_>, found: i64) -> rusqlite::Result<ChecksumProof> {
    match row.get::<_, Option<i64>>("checksum")? {
        None => Ok(ChecksumProof::Missing),
        Some(recorded) if recorded == found => Ok(ChecksumProof::Verified),
        Some(_) => Err(super::record::invalid_value(row, "checksum", ChecksumMismatchError)),
    }
}

/// A row of the journal does not match its checksum.
#[derive(Debug, thiserror::Error)]
#[error("the record of a job's progress fails its checksum")]
pub(super) struct ChecksumMismatchError;

/// Computes the checksum of the progress in a job's own row.
pub(super) fn job_checksum(row: &Row<'_>) -> rusqlite::Result<i64> {
    let numbers = ["number", "succeeded", "failed", "taken_part", "taken_row", "lost", "in_doubt", "reach"];
    let values = numbers.map(|column| row.get(column).map(ChecksumValue::Number));
    Ok(checksum("job", &values.into_iter().collect::<rusqlite::Result<Vec<_>>>()?))
}

/// The columns that [`job_checksum`] reads.
pub(super) const CHECKED_JOB_COLUMNS: &str =
    "number, succeeded, failed, taken_part, taken_row, lost, in_doubt, reach, checksum";

/// Computes the checksum of a part of the frontier.
pub(super) fn frontier_checksum(job: i64, part: u32, low: u32, above: &[u8]) -> i64 {
    let numbers = [job, i64::from(part), i64::from(low)].map(|number| ChecksumValue::Number(Some(number)));
    let values: Vec<_> = numbers.into_iter().chain([ChecksumValue::Bytes(Some(above))]).collect();
    checksum("frontier", &values)
}

/// Computes the checksum of a server verdict: bucket, aspect, verdict and detail.
pub(super) fn server_verdict_checksum(job: i64, texts: [&str; 4]) -> i64 {
    let texts = texts.map(|text| ChecksumValue::Bytes(Some(text.as_bytes())));
    let values: Vec<_> = [ChecksumValue::Number(Some(job))].into_iter().chain(texts).collect();
    checksum("server_check", &values)
}

/// Computes the checksum of a report file's row.
pub(super) fn segment_checksum(row: &Row<'_>) -> rusqlite::Result<i64> {
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

/// Updates the checksum of a report file's row.
pub(super) fn update_segment_checksum(
    connection: &Connection,
    job: i64,
    number: u32,
) -> Result<(), DatabaseCommandError> {
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
mod tests {
    use super::*;

    #[test]
    fn values_with_different_boundaries_have_different_checksums() {
        let bytes = |texts: &[&'static str]| {
            checksum("t", &texts.iter().map(|text| ChecksumValue::Bytes(Some(text.as_bytes()))).collect::<Vec<_>>())
        };
        let sums = [bytes(&["ab", "c"]), bytes(&["a", "bc"]), bytes(&["abc"]), bytes(&["abc", ""]), bytes(&[])];
        let others = [
            checksum("t", &[ChecksumValue::Number(None)]),
            checksum("t", &[ChecksumValue::Number(Some(0))]),
            checksum("u", &[]),
        ];
        let mut all: Vec<_> = sums.into_iter().chain(others).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 8);
    }
}

//! The values of a row: how they are read and written, and the checksums of recorded progress, one for each row.
//! `SQLite` detects a damaged page structure, but not a flipped bit in a value.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Row;
use xxhash_rust::xxh3::xxh3_64;

use super::error::ChecksumMismatchError;

/// The result of verifying a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChecksumProof {
    /// The row is as it was recorded.
    Verified,
    /// An earlier version recorded the row without a checksum.
    Missing,
}

/// A value of a row, as input of the checksum.
pub(crate) enum ChecksumValue<'a> {
    Number(Option<i64>),
    /// Text or bytes.
    Bytes(Option<&'a [u8]>),
}

/// Computes the checksum of a row of this table.
pub(crate) fn checksum(table: &str, values: &[ChecksumValue<'_>]) -> i64 {
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
pub(crate) fn verify(row: &Row<'_>, found: i64) -> rusqlite::Result<ChecksumProof> {
    match row.get::<_, Option<i64>>("checksum")? {
        None => Ok(ChecksumProof::Missing),
        Some(recorded) if recorded == found => Ok(ChecksumProof::Verified),
        Some(_) => Err(invalid_value(row, "checksum", ChecksumMismatchError)),
    }
}

/// Reads an optional JSON column.
pub(crate) fn json_column<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| invalid_value(row, column, error))).transpose()
}

/// Reads a count. `SQLite`'s integers are signed; counts never reach that limit.
pub(crate) fn count_column(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|error| invalid_value(row, column, error))
}

/// Converts a count for the database.
pub(crate) fn count_to_sql(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn parsed_column<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| invalid_value(row, column, error))
}

/// The error for a value that the journal never writes, which means that its file is damaged.
pub(crate) fn invalid_value(
    row: &Row<'_>,
    column: &str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or(0);
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error))
}

pub(crate) fn timestamp_column(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millisecond(row.get(column)?).map_err(|error| invalid_value(row, column, error))
}

/// Reads a column that holds the name of a variant.
pub(crate) fn named_column<T>(
    row: &Row<'_>,
    column: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let name: String = row.get(column)?;
    read(&name).ok_or_else(|| invalid_value(row, column, UnknownNameError))
}

pub(crate) fn optional_named_column<T>(
    row: &Row<'_>,
    column: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    row.get::<_, Option<String>>(column)?.map(|_| named_column(row, column, read)).transpose()
}

/// The journal holds a name that no version writes.
#[derive(Debug, thiserror::Error)]
#[error("not a known name")]
struct UnknownNameError;

/// Converts a duration to the journal's milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
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

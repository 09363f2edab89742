//! Reads the rows of columnar files, Parquet and ORC, one after another and in bounded memory.
//!
//! Only the features that inventories use are supported: a flat table of strings, integers, booleans and timestamps.
//! Everything is validated as it is read. No allocation trusts the file: not a length, not a count, and not the
//! decompressed size that a block claims.
//!
//! | file | what it does |
//! |---|---|
//! | `input` | random access to the file, and the memory limit |
//! | `compression` | decompression of blocks |
//! | `bits` | integers of any bit width |
//! | `parquet`, `orc` | the two formats |

mod bits;
mod compression;
mod input;
mod orc;
mod parquet;

use std::fs::File;
use std::io;

use jiff::Timestamp;

/// The most columns in a file. An inventory has about thirty.
const MAX_COLUMNS: usize = 1000;

/// The longest string value in bytes. Rows of CSV files have the same limit.
const MAX_TEXT: usize = 1 << 20;

/// The format of a columnar file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnarFormat {
    Parquet,
    Orc,
}

impl ColumnarFormat {
    /// Returns the name of the format as inventories write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Orc => "ORC",
        }
    }
}

/// Why a file cannot be read any further.
#[derive(Debug)]
pub(super) enum ColumnarError {
    /// The file violates its format.
    Damaged(String),
    /// The file uses a feature that no inventory uses.
    Unsupported(String),
    /// Reading the file failed.
    Io(io::Error),
}

type ColumnarResult<T> = Result<T, ColumnarError>;

fn damaged<T>(what: impl Into<String>) -> ColumnarResult<T> {
    Err(ColumnarError::Damaged(what.into()))
}

fn unsupported<T>(what: impl Into<String>) -> ColumnarResult<T> {
    Err(ColumnarError::Unsupported(what.into()))
}

/// The type of the values in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnType {
    Text,
    Boolean,
    Integer,
    Timestamp,
}

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ColumnValue<'a> {
    Null,
    Text(&'a [u8]),
    Boolean(bool),
    Integer(i64),
    Timestamp(Timestamp),
}

/// The current value of a column. The bytes of a text are in the column's own buffer.
#[derive(Clone, Copy, Debug, Default)]
enum CurrentValue {
    #[default]
    Null,
    Text,
    Boolean(bool),
    Integer(i64),
    Timestamp(Timestamp),
}

impl CurrentValue {
    fn value(self, text: &[u8]) -> ColumnValue<'_> {
        match self {
            Self::Null => ColumnValue::Null,
            Self::Text => ColumnValue::Text(text),
            Self::Boolean(truth) => ColumnValue::Boolean(truth),
            Self::Integer(number) => ColumnValue::Integer(number),
            Self::Timestamp(time) => ColumnValue::Timestamp(time),
        }
    }
}

/// A columnar file, positioned at one of its rows.
pub(super) enum ColumnarReader {
    Parquet(parquet::ParquetReader),
    Orc(orc::OrcReader),
}

impl ColumnarReader {
    /// Opens a file and reads its metadata.
    pub(super) fn open(form: ColumnarFormat, file: File) -> Result<Self, ColumnarError> {
        let input = input::RandomAccessFile::new(file)?;
        Ok(match form {
            ColumnarFormat::Parquet => Self::Parquet(parquet::ParquetReader::open(input)?),
            ColumnarFormat::Orc => Self::Orc(orc::OrcReader::open(input)?),
        })
    }

    /// Returns the names of the columns, in file order.
    pub(super) fn column_names(&self) -> &[String] {
        match self {
            Self::Parquet(reader) => reader.column_names(),
            Self::Orc(reader) => reader.column_names(),
        }
    }

    /// Returns the type of a column, or an error if its values cannot be read.
    pub(super) fn column_type(&self, column: usize) -> Result<ColumnType, ColumnarError> {
        match self {
            Self::Parquet(reader) => reader.column_type(column),
            Self::Orc(reader) => reader.column_type(column),
        }
    }

    /// Selects the columns to read. All other columns are skipped.
    pub(super) fn select(&mut self, columns: &[usize]) -> Result<(), ColumnarError> {
        match self {
            Self::Parquet(reader) => reader.select(columns),
            Self::Orc(reader) => reader.select(columns),
        }
    }

    /// Moves to the next row. Returns false if there is none.
    pub(super) fn advance(&mut self) -> Result<bool, ColumnarError> {
        match self {
            Self::Parquet(reader) => reader.advance(),
            Self::Orc(reader) => reader.advance(),
        }
    }

    /// Returns a value of the current row, or `ColumnValue::Null` if the column is not selected.
    pub(super) fn value(&self, column: usize) -> ColumnValue<'_> {
        match self {
            Self::Parquet(reader) => reader.value(column),
            Self::Orc(reader) => reader.value(column),
        }
    }
}

#[cfg(test)]
mod tests;

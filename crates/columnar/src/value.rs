//! The values and types of columns, what a file may hold at most, and why one cannot be read.

use std::io;

use jiff::Timestamp;

/// The most columns in a file. An inventory has about thirty.
pub(crate) const MAX_COLUMNS: usize = 1000;

/// The maximum length of a string value in bytes.
pub(crate) const MAX_TEXT: usize = 1 << 20;

/// The format of a columnar file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnarFormat {
    /// Apache Parquet.
    Parquet,
    /// Apache ORC.
    Orc,
}

impl ColumnarFormat {
    /// Returns the name of the format as inventories write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Orc => "ORC",
        }
    }
}

/// Why a file cannot be read any further.
#[derive(Debug)]
pub enum ColumnarError {
    /// The file violates its format.
    Damaged(String),
    /// The file uses a feature that no inventory uses.
    Unsupported(String),
    /// Reading the file failed.
    Io(io::Error),
}

pub(crate) type ColumnarResult<T> = Result<T, ColumnarError>;

pub(crate) fn damaged<T>(what: impl Into<String>) -> ColumnarResult<T> {
    Err(ColumnarError::Damaged(what.into()))
}

pub(crate) fn unsupported<T>(what: impl Into<String>) -> ColumnarResult<T> {
    Err(ColumnarError::Unsupported(what.into()))
}

/// The type of the values in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Bytes that should be UTF-8.
    Text,
    /// True or false.
    Boolean,
    /// Integers of up to 64 bits.
    Integer,
    /// Points in time, of any unit that the format has.
    Timestamp,
}

impl ColumnType {
    /// Returns the plural noun that messages use.
    #[must_use]
    pub fn plural_noun(self) -> &'static str {
        match self {
            Self::Text => "strings",
            Self::Boolean => "booleans",
            Self::Integer => "integers",
            Self::Timestamp => "timestamps",
        }
    }
}

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ColumnValue<'a> {
    /// No value, or a column that is not selected.
    Null,
    /// Bytes in the reader's buffer, valid until it reads the next row. They may not be UTF-8.
    Text(&'a [u8]),
    /// True or false.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A point in time.
    Timestamp(Timestamp),
}

/// The current value of a column. The bytes of a text are in the column's own buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum CurrentValue {
    #[default]
    Null,
    Text,
    Boolean(bool),
    Integer(i64),
    Timestamp(Timestamp),
}

impl CurrentValue {
    pub(crate) fn value(self, text: &[u8]) -> ColumnValue<'_> {
        match self {
            Self::Null => ColumnValue::Null,
            Self::Text => ColumnValue::Text(text),
            Self::Boolean(truth) => ColumnValue::Boolean(truth),
            Self::Integer(number) => ColumnValue::Integer(number),
            Self::Timestamp(time) => ColumnValue::Timestamp(time),
        }
    }
}

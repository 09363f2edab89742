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

type ColumnarResult<T> = Result<T, ColumnarError>;

fn damaged<T>(what: impl Into<String>) -> ColumnarResult<T> {
    Err(ColumnarError::Damaged(what.into()))
}

fn unsupported<T>(what: impl Into<String>) -> ColumnarResult<T> {
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
    /// Bytes, in the reader's buffer until it moves on. They are not checked to be UTF-8.
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
pub struct ColumnarReader(FormatReader);

enum FormatReader {
    Parquet(parquet::ParquetReader),
    Orc(orc::OrcReader),
}

impl ColumnarReader {
    /// Opens a file and reads its metadata.
    ///
    /// # Errors
    /// Returns an error if the file is damaged, uses unsupported features or cannot be read.
    pub fn open(form: ColumnarFormat, file: File) -> Result<Self, ColumnarError> {
        let input = input::RandomAccessFile::new(file)?;
        Ok(Self(match form {
            ColumnarFormat::Parquet => FormatReader::Parquet(parquet::ParquetReader::open(input)?),
            ColumnarFormat::Orc => FormatReader::Orc(orc::OrcReader::open(input)?),
        }))
    }

    /// Returns the names of the columns, in file order.
    #[must_use]
    pub fn column_names(&self) -> &[String] {
        match &self.0 {
            FormatReader::Parquet(reader) => reader.column_names(),
            FormatReader::Orc(reader) => reader.column_names(),
        }
    }

    /// Returns the type of a column.
    ///
    /// # Errors
    /// Returns an error if its values cannot be read, because of their type or encoding.
    pub fn column_type(&self, column: usize) -> Result<ColumnType, ColumnarError> {
        match &self.0 {
            FormatReader::Parquet(reader) => reader.column_type(column),
            FormatReader::Orc(reader) => reader.column_type(column),
        }
    }

    /// Selects the columns to read. All other columns are skipped.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be read.
    pub fn select(&mut self, columns: &[usize]) -> Result<(), ColumnarError> {
        match &mut self.0 {
            FormatReader::Parquet(reader) => reader.select(columns),
            FormatReader::Orc(reader) => reader.select(columns),
        }
    }

    /// Moves to the next row. Returns false if there is none.
    ///
    /// # Errors
    /// Returns an error if the file is damaged, uses unsupported features or cannot be read.
    pub fn advance(&mut self) -> Result<bool, ColumnarError> {
        match &mut self.0 {
            FormatReader::Parquet(reader) => reader.advance(),
            FormatReader::Orc(reader) => reader.advance(),
        }
    }

    /// Returns a value of the current row, or `ColumnValue::Null` if the column is not selected.
    #[must_use]
    pub fn value(&self, column: usize) -> ColumnValue<'_> {
        match &self.0 {
            FormatReader::Parquet(reader) => reader.value(column),
            FormatReader::Orc(reader) => reader.value(column),
        }
    }
}

#[cfg(test)]
mod tests;

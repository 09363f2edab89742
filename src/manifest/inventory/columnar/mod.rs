//! Reads the rows of columnar files, Parquet and ORC, one after another and in bounded memory.
//!
//! Only the features that inventories use are supported: a flat table of strings, integers, booleans and timestamps.
//! Everything is validated as it is read. No allocation trusts the file: not a length, not a count, and not the
//! decompressed size that a block claims.
//!
//! | file | what it does |
//! |---|---|
//! | `input` | random access to the file, and the memory limit |
//! | `unpack` | decompression of blocks |
//! | `bits` | integers of any bit width |
//! | `parquet`, `orc` | the two formats |

mod bits;
mod input;
mod orc;
mod parquet;
mod unpack;

use std::fs::File;
use std::io;

use jiff::Timestamp;

/// The most columns in a file. An inventory has about thirty.
const MAX_COLUMNS: usize = 1000;

/// The longest string value in bytes. Rows of CSV files have the same limit.
const MAX_TEXT: usize = 1 << 20;

/// The format of a columnar file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Parquet,
    Orc,
}

impl Form {
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
pub(super) enum Broken {
    /// The file violates its format.
    Damaged(String),
    /// The file uses a feature that no inventory uses.
    Foreign(String),
    /// Reading the file failed.
    Io(io::Error),
}

type Outcome<T> = Result<T, Broken>;

fn damaged<T>(what: impl Into<String>) -> Outcome<T> {
    Err(Broken::Damaged(what.into()))
}

fn foreign<T>(what: impl Into<String>) -> Outcome<T> {
    Err(Broken::Foreign(what.into()))
}

/// The type of the values in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Truth,
    Number,
    Time,
}

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Nothing,
    Text(&'a [u8]),
    Truth(bool),
    Number(i64),
    Time(Timestamp),
}

/// The current value of a column. The bytes of a text are in the column's own buffer.
#[derive(Clone, Copy, Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Text,
    Truth(bool),
    Number(i64),
    Time(Timestamp),
}

impl Held {
    fn value(self, text: &[u8]) -> Value<'_> {
        match self {
            Self::Nothing => Value::Nothing,
            Self::Text => Value::Text(text),
            Self::Truth(truth) => Value::Truth(truth),
            Self::Number(number) => Value::Number(number),
            Self::Time(time) => Value::Time(time),
        }
    }
}

/// A columnar file, positioned at one of its rows.
pub(super) enum Table {
    Parquet(parquet::Reader),
    Orc(orc::Reader),
}

impl Table {
    /// Opens a file and reads its metadata.
    pub(super) fn open(form: Form, file: File) -> Result<Self, Broken> {
        let input = input::Input::new(file)?;
        Ok(match form {
            Form::Parquet => Self::Parquet(parquet::Reader::open(input)?),
            Form::Orc => Self::Orc(orc::Reader::open(input)?),
        })
    }

    /// Returns the names of the columns, in file order.
    pub(super) fn names(&self) -> &[String] {
        match self {
            Self::Parquet(reader) => reader.names(),
            Self::Orc(reader) => reader.names(),
        }
    }

    /// Returns the type of a column, or an error if its values cannot be read.
    pub(super) fn kind(&self, column: usize) -> Result<Kind, Broken> {
        match self {
            Self::Parquet(reader) => reader.kind(column),
            Self::Orc(reader) => reader.kind(column),
        }
    }

    /// Selects the columns to read. All other columns are skipped.
    pub(super) fn pick(&mut self, columns: &[usize]) -> Result<(), Broken> {
        match self {
            Self::Parquet(reader) => reader.pick(columns),
            Self::Orc(reader) => reader.pick(columns),
        }
    }

    /// Moves to the next row. Returns false if there is none.
    pub(super) fn advance(&mut self) -> Result<bool, Broken> {
        match self {
            Self::Parquet(reader) => reader.advance(),
            Self::Orc(reader) => reader.advance(),
        }
    }

    /// Returns a value of the current row, or `Value::Nothing` if the column is not selected.
    pub(super) fn value(&self, column: usize) -> Value<'_> {
        match self {
            Self::Parquet(reader) => reader.value(column),
            Self::Orc(reader) => reader.value(column),
        }
    }
}

#[cfg(test)]
mod tests;

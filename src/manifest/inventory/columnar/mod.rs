//! Rows of columnar files, Parquet and ORC, one after the other and in bounded memory.
//!
//! Only as much of either form is read as an inventory has: a flat table of texts, whole numbers, truth values and
//! times. What is read of it is checked as it comes, and nothing is allocated on the word of the file: not for a length
//! it gives, not for a count, and not for what a block says it inflates to.
//!
//! | file | what it does |
//! |---|---|
//! | `input` | the file's bytes, and what may be held of them |
//! | `unpack` | compressed blocks |
//! | `bits` | numbers of any width |
//! | `parquet`, `orc` | the two forms |

mod bits;
mod input;
mod orc;
mod parquet;
mod unpack;

use std::fs::File;
use std::io;

use jiff::Timestamp;

/// The most columns that a file may have; an inventory has some thirty.
const MAX_COLUMNS: usize = 1000;

/// The longest text of a row, which is that of a CSV row as well.
const MAX_TEXT: usize = 1 << 20;

/// The form of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Parquet,
    Orc,
}

impl Form {
    /// As inventories write it.
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
    /// It is not what its form says it should be.
    Damaged(String),
    /// It uses what no inventory does.
    Foreign(String),
    /// Its bytes cannot be had.
    Io(io::Error),
}

type Outcome<T> = Result<T, Broken>;

fn damaged<T>(what: impl Into<String>) -> Outcome<T> {
    Err(Broken::Damaged(what.into()))
}

fn foreign<T>(what: impl Into<String>) -> Outcome<T> {
    Err(Broken::Foreign(what.into()))
}

/// What the values of a column are.
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

/// The value that a column has come to. A text stands in the column's own buffer.
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

/// A columnar file, at one of its rows.
pub(super) enum Table {
    Parquet(parquet::Reader),
    Orc(orc::Reader),
}

impl Table {
    /// Reads what a file says of itself.
    pub(super) fn open(form: Form, file: File) -> Result<Self, Broken> {
        let input = input::Input::new(file)?;
        Ok(match form {
            Form::Parquet => Self::Parquet(parquet::Reader::open(input)?),
            Form::Orc => Self::Orc(orc::Reader::open(input)?),
        })
    }

    /// The names of its columns, in its own order.
    pub(super) fn names(&self) -> &[String] {
        match self {
            Self::Parquet(reader) => reader.names(),
            Self::Orc(reader) => reader.names(),
        }
    }

    /// What a column's values are; an error where they are nothing that can be read.
    pub(super) fn kind(&self, column: usize) -> Result<Kind, Broken> {
        match self {
            Self::Parquet(reader) => reader.kind(column),
            Self::Orc(reader) => reader.kind(column),
        }
    }

    /// Has these columns read, and no others.
    pub(super) fn pick(&mut self, columns: &[usize]) -> Result<(), Broken> {
        match self {
            Self::Parquet(reader) => reader.pick(columns),
            Self::Orc(reader) => reader.pick(columns),
        }
    }

    /// Goes on to the next row, if there is one.
    pub(super) fn advance(&mut self) -> Result<bool, Broken> {
        match self {
            Self::Parquet(reader) => reader.advance(),
            Self::Orc(reader) => reader.advance(),
        }
    }

    /// A value of this row; nothing where the column was not picked.
    pub(super) fn value(&self, column: usize) -> Value<'_> {
        match self {
            Self::Parquet(reader) => reader.value(column),
            Self::Orc(reader) => reader.value(column),
        }
    }
}

#[cfg(test)]
mod tests;

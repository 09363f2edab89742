//! Reads the rows of columnar files, Parquet and ORC, one after another and in bounded memory.
//!
//! Only the features that inventories use are supported: a flat table of strings, integers, booleans and timestamps.
//! Everything is validated as it is read. No allocation trusts the file: not a length, not a count, and not the
//! decompressed size that a block claims.
//!
//! | file | what it does |
//! |---|---|
//! | `value` | what both formats yield: values, their types, and errors |
//! | `input` | random access to the file, the memory limit, and the decompression of blocks |
//! | `bits` | integers of any bit width |
//! | `parquet` | Parquet: rows, column chunks and pages, and the encodings of values |
//! | `parquet_metadata` | the footer and the page headers of a Parquet file |
//! | `orc` | ORC: rows, stripes and columns, and the footers |
//! | `orc_stream` | the streams of an ORC stripe, and the runs of integers in them |

mod bits;
mod input;
mod orc;
mod orc_stream;
mod parquet;
mod parquet_metadata;
mod value;

use std::fs::File;

pub use self::value::{ColumnType, ColumnValue, ColumnarError, ColumnarFormat};

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
    pub fn open(format: ColumnarFormat, file: File) -> Result<Self, ColumnarError> {
        let input = input::RandomAccessFile::new(file)?;
        Ok(Self(match format {
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

//! Reads Parquet files: row groups, which contain column chunks, which contain pages.
//!
//! <https://github.com/apache/parquet-format>

mod delta;
mod hybrid;
mod meta;
mod page;
mod thrift;

use std::collections::VecDeque;
use std::rc::Rc;

use jiff::Timestamp;

use self::meta::{ParquetColumn, ParquetColumnChunk, ParquetStorage, TimeUnitsPerSecond};
use self::page::{ParquetColumnPages, ParquetPageDecoder, text_range};
use super::input::RandomAccessFile;
use super::{ColumnType, ColumnValue, ColumnarError, ColumnarResult, CurrentValue, MAX_TEXT, damaged};

/// The largest footer in bytes: enough for about ten thousand row groups. A file of an inventory has ten.
const MAX_FOOTER: u64 = 8 << 20;

/// The Julian day number of 1970-01-01. Timestamps of twelve bytes store Julian days.
const EPOCH_DAY: i64 = 2_440_588;

/// A Parquet file, positioned at one of its rows.
pub(crate) struct ParquetReader {
    input: Rc<RandomAccessFile>,
    footer: Vec<u8>,
    names: Vec<String>,
    columns: Vec<ParquetColumn>,
    /// The selected columns, each at its index among all columns.
    selected: Vec<Option<ParquetColumnDecoder>>,
    row_groups: VecDeque<(u64, Vec<ParquetColumnChunk>)>,
    /// The number of rows left in the current row group.
    rows_left: u64,
}

impl ParquetReader {
    pub(super) fn open(input: RandomAccessFile) -> ColumnarResult<Self> {
        let mut end = Vec::new();
        let size = input.size();
        if size < 12 {
            return damaged("it is too short");
        }
        input.read_at(size - 8, 8, &mut end)?;
        let bytes = meta::footer_size(&end, MAX_FOOTER)?;
        let Some(begins) = (size - 8).checked_sub(bytes) else { return damaged("its footer is longer than the file") };
        let mut footer = Vec::new();
        input.read_at(begins, usize::try_from(bytes).unwrap_or(usize::MAX), &mut footer)?;
        let columns = meta::parse_columns(&footer)?;
        let names = columns.iter().map(|column| column.name.clone()).collect();
        Ok(Self {
            input: Rc::new(input),
            footer,
            names,
            columns,
            selected: Vec::new(),
            row_groups: VecDeque::new(),
            rows_left: 0,
        })
    }

    pub(super) fn column_names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn column_type(&self, column: usize) -> ColumnarResult<ColumnType> {
        match self.columns.get(column) {
            Some(column) => column.storage().map(|(_, kind, _)| kind),
            None => damaged("a column is missing"),
        }
    }

    pub(super) fn select(&mut self, places: &[usize]) -> ColumnarResult<()> {
        let mut leaves = Vec::new();
        self.selected = self.columns.iter().map(|_| None).collect();
        let mut order = places.to_vec();
        order.sort_unstable();
        order.dedup();
        for place in order {
            let Some(column) = self.columns.get(place) else { return damaged("a column is missing") };
            let (storage, _, units) = column.storage()?;
            leaves.extend(column.leaf);
            self.selected[place] = Some(ParquetColumnDecoder {
                pages: ParquetColumnPages::new(Rc::clone(&self.input), storage, column.optional),
                storage,
                units,
                current: CurrentValue::Null,
                text: Vec::new(),
            });
        }
        let groups = &mut self.row_groups;
        meta::parse_row_groups(&self.footer, &leaves, |rows, chunks| groups.push_back((rows, chunks)))?;
        self.footer = Vec::new();
        self.input.check_row_count(self.row_groups.iter().map(|(rows, _)| *rows))
    }

    pub(super) fn advance(&mut self) -> ColumnarResult<bool> {
        while self.rows_left == 0 {
            let Some((rows, chunks)) = self.row_groups.pop_front() else { return Ok(false) };
            for (values, chunk) in self.selected.iter_mut().flatten().zip(chunks) {
                if chunk.values != rows {
                    return damaged(format!("a row group has {rows} rows, but {} values in a column", chunk.values));
                }
                values.pages.start_chunk(chunk)?;
            }
            self.rows_left = rows;
        }
        self.rows_left -= 1;
        self.selected.iter_mut().flatten().try_for_each(ParquetColumnDecoder::advance)?;
        Ok(true)
    }

    pub(super) fn value(&self, column: usize) -> ColumnValue<'_> {
        match self.selected.get(column) {
            Some(Some(values)) => values.current.value(&values.text),
            _ => ColumnValue::Null,
        }
    }
}

/// Decodes the values of one column.
struct ParquetColumnDecoder {
    pages: ParquetColumnPages,
    storage: ParquetStorage,
    units: Option<TimeUnitsPerSecond>,
    current: CurrentValue,
    text: Vec<u8>,
}

impl ParquetColumnDecoder {
    fn advance(&mut self) -> ColumnarResult<()> {
        if self.pages.remaining == 0 {
            self.pages.next_page()?;
        }
        self.pages.remaining -= 1;
        let pages = &mut self.pages;
        if let Some(present) = &mut pages.present
            && present.next(&pages.levels)? == 0
        {
            self.current = CurrentValue::Null;
            return Ok(());
        }
        self.current = match &mut pages.decoder {
            ParquetPageDecoder::Plain(at) => match self.storage {
                ParquetStorage::Booleans => {
                    let byte = pages.page.get(*at / 8).ok_or_else(page_cut_off)?;
                    let truth = byte >> (*at % 8) & 1 == 1;
                    *at += 1;
                    CurrentValue::Boolean(truth)
                }
                ParquetStorage::ByteArrays => {
                    let (begins, ends) = text_range(&pages.page, *at)?;
                    *at = ends;
                    replace_text(&mut self.text, 0, &pages.page[begins..ends])?
                }
                storage => {
                    let begins = *at;
                    *at += byte_width(storage);
                    decode_fixed_width(storage, self.units, pages.page.get(begins..*at))?
                }
            },
            ParquetPageDecoder::BooleanRuns(hybrid) => CurrentValue::Boolean(hybrid.next(&pages.page)? == 1),
            ParquetPageDecoder::DictionaryIndexes(hybrid) => {
                let place = hybrid.next(&pages.page)?;
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                let dictionary = &pages.dictionary;
                if self.storage == ParquetStorage::ByteArrays {
                    let begins = dictionary.text_offsets.get(place).ok_or_else(not_in_dictionary)?;
                    let (begins, ends) = text_range(&dictionary.bytes, (*begins as usize).saturating_sub(4))?;
                    replace_text(&mut self.text, 0, &dictionary.bytes[begins..ends])?
                } else {
                    let begins = place.saturating_mul(byte_width(self.storage));
                    let bytes = dictionary.bytes.get(begins..begins.saturating_add(byte_width(self.storage)));
                    decode_fixed_width(self.storage, self.units, Some(bytes.ok_or_else(not_in_dictionary)?))?
                }
            }
            ParquetPageDecoder::Deltas(delta) => {
                integer_or_timestamp(self.units, delta.next(&pages.page)?, self.storage)?
            }
            ParquetPageDecoder::DeltaLengths(lengths, at) => {
                let rest = take_bytes(&pages.page, at, lengths.next(&pages.page)?)?;
                replace_text(&mut self.text, 0, rest)?
            }
            ParquetPageDecoder::DeltaStrings(prefixes, lengths, at) => {
                let kept = usize::try_from(prefixes.next(&pages.page)?).unwrap_or(usize::MAX);
                if kept > self.text.len() {
                    return damaged("a string shares more bytes with the previous string than that string has");
                }
                let rest = take_bytes(&pages.page, at, lengths.next(&pages.page)?)?;
                replace_text(&mut self.text, kept, rest)?
            }
        };
        Ok(())
    }
}

/// Replaces the previous text with its first `kept` bytes, followed by `rest`.
fn replace_text(into: &mut Vec<u8>, kept: usize, rest: &[u8]) -> ColumnarResult<CurrentValue> {
    if kept + rest.len() > MAX_TEXT {
        return damaged(format!("a string is longer than {MAX_TEXT} bytes"));
    }
    into.truncate(kept);
    into.extend_from_slice(rest);
    Ok(CurrentValue::Text)
}

fn take_bytes<'a>(page: &'a [u8], at: &mut usize, length: i64) -> ColumnarResult<&'a [u8]> {
    let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length));
    let taken = end.and_then(|end| page.get(*at..end)).ok_or_else(page_cut_off)?;
    *at += taken.len();
    Ok(taken)
}

fn byte_width(storage: ParquetStorage) -> usize {
    match storage {
        ParquetStorage::Booleans | ParquetStorage::ByteArrays => 0,
        ParquetStorage::Int32 => 4,
        ParquetStorage::Int64 => 8,
        ParquetStorage::Int96 => 12,
    }
}

fn decode_fixed_width(
    storage: ParquetStorage,
    units: Option<TimeUnitsPerSecond>,
    bytes: Option<&[u8]>,
) -> ColumnarResult<CurrentValue> {
    let bytes = bytes.ok_or_else(page_cut_off)?;
    let little = |bytes: &[u8]| {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        i64::from_le_bytes(whole)
    };
    match storage {
        ParquetStorage::Int32 => {
            let whole = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            integer_or_timestamp(units, i64::from(whole), storage)
        }
        ParquetStorage::Int96 => {
            let (nanos, day) = (little(&bytes[..8]), little(&bytes[8..]));
            let seconds = (day - EPOCH_DAY) * 86_400;
            timestamp(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
        }
        ParquetStorage::Int64 | ParquetStorage::Booleans | ParquetStorage::ByteArrays => {
            integer_or_timestamp(units, little(bytes), storage)
        }
    }
}

fn integer_or_timestamp(
    units: Option<TimeUnitsPerSecond>,
    number: i64,
    storage: ParquetStorage,
) -> ColumnarResult<CurrentValue> {
    match units {
        Some(units) => timestamp(i128::from(number) * i128::from(1_000_000_000 / units)),
        // Sums of four-byte differences wrap around at 32 bits.
        None if storage == ParquetStorage::Int32 => Ok(CurrentValue::Integer(number << 32 >> 32)),
        None => Ok(CurrentValue::Integer(number)),
    }
}

fn timestamp(nanos: i128) -> ColumnarResult<CurrentValue> {
    match Timestamp::from_nanosecond(nanos) {
        Ok(time) => Ok(CurrentValue::Timestamp(time)),
        Err(_) => damaged(format!("invalid timestamp: {nanos} ns since 1970")),
    }
}

fn page_cut_off() -> ColumnarError {
    ColumnarError::Damaged("a page ends before its last value".to_owned())
}

fn not_in_dictionary() -> ColumnarError {
    ColumnarError::Damaged("a value is not in its dictionary".to_owned())
}

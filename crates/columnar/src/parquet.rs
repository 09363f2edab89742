//! Reads Parquet files: row groups, which contain column chunks, which contain pages. Decodes the values of each
//! selected column page by page. `meta` parses the footer and the page headers, `encoding` decodes runs of integers.
//!
//! <https://github.com/apache/parquet-format>

mod encoding;
mod meta;

use std::collections::VecDeque;
use std::rc::Rc;

use jiff::Timestamp;

use self::encoding::{ParquetDeltaDecoder, ParquetHybridDecoder, page_cut_off};
use self::meta::{
    ParquetColumn, ParquetColumnChunk, ParquetPageHeader, ParquetPageKind, ParquetStorage, TimeUnitsPerSecond,
    parse_page_header,
};
use crate::compression::{BlockCompression, decompress};
use crate::input::RandomAccessFile;
use crate::value::{
    ColumnType, ColumnValue, ColumnarError, ColumnarResult, CurrentValue, MAX_TEXT, damaged, unsupported,
};

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
    pub(crate) fn open(input: RandomAccessFile) -> ColumnarResult<Self> {
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

    pub(crate) fn column_names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn column_type(&self, column: usize) -> ColumnarResult<ColumnType> {
        match self.columns.get(column) {
            Some(column) => column.storage().map(|(_, kind, _)| kind),
            None => damaged("a column is missing"),
        }
    }

    pub(crate) fn select(&mut self, places: &[usize]) -> ColumnarResult<()> {
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

    pub(crate) fn advance(&mut self) -> ColumnarResult<bool> {
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

    pub(crate) fn value(&self, column: usize) -> ColumnValue<'_> {
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

fn not_in_dictionary() -> ColumnarError {
    ColumnarError::Damaged("a value is not in its dictionary".to_owned())
}

/// The largest page or dictionary in bytes. Writers make them 1 MiB large.
const MAX_PAGE: u64 = 32 << 20;

/// The buffer capacity, in bytes, that a column always keeps for its next page.
const KEPT_CAPACITY: usize = 2 << 20;

/// The numbers of bytes to read for a page header, tried in this order. The first is usually enough.
const HEADER_READ_SIZES: [u64; 3] = [1 << 10, 64 << 10, 2 << 20];

/// How the values of a page are encoded, and where the next value is.
#[derive(Clone, Copy, Debug)]
enum ParquetPageDecoder {
    /// One value after another, starting at this byte; booleans start at this bit.
    Plain(usize),
    /// Indexes into the dictionary.
    DictionaryIndexes(ParquetHybridDecoder),
    /// Booleans in runs.
    BooleanRuns(ParquetHybridDecoder),
    /// Delta-encoded integers.
    Deltas(ParquetDeltaDecoder),
    /// The delta-encoded lengths of the strings, and the offset of the next string.
    DeltaLengths(ParquetDeltaDecoder, usize),
    /// The number of bytes that a string shares with the previous one, the length of its rest, and the offset of the
    /// next rest.
    DeltaStrings(ParquetDeltaDecoder, ParquetDeltaDecoder, usize),
}

/// The position of a column in its chunk, and the current page.
struct ParquetColumnPages {
    input: Rc<RandomAccessFile>,
    storage: ParquetStorage,
    optional: bool,
    compression: BlockCompression,
    at: u64,
    end: u64,
    /// The decompressed bytes of the current page; in version 2 without its levels.
    page: Vec<u8>,
    /// The levels of the current page, which say which values are present.
    levels: Vec<u8>,
    page_held: usize,
    dictionary: ParquetDictionary,
    dictionary_held: usize,
    compressed: Vec<u8>,
    /// The number of values left in the current page.
    remaining: u64,
    /// Which values of the page are present; `None` if all are.
    present: Option<ParquetHybridDecoder>,
    decoder: ParquetPageDecoder,
}

#[derive(Default)]
struct ParquetDictionary {
    bytes: Vec<u8>,
    /// The offset of each string, after its length.
    text_offsets: Vec<u32>,
}

impl ParquetColumnPages {
    fn new(input: Rc<RandomAccessFile>, storage: ParquetStorage, optional: bool) -> Self {
        Self {
            input,
            storage,
            optional,
            compression: BlockCompression::None,
            at: 0,
            end: 0,
            page: Vec::new(),
            levels: Vec::new(),
            page_held: 0,
            dictionary: ParquetDictionary::default(),
            dictionary_held: 0,
            compressed: Vec::new(),
            remaining: 0,
            present: None,
            decoder: ParquetPageDecoder::Plain(0),
        }
    }

    /// Moves to the start of a chunk.
    fn start_chunk(&mut self, chunk: ParquetColumnChunk) -> ColumnarResult<()> {
        let end = chunk.start.checked_add(chunk.bytes).filter(|end| *end <= self.input.size());
        let Some(end) = end else { return damaged("its footer points past the end of the file") };
        if self.remaining > 0 {
            return damaged("a row group has more values than rows");
        }
        (self.compression, self.at, self.end) = (chunk.compression, chunk.start, end);
        self.dictionary = ParquetDictionary::default();
        self.input.update_held_bytes(&mut self.dictionary_held, 0)
    }

    /// Moves to the next page that has values.
    fn next_page(&mut self) -> ColumnarResult<()> {
        while self.remaining == 0 {
            if self.at >= self.end {
                return damaged("a row group has fewer values than rows");
            }
            let header = self.read_header()?;
            self.at += header.header_size;
            if header.compressed_size > self.end - self.at {
                return damaged("a page extends past its row group");
            }
            self.load_page(header)?;
            self.at += header.compressed_size;
        }
        Ok(())
    }

    fn read_header(&mut self) -> ColumnarResult<ParquetPageHeader> {
        for window in HEADER_READ_SIZES {
            let bytes = window.min(self.end - self.at);
            self.input.read_at(self.at, to_usize(bytes)?, &mut self.compressed)?;
            if let Some(header) = parse_page_header(&self.compressed)? {
                return Ok(header);
            }
            if bytes < window {
                return damaged("a page header is truncated");
            }
        }
        unsupported("a page header is too large")
    }

    fn load_page(&mut self, header: ParquetPageHeader) -> ColumnarResult<()> {
        if matches!(header.kind, ParquetPageKind::Other) {
            return Ok(());
        }
        if header.uncompressed_size > MAX_PAGE || header.compressed_size > MAX_PAGE {
            return unsupported(format!(
                "a page has {} bytes (maximum {MAX_PAGE})",
                header.uncompressed_size.max(header.compressed_size)
            ));
        }
        let (unpacked, packed) = (to_usize(header.uncompressed_size)?, to_usize(header.compressed_size)?);
        // The levels are a copy of a part of the page.
        self.input.update_held_bytes(&mut self.page_held, unpacked.saturating_mul(2).saturating_add(packed))?;
        for buffer in [&mut self.page, &mut self.levels, &mut self.compressed] {
            // Do not keep the buffer of a large page for small ones.
            if buffer.capacity() > KEPT_CAPACITY + 2 * unpacked.max(packed) {
                *buffer = Vec::new();
            }
        }
        self.input.read_at(self.at, packed, &mut self.compressed)?;
        match header.kind {
            ParquetPageKind::Other => Ok(()),
            ParquetPageKind::Dictionary { values } => {
                decompress(self.compression, &self.compressed, unpacked, &mut self.page)?;
                self.load_dictionary(values)
            }
            ParquetPageKind::Data { values, encoding } => {
                decompress(self.compression, &self.compressed, unpacked, &mut self.page)?;
                let begins = if self.optional { self.read_levels(0)? } else { 0 };
                self.start_values(values, encoding, begins)
            }
            ParquetPageKind::DataVersion2 { values, encoding, levels, repetition, compressed: packed } => {
                if repetition > 0 {
                    return unsupported("a column has more than one value per row");
                }
                let levels = to_usize(levels)?;
                let Some((levels, compressed)) = self.compressed.split_at_checked(levels) else {
                    return damaged("a page is shorter than its levels");
                };
                let packing = if packed { self.compression } else { BlockCompression::None };
                // A page without values may have nothing to decompress.
                if compressed.is_empty() {
                    self.page.clear();
                } else {
                    decompress(packing, compressed, unpacked.saturating_sub(levels.len()), &mut self.page)?;
                }
                self.levels.clear();
                self.levels.extend_from_slice(levels);
                self.present = self.optional.then(|| self.level_decoder()).transpose()?;
                self.start_values(values, encoding, 0)
            }
        }
    }

    /// Makes the current page the dictionary.
    fn load_dictionary(&mut self, values: u64) -> ColumnarResult<()> {
        let mut found = ParquetDictionary { bytes: std::mem::take(&mut self.page), text_offsets: Vec::new() };
        if self.storage == ParquetStorage::ByteArrays {
            let mut at = 0;
            while u64::try_from(found.text_offsets.len()).unwrap_or(u64::MAX) < values {
                let (begins, ends) = text_range(&found.bytes, at)?;
                found.text_offsets.push(u32::try_from(begins).unwrap_or(u32::MAX));
                at = ends;
            }
        }
        let held = found.bytes.len() + found.text_offsets.len() * size_of::<u32>();
        self.dictionary = found;
        self.input.update_held_bytes(&mut self.dictionary_held, held)?;
        self.input.update_held_bytes(&mut self.page_held, 0)
    }

    /// Finds the levels of a data page of version 1. Returns the offset of its values.
    fn read_levels(&mut self, at: usize) -> ColumnarResult<usize> {
        let (begins, ends) = text_range(&self.page, at)?;
        self.levels.clear();
        self.levels.extend_from_slice(&self.page[begins..ends]);
        self.present = Some(self.level_decoder()?);
        Ok(ends)
    }

    fn level_decoder(&self) -> ColumnarResult<ParquetHybridDecoder> {
        ParquetHybridDecoder::new(1, 0, self.levels.len())
    }

    fn start_values(&mut self, values: u64, encoding: i64, at: usize) -> ColumnarResult<()> {
        self.remaining = values;
        let end = self.page.len();
        self.decoder = match (encoding, self.storage) {
            (0, ParquetStorage::Booleans) => ParquetPageDecoder::Plain(at * 8),
            (0, _) => ParquetPageDecoder::Plain(at),
            (2 | 8, ParquetStorage::Booleans) => return damaged("a boolean column has a dictionary"),
            (2 | 8, _) => match self.page.get(at) {
                Some(width) => {
                    ParquetPageDecoder::DictionaryIndexes(ParquetHybridDecoder::new(u32::from(*width), at + 1, end)?)
                }
                // All values of the page are null.
                None => ParquetPageDecoder::DictionaryIndexes(ParquetHybridDecoder::default()),
            },
            (3, ParquetStorage::Booleans) => {
                let (begins, ends) = if end == at { (at, at) } else { text_range(&self.page, at)? };
                ParquetPageDecoder::BooleanRuns(ParquetHybridDecoder::new(1, begins, ends)?)
            }
            (5..=7, _) if end == at => ParquetPageDecoder::Plain(at),
            (5, ParquetStorage::Int32 | ParquetStorage::Int64) => {
                ParquetPageDecoder::Deltas(ParquetDeltaDecoder::new(&self.page, at)?)
            }
            (6, ParquetStorage::ByteArrays) => {
                let lengths = ParquetDeltaDecoder::new(&self.page, at)?;
                ParquetPageDecoder::DeltaLengths(lengths, lengths.end_offset(&self.page)?)
            }
            (7, ParquetStorage::ByteArrays) => {
                let prefixes = ParquetDeltaDecoder::new(&self.page, at)?;
                let rests = ParquetDeltaDecoder::new(&self.page, prefixes.end_offset(&self.page)?)?;
                if prefixes.remaining() != rests.remaining() {
                    return damaged("a page has fewer strings than it declares");
                }
                ParquetPageDecoder::DeltaStrings(prefixes, rests, rests.end_offset(&self.page)?)
            }
            (other, _) => return unsupported(format!("a page has the unsupported encoding {other}")),
        };
        Ok(())
    }
}

/// Returns the start and end offsets of the string at `at`, after the four bytes of its length.
fn text_range(page: &[u8], at: usize) -> ColumnarResult<(usize, usize)> {
    let begins = at.saturating_add(4);
    let length = page.get(at..begins).and_then(|length| <[u8; 4]>::try_from(length).ok());
    let length = length.and_then(|length| usize::try_from(u32::from_le_bytes(length)).ok());
    match length.and_then(|length| begins.checked_add(length)).filter(|end| *end <= page.len()) {
        Some(ends) => Ok((begins, ends)),
        None => Err(page_cut_off()),
    }
}

fn to_usize(bytes: u64) -> ColumnarResult<usize> {
    usize::try_from(bytes).map_err(|_| ColumnarError::Unsupported(format!("{bytes} bytes are too many")))
}

#[cfg(test)]
mod tests {

    use super::*;

    /// A data page of version 2 with three rows that are null, and no byte of values.
    fn page_of_nulls(encoding: u8) -> Vec<u8> {
        let levels = [6, 0]; // One run: three times 0.
        let header = [0x15, 6, 0x15, 4, 0x15, 4, 0x5c, 0x15, 6, 0x15, 6, 0x15, 6, 0x15, encoding * 2, 0x15, 4, 0x15, 0];
        [&header[..], &[0x12, 0, 0], &levels].concat()
    }

    #[test]
    fn a_page_of_nulls_has_no_values_in_any_encoding() {
        for (encoding, storage) in [
            (0, ParquetStorage::ByteArrays),
            (8, ParquetStorage::ByteArrays),
            (8, ParquetStorage::Int64),
            (3, ParquetStorage::Booleans),
            (5, ParquetStorage::Int32),
            (6, ParquetStorage::ByteArrays),
            (7, ParquetStorage::ByteArrays),
        ] {
            let bytes = page_of_nulls(encoding);
            let mut file = tempfile::tempfile().expect("a file");
            std::io::Write::write_all(&mut file, &bytes).expect("written");
            let input = Rc::new(RandomAccessFile::new(file).expect("opened"));
            let mut pages = ParquetColumnPages::new(input, storage, true);
            let (compression, bytes) = (BlockCompression::None, bytes.len() as u64);
            pages
                .start_chunk(ParquetColumnChunk { start: 0, bytes, compression, values: 3 })
                .expect("it is in the file");
            pages.next_page().unwrap_or_else(|error| panic!("encoding {encoding} of {storage:?}: {error:?}"));
            let present = pages.present.as_mut().expect("the column is optional");
            for _ in 0..3 {
                assert_eq!(present.next(&pages.levels).expect("a level"), 0);
            }
            assert_eq!(pages.remaining, 3);
        }
    }
}

//! Reads Parquet files: row groups, which contain column chunks, which contain pages. Decodes the values of each
//! selected column page by page: plain values, runs of one repeated integer or of packed integers (levels, booleans,
//! dictionary indexes), and delta-encoded integers. `parquet_metadata` parses the footer and the page headers.
//!
//! <https://github.com/apache/parquet-format>
//! <https://github.com/apache/parquet-format/blob/master/Encodings.md>

use std::collections::VecDeque;
use std::rc::Rc;

use jiff::Timestamp;

use crate::bits::{decode_zigzag, read_lsb_first, read_varint};
use crate::input::{BlockCompression, RandomAccessFile, decompress};
use crate::parquet_metadata::{
    ParquetColumn, ParquetColumnChunk, ParquetPageHeader, ParquetPageKind, ParquetStorage, TimeUnitsPerSecond,
    footer_size, parse_columns, parse_page_header, parse_row_groups,
};
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
        let bytes = footer_size(&end, MAX_FOOTER)?;
        let Some(start) = (size - 8).checked_sub(bytes) else { return damaged("its footer is longer than the file") };
        let mut footer = Vec::new();
        input.read_at(start, usize::try_from(bytes).unwrap_or(usize::MAX), &mut footer)?;
        let columns = parse_columns(&footer)?;
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

    pub(crate) fn select(&mut self, columns: &[usize]) -> ColumnarResult<()> {
        let mut leaves = Vec::new();
        self.selected = self.columns.iter().map(|_| None).collect();
        let mut order = columns.to_vec();
        order.sort_unstable();
        order.dedup();
        for index in order {
            let Some(column) = self.columns.get(index) else { return damaged("a column is missing") };
            let (storage, _, units) = column.storage()?;
            leaves.extend(column.leaf);
            self.selected[index] = Some(ParquetColumnDecoder {
                pages: ParquetColumnPages::new(Rc::clone(&self.input), storage, column.optional),
                storage,
                units,
                current: CurrentValue::Null,
                text: Vec::new(),
            });
        }
        let groups = &mut self.row_groups;
        parse_row_groups(&self.footer, &leaves, |rows, chunks| groups.push_back((rows, chunks)))?;
        self.footer = Vec::new();
        self.input.check_row_count(self.row_groups.iter().map(|(rows, _)| *rows))
    }

    pub(crate) fn advance(&mut self) -> ColumnarResult<bool> {
        while self.rows_left == 0 {
            let Some((rows, chunks)) = self.row_groups.pop_front() else { return Ok(false) };
            for (column, chunk) in self.selected.iter_mut().flatten().zip(chunks) {
                if chunk.values != rows {
                    return damaged(format!("a row group has {rows} rows, but {} values in a column", chunk.values));
                }
                column.pages.start_chunk(chunk)?;
            }
            self.rows_left = rows;
        }
        self.rows_left -= 1;
        self.selected.iter_mut().flatten().try_for_each(ParquetColumnDecoder::advance)?;
        Ok(true)
    }

    pub(crate) fn value(&self, column: usize) -> ColumnValue<'_> {
        match self.selected.get(column) {
            Some(Some(column)) => column.current.value(&column.text),
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
        self.current = self.decode_value()?;
        Ok(())
    }

    /// Decodes the next value that is present. The bytes of a text replace the content of `text`.
    fn decode_value(&mut self) -> ColumnarResult<CurrentValue> {
        let pages = &mut self.pages;
        match &mut pages.decoder {
            ParquetPageDecoder::Plain(at) => match self.storage {
                ParquetStorage::Booleans => {
                    let byte = pages.page.get(*at / 8).ok_or_else(page_cut_off)?;
                    let truth = byte >> (*at % 8) & 1 == 1;
                    *at += 1;
                    Ok(CurrentValue::Boolean(truth))
                }
                ParquetStorage::ByteArrays => {
                    let (start, end) = text_range(&pages.page, *at)?;
                    *at = end;
                    replace_text(&mut self.text, 0, &pages.page[start..end])
                }
                storage => {
                    let start = *at;
                    *at += byte_width(storage);
                    decode_fixed_width(storage, self.units, pages.page.get(start..*at))
                }
            },
            ParquetPageDecoder::BooleanRuns(hybrid) => Ok(CurrentValue::Boolean(hybrid.next(&pages.page)? == 1)),
            ParquetPageDecoder::DictionaryIndexes(hybrid) => {
                let index = usize::try_from(hybrid.next(&pages.page)?).unwrap_or(usize::MAX);
                let dictionary = &pages.dictionary;
                if self.storage == ParquetStorage::ByteArrays {
                    let start = dictionary.text_offsets.get(index).ok_or_else(not_in_dictionary)?;
                    let (start, end) = text_range(&dictionary.bytes, (*start as usize).saturating_sub(4))?;
                    replace_text(&mut self.text, 0, &dictionary.bytes[start..end])
                } else {
                    let start = index.saturating_mul(byte_width(self.storage));
                    let bytes = dictionary.bytes.get(start..start.saturating_add(byte_width(self.storage)));
                    decode_fixed_width(self.storage, self.units, Some(bytes.ok_or_else(not_in_dictionary)?))
                }
            }
            ParquetPageDecoder::Deltas(delta) => {
                integer_or_timestamp(self.units, delta.next(&pages.page)?, self.storage)
            }
            ParquetPageDecoder::DeltaLengths(lengths, at) => {
                let text = take_bytes(&pages.page, at, lengths.next(&pages.page)?)?;
                replace_text(&mut self.text, 0, text)
            }
            ParquetPageDecoder::DeltaStrings(prefixes, lengths, at) => {
                let shared = usize::try_from(prefixes.next(&pages.page)?).unwrap_or(usize::MAX);
                if shared > self.text.len() {
                    return damaged("a string shares more bytes with the previous string than that string has");
                }
                let rest = take_bytes(&pages.page, at, lengths.next(&pages.page)?)?;
                replace_text(&mut self.text, shared, rest)
            }
        }
    }
}

/// Replaces the previous text with its first `shared` bytes, followed by `rest`.
fn replace_text(into: &mut Vec<u8>, shared: usize, rest: &[u8]) -> ColumnarResult<CurrentValue> {
    if shared + rest.len() > MAX_TEXT {
        return damaged(format!("a string is longer than {MAX_TEXT} bytes"));
    }
    into.truncate(shared);
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
const REUSED_CAPACITY: usize = 2 << 20;

/// The numbers of bytes to read for a page header, tried in this order. The first is usually enough.
const HEADER_READ_SIZES: [u64; 3] = [1 << 10, 64 << 10, 2 << 20];

/// The numbers of the encodings, which parquet.thrift lists as `enum Encoding`.
const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const RLE: i64 = 3;
const DELTA_BINARY_PACKED: i64 = 5;
const DELTA_LENGTH_BYTE_ARRAY: i64 = 6;
const DELTA_BYTE_ARRAY: i64 = 7;
const RLE_DICTIONARY: i64 = 8;

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
        let (uncompressed_size, compressed_size) =
            (to_usize(header.uncompressed_size)?, to_usize(header.compressed_size)?);
        // The levels are a copy of a part of the page.
        self.input.update_held_bytes(
            &mut self.page_held,
            uncompressed_size.saturating_mul(2).saturating_add(compressed_size),
        )?;
        for buffer in [&mut self.page, &mut self.levels, &mut self.compressed] {
            // Do not keep the buffer of a large page for small ones.
            if buffer.capacity() > REUSED_CAPACITY + 2 * uncompressed_size.max(compressed_size) {
                *buffer = Vec::new();
            }
        }
        self.input.read_at(self.at, compressed_size, &mut self.compressed)?;
        match header.kind {
            ParquetPageKind::Other => Ok(()),
            ParquetPageKind::Dictionary { values } => {
                decompress(self.compression, &self.compressed, uncompressed_size, &mut self.page)?;
                self.load_dictionary(values)
            }
            ParquetPageKind::Data { values, encoding } => {
                decompress(self.compression, &self.compressed, uncompressed_size, &mut self.page)?;
                let start = if self.optional { self.read_levels(0)? } else { 0 };
                self.start_values(values, encoding, start)
            }
            ParquetPageKind::DataVersion2 {
                values,
                encoding,
                definition_levels_size,
                repetition_levels_size,
                is_compressed,
            } => {
                if repetition_levels_size > 0 {
                    return unsupported("a column has more than one value per row");
                }
                let compression = if is_compressed { self.compression } else { BlockCompression::None };
                self.unpack_page_version_2(definition_levels_size, compression, uncompressed_size)?;
                self.start_values(values, encoding, 0)
            }
        }
    }

    /// Splits a data page of version 2 into its levels, which are not compressed, and its values.
    fn unpack_page_version_2(
        &mut self,
        levels_size: u64,
        compression: BlockCompression,
        uncompressed_size: usize,
    ) -> ColumnarResult<()> {
        let levels_size = to_usize(levels_size)?;
        let Some((levels, values)) = self.compressed.split_at_checked(levels_size) else {
            return damaged("a page is shorter than its levels");
        };
        // A page without values may have nothing to decompress.
        if values.is_empty() {
            self.page.clear();
        } else {
            decompress(compression, values, uncompressed_size.saturating_sub(levels_size), &mut self.page)?;
        }
        self.levels.clear();
        self.levels.extend_from_slice(levels);
        self.present = self.optional.then(|| self.level_decoder()).transpose()?;
        Ok(())
    }

    /// Makes the current page the dictionary.
    fn load_dictionary(&mut self, values: u64) -> ColumnarResult<()> {
        let mut found = ParquetDictionary { bytes: std::mem::take(&mut self.page), text_offsets: Vec::new() };
        if self.storage == ParquetStorage::ByteArrays {
            let mut at = 0;
            while u64::try_from(found.text_offsets.len()).unwrap_or(u64::MAX) < values {
                let (start, end) = text_range(&found.bytes, at)?;
                found.text_offsets.push(u32::try_from(start).unwrap_or(u32::MAX));
                at = end;
            }
        }
        let held = found.bytes.len() + found.text_offsets.len() * size_of::<u32>();
        self.dictionary = found;
        self.input.update_held_bytes(&mut self.dictionary_held, held)?;
        self.input.update_held_bytes(&mut self.page_held, 0)
    }

    /// Finds the levels of a data page of version 1. Returns the offset of its values.
    fn read_levels(&mut self, at: usize) -> ColumnarResult<usize> {
        let (start, end) = text_range(&self.page, at)?;
        self.levels.clear();
        self.levels.extend_from_slice(&self.page[start..end]);
        self.present = Some(self.level_decoder()?);
        Ok(end)
    }

    fn level_decoder(&self) -> ColumnarResult<ParquetHybridDecoder> {
        ParquetHybridDecoder::new(1, 0, self.levels.len())
    }

    fn start_values(&mut self, values: u64, encoding: i64, at: usize) -> ColumnarResult<()> {
        self.remaining = values;
        let end = self.page.len();
        self.decoder = match (encoding, self.storage) {
            (PLAIN, ParquetStorage::Booleans) => ParquetPageDecoder::Plain(at * 8),
            (PLAIN, _) => ParquetPageDecoder::Plain(at),
            (PLAIN_DICTIONARY | RLE_DICTIONARY, ParquetStorage::Booleans) => {
                return damaged("a boolean column has a dictionary");
            }
            (PLAIN_DICTIONARY | RLE_DICTIONARY, _) => match self.page.get(at) {
                Some(width) => {
                    ParquetPageDecoder::DictionaryIndexes(ParquetHybridDecoder::new(u32::from(*width), at + 1, end)?)
                }
                // All values of the page are null.
                None => ParquetPageDecoder::DictionaryIndexes(ParquetHybridDecoder::default()),
            },
            (RLE, ParquetStorage::Booleans) => {
                let (start, end) = if end == at { (at, at) } else { text_range(&self.page, at)? };
                ParquetPageDecoder::BooleanRuns(ParquetHybridDecoder::new(1, start, end)?)
            }
            (DELTA_BINARY_PACKED..=DELTA_BYTE_ARRAY, _) if end == at => ParquetPageDecoder::Plain(at),
            (DELTA_BINARY_PACKED, ParquetStorage::Int32 | ParquetStorage::Int64) => {
                ParquetPageDecoder::Deltas(ParquetDeltaDecoder::new(&self.page, at)?)
            }
            (DELTA_LENGTH_BYTE_ARRAY, ParquetStorage::ByteArrays) => {
                let lengths = ParquetDeltaDecoder::new(&self.page, at)?;
                ParquetPageDecoder::DeltaLengths(lengths, lengths.end_offset(&self.page)?)
            }
            (DELTA_BYTE_ARRAY, ParquetStorage::ByteArrays) => {
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
    let start = at.saturating_add(4);
    let length = page.get(at..start).and_then(|length| <[u8; 4]>::try_from(length).ok());
    let length = length.and_then(|length| usize::try_from(u32::from_le_bytes(length)).ok());
    match length.and_then(|length| start.checked_add(length)).filter(|end| *end <= page.len()) {
        Some(end) => Ok((start, end)),
        None => Err(page_cut_off()),
    }
}

fn to_usize(bytes: u64) -> ColumnarResult<usize> {
    usize::try_from(bytes).map_err(|_| ColumnarError::Unsupported(format!("{bytes} bytes are too many")))
}

/// Decodes integers of one bit width between two offsets of a page. Runs are decoded as they are read, so a false
/// length costs nothing.
#[derive(Clone, Copy, Debug, Default)]
struct ParquetHybridDecoder {
    width: u32,
    at: usize,
    end: usize,
    remaining: u64,
    run: ParquetHybridRun,
}

#[derive(Clone, Copy, Debug)]
enum ParquetHybridRun {
    Repeated(u64),
    /// The bit at which the next integer starts.
    Packed(usize),
}

impl Default for ParquetHybridRun {
    fn default() -> Self {
        Self::Repeated(0)
    }
}

impl ParquetHybridDecoder {
    /// Creates a decoder for integers of `width` bits, at most 32, from offset `at` to offset `end`.
    fn new(width: u32, at: usize, end: usize) -> ColumnarResult<Self> {
        if width > 32 {
            return damaged(format!("a page has the invalid bit width {width}"));
        }
        Ok(Self { width, at, end, ..Self::default() })
    }

    fn next(&mut self, page: &[u8]) -> ColumnarResult<u64> {
        while self.remaining == 0 {
            self.start_run(page.get(..self.end).unwrap_or(page))?;
        }
        self.remaining -= 1;
        match &mut self.run {
            ParquetHybridRun::Repeated(number) => Ok(*number),
            ParquetHybridRun::Packed(bit) => {
                let number = read_lsb_first(page.get(..self.end).unwrap_or(page), *bit, self.width);
                *bit += self.width as usize;
                number.ok_or_else(page_cut_off)
            }
        }
    }

    fn start_run(&mut self, bytes: &[u8]) -> ColumnarResult<()> {
        let (header, at) = read_varint(bytes, self.at).ok_or_else(page_cut_off)?;
        let width = self.width as usize;
        if header & 1 == 0 {
            let number = bytes.get(at..at + width.div_ceil(8)).ok_or_else(page_cut_off)?;
            let number = number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            self.at = at + width.div_ceil(8);
            (self.remaining, self.run) = (header >> 1, ParquetHybridRun::Repeated(number));
            return Ok(());
        }
        // The last run of a page may have less padding than its groups of eight need.
        self.remaining = (header >> 1).saturating_mul(8);
        self.run = ParquetHybridRun::Packed(at.saturating_mul(8));
        let bytes_of = usize::try_from(header >> 1).ok().and_then(|groups| groups.checked_mul(width));
        self.at = bytes_of.and_then(|bytes| at.checked_add(bytes)).unwrap_or(usize::MAX);
        Ok(())
    }
}

/// The most values in a block of delta-encoded integers. Writers make blocks of 128 values.
const MAX_BLOCK: u64 = 1 << 20;

/// Decodes the integers that start at some offset of a page.
#[derive(Clone, Copy, Debug, Default)]
struct ParquetDeltaDecoder {
    /// The offset after the block header or miniblock that was started last.
    at: usize,
    /// The number of values left.
    remaining: u64,
    value: i64,
    is_first: bool,
    /// The number of miniblocks in a block, and of values in a miniblock.
    miniblocks: usize,
    miniblock_values: usize,
    min_delta: i64,
    /// The offset of the bit widths of this block's miniblocks, and the index of the next miniblock.
    widths_at: usize,
    miniblock: usize,
    /// The current miniblock: its offset, its bit width, and the index of its next value.
    miniblock_at: usize,
    width: u32,
    value_index: usize,
}

impl ParquetDeltaDecoder {
    /// Reads the header.
    fn new(page: &[u8], at: usize) -> ColumnarResult<Self> {
        let mut offset = at;
        let mut next = || {
            let (number, end) = read_varint(page, offset).ok_or_else(page_cut_off)?;
            offset = end;
            Ok(number)
        };
        let (block, miniblocks, total, first) = (next()?, next()?, next()?, next()?);
        if block == 0
            || block > MAX_BLOCK
            || miniblocks == 0
            || block % miniblocks != 0
            || (block / miniblocks) % 8 != 0
        {
            return damaged(format!("a page has invalid blocks: {block} values in {miniblocks} miniblocks"));
        }
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let (miniblocks, miniblock_values) = (size(miniblocks), size(block / miniblocks));
        Ok(Self {
            at: offset,
            remaining: total,
            value: decode_zigzag(first),
            is_first: true,
            miniblocks,
            miniblock_values,
            // The first difference starts the first miniblock of the first block.
            miniblock: miniblocks,
            value_index: miniblock_values,
            ..Self::default()
        })
    }

    fn remaining(&self) -> u64 {
        self.remaining
    }

    fn next(&mut self, page: &[u8]) -> ColumnarResult<i64> {
        let Some(left) = self.remaining.checked_sub(1) else { return Err(page_cut_off()) };
        self.remaining = left;
        if self.is_first {
            self.is_first = false;
            return Ok(self.value);
        }
        if self.value_index == self.miniblock_values {
            self.start_miniblock(page)?;
        }
        let bit =
            self.miniblock_at.checked_mul(8).and_then(|bit| bit.checked_add(self.value_index * self.width as usize));
        let delta = bit.and_then(|bit| read_lsb_first(page, bit, self.width)).ok_or_else(page_cut_off)?;
        self.value_index += 1;
        self.value = self.value.wrapping_add(self.min_delta).wrapping_add(delta.cast_signed());
        Ok(self.value)
    }

    /// Starts the next miniblock, and the next block if all miniblocks of this one were read.
    fn start_miniblock(&mut self, page: &[u8]) -> ColumnarResult<()> {
        if self.miniblock == self.miniblocks {
            let (least, at) = read_varint(page, self.at).ok_or_else(page_cut_off)?;
            (self.min_delta, self.widths_at, self.miniblock) = (decode_zigzag(least), at, 0);
            self.at = at.saturating_add(self.miniblocks);
        }
        let width = u32::from(*page.get(self.widths_at.saturating_add(self.miniblock)).ok_or_else(page_cut_off)?);
        if width > 64 {
            return damaged(format!("a page has the invalid bit width {width}"));
        }
        (self.miniblock_at, self.width, self.value_index) = (self.at, width, 0);
        self.at = self.at.saturating_add(self.miniblock_values / 8 * width as usize);
        self.miniblock += 1;
        Ok(())
    }

    /// Returns the offset after all of the integers, by reading through them.
    fn end_offset(mut self, page: &[u8]) -> ColumnarResult<usize> {
        while self.remaining > 0 {
            // Skip a miniblock in one step. Integers of zero bits take no bytes, so a false count must not cost time.
            if self.value_index < self.miniblock_values && !self.is_first {
                let here =
                    u64::try_from(self.miniblock_values - self.value_index).unwrap_or(u64::MAX).min(self.remaining);
                self.value_index += usize::try_from(here).unwrap_or(usize::MAX);
                self.remaining -= here;
                continue;
            }
            self.next(page)?;
        }
        if self.at > page.len() { Err(page_cut_off()) } else { Ok(self.at) }
    }
}

/// The error of a page that is too short.
fn page_cut_off() -> ColumnarError {
    ColumnarError::Damaged("a page ends before its last value".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn both_kinds_of_run_are_read() {
        // Four times 5, then eight packed numbers of three bits, 0 to 7.
        let page = [0x08, 0x05, 0x03, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        let mut hybrid = ParquetHybridDecoder::new(3, 0, page.len()).unwrap();
        let numbers: Vec<u64> = (0..12).map(|_| hybrid.next(&page).unwrap()).collect();
        assert_eq!(numbers, [5, 5, 5, 5, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(hybrid.next(&page).is_err());
    }

    #[test]
    fn numbers_without_bits_are_nothing_but_their_count() {
        let page = [0xfe, 0xff, 0xff, 0xff, 0x0f];
        let mut hybrid = ParquetHybridDecoder::new(0, 0, page.len()).unwrap();
        assert_eq!(hybrid.next(&page).unwrap(), 0);
        assert!(ParquetHybridDecoder::new(33, 0, 0).is_err());
    }

    proptest! {
        #[test]
        fn junk_runs_are_no_panic(page: Vec<u8>, width in 0_u32..=32, at in 0_usize..20, end in 0_usize..40) {
            let mut hybrid = ParquetHybridDecoder::new(width, at, end).unwrap();
            for _ in 0..1000 {
                if hybrid.next(&page).is_err() {
                    break;
                }
            }
        }
    }

    /// From the documentation of the format: 1 to 5, then 7, 5, 3, 1, 2, 3, 4, 5, in blocks of one miniblock of 8
    /// values.
    #[test]
    fn numbers_are_summed_up() {
        // Four differences of 1, padded to eight, take no bits at all.
        let page = [0x08, 0x01, 0x05, 0x02, 0x02, 0x00, 0x77];
        let mut delta = ParquetDeltaDecoder::new(&page, 0).unwrap();
        assert_eq!(delta.end_offset(&page).unwrap(), 6);
        let numbers: Vec<i64> = (0..5).map(|_| delta.next(&page).unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        assert!(delta.next(&page).is_err());

        // 7, then the differences -2 -2 -2 1 1 1 1. The smallest is -2, so the stored values are 0 0 0 3 3 3 3, of
        // two bits each.
        let page = [0x08, 0x01, 0x08, 0x0e, 0x03, 0x02, 0b1100_0000, 0b0011_1111];
        let mut delta = ParquetDeltaDecoder::new(&page, 0).unwrap();
        let numbers: Vec<i64> = (0..8).map(|_| delta.next(&page).unwrap()).collect();
        assert_eq!(numbers, [7, 5, 3, 1, 2, 3, 4, 5]);
        assert_eq!(ParquetDeltaDecoder::new(&page, 0).unwrap().end_offset(&page).unwrap(), page.len());
    }

    #[test]
    fn heads_that_cannot_be_are_refused() {
        for page in [&[0x00, 0x01, 0x05, 0x02][..], &[0x08, 0x00, 0x05, 0x02], &[0x08, 0x03, 0x05, 0x02], &[0x08]] {
            assert!(ParquetDeltaDecoder::new(page, 0).is_err(), "{page:?}");
        }
        let wide = [0x08, 0x01, 0x05, 0x02, 0x02, 65, 0, 0, 0];
        let mut delta = ParquetDeltaDecoder::new(&wide, 0).unwrap();
        assert!(delta.next(&wide).is_ok() && delta.next(&wide).is_err());
    }

    proptest! {
        #[test]
        fn junk_is_no_panic(page: Vec<u8>, at in 0_usize..10) {
            if let Ok(mut delta) = ParquetDeltaDecoder::new(&page, at) {
                let _ = delta.end_offset(&page);
                for _ in 0..1000 {
                    if delta.next(&page).is_err() {
                        break;
                    }
                }
            }
        }
    }
}

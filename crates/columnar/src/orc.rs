//! Reads ORC files: stripes, which contain streams of columns. Decodes the values of each selected column of a stripe,
//! and parses the metadata: the postscript, the footer, and the footer of each stripe, all of them protocol buffers.
//! `orc_stream` reads the streams.
//!
//! <https://orc.apache.org/specification/ORCv1/>
//! <https://github.com/apache/orc-format/blob/main/src/main/proto/orc/proto/orc_proto.proto>

use std::collections::VecDeque;
use std::rc::Rc;

use jiff::Timestamp;

use crate::bits::read_varint;
use crate::input::{BlockCompression, RandomAccessFile};
use crate::orc_stream::{OrcBooleanDecoder, OrcCompression, OrcIntegerDecoder, OrcStream};
use crate::value::{
    ColumnType, ColumnValue, ColumnarError, ColumnarResult, CurrentValue, MAX_COLUMNS, MAX_TEXT, damaged, unsupported,
};

/// The time zone names that mean UTC.
const UTC_ZONES: [&str; 7] = ["", "UTC", "GMT", "Z", "Etc/UTC", "Etc/GMT", "UCT"];

/// An ORC file, positioned at one of its rows.
pub(crate) struct OrcReader {
    input: Rc<RandomAccessFile>,
    names: Vec<String>,
    columns: Vec<OrcColumn>,
    stripes: VecDeque<OrcStripe>,
    compression: OrcCompression,
    /// The selected columns, each at its index among all columns.
    selected: Vec<Option<OrcSelectedColumn>>,
    /// The number of rows left in the current stripe.
    rows_left: u64,
}

struct OrcSelectedColumn {
    storage: OrcStorage,
    decoder: Option<OrcColumnDecoder>,
    current: CurrentValue,
    text: Vec<u8>,
}

impl OrcReader {
    pub(crate) fn open(input: RandomAccessFile) -> ColumnarResult<Self> {
        let footer = read_footer(&input)?;
        input.check_row_count(footer.stripes.iter().map(|stripe| stripe.rows))?;
        Ok(Self {
            input: Rc::new(input),
            names: footer.names,
            columns: footer.columns,
            stripes: footer.stripes.into(),
            compression: footer.compression,
            selected: Vec::new(),
            rows_left: 0,
        })
    }

    pub(crate) fn column_names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn column_type(&self, column: usize) -> ColumnarResult<ColumnType> {
        self.storage(column).map(|(_, kind)| kind)
    }

    fn storage(&self, column: usize) -> ColumnarResult<(OrcStorage, ColumnType)> {
        match (self.columns.get(column), self.names.get(column)) {
            (Some(column), Some(name)) => column.storage(name),
            _ => damaged("a column is missing"),
        }
    }

    pub(crate) fn select(&mut self, columns: &[usize]) -> ColumnarResult<()> {
        self.selected = self.columns.iter().map(|_| None).collect();
        for index in columns {
            let (storage, _) = self.storage(*index)?;
            self.selected[*index] =
                Some(OrcSelectedColumn { storage, decoder: None, current: CurrentValue::Null, text: Vec::new() });
        }
        Ok(())
    }

    pub(crate) fn advance(&mut self) -> ColumnarResult<bool> {
        while self.rows_left == 0 {
            let Some(stripe) = self.stripes.pop_front() else { return Ok(false) };
            self.start_stripe(stripe)?;
            self.rows_left = stripe.rows;
        }
        self.rows_left -= 1;
        for column in self.selected.iter_mut().flatten() {
            if let Some(decoder) = &mut column.decoder {
                column.current = decoder.next(&self.input, &mut column.text)?;
            }
        }
        Ok(true)
    }

    fn start_stripe(&mut self, stripe: OrcStripe) -> ColumnarResult<()> {
        for column in self.selected.iter_mut().flatten() {
            if let Some(decoder) = column.decoder.take() {
                decoder.release(&self.input)?;
            }
        }
        let layout = read_stripe_footer(&self.input, self.compression, stripe)?;
        if layout.spans.iter().any(|span| span.column == 0 && span.kind == OrcStreamKind::Present) {
            return unsupported("some of its rows are null");
        }
        for (column, selected) in self.columns.iter().zip(&mut self.selected) {
            let Some(selected) = selected else { continue };
            if selected.storage == OrcStorage::Timestamps && !UTC_ZONES.contains(&layout.zone.as_str()) {
                return unsupported(format!(
                    "its timestamps are in the time zone {}, not in UTC",
                    layout.zone.escape_debug()
                ));
            }
            let encoding = usize::try_from(column.id).ok().and_then(|id| layout.encodings.get(id)).copied();
            let spans = layout.spans.iter().filter(|span| span.column == column.id);
            let opened = OrcColumnDecoder::open(
                &self.input,
                self.compression,
                selected.storage,
                encoding.unwrap_or_default(),
                &spans,
            )?;
            selected.decoder = Some(opened);
        }
        Ok(())
    }

    pub(crate) fn value(&self, column: usize) -> ColumnValue<'_> {
        match self.selected.get(column) {
            Some(Some(selected)) => selected.current.value(&selected.text),
            _ => ColumnValue::Null,
        }
    }
}

/// The largest dictionary in bytes, decompressed. Writers make stripes of 64 MiB, and a dictionary is only part of
/// one.
const MAX_DICTIONARY: usize = 64 << 20;

/// The epoch of ORC timestamps, the first second of 2015, in seconds since 1970.
const EPOCH: i64 = 1_420_070_400;

struct OrcColumnDecoder {
    present: Option<OrcBooleanDecoder>,
    streams: OrcColumnStreams,
}

enum OrcColumnStreams {
    Booleans(OrcBooleanDecoder),
    Integers(OrcIntegerDecoder),
    Texts { lengths: OrcIntegerDecoder, texts: OrcStream },
    DictionaryIndexes { indexes: OrcIntegerDecoder, dictionary: OrcDictionary },
    Timestamps { seconds: OrcIntegerDecoder, nanos: OrcIntegerDecoder },
}

struct OrcDictionary {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    held_bytes: usize,
}

impl OrcColumnDecoder {
    /// Opens the streams of a column.
    fn open<'a>(
        input: &RandomAccessFile,
        compression: OrcCompression,
        storage: OrcStorage,
        encoding: OrcColumnEncoding,
        spans: &(impl Iterator<Item = &'a OrcStreamSpan> + Clone),
    ) -> ColumnarResult<Self> {
        let find = |kind: OrcStreamKind| {
            let span = spans.clone().find(|span| span.kind == kind);
            span.map(|span| compression.stream(span.at, span.end))
        };
        // A stream without any bytes is left out of the file.
        let stream = |kind: OrcStreamKind| find(kind).unwrap_or_else(|| compression.stream(0, 0));
        let is_version_2 = encoding.kind >= 2;
        let by_dictionary = encoding.kind % 2 == 1;
        if encoding.kind > 3 || (by_dictionary && storage != OrcStorage::Texts) {
            return unsupported(format!("a column has the unsupported encoding {}", encoding.kind));
        }
        let streams = match storage {
            OrcStorage::Booleans => OrcColumnStreams::Booleans(OrcBooleanDecoder::new(stream(OrcStreamKind::Data))),
            OrcStorage::Integers => {
                OrcColumnStreams::Integers(OrcIntegerDecoder::new(stream(OrcStreamKind::Data), is_version_2, true))
            }
            OrcStorage::Timestamps | OrcStorage::Instants => OrcColumnStreams::Timestamps {
                seconds: OrcIntegerDecoder::new(stream(OrcStreamKind::Data), is_version_2, true),
                nanos: OrcIntegerDecoder::new(stream(OrcStreamKind::Secondary), is_version_2, false),
            },
            OrcStorage::Texts if by_dictionary => OrcColumnStreams::DictionaryIndexes {
                indexes: OrcIntegerDecoder::new(stream(OrcStreamKind::Data), is_version_2, false),
                dictionary: OrcDictionary::read(
                    input,
                    OrcIntegerDecoder::new(stream(OrcStreamKind::Length), is_version_2, false),
                    stream(OrcStreamKind::Dictionary),
                    encoding.dictionary,
                )?,
            },
            OrcStorage::Texts => OrcColumnStreams::Texts {
                lengths: OrcIntegerDecoder::new(stream(OrcStreamKind::Length), is_version_2, false),
                texts: stream(OrcStreamKind::Data),
            },
        };
        Ok(Self { present: find(OrcStreamKind::Present).map(OrcBooleanDecoder::new), streams })
    }

    /// Returns the next value. The bytes of a text replace the content of `text`.
    fn next(&mut self, input: &RandomAccessFile, text: &mut Vec<u8>) -> ColumnarResult<CurrentValue> {
        if let Some(present) = &mut self.present
            && !present.next(input)?
        {
            return Ok(CurrentValue::Null);
        }
        Ok(match &mut self.streams {
            OrcColumnStreams::Booleans(bits) => CurrentValue::Boolean(bits.next(input)?),
            OrcColumnStreams::Integers(integers) => CurrentValue::Integer(integers.next(input)?),
            OrcColumnStreams::Texts { lengths, texts } => {
                let length = checked_length(lengths.next(input)?, MAX_TEXT)?;
                text.clear();
                texts.read_into(input, length, text)?;
                CurrentValue::Text
            }
            OrcColumnStreams::DictionaryIndexes { indexes, dictionary } => {
                let entry = dictionary.get(indexes.next(input)?)?;
                text.clear();
                text.extend_from_slice(entry);
                CurrentValue::Text
            }
            OrcColumnStreams::Timestamps { seconds, nanos } => timestamp(seconds.next(input)?, nanos.next(input)?)?,
        })
    }

    /// Releases the memory that the streams and the dictionary hold.
    fn release(self, input: &RandomAccessFile) -> ColumnarResult<()> {
        if let Some(present) = self.present {
            present.release(input)?;
        }
        match self.streams {
            OrcColumnStreams::Booleans(bits) => bits.release(input),
            OrcColumnStreams::Integers(integers) => integers.release(input),
            OrcColumnStreams::Texts { lengths, texts } => lengths.release(input).and_then(|()| texts.release(input)),
            OrcColumnStreams::DictionaryIndexes { indexes, mut dictionary } => {
                input.update_held_bytes(&mut dictionary.held_bytes, 0)?;
                indexes.release(input)
            }
            OrcColumnStreams::Timestamps { seconds, nanos } => {
                seconds.release(input).and_then(|()| nanos.release(input))
            }
        }
    }
}

impl OrcDictionary {
    fn read(
        input: &RandomAccessFile,
        mut lengths: OrcIntegerDecoder,
        mut texts: OrcStream,
        count: u64,
    ) -> ColumnarResult<Self> {
        let mut found = Self { bytes: Vec::new(), ends: Vec::new(), held_bytes: 0 };
        let mut left = MAX_DICTIONARY;
        for _ in 0..count {
            let length = checked_length(lengths.next(input)?, MAX_TEXT)?;
            // Count four bytes for the end offset of each string, so that empty strings are not free.
            match left.checked_sub(length + size_of::<u32>()) {
                Some(fewer) => left = fewer,
                None => return unsupported(format!("a dictionary has more than {MAX_DICTIONARY} bytes")),
            }
            texts.read_into(input, length, &mut found.bytes)?;
            found.ends.push(u32::try_from(found.bytes.len()).unwrap_or(u32::MAX));
        }
        lengths.release(input)?;
        texts.release(input)?;
        input.update_held_bytes(&mut found.held_bytes, found.bytes.len() + found.ends.len() * size_of::<u32>())?;
        Ok(found)
    }

    fn get(&self, index: i64) -> ColumnarResult<&[u8]> {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        let end = self.ends.get(index).map(|end| *end as usize);
        let text = end.and_then(|end| self.bytes.get(start..end));
        text.ok_or_else(|| ColumnarError::Damaged("a value is not in its dictionary".to_owned()))
    }
}

fn checked_length(length: i64, limit: usize) -> ColumnarResult<usize> {
    match usize::try_from(length).ok().filter(|length| *length <= limit) {
        Some(length) => Ok(length),
        None => damaged(format!("a string has {} bytes (maximum {limit})", length.cast_unsigned())),
    }
}

/// Converts seconds since 2015 and packed nanoseconds to a timestamp.
fn timestamp(seconds: i64, packed: i64) -> ColumnarResult<CurrentValue> {
    // The three lowest bits are the number of decimal zeros that were removed, less one. 0 means none.
    let zeros = u32::try_from(packed & 7).unwrap_or_default();
    let scale = if zeros == 0 { 1 } else { 10_i64.pow(zeros + 1) };
    let nanos = (packed >> 3).checked_mul(scale).filter(|nanos| nanos.abs() < 1_000_000_000);
    let whole = seconds.checked_add(EPOCH);
    let time = nanos.zip(whole).and_then(|(nanos, seconds)| {
        // Before 1970, writers truncate the seconds toward zero, but the nanoseconds still count forward. Some
        // writers store negative nanoseconds instead.
        let seconds = if seconds < 0 && nanos > 999_999 { seconds - 1 } else { seconds };
        Timestamp::from_nanosecond(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).ok()
    });
    match time {
        Some(time) => Ok(CurrentValue::Timestamp(time)),
        None => damaged(format!("invalid timestamp: {seconds} s since 2015, nanoseconds {packed}")),
    }
}

/// The largest footer in bytes, both compressed and decompressed. Most of a footer is statistics.
const MAX_FOOTER: u64 = 8 << 20;

/// The most stripes in a file. Writers make stripes of 64 MiB.
const MAX_STRIPES: usize = 100_000;

/// The most streams in a stripe. Each column has a handful.
const MAX_STREAMS: usize = 16 * MAX_COLUMNS;

/// The largest block in bytes that is decompressed at once. The format stores its length in 23 bits.
const MAX_BLOCK: u64 = 8 << 20;

// The numbers of the fields that are read, as orc_proto.proto gives them: the message and the field in its notation.
const POST_SCRIPT_FOOTER_LENGTH: u64 = 1;
const POST_SCRIPT_COMPRESSION: u64 = 2;
const POST_SCRIPT_COMPRESSION_BLOCK_SIZE: u64 = 3;
const POST_SCRIPT_MAGIC: u64 = 8000;
const FOOTER_STRIPES: u64 = 3;
const FOOTER_TYPES: u64 = 4;
const FOOTER_ENCRYPTION: u64 = 10;
const TYPE_KIND: u64 = 1;
const TYPE_SUBTYPES: u64 = 2;
const TYPE_FIELD_NAMES: u64 = 3;
const STRIPE_INFORMATION_OFFSET: u64 = 1;
const STRIPE_INFORMATION_INDEX_LENGTH: u64 = 2;
const STRIPE_INFORMATION_DATA_LENGTH: u64 = 3;
const STRIPE_INFORMATION_FOOTER_LENGTH: u64 = 4;
const STRIPE_INFORMATION_NUMBER_OF_ROWS: u64 = 5;
const STRIPE_FOOTER_STREAMS: u64 = 1;
const STRIPE_FOOTER_COLUMNS: u64 = 2;
const STRIPE_FOOTER_WRITER_TIMEZONE: u64 = 3;
const STRIPE_FOOTER_ENCRYPTION: u64 = 4;
const STREAM_KIND: u64 = 1;
const STREAM_COLUMN: u64 = 2;
const STREAM_LENGTH: u64 = 3;
const COLUMN_ENCODING_KIND: u64 = 1;
const COLUMN_ENCODING_DICTIONARY_SIZE: u64 = 2;

// The values of the enumerations that are read: `CompressionKind`, `Type.Kind` and `Stream.Kind` in orc_proto.proto.
const COMPRESSION_NONE: u64 = 0;
const COMPRESSION_ZLIB: u64 = 1;
const COMPRESSION_SNAPPY: u64 = 2;
const COMPRESSION_LZO: u64 = 3;
const COMPRESSION_LZ4: u64 = 4;
const COMPRESSION_ZSTD: u64 = 5;
const KIND_BOOLEAN: u64 = 0;
const KIND_SHORT: u64 = 2;
const KIND_INT: u64 = 3;
const KIND_LONG: u64 = 4;
const KIND_STRING: u64 = 7;
const KIND_BINARY: u64 = 8;
const KIND_TIMESTAMP: u64 = 9;
const KIND_STRUCT: u64 = 12;
const KIND_VARCHAR: u64 = 16;
const KIND_CHAR: u64 = 17;
const KIND_TIMESTAMP_INSTANT: u64 = 18;
const STREAM_PRESENT: u64 = 0;
const STREAM_DATA: u64 = 1;
const STREAM_LENGTHS: u64 = 2;
const STREAM_DICTIONARY_DATA: u64 = 3;
const STREAM_SECONDARY: u64 = 5;

/// How the values of a column are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OrcStorage {
    Booleans,
    Integers,
    Texts,
    Timestamps,
    /// Timestamps that do not depend on the writer's time zone.
    Instants,
}

/// A top-level column.
#[derive(Clone, Copy, Debug)]
struct OrcColumn {
    /// The column ID, which counts nested columns too.
    id: u64,
    kind: u64,
}

impl OrcColumn {
    /// Returns how the values are stored, and their type.
    fn storage(self, name: &str) -> ColumnarResult<(OrcStorage, ColumnType)> {
        Ok(match self.kind {
            KIND_BOOLEAN => (OrcStorage::Booleans, ColumnType::Boolean),
            KIND_SHORT | KIND_INT | KIND_LONG => (OrcStorage::Integers, ColumnType::Integer),
            KIND_STRING | KIND_BINARY | KIND_VARCHAR | KIND_CHAR => (OrcStorage::Texts, ColumnType::Text),
            KIND_TIMESTAMP => (OrcStorage::Timestamps, ColumnType::Timestamp),
            KIND_TIMESTAMP_INSTANT => (OrcStorage::Instants, ColumnType::Timestamp),
            other => {
                return unsupported(format!("its column {} has the unsupported type {other}", name.escape_debug()));
            }
        })
    }
}

/// A group of rows. `at` is its offset in the file, and `index`, `data` and `footer` are sizes in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct OrcStripe {
    at: u64,
    index: u64,
    data: u64,
    footer: u64,
    rows: u64,
}

struct OrcFooter {
    names: Vec<String>,
    columns: Vec<OrcColumn>,
    stripes: Vec<OrcStripe>,
    compression: OrcCompression,
}

/// Reads the postscript and the footer of a file.
fn read_footer(input: &RandomAccessFile) -> ColumnarResult<OrcFooter> {
    let mut bytes = Vec::new();
    let size = input.size();
    let Some(last) = size.checked_sub(1).filter(|_| size > 4) else { return damaged("it is too short") };
    input.read_at(last, 1, &mut bytes)?;
    let length = u64::from(bytes.first().copied().unwrap_or_default());
    let Some(start) = last.checked_sub(length) else { return damaged("it is too short") };
    input.read_at(start, usize::try_from(length).unwrap_or_default(), &mut bytes)?;
    let (footer, compression) = parse_postscript(&bytes)?;
    let Some(start) = start.checked_sub(footer) else { return damaged("its footer is longer than the file") };
    let bytes = read_whole_footer(input, compression, start, footer)?;
    parse_footer(&bytes, compression)
}

/// Parses the postscript. Returns the size of the footer in bytes, and how blocks are compressed.
fn parse_postscript(bytes: &[u8]) -> ColumnarResult<(u64, OrcCompression)> {
    let (mut footer, mut codec, mut block, mut magic) = (0, 0, 256 << 10, false);
    let mut message = ProtobufMessage::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (POST_SCRIPT_FOOTER_LENGTH, ProtobufField::Number(size)) => footer = size,
            (POST_SCRIPT_COMPRESSION, ProtobufField::Number(kind)) => codec = kind,
            (POST_SCRIPT_COMPRESSION_BLOCK_SIZE, ProtobufField::Number(size)) => block = size,
            (POST_SCRIPT_MAGIC, ProtobufField::Bytes(text)) => magic = text == b"ORC",
            _ => {}
        }
    }
    if !magic {
        return damaged("it does not end like an ORC file");
    }
    let codec = match codec {
        COMPRESSION_NONE => BlockCompression::None,
        COMPRESSION_ZLIB => BlockCompression::Deflate,
        COMPRESSION_SNAPPY => BlockCompression::Snappy,
        COMPRESSION_LZO => return unsupported("it is compressed with LZO"),
        COMPRESSION_LZ4 => return unsupported("it is compressed with LZ4"),
        COMPRESSION_ZSTD => return unsupported("it is compressed with Zstandard"),
        other => return unsupported(format!("it is compressed with the unknown codec {other}")),
    };
    if block > MAX_BLOCK {
        return unsupported(format!("its blocks have {block} bytes (maximum {MAX_BLOCK})"));
    }
    Ok((footer, OrcCompression::new(codec, usize::try_from(block).unwrap_or_default())))
}

/// Reads and decompresses a whole footer.
fn read_whole_footer(
    input: &RandomAccessFile,
    compression: OrcCompression,
    at: u64,
    size: u64,
) -> ColumnarResult<Vec<u8>> {
    if size > MAX_FOOTER {
        return unsupported(format!("a footer has {size} bytes (maximum {MAX_FOOTER})"));
    }
    let Some(end) = at.checked_add(size) else { return damaged("a footer is past the end of the file") };
    let limit = usize::try_from(MAX_FOOTER).unwrap_or(usize::MAX);
    match compression.stream(at, end).read_all(input, limit)? {
        Some(bytes) => Ok(bytes),
        None => unsupported(format!("a footer decompresses to more than {MAX_FOOTER} bytes")),
    }
}

fn parse_footer(bytes: &[u8], compression: OrcCompression) -> ColumnarResult<OrcFooter> {
    let (mut types, mut stripes, mut root) = (Vec::new(), Vec::new(), None);
    let mut message = ProtobufMessage::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (FOOTER_STRIPES, ProtobufField::Bytes(bytes)) => stripes.push(parse_stripe(bytes)?),
            (FOOTER_TYPES, ProtobufField::Bytes(bytes)) if root.is_none() => root = Some(parse_row_type(bytes)?),
            (FOOTER_TYPES, ProtobufField::Bytes(bytes)) => types.push(parse_type_kind(bytes)?),
            (FOOTER_ENCRYPTION, ProtobufField::Bytes(_)) => return unsupported("it is encrypted"),
            _ => {}
        }
        if stripes.len() > MAX_STRIPES || types.len() > MAX_COLUMNS {
            return unsupported(format!("it has more than {MAX_STRIPES} stripes, or more than {MAX_COLUMNS} columns"));
        }
    }
    let Some((names, ids)) = root else { return damaged("its footer has no columns") };
    let mut columns = Vec::new();
    for id in ids {
        // The first type is that of the row itself.
        let kind = id.checked_sub(1).and_then(|id| usize::try_from(id).ok()).and_then(|id| types.get(id));
        let Some(kind) = kind else { return damaged("its footer names a column that does not exist") };
        columns.push(OrcColumn { id, kind: *kind });
    }
    if names.len() != columns.len() {
        return damaged(format!("its footer has {} columns, but {} column names", columns.len(), names.len()));
    }
    Ok(OrcFooter { names, columns, stripes, compression })
}

fn parse_row_type(bytes: &[u8]) -> ColumnarResult<(Vec<String>, Vec<u64>)> {
    let (mut names, mut ids, mut kind) = (Vec::new(), Vec::new(), 0);
    let mut message = ProtobufMessage::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (TYPE_KIND, ProtobufField::Number(number)) => kind = number,
            (TYPE_SUBTYPES, field) => append_numbers(field, &mut ids, MAX_COLUMNS)?,
            (TYPE_FIELD_NAMES, ProtobufField::Bytes(name)) => {
                let name = String::from_utf8(name.to_vec());
                names.push(name.map_err(|_| ColumnarError::Damaged("a column name is not UTF-8".to_owned()))?);
            }
            _ => {}
        }
        if names.len() > MAX_COLUMNS {
            return damaged("a footer has too many entries");
        }
    }
    if kind == KIND_STRUCT { Ok((names, ids)) } else { unsupported("its rows have no columns") }
}

fn parse_type_kind(bytes: &[u8]) -> ColumnarResult<u64> {
    let (mut kind, mut message) = (0, ProtobufMessage::new(bytes));
    while let Some((number, field)) = message.next()? {
        if let (TYPE_KIND, ProtobufField::Number(number)) = (number, field) {
            kind = number;
        }
    }
    Ok(kind)
}

fn parse_stripe(bytes: &[u8]) -> ColumnarResult<OrcStripe> {
    let (mut stripe, mut message) = (OrcStripe::default(), ProtobufMessage::new(bytes));
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (STRIPE_INFORMATION_OFFSET, ProtobufField::Number(number)) => stripe.at = number,
            (STRIPE_INFORMATION_INDEX_LENGTH, ProtobufField::Number(number)) => stripe.index = number,
            (STRIPE_INFORMATION_DATA_LENGTH, ProtobufField::Number(number)) => stripe.data = number,
            (STRIPE_INFORMATION_FOOTER_LENGTH, ProtobufField::Number(number)) => stripe.footer = number,
            (STRIPE_INFORMATION_NUMBER_OF_ROWS, ProtobufField::Number(number)) => stripe.rows = number,
            _ => {}
        }
    }
    Ok(stripe)
}

/// What a stream of a stripe contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OrcStreamKind {
    Present,
    Data,
    Length,
    Dictionary,
    Secondary,
    /// An index, which is not read.
    Other,
}

/// A stream of a stripe, with its start and end offsets in the file.
#[derive(Clone, Copy, Debug)]
struct OrcStreamSpan {
    kind: OrcStreamKind,
    column: u64,
    at: u64,
    end: u64,
}

/// How a column is encoded in a stripe.
#[derive(Clone, Copy, Debug, Default)]
struct OrcColumnEncoding {
    /// 0: direct. 1: dictionary. 2 and 3: the same, with version 2 of the integer runs.
    kind: u64,
    dictionary: u64,
}

/// The parsed footer of a stripe.
struct OrcStripeFooter {
    spans: Vec<OrcStreamSpan>,
    encodings: Vec<OrcColumnEncoding>,
    /// The time zone of its timestamps, or empty if it names none.
    zone: String,
}

/// Reads the footer of a stripe.
fn read_stripe_footer(
    input: &RandomAccessFile,
    compression: OrcCompression,
    stripe: OrcStripe,
) -> ColumnarResult<OrcStripeFooter> {
    let ends = stripe.at.checked_add(stripe.index).and_then(|at| at.checked_add(stripe.data));
    let Some(ends) = ends else { return damaged("a stripe is past the end of the file") };
    let bytes = read_whole_footer(input, compression, ends, stripe.footer)?;
    let mut layout = OrcStripeFooter { spans: Vec::new(), encodings: Vec::new(), zone: String::new() };
    let (mut message, mut at) = (ProtobufMessage::new(&bytes), stripe.at);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (STRIPE_FOOTER_STREAMS, ProtobufField::Bytes(bytes)) => {
                let span = parse_stream_span(bytes, at)?;
                at = span.end;
                if at > ends {
                    return damaged("the streams of a stripe are longer than the stripe");
                }
                layout.spans.push(span);
            }
            (STRIPE_FOOTER_COLUMNS, ProtobufField::Bytes(bytes)) => {
                layout.encodings.push(parse_column_encoding(bytes)?);
            }
            (STRIPE_FOOTER_WRITER_TIMEZONE, ProtobufField::Bytes(zone)) => {
                layout.zone = String::from_utf8_lossy(zone).into_owned();
            }
            (STRIPE_FOOTER_ENCRYPTION, _) => return unsupported("it is encrypted"),
            _ => {}
        }
        if layout.spans.len() > MAX_STREAMS || layout.encodings.len() > MAX_STREAMS {
            return unsupported(format!("a stripe has more than {MAX_STREAMS} streams"));
        }
    }
    Ok(layout)
}

fn parse_stream_span(bytes: &[u8], at: u64) -> ColumnarResult<OrcStreamSpan> {
    let (mut kind, mut column, mut length, mut message) = (OrcStreamKind::Present, 0, 0, ProtobufMessage::new(bytes));
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (STREAM_KIND, ProtobufField::Number(number)) => {
                kind = match number {
                    STREAM_PRESENT => OrcStreamKind::Present,
                    STREAM_DATA => OrcStreamKind::Data,
                    STREAM_LENGTHS => OrcStreamKind::Length,
                    STREAM_DICTIONARY_DATA => OrcStreamKind::Dictionary,
                    STREAM_SECONDARY => OrcStreamKind::Secondary,
                    _ => OrcStreamKind::Other,
                }
            }
            (STREAM_COLUMN, ProtobufField::Number(number)) => column = number,
            (STREAM_LENGTH, ProtobufField::Number(number)) => length = number,
            _ => {}
        }
    }
    let Some(end) = at.checked_add(length) else { return damaged("a stream is past the end of the file") };
    Ok(OrcStreamSpan { kind, column, at, end })
}

fn parse_column_encoding(bytes: &[u8]) -> ColumnarResult<OrcColumnEncoding> {
    let (mut encoding, mut message) = (OrcColumnEncoding::default(), ProtobufMessage::new(bytes));
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (COLUMN_ENCODING_KIND, ProtobufField::Number(number)) => encoding.kind = number,
            (COLUMN_ENCODING_DICTIONARY_SIZE, ProtobufField::Number(number)) => encoding.dictionary = number,
            _ => {}
        }
    }
    Ok(encoding)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProtobufField<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A value of four or eight bytes. No footer has a relevant field of this type.
    Fixed,
}

/// Reads the fields of a message, one after another. A nested message is returned as bytes, to be parsed as a message
/// of its own, so parsing never recurses.
#[derive(Clone, Copy)]
struct ProtobufMessage<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ProtobufMessage<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns the number and value of the next field, or `None` at the end of the message.
    fn next(&mut self) -> ColumnarResult<Option<(u64, ProtobufField<'a>)>> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.read_varint()?;
        let field = match tag & 7 {
            0 => ProtobufField::Number(self.read_varint()?),
            1 => self.take_bytes(8).map(|_| ProtobufField::Fixed)?,
            2 => {
                let bytes = self.read_varint()?;
                ProtobufField::Bytes(self.take_bytes(bytes)?)
            }
            5 => self.take_bytes(4).map(|_| ProtobufField::Fixed)?,
            other => return damaged(format!("a footer has a field of the unknown type {other}")),
        };
        Ok(Some((tag >> 3, field)))
    }

    fn read_varint(&mut self) -> ColumnarResult<u64> {
        match read_varint(self.bytes, self.at) {
            Some((number, at)) => {
                self.at = at;
                Ok(number)
            }
            None => damaged("a footer is truncated"),
        }
    }

    fn take_bytes(&mut self, bytes: u64) -> ColumnarResult<&'a [u8]> {
        let end = usize::try_from(bytes).ok().and_then(|bytes| self.at.checked_add(bytes));
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => damaged("a footer is truncated"),
        }
    }
}

/// Appends the numbers of a field, which may be packed. Returns an error if `into` then holds more than `limit`
/// numbers.
fn append_numbers(field: ProtobufField<'_>, into: &mut Vec<u64>, limit: usize) -> ColumnarResult<()> {
    match field {
        ProtobufField::Number(number) => into.push(number),
        ProtobufField::Fixed => {}
        ProtobufField::Bytes(bytes) => {
            let mut at = 0;
            while at < bytes.len() && into.len() <= limit {
                let Some((number, next)) = read_varint(bytes, at) else { return damaged("a footer is truncated") };
                into.push(number);
                at = next;
            }
        }
    }
    if into.len() > limit { damaged("a footer has too many entries") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_of_all_types_are_told_apart() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x1d, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut message = ProtobufMessage::new(&bytes);
        assert_eq!(message.next().unwrap(), Some((1, ProtobufField::Number(150))));
        assert_eq!(message.next().unwrap(), Some((2, ProtobufField::Bytes(b"hi"))));
        assert_eq!(message.next().unwrap(), Some((3, ProtobufField::Fixed)));
        assert_eq!(message.next().unwrap(), Some((4, ProtobufField::Fixed)));
        assert_eq!(message.next().unwrap(), None);
        assert!(ProtobufMessage::new(&[0x12, 0xff, 0xff, 0x03]).next().is_err());
        assert!(ProtobufMessage::new(&[0x0b]).next().is_err());
    }

    #[test]
    fn packed_numbers_are_bounded() {
        let mut found = Vec::new();
        append_numbers(ProtobufField::Bytes(&[1, 0x96, 0x01]), &mut found, 2).unwrap();
        append_numbers(ProtobufField::Number(7), &mut found, 3).unwrap();
        assert_eq!(found, [1, 150, 7]);
        assert!(append_numbers(ProtobufField::Bytes(&[0; 100]), &mut found, 10).is_err());
        assert!(found.len() <= 11);
    }

    proptest! {
        #[test]
        fn junk_is_no_panic(bytes: Vec<u8>) {
            let mut message = ProtobufMessage::new(&bytes);
            while let Ok(Some(_)) = message.next() {}
        }
    }
}

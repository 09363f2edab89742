//! Parses the metadata of an ORC file: its postscript, its footer, and the footer of each stripe.
//!
//! <https://orc.apache.org/specification/ORCv1/>

use super::protobuf::{ProtobufField, ProtobufMessage, append_numbers};
use super::stream::OrcCompression;
use crate::compression::BlockCompression;
use crate::input::RandomAccessFile;
use crate::{ColumnType, ColumnarError, ColumnarResult, MAX_COLUMNS, damaged, unsupported};

/// The largest footer in bytes, both compressed and decompressed. Most of a footer is statistics.
const MAX_FOOTER: u64 = 8 << 20;

/// The most stripes in a file. Writers make stripes of 64 MiB.
const MAX_STRIPES: usize = 100_000;

/// The most streams in a stripe. Each column has a handful.
const MAX_STREAMS: usize = 16 * MAX_COLUMNS;

/// The largest block in bytes that is decompressed at once. The format stores its length in 23 bits.
const MAX_BLOCK: u64 = 8 << 20;

/// How the values of a column are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrcStorage {
    Booleans,
    Integers,
    Texts,
    Timestamps,
    /// Timestamps that do not depend on the writer's time zone.
    Instants,
}

/// A top-level column.
#[derive(Clone, Copy, Debug)]
pub(super) struct OrcColumn {
    /// The column ID, which counts nested columns too.
    pub(super) id: u64,
    kind: u64,
}

impl OrcColumn {
    /// Returns how the values are stored, and their type.
    pub(super) fn storage(self, name: &str) -> ColumnarResult<(OrcStorage, ColumnType)> {
        Ok(match self.kind {
            0 => (OrcStorage::Booleans, ColumnType::Boolean),
            2..=4 => (OrcStorage::Integers, ColumnType::Integer),
            7 | 8 | 16 | 17 => (OrcStorage::Texts, ColumnType::Text),
            9 => (OrcStorage::Timestamps, ColumnType::Timestamp),
            18 => (OrcStorage::Instants, ColumnType::Timestamp),
            other => {
                return unsupported(format!("its column {} has the unsupported type {other}", name.escape_debug()));
            }
        })
    }
}

/// A group of rows. `at` is its offset in the file, and `index`, `data` and `read_footer` are sizes in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OrcStripe {
    pub(super) at: u64,
    index: u64,
    data: u64,
    footer: u64,
    pub(super) rows: u64,
}

pub(super) struct OrcFooter {
    pub(super) names: Vec<String>,
    pub(super) columns: Vec<OrcColumn>,
    pub(super) stripes: Vec<OrcStripe>,
    pub(super) compression: OrcCompression,
}

/// Reads the postscript and the footer of a file.
pub(super) fn read_footer(input: &RandomAccessFile) -> ColumnarResult<OrcFooter> {
    let mut bytes = Vec::new();
    let size = input.size();
    let Some(last) = size.checked_sub(1).filter(|_| size > 4) else { return damaged("it is too short") };
    input.read_at(last, 1, &mut bytes)?;
    let length = u64::from(bytes.first().copied().unwrap_or_default());
    let Some(begins) = last.checked_sub(length) else { return damaged("it is too short") };
    input.read_at(begins, usize::try_from(length).unwrap_or_default(), &mut bytes)?;
    let (footer, packed) = parse_postscript(&bytes)?;
    let Some(begins) = begins.checked_sub(footer) else { return damaged("its footer is longer than the file") };
    let bytes = read_whole_footer(input, packed, begins, footer)?;
    parse_footer(&bytes, packed)
}

/// Parses the postscript. Returns the size of the footer in bytes, and how blocks are compressed.
fn parse_postscript(bytes: &[u8]) -> ColumnarResult<(u64, OrcCompression)> {
    let (mut footer, mut codec, mut block, mut magic) = (0, 0, 256 << 10, false);
    let mut message = ProtobufMessage::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, ProtobufField::Number(size)) => footer = size,
            (2, ProtobufField::Number(kind)) => codec = kind,
            (3, ProtobufField::Number(size)) => block = size,
            (8000, ProtobufField::Bytes(text)) => magic = text == b"ORC",
            _ => {}
        }
    }
    if !magic {
        return damaged("it does not end like an ORC file");
    }
    let packing = match codec {
        0 => BlockCompression::None,
        1 => BlockCompression::Deflate,
        2 => BlockCompression::Snappy,
        3 => return unsupported("it is compressed with LZO"),
        4 => return unsupported("it is compressed with LZ4"),
        5 => return unsupported("it is compressed with Zstandard"),
        other => return unsupported(format!("it is compressed with the unknown codec {other}")),
    };
    if block > MAX_BLOCK {
        return unsupported(format!("its blocks have {block} bytes (maximum {MAX_BLOCK})"));
    }
    Ok((footer, OrcCompression { codec: packing, block_size: usize::try_from(block).unwrap_or_default() }))
}

/// Reads and decompresses a whole footer.
fn read_whole_footer(input: &RandomAccessFile, packed: OrcCompression, at: u64, size: u64) -> ColumnarResult<Vec<u8>> {
    if size > MAX_FOOTER {
        return unsupported(format!("a footer has {size} bytes (maximum {MAX_FOOTER})"));
    }
    let Some(end) = at.checked_add(size) else { return damaged("a footer is past the end of the file") };
    let mut stream = packed.stream(at, end);
    let mut all = Vec::new();
    while stream.has_more(input)? {
        all.extend_from_slice(stream.buffered());
        stream.skip_buffered();
        if all.len() as u64 > MAX_FOOTER {
            return unsupported(format!("a footer decompresses to more than {MAX_FOOTER} bytes"));
        }
    }
    Ok(all)
}

fn parse_footer(bytes: &[u8], packed: OrcCompression) -> ColumnarResult<OrcFooter> {
    let (mut types, mut stripes, mut root) = (Vec::new(), Vec::new(), None);
    let mut message = ProtobufMessage::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (3, ProtobufField::Bytes(bytes)) => stripes.push(parse_stripe(bytes)?),
            (4, ProtobufField::Bytes(bytes)) if root.is_none() => root = Some(parse_row_type(bytes)?),
            (4, ProtobufField::Bytes(bytes)) => types.push(parse_type_kind(bytes)?),
            (10, ProtobufField::Bytes(_)) => return unsupported("it is encrypted"),
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
    Ok(OrcFooter { names, columns, stripes, compression: packed })
}

fn parse_row_type(bytes: &[u8]) -> ColumnarResult<(Vec<String>, Vec<u64>)> {
    let (mut names, mut ids, mut kind) = (Vec::new(), Vec::new(), 0);
    let mut message = ProtobufMessage::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, ProtobufField::Number(number)) => kind = number,
            (2, field) => append_numbers(field, &mut ids, MAX_COLUMNS)?,
            (3, ProtobufField::Bytes(name)) => {
                let name = String::from_utf8(name.to_vec());
                names.push(name.map_err(|_| ColumnarError::Damaged("a column name is not UTF-8".to_owned()))?);
            }
            _ => {}
        }
        if names.len() > MAX_COLUMNS {
            return damaged("a footer has too many entries");
        }
    }
    if kind == 12 { Ok((names, ids)) } else { unsupported("its rows have no columns") }
}

fn parse_type_kind(bytes: &[u8]) -> ColumnarResult<u64> {
    let (mut kind, mut message) = (0, ProtobufMessage::new(bytes));
    while let Some((number, field)) = message.next()? {
        if let (1, ProtobufField::Number(number)) = (number, field) {
            kind = number;
        }
    }
    Ok(kind)
}

fn parse_stripe(bytes: &[u8]) -> ColumnarResult<OrcStripe> {
    let (mut stripe, mut message) = (OrcStripe::default(), ProtobufMessage::new(bytes));
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, ProtobufField::Number(number)) => stripe.at = number,
            (2, ProtobufField::Number(number)) => stripe.index = number,
            (3, ProtobufField::Number(number)) => stripe.data = number,
            (4, ProtobufField::Number(number)) => stripe.footer = number,
            (5, ProtobufField::Number(number)) => stripe.rows = number,
            _ => {}
        }
    }
    Ok(stripe)
}

/// What a stream of a stripe contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrcStreamKind {
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
pub(super) struct OrcStreamSpan {
    pub(super) kind: OrcStreamKind,
    pub(super) column: u64,
    pub(super) at: u64,
    pub(super) end: u64,
}

/// How a column is encoded in a stripe.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OrcColumnEncoding {
    /// 0: direct. 1: dictionary. 2 and 3: the same, with version 2 of the integer runs.
    pub(super) kind: u64,
    pub(super) dictionary: u64,
}

/// The parsed footer of a stripe.
pub(super) struct OrcStripeFooter {
    pub(super) spans: Vec<OrcStreamSpan>,
    pub(super) encodings: Vec<OrcColumnEncoding>,
    /// The time zone of its timestamps, or empty if it names none.
    pub(super) zone: String,
}

/// Reads the footer of a stripe.
pub(super) fn read_stripe_footer(
    input: &RandomAccessFile,
    packed: OrcCompression,
    stripe: OrcStripe,
) -> ColumnarResult<OrcStripeFooter> {
    let ends = stripe.at.checked_add(stripe.index).and_then(|at| at.checked_add(stripe.data));
    let Some(ends) = ends else { return damaged("a stripe is past the end of the file") };
    let bytes = read_whole_footer(input, packed, ends, stripe.footer)?;
    let mut layout = OrcStripeFooter { spans: Vec::new(), encodings: Vec::new(), zone: String::new() };
    let (mut message, mut at) = (ProtobufMessage::new(&bytes), stripe.at);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, ProtobufField::Bytes(bytes)) => {
                let span = parse_stream_span(bytes, at)?;
                at = span.end;
                if at > ends {
                    return damaged("the streams of a stripe are longer than the stripe");
                }
                layout.spans.push(span);
            }
            (2, ProtobufField::Bytes(bytes)) => layout.encodings.push(parse_column_encoding(bytes)?),
            (3, ProtobufField::Bytes(zone)) => layout.zone = String::from_utf8_lossy(zone).into_owned(),
            (4, _) => return unsupported("it is encrypted"),
            _ => {}
        }
        if layout.spans.len() > MAX_STREAMS || layout.encodings.len() > MAX_STREAMS {
            return unsupported(format!("a stripe has more than {MAX_STREAMS} streams"));
        }
    }
    Ok(layout)
}

fn parse_stream_span(bytes: &[u8], at: u64) -> ColumnarResult<OrcStreamSpan> {
    let (mut part, mut column, mut length, mut message) = (OrcStreamKind::Present, 0, 0, ProtobufMessage::new(bytes));
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, ProtobufField::Number(kind)) => {
                part = match kind {
                    0 => OrcStreamKind::Present,
                    1 => OrcStreamKind::Data,
                    2 => OrcStreamKind::Length,
                    3 => OrcStreamKind::Dictionary,
                    5 => OrcStreamKind::Secondary,
                    _ => OrcStreamKind::Other,
                }
            }
            (2, ProtobufField::Number(number)) => column = number,
            (3, ProtobufField::Number(number)) => length = number,
            _ => {}
        }
    }
    let Some(end) = at.checked_add(length) else { return damaged("a stream is past the end of the file") };
    Ok(OrcStreamSpan { kind: part, column, at, end })
}

fn parse_column_encoding(bytes: &[u8]) -> ColumnarResult<OrcColumnEncoding> {
    let (mut encoding, mut message) = (OrcColumnEncoding::default(), ProtobufMessage::new(bytes));
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, ProtobufField::Number(number)) => encoding.kind = number,
            (2, ProtobufField::Number(number)) => encoding.dictionary = number,
            _ => {}
        }
    }
    Ok(encoding)
}

//! Parses the metadata of an ORC file: its postscript, its footer, and the footer of each stripe.
//!
//! <https://orc.apache.org/specification/ORCv1/>

use super::proto::{Field, Message, numbers};
use super::stream::Packed;
use crate::manifest::inventory::columnar::input::Input;
use crate::manifest::inventory::columnar::unpack::Packing;
use crate::manifest::inventory::columnar::{Broken, Kind, MAX_COLUMNS, Outcome, damaged, foreign};

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
pub(super) enum Stored {
    Bits,
    Integers,
    Texts,
    Times,
    /// Timestamps that do not depend on the writer's time zone.
    Instants,
}

/// A top-level column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// The column ID, which counts nested columns too.
    pub(super) id: u64,
    kind: u64,
}

impl Column {
    /// Returns how the values are stored, and their type.
    pub(super) fn stored(self, name: &str) -> Outcome<(Stored, Kind)> {
        Ok(match self.kind {
            0 => (Stored::Bits, Kind::Truth),
            2..=4 => (Stored::Integers, Kind::Number),
            7 | 8 | 16 | 17 => (Stored::Texts, Kind::Text),
            9 => (Stored::Times, Kind::Time),
            18 => (Stored::Instants, Kind::Time),
            other => {
                return foreign(format!("its column {} has the type {other}", name.escape_debug()));
            }
        })
    }
}

/// A group of rows. `at` is its offset in the file, and `index`, `data` and `footer` are sizes in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stripe {
    pub(super) at: u64,
    index: u64,
    data: u64,
    footer: u64,
    pub(super) rows: u64,
}

pub(super) struct Footer {
    pub(super) names: Vec<String>,
    pub(super) columns: Vec<Column>,
    pub(super) stripes: Vec<Stripe>,
    pub(super) packed: Packed,
}

/// Reads the postscript and the footer of a file.
pub(super) fn footer(input: &Input) -> Outcome<Footer> {
    let mut bytes = Vec::new();
    let size = input.size();
    let Some(last) = size.checked_sub(1).filter(|_| size > 4) else { return damaged("it is too short") };
    input.read(last, 1, &mut bytes)?;
    let length = u64::from(bytes.first().copied().unwrap_or_default());
    let Some(begins) = last.checked_sub(length) else { return damaged("it is too short") };
    input.read(begins, usize::try_from(length).unwrap_or_default(), &mut bytes)?;
    let (footer, packed) = postscript(&bytes)?;
    let Some(begins) = begins.checked_sub(footer) else { return damaged("its footer is longer than it is") };
    let bytes = whole(input, packed, begins, footer)?;
    columns_and_stripes(&bytes, packed)
}

/// Parses the postscript. Returns the size of the footer in bytes, and how blocks are compressed.
fn postscript(bytes: &[u8]) -> Outcome<(u64, Packed)> {
    let (mut footer, mut codec, mut block, mut magic) = (0, 0, 256 << 10, false);
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Number(size)) => footer = size,
            (2, Field::Number(kind)) => codec = kind,
            (3, Field::Number(size)) => block = size,
            (8000, Field::Bytes(text)) => magic = text == b"ORC",
            _ => {}
        }
    }
    if !magic {
        return damaged("it does not end as an ORC file does");
    }
    let packing = match codec {
        0 => Packing::None,
        1 => Packing::Deflate,
        2 => Packing::Snappy,
        3 => return foreign("it is compressed with LZO"),
        4 => return foreign("it is compressed with LZ4"),
        5 => return foreign("it is compressed with Zstandard"),
        other => return foreign(format!("it is compressed with the unknown codec {other}")),
    };
    if block > MAX_BLOCK {
        return foreign(format!("its blocks have {block} bytes, and the most is {MAX_BLOCK}"));
    }
    Ok((footer, Packed { packing, block: usize::try_from(block).unwrap_or_default() }))
}

/// Reads and decompresses a whole footer.
fn whole(input: &Input, packed: Packed, at: u64, size: u64) -> Outcome<Vec<u8>> {
    if size > MAX_FOOTER {
        return foreign(format!("a footer has {size} bytes, and the most is {MAX_FOOTER}"));
    }
    let Some(end) = at.checked_add(size) else { return damaged("a footer lies behind the end") };
    let mut stream = packed.stream(at, end);
    let mut all = Vec::new();
    while stream.more(input)? {
        all.extend_from_slice(stream.rest());
        stream.pass_rest();
        if all.len() as u64 > MAX_FOOTER {
            return foreign(format!("a footer comes to more than the {MAX_FOOTER} bytes that it may"));
        }
    }
    Ok(all)
}

fn columns_and_stripes(bytes: &[u8], packed: Packed) -> Outcome<Footer> {
    let (mut types, mut stripes, mut root) = (Vec::new(), Vec::new(), None);
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (3, Field::Bytes(bytes)) => stripes.push(stripe(bytes)?),
            (4, Field::Bytes(bytes)) if root.is_none() => root = Some(row(bytes)?),
            (4, Field::Bytes(bytes)) => types.push(kind(bytes)?),
            (10, Field::Bytes(_)) => return foreign("it is encrypted with a key of its own"),
            _ => {}
        }
        if stripes.len() > MAX_STRIPES || types.len() > MAX_COLUMNS {
            return foreign(format!("it has more than {MAX_STRIPES} stripes, or more than {MAX_COLUMNS} columns"));
        }
    }
    let Some((names, ids)) = root else { return damaged("its footer has no columns") };
    let mut columns = Vec::new();
    for id in ids {
        // The first type is that of the row itself.
        let kind = id.checked_sub(1).and_then(|id| usize::try_from(id).ok()).and_then(|id| types.get(id));
        let Some(kind) = kind else { return damaged("its footer names a column that it does not have") };
        columns.push(Column { id, kind: *kind });
    }
    if names.len() != columns.len() {
        return damaged(format!("its footer has {} columns and {} names for them", columns.len(), names.len()));
    }
    Ok(Footer { names, columns, stripes, packed })
}

fn row(bytes: &[u8]) -> Outcome<(Vec<String>, Vec<u64>)> {
    let (mut names, mut ids, mut kind) = (Vec::new(), Vec::new(), 0);
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Number(number)) => kind = number,
            (2, field) => numbers(field, &mut ids, MAX_COLUMNS)?,
            (3, Field::Bytes(name)) => {
                let name = String::from_utf8(name.to_vec());
                names.push(name.map_err(|_| Broken::Damaged("the name of a column is not UTF-8".to_owned()))?);
            }
            _ => {}
        }
        if names.len() > MAX_COLUMNS {
            return damaged("a footer lists too much");
        }
    }
    if kind == 12 { Ok((names, ids)) } else { foreign("its rows have no columns") }
}

fn kind(bytes: &[u8]) -> Outcome<u64> {
    let (mut kind, mut message) = (0, Message::new(bytes));
    while let Some((number, field)) = message.next()? {
        if let (1, Field::Number(number)) = (number, field) {
            kind = number;
        }
    }
    Ok(kind)
}

fn stripe(bytes: &[u8]) -> Outcome<Stripe> {
    let (mut stripe, mut message) = (Stripe::default(), Message::new(bytes));
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Number(number)) => stripe.at = number,
            (2, Field::Number(number)) => stripe.index = number,
            (3, Field::Number(number)) => stripe.data = number,
            (4, Field::Number(number)) => stripe.footer = number,
            (5, Field::Number(number)) => stripe.rows = number,
            _ => {}
        }
    }
    Ok(stripe)
}

/// What a stream of a stripe contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
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
pub(super) struct Span {
    pub(super) part: Part,
    pub(super) column: u64,
    pub(super) at: u64,
    pub(super) end: u64,
}

/// How a column is encoded in a stripe.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Encoding {
    /// 0: direct. 1: dictionary. 2 and 3: the same, with version 2 of the integer runs.
    pub(super) kind: u64,
    pub(super) dictionary: u64,
}

/// The parsed footer of a stripe.
pub(super) struct Layout {
    pub(super) spans: Vec<Span>,
    pub(super) encodings: Vec<Encoding>,
    /// The time zone of its timestamps, or empty if it names none.
    pub(super) zone: String,
}

/// Reads the footer of a stripe.
pub(super) fn layout(input: &Input, packed: Packed, stripe: Stripe) -> Outcome<Layout> {
    let ends = stripe.at.checked_add(stripe.index).and_then(|at| at.checked_add(stripe.data));
    let Some(ends) = ends else { return damaged("a stripe lies behind the end") };
    let bytes = whole(input, packed, ends, stripe.footer)?;
    let mut layout = Layout { spans: Vec::new(), encodings: Vec::new(), zone: String::new() };
    let (mut message, mut at) = (Message::new(&bytes), stripe.at);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => {
                let span = span(bytes, at)?;
                at = span.end;
                if at > ends {
                    return damaged("a stripe has longer streams than it says");
                }
                layout.spans.push(span);
            }
            (2, Field::Bytes(bytes)) => layout.encodings.push(encoding(bytes)?),
            (3, Field::Bytes(zone)) => layout.zone = String::from_utf8_lossy(zone).into_owned(),
            (4, _) => return foreign("it is encrypted with a key of its own"),
            _ => {}
        }
        if layout.spans.len() > MAX_STREAMS || layout.encodings.len() > MAX_STREAMS {
            return foreign(format!("a stripe has more than {MAX_STREAMS} streams"));
        }
    }
    Ok(layout)
}

fn span(bytes: &[u8], at: u64) -> Outcome<Span> {
    let (mut part, mut column, mut length, mut message) = (Part::Present, 0, 0, Message::new(bytes));
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Number(kind)) => {
                part = match kind {
                    0 => Part::Present,
                    1 => Part::Data,
                    2 => Part::Length,
                    3 => Part::Dictionary,
                    5 => Part::Secondary,
                    _ => Part::Other,
                }
            }
            (2, Field::Number(number)) => column = number,
            (3, Field::Number(number)) => length = number,
            _ => {}
        }
    }
    let Some(end) = at.checked_add(length) else { return damaged("a stream lies behind the end") };
    Ok(Span { part, column, at, end })
}

fn encoding(bytes: &[u8]) -> Outcome<Encoding> {
    let (mut encoding, mut message) = (Encoding::default(), Message::new(bytes));
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Number(number)) => encoding.kind = number,
            (2, Field::Number(number)) => encoding.dictionary = number,
            _ => {}
        }
    }
    Ok(encoding)
}

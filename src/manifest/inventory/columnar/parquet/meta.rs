//! Parses the metadata of a Parquet file: its footer, and the header of each page.
//!
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>

use super::thrift::{Thrift, Type, text};
use crate::manifest::inventory::columnar::unpack::Packing;
use crate::manifest::inventory::columnar::{Broken, Kind, MAX_COLUMNS, Outcome, damaged, foreign};

/// How the values of a column are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    Bits,
    /// Integers of four bytes.
    Four,
    /// Integers of eight bytes.
    Eight,
    /// Timestamps as Impala wrote them: the nanoseconds of a day, then the day.
    Twelve,
    Bytes,
}

/// The number of a timestamp's units per second.
pub(super) type Units = i64;

/// A top-level column of the schema.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// The index among all columns that hold values, including nested ones. `None` for a group of columns.
    pub(super) leaf: Option<usize>,
    /// The number of the physical type.
    stored: i64,
    pub(super) optional: bool,
    repeated: bool,
    units: Option<Units>,
}

impl Column {
    /// Returns how the values are stored, their type, and the unit of timestamps.
    pub(super) fn storage(&self) -> Outcome<(Storage, Kind, Option<Units>)> {
        let name = self.name.escape_debug();
        if self.leaf.is_none() || self.repeated {
            return foreign(format!("its column {name} holds more than one value in a row"));
        }
        Ok(match (self.stored, self.units) {
            (0, _) => (Storage::Bits, Kind::Truth, None),
            (1, None) => (Storage::Four, Kind::Number, None),
            (2, None) => (Storage::Eight, Kind::Number, None),
            (2, Some(units)) => (Storage::Eight, Kind::Time, Some(units)),
            (3, _) => (Storage::Twelve, Kind::Time, None),
            (6, _) => (Storage::Bytes, Kind::Text, None),
            (other, _) => return foreign(format!("its column {name} has the physical type {other}")),
        })
    }
}

/// The pages of one column in a row group. `start` is an offset in the file, and `bytes` is a size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) packing: Packing,
    pub(super) values: u64,
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// Parses the columns from a footer.
pub(super) fn columns(footer: &[u8]) -> Outcome<Vec<Column>> {
    let mut elements = None;
    Thrift::new(footer).structure(|it, id, kind| {
        if (id, kind) != (2, Type::List) || elements.is_some() {
            return Ok(false);
        }
        let (count, _) = it.list()?;
        if count > MAX_COLUMNS {
            return foreign(format!("it has {count} columns, and the most is {MAX_COLUMNS}"));
        }
        elements = Some((0..count).map(|_| element(it)).collect::<Outcome<Vec<_>>>()?);
        Ok(true)
    })?;
    let elements = elements.unwrap_or_default();
    let Some((root, rest)) = elements.split_first() else { return damaged("its footer has no schema") };
    let (mut columns, mut at, mut leaves) = (Vec::new(), 0, 0);
    for _ in 0..root.1 {
        let Some((column, _)) = rest.get(at) else { return damaged("its schema has fewer columns than it says") };
        let mut column = column.clone();
        let within = leaves_within(rest, &mut at)?;
        column.leaf = (within == Within::Itself).then_some(leaves);
        leaves += within.count();
        columns.push(column);
    }
    Ok(columns)
}

/// The value columns (leaves) that a column of the schema consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Itself,
    Below(usize),
}

impl Within {
    fn count(self) -> usize {
        match self {
            Self::Itself => 1,
            Self::Below(count) => count,
        }
    }
}

/// Moves past one column and all columns nested in it, without recursion.
fn leaves_within(elements: &[(Column, u64)], at: &mut usize) -> Outcome<Within> {
    let (mut leaves, mut pending) = (0, 1_u64);
    let first = *at;
    while pending > 0 {
        let Some((_, children)) = elements.get(*at) else {
            return damaged("its schema has fewer columns than it says");
        };
        *at += 1;
        pending = (pending - 1).saturating_add(*children);
        leaves += usize::from(*children == 0);
        if pending > MAX_COLUMNS as u64 {
            return damaged("its schema has more columns than it lists");
        }
    }
    Ok(if elements[first].1 == 0 { Within::Itself } else { Within::Below(leaves) })
}

/// Parses one column and the number of its direct children.
fn element(thrift: &mut Thrift<'_>) -> Outcome<(Column, u64)> {
    let mut column =
        Column { name: String::new(), leaf: None, stored: -1, optional: false, repeated: false, units: None };
    let (mut children, mut converted, mut logical) = (0, None, None);
    thrift.structure(|it, id, kind| {
        match (id, kind) {
            (1, Type::Int) => column.stored = it.int()?,
            (3, Type::Int) => {
                (column.optional, column.repeated) = match it.int()? {
                    0 => (false, false),
                    1 => (true, false),
                    _ => (false, true),
                }
            }
            (4, Type::Binary) => column.name = text(it.binary()?)?,
            (5, Type::Int) => children = it.count()?,
            (6, Type::Int) => converted = Some(it.int()?),
            (10, Type::Structure) => logical = logical_time(it)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    column.units = logical.or(match converted {
        Some(9) => Some(1000),
        Some(10) => Some(1_000_000),
        _ => None,
    });
    Ok((column, children))
}

/// Parses a logical type. Returns its unit if it is a timestamp.
fn logical_time(thrift: &mut Thrift<'_>) -> Outcome<Option<Units>> {
    let mut units = None;
    thrift.structure(|it, id, kind| {
        if (id, kind) != (8, Type::Structure) {
            return Ok(false);
        }
        it.structure(|it, id, kind| {
            if (id, kind) != (2, Type::Structure) {
                return Ok(false);
            }
            it.structure(|_, id, _| {
                units = match id {
                    1 => Some(1000),
                    2 => Some(1_000_000),
                    3 => Some(1_000_000_000),
                    _ => None,
                };
                Ok(false)
            })?;
            Ok(true)
        })?;
        Ok(true)
    })?;
    Ok(units)
}

/// Parses the row groups from a footer. Calls `take` with the number of rows and the chunks of `leaves` of each.
pub(super) fn groups(footer: &[u8], leaves: &[usize], mut take: impl FnMut(u64, Vec<Chunk>)) -> Outcome<()> {
    let mut seen = false;
    Thrift::new(footer).structure(|it, id, kind| {
        if (id, kind) != (4, Type::List) || seen {
            return Ok(false);
        }
        seen = true;
        let (count, _) = it.list()?;
        for _ in 0..count {
            let (rows, chunks) = group(it, leaves)?;
            take(rows, chunks);
        }
        Ok(true)
    })
}

fn group(thrift: &mut Thrift<'_>, leaves: &[usize]) -> Outcome<(u64, Vec<Chunk>)> {
    let (mut rows, mut chunks) = (0, vec![None; leaves.len()]);
    thrift.structure(|it, id, kind| {
        match (id, kind) {
            (1, Type::List) => {
                let (count, _) = it.list()?;
                for number in 0..count {
                    let found = chunk(it)?;
                    if let Some(place) = leaves.iter().position(|leaf| *leaf == number) {
                        chunks[place] = found;
                    }
                }
            }
            (3, Type::Int) => rows = it.count()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match chunks.into_iter().map(|chunk| chunk.map(Found::check).transpose()).collect::<Outcome<Option<Vec<_>>>>()? {
        Some(chunks) => Ok((rows, chunks)),
        None => damaged("a row group does not have all columns of the schema"),
    }
}

/// A column chunk as stored in the footer, not validated yet.
#[derive(Clone, Copy, Default)]
struct Found {
    codec: i64,
    values: u64,
    bytes: u64,
    data: u64,
    dictionary: Option<u64>,
    elsewhere: bool,
}

impl Found {
    fn check(self) -> Outcome<Chunk> {
        if self.elsewhere {
            return foreign("some of its columns are in other files");
        }
        let packing = match self.codec {
            0 => Packing::None,
            1 => Packing::Snappy,
            2 => Packing::Gzip,
            3 => return foreign("it is compressed with LZO"),
            4 => return foreign("it is compressed with Brotli"),
            5 | 7 => return foreign("it is compressed with LZ4"),
            6 => return foreign("it is compressed with Zstandard"),
            other => return foreign(format!("it is compressed with the unknown codec {other}")),
        };
        // Some writers store 0 as the offset of a dictionary that does not exist.
        let start = self.dictionary.filter(|at| *at > 0 && *at < self.data).unwrap_or(self.data);
        Ok(Chunk { packing, values: self.values, start, bytes: self.bytes })
    }
}

fn chunk(thrift: &mut Thrift<'_>) -> Outcome<Option<Found>> {
    let mut found = None;
    let mut elsewhere = false;
    thrift.structure(|it, id, kind| {
        match (id, kind) {
            (1, Type::Binary) => elsewhere = !it.binary()?.is_empty(),
            (3, Type::Structure) => found = Some(chunk_data(it)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(found.map(|found| Found { elsewhere, ..found }))
}

fn chunk_data(thrift: &mut Thrift<'_>) -> Outcome<Found> {
    let mut found = Found::default();
    thrift.structure(|it, id, kind| {
        match (id, kind) {
            (4, Type::Int) => found.codec = it.int()?,
            (5, Type::Int) => found.values = it.count()?,
            (7, Type::Int) => found.bytes = it.count()?,
            (9, Type::Int) => found.data = it.count()?,
            (11, Type::Int) => found.dictionary = Some(it.count()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(found)
}

/// The kind of a page, with what its header says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Data {
        values: u64,
        encoding: i64,
    },
    /// A data page of version 2. Its levels are stored before the compressed part.
    Second {
        values: u64,
        encoding: i64,
        levels: u64,
        repetition: u64,
        packed: bool,
    },
    Dictionary {
        values: u64,
    },
    /// A page that is not read, such as an index.
    Other,
}

/// The header of a page. `unpacked` and `packed` are the sizes of the page in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) page: Page,
    pub(super) unpacked: u64,
    pub(super) packed: u64,
    /// The size of the header itself, in bytes.
    pub(super) bytes: u64,
}

/// Parses the header of a page. Returns `None` if the bytes end before the header does.
pub(super) fn header(bytes: &[u8]) -> Outcome<Option<Header>> {
    let mut thrift = Thrift::new(bytes);
    let mut header = Header { page: Page::Other, unpacked: 0, packed: 0, bytes: 0 };
    let (mut number, mut sized) = (-1, (false, false));
    let read = thrift.structure(|it, id, kind| {
        match (id, kind) {
            (1, Type::Int) => number = it.int()?,
            (2, Type::Int) => (header.unpacked, sized.0) = (it.count()?, true),
            (3, Type::Int) => (header.packed, sized.1) = (it.count()?, true),
            (5 | 7 | 8, Type::Structure) => header.page = page(it, id)?,
            _ => return Ok(false),
        }
        Ok(true)
    });
    if thrift.short {
        return Ok(None);
    }
    read?;
    let fits = match header.page {
        Page::Data { .. } => number == 0,
        Page::Dictionary { .. } => number == 2,
        Page::Second { .. } => number == 3,
        Page::Other => true,
    };
    if !fits || sized != (true, true) {
        return damaged("the header of a page contradicts itself");
    }
    header.bytes = u64::try_from(thrift.at()).unwrap_or(u64::MAX);
    Ok(Some(header))
}

fn page(thrift: &mut Thrift<'_>, which: i64) -> Outcome<Page> {
    let (mut values, mut encoding, mut levels, mut repetition, mut packed) = (0, -1, 0, 0, true);
    thrift.structure(|it, id, kind| {
        match (which, id, kind) {
            (_, 1, Type::Int) => values = it.count()?,
            (5, 2, Type::Int) | (8, 4, Type::Int) => encoding = it.int()?,
            (8, 5, Type::Int) => levels = it.count()?,
            (8, 6, Type::Int) => repetition = it.count()?,
            (8, 7, Type::False) => {
                packed = false;
                return Ok(false);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(match which {
        5 => Page::Data { values, encoding },
        7 => Page::Dictionary { values },
        _ => Page::Second { values, encoding, levels, repetition, packed },
    })
}

/// Returns the size of the footer in bytes. `end` is the last eight bytes of the file.
pub(super) fn footer_size(end: &[u8], limit: u64) -> Result<u64, Broken> {
    let (size, magic) = end.split_at_checked(4).unwrap_or_default();
    if magic == b"PARE" {
        return foreign("it is encrypted with a key of its own");
    }
    let Ok(size) = <[u8; 4]>::try_from(size) else { return damaged("it is too short") };
    if magic != b"PAR1" {
        return damaged("it does not end as a Parquet file does");
    }
    match u64::from(u32::from_le_bytes(size)) {
        size if size > limit => foreign(format!("its footer has {size} bytes, and the most is {limit}")),
        size => Ok(size),
    }
}

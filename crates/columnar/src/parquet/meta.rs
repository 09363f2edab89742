//! Parses the metadata of a Parquet file: its footer, and the header of each page.
//!
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>

use super::thrift::{ThriftReader, ThriftType, decode_text};
use crate::compression::BlockCompression;
use crate::{ColumnType, ColumnarError, ColumnarResult, MAX_COLUMNS, damaged, unsupported};

/// How the values of a column are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParquetStorage {
    Booleans,
    /// Integers of four bytes.
    Int32,
    /// Integers of eight bytes.
    Int64,
    /// Timestamps as Impala wrote them: the nanoseconds of a day, then the day.
    Int96,
    ByteArrays,
}

/// The number of a timestamp's units per second.
pub(super) type TimeUnitsPerSecond = i64;

/// A top-level column of the schema.
#[derive(Clone, Debug)]
pub(super) struct ParquetColumn {
    pub(super) name: String,
    /// The index among all columns that hold values, including nested ones. `None` for a group of columns.
    pub(super) leaf: Option<usize>,
    /// The number of the physical type.
    physical_type: i64,
    pub(super) optional: bool,
    repeated: bool,
    units: Option<TimeUnitsPerSecond>,
}

impl ParquetColumn {
    /// Returns how the values are stored, their type, and the unit of timestamps.
    pub(super) fn storage(&self) -> ColumnarResult<(ParquetStorage, ColumnType, Option<TimeUnitsPerSecond>)> {
        let name = self.name.escape_debug();
        if self.leaf.is_none() || self.repeated {
            return unsupported(format!("its column {name} has more than one value per row"));
        }
        Ok(match (self.physical_type, self.units) {
            (0, _) => (ParquetStorage::Booleans, ColumnType::Boolean, None),
            (1, None) => (ParquetStorage::Int32, ColumnType::Integer, None),
            (2, None) => (ParquetStorage::Int64, ColumnType::Integer, None),
            (2, Some(units)) => (ParquetStorage::Int64, ColumnType::Timestamp, Some(units)),
            (3, _) => (ParquetStorage::Int96, ColumnType::Timestamp, None),
            (6, _) => (ParquetStorage::ByteArrays, ColumnType::Text, None),
            (other, _) => return unsupported(format!("its column {name} has the unsupported physical type {other}")),
        })
    }
}

/// The pages of one column in a row group. `start` is an offset in the file, and `header_size` is a size.
#[derive(Clone, Copy, Debug)]
pub(super) struct ParquetColumnChunk {
    pub(super) compression: BlockCompression,
    pub(super) values: u64,
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// Parses the columns from a footer.
pub(super) fn parse_columns(footer: &[u8]) -> ColumnarResult<Vec<ParquetColumn>> {
    let mut elements = None;
    ThriftReader::new(footer).read_struct(|it, id, kind| {
        if (id, kind) != (2, ThriftType::List) || elements.is_some() {
            return Ok(false);
        }
        let (count, _) = it.read_list_header()?;
        if count > MAX_COLUMNS {
            return unsupported(format!("it has {count} columns (maximum {MAX_COLUMNS})"));
        }
        elements = Some((0..count).map(|_| parse_schema_element(it)).collect::<ColumnarResult<Vec<_>>>()?);
        Ok(true)
    })?;
    let elements = elements.unwrap_or_default();
    let Some((root, rest)) = elements.split_first() else { return damaged("its footer has no schema") };
    let (mut columns, mut at, mut leaves) = (Vec::new(), 0, 0);
    for _ in 0..root.1 {
        let Some((column, _)) = rest.get(at) else { return damaged("its schema has fewer columns than it declares") };
        let mut column = column.clone();
        let within = skip_column(rest, &mut at)?;
        column.leaf = (within == ParquetLeafColumns::Itself).then_some(leaves);
        leaves += within.count();
        columns.push(column);
    }
    Ok(columns)
}

/// The value columns (leaves) that a column of the schema consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParquetLeafColumns {
    Itself,
    Nested(usize),
}

impl ParquetLeafColumns {
    fn count(self) -> usize {
        match self {
            Self::Itself => 1,
            Self::Nested(count) => count,
        }
    }
}

/// Moves past one column and all columns nested in it, without recursion.
fn skip_column(elements: &[(ParquetColumn, u64)], at: &mut usize) -> ColumnarResult<ParquetLeafColumns> {
    let (mut leaves, mut pending) = (0, 1_u64);
    let first = *at;
    while pending > 0 {
        let Some((_, children)) = elements.get(*at) else {
            return damaged("its schema has fewer columns than it declares");
        };
        *at += 1;
        pending = (pending - 1).saturating_add(*children);
        leaves += usize::from(*children == 0);
        if pending > MAX_COLUMNS as u64 {
            return damaged("its schema declares more columns than it lists");
        }
    }
    Ok(if elements[first].1 == 0 { ParquetLeafColumns::Itself } else { ParquetLeafColumns::Nested(leaves) })
}

/// Parses one column and the number of its direct children.
fn parse_schema_element(thrift: &mut ThriftReader<'_>) -> ColumnarResult<(ParquetColumn, u64)> {
    let mut column = ParquetColumn {
        name: String::new(),
        leaf: None,
        physical_type: -1,
        optional: false,
        repeated: false,
        units: None,
    };
    let (mut children, mut converted, mut logical) = (0, None, None);
    thrift.read_struct(|it, id, kind| {
        match (id, kind) {
            (1, ThriftType::Int) => column.physical_type = it.read_int()?,
            (3, ThriftType::Int) => {
                (column.optional, column.repeated) = match it.read_int()? {
                    0 => (false, false),
                    1 => (true, false),
                    _ => (false, true),
                }
            }
            (4, ThriftType::Binary) => column.name = decode_text(it.read_binary()?)?,
            (5, ThriftType::Int) => children = it.read_count()?,
            (6, ThriftType::Int) => converted = Some(it.read_int()?),
            (10, ThriftType::Struct) => logical = parse_logical_type(it)?,
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
fn parse_logical_type(thrift: &mut ThriftReader<'_>) -> ColumnarResult<Option<TimeUnitsPerSecond>> {
    let mut units = None;
    thrift.read_struct(|it, id, kind| {
        if (id, kind) != (8, ThriftType::Struct) {
            return Ok(false);
        }
        it.read_struct(|it, id, kind| {
            if (id, kind) != (2, ThriftType::Struct) {
                return Ok(false);
            }
            it.read_struct(|_, id, _| {
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
pub(super) fn parse_row_groups(
    footer: &[u8],
    leaves: &[usize],
    mut take: impl FnMut(u64, Vec<ParquetColumnChunk>),
) -> ColumnarResult<()> {
    let mut seen = false;
    ThriftReader::new(footer).read_struct(|it, id, kind| {
        if (id, kind) != (4, ThriftType::List) || seen {
            return Ok(false);
        }
        seen = true;
        let (count, _) = it.read_list_header()?;
        for _ in 0..count {
            let (rows, chunks) = parse_row_group(it, leaves)?;
            take(rows, chunks);
        }
        Ok(true)
    })
}

fn parse_row_group(thrift: &mut ThriftReader<'_>, leaves: &[usize]) -> ColumnarResult<(u64, Vec<ParquetColumnChunk>)> {
    let (mut rows, mut chunks) = (0, vec![None; leaves.len()]);
    thrift.read_struct(|it, id, kind| {
        match (id, kind) {
            (1, ThriftType::List) => {
                let (count, _) = it.read_list_header()?;
                for number in 0..count {
                    let found = parse_chunk(it)?;
                    if let Some(place) = leaves.iter().position(|leaf| *leaf == number) {
                        chunks[place] = found;
                    }
                }
            }
            (3, ThriftType::Int) => rows = it.read_count()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match chunks
        .into_iter()
        .map(|chunk| chunk.map(RawParquetChunk::validate).transpose())
        .collect::<ColumnarResult<Option<Vec<_>>>>()?
    {
        Some(chunks) => Ok((rows, chunks)),
        None => damaged("a row group does not have all columns of the schema"),
    }
}

/// A column chunk as stored in the footer, not validated yet.
#[derive(Clone, Copy, Default)]
struct RawParquetChunk {
    codec: i64,
    values: u64,
    bytes: u64,
    data_offset: u64,
    dictionary_offset: Option<u64>,
    in_other_file: bool,
}

impl RawParquetChunk {
    fn validate(self) -> ColumnarResult<ParquetColumnChunk> {
        if self.in_other_file {
            return unsupported("some of its columns are in other files");
        }
        let packing = match self.codec {
            0 => BlockCompression::None,
            1 => BlockCompression::Snappy,
            2 => BlockCompression::Gzip,
            3 => return unsupported("it is compressed with LZO"),
            4 => return unsupported("it is compressed with Brotli"),
            5 | 7 => return unsupported("it is compressed with LZ4"),
            6 => return unsupported("it is compressed with Zstandard"),
            other => return unsupported(format!("it is compressed with the unknown codec {other}")),
        };
        // Some writers store 0 as the offset of a dictionary that does not exist.
        let start = self.dictionary_offset.filter(|at| *at > 0 && *at < self.data_offset).unwrap_or(self.data_offset);
        Ok(ParquetColumnChunk { compression: packing, values: self.values, start, bytes: self.bytes })
    }
}

fn parse_chunk(thrift: &mut ThriftReader<'_>) -> ColumnarResult<Option<RawParquetChunk>> {
    let mut found = None;
    let mut elsewhere = false;
    thrift.read_struct(|it, id, kind| {
        match (id, kind) {
            (1, ThriftType::Binary) => elsewhere = !it.read_binary()?.is_empty(),
            (3, ThriftType::Struct) => found = Some(parse_chunk_metadata(it)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(found.map(|found| RawParquetChunk { in_other_file: elsewhere, ..found }))
}

fn parse_chunk_metadata(thrift: &mut ThriftReader<'_>) -> ColumnarResult<RawParquetChunk> {
    let mut found = RawParquetChunk::default();
    thrift.read_struct(|it, id, kind| {
        match (id, kind) {
            (4, ThriftType::Int) => found.codec = it.read_int()?,
            (5, ThriftType::Int) => found.values = it.read_count()?,
            (7, ThriftType::Int) => found.bytes = it.read_count()?,
            (9, ThriftType::Int) => found.data_offset = it.read_count()?,
            (11, ThriftType::Int) => found.dictionary_offset = Some(it.read_count()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(found)
}

/// The kind of a page, with what its header says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParquetPageKind {
    Data {
        values: u64,
        encoding: i64,
    },
    /// A data page of version 2. Its levels are stored before the compressed part.
    DataVersion2 {
        values: u64,
        encoding: i64,
        levels: u64,
        repetition: u64,
        compressed: bool,
    },
    Dictionary {
        values: u64,
    },
    /// A page that is not read, such as an index.
    Other,
}

/// The header of a page. `uncompressed_size` and `compressed` are the sizes of the page in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ParquetPageHeader {
    pub(super) kind: ParquetPageKind,
    pub(super) uncompressed_size: u64,
    pub(super) compressed_size: u64,
    /// The size of the header itself, in bytes.
    pub(super) header_size: u64,
}

/// Parses the header of a page. Returns `None` if the bytes end before the header does.
pub(super) fn parse_page_header(bytes: &[u8]) -> ColumnarResult<Option<ParquetPageHeader>> {
    let mut thrift = ThriftReader::new(bytes);
    let mut header =
        ParquetPageHeader { kind: ParquetPageKind::Other, uncompressed_size: 0, compressed_size: 0, header_size: 0 };
    let (mut number, mut sized) = (-1, (false, false));
    let read = thrift.read_struct(|it, id, kind| {
        match (id, kind) {
            (1, ThriftType::Int) => number = it.read_int()?,
            (2, ThriftType::Int) => (header.uncompressed_size, sized.0) = (it.read_count()?, true),
            (3, ThriftType::Int) => (header.compressed_size, sized.1) = (it.read_count()?, true),
            (5 | 7 | 8, ThriftType::Struct) => header.kind = parse_page_kind(it, id)?,
            _ => return Ok(false),
        }
        Ok(true)
    });
    if thrift.truncated {
        return Ok(None);
    }
    read?;
    let fits = match header.kind {
        ParquetPageKind::Data { .. } => number == 0,
        ParquetPageKind::Dictionary { .. } => number == 2,
        ParquetPageKind::DataVersion2 { .. } => number == 3,
        ParquetPageKind::Other => true,
    };
    if !fits || sized != (true, true) {
        return damaged("a page header is inconsistent");
    }
    header.header_size = u64::try_from(thrift.position()).unwrap_or(u64::MAX);
    Ok(Some(header))
}

fn parse_page_kind(thrift: &mut ThriftReader<'_>, which: i64) -> ColumnarResult<ParquetPageKind> {
    let (mut values, mut encoding, mut levels, mut repetition, mut packed) = (0, -1, 0, 0, true);
    thrift.read_struct(|it, id, kind| {
        match (which, id, kind) {
            (_, 1, ThriftType::Int) => values = it.read_count()?,
            (5, 2, ThriftType::Int) | (8, 4, ThriftType::Int) => encoding = it.read_int()?,
            (8, 5, ThriftType::Int) => levels = it.read_count()?,
            (8, 6, ThriftType::Int) => repetition = it.read_count()?,
            (8, 7, ThriftType::False) => {
                packed = false;
                return Ok(false);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(match which {
        5 => ParquetPageKind::Data { values, encoding },
        7 => ParquetPageKind::Dictionary { values },
        _ => ParquetPageKind::DataVersion2 { values, encoding, levels, repetition, compressed: packed },
    })
}

/// Returns the size of the footer in bytes. `end` is the last eight bytes of the file.
pub(super) fn footer_size(end: &[u8], limit: u64) -> Result<u64, ColumnarError> {
    let (size, magic) = end.split_at_checked(4).unwrap_or_default();
    if magic == b"PARE" {
        return unsupported("it is encrypted");
    }
    let Ok(size) = <[u8; 4]>::try_from(size) else { return damaged("it is too short") };
    if magic != b"PAR1" {
        return damaged("it does not end like a Parquet file");
    }
    match u64::from(u32::from_le_bytes(size)) {
        size if size > limit => unsupported(format!("its footer has {size} bytes (maximum {limit})")),
        size => Ok(size),
    }
}

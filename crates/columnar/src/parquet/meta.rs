//! Parses the metadata of a Parquet file: its footer, and the header of each page. Both are structures in Thrift's
//! compact protocol, which is parsed as far as they use it.
//!
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

use crate::bits::{decode_zigzag, read_varint};
use crate::compression::BlockCompression;
use crate::value::{ColumnType, ColumnarError, ColumnarResult, MAX_COLUMNS, damaged, unsupported};

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

/// An element of the schema. `parse_columns` returns the top-level ones, and sets their `leaf`.
#[derive(Clone, Debug)]
pub(super) struct ParquetColumn {
    pub(super) name: String,
    /// The index among all columns that hold values, including nested ones. `None` for a group of columns,
    /// or as long as it is not set.
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
            // The numbers of BOOLEAN, INT32, INT64, INT96 and BYTE_ARRAY in parquet.thrift.
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

/// The pages of one column in a row group. `start` is an offset in the file, and `bytes` is a size.
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

/// The header of a page. `uncompressed_size` and `compressed_size` are the sizes of the page in bytes.
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

/// The deepest nesting in skipped values. Parquet's structures are nested five deep.
const MAX_DEPTH: u32 = 16;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ThriftType {
    True,
    False,
    Byte,
    Int,
    Double,
    Binary,
    List,
    Map,
    Struct,
}

impl ThriftType {
    fn of(code: u8) -> ColumnarResult<Self> {
        Ok(match code {
            1 => Self::True,
            2 => Self::False,
            3 => Self::Byte,
            4..=6 => Self::Int,
            7 => Self::Double,
            8 => Self::Binary,
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Struct,
            _ => return damaged(format!("a header has a value of the unknown type {code}")),
        })
    }
}

/// Reads values one after another.
struct ThriftReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether reading failed because the bytes ended. With more bytes it may succeed.
    truncated: bool,
}

impl<'a> ThriftReader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, truncated: false }
    }

    /// Returns the number of bytes read so far.
    fn position(&self) -> usize {
        self.at
    }

    fn cut_off<T>(&mut self) -> ColumnarResult<T> {
        self.truncated = true;
        damaged("a header is truncated")
    }

    fn read_byte(&mut self) -> ColumnarResult<u8> {
        match self.bytes.get(self.at) {
            Some(byte) => {
                self.at += 1;
                Ok(*byte)
            }
            None => self.cut_off(),
        }
    }

    fn read_varint(&mut self) -> ColumnarResult<u64> {
        match read_varint(self.bytes, self.at) {
            Some((number, at)) => {
                self.at = at;
                Ok(number)
            }
            None => self.cut_off(),
        }
    }

    fn read_int(&mut self) -> ColumnarResult<i64> {
        self.read_varint().map(decode_zigzag)
    }

    /// Reads an integer that is a count or an offset. Returns an error if it is negative.
    fn read_count(&mut self) -> ColumnarResult<u64> {
        let number = self.read_int()?;
        u64::try_from(number).or_else(|_| damaged(format!("a header has the negative count {number}")))
    }

    fn take_bytes(&mut self, bytes: u64) -> ColumnarResult<&'a [u8]> {
        let end = usize::try_from(bytes).ok().and_then(|bytes| self.at.checked_add(bytes));
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(passed) => {
                self.at += passed.len();
                Ok(passed)
            }
            None => self.cut_off(),
        }
    }

    /// Reads bytes, such as a string.
    fn read_binary(&mut self) -> ColumnarResult<&'a [u8]> {
        let bytes = self.read_varint()?;
        self.take_bytes(bytes)
    }

    /// Reads a structure. Calls `take` with the number and type of each field, until the structure ends. If
    /// `take` returns false, it has not read the field, and the field is skipped.
    fn read_struct(
        &mut self,
        mut take: impl FnMut(&mut Self, i64, ThriftType) -> ColumnarResult<bool>,
    ) -> ColumnarResult<()> {
        let mut id = 0_i64;
        while let Some((next, kind)) = self.read_field_header(id)? {
            id = next;
            if !take(self, id, kind)? {
                self.skip(kind, MAX_DEPTH)?;
            }
        }
        Ok(())
    }

    fn read_field_header(&mut self, before: i64) -> ColumnarResult<Option<(i64, ThriftType)>> {
        let header = self.read_byte()?;
        if header == 0 {
            return Ok(None);
        }
        let id = match header >> 4 {
            0 => self.read_int()?,
            delta => before.saturating_add(i64::from(delta)),
        };
        Ok(Some((id, ThriftType::of(header & 0x0f)?)))
    }

    /// Reads the number of elements in a list, and their type. Each element takes at least one byte, so there cannot
    /// be more elements than remaining bytes.
    fn read_list_header(&mut self) -> ColumnarResult<(usize, ThriftType)> {
        let header = self.read_byte()?;
        let count = match header >> 4 {
            15 => self.read_varint()?,
            count => u64::from(count),
        };
        let kind = ThriftType::of(header & 0x0f)?;
        match usize::try_from(count) {
            Ok(count) if count <= self.bytes.len() - self.at => Ok((count, kind)),
            _ => self.cut_off(),
        }
    }

    fn skip(&mut self, kind: ThriftType, depth: u32) -> ColumnarResult<()> {
        let Some(depth) = depth.checked_sub(1) else { return damaged("a header is nested too deeply") };
        match kind {
            ThriftType::True | ThriftType::False => Ok(()),
            ThriftType::Byte => self.read_byte().map(|_| ()),
            ThriftType::Int => self.read_varint().map(|_| ()),
            ThriftType::Double => self.take_bytes(8).map(|_| ()),
            ThriftType::Binary => self.read_binary().map(|_| ()),
            ThriftType::List => {
                let (count, kind) = self.read_list_header()?;
                (0..count).try_for_each(|_| self.skip_element(kind, depth))
            }
            ThriftType::Map => self.skip_map(depth),
            ThriftType::Struct => {
                let mut id = 0;
                while let Some((next, kind)) = self.read_field_header(id)? {
                    id = next;
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
        }
    }

    /// Skips a list element. A boolean takes one byte in a list, and none in a structure.
    fn skip_element(&mut self, kind: ThriftType, depth: u32) -> ColumnarResult<()> {
        match kind {
            ThriftType::True | ThriftType::False => self.read_byte().map(|_| ()),
            other => self.skip(other, depth),
        }
    }

    fn skip_map(&mut self, depth: u32) -> ColumnarResult<()> {
        let count = self.read_varint()?;
        if count == 0 {
            return Ok(());
        }
        let kinds = self.read_byte()?;
        let (key, value) = (ThriftType::of(kinds >> 4)?, ThriftType::of(kinds & 0x0f)?);
        for _ in 0..count {
            self.skip_element(key, depth)?;
            self.skip_element(value, depth)?;
        }
        Ok(())
    }
}

/// Decodes a string of a header.
fn decode_text(bytes: &[u8]) -> ColumnarResult<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ColumnarError::Damaged("a name in a header is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passed_over(bytes: &[u8]) -> ColumnarResult<()> {
        ThriftReader::new(bytes).read_struct(|_, _, _| Ok(false))
    }

    #[test]
    fn members_are_told_apart_and_the_rest_is_passed_over() {
        // 1: 5, 3: true, 4: list of two numbers, 5: {1: 7}, 20: "ab", 21: a map, 22: a double
        let bytes = [
            0x15, 0x0a, 0x21, 0x19, 0x25, 0x02, 0x04, 0x1c, 0x15, 0x0e, 0x00, 0x08, 0x28, 0x02, b'a', b'b', 0x1b, 0x01,
            0x58, 0x02, 0x01, b'x', 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0x00,
        ];
        let (mut number, mut word, mut seen) = (0, Vec::new(), Vec::new());
        let mut thrift = ThriftReader::new(&bytes);
        thrift
            .read_struct(|it, id, kind| {
                seen.push((id, kind));
                match id {
                    1 => number = it.read_int()?,
                    20 => word = it.read_binary()?.to_vec(),
                    _ => return Ok(false),
                }
                Ok(true)
            })
            .unwrap();
        assert_eq!((number, word.as_slice(), thrift.position()), (5, &b"ab"[..], bytes.len()));
        let ids: Vec<i64> = seen.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [1, 3, 4, 5, 20, 21, 22]);
        assert_eq!(seen[1].1, ThriftType::True);
        for end in 0..bytes.len() {
            let mut thrift = ThriftReader::new(&bytes[..end]);
            assert!(thrift.read_struct(|_, _, _| Ok(false)).is_err() && thrift.truncated, "{end}");
        }
    }

    #[test]
    fn rejects_deep_nesting() {
        let deep = vec![0x1c_u8; 100_000];
        let error = passed_over(&deep).unwrap_err();
        assert!(matches!(error, ColumnarError::Damaged(what) if what.contains("too deep")));
        let lists = vec![0x19_u8; 100_000];
        assert!(matches!(passed_over(&lists), Err(ColumnarError::Damaged(what)) if what.contains("too deep")));
    }

    #[test]
    fn rejects_false_counts() {
        let list = [0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x02];
        assert!(passed_over(&list).is_err());
        let map = [0x1b, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x11];
        assert!(passed_over(&map).is_err());
    }

    proptest! {
        #[test]
        fn junk_is_no_panic(bytes: Vec<u8>) {
            let _ = passed_over(&bytes);
        }
    }
}

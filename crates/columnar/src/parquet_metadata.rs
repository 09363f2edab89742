//! Parses the metadata of a Parquet file: its footer, and the header of each page. Both are structures in Thrift's
//! compact protocol, which is parsed as far as they use it.
//!
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

use crate::bits::{decode_zigzag, read_varint};
use crate::input::BlockCompression;
use crate::value::{ColumnType, ColumnarError, ColumnarResult, MAX_COLUMNS, damaged, unsupported};

// The ids of the fields that are read, as parquet.thrift numbers them: the structure and the field in its notation. In
// the compact protocol, a field is its id, its type and its value.
const FILE_META_DATA_SCHEMA: i64 = 2;
const FILE_META_DATA_ROW_GROUPS: i64 = 4;
const SCHEMA_ELEMENT_TYPE: i64 = 1;
const SCHEMA_ELEMENT_REPETITION_TYPE: i64 = 3;
const SCHEMA_ELEMENT_NAME: i64 = 4;
const SCHEMA_ELEMENT_NUM_CHILDREN: i64 = 5;
const SCHEMA_ELEMENT_CONVERTED_TYPE: i64 = 6;
const SCHEMA_ELEMENT_LOGICAL_TYPE: i64 = 10;
const LOGICAL_TYPE_TIMESTAMP: i64 = 8;
const TIMESTAMP_TYPE_UNIT: i64 = 2;
const TIME_UNIT_MILLIS: i64 = 1;
const TIME_UNIT_MICROS: i64 = 2;
const TIME_UNIT_NANOS: i64 = 3;
const ROW_GROUP_COLUMNS: i64 = 1;
const ROW_GROUP_NUM_ROWS: i64 = 3;
const COLUMN_CHUNK_FILE_PATH: i64 = 1;
const COLUMN_CHUNK_META_DATA: i64 = 3;
const COLUMN_META_DATA_CODEC: i64 = 4;
const COLUMN_META_DATA_NUM_VALUES: i64 = 5;
const COLUMN_META_DATA_TOTAL_COMPRESSED_SIZE: i64 = 7;
const COLUMN_META_DATA_DATA_PAGE_OFFSET: i64 = 9;
const COLUMN_META_DATA_DICTIONARY_PAGE_OFFSET: i64 = 11;
const PAGE_HEADER_TYPE: i64 = 1;
const PAGE_HEADER_UNCOMPRESSED_PAGE_SIZE: i64 = 2;
const PAGE_HEADER_COMPRESSED_PAGE_SIZE: i64 = 3;
const PAGE_HEADER_DATA_PAGE_HEADER: i64 = 5;
const PAGE_HEADER_DICTIONARY_PAGE_HEADER: i64 = 7;
const PAGE_HEADER_DATA_PAGE_HEADER_V2: i64 = 8;
const DATA_PAGE_HEADER_NUM_VALUES: i64 = 1;
const DATA_PAGE_HEADER_ENCODING: i64 = 2;
const DICTIONARY_PAGE_HEADER_NUM_VALUES: i64 = 1;
const DATA_PAGE_HEADER_V2_NUM_VALUES: i64 = 1;
const DATA_PAGE_HEADER_V2_ENCODING: i64 = 4;
const DATA_PAGE_HEADER_V2_DEFINITION_LEVELS_BYTE_LENGTH: i64 = 5;
const DATA_PAGE_HEADER_V2_REPETITION_LEVELS_BYTE_LENGTH: i64 = 6;
const DATA_PAGE_HEADER_V2_IS_COMPRESSED: i64 = 7;

// The values of the enumerations that are read: `Type`, `FieldRepetitionType`, `ConvertedType`, `CompressionCodec` and
// `PageType` in parquet.thrift.
const TYPE_BOOLEAN: i64 = 0;
const TYPE_INT32: i64 = 1;
const TYPE_INT64: i64 = 2;
const TYPE_INT96: i64 = 3;
const TYPE_BYTE_ARRAY: i64 = 6;
const REPETITION_REQUIRED: i64 = 0;
const REPETITION_OPTIONAL: i64 = 1;
const CONVERTED_TYPE_TIMESTAMP_MILLIS: i64 = 9;
const CONVERTED_TYPE_TIMESTAMP_MICROS: i64 = 10;
const CODEC_UNCOMPRESSED: i64 = 0;
const CODEC_SNAPPY: i64 = 1;
const CODEC_GZIP: i64 = 2;
const CODEC_LZO: i64 = 3;
const CODEC_BROTLI: i64 = 4;
const CODEC_LZ4: i64 = 5;
const CODEC_ZSTD: i64 = 6;
const CODEC_LZ4_RAW: i64 = 7;
const PAGE_TYPE_DATA_PAGE: i64 = 0;
const PAGE_TYPE_DICTIONARY_PAGE: i64 = 2;
const PAGE_TYPE_DATA_PAGE_V2: i64 = 3;

/// How the values of a column are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParquetStorage {
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
pub(crate) type TimeUnitsPerSecond = i64;

/// A column of the schema. `parse_columns` returns the top-level ones, and sets their `leaf`.
#[derive(Clone, Debug)]
pub(crate) struct ParquetColumn {
    pub(crate) name: String,
    /// The index among all columns that hold values, including nested ones. `None` for a group of columns,
    /// or as long as it is not set.
    pub(crate) leaf: Option<usize>,
    /// The number of the physical type.
    physical_type: i64,
    pub(crate) optional: bool,
    repeated: bool,
    units: Option<TimeUnitsPerSecond>,
}

impl ParquetColumn {
    /// Returns how the values are stored, their type, and the unit of timestamps.
    pub(crate) fn storage(&self) -> ColumnarResult<(ParquetStorage, ColumnType, Option<TimeUnitsPerSecond>)> {
        let name = self.name.escape_debug();
        if self.leaf.is_none() || self.repeated {
            return unsupported(format!("its column {name} has more than one value per row"));
        }
        Ok(match (self.physical_type, self.units) {
            (TYPE_BOOLEAN, _) => (ParquetStorage::Booleans, ColumnType::Boolean, None),
            (TYPE_INT32, None) => (ParquetStorage::Int32, ColumnType::Integer, None),
            (TYPE_INT64, None) => (ParquetStorage::Int64, ColumnType::Integer, None),
            (TYPE_INT64, Some(units)) => (ParquetStorage::Int64, ColumnType::Timestamp, Some(units)),
            (TYPE_INT96, _) => (ParquetStorage::Int96, ColumnType::Timestamp, None),
            (TYPE_BYTE_ARRAY, _) => (ParquetStorage::ByteArrays, ColumnType::Text, None),
            (other, _) => return unsupported(format!("its column {name} has the unsupported physical type {other}")),
        })
    }
}

/// The pages of one column in a row group. `start` is an offset in the file, and `bytes` is a size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParquetColumnChunk {
    pub(crate) compression: BlockCompression,
    pub(crate) values: u64,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

/// An element of the schema, which lists each column and, right after it, the columns nested in it.
struct ParquetSchemaElement {
    column: ParquetColumn,
    /// The number of its direct children.
    children: u64,
}

/// Parses the columns from a footer.
pub(crate) fn parse_columns(footer: &[u8]) -> ColumnarResult<Vec<ParquetColumn>> {
    let mut elements = None;
    ThriftReader::new(footer).read_struct(|thrift, id, kind| {
        if (id, kind) != (FILE_META_DATA_SCHEMA, ThriftType::List) || elements.is_some() {
            return Ok(false);
        }
        let (count, _) = thrift.read_list_header()?;
        if count > MAX_COLUMNS {
            return unsupported(format!("it has {count} columns (maximum {MAX_COLUMNS})"));
        }
        elements = Some((0..count).map(|_| parse_schema_element(thrift)).collect::<ColumnarResult<Vec<_>>>()?);
        Ok(true)
    })?;
    let elements = elements.unwrap_or_default();
    let Some((root, nested)) = elements.split_first() else { return damaged("its footer has no schema") };
    let (mut columns, mut at, mut leaves) = (Vec::new(), 0, 0);
    for _ in 0..root.children {
        let Some(element) = nested.get(at) else { return damaged("its schema has fewer columns than it declares") };
        let mut column = element.column.clone();
        let own_leaves = skip_column(nested, &mut at)?;
        column.leaf = (own_leaves == ParquetLeafColumns::Itself).then_some(leaves);
        leaves += own_leaves.count();
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
fn skip_column(elements: &[ParquetSchemaElement], at: &mut usize) -> ColumnarResult<ParquetLeafColumns> {
    let (mut leaves, mut pending) = (0, 1_u64);
    let first = *at;
    while pending > 0 {
        let Some(ParquetSchemaElement { children, .. }) = elements.get(*at) else {
            return damaged("its schema has fewer columns than it declares");
        };
        *at += 1;
        pending = (pending - 1).saturating_add(*children);
        leaves += usize::from(*children == 0);
        if pending > MAX_COLUMNS as u64 {
            return damaged("its schema declares more columns than it lists");
        }
    }
    Ok(if elements[first].children == 0 { ParquetLeafColumns::Itself } else { ParquetLeafColumns::Nested(leaves) })
}

fn parse_schema_element(thrift: &mut ThriftReader<'_>) -> ColumnarResult<ParquetSchemaElement> {
    let mut column = ParquetColumn {
        name: String::new(),
        leaf: None,
        physical_type: -1,
        optional: false,
        repeated: false,
        units: None,
    };
    let (mut children, mut converted_type, mut logical_units) = (0, None, None);
    thrift.read_struct(|thrift, id, kind| {
        match (id, kind) {
            (SCHEMA_ELEMENT_TYPE, ThriftType::Int) => column.physical_type = thrift.read_int()?,
            (SCHEMA_ELEMENT_REPETITION_TYPE, ThriftType::Int) => {
                let repetition = thrift.read_int()?;
                column.optional = repetition == REPETITION_OPTIONAL;
                column.repeated = !matches!(repetition, REPETITION_REQUIRED | REPETITION_OPTIONAL);
            }
            (SCHEMA_ELEMENT_NAME, ThriftType::Binary) => column.name = decode_text(thrift.read_binary()?)?,
            (SCHEMA_ELEMENT_NUM_CHILDREN, ThriftType::Int) => children = thrift.read_count()?,
            (SCHEMA_ELEMENT_CONVERTED_TYPE, ThriftType::Int) => converted_type = Some(thrift.read_int()?),
            (SCHEMA_ELEMENT_LOGICAL_TYPE, ThriftType::Struct) => logical_units = parse_logical_type(thrift)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    column.units = logical_units.or(match converted_type {
        Some(CONVERTED_TYPE_TIMESTAMP_MILLIS) => Some(1000),
        Some(CONVERTED_TYPE_TIMESTAMP_MICROS) => Some(1_000_000),
        _ => None,
    });
    Ok(ParquetSchemaElement { column, children })
}

/// Parses a logical type. Returns its unit if it is a timestamp.
fn parse_logical_type(thrift: &mut ThriftReader<'_>) -> ColumnarResult<Option<TimeUnitsPerSecond>> {
    let mut units = None;
    thrift.read_struct(|logical_type, id, kind| {
        if (id, kind) != (LOGICAL_TYPE_TIMESTAMP, ThriftType::Struct) {
            return Ok(false);
        }
        logical_type.read_struct(|timestamp_type, id, kind| {
            if (id, kind) != (TIMESTAMP_TYPE_UNIT, ThriftType::Struct) {
                return Ok(false);
            }
            // The unit is a union: the id of its only field says which unit it is.
            timestamp_type.read_struct(|_, id, _| {
                units = match id {
                    TIME_UNIT_MILLIS => Some(1000),
                    TIME_UNIT_MICROS => Some(1_000_000),
                    TIME_UNIT_NANOS => Some(1_000_000_000),
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

/// Parses the row groups from a footer. Calls `on_row_group` with the number of rows and the chunks of `leaves` of
/// each.
pub(crate) fn parse_row_groups(
    footer: &[u8],
    leaves: &[usize],
    mut on_row_group: impl FnMut(u64, Vec<ParquetColumnChunk>),
) -> ColumnarResult<()> {
    let mut seen = false;
    ThriftReader::new(footer).read_struct(|thrift, id, kind| {
        if (id, kind) != (FILE_META_DATA_ROW_GROUPS, ThriftType::List) || seen {
            return Ok(false);
        }
        seen = true;
        let (count, _) = thrift.read_list_header()?;
        for _ in 0..count {
            let (rows, chunks) = parse_row_group(thrift, leaves)?;
            on_row_group(rows, chunks);
        }
        Ok(true)
    })
}

fn parse_row_group(thrift: &mut ThriftReader<'_>, leaves: &[usize]) -> ColumnarResult<(u64, Vec<ParquetColumnChunk>)> {
    let (mut rows, mut chunks) = (0, vec![None; leaves.len()]);
    thrift.read_struct(|thrift, id, kind| {
        match (id, kind) {
            (ROW_GROUP_COLUMNS, ThriftType::List) => {
                let (count, _) = thrift.read_list_header()?;
                for number in 0..count {
                    let chunk = parse_chunk(thrift)?;
                    if let Some(index) = leaves.iter().position(|leaf| *leaf == number) {
                        chunks[index] = chunk;
                    }
                }
            }
            (ROW_GROUP_NUM_ROWS, ThriftType::Int) => rows = thrift.read_count()?,
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
    compressed_size: u64,
    data_offset: u64,
    dictionary_offset: Option<u64>,
    in_other_file: bool,
}

impl RawParquetChunk {
    fn validate(self) -> ColumnarResult<ParquetColumnChunk> {
        if self.in_other_file {
            return unsupported("some of its columns are in other files");
        }
        let compression = match self.codec {
            CODEC_UNCOMPRESSED => BlockCompression::None,
            CODEC_SNAPPY => BlockCompression::Snappy,
            CODEC_GZIP => BlockCompression::Gzip,
            CODEC_LZO => return unsupported("it is compressed with LZO"),
            CODEC_BROTLI => return unsupported("it is compressed with Brotli"),
            CODEC_LZ4 | CODEC_LZ4_RAW => return unsupported("it is compressed with LZ4"),
            CODEC_ZSTD => return unsupported("it is compressed with Zstandard"),
            other => return unsupported(format!("it is compressed with the unknown codec {other}")),
        };
        // Some writers store 0 as the offset of a dictionary that does not exist.
        let start = self.dictionary_offset.filter(|at| *at > 0 && *at < self.data_offset).unwrap_or(self.data_offset);
        Ok(ParquetColumnChunk { compression, values: self.values, start, bytes: self.compressed_size })
    }
}

fn parse_chunk(thrift: &mut ThriftReader<'_>) -> ColumnarResult<Option<RawParquetChunk>> {
    let mut chunk = None;
    let mut in_other_file = false;
    thrift.read_struct(|thrift, id, kind| {
        match (id, kind) {
            (COLUMN_CHUNK_FILE_PATH, ThriftType::Binary) => in_other_file = !thrift.read_binary()?.is_empty(),
            (COLUMN_CHUNK_META_DATA, ThriftType::Struct) => chunk = Some(parse_chunk_metadata(thrift)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(chunk.map(|chunk| RawParquetChunk { in_other_file, ..chunk }))
}

fn parse_chunk_metadata(thrift: &mut ThriftReader<'_>) -> ColumnarResult<RawParquetChunk> {
    let mut chunk = RawParquetChunk::default();
    thrift.read_struct(|thrift, id, kind| {
        match (id, kind) {
            (COLUMN_META_DATA_CODEC, ThriftType::Int) => chunk.codec = thrift.read_int()?,
            (COLUMN_META_DATA_NUM_VALUES, ThriftType::Int) => chunk.values = thrift.read_count()?,
            (COLUMN_META_DATA_TOTAL_COMPRESSED_SIZE, ThriftType::Int) => chunk.compressed_size = thrift.read_count()?,
            (COLUMN_META_DATA_DATA_PAGE_OFFSET, ThriftType::Int) => chunk.data_offset = thrift.read_count()?,
            (COLUMN_META_DATA_DICTIONARY_PAGE_OFFSET, ThriftType::Int) => {
                chunk.dictionary_offset = Some(thrift.read_count()?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(chunk)
}

/// The kind of a page, with what its header says about it. `encoding` is a number of `enum Encoding` in parquet.thrift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParquetPageKind {
    Data {
        values: u64,
        encoding: i64,
    },
    /// A data page of version 2. Its levels, which say which values are present and which belong to one row, are stored
    /// before the compressed part, repetition levels first. The sizes of the levels are in bytes.
    DataVersion2 {
        values: u64,
        encoding: i64,
        definition_levels_size: u64,
        repetition_levels_size: u64,
        is_compressed: bool,
    },
    Dictionary {
        values: u64,
    },
    /// A page that is not read, such as an index.
    Other,
}

/// The header of a page. `uncompressed_size` and `compressed_size` are the sizes of the page in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParquetPageHeader {
    pub(crate) kind: ParquetPageKind,
    pub(crate) uncompressed_size: u64,
    pub(crate) compressed_size: u64,
    /// The size of the header itself, in bytes.
    pub(crate) header_size: u64,
}

/// Parses the header of a page. Returns `None` if the bytes end before the header does.
pub(crate) fn parse_page_header(bytes: &[u8]) -> ColumnarResult<Option<ParquetPageHeader>> {
    let mut thrift = ThriftReader::new(bytes);
    let (mut page_type, mut uncompressed_size, mut compressed_size) = (-1, None, None);
    let mut page_kind = ParquetPageKind::Other;
    let read = thrift.read_struct(|thrift, id, kind| {
        match (id, kind) {
            (PAGE_HEADER_TYPE, ThriftType::Int) => page_type = thrift.read_int()?,
            (PAGE_HEADER_UNCOMPRESSED_PAGE_SIZE, ThriftType::Int) => uncompressed_size = Some(thrift.read_count()?),
            (PAGE_HEADER_COMPRESSED_PAGE_SIZE, ThriftType::Int) => compressed_size = Some(thrift.read_count()?),
            (PAGE_HEADER_DATA_PAGE_HEADER, ThriftType::Struct) => page_kind = parse_data_page_header(thrift)?,
            (PAGE_HEADER_DICTIONARY_PAGE_HEADER, ThriftType::Struct) => {
                page_kind = parse_dictionary_page_header(thrift)?;
            }
            (PAGE_HEADER_DATA_PAGE_HEADER_V2, ThriftType::Struct) => page_kind = parse_data_page_header_v2(thrift)?,
            _ => return Ok(false),
        }
        Ok(true)
    });
    if thrift.truncated {
        return Ok(None);
    }
    read?;
    let is_of_type = match page_kind {
        ParquetPageKind::Data { .. } => page_type == PAGE_TYPE_DATA_PAGE,
        ParquetPageKind::Dictionary { .. } => page_type == PAGE_TYPE_DICTIONARY_PAGE,
        ParquetPageKind::DataVersion2 { .. } => page_type == PAGE_TYPE_DATA_PAGE_V2,
        ParquetPageKind::Other => true,
    };
    let (true, Some(uncompressed_size), Some(compressed_size)) = (is_of_type, uncompressed_size, compressed_size)
    else {
        return damaged("a page header is inconsistent");
    };
    let header_size = u64::try_from(thrift.position()).unwrap_or(u64::MAX);
    Ok(Some(ParquetPageHeader { kind: page_kind, uncompressed_size, compressed_size, header_size }))
}

fn parse_data_page_header(thrift: &mut ThriftReader<'_>) -> ColumnarResult<ParquetPageKind> {
    let (mut values, mut encoding) = (0, -1);
    thrift.read_struct(|thrift, id, kind| {
        match (id, kind) {
            (DATA_PAGE_HEADER_NUM_VALUES, ThriftType::Int) => values = thrift.read_count()?,
            (DATA_PAGE_HEADER_ENCODING, ThriftType::Int) => encoding = thrift.read_int()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(ParquetPageKind::Data { values, encoding })
}

fn parse_dictionary_page_header(thrift: &mut ThriftReader<'_>) -> ColumnarResult<ParquetPageKind> {
    let mut values = 0;
    thrift.read_struct(|thrift, id, kind| {
        if (id, kind) != (DICTIONARY_PAGE_HEADER_NUM_VALUES, ThriftType::Int) {
            return Ok(false);
        }
        values = thrift.read_count()?;
        Ok(true)
    })?;
    Ok(ParquetPageKind::Dictionary { values })
}

fn parse_data_page_header_v2(thrift: &mut ThriftReader<'_>) -> ColumnarResult<ParquetPageKind> {
    let (mut values, mut encoding) = (0, -1);
    let (mut definition_levels_size, mut repetition_levels_size, mut is_compressed) = (0, 0, true);
    thrift.read_struct(|thrift, id, kind| {
        match (id, kind) {
            (DATA_PAGE_HEADER_V2_NUM_VALUES, ThriftType::Int) => values = thrift.read_count()?,
            (DATA_PAGE_HEADER_V2_ENCODING, ThriftType::Int) => encoding = thrift.read_int()?,
            (DATA_PAGE_HEADER_V2_DEFINITION_LEVELS_BYTE_LENGTH, ThriftType::Int) => {
                definition_levels_size = thrift.read_count()?;
            }
            (DATA_PAGE_HEADER_V2_REPETITION_LEVELS_BYTE_LENGTH, ThriftType::Int) => {
                repetition_levels_size = thrift.read_count()?;
            }
            // The type of a boolean field is its value, and nothing follows that could be read.
            (DATA_PAGE_HEADER_V2_IS_COMPRESSED, ThriftType::False) => is_compressed = false,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(ParquetPageKind::DataVersion2 {
        values,
        encoding,
        definition_levels_size,
        repetition_levels_size,
        is_compressed,
    })
}

/// Returns the size of the footer in bytes. `end` is the last eight bytes of the file.
pub(crate) fn footer_size(end: &[u8], limit: u64) -> Result<u64, ColumnarError> {
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

/// The type of a value. A boolean field has no other value than its type.
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
    /// Returns the type with this number, as the compact protocol lists them under "Struct encoding" and "List and Set
    /// encoding". Integers of two, four and eight bytes (4 to 6) are stored alike; so are lists and sets (9 and 10).
    fn of(number: u8) -> ColumnarResult<Self> {
        Ok(match number {
            1 => Self::True,
            2 => Self::False,
            3 => Self::Byte,
            4..=6 => Self::Int,
            7 => Self::Double,
            8 => Self::Binary,
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Struct,
            _ => return damaged(format!("a header has a value of the unknown type {number}")),
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
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => self.cut_off(),
        }
    }

    /// Reads bytes, such as a string.
    fn read_binary(&mut self) -> ColumnarResult<&'a [u8]> {
        let bytes = self.read_varint()?;
        self.take_bytes(bytes)
    }

    /// Reads a structure. Calls `read_field` with the id and type of each field, until the structure ends. If
    /// `read_field` returns false, it has not read the field, and the field is skipped.
    fn read_struct(
        &mut self,
        mut read_field: impl FnMut(&mut Self, i64, ThriftType) -> ColumnarResult<bool>,
    ) -> ColumnarResult<()> {
        let mut id = 0_i64;
        while let Some((next, kind)) = self.read_field_header(id)? {
            id = next;
            if !read_field(self, id, kind)? {
                self.skip(kind, MAX_DEPTH)?;
            }
        }
        Ok(())
    }

    /// Reads the id and type of the next field, after the field with the id `before`; `None` at the end of a structure.
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

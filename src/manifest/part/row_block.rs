//! The rows of a block, encoded as columns. The format is described in the parent module.

use batchplan_store::MAX_LISTED_KEY_BYTES;
use batchplan_store::object::{BucketName, MAX_KEY_BYTES, ObjectId, ObjectKey, VersionId};
use batchplan_store::task::{RowOrigin, TaskId};

use crate::manifest::row_visitor::{MAX_BUCKET_BYTES, MAX_VERSION_BYTES};
use crate::varint;

/// The maximum number of rows in a block.
pub(super) const MAX_BLOCK_ROWS: usize = 65_536;

/// The maximum uncompressed size of a block, in bytes.
pub(super) const MAX_BLOCK_BYTES: usize = 1 << 20;

/// The maximum length of the reason why a row is unlistable, in bytes.
pub(crate) const MAX_REASON_BYTES: usize = 256;

/// Flag: the bucket differs from the previous row.
const NEW_BUCKET: u8 = 0b0001;

/// Flag: the row is unlistable.
const UNLISTABLE: u8 = 0b1000;

/// Flag: the row has an origin.
const ORIGIN: u8 = 0b1_0000;

/// The maximum length of an origin in bytes.
const MAX_ORIGIN_BYTES: usize = 16;

/// The two bits of the version kind.
const VERSION_BITS: u8 = 0b0110;

/// The bit position of the version kind in the flags.
const VERSION_SHIFT: u32 = 1;

const NO_VERSION: u8 = 0;

/// Version kind: the last version named in this block.
const SAME_VERSION: u8 = 1;

/// Version kind: another version, encoded by the prefix that it shares with the last one.
const NEW_VERSION: u8 = 2;

/// A row of a part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PartRow {
    pub(crate) object: ObjectId,
    /// Why no request can name the object, if none can.
    pub(crate) unlistable: Option<Box<str>>,
    /// Which captures an undo restores.
    pub(crate) origin: Option<RowOrigin>,
}

/// Collects the rows of a block.
#[derive(Default)]
pub(super) struct RowBlockWriter {
    flags: Vec<u8>,
    lengths: Vec<u8>,
    text: Vec<u8>,
    bucket: Vec<u8>,
    key: Vec<u8>,
    version: Vec<u8>,
    reason: Vec<u8>,
    origin: Vec<u8>,
    /// Whether a row of the block is unlistable.
    has_unlistable: bool,
    /// Whether a row of the block has an origin.
    has_origins: bool,
}

impl RowBlockWriter {
    pub(super) fn rows(&self) -> usize {
        self.flags.len()
    }

    /// Returns whether a row of the block is unlistable.
    pub(super) fn has_unlistable(&self) -> bool {
        self.has_unlistable
    }

    /// Returns whether a row of the block has an origin.
    pub(super) fn has_origins(&self) -> bool {
        self.has_origins
    }

    /// Returns whether another row of any size still fits.
    pub(super) fn has_room(&self) -> bool {
        // Nine lengths of at most three bytes each, and the flags.
        const LONGEST_ROW: usize = MAX_BUCKET_BYTES
            + MAX_LISTED_KEY_BYTES
            + MAX_VERSION_BYTES
            + MAX_REASON_BYTES
            + MAX_ORIGIN_BYTES
            + 9 * 3
            + 1;
        let bytes = self.flags.len() + self.lengths.len() + self.text.len() + size_of::<u32>();
        self.rows() < MAX_BLOCK_ROWS && bytes + LONGEST_ROW <= MAX_BLOCK_BYTES
    }

    /// Adds a row. The caller must have checked that it fits and that no field is too long.
    pub(super) fn push(
        &mut self,
        bucket: &str,
        key: &[u8],
        version: Option<&str>,
        (unlistable, origin): (Option<&str>, Option<RowOrigin>),
    ) {
        let mut flags = 0;
        if self.bucket != bucket.as_bytes() {
            flags |= NEW_BUCKET;
            varint::put(&mut self.lengths, bucket.len());
            self.text.extend_from_slice(bucket.as_bytes());
            self.bucket.clear();
            self.bucket.extend_from_slice(bucket.as_bytes());
        }
        front_code(&mut self.key, key, &mut self.lengths, &mut self.text);
        let kind = match version {
            None => NO_VERSION,
            Some(id) if self.version == id.as_bytes() => SAME_VERSION,
            Some(id) => {
                front_code(&mut self.version, id.as_bytes(), &mut self.lengths, &mut self.text);
                NEW_VERSION
            }
        };
        if let Some(reason) = unlistable {
            flags |= UNLISTABLE;
            front_code(&mut self.reason, reason.as_bytes(), &mut self.lengths, &mut self.text);
            self.has_unlistable = true;
        }
        if let Some(origin) = origin {
            flags |= ORIGIN;
            front_code(&mut self.origin, &encode_origin(origin), &mut self.lengths, &mut self.text);
            self.has_origins = true;
        }
        self.flags.push(flags | kind << VERSION_SHIFT);
    }

    /// Writes the columns to `out`, and starts the next block.
    pub(super) fn drain_into(&mut self, out: &mut Vec<u8>) {
        out.clear();
        let lengths = u32::try_from(self.lengths.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&lengths.to_le_bytes());
        for column in [&mut self.flags, &mut self.lengths, &mut self.text] {
            out.append(column);
        }
        for previous in [&mut self.bucket, &mut self.key, &mut self.version, &mut self.reason, &mut self.origin] {
            previous.clear();
        }
        (self.has_unlistable, self.has_origins) = (false, false);
    }
}

/// Appends the part of a value that differs from the previous one, and replaces the previous one.
fn front_code(before: &mut Vec<u8>, value: &[u8], lengths: &mut Vec<u8>, text: &mut Vec<u8>) {
    let shared = before.iter().zip(value).take_while(|(a, b)| a == b).count();
    let rest = &value[shared..];
    varint::put(lengths, shared);
    varint::put(lengths, rest.len());
    text.extend_from_slice(rest);
    before.truncate(shared);
    before.extend_from_slice(rest);
}

fn encode_origin(RowOrigin { row, made_by }: RowOrigin) -> Vec<u8> {
    let ids = [Some(row), made_by].into_iter().flatten();
    ids.flat_map(|id| [id.part.to_be_bytes(), id.row.to_be_bytes()]).flatten().collect()
}

fn decode_origin(bytes: &[u8]) -> Option<RowOrigin> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    let numbers: Vec<_> = numbers.iter().map(|number| u32::from_be_bytes(*number)).collect();
    let (part, row, made_by) = match numbers[..] {
        [part, row] => (part, row, None),
        [part, row, made_part, made_row] => (part, row, Some(TaskId { part: made_part, row: made_row })),
        _ => return None,
    };
    rest.is_empty().then_some(RowOrigin { row: TaskId { part, row }, made_by })
}

/// The columns that only later formats have.
#[derive(Clone, Copy, Debug)]
pub(super) struct OptionalColumns {
    /// Whether rows may be unlistable.
    pub(super) unlistable: bool,
    /// Whether rows may have origins.
    pub(super) origins: bool,
}

/// A message that says how a block is damaged.
pub(super) type BlockDamage = &'static str;

/// Decodes the rows of a block one by one.
pub(super) struct RowBlockReader {
    raw: Vec<u8>,
    rows: usize,
    allowed: OptionalColumns,
    row: usize,
    lengths_at: usize,
    lengths_end: usize,
    text_at: usize,
    bucket: BucketName,
    key: Vec<u8>,
    version: Vec<u8>,
    has_version: bool,
    reason: Vec<u8>,
    is_unlistable: bool,
    origin: Vec<u8>,
    has_origin: bool,
}

impl RowBlockReader {
    /// Reads the rows of a block, with the columns that its format allows.
    pub(super) fn new(raw: Vec<u8>, rows: usize, allowed: OptionalColumns) -> Result<Self, BlockDamage> {
        let (size, columns) = raw.split_first_chunk::<4>().ok_or("a block is too short for its columns")?;
        let lengths = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| "a column is too long")?;
        let lengths_end = rows.checked_add(lengths).filter(|end| *end <= columns.len());
        let lengths_end = lengths_end.ok_or("a column is longer than its block")? + size.len();
        Ok(Self {
            lengths_at: size.len() + rows,
            lengths_end,
            text_at: lengths_end,
            raw,
            rows,
            allowed,
            row: 0,
            bucket: BucketName::new(""),
            key: Vec::new(),
            version: Vec::new(),
            has_version: false,
            reason: Vec::new(),
            is_unlistable: false,
            origin: Vec::new(),
            has_origin: false,
        })
    }

    /// Advances to the next row. Returns `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, BlockDamage> {
        if self.row == self.rows {
            if self.lengths_at != self.lengths_end || self.text_at != self.raw.len() {
                return Err("a block has data after its last row");
            }
            return Ok(false);
        }
        let flags = self.raw[size_of::<u32>() + self.row];
        self.row += 1;
        (self.is_unlistable, self.has_origin) = (flags & UNLISTABLE != 0, flags & ORIGIN != 0);
        if flags & !(NEW_BUCKET | VERSION_BITS | UNLISTABLE | ORIGIN) != 0
            || (self.is_unlistable && !self.allowed.unlistable)
            || (self.has_origin && !self.allowed.origins)
        {
            return Err("a row has invalid flags");
        }
        if flags & NEW_BUCKET != 0 {
            let length = self.next_length()?;
            let text = take_text(&self.raw, &mut self.text_at, length)?;
            self.bucket = BucketName::new(std::str::from_utf8(text).map_err(|_| "a bucket's name is not UTF-8")?);
        }
        let (shared, rest) = (self.next_length()?, self.next_length()?);
        let limit = if self.is_unlistable { MAX_LISTED_KEY_BYTES } else { MAX_KEY_BYTES };
        apply_front_coding(&mut self.key, shared, take_text(&self.raw, &mut self.text_at, rest)?, limit)?;
        match (flags & VERSION_BITS) >> VERSION_SHIFT {
            NO_VERSION => self.has_version = false,
            SAME_VERSION => self.has_version = true,
            NEW_VERSION => {
                let (shared, rest) = (self.next_length()?, self.next_length()?);
                let rest = take_text(&self.raw, &mut self.text_at, rest)?;
                apply_front_coding(&mut self.version, shared, rest, MAX_VERSION_BYTES)?;
                self.has_version = true;
            }
            _ => return Err("a row has invalid flags"),
        }
        if self.is_unlistable {
            let (shared, rest) = (self.next_length()?, self.next_length()?);
            let rest = take_text(&self.raw, &mut self.text_at, rest)?;
            apply_front_coding(&mut self.reason, shared, rest, MAX_REASON_BYTES)?;
        }
        if self.has_origin {
            let (shared, rest) = (self.next_length()?, self.next_length()?);
            let rest = take_text(&self.raw, &mut self.text_at, rest)?;
            apply_front_coding(&mut self.origin, shared, rest, MAX_ORIGIN_BYTES)?;
        }
        Ok(true)
    }

    /// Returns the current row.
    pub(super) fn current_row(&self) -> Result<PartRow, BlockDamage> {
        let unlistable = if self.is_unlistable {
            Some(std::str::from_utf8(&self.reason).map_err(|_| "a reason is not UTF-8")?.into())
        } else {
            None
        };
        let origin = if self.has_origin {
            Some(decode_origin(&self.origin).ok_or("the origin of a row is not valid")?)
        } else {
            None
        };
        Ok(PartRow { object: self.object()?, unlistable, origin })
    }

    fn object(&self) -> Result<ObjectId, BlockDamage> {
        let version = if self.has_version {
            Some(VersionId::new(std::str::from_utf8(&self.version).map_err(|_| "a version ID is not UTF-8")?))
        } else {
            None
        };
        Ok(ObjectId { bucket: self.bucket.clone(), key: ObjectKey::new(self.key.as_slice()), version })
    }

    /// Returns the buffer for reuse.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.raw
    }

    fn next_length(&mut self) -> Result<usize, BlockDamage> {
        varint::take(&self.raw[..self.lengths_end], &mut self.lengths_at).ok_or("a row has no lengths")
    }
}

fn take_text<'a>(raw: &'a [u8], at: &mut usize, length: usize) -> Result<&'a [u8], BlockDamage> {
    let end = at.checked_add(length).ok_or("a row is too long")?;
    let text = raw.get(*at..end).ok_or("a row is longer than its block")?;
    *at = end;
    Ok(text)
}

fn apply_front_coding(value: &mut Vec<u8>, shared: usize, rest: &[u8], limit: usize) -> Result<(), BlockDamage> {
    if shared > value.len() {
        return Err("a row shares more bytes with the previous row than that row has");
    }
    // Without this limit, a few bytes per row could make a key longer by the length of a block, row after row.
    if shared + rest.len() > limit {
        return Err("a key or version ID is too long");
    }
    value.truncate(shared);
    value.extend_from_slice(rest);
    Ok(())
}

#[cfg(test)]
#[path = "row_block_tests.rs"]
mod tests;

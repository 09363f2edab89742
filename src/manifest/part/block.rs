//! Encodes the rows of one block as columns, and decodes them.

use batchplan_store::object::{BucketName, MAX_KEY_BYTES, ObjectId, ObjectKey, VersionId};

use super::{MAX_BLOCK_BYTES, MAX_BLOCK_ROWS, MAX_BUCKET_BYTES, MAX_VERSION_BYTES, varint};

/// Flag: the bucket differs from the previous row.
const NEW_BUCKET: u8 = 0b001;

/// The bit position of the version kind in the flags.
const VERSION_SHIFT: u32 = 1;

const NO_VERSION: u8 = 0;

/// Version kind: the last version named in this block.
const SAME_VERSION: u8 = 1;

/// Version kind: another version, encoded by the prefix that it shares with the last one.
const NEW_VERSION: u8 = 2;

/// Collects the rows of a block.
#[derive(Default)]
pub(super) struct RowBlockWriter {
    flags: Vec<u8>,
    lengths: Vec<u8>,
    text: Vec<u8>,
    bucket: Vec<u8>,
    key: Vec<u8>,
    version: Vec<u8>,
}

impl RowBlockWriter {
    pub(super) fn rows(&self) -> usize {
        self.flags.len()
    }

    /// Returns whether another row of any size still fits.
    pub(super) fn has_room(&self) -> bool {
        // Five lengths of at most three bytes each, and the flags.
        const LONGEST_ROW: usize = MAX_BUCKET_BYTES + MAX_KEY_BYTES + MAX_VERSION_BYTES + 16;
        let bytes = self.flags.len() + self.lengths.len() + self.text.len() + size_of::<u32>();
        self.rows() < MAX_BLOCK_ROWS && bytes + LONGEST_ROW <= MAX_BLOCK_BYTES
    }

    /// Adds a row. The caller must have checked that it fits and that no field is too long.
    pub(super) fn push(&mut self, bucket: &str, key: &[u8], version: Option<&str>) {
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
        self.bucket.clear();
        self.key.clear();
        self.version.clear();
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

/// A message that says how a block is damaged.
pub(super) type BlockDamage = &'static str;

/// Decodes the rows of a block one by one.
pub(super) struct RowBlockReader {
    raw: Vec<u8>,
    rows: usize,
    row: usize,
    lengths_at: usize,
    lengths_end: usize,
    text_at: usize,
    bucket: BucketName,
    key: Vec<u8>,
    version: Vec<u8>,
    has_version: bool,
}

impl RowBlockReader {
    pub(super) fn new(raw: Vec<u8>, rows: usize) -> Result<Self, BlockDamage> {
        let (head, columns) = raw.split_first_chunk::<4>().ok_or("a block is too short for its columns")?;
        let lengths = usize::try_from(u32::from_le_bytes(*head)).map_err(|_| "a column is too long")?;
        let lengths_end = rows.checked_add(lengths).filter(|end| *end <= columns.len());
        let lengths_end = lengths_end.ok_or("a column is longer than its block")? + head.len();
        Ok(Self {
            lengths_at: head.len() + rows,
            lengths_end,
            text_at: lengths_end,
            raw,
            rows,
            row: 0,
            bucket: BucketName::new(""),
            key: Vec::new(),
            version: Vec::new(),
            has_version: false,
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
        if flags & NEW_BUCKET != 0 {
            let length = self.next_length()?;
            let text = take_text(&self.raw, &mut self.text_at, length)?;
            self.bucket = BucketName::new(std::str::from_utf8(text).map_err(|_| "a bucket's name is not UTF-8")?);
        }
        let (shared, rest) = (self.next_length()?, self.next_length()?);
        apply_front_coding(&mut self.key, shared, take_text(&self.raw, &mut self.text_at, rest)?, MAX_KEY_BYTES)?;
        match flags >> VERSION_SHIFT {
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
        Ok(true)
    }

    /// Returns the current row.
    pub(super) fn object(&self) -> Result<ObjectId, BlockDamage> {
        let version = if self.has_version {
            Some(VersionId::new(std::str::from_utf8(&self.version).map_err(|_| "a version id is not UTF-8")?))
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
        return Err("a key or version id is too long");
    }
    value.truncate(shared);
    value.extend_from_slice(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Name = (String, Vec<u8>, Option<String>);

    fn name() -> impl Strategy<Value = Name> {
        let bucket = prop_oneof![Just("alpha".to_owned()), "[a-z.-]{0,20}"];
        let key = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "dir/[ab]{1,9}".prop_map(String::into_bytes),
            Just(vec![b'k'; MAX_KEY_BYTES]),
        ];
        let version = prop_oneof![Just(None), Just(Some("null".to_owned())), "\\PC{0,20}".prop_map(Some)];
        (bucket, key, version)
    }

    proptest! {
        #[test]
        fn rows_round_trip(names in proptest::collection::vec(name(), 0..60)) {
            let mut writer = RowBlockWriter::default();
            for (bucket, key, version) in &names {
                prop_assert!(writer.has_room());
                writer.push(bucket, key, version.as_deref());
            }
            let mut raw = Vec::new();
            writer.drain_into(&mut raw);
            let mut reader = RowBlockReader::new(raw, names.len()).unwrap();
            for (bucket, key, version) in &names {
                prop_assert!(reader.advance().unwrap());
                let object = reader.object().unwrap();
                prop_assert_eq!(object.bucket.as_str(), bucket);
                prop_assert_eq!(object.key.as_bytes(), key.as_slice());
                prop_assert_eq!(object.version.as_ref().map(VersionId::as_str), version.as_deref());
            }
            prop_assert!(!reader.advance().unwrap());
        }

        #[test]
        fn junk_is_an_error_and_no_panic(raw in proptest::collection::vec(any::<u8>(), 0..200), rows in 0_usize..80) {
            let Ok(mut reader) = RowBlockReader::new(raw, rows) else { return Ok(()) };
            while let Ok(true) = reader.advance() {
                let _ = reader.object();
            }
        }
    }

    /// The columns of format version 1, byte by byte.
    #[test]
    fn the_columns_are_pinned() {
        let mut writer = RowBlockWriter::default();
        writer.push("alpha", b"a/1", None);
        writer.push("alpha", b"a/2", Some("v1"));
        writer.push("beta", b"a/2\xff", Some("v1"));
        writer.push("beta", b"", Some("v2"));
        let mut raw = Vec::new();
        writer.drain_into(&mut raw);
        let lengths = [5, 0, 3, 2, 1, 0, 2, 4, 3, 1, 0, 0, 1, 1];
        let expected = [&[14, 0, 0, 0, 0b001, 0b100, 0b011, 0b100][..], &lengths, b"alphaa/12v1beta\xff2"].concat();
        assert_eq!(raw, expected);
    }

    #[test]
    fn a_key_cannot_grow_without_bound() {
        let mut writer = RowBlockWriter::default();
        let long = vec![b'k'; MAX_KEY_BYTES + 1];
        writer.push("b", &long, None);
        let mut raw = Vec::new();
        writer.drain_into(&mut raw);
        let mut reader = RowBlockReader::new(raw, 1).unwrap();
        assert_eq!(reader.advance(), Err("a key or version id is too long"));
    }

    #[test]
    fn a_block_is_bounded_in_bytes() {
        let mut writer = RowBlockWriter::default();
        let mut row = 0_u32;
        while writer.has_room() {
            let mut key = vec![b'k'; MAX_KEY_BYTES];
            key[..4].copy_from_slice(&row.to_be_bytes());
            writer.push("b", &key, Some(&format!("{row:0>1024}")));
            row = row.wrapping_add(0x0101_0101);
        }
        let mut raw = Vec::new();
        writer.drain_into(&mut raw);
        assert!(raw.len() <= MAX_BLOCK_BYTES && raw.len() > MAX_BLOCK_BYTES / 2, "{}", raw.len());
    }
}

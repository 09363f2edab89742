//! Parses Thrift's compact protocol, as far as Parquet's headers use it.
//!
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

use crate::bits::{decode_zigzag, read_varint};
use crate::{ColumnarError, ColumnarResult, damaged};

/// The deepest nesting in skipped values. Parquet's structures are nested five deep.
const MAX_DEPTH: u32 = 16;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ThriftType {
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
pub(super) struct ThriftReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether reading failed because the bytes ended. With more bytes it may succeed.
    pub(super) truncated: bool,
}

impl<'a> ThriftReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, truncated: false }
    }

    /// Returns the number of bytes read so far.
    pub(super) fn position(&self) -> usize {
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

    pub(super) fn read_int(&mut self) -> ColumnarResult<i64> {
        self.read_varint().map(decode_zigzag)
    }

    /// Reads an integer that is a count or an offset. Returns an error if it is negative.
    pub(super) fn read_count(&mut self) -> ColumnarResult<u64> {
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
    pub(super) fn read_binary(&mut self) -> ColumnarResult<&'a [u8]> {
        let bytes = self.read_varint()?;
        self.take_bytes(bytes)
    }

    /// Reads a structure. Calls `take` with the number and type of each field, until the structure ends. If
    /// `take` returns false, it has not read the field, and the field is skipped.
    pub(super) fn read_struct(
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
        let head = self.read_byte()?;
        if head == 0 {
            return Ok(None);
        }
        let id = match head >> 4 {
            0 => self.read_int()?,
            delta => before.saturating_add(i64::from(delta)),
        };
        Ok(Some((id, ThriftType::of(head & 0x0f)?)))
    }

    /// Reads the number of elements in a list, and their type. Each element takes at least one byte, so there cannot
    /// be more elements than remaining bytes.
    pub(super) fn read_list_header(&mut self) -> ColumnarResult<(usize, ThriftType)> {
        let head = self.read_byte()?;
        let count = match head >> 4 {
            15 => self.read_varint()?,
            count => u64::from(count),
        };
        let kind = ThriftType::of(head & 0x0f)?;
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
pub(super) fn decode_text(bytes: &[u8]) -> ColumnarResult<String> {
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

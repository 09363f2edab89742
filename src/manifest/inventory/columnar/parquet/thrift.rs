//! Parses Thrift's compact protocol, as far as Parquet's headers use it.
//!
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

use crate::manifest::inventory::columnar::bits::{unzigzag, varint};
use crate::manifest::inventory::columnar::{Broken, Outcome, damaged};

/// The deepest nesting in skipped values. Parquet's structures are nested five deep.
const MAX_DEPTH: u32 = 16;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    True,
    False,
    Byte,
    Int,
    Double,
    Binary,
    List,
    Map,
    Structure,
}

impl Type {
    fn of(code: u8) -> Outcome<Self> {
        Ok(match code {
            1 => Self::True,
            2 => Self::False,
            3 => Self::Byte,
            4..=6 => Self::Int,
            7 => Self::Double,
            8 => Self::Binary,
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Structure,
            _ => return damaged(format!("a header has a value of the unknown type {code}")),
        })
    }
}

/// Reads values one after another.
pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether reading failed because the bytes ended. With more bytes it may succeed.
    pub(super) short: bool,
}

impl<'a> Thrift<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, short: false }
    }

    /// Returns the number of bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn end<T>(&mut self) -> Outcome<T> {
        self.short = true;
        damaged("a header is cut off")
    }

    fn byte(&mut self) -> Outcome<u8> {
        match self.bytes.get(self.at) {
            Some(byte) => {
                self.at += 1;
                Ok(*byte)
            }
            None => self.end(),
        }
    }

    fn unsigned(&mut self) -> Outcome<u64> {
        match varint(self.bytes, self.at) {
            Some((number, at)) => {
                self.at = at;
                Ok(number)
            }
            None => self.end(),
        }
    }

    pub(super) fn int(&mut self) -> Outcome<i64> {
        self.unsigned().map(unzigzag)
    }

    /// Reads an integer that is a count or an offset. Returns an error if it is negative.
    pub(super) fn count(&mut self) -> Outcome<u64> {
        let number = self.int()?;
        u64::try_from(number).or_else(|_| damaged(format!("a header counts {number}")))
    }

    fn pass(&mut self, bytes: u64) -> Outcome<&'a [u8]> {
        let end = usize::try_from(bytes).ok().and_then(|bytes| self.at.checked_add(bytes));
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(passed) => {
                self.at += passed.len();
                Ok(passed)
            }
            None => self.end(),
        }
    }

    /// Reads bytes, such as a string.
    pub(super) fn binary(&mut self) -> Outcome<&'a [u8]> {
        let bytes = self.unsigned()?;
        self.pass(bytes)
    }

    /// Reads a structure. Calls `take` with the number and type of each field, until the structure ends. If `take`
    /// returns false, it has not read the field, and the field is skipped.
    pub(super) fn structure(&mut self, mut take: impl FnMut(&mut Self, i64, Type) -> Outcome<bool>) -> Outcome<()> {
        let mut id = 0_i64;
        while let Some((next, kind)) = self.member(id)? {
            id = next;
            if !take(self, id, kind)? {
                self.skip(kind, MAX_DEPTH)?;
            }
        }
        Ok(())
    }

    fn member(&mut self, before: i64) -> Outcome<Option<(i64, Type)>> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        let id = match head >> 4 {
            0 => self.int()?,
            delta => before.saturating_add(i64::from(delta)),
        };
        Ok(Some((id, Type::of(head & 0x0f)?)))
    }

    /// Reads the number of elements in a list, and their type. Each element takes at least one byte, so there cannot
    /// be more elements than remaining bytes.
    pub(super) fn list(&mut self) -> Outcome<(usize, Type)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.unsigned()?,
            count => u64::from(count),
        };
        let kind = Type::of(head & 0x0f)?;
        match usize::try_from(count) {
            Ok(count) if count <= self.bytes.len() - self.at => Ok((count, kind)),
            _ => self.end(),
        }
    }

    fn skip(&mut self, kind: Type, depth: u32) -> Outcome<()> {
        let Some(depth) = depth.checked_sub(1) else { return damaged("a header lies in itself too deep") };
        match kind {
            Type::True | Type::False => Ok(()),
            Type::Byte => self.byte().map(|_| ()),
            Type::Int => self.unsigned().map(|_| ()),
            Type::Double => self.pass(8).map(|_| ()),
            Type::Binary => self.binary().map(|_| ()),
            Type::List => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(kind, depth))
            }
            Type::Map => self.skip_map(depth),
            Type::Structure => {
                let mut id = 0;
                while let Some((next, kind)) = self.member(id)? {
                    id = next;
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
        }
    }

    /// Skips a list element. A boolean takes one byte in a list, and none in a structure.
    fn skip_element(&mut self, kind: Type, depth: u32) -> Outcome<()> {
        match kind {
            Type::True | Type::False => self.byte().map(|_| ()),
            other => self.skip(other, depth),
        }
    }

    fn skip_map(&mut self, depth: u32) -> Outcome<()> {
        let count = self.unsigned()?;
        if count == 0 {
            return Ok(());
        }
        let kinds = self.byte()?;
        let (key, value) = (Type::of(kinds >> 4)?, Type::of(kinds & 0x0f)?);
        for _ in 0..count {
            self.skip_element(key, depth)?;
            self.skip_element(value, depth)?;
        }
        Ok(())
    }
}

/// Decodes a string of a header.
pub(super) fn text(bytes: &[u8]) -> Outcome<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Broken::Damaged("a name in a header is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passed_over(bytes: &[u8]) -> Outcome<()> {
        Thrift::new(bytes).structure(|_, _, _| Ok(false))
    }

    #[test]
    fn members_are_told_apart_and_the_rest_is_passed_over() {
        // 1: 5, 3: true, 4: list of two numbers, 5: {1: 7}, 20: "ab", 21: a map, 22: a double
        let bytes = [
            0x15, 0x0a, 0x21, 0x19, 0x25, 0x02, 0x04, 0x1c, 0x15, 0x0e, 0x00, 0x08, 0x28, 0x02, b'a', b'b', 0x1b, 0x01,
            0x58, 0x02, 0x01, b'x', 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0x00,
        ];
        let (mut number, mut word, mut seen) = (0, Vec::new(), Vec::new());
        let mut thrift = Thrift::new(&bytes);
        thrift
            .structure(|it, id, kind| {
                seen.push((id, kind));
                match id {
                    1 => number = it.int()?,
                    20 => word = it.binary()?.to_vec(),
                    _ => return Ok(false),
                }
                Ok(true)
            })
            .unwrap();
        assert_eq!((number, word.as_slice(), thrift.at()), (5, &b"ab"[..], bytes.len()));
        let ids: Vec<i64> = seen.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [1, 3, 4, 5, 20, 21, 22]);
        assert_eq!(seen[1].1, Type::True);
        for end in 0..bytes.len() {
            let mut thrift = Thrift::new(&bytes[..end]);
            assert!(thrift.structure(|_, _, _| Ok(false)).is_err() && thrift.short, "{end}");
        }
    }

    #[test]
    fn what_lies_in_itself_ends() {
        let deep = vec![0x1c_u8; 100_000];
        let error = passed_over(&deep).unwrap_err();
        assert!(matches!(error, Broken::Damaged(what) if what.contains("too deep")));
        let lists = vec![0x19_u8; 100_000];
        assert!(matches!(passed_over(&lists), Err(Broken::Damaged(what)) if what.contains("too deep")));
    }

    #[test]
    fn a_count_that_lies_is_cut_off() {
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

//! Parses protocol buffers, as far as ORC footers use them.

use crate::bits::read_varint;
use crate::{ColumnarResult, damaged};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProtobufField<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A value of four or eight bytes. No footer has a relevant field of this type.
    Fixed,
}

/// Reads the fields of a message, one after another. A nested message is returned as bytes, to be parsed as a message
/// of its own, so parsing never recurses.
#[derive(Clone, Copy)]
pub(super) struct ProtobufMessage<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ProtobufMessage<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns the number and value of the next field, or `None` at the end of the message.
    pub(super) fn next(&mut self) -> ColumnarResult<Option<(u64, ProtobufField<'a>)>> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.read_varint()?;
        let field = match tag & 7 {
            0 => ProtobufField::Number(self.read_varint()?),
            1 => self.take_bytes(8).map(|_| ProtobufField::Fixed)?,
            2 => {
                let bytes = self.read_varint()?;
                ProtobufField::Bytes(self.take_bytes(bytes)?)
            }
            5 => self.take_bytes(4).map(|_| ProtobufField::Fixed)?,
            other => return damaged(format!("a footer has a field of the unknown type {other}")),
        };
        Ok(Some((tag >> 3, field)))
    }

    fn read_varint(&mut self) -> ColumnarResult<u64> {
        match read_varint(self.bytes, self.at) {
            Some((number, at)) => {
                self.at = at;
                Ok(number)
            }
            None => damaged("a footer is truncated"),
        }
    }

    fn take_bytes(&mut self, bytes: u64) -> ColumnarResult<&'a [u8]> {
        let end = usize::try_from(bytes).ok().and_then(|bytes| self.at.checked_add(bytes));
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(passed) => {
                self.at += passed.len();
                Ok(passed)
            }
            None => damaged("a footer is truncated"),
        }
    }
}

/// Appends the numbers of a field, which may be packed. Returns an error if `into` then holds more than `most`
/// numbers.
pub(super) fn append_numbers(field: ProtobufField<'_>, into: &mut Vec<u64>, most: usize) -> ColumnarResult<()> {
    match field {
        ProtobufField::Number(number) => into.push(number),
        ProtobufField::Fixed => {}
        ProtobufField::Bytes(bytes) => {
            let mut at = 0;
            while at < bytes.len() && into.len() <= most {
                let Some((number, next)) = read_varint(bytes, at) else { return damaged("a footer is truncated") };
                into.push(number);
                at = next;
            }
        }
    }
    if into.len() > most { damaged("a footer has too many entries") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_of_all_types_are_told_apart() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x1d, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut message = ProtobufMessage::new(&bytes);
        assert_eq!(message.next().unwrap(), Some((1, ProtobufField::Number(150))));
        assert_eq!(message.next().unwrap(), Some((2, ProtobufField::Bytes(b"hi"))));
        assert_eq!(message.next().unwrap(), Some((3, ProtobufField::Fixed)));
        assert_eq!(message.next().unwrap(), Some((4, ProtobufField::Fixed)));
        assert_eq!(message.next().unwrap(), None);
        assert!(ProtobufMessage::new(&[0x12, 0xff, 0xff, 0x03]).next().is_err());
        assert!(ProtobufMessage::new(&[0x0b]).next().is_err());
    }

    #[test]
    fn packed_numbers_are_bounded() {
        let mut found = Vec::new();
        append_numbers(ProtobufField::Bytes(&[1, 0x96, 0x01]), &mut found, 2).unwrap();
        append_numbers(ProtobufField::Number(7), &mut found, 3).unwrap();
        assert_eq!(found, [1, 150, 7]);
        assert!(append_numbers(ProtobufField::Bytes(&[0; 100]), &mut found, 10).is_err());
        assert!(found.len() <= 11);
    }

    proptest! {
        #[test]
        fn junk_is_no_panic(bytes: Vec<u8>) {
            let mut message = ProtobufMessage::new(&bytes);
            while let Ok(Some(_)) = message.next() {}
        }
    }
}

//! Reads a stream of a stripe, decompressed block by block.

use crate::manifest::inventory::columnar::input::Input;
use crate::manifest::inventory::columnar::unpack::{Packing, unpack};
use crate::manifest::inventory::columnar::{Outcome, damaged};

/// The number of bytes read at once from an uncompressed stream.
const CHUNK: u64 = 64 << 10;

/// The buffer capacity, in bytes, that a column always keeps for its next block.
const KEPT: usize = 1 << 20;

/// How the streams of a file are compressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    pub(super) packing: Packing,
    /// The largest decompressed size of a block, in bytes.
    pub(super) block: usize,
}

impl Packed {
    /// Returns a stream of the bytes from offset `at` to offset `end`.
    pub(super) fn stream(self, at: u64, end: u64) -> Stream {
        Stream { packed: self, at, end, block: Vec::new(), next: 0, raw: Vec::new(), held: 0 }
    }
}

/// A stream, positioned at one of its bytes.
pub(super) struct Stream {
    packed: Packed,
    at: u64,
    end: u64,
    block: Vec<u8>,
    next: usize,
    raw: Vec<u8>,
    held: usize,
}

impl Stream {
    /// Returns whether there are more bytes. If there are, some of them are in the buffer.
    pub(super) fn more(&mut self, input: &Input) -> Outcome<bool> {
        while self.next == self.block.len() {
            if self.at >= self.end {
                return Ok(false);
            }
            self.fill(input)?;
        }
        Ok(true)
    }

    /// Returns the remaining bytes in the buffer.
    pub(super) fn rest(&self) -> &[u8] {
        self.block.get(self.next..).unwrap_or_default()
    }

    /// Skips the remaining bytes in the buffer.
    pub(super) fn pass_rest(&mut self) {
        self.next = self.block.len();
    }

    pub(super) fn byte(&mut self, input: &Input) -> Outcome<u8> {
        if let Some(byte) = self.block.get(self.next) {
            self.next += 1;
            return Ok(*byte);
        }
        if !self.more(input)? {
            return damaged("a stream ends before its values do");
        }
        self.byte_at_hand()
    }

    fn byte_at_hand(&mut self) -> Outcome<u8> {
        match self.block.get(self.next) {
            Some(byte) => {
                self.next += 1;
                Ok(*byte)
            }
            None => damaged("a stream ends before its values do"),
        }
    }

    /// Appends the next `bytes` bytes to `into`.
    pub(super) fn take(&mut self, input: &Input, mut bytes: usize, into: &mut Vec<u8>) -> Outcome<()> {
        while bytes > 0 {
            if !self.more(input)? {
                return damaged("a stream ends before its values do");
            }
            let part = self.rest();
            let part = &part[..part.len().min(bytes)];
            into.extend_from_slice(part);
            bytes -= part.len();
            self.next += part.len();
        }
        Ok(())
    }

    /// Reads a variable-length integer in groups of seven bits.
    pub(super) fn varint(&mut self, input: &Input) -> Outcome<u64> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte(input)?;
            if shift < 64 {
                number |= u64::from(byte & 0x7f) << shift;
            }
            if byte < 0x80 {
                return Ok(number);
            }
        }
        damaged("a number has more than 64 bits")
    }

    fn fill(&mut self, input: &Input) -> Outcome<()> {
        self.next = 0;
        let left = self.end - self.at;
        if self.packed.packing == Packing::None {
            let bytes = usize::try_from(left.min(CHUNK)).unwrap_or_default();
            input.read(self.at, bytes, &mut self.block)?;
            self.at += bytes as u64;
            return Ok(());
        }
        if left < 3 {
            return damaged("a block is cut off");
        }
        input.read(self.at, 3, &mut self.raw)?;
        let head = u32::from_le_bytes([self.raw[0], self.raw[1], self.raw[2], 0]);
        let (bytes, original) = (head >> 1, head & 1 == 1);
        if u64::from(bytes) > left - 3 {
            return damaged("a block is cut off");
        }
        let bytes = bytes as usize;
        if bytes > self.packed.block {
            return damaged(format!("a block has {bytes} bytes, and the most is {}", self.packed.block));
        }
        self.at += 3 + bytes as u64;
        if self.block.capacity() > KEPT + 2 * bytes {
            self.block = Vec::new();
        }
        if original {
            input.read(self.at - bytes as u64, bytes, &mut self.block)?;
        } else {
            input.read(self.at - bytes as u64, bytes, &mut self.raw)?;
            unpack(self.packed.packing, &self.raw, self.packed.block, &mut self.block)?;
        }
        input.hold(&mut self.held, self.block.capacity() + self.raw.capacity())
    }

    /// Releases the memory that the stream holds.
    pub(super) fn leave(mut self, input: &Input) -> Outcome<()> {
        input.hold(&mut self.held, 0)
    }
}

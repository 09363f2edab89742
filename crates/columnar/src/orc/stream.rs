//! Reads a stream of a stripe, decompressed block by block.

use crate::compression::{BlockCompression, decompress};
use crate::input::RandomAccessFile;
use crate::{ColumnarResult, damaged};

/// The number of bytes read at once from an uncompressed stream.
const READ_SIZE: u64 = 64 << 10;

/// The buffer capacity, in bytes, that a column always keeps for its next block.
const KEPT_CAPACITY: usize = 1 << 20;

/// How the streams of a file are compressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct OrcCompression {
    pub(super) codec: BlockCompression,
    /// The largest decompressed size of a block, in bytes.
    pub(super) block_size: usize,
}

impl OrcCompression {
    /// Returns a stream of the bytes from offset `at` to offset `end`.
    pub(super) fn stream(self, at: u64, end: u64) -> OrcStream {
        OrcStream { compression: self, at, end, block: Vec::new(), position: 0, raw: Vec::new(), held_bytes: 0 }
    }
}

/// A stream, positioned at one of its bytes.
pub(super) struct OrcStream {
    compression: OrcCompression,
    at: u64,
    end: u64,
    block: Vec<u8>,
    position: usize,
    raw: Vec<u8>,
    held_bytes: usize,
}

impl OrcStream {
    /// Returns whether there are more bytes. If there are, some of them are in the buffer.
    pub(super) fn has_more(&mut self, input: &RandomAccessFile) -> ColumnarResult<bool> {
        while self.position == self.block.len() {
            if self.at >= self.end {
                return Ok(false);
            }
            self.read_block(input)?;
        }
        Ok(true)
    }

    /// Returns the remaining bytes in the buffer.
    pub(super) fn buffered(&self) -> &[u8] {
        self.block.get(self.position..).unwrap_or_default()
    }

    /// Skips the remaining bytes in the buffer.
    pub(super) fn skip_buffered(&mut self) {
        self.position = self.block.len();
    }

    pub(super) fn read_byte(&mut self, input: &RandomAccessFile) -> ColumnarResult<u8> {
        if let Some(byte) = self.block.get(self.position) {
            self.position += 1;
            return Ok(*byte);
        }
        if !self.has_more(input)? {
            return damaged("a stream ends before its last value");
        }
        self.buffered_byte()
    }

    fn buffered_byte(&mut self) -> ColumnarResult<u8> {
        match self.block.get(self.position) {
            Some(byte) => {
                self.position += 1;
                Ok(*byte)
            }
            None => damaged("a stream ends before its last value"),
        }
    }

    /// Appends the next `bytes` bytes to `into`.
    pub(super) fn read_into(
        &mut self,
        input: &RandomAccessFile,
        mut bytes: usize,
        into: &mut Vec<u8>,
    ) -> ColumnarResult<()> {
        while bytes > 0 {
            if !self.has_more(input)? {
                return damaged("a stream ends before its last value");
            }
            let part = self.buffered();
            let part = &part[..part.len().min(bytes)];
            into.extend_from_slice(part);
            bytes -= part.len();
            self.position += part.len();
        }
        Ok(())
    }

    /// Reads a variable-length integer in groups of seven bits.
    pub(super) fn read_varint(&mut self, input: &RandomAccessFile) -> ColumnarResult<u64> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.read_byte(input)?;
            if shift < 64 {
                number |= u64::from(byte & 0x7f) << shift;
            }
            if byte < 0x80 {
                return Ok(number);
            }
        }
        damaged("a number has more than 64 bits")
    }

    fn read_block(&mut self, input: &RandomAccessFile) -> ColumnarResult<()> {
        self.position = 0;
        let left = self.end - self.at;
        if self.compression.codec == BlockCompression::None {
            let bytes = usize::try_from(left.min(READ_SIZE)).unwrap_or_default();
            input.read_at(self.at, bytes, &mut self.block)?;
            self.at += bytes as u64;
            return Ok(());
        }
        if left < 3 {
            return damaged("a block is truncated");
        }
        input.read_at(self.at, 3, &mut self.raw)?;
        let head = u32::from_le_bytes([self.raw[0], self.raw[1], self.raw[2], 0]);
        let (bytes, original) = (head >> 1, head & 1 == 1);
        if u64::from(bytes) > left - 3 {
            return damaged("a block is truncated");
        }
        let bytes = bytes as usize;
        if bytes > self.compression.block_size {
            return damaged(format!("a block has {bytes} bytes (maximum {})", self.compression.block_size));
        }
        self.at += 3 + bytes as u64;
        if self.block.capacity() > KEPT_CAPACITY + 2 * bytes {
            self.block = Vec::new();
        }
        if original {
            input.read_at(self.at - bytes as u64, bytes, &mut self.block)?;
        } else {
            input.read_at(self.at - bytes as u64, bytes, &mut self.raw)?;
            decompress(self.compression.codec, &self.raw, self.compression.block_size, &mut self.block)?;
        }
        input.update_held_bytes(&mut self.held_bytes, self.block.capacity() + self.raw.capacity())
    }

    /// Releases the memory that the stream holds.
    pub(super) fn release(mut self, input: &RandomAccessFile) -> ColumnarResult<()> {
        input.update_held_bytes(&mut self.held_bytes, 0)
    }
}

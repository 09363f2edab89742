//! Reads a stream of a stripe: decompresses it block by block, and decodes the runs of integers, bytes and booleans
//! that it contains.

use crate::bits::{decode_zigzag, read_msb_first};
use crate::input::{BlockCompression, RandomAccessFile, decompress};
use crate::value::{ColumnarError, ColumnarResult, damaged};

/// The number of bytes read at once from an uncompressed stream.
const READ_SIZE: u64 = 64 << 10;

/// The buffer capacity, in bytes, that a column always keeps for its next block.
const REUSED_CAPACITY: usize = 1 << 20;

/// How the streams of a file are compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrcCompression {
    codec: BlockCompression,
    /// The largest decompressed size of a block, in bytes.
    block_size: usize,
}

impl OrcCompression {
    pub(crate) fn new(codec: BlockCompression, block_size: usize) -> Self {
        Self { codec, block_size }
    }

    /// Returns a stream of the bytes from offset `at` to offset `end`.
    pub(crate) fn stream(self, at: u64, end: u64) -> OrcStream {
        OrcStream { compression: self, at, end, block: Vec::new(), position: 0, raw: Vec::new(), held_bytes: 0 }
    }
}

/// A stream, positioned at one of its bytes.
pub(crate) struct OrcStream {
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
    fn has_more(&mut self, input: &RandomAccessFile) -> ColumnarResult<bool> {
        while self.position == self.block.len() {
            if self.at >= self.end {
                return Ok(false);
            }
            self.read_block(input)?;
        }
        Ok(true)
    }

    /// Reads all remaining bytes; `None` if there are more than `limit`.
    pub(crate) fn read_all(mut self, input: &RandomAccessFile, limit: usize) -> ColumnarResult<Option<Vec<u8>>> {
        let mut all = Vec::new();
        while self.has_more(input)? {
            all.extend_from_slice(self.buffered());
            self.position = self.block.len();
            if all.len() > limit {
                return Ok(None);
            }
        }
        self.release(input)?;
        Ok(Some(all))
    }

    /// Returns the remaining bytes in the buffer.
    fn buffered(&self) -> &[u8] {
        self.block.get(self.position..).unwrap_or_default()
    }

    fn read_byte(&mut self, input: &RandomAccessFile) -> ColumnarResult<u8> {
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
    pub(crate) fn read_into(
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
    fn read_varint(&mut self, input: &RandomAccessFile) -> ColumnarResult<u64> {
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
        let header = u32::from_le_bytes([self.raw[0], self.raw[1], self.raw[2], 0]);
        let (bytes, is_original) = (header >> 1, header & 1 == 1);
        if u64::from(bytes) > left - 3 {
            return damaged("a block is truncated");
        }
        let bytes = bytes as usize;
        if bytes > self.compression.block_size {
            return damaged(format!("a block has {bytes} bytes (maximum {})", self.compression.block_size));
        }
        self.at += 3 + bytes as u64;
        if self.block.capacity() > REUSED_CAPACITY + 2 * bytes {
            self.block = Vec::new();
        }
        if is_original {
            input.read_at(self.at - bytes as u64, bytes, &mut self.block)?;
        } else {
            input.read_at(self.at - bytes as u64, bytes, &mut self.raw)?;
            decompress(self.compression.codec, &self.raw, self.compression.block_size, &mut self.block)?;
        }
        input.update_held_bytes(&mut self.held_bytes, self.block.capacity() + self.raw.capacity())
    }

    /// Releases the memory that the stream holds.
    pub(crate) fn release(mut self, input: &RandomAccessFile) -> ColumnarResult<()> {
        input.update_held_bytes(&mut self.held_bytes, 0)
    }
}

/// Decodes runs of bytes.
struct OrcByteDecoder {
    stream: OrcStream,
    remaining: usize,
    /// The repeated byte, or `None` if the bytes of the run differ.
    repeated: Option<u8>,
}

impl OrcByteDecoder {
    fn new(stream: OrcStream) -> Self {
        Self { stream, remaining: 0, repeated: None }
    }

    fn next(&mut self, input: &RandomAccessFile) -> ColumnarResult<u8> {
        if self.remaining == 0 {
            let header = self.stream.read_byte(input)?;
            (self.remaining, self.repeated) = if header < 0x80 {
                (usize::from(header) + 3, Some(self.stream.read_byte(input)?))
            } else {
                (256 - usize::from(header), None)
            };
        }
        self.remaining -= 1;
        match self.repeated {
            Some(byte) => Ok(byte),
            None => self.stream.read_byte(input),
        }
    }
}

/// Decodes booleans, eight per byte, the first in the highest bit.
pub(crate) struct OrcBooleanDecoder {
    bytes: OrcByteDecoder,
    byte: u8,
    remaining: u32,
}

impl OrcBooleanDecoder {
    pub(crate) fn new(stream: OrcStream) -> Self {
        Self { bytes: OrcByteDecoder::new(stream), byte: 0, remaining: 0 }
    }

    /// Releases the memory that the stream holds.
    pub(crate) fn release(self, input: &RandomAccessFile) -> ColumnarResult<()> {
        self.bytes.stream.release(input)
    }

    pub(crate) fn next(&mut self, input: &RandomAccessFile) -> ColumnarResult<bool> {
        if self.remaining == 0 {
            (self.byte, self.remaining) = (self.bytes.next(input)?, 8);
        }
        self.remaining -= 1;
        Ok(self.byte >> self.remaining & 1 == 1)
    }
}

/// Decodes runs of integers, at most 512 per run.
pub(crate) struct OrcIntegerDecoder {
    stream: OrcStream,
    is_version_2: bool,
    is_signed: bool,
    run: Vec<i64>,
    next: usize,
    packed: Vec<u8>,
}

impl OrcIntegerDecoder {
    /// Creates a decoder for a stream of integers in version 1 of the encoding, or in version 2 if `is_version_2` is
    /// set.
    pub(crate) fn new(stream: OrcStream, is_version_2: bool, is_signed: bool) -> Self {
        Self { stream, is_version_2, is_signed, run: Vec::new(), next: 0, packed: Vec::new() }
    }

    /// Releases the memory that the stream holds.
    pub(crate) fn release(self, input: &RandomAccessFile) -> ColumnarResult<()> {
        self.stream.release(input)
    }

    /// Returns the next integer. An unsigned integer of 64 bits comes out negative.
    pub(crate) fn next(&mut self, input: &RandomAccessFile) -> ColumnarResult<i64> {
        while self.next == self.run.len() {
            self.run.clear();
            self.next = 0;
            if self.is_version_2 { self.start_run_version_2(input)? } else { self.start_run_version_1(input)? }
        }
        let number = self.run[self.next];
        self.next += 1;
        Ok(number)
    }

    fn decode_sign(&self, number: u64) -> i64 {
        if self.is_signed { decode_zigzag(number) } else { number.cast_signed() }
    }

    fn start_run_version_1(&mut self, input: &RandomAccessFile) -> ColumnarResult<()> {
        let header = self.stream.read_byte(input)?;
        if header < 0x80 {
            let delta = i64::from(self.stream.read_byte(input)?.cast_signed());
            let number = self.stream.read_varint(input)?;
            let mut number = self.decode_sign(number);
            for _ in 0..usize::from(header) + 3 {
                self.run.push(number);
                number = number.wrapping_add(delta);
            }
        } else {
            for _ in 0..256 - usize::from(header) {
                let number = self.stream.read_varint(input)?;
                let number = self.decode_sign(number);
                self.run.push(number);
            }
        }
        Ok(())
    }

    fn start_run_version_2(&mut self, input: &RandomAccessFile) -> ColumnarResult<()> {
        let header = self.stream.read_byte(input)?;
        match header >> 6 {
            0 => self.decode_short_repeat(input, header),
            1 => {
                let (width, count) = self.read_width_and_count(input, header)?;
                self.read_packed(input, width, count)?;
                for place in 0..count {
                    let number = self.packed_at(place, width)?;
                    let number = self.decode_sign(number);
                    self.run.push(number);
                }
                Ok(())
            }
            2 => self.decode_patched_base(input, header),
            _ => self.decode_delta(input, header),
        }
    }

    fn decode_short_repeat(&mut self, input: &RandomAccessFile, header: u8) -> ColumnarResult<()> {
        let number = self.read_big_endian(input, usize::from(header >> 3 & 7) + 1)?;
        let number = self.decode_sign(number);
        self.run.resize(usize::from(header & 7) + 3, number);
        Ok(())
    }

    fn decode_patched_base(&mut self, input: &RandomAccessFile, header: u8) -> ColumnarResult<()> {
        let (width, count) = self.read_width_and_count(input, header)?;
        let (third, fourth) = (self.stream.read_byte(input)?, self.stream.read_byte(input)?);
        let base_bytes = usize::from(third >> 5) + 1;
        let patch_width = decode_width(third & 0x1f);
        let (gap_width, patches) = (u32::from(fourth >> 5) + 1, usize::from(fourth & 0x1f));
        if patch_width + gap_width > 64 || width + patch_width > 64 {
            return damaged("a run is patched with too many bits");
        }
        let base = self.read_big_endian(input, base_bytes)?;
        // The highest bit of the base is its sign.
        let sign = 1 << (base_bytes * 8 - 1);
        let base = if base & sign == 0 { base.cast_signed() } else { (base & !sign).cast_signed().wrapping_neg() };
        self.read_packed(input, width, count)?;
        for place in 0..count {
            let number = self.packed_at(place, width)?;
            self.run.push(number.cast_signed());
        }
        let entry_width = round_up_width(patch_width + gap_width);
        self.read_packed(input, entry_width, patches)?;
        let mut place = 0;
        for number in 0..patches {
            let entry = self.packed_at(number, entry_width)?;
            place += usize::try_from(entry >> patch_width).unwrap_or(usize::MAX).min(1 << 16);
            let patch = entry & (u64::MAX >> (64 - patch_width));
            let Some(found) = self.run.get_mut(place) else { return damaged("a patch is past the end of its run") };
            *found |= patch.checked_shl(width).unwrap_or_default().cast_signed();
        }
        for number in &mut self.run {
            *number = number.wrapping_add(base);
        }
        Ok(())
    }

    fn decode_delta(&mut self, input: &RandomAccessFile, header: u8) -> ColumnarResult<()> {
        let (_, count) = self.read_width_and_count(input, header)?;
        // Here a width of no bits means that every difference equals the first one.
        let code = header >> 1 & 0x1f;
        let width = if code == 0 { 0 } else { decode_width(code) };
        let first = self.stream.read_varint(input)?;
        let (mut number, delta) = (self.decode_sign(first), decode_zigzag(self.stream.read_varint(input)?));
        self.run.push(number);
        if count > 1 {
            number = number.wrapping_add(delta);
            self.run.push(number);
        }
        let others = count.saturating_sub(2);
        if width > 0 {
            self.read_packed(input, width, others)?;
        }
        for place in 0..others {
            let step = if width == 0 { delta } else { self.packed_at(place, width)?.cast_signed() };
            number = if width > 0 && delta < 0 { number.wrapping_sub(step) } else { number.wrapping_add(step) };
            self.run.push(number);
        }
        Ok(())
    }

    fn read_width_and_count(&mut self, input: &RandomAccessFile, header: u8) -> ColumnarResult<(u32, usize)> {
        let low = self.stream.read_byte(input)?;
        Ok((decode_width(header >> 1 & 0x1f), (usize::from(header & 1) << 8 | usize::from(low)) + 1))
    }

    fn read_big_endian(&mut self, input: &RandomAccessFile, bytes: usize) -> ColumnarResult<u64> {
        let mut number = 0;
        for _ in 0..bytes {
            number = number << 8 | u64::from(self.stream.read_byte(input)?);
        }
        Ok(number)
    }

    /// Reads `count` packed integers of `width` bits. A run has at most 512.
    fn read_packed(&mut self, input: &RandomAccessFile, width: u32, count: usize) -> ColumnarResult<()> {
        self.packed.clear();
        let bytes = (width as usize * count).div_ceil(8);
        self.stream.read_into(input, bytes, &mut self.packed)
    }

    fn packed_at(&self, place: usize, width: u32) -> ColumnarResult<u64> {
        read_msb_first(&self.packed, place * width as usize, width)
            .ok_or_else(|| ColumnarError::Damaged("a run ends before its last number".to_owned()))
    }
}

/// Returns the bit width that a five-bit code stands for.
fn decode_width(code: u8) -> u32 {
    match code {
        0..=23 => u32::from(code) + 1,
        24 => 26,
        25 => 28,
        26 => 30,
        27 => 32,
        28 => 40,
        29 => 48,
        30 => 56,
        _ => 64,
    }
}

/// Returns the smallest bit width that has a code and holds `bits` bits.
fn round_up_width(bits: u32) -> u32 {
    (0..32).map(decode_width).find(|width| *width >= bits).unwrap_or(64)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn input(bytes: &[u8]) -> (RandomAccessFile, OrcStream) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let stream = OrcCompression::new(BlockCompression::None, 0).stream(0, bytes.len() as u64);
        (RandomAccessFile::new(file).unwrap(), stream)
    }

    fn integers(bytes: &[u8], second: bool, signed: bool) -> Vec<i64> {
        let (input, stream) = input(bytes);
        let mut integers = OrcIntegerDecoder::new(stream, second, signed);
        std::iter::from_fn(|| integers.next(&input).ok()).collect()
    }

    /// The examples of <https://orc.apache.org/specification/ORCv1/>.
    #[test]
    fn runs_of_the_first_version_are_read() {
        assert_eq!(integers(&[0x61, 0x00, 0x07], false, false), [7; 100]);
        assert_eq!(integers(&[0x61, 0xff, 0x64], false, false), (1..=100).rev().collect::<Vec<_>>());
        assert_eq!(integers(&[0xfb, 0x02, 0x03, 0x06, 0x07, 0x0b], false, false), [2, 3, 6, 7, 11]);
        assert_eq!(integers(&[0xfe, 0x01, 0x02], false, true), [-1, 1]);
    }

    #[test]
    fn runs_of_the_second_version_are_read() {
        assert_eq!(integers(&[0x0a, 0x27, 0x10], true, false), [10_000; 5]);
        let direct = [0x5e, 0x03, 0x5c, 0xa1, 0xab, 0x1e, 0xde, 0xad, 0xbe, 0xef];
        assert_eq!(integers(&direct, true, false), [23_713, 43_806, 57_005, 48_879]);
        let patched = [
            0x8e, 0x13, 0x2b, 0x21, 0x07, 0xd0, 0x1e, 0x00, 0x14, 0x70, 0x28, 0x32, 0x3c, 0x46, 0x50, 0x5a, 0x64, 0x6e,
            0x78, 0x82, 0x8c, 0x96, 0xa0, 0xaa, 0xb4, 0xbe, 0xfc, 0xe8,
        ];
        let mut numbers = vec![2030, 2000, 2020, 1_000_000];
        numbers.extend((2040..=2190).step_by(10));
        assert_eq!(integers(&patched, true, false), numbers);
        let differences = [0xc6, 0x09, 0x02, 0x02, 0x22, 0x42, 0x42, 0x46];
        assert_eq!(integers(&differences, true, false), [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
    }

    #[test]
    fn bytes_and_bits_are_read() {
        let (source, stream) = input(&[0x61, 0x00, 0xfe, 0x44, 0x45]);
        let mut bytes = OrcByteDecoder::new(stream);
        let all: Vec<u8> = std::iter::from_fn(|| bytes.next(&source).ok()).collect();
        assert_eq!(all, [vec![0; 100], vec![0x44, 0x45]].concat());
        let (source, stream) = input(&[0xff, 0x80]);
        let mut bits = OrcBooleanDecoder::new(stream);
        let all: Vec<bool> = std::iter::from_fn(|| bits.next(&source).ok()).collect();
        assert_eq!(all, [true, false, false, false, false, false, false, false]);
    }

    #[test]
    fn a_stream_that_was_read_whole_holds_no_memory() {
        // One block of a megabyte, which is stored as it is.
        let header = (1_u32 << 20 << 1 | 1).to_le_bytes();
        let (source, _) = input(&[&header[..3], &vec![0; 1 << 20]].concat());
        let compression = OrcCompression::new(BlockCompression::Deflate, 1 << 20);
        for _ in 0..200 {
            let all = compression.stream(0, source.size()).read_all(&source, 1 << 20).unwrap();
            assert_eq!(all.map(|all| all.len()), Some(1 << 20));
        }
    }

    proptest! {
        #[test]
        fn junk_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), second: bool, signed: bool) {
            prop_assert!(integers(&bytes, second, signed).len() <= 200 * 512);
        }
    }
}

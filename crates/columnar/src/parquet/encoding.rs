//! Decodes the integers of a page: runs of one repeated integer and runs of packed integers, in which Parquet stores
//! levels, booleans and dictionary indexes; and delta-encoded integers, as used in version 2 of its pages.
//!
//! <https://github.com/apache/parquet-format/blob/master/Encodings.md>

use crate::bits::{decode_zigzag, read_lsb_first, read_varint};
use crate::value::{ColumnarError, ColumnarResult, damaged};

/// Decodes integers of one bit width between two offsets of a page. Runs are decoded as they are read, so a false
/// length costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ParquetHybridDecoder {
    width: u32,
    at: usize,
    end: usize,
    remaining: u64,
    run: ParquetHybridRun,
}

#[derive(Clone, Copy, Debug)]
enum ParquetHybridRun {
    Repeated(u64),
    /// The bit at which the next integer starts.
    Packed(usize),
}

impl Default for ParquetHybridRun {
    fn default() -> Self {
        Self::Repeated(0)
    }
}

impl ParquetHybridDecoder {
    /// Creates a decoder for integers of `width` bits, at most 32, from offset `at` to offset `end`.
    pub(super) fn new(width: u32, at: usize, end: usize) -> ColumnarResult<Self> {
        if width > 32 {
            return damaged(format!("a page has the invalid bit width {width}"));
        }
        Ok(Self { width, at, end, ..Self::default() })
    }

    pub(super) fn next(&mut self, page: &[u8]) -> ColumnarResult<u64> {
        while self.remaining == 0 {
            self.start_run(page.get(..self.end).unwrap_or(page))?;
        }
        self.remaining -= 1;
        match &mut self.run {
            ParquetHybridRun::Repeated(number) => Ok(*number),
            ParquetHybridRun::Packed(bit) => {
                let number = read_lsb_first(page.get(..self.end).unwrap_or(page), *bit, self.width);
                *bit += self.width as usize;
                number.ok_or_else(page_cut_off)
            }
        }
    }

    fn start_run(&mut self, bytes: &[u8]) -> ColumnarResult<()> {
        let (header, at) = read_varint(bytes, self.at).ok_or_else(page_cut_off)?;
        let width = self.width as usize;
        if header & 1 == 0 {
            let number = bytes.get(at..at + width.div_ceil(8)).ok_or_else(page_cut_off)?;
            let number = number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            self.at = at + width.div_ceil(8);
            (self.remaining, self.run) = (header >> 1, ParquetHybridRun::Repeated(number));
            return Ok(());
        }
        // The last run of a page may have less padding than its groups of eight need.
        self.remaining = (header >> 1).saturating_mul(8);
        self.run = ParquetHybridRun::Packed(at.saturating_mul(8));
        let bytes_of = usize::try_from(header >> 1).ok().and_then(|groups| groups.checked_mul(width));
        self.at = bytes_of.and_then(|bytes| at.checked_add(bytes)).unwrap_or(usize::MAX);
        Ok(())
    }
}

/// The most values in a block. Writers make blocks of 128 values.
const MAX_BLOCK: u64 = 1 << 20;

/// Decodes the integers that start at some offset of a page.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ParquetDeltaDecoder {
    /// The offset after the block header or miniblock that was started last.
    at: usize,
    /// The number of values left.
    remaining: u64,
    value: i64,
    is_first: bool,
    /// The number of miniblocks in a block, and of values in a miniblock.
    miniblocks: usize,
    miniblock_values: usize,
    min_delta: i64,
    /// The offset of the bit widths of this block's miniblocks, and the index of the next miniblock.
    widths_at: usize,
    miniblock: usize,
    /// The current miniblock: its offset, its bit width, and the index of its next value.
    miniblock_at: usize,
    width: u32,
    value_index: usize,
}

impl ParquetDeltaDecoder {
    /// Reads the header.
    pub(super) fn new(page: &[u8], at: usize) -> ColumnarResult<Self> {
        let mut place = at;
        let mut next = || {
            let (number, behind) = read_varint(page, place).ok_or_else(page_cut_off)?;
            place = behind;
            Ok(number)
        };
        let (block, minis, left, value) = (next()?, next()?, next()?, next()?);
        if block == 0 || block > MAX_BLOCK || minis == 0 || block % minis != 0 || (block / minis) % 8 != 0 {
            return damaged(format!("a page has invalid blocks: {block} values in {minis} miniblocks"));
        }
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let (minis, values) = (size(minis), size(block / minis));
        let start = Self {
            at: place,
            remaining: left,
            value: decode_zigzag(value),
            is_first: true,
            miniblocks: minis,
            miniblock_values: values,
            ..Self::default()
        };
        Ok(Self { miniblock: minis, value_index: values, ..start })
    }

    pub(super) fn remaining(&self) -> u64 {
        self.remaining
    }

    pub(super) fn next(&mut self, page: &[u8]) -> ColumnarResult<i64> {
        let Some(left) = self.remaining.checked_sub(1) else { return Err(page_cut_off()) };
        self.remaining = left;
        if self.is_first {
            self.is_first = false;
            return Ok(self.value);
        }
        if self.value_index == self.miniblock_values {
            self.start_miniblock(page)?;
        }
        let bit =
            self.miniblock_at.checked_mul(8).and_then(|bit| bit.checked_add(self.value_index * self.width as usize));
        let delta = bit.and_then(|bit| read_lsb_first(page, bit, self.width)).ok_or_else(page_cut_off)?;
        self.value_index += 1;
        self.value = self.value.wrapping_add(self.min_delta).wrapping_add(delta.cast_signed());
        Ok(self.value)
    }

    /// Starts the next miniblock, and the next block if all miniblocks of this one were read.
    fn start_miniblock(&mut self, page: &[u8]) -> ColumnarResult<()> {
        if self.miniblock == self.miniblocks {
            let (least, at) = read_varint(page, self.at).ok_or_else(page_cut_off)?;
            (self.min_delta, self.widths_at, self.miniblock) = (decode_zigzag(least), at, 0);
            self.at = at.saturating_add(self.miniblocks);
        }
        let width = u32::from(*page.get(self.widths_at.saturating_add(self.miniblock)).ok_or_else(page_cut_off)?);
        if width > 64 {
            return damaged(format!("a page has the invalid bit width {width}"));
        }
        (self.miniblock_at, self.width, self.value_index) = (self.at, width, 0);
        self.at = self.at.saturating_add(self.miniblock_values / 8 * width as usize);
        self.miniblock += 1;
        Ok(())
    }

    /// Returns the offset after all of the integers, by reading through them.
    pub(super) fn end_offset(mut self, page: &[u8]) -> ColumnarResult<usize> {
        while self.remaining > 0 {
            // Skip a miniblock in one step. Integers of zero bits take no bytes, so a false count must not cost time.
            if self.value_index < self.miniblock_values && !self.is_first {
                let here =
                    u64::try_from(self.miniblock_values - self.value_index).unwrap_or(u64::MAX).min(self.remaining);
                self.value_index += usize::try_from(here).unwrap_or(usize::MAX);
                self.remaining -= here;
                continue;
            }
            self.next(page)?;
        }
        if self.at > page.len() { Err(page_cut_off()) } else { Ok(self.at) }
    }
}

/// The error of a page that is too short.
pub(super) fn page_cut_off() -> ColumnarError {
    ColumnarError::Damaged("a page ends before its last value".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_kinds_of_run_are_read() {
        // Four times 5, then eight packed numbers of three bits, 0 to 7.
        let page = [0x08, 0x05, 0x03, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        let mut hybrid = ParquetHybridDecoder::new(3, 0, page.len()).unwrap();
        let numbers: Vec<u64> = (0..12).map(|_| hybrid.next(&page).unwrap()).collect();
        assert_eq!(numbers, [5, 5, 5, 5, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(hybrid.next(&page).is_err());
    }

    #[test]
    fn numbers_without_bits_are_nothing_but_their_count() {
        let page = [0xfe, 0xff, 0xff, 0xff, 0x0f];
        let mut hybrid = ParquetHybridDecoder::new(0, 0, page.len()).unwrap();
        assert_eq!(hybrid.next(&page).unwrap(), 0);
        assert!(ParquetHybridDecoder::new(33, 0, 0).is_err());
    }

    proptest! {
        #[test]
        fn junk_runs_are_no_panic(page: Vec<u8>, width in 0_u32..=32, at in 0_usize..20, end in 0_usize..40) {
            let mut hybrid = ParquetHybridDecoder::new(width, at, end).unwrap();
            for _ in 0..1000 {
                if hybrid.next(&page).is_err() {
                    break;
                }
            }
        }
    }

    /// From the documentation of the format: 1 to 5, then 7, 5, 3, 1, 2, 3, 4, 5, in blocks of one miniblock of 8
    /// values.
    #[test]
    fn numbers_are_summed_up() {
        // Four differences of 1, padded to eight, take no bits at all.
        let page = [0x08, 0x01, 0x05, 0x02, 0x02, 0x00, 0x77];
        let mut delta = ParquetDeltaDecoder::new(&page, 0).unwrap();
        assert_eq!(delta.end_offset(&page).unwrap(), 6);
        let numbers: Vec<i64> = (0..5).map(|_| delta.next(&page).unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        assert!(delta.next(&page).is_err());

        // 7, then the differences -2 -2 -2 1 1 1 1. The smallest is -2, so the stored values are 0 0 0 3 3 3 3, of
        // two bits each.
        let page = [0x08, 0x01, 0x08, 0x0e, 0x03, 0x02, 0b1100_0000, 0b0011_1111];
        let mut delta = ParquetDeltaDecoder::new(&page, 0).unwrap();
        let numbers: Vec<i64> = (0..8).map(|_| delta.next(&page).unwrap()).collect();
        assert_eq!(numbers, [7, 5, 3, 1, 2, 3, 4, 5]);
        assert_eq!(ParquetDeltaDecoder::new(&page, 0).unwrap().end_offset(&page).unwrap(), page.len());
    }

    #[test]
    fn heads_that_cannot_be_are_refused() {
        for page in [&[0x00, 0x01, 0x05, 0x02][..], &[0x08, 0x00, 0x05, 0x02], &[0x08, 0x03, 0x05, 0x02], &[0x08]] {
            assert!(ParquetDeltaDecoder::new(page, 0).is_err(), "{page:?}");
        }
        let wide = [0x08, 0x01, 0x05, 0x02, 0x02, 65, 0, 0, 0];
        let mut delta = ParquetDeltaDecoder::new(&wide, 0).unwrap();
        assert!(delta.next(&wide).is_ok() && delta.next(&wide).is_err());
    }

    proptest! {
        #[test]
        fn junk_is_no_panic(page: Vec<u8>, at in 0_usize..10) {
            if let Ok(mut delta) = ParquetDeltaDecoder::new(&page, at) {
                let _ = delta.end_offset(&page);
                for _ in 0..1000 {
                    if delta.next(&page).is_err() {
                        break;
                    }
                }
            }
        }
    }
}

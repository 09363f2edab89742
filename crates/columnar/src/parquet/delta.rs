//! Decodes delta-encoded integers, as used in version 2 of Parquet's pages.
//!
//! <https://github.com/apache/parquet-format/blob/master/Encodings.md>

use super::page_cut_off;
use crate::bits::{decode_zigzag, read_lsb_first, read_varint};
use crate::{ColumnarResult, damaged};

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

//! Decodes delta-encoded integers, as used in version 2 of Parquet's pages.
//!
//! <https://github.com/apache/parquet-format/blob/master/Encodings.md>

use super::cut_off;
use crate::manifest::inventory::columnar::bits::{least_first, unzigzag, varint};
use crate::manifest::inventory::columnar::{Outcome, damaged};

/// The most values in a block. Writers make blocks of 128 values.
const MAX_BLOCK: u64 = 1 << 20;

/// Decodes the integers that start at some offset of a page.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delta {
    /// The offset after the block header or miniblock that was started last.
    at: usize,
    /// The number of values left.
    left: u64,
    value: i64,
    first: bool,
    /// The number of miniblocks in a block, and of values in a miniblock.
    minis: usize,
    values: usize,
    least: i64,
    /// The offset of the bit widths of this block's miniblocks, and the index of the next miniblock.
    widths: usize,
    mini: usize,
    /// The current miniblock: its offset, its bit width, and the index of its next value.
    begins: usize,
    width: u32,
    value_at: usize,
}

impl Delta {
    /// Reads the header.
    pub(super) fn new(page: &[u8], at: usize) -> Outcome<Self> {
        let mut place = at;
        let mut next = || {
            let (number, behind) = varint(page, place).ok_or_else(cut_off)?;
            place = behind;
            Ok(number)
        };
        let (block, minis, left, value) = (next()?, next()?, next()?, next()?);
        if block == 0 || block > MAX_BLOCK || minis == 0 || block % minis != 0 || (block / minis) % 8 != 0 {
            return damaged(format!("a page has blocks of {block} values in {minis} parts"));
        }
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let (minis, values) = (size(minis), size(block / minis));
        let start = Self { at: place, left, value: unzigzag(value), first: true, minis, values, ..Self::default() };
        Ok(Self { mini: minis, value_at: values, ..start })
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn next(&mut self, page: &[u8]) -> Outcome<i64> {
        let Some(left) = self.left.checked_sub(1) else { return Err(cut_off()) };
        self.left = left;
        if self.first {
            self.first = false;
            return Ok(self.value);
        }
        if self.value_at == self.values {
            self.begin(page)?;
        }
        let bit = self.begins.checked_mul(8).and_then(|bit| bit.checked_add(self.value_at * self.width as usize));
        let delta = bit.and_then(|bit| least_first(page, bit, self.width)).ok_or_else(cut_off)?;
        self.value_at += 1;
        self.value = self.value.wrapping_add(self.least).wrapping_add(delta.cast_signed());
        Ok(self.value)
    }

    /// Starts the next miniblock, and the next block if all miniblocks of this one were read.
    fn begin(&mut self, page: &[u8]) -> Outcome<()> {
        if self.mini == self.minis {
            let (least, at) = varint(page, self.at).ok_or_else(cut_off)?;
            (self.least, self.widths, self.mini) = (unzigzag(least), at, 0);
            self.at = at.saturating_add(self.minis);
        }
        let width = u32::from(*page.get(self.widths.saturating_add(self.mini)).ok_or_else(cut_off)?);
        if width > 64 {
            return damaged(format!("a page packs numbers in {width} bits"));
        }
        (self.begins, self.width, self.value_at) = (self.at, width, 0);
        self.at = self.at.saturating_add(self.values / 8 * width as usize);
        self.mini += 1;
        Ok(())
    }

    /// Returns the offset after all of the integers, by reading through them.
    pub(super) fn end(mut self, page: &[u8]) -> Outcome<usize> {
        while self.left > 0 {
            // Skip a miniblock in one step. Integers of zero bits take no bytes, so a false count must not cost time.
            if self.value_at < self.values && !self.first {
                let here = u64::try_from(self.values - self.value_at).unwrap_or(u64::MAX).min(self.left);
                self.value_at += usize::try_from(here).unwrap_or(usize::MAX);
                self.left -= here;
                continue;
            }
            self.next(page)?;
        }
        if self.at > page.len() { Err(cut_off()) } else { Ok(self.at) }
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
        let mut delta = Delta::new(&page, 0).unwrap();
        assert_eq!(delta.end(&page).unwrap(), 6);
        let numbers: Vec<i64> = (0..5).map(|_| delta.next(&page).unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        assert!(delta.next(&page).is_err());

        // 7, then the differences -2 -2 -2 1 1 1 1. The smallest is -2, so the stored values are 0 0 0 3 3 3 3, of
        // two bits each.
        let page = [0x08, 0x01, 0x08, 0x0e, 0x03, 0x02, 0b1100_0000, 0b0011_1111];
        let mut delta = Delta::new(&page, 0).unwrap();
        let numbers: Vec<i64> = (0..8).map(|_| delta.next(&page).unwrap()).collect();
        assert_eq!(numbers, [7, 5, 3, 1, 2, 3, 4, 5]);
        assert_eq!(Delta::new(&page, 0).unwrap().end(&page).unwrap(), page.len());
    }

    #[test]
    fn heads_that_cannot_be_are_refused() {
        for page in [&[0x00, 0x01, 0x05, 0x02][..], &[0x08, 0x00, 0x05, 0x02], &[0x08, 0x03, 0x05, 0x02], &[0x08]] {
            assert!(Delta::new(page, 0).is_err(), "{page:?}");
        }
        let wide = [0x08, 0x01, 0x05, 0x02, 0x02, 65, 0, 0, 0];
        let mut delta = Delta::new(&wide, 0).unwrap();
        assert!(delta.next(&wide).is_ok() && delta.next(&wide).is_err());
    }

    proptest! {
        #[test]
        fn junk_is_no_panic(page: Vec<u8>, at in 0_usize..10) {
            if let Ok(mut delta) = Delta::new(&page, at) {
                let _ = delta.end(&page);
                for _ in 0..1000 {
                    if delta.next(&page).is_err() {
                        break;
                    }
                }
            }
        }
    }
}

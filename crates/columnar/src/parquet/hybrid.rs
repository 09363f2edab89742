//! Decodes runs of one repeated integer and runs of packed integers. Parquet stores levels, booleans and dictionary
//! indexes in this encoding.

use super::page_cut_off;
use crate::bits::{read_lsb_first, read_varint};
use crate::{ColumnarResult, damaged};

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
        let (head, at) = read_varint(bytes, self.at).ok_or_else(page_cut_off)?;
        let width = self.width as usize;
        if head & 1 == 0 {
            let number = bytes.get(at..at + width.div_ceil(8)).ok_or_else(page_cut_off)?;
            let number = number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            self.at = at + width.div_ceil(8);
            (self.remaining, self.run) = (head >> 1, ParquetHybridRun::Repeated(number));
            return Ok(());
        }
        // The last run of a page may have less padding than its groups of eight need.
        self.remaining = (head >> 1).saturating_mul(8);
        self.run = ParquetHybridRun::Packed(at.saturating_mul(8));
        let bytes_of = usize::try_from(head >> 1).ok().and_then(|groups| groups.checked_mul(width));
        self.at = bytes_of.and_then(|bytes| at.checked_add(bytes)).unwrap_or(usize::MAX);
        Ok(())
    }
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
        fn junk_is_no_panic(page: Vec<u8>, width in 0_u32..=32, at in 0_usize..20, end in 0_usize..40) {
            let mut hybrid = ParquetHybridDecoder::new(width, at, end).unwrap();
            for _ in 0..1000 {
                if hybrid.next(&page).is_err() {
                    break;
                }
            }
        }
    }
}

//! Decodes runs of one repeated integer and runs of packed integers. Parquet stores levels, booleans and dictionary
//! indexes in this encoding.

use super::cut_off;
use crate::manifest::inventory::columnar::bits::{least_first, varint};
use crate::manifest::inventory::columnar::{Outcome, damaged};

/// Decodes integers of one bit width between two offsets of a page. Runs are decoded as they are read, so a false
/// length costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hybrid {
    width: u32,
    at: usize,
    end: usize,
    left: u64,
    run: Run,
}

#[derive(Clone, Copy, Debug)]
enum Run {
    Same(u64),
    /// The bit at which the next integer starts.
    Packed(usize),
}

impl Default for Run {
    fn default() -> Self {
        Self::Same(0)
    }
}

impl Hybrid {
    /// Creates a decoder for integers of `width` bits, at most 32, from offset `at` to offset `end`.
    pub(super) fn new(width: u32, at: usize, end: usize) -> Outcome<Self> {
        if width > 32 {
            return damaged(format!("a page packs numbers in {width} bits"));
        }
        Ok(Self { width, at, end, ..Self::default() })
    }

    pub(super) fn next(&mut self, page: &[u8]) -> Outcome<u64> {
        while self.left == 0 {
            self.begin(page.get(..self.end).unwrap_or(page))?;
        }
        self.left -= 1;
        match &mut self.run {
            Run::Same(number) => Ok(*number),
            Run::Packed(bit) => {
                let number = least_first(page.get(..self.end).unwrap_or(page), *bit, self.width);
                *bit += self.width as usize;
                number.ok_or_else(cut_off)
            }
        }
    }

    fn begin(&mut self, bytes: &[u8]) -> Outcome<()> {
        let (head, at) = varint(bytes, self.at).ok_or_else(cut_off)?;
        let width = self.width as usize;
        if head & 1 == 0 {
            let number = bytes.get(at..at + width.div_ceil(8)).ok_or_else(cut_off)?;
            let number = number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            self.at = at + width.div_ceil(8);
            (self.left, self.run) = (head >> 1, Run::Same(number));
            return Ok(());
        }
        // The last run of a page may have less padding than its groups of eight need.
        self.left = (head >> 1).saturating_mul(8);
        self.run = Run::Packed(at.saturating_mul(8));
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
        let mut hybrid = Hybrid::new(3, 0, page.len()).unwrap();
        let numbers: Vec<u64> = (0..12).map(|_| hybrid.next(&page).unwrap()).collect();
        assert_eq!(numbers, [5, 5, 5, 5, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(hybrid.next(&page).is_err());
    }

    #[test]
    fn numbers_without_bits_are_nothing_but_their_count() {
        let page = [0xfe, 0xff, 0xff, 0xff, 0x0f];
        let mut hybrid = Hybrid::new(0, 0, page.len()).unwrap();
        assert_eq!(hybrid.next(&page).unwrap(), 0);
        assert!(Hybrid::new(33, 0, 0).is_err());
    }

    proptest! {
        #[test]
        fn junk_is_no_panic(page: Vec<u8>, width in 0_u32..=32, at in 0_usize..20, end in 0_usize..40) {
            let mut hybrid = Hybrid::new(width, at, end).unwrap();
            for _ in 0..1000 {
                if hybrid.next(&page).is_err() {
                    break;
                }
            }
        }
    }
}

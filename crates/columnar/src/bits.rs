//! Reads integers of any bit width, in either bit order.

/// Reads the integer of `width` bits, at most 64, that starts at bit `bit`, with the least significant bit first, as
/// Parquet packs integers. Returns `None` if the bytes end too early.
pub(crate) fn read_lsb_first(bytes: &[u8], bit: usize, width: u32) -> Option<u64> {
    if width == 0 {
        return Some(0);
    }
    let (first, shift) = (bit / 8, bit % 8);
    let end = bit.checked_add(usize::try_from(width).ok()?)?.div_ceil(8);
    let window = bytes.get(first..end)?;
    let mut number = 0_u128;
    for (place, byte) in window.iter().enumerate() {
        number |= u128::from(*byte) << (8 * place);
    }
    let number = (number >> shift) & mask(width);
    u64::try_from(number).ok()
}

/// Reads the integer of `width` bits, at most 64, that starts at bit `bit`, with the most significant bit first, as
/// ORC packs integers. Returns `None` if the bytes end too early.
pub(crate) fn read_msb_first(bytes: &[u8], bit: usize, width: u32) -> Option<u64> {
    if width == 0 {
        return Some(0);
    }
    let end = bit.checked_add(usize::try_from(width).ok()?)?;
    let window = bytes.get(bit / 8..end.div_ceil(8))?;
    let number = window.iter().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
    let behind = window.len() * 8 - (end - bit / 8 * 8);
    u64::try_from((number >> behind) & mask(width)).ok()
}

fn mask(width: u32) -> u128 {
    u128::MAX >> (128 - width.clamp(1, 64))
}

/// Decodes a zigzag-encoded signed integer.
pub(crate) fn decode_zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

/// Reads a variable-length integer at offset `at`: groups of seven bits, the least significant group first. Returns
/// the integer and the offset after it, or `None` if the bytes end too early, or if it has more than ten
/// groups. Bits beyond the 64th are dropped.
pub(crate) fn read_varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        if shift < 64 {
            number |= u64::from(byte & 0x7f) << shift;
        }
        if byte < 0x80 {
            return Some((number, at));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_are_met() {
        assert_eq!(read_lsb_first(&[0xff; 9], 7, 64), Some(u64::MAX));
        assert_eq!(read_msb_first(&[0xff; 9], 7, 64), Some(u64::MAX));
        assert_eq!(read_lsb_first(&[0xff; 8], 7, 64), None);
        assert_eq!(read_msb_first(&[0xff; 8], 7, 64), None);
        assert_eq!((read_lsb_first(&[], 0, 0), read_msb_first(&[], 9, 0)), (Some(0), Some(0)));
        assert_eq!((read_lsb_first(&[], usize::MAX, 2), read_msb_first(&[], usize::MAX, 2)), (None, None));
        assert_eq!(read_varint(&[0xff; 20], 0), None);
        assert_eq!(read_varint(&[&[0xff; 9][..], &[0x01]].concat(), 0), Some((u64::MAX, 10)));
        assert_eq!(read_varint(&[0x80, 0x80], 0), None);
    }

    proptest! {
        #[test]
        fn numbers_are_found_bit_by_bit(bytes in prop::collection::vec(any::<u8>(), 9..20), bit in 0_usize..8, width in 1_u32..=64) {
            let bits = |most: bool| (bit..bit + width as usize).map(move |at| (at, most));
            let mut least = 0;
            for (place, (at, _)) in bits(false).enumerate() {
                least |= u64::from(bytes[at / 8] >> (at % 8) & 1) << place;
            }
            prop_assert_eq!(read_lsb_first(&bytes, bit, width), Some(least));
            let most = bits(true).fold(0, |sum: u64, (at, _)| sum << 1 | u64::from(bytes[at / 8] >> (7 - at % 8) & 1));
            prop_assert_eq!(read_msb_first(&bytes, bit, width), Some(most));
        }

        #[test]
        fn zigzag_is_undone(number: i64) {
            let zigzag = (number << 1 ^ number >> 63).cast_unsigned();
            prop_assert_eq!(decode_zigzag(zigzag), number);
        }
    }
}

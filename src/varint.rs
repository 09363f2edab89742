//! LEB128 variable-length integers.

/// Appends a number.
pub fn put(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0x7f) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0x7f));
}

/// Decodes a number at `at` and advances `at`. Returns `None` at the end, or if the encoding is invalid.
#[must_use]
pub fn take(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return usize::try_from(value).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip(values: Vec<usize>) {
            let mut bytes = Vec::new();
            for value in &values {
                put(&mut bytes, *value);
            }
            let mut at = 0;
            for value in values {
                prop_assert_eq!(take(&bytes, &mut at), Some(value));
            }
            prop_assert_eq!(take(&bytes, &mut at), None);
        }

        #[test]
        fn junk_is_no_panic(bytes: Vec<u8>) {
            let mut at = 0;
            while take(&bytes, &mut at).is_some() {}
            prop_assert!(at <= bytes.len());
        }
    }

    #[test]
    fn a_number_that_never_ends_is_none() {
        assert_eq!(take(&[0xff; 32], &mut 0), None);
    }
}

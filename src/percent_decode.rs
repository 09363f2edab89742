//! Decodes percent-encoded keys strictly: in manifests, in inventories, and in completion reports.
//!
//! The store crate has two lenient decoders, which keep an invalid escape as it is: `decode_text` in
//! `http_client/list_page.rs` for the texts of listings, and [`ObjectKey::decode`] for keys that this program has
//! encoded itself.
//!
//! [`ObjectKey::decode`]: batchplan_store::object::ObjectKey::decode

use memchr::memchr2;

/// Strictly decodes a key. Callers must not decode the result again.
///
/// Decodes `%XX` to any byte and, if `plus_is_space` is set, `+` to a space. Replaces the content of `out`. Returns
/// whether the input contains a raw `+`, so that the caller can warn that its meaning is not certain.
///
/// # Errors
/// Returns an error if a `%` is not followed by two hexadecimal digits.
pub fn percent_decode_into(encoded: &[u8], plus_is_space: bool, out: &mut Vec<u8>) -> Result<bool, String> {
    out.clear();
    let mut plus = false;
    let mut rest = encoded;
    // Most bytes of a key are not escaped: copy them in runs.
    while let Some(at) = memchr2(b'%', b'+', rest) {
        out.extend_from_slice(&rest[..at]);
        if rest[at] == b'%' {
            out.push(decode_escape(&rest[at..])?);
            rest = &rest[at + 3..];
        } else {
            plus = true;
            out.push(if plus_is_space { b' ' } else { b'+' });
            rest = &rest[at + 1..];
        }
    }
    out.extend_from_slice(rest);
    Ok(plus)
}

/// Decodes the escape at the start of `from`.
fn decode_escape(from: &[u8]) -> Result<u8, String> {
    let digit = |at: usize| from.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let value = digit(1).zip(digit(2)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
    value.ok_or_else(|| {
        let shown = String::from_utf8_lossy(&from[..from.len().min(3)]).escape_debug().to_string();
        format!("`{shown}` is not a valid escape: write a % in a key as %25")
    })
}

#[cfg(test)]
mod tests {
    use batchplan_store::object::ObjectKey;
    use proptest::prelude::*;

    use super::*;

    fn decode(encoded: &str, plus_is_space: bool) -> Result<Vec<u8>, String> {
        let mut out = b"left over".to_vec();
        percent_decode_into(encoded.as_bytes(), plus_is_space, &mut out)?;
        Ok(out)
    }

    #[test]
    fn a_key_is_decoded_once() {
        assert_eq!(decode("a%252Fb", false).unwrap(), b"a%2Fb");
        assert_eq!(decode("%00%ff%C3%a9", false).unwrap(), b"\x00\xff\xc3\xa9");
        assert_eq!(decode("a+b%2B", false).unwrap(), b"a+b+");
        assert_eq!(decode("a+b%2B", true).unwrap(), b"a b+");
        assert_eq!(decode("é//../x?x#y", false).unwrap(), "é//../x?x#y".as_bytes());
    }

    #[test]
    fn a_bad_escape_is_shown() {
        for (encoded, shown) in [("a%zz", "`%zz`"), ("a%", "`%`"), ("a%4", "`%4`"), ("%+1x", "`%+1`"), ("%é", "`%é`")]
        {
            let why = decode(encoded, false).unwrap_err();
            assert!(why.starts_with(shown), "{why}");
        }
    }

    #[test]
    fn raw_plus_is_reported() {
        let mut out = Vec::new();
        assert_eq!(percent_decode_into(b"a+b", false, &mut out), Ok(true));
        assert_eq!(percent_decode_into(b"a%2Bb", false, &mut out), Ok(false));
    }

    proptest! {
        #[test]
        fn every_key_comes_back_from_both_encodings(bytes: Vec<u8>) {
            let key = ObjectKey::new(bytes.clone());
            prop_assert_eq!(decode(&key.encoded(), false), Ok(bytes.clone()));
            prop_assert_eq!(decode(&key.encoded_keeping_slashes(), true), Ok(bytes));
        }
    }
}

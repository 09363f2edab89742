use proptest::prelude::*;

use super::*;
use batchplan_store::object::ObjectKey;

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
    for (encoded, shown) in [("a%zz", "`%zz`"), ("a%", "`%`"), ("a%4", "`%4`"), ("%+1x", "`%+1`"), ("%é", "`%é`")] {
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

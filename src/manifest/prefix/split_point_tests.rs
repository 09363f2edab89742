use proptest::prelude::*;

use super::*;

fn alphabet(keys: &[&str]) -> KeyAlphabet {
    let mut alphabet = KeyAlphabet::new(&ObjectKey::from("p/"));
    for key in keys {
        alphabet.record(&ObjectKey::from(*key));
    }
    alphabet
}

fn cut(keys: &[&str], low: &str, end: Option<&str>, turn: usize, middle_first: bool) -> Option<String> {
    let end = end.map(ObjectKey::from);
    alphabet(keys).split_point(&ObjectKey::from(low), end.as_ref(), turn, middle_first).map(|key| key.to_string())
}

#[test]
fn halves_numeric_ranges() {
    let hashes = ["p/00f3", "p/01ab", "p/a2c4"];
    assert!(cut(&hashes, "p/0000", None, 3, true).unwrap().starts_with("p/8"));
    assert!(cut(&hashes, "p/8000", None, 3, true).unwrap().starts_with("p/c"));
    let dates = ["p/2019/01/01/a"];
    assert!(cut(&dates, "p/2019/01/01/a", Some("p/2021/01/01/a"), 12, true).unwrap().starts_with("p/2020/"));
    // Only the rest of 2019 lies between 2019 and 2020.
    let cut = cut(&dates, "p/2019/01/01/a", Some("p/2020"), 12, true).unwrap();
    assert!(cut.starts_with("p/2019/"), "{cut}");
}

#[test]
fn behind_a_miss_the_directory_is_looked_at() {
    let keys = ["p/logs/2019/a-0001", "p/logs/2019/a-0999"];
    assert_eq!(cut(&keys, keys[1], None, 14, false).unwrap(), "p/logs/21");
    assert_eq!(cut(&keys, keys[1], Some("p/logs/21"), 14, false).unwrap(), "p/logs/20190");
    assert_eq!(key_after(&ObjectKey::from("a~b"), 1), Some(ObjectKey::from("a\u{a0}")));
    assert_eq!(key_after(&ObjectKey::from("a\u{d7ff}b"), 2), Some(ObjectKey::from("a\u{e000}")));
    assert_eq!(key_after(&ObjectKey::from("a\u{10ffff}"), 3), None);
    assert_eq!(key_after(&ObjectKey::from("a"), 1), None);
}

proptest! {
    #[test]
    fn split_point_is_within_bounds_and_utf8(
        keys in proptest::collection::vec("p/([a-c0-9é\u{1f600}~/-]|\u{7f}){0,12}", 1..20),
        low in "p/([a-c0-9é\u{1f600}~/-]){0,12}",
        end in proptest::option::of("p/([a-c0-9é\u{1f600}~/-]){0,12}"),
        turn in 0_usize..16,
        middle_first in any::<bool>(),
    ) {
        let mut alphabet = KeyAlphabet::new(&ObjectKey::from("p/"));
        for key in &keys {
            alphabet.record(&ObjectKey::from(key.as_str()));
        }
        let (low, end) = (ObjectKey::from(low.as_str()), end.map(|end| ObjectKey::from(end.as_str())));
        if let Some(cut) = alphabet.split_point(&low, end.as_ref(), turn, middle_first) {
            prop_assert!(cut > low && end.is_none_or(|end| cut < end));
            prop_assert!(cut.as_str().is_ok_and(|text| text.starts_with("p/")));
        }
    }
}

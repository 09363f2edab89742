use proptest::prelude::*;

use super::*;
use crate::manifest::frozen::tests::{PartLimits, freeze};

fn object(bucket: &str, key: &[u8], version: Option<&str>) -> ObjectId {
    ObjectId { bucket: BucketName::new(bucket), key: ObjectKey::new(key), version: version.map(VersionId::new) }
}

/// Objects with many of the bytes that the encoding uses itself.
fn any_object() -> impl Strategy<Value = ObjectId> {
    let byte = prop_oneof![Just(0_u8), Just(1), Just(2), Just(255), any::<u8>()];
    let version = proptest::option::of("[\0\u{1}a\u{ff}]{0,3}");
    ("[\0\u{1}ab]{0,3}", proptest::collection::vec(byte, 0..6), version)
        .prop_map(|(bucket, key, version)| object(&bucket, &key, version.as_deref()))
}

fn encoded(object: &ObjectId) -> Vec<u8> {
    let mut name = b"left over".to_vec();
    encode_name(object, &mut name);
    name
}

proptest! {
    #[test]
    fn names_round_trip(object in any_object()) {
        prop_assert_eq!(decode_name(&encoded(&object)), object);
    }

    #[test]
    fn the_bytes_are_in_the_order_of_the_names(a in any_object(), b in any_object()) {
        prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.cmp(&b));
    }

    #[test]
    fn junk_is_no_panic(name in proptest::collection::vec(0_u8..3, 0..20)) {
        let _ = decode_name(&name);
    }
}

const LIMITS: PartLimits = PartLimits::new(3, 7);
const ROOM: SortBudget = SortBudget { bytes: 64, runs: 2 };

fn all(rows: &[(&str, &[u8], Option<&str>)], scratch: &Path) -> Result<Vec<ObjectId>, ManifestError> {
    let (_folder, frozen) = freeze(rows, LIMITS);
    let mut names = SortedNames::new(&frozen, scratch, ROOM, &CancellationToken::new())?;
    let mut found = Vec::new();
    while names.advance()? {
        found.push(names.object());
    }
    Ok(found)
}

#[test]
fn sorted_rows_are_read_in_place() {
    let nowhere = Path::new("no/such/folder");
    let rows: [(&str, &[u8], Option<&str>); 9] = [
        ("a", b"z", None),
        ("b", b"", None),
        ("b", b"k", None),
        ("b", b"k", None),
        ("b", b"k", Some("")),
        ("b", b"k", Some("1")),
        ("b", b"k", Some("1")),
        ("b", b"k\0", None),
        ("b", b"\xff", None),
    ];
    let found = all(&rows, nowhere).unwrap();
    let mut expected: Vec<_> = rows.iter().map(|(bucket, key, version)| object(bucket, key, *version)).collect();
    expected.dedup();
    assert_eq!(found, expected);
    assert!(all(&[], nowhere).unwrap().is_empty());
}

#[test]
fn one_unsorted_row_sorts_all_rows() {
    let scratch = tempfile::tempdir().unwrap();
    let keys: Vec<String> = (0..30).map(|row| format!("key/{row:03}")).collect();
    let mut rows: Vec<_> = keys.iter().map(|key| ("b", key.as_bytes(), None)).collect();
    rows.push(("b", b"key/015", None));
    let found = all(&rows, scratch.path()).unwrap();
    assert_eq!(found, keys.iter().map(|key| object("b", key.as_bytes(), None)).collect::<Vec<_>>());
    let error = all(&rows, Path::new("no/such/folder")).unwrap_err();
    assert!(matches!(error, ManifestError::Disk { .. }), "{error}");
}

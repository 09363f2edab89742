use proptest::prelude::*;

use super::*;

type Name = (String, Vec<u8>, Option<String>, Option<String>, Option<RowOrigin>);

const ALL: OptionalColumns = OptionalColumns { unlistable: true, origins: true };
const NONE: OptionalColumns = OptionalColumns { unlistable: false, origins: false };

fn name() -> impl Strategy<Value = Name> {
    let bucket = prop_oneof![Just("alpha".to_owned()), "[a-z.-]{0,20}"];
    let key = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        "dir/[ab]{1,9}".prop_map(String::into_bytes),
        Just(vec![b'k'; MAX_KEY_BYTES]),
    ];
    let version = prop_oneof![Just(None), Just(Some("null".to_owned())), "\\PC{0,20}".prop_map(Some)];
    let reason = prop_oneof![4 => Just(None), 1 => "the key is (empty|too long)|\\PC{0,20}".prop_map(Some)];
    let id = (0_u32..3, any::<u32>()).prop_map(|(part, row)| TaskId { part, row });
    let origin = (id.clone(), prop::option::of(id)).prop_map(|(row, made_by)| RowOrigin { row, made_by });
    (bucket, key, version, reason, prop::option::of(origin))
}

proptest! {
    #[test]
    fn rows_round_trip(names in proptest::collection::vec(name(), 0..60)) {
        let mut writer = RowBlockWriter::default();
        for (bucket, key, version, reason, origin) in &names {
            prop_assert!(writer.has_room());
            writer.push(bucket, key, version.as_deref(), (reason.as_deref(), *origin));
        }
        let mut raw = Vec::new();
        writer.drain_into(&mut raw);
        let mut reader = RowBlockReader::new(raw, names.len(), ALL).unwrap();
        for (bucket, key, version, reason, origin) in &names {
            prop_assert!(reader.advance().unwrap());
            let PartRow { object, unlistable, origin: found } = reader.current_row().unwrap();
            prop_assert_eq!((unlistable.as_deref(), found), (reason.as_deref(), *origin));
            prop_assert_eq!(object.bucket.as_str(), bucket);
            prop_assert_eq!(object.key.as_bytes(), key.as_slice());
            prop_assert_eq!(object.version.as_ref().map(VersionId::as_str), version.as_deref());
        }
        prop_assert!(!reader.advance().unwrap());
    }

    #[test]
    fn junk_is_an_error_and_no_panic(
        raw in proptest::collection::vec(any::<u8>(), 0..200), rows in 0_usize..80, all in any::<bool>(),
    ) {
        let Ok(mut reader) = RowBlockReader::new(raw, rows, if all { ALL } else { NONE }) else { return Ok(()) };
        while let Ok(true) = reader.advance() {
            let _ = reader.current_row();
        }
    }
}

/// The columns of format version 1, byte by byte.
#[test]
fn the_columns_are_pinned() {
    let mut writer = RowBlockWriter::default();
    writer.push("alpha", b"a/1", None, (None, None));
    writer.push("alpha", b"a/2", Some("v1"), (None, None));
    writer.push("beta", b"a/2\xff", Some("v1"), (None, None));
    writer.push("beta", b"", Some("v2"), (None, None));
    let mut raw = Vec::new();
    writer.drain_into(&mut raw);
    let lengths = [5, 0, 3, 2, 1, 0, 2, 4, 3, 1, 0, 0, 1, 1];
    let expected = [&[14, 0, 0, 0, 0b001, 0b100, 0b011, 0b100][..], &lengths, b"alphaa/12v1beta\xff2"].concat();
    assert_eq!(raw, expected);
}

#[test]
fn a_key_cannot_grow_without_bound() {
    let mut writer = RowBlockWriter::default();
    let long = vec![b'k'; MAX_KEY_BYTES + 1];
    writer.push("b", &long, None, (None, None));
    let mut raw = Vec::new();
    writer.drain_into(&mut raw);
    let mut reader = RowBlockReader::new(raw, 1, ALL).unwrap();
    assert_eq!(reader.advance(), Err("a key or version ID is too long"));
}

#[test]
fn a_block_is_bounded_in_bytes() {
    let mut writer = RowBlockWriter::default();
    let mut row = 0_u32;
    while writer.has_room() {
        let mut key = vec![b'k'; MAX_KEY_BYTES];
        key[..4].copy_from_slice(&row.to_be_bytes());
        writer.push("b", &key, Some(&format!("{row:0>1024}")), (None, None));
        row = row.wrapping_add(0x0101_0101);
    }
    let mut raw = Vec::new();
    writer.drain_into(&mut raw);
    assert!(raw.len() <= MAX_BLOCK_BYTES && raw.len() > MAX_BLOCK_BYTES / 2, "{}", raw.len());
}

/// The columns of format version 2, byte by byte.
#[test]
fn the_columns_of_unlistable_rows_are_pinned() {
    let mut writer = RowBlockWriter::default();
    writer.push("b", b"a", None, (Some("no"), None));
    writer.push("b", b"a", None, (None, None));
    writer.push("b", b"", Some("v"), (Some("not"), None));
    let mut raw = Vec::new();
    writer.drain_into(&mut raw);
    let lengths = [1, 0, 1, 0, 2, 1, 0, 0, 0, 0, 1, 2, 1];
    let expected = [&[13, 0, 0, 0, 0b1001, 0b0000, 0b1100][..], &lengths, b"banovt"].concat();
    assert_eq!(raw, expected);
    let mut before = RowBlockReader::new(raw, 3, NONE).unwrap();
    assert_eq!(before.advance(), Err("a row has invalid flags"), "format 1 has no such rows");
}

#[test]
fn an_unlistable_key_may_be_longer_and_the_next_one_not() {
    let long = vec![b'k'; MAX_LISTED_KEY_BYTES];
    for (key, length) in [(&long[..], MAX_LISTED_KEY_BYTES), (&long[..MAX_KEY_BYTES], MAX_KEY_BYTES)] {
        let mut writer = RowBlockWriter::default();
        writer.push("b", &long, None, (Some("too long"), None));
        writer.push("b", key, None, (None, None));
        let mut raw = Vec::new();
        writer.drain_into(&mut raw);
        let mut reader = RowBlockReader::new(raw, 2, ALL).unwrap();
        assert_eq!(reader.advance(), Ok(true));
        assert_eq!(reader.current_row().unwrap().object.key.as_bytes(), long);
        let fits = length <= MAX_KEY_BYTES;
        assert_eq!(reader.advance(), if fits { Ok(true) } else { Err("a key or version ID is too long") });
    }
}

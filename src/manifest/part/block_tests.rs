use proptest::prelude::*;

use super::*;

type Name = (String, Vec<u8>, Option<String>);

fn name() -> impl Strategy<Value = Name> {
    let bucket = prop_oneof![Just("alpha".to_owned()), "[a-z.-]{0,20}"];
    let key = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        "dir/[ab]{1,9}".prop_map(String::into_bytes),
        Just(vec![b'k'; MAX_KEY_BYTES]),
    ];
    let version = prop_oneof![Just(None), Just(Some("null".to_owned())), "\\PC{0,20}".prop_map(Some)];
    (bucket, key, version)
}

proptest! {
    #[test]
    fn rows_round_trip(names in proptest::collection::vec(name(), 0..60)) {
        let mut writer = RowBlockWriter::default();
        for (bucket, key, version) in &names {
            prop_assert!(writer.has_room());
            writer.push(bucket, key, version.as_deref());
        }
        let mut raw = Vec::new();
        writer.drain_into(&mut raw);
        let mut reader = RowBlockReader::new(raw, names.len()).unwrap();
        for (bucket, key, version) in &names {
            prop_assert!(reader.advance().unwrap());
            let object = reader.object().unwrap();
            prop_assert_eq!(object.bucket.as_str(), bucket);
            prop_assert_eq!(object.key.as_bytes(), key.as_slice());
            prop_assert_eq!(object.version.as_ref().map(VersionId::as_str), version.as_deref());
        }
        prop_assert!(!reader.advance().unwrap());
    }

    #[test]
    fn junk_is_an_error_and_no_panic(raw in proptest::collection::vec(any::<u8>(), 0..200), rows in 0_usize..80) {
        let Ok(mut reader) = RowBlockReader::new(raw, rows) else { return Ok(()) };
        while let Ok(true) = reader.advance() {
            let _ = reader.object();
        }
    }
}

/// The columns of format version 1, byte by byte.
#[test]
fn the_columns_are_pinned() {
    let mut writer = RowBlockWriter::default();
    writer.push("alpha", b"a/1", None);
    writer.push("alpha", b"a/2", Some("v1"));
    writer.push("beta", b"a/2\xff", Some("v1"));
    writer.push("beta", b"", Some("v2"));
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
    writer.push("b", &long, None);
    let mut raw = Vec::new();
    writer.drain_into(&mut raw);
    let mut reader = RowBlockReader::new(raw, 1).unwrap();
    assert_eq!(reader.advance(), Err("a key or version id is too long"));
}

#[test]
fn a_block_is_bounded_in_bytes() {
    let mut writer = RowBlockWriter::default();
    let mut row = 0_u32;
    while writer.has_room() {
        let mut key = vec![b'k'; MAX_KEY_BYTES];
        key[..4].copy_from_slice(&row.to_be_bytes());
        writer.push("b", &key, Some(&format!("{row:0>1024}")));
        row = row.wrapping_add(0x0101_0101);
    }
    let mut raw = Vec::new();
    writer.drain_into(&mut raw);
    assert!(raw.len() <= MAX_BLOCK_BYTES && raw.len() > MAX_BLOCK_BYTES / 2, "{}", raw.len());
}

#[test]
fn headers_come_back() {
    for header in [BlockHeader::Block { rows: 1, raw: 2, packed: 3, crc: 4 }, BlockHeader::End { rows: 9 }] {
        assert_eq!(BlockHeader::parse(&header.to_bytes()), Ok(header));
    }
}

#[test]
fn wild_lengths_are_refused_before_anything_is_allocated() {
    let limit = u32::try_from(MAX_BLOCK_BYTES).unwrap();
    assert_eq!(BlockHeader::parse(&with_checksum([65_537, 1, 1, 0])), Err("a block has too many rows"));
    assert_eq!(BlockHeader::parse(&with_checksum([1, limit + 1, 1, 0])), Err("a block is too long"));
    assert_eq!(BlockHeader::parse(&with_checksum([1, 1, u32::MAX, 0])), Err("a compressed block is too long"));
    assert_eq!(BlockHeader::parse(&with_checksum([0, 1, 1, 0])), Err("a block has no rows"));
    let mut torn = with_checksum([1, 1, 1, 0]);
    torn[0] ^= 1;
    assert_eq!(BlockHeader::parse(&torn), Err("a block's header fails its checksum"));
}

#[test]
fn a_block_inflates_to_its_length_or_not_at_all() {
    let raw = b"abcabcabcabcabcabc";
    let mut out = Vec::new();
    BlockCompressor::new().compress(1, raw, &mut out).unwrap();
    let packed = &out[HEADER_BYTES..];
    let crc = crc32fast::hash(packed);
    let (mut unpacker, mut back) = (BlockDecompressor::new(), Vec::new());
    assert_eq!(unpacker.decompress(packed, crc, raw.len(), &mut back), Ok(()));
    assert_eq!(back, raw);
    for length in [0, raw.len() - 1, raw.len() + 1] {
        assert!(unpacker.decompress(packed, crc, length, &mut back).is_err(), "{length}");
    }
    assert_eq!(unpacker.decompress(packed, crc ^ 1, raw.len(), &mut back), Err("a block fails its checksum"));
}

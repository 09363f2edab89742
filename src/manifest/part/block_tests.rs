use super::*;

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

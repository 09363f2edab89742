//! Headers, checksums and compression of blocks.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{HEADER_BYTES, MAGIC, MAX_BLOCK_BYTES, MAX_BLOCK_ROWS, MAX_PACKED_BYTES, VERSION};

/// The compression level. Level 6 makes the whole freeze 50 % slower, and the parts only 4 % smaller.
const LEVEL: u32 = 3;

/// A block header, or the end mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockHeader {
    Block {
        /// The number of rows.
        rows: usize,
        /// The uncompressed size in bytes.
        raw: usize,
        /// The compressed size in bytes.
        packed: usize,
        /// The CRC-32 of the compressed bytes.
        crc: u32,
    },
    /// The end mark.
    End {
        /// The number of rows of all blocks.
        rows: u32,
    },
}

impl BlockHeader {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let four = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        match self {
            Self::Block { rows, raw, packed, crc } => with_checksum([four(rows), four(raw), four(packed), crc]),
            Self::End { rows } => with_checksum([0, rows, 0, 0]),
        }
    }

    /// Parses a header. Rejects lengths that no writer produces, before anything is allocated for them.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        let [rows, raw, packed, crc] = verify_checksum(bytes).ok_or("a block's header fails its checksum")?;
        if rows == 0 {
            return if packed == 0 && crc == 0 { Ok(Self::End { rows: raw }) } else { Err("a block has no rows") };
        }
        let bounded = |value: u32, limit: usize| usize::try_from(value).ok().filter(|value| *value <= limit);
        let rows = bounded(rows, MAX_BLOCK_ROWS).ok_or("a block has too many rows")?;
        let raw = bounded(raw, MAX_BLOCK_BYTES).ok_or("a block is too long")?;
        let packed = bounded(packed, MAX_PACKED_BYTES).ok_or("a compressed block is too long")?;
        Ok(Self::Block { rows, raw, packed, crc })
    }
}

/// Returns the file header of a part.
pub(super) fn file_header(part: u32) -> [u8; HEADER_BYTES] {
    let [a, b] = [&MAGIC[..4], &MAGIC[4..]].map(|half| u32::from_le_bytes([half[0], half[1], half[2], half[3]]));
    with_checksum([a, b, VERSION, part])
}

/// Checks the file header of a part.
pub(super) fn check_file_header(bytes: &[u8; HEADER_BYTES], part: u32) -> Result<(), String> {
    if !bytes.starts_with(&MAGIC) {
        return Err("it is not a manifest part".to_owned());
    }
    let [_, _, version, number] = verify_checksum(bytes).ok_or("its header fails its checksum")?;
    if version != VERSION {
        return Err(format!("its format version is {version}, but this version of batchplan reads only {VERSION}"));
    }
    if number != part {
        return Err(format!("its header says part {number}, not part {part}"));
    }
    Ok(())
}

fn with_checksum(words: [u32; 4]) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    for (word, place) in words.iter().zip(bytes.chunks_exact_mut(4)) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn verify_checksum(bytes: &[u8; HEADER_BYTES]) -> Option<[u32; 4]> {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    (crc32fast::hash(&bytes[..16]) == word(16)).then(|| [word(0), word(4), word(8), word(12)])
}

/// Compresses blocks, reusing its state.
pub(super) struct BlockCompressor(Compress);

impl BlockCompressor {
    pub(super) fn new() -> Self {
        Self(Compress::new(Compression::new(LEVEL), false))
    }

    /// Appends a whole block to `out`, including its header.
    pub(super) fn compress(&mut self, rows: usize, raw: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        out.reserve(MAX_PACKED_BYTES.min(raw.len() + raw.len() / 4 + 64));
        self.0.reset();
        match self.0.compress_vec(raw, out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => {}
            Ok(_) | Err(_) => return Err("compression did not finish"),
        }
        let packed = &out[start + HEADER_BYTES..];
        let header = BlockHeader::Block { rows, raw: raw.len(), packed: packed.len(), crc: crc32fast::hash(packed) };
        out[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
        Ok(())
    }
}

/// Decompresses blocks, reusing its state.
pub(super) struct BlockDecompressor(Decompress);

impl BlockDecompressor {
    pub(super) fn new() -> Self {
        Self(Decompress::new(false))
    }

    /// Decompresses a block to `length` bytes, the length in its header, and never more.
    pub(super) fn decompress(
        &mut self,
        packed: &[u8],
        crc: u32,
        length: usize,
        raw: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        if crc32fast::hash(packed) != crc {
            return Err("a block fails its checksum");
        }
        self.0.reset(false);
        raw.clear();
        raw.resize(length, 0);
        let end = self.0.decompress(packed, raw, FlushDecompress::Finish);
        let whole = self.0.total_out() == as_u64(length) && self.0.total_in() == as_u64(packed.len());
        match end {
            Ok(Status::StreamEnd) if whole => Ok(()),
            Ok(_) | Err(_) => Err("a block does not decompress to its recorded length"),
        }
    }
}

fn as_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
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
}

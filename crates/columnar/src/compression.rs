//! Decompresses blocks whose size is known or limited in advance.

use std::io::Read as _;

use flate2::read::{DeflateDecoder, MultiGzDecoder};

use crate::value::{ColumnarError, ColumnarResult, damaged};

/// How a block is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockCompression {
    None,
    /// Raw deflate, without a header.
    Deflate,
    Gzip,
    Snappy,
}

/// Decompresses a block into `into`. Returns an error if it is larger than `limit` bytes.
pub(crate) fn decompress(
    packing: BlockCompression,
    packed: &[u8],
    limit: usize,
    into: &mut Vec<u8>,
) -> ColumnarResult<()> {
    into.clear();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let inflated = match packing {
        BlockCompression::None => packed.take(bound).read_to_end(into).map(|_| ()),
        BlockCompression::Deflate => DeflateDecoder::new(packed).take(bound).read_to_end(into).map(|_| ()),
        BlockCompression::Gzip => MultiGzDecoder::new(packed).take(bound).read_to_end(into).map(|_| ()),
        BlockCompression::Snappy => return decompress_snappy(packed, limit, into),
    };
    match inflated {
        Ok(()) if into.len() <= limit => Ok(()),
        Ok(()) => too_large(limit),
        Err(cause) => damaged(format!("a compressed block is damaged: {cause}")),
    }
}

fn decompress_snappy(packed: &[u8], limit: usize, into: &mut Vec<u8>) -> ColumnarResult<()> {
    let broken = |cause: snap::Error| ColumnarError::Damaged(format!("a compressed block is damaged: {cause}"));
    let size = snap::raw::decompress_len(packed).map_err(broken)?;
    if size > limit {
        return too_large(limit);
    }
    into.resize(size, 0);
    let written = snap::raw::Decoder::new().decompress(packed, into).map_err(broken)?;
    into.truncate(written);
    Ok(())
}

fn too_large(limit: usize) -> ColumnarResult<()> {
    damaged(format!("a compressed block decompresses to more than {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder};

    use super::*;

    fn packed(packing: BlockCompression, text: &[u8]) -> Vec<u8> {
        match packing {
            BlockCompression::None => text.to_vec(),
            BlockCompression::Deflate => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            BlockCompression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            BlockCompression::Snappy => snap::raw::Encoder::new().compress_vec(text).unwrap(),
        }
    }

    const ALL: [BlockCompression; 4] =
        [BlockCompression::None, BlockCompression::Deflate, BlockCompression::Gzip, BlockCompression::Snappy];

    #[test]
    fn blocks_come_back_and_bombs_do_not() {
        let (text, mut into) = (vec![b'x'; 100_000], Vec::new());
        for packing in ALL {
            let packed = packed(packing, &text);
            decompress(packing, &packed, text.len(), &mut into).unwrap();
            assert_eq!(into, text, "{packing:?}");
            let error = decompress(packing, &packed, text.len() - 1, &mut into).unwrap_err();
            assert!(
                matches!(error, ColumnarError::Damaged(what) if what.contains("more than 99999 bytes")),
                "{packing:?}"
            );
            assert!(into.capacity() <= 400_000, "{packing:?}: {}", into.capacity());
        }
    }

    #[test]
    fn a_length_that_lies_takes_no_memory() {
        let mut into = Vec::new();
        // The block claims to hold four gigabytes.
        let error = decompress(BlockCompression::Snappy, b"\xff\xff\xff\xff\x0f\x00", 1 << 20, &mut into).unwrap_err();
        assert!(matches!(error, ColumnarError::Damaged(_)));
        assert_eq!(into.capacity(), 0);
    }

    #[test]
    fn a_block_that_is_cut_off_is_damaged() {
        for packing in [BlockCompression::Deflate, BlockCompression::Gzip, BlockCompression::Snappy] {
            let packed = packed(packing, b"a text that is long enough to be cut off somewhere");
            let error = decompress(packing, &packed[..packed.len() - 9], 1000, &mut Vec::new()).unwrap_err();
            assert!(matches!(error, ColumnarError::Damaged(_)), "{packing:?}");
        }
    }
}

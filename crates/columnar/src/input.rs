//! The bytes of a file: random access to them, with a limit on the memory that readers hold, and the decompression of
//! blocks, whose size is known or limited in advance.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use flate2::read::{DeflateDecoder, MultiGzDecoder};

use crate::value::{ColumnarError, ColumnarResult, damaged, unsupported};

/// The limit, in bytes, on the pages and dictionaries of all columns together. Writers make them 1 MiB large, and a
/// row of an inventory needs at most twelve columns.
const MAX_HELD_BYTES: usize = 160 << 20;

/// The most rows per byte of the file. A run can claim billions of equal rows in a few bytes, and nothing else limits
/// the number of skipped rows. In a real inventory, every row has its own key, which takes bytes.
const MAX_ROWS_PER_BYTE: u64 = 1024;

/// A file with random access, which counts the memory that its readers hold.
pub(crate) struct RandomAccessFile {
    file: File,
    size: u64,
    held_bytes: Cell<usize>,
}

impl RandomAccessFile {
    pub(crate) fn new(file: File) -> ColumnarResult<Self> {
        let size = file.metadata().map_err(ColumnarError::Io)?.len();
        Ok(Self { file, size, held_bytes: Cell::new(0) })
    }

    /// The size of the file in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns an error if the file claims more rows than its size allows.
    pub(crate) fn check_row_count(&self, rows: impl Iterator<Item = u64>) -> ColumnarResult<()> {
        let rows = rows.fold(0, u64::saturating_add);
        if rows > self.size.saturating_mul(MAX_ROWS_PER_BYTE) {
            return damaged(format!("it claims to hold {rows} rows in {} bytes", self.size));
        }
        Ok(())
    }

    /// Reads `bytes` bytes at offset `at`. The caller must limit the number of bytes.
    pub(crate) fn read_at(&self, at: u64, bytes: usize, into: &mut Vec<u8>) -> ColumnarResult<()> {
        let end = u64::try_from(bytes).ok().and_then(|bytes| at.checked_add(bytes));
        if end.is_none_or(|end| end > self.size) {
            return damaged(format!("it points to {bytes} bytes at offset {at}, but has only {} bytes", self.size));
        }
        into.clear();
        into.resize(bytes, 0);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(into)).map_err(ColumnarError::Io)
    }

    /// Counts the `now` bytes that a column holds, instead of the `before` bytes that it held. Returns an error if
    /// all columns together hold more than `MAX_HELD_BYTES` bytes.
    pub(crate) fn update_held_bytes(&self, before: &mut usize, now: usize) -> ColumnarResult<()> {
        let held = self.held_bytes.get().saturating_sub(*before).saturating_add(now);
        if held > MAX_HELD_BYTES {
            return unsupported(format!(
                "its pages and dictionaries need more than {MAX_HELD_BYTES} bytes of memory at once"
            ));
        }
        self.held_bytes.set(held);
        *before = now;
        Ok(())
    }
}

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
    compression: BlockCompression,
    compressed: &[u8],
    limit: usize,
    into: &mut Vec<u8>,
) -> ColumnarResult<()> {
    into.clear();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let inflated = match compression {
        BlockCompression::None => compressed.take(bound).read_to_end(into).map(|_| ()),
        BlockCompression::Deflate => DeflateDecoder::new(compressed).take(bound).read_to_end(into).map(|_| ()),
        BlockCompression::Gzip => MultiGzDecoder::new(compressed).take(bound).read_to_end(into).map(|_| ()),
        BlockCompression::Snappy => return decompress_snappy(compressed, limit, into),
    };
    match inflated {
        Ok(()) if into.len() <= limit => Ok(()),
        Ok(()) => too_large(limit),
        Err(cause) => damaged(format!("a compressed block is damaged: {cause}")),
    }
}

fn decompress_snappy(compressed: &[u8], limit: usize, into: &mut Vec<u8>) -> ColumnarResult<()> {
    let broken = |cause: snap::Error| ColumnarError::Damaged(format!("a compressed block is damaged: {cause}"));
    let size = snap::raw::decompress_len(compressed).map_err(broken)?;
    if size > limit {
        return too_large(limit);
    }
    into.resize(size, 0);
    let written = snap::raw::Decoder::new().decompress(compressed, into).map_err(broken)?;
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

    fn packed(compression: BlockCompression, text: &[u8]) -> Vec<u8> {
        match compression {
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
        for compression in ALL {
            let packed = packed(compression, &text);
            decompress(compression, &packed, text.len(), &mut into).unwrap();
            assert_eq!(into, text, "{compression:?}");
            let error = decompress(compression, &packed, text.len() - 1, &mut into).unwrap_err();
            assert!(
                matches!(error, ColumnarError::Damaged(what) if what.contains("more than 99999 bytes")),
                "{compression:?}"
            );
            assert!(into.capacity() <= 400_000, "{compression:?}: {}", into.capacity());
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
        for compression in [BlockCompression::Deflate, BlockCompression::Gzip, BlockCompression::Snappy] {
            let packed = packed(compression, b"a text that is long enough to be cut off somewhere");
            let error = decompress(compression, &packed[..packed.len() - 9], 1000, &mut Vec::new()).unwrap_err();
            assert!(matches!(error, ColumnarError::Damaged(_)), "{compression:?}");
        }
    }
}

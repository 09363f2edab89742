//! Frozen manifest parts: object names on disk, compressed, checksummed, and readable from any row.
//!
//! # The format, version 1
//!
//! Integers are little-endian; a varint is LEB128, at most ten bytes. A part is a file header, blocks, and an end mark.
//!
//! | bytes | file header |
//! |---|---|
//! | 8 | `89 42 50 4D 0D 0A 1A 0A`: like the signature of PNG, so that a transfer in text mode is detected |
//! | 4 | version: 1 |
//! | 4 | number of the part, from 0 |
//! | 4 | CRC-32 of the 16 bytes before |
//!
//! | bytes | block header |
//! |---|---|
//! | 4 | number of rows, 1 to 65,536 |
//! | 4 | uncompressed size of the rows, at most 1 MiB |
//! | 4 | compressed size of the rows (raw deflate) |
//! | 4 | CRC-32 of the compressed bytes |
//! | 4 | CRC-32 of the 16 bytes before |
//!
//! The end mark is a block header with 0 rows, the number of rows of the whole part, 0 and 0: a part that was cut off
//! between two blocks is not taken for a shorter one. A block does not depend on other blocks, so a reader skips to any
//! row by reading headers only, and decompresses one block.
//!
//! A block stores its rows as columns, because adjacent similar values compress best:
//!
//! 1. `u32`, the size of the varint column;
//! 2. one flag byte per row: bit 0, the bucket differs from the previous row; bits 1 and 2, the version: 0 none, 1 the
//!    last one named in this block, 2 another;
//! 3. varints, row by row: with bit 0, the length of the bucket; the number of bytes that the key shares with the
//!    previous key, and the number of bytes that follow; with version 2, the same for the version;
//! 4. the bytes of those lengths: bucket, rest of the key, rest of the version.
//!
//! Before the first row of a block, the bucket, key and version are empty.

mod block;
mod block_codec;
mod read;
pub(super) mod varint;
mod write;

pub(super) use read::{PartReader, is_intact};
pub(super) use write::{PartLimits, PartTotals, PartitionPartsWriter, WrittenParts, assemble_parts, partition_path};

/// The maximum length of a version id, in bytes.
pub(super) const MAX_VERSION_BYTES: usize = 1024;

/// The maximum length of a bucket name, in bytes: the limit of AWS in its first years.
pub(super) const MAX_BUCKET_BYTES: usize = 255;

/// The maximum number of rows in a block.
const MAX_BLOCK_ROWS: usize = 65_536;

/// The maximum uncompressed size of a block, in bytes.
const MAX_BLOCK_BYTES: usize = 1 << 20;

/// The maximum compressed size of a block, in bytes: deflate can make incompressible data longer, but never by this
/// much.
const MAX_PACKED_BYTES: usize = MAX_BLOCK_BYTES + MAX_BLOCK_BYTES / 4;

/// The size of the file header and of a block header, in bytes.
const HEADER_BYTES: usize = 20;

/// The first bytes of a part.
const MAGIC: [u8; 8] = *b"\x89BPM\r\n\x1a\n";

const VERSION: u32 = 1;

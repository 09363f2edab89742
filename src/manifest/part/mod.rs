//! Frozen manifest parts: the names of objects on disk, small, checked, and readable from any row.
//!
//! # The format, version 1
//!
//! Integers are little-endian; a varint is LEB128, at most ten bytes. A part is a file header, blocks, and an end mark.
//!
//! | bytes | file header |
//! |---|---|
//! | 8 | `89 42 50 4D 0D 0A 1A 0A`: like PNG's, so that a transfer in text mode shows at once |
//! | 4 | version: 1 |
//! | 4 | number of the part, from 0 |
//! | 4 | CRC-32 of the 16 bytes before |
//!
//! | bytes | block header |
//! |---|---|
//! | 4 | rows, 1 to 65,536 |
//! | 4 | bytes of the rows, at most 1 MiB |
//! | 4 | bytes of the rows as stored: raw deflate |
//! | 4 | CRC-32 of the bytes as stored |
//! | 4 | CRC-32 of the 16 bytes before |
//!
//! The end mark is a block header with 0 rows, the number of rows of the whole part, 0 and 0: a part that was cut off
//! between two blocks is not taken for a short one. A block needs no other, so that a reader skips to any row by
//! headers alone and inflates one block.
//!
//! A block's rows are three columns one behind the other, because alike things next to each other deflate best:
//!
//! 1. `u32`, the bytes of the second column;
//! 2. one flag byte a row: bit 0, the bucket differs from the row before; bits 1 and 2, the version: 0 none, 1 the last
//!    one named in this block, 2 another;
//! 3. varints, row by row: with bit 0 the length of the bucket; the bytes that the key shares with the key before, and
//!    how many follow; with version 2 likewise for the version;
//! 4. the bytes those lengths are of: bucket, rest of the key, rest of the version.
//!
//! Before the first row of a block bucket, key and version are empty.

mod block;
mod pack;
mod read;
pub(super) mod varint;
mod write;

pub(super) use read::{PartReader, is_whole};
pub(super) use write::{Lane, Limits, PartsWriter, Tally, Written, settle};

/// The longest version id, in bytes.
pub(super) const MAX_VERSION_BYTES: usize = 1024;

/// The longest bucket name, in bytes: what AWS allowed in its first years.
pub(super) const MAX_BUCKET_BYTES: usize = 255;

/// Rows of a block.
const MAX_BLOCK_ROWS: usize = 65_536;

/// Bytes of a block's rows before compression.
const MAX_BLOCK_BYTES: usize = 1 << 20;

/// Bytes of a block's rows after it: deflate can lengthen what it cannot shorten, though never by so much.
const MAX_PACKED_BYTES: usize = MAX_BLOCK_BYTES + MAX_BLOCK_BYTES / 4;

/// Length of the file header, and of a block's.
const HEADER_BYTES: usize = 20;

/// How a part begins.
const MAGIC: [u8; 8] = *b"\x89BPM\r\n\x1a\n";

/// The version of the format.
const VERSION: u32 = 1;

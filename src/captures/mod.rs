//! Captures: what each object was like before a job changed it, so that the change can be undone.
//!
//! A job appends a [`Capture`] for each object, and sends the object's first write only after the capture is on disk.
//! Captures are read in the order of the manifest's rows, whatever the order in which they were appended. If a row has
//! several captures, because the process died between a capture and the record of the row's outcome, the first one
//! counts: the later ones may show what the job itself wrote.
//!
//! # Files
//!
//! A job keeps its captures in the folder `captures` of its own folder. New captures are appended to a log, each group
//! with one sync. A full log is sorted and compressed into a sealed file, and the next log is started. Memory is bounded
//! by the size of a log and does not grow with the number of objects, or of different states.
//!
//! | name | what it is |
//! |---|---|
//! | `captures-N.log` | the captures since the last sealed file. A crash can cut off its last group |
//! | `captures-N.bpc` | the captures of a full log, sorted by row, compressed, with an end mark |
//!
//! A log whose sealed file exists was about to be removed, and is ignored. With 100 different states, a sealed file takes
//! less than two bytes for each object. The ID of a version is random, so each one adds its own length.
//!
//! # The format, version 1
//!
//! Integers are little-endian; a varint is LEB128. Both kinds of files are a file header and blocks. A sealed file ends
//! with an end mark: a block header with 0 captures, in which the size is the number of captures of the file.
//!
//! | bytes | file header |
//! |---|---|
//! | 8 | `89 42 50 43 0D 0A 1A 0A`: like the signature of PNG, so that a transfer in text mode is detected |
//! | 4 | version: 1 |
//! | 4 | number of the file, from 0 |
//! | 4 | CRC-32 of the 16 bytes before |
//!
//! | bytes | block header |
//! |---|---|
//! | 4 | number of captures, 1 to 16,384 |
//! | 4 | uncompressed size of the captures, at most 1 MiB |
//! | 4 | stored size: raw deflate, or not compressed if both sizes are equal |
//! | 4 | CRC-32 of the stored bytes |
//! | 8 | part and row of the first capture |
//! | 8 | part and row of the last capture |
//! | 4 | CRC-32 of the 32 bytes before |
//!
//! A block does not depend on other blocks. Its captures are sorted by row, and stored as columns:
//!
//! 1. the different states: their number as a varint, then the length of each as a varint and its JSON;
//! 2. the rows, as varints: the distance to the previous row of the same part, or 0, the distance to the previous part
//!    (to 0 for the first capture) and the row;
//! 3. the index of each state, as varints;
//! 4. the version IDs: 0 if the capture has none, otherwise the length plus one as a varint, and the ID.
//!
//! | file | what it does |
//! |---|---|
//! | `state` | a capture, and its state in JSON |
//! | `block` | the captures of a block, as columns |
//! | `file` | files of blocks: headers, checksums, and where a log was cut off |
//! | `writer` | appends groups of captures, and seals full logs |
//! | `reader` | reads captures in the order of rows, or finds those of one row |
//! | `error` | why captures cannot be read or written |

mod block;
mod error;
mod file;
mod reader;
mod state;
mod writer;

pub use error::CaptureError;
pub use reader::{CaptureIter, CaptureLookup, CaptureReader};
pub use state::{Capture, FormerState, FormerValue};
pub use writer::CaptureWriter;

#[cfg(test)]
mod tests;

//! Random access to a file, with a limit on the memory that readers hold.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

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

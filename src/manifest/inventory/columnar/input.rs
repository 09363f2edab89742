//! Random access to a file, with a limit on the memory that readers hold.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use super::{Broken, Outcome, damaged, foreign};

/// The limit, in bytes, on the pages and dictionaries of all columns together. Writers make them 1 MiB large, and a
/// row of an inventory needs at most twelve columns.
const MAX_HELD: usize = 160 << 20;

/// The most rows per byte of the file. A run can claim billions of equal rows in a few bytes, and nothing else limits
/// the number of skipped rows. In a real inventory, every row has its own key, which takes bytes.
const MAX_ROWS_A_BYTE: u64 = 1024;

/// A file with random access, which counts the memory that its readers hold.
pub(super) struct Input {
    file: File,
    size: u64,
    held: Cell<usize>,
}

impl Input {
    pub(super) fn new(file: File) -> Outcome<Self> {
        let size = file.metadata().map_err(Broken::Io)?.len();
        Ok(Self { file, size, held: Cell::new(0) })
    }

    /// The size of the file in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Returns an error if the file claims more rows than its size allows.
    pub(super) fn expect_rows(&self, rows: impl Iterator<Item = u64>) -> Outcome<()> {
        let rows = rows.fold(0, u64::saturating_add);
        if rows > self.size.saturating_mul(MAX_ROWS_A_BYTE) {
            return damaged(format!("it says that its {} bytes hold {rows} rows", self.size));
        }
        Ok(())
    }

    /// Reads `bytes` bytes at offset `at`. The caller must limit the number of bytes.
    pub(super) fn read(&self, at: u64, bytes: usize, into: &mut Vec<u8>) -> Outcome<()> {
        let end = u64::try_from(bytes).ok().and_then(|bytes| at.checked_add(bytes));
        if end.is_none_or(|end| end > self.size) {
            return damaged(format!("it points to {bytes} bytes from {at} on, and has {} bytes", self.size));
        }
        into.clear();
        into.resize(bytes, 0);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(into)).map_err(Broken::Io)
    }

    /// Counts the `now` bytes that a column holds, instead of the `before` bytes that it held. Returns an error if
    /// all columns together hold more than `MAX_HELD` bytes.
    pub(super) fn hold(&self, before: &mut usize, now: usize) -> Outcome<()> {
        let held = self.held.get().saturating_sub(*before).saturating_add(now);
        if held > MAX_HELD {
            return foreign(format!("more than {MAX_HELD} bytes of its pages and dictionaries are needed at once"));
        }
        self.held.set(held);
        *before = now;
        Ok(())
    }
}

//! A file's bytes, wherever they lie in it, and how many of them are held at once.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use super::{Broken, Outcome, damaged, foreign};

/// What pages and dictionaries of all columns may take together. Writers make them of one MiB, and a row of an inventory
/// needs twelve columns at most.
const MAX_HELD: usize = 160 << 20;

/// The most rows that a byte can stand for. A run may say in few bytes that billions of rows are alike, and rows that are
/// passed over are bounded by nothing else; but the rows of an inventory have keys of their own.
const MAX_ROWS_A_BYTE: u64 = 1024;

/// A file that is read here and there.
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

    /// Its bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Refuses more rows than the file could name.
    pub(super) fn expect_rows(&self, rows: impl Iterator<Item = u64>) -> Outcome<()> {
        let rows = rows.fold(0, u64::saturating_add);
        if rows > self.size.saturating_mul(MAX_ROWS_A_BYTE) {
            return damaged(format!("it says that its {} bytes hold {rows} rows", self.size));
        }
        Ok(())
    }

    /// Reads so many bytes from this place on. The caller has bounded their number.
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

    /// Counts what a column holds, instead of what it held.
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

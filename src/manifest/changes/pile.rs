//! Collects the rows of both inventories and sorts them on disk, to compare them.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::record::{self, Side};
use crate::manifest::error::ManifestError;
use crate::manifest::filter::{Facts, Row};
use crate::manifest::sort::{Room, Sorted, Sorter};

/// The number of rows between two checks of the disk limit.
const ROWS_A_LOOK: u64 = 4096;

/// Collects rows, one side after the other.
pub(in crate::manifest) struct Pile {
    sorter: Sorter,
    home: PathBuf,
    side: Side,
    heap: Heap,
    record: Vec<u8>,
    max_disk: Option<u64>,
    rows: u64,
}

/// The facts that each inventory reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heap {
    pub(super) before: Tells,
    pub(super) now: Tells,
}

/// The facts that an inventory reports for at least one object, and the number of its rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tells {
    pub(super) rows: u64,
    pub(super) etag: bool,
    pub(super) size: bool,
    pub(super) modified: bool,
}

impl Tells {
    fn note(&mut self, facts: &Facts<'_>) {
        self.rows += 1;
        self.etag |= facts.etag.is_some();
        self.size |= facts.size.is_some();
        self.modified |= facts.modified.is_some();
    }
}

impl Pile {
    /// Creates an empty collection that starts with rows of [`Side::Before`]. Its temporary files in `home` are unnamed
    /// and vanish when they are closed.
    pub(in crate::manifest) fn new(home: &Path, room: Room, max_disk: Option<u64>, stop: &CancellationToken) -> Self {
        Self {
            sorter: Sorter::new(home, room, stop),
            home: home.to_owned(),
            side: Side::Before,
            heap: Heap::default(),
            record: Vec::new(),
            max_disk,
            rows: 0,
        }
    }

    /// Sets the side that the next rows belong to.
    pub(in crate::manifest) fn turn(&mut self, side: Side) {
        self.side = side;
    }

    pub(in crate::manifest) fn push(&mut self, row: &Row<'_>) -> Result<(), ManifestError> {
        match self.side {
            Side::Before => self.heap.before.note(&row.facts),
            Side::Now => self.heap.now.note(&row.facts),
            Side::Undone => {}
        }
        record::encode(row, self.side, &mut self.record);
        self.sorter.push(&self.record)?;
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS_A_LOOK) { self.check_size() } else { Ok(()) }
    }

    fn check_size(&self) -> Result<(), ManifestError> {
        let used = self.sorter.on_disk();
        match self.max_disk.filter(|limit| used > *limit) {
            Some(limit) => Err(ManifestError::NoRoomToCompare { used, limit, rows: self.rows }),
            None => Ok(()),
        }
    }

    /// Returns all records in order, and the facts that each inventory reports.
    pub(super) fn finish(self) -> Result<(Sorted, Heap, PathBuf), ManifestError> {
        self.check_size()?;
        Ok((self.sorter.finish()?, self.heap, self.home))
    }
}

//! Collects the rows of both inventories and sorts them on disk, to compare them.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::record::{self, ComparisonSide};
use crate::manifest::error::ManifestError;
use crate::manifest::filter::{ManifestRow, RowMetadata};
use crate::manifest::sort::{ExternalSorter, SortBudget, SortedRecords};

/// The number of rows between two checks of the disk limit.
const LIMIT_CHECK_INTERVAL: u64 = 4096;

/// Collects rows, one side after the other.
pub(in crate::manifest) struct ComparisonSorter {
    sorter: ExternalSorter,
    home: PathBuf,
    side: ComparisonSide,
    facts: ComparisonFacts,
    record: Vec<u8>,
    max_disk: Option<u64>,
    rows: u64,
}

/// The facts that each inventory reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ComparisonFacts {
    pub(super) earlier: SideFacts,
    pub(super) current: SideFacts,
}

/// The facts that an inventory reports for at least one object, and the number of its rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SideFacts {
    pub(super) rows: u64,
    pub(super) etag: bool,
    pub(super) size: bool,
    pub(super) modified: bool,
}

impl SideFacts {
    fn record(&mut self, facts: &RowMetadata<'_>) {
        self.rows += 1;
        self.etag |= facts.etag.is_some();
        self.size |= facts.size.is_some();
        self.modified |= facts.modified.is_some();
    }
}

impl ComparisonSorter {
    /// Creates an empty collection that starts with rows of [`ComparisonSide::Earlier`]. Its temporary files in
    /// `home` are unnamed and vanish when they are closed.
    pub(in crate::manifest) fn new(
        home: &Path,
        room: SortBudget,
        max_disk: Option<u64>,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            sorter: ExternalSorter::new(home, room, stop),
            home: home.to_owned(),
            side: ComparisonSide::Earlier,
            facts: ComparisonFacts::default(),
            record: Vec::new(),
            max_disk,
            rows: 0,
        }
    }

    /// Sets the side that the next rows belong to.
    pub(in crate::manifest) fn set_side(&mut self, side: ComparisonSide) {
        self.side = side;
    }

    pub(in crate::manifest) fn push(&mut self, row: &ManifestRow<'_>) -> Result<(), ManifestError> {
        match self.side {
            ComparisonSide::Earlier => self.facts.earlier.record(&row.metadata),
            ComparisonSide::Current => self.facts.current.record(&row.metadata),
            ComparisonSide::Unfinished => {}
        }
        record::encode(row, self.side, &mut self.record);
        self.sorter.push(&self.record)?;
        self.rows += 1;
        if self.rows.is_multiple_of(LIMIT_CHECK_INTERVAL) { self.check_limit() } else { Ok(()) }
    }

    fn check_limit(&self) -> Result<(), ManifestError> {
        let used = self.sorter.bytes_on_disk();
        match self.max_disk.filter(|limit| used > *limit) {
            Some(limit) => Err(ManifestError::ComparisonTooLarge { used, limit, rows: self.rows }),
            None => Ok(()),
        }
    }

    /// Returns all records in order, and the facts that each inventory reports.
    pub(super) fn finish(self) -> Result<(SortedRecords, ComparisonFacts, PathBuf), ManifestError> {
        self.check_limit()?;
        Ok((self.sorter.finish()?, self.facts, self.home))
    }
}

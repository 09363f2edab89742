//! Merges several sorted runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::run::{SortedRun, SortedRunReader};
use crate::manifest::error::ManifestError;

/// The number of records between two checks of the stop token.
const STOP_CHECK_INTERVAL: u64 = 4096;

/// The records of several runs in order, without duplicates.
pub(super) struct RunMerger {
    folder: PathBuf,
    stop: CancellationToken,
    readers: Vec<SortedRunReader>,
    /// The next record of each run that is not at its end.
    next_records: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    record: Option<Vec<u8>>,
    steps: u64,
}

impl RunMerger {
    /// Reads the first record of each run. Errors name the folder.
    pub(super) fn new(runs: Vec<SortedRun>, folder: PathBuf, stop: CancellationToken) -> Result<Self, ManifestError> {
        let mut readers: Vec<SortedRunReader> = runs.into_iter().map(SortedRunReader::new).collect();
        let mut heads = BinaryHeap::with_capacity(readers.len());
        for (run, reader) in readers.iter_mut().enumerate() {
            let mut record = Vec::new();
            if reader.next_into(&mut record).map_err(|cause| read_error(&folder, cause))? {
                heads.push(Reverse((record, run)));
            }
        }
        Ok(Self { folder, stop, readers, next_records: heads, record: None, steps: 0 })
    }

    /// Advances to the next record. Returns `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, ManifestError> {
        while let Some(mut top) = self.next_records.peek_mut() {
            if self.steps.is_multiple_of(STOP_CHECK_INTERVAL) && self.stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
            self.steps += 1;
            let Reverse((head, run)) = &mut *top;
            let known = self.record.as_ref() == Some(head);
            if !known {
                self.record.get_or_insert_default().clone_from(head);
            }
            if !self.readers[*run].next_into(head).map_err(|cause| read_error(&self.folder, cause))? {
                PeekMut::pop(top);
            }
            if !known {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the current record.
    pub(super) fn record(&self) -> &[u8] {
        self.record.as_deref().unwrap_or_default()
    }
}

fn read_error(folder: &std::path::Path, cause: io::Error) -> ManifestError {
    ManifestError::disk("read back sort data in", folder, cause)
}

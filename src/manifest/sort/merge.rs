//! Merges several sorted runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::run::{Run, RunReader};
use crate::manifest::error::ManifestError;

/// The number of records between two checks of the stop token.
const STRIDE: u64 = 4096;

/// The records of several runs in order, without duplicates.
pub(super) struct Merge {
    folder: PathBuf,
    stop: CancellationToken,
    readers: Vec<RunReader>,
    /// The next record of each run that is not at its end.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    record: Option<Vec<u8>>,
    steps: u64,
}

impl Merge {
    /// Reads the first record of each run. Errors name the folder.
    pub(super) fn new(runs: Vec<Run>, folder: PathBuf, stop: CancellationToken) -> Result<Self, ManifestError> {
        let mut readers: Vec<RunReader> = runs.into_iter().map(RunReader::new).collect();
        let mut heads = BinaryHeap::with_capacity(readers.len());
        for (run, reader) in readers.iter_mut().enumerate() {
            let mut record = Vec::new();
            if reader.next_into(&mut record).map_err(|cause| unreadable(&folder, cause))? {
                heads.push(Reverse((record, run)));
            }
        }
        Ok(Self { folder, stop, readers, heads, record: None, steps: 0 })
    }

    /// Advances to the next record. Returns `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, ManifestError> {
        while let Some(mut top) = self.heads.peek_mut() {
            if self.steps.is_multiple_of(STRIDE) && self.stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
            self.steps += 1;
            let Reverse((head, run)) = &mut *top;
            let known = self.record.as_ref() == Some(head);
            if !known {
                self.record.get_or_insert_default().clone_from(head);
            }
            if !self.readers[*run].next_into(head).map_err(|cause| unreadable(&self.folder, cause))? {
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

fn unreadable(folder: &std::path::Path, cause: io::Error) -> ManifestError {
    ManifestError::disk("read back what is being sorted in", folder, cause)
}

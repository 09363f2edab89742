//! Several sorted runs as one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::run::{Run, RunReader};
use crate::manifest::error::ManifestError;

/// Records between two looks at the stop token.
const STRIDE: u64 = 4096;

/// The records of several runs, each once.
pub(super) struct Merge {
    folder: PathBuf,
    stop: CancellationToken,
    readers: Vec<RunReader>,
    /// The next record of each run that has one.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    record: Option<Vec<u8>>,
    steps: u64,
}

impl Merge {
    /// Begins with the smallest record of all; the folder is what errors name.
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

    /// Goes to the next record; `false` behind the last one.
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

    /// The record that [`advance`](Self::advance) went to.
    pub(super) fn record(&self) -> &[u8] {
        self.record.as_deref().unwrap_or_default()
    }
}

fn unreadable(folder: &std::path::Path, cause: io::Error) -> ManifestError {
    ManifestError::disk("read back what is being sorted in", folder, cause)
}

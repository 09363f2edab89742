//! The unfinished rows of a frozen manifest, in processing order.

use std::collections::VecDeque;
use std::path::PathBuf;

use batchplan_store::object::ObjectId;
use batchplan_store::task::Task;

use super::error::ManifestError;
use super::frozen::{FrozenManifest, part_path};
use super::interleaving::{Interleaving, position_to_seq};
use super::part::PartReader;
use crate::frontier::RowFrontier;

/// Iterates over unfinished rows, a batch per turn of a segment. Ends after an error.
pub(super) struct InterleavedTasks {
    folder: PathBuf,
    interleaving: Interleaving,
    segments: Vec<SegmentReader>,
    finished: RowFrontier,
    batch: usize,
    /// The current turn and segment, and the number of rows that the segment has contributed in this turn.
    turn: u64,
    segment: u64,
    rows_taken: u64,
}

/// A segment, open at its next row.
struct SegmentReader {
    spans: VecDeque<SegmentSpan>,
    open: Option<PartReader>,
}

/// A range of rows in a part.
struct SegmentSpan {
    path: PathBuf,
    part: u32,
    rows: u32,
    from: u32,
}

impl InterleavedTasks {
    /// Returns the rows that `frontier` does not contain, in batches of at most `batch`.
    pub(super) fn new(frozen: &FrozenManifest, frontier: &RowFrontier, batch: usize) -> Self {
        let interleaving = frozen.interleaving();
        let turn = interleaving.first_unfinished_turn(frontier);
        let lanes = (0..interleaving.segments()).map(|lane| {
            let rows = interleaving.segment_rows(lane);
            SegmentReader {
                spans: segment_spans(frozen, rows.start + interleaving.turn_rows(lane, turn).start, rows.end),
                open: None,
            }
        });
        Self {
            folder: frozen.folder.clone(),
            interleaving,
            segments: lanes.collect(),
            finished: frontier.clone(),
            batch: batch.max(1),
            turn,
            segment: 0,
            rows_taken: 0,
        }
    }

    fn next_batch(&mut self) -> Result<Vec<Task>, ManifestError> {
        let mut tasks = Vec::new();
        while tasks.is_empty() && self.turn < self.interleaving.turns() {
            let rows = self.interleaving.turn_rows(self.segment, self.turn);
            let place = self.interleaving.turn_position(self.segment, self.turn);
            while self.rows_taken < rows.end - rows.start && tasks.len() < self.batch {
                let object = self.next_row()?;
                let seq = position_to_seq(place + self.rows_taken);
                if !self.finished.is_settled(seq) {
                    tasks.push(Task { id: seq, object });
                }
                self.rows_taken += 1;
            }
            if self.rows_taken == rows.end - rows.start {
                self.next_segment();
            }
        }
        Ok(tasks)
    }

    fn next_segment(&mut self) {
        self.rows_taken = 0;
        self.segment += 1;
        if self.segment == self.interleaving.segments() {
            self.segment = 0;
            self.turn += 1;
        }
    }

    fn next_row(&mut self) -> Result<ObjectId, ManifestError> {
        let lane = usize::try_from(self.segment).ok().and_then(|lane| self.segments.get_mut(lane));
        let row = lane.map_or(Ok(None), SegmentReader::next_row)?;
        row.ok_or_else(|| ManifestError::corrupt(&self.folder, "it has fewer rows than its index says"))
    }
}

impl SegmentReader {
    fn next_row(&mut self) -> Result<Option<ObjectId>, ManifestError> {
        loop {
            if let Some(reader) = &mut self.open {
                if let Some((_, object)) = reader.next_row()? {
                    return Ok(Some(object));
                }
                self.open = None;
            }
            let Some(SegmentSpan { path, part, rows, from }) = self.spans.pop_front() else { return Ok(None) };
            self.open = Some(PartReader::open(path, part, rows, from)?);
        }
    }
}

/// Returns the parts that hold these rows, which are counted over all files.
fn segment_spans(frozen: &FrozenManifest, from: u64, to: u64) -> VecDeque<SegmentSpan> {
    let mut spans = VecDeque::new();
    let mut first = 0;
    for (part, info) in (0_u32..).zip(frozen.parts()) {
        let end = first + u64::from(info.rows);
        if first < to && from < end {
            let from = u32::try_from(from.saturating_sub(first)).unwrap_or(info.rows);
            spans.push_back(SegmentSpan { path: part_path(&frozen.folder, part), part, rows: info.rows, from });
        }
        first = end;
    }
    spans
}

impl Iterator for InterleavedTasks {
    type Item = Result<Vec<Task>, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_batch() {
            Ok(tasks) if tasks.is_empty() => None,
            Ok(tasks) => Some(Ok(tasks)),
            Err(error) => {
                self.turn = self.interleaving.turns();
                self.segments.clear();
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests;

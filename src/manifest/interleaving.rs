//! The order in which the rows of a frozen manifest are processed.
//!
//! Adjacent rows have adjacent keys, and stores keep adjacent keys on one machine: processing rows strictly in sequence
//! overloads that machine and leaves the others idle. A large manifest is therefore divided into segments of equal
//! length, and each segment in turn contributes a few rows.
//!
//! The [`TaskId`] of a row is its position in this order. Progress, and the rows that a crash leaves in doubt, are
//! recorded as positions. The order depends only on the number of rows and of segments, so it is the same whenever a
//! job resumes.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};

use batchplan_store::object::ObjectId;
use batchplan_store::task::{Task, TaskId};

use super::error::ManifestError;
use super::part::{ManifestPart, PartReader, part_path};
use crate::frontier::RowFrontier;

/// The number of rows that a segment contributes per turn.
const ROWS_PER_TURN: u64 = 256;

/// The maximum number of segments: each keeps one block of the manifest in memory, of up to a megabyte.
pub(super) const MAX_SEGMENTS: u64 = 6;

/// The minimum number of rows per segment, the size of a block: spreading fewer rows has no benefit.
const MIN_SEGMENT_ROWS: u64 = 1 << 16;

/// The number of positions per `part` of a [`TaskId`], in manifests where `part` is not the number of a file.
const POSITIONS_PER_PART: u64 = 1 << 22;

/// The order of the rows of a manifest with several segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interleaving {
    rows: u64,
    segments: u64,
}

/// Returns the number of segments for a manifest with this number of rows.
pub(super) fn segments_for(rows: u64) -> u32 {
    u32::try_from((rows / MIN_SEGMENT_ROWS).clamp(1, MAX_SEGMENTS)).unwrap_or(1)
}

impl Interleaving {
    /// Creates the order of this number of rows and segments; 0 segments count as one.
    pub(super) fn new(rows: u64, segments: u32) -> Self {
        Self { rows, segments: u64::from(segments.max(1)) }
    }

    /// Returns the rows of a segment, counted over all files.
    fn segment_rows(self, segment: u64) -> Range<u64> {
        let at = |segment: u64| {
            let row = u128::from(self.rows) * u128::from(segment) / u128::from(self.segments);
            u64::try_from(row).unwrap_or(self.rows)
        };
        at(segment)..at(segment + 1)
    }

    fn segments(self) -> u64 {
        self.segments
    }

    /// Returns the number of turns that each segment has.
    fn turns(self) -> u64 {
        let longest = self.rows.div_ceil(self.segments);
        longest.div_ceil(ROWS_PER_TURN)
    }

    /// Returns the rows that a segment contributes in a turn, counted from its first row.
    fn turn_rows(self, segment: u64, turn: u64) -> Range<u64> {
        let Range { start, end } = self.segment_rows(segment);
        let length = end - start;
        (turn * ROWS_PER_TURN).min(length)..((turn + 1) * ROWS_PER_TURN).min(length)
    }

    /// Returns the position of the first row that a segment contributes in a turn.
    fn turn_position(self, segment: u64, turn: u64) -> u64 {
        let given = |other: u64| {
            let Range { start, end } = self.turn_rows(other, turn);
            if other < segment { end } else { start }
        };
        (0..self.segments).map(given).sum()
    }

    /// Returns the position of a row, counted over all files.
    pub(super) fn position_of(self, row: u64) -> u64 {
        // Segment bounds are rounded down: the row may be the first of the next segment.
        let guess =
            u64::try_from(u128::from(row) * u128::from(self.segments) / u128::from(self.rows.max(1))).unwrap_or(0);
        let segment = if guess + 1 < self.segments && self.segment_rows(guess).end <= row { guess + 1 } else { guess };
        let offset = row - self.segment_rows(segment).start;
        self.turn_position(segment, offset / ROWS_PER_TURN) + offset % ROWS_PER_TURN
    }

    /// Returns a turn such that all rows of earlier turns are finished.
    fn first_unfinished_turn(self, frontier: &RowFrontier) -> u64 {
        let parts = 0..u32::try_from(self.rows / POSITIONS_PER_PART + 1).unwrap_or(u32::MAX);
        // The first part with an unfinished row contains the first unfinished row.
        let low = parts
            .map(|part| (part, u64::from(frontier.first_unsettled(part))))
            .find(|(_, low)| *low < POSITIONS_PER_PART);
        let settled = low.map_or(0, |(part, low)| u64::from(part) * POSITIONS_PER_PART + low);
        // Every turn except the last takes the full number of rows from every segment.
        (settled / (self.segments * ROWS_PER_TURN)).min(self.turns().saturating_sub(1))
    }
}

/// Converts a position to the form in which progress is recorded.
pub(super) fn position_to_seq(place: u64) -> TaskId {
    let fits = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    TaskId { part: fits(place / POSITIONS_PER_PART), row: fits(place % POSITIONS_PER_PART) }
}

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
    pub(super) fn new(
        (folder, parts): (&Path, &[ManifestPart]),
        interleaving: Interleaving,
        frontier: &RowFrontier,
        batch: usize,
    ) -> Self {
        let turn = interleaving.first_unfinished_turn(frontier);
        let segments = (0..interleaving.segments()).map(|segment| {
            let rows = interleaving.segment_rows(segment);
            SegmentReader {
                spans: segment_spans(
                    (folder, parts),
                    rows.start + interleaving.turn_rows(segment, turn).start,
                    rows.end,
                ),
                open: None,
            }
        });
        Self {
            folder: folder.to_owned(),
            interleaving,
            segments: segments.collect(),
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
        let segment = usize::try_from(self.segment).ok().and_then(|segment| self.segments.get_mut(segment));
        let row = segment.map_or(Ok(None), SegmentReader::next_row)?;
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
fn segment_spans((folder, parts): (&Path, &[ManifestPart]), from: u64, to: u64) -> VecDeque<SegmentSpan> {
    let mut spans = VecDeque::new();
    let mut first = 0;
    for (part, info) in (0_u32..).zip(parts) {
        let end = first + u64::from(info.rows);
        if first < to && from < end {
            let from = u32::try_from(from.saturating_sub(first)).unwrap_or(info.rows);
            spans.push_back(SegmentSpan { path: part_path(folder, part), part, rows: info.rows, from });
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

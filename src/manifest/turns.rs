//! The unfinished rows of a frozen manifest, in processing order.

use std::collections::VecDeque;
use std::path::PathBuf;

use super::error::ManifestError;
use super::frozen::{Frozen, part_path};
use super::order::{Order, seq};
use super::part::PartReader;
use crate::frontier::Frontier;
use crate::object::ObjectId;
use crate::task::Task;

/// Iterates over unfinished rows, a batch per turn of a segment. Ends after an error.
pub(super) struct Turns {
    folder: PathBuf,
    order: Order,
    lanes: Vec<Lane>,
    settled: Frontier,
    batch: usize,
    /// The current turn and segment, and the number of rows that the segment has contributed in this turn.
    turn: u64,
    lane: u64,
    given: u64,
}

/// A segment, open at its next row.
struct Lane {
    spans: VecDeque<Span>,
    open: Option<PartReader>,
}

/// A range of rows in a part.
struct Span {
    path: PathBuf,
    part: u32,
    rows: u32,
    from: u32,
}

impl Turns {
    /// Returns the rows that `frontier` does not contain, in batches of at most `batch`.
    pub(super) fn new(frozen: &Frozen, frontier: &Frontier, batch: usize) -> Self {
        let order = frozen.order();
        let turn = order.first_turn(frontier);
        let lanes = (0..order.lanes()).map(|lane| {
            let rows = order.lane(lane);
            Lane { spans: spans(frozen, rows.start + order.turn(lane, turn).start, rows.end), open: None }
        });
        Self {
            folder: frozen.folder.clone(),
            order,
            lanes: lanes.collect(),
            settled: frontier.clone(),
            batch: batch.max(1),
            turn,
            lane: 0,
            given: 0,
        }
    }

    fn fill(&mut self) -> Result<Vec<Task>, ManifestError> {
        let mut tasks = Vec::new();
        while tasks.is_empty() && self.turn < self.order.turns() {
            let rows = self.order.turn(self.lane, self.turn);
            let place = self.order.place(self.lane, self.turn);
            while self.given < rows.end - rows.start && tasks.len() < self.batch {
                let object = self.next_row()?;
                let seq = seq(place + self.given);
                if !self.settled.is_settled(seq) {
                    tasks.push(Task { seq, object });
                }
                self.given += 1;
            }
            if self.given == rows.end - rows.start {
                self.pass_on();
            }
        }
        Ok(tasks)
    }

    fn pass_on(&mut self) {
        self.given = 0;
        self.lane += 1;
        if self.lane == self.order.lanes() {
            self.lane = 0;
            self.turn += 1;
        }
    }

    fn next_row(&mut self) -> Result<ObjectId, ManifestError> {
        let lane = usize::try_from(self.lane).ok().and_then(|lane| self.lanes.get_mut(lane));
        let row = lane.map_or(Ok(None), Lane::next_row)?;
        row.ok_or_else(|| ManifestError::corrupt(&self.folder, "it has fewer rows than its index says"))
    }
}

impl Lane {
    fn next_row(&mut self) -> Result<Option<ObjectId>, ManifestError> {
        loop {
            if let Some(reader) = &mut self.open {
                if let Some((_, object)) = reader.next_row()? {
                    return Ok(Some(object));
                }
                self.open = None;
            }
            let Some(Span { path, part, rows, from }) = self.spans.pop_front() else { return Ok(None) };
            self.open = Some(PartReader::open(path, part, rows, from)?);
        }
    }
}

/// Returns the parts that hold these rows, which are counted over all files.
fn spans(frozen: &Frozen, from: u64, to: u64) -> VecDeque<Span> {
    let mut spans = VecDeque::new();
    let mut first = 0;
    for (part, info) in (0_u32..).zip(frozen.parts()) {
        let end = first + u64::from(info.rows);
        if first < to && from < end {
            let from = u32::try_from(from.saturating_sub(first)).unwrap_or(info.rows);
            spans.push_back(Span { path: part_path(&frozen.folder, part), part, rows: info.rows, from });
        }
        first = end;
    }
    spans
}

impl Iterator for Turns {
    type Item = Result<Vec<Task>, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.fill() {
            Ok(tasks) if tasks.is_empty() => None,
            Ok(tasks) => Some(Ok(tasks)),
            Err(error) => {
                self.turn = self.order.turns();
                self.lanes.clear();
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests;

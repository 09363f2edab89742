//! The captures of a block, encoded as columns. The format is described in the parent module.

use std::collections::HashMap;
use std::sync::Arc;

use batchplan_store::object::VersionId;
use batchplan_store::task::TaskId;

use super::state::MAX_STATE_BYTES;
use crate::varint;

/// The maximum number of captures in a block.
pub(super) const MAX_BLOCK_ROWS: usize = 16_384;

/// The maximum uncompressed size of a block, in bytes.
pub(super) const MAX_BLOCK_BYTES: usize = 1 << 20;

/// The longest version ID, in bytes, as in manifests.
pub(super) const MAX_VERSION_BYTES: usize = 1024;

/// The bytes of a capture besides its state and its version: five varints, and the length of the state.
const OVERHEAD_BYTES: usize = 32;

/// A message that says how a block is damaged.
pub(super) type CaptureDamage = &'static str;

/// A capture whose state is still JSON. Captures with the same state share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredCapture {
    pub(super) row: TaskId,
    pub(super) version: Option<VersionId>,
    pub(super) state: Arc<str>,
}

/// Collects the captures of a block, which must be added in the order of their rows.
#[derive(Default)]
pub(super) struct BlockEncoder {
    states: Vec<Arc<str>>,
    index: HashMap<Arc<str>, usize>,
    state_bytes: usize,
    rows: Vec<u8>,
    indexes: Vec<u8>,
    versions: Vec<u8>,
    count: usize,
    span: Option<(TaskId, TaskId)>,
}

impl BlockEncoder {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the rows of the first and the last capture; `None` if there are none.
    pub(super) fn span(&self) -> Option<(TaskId, TaskId)> {
        self.span
    }

    /// Returns whether this capture still fits.
    pub(super) fn has_room(&self, capture: &StoredCapture) -> bool {
        let version = capture.version.as_ref().map_or(0, |version| version.as_str().len());
        let used = self.state_bytes + self.rows.len() + self.indexes.len() + self.versions.len();
        let new = capture.state.len() + version + OVERHEAD_BYTES;
        self.count < MAX_BLOCK_ROWS && used + new + OVERHEAD_BYTES <= MAX_BLOCK_BYTES
    }

    /// Adds a capture. Its row must be behind the last one's.
    pub(super) fn push(&mut self, capture: &StoredCapture) {
        let TaskId { part, row } = capture.row;
        match self.span {
            Some((_, last)) if last.part == part => varint::put(&mut self.rows, as_usize(row.saturating_sub(last.row))),
            _ => {
                let before = self.span.map_or(0, |(_, last)| last.part);
                for value in [0, part.saturating_sub(before), row] {
                    varint::put(&mut self.rows, as_usize(value));
                }
            }
        }
        let next = self.states.len();
        let state = if let Some(known) = self.index.get(&capture.state) {
            *known
        } else {
            self.state_bytes += capture.state.len() + OVERHEAD_BYTES;
            self.states.push(Arc::clone(&capture.state));
            self.index.insert(Arc::clone(&capture.state), next);
            next
        };
        varint::put(&mut self.indexes, state);
        match &capture.version {
            None => varint::put(&mut self.versions, 0),
            Some(version) => {
                varint::put(&mut self.versions, version.as_str().len() + 1);
                self.versions.extend_from_slice(version.as_str().as_bytes());
            }
        }
        self.count += 1;
        self.span = Some((self.span.map_or(capture.row, |(first, _)| first), capture.row));
    }

    /// Writes the columns to `out`, and starts the next block.
    pub(super) fn drain_into(&mut self, out: &mut Vec<u8>) {
        out.clear();
        varint::put(out, self.states.len());
        for state in self.states.drain(..) {
            varint::put(out, state.len());
            out.extend_from_slice(state.as_bytes());
        }
        for column in [&mut self.rows, &mut self.indexes, &mut self.versions] {
            out.append(column);
        }
        self.index.clear();
        self.state_bytes = 0;
        self.count = 0;
        self.span = None;
    }
}

fn as_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Decodes the captures of a block.
pub(super) fn decode(raw: &[u8], count: usize) -> Result<Vec<StoredCapture>, CaptureDamage> {
    let mut columns = Columns { raw, at: 0 };
    let states = columns.states(count)?;
    let rows = columns.rows(count)?;
    let mut indexes = Vec::with_capacity(count);
    for _ in 0..count {
        let index = columns.number()?;
        indexes.push(states.get(index).ok_or("a capture has a state that its block does not have")?);
    }
    let mut captures = Vec::with_capacity(count);
    for (row, state) in rows.into_iter().zip(indexes) {
        captures.push(StoredCapture { row, version: columns.version()?, state: Arc::clone(state) });
    }
    if columns.at == raw.len() { Ok(captures) } else { Err("a block has data after its last capture") }
}

/// The columns of a block, and how far they are read.
struct Columns<'a> {
    raw: &'a [u8],
    at: usize,
}

impl Columns<'_> {
    fn number(&mut self) -> Result<usize, CaptureDamage> {
        varint::take(self.raw, &mut self.at).ok_or("a block is shorter than its captures")
    }

    fn small_number(&mut self) -> Result<u32, CaptureDamage> {
        u32::try_from(self.number()?).map_err(|_| "a row is out of range")
    }

    fn text(&mut self, length: usize) -> Result<&str, CaptureDamage> {
        let end = self.at.checked_add(length).ok_or("a text is too long")?;
        let text = self.raw.get(self.at..end).ok_or("a text is longer than its block")?;
        self.at = end;
        std::str::from_utf8(text).map_err(|_| "a text is not UTF-8")
    }

    fn states(&mut self, count: usize) -> Result<Vec<Arc<str>>, CaptureDamage> {
        let states = self.number()?;
        if states > count {
            return Err("a block has more states than captures");
        }
        let mut all = Vec::with_capacity(states);
        for _ in 0..states {
            let length = self.number()?;
            if length > MAX_STATE_BYTES {
                return Err("a state is too long");
            }
            all.push(self.text(length)?.into());
        }
        Ok(all)
    }

    fn rows(&mut self, count: usize) -> Result<Vec<TaskId>, CaptureDamage> {
        let mut rows: Vec<TaskId> = Vec::with_capacity(count);
        for _ in 0..count {
            let distance = self.small_number()?;
            let last = rows.last().copied();
            let row = match (distance, last) {
                (0, last) => {
                    let (further, row) = (self.small_number()?, self.small_number()?);
                    let part = last.map_or(0, |last| last.part).checked_add(further).ok_or("a row is out of range")?;
                    TaskId { part, row }
                }
                (distance, Some(TaskId { part, row })) => {
                    TaskId { part, row: row.checked_add(distance).ok_or("a row is out of range")? }
                }
                (_, None) => return Err("the first row of a block has no part"),
            };
            if last.is_some_and(|last| last >= row) {
                return Err("the rows of a block are not sorted");
            }
            rows.push(row);
        }
        Ok(rows)
    }

    fn version(&mut self) -> Result<Option<VersionId>, CaptureDamage> {
        let Some(length) = self.number()?.checked_sub(1) else { return Ok(None) };
        if length > MAX_VERSION_BYTES {
            return Err("a version ID is too long");
        }
        Ok(Some(VersionId::new(self.text(length)?)))
    }
}

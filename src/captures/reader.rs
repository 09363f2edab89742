//! Reads captures in the order of the manifest's rows, or those of one row.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use batchplan_store::task::TaskId;

use super::block::StoredCapture;
use super::error::CaptureError;
use super::file::{BlockPlace, FileNumbers, SealedFile, log_path, read_log};
use super::state::{Capture, FormerState};
use super::writer::sort_and_dedupe;

/// How often a folder is listed again whose log is sealed meanwhile.
const MAX_ATTEMPTS: u32 = 5;

/// The number of blocks that a lookup keeps decoded.
const CACHED_BLOCKS: usize = 16;

/// The different states that a reader keeps parsed, in bytes of their JSON.
const CACHED_STATE_BYTES: usize = 4 << 20;

/// The captures in a folder, as of the moment when it was opened.
#[derive(Debug)]
pub struct CaptureReader {
    /// In the order in which they were written.
    sealed: Vec<SealedFile>,
    /// The captures of the log, sorted. They are later than those of the sealed files.
    log: Vec<StoredCapture>,
}

impl CaptureReader {
    /// Opens the captures in a folder; there are none if it does not exist. A job may append others meanwhile.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, is damaged, or was written by a newer version of the program.
    pub fn open(folder: &Path) -> Result<Self, CaptureError> {
        let mut attempt = 1;
        loop {
            match Self::open_once(folder) {
                // The job has sealed the log since the folder was listed.
                Err(error) if error.is_missing() && attempt < MAX_ATTEMPTS => attempt += 1,
                opened => return opened,
            }
        }
    }

    fn open_once(folder: &Path) -> Result<Self, CaptureError> {
        let numbers = FileNumbers::list(folder)?;
        let mut log = Vec::new();
        for number in numbers.logs {
            log.extend(read_log(&log_path(folder, number), number)?.captures);
        }
        sort_and_dedupe(&mut log);
        let sealed =
            numbers.sealed.into_iter().map(|number| SealedFile::open(folder, number)).collect::<Result<_, _>>()?;
        Ok(Self { sealed, log })
    }

    /// Returns whether there is no capture.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.log.is_empty() && self.sealed.iter().all(|file| file.blocks.is_empty())
    }

    /// Returns the captures in the order of their rows, one for each row: the first that was appended.
    #[must_use]
    pub fn iter(&self) -> CaptureIter<'_> {
        let mut iter = CaptureIter {
            sources: self.sealed.iter().map(Source::of_file).chain([Source::of_log(&self.log)]).collect(),
            queue: BinaryHeap::new(),
            states: StateParser::default(),
            last: None,
            has_failed: false,
        };
        for source in 0..iter.sources.len() {
            iter.queue_next(source);
        }
        iter
    }

    /// Makes the captures of single rows accessible. That is fast if they are asked for in about the order of the
    /// manifest.
    #[must_use]
    pub fn into_lookup(self) -> CaptureLookup {
        CaptureLookup { reader: self, blocks: VecDeque::new(), states: StateParser::default() }
    }
}

impl<'a> IntoIterator for &'a CaptureReader {
    type Item = Result<Capture, CaptureError>;
    type IntoIter = CaptureIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The captures in the order of their rows. After an error, there are no more.
///
/// A block is decoded once the row of its first capture is reached, so that only blocks with overlapping rows are in
/// memory. They are few, because rows are processed in about the order of the manifest.
#[derive(Debug)]
pub struct CaptureIter<'a> {
    /// The sealed files, and then the log.
    sources: Vec<Source<'a>>,
    /// The next row of each source that has one.
    queue: BinaryHeap<Reverse<(TaskId, usize)>>,
    states: StateParser,
    last: Option<TaskId>,
    has_failed: bool,
}

/// The captures of one file that are still to be returned.
#[derive(Debug)]
struct Source<'a> {
    file: Option<&'a SealedFile>,
    blocks: &'a [BlockPlace],
    decoded: std::vec::IntoIter<StoredCapture>,
    log: &'a [StoredCapture],
}

impl<'a> Source<'a> {
    fn of_file(file: &'a SealedFile) -> Self {
        Self { file: Some(file), blocks: &file.blocks, decoded: Vec::new().into_iter(), log: &[] }
    }

    fn of_log(log: &'a [StoredCapture]) -> Self {
        Self { file: None, blocks: &[], decoded: Vec::new().into_iter(), log }
    }

    fn next_row(&self) -> Option<TaskId> {
        let decoded = self.decoded.as_slice().first().map(|capture| capture.row);
        let in_block = || self.blocks.first().map(|block| block.header.first);
        decoded.or_else(in_block).or_else(|| self.log.first().map(|capture| capture.row))
    }

    fn next_capture(&mut self) -> Result<Option<StoredCapture>, CaptureError> {
        if self.decoded.as_slice().is_empty()
            && let (Some(file), Some((block, rest))) = (self.file, self.blocks.split_first())
        {
            self.decoded = file.read(block)?.into_iter();
            self.blocks = rest;
        }
        if let Some(capture) = self.decoded.next() {
            return Ok(Some(capture));
        }
        let Some((capture, rest)) = self.log.split_first() else { return Ok(None) };
        self.log = rest;
        Ok(Some(capture.clone()))
    }
}

impl CaptureIter<'_> {
    fn queue_next(&mut self, source: usize) {
        if let Some(row) = self.sources[source].next_row() {
            self.queue.push(Reverse((row, source)));
        }
    }

    fn advance(&mut self) -> Result<Option<Capture>, CaptureError> {
        // The file that was written first comes first.
        while let Some(Reverse((row, source))) = self.queue.pop() {
            let capture = self.sources[source].next_capture()?;
            self.queue_next(source);
            if let Some(capture) = capture.filter(|_| self.last != Some(row)) {
                self.last = Some(row);
                return self.states.parse(capture).map(Some);
            }
        }
        Ok(None)
    }
}

impl Iterator for CaptureIter<'_> {
    type Item = Result<Capture, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let next = self.advance();
        self.has_failed = next.is_err();
        next.transpose()
    }
}

/// Finds the captures of single rows.
#[derive(Debug)]
pub struct CaptureLookup {
    reader: CaptureReader,
    /// The blocks that were used last, by file and block.
    blocks: VecDeque<((usize, usize), Vec<StoredCapture>)>,
    states: StateParser,
}

impl CaptureLookup {
    /// Returns the capture of a row: the first that was appended. Returns `None` if it has none.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or is damaged.
    pub fn get(&mut self, row: TaskId) -> Result<Option<Capture>, CaptureError> {
        for file in 0..self.reader.sealed.len() {
            let blocks = &self.reader.sealed[file].blocks;
            let block = blocks.partition_point(|block| block.header.last < row);
            if blocks.get(block).is_some_and(|place| place.header.first <= row)
                && let Some(capture) = find(self.block((file, block))?, row)
            {
                return self.states.parse(capture).map(Some);
            }
        }
        find(&self.reader.log, row).map(|capture| self.states.parse(capture)).transpose()
    }

    fn block(&mut self, place: (usize, usize)) -> Result<&[StoredCapture], CaptureError> {
        let cached = self.blocks.iter().position(|(cached, _)| *cached == place);
        let entry = if let Some(entry) = cached.and_then(|index| self.blocks.remove(index)) {
            entry
        } else {
            let file = &self.reader.sealed[place.0];
            (place, file.read(&file.blocks[place.1])?)
        };
        self.blocks.truncate(CACHED_BLOCKS - 1);
        self.blocks.push_front(entry);
        Ok(self.blocks.front().map_or(&[], |(_, captures)| captures))
    }
}

fn find(captures: &[StoredCapture], row: TaskId) -> Option<StoredCapture> {
    let index = captures.binary_search_by_key(&row, |capture| capture.row).ok()?;
    captures.get(index).cloned()
}

/// Parses states, and keeps some of them: most captures of a job share a few.
#[derive(Debug, Default)]
struct StateParser {
    parsed: HashMap<Arc<str>, Arc<FormerState>>,
    bytes: usize,
}

impl StateParser {
    fn parse(&mut self, capture: StoredCapture) -> Result<Capture, CaptureError> {
        let StoredCapture { row, version, state } = capture;
        if let Some(former) = self.parsed.get(&state) {
            return Ok(Capture { row, version, former: Arc::clone(former) });
        }
        let former = Arc::new(FormerState::from_json(&state).map_err(|what| CaptureError::InvalidState { what })?);
        self.bytes += state.len();
        if self.bytes > CACHED_STATE_BYTES {
            self.parsed.clear();
            self.bytes = state.len();
        }
        self.parsed.insert(state, Arc::clone(&former));
        Ok(Capture { row, version, former })
    }
}

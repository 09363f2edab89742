//! Reads the pages of one column, one after another.

use std::rc::Rc;

use super::cut_off;
use super::delta::Delta;
use super::hybrid::Hybrid;
use super::meta::{Chunk, Header, Page, Storage, header};
use crate::manifest::inventory::columnar::input::Input;
use crate::manifest::inventory::columnar::unpack::{Packing, unpack};
use crate::manifest::inventory::columnar::{Broken, Outcome, damaged, foreign};

/// The largest page or dictionary in bytes. Writers make them 1 MiB large.
const MAX_PAGE: u64 = 32 << 20;

/// The buffer capacity, in bytes, that a column always keeps for its next page.
const KEPT: usize = 2 << 20;

/// The numbers of bytes to read for a page header, tried in this order. The first is usually enough.
const WINDOWS: [u64; 3] = [1 << 10, 64 << 10, 2 << 20];

/// How the values of a page are encoded, and where the next value is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Coding {
    /// One value after another, starting at this byte; booleans start at this bit.
    Plain(usize),
    /// Indexes into the dictionary.
    Places(Hybrid),
    /// Booleans in runs.
    Runs(Hybrid),
    /// Delta-encoded integers.
    Differences(Delta),
    /// The delta-encoded lengths of the strings, and the offset of the next string.
    Lengths(Delta, usize),
    /// The number of bytes that a string shares with the previous one, the length of its rest, and the offset of the
    /// next rest.
    Rests(Delta, Delta, usize),
}

/// The position of a column in its chunk, and the current page.
pub(super) struct Pages {
    input: Rc<Input>,
    storage: Storage,
    optional: bool,
    packing: Packing,
    at: u64,
    end: u64,
    /// The decompressed bytes of the current page.
    pub(super) page: Vec<u8>,
    page_held: usize,
    pub(super) dictionary: Dictionary,
    dictionary_held: usize,
    packed: Vec<u8>,
    /// The number of values left in the current page.
    pub(super) left: u64,
    /// Which values of the page are present; `None` if all are.
    pub(super) present: Option<Hybrid>,
    pub(super) coding: Coding,
}

#[derive(Default)]
pub(super) struct Dictionary {
    pub(super) bytes: Vec<u8>,
    /// The offset of each string, after its length.
    pub(super) texts: Vec<u32>,
}

impl Pages {
    pub(super) fn new(input: Rc<Input>, storage: Storage, optional: bool) -> Self {
        Self {
            input,
            storage,
            optional,
            packing: Packing::None,
            at: 0,
            end: 0,
            page: Vec::new(),
            page_held: 0,
            dictionary: Dictionary::default(),
            dictionary_held: 0,
            packed: Vec::new(),
            left: 0,
            present: None,
            coding: Coding::Plain(0),
        }
    }

    /// Moves to the start of a chunk.
    pub(super) fn enter(&mut self, chunk: Chunk) -> Outcome<()> {
        let end = chunk.start.checked_add(chunk.bytes).filter(|end| *end <= self.input.size());
        let Some(end) = end else { return damaged("its footer points behind its end") };
        if self.left > 0 {
            return damaged("a row group has more values than rows");
        }
        (self.packing, self.at, self.end) = (chunk.packing, chunk.start, end);
        self.dictionary = Dictionary::default();
        self.input.hold(&mut self.dictionary_held, 0)
    }

    /// Moves to the next page that has values.
    pub(super) fn turn(&mut self) -> Outcome<()> {
        while self.left == 0 {
            if self.at >= self.end {
                return damaged("a row group has fewer values than rows");
            }
            let header = self.header()?;
            self.at += header.bytes;
            if header.packed > self.end - self.at {
                return damaged("a page reaches behind its row group");
            }
            self.load(header)?;
            self.at += header.packed;
        }
        Ok(())
    }

    fn header(&mut self) -> Outcome<Header> {
        for window in WINDOWS {
            let bytes = window.min(self.end - self.at);
            self.input.read(self.at, size(bytes)?, &mut self.packed)?;
            if let Some(header) = header(&self.packed)? {
                return Ok(header);
            }
            if bytes < window {
                return damaged("the header of a page is cut off");
            }
        }
        foreign("the header of a page is too large")
    }

    fn load(&mut self, header: Header) -> Outcome<()> {
        if matches!(header.page, Page::Other) {
            return Ok(());
        }
        if header.unpacked > MAX_PAGE || header.packed > MAX_PAGE {
            return foreign(format!(
                "a page has {} bytes, and the most is {MAX_PAGE}",
                header.unpacked.max(header.packed)
            ));
        }
        let (unpacked, packed) = (size(header.unpacked)?, size(header.packed)?);
        self.input.hold(&mut self.page_held, unpacked.saturating_add(packed))?;
        for buffer in [&mut self.page, &mut self.packed] {
            // Do not keep the buffer of a large page for small ones.
            if buffer.capacity() > KEPT + 2 * unpacked.max(packed) {
                *buffer = Vec::new();
            }
        }
        self.input.read(self.at, packed, &mut self.packed)?;
        match header.page {
            Page::Other => Ok(()),
            Page::Dictionary { values } => {
                unpack(self.packing, &self.packed, unpacked, &mut self.page)?;
                self.look_up(values)
            }
            Page::Data { values, encoding } => {
                unpack(self.packing, &self.packed, unpacked, &mut self.page)?;
                let begins = if self.optional { self.levels(0)? } else { 0 };
                self.begin(values, encoding, begins)
            }
            Page::Second { values, encoding, levels, repetition, packed } => {
                if repetition > 0 {
                    return foreign("a column holds more than one value in a row");
                }
                let levels = size(levels)?;
                let Some((before, behind)) = self.packed.split_at_checked(levels) else {
                    return damaged("a page is shorter than its levels");
                };
                let packing = if packed { self.packing } else { Packing::None };
                // A page without values may have nothing to decompress.
                if behind.is_empty() {
                    self.page.clear();
                } else {
                    unpack(packing, behind, unpacked.saturating_sub(levels), &mut self.page)?;
                }
                let begins = self.page.len();
                self.page.extend_from_slice(before);
                // The levels are now after the values, so that both are in one buffer.
                self.present = self.optional.then(|| Hybrid::new(1, begins, begins + levels)).transpose()?;
                self.begin(values, encoding, 0)
            }
        }
    }

    /// Makes the current page the dictionary.
    fn look_up(&mut self, values: u64) -> Outcome<()> {
        let mut found = Dictionary { bytes: std::mem::take(&mut self.page), texts: Vec::new() };
        if self.storage == Storage::Bytes {
            let mut at = 0;
            while u64::try_from(found.texts.len()).unwrap_or(u64::MAX) < values {
                let (begins, ends) = text(&found.bytes, at)?;
                found.texts.push(u32::try_from(begins).unwrap_or(u32::MAX));
                at = ends;
            }
        }
        let held = found.bytes.len() + found.texts.len() * size_of::<u32>();
        self.dictionary = found;
        self.input.hold(&mut self.dictionary_held, held)?;
        self.input.hold(&mut self.page_held, 0)
    }

    /// Finds the levels of a data page of version 1. Returns the offset of its values.
    fn levels(&mut self, at: usize) -> Outcome<usize> {
        let (begins, ends) = text(&self.page, at)?;
        self.present = Some(Hybrid::new(1, begins, ends)?);
        Ok(ends)
    }

    fn begin(&mut self, values: u64, encoding: i64, at: usize) -> Outcome<()> {
        self.left = values;
        let end = self.page.len();
        self.coding = match (encoding, self.storage) {
            (0, Storage::Bits) => Coding::Plain(at * 8),
            (0, _) => Coding::Plain(at),
            (2 | 8, Storage::Bits) => return damaged("truth values have a dictionary"),
            (2 | 8, _) => match self.page.get(at) {
                Some(width) => Coding::Places(Hybrid::new(u32::from(*width), at + 1, end)?),
                // All values of the page are null.
                None => Coding::Places(Hybrid::default()),
            },
            (3, Storage::Bits) => {
                let (begins, ends) = if end == at { (at, at) } else { text(&self.page, at)? };
                Coding::Runs(Hybrid::new(1, begins, ends)?)
            }
            (5..=7, _) if end == at => Coding::Plain(at),
            (5, Storage::Four | Storage::Eight) => Coding::Differences(Delta::new(&self.page, at)?),
            (6, Storage::Bytes) => {
                let lengths = Delta::new(&self.page, at)?;
                Coding::Lengths(lengths, lengths.end(&self.page)?)
            }
            (7, Storage::Bytes) => {
                let prefixes = Delta::new(&self.page, at)?;
                let rests = Delta::new(&self.page, prefixes.end(&self.page)?)?;
                if prefixes.left() != rests.left() {
                    return damaged("a page has fewer texts than it says");
                }
                Coding::Rests(prefixes, rests, rests.end(&self.page)?)
            }
            (other, _) => return foreign(format!("a page has the encoding {other}")),
        };
        Ok(())
    }
}

/// Returns the start and end offsets of the string at `at`, after the four bytes of its length.
pub(super) fn text(page: &[u8], at: usize) -> Outcome<(usize, usize)> {
    let begins = at.saturating_add(4);
    let length = page.get(at..begins).and_then(|length| <[u8; 4]>::try_from(length).ok());
    let length = length.and_then(|length| usize::try_from(u32::from_le_bytes(length)).ok());
    match length.and_then(|length| begins.checked_add(length)).filter(|end| *end <= page.len()) {
        Some(ends) => Ok((begins, ends)),
        None => Err(cut_off()),
    }
}

fn size(bytes: u64) -> Outcome<usize> {
    usize::try_from(bytes).map_err(|_| Broken::Foreign(format!("{bytes} bytes are too many")))
}

//! Reads the pages of one column, one after another.

use std::rc::Rc;

use super::delta::ParquetDeltaDecoder;
use super::hybrid::ParquetHybridDecoder;
use super::meta::{ParquetColumnChunk, ParquetPageHeader, ParquetPageKind, ParquetStorage, parse_page_header};
use super::page_cut_off;
use crate::compression::{BlockCompression, decompress};
use crate::input::RandomAccessFile;
use crate::{ColumnarError, ColumnarResult, damaged, unsupported};

/// The largest page or dictionary in bytes. Writers make them 1 MiB large.
const MAX_PAGE: u64 = 32 << 20;

/// The buffer capacity, in bytes, that a column always keeps for its next page.
const KEPT_CAPACITY: usize = 2 << 20;

/// The numbers of bytes to read for a page header, tried in this order. The first is usually enough.
const HEADER_READ_SIZES: [u64; 3] = [1 << 10, 64 << 10, 2 << 20];

/// How the values of a page are encoded, and where the next value is.
#[derive(Clone, Copy, Debug)]
pub(super) enum ParquetPageDecoder {
    /// One value after another, starting at this byte; booleans start at this bit.
    Plain(usize),
    /// Indexes into the dictionary.
    DictionaryIndexes(ParquetHybridDecoder),
    /// Booleans in runs.
    BooleanRuns(ParquetHybridDecoder),
    /// Delta-encoded integers.
    Deltas(ParquetDeltaDecoder),
    /// The delta-encoded lengths of the strings, and the offset of the next string.
    DeltaLengths(ParquetDeltaDecoder, usize),
    /// The number of bytes that a string shares with the previous one, the length of its rest, and the offset of the
    /// next rest.
    DeltaStrings(ParquetDeltaDecoder, ParquetDeltaDecoder, usize),
}

/// The position of a column in its chunk, and the current page.
pub(super) struct ParquetColumnPages {
    input: Rc<RandomAccessFile>,
    storage: ParquetStorage,
    optional: bool,
    compression: BlockCompression,
    at: u64,
    end: u64,
    /// The decompressed bytes of the current page; in version 2 without its levels.
    pub(super) page: Vec<u8>,
    /// The levels of the current page, which say which values are present.
    pub(super) levels: Vec<u8>,
    page_held: usize,
    pub(super) dictionary: ParquetDictionary,
    dictionary_held: usize,
    compressed: Vec<u8>,
    /// The number of values left in the current page.
    pub(super) remaining: u64,
    /// Which values of the page are present; `None` if all are.
    pub(super) present: Option<ParquetHybridDecoder>,
    pub(super) decoder: ParquetPageDecoder,
}

#[derive(Default)]
pub(super) struct ParquetDictionary {
    pub(super) bytes: Vec<u8>,
    /// The offset of each string, after its length.
    pub(super) text_offsets: Vec<u32>,
}

impl ParquetColumnPages {
    pub(super) fn new(input: Rc<RandomAccessFile>, storage: ParquetStorage, optional: bool) -> Self {
        Self {
            input,
            storage,
            optional,
            compression: BlockCompression::None,
            at: 0,
            end: 0,
            page: Vec::new(),
            levels: Vec::new(),
            page_held: 0,
            dictionary: ParquetDictionary::default(),
            dictionary_held: 0,
            compressed: Vec::new(),
            remaining: 0,
            present: None,
            decoder: ParquetPageDecoder::Plain(0),
        }
    }

    /// Moves to the start of a chunk.
    pub(super) fn start_chunk(&mut self, chunk: ParquetColumnChunk) -> ColumnarResult<()> {
        let end = chunk.start.checked_add(chunk.bytes).filter(|end| *end <= self.input.size());
        let Some(end) = end else { return damaged("its footer points past the end of the file") };
        if self.remaining > 0 {
            return damaged("a row group has more values than rows");
        }
        (self.compression, self.at, self.end) = (chunk.compression, chunk.start, end);
        self.dictionary = ParquetDictionary::default();
        self.input.update_held_bytes(&mut self.dictionary_held, 0)
    }

    /// Moves to the next page that has values.
    pub(super) fn next_page(&mut self) -> ColumnarResult<()> {
        while self.remaining == 0 {
            if self.at >= self.end {
                return damaged("a row group has fewer values than rows");
            }
            let header = self.read_header()?;
            self.at += header.header_size;
            if header.compressed_size > self.end - self.at {
                return damaged("a page extends past its row group");
            }
            self.load_page(header)?;
            self.at += header.compressed_size;
        }
        Ok(())
    }

    fn read_header(&mut self) -> ColumnarResult<ParquetPageHeader> {
        for window in HEADER_READ_SIZES {
            let bytes = window.min(self.end - self.at);
            self.input.read_at(self.at, to_usize(bytes)?, &mut self.compressed)?;
            if let Some(header) = parse_page_header(&self.compressed)? {
                return Ok(header);
            }
            if bytes < window {
                return damaged("a page header is truncated");
            }
        }
        unsupported("a page header is too large")
    }

    fn load_page(&mut self, header: ParquetPageHeader) -> ColumnarResult<()> {
        if matches!(header.kind, ParquetPageKind::Other) {
            return Ok(());
        }
        if header.uncompressed_size > MAX_PAGE || header.compressed_size > MAX_PAGE {
            return unsupported(format!(
                "a page has {} bytes (maximum {MAX_PAGE})",
                header.uncompressed_size.max(header.compressed_size)
            ));
        }
        let (unpacked, packed) = (to_usize(header.uncompressed_size)?, to_usize(header.compressed_size)?);
        // The levels are a copy of a part of the page.
        self.input.update_held_bytes(&mut self.page_held, unpacked.saturating_mul(2).saturating_add(packed))?;
        for buffer in [&mut self.page, &mut self.levels, &mut self.compressed] {
            // Do not keep the buffer of a large page for small ones.
            if buffer.capacity() > KEPT_CAPACITY + 2 * unpacked.max(packed) {
                *buffer = Vec::new();
            }
        }
        self.input.read_at(self.at, packed, &mut self.compressed)?;
        match header.kind {
            ParquetPageKind::Other => Ok(()),
            ParquetPageKind::Dictionary { values } => {
                decompress(self.compression, &self.compressed, unpacked, &mut self.page)?;
                self.load_dictionary(values)
            }
            ParquetPageKind::Data { values, encoding } => {
                decompress(self.compression, &self.compressed, unpacked, &mut self.page)?;
                let begins = if self.optional { self.read_levels(0)? } else { 0 };
                self.start_values(values, encoding, begins)
            }
            ParquetPageKind::DataVersion2 { values, encoding, levels, repetition, compressed: packed } => {
                if repetition > 0 {
                    return unsupported("a column has more than one value per row");
                }
                let levels = to_usize(levels)?;
                let Some((levels, compressed)) = self.compressed.split_at_checked(levels) else {
                    return damaged("a page is shorter than its levels");
                };
                let packing = if packed { self.compression } else { BlockCompression::None };
                // A page without values may have nothing to decompress.
                if compressed.is_empty() {
                    self.page.clear();
                } else {
                    decompress(packing, compressed, unpacked.saturating_sub(levels.len()), &mut self.page)?;
                }
                self.levels.clear();
                self.levels.extend_from_slice(levels);
                self.present = self.optional.then(|| self.level_decoder()).transpose()?;
                self.start_values(values, encoding, 0)
            }
        }
    }

    /// Makes the current page the dictionary.
    fn load_dictionary(&mut self, values: u64) -> ColumnarResult<()> {
        let mut found = ParquetDictionary { bytes: std::mem::take(&mut self.page), text_offsets: Vec::new() };
        if self.storage == ParquetStorage::ByteArrays {
            let mut at = 0;
            while u64::try_from(found.text_offsets.len()).unwrap_or(u64::MAX) < values {
                let (begins, ends) = text_range(&found.bytes, at)?;
                found.text_offsets.push(u32::try_from(begins).unwrap_or(u32::MAX));
                at = ends;
            }
        }
        let held = found.bytes.len() + found.text_offsets.len() * size_of::<u32>();
        self.dictionary = found;
        self.input.update_held_bytes(&mut self.dictionary_held, held)?;
        self.input.update_held_bytes(&mut self.page_held, 0)
    }

    /// Finds the levels of a data page of version 1. Returns the offset of its values.
    fn read_levels(&mut self, at: usize) -> ColumnarResult<usize> {
        let (begins, ends) = text_range(&self.page, at)?;
        self.levels.clear();
        self.levels.extend_from_slice(&self.page[begins..ends]);
        self.present = Some(self.level_decoder()?);
        Ok(ends)
    }

    fn level_decoder(&self) -> ColumnarResult<ParquetHybridDecoder> {
        ParquetHybridDecoder::new(1, 0, self.levels.len())
    }

    fn start_values(&mut self, values: u64, encoding: i64, at: usize) -> ColumnarResult<()> {
        self.remaining = values;
        let end = self.page.len();
        self.decoder = match (encoding, self.storage) {
            (0, ParquetStorage::Booleans) => ParquetPageDecoder::Plain(at * 8),
            (0, _) => ParquetPageDecoder::Plain(at),
            (2 | 8, ParquetStorage::Booleans) => return damaged("a boolean column has a dictionary"),
            (2 | 8, _) => match self.page.get(at) {
                Some(width) => {
                    ParquetPageDecoder::DictionaryIndexes(ParquetHybridDecoder::new(u32::from(*width), at + 1, end)?)
                }
                // All values of the page are null.
                None => ParquetPageDecoder::DictionaryIndexes(ParquetHybridDecoder::default()),
            },
            (3, ParquetStorage::Booleans) => {
                let (begins, ends) = if end == at { (at, at) } else { text_range(&self.page, at)? };
                ParquetPageDecoder::BooleanRuns(ParquetHybridDecoder::new(1, begins, ends)?)
            }
            (5..=7, _) if end == at => ParquetPageDecoder::Plain(at),
            (5, ParquetStorage::Int32 | ParquetStorage::Int64) => {
                ParquetPageDecoder::Deltas(ParquetDeltaDecoder::new(&self.page, at)?)
            }
            (6, ParquetStorage::ByteArrays) => {
                let lengths = ParquetDeltaDecoder::new(&self.page, at)?;
                ParquetPageDecoder::DeltaLengths(lengths, lengths.end_offset(&self.page)?)
            }
            (7, ParquetStorage::ByteArrays) => {
                let prefixes = ParquetDeltaDecoder::new(&self.page, at)?;
                let rests = ParquetDeltaDecoder::new(&self.page, prefixes.end_offset(&self.page)?)?;
                if prefixes.remaining() != rests.remaining() {
                    return damaged("a page has fewer strings than it declares");
                }
                ParquetPageDecoder::DeltaStrings(prefixes, rests, rests.end_offset(&self.page)?)
            }
            (other, _) => return unsupported(format!("a page has the unsupported encoding {other}")),
        };
        Ok(())
    }
}

/// Returns the start and end offsets of the string at `at`, after the four bytes of its length.
pub(super) fn text_range(page: &[u8], at: usize) -> ColumnarResult<(usize, usize)> {
    let begins = at.saturating_add(4);
    let length = page.get(at..begins).and_then(|length| <[u8; 4]>::try_from(length).ok());
    let length = length.and_then(|length| usize::try_from(u32::from_le_bytes(length)).ok());
    match length.and_then(|length| begins.checked_add(length)).filter(|end| *end <= page.len()) {
        Some(ends) => Ok((begins, ends)),
        None => Err(page_cut_off()),
    }
}

fn to_usize(bytes: u64) -> ColumnarResult<usize> {
    usize::try_from(bytes).map_err(|_| ColumnarError::Unsupported(format!("{bytes} bytes are too many")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data page of version 2 with three rows that are null, and no byte of values.
    fn page_of_nulls(encoding: u8) -> Vec<u8> {
        let levels = [6, 0]; // One run: three times 0.
        let header = [0x15, 6, 0x15, 4, 0x15, 4, 0x5c, 0x15, 6, 0x15, 6, 0x15, 6, 0x15, encoding * 2, 0x15, 4, 0x15, 0];
        [&header[..], &[0x12, 0, 0], &levels].concat()
    }

    #[test]
    fn a_page_of_nulls_has_no_values_in_any_encoding() {
        for (encoding, storage) in [
            (0, ParquetStorage::ByteArrays),
            (8, ParquetStorage::ByteArrays),
            (8, ParquetStorage::Int64),
            (3, ParquetStorage::Booleans),
            (5, ParquetStorage::Int32),
            (6, ParquetStorage::ByteArrays),
            (7, ParquetStorage::ByteArrays),
        ] {
            let bytes = page_of_nulls(encoding);
            let mut file = tempfile::tempfile().expect("a file");
            std::io::Write::write_all(&mut file, &bytes).expect("written");
            let input = Rc::new(RandomAccessFile::new(file).expect("opened"));
            let mut pages = ParquetColumnPages::new(input, storage, true);
            let (compression, bytes) = (BlockCompression::None, bytes.len() as u64);
            pages
                .start_chunk(ParquetColumnChunk { start: 0, bytes, compression, values: 3 })
                .expect("it is in the file");
            pages.next_page().unwrap_or_else(|error| panic!("encoding {encoding} of {storage:?}: {error:?}"));
            let present = pages.present.as_mut().expect("the column is optional");
            for _ in 0..3 {
                assert_eq!(present.next(&pages.levels).expect("a level"), 0);
            }
            assert_eq!(pages.remaining, 3);
        }
    }
}

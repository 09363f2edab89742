//! Decodes the values of one column in one stripe.

use jiff::Timestamp;

use super::meta::{OrcColumnEncoding, OrcStorage, OrcStreamKind, OrcStreamSpan};
use super::runs::{OrcBooleanDecoder, OrcIntegerDecoder};
use super::stream::{OrcCompression, OrcStream};
use crate::input::RandomAccessFile;
use crate::{ColumnarError, ColumnarResult, CurrentValue, MAX_TEXT, damaged, unsupported};

/// The largest dictionary in bytes, decompressed. Writers make stripes of 64 MiB, and a dictionary is only part of
/// one.
const MAX_DICTIONARY: usize = 64 << 20;

/// The epoch of ORC timestamps, the first second of 2015, in seconds since 1970.
const EPOCH: i64 = 1_420_070_400;

pub(super) struct OrcColumnDecoder {
    present: Option<OrcBooleanDecoder>,
    streams: OrcColumnStreams,
}

enum OrcColumnStreams {
    Booleans(OrcBooleanDecoder),
    Integers(OrcIntegerDecoder),
    Texts { lengths: OrcIntegerDecoder, texts: OrcStream },
    DictionaryIndexes { indexes: OrcIntegerDecoder, dictionary: OrcDictionary },
    Timestamps { seconds: OrcIntegerDecoder, nanos: OrcIntegerDecoder },
}

struct OrcDictionary {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    held_bytes: usize,
}

impl OrcColumnDecoder {
    /// Opens the streams of a column.
    pub(super) fn open<'a>(
        input: &RandomAccessFile,
        packed: OrcCompression,
        stored: OrcStorage,
        encoding: OrcColumnEncoding,
        spans: &(impl Iterator<Item = &'a OrcStreamSpan> + Clone),
    ) -> ColumnarResult<Self> {
        let find = |part: OrcStreamKind| {
            let span = spans.clone().find(|span| span.kind == part);
            span.map(|span| packed.stream(span.at, span.end))
        };
        // A stream without any bytes is left out of the file.
        let stream = |part: OrcStreamKind| find(part).unwrap_or_else(|| packed.stream(0, 0));
        let second = encoding.kind >= 2;
        let by_dictionary = encoding.kind % 2 == 1;
        if encoding.kind > 3 || (by_dictionary && stored != OrcStorage::Texts) {
            return unsupported(format!("a column has the unsupported encoding {}", encoding.kind));
        }
        let form = match stored {
            OrcStorage::Booleans => OrcColumnStreams::Booleans(OrcBooleanDecoder::new(stream(OrcStreamKind::Data))),
            OrcStorage::Integers => {
                OrcColumnStreams::Integers(OrcIntegerDecoder::new(stream(OrcStreamKind::Data), second, true))
            }
            OrcStorage::Timestamps | OrcStorage::Instants => OrcColumnStreams::Timestamps {
                seconds: OrcIntegerDecoder::new(stream(OrcStreamKind::Data), second, true),
                nanos: OrcIntegerDecoder::new(stream(OrcStreamKind::Secondary), second, false),
            },
            OrcStorage::Texts if by_dictionary => OrcColumnStreams::DictionaryIndexes {
                indexes: OrcIntegerDecoder::new(stream(OrcStreamKind::Data), second, false),
                dictionary: OrcDictionary::read(
                    input,
                    OrcIntegerDecoder::new(stream(OrcStreamKind::Length), second, false),
                    stream(OrcStreamKind::Dictionary),
                    encoding.dictionary,
                )?,
            },
            OrcStorage::Texts => OrcColumnStreams::Texts {
                lengths: OrcIntegerDecoder::new(stream(OrcStreamKind::Length), second, false),
                texts: stream(OrcStreamKind::Data),
            },
        };
        Ok(Self { present: find(OrcStreamKind::Present).map(OrcBooleanDecoder::new), streams: form })
    }

    /// Returns the next value. The bytes of a text replace the content of `into`.
    pub(super) fn next(&mut self, input: &RandomAccessFile, into: &mut Vec<u8>) -> ColumnarResult<CurrentValue> {
        if let Some(present) = &mut self.present
            && !present.next(input)?
        {
            return Ok(CurrentValue::Null);
        }
        Ok(match &mut self.streams {
            OrcColumnStreams::Booleans(bits) => CurrentValue::Boolean(bits.next(input)?),
            OrcColumnStreams::Integers(integers) => CurrentValue::Integer(integers.next(input)?),
            OrcColumnStreams::Texts { lengths, texts } => {
                let length = checked_length(lengths.next(input)?, MAX_TEXT)?;
                into.clear();
                texts.read_into(input, length, into)?;
                CurrentValue::Text
            }
            OrcColumnStreams::DictionaryIndexes { indexes: places, dictionary } => {
                let text = dictionary.get(places.next(input)?)?;
                into.clear();
                into.extend_from_slice(text);
                CurrentValue::Text
            }
            OrcColumnStreams::Timestamps { seconds, nanos } => timestamp(seconds.next(input)?, nanos.next(input)?)?,
        })
    }

    /// Releases the memory that the streams and the dictionary hold.
    pub(super) fn release(self, input: &RandomAccessFile) -> ColumnarResult<()> {
        if let Some(present) = self.present {
            present.bytes.stream.release(input)?;
        }
        match self.streams {
            OrcColumnStreams::Booleans(bits) => bits.bytes.stream.release(input),
            OrcColumnStreams::Integers(integers) => integers.stream.release(input),
            OrcColumnStreams::Texts { lengths, texts } => {
                lengths.stream.release(input).and_then(|()| texts.release(input))
            }
            OrcColumnStreams::DictionaryIndexes { indexes: places, mut dictionary } => {
                input.update_held_bytes(&mut dictionary.held_bytes, 0)?;
                places.stream.release(input)
            }
            OrcColumnStreams::Timestamps { seconds, nanos } => {
                seconds.stream.release(input).and_then(|()| nanos.stream.release(input))
            }
        }
    }
}

impl OrcDictionary {
    fn read(
        input: &RandomAccessFile,
        mut lengths: OrcIntegerDecoder,
        mut texts: OrcStream,
        count: u64,
    ) -> ColumnarResult<Self> {
        let mut found = Self { bytes: Vec::new(), ends: Vec::new(), held_bytes: 0 };
        let mut left = MAX_DICTIONARY;
        for _ in 0..count {
            let length = checked_length(lengths.next(input)?, MAX_TEXT)?;
            // Count four bytes for the end offset of each string, so that empty strings are not free.
            match left.checked_sub(length + size_of::<u32>()) {
                Some(fewer) => left = fewer,
                None => return unsupported(format!("a dictionary has more than {MAX_DICTIONARY} bytes")),
            }
            texts.read_into(input, length, &mut found.bytes)?;
            found.ends.push(u32::try_from(found.bytes.len()).unwrap_or(u32::MAX));
        }
        lengths.stream.release(input)?;
        texts.release(input)?;
        input.update_held_bytes(&mut found.held_bytes, found.bytes.len() + found.ends.len() * size_of::<u32>())?;
        Ok(found)
    }

    fn get(&self, place: i64) -> ColumnarResult<&[u8]> {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let before = place.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        let end = self.ends.get(place).map(|end| *end as usize);
        let text = end.and_then(|end| self.bytes.get(before..end));
        text.ok_or_else(|| ColumnarError::Damaged("a value is not in its dictionary".to_owned()))
    }
}

fn checked_length(length: i64, most: usize) -> ColumnarResult<usize> {
    match usize::try_from(length).ok().filter(|length| *length <= most) {
        Some(length) => Ok(length),
        None => damaged(format!("a string has {} bytes (maximum {most})", length.cast_unsigned())),
    }
}

/// Converts seconds since 2015 and packed nanoseconds to a timestamp.
fn timestamp(seconds: i64, packed: i64) -> ColumnarResult<CurrentValue> {
    // The three lowest bits are the number of decimal zeros that were removed, less one. 0 means none.
    let noughts = u32::try_from(packed & 7).unwrap_or_default();
    let scale = if noughts == 0 { 1 } else { 10_i64.pow(noughts + 1) };
    let nanos = (packed >> 3).checked_mul(scale).filter(|nanos| nanos.abs() < 1_000_000_000);
    let whole = seconds.checked_add(EPOCH);
    let time = nanos.zip(whole).and_then(|(nanos, seconds)| {
        // Before 1970, writers truncate the seconds toward zero, but the nanoseconds still count forward. Some
        // writers store negative nanoseconds instead.
        let seconds = if seconds < 0 && nanos > 999_999 { seconds - 1 } else { seconds };
        Timestamp::from_nanosecond(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).ok()
    });
    match time {
        Some(time) => Ok(CurrentValue::Timestamp(time)),
        None => damaged(format!("invalid timestamp: {seconds} s since 2015, nanoseconds {packed}")),
    }
}

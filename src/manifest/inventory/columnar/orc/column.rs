//! Decodes the values of one column in one stripe.

use jiff::Timestamp;

use super::meta::{Encoding, Part, Span, Stored};
use super::runs::{Bits, Integers};
use super::stream::{Packed, Stream};
use crate::manifest::inventory::columnar::input::Input;
use crate::manifest::inventory::columnar::{Broken, Held, MAX_TEXT, Outcome, damaged, foreign};

/// The largest dictionary in bytes, decompressed. Writers make stripes of 64 MiB, and a dictionary is only part of
/// one.
const MAX_DICTIONARY: usize = 64 << 20;

/// The epoch of ORC timestamps, the first second of 2015, in seconds since 1970.
const EPOCH: i64 = 1_420_070_400;

pub(super) struct Values {
    present: Option<Bits>,
    form: Form,
}

enum Form {
    Bits(Bits),
    Integers(Integers),
    Texts { lengths: Integers, texts: Stream },
    Places { places: Integers, dictionary: Dictionary },
    Times { seconds: Integers, nanos: Integers },
}

struct Dictionary {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    held: usize,
}

impl Values {
    /// Opens the streams of a column.
    pub(super) fn open<'a>(
        input: &Input,
        packed: Packed,
        stored: Stored,
        encoding: Encoding,
        spans: &(impl Iterator<Item = &'a Span> + Clone),
    ) -> Outcome<Self> {
        let find = |part: Part| {
            let span = spans.clone().find(|span| span.part == part);
            span.map(|span| packed.stream(span.at, span.end))
        };
        // A stream without any bytes is left out of the file.
        let stream = |part: Part| find(part).unwrap_or_else(|| packed.stream(0, 0));
        let second = encoding.kind >= 2;
        let by_dictionary = encoding.kind % 2 == 1;
        if encoding.kind > 3 || (by_dictionary && stored != Stored::Texts) {
            return foreign(format!("a column has the encoding {}", encoding.kind));
        }
        let form = match stored {
            Stored::Bits => Form::Bits(Bits::new(stream(Part::Data))),
            Stored::Integers => Form::Integers(Integers::new(stream(Part::Data), second, true)),
            Stored::Times | Stored::Instants => Form::Times {
                seconds: Integers::new(stream(Part::Data), second, true),
                nanos: Integers::new(stream(Part::Secondary), second, false),
            },
            Stored::Texts if by_dictionary => Form::Places {
                places: Integers::new(stream(Part::Data), second, false),
                dictionary: Dictionary::read(
                    input,
                    Integers::new(stream(Part::Length), second, false),
                    stream(Part::Dictionary),
                    encoding.dictionary,
                )?,
            },
            Stored::Texts => {
                Form::Texts { lengths: Integers::new(stream(Part::Length), second, false), texts: stream(Part::Data) }
            }
        };
        Ok(Self { present: find(Part::Present).map(Bits::new), form })
    }

    /// Returns the next value. The bytes of a text replace the content of `into`.
    pub(super) fn next(&mut self, input: &Input, into: &mut Vec<u8>) -> Outcome<Held> {
        if let Some(present) = &mut self.present
            && !present.next(input)?
        {
            return Ok(Held::Nothing);
        }
        Ok(match &mut self.form {
            Form::Bits(bits) => Held::Truth(bits.next(input)?),
            Form::Integers(integers) => Held::Number(integers.next(input)?),
            Form::Texts { lengths, texts } => {
                let length = bounded(lengths.next(input)?, MAX_TEXT)?;
                into.clear();
                texts.take(input, length, into)?;
                Held::Text
            }
            Form::Places { places, dictionary } => {
                let text = dictionary.get(places.next(input)?)?;
                into.clear();
                into.extend_from_slice(text);
                Held::Text
            }
            Form::Times { seconds, nanos } => time(seconds.next(input)?, nanos.next(input)?)?,
        })
    }

    /// Releases the memory that the streams and the dictionary hold.
    pub(super) fn leave(self, input: &Input) -> Outcome<()> {
        if let Some(present) = self.present {
            present.bytes.stream.leave(input)?;
        }
        match self.form {
            Form::Bits(bits) => bits.bytes.stream.leave(input),
            Form::Integers(integers) => integers.stream.leave(input),
            Form::Texts { lengths, texts } => lengths.stream.leave(input).and_then(|()| texts.leave(input)),
            Form::Places { places, mut dictionary } => {
                input.hold(&mut dictionary.held, 0)?;
                places.stream.leave(input)
            }
            Form::Times { seconds, nanos } => seconds.stream.leave(input).and_then(|()| nanos.stream.leave(input)),
        }
    }
}

impl Dictionary {
    fn read(input: &Input, mut lengths: Integers, mut texts: Stream, count: u64) -> Outcome<Self> {
        let mut found = Self { bytes: Vec::new(), ends: Vec::new(), held: 0 };
        let mut left = MAX_DICTIONARY;
        for _ in 0..count {
            let length = bounded(lengths.next(input)?, MAX_TEXT)?;
            // Count four bytes for the end offset of each string, so that empty strings are not free.
            match left.checked_sub(length + size_of::<u32>()) {
                Some(fewer) => left = fewer,
                None => return foreign(format!("a dictionary has more than {MAX_DICTIONARY} bytes")),
            }
            texts.take(input, length, &mut found.bytes)?;
            found.ends.push(u32::try_from(found.bytes.len()).unwrap_or(u32::MAX));
        }
        lengths.stream.leave(input)?;
        texts.leave(input)?;
        input.hold(&mut found.held, found.bytes.len() + found.ends.len() * size_of::<u32>())?;
        Ok(found)
    }

    fn get(&self, place: i64) -> Outcome<&[u8]> {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let before = place.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        let end = self.ends.get(place).map(|end| *end as usize);
        let text = end.and_then(|end| self.bytes.get(before..end));
        text.ok_or_else(|| Broken::Damaged("a value is not in its dictionary".to_owned()))
    }
}

fn bounded(length: i64, most: usize) -> Outcome<usize> {
    match usize::try_from(length).ok().filter(|length| *length <= most) {
        Some(length) => Ok(length),
        None => damaged(format!("a text has {} bytes, and the most is {most}", length.cast_unsigned())),
    }
}

/// Converts seconds since 2015 and packed nanoseconds to a timestamp.
fn time(seconds: i64, packed: i64) -> Outcome<Held> {
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
        Some(time) => Ok(Held::Time(time)),
        None => damaged(format!("{seconds} s since 2015 and {packed} are no time")),
    }
}

//! Reads Parquet files: row groups, which contain column chunks, which contain pages.
//!
//! <https://github.com/apache/parquet-format>

mod delta;
mod hybrid;
mod meta;
mod page;
mod thrift;

use std::collections::VecDeque;
use std::rc::Rc;

use jiff::Timestamp;

use self::meta::{Chunk, Column, Storage, Units};
use self::page::{Coding, Pages, text};
use super::input::Input;
use super::{Broken, Held, Kind, MAX_TEXT, Outcome, Value, damaged};

/// The largest footer in bytes: enough for about ten thousand row groups. A file of an inventory has ten.
const MAX_FOOTER: u64 = 8 << 20;

/// The Julian day number of 1970-01-01. Timestamps of twelve bytes store Julian days.
const EPOCH_DAY: i64 = 2_440_588;

/// A Parquet file, positioned at one of its rows.
pub(in crate::manifest::inventory) struct Reader {
    input: Rc<Input>,
    footer: Vec<u8>,
    names: Vec<String>,
    columns: Vec<Column>,
    /// The selected columns, each at its index among all columns.
    picked: Vec<Option<Values>>,
    groups: VecDeque<(u64, Vec<Chunk>)>,
    /// The number of rows left in the current row group.
    left: u64,
}

impl Reader {
    pub(super) fn open(input: Input) -> Outcome<Self> {
        let mut end = Vec::new();
        let size = input.size();
        if size < 12 {
            return damaged("it is too short");
        }
        input.read(size - 8, 8, &mut end)?;
        let bytes = meta::footer_size(&end, MAX_FOOTER)?;
        let Some(begins) = (size - 8).checked_sub(bytes) else { return damaged("its footer is longer than it is") };
        let mut footer = Vec::new();
        input.read(begins, usize::try_from(bytes).unwrap_or(usize::MAX), &mut footer)?;
        let columns = meta::columns(&footer)?;
        let names = columns.iter().map(|column| column.name.clone()).collect();
        Ok(Self { input: Rc::new(input), footer, names, columns, picked: Vec::new(), groups: VecDeque::new(), left: 0 })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn kind(&self, column: usize) -> Outcome<Kind> {
        match self.columns.get(column) {
            Some(column) => column.storage().map(|(_, kind, _)| kind),
            None => damaged("a column is missing"),
        }
    }

    pub(super) fn pick(&mut self, places: &[usize]) -> Outcome<()> {
        let mut leaves = Vec::new();
        self.picked = self.columns.iter().map(|_| None).collect();
        let mut order = places.to_vec();
        order.sort_unstable();
        order.dedup();
        for place in order {
            let Some(column) = self.columns.get(place) else { return damaged("a column is missing") };
            let (storage, _, units) = column.storage()?;
            leaves.extend(column.leaf);
            self.picked[place] = Some(Values {
                pages: Pages::new(Rc::clone(&self.input), storage, column.optional),
                storage,
                units,
                held: Held::Nothing,
                text: Vec::new(),
            });
        }
        let groups = &mut self.groups;
        meta::groups(&self.footer, &leaves, |rows, chunks| groups.push_back((rows, chunks)))?;
        self.footer = Vec::new();
        self.input.expect_rows(self.groups.iter().map(|(rows, _)| *rows))
    }

    pub(super) fn advance(&mut self) -> Outcome<bool> {
        while self.left == 0 {
            let Some((rows, chunks)) = self.groups.pop_front() else { return Ok(false) };
            for (values, chunk) in self.picked.iter_mut().flatten().zip(chunks) {
                if chunk.values != rows {
                    return damaged(format!("a row group has {rows} rows and {} values in a column", chunk.values));
                }
                values.pages.enter(chunk)?;
            }
            self.left = rows;
        }
        self.left -= 1;
        self.picked.iter_mut().flatten().try_for_each(Values::advance)?;
        Ok(true)
    }

    pub(super) fn value(&self, column: usize) -> Value<'_> {
        match self.picked.get(column) {
            Some(Some(values)) => values.held.value(&values.text),
            _ => Value::Nothing,
        }
    }
}

/// Decodes the values of one column.
struct Values {
    pages: Pages,
    storage: Storage,
    units: Option<Units>,
    held: Held,
    text: Vec<u8>,
}

impl Values {
    fn advance(&mut self) -> Outcome<()> {
        if self.pages.left == 0 {
            self.pages.turn()?;
        }
        self.pages.left -= 1;
        let pages = &mut self.pages;
        if let Some(present) = &mut pages.present
            && present.next(&pages.page)? == 0
        {
            self.held = Held::Nothing;
            return Ok(());
        }
        self.held = match &mut pages.coding {
            Coding::Plain(at) => match self.storage {
                Storage::Bits => {
                    let byte = pages.page.get(*at / 8).ok_or_else(cut_off)?;
                    let truth = byte >> (*at % 8) & 1 == 1;
                    *at += 1;
                    Held::Truth(truth)
                }
                Storage::Bytes => {
                    let (begins, ends) = text(&pages.page, *at)?;
                    *at = ends;
                    replace(&mut self.text, 0, &pages.page[begins..ends])?
                }
                storage => {
                    let begins = *at;
                    *at += width(storage);
                    fixed(storage, self.units, pages.page.get(begins..*at))?
                }
            },
            Coding::Runs(hybrid) => Held::Truth(hybrid.next(&pages.page)? == 1),
            Coding::Places(hybrid) => {
                let place = hybrid.next(&pages.page)?;
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                let dictionary = &pages.dictionary;
                if self.storage == Storage::Bytes {
                    let begins = dictionary.texts.get(place).ok_or_else(not_there)?;
                    let (begins, ends) = text(&dictionary.bytes, (*begins as usize).saturating_sub(4))?;
                    replace(&mut self.text, 0, &dictionary.bytes[begins..ends])?
                } else {
                    let begins = place.saturating_mul(width(self.storage));
                    let bytes = dictionary.bytes.get(begins..begins.saturating_add(width(self.storage)));
                    fixed(self.storage, self.units, Some(bytes.ok_or_else(not_there)?))?
                }
            }
            Coding::Differences(delta) => number(self.units, delta.next(&pages.page)?, self.storage)?,
            Coding::Lengths(lengths, at) => {
                let rest = take(&pages.page, at, lengths.next(&pages.page)?)?;
                replace(&mut self.text, 0, rest)?
            }
            Coding::Rests(prefixes, lengths, at) => {
                let kept = usize::try_from(prefixes.next(&pages.page)?).unwrap_or(usize::MAX);
                if kept > self.text.len() {
                    return damaged("a text begins with more than there was of the one before");
                }
                let rest = take(&pages.page, at, lengths.next(&pages.page)?)?;
                replace(&mut self.text, kept, rest)?
            }
        };
        Ok(())
    }
}

/// Replaces the previous text with its first `kept` bytes, followed by `rest`.
fn replace(into: &mut Vec<u8>, kept: usize, rest: &[u8]) -> Outcome<Held> {
    if kept + rest.len() > MAX_TEXT {
        return damaged(format!("a text is longer than {MAX_TEXT} bytes"));
    }
    into.truncate(kept);
    into.extend_from_slice(rest);
    Ok(Held::Text)
}

fn take<'a>(page: &'a [u8], at: &mut usize, length: i64) -> Outcome<&'a [u8]> {
    let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length));
    let taken = end.and_then(|end| page.get(*at..end)).ok_or_else(cut_off)?;
    *at += taken.len();
    Ok(taken)
}

fn width(storage: Storage) -> usize {
    match storage {
        Storage::Bits | Storage::Bytes => 0,
        Storage::Four => 4,
        Storage::Eight => 8,
        Storage::Twelve => 12,
    }
}

fn fixed(storage: Storage, units: Option<Units>, bytes: Option<&[u8]>) -> Outcome<Held> {
    let bytes = bytes.ok_or_else(cut_off)?;
    let little = |bytes: &[u8]| {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        i64::from_le_bytes(whole)
    };
    match storage {
        Storage::Four => {
            let whole = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            number(units, i64::from(whole), storage)
        }
        Storage::Twelve => {
            let (nanos, day) = (little(&bytes[..8]), little(&bytes[8..]));
            let seconds = (day - EPOCH_DAY) * 86_400;
            time(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
        }
        Storage::Eight | Storage::Bits | Storage::Bytes => number(units, little(bytes), storage),
    }
}

fn number(units: Option<Units>, number: i64, storage: Storage) -> Outcome<Held> {
    match units {
        Some(units) => time(i128::from(number) * i128::from(1_000_000_000 / units)),
        // Sums of four-byte differences wrap around at 32 bits.
        None if storage == Storage::Four => Ok(Held::Number(number << 32 >> 32)),
        None => Ok(Held::Number(number)),
    }
}

fn time(nanos: i128) -> Outcome<Held> {
    match Timestamp::from_nanosecond(nanos) {
        Ok(time) => Ok(Held::Time(time)),
        Err(_) => damaged(format!("{nanos} ns since 1970 is no time")),
    }
}

fn cut_off() -> Broken {
    Broken::Damaged("a page ends before its values do".to_owned())
}

fn not_there() -> Broken {
    Broken::Damaged("a value is not in its dictionary".to_owned())
}

//! Reads ORC files: stripes, which contain streams of columns, which contain runs.
//!
//! <https://orc.apache.org/specification/ORCv1/>

mod column;
mod meta;
mod proto;
mod runs;
mod stream;

use std::collections::VecDeque;
use std::rc::Rc;

use self::column::Values;
use self::meta::{Column, Stored, Stripe};
use self::stream::Packed;
use super::input::Input;
use super::{Held, Kind, Outcome, Value, damaged, foreign};

/// The time zone names that mean UTC.
const UTC: [&str; 7] = ["", "UTC", "GMT", "Z", "Etc/UTC", "Etc/GMT", "UCT"];

/// An ORC file, positioned at one of its rows.
pub(in crate::manifest::inventory) struct Reader {
    input: Rc<Input>,
    names: Vec<String>,
    columns: Vec<Column>,
    stripes: VecDeque<Stripe>,
    packed: Packed,
    /// The selected columns, each at its index among all columns.
    picked: Vec<Option<Picked>>,
    /// The number of rows left in the current stripe.
    left: u64,
}

struct Picked {
    stored: Stored,
    values: Option<Values>,
    held: Held,
    text: Vec<u8>,
}

impl Reader {
    pub(super) fn open(input: Input) -> Outcome<Self> {
        let footer = meta::footer(&input)?;
        input.expect_rows(footer.stripes.iter().map(|stripe| stripe.rows))?;
        Ok(Self {
            input: Rc::new(input),
            names: footer.names,
            columns: footer.columns,
            stripes: footer.stripes.into(),
            packed: footer.packed,
            picked: Vec::new(),
            left: 0,
        })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn kind(&self, column: usize) -> Outcome<Kind> {
        self.stored(column).map(|(_, kind)| kind)
    }

    fn stored(&self, column: usize) -> Outcome<(Stored, Kind)> {
        match (self.columns.get(column), self.names.get(column)) {
            (Some(column), Some(name)) => column.stored(name),
            _ => damaged("a column is missing"),
        }
    }

    pub(super) fn pick(&mut self, places: &[usize]) -> Outcome<()> {
        self.picked = self.columns.iter().map(|_| None).collect();
        for place in places {
            let (stored, _) = self.stored(*place)?;
            self.picked[*place] = Some(Picked { stored, values: None, held: Held::Nothing, text: Vec::new() });
        }
        Ok(())
    }

    pub(super) fn advance(&mut self) -> Outcome<bool> {
        while self.left == 0 {
            let Some(stripe) = self.stripes.pop_front() else { return Ok(false) };
            self.enter(stripe)?;
            self.left = stripe.rows;
        }
        self.left -= 1;
        for picked in self.picked.iter_mut().flatten() {
            if let Some(values) = &mut picked.values {
                picked.held = values.next(&self.input, &mut picked.text)?;
            }
        }
        Ok(true)
    }

    fn enter(&mut self, stripe: Stripe) -> Outcome<()> {
        for picked in self.picked.iter_mut().flatten() {
            if let Some(values) = picked.values.take() {
                values.leave(&self.input)?;
            }
        }
        let layout = meta::layout(&self.input, self.packed, stripe)?;
        if layout.spans.iter().any(|span| span.column == 0 && span.part == meta::Part::Present) {
            return foreign("some of its rows are nothing at all");
        }
        for (column, picked) in self.columns.iter().zip(&mut self.picked) {
            let Some(picked) = picked else { continue };
            if picked.stored == Stored::Times && !UTC.contains(&layout.zone.as_str()) {
                return foreign(format!("its times are of the zone {}, and not of UTC", layout.zone.escape_debug()));
            }
            let encoding = usize::try_from(column.id).ok().and_then(|id| layout.encodings.get(id)).copied();
            let spans = layout.spans.iter().filter(|span| span.column == column.id);
            let opened = Values::open(&self.input, self.packed, picked.stored, encoding.unwrap_or_default(), &spans)?;
            picked.values = Some(opened);
        }
        Ok(())
    }

    pub(super) fn value(&self, column: usize) -> Value<'_> {
        match self.picked.get(column) {
            Some(Some(picked)) => picked.held.value(&picked.text),
            _ => Value::Nothing,
        }
    }
}

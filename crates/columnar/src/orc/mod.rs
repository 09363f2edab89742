//! Reads ORC files: stripes, which contain streams of columns, which contain runs.
//!
//! <https://orc.apache.org/specification/ORCv1/>

mod column;
mod meta;
mod protobuf;
mod runs;
mod stream;

use std::collections::VecDeque;
use std::rc::Rc;

use self::column::OrcColumnDecoder;
use self::meta::{OrcColumn, OrcStorage, OrcStripe};
use self::stream::OrcCompression;
use super::input::RandomAccessFile;
use super::{ColumnType, ColumnValue, ColumnarResult, CurrentValue, damaged, unsupported};

/// The time zone names that mean UTC.
const UTC_ZONES: [&str; 7] = ["", "UTC", "GMT", "Z", "Etc/UTC", "Etc/GMT", "UCT"];

/// An ORC file, positioned at one of its rows.
pub(crate) struct OrcReader {
    input: Rc<RandomAccessFile>,
    names: Vec<String>,
    columns: Vec<OrcColumn>,
    stripes: VecDeque<OrcStripe>,
    compression: OrcCompression,
    /// The selected columns, each at its index among all columns.
    selected: Vec<Option<OrcSelectedColumn>>,
    /// The number of rows left in the current stripe.
    rows_left: u64,
}

struct OrcSelectedColumn {
    storage: OrcStorage,
    decoder: Option<OrcColumnDecoder>,
    current: CurrentValue,
    text: Vec<u8>,
}

impl OrcReader {
    pub(super) fn open(input: RandomAccessFile) -> ColumnarResult<Self> {
        let footer = meta::read_footer(&input)?;
        input.check_row_count(footer.stripes.iter().map(|stripe| stripe.rows))?;
        Ok(Self {
            input: Rc::new(input),
            names: footer.names,
            columns: footer.columns,
            stripes: footer.stripes.into(),
            compression: footer.compression,
            selected: Vec::new(),
            rows_left: 0,
        })
    }

    pub(super) fn column_names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn column_type(&self, column: usize) -> ColumnarResult<ColumnType> {
        self.storage(column).map(|(_, kind)| kind)
    }

    fn storage(&self, column: usize) -> ColumnarResult<(OrcStorage, ColumnType)> {
        match (self.columns.get(column), self.names.get(column)) {
            (Some(column), Some(name)) => column.storage(name),
            _ => damaged("a column is missing"),
        }
    }

    pub(super) fn select(&mut self, places: &[usize]) -> ColumnarResult<()> {
        self.selected = self.columns.iter().map(|_| None).collect();
        for place in places {
            let (stored, _) = self.storage(*place)?;
            self.selected[*place] = Some(OrcSelectedColumn {
                storage: stored,
                decoder: None,
                current: CurrentValue::Null,
                text: Vec::new(),
            });
        }
        Ok(())
    }

    pub(super) fn advance(&mut self) -> ColumnarResult<bool> {
        while self.rows_left == 0 {
            let Some(stripe) = self.stripes.pop_front() else { return Ok(false) };
            self.start_stripe(stripe)?;
            self.rows_left = stripe.rows;
        }
        self.rows_left -= 1;
        for picked in self.selected.iter_mut().flatten() {
            if let Some(values) = &mut picked.decoder {
                picked.current = values.next(&self.input, &mut picked.text)?;
            }
        }
        Ok(true)
    }

    fn start_stripe(&mut self, stripe: OrcStripe) -> ColumnarResult<()> {
        for picked in self.selected.iter_mut().flatten() {
            if let Some(values) = picked.decoder.take() {
                values.release(&self.input)?;
            }
        }
        let layout = meta::read_stripe_footer(&self.input, self.compression, stripe)?;
        if layout.spans.iter().any(|span| span.column == 0 && span.kind == meta::OrcStreamKind::Present) {
            return unsupported("some of its rows are null");
        }
        for (column, picked) in self.columns.iter().zip(&mut self.selected) {
            let Some(picked) = picked else { continue };
            if picked.storage == OrcStorage::Timestamps && !UTC_ZONES.contains(&layout.zone.as_str()) {
                return unsupported(format!(
                    "its timestamps are in the time zone {}, not in UTC",
                    layout.zone.escape_debug()
                ));
            }
            let encoding = usize::try_from(column.id).ok().and_then(|id| layout.encodings.get(id)).copied();
            let spans = layout.spans.iter().filter(|span| span.column == column.id);
            let opened = OrcColumnDecoder::open(
                &self.input,
                self.compression,
                picked.storage,
                encoding.unwrap_or_default(),
                &spans,
            )?;
            picked.decoder = Some(opened);
        }
        Ok(())
    }

    pub(super) fn value(&self, column: usize) -> ColumnValue<'_> {
        match self.selected.get(column) {
            Some(Some(picked)) => picked.current.value(&picked.text),
            _ => ColumnValue::Null,
        }
    }
}

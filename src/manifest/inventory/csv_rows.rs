//! Reads the rows of an inventory's CSV files.

use jiff::Timestamp;

use super::fields::{ColumnSpelling, InventoryColumns, InventoryRow, RowFields};
use super::manifest_json::InventoryManifest;
use crate::manifest::csv_records::CsvRecord;
use crate::manifest::error::{ManifestError, counted};
use crate::manifest::escape;
use crate::manifest::row_writer::RowWriter;
use crate::manifest::spec::{Filter, InventoryDialect};

/// The columns of the CSV files, which `manifest.json` names for all of them.
pub(super) struct InventoryCsvDecoder {
    names: Vec<String>,
    columns: InventoryColumns,
    source: String,
    dialect: InventoryDialect,
    decoded: Vec<u8>,
    /// The first row with a raw `+` that is kept as `+`, and the number of such rows.
    pub(super) raw_plus: Option<(String, u64)>,
}

impl InventoryCsvDecoder {
    /// Finds the columns by their names.
    ///
    /// # Errors
    /// Returns an error if there is no `Key`, a column occurs twice, or a column that the filter needs is missing.
    pub(super) fn new(
        document: &InventoryManifest,
        fallback: InventoryDialect,
        filter: &Filter,
        surveys: bool,
        name: &str,
    ) -> Result<Self, ManifestError> {
        let places = InventoryColumns::new(
            &document.schema,
            ColumnSpelling::CamelCase,
            filter,
            surveys,
            (name, "its fileSchema"),
        )?;
        Ok(Self {
            columns: places,
            names: document.schema.clone(),
            source: document.source.clone(),
            dialect: document.dialect().unwrap_or(fallback),
            decoded: Vec::new(),
            raw_plus: None,
        })
    }

    /// Returns whether the first row is a header. No header is documented, but a row of column names cannot be an
    /// object, since bucket names have no capitals and sizes are numbers.
    pub(super) fn is_header(&self, record: &CsvRecord<'_>) -> bool {
        let matches = |(index, name): (usize, &String)| record.field(index) == Some(name.as_str());
        self.names.len() > 1 && record.len() == self.names.len() && self.names.iter().enumerate().all(matches)
    }

    /// Decodes one row. `place` describes the row, for the warning about the first raw `+`.
    ///
    /// # Errors
    /// Returns an error if the row is invalid.
    pub(super) fn read<'a>(
        &'a mut self,
        record: &CsvRecord<'a>,
        place: impl Fn() -> String,
    ) -> Result<InventoryRow<'a>, String> {
        if record.len() != self.names.len() {
            return Err(format!("expected {} fields (`fileSchema`), found {}", self.names.len(), record.len()));
        }
        if self.columns.is_skipped(record)? {
            return Ok(InventoryRow::Skipped);
        }
        let plus_is_space = self.dialect == InventoryDialect::Aws;
        let key = record.field(self.columns.key).unwrap_or_default().as_bytes();
        let plus = escape::percent_decode_into(key, plus_is_space, &mut self.decoded)?;
        if plus && !plus_is_space {
            self.raw_plus.get_or_insert_with(|| (place(), 0)).1 += 1;
        }
        self.columns.object_row(record, &self.source, &self.decoded).map(InventoryRow::Object)
    }

    /// Warns about keys with a raw `+`, which may not mean what it seems to.
    pub(super) fn warn(&self, sink: &mut RowWriter, name: &str) {
        if let Some((first, rows)) = &self.raw_plus {
            let keys = counted(*rows, "key");
            sink.warn(
                format!("{name}: a raw `+` in {keys} is read as a plus (first in {first})"),
                "compare one of these keys with the bucket: in an AWS inventory, a `+` means a space",
            );
        }
    }
}

impl<'a> RowFields<'a> for CsvRecord<'a> {
    fn text(&self, column: usize) -> Result<&'a str, String> {
        Ok(self.field(column).unwrap_or_default())
    }

    fn boolean(&self, column: usize) -> Result<bool, String> {
        let field = self.field(column).unwrap_or_default();
        if field.eq_ignore_ascii_case("true") {
            Ok(true)
        } else if field.is_empty() || field.eq_ignore_ascii_case("false") {
            Ok(false)
        } else {
            Err(format!("`{}` is neither true nor false", field.escape_debug()))
        }
    }

    fn size(&self, column: usize) -> Result<Option<u64>, String> {
        let field = self.field(column).unwrap_or_default();
        if field.is_empty() {
            return Ok(None);
        }
        field.parse().map(Some).map_err(|_| format!("`{}` is not a size in bytes", field.escape_debug()))
    }

    fn time(&self, column: usize) -> Result<Option<Timestamp>, String> {
        let field = self.field(column).unwrap_or_default();
        if field.is_empty() {
            return Ok(None);
        }
        let no_date = |_| format!("`{}` is not a date like 2026-01-31T00:00:00Z", field.escape_debug());
        field.parse().map(Some).map_err(no_date)
    }
}

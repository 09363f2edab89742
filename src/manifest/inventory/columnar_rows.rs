//! Reads Parquet and ORC data files. Their metadata is at the end, so each file is downloaded first, into a file
//! without a name. The system frees its disk space when the file is closed, even if the process was killed.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use batchplan_columnar::{ColumnValue, ColumnarError, ColumnarFormat, ColumnarReader};
use batchplan_store::object::BucketName;
use jiff::Timestamp;
use md5::Md5;

use super::fields::{ColumnSpelling, InventoryColumns, InventoryRow, RowFields};
use super::manifest_json::InventoryDataFile;
use super::read::{open_data_file, push_row, verify_data_file};
use crate::manifest::error::{BadRows, ManifestError, object_path};
use crate::manifest::input::{self, BoxedReader, UnreadBytes};
use crate::manifest::retrying_store::RetryingStore;
use crate::manifest::row_writer::RowWriter;

/// The number of bytes copied at once.
const COPY_SIZE: usize = 128 << 10;

/// Downloads one data file and reads its rows into the sink.
pub(super) async fn read_columnar_file(
    bucket: &BucketName,
    file: InventoryDataFile,
    form: ColumnarFormat,
    patient: &RetryingStore,
    mut sink: RowWriter,
) -> Result<RowWriter, ManifestError> {
    let name = object_path(bucket, &file.key);
    let opened = open_data_file(bucket, &file, patient).await?;
    let size = opened.size;
    sink.reserve_temporary(&name, size)?;
    let mut sink = input::stream(opened, patient.stop_token(), move |raw| {
        let fetched = download(raw, &file, &name, sink.home())?;
        read_rows(form, fetched, &name, &mut sink).map_err(|error| sink.blame_temporary(error, &name))?;
        Ok(sink)
    })
    .await?;
    sink.reserve_temporary("", 0)?;
    Ok(sink)
}

/// Downloads a data file to disk, and compares its size and MD5 with `manifest.json` before any of it is parsed.
fn download(
    raw: BoxedReader,
    file: &InventoryDataFile,
    name: &str,
    home: Option<&Path>,
) -> Result<File, ManifestError> {
    let folder = home.map_or_else(|| PathBuf::from("a temporary folder"), Path::to_owned);
    let failed = |doing, cause| ManifestError::disk(doing, &folder, cause);
    let made = home.map_or_else(tempfile::tempfile, tempfile::tempfile_in);
    let mut fetched = made.map_err(|cause| failed("create a file in", cause))?;
    let (copied, tally) = input::read_digested::<Md5, _>(raw, false, name, UnreadBytes::Skip, |text| {
        let mut chunk = vec![0; COPY_SIZE];
        loop {
            // `read_digested` reports the error if the download fails.
            let count = match text.read(&mut chunk) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => count,
            };
            fetched.write_all(&chunk[..count]).map_err(|cause| failed("write to", cause))?;
        }
    })?;
    copied?;
    verify_data_file(file, &tally, name)?;
    fetched.rewind().map_err(|cause| failed("read in", cause))?;
    Ok(fetched)
}

fn read_rows(form: ColumnarFormat, file: File, name: &str, sink: &mut RowWriter) -> Result<(), ManifestError> {
    let what = |broken| to_manifest_error(broken, form, name, None);
    let mut table = ColumnarReader::open(form, file).map_err(what)?;
    let mut places = InventoryColumns::new(
        table.column_names(),
        ColumnSpelling::SnakeCase,
        sink.filter(),
        sink.needs_all_metadata(),
        (name, "it"),
    )?;
    if places.bucket.is_none() {
        return Err(ManifestError::malformed(name, "it has no Bucket column", "use an inventory of objects"));
    }
    places.check_types(|column| table.column_type(column)).map_err(|(column, _, broken)| match broken {
        ColumnarError::Unsupported(why) => {
            let column = table.column_names().get(column).map(String::as_str).unwrap_or_default();
            let said = format!("column {} cannot be used: {why}", column.escape_debug());
            ManifestError::malformed(name, said, "use an inventory that the storage service wrote")
        }
        other => what(other),
    })?;
    table.select(&places.indexes()).map_err(what)?;
    let (mut bad, mut row) = (BadRows::new(), 0_u64);
    while table.advance().map_err(|broken| to_manifest_error(broken, form, name, Some(row + 1)))? {
        row += 1;
        let taken = match push_row(read_row(&table, &places), sink) {
            Ok(taken) => taken,
            Err(error) => return Err(bad.or_bad_rows(error, name)),
        };
        if let Err(why) = taken {
            bad.push(row, row, why);
            if bad.limit_reached() {
                break;
            }
        }
    }
    bad.into_result(name)
}

fn read_row<'a>(table: &'a ColumnarReader, places: &InventoryColumns) -> Result<InventoryRow<'a>, String> {
    let fields = ColumnarRowFields(table);
    if places.is_skipped(&fields)? {
        return Ok(InventoryRow::Skipped);
    }
    let key = match table.value(places.key) {
        ColumnValue::Text(key) => key,
        _ => b"",
    };
    places.object_row(&fields, "", key).map(InventoryRow::Object)
}

/// The fields of the current row of a table.
struct ColumnarRowFields<'a>(&'a ColumnarReader);

impl ColumnarRowFields<'_> {
    fn describe_column(&self, column: usize, what: &str) -> String {
        let name = self.0.column_names().get(column).map(String::as_str).unwrap_or_default();
        format!("its {} {what}", name.escape_debug())
    }
}

impl<'a> RowFields<'a> for ColumnarRowFields<'a> {
    fn text(&self, column: usize) -> Result<&'a str, String> {
        match self.0.value(column) {
            ColumnValue::Text(text) => {
                std::str::from_utf8(text).map_err(|_| self.describe_column(column, "is not UTF-8"))
            }
            _ => Ok(""),
        }
    }

    fn boolean(&self, column: usize) -> Result<bool, String> {
        Ok(self.0.value(column) == ColumnValue::Boolean(true))
    }

    fn size(&self, column: usize) -> Result<Option<u64>, String> {
        match self.0.value(column) {
            ColumnValue::Integer(size) => {
                u64::try_from(size).map(Some).map_err(|_| format!("`{size}` is not a size in bytes"))
            }
            _ => Ok(None),
        }
    }

    fn time(&self, column: usize) -> Result<Option<Timestamp>, String> {
        match self.0.value(column) {
            ColumnValue::Timestamp(time) => Ok(Some(time)),
            _ => Ok(None),
        }
    }
}

/// Converts an error of a reader. The file is the one that `manifest.json` lists: that was checked before.
fn to_manifest_error(broken: ColumnarError, form: ColumnarFormat, name: &str, row: Option<u64>) -> ManifestError {
    let form = form.name();
    let near = row.map(|row| format!(" near row {row}")).unwrap_or_default();
    match broken {
        ColumnarError::Damaged(what) => ManifestError::malformed(
            name,
            format!("its {form} data is damaged{near}: {what}"),
            "the file was written this way: use another inventory",
        ),
        ColumnarError::Unsupported(what) => ManifestError::malformed(
            name,
            format!("its {form} data cannot be read{near}: {what}"),
            "use an inventory that the storage service wrote, or one in CSV",
        ),
        ColumnarError::Io(cause) => ManifestError::Read { place: name.to_owned(), cause },
    }
}

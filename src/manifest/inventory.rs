//! The manifest source `inventory`: a bucket inventory of OSS or AWS, which consists of a `manifest.json` and the
//! data files that it lists.
//!
//! Data files are CSV on OSS, and CSV, Parquet or ORC on AWS. Rows mean the same in every format: delete markers and
//! older versions without a version ID are skipped, and objects have the same facts. Two things differ. CSV
//! percent-encodes keys, and the other formats do not. The columns of CSV are named in `fileSchema`, and the other
//! files name their own.
//!
//! | file | what it does |
//! |---|---|
//! | `manifest_json` | parses `manifest.json`, and finds the newest one |
//! | `columns` | interprets columns, and decodes CSV rows and ACLs |
//!
//! CSV files are read as they stream. The metadata of Parquet and ORC files is at their end, so each is downloaded
//! first, into a file without a name. The system frees its disk space when the file is closed, even if the process was
//! killed.
//!
//! The formats are documented in the AWS S3 User Guide ("Locating your inventory list") and in OSS's "Bucket
//! inventory".

mod columns;
mod manifest_json;

use std::fs::File;
use std::io::{BufRead, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use batchplan_columnar::{ColumnValue, ColumnarError, ColumnarFormat, ColumnarReader};
use batchplan_store::OpenedObject;
use batchplan_store::object::{BucketName, ObjectKey};
use jiff::Timestamp;
use md5::Md5;

use self::columns::{ColumnSpelling, InventoryColumns, InventoryCsvDecoder, InventoryRow, RowFields};
use self::manifest_json::{
    FetchedInventoryManifest, InventoryDataFile, InventoryFormat, InventoryManifest, MAX_MANIFEST_BYTES, find_newest,
};
use super::csv::{CsvItem, CsvLineEnds, CsvRecords};
use super::error::{ManifestError, object_path};
use super::input::{self, BoxedReader, ReadDigest, UnreadBytes};
use super::pins::SourcePin;
use super::retrying_store::{RetryingStore, bare_etag};
use super::row_visitor::{BadRows, RowFlow, RowVisitor, SourceCursor};
use super::spec::{InventoryDialect, InventorySelector};

pub use self::manifest_json::newest_inventory;

/// The number of bytes copied at once.
const COPY_SIZE: usize = 128 << 10;

/// Passes the rows of an inventory's data files to the visitor, one file after another. Resumes after the files that an
/// earlier attempt has read, if there was one.
pub(super) async fn read_inventory<V: RowVisitor>(
    bucket: &BucketName,
    object: &InventorySelector,
    dialect: InventoryDialect,
    retrying: &RetryingStore,
    visitor: V,
) -> Result<(V, SourcePin), ManifestError> {
    let (found, done, mut visitor) = resume_or_find(bucket, object, retrying, visitor).await?;
    let name = object_path(bucket, &found.key);
    let document = InventoryManifest::parse(&found.text, &name)?;
    document.check_bucket(bucket, &name)?;
    visitor.reject_too_large(&name, document.compressed_size())?;
    let pin = SourcePin::Inventory {
        bucket: bucket.clone(),
        key: found.key.clone(),
        etag: found.etag.clone(),
        created: document.created,
    };
    let cursor = |files, plus| SourceCursor::Inventory {
        key: found.key.clone(),
        etag: found.etag.clone(),
        files,
        raw_plus: plus,
    };
    match document.format {
        InventoryFormat::Csv => {
            let mut columns = InventoryCsvDecoder::new(
                &document,
                dialect,
                visitor.intake().filter(),
                visitor.needs_all_metadata(),
                &name,
            )?;
            columns.raw_plus = done.raw_plus;
            for (number, file) in document.files.into_iter().enumerate().skip(done.files_read) {
                (visitor, columns) = read_csv_file(bucket, file, columns, retrying, visitor).await?;
                visitor = save_cursor(visitor, cursor(number + 1, columns.raw_plus.clone())).await?;
            }
            columns.warn(visitor.intake_mut(), &name);
        }
        InventoryFormat::Columnar(form) => {
            let mut files = document.files;
            if !visitor.needs_all_rows() {
                // Any object will do, and the smallest file gives one soonest.
                files.sort_by_key(|file| file.size);
            }
            for (number, file) in files.into_iter().enumerate().skip(done.files_read) {
                visitor = read_columnar_file(bucket, file, form, retrying, visitor).await?;
                visitor = save_cursor(visitor, cursor(number + 1, None)).await?;
            }
        }
    }
    Ok((visitor, pin))
}

/// Saves the position after a data file, if enough rows were read.
async fn save_cursor<V: RowVisitor>(mut visitor: V, cursor: SourceCursor) -> Result<V, ManifestError> {
    input::run_blocking(move || {
        if visitor.save_due() {
            visitor.sync_partition()?;
            visitor.save_cursor(cursor)?;
        }
        Ok(visitor)
    })
    .await
}

/// How far an earlier attempt got.
#[derive(Default)]
struct InventoryProgress {
    files_read: usize,
    raw_plus: Option<(String, u64)>,
}

/// Finds the inventory to read. This is the one that an earlier attempt started with, if it has not changed. With
/// `latest`, a newer inventory that has appeared since is ignored: the job's inventory is decided when its
/// preparation starts.
async fn resume_or_find<V: RowVisitor>(
    bucket: &BucketName,
    object: &InventorySelector,
    retrying: &RetryingStore,
    mut visitor: V,
) -> Result<(FetchedInventoryManifest, InventoryProgress, V), ManifestError> {
    if let Some(SourceCursor::Inventory { key, etag, files, raw_plus: plus }) = visitor.take_cursor() {
        if let Some(found) = fetch_unchanged(bucket, &key, &etag, retrying).await? {
            return Ok((found, InventoryProgress { files_read: files, raw_plus: plus }, visitor));
        }
        visitor = input::run_blocking(move || visitor.restart().map(|()| visitor)).await?;
    }
    let found = match object {
        InventorySelector::Exact { key, etag } => fetch_manifest(bucket, key, etag.as_deref(), retrying).await?,
        InventorySelector::Latest { prefix } => {
            let (found, warnings) = find_newest(bucket, prefix, retrying).await?;
            visitor.intake_mut().add_warnings(warnings);
            found
        }
        InventorySelector::Changed(changes) => {
            fetch_manifest(bucket, &changes.key, Some(&changes.etag), retrying).await?
        }
        InventorySelector::Distinct { key, etag } => {
            fetch_manifest(bucket, key, Some(etag.as_str()).filter(|etag| !etag.is_empty()), retrying).await?
        }
    };
    Ok((found, InventoryProgress::default(), visitor))
}

/// Fetches the `manifest.json` that an earlier attempt read. Returns `None` if it was deleted or has changed.
async fn fetch_unchanged(
    bucket: &BucketName,
    key: &ObjectKey,
    etag: &str,
    retrying: &RetryingStore,
) -> Result<Option<FetchedInventoryManifest>, ManifestError> {
    if etag.is_empty() {
        return Ok(None);
    }
    match fetch_manifest(bucket, key, Some(etag), retrying).await {
        Ok(found) => Ok(Some(found)),
        Err(ManifestError::Changed { .. }) => Ok(None),
        Err(ManifestError::Store { fault, .. }) if fault.status == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn fetch_manifest(
    bucket: &BucketName,
    key: &ObjectKey,
    etag: Option<&str>,
    retrying: &RetryingStore,
) -> Result<FetchedInventoryManifest, ManifestError> {
    let opened = retrying.open_pinned(bucket, key, etag).await?;
    let etag = bare_etag(&opened.etag).to_owned();
    let text = input::read_small(opened, MAX_MANIFEST_BYTES, &object_path(bucket, key), retrying.stop_token()).await?;
    Ok(FetchedInventoryManifest { key: key.clone(), etag, text })
}

async fn read_csv_file<V: RowVisitor>(
    bucket: &BucketName,
    file: InventoryDataFile,
    columns: InventoryCsvDecoder,
    retrying: &RetryingStore,
    visitor: V,
) -> Result<(V, InventoryCsvDecoder), ManifestError> {
    let name = object_path(bucket, &file.key);
    let opened = open_data_file(bucket, &file, retrying).await?;
    input::stream(opened, retrying.stop_token(), move |raw| read_and_verify(raw, &file, &name, columns, visitor)).await
}

/// Opens a data file. Returns an error if it does not exist.
async fn open_data_file(
    bucket: &BucketName,
    file: &InventoryDataFile,
    retrying: &RetryingStore,
) -> Result<OpenedObject, ManifestError> {
    retrying.open_existing(bucket, &file.key).await.map_err(|error| match error {
        ManifestError::Store { fault, .. } if fault.status == Some(404) => {
            let help = "the inventory is incomplete, or its files were deleted: use another inventory";
            let what = "manifest.json lists this data file, but it does not exist";
            ManifestError::malformed(&object_path(bucket, &file.key), what, help)
        }
        other => other,
    })
}

/// Compares the size and MD5 of a data file with `manifest.json`.
fn verify_data_file(file: &InventoryDataFile, tally: &ReadDigest, name: &str) -> Result<(), ManifestError> {
    let help = "the file was overwritten or truncated: use another inventory";
    if let Some(size) = file.size.filter(|size| *size != tally.bytes) {
        let what = format!("it has {} bytes, but manifest.json says {size}", tally.bytes);
        return Err(ManifestError::malformed(name, what, help));
    }
    if !file.md5.eq_ignore_ascii_case(&tally.digest) {
        let what = format!("its MD5 is {}, but manifest.json says {}", tally.digest, file.md5);
        return Err(ManifestError::malformed(name, what, help));
    }
    Ok(())
}

/// Reads one data file, and compares its size and MD5 with `manifest.json`.
fn read_and_verify<V: RowVisitor>(
    raw: BoxedReader,
    file: &InventoryDataFile,
    name: &str,
    mut columns: InventoryCsvDecoder,
    mut visitor: V,
) -> Result<(V, InventoryCsvDecoder), ManifestError> {
    let gzip = input::is_gzip_key(&file.key);
    let rest = UnreadBytes::after_failure(visitor.needs_all_rows());
    let (rows, tally) = input::read_digested::<Md5, _>(raw, gzip, name, rest, |text| {
        read_rows(CsvRecords::new(text, CsvLineEnds::Either), gzip, name, &mut columns, &mut visitor)
    })?;
    // A file that was not read to its end has no digest to compare.
    if rest == UnreadBytes::Skip && rows.is_err() {
        return rows.map(|()| (visitor, columns));
    }
    verify_data_file(file, &tally, name)?;
    // Errors in rows come last: if the file is not the listed one, that explains them.
    rows?;
    Ok((visitor, columns))
}

fn read_rows<R: BufRead>(
    mut records: CsvRecords<R>,
    gzip: bool,
    name: &str,
    columns: &mut InventoryCsvDecoder,
    visitor: &mut dyn RowVisitor,
) -> Result<(), ManifestError> {
    let mut bad = BadRows::default();
    loop {
        let row = records.row() + 1;
        let flow = match records.next().map_err(|broken| broken.into_manifest_error(gzip, name, row))? {
            CsvItem::End => break,
            CsvItem::Bad(why) => Ok(RowFlow::Invalid(why)),
            CsvItem::Record(record) if row == 1 && columns.is_header(&record) => Ok(RowFlow::Continue),
            CsvItem::Record(record) => {
                let read = columns.read(&record, || format!("row {row} of {name}"));
                visit_row(read, visitor)
            }
        };
        if !bad.record(flow, (row, records.line()), name)? {
            break;
        }
    }
    bad.into_result(name)
}

/// Passes a row to the visitor, or skips it.
fn visit_row(read: Result<InventoryRow<'_>, String>, visitor: &mut dyn RowVisitor) -> Result<RowFlow, ManifestError> {
    match read {
        Ok(InventoryRow::Object(row)) => visitor.visit(&row),
        Ok(InventoryRow::Skipped) => visitor.count_row(),
        Err(why) => Ok(RowFlow::Invalid(why)),
    }
}

/// Downloads one data file, and passes its rows to the visitor.
async fn read_columnar_file<V: RowVisitor>(
    bucket: &BucketName,
    file: InventoryDataFile,
    form: ColumnarFormat,
    retrying: &RetryingStore,
    mut visitor: V,
) -> Result<V, ManifestError> {
    let name = object_path(bucket, &file.key);
    let opened = open_data_file(bucket, &file, retrying).await?;
    let size = opened.size;
    visitor.reserve_temporary(&name, size)?;
    let mut visitor = input::stream(opened, retrying.stop_token(), move |raw| {
        let fetched = download(raw, &file, &name, visitor.scratch().folder.as_deref())?;
        read_columnar_rows(form, fetched, &name, &mut visitor)
            .map_err(|error| visitor.blame_temporary(error, &name))?;
        Ok(visitor)
    })
    .await?;
    visitor.reserve_temporary("", 0)?;
    Ok(visitor)
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

fn read_columnar_rows(
    form: ColumnarFormat,
    file: File,
    name: &str,
    visitor: &mut dyn RowVisitor,
) -> Result<(), ManifestError> {
    let what = |broken| columnar_error(broken, form, name, None);
    let mut table = ColumnarReader::open(form, file).map_err(what)?;
    let mut places = InventoryColumns::new(
        table.column_names(),
        ColumnSpelling::SnakeCase,
        visitor.intake().filter(),
        visitor.needs_all_metadata(),
        (name, "it"),
    )?;
    if places.bucket.is_none() {
        return Err(ManifestError::malformed(name, "it has no Bucket column", "use an inventory of objects"));
    }
    places.check_types(|column| table.column_type(column)).map_err(|(column, _, broken)| match broken {
        ColumnarError::Unsupported(why) => {
            let column = table.column_names().get(column).map(String::as_str).unwrap_or_default();
            let problem = format!("column {} cannot be used: {why}", column.escape_debug());
            ManifestError::malformed(name, problem, "use an inventory that the storage service wrote")
        }
        other => what(other),
    })?;
    table.select(&places.indexes()).map_err(what)?;
    let (mut bad, mut row) = (BadRows::default(), 0_u64);
    while table.advance().map_err(|broken| columnar_error(broken, form, name, Some(row + 1)))? {
        row += 1;
        if !bad.record(visit_row(read_row(&table, &places), visitor), (row, row), name)? {
            break;
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
fn columnar_error(broken: ColumnarError, form: ColumnarFormat, name: &str, row: Option<u64>) -> ManifestError {
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

#[cfg(test)]
mod tests;

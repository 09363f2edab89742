//! Reads an inventory: first its description, then each data file. CSV files are read as they stream.

use std::io::BufRead;

use batchplan_store::OpenedObject;
use batchplan_store::object::{BucketName, ObjectKey};
use md5::Md5;

use super::csv_rows::InventoryCsvDecoder;
use super::fields::InventoryRow;
use super::manifest_json::{
    FetchedInventoryManifest, InventoryDataFile, InventoryFormat, InventoryManifest, MAX_MANIFEST_BYTES,
};
use super::{columnar_rows, latest};
use crate::manifest::checkpoint::SourceCursor;
use crate::manifest::csv::to_manifest_error;
use crate::manifest::csv_records::{CsvItem, CsvLineEnds, CsvRecords};
use crate::manifest::error::{BadRows, ManifestError, object_path};
use crate::manifest::frozen::SourcePin;
use crate::manifest::input::{self, BoxedReader, ReadDigest, UnreadBytes};
use crate::manifest::retrying_store::{RetryingStore, bare_etag};
use crate::manifest::row_writer::RowWriter;
use crate::manifest::spec::{InventoryDialect, InventorySelector};

/// Reads the data files of an inventory into the sink, one after another. Resumes after the files that an earlier
/// attempt has read, if there was one.
pub(in crate::manifest) async fn read_inventory(
    bucket: &BucketName,
    object: &InventorySelector,
    dialect: InventoryDialect,
    patient: &RetryingStore,
    sink: RowWriter,
) -> Result<(RowWriter, SourcePin), ManifestError> {
    let (found, done, mut sink) = resume_or_find(bucket, object, patient, sink).await?;
    let name = object_path(bucket, &found.key);
    let document = InventoryManifest::parse(&found.text, &name)?;
    document.check_bucket(bucket, &name)?;
    sink.reject_too_large(&name, document.compressed_size())?;
    let pin = SourcePin::Inventory {
        bucket: bucket.clone(),
        key: found.key.clone(),
        etag: found.etag.clone(),
        created: document.created,
    };
    let mark = |files, plus| SourceCursor::Inventory {
        key: found.key.clone(),
        etag: found.etag.clone(),
        files,
        raw_plus: plus,
    };
    match document.format {
        InventoryFormat::Csv => {
            let mut columns =
                InventoryCsvDecoder::new(&document, dialect, sink.filter(), sink.needs_all_metadata(), &name)?;
            columns.raw_plus = done.raw_plus;
            for (number, file) in document.files.into_iter().enumerate().skip(done.files_read) {
                (sink, columns) = read_csv_file(bucket, file, columns, patient, sink).await?;
                sink = save_checkpoint(sink, mark(number + 1, columns.raw_plus.clone())).await?;
            }
            columns.warn(&mut sink, &name);
        }
        InventoryFormat::Columnar(form) => {
            let mut files = document.files;
            if sink.is_peek() {
                // Any object will do, and the smallest file gives one soonest.
                files.sort_by_key(|file| file.size);
            }
            for (number, file) in files.into_iter().enumerate().skip(done.files_read) {
                sink = columnar_rows::read_columnar_file(bucket, file, form, patient, sink).await?;
                sink = save_checkpoint(sink, mark(number + 1, None)).await?;
            }
        }
    }
    Ok((sink, pin))
}

/// Saves a checkpoint after a data file, if enough rows were read.
async fn save_checkpoint(mut sink: RowWriter, mark: SourceCursor) -> Result<RowWriter, ManifestError> {
    input::run_blocking(move || {
        if sink.checkpoint_due() {
            sink.sync_and_checkpoint(mark)?;
        }
        Ok(sink)
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
async fn resume_or_find(
    bucket: &BucketName,
    object: &InventorySelector,
    patient: &RetryingStore,
    mut sink: RowWriter,
) -> Result<(FetchedInventoryManifest, InventoryProgress, RowWriter), ManifestError> {
    if let Some(SourceCursor::Inventory { key, etag, files, raw_plus: plus }) = sink.take_cursor() {
        if let Some(found) = fetch_unchanged(bucket, &key, &etag, patient).await? {
            return Ok((found, InventoryProgress { files_read: files, raw_plus: plus }, sink));
        }
        sink = input::run_blocking(move || sink.restart().map(|()| sink)).await?;
    }
    let found = match object {
        InventorySelector::Exact { key, etag } => fetch_manifest(bucket, key, etag.as_deref(), patient).await?,
        InventorySelector::Latest { prefix } => {
            let (found, warnings) = latest::find_newest(bucket, prefix, patient).await?;
            sink.add_warnings(warnings);
            found
        }
        InventorySelector::Changed(changes) => {
            fetch_manifest(bucket, &changes.key, Some(&changes.etag), patient).await?
        }
        InventorySelector::Distinct { key, etag } => {
            fetch_manifest(bucket, key, Some(etag.as_str()).filter(|etag| !etag.is_empty()), patient).await?
        }
    };
    Ok((found, InventoryProgress::default(), sink))
}

/// Fetches the `manifest.json` that an earlier attempt read. Returns `None` if it was deleted or has changed.
async fn fetch_unchanged(
    bucket: &BucketName,
    key: &ObjectKey,
    etag: &str,
    patient: &RetryingStore,
) -> Result<Option<FetchedInventoryManifest>, ManifestError> {
    if etag.is_empty() {
        return Ok(None);
    }
    match fetch_manifest(bucket, key, Some(etag), patient).await {
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
    patient: &RetryingStore,
) -> Result<FetchedInventoryManifest, ManifestError> {
    let opened = patient.open_pinned(bucket, key, etag).await?;
    let etag = bare_etag(&opened.etag).to_owned();
    let text = input::read_small(opened, MAX_MANIFEST_BYTES, &object_path(bucket, key), patient.stop_token()).await?;
    Ok(FetchedInventoryManifest { key: key.clone(), etag, text })
}

async fn read_csv_file(
    bucket: &BucketName,
    file: InventoryDataFile,
    columns: InventoryCsvDecoder,
    patient: &RetryingStore,
    sink: RowWriter,
) -> Result<(RowWriter, InventoryCsvDecoder), ManifestError> {
    let name = object_path(bucket, &file.key);
    let opened = open_data_file(bucket, &file, patient).await?;
    input::stream(opened, patient.stop_token(), move |raw| read_and_verify(raw, &file, &name, columns, sink)).await
}

/// Opens a data file. Returns an error if it does not exist.
pub(super) async fn open_data_file(
    bucket: &BucketName,
    file: &InventoryDataFile,
    patient: &RetryingStore,
) -> Result<OpenedObject, ManifestError> {
    patient.open_existing(bucket, &file.key).await.map_err(|error| match error {
        ManifestError::Store { fault, .. } if fault.status == Some(404) => {
            let help = "the inventory is incomplete, or its files were deleted: use another inventory";
            let what = "manifest.json lists this data file, but it does not exist";
            ManifestError::malformed(&object_path(bucket, &file.key), what, help)
        }
        other => other,
    })
}

/// Compares the size and MD5 of a data file with `manifest.json`.
pub(super) fn verify_data_file(file: &InventoryDataFile, tally: &ReadDigest, name: &str) -> Result<(), ManifestError> {
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
fn read_and_verify(
    raw: BoxedReader,
    file: &InventoryDataFile,
    name: &str,
    mut columns: InventoryCsvDecoder,
    mut sink: RowWriter,
) -> Result<(RowWriter, InventoryCsvDecoder), ManifestError> {
    let gzip = input::is_gzip_key(&file.key);
    let rest = sink.unread_bytes();
    let (rows, tally) = input::read_digested::<Md5, _>(raw, gzip, name, rest, |text| {
        read_rows(CsvRecords::new(text, CsvLineEnds::Either), gzip, name, &mut columns, &mut sink)
    })?;
    // A file that was not read to its end has no digest to compare.
    if rest == UnreadBytes::Skip && rows.is_err() {
        return rows.map(|()| (sink, columns));
    }
    verify_data_file(file, &tally, name)?;
    // Errors in rows come last: if the file is not the listed one, that explains them.
    rows?;
    Ok((sink, columns))
}

fn read_rows<R: BufRead>(
    mut records: CsvRecords<R>,
    gzip: bool,
    name: &str,
    columns: &mut InventoryCsvDecoder,
    sink: &mut RowWriter,
) -> Result<(), ManifestError> {
    let mut bad = BadRows::new();
    loop {
        let row = records.row() + 1;
        let taken = match records.next().map_err(|broken| to_manifest_error(broken, gzip, name, row))? {
            CsvItem::End => break,
            CsvItem::Bad(why) => Err(why),
            CsvItem::Record(record) if row == 1 && columns.is_header(&record) => Ok(()),
            CsvItem::Record(record) => {
                let read = columns.read(&record, || format!("row {row} of {name}"));
                match push_row(read, sink) {
                    Ok(taken) => taken,
                    Err(error) => return Err(bad.or_bad_rows(error, name)),
                }
            }
        };
        if let Err(why) = taken {
            bad.push(row, records.line(), why);
            if bad.limit_reached() {
                break;
            }
        }
    }
    bad.into_result(name)
}

/// Adds a row to the sink, or skips it. The inner error says why the row is invalid.
pub(super) fn push_row(
    read: Result<InventoryRow<'_>, String>,
    sink: &mut RowWriter,
) -> Result<Result<(), String>, ManifestError> {
    match read {
        Ok(InventoryRow::Object(row)) => sink.push(&row),
        Ok(InventoryRow::Skipped) => sink.count_row().map(Ok),
        Err(why) => Ok(Err(why)),
    }
}

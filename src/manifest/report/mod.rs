//! The source `report`: the failed rows of an earlier completion report, from OSS, AWS or batchplan, in either format.
//!
//! The plan names a report by its `manifest.json` or by one of its CSV files. With a `manifest.json`, the files with
//! failures are read and checked against their MD5.

mod files;
mod rows;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::Path;

use batchplan_store::hex::hex;
use batchplan_store::object::{BucketName, ObjectKey};
use sha2::{Digest, Sha256};

use self::files::ReportListFolder;
pub(super) use self::rows::FailedRowReader;
use super::csv::reject_metadata_filter;
use super::error::{ManifestError, object_path};
use super::frozen::SourcePin;
use super::input::{self, UnreadBytes};
use super::pins::pinned_path;
use super::retrying_store::{RetryingStore, bare_etag};
use super::row_writer::RowWriter;
use super::spec::{FileLocation, ReportRowFilter};
use crate::codec::{ReportManifest, ReportManifestEntry, TaskStatus, parse_report_manifest};

/// The maximum size of a `manifest.json` in bytes: enough for 300,000 files.
const MAX_LISTING_BYTES: u64 = 64 << 20;

/// The help text for a file that is not a report.
const NOT_A_REPORT_HELP: &str = "use the manifest.json of a completion report, or one of its CSV files";

/// Writes the failed rows of a report to the row writer.
pub(super) async fn read(
    from: &FileLocation,
    narrowing: &ReportRowFilter,
    patient: &RetryingStore,
    sink: RowWriter,
) -> Result<(RowWriter, SourcePin), ManifestError> {
    reject_metadata_filter(sink.filter(), "a completion report")?;
    let rows = FailedRowReader::new(narrowing.clone());
    let (mut sink, rows, pin) = match from {
        FileLocation::Object { bucket, key, etag } => {
            read_from_bucket(bucket, key, etag.as_deref(), rows, patient, sink).await?
        }
        FileLocation::Local(path) => read_from_disk(path, rows, patient, sink).await?,
    };
    rows.add_warnings(&mut sink);
    Ok((sink, pin))
}

type ReportReadOutput = (RowWriter, FailedRowReader, SourcePin);

async fn read_from_bucket(
    bucket: &BucketName,
    key: &ObjectKey,
    etag: Option<&str>,
    mut rows: FailedRowReader,
    patient: &RetryingStore,
    mut sink: RowWriter,
) -> Result<ReportReadOutput, ManifestError> {
    let opened = patient.open_pinned(bucket, key, etag).await?;
    let (name, etag) = (object_path(bucket, key), bare_etag(&opened.etag).to_owned());
    let pin = |sha256| SourcePin::Object { bucket: bucket.clone(), key: key.clone(), etag, sha256 };
    if !is_manifest_json(key.as_bytes()) {
        let gzip = input::is_gzip_key(key);
        let parse = move |raw| rows::read_digested::<Sha256>(raw, gzip, &name, UnreadBytes::Skip, None, (sink, rows));
        let ((sink, rows), sha256) = input::stream(opened, patient.stop_token(), parse).await?;
        return Ok((sink, rows, pin(sha256)));
    }
    let text = input::read_small(opened, MAX_LISTING_BYTES, &name, patient.stop_token()).await?;
    let listing = parse_listing(&text, &name)?;
    for file in failed_files(&listing) {
        let (bucket, key) = files::listed_object(file, &name)?;
        let read = FailedRowReader::read_object(&bucket, &key, listing.format, &file.md5, patient, (sink, rows));
        (sink, rows) = read.await?;
    }
    Ok((sink, rows, pin(sha256(&text))))
}

async fn read_from_disk(
    path: &Path,
    mut rows: FailedRowReader,
    patient: &RetryingStore,
    mut sink: RowWriter,
) -> Result<ReportReadOutput, ManifestError> {
    let (path, stop) = (path.to_owned(), patient.stop_token().clone());
    input::run_blocking(move || {
        let name = path.display().to_string();
        let raw = input::open_local(&path, stop.clone())?;
        if !is_manifest_json(path.as_os_str().as_encoded_bytes()) {
            let gzip = input::is_gzip(path.as_os_str().as_encoded_bytes());
            let taken = rows::read_digested::<Sha256>(raw, gzip, &name, UnreadBytes::Skip, None, (sink, rows))?;
            let ((sink, rows), sha256) = taken;
            return Ok((sink, rows, SourcePin::File { path: pinned_path(&path), sha256, stamp: None }));
        }
        let text = read_text(raw, &name)?;
        let listing = parse_listing(&text, &name)?;
        let folder = ReportListFolder::of(&path);
        for file in failed_files(&listing) {
            let file_path = folder.find(file, &name)?;
            (sink, rows) = FailedRowReader::read_file(&file_path, listing.format, &file.md5, &stop, (sink, rows))?;
        }
        Ok((sink, rows, SourcePin::File { path: pinned_path(&path), sha256: sha256(&text), stamp: None }))
    })
    .await
}

/// Returns whether the file is a `manifest.json` and not a file of rows, by its name.
fn is_manifest_json(name: &[u8]) -> bool {
    name.len() >= 5 && name[name.len() - 5..].eq_ignore_ascii_case(b".json")
}

fn read_text(raw: input::BoxedReader, name: &str) -> Result<Vec<u8>, ManifestError> {
    let mut text = Vec::new();
    let read = raw.take(MAX_LISTING_BYTES + 1).read_to_end(&mut text);
    read.map_err(|cause| ManifestError::Read { place: name.to_owned(), cause })?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes <= MAX_LISTING_BYTES) {
        return Ok(text);
    }
    Err(ManifestError::malformed(name, format!("it is larger than {MAX_LISTING_BYTES} bytes"), NOT_A_REPORT_HELP))
}

fn parse_listing(text: &[u8], name: &str) -> Result<ReportManifest, ManifestError> {
    let listing = parse_report_manifest(text).map_err(|why| ManifestError::malformed(name, why, NOT_A_REPORT_HELP))?;
    files::reject_duplicates(&listing.files, name)?;
    Ok(listing)
}

/// Returns the files with failures.
fn failed_files(listing: &ReportManifest) -> impl Iterator<Item = &ReportManifestEntry> {
    listing.files.iter().filter(|file| file.status == TaskStatus::Failed)
}

fn sha256(text: &[u8]) -> String {
    hex(&Sha256::digest(text))
}

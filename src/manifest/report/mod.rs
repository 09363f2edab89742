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

use sha2::{Digest, Sha256};

use self::files::Folder;
pub(super) use self::rows::FailedRows;
use super::csv::refuse_facts;
use super::error::{ManifestError, place};
use super::frozen::Pin;
use super::input::{self, Rest};
use super::patient::{Patient, bare};
use super::sink::Sink;
use super::spec::{CsvPlace, Narrowing};
use crate::codec::{ListedFile, Listing, TaskStatus, read_manifest_json};
use crate::hex::hex;
use crate::object::{Bucket, Key};

/// The maximum size of a `manifest.json` in bytes: enough for 300,000 files.
const MAX_LISTING_BYTES: u64 = 64 << 20;

/// The help text for a file that is not a report.
const NO_REPORT: &str = "give the manifest.json of a completion report, or one of its CSV files";

/// Writes the failed rows of a report to the row writer.
pub(super) async fn read(
    from: &CsvPlace,
    narrowing: &Narrowing,
    patient: &Patient,
    sink: Sink,
) -> Result<(Sink, Pin), ManifestError> {
    refuse_facts(sink.filter(), "a completion report")?;
    let rows = FailedRows::new(narrowing.clone());
    let (mut sink, rows, pin) = match from {
        CsvPlace::Object { bucket, key, etag } => {
            from_bucket(bucket, key, etag.as_deref(), rows, patient, sink).await?
        }
        CsvPlace::Local(path) => from_disk(path, rows, patient, sink).await?,
    };
    rows.warn(&mut sink);
    Ok((sink, pin))
}

type Done = (Sink, FailedRows, Pin);

async fn from_bucket(
    bucket: &Bucket,
    key: &Key,
    etag: Option<&str>,
    mut rows: FailedRows,
    patient: &Patient,
    mut sink: Sink,
) -> Result<Done, ManifestError> {
    let opened = patient.open_pinned(bucket, key, etag).await?;
    let (name, etag) = (place(bucket, key), bare(&opened.etag).to_owned());
    let pin = |sha256| Pin::Object { bucket: bucket.clone(), key: key.clone(), etag, sha256 };
    if !is_listing(key.as_bytes()) {
        let gzip = input::is_gzip_key(key);
        let parse = move |raw| rows::digested::<Sha256>(raw, gzip, &name, Rest::Leave, None, (sink, rows));
        let ((sink, rows), sha256) = input::stream(opened, patient.stop(), parse).await?;
        return Ok((sink, rows, pin(sha256)));
    }
    let text = input::read_small(opened, MAX_LISTING_BYTES, &name, patient.stop()).await?;
    let listing = listing(&text, &name)?;
    for file in failed(&listing) {
        let (bucket, key) = files::in_bucket(file, &name)?;
        let read = FailedRows::read_object(&bucket, &key, listing.format, &file.md5, patient, (sink, rows));
        (sink, rows) = read.await?;
    }
    Ok((sink, rows, pin(sha256(&text))))
}

async fn from_disk(
    path: &Path,
    mut rows: FailedRows,
    patient: &Patient,
    mut sink: Sink,
) -> Result<Done, ManifestError> {
    let (path, stop) = (path.to_owned(), patient.stop().clone());
    input::blocking(move || {
        let name = path.display().to_string();
        let raw = input::open_local(&path, stop.clone())?;
        if !is_listing(path.as_os_str().as_encoded_bytes()) {
            let gzip = input::is_gzip(path.as_os_str().as_encoded_bytes());
            let taken = rows::digested::<Sha256>(raw, gzip, &name, Rest::Leave, None, (sink, rows))?;
            let ((sink, rows), sha256) = taken;
            return Ok((sink, rows, Pin::File { path: name, sha256, seen: None }));
        }
        let text = read_text(raw, &name)?;
        let listing = listing(&text, &name)?;
        let folder = Folder::of(&path);
        for file in failed(&listing) {
            let file_path = folder.find(file, &name)?;
            (sink, rows) = FailedRows::read_file(&file_path, listing.format, &file.md5, &stop, (sink, rows))?;
        }
        Ok((sink, rows, Pin::File { path: name, sha256: sha256(&text), seen: None }))
    })
    .await
}

/// Returns whether the file is a `manifest.json` and not a file of rows, by its name.
fn is_listing(name: &[u8]) -> bool {
    name.len() >= 5 && name[name.len() - 5..].eq_ignore_ascii_case(b".json")
}

fn read_text(raw: input::Raw, name: &str) -> Result<Vec<u8>, ManifestError> {
    let mut text = Vec::new();
    let read = raw.take(MAX_LISTING_BYTES + 1).read_to_end(&mut text);
    read.map_err(|cause| ManifestError::Read { place: name.to_owned(), cause })?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes <= MAX_LISTING_BYTES) {
        return Ok(text);
    }
    Err(ManifestError::malformed(name, format!("it is larger than {MAX_LISTING_BYTES} bytes"), NO_REPORT))
}

fn listing(text: &[u8], name: &str) -> Result<Listing, ManifestError> {
    let listing = read_manifest_json(text).map_err(|why| ManifestError::malformed(name, why, NO_REPORT))?;
    files::refuse_repeated(&listing.files, name)?;
    Ok(listing)
}

/// Returns the files with failures.
fn failed(listing: &Listing) -> impl Iterator<Item = &ListedFile> {
    listing.files.iter().filter(|file| file.status == TaskStatus::Failed)
}

fn sha256(text: &[u8]) -> String {
    hex(&Sha256::digest(text))
}

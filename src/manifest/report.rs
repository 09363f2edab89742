//! The source `report`: the failed rows of an earlier completion report, from OSS, AWS or batchplan, in either format.
//!
//! The plan names a report by its `manifest.json` or by one of its CSV files. With a `manifest.json`, the files with
//! failures are read and checked against their MD5. In a bucket they are found by bucket and key. Next to a local
//! `manifest.json` they are found by the end of the key, since a downloaded report lists the original keys of its
//! files. Names in the list never lead out of the folder.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use batchplan_store::hex::hex;
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::UNLISTABLE_KEY;
use md5::Md5;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::csv::{CsvRecord, CsvRecords, for_each_record};
use super::error::{ManifestError, counted, object_path};
use super::filter::{ManifestRow, RowMetadata};
use super::input::{self, BoxedReader, UnreadBytes};
use super::pins::{SourcePin, pinned_path};
use super::retrying_store::{RetryingStore, bare_etag};
use super::row_visitor::{RowFlow, RowIntake, RowVisitor, check_bucket};
use super::spec::{FailedRowsFile, FileLocation, ReportRowFilter};
use crate::paths::show_path;
use crate::report_format::{
    ReportFormat, ReportManifest, ReportManifestEntry, ReportRow, ReportRowDecoder, TaskStatus,
    format_for_column_count, parse_report_manifest,
};

/// The maximum size of a `manifest.json` in bytes: enough for 300,000 files.
const MAX_LISTING_BYTES: u64 = 64 << 20;

/// The help text for a file that is not a report.
const NOT_A_REPORT_HELP: &str = "use the manifest.json of a completion report, or one of its CSV files";

/// The folder next to the list where the AWS format keeps its files.
const SUBFOLDER: &str = "results";

/// Passes the failed rows of a report to the visitor.
pub(super) async fn read<V: RowVisitor>(
    from: &FileLocation,
    narrowing: &ReportRowFilter,
    retrying: &RetryingStore,
    visitor: V,
) -> Result<(V, SourcePin), ManifestError> {
    visitor.intake().filter().require_names_only("a completion report")?;
    let rows = FailedRowReader::new(narrowing.clone());
    let (mut visitor, rows, pin) = match from {
        FileLocation::Object { bucket, key, etag } => {
            read_from_bucket(bucket, key, etag.as_deref(), rows, retrying, visitor).await?
        }
        FileLocation::Local(path) => read_from_disk(path, rows, retrying, visitor).await?,
    };
    rows.add_warnings(visitor.intake_mut());
    Ok((visitor, pin))
}

type ReportReadOutput<V> = (V, FailedRowReader, SourcePin);

async fn read_from_bucket<V: RowVisitor>(
    bucket: &BucketName,
    key: &ObjectKey,
    etag: Option<&str>,
    mut rows: FailedRowReader,
    retrying: &RetryingStore,
    mut visitor: V,
) -> Result<ReportReadOutput<V>, ManifestError> {
    let opened = retrying.open_pinned(bucket, key, etag).await?;
    let (name, etag) = (object_path(bucket, key), bare_etag(&opened.etag).to_owned());
    let pin = |sha256| SourcePin::Object { bucket: bucket.clone(), key: key.clone(), etag, sha256 };
    if !is_manifest_json(key.as_bytes()) {
        let gzip = input::is_gzip_key(key);
        let parse = move |raw| read_digested::<Sha256, V>(raw, gzip, &name, UnreadBytes::Skip, None, (visitor, rows));
        let ((visitor, rows), sha256) = input::stream(opened, retrying.stop_token(), parse).await?;
        return Ok((visitor, rows, pin(sha256)));
    }
    let text = input::read_small(opened, MAX_LISTING_BYTES, &name, retrying.stop_token()).await?;
    let listing = parse_listing(&text, &name)?;
    for file in failed_files(&listing) {
        let (bucket, key) = listed_object(file, &name)?;
        let read = FailedRowReader::read_object(&bucket, &key, listing.format, &file.md5, retrying, (visitor, rows));
        (visitor, rows) = read.await?;
    }
    Ok((visitor, rows, pin(sha256(&text))))
}

async fn read_from_disk<V: RowVisitor>(
    path: &Path,
    mut rows: FailedRowReader,
    retrying: &RetryingStore,
    mut visitor: V,
) -> Result<ReportReadOutput<V>, ManifestError> {
    let (path, stop) = (path.to_owned(), retrying.stop_token().clone());
    input::run_blocking(move || {
        let name = show_path(&path).to_string();
        let raw = input::open_local(&path, stop.clone())?;
        if !is_manifest_json(path.as_os_str().as_encoded_bytes()) {
            let gzip = input::is_gzip(path.as_os_str().as_encoded_bytes());
            let taken = read_digested::<Sha256, V>(raw, gzip, &name, UnreadBytes::Skip, None, (visitor, rows))?;
            let ((visitor, rows), sha256) = taken;
            return Ok((visitor, rows, SourcePin::File { path: pinned_path(&path), sha256, stamp: None }));
        }
        let text = read_text(raw, &name)?;
        let listing = parse_listing(&text, &name)?;
        let folder = ReportListFolder::of(&path);
        for file in failed_files(&listing) {
            let file_path = folder.find(file, &name)?;
            (visitor, rows) =
                FailedRowReader::read_file(&file_path, listing.format, &file.md5, &stop, (visitor, rows))?;
        }
        Ok((visitor, rows, SourcePin::File { path: pinned_path(&path), sha256: sha256(&text), stamp: None }))
    })
    .await
}

/// Returns whether the file is a `manifest.json` and not a file of rows, by its name.
fn is_manifest_json(name: &[u8]) -> bool {
    name.len() >= 5 && name[name.len() - 5..].eq_ignore_ascii_case(b".json")
}

fn read_text(raw: BoxedReader, name: &str) -> Result<Vec<u8>, ManifestError> {
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
    reject_duplicates(&listing.files, name)?;
    Ok(listing)
}

/// Returns the files with failures.
fn failed_files(listing: &ReportManifest) -> impl Iterator<Item = &ReportManifestEntry> {
    listing.files.iter().filter(|file| file.status == TaskStatus::Failed)
}

fn sha256(text: &[u8]) -> String {
    hex(&Sha256::digest(text))
}

/// Passes the failed rows of report files to the visitor, and checks the MD5 of each file.
pub(super) async fn read_failed_rows<V: RowVisitor>(
    files: &[FailedRowsFile],
    retrying: &RetryingStore,
    mut visitor: V,
) -> Result<V, ManifestError> {
    let mut rows = FailedRowReader::new(ReportRowFilter::default());
    for file in files {
        let FailedRowsFile { location, format, md5 } = file;
        (visitor, rows) = match location {
            FileLocation::Object { bucket, key, .. } => {
                FailedRowReader::read_object(bucket, key, *format, md5, retrying, (visitor, rows)).await?
            }
            FileLocation::Local(path) => {
                let (path, format, md5, stop) = (path.clone(), *format, md5.clone(), retrying.stop_token().clone());
                let read = move || FailedRowReader::read_file(&path, format, &md5, &stop, (visitor, rows));
                input::run_blocking(read).await?
            }
        };
    }
    rows.add_warnings(visitor.intake_mut());
    Ok(visitor)
}

/// Selects the failed rows to include, and counts rows to warn about.
struct FailedRowReader {
    filter: ReportRowFilter,
    decoder: ReportRowDecoder,
    raw_plus: RowOccurrences,
    without_code: RowOccurrences,
}

/// The number of rows of a kind, and the first of them.
#[derive(Default)]
struct RowOccurrences {
    first: Option<String>,
    rows: u64,
}

impl RowOccurrences {
    fn count(&mut self, name: &str, row: u64) {
        self.rows += 1;
        self.first.get_or_insert_with(|| format!("row {row} of {name}"));
    }
}

/// The state that is passed from file to file.
type ReportReadState<V> = (V, FailedRowReader);

impl FailedRowReader {
    fn new(filter: ReportRowFilter) -> Self {
        let decoder = ReportRowDecoder::default();
        Self { filter, decoder, raw_plus: RowOccurrences::default(), without_code: RowOccurrences::default() }
    }

    /// Reads a report file in a bucket, and checks its MD5.
    async fn read_object<V: RowVisitor>(
        bucket: &BucketName,
        key: &ObjectKey,
        format: ReportFormat,
        md5: &str,
        retrying: &RetryingStore,
        state: ReportReadState<V>,
    ) -> Result<ReportReadState<V>, ManifestError> {
        let (name, gzip, md5) = (object_path(bucket, key), input::is_gzip_key(key), md5.to_owned());
        let opened = retrying.open_existing(bucket, key).await.map_err(|error| match error {
            ManifestError::Store { fault, .. } if fault.status == Some(404) => {
                let help = "the report is incomplete, or its files were deleted: use another report";
                ManifestError::malformed(&name, "the report lists this file, but it does not exist", help)
            }
            other => other,
        })?;
        input::stream(opened, retrying.stop_token(), move |raw| read_checked(raw, gzip, &name, format, &md5, state))
            .await
    }

    /// Reads a local report file, and checks its MD5.
    fn read_file<V: RowVisitor>(
        path: &Path,
        format: ReportFormat,
        md5: &str,
        stop: &CancellationToken,
        state: ReportReadState<V>,
    ) -> Result<ReportReadState<V>, ManifestError> {
        let gzip = input::is_gzip(path.as_os_str().as_encoded_bytes());
        let raw = input::open_local(path, stop.clone())?;
        read_checked(raw, gzip, &show_path(path).to_string(), format, md5, state)
    }

    /// Adds the warnings, once all files have been read.
    fn add_warnings(self, intake: &mut RowIntake) {
        if let Some(first) = self.raw_plus.first {
            let keys = counted(self.raw_plus.rows, "key");
            intake.warn(
                format!("a raw `+` in {keys} is read as a plus (first in {first})"),
                "if it means a space, make a CSV manifest of these rows and set `plus_is_space = true`",
            );
        }
        if let Some(first) = self.without_code.first {
            let rows = counted(self.without_code.rows, "failed row");
            intake.warn(
                format!("left out {rows} without an error code (first: {first})"),
                "remove `code` from the plan to include them",
            );
        }
    }

    fn visit_row(
        &mut self,
        record: &CsvRecord<'_>,
        format: ReportFormat,
        (row, name): (u64, &str),
        visitor: &mut dyn RowVisitor,
    ) -> Result<RowFlow, ManifestError> {
        let column = |at| record.field(at).unwrap_or_default();
        let decoded = match self.decoder.decode(format, record.len(), column) {
            Ok(decoded) => decoded,
            Err(why) => return Ok(RowFlow::Invalid(why)),
        };
        if decoded.task == TaskStatus::Succeeded
            || !is_selected(&self.filter, &decoded, || self.without_code.count(name, row))
        {
            return visitor.count_row();
        }
        if decoded.raw_plus {
            self.raw_plus.count(name, row);
        }
        let row = ManifestRow {
            bucket: decoded.bucket,
            key: decoded.key,
            version: decoded.version,
            metadata: RowMetadata::default(),
        };
        if decoded.error_code().is_some_and(|code| code == UNLISTABLE_KEY) {
            return visitor.visit_unlistable(&row, None);
        }
        visitor.visit(&row)
    }
}

/// Returns whether a failed row meets the conditions. Calls `codeless` for a row without the code that a condition
/// needs.
fn is_selected(filter: &ReportRowFilter, row: &ReportRow<'_>, codeless: impl FnOnce()) -> bool {
    if let Some(statuses) = &filter.status
        && !row.status.is_some_and(|status| statuses.contains(&status))
    {
        return false;
    }
    let Some(codes) = &filter.code else { return true };
    let Some(code) = row.error_code() else {
        codeless();
        return false;
    };
    codes.iter().any(|wanted| wanted.eq_ignore_ascii_case(&code))
}

/// Reads a file and checks its MD5.
fn read_checked<V: RowVisitor>(
    raw: BoxedReader,
    gzip: bool,
    name: &str,
    format: ReportFormat,
    md5: &str,
    state: ReportReadState<V>,
) -> Result<ReportReadState<V>, ManifestError> {
    let expect = |digest: &str| {
        if digest.eq_ignore_ascii_case(md5) {
            return Ok(());
        }
        let what = format!("its MD5 is {digest}, but the report says {md5}");
        Err(ManifestError::malformed(
            name,
            what,
            "the file was overwritten or truncated: use another copy of the report",
        ))
    };
    let rest = UnreadBytes::after_failure(state.0.needs_all_rows());
    let (rows, digest) = read_with_digest::<Md5, V>(raw, gzip, name, rest, Some(format), state)?;
    // A file that was not read to its end has no digest to compare.
    if rest == UnreadBytes::Skip && rows.is_err() {
        return rows;
    }
    // Check this first: a wrong or damaged file explains any errors in its rows.
    expect(&digest)?;
    rows
}

/// Reads a file and returns its digest. Without a format, the number of columns in the first row determines it.
fn read_digested<D: Digest, V: RowVisitor>(
    raw: BoxedReader,
    gzip: bool,
    name: &str,
    rest: UnreadBytes,
    format: Option<ReportFormat>,
    state: ReportReadState<V>,
) -> Result<(ReportReadState<V>, String), ManifestError> {
    let (rows, digest) = read_with_digest::<D, V>(raw, gzip, name, rest, format, state)?;
    Ok((rows?, digest))
}

type ReportReadAttempt<V> = (Result<ReportReadState<V>, ManifestError>, String);

fn read_with_digest<D: Digest, V: RowVisitor>(
    raw: BoxedReader,
    gzip: bool,
    name: &str,
    rest: UnreadBytes,
    mut format: Option<ReportFormat>,
    (mut visitor, mut rows): ReportReadState<V>,
) -> Result<ReportReadAttempt<V>, ManifestError> {
    let (done, content) = input::read_digested::<D, _>(raw, gzip, name, rest, |text| {
        for_each_record(CsvRecords::new(text), gzip, name, |record, row| {
            let row_format = format.map_or_else(|| detect_format(record, row, name), Ok)?;
            format = Some(row_format);
            rows.visit_row(record, row_format, (row, name), &mut visitor)
        })
    })?;
    Ok((done.map(|()| (visitor, rows)), content.digest))
}

/// Detects the format of a single file.
fn detect_format(record: &CsvRecord<'_>, row: u64, name: &str) -> Result<ReportFormat, ManifestError> {
    format_for_column_count(record.len()).ok_or_else(|| {
        let count = record.len();
        let what =
            format!("not a completion report: row {row} has {count} columns (OSS reports have 5, AWS reports 7)");
        ManifestError::malformed(name, what, NOT_A_REPORT_HELP)
    })
}

/// Rejects a list that names a file twice: its objects would be processed twice.
fn reject_duplicates(files: &[ReportManifestEntry], name: &str) -> Result<(), ManifestError> {
    let mut seen = HashSet::with_capacity(files.len());
    match files.iter().find(|file| !seen.insert((&file.bucket, &file.key))) {
        None => Ok(()),
        Some(file) => {
            let what = format!("it lists the file {} twice", ObjectKey::from(file.key.as_str()));
            Err(ManifestError::malformed(name, what, "use the original report"))
        }
    }
}

/// Returns the object that holds a listed file.
fn listed_object(file: &ReportManifestEntry, name: &str) -> Result<(BucketName, ObjectKey), ManifestError> {
    let key = ObjectKey::from(file.key.as_str());
    if file.bucket.is_empty() {
        let what = format!("it lists {key} without a bucket: the report was copied there, not published");
        let help = "copy the report's folder to this machine and set `path` to its manifest.json";
        return Err(ManifestError::malformed(name, what, help));
    }
    check_bucket(&file.bucket, true).map_err(|why| {
        ManifestError::malformed(name, format!("it lists {key} in an invalid bucket: {why}"), NOT_A_REPORT_HELP)
    })?;
    Ok((BucketName::new(&file.bucket), key))
}

/// The folder of a local `manifest.json`.
struct ReportListFolder<'a>(&'a Path);

impl<'a> ReportListFolder<'a> {
    /// Returns the folder of this `manifest.json`.
    fn of(listing: &'a Path) -> Self {
        Self(listing.parent().unwrap_or_else(|| Path::new("")))
    }

    /// Returns the path of a listed file: next to the list, or in `results` next to it.
    fn find(&self, file: &ReportManifestEntry, name: &str) -> Result<PathBuf, ManifestError> {
        let listed = ObjectKey::from(file.key.as_str());
        let (above, last) = file.key.rsplit_once('/').unwrap_or(("", &file.key));
        if !is_plain_name(last) {
            let what = format!("it lists {listed}, which is not a valid file name");
            return Err(ManifestError::malformed(name, what, NOT_A_REPORT_HELP));
        }
        let mut places = vec![self.0.join(last)];
        if above.rsplit('/').next() == Some(SUBFOLDER) {
            places.insert(0, self.0.join(SUBFOLDER).join(last));
        }
        if let Some(found) = places.iter().find(|path| path.is_file()) {
            return Ok(found.clone());
        }
        let tried: Vec<_> = places.iter().map(|path| show_path(path).to_string()).collect();
        let what = format!("it lists {listed}, but there is no {}", tried.join(" or "));
        Err(ManifestError::malformed(name, what, "download the report's files too, and put them next to it"))
    }
}

/// Returns whether a name is a plain file name on every system: no `..`, no separator, no drive.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let one = matches!(parts.next(), Some(Component::Normal(part)) if part == name) && parts.next().is_none();
    one && !name.contains(['\\', ':', '\0'])
}

#[cfg(test)]
mod tests;

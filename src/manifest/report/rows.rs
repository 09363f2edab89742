//! Reads the failed rows of report files.

use std::io::BufRead;
use std::path::Path;

use batchplan_store::object::{BucketName, ObjectKey};
use md5::Md5;
use sha2::Digest;
use tokio_util::sync::CancellationToken;

use crate::codec::{ReportRow, ReportRowDecoder, TaskStatus, format_for_column_count};
use crate::completion::ReportFormat;
use crate::manifest::csv::to_manifest_error;
use crate::manifest::csv_records::{CsvItem, CsvLineEnds, CsvRecord, CsvRecords};
use crate::manifest::error::{BadRows, ManifestError, counted, object_path};
use crate::manifest::filter::{ManifestRow, RowMetadata};
use crate::manifest::input::{self, BoxedReader, UnreadBytes};
use crate::manifest::retrying_store::RetryingStore;
use crate::manifest::row_writer::RowWriter;
use crate::manifest::spec::ReportRowFilter;

/// Selects the failed rows to include, and counts rows to warn about.
pub(in crate::manifest) struct FailedRowReader {
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
type ReportReadState = (RowWriter, FailedRowReader);

impl FailedRowReader {
    pub(in crate::manifest) fn new(filter: ReportRowFilter) -> Self {
        let decoder = ReportRowDecoder::default();
        Self { filter, decoder, raw_plus: RowOccurrences::default(), without_code: RowOccurrences::default() }
    }

    /// Reads a report file in a bucket, and checks its MD5.
    pub(in crate::manifest) async fn read_object(
        bucket: &BucketName,
        key: &ObjectKey,
        format: ReportFormat,
        md5: &str,
        patient: &RetryingStore,
        hands: ReportReadState,
    ) -> Result<ReportReadState, ManifestError> {
        let (name, gzip, md5) = (object_path(bucket, key), input::is_gzip_key(key), md5.to_owned());
        let opened = patient.open_existing(bucket, key).await.map_err(|error| match error {
            ManifestError::Store { fault, .. } if fault.status == Some(404) => {
                let help = "the report is incomplete, or its files were deleted: use another report";
                ManifestError::malformed(&name, "the report lists this file, but it does not exist", help)
            }
            other => other,
        })?;
        input::stream(opened, patient.stop_token(), move |raw| read_checked(raw, gzip, &name, format, &md5, hands))
            .await
    }

    /// Reads a local report file, and checks its MD5.
    pub(in crate::manifest) fn read_file(
        path: &Path,
        format: ReportFormat,
        md5: &str,
        stop: &CancellationToken,
        hands: ReportReadState,
    ) -> Result<ReportReadState, ManifestError> {
        let gzip = input::is_gzip(path.as_os_str().as_encoded_bytes());
        let raw = input::open_local(path, stop.clone())?;
        read_checked(raw, gzip, &path.display().to_string(), format, md5, hands)
    }

    /// Adds the warnings, once all files have been read.
    pub(in crate::manifest) fn add_warnings(self, sink: &mut RowWriter) {
        if let Some(first) = self.raw_plus.first {
            let keys = counted(self.raw_plus.rows, "key");
            sink.warn(
                format!("a raw `+` in {keys} is read as a plus (first in {first})"),
                "if it means a space, make a CSV manifest of these rows and set `plus_is_space = true`",
            );
        }
        if let Some(first) = self.without_code.first {
            let rows = counted(self.without_code.rows, "failed row");
            sink.warn(
                format!("left out {rows} without an error code (first: {first})"),
                "remove `code` from the plan to include them",
            );
        }
    }

    fn write_row(
        &mut self,
        record: &CsvRecord<'_>,
        format: ReportFormat,
        (row, name): (u64, &str),
        sink: &mut RowWriter,
    ) -> Result<Result<(), String>, ManifestError> {
        let column = |at| record.field(at).unwrap_or_default();
        let told = match self.decoder.decode(format, record.len(), column) {
            Ok(told) => told,
            Err(why) => return Ok(Err(why)),
        };
        if told.task == TaskStatus::Succeeded
            || !is_selected(&self.filter, &told, || self.without_code.count(name, row))
        {
            sink.count_row()?;
            return Ok(Ok(()));
        }
        if told.raw_plus {
            self.raw_plus.count(name, row);
        }
        sink.push(&ManifestRow {
            bucket: told.bucket,
            key: told.key,
            version: told.version,
            metadata: RowMetadata::default(),
        })
    }
}

/// Returns whether a failed row meets the conditions. Calls `codeless` for a row without the code that a condition
/// needs.
fn is_selected(narrowing: &ReportRowFilter, row: &ReportRow<'_>, codeless: impl FnOnce()) -> bool {
    if let Some(statuses) = &narrowing.status
        && !row.status.is_some_and(|status| statuses.contains(&status))
    {
        return false;
    }
    let Some(codes) = &narrowing.code else { return true };
    let Some(code) = row.error_code() else {
        codeless();
        return false;
    };
    codes.iter().any(|wanted| wanted.eq_ignore_ascii_case(&code))
}

/// Reads a file and checks its MD5.
fn read_checked(
    raw: BoxedReader,
    gzip: bool,
    name: &str,
    format: ReportFormat,
    md5: &str,
    hands: ReportReadState,
) -> Result<ReportReadState, ManifestError> {
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
    let rest = hands.0.unread_bytes();
    let (rows, digest) = read_with_digest::<Md5>(raw, gzip, name, rest, Some(format), hands)?;
    // A file that was not read to its end has no digest to compare.
    if rest == UnreadBytes::Skip && rows.is_err() {
        return rows;
    }
    // Check this first: a wrong or damaged file explains any errors in its rows.
    expect(&digest)?;
    rows
}

/// Reads a file and returns its digest. Without a format, the number of columns in the first row determines it.
pub(super) fn read_digested<D: Digest>(
    raw: BoxedReader,
    gzip: bool,
    name: &str,
    rest: UnreadBytes,
    format: Option<ReportFormat>,
    hands: ReportReadState,
) -> Result<(ReportReadState, String), ManifestError> {
    let (rows, digest) = read_with_digest::<D>(raw, gzip, name, rest, format, hands)?;
    Ok((rows?, digest))
}

type ReportReadAttempt = (Result<ReportReadState, ManifestError>, String);

fn read_with_digest<D: Digest>(
    raw: BoxedReader,
    gzip: bool,
    name: &str,
    rest: UnreadBytes,
    format: Option<ReportFormat>,
    (mut sink, mut rows): ReportReadState,
) -> Result<ReportReadAttempt, ManifestError> {
    let (done, tally) = input::read_digested::<D, _>(raw, gzip, name, rest, |text| {
        read_rows(CsvRecords::new(text, CsvLineEnds::Either), gzip, name, format, &mut rows, &mut sink)
    })?;
    Ok((done.map(|()| (sink, rows)), tally.digest))
}

fn read_rows<R: BufRead>(
    mut records: CsvRecords<R>,
    gzip: bool,
    name: &str,
    mut format: Option<ReportFormat>,
    rows: &mut FailedRowReader,
    sink: &mut RowWriter,
) -> Result<(), ManifestError> {
    let mut bad = BadRows::new();
    loop {
        let row = records.row() + 1;
        let taken = match records.next().map_err(|broken| to_manifest_error(broken, gzip, name, row))? {
            CsvItem::End => break,
            CsvItem::Bad(why) => Err(why),
            CsvItem::Record(record) => {
                let form = format.map_or_else(|| detect_format(&record, row, name), Ok)?;
                format = Some(form);
                match rows.write_row(&record, form, (row, name), sink) {
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

/// Detects the format of a single file.
fn detect_format(record: &CsvRecord<'_>, row: u64, name: &str) -> Result<ReportFormat, ManifestError> {
    format_for_column_count(record.len()).ok_or_else(|| {
        let count = record.len();
        let what =
            format!("not a completion report: row {row} has {count} columns (OSS reports have 5, AWS reports 7)");
        ManifestError::malformed(name, what, super::NOT_A_REPORT_HELP)
    })
}

//! Reads the failed rows of report files.

use std::io::BufRead;
use std::path::Path;

use md5::Md5;
use sha2::Digest;
use tokio_util::sync::CancellationToken;

use crate::codec::{ReportRow, RowDecoder, TaskStatus, format_of_columns};
use crate::completion::ReportFormat;
use crate::manifest::csv::explain;
use crate::manifest::error::{BadRows, ManifestError, place};
use crate::manifest::filter::{Facts, Row};
use crate::manifest::input::{self, Raw, Rest};
use crate::manifest::patient::Patient;
use crate::manifest::records::{LineEnds, Next, Record, Records};
use crate::manifest::sink::Sink;
use crate::manifest::spec::Narrowing;
use crate::object::{Bucket, Key};

/// Selects the failed rows to include, and counts rows to warn about.
pub(in crate::manifest) struct FailedRows {
    narrowing: Narrowing,
    decoder: RowDecoder,
    plus: Tally,
    codeless: Tally,
}

/// The number of rows of a kind, and the first of them.
#[derive(Default)]
struct Tally {
    first: Option<String>,
    rows: u64,
}

impl Tally {
    fn count(&mut self, name: &str, row: u64) {
        self.rows += 1;
        self.first.get_or_insert_with(|| format!("row {row} of {name}"));
    }
}

/// The state that is passed from file to file.
type Hands = (Sink, FailedRows);

impl FailedRows {
    pub(in crate::manifest) fn new(narrowing: Narrowing) -> Self {
        let decoder = RowDecoder::default();
        Self { narrowing, decoder, plus: Tally::default(), codeless: Tally::default() }
    }

    /// Reads a report file in a bucket, and checks its MD5.
    pub(in crate::manifest) async fn read_object(
        bucket: &Bucket,
        key: &Key,
        format: ReportFormat,
        md5: &str,
        patient: &Patient,
        hands: Hands,
    ) -> Result<Hands, ManifestError> {
        let (name, gzip, md5) = (place(bucket, key), input::is_gzip_key(key), md5.to_owned());
        let opened = patient.open_existing(bucket, key).await.map_err(|error| match error {
            ManifestError::Store { fault, .. } if fault.status == Some(404) => {
                let help = "the report is not complete, or its files were deleted: use another one";
                ManifestError::malformed(&name, "the report lists this file, and it is not there", help)
            }
            other => other,
        })?;
        input::stream(opened, patient.stop(), move |raw| checked(raw, gzip, &name, format, &md5, hands)).await
    }

    /// Reads a local report file, and checks its MD5.
    pub(in crate::manifest) fn read_file(
        path: &Path,
        format: ReportFormat,
        md5: &str,
        stop: &CancellationToken,
        hands: Hands,
    ) -> Result<Hands, ManifestError> {
        let gzip = input::is_gzip(path.as_os_str().as_encoded_bytes());
        let raw = input::open_local(path, stop.clone())?;
        checked(raw, gzip, &path.display().to_string(), format, md5, hands)
    }

    /// Adds the warnings, once all files have been read.
    pub(in crate::manifest) fn warn(self, sink: &mut Sink) {
        if let Some(first) = self.plus.first {
            sink.warn(
                format!("keys with a raw `+` are taken as they are: {}, the first in {first}", self.plus.rows),
                "where it means a space, make a CSV manifest of the rows and set `plus_is_space = true`",
            );
        }
        if let Some(first) = self.codeless.first {
            let rows = self.codeless.rows;
            sink.warn(
                format!("failed rows without an error code are left out: {rows}, the first is {first}"),
                "take `code` out of the plan to have them as well",
            );
        }
    }

    fn take(
        &mut self,
        record: &Record<'_>,
        format: ReportFormat,
        (row, name): (u64, &str),
        sink: &mut Sink,
    ) -> Result<Result<(), String>, ManifestError> {
        let column = |at| record.field(at).unwrap_or_default();
        let told = match self.decoder.decode(format, record.len(), column) {
            Ok(told) => told,
            Err(why) => return Ok(Err(why)),
        };
        if told.task == TaskStatus::Succeeded || !wanted(&self.narrowing, &told, || self.codeless.count(name, row)) {
            sink.pass_over()?;
            return Ok(Ok(()));
        }
        if told.raw_plus {
            self.plus.count(name, row);
        }
        sink.push(&Row { bucket: told.bucket, key: told.key, version: told.version, facts: Facts::default() })
    }
}

/// Returns whether a failed row meets the conditions. Calls `codeless` for a row without the code that a condition
/// needs.
fn wanted(narrowing: &Narrowing, row: &ReportRow<'_>, codeless: impl FnOnce()) -> bool {
    if let Some(statuses) = &narrowing.status
        && !row.status.is_some_and(|status| statuses.contains(&status))
    {
        return false;
    }
    let Some(codes) = &narrowing.code else { return true };
    let Some(code) = row.code() else {
        codeless();
        return false;
    };
    codes.iter().any(|wanted| wanted.eq_ignore_ascii_case(&code))
}

/// Reads a file and checks its MD5.
fn checked(
    raw: Raw,
    gzip: bool,
    name: &str,
    format: ReportFormat,
    md5: &str,
    hands: Hands,
) -> Result<Hands, ManifestError> {
    let expect = |digest: &str| {
        if digest.eq_ignore_ascii_case(md5) {
            return Ok(());
        }
        let what = format!("its MD5 is {digest}, and the report says {md5}");
        Err(ManifestError::malformed(
            name,
            what,
            "the file was written over or cut off: use another copy of the report",
        ))
    };
    let rest = hands.0.rest();
    let (rows, digest) = attempt::<Md5>(raw, gzip, name, rest, Some(format), hands)?;
    // A file that was not read to its end has no digest to compare.
    if rest == Rest::Leave && rows.is_err() {
        return rows;
    }
    // Check this first: a wrong or damaged file explains any errors in its rows.
    expect(&digest)?;
    rows
}

/// Reads a file and returns its digest. Without a format, the number of columns in the first row determines it.
pub(super) fn digested<D: Digest>(
    raw: Raw,
    gzip: bool,
    name: &str,
    rest: Rest,
    format: Option<ReportFormat>,
    hands: Hands,
) -> Result<(Hands, String), ManifestError> {
    let (rows, digest) = attempt::<D>(raw, gzip, name, rest, format, hands)?;
    Ok((rows?, digest))
}

type Attempt = (Result<Hands, ManifestError>, String);

fn attempt<D: Digest>(
    raw: Raw,
    gzip: bool,
    name: &str,
    rest: Rest,
    format: Option<ReportFormat>,
    (mut sink, mut rows): Hands,
) -> Result<Attempt, ManifestError> {
    let (done, tally) = input::digested::<D, _>(raw, gzip, name, rest, |text| {
        read_rows(Records::new(text, LineEnds::Either), gzip, name, format, &mut rows, &mut sink)
    })?;
    Ok((done.map(|()| (sink, rows)), tally.digest))
}

fn read_rows<R: BufRead>(
    mut records: Records<R>,
    gzip: bool,
    name: &str,
    mut format: Option<ReportFormat>,
    rows: &mut FailedRows,
    sink: &mut Sink,
) -> Result<(), ManifestError> {
    let mut bad = BadRows::new();
    loop {
        let row = records.row() + 1;
        let taken = match records.next().map_err(|broken| explain(broken, gzip, name, row))? {
            Next::End => break,
            Next::Bad(why) => Err(why),
            Next::Record(record) => {
                let form = format.map_or_else(|| detect(&record, row, name), Ok)?;
                format = Some(form);
                match rows.take(&record, form, (row, name), sink) {
                    Ok(taken) => taken,
                    Err(error) => return Err(bad.before(error, name)),
                }
            }
        };
        if let Err(why) = taken {
            bad.push(row, records.line(), why);
            if bad.are_hopeless() {
                break;
            }
        }
    }
    bad.verdict(name)
}

/// Detects the format of a single file.
fn detect(record: &Record<'_>, row: u64, name: &str) -> Result<ReportFormat, ManifestError> {
    format_of_columns(record.len()).ok_or_else(|| {
        let count = record.len();
        let what = format!("it is no completion report: row {row} has {count} columns, and OSS's have 5, AWS's 7");
        ManifestError::malformed(name, what, super::NO_REPORT)
    })
}

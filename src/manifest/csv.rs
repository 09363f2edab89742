//! The source `csv`: a CSV file of buckets and keys, in a bucket or on this machine.
//!
//! After an interruption it is read again from its beginning: it is a single file, and only a digest of all its bytes
//! proves that it is the same file.

use std::io::{self, BufRead};
use std::path::Path;

use sha2::Sha256;
use tokio_util::sync::CancellationToken;

use super::error::{BadRows, ManifestError, place};
use super::escape;
use super::filter::{Facts, Row};
use super::frozen::Pin;
use super::input::{self, Raw, Rest};
use super::patient::{Patient, bare};
use super::pins;
use super::records::{Broken, LineEnds, Next, Record, Records};
use super::sink::Sink;
use super::spec::{CsvField, CsvPlace, Filter};

/// Reads a CSV manifest and writes its rows to the row writer.
pub(super) async fn read(
    from: &CsvPlace,
    fields: &[CsvField],
    plus_is_space: bool,
    patient: &Patient,
    sink: Sink,
) -> Result<(Sink, Pin), ManifestError> {
    let columns = Columns::new(fields, plus_is_space)?;
    refuse_facts(sink.filter(), "a CSV manifest")?;
    match from {
        CsvPlace::Object { bucket, key, etag } => {
            let opened = patient.open_pinned(bucket, key, etag.as_deref()).await?;
            let etag = bare(&opened.etag).to_owned();
            let (name, gzip) = (place(bucket, key), input::is_gzip_key(key));
            let parse = move |raw| digest_rows(raw, gzip, &name, columns, sink);
            let (sink, sha256) = input::stream(opened, patient.stop(), parse).await?;
            Ok((sink, Pin::Object { bucket: bucket.clone(), key: key.clone(), etag, sha256 }))
        }
        CsvPlace::Local(path) => {
            let (path, stop) = (path.clone(), patient.stop().clone());
            input::blocking(move || {
                let name = path.display().to_string();
                let gzip = input::is_gzip(path.as_os_str().as_encoded_bytes());
                let before = pins::seen(&path);
                let raw = input::open_local(&path, stop)?;
                let (sink, sha256) = digest_rows(raw, gzip, &name, columns, sink)?;
                // A file that was modified during the read is identified by its digest alone.
                let seen = before.filter(|before| pins::seen(&path).as_ref() == Some(before));
                // An absolute path, because the job may be resumed from another folder.
                let path = std::path::absolute(&path).map_or(name, |path| path.display().to_string());
                Ok((sink, Pin::File { path, sha256, seen }))
            })
            .await
        }
    }
}

/// Rejects a filter that needs more than names, for a source that has only names, before anything is read.
pub(super) fn refuse_facts(filter: &Filter, source: &str) -> Result<(), ManifestError> {
    match filter.asks().first() {
        None => Ok(()),
        Some((condition, fact)) => Err(ManifestError::Unfiltered {
            what: format!("the filter's `{condition}` needs {}, and {source} knows only names", fact.noun()),
            help: format!("use [manifest.prefix] or [manifest.inventory], or take `{condition}` out"),
        }),
    }
}

fn digest_rows(
    raw: Raw,
    gzip: bool,
    name: &str,
    columns: Columns,
    sink: Sink,
) -> Result<(Sink, String), ManifestError> {
    let (sink, tally) =
        input::digested::<Sha256, _>(raw, gzip, name, Rest::Leave, |text| read_rows(text, gzip, name, columns, sink))?;
    Ok((sink?, tally.digest))
}

fn read_rows(
    text: &mut dyn BufRead,
    gzip: bool,
    name: &str,
    columns: Columns,
    mut sink: Sink,
) -> Result<Sink, ManifestError> {
    let plus = each_row(text, gzip, name, columns, |row| sink.push(row))?;
    if let Some((first, rows)) = plus {
        sink.warn(
            format!("{name}: {rows} keys hold a raw `+`, the first in row {first}; it is taken as itself"),
            "where it means a space, set `plus_is_space = true`; a plus is best written %2B",
        );
    }
    Ok(sink)
}

/// Counts the rows of a local CSV manifest. Reads it like a job does: decompresses gzip, computes the digest, checks
/// and decodes each row. Keeps nothing.
///
/// # Errors
/// Returns an error if a job would reject the file. Bucket and key names are not checked.
pub fn count_rows(path: &Path, fields: &[CsvField], plus_is_space: bool) -> Result<u64, ManifestError> {
    let columns = Columns::new(fields, plus_is_space)?;
    let name = path.display().to_string();
    let gzip = input::is_gzip(path.as_os_str().as_encoded_bytes());
    let raw = input::open_local(path, CancellationToken::new())?;
    let mut rows = 0;
    let count = |text: &mut dyn BufRead| {
        each_row(text, gzip, &name, columns, |_| {
            rows += 1;
            Ok(Ok(()))
        })
    };
    let (counted, _) = input::digested::<Sha256, _>(raw, gzip, &name, Rest::Leave, count)?;
    counted.map(|_| rows)
}

/// Calls `take` for each row. Returns the first row with a raw `+` that was kept as `+`, and the number of such rows.
fn each_row(
    text: &mut dyn BufRead,
    gzip: bool,
    name: &str,
    mut columns: Columns,
    mut take: impl FnMut(&Row<'_>) -> Result<Result<(), String>, ManifestError>,
) -> Result<Option<(u64, u64)>, ManifestError> {
    let mut records = Records::new(text, LineEnds::Lf);
    let mut bad = BadRows::new();
    loop {
        let row = records.row() + 1;
        let taken = match records.next().map_err(|broken| explain(broken, gzip, name, row))? {
            Next::End => break,
            Next::Bad(why) => Err(why),
            Next::Record(record) => {
                if row == 1 {
                    columns.refuse_header(&record, name)?;
                }
                match columns.row(&record, row) {
                    Ok(row) => match take(&row) {
                        Ok(taken) => taken,
                        Err(error) => return Err(bad.before(error, name)),
                    },
                    Err(why) => Err(why),
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
    bad.verdict(name)?;
    Ok(columns.plus)
}

/// The positions of the columns, and the state of reading rows.
struct Columns {
    fields: Vec<CsvField>,
    bucket: usize,
    key: usize,
    version: Option<usize>,
    plus_is_space: bool,
    decoded: Vec<u8>,
    /// The first row with a raw `+` that was kept as `+`, and the number of such rows.
    plus: Option<(u64, u64)>,
}

impl Columns {
    fn new(fields: &[CsvField], plus_is_space: bool) -> Result<Self, ManifestError> {
        let find = |wanted| fields.iter().position(|field| *field == wanted);
        let (Some(bucket), Some(key)) = (find(CsvField::Bucket), find(CsvField::Key)) else {
            return Err(ManifestError::malformed(
                "fields",
                "Bucket and Key must be among them",
                "write fields = [\"Bucket\", \"Key\"], in the order of the file's columns",
            ));
        };
        let version = find(CsvField::VersionId);
        let fields = fields.to_vec();
        Ok(Self { fields, bucket, key, version, plus_is_space, decoded: Vec::new(), plus: None })
    }

    fn row<'a>(&'a mut self, record: &Record<'a>, number: u64) -> Result<Row<'a>, String> {
        if record.len() != self.fields.len() {
            return Err(format!("it has {} fields, and the plan names {}", record.len(), self.fields.len()));
        }
        let field = |index| record.field(index).unwrap_or_default();
        let key = record.bytes(self.key).unwrap_or_default();
        let plus = escape::decode_into(key, self.plus_is_space, &mut self.decoded)?;
        if plus && !self.plus_is_space {
            let (_, rows) = self.plus.get_or_insert((number, 0));
            *rows += 1;
        }
        let version = self.version.map(field).filter(|id| !id.is_empty());
        Ok(Row { bucket: field(self.bucket), key: &self.decoded, version, facts: Facts::default() })
    }

    /// Rejects a file whose first row looks like column names: the header would be treated as an object.
    fn refuse_header(&self, record: &Record<'_>, name: &str) -> Result<(), ManifestError> {
        const NAMES: [&str; 9] =
            ["bucket", "bucketname", "key", "keyname", "object", "objectkey", "objectname", "version", "versionid"];
        let names_a_column = |index: usize| {
            let letters = record.field(index).unwrap_or_default().chars().filter(|c| !matches!(c, ' ' | '_' | '-'));
            let name: String = letters.map(|c| c.to_ascii_lowercase()).collect();
            NAMES.contains(&name.as_str())
        };
        let named = [Some(self.bucket), Some(self.key), self.version];
        if record.len() < 2 || !named.into_iter().flatten().all(names_a_column) {
            return Ok(());
        }
        Err(ManifestError::malformed(
            name,
            "row 1 looks like a header, and a manifest has none",
            "delete row 1; the plan's `fields` says what the columns are",
        ))
    }
}

/// Converts a read error to a [`ManifestError`] that names the file.
pub(super) fn explain(broken: Broken, gzip: bool, name: &str, row: u64) -> ManifestError {
    match broken {
        Broken::Form { what, help } => ManifestError::malformed(name, what, help),
        Broken::Io(cause) if gzip && is_damage(&cause) => ManifestError::malformed(
            name,
            format!("its gzip data is damaged or cut off near row {row}: {cause}"),
            "write or copy the file again",
        ),
        Broken::Io(cause) => ManifestError::Read { place: name.to_owned(), cause },
    }
}

fn is_damage(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
}

#[cfg(test)]
mod tests;

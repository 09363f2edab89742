//! The source `csv`: a CSV file of buckets and keys, in a bucket or on this machine.
//!
//! After an interruption it is read again from its beginning: it is a single file, and only a digest of all its bytes
//! proves that it is the same file.

use std::io::BufRead;
use std::path::Path;

use sha2::Sha256;
use tokio_util::sync::CancellationToken;

use super::csv_records::{CsvItem, CsvLineEnds, CsvRecord, CsvRecords};
use super::error::{ManifestError, counted, object_path};
use super::filter::{ManifestRow, RowMetadata};
use super::input::{self, BoxedReader, UnreadBytes};
use super::pins::{self, SourcePin};
use super::retrying_store::{RetryingStore, bare_etag};
use super::row_visitor::{BadRows, RowFlow, RowVisitor};
use super::spec::{CsvField, FileLocation};
use crate::codec::escape;

/// Reads a CSV manifest, and passes its rows to the visitor.
pub(super) async fn read<V: RowVisitor>(
    from: &FileLocation,
    fields: &[CsvField],
    plus_is_space: bool,
    retrying: &RetryingStore,
    visitor: V,
) -> Result<(V, SourcePin), ManifestError> {
    let columns = CsvColumns::new(fields, plus_is_space)?;
    visitor.intake().filter().require_names_only("a CSV manifest")?;
    match from {
        FileLocation::Object { bucket, key, etag } => {
            let opened = retrying.open_pinned(bucket, key, etag.as_deref()).await?;
            let etag = bare_etag(&opened.etag).to_owned();
            let (name, gzip) = (object_path(bucket, key), input::is_gzip_key(key));
            let parse = move |raw| read_and_digest(raw, gzip, &name, columns, visitor);
            let (visitor, sha256) = input::stream(opened, retrying.stop_token(), parse).await?;
            Ok((visitor, SourcePin::Object { bucket: bucket.clone(), key: key.clone(), etag, sha256 }))
        }
        FileLocation::Local(path) => {
            let (path, stop) = (path.clone(), retrying.stop_token().clone());
            input::run_blocking(move || {
                let name = path.display().to_string();
                let gzip = input::is_gzip(path.as_os_str().as_encoded_bytes());
                let before = pins::file_stamp(&path);
                let raw = input::open_local(&path, stop)?;
                let (visitor, sha256) = read_and_digest(raw, gzip, &name, columns, visitor)?;
                // A file that was modified during the read is identified by its digest alone.
                let seen = before.filter(|before| pins::file_stamp(&path).as_ref() == Some(before));
                Ok((visitor, SourcePin::File { path: pins::pinned_path(&path), sha256, stamp: seen }))
            })
            .await
        }
    }
}

fn read_and_digest<V: RowVisitor>(
    raw: BoxedReader,
    gzip: bool,
    name: &str,
    columns: CsvColumns,
    mut visitor: V,
) -> Result<(V, String), ManifestError> {
    let (read, tally) = input::read_digested::<Sha256, _>(raw, gzip, name, UnreadBytes::Skip, |text| {
        read_rows(text, gzip, name, columns, &mut visitor)
    })?;
    read?;
    Ok((visitor, tally.digest))
}

fn read_rows(
    text: &mut dyn BufRead,
    gzip: bool,
    name: &str,
    columns: CsvColumns,
    visitor: &mut dyn RowVisitor,
) -> Result<(), ManifestError> {
    let plus = for_each_row(text, gzip, name, columns, |row| visitor.visit(row))?;
    if let Some((first, rows)) = plus {
        let keys = counted(rows, "key");
        visitor.intake_mut().warn(
            format!("{name}: a raw `+` in {keys} is read as a plus (first in row {first})"),
            "if it means a space, set `plus_is_space = true`; encode a plus as %2B",
        );
    }
    Ok(())
}

/// Counts the rows of a local CSV manifest. Reads it like a job does: decompresses gzip, computes the digest, checks
/// and decodes each row. Keeps nothing.
///
/// # Errors
/// Returns an error if a job would reject the file. Bucket and key names are not checked.
pub fn count_rows(path: &Path, fields: &[CsvField], plus_is_space: bool) -> Result<u64, ManifestError> {
    let columns = CsvColumns::new(fields, plus_is_space)?;
    let name = path.display().to_string();
    let gzip = input::is_gzip(path.as_os_str().as_encoded_bytes());
    let raw = input::open_local(path, CancellationToken::new())?;
    let mut rows = 0;
    let count = |text: &mut dyn BufRead| {
        for_each_row(text, gzip, &name, columns, |_| {
            rows += 1;
            Ok(RowFlow::Continue)
        })
    };
    let (counted, _) = input::read_digested::<Sha256, _>(raw, gzip, &name, UnreadBytes::Skip, count)?;
    counted.map(|_| rows)
}

/// Calls `visit` for each row. Returns the first row with a raw `+` that was kept as `+`, and the number of such rows.
fn for_each_row(
    text: &mut dyn BufRead,
    gzip: bool,
    name: &str,
    mut columns: CsvColumns,
    mut visit: impl FnMut(&ManifestRow<'_>) -> Result<RowFlow, ManifestError>,
) -> Result<Option<(u64, u64)>, ManifestError> {
    let mut records = CsvRecords::new(text, CsvLineEnds::Lf);
    let mut bad = BadRows::default();
    loop {
        let row = records.row() + 1;
        let flow = match records.next().map_err(|broken| broken.into_manifest_error(gzip, name, row))? {
            CsvItem::End => break,
            CsvItem::Bad(why) => Ok(RowFlow::Invalid(why)),
            CsvItem::Record(record) => {
                if row == 1 {
                    columns.reject_header(&record, name)?;
                }
                match columns.row(&record, row) {
                    Ok(row) => visit(&row),
                    Err(why) => Ok(RowFlow::Invalid(why)),
                }
            }
        };
        if !bad.record(flow, (row, records.line()), name)? {
            break;
        }
    }
    bad.into_result(name)?;
    Ok(columns.raw_plus)
}

/// The positions of the columns, and the state of reading rows.
struct CsvColumns {
    fields: Vec<CsvField>,
    bucket: usize,
    key: usize,
    version: Option<usize>,
    plus_is_space: bool,
    decoded: Vec<u8>,
    /// The first row with a raw `+` that was kept as `+`, and the number of such rows.
    raw_plus: Option<(u64, u64)>,
}

impl CsvColumns {
    fn new(fields: &[CsvField], plus_is_space: bool) -> Result<Self, ManifestError> {
        let find = |wanted| fields.iter().position(|field| *field == wanted);
        let (Some(bucket), Some(key)) = (find(CsvField::Bucket), find(CsvField::Key)) else {
            return Err(ManifestError::malformed(
                "fields",
                "Bucket and Key are required",
                "write fields = [\"Bucket\", \"Key\"], in the order of the file's columns",
            ));
        };
        let version = find(CsvField::VersionId);
        let fields = fields.to_vec();
        Ok(Self { fields, bucket, key, version, plus_is_space, decoded: Vec::new(), raw_plus: None })
    }

    fn row<'a>(&'a mut self, record: &CsvRecord<'a>, number: u64) -> Result<ManifestRow<'a>, String> {
        if record.len() != self.fields.len() {
            return Err(format!("expected {} fields, found {}", self.fields.len(), record.len()));
        }
        let field = |index| record.field(index).unwrap_or_default();
        let key = record.bytes(self.key).unwrap_or_default();
        let plus = escape::percent_decode_into(key, self.plus_is_space, &mut self.decoded)?;
        if plus && !self.plus_is_space {
            let (_, rows) = self.raw_plus.get_or_insert((number, 0));
            *rows += 1;
        }
        let version = self.version.map(field).filter(|id| !id.is_empty());
        Ok(ManifestRow { bucket: field(self.bucket), key: &self.decoded, version, metadata: RowMetadata::default() })
    }

    /// Rejects a file whose first row looks like column names: the header would be treated as an object.
    fn reject_header(&self, record: &CsvRecord<'_>, name: &str) -> Result<(), ManifestError> {
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
            "row 1 looks like a header, but a manifest has no header",
            "delete row 1; the plan's `fields` names the columns",
        ))
    }
}

#[cfg(test)]
mod tests;

//! The source `csv`: a CSV file of buckets and keys, in a bucket or on this machine.
//!
//! After an interruption it is read again from its beginning: it is a single file, and only a digest of all its bytes
//! proves that it is the same file.
//!
//! Its records, and those of inventories and reports, are read strictly by RFC 4180 except for line ends, in constant
//! memory. A manifest may have another separator if its first row shows it; see [`syntax`].
//!
//! That is stricter than most readers on purpose: what other readers accept (a stray quote, an empty line, text after a
//! closing quote) is, in a list of objects to change, a sign that the list is not what its author intended.

use std::io::{self, BufRead};
use std::ops::Range;
use std::path::Path;

use memchr::{memchr, memchr_iter, memchr3};
use sha2::Sha256;
use tokio_util::sync::CancellationToken;

use super::error::{ManifestError, counted, field_count_problem, object_path};
use super::filter::{ManifestRow, RowMetadata};
use super::input::{self, BoxedReader, UnreadBytes};
use super::pins::{self, SourcePin};
use super::retrying_store::{RetryingStore, bare_etag};
use super::row_visitor::{BadRows, RowFlow, RowVisitor, shown_text};
use super::spec::{CsvField, FileLocation};
use crate::paths::show_path;
use crate::percent_decode::percent_decode_into;
use syntax::{CsvShape, CsvSyntax, is_column_name};

/// Reads a CSV manifest, and passes its rows to the visitor.
pub(crate) async fn read<V: RowVisitor>(
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
                let name = show_path(&path).to_string();
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
    let (read, content) = input::read_digested::<Sha256, _>(raw, gzip, name, UnreadBytes::Skip, |text| {
        read_rows(text, gzip, name, columns, &mut visitor)
    })?;
    read?;
    Ok((visitor, content.digest))
}

fn read_rows(
    text: &mut dyn BufRead,
    gzip: bool,
    name: &str,
    columns: CsvColumns,
    visitor: &mut dyn RowVisitor,
) -> Result<(), ManifestError> {
    let doubtful = for_each_row(text, gzip, name, columns, |row| visitor.visit(row))?;
    if let Some((first, rows)) = doubtful.raw_plus {
        let keys = counted(rows, "key");
        visitor.intake_mut().warn(
            format!("{name}: a raw `+` in {keys} is read as a plus (first in row {first})"),
            "if it means a space, set `plus_is_space = true`; encode a plus as %2B",
        );
    }
    if let Some((first, rows)) = doubtful.leading_space {
        let keys = counted(rows, "key");
        visitor.intake_mut().warn(
            format!("{name}: the space at the start of {keys} is read as part of the key (first in row {first})"),
            "if it only follows the separator, remove it; encode a space in a key as %20",
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
    let name = show_path(path).to_string();
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

/// Calls `visit` for each row. Returns the rows whose keys may mean something else.
fn for_each_row(
    text: &mut dyn BufRead,
    gzip: bool,
    name: &str,
    mut columns: CsvColumns,
    mut visit: impl FnMut(&ManifestRow<'_>) -> Result<RowFlow, ManifestError>,
) -> Result<DoubtfulKeys, ManifestError> {
    let records = CsvRecords::for_manifest(text, columns.shape());
    for_each_record(records, gzip, name, |record, row| {
        if row == 1 {
            columns.reject_header(record, name)?;
        }
        match columns.row(record, row) {
            Ok(row) => visit(&row),
            Err(why) => Ok(RowFlow::Invalid(why)),
        }
    })?;
    Ok(columns.doubtful)
}

/// Calls `visit` for each record of a file, with its row, until the end or until there are too many bad rows.
///
/// # Errors
/// Returns an error if the file cannot be read, the first error of `visit`, or at the end the bad rows.
pub(super) fn for_each_record<R: BufRead>(
    mut records: CsvRecords<R>,
    gzip: bool,
    name: &str,
    mut visit: impl FnMut(&CsvRecord<'_>, u64) -> Result<RowFlow, ManifestError>,
) -> Result<(), ManifestError> {
    let mut bad = BadRows::default();
    loop {
        let row = records.row() + 1;
        let flow = match records.next().map_err(|broken| broken.into_manifest_error(gzip, name, row))? {
            CsvItem::End => break,
            CsvItem::Bad(why) => Ok(RowFlow::Invalid(why)),
            CsvItem::Record(record) => visit(&record, row),
        };
        if !bad.record(flow, (row, records.line()), name)? {
            break;
        }
    }
    bad.into_result(name)
}

/// The positions of the columns, and the state of reading rows.
struct CsvColumns {
    fields: Vec<CsvField>,
    bucket: usize,
    key: usize,
    version: Option<usize>,
    plus_is_space: bool,
    decoded: Vec<u8>,
    doubtful: DoubtfulKeys,
}

/// The keys that may mean something else than they say: for each doubt, the first row, and the number of rows.
#[derive(Clone, Copy, Debug, Default)]
struct DoubtfulKeys {
    /// A raw `+` that was kept as `+`.
    raw_plus: Option<(u64, u64)>,
    /// A raw space at the start, after a separator.
    leading_space: Option<(u64, u64)>,
}

/// Counts a row.
fn count_doubt(rows: &mut Option<(u64, u64)>, row: u64) {
    rows.get_or_insert((row, 0)).1 += 1;
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
        Ok(Self { fields, bucket, key, version, plus_is_space, decoded: Vec::new(), doubtful: DoubtfulKeys::default() })
    }

    fn shape(&self) -> CsvShape {
        CsvShape { fields: self.fields.len(), bucket: self.bucket }
    }

    fn row<'a>(&'a mut self, record: &CsvRecord<'a>, number: u64) -> Result<ManifestRow<'a>, String> {
        if record.len() != self.fields.len() {
            let found = field_count_problem(self.fields.len(), record.len());
            let Some(seeming) = record.syntax.seeming_separator(record.raw, self.shape()) else { return Err(found) };
            let used = record.syntax.name();
            return Err(format!("{found}: the row seems to be separated by {seeming}, but the file by {used}"));
        }
        let field = |index| record.field(index).unwrap_or_default();
        let bucket = field(self.bucket);
        if let Some(at) = memchr3(b';', b'\t', b'|', bucket.as_bytes()) {
            let seeming = syntax::separator_name(bucket.as_bytes()[at]);
            return Err(format!(
                "`{}` is not a valid bucket name: the row seems to be separated by {seeming}",
                shown_text(bucket)
            ));
        }
        let key = record.bytes(self.key).unwrap_or_default();
        let plus = percent_decode_into(key, self.plus_is_space, &mut self.decoded)?;
        if plus && !self.plus_is_space {
            count_doubt(&mut self.doubtful.raw_plus, number);
        }
        if key.first() == Some(&b' ') && self.key > 0 {
            count_doubt(&mut self.doubtful.leading_space, number);
        }
        let version = self.version.map(field).filter(|id| !id.is_empty());
        if version.is_some_and(|id| id.starts_with(' ')) {
            return Err("the version ID begins with a space: remove the space after the separator".to_owned());
        }
        Ok(ManifestRow { bucket, key: &self.decoded, version, metadata: RowMetadata::default() })
    }

    /// Rejects a file whose first row looks like column names: the header would be treated as an object.
    fn reject_header(&self, record: &CsvRecord<'_>, name: &str) -> Result<(), ManifestError> {
        let names_a_column = |index: usize| is_column_name(record.field(index).unwrap_or_default());
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

/// The maximum length of a record in bytes. A key of 1,024 bytes takes 3,072 when all of it is escaped; inventories
/// contain ACLs as well.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// The byte order mark, which some files start with to say that they are UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The accepted line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnds {
    /// LF and CR LF.
    Either,
    /// All like the first, which is not known yet.
    AsFirst,
    /// Only LF, as in row 1.
    Lf,
    /// Only CR LF, as in row 1.
    CrLf,
}

/// Reads records one at a time into one buffer.
pub(crate) struct CsvRecords<R> {
    input: R,
    ends: LineEnds,
    syntax: CsvSyntax,
    /// The columns, if the first record is to show the syntax.
    shape: Option<CsvShape>,
    limit: usize,
    raw: Vec<u8>,
    fields: Vec<Range<usize>>,
    /// Whether the record has neither a quote nor a CR: this is the common case, and has a fast path.
    plain: bool,
    /// Whether the record has a line end, and not only the end of the file.
    ended: bool,
    row: u64,
    line: u64,
    next_line: u64,
}

/// The next item of the file.
#[derive(Debug)]
pub(crate) enum CsvItem<'a> {
    Record(CsvRecord<'a>),
    /// An invalid record, and the reason; reading can continue after it.
    Bad(String),
    /// The end of the file.
    End,
}

/// The fields of a record.
#[derive(Debug)]
pub(crate) struct CsvRecord<'a> {
    raw: &'a [u8],
    fields: &'a [Range<usize>],
    syntax: CsvSyntax,
}

impl<'a> CsvRecord<'a> {
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// Returns a field without its quotes.
    pub(crate) fn field(&self, index: usize) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(index)?).ok()
    }

    /// Returns the same as bytes, which are valid UTF-8.
    fn bytes(&self, index: usize) -> Option<&'a [u8]> {
        self.raw.get(self.fields.get(index)?.clone())
    }
}

/// Why the file cannot be read any further.
#[derive(Debug)]
pub(crate) enum CsvReadError {
    /// Reading or decompressing it failed.
    Io(io::Error),
    /// It does not have the format of a manifest.
    Malformed {
        what: String,
        /// How to fix it.
        help: &'static str,
    },
}

impl<R: BufRead> CsvRecords<R> {
    /// Reads a file of a program: with commas, and any line ends.
    pub(crate) fn new(input: R) -> Self {
        Self::with_limit(input, None, MAX_RECORD_BYTES)
    }

    /// Reads a file of a person: the first row shows its separator and line ends, and the others must have the same.
    fn for_manifest(input: R, shape: CsvShape) -> Self {
        Self::with_limit(input, Some(shape), MAX_RECORD_BYTES)
    }

    fn with_limit(input: R, shape: Option<CsvShape>, limit: usize) -> Self {
        Self {
            input,
            ends: if shape.is_some() { LineEnds::AsFirst } else { LineEnds::Either },
            syntax: CsvSyntax::COMMA,
            shape,
            limit,
            raw: Vec::new(),
            fields: Vec::new(),
            plain: true,
            ended: false,
            row: 0,
            line: 0,
            next_line: 1,
        }
    }

    /// Returns the number of the last record read, from 1.
    pub(crate) fn row(&self) -> u64 {
        self.row
    }

    /// Returns the number of the line that this record started on, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    pub(crate) fn next(&mut self) -> Result<CsvItem<'_>, CsvReadError> {
        if !self.read_raw()? {
            return Ok(CsvItem::End);
        }
        if self.row == 1 {
            self.check_encoding()?;
        }
        self.check_line_end()?;
        if let Some(shape) = self.shape.take() {
            self.syntax = CsvSyntax::detect(&self.raw, shape);
        }
        if !is_ascii(&self.raw)
            && let Err(invalid) = std::str::from_utf8(&self.raw)
        {
            return Ok(CsvItem::Bad(format!(
                "not UTF-8 (byte {} of the row): write such a byte as % and two hex digits, such as %FF",
                invalid.valid_up_to() + 1
            )));
        }
        if self.raw.is_empty() {
            return Ok(CsvItem::Bad("empty row".to_owned()));
        }
        let split = if self.plain {
            self.syntax.split_plain(&self.raw, &mut self.fields)
        } else {
            self.syntax.split_quoted(&mut self.raw, &mut self.fields)
        };
        if let Err(why) = split {
            return Ok(CsvItem::Bad(why.to_owned()));
        }
        // Removing quotes removes whole ASCII characters, so each field is still valid UTF-8.
        Ok(CsvItem::Record(CsvRecord { raw: &self.raw, fields: &self.fields, syntax: self.syntax }))
    }

    /// Reads the bytes of one record, without the final LF. Returns `false` at the end of the file.
    ///
    /// A record continues on the next line while its number of quotes is odd.
    fn read_raw(&mut self) -> Result<bool, CsvReadError> {
        self.raw.clear();
        self.plain = true;
        self.line = self.next_line;
        let mut quoted = false;
        loop {
            let start = self.raw.len();
            let count = self.read_line(self.limit.saturating_add(2).saturating_sub(start)).map_err(CsvReadError::Io)?;
            if start == 0 && count > 0 {
                self.row += 1;
            }
            if !self.plain {
                quoted ^= memchr_iter(b'"', &self.raw[start..]).count() % 2 == 1;
            }
            let ended = self.raw.last() == Some(&b'\n') && count > 0;
            if ended {
                self.next_line += 1;
            }
            if self.raw.len() > self.limit.saturating_add(1) || (!ended && self.raw.len() > self.limit) {
                return Err(self.record_too_long(quoted));
            }
            if ended && quoted {
                continue;
            }
            if quoted {
                return Err(self.unclosed_quote());
            }
            if ended {
                self.raw.pop();
            }
            self.ended = ended;
            return Ok(ended || !self.raw.is_empty());
        }
    }

    /// Appends the bytes up to and including the next LF, but at most `room` bytes. Returns their number.
    fn read_line(&mut self, limit: usize) -> io::Result<usize> {
        let mut count = 0;
        loop {
            let buffered = match self.input.fill_buf() {
                Ok(buffered) => &buffered[..buffered.len().min(limit - count)],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let found = memchr3(b'\n', b'"', b'\r', buffered);
            self.plain &= found.is_none_or(|at| buffered[at] == b'\n');
            let end = if self.plain { found } else { memchr(b'\n', buffered) }.map(|at| at + 1);
            let taken = end.unwrap_or(buffered.len());
            self.raw.extend_from_slice(&buffered[..taken]);
            self.input.consume(taken);
            count += taken;
            if end.is_some() || taken == 0 {
                return Ok(count);
            }
        }
    }

    /// Removes the CR of a line end. Rejects any other CR outside quotes, and a line end that is unlike that of row 1:
    /// the CR could belong to the last field, and a file with both is put together from two.
    fn check_line_end(&mut self) -> Result<(), CsvReadError> {
        let has_cr = !self.plain && self.raw.last() == Some(&b'\r');
        let accepted = self.ended || self.ends == LineEnds::Either;
        if has_cr && accepted && self.ends != LineEnds::Lf {
            self.raw.pop();
        }
        if self.ended && self.ends == LineEnds::AsFirst {
            self.ends = if has_cr { LineEnds::CrLf } else { LineEnds::Lf };
        }
        if self.ended && self.ends == LineEnds::CrLf && !has_cr {
            return Err(self.mixed_line_ends("LF", "CR LF"));
        }
        if self.plain || !has_cr_outside_quotes(&self.raw) {
            return Ok(());
        }
        if has_cr && self.ended && self.ends == LineEnds::Lf {
            return Err(self.mixed_line_ends("CR LF", "LF"));
        }
        Err(CsvReadError::Malformed {
            what: format!("row {}: a carriage return (CR) without a line feed (LF) outside quotes", self.row),
            help: "convert the file to LF line endings, for example with `tr '\\r' '\\n'`; write a CR in a key as %0D",
        })
    }

    fn mixed_line_ends(&self, this: &str, first: &str) -> CsvReadError {
        CsvReadError::Malformed {
            what: format!("row {}: the line ends with {this}, but row 1 with {first}", self.row),
            help: "convert the file to LF line endings, for example with `dos2unix` or `tr -d '\\r'`",
        }
    }

    /// Removes the byte order mark of UTF-8, and rejects other encodings.
    ///
    /// The name of a bucket cannot begin with U+FEFF, but a key can.
    fn check_encoding(&mut self) -> Result<(), CsvReadError> {
        if self.raw.starts_with(BOM) {
            if self.shape.is_some_and(|shape| shape.bucket > 0) {
                return Err(CsvReadError::Malformed {
                    what: "row 1: the file begins with a byte order mark (BOM), which could be part of a key"
                        .to_owned(),
                    help: "save it as UTF-8 without BOM, for example with `tail -c +4`",
                });
            }
            self.raw.drain(..BOM.len());
        }
        check_encoding(&self.raw)
    }

    fn record_too_long(&self, quoted: bool) -> CsvReadError {
        let so_far = if quoted { "; a quote in it is not closed" } else { "" };
        CsvReadError::Malformed {
            what: format!("row {} (line {}) is longer than {} bytes{so_far}", self.row, self.line, self.limit),
            help: "check the quotes and line endings: a row has a bucket, a key of at most 1024 bytes and a version ID",
        }
    }

    fn unclosed_quote(&self) -> CsvReadError {
        CsvReadError::Malformed {
            what: format!("row {} (line {}): a quote is not closed", self.row, self.line),
            help: "close the quote; write a quote inside a quoted field twice, or as %22 in a key",
        }
    }
}

/// Does the same as the method of slices. That method checks the bytes after the last full 64-byte block one by one,
/// which is half of a typical row.
fn is_ascii(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte).is_ascii()
}

impl CsvReadError {
    /// Converts to an error that names the file.
    pub(crate) fn into_manifest_error(self, gzip: bool, name: &str, row: u64) -> ManifestError {
        match self {
            Self::Malformed { what, help } => ManifestError::malformed(name, what, help),
            Self::Io(cause) if gzip && is_corruption(&cause) => ManifestError::malformed(
                name,
                format!("its gzip data is damaged or truncated near row {row}: {cause}"),
                "write or copy the file again",
            ),
            Self::Io(cause) => ManifestError::Read { place: name.to_owned(), cause },
        }
    }
}

fn is_corruption(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
}

/// Returns whether there is a CR that is not in a quoted field.
fn has_cr_outside_quotes(raw: &[u8]) -> bool {
    if memchr(b'\r', raw).is_none() {
        return false;
    }
    let mut quoted = false;
    raw.iter().any(|byte| {
        quoted ^= *byte == b'"';
        *byte == b'\r' && !quoted
    })
}

/// Rejects the start of a file that is not UTF-8 text.
fn check_encoding(raw: &[u8]) -> Result<(), CsvReadError> {
    let error = |what: String, help| Err(CsvReadError::Malformed { what, help });
    if let Some(name) = wide_encoding(raw) {
        return error(
            format!("row 1: the file is {name}, not UTF-8"),
            "save it as UTF-8 (in Excel: `CSV UTF-8`), or convert it, for example with `iconv -f UTF-16 -t UTF-8`",
        );
    }
    if raw.starts_with(b"\x1f\x8b") {
        return error(
            "row 1: the file is gzip-compressed".to_owned(),
            "give it a name that ends with .gz, or decompress it",
        );
    }
    Ok(())
}

/// Returns the encoding of a text whose characters have two or four bytes. Without a byte order mark, its ASCII
/// characters show it: every second byte is zero.
fn wide_encoding(raw: &[u8]) -> Option<&'static str> {
    match raw {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] => Some("UTF-16 (little-endian)"),
        [0xfe, 0xff, ..] => Some("UTF-16 (big-endian)"),
        [first, 0, second, 0, ..] if *first != 0 && *second != 0 => Some("UTF-16 (little-endian)"),
        [0, first, 0, second, ..] if *first != 0 && *second != 0 => Some("UTF-16 (big-endian)"),
        _ => None,
    }
}

mod syntax;

#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod tests;

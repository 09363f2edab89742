//! The data files of an inventory: downloads and verifies each, and reads its rows, which are CSV, Parquet or ORC.
//!
//! The fields of a row are interpreted by the names of their columns, never by their positions. ACLs are a name in OSS
//! inventories, and an encoded list of grants in AWS inventories.
//!
//! CSV files are read as they stream. The metadata of Parquet and ORC files is at their end, so each is downloaded
//! first, into a file without a name. The system frees its disk space when the file is closed, even if the process was
//! killed.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use batchplan_columnar::{ColumnType, ColumnValue, ColumnarError, ColumnarFormat, ColumnarReader};
use batchplan_store::OpenedObject;
use batchplan_store::object::{BucketName, ObjectAcl, ObjectKey};
use jiff::Timestamp;
use md5::Md5;
use serde::Deserialize;

use crate::manifest::csv::{CsvRecord, CsvRecords, for_each_record};
use crate::manifest::error::{ManifestError, counted, object_path};
use crate::manifest::filter::{Filter, FilterFact, ManifestRow, RowMetadata};
use crate::manifest::input::{self, BoxedReader, ReadDigest, UnreadBytes};
use crate::manifest::retrying_store::RetryingStore;
use crate::manifest::row_visitor::{BadRows, RowFlow, RowIntake, RowVisitor, shown_text};
use crate::manifest::spec::InventoryDialect;
use crate::percent_decode::percent_decode_into;

/// The number of bytes copied at once.
const COPY_SIZE: usize = 128 << 10;

/// A data file, as `manifest.json` lists it.
pub(super) struct InventoryDataFile {
    /// Used only as a key, never as a path.
    pub(super) key: ObjectKey,
    /// In bytes.
    pub(super) size: Option<u64>,
    /// In hex.
    pub(super) md5: String,
}

pub(super) async fn read_csv_file<V: RowVisitor>(
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
fn verify_data_file(file: &InventoryDataFile, read: &ReadDigest, name: &str) -> Result<(), ManifestError> {
    let help = "the file was overwritten or truncated: use another inventory";
    if let Some(size) = file.size.filter(|size| *size != read.bytes) {
        let what = format!("it has {} bytes, but manifest.json says {size}", read.bytes);
        return Err(ManifestError::malformed(name, what, help));
    }
    if !file.md5.eq_ignore_ascii_case(&read.digest) {
        let what = format!("its MD5 is {}, but manifest.json says {}", read.digest, file.md5);
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
    let (rows, digest) = input::read_digested::<Md5, _>(raw, gzip, name, rest, |text| {
        for_each_record(CsvRecords::new(text), gzip, name, |record, row| {
            if row == 1 && columns.is_header(record) {
                return Ok(RowFlow::Continue);
            }
            visit_row(columns.read(record, || format!("row {row} of {name}")), &mut visitor)
        })
    })?;
    // A file that was not read to its end has no digest to compare.
    if rest == UnreadBytes::Skip && rows.is_err() {
        return rows.map(|()| (visitor, columns));
    }
    verify_data_file(file, &digest, name)?;
    // Errors in rows come last: if the file is not the listed one, that explains them.
    rows?;
    Ok((visitor, columns))
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
pub(super) async fn read_columnar_file<V: RowVisitor>(
    bucket: &BucketName,
    file: InventoryDataFile,
    format: ColumnarFormat,
    retrying: &RetryingStore,
    mut visitor: V,
) -> Result<V, ManifestError> {
    let name = object_path(bucket, &file.key);
    let opened = open_data_file(bucket, &file, retrying).await?;
    let size = opened.size;
    visitor.reserve_temporary(&name, size)?;
    let mut visitor = input::stream(opened, retrying.stop_token(), move |raw| {
        let fetched = download(raw, &file, &name, visitor.scratch().folder.as_deref())?;
        read_columnar_rows(format, fetched, &name, &mut visitor)
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
    folder: Option<&Path>,
) -> Result<File, ManifestError> {
    let shown = folder.map_or_else(|| PathBuf::from("a temporary folder"), Path::to_owned);
    let failed = |doing, cause| ManifestError::disk(doing, &shown, cause);
    let created = folder.map_or_else(tempfile::tempfile, tempfile::tempfile_in);
    let mut file_on_disk = created.map_err(|cause| failed("create a file in", cause))?;
    let (copied, digest) = input::read_digested::<Md5, _>(raw, false, name, UnreadBytes::Skip, |text| {
        let mut chunk = vec![0; COPY_SIZE];
        loop {
            // `read_digested` reports the error if the download fails.
            let count = match text.read(&mut chunk) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => count,
            };
            file_on_disk.write_all(&chunk[..count]).map_err(|cause| failed("write to", cause))?;
        }
    })?;
    copied?;
    verify_data_file(file, &digest, name)?;
    file_on_disk.rewind().map_err(|cause| failed("read in", cause))?;
    Ok(file_on_disk)
}

fn read_columnar_rows(
    format: ColumnarFormat,
    file: File,
    name: &str,
    visitor: &mut dyn RowVisitor,
) -> Result<(), ManifestError> {
    let error = |broken| columnar_error(broken, format, name, None);
    let mut table = ColumnarReader::open(format, file).map_err(error)?;
    let mut columns = InventoryColumns::new(
        table.column_names(),
        ColumnSpelling::SnakeCase,
        visitor.intake().filter(),
        visitor.needs_all_metadata(),
        (name, "it"),
    )?;
    if columns.bucket.is_none() {
        return Err(ManifestError::malformed(name, "it has no Bucket column", "use an inventory of objects"));
    }
    columns.check_types(|column| table.column_type(column)).map_err(|(column, _, broken)| match broken {
        ColumnarError::Unsupported(why) => {
            let column = table.column_names().get(column).map(String::as_str).unwrap_or_default();
            let problem = format!("column {} cannot be used: {why}", shown_text(column));
            ManifestError::malformed(name, problem, "use an inventory that the storage service wrote")
        }
        other => error(other),
    })?;
    table.select(&columns.indexes()).map_err(error)?;
    let (mut bad, mut row) = (BadRows::default(), 0_u64);
    while table.advance().map_err(|broken| columnar_error(broken, format, name, Some(row + 1)))? {
        row += 1;
        if !bad.record(visit_row(read_row(&table, &columns), visitor), (row, row), name)? {
            break;
        }
    }
    bad.into_result(name)
}

fn read_row<'a>(table: &'a ColumnarReader, columns: &InventoryColumns) -> Result<InventoryRow<'a>, String> {
    let fields = ColumnarRowFields(table);
    if columns.is_skipped(&fields)? {
        return Ok(InventoryRow::Skipped);
    }
    let key = match table.value(columns.key) {
        ColumnValue::Text(key) => key,
        _ => b"",
    };
    columns.object_row(&fields, "", key).map(InventoryRow::Object)
}

/// The fields of the current row of a table.
struct ColumnarRowFields<'a>(&'a ColumnarReader);

impl ColumnarRowFields<'_> {
    fn describe_column(&self, column: usize, what: &str) -> String {
        let name = self.0.column_names().get(column).map(String::as_str).unwrap_or_default();
        format!("its {} {what}", shown_text(name))
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
fn columnar_error(broken: ColumnarError, format: ColumnarFormat, name: &str, row: Option<u64>) -> ManifestError {
    let format = format.name();
    let near = row.map(|row| format!(" near row {row}")).unwrap_or_default();
    match broken {
        ColumnarError::Damaged(what) => ManifestError::malformed(
            name,
            format!("its {format} data is damaged{near}: {what}"),
            "the file was written this way: use another inventory",
        ),
        ColumnarError::Unsupported(what) => ManifestError::malformed(
            name,
            format!("its {format} data cannot be read{near}: {what}"),
            "use an inventory that the storage service wrote, or one in CSV",
        ),
        ColumnarError::Io(cause) => ManifestError::Read { place: name.to_owned(), cause },
    }
}

/// Reads the fields of a row, in any file format.
trait RowFields<'a> {
    /// Returns a string, or an empty one if there is no value.
    fn text(&self, column: usize) -> Result<&'a str, String>;

    /// Returns a boolean, or false if there is no value.
    fn boolean(&self, column: usize) -> Result<bool, String>;

    /// Returns a size in bytes.
    fn size(&self, column: usize) -> Result<Option<u64>, String>;

    fn time(&self, column: usize) -> Result<Option<Timestamp>, String>;
}

/// The meaning of a row.
enum InventoryRow<'a> {
    Object(ManifestRow<'a>),
    /// A row to skip: a delete marker, or an older version without a version ID.
    Skipped,
}

/// How a file format spells column names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnSpelling {
    /// `LastModifiedDate`, in any case.
    CamelCase,
    /// `last_modified_date`.
    SnakeCase,
}

impl ColumnSpelling {
    fn matches(self, column: &str, wanted: &str) -> bool {
        match self {
            Self::CamelCase => column.eq_ignore_ascii_case(wanted),
            Self::SnakeCase => {
                let letters = column.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_lowercase());
                letters.eq(wanted.bytes().map(|byte| byte.to_ascii_lowercase()))
            }
        }
    }
}

/// The indexes of the columns that are used.
#[derive(Clone, Debug)]
struct InventoryColumns {
    bucket: Option<usize>,
    key: usize,
    version: Option<usize>,
    latest: Option<usize>,
    delete_marker: Option<usize>,
    size: Option<usize>,
    modified: Option<usize>,
    class: Option<usize>,
    etag: Option<usize>,
    acl: Option<usize>,
    owner: Option<usize>,
    /// Whether the filter needs the size, so that an invalid size is an error.
    needs_size: bool,
    /// Whether the filter needs the last-modified date, so that an invalid date is an error.
    needs_modified: bool,
    /// Whether the filter needs the storage class.
    needs_class: bool,
}

impl InventoryColumns {
    /// Finds the columns by their names. Errors mention the file as `name`, and as `list` the part of it that names
    /// the columns.
    ///
    /// # Errors
    /// Returns an error if there is no key, a column occurs twice, a column that the filter needs is missing, or the
    /// inventory is incremental.
    fn new(
        names: &[String],
        spelling: ColumnSpelling,
        filter: &Filter,
        all_metadata: bool,
        (name, list): (&str, &str),
    ) -> Result<Self, ManifestError> {
        let find = |wanted: &str| {
            let mut found = names.iter().enumerate().filter(|(_, column)| spelling.matches(column, wanted));
            let first = found.next().map(|(index, _)| index);
            if found.next().is_some() {
                let what = format!("{list} has {wanted} twice");
                return Err(ManifestError::malformed(name, what, "use another inventory"));
            }
            Ok(first)
        };
        let key = find("Key")?.ok_or_else(|| {
            ManifestError::malformed(name, format!("{list} has no Key column"), "use an inventory of objects")
        })?;
        if find("RecordType")?.is_some() {
            let what = format!("{list} has RecordType: this is an incremental inventory, whose rows are changes");
            return Err(ManifestError::malformed(name, what, "use a full inventory, which lists all objects"));
        }
        for (condition, fact) in filter.required_facts() {
            if find(fact.column())?.is_none() {
                return Err(missing_column(condition, fact, names));
            }
        }
        let required = |fact: FilterFact| if filter.requires(fact) { find(fact.column()) } else { Ok(None) };
        // A column that is only passed on is not worth an error.
        let optional = |column: &str| find(column).ok().flatten();
        let metadata = |column: &str| if all_metadata { optional(column) } else { None };
        Ok(Self {
            bucket: find("Bucket")?,
            key,
            version: find("VersionId")?,
            latest: find("IsLatest")?,
            delete_marker: find("IsDeleteMarker")?,
            size: required(FilterFact::Size)?.or_else(|| optional(FilterFact::Size.column())),
            modified: required(FilterFact::Modified)?.or_else(|| metadata(FilterFact::Modified.column())),
            class: required(FilterFact::Class)?.or_else(|| optional(FilterFact::Class.column())),
            etag: metadata("ETag"),
            acl: ACL_COLUMNS.into_iter().find_map(metadata),
            owner: metadata("ObjectOwner"),
            needs_size: filter.requires(FilterFact::Size),
            needs_modified: filter.requires(FilterFact::Modified),
            needs_class: filter.requires(FilterFact::Class),
        })
    }

    /// Returns the indexes of all columns that are used.
    fn indexes(&self) -> Vec<usize> {
        let names = [self.bucket, Some(self.key), self.version, self.latest, self.delete_marker];
        let facts = [self.size, self.modified, self.class, self.etag, self.acl, self.owner];
        names.into_iter().chain(facts).flatten().collect()
    }

    /// Checks the types of the columns. A column that is only passed on is ignored if it has another type.
    ///
    /// # Errors
    /// Returns an error if a column that is needed has the wrong type: its index, the right type, and the problem.
    fn check_types(
        &mut self,
        kind: impl Fn(usize) -> Result<ColumnType, ColumnarError>,
    ) -> Result<(), (usize, ColumnType, ColumnarError)> {
        let fits = |column: usize, wanted: ColumnType| match kind(column) {
            Ok(found) if found == wanted => Ok(()),
            Ok(found) => {
                let what = format!("it holds {}, but must hold {}", found.plural_noun(), wanted.plural_noun());
                Err((column, wanted, ColumnarError::Unsupported(what)))
            }
            Err(broken) => Err((column, wanted, broken)),
        };
        fits(self.key, ColumnType::Text)?;
        let needed = [
            (self.bucket, ColumnType::Text),
            (self.version, ColumnType::Text),
            (self.latest, ColumnType::Boolean),
            (self.delete_marker, ColumnType::Boolean),
            (self.modified.filter(|_| self.needs_modified), ColumnType::Timestamp),
            (self.size.filter(|_| self.needs_size), ColumnType::Integer),
            (self.class.filter(|_| self.needs_class), ColumnType::Text),
        ];
        for (column, wanted) in needed {
            column.map_or(Ok(()), |column| fits(column, wanted))?;
        }
        self.size = self.size.filter(|column| fits(*column, ColumnType::Integer).is_ok());
        self.modified = self.modified.filter(|column| fits(*column, ColumnType::Timestamp).is_ok());
        for optional in [&mut self.class, &mut self.etag, &mut self.acl, &mut self.owner] {
            *optional = optional.filter(|column| fits(*column, ColumnType::Text).is_ok());
        }
        Ok(())
    }

    /// Returns whether a row is skipped.
    fn is_skipped<'a>(&self, fields: &impl RowFields<'a>) -> Result<bool, String> {
        if self.delete_marker.map_or(Ok(false), |column| fields.boolean(column))? {
            return Ok(true);
        }
        // An older version without a version ID cannot be addressed: its key alone means the current version.
        Ok(self.version.is_none() && !self.latest.map_or(Ok(true), |column| fields.boolean(column))?)
    }

    /// Returns the object of a row. `source` is its bucket if there is no bucket column.
    fn object_row<'a>(
        &self,
        fields: &impl RowFields<'a>,
        source: &'a str,
        key: &'a [u8],
    ) -> Result<ManifestRow<'a>, String> {
        let text = |column: Option<usize>| column.map(|column| fields.text(column)).transpose();
        let some = |column| text(column).map(|text| text.filter(|text| !text.is_empty()));
        // Inventories leave the version ID of an unversioned write empty, and servers call it `null`.
        let version = text(self.version)?.map(|id| if id.is_empty() { "null" } else { id });
        let facts = RowMetadata {
            size: match self.size.map(|column| fields.size(column)) {
                Some(Err(_)) if !self.needs_size => None,
                size => size.transpose()?.flatten(),
            },
            modified: match self.modified.map(|column| fields.time(column)) {
                Some(Err(_)) if !self.needs_modified => None,
                modified => modified.transpose()?.flatten(),
            },
            class: some(self.class)?,
            etag: some(self.etag)?,
            acl: match text(self.acl)? {
                Some(list) => parse_acl(list, text(self.owner)?),
                None => None,
            },
            origin: None,
        };
        Ok(ManifestRow { bucket: text(self.bucket)?.unwrap_or(source), key, version, metadata: facts })
    }
}

fn missing_column(condition: &str, fact: FilterFact, schema: &[String]) -> ManifestError {
    let column = fact.column();
    ManifestError::MissingFact {
        what: format!(
            "the filter's {condition} needs {}, but the inventory has no column {column} (it has {})",
            fact.label(),
            shown_text(&schema.join(", "))
        ),
        help: format!("add {column} to the inventory's optional fields, or use [manifest.prefix]"),
    }
}

/// The columns of the CSV files, which `manifest.json` names for all of them.
pub(super) struct InventoryCsvDecoder {
    names: Vec<String>,
    columns: InventoryColumns,
    /// The bucket that the inventory lists.
    source: String,
    dialect: InventoryDialect,
    decoded: Vec<u8>,
    /// The first row with a raw `+` that is kept as `+`, and the number of such rows.
    pub(super) raw_plus: Option<(String, u64)>,
}

impl InventoryCsvDecoder {
    /// Finds the columns by their names. `source` is the bucket that the inventory lists.
    ///
    /// # Errors
    /// Returns an error if there is no `Key`, a column occurs twice, or a column that the filter needs is missing.
    pub(super) fn new(
        names: Vec<String>,
        source: String,
        dialect: InventoryDialect,
        filter: &Filter,
        all_metadata: bool,
        manifest_name: &str,
    ) -> Result<Self, ManifestError> {
        let columns = InventoryColumns::new(
            &names,
            ColumnSpelling::CamelCase,
            filter,
            all_metadata,
            (manifest_name, "its fileSchema"),
        )?;
        Ok(Self { names, columns, source, dialect, decoded: Vec::new(), raw_plus: None })
    }

    /// Returns whether the first row is a header. No header is documented, but a row of column names cannot be an
    /// object, since bucket names have no capitals and sizes are numbers.
    fn is_header(&self, record: &CsvRecord<'_>) -> bool {
        let matches = |(index, name): (usize, &String)| record.field(index) == Some(name.as_str());
        self.names.len() > 1 && record.len() == self.names.len() && self.names.iter().enumerate().all(matches)
    }

    /// Decodes one row. `place` describes the row, for the warning about the first raw `+`.
    ///
    /// # Errors
    /// Returns an error if the row is invalid.
    fn read<'a>(&'a mut self, record: &CsvRecord<'a>, place: impl Fn() -> String) -> Result<InventoryRow<'a>, String> {
        if record.len() != self.names.len() {
            return Err(format!("expected {} fields (`fileSchema`), found {}", self.names.len(), record.len()));
        }
        if self.columns.is_skipped(record)? {
            return Ok(InventoryRow::Skipped);
        }
        let plus_is_space = self.dialect == InventoryDialect::Aws;
        let key = record.field(self.columns.key).unwrap_or_default().as_bytes();
        let plus = percent_decode_into(key, plus_is_space, &mut self.decoded)?;
        if plus && !plus_is_space {
            self.raw_plus.get_or_insert_with(|| (place(), 0)).1 += 1;
        }
        self.columns.object_row(record, &self.source, &self.decoded).map(InventoryRow::Object)
    }

    /// Warns about keys with a raw `+`, which may not mean what it seems to.
    pub(super) fn warn(&self, intake: &mut RowIntake, name: &str) {
        if let Some((first, rows)) = &self.raw_plus {
            let keys = counted(*rows, "key");
            intake.warn(
                format!("{name}: a raw `+` in {keys} is read as a plus (first in {first})"),
                "compare one of these keys with the bucket: in an AWS inventory, a `+` means a space",
            );
        }
    }
}

impl<'a> RowFields<'a> for CsvRecord<'a> {
    fn text(&self, column: usize) -> Result<&'a str, String> {
        Ok(self.field(column).unwrap_or_default())
    }

    fn boolean(&self, column: usize) -> Result<bool, String> {
        let field = self.field(column).unwrap_or_default();
        if field.eq_ignore_ascii_case("true") {
            Ok(true)
        } else if field.is_empty() || field.eq_ignore_ascii_case("false") {
            Ok(false)
        } else {
            Err(format!("`{}` is neither true nor false", shown_text(field)))
        }
    }

    fn size(&self, column: usize) -> Result<Option<u64>, String> {
        let field = self.field(column).unwrap_or_default();
        if field.is_empty() {
            return Ok(None);
        }
        field.parse().map(Some).map_err(|_| format!("`{}` is not a size in bytes", shown_text(field)))
    }

    fn time(&self, column: usize) -> Result<Option<Timestamp>, String> {
        let field = self.field(column).unwrap_or_default();
        if field.is_empty() {
            return Ok(None);
        }
        let no_date = |_| format!("`{}` is not a date like 2026-01-31T00:00:00Z", shown_text(field));
        field.parse().map(Some).map_err(no_date)
    }
}

/// The names of the column: OSS's, then AWS's.
const ACL_COLUMNS: [&str; 2] = ["ObjectAcl", "ObjectAccessControlList"];

/// The longest field, in bytes, that is parsed. An object has at most 100 grants.
const MAX_FIELD_BYTES: usize = 64 << 10;

/// AWS's URI for all users, including anonymous ones.
const ALL_USERS_URI: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

/// The JSON document that AWS encodes in Base64.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/objectacl.html>
#[derive(Deserialize)]
struct AwsAclDocument {
    status: String,
    #[serde(default)]
    grants: Vec<AwsAclGrant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AwsAclGrant {
    #[serde(default)]
    canonical_id: Option<String>,
    #[serde(default)]
    uri: Option<String>,
    permission: String,
}

/// Returns the ACL in a field, or `None` if the field is empty or cannot be interpreted. `owner` is the object's
/// owner, if another column contains it.
fn parse_acl(field: &str, owner: Option<&str>) -> Option<ObjectAcl> {
    match field.to_ascii_lowercase().as_str() {
        "" => None,
        "private" => Some(ObjectAcl::Private),
        "public-read" => Some(ObjectAcl::PublicRead),
        "public-read-write" => Some(ObjectAcl::PublicReadWrite),
        "default" => Some(ObjectAcl::Default),
        _ => parse_grants(field, owner?),
    }
}

/// Parses AWS's list of grants. The owner is required: without it, the grantee of a full-control grant cannot be
/// identified.
fn parse_grants(field: &str, owner: &str) -> Option<ObjectAcl> {
    let text = STANDARD.decode(Some(field).filter(|it| it.len() <= MAX_FIELD_BYTES)?).ok()?;
    let list: AwsAclDocument = serde_json::from_slice(&text).ok()?;
    if list.status != "AVAILABLE" {
        return None;
    }
    let (mut mine, mut read, mut write, mut other) = (false, false, false, false);
    for grant in &list.grants {
        let everyone = grant.uri.as_deref() == Some(ALL_USERS_URI);
        match grant.permission.as_str() {
            "FULL_CONTROL" if grant.canonical_id.as_deref() == Some(owner) => mine = true,
            "READ" if everyone => read = true,
            "WRITE" if everyone => write = true,
            _ => other = true,
        }
    }
    Some(match (mine, read, write, other) {
        (true, false, false, false) => ObjectAcl::Private,
        (true, true, false, false) => ObjectAcl::PublicRead,
        (true, true, true, false) => ObjectAcl::PublicReadWrite,
        _ => ObjectAcl::Custom(None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_names_match_in_either_spelling() {
        for (column, wanted) in [("e_tag", "ETag"), ("last_modified_date", "LastModifiedDate"), ("key", "Key")] {
            assert!(ColumnSpelling::SnakeCase.matches(column, wanted), "{column}");
        }
        assert!(!ColumnSpelling::SnakeCase.matches("keys", "Key"));
        assert!(ColumnSpelling::CamelCase.matches("eTag", "ETag"));
        assert!(!ColumnSpelling::CamelCase.matches("e_tag", "ETag"));
    }

    fn aws(grants: &str) -> Option<ObjectAcl> {
        let text = format!(r#"{{"version":"2022-11-10","status":"AVAILABLE","grants":[{grants}]}}"#);
        parse_acl(&STANDARD.encode(text), Some("me"))
    }

    #[test]
    fn what_oss_names_is_taken_by_its_name() {
        assert_eq!(parse_acl("default", None), Some(ObjectAcl::Default));
        assert_eq!(parse_acl("Public-Read", None), Some(ObjectAcl::PublicRead));
        assert_eq!(parse_acl("", None), None);
        assert_eq!(parse_acl("secret", None), None);
    }

    #[test]
    fn what_aws_lists_is_named_where_it_has_a_name() {
        let mine = r#"{"canonicalId":"me","type":"CanonicalUser","permission":"FULL_CONTROL"}"#;
        let all = |what: &str| format!(r#"{{"uri":"{ALL_USERS_URI}","type":"Group","permission":"{what}"}}"#);
        assert_eq!(aws(mine), Some(ObjectAcl::Private));
        assert_eq!(aws(&format!("{mine},{}", all("READ"))), Some(ObjectAcl::PublicRead));
        assert_eq!(aws(&format!("{mine},{},{}", all("READ"), all("WRITE"))), Some(ObjectAcl::PublicReadWrite));
        assert_eq!(aws(&mine.replace("me", "you")), Some(ObjectAcl::Custom(None)));
        assert_eq!(aws(&format!("{mine},{}", all("READ_ACP"))), Some(ObjectAcl::Custom(None)));
        assert_eq!(aws(""), Some(ObjectAcl::Custom(None)), "no grants");
        let hidden = STANDARD.encode(r#"{"version":"2022-11-10","status":"UNAVAILABLE","grants":[]}"#);
        assert_eq!(parse_acl(&hidden, Some("me")), None);
        assert_eq!(parse_acl(&STANDARD.encode("{}"), Some("me")), None);
        assert_eq!(parse_acl(&STANDARD.encode(mine), None), None, "the owner is unknown");
    }
}

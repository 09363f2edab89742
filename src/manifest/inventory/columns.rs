//! Interprets the fields of a row by the names of their columns, never by their positions, and decodes CSV rows
//! and ACLs: a name in OSS inventories, an encoded list of grants in AWS inventories.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use batchplan_columnar::{ColumnType, ColumnarError};
use batchplan_store::object::ObjectAcl;
use jiff::Timestamp;
use serde::Deserialize;

use super::manifest_json::InventoryManifest;
use crate::codec::percent_decode;
use crate::manifest::csv::CsvRecord;
use crate::manifest::error::{ManifestError, counted};
use crate::manifest::filter::{Filter, FilterFact, ManifestRow, RowMetadata};
use crate::manifest::row_visitor::RowIntake;
use crate::manifest::spec::InventoryDialect;

/// Reads the fields of a row, in any file format.
pub(super) trait RowFields<'a> {
    /// Returns a string, or an empty one if there is no value.
    fn text(&self, column: usize) -> Result<&'a str, String>;

    /// Returns a boolean, or false if there is no value.
    fn boolean(&self, column: usize) -> Result<bool, String>;

    /// Returns a size in bytes.
    fn size(&self, column: usize) -> Result<Option<u64>, String>;

    fn time(&self, column: usize) -> Result<Option<Timestamp>, String>;
}

/// The meaning of a row.
pub(super) enum InventoryRow<'a> {
    Object(ManifestRow<'a>),
    /// A row to skip: a delete marker, or an older version without a version ID.
    Skipped,
}

/// How a file format spells column names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnSpelling {
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
pub(super) struct InventoryColumns {
    pub(super) bucket: Option<usize>,
    pub(super) key: usize,
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
    pub(super) fn new(
        names: &[String],
        spelling: ColumnSpelling,
        filter: &Filter,
        surveys: bool,
        (name, list): (&str, &str),
    ) -> Result<Self, ManifestError> {
        let find = |wanted: &str| {
            let mut places = names.iter().enumerate().filter(|(_, column)| spelling.matches(column, wanted));
            let first = places.next().map(|(index, _)| index);
            if places.next().is_some() {
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
        let asked = |fact: FilterFact| if filter.requires(fact) { find(fact.column()) } else { Ok(None) };
        // A column that is only passed on is not worth an error.
        let told = |column: &str| find(column).ok().flatten();
        let told_if = |column: &str| if surveys { told(column) } else { None };
        Ok(Self {
            bucket: find("Bucket")?,
            key,
            version: find("VersionId")?,
            latest: find("IsLatest")?,
            delete_marker: find("IsDeleteMarker")?,
            size: asked(FilterFact::Size)?.or_else(|| told(FilterFact::Size.column())),
            modified: asked(FilterFact::Modified)?.or_else(|| told_if(FilterFact::Modified.column())),
            class: asked(FilterFact::Class)?.or_else(|| told(FilterFact::Class.column())),
            etag: told_if("ETag"),
            acl: ACL_COLUMNS.into_iter().find_map(told_if),
            owner: told_if("ObjectOwner"),
            needs_size: filter.requires(FilterFact::Size),
            needs_modified: filter.requires(FilterFact::Modified),
            needs_class: filter.requires(FilterFact::Class),
        })
    }

    /// Returns the indexes of all columns that are used.
    pub(super) fn indexes(&self) -> Vec<usize> {
        let names = [self.bucket, Some(self.key), self.version, self.latest, self.delete_marker];
        let facts = [self.size, self.modified, self.class, self.etag, self.acl, self.owner];
        names.into_iter().chain(facts).flatten().collect()
    }

    /// Checks the types of the columns. A column that is only passed on is ignored if it has another type.
    ///
    /// # Errors
    /// Returns an error if a column that is needed has the wrong type: its index, the right type, and the problem.
    pub(super) fn check_types(
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
        for told in [&mut self.class, &mut self.etag, &mut self.acl, &mut self.owner] {
            *told = told.filter(|column| fits(*column, ColumnType::Text).is_ok());
        }
        Ok(())
    }

    /// Returns whether a row is skipped.
    pub(super) fn is_skipped<'a>(&self, fields: &impl RowFields<'a>) -> Result<bool, String> {
        if self.delete_marker.map_or(Ok(false), |column| fields.boolean(column))? {
            return Ok(true);
        }
        // An older version without a version ID cannot be addressed: its key alone means the current version.
        Ok(self.version.is_none() && !self.latest.map_or(Ok(true), |column| fields.boolean(column))?)
    }

    /// Returns the object of a row. `source` is its bucket if there is no bucket column.
    pub(super) fn object_row<'a>(
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
        };
        Ok(ManifestRow { bucket: text(self.bucket)?.unwrap_or(source), key, version, metadata: facts })
    }
}

fn missing_column(condition: &str, fact: FilterFact, schema: &[String]) -> ManifestError {
    let column = fact.column();
    ManifestError::MissingFact {
        what: format!(
            "the filter's `{condition}` needs {}, but the inventory has no column {column} (it has {})",
            fact.label(),
            schema.join(", ").escape_debug()
        ),
        help: format!("add {column} to the inventory's optional fields, or use [manifest.prefix]"),
    }
}

/// The columns of the CSV files, which `manifest.json` names for all of them.
pub(super) struct InventoryCsvDecoder {
    names: Vec<String>,
    columns: InventoryColumns,
    source: String,
    dialect: InventoryDialect,
    decoded: Vec<u8>,
    /// The first row with a raw `+` that is kept as `+`, and the number of such rows.
    pub(super) raw_plus: Option<(String, u64)>,
}

impl InventoryCsvDecoder {
    /// Finds the columns by their names.
    ///
    /// # Errors
    /// Returns an error if there is no `Key`, a column occurs twice, or a column that the filter needs is missing.
    pub(super) fn new(
        document: &InventoryManifest,
        fallback: InventoryDialect,
        filter: &Filter,
        surveys: bool,
        name: &str,
    ) -> Result<Self, ManifestError> {
        let places = InventoryColumns::new(
            &document.schema,
            ColumnSpelling::CamelCase,
            filter,
            surveys,
            (name, "its fileSchema"),
        )?;
        Ok(Self {
            columns: places,
            names: document.schema.clone(),
            source: document.source.clone(),
            dialect: document.dialect().unwrap_or(fallback),
            decoded: Vec::new(),
            raw_plus: None,
        })
    }

    /// Returns whether the first row is a header. No header is documented, but a row of column names cannot be an
    /// object, since bucket names have no capitals and sizes are numbers.
    pub(super) fn is_header(&self, record: &CsvRecord<'_>) -> bool {
        let matches = |(index, name): (usize, &String)| record.field(index) == Some(name.as_str());
        self.names.len() > 1 && record.len() == self.names.len() && self.names.iter().enumerate().all(matches)
    }

    /// Decodes one row. `place` describes the row, for the warning about the first raw `+`.
    ///
    /// # Errors
    /// Returns an error if the row is invalid.
    pub(super) fn read<'a>(
        &'a mut self,
        record: &CsvRecord<'a>,
        place: impl Fn() -> String,
    ) -> Result<InventoryRow<'a>, String> {
        if record.len() != self.names.len() {
            return Err(format!("expected {} fields (`fileSchema`), found {}", self.names.len(), record.len()));
        }
        if self.columns.is_skipped(record)? {
            return Ok(InventoryRow::Skipped);
        }
        let plus_is_space = self.dialect == InventoryDialect::Aws;
        let key = record.field(self.columns.key).unwrap_or_default().as_bytes();
        let plus = percent_decode::percent_decode_into(key, plus_is_space, &mut self.decoded)?;
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
            Err(format!("`{}` is neither true nor false", field.escape_debug()))
        }
    }

    fn size(&self, column: usize) -> Result<Option<u64>, String> {
        let field = self.field(column).unwrap_or_default();
        if field.is_empty() {
            return Ok(None);
        }
        field.parse().map(Some).map_err(|_| format!("`{}` is not a size in bytes", field.escape_debug()))
    }

    fn time(&self, column: usize) -> Result<Option<Timestamp>, String> {
        let field = self.field(column).unwrap_or_default();
        if field.is_empty() {
            return Ok(None);
        }
        let no_date = |_| format!("`{}` is not a date like 2026-01-31T00:00:00Z", field.escape_debug());
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
        _ => ObjectAcl::Custom,
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
        assert_eq!(aws(&mine.replace("me", "you")), Some(ObjectAcl::Custom));
        assert_eq!(aws(&format!("{mine},{}", all("READ_ACP"))), Some(ObjectAcl::Custom));
        assert_eq!(aws(""), Some(ObjectAcl::Custom), "no grants");
        let hidden = STANDARD.encode(r#"{"version":"2022-11-10","status":"UNAVAILABLE","grants":[]}"#);
        assert_eq!(parse_acl(&hidden, Some("me")), None);
        assert_eq!(parse_acl(&STANDARD.encode("{}"), Some("me")), None);
        assert_eq!(parse_acl(&STANDARD.encode(mine), None), None, "the owner is unknown");
    }
}

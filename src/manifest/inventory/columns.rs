//! Rows of an inventory's data files, by the names of their columns and never by their places.

use jiff::Timestamp;

use super::acl;
use super::document::Document;
use crate::manifest::error::ManifestError;
use crate::manifest::escape;
use crate::manifest::filter::{Asked, Facts, Row};
use crate::manifest::records::Record;
use crate::manifest::sink::Sink;
use crate::manifest::spec::{Dialect, Filter};

/// Where the columns stand that matter here.
pub(super) struct Columns {
    names: Vec<String>,
    source: String,
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
    /// Whether the filter needs the size, so that one which is none is a mistake.
    sized: bool,
    /// Likewise the last-modified date.
    dated: bool,
    dialect: Dialect,
    decoded: Vec<u8>,
    /// The first row with a raw `+` that is taken as itself, and how many there are.
    pub(super) plus: Option<(String, u64)>,
}

/// What a row is.
pub(super) enum Reading<'a> {
    /// An object.
    Object(Row<'a>),
    /// Nothing that can be worked on: a delete marker, or an older version that the row does not name.
    Passed,
}

impl Columns {
    /// Finds the columns by their names.
    ///
    /// # Errors
    /// There is no `Key`, a column is there twice, or one is missing that the filter needs.
    pub(super) fn new(
        document: &Document,
        fallback: Dialect,
        filter: &Filter,
        surveys: bool,
        name: &str,
    ) -> Result<Self, ManifestError> {
        let find = |wanted: &str| {
            let mut places =
                document.schema.iter().enumerate().filter(|(_, column)| column.eq_ignore_ascii_case(wanted));
            let first = places.next().map(|(index, _)| index);
            if places.next().is_some() {
                let what = format!("its fileSchema names {wanted} twice");
                return Err(ManifestError::malformed(name, what, "use another inventory"));
            }
            Ok(first)
        };
        let key = find("Key")?.ok_or_else(|| {
            ManifestError::malformed(name, "its fileSchema names no Key", "use an inventory of objects")
        })?;
        for (condition, fact) in filter.asks() {
            if find(fact.column())?.is_none() {
                return Err(missing(condition, fact, &document.schema));
            }
        }
        let asked = |fact: Asked| if filter.asks_for(fact) { find(fact.column()) } else { Ok(None) };
        // What is only told on is not worth a refusal.
        let told = |column: &str| find(column).ok().flatten();
        let told_if = |column: &str| if surveys { told(column) } else { None };
        Ok(Self {
            bucket: find("Bucket")?,
            key,
            version: find("VersionId")?,
            latest: find("IsLatest")?,
            delete_marker: find("IsDeleteMarker")?,
            size: asked(Asked::Size)?.or_else(|| told(Asked::Size.column())),
            modified: asked(Asked::Modified)?.or_else(|| told_if(Asked::Modified.column())),
            class: asked(Asked::Class)?.or_else(|| told(Asked::Class.column())),
            etag: told_if("ETag"),
            acl: acl::COLUMNS.into_iter().find_map(told_if),
            owner: told_if("ObjectOwner"),
            sized: filter.asks_for(Asked::Size),
            dated: filter.asks_for(Asked::Modified),
            names: document.schema.clone(),
            source: document.source.clone(),
            dialect: document.dialect().unwrap_or(fallback),
            decoded: Vec::new(),
            plus: None,
        })
    }

    /// Whether a first row is the columns' names: none is documented, and it cannot be an object, since no bucket has
    /// a capital in its name and no size is a word.
    pub(super) fn is_header(&self, record: &Record<'_>) -> bool {
        let matches = |(index, name): (usize, &String)| record.field(index) == Some(name.as_str());
        self.names.len() > 1 && record.len() == self.names.len() && self.names.iter().enumerate().all(matches)
    }

    /// Reads one row; `place` names it, should it be the first of its kind to warn of.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn read<'a>(
        &'a mut self,
        record: &Record<'a>,
        place: impl Fn() -> String,
    ) -> Result<Reading<'a>, String> {
        if record.len() != self.names.len() {
            return Err(format!("it has {} fields, and fileSchema names {}", record.len(), self.names.len()));
        }
        let field = |index: usize| record.field(index).unwrap_or_default();
        if self.delete_marker.map_or(Ok(false), |index| truth(field(index)))? {
            return Ok(Reading::Passed);
        }
        // Without its version id an older version cannot be named: its key alone means the current one.
        if self.version.is_none() && !self.latest.map_or(Ok(true), |index| truth(field(index)))? {
            return Ok(Reading::Passed);
        }
        let plus_is_space = self.dialect == Dialect::Aws;
        let plus = escape::decode_into(field(self.key).as_bytes(), plus_is_space, &mut self.decoded)?;
        if plus && !plus_is_space {
            self.plus.get_or_insert_with(|| (place(), 0)).1 += 1;
        }
        // Inventories write nothing for the version that an unversioned write made, and servers call it `null`.
        let version = self.version.map(field).map(|id| if id.is_empty() { "null" } else { id });
        let facts = Facts {
            size: match self.size.map(field).map(size) {
                Some(Err(_)) if !self.sized => None,
                size => size.transpose()?.flatten(),
            },
            modified: match self.modified.map(field).map(modified) {
                Some(Err(_)) if !self.dated => None,
                modified => modified.transpose()?.flatten(),
            },
            class: self.class.map(field).filter(|class| !class.is_empty()),
            etag: self.etag.map(field).filter(|etag| !etag.is_empty()),
            acl: self.acl.and_then(|index| acl::read(field(index), self.owner.map(field))),
        };
        let bucket = self.bucket.map_or(self.source.as_str(), field);
        Ok(Reading::Object(Row { bucket, key: &self.decoded, version, facts }))
    }

    /// Says what was seen that may not mean what it seems to.
    pub(super) fn warn(&self, sink: &mut Sink, name: &str) {
        if let Some((first, rows)) = &self.plus {
            sink.warn(
                format!("{name}: {rows} keys hold a raw `+`, the first in {first}; it is taken as itself"),
                "compare one of these keys with the bucket: in an inventory of AWS a `+` would be a space",
            );
        }
    }
}

fn missing(condition: &str, fact: Asked, schema: &[String]) -> ManifestError {
    let column = fact.column();
    ManifestError::Unfiltered {
        what: format!(
            "the filter's `{condition}` needs {}, and the inventory has no column {column} (it has {})",
            fact.noun(),
            schema.join(", ").escape_debug()
        ),
        help: format!("add {column} to the inventory's optional fields, or use [manifest.prefix]"),
    }
}

fn truth(field: &str) -> Result<bool, String> {
    if field.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if field.is_empty() || field.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(format!("`{}` is neither true nor false", field.escape_debug()))
    }
}

fn size(field: &str) -> Result<Option<u64>, String> {
    if field.is_empty() {
        return Ok(None);
    }
    field.parse().map(Some).map_err(|_| format!("`{}` is no size in bytes", field.escape_debug()))
}

fn modified(field: &str) -> Result<Option<Timestamp>, String> {
    if field.is_empty() {
        return Ok(None);
    }
    field
        .parse()
        .map(Some)
        .map_err(|_| format!("`{}` is no date of the form 2026-01-31T00:00:00Z", field.escape_debug()))
}

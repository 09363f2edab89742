//! What the fields of a row mean, by the names of their columns and never by their places.

use jiff::Timestamp;

use super::acl;
use super::columnar::{Broken, Kind};
use crate::manifest::error::ManifestError;
use crate::manifest::filter::{Asked, Facts, Row};
use crate::manifest::spec::Filter;

/// What a row's fields tell, whatever form they are in.
pub(super) trait Fields<'a> {
    /// A text, empty where there is nothing.
    fn text(&self, column: usize) -> Result<&'a str, String>;

    /// A truth value; nothing is false.
    fn truth(&self, column: usize) -> Result<bool, String>;

    /// A size in bytes.
    fn size(&self, column: usize) -> Result<Option<u64>, String>;

    /// A time.
    fn time(&self, column: usize) -> Result<Option<Timestamp>, String>;
}

/// What a row is.
pub(super) enum Reading<'a> {
    /// An object.
    Object(Row<'a>),
    /// Nothing that can be worked on: a delete marker, or an older version that the row does not name.
    Passed,
}

/// How a form spells its columns' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `LastModifiedDate`, in whatever case.
    Words,
    /// `last_modified_date`.
    Underlined,
}

impl Spelling {
    fn is(self, column: &str, wanted: &str) -> bool {
        match self {
            Self::Words => column.eq_ignore_ascii_case(wanted),
            Self::Underlined => {
                let letters = column.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_lowercase());
                letters.eq(wanted.bytes().map(|byte| byte.to_ascii_lowercase()))
            }
        }
    }
}

/// Where the columns stand that matter here.
#[derive(Clone, Debug)]
pub(super) struct Places {
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
    /// Whether the filter needs the size, so that one which is none is a mistake.
    sized: bool,
    /// Likewise the last-modified date.
    dated: bool,
    /// Whether the filter needs the class.
    classed: bool,
}

impl Places {
    /// Finds the columns by their names; `name` and `list` are the file that names them and what of it does.
    ///
    /// # Errors
    /// There is no key, a column is there twice, or one is missing that the filter needs.
    pub(super) fn new(
        names: &[String],
        spelling: Spelling,
        filter: &Filter,
        surveys: bool,
        (name, list): (&str, &str),
    ) -> Result<Self, ManifestError> {
        let find = |wanted: &str| {
            let mut places = names.iter().enumerate().filter(|(_, column)| spelling.is(column, wanted));
            let first = places.next().map(|(index, _)| index);
            if places.next().is_some() {
                let what = format!("{list} names {wanted} twice");
                return Err(ManifestError::malformed(name, what, "use another inventory"));
            }
            Ok(first)
        };
        let key = find("Key")?.ok_or_else(|| {
            ManifestError::malformed(name, format!("{list} names no Key"), "use an inventory of objects")
        })?;
        if find("RecordType")?.is_some() {
            let what = format!("{list} names RecordType: it is an incremental inventory, whose rows are changes");
            return Err(ManifestError::malformed(
                name,
                what,
                "use a full inventory, which lists the objects there are",
            ));
        }
        for (condition, fact) in filter.asks() {
            if find(fact.column())?.is_none() {
                return Err(missing(condition, fact, names));
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
            classed: filter.asks_for(Asked::Class),
        })
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<usize> {
        let names = [self.bucket, Some(self.key), self.version, self.latest, self.delete_marker];
        let facts = [self.size, self.modified, self.class, self.etag, self.acl, self.owner];
        names.into_iter().chain(facts).flatten().collect()
    }

    /// Compares the columns with what their values are. One that is only told on and is something else is left alone.
    ///
    /// # Errors
    /// What is wrong with one that matters.
    pub(super) fn expect(&mut self, kind: impl Fn(usize) -> Result<Kind, Broken>) -> Result<(), (usize, Kind, Broken)> {
        let fits = |column: usize, wanted: Kind| match kind(column) {
            Ok(found) if found == wanted => Ok(()),
            Ok(found) => {
                let what = format!("it holds {}, and {} are needed", found.noun(), wanted.noun());
                Err((column, wanted, Broken::Foreign(what)))
            }
            Err(broken) => Err((column, wanted, broken)),
        };
        fits(self.key, Kind::Text)?;
        let needed = [
            (self.bucket, Kind::Text),
            (self.version, Kind::Text),
            (self.latest, Kind::Truth),
            (self.delete_marker, Kind::Truth),
            (self.modified.filter(|_| self.dated), Kind::Time),
            (self.size.filter(|_| self.sized), Kind::Number),
            (self.class.filter(|_| self.classed), Kind::Text),
        ];
        for (column, wanted) in needed {
            column.map_or(Ok(()), |column| fits(column, wanted))?;
        }
        self.size = self.size.filter(|column| fits(*column, Kind::Number).is_ok());
        self.modified = self.modified.filter(|column| fits(*column, Kind::Time).is_ok());
        for told in [&mut self.class, &mut self.etag, &mut self.acl, &mut self.owner] {
            *told = told.filter(|column| fits(*column, Kind::Text).is_ok());
        }
        Ok(())
    }

    /// Whether a row is nothing that can be worked on.
    pub(super) fn passes<'a>(&self, fields: &impl Fields<'a>) -> Result<bool, String> {
        if self.delete_marker.map_or(Ok(false), |column| fields.truth(column))? {
            return Ok(true);
        }
        // Without its version id an older version cannot be named: its key alone means the current one.
        Ok(self.version.is_none() && !self.latest.map_or(Ok(true), |column| fields.truth(column))?)
    }

    /// The object of a row; `source` is its bucket where no column tells it.
    pub(super) fn row<'a>(&self, fields: &impl Fields<'a>, source: &'a str, key: &'a [u8]) -> Result<Row<'a>, String> {
        let text = |column: Option<usize>| column.map(|column| fields.text(column)).transpose();
        let some = |column| text(column).map(|text| text.filter(|text| !text.is_empty()));
        // Inventories write nothing for the version that an unversioned write made, and servers call it `null`.
        let version = text(self.version)?.map(|id| if id.is_empty() { "null" } else { id });
        let facts = Facts {
            size: match self.size.map(|column| fields.size(column)) {
                Some(Err(_)) if !self.sized => None,
                size => size.transpose()?.flatten(),
            },
            modified: match self.modified.map(|column| fields.time(column)) {
                Some(Err(_)) if !self.dated => None,
                modified => modified.transpose()?.flatten(),
            },
            class: some(self.class)?,
            etag: some(self.etag)?,
            acl: match text(self.acl)? {
                Some(list) => acl::read(list, text(self.owner)?),
                None => None,
            },
        };
        Ok(Row { bucket: text(self.bucket)?.unwrap_or(source), key, version, facts })
    }
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Text => "texts",
            Self::Truth => "truth values",
            Self::Number => "whole numbers",
            Self::Time => "times",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_in_either_spelling() {
        for (column, wanted) in [("e_tag", "ETag"), ("last_modified_date", "LastModifiedDate"), ("key", "Key")] {
            assert!(Spelling::Underlined.is(column, wanted), "{column}");
        }
        assert!(!Spelling::Underlined.is("keys", "Key"));
        assert!(Spelling::Words.is("eTag", "ETag"));
        assert!(!Spelling::Words.is("e_tag", "ETag"));
    }
}

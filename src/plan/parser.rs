//! The plan parser: from TOML with spans to values with spans. It checks every key, and no problem stops it.
//!
//! `tables` defines the tables and keys of a plan, `value_types` the types of single values. Both build on this file.

pub(super) mod tables;
pub(super) mod value_types;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::safe_text::{is_secret_name, nearest, quote_for_message};
use crate::diagnostics::FileProblem;

/// A range of bytes in the plan's text.
pub(super) type TextSpan = Range<usize>;

/// More problems than this are counted, not kept, so that a hostile file cannot produce megabytes of messages.
const MAX_PROBLEMS: usize = 100;

/// A value with its span and the span of its key.
#[derive(Clone, Debug)]
pub(super) struct SpannedValue<T> {
    /// The span of the key; in an array, that of the item.
    pub(super) key: TextSpan,
    /// The span of the value; for a table, that of its header.
    pub(super) span: TextSpan,
    pub(super) value: T,
}

/// The result of reading one key of a table.
#[derive(Debug)]
pub(super) enum ParsedField<T> {
    /// The key is optional and absent.
    Absent,
    /// The key is not usable, and the problem is reported.
    Invalid,
    /// The key has a valid value.
    Present(SpannedValue<T>),
}

impl<T> ParsedField<T> {
    /// Returns the value with its spans, if it is present and valid.
    pub(super) fn present(&self) -> Option<&SpannedValue<T>> {
        match self {
            Self::Present(at) => Some(at),
            Self::Absent | Self::Invalid => None,
        }
    }

    /// Returns the value, if it is present and valid.
    pub(super) fn value(&self) -> Option<&T> {
        self.present().map(|at| &at.value)
    }

    /// Returns whether the plan does not set the key.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A key and its value, before the value is read.
pub(super) struct RawField<'a> {
    name: &'a str,
    /// The dotted path of the table that holds the key; empty at the top level.
    path: &'a str,
    key: TextSpan,
    span: TextSpan,
    value: &'a DeValue<'a>,
    /// Whether this is an item of an array, which has no key of its own.
    is_item: bool,
}

impl RawField<'_> {
    /// Adds the spans of this field to a value.
    fn with_spans<T>(&self, value: T) -> SpannedValue<T> {
        SpannedValue { key: self.key.clone(), span: self.span.clone(), value }
    }

    /// Returns the path of the table in this field.
    fn inner_path(&self) -> String {
        match (self.path, self.name) {
            ("", name) => name.to_owned(),
            (path, name) => format!("{path}.{name}"),
        }
    }

    /// Reports a value of the wrong type; `example` is a valid one.
    fn report_type_mismatch(&self, wanted: &str, example: &str, parser: &mut PlanParser) {
        let name = quote_for_message(self.name);
        let (what, entry) = if self.is_item {
            (format!("each item of `{name}`"), format!("{name} = [{example}]"))
        } else {
            (format!("`{name}`"), format!("{name} = {example}"))
        };
        parser.push(
            FileProblem::new(format!("{what} must be {wanted}"))
                .label(self.span.clone(), format!("this is {}", type_name(self.value)))
                .help(format!("for example: `{entry}`")),
        );
    }

    /// Reports a value of the right type that is not allowed.
    fn report_invalid(&self, title: &str, label: &str, help: impl Into<String>, parser: &mut PlanParser) {
        parser.push(
            FileProblem::new(format!("`{}` {title}", quote_for_message(self.name)))
                .label(self.span.clone(), label)
                .help(help),
        );
    }
}

/// Returns the name of a TOML type, with its article.
fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A type that a key of the plan can hold.
pub(super) trait PlanValue: Sized {
    /// What the key's value is read as.
    type Value;

    /// Returns the JSON Schema of the type.
    fn schema() -> Json;

    /// Returns an example as written in a plan, for help texts.
    fn example() -> String;

    /// Returns the help text for a plan in which the key is missing.
    fn missing(_path: &str, name: &str) -> String {
        format!("add `{name} = {}`", Self::example())
    }

    /// Reads the value, or reports why it is not valid.
    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value>;
}

/// The findings of one pass over a plan: problems, and text to hide.
#[derive(Debug, Default)]
pub(super) struct PlanParser {
    problems: Vec<FileProblem>,
    suppressed: usize,
    suppressed_errors: bool,
    secrets: Vec<TextSpan>,
    tables_by_key: BTreeMap<String, Vec<String>>,
    tables_with_unknown_keys: BTreeSet<String>,
}

impl PlanParser {
    /// Starts a pass. `schema` is the schema of the whole file, which tells where a misplaced key belongs.
    pub(super) fn new(schema: &Json) -> Self {
        let mut parser = Self::default();
        collect_tables_by_key(schema, "", &mut parser.tables_by_key);
        parser
    }

    /// Adds a problem; once there are too many, only counts it.
    pub(super) fn push(&mut self, problem: FileProblem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.suppressed += 1;
            self.suppressed_errors |= !problem.is_warning();
        }
    }

    /// Returns whether a table holds an unknown key. A key that seems to be missing there is probably that one,
    /// misspelled.
    pub(super) fn has_unknown_key(&self, path: &str) -> bool {
        self.tables_with_unknown_keys.contains(path)
    }

    /// Hides these bytes in every excerpt.
    pub(super) fn hide(&mut self, span: TextSpan) {
        self.secrets.push(span);
    }

    /// Returns the problems in file order, and the bytes that excerpts must hide.
    pub(super) fn finish(mut self) -> (Vec<FileProblem>, Vec<TextSpan>) {
        self.problems.sort_by_key(|problem| problem.label_spans().first().map_or(0, |(span, _)| span.start));
        if self.suppressed > 0 {
            let note = FileProblem::new(match self.suppressed {
                1 => "1 more problem is not shown".to_owned(),
                count => format!("{count} more problems are not shown"),
            });
            self.problems.push(if self.suppressed_errors { note } else { note.warning() });
        }
        (self.problems, self.secrets)
    }

    /// Returns where a key is known, for a help text.
    fn tables_of_key(&self, name: &str) -> Option<String> {
        let tables = self.tables_by_key.get(name)?;
        let places: Vec<_> = tables
            .iter()
            .map(|table| if table.is_empty() { "at the top of the plan".to_owned() } else { format!("in [{table}]") })
            .collect();
        Some(places.join(" or "))
    }
}

/// Records, for every key of the schema, which tables have it.
fn collect_tables_by_key(schema: &Json, path: &str, tables: &mut BTreeMap<String, Vec<String>>) {
    let Some(properties) = schema.get("properties").and_then(Json::as_object) else { return };
    for (name, inner) in properties {
        tables.entry(name.clone()).or_default().push(path.to_owned());
        let inner_path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect_tables_by_key(inner, &inner_path, tables);
    }
}

/// A table of the plan whose keys are read.
struct TableReader<'a> {
    path: String,
    header: TextSpan,
    entries: &'a DeTable<'a>,
}

impl<'a> TableReader<'a> {
    /// Opens the top level of the file.
    fn root(entries: &'a DeTable<'a>, keys: &[&str], parser: &mut PlanParser) -> Self {
        let table = Self { path: String::new(), header: 0..0, entries };
        table.report_unknown(keys, parser);
        table
    }

    /// Opens the table in a field.
    fn open(field: &RawField<'a>, keys: &[&str], parser: &mut PlanParser) -> Option<Self> {
        let DeValue::Table(entries) = field.value else {
            parser.push(
                FileProblem::new(format!("`{}` must be a table", quote_for_message(field.name)))
                    .label(field.span.clone(), format!("this is {}", type_name(field.value)))
                    .help(format!("write its keys under a [{}] header", quote_for_message(&field.inner_path()))),
            );
            return None;
        };
        let table = Self { path: field.inner_path(), header: field.span.clone(), entries };
        table.report_unknown(keys, parser);
        Some(table)
    }

    /// Reads a required key, and reports it if it is missing.
    fn required<T: PlanValue>(&self, name: &'static str, parser: &mut PlanParser) -> ParsedField<T::Value> {
        let field = self.optional::<T>(name, parser);
        if !field.is_absent() {
            return field;
        }
        let title = if self.path.is_empty() {
            format!("`{name}` is missing")
        } else {
            format!("`{name}` is missing in [{}]", self.path)
        };
        parser
            .push(FileProblem::new(title).label(self.header.clone(), "needed here").help(T::missing(&self.path, name)));
        ParsedField::Invalid
    }

    /// Reads an optional key.
    fn optional<T: PlanValue>(&self, name: &'static str, parser: &mut PlanParser) -> ParsedField<T::Value> {
        let Some((key, value)) = self.entries.get_key_value(name) else { return ParsedField::Absent };
        let field = RawField {
            name,
            path: &self.path,
            key: key.span(),
            span: value.span(),
            value: value.get_ref(),
            is_item: false,
        };
        T::read(&field, parser).map_or(ParsedField::Invalid, |read| ParsedField::Present(field.with_spans(read)))
    }

    fn report_unknown(&self, keys: &[&str], parser: &mut PlanParser) {
        for (key, value) in self.entries {
            let name = key.get_ref().as_ref();
            if keys.contains(&name) {
                continue;
            }
            if is_secret_name(name) {
                report_secret(key, value, parser);
            } else {
                self.report_unknown_key(name, key.span(), value, keys, parser);
            }
        }
    }

    fn report_unknown_key(
        &self,
        name: &str,
        key: TextSpan,
        value: &Spanned<DeValue<'_>>,
        keys: &[&str],
        parser: &mut PlanParser,
    ) {
        parser.tables_with_unknown_keys.insert(self.path.clone());
        let title = match (value.get_ref(), self.path.as_str()) {
            (DeValue::Table(_), "") => format!("unknown table [{}]", quote_for_message(name)),
            (DeValue::Table(_), path) => format!("unknown table [{path}.{}]", quote_for_message(name)),
            (_, "") => format!("unknown key `{}`", quote_for_message(name)),
            (_, path) => format!("unknown key `{}` in [{path}]", quote_for_message(name)),
        };
        let table = if value.get_ref().is_table() { None } else { parser.tables_of_key(name) };
        let help = match (nearest(name, keys.iter().copied()), table) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(table)) => format!("`{name}` belongs {table}"),
            (None, None) => format!("valid keys: {}", keys.join(", ")),
        };
        parser.push(FileProblem::new(title).label(key, "not known here").help(help));
    }
}

fn report_secret(key: &Spanned<toml::de::DeString<'_>>, value: &Spanned<DeValue<'_>>, parser: &mut PlanParser) {
    hide_all(value, parser);
    parser.push(
        FileProblem::new("credentials are not allowed in a plan")
            .label(key.span(), "remove this, and treat the value as leaked")
            .help("set them in the environment or in a profile, as for your provider's own tools"),
    );
}

/// Hides a value and everything in it.
fn hide_all(value: &Spanned<DeValue<'_>>, parser: &mut PlanParser) {
    match value.get_ref() {
        DeValue::Table(entries) => entries.iter().for_each(|(_, inner)| hide_all(inner, parser)),
        DeValue::Array(items) => items.iter().for_each(|inner| hide_all(inner, parser)),
        _ => parser.hide(value.span()),
    }
}

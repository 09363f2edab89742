//! Reads a TOML file in one pass: its bytes become text, its text tables with spans, and its tables values with spans.
//! It checks every key, and no problem stops it.
//!
//! [`table!`](super::table!) makes the struct of a table, its parser, its known keys and its part of the JSON Schema
//! out of one text, so that they cannot disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::{Map, Value as Json, json};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::safe_text::{is_secret_name, mask_for_excerpts, nearest, quote_for_message};
use crate::diagnostics::{FileProblem, FileProblems};

/// The maximum size of a file, in bytes. The files are written by hand.
pub(crate) const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// A type of TOML file, as messages speak of it.
pub(crate) struct DocumentType {
    /// The name, such as "plan".
    pub(crate) name: &'static str,
    /// The title of the problem that a file is too large.
    pub(crate) too_large: &'static str,
    /// How to make a file smaller.
    pub(crate) too_large_help: &'static str,
}

impl DocumentType {
    /// Returns the text of a file, or the problem that it is too large or not UTF-8.
    pub(crate) fn decode<'a>(&self, name: &str, bytes: &'a [u8]) -> Result<&'a str, FileProblems> {
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(single_problem(name, "", self.too_large()));
        }
        if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = bytes {
            let problem = FileProblem::new("the file is UTF-16").label(0..0, "not UTF-8").help("save it as UTF-8");
            return Err(single_problem(name, "", problem));
        }
        std::str::from_utf8(bytes).map_err(|error| {
            let good = error.valid_up_to();
            let text = String::from_utf8_lossy(bytes);
            let problem = FileProblem::new("the file is not UTF-8")
                .label(good..good + '\u{fffd}'.len_utf8(), format!("byte 0x{:02x}", bytes[good]))
                .help("save it as UTF-8");
            single_problem(name, &text, problem)
        })
    }

    /// Reads a file and reports all problems in it. `check` turns the tables into the result.
    ///
    /// There is a result exactly if no problem is an error; there may be warnings beside it. Only a TOML syntax error
    /// hides other problems. Text that looks like a credential is masked in every excerpt.
    pub(crate) fn read<T: DocumentTable, R>(
        &self,
        name: &str,
        text: &str,
        check: impl FnOnce(&T, &mut DocumentReader) -> Option<R>,
    ) -> (Option<R>, FileProblems) {
        if text.len() > MAX_DOCUMENT_BYTES {
            return (None, single_problem(name, "", self.too_large()));
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        if let Some(error) = errors.iter().find(|error| !is_duplicate(error)) {
            return (None, single_problem(name, text, syntax_problem(error, text.len())));
        }
        let mut reader = DocumentReader::new(self.name, &T::schema());
        for error in &errors {
            reader.push(syntax_problem(error, text.len()));
        }
        let file = TableReader::read_file::<T>(table.get_ref(), &mut reader);
        let result = check(&file, &mut reader);
        let (found, secrets) = reader.finish();
        let mut problems = FileProblems::new(&quote_for_message(name), &mask_for_excerpts(text, &secrets));
        for problem in found {
            problems.push(problem);
        }
        (result.filter(|_| !problems.has_errors()), problems)
    }

    /// Returns whether a file has one of these tables at its top level, or is no valid TOML and has the header of one.
    pub(crate) fn has_any_table(bytes: &[u8], names: &[&str]) -> bool {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_DOCUMENT_BYTES)]);
        if bytes.len() <= MAX_DOCUMENT_BYTES {
            let (table, errors) = DeTable::parse_recoverable(&text);
            if errors.is_empty() {
                return names.iter().any(|name| table.get_ref().contains_key(*name));
            }
        }
        let mut headers = text.lines().filter_map(|line| line.trim_start().strip_prefix('['));
        headers.any(|header| names.iter().any(|name| header.trim_start().starts_with(name)))
    }

    fn too_large(&self) -> FileProblem {
        FileProblem::new(self.too_large).label(0..0, "more than 1 MiB").help(self.too_large_help)
    }
}

/// Returns a single problem that stops the reading.
fn single_problem(name: &str, text: &str, problem: FileProblem) -> FileProblems {
    let mut problems = FileProblems::new(&quote_for_message(name), &mask_for_excerpts(text, &[]));
    problems.push(problem);
    problems
}

/// Returns whether the error is a repeated key: the only syntax error after which the rest of the file is still
/// meaningful.
fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message() == "duplicate key"
}

fn syntax_problem(error: &toml::de::Error, length: usize) -> FileProblem {
    let problem = if is_duplicate(error) {
        FileProblem::new("duplicate key or table").help("TOML allows each of them once: keep one")
    } else {
        FileProblem::new("invalid TOML").help("see https://toml.io/en/v1.0.0 for the syntax")
    };
    let span = error.span().unwrap_or(0..0);
    problem.label(span.start.min(length)..span.end.min(length), error.message())
}

/// A range of bytes in the text of the file.
pub(crate) type TextSpan = Range<usize>;

/// More problems than this are counted, not kept, so that a hostile file cannot produce megabytes of messages.
const MAX_PROBLEMS: usize = 100;

/// A value with its span and the span of its key.
#[derive(Clone, Debug)]
pub(crate) struct SpannedValue<T> {
    /// The span of the key; in an array, that of the item.
    pub(crate) key: TextSpan,
    /// The span of the value; for a table, that of its header.
    pub(crate) span: TextSpan,
    pub(crate) value: T,
}

/// The result of reading one key of a table.
#[derive(Debug)]
pub(crate) enum ParsedField<T> {
    /// The key is optional and absent.
    Absent,
    /// The key is not usable, and the problem is reported.
    Invalid,
    /// The key has a valid value.
    Present(SpannedValue<T>),
}

impl<T> ParsedField<T> {
    /// Returns the value with its spans, if it is present and valid.
    pub(crate) fn present(&self) -> Option<&SpannedValue<T>> {
        match self {
            Self::Present(at) => Some(at),
            Self::Absent | Self::Invalid => None,
        }
    }

    /// Returns the value, if it is present and valid.
    pub(crate) fn value(&self) -> Option<&T> {
        self.present().map(|at| &at.value)
    }

    /// Returns whether the key is not usable, and the problem is reported.
    pub(crate) fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid)
    }

    /// Returns whether the file does not set the key.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A key and its value, before the value is read.
pub(crate) struct RawField<'a> {
    name: &'a str,
    /// The dotted path of the table that holds the key; empty at the top level.
    path: &'a str,
    key: TextSpan,
    span: TextSpan,
    value: &'a DeValue<'a>,
    /// Whether this is an item of an array, which has no key of its own.
    is_item: bool,
}

impl<'a> RawField<'a> {
    /// Returns the value as TOML.
    pub(crate) fn value(&self) -> &'a DeValue<'a> {
        self.value
    }

    /// Returns each item of the array in this field; `None` if it is not an array.
    pub(crate) fn items(&self) -> Option<impl Iterator<Item = Self>> {
        let DeValue::Array(items) = self.value else { return None };
        let (name, path) = (self.name, self.path);
        Some(items.iter().map(move |item| {
            let span = item.span();
            Self { name, path, key: span.clone(), span, value: item.get_ref(), is_item: true }
        }))
    }

    /// Returns each key of the table in this field with its value; `None` if it is not a table. `path` is the path of
    /// the table.
    pub(crate) fn entries(&self, path: &'a str) -> Option<impl Iterator<Item = Self>> {
        let DeValue::Table(entries) = self.value else { return None };
        Some(entries.iter().map(move |(key, value)| Self::of_key(key, value, path)))
    }

    /// Returns a key of the table with this path.
    fn of_key(key: &'a Spanned<DeString<'a>>, value: &'a Spanned<DeValue<'a>>, path: &'a str) -> Self {
        let name = key.get_ref().as_ref();
        Self { name, path, key: key.span(), span: value.span(), value: value.get_ref(), is_item: false }
    }

    /// Returns the key, with its span.
    pub(crate) fn spanned_name(&self) -> SpannedValue<String> {
        SpannedValue { key: self.key.clone(), span: self.key.clone(), value: self.name.to_owned() }
    }

    /// Adds the spans of this field to a value.
    pub(crate) fn with_spans<T>(&self, value: T) -> SpannedValue<T> {
        SpannedValue { key: self.key.clone(), span: self.span.clone(), value }
    }

    /// Returns the path of the table in this field.
    pub(crate) fn inner_path(&self) -> String {
        match (self.path, self.name) {
            ("", name) => name.to_owned(),
            (path, name) => format!("{path}.{name}"),
        }
    }

    /// Returns the string in this field. Reports a value of another type; `wanted` says what the string means.
    pub(crate) fn text<T: DocumentValue>(&self, wanted: &str, reader: &mut DocumentReader) -> Option<&'a str> {
        if let DeValue::String(text) = self.value {
            return Some(text);
        }
        self.report_wrong_type::<T>(wanted, reader);
        None
    }

    /// Reports a value of the wrong type, with an example of the right type.
    pub(crate) fn report_wrong_type<T: DocumentValue>(&self, wanted: &str, reader: &mut DocumentReader) {
        self.report_type_mismatch(wanted, &T::example(), reader);
    }

    /// Reports a value of the wrong type; `example` is a valid one.
    pub(crate) fn report_type_mismatch(&self, wanted: &str, example: &str, reader: &mut DocumentReader) {
        let name = quote_for_message(self.name);
        let (what, entry) = if self.is_item {
            (format!("each item of `{name}`"), format!("{name} = [{example}]"))
        } else {
            (format!("`{name}`"), format!("{name} = {example}"))
        };
        reader.push(
            FileProblem::new(format!("{what} must be {wanted}"))
                .label(self.span.clone(), format!("this is {}", type_name(self.value)))
                .help(format!("for example: `{entry}`")),
        );
    }

    /// Reports that the value is not a table.
    pub(crate) fn report_not_a_table(&self, reader: &mut DocumentReader) {
        reader.push(
            FileProblem::new(format!("`{}` must be a table", quote_for_message(self.name)))
                .label(self.span.clone(), format!("this is {}", type_name(self.value)))
                .help(format!("write its keys under a [{}] header", quote_for_message(&self.inner_path()))),
        );
    }

    /// Reports that the value is not an array of tables.
    pub(crate) fn report_not_an_array_of_tables(&self, reader: &mut DocumentReader) {
        reader.push(
            FileProblem::new(format!("`{}` must be an array of tables", quote_for_message(self.name)))
                .label(self.span.clone(), "needs double brackets")
                .help(format!("write its keys under a [[{}]] header", quote_for_message(&self.inner_path()))),
        );
    }

    /// Reports a value of the right type that is not allowed.
    pub(crate) fn report_invalid(
        &self,
        title: &str,
        label: &str,
        help: impl Into<String>,
        reader: &mut DocumentReader,
    ) {
        reader.push(
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

/// A type that a key of the file can hold.
pub(crate) trait DocumentValue: Sized {
    /// What the key's value is read as.
    type Value;

    /// Returns the JSON Schema of the type.
    fn schema() -> Json;

    /// Returns an example as written in the file, for help texts.
    fn example() -> String;

    /// Returns the help text for a file in which the key is missing.
    fn missing(_path: &str, name: &str) -> String {
        format!("add `{name} = {}`", Self::example())
    }

    /// Reads the value, or reports why it is not valid.
    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value>;
}

/// A table with a fixed set of keys, as [`table!`](super::table!) defines it.
pub(crate) trait DocumentTable: DocumentValue {
    /// The names of the keys.
    const KEYS: &'static [&'static str];

    /// Reads every key.
    fn read_keys(table: &TableReader<'_>, reader: &mut DocumentReader) -> Self;
}

/// The findings of one pass over a file: problems, and text to hide.
#[derive(Debug, Default)]
pub(crate) struct DocumentReader {
    /// What messages call the file, such as "plan".
    file_type: &'static str,
    problems: Vec<FileProblem>,
    suppressed: usize,
    suppressed_errors: bool,
    secrets: Vec<TextSpan>,
    tables_by_key: BTreeMap<String, Vec<String>>,
    tables_with_unknown_keys: BTreeSet<String>,
}

impl DocumentReader {
    /// Starts a pass over a file that messages call `file_type`, such as "plan". Its schema tells where a misplaced key
    /// belongs.
    fn new(file_type: &'static str, schema: &Json) -> Self {
        let mut reader = Self { file_type, ..Self::default() };
        collect_tables_by_key(schema, "", &mut reader.tables_by_key);
        reader
    }

    /// Adds a problem; once there are too many, only counts it.
    pub(crate) fn push(&mut self, problem: FileProblem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.suppressed += 1;
            self.suppressed_errors |= !problem.is_warning();
        }
    }

    /// Returns whether a table holds an unknown key. A key that seems to be missing there is probably that one,
    /// misspelled.
    pub(crate) fn has_unknown_key(&self, path: &str) -> bool {
        self.tables_with_unknown_keys.contains(path)
    }

    /// Hides these bytes in every excerpt.
    pub(crate) fn hide(&mut self, span: TextSpan) {
        self.secrets.push(span);
    }

    /// Returns the problems in file order, and the bytes that excerpts must hide.
    pub(crate) fn finish(mut self) -> (Vec<FileProblem>, Vec<TextSpan>) {
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
            .map(|table| match table.as_str() {
                "" => format!("at the top of the {}", self.file_type),
                table => format!("in [{table}]"),
            })
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
        if let Some(named) = inner.get("additionalProperties") {
            collect_tables_by_key(named, &format!("{inner_path}.NAME"), tables);
        }
    }
}

/// A table of the file whose keys are read.
pub(crate) struct TableReader<'a> {
    path: String,
    header: TextSpan,
    entries: &'a DeTable<'a>,
}

impl<'a> TableReader<'a> {
    /// Reads the top level of the file.
    fn read_file<T: DocumentTable>(entries: &'a DeTable<'a>, reader: &mut DocumentReader) -> T {
        Self { path: String::new(), header: 0..0, entries }.read::<T>(reader)
    }

    /// Reads the table in a field.
    pub(crate) fn read_table<T: DocumentTable>(field: &RawField<'a>, reader: &mut DocumentReader) -> Option<T> {
        let DeValue::Table(entries) = field.value else {
            field.report_not_a_table(reader);
            return None;
        };
        Some(Self { path: field.inner_path(), header: field.span.clone(), entries }.read::<T>(reader))
    }

    fn read<T: DocumentTable>(&self, reader: &mut DocumentReader) -> T {
        self.report_unknown(T::KEYS, reader);
        T::read_keys(self, reader)
    }

    /// Reads a required key, and reports it if it is missing.
    pub(crate) fn required<T: DocumentValue>(
        &self,
        name: &'static str,
        reader: &mut DocumentReader,
    ) -> ParsedField<T::Value> {
        let field = self.optional::<T>(name, reader);
        if !field.is_absent() {
            return field;
        }
        let title = if self.path.is_empty() {
            format!("`{name}` is missing")
        } else {
            format!("`{name}` is missing in [{}]", self.path)
        };
        reader
            .push(FileProblem::new(title).label(self.header.clone(), "needed here").help(T::missing(&self.path, name)));
        ParsedField::Invalid
    }

    /// Reads an optional key.
    pub(crate) fn optional<T: DocumentValue>(
        &self,
        name: &'static str,
        reader: &mut DocumentReader,
    ) -> ParsedField<T::Value> {
        let Some((key, value)) = self.entries.get_key_value(name) else { return ParsedField::Absent };
        let field = RawField::of_key(key, value, &self.path);
        T::read(&field, reader).map_or(ParsedField::Invalid, |read| ParsedField::Present(field.with_spans(read)))
    }

    fn report_unknown(&self, keys: &[&str], reader: &mut DocumentReader) {
        for (key, value) in self.entries {
            let name = key.get_ref().as_ref();
            if keys.contains(&name) {
                continue;
            }
            if is_secret_name(name) {
                report_secret(key, value, reader);
            } else {
                self.report_unknown_key(name, key.span(), value, keys, reader);
            }
        }
    }

    fn report_unknown_key(
        &self,
        name: &str,
        key: TextSpan,
        value: &Spanned<DeValue<'_>>,
        keys: &[&str],
        reader: &mut DocumentReader,
    ) {
        reader.tables_with_unknown_keys.insert(self.path.clone());
        let title = match (value.get_ref(), self.path.as_str()) {
            (DeValue::Table(_), "") => format!("unknown table [{}]", quote_for_message(name)),
            (DeValue::Table(_), path) => format!("unknown table [{path}.{}]", quote_for_message(name)),
            (_, "") => format!("unknown key `{}`", quote_for_message(name)),
            (_, path) => format!("unknown key `{}` in [{path}]", quote_for_message(name)),
        };
        let table = if value.get_ref().is_table() { None } else { reader.tables_of_key(name) };
        let help = match (nearest(name, keys.iter().copied()), table) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(table)) => format!("`{name}` belongs {table}"),
            (None, None) => format!("valid keys: {}", keys.join(", ")),
        };
        reader.push(FileProblem::new(title).label(key, "not known here").help(help));
    }
}

fn report_secret(key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>, reader: &mut DocumentReader) {
    hide_all(value, reader);
    reader.push(
        FileProblem::new(format!("credentials are not allowed in a {}", reader.file_type))
            .label(key.span(), "remove this, and treat the value as leaked")
            .help("set them in the environment or in a profile, as for your provider's own tools"),
    );
}

/// Hides a value and everything in it.
fn hide_all(value: &Spanned<DeValue<'_>>, reader: &mut DocumentReader) {
    match value.get_ref() {
        DeValue::Table(entries) => entries.iter().for_each(|(_, inner)| hide_all(inner, reader)),
        DeValue::Array(items) => items.iter().for_each(|inner| hide_all(inner, reader)),
        _ => reader.hide(value.span()),
    }
}

/// One key in the schema of a table.
pub(crate) struct SchemaProperty {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    /// The description of the key.
    pub(crate) about: &'static str,
    pub(crate) schema: Json,
}

/// Returns the JSON Schema of a table. `rules` are added unchanged.
pub(crate) fn table_schema(about: &str, properties: Vec<SchemaProperty>, rules: Json) -> Json {
    let required: Vec<_> = properties.iter().filter(|property| property.required).map(|p| p.name).collect();
    let mut known = Map::new();
    for mut property in properties {
        property.schema["description"] = json!(property.about.trim());
        known.insert(property.name.to_owned(), property.schema);
    }
    let mut schema = json!({ "type": "object", "description": about.trim(), "additionalProperties": false });
    schema["properties"] = Json::Object(known);
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if let (Json::Object(schema), Json::Object(rules)) = (&mut schema, rules) {
        schema.extend(rules);
    }
    schema
}

/// Defines a table: struct, parser, known keys and schema.
///
/// Each key is `required` or `optional`. `missing` is the help text for a file without the table, and `rules` are added
/// to its JSON Schema.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        struct $name:ident {
            $( $(#[doc = $doc:literal])+ $need:ident $field:ident: $type:ty, )+
        }
        $( missing $missing:literal )?
        $( rules $rules:tt )?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug)]
        pub(crate) struct $name {
            $(
                $(#[doc = $doc])+
                pub(crate) $field:
                    $crate::toml_reader::ParsedField<<$type as $crate::toml_reader::DocumentValue>::Value>,
            )+
        }

        impl $crate::toml_reader::DocumentTable for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),+];

            fn read_keys(
                table: &$crate::toml_reader::TableReader<'_>,
                reader: &mut $crate::toml_reader::DocumentReader,
            ) -> Self {
                Self { $( $field: table.$need::<$type>(stringify!($field), reader), )+ }
            }
        }

        impl $crate::toml_reader::DocumentValue for $name {
            type Value = Self;

            fn schema() -> ::serde_json::Value {
                let properties = vec![$(
                    $crate::toml_reader::SchemaProperty {
                        name: stringify!($field),
                        required: stringify!($need) == "required",
                        about: concat!($($doc),+),
                        schema: <$type as $crate::toml_reader::DocumentValue>::schema(),
                    },
                )+];
                let rules = [$( ::serde_json::json!($rules), )?].into_iter().next().unwrap_or_default();
                $crate::toml_reader::table_schema(concat!($($about),+), properties, rules)
            }

            fn example() -> String {
                "{ ... }".to_owned()
            }

            fn missing(path: &str, name: &str) -> String {
                let own: &[&str] = &[$($missing)?];
                let dot = if path.is_empty() { "" } else { "." };
                own.first().map_or_else(|| format!("add a table [{path}{dot}{name}]"), |text| (*text).to_owned())
            }

            fn read(
                field: &$crate::toml_reader::RawField<'_>,
                reader: &mut $crate::toml_reader::DocumentReader,
            ) -> Option<Self> {
                $crate::toml_reader::TableReader::read_table(field, reader)
            }
        }
    };
}

pub(crate) use table;

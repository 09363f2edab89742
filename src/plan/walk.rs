//! The plan parser: from TOML with spans to values with spans. It checks every key, and no problem stops it.
//!
//! A table of the plan file is one `table!` definition. It is the struct, its parser, its known keys and its part of
//! the JSON Schema at once, so that they cannot disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::{Map, Value as Json, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::text::{looks_secret, nearest, shown};
use crate::diagnostics::Problem;

/// A range of bytes in the plan's text.
pub(super) type Span = Range<usize>;

/// More problems than this are counted, not kept, so that a hostile file cannot produce megabytes of messages.
const MAX_PROBLEMS: usize = 100;

/// A value with its span and the span of its key.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    /// The span of the key; in an array, that of the item.
    pub(super) key: Span,
    /// The span of the value; for a table, that of its header.
    pub(super) span: Span,
    pub(super) value: T,
}

/// The result of reading one key of a table.
#[derive(Debug)]
pub(super) enum Field<T> {
    /// The key is optional and absent.
    Absent,
    /// The key is not usable, and the problem is reported.
    Wrong,
    /// The key has a valid value.
    Given(At<T>),
}

impl<T> Field<T> {
    /// Returns the value with its spans, if it is present and valid.
    pub(super) fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// Returns the value, if it is present and valid.
    pub(super) fn value(&self) -> Option<&T> {
        self.given().map(|at| &at.value)
    }

    /// Returns whether the plan does not set the key.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A key and its value, before the value is read.
pub(super) struct Slot<'a> {
    pub(super) name: &'a str,
    /// The dotted path of the table that holds the key; empty at the top level.
    pub(super) path: &'a str,
    pub(super) key: Span,
    pub(super) span: Span,
    pub(super) value: &'a DeValue<'a>,
    /// Whether this is an item of an array, which has no key of its own.
    pub(super) item: bool,
}

impl Slot<'_> {
    /// Adds the spans of this slot to a value.
    pub(super) fn at<T>(&self, value: T) -> At<T> {
        At { key: self.key.clone(), span: self.span.clone(), value }
    }

    /// Returns the path of the table in this slot.
    fn inner_path(&self) -> String {
        match (self.path, self.name) {
            ("", name) => name.to_owned(),
            (path, name) => format!("{path}.{name}"),
        }
    }

    /// Reports a value of the wrong type; `example` is a valid one.
    pub(super) fn mismatch(&self, wanted: &str, example: &str, walk: &mut Walk) {
        let name = shown(self.name);
        let (what, whole) = if self.item {
            (format!("each item of `{name}`"), format!("{name} = [{example}]"))
        } else {
            (format!("`{name}`"), format!("{name} = {example}"))
        };
        walk.push(
            Problem::new(format!("{what} must be {wanted}"))
                .label(self.span.clone(), format!("this is {}", kind(self.value)))
                .help(format!("write it as in `{whole}`")),
        );
    }

    /// Reports a value of the right type that is not allowed.
    pub(super) fn refuse(&self, title: &str, label: &str, help: impl Into<String>, walk: &mut Walk) {
        walk.push(Problem::new(format!("`{}` {title}", shown(self.name))).label(self.span.clone(), label).help(help));
    }
}

/// Returns the name of a TOML type, with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
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
pub(super) trait Value: Sized {
    /// Returns the JSON Schema of the type.
    fn schema() -> Json;

    /// Returns an example as written in a plan, for help texts.
    fn example() -> String;

    /// Returns the help text for a plan in which the key is missing.
    fn missing(_path: &str, name: &str) -> String {
        format!("add `{name} = {}`", Self::example())
    }

    /// Reads the value, or reports why it is not valid.
    fn read(slot: &Slot<'_>, walk: &mut Walk) -> Option<Self>;
}

/// The findings of one pass over a plan: problems, and text to hide.
#[derive(Debug, Default)]
pub(super) struct Walk {
    found: Vec<Problem>,
    more: usize,
    more_errors: bool,
    secrets: Vec<Span>,
    homes: BTreeMap<String, Vec<String>>,
    strange: BTreeSet<String>,
}

impl Walk {
    /// Starts a pass. `schema` is the schema of the whole file, which tells where a misplaced key belongs.
    pub(super) fn new(schema: &Json) -> Self {
        let mut walk = Self::default();
        collect_homes(schema, "", &mut walk.homes);
        walk
    }

    /// Adds a problem; once there are too many, only counts it.
    pub(super) fn push(&mut self, problem: Problem) {
        if self.found.len() < MAX_PROBLEMS {
            self.found.push(problem);
        } else {
            self.more += 1;
            self.more_errors |= !problem.is_warning();
        }
    }

    /// Returns whether a table holds an unknown key. A key that seems to be missing there is probably that one,
    /// misspelled.
    pub(super) fn is_strange(&self, path: &str) -> bool {
        self.strange.contains(path)
    }

    /// Hides these bytes in every excerpt.
    pub(super) fn hide(&mut self, span: Span) {
        self.secrets.push(span);
    }

    /// Returns the problems in file order, and the bytes that excerpts must hide.
    pub(super) fn finish(mut self) -> (Vec<Problem>, Vec<Span>) {
        self.found.sort_by_key(|problem| problem.marks().first().map_or(0, |(span, _)| span.start));
        if self.more > 0 {
            let note = Problem::new(format!("{} more problems are not shown", self.more));
            self.found.push(if self.more_errors { note } else { note.warning() });
        }
        (self.found, self.secrets)
    }

    /// Returns where a key is known, for a help text.
    fn home_of(&self, name: &str) -> Option<String> {
        let homes = self.homes.get(name)?;
        let places: Vec<_> = homes
            .iter()
            .map(|home| if home.is_empty() { "at the top of the plan".to_owned() } else { format!("in [{home}]") })
            .collect();
        Some(places.join(" or "))
    }
}

/// Records, for every key of the schema, which tables have it.
fn collect_homes(schema: &Json, path: &str, homes: &mut BTreeMap<String, Vec<String>>) {
    let Some(properties) = schema.get("properties").and_then(Json::as_object) else { return };
    for (name, inner) in properties {
        homes.entry(name.clone()).or_default().push(path.to_owned());
        let inner_path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect_homes(inner, &inner_path, homes);
    }
}

/// A table of the plan whose keys are read.
pub(super) struct Table<'a> {
    path: String,
    header: Span,
    entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// Opens the top level of the file.
    pub(super) fn root(entries: &'a DeTable<'a>, keys: &[&str], walk: &mut Walk) -> Self {
        let table = Self { path: String::new(), header: 0..0, entries };
        table.report_unknown(keys, walk);
        table
    }

    /// Opens the table in a slot.
    pub(super) fn open(slot: &Slot<'a>, keys: &[&str], walk: &mut Walk) -> Option<Self> {
        let DeValue::Table(entries) = slot.value else {
            walk.push(
                Problem::new(format!("`{}` must be a table", shown(slot.name)))
                    .label(slot.span.clone(), format!("this is {}", kind(slot.value)))
                    .help(format!("write its keys below the line [{}]", shown(&slot.inner_path()))),
            );
            return None;
        };
        let table = Self { path: slot.inner_path(), header: slot.span.clone(), entries };
        table.report_unknown(keys, walk);
        Some(table)
    }

    /// Reads a required key, and reports it if it is missing.
    pub(super) fn required<T: Value>(&self, name: &'static str, walk: &mut Walk) -> Field<T> {
        let field = self.optional(name, walk);
        if !field.is_absent() {
            return field;
        }
        let title = if self.path.is_empty() {
            format!("`{name}` is missing")
        } else {
            format!("`{name}` is missing in [{}]", self.path)
        };
        walk.push(Problem::new(title).label(self.header.clone(), "needed here").help(T::missing(&self.path, name)));
        Field::Wrong
    }

    /// Reads an optional key.
    pub(super) fn optional<T: Value>(&self, name: &'static str, walk: &mut Walk) -> Field<T> {
        let Some((key, value)) = self.entries.get_key_value(name) else { return Field::Absent };
        let slot =
            Slot { name, path: &self.path, key: key.span(), span: value.span(), value: value.get_ref(), item: false };
        T::read(&slot, walk).map_or(Field::Wrong, |read| Field::Given(slot.at(read)))
    }

    fn report_unknown(&self, keys: &[&str], walk: &mut Walk) {
        for (key, value) in self.entries {
            let name = key.get_ref().as_ref();
            if keys.contains(&name) {
                continue;
            }
            if looks_secret(name) {
                report_secret(key, value, walk);
            } else {
                self.report_unknown_key(name, key.span(), value, keys, walk);
            }
        }
    }

    fn report_unknown_key(&self, name: &str, key: Span, value: &Spanned<DeValue<'_>>, keys: &[&str], walk: &mut Walk) {
        walk.strange.insert(self.path.clone());
        let title = match (value.get_ref(), self.path.as_str()) {
            (DeValue::Table(_), "") => format!("unknown table [{}]", shown(name)),
            (DeValue::Table(_), path) => format!("unknown table [{path}.{}]", shown(name)),
            (_, "") => format!("unknown key `{}`", shown(name)),
            (_, path) => format!("unknown key `{}` in [{path}]", shown(name)),
        };
        let home = if value.get_ref().is_table() { None } else { walk.home_of(name) };
        let help = match (nearest(name, keys.iter().copied()), home) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(home)) => format!("`{name}` belongs {home}"),
            (None, None) => format!("known here: {}", keys.join(", ")),
        };
        walk.push(Problem::new(title).label(key, "not known here").help(help));
    }
}

fn report_secret(key: &Spanned<toml::de::DeString<'_>>, value: &Spanned<DeValue<'_>>, walk: &mut Walk) {
    hide_all(value, walk);
    walk.push(
        Problem::new("credentials never stand in a plan")
            .label(key.span(), "remove this, and treat what stood here as leaked")
            .help("set them in the environment, or in a profile, where your provider's own tools look for them"),
    );
}

/// Hides a value and everything in it.
fn hide_all(value: &Spanned<DeValue<'_>>, walk: &mut Walk) {
    match value.get_ref() {
        DeValue::Table(entries) => entries.iter().for_each(|(_, inner)| hide_all(inner, walk)),
        DeValue::Array(items) => items.iter().for_each(|inner| hide_all(inner, walk)),
        _ => walk.hide(value.span()),
    }
}

/// One key in the schema of a table.
pub(super) struct Property {
    pub(super) name: &'static str,
    pub(super) required: bool,
    /// The description of the key.
    pub(super) about: &'static str,
    pub(super) schema: Json,
}

/// Returns the JSON Schema of a table. `rules` are added unchanged.
pub(super) fn table_schema(about: &str, properties: Vec<Property>, rules: Json) -> Json {
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

/// Defines a table of the plan file: struct, parser, known keys and schema.
///
/// Each key is `required` or `optional`. `missing` is the help text for a plan without the table, and `rules` are added
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
        pub(super) struct $name {
            $( $(#[doc = $doc])+ pub(super) $field: $crate::plan::walk::Field<$type>, )+
        }

        impl $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),+];

            fn fields(table: &$crate::plan::walk::Table<'_>, walk: &mut $crate::plan::walk::Walk) -> Self {
                Self { $( $field: table.$need(stringify!($field), walk), )+ }
            }
        }

        impl $crate::plan::walk::Value for $name {
            fn schema() -> serde_json::Value {
                let properties = vec![$(
                    $crate::plan::walk::Property {
                        name: stringify!($field),
                        required: stringify!($need) == "required",
                        about: concat!($($doc),+),
                        schema: <$type as $crate::plan::walk::Value>::schema(),
                    },
                )+];
                let rules = [$( serde_json::json!($rules), )?].into_iter().next().unwrap_or_default();
                $crate::plan::walk::table_schema(concat!($($about),+), properties, rules)
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
                slot: &$crate::plan::walk::Slot<'_>,
                walk: &mut $crate::plan::walk::Walk,
            ) -> Option<Self> {
                let table = $crate::plan::walk::Table::open(slot, Self::KEYS, walk)?;
                Some(Self::fields(&table, walk))
            }
        }
    };
}
pub(super) use table;

//! From TOML with spans to values with spans: every key is looked at, and no mistake ends the pass.
//!
//! A table of the plan file is one `table!` definition. It is the struct, its reader, its known keys and its part of
//! the JSON Schema at once, so that none of them can say something else than the others.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::{Map, Value as Json, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::text::{looks_secret, nearest, shown};
use crate::diagnostics::Problem;

/// Bytes of the plan's text.
pub(super) type Span = Range<usize>;

/// More problems than this are counted, not kept: a hostile file must not become megabytes of messages.
const MAX_PROBLEMS: usize = 100;

/// A value, and where it and its key stand.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    /// The key, or the item itself in an array.
    pub(super) key: Span,
    /// The value; of a table, its header.
    pub(super) span: Span,
    /// What stands there.
    pub(super) value: T,
}

/// What became of one key of a table.
#[derive(Debug)]
pub(super) enum Field<T> {
    /// It is not there, and need not be.
    Absent,
    /// It is not usable, and the problem is reported.
    Wrong,
    /// It is there.
    Given(At<T>),
}

impl<T> Field<T> {
    /// The value and its place, where it is there and usable.
    pub(super) fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// The value, where it is there and usable.
    pub(super) fn value(&self) -> Option<&T> {
        self.given().map(|at| &at.value)
    }

    /// Whether the plan does not speak of it.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A key with its value, about to be read.
pub(super) struct Slot<'a> {
    /// The key.
    pub(super) name: &'a str,
    /// The dotted path of the table that it stands in; empty at the top.
    pub(super) path: &'a str,
    /// Where the key stands.
    pub(super) key: Span,
    /// Where the value stands.
    pub(super) span: Span,
    /// The value.
    pub(super) value: &'a DeValue<'a>,
    /// Whether this is an item of an array, which has no key of its own.
    pub(super) item: bool,
}

impl Slot<'_> {
    /// Wraps what was read of the value.
    pub(super) fn at<T>(&self, value: T) -> At<T> {
        At { key: self.key.clone(), span: self.span.clone(), value }
    }

    /// The path of the table that this slot holds.
    fn inner_path(&self) -> String {
        match (self.path, self.name) {
            ("", name) => name.to_owned(),
            (path, name) => format!("{path}.{name}"),
        }
    }

    /// Reports a value of another type; the example is a right one.
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

    /// Reports a value of the right type that is not acceptable.
    pub(super) fn refuse(&self, title: &str, label: &str, help: impl Into<String>, walk: &mut Walk) {
        walk.push(Problem::new(format!("`{}` {title}", shown(self.name))).label(self.span.clone(), label).help(help));
    }
}

/// A TOML type with its article.
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

/// What a key of the plan can hold.
pub(super) trait Value: Sized {
    /// Its JSON Schema.
    fn schema() -> Json;

    /// A value as it is written, for help lines.
    fn example() -> String;

    /// How to mend a plan that lacks it.
    fn missing(_path: &str, name: &str) -> String {
        format!("add `{name} = {}`", Self::example())
    }

    /// Reads it, or reports why it cannot be read.
    fn read(slot: &Slot<'_>, walk: &mut Walk) -> Option<Self>;
}

/// What one pass over a plan has found.
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
    /// Starts, with the schema of the whole file to know where a misplaced key belongs.
    pub(super) fn new(schema: &Json) -> Self {
        let mut walk = Self::default();
        collect_homes(schema, "", &mut walk.homes);
        walk
    }

    /// Adds a problem.
    pub(super) fn push(&mut self, problem: Problem) {
        if self.found.len() < MAX_PROBLEMS {
            self.found.push(problem);
        } else {
            self.more += 1;
            self.more_errors |= !problem.is_warning();
        }
    }

    /// Whether a table holds a key that is not known. What seems to be missing in it is probably that key.
    pub(super) fn is_strange(&self, path: &str) -> bool {
        self.strange.contains(path)
    }

    /// Keeps these bytes out of every excerpt.
    pub(super) fn hide(&mut self, span: Span) {
        self.secrets.push(span);
    }

    /// The problems in the file's order, and the bytes that no excerpt may show.
    pub(super) fn finish(mut self) -> (Vec<Problem>, Vec<Span>) {
        self.found.sort_by_key(|problem| problem.marks().first().map_or(0, |(span, _)| span.start));
        if self.more > 0 {
            let note = Problem::new(format!("{} more problems are not shown", self.more));
            self.found.push(if self.more_errors { note } else { note.warning() });
        }
        (self.found, self.secrets)
    }

    /// Where a key would be known.
    fn home_of(&self, name: &str) -> Option<String> {
        let homes = self.homes.get(name)?;
        let places: Vec<_> = homes
            .iter()
            .map(|home| if home.is_empty() { "at the top of the plan".to_owned() } else { format!("in [{home}]") })
            .collect();
        Some(places.join(" or "))
    }
}

/// Notes for every key of the schema which tables know it.
fn collect_homes(schema: &Json, path: &str, homes: &mut BTreeMap<String, Vec<String>>) {
    let Some(properties) = schema.get("properties").and_then(Json::as_object) else { return };
    for (name, inner) in properties {
        homes.entry(name.clone()).or_default().push(path.to_owned());
        let inner_path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect_homes(inner, &inner_path, homes);
    }
}

/// An open table of the plan.
pub(super) struct Table<'a> {
    path: String,
    header: Span,
    entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(super) fn root(entries: &'a DeTable<'a>, keys: &[&str], walk: &mut Walk) -> Self {
        let table = Self { path: String::new(), header: 0..0, entries };
        table.report_unknown(keys, walk);
        table
    }

    /// The table in a slot.
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

    /// A key that the plan must have.
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

    /// A key that the plan may have.
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

/// One key in a table's schema.
pub(super) struct Property {
    /// The key.
    pub(super) name: &'static str,
    /// Whether a plan must have it.
    pub(super) required: bool,
    /// Its documentation.
    pub(super) about: &'static str,
    /// The schema of its value.
    pub(super) schema: Json,
}

/// The JSON Schema of a table; `rules` are added as they are.
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

/// Defines a table of the plan file: struct, reader, known keys and schema.
///
/// Each key is `required` or `optional`. `missing` says how to mend a plan without the table, and `rules` are added to
/// its JSON Schema.
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

//! The types of single values that any file can have: text, numbers, names, arrays, and tables in arrays or by name.
//!
//! Each type defines its parser and its JSON Schema.

use std::marker::PhantomData;
use std::ops::RangeInclusive;

use batchplan_store::printable::affects_terminal;
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::reader::{DocumentReader, DocumentTable, DocumentValue, RawField, SpannedValue};
use super::safe_text::{nearest, quote_for_message};
use crate::diagnostics::FileProblem;

/// Text of `MIN` to `MAX` characters without control characters that drive a terminal. With `LINES`, line breaks and
/// tabs are allowed.
pub(crate) enum TextValue<const MIN: usize, const MAX: usize, const LINES: bool = false> {}

impl<const MIN: usize, const MAX: usize, const LINES: bool> DocumentValue for TextValue<MIN, MAX, LINES> {
    type Value = String;

    fn schema() -> Json {
        json!({ "type": "string", "minLength": MIN, "maxLength": MAX })
    }

    fn example() -> String {
        "\"...\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let text = field.text::<Self>("a string", reader)?;
        let chars = text.chars().count();
        if MIN > 0 && text.trim().is_empty() {
            field.report_invalid("is empty", "empty", format!("use {MIN} to {MAX} characters"), reader);
            return None;
        }
        if !(MIN..=MAX).contains(&chars) {
            let label = format!("{chars} characters");
            let length = if chars < MIN { "is too short" } else { "is too long" };
            field.report_invalid(length, &label, format!("use {MIN} to {MAX} characters"), reader);
            return None;
        }
        if text.chars().any(|c| affects_terminal(c) && !(LINES && matches!(c, '\n' | '\t'))) {
            field.report_invalid(
                "contains a control character",
                "in this text",
                "remove it: escapes such as \\u001b are not allowed either",
                reader,
            );
            return None;
        }
        Some(text.to_string())
    }
}

impl DocumentValue for bool {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }

    fn example() -> String {
        "true".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let DeValue::Boolean(value) = field.value() else {
            field.report_wrong_type::<Self>("true or false, without quotes", reader);
            return None;
        };
        Some(*value)
    }
}

/// An integer from `MIN` to `MAX`.
pub(crate) enum IntValue<const MIN: u32, const MAX: u32> {}

impl<const MIN: u32, const MAX: u32> DocumentValue for IntValue<MIN, MAX> {
    type Value = u32;

    fn schema() -> Json {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }

    fn example() -> String {
        MIN.max(1).to_string()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let range = u64::from(MIN)..=u64::from(MAX);
        let value = read_integer::<Self>(field, &range, &format!("use a value from {MIN} to {MAX}"), reader)?;
        u32::try_from(value).ok()
    }
}

/// Reads an integer in a range; `help` says which one.
pub(crate) fn read_integer<V: DocumentValue>(
    field: &RawField<'_>,
    range: &RangeInclusive<u64>,
    help: &str,
    reader: &mut DocumentReader,
) -> Option<u64> {
    let DeValue::Integer(digits) = field.value() else {
        field.report_wrong_type::<V>("an integer, without quotes", reader);
        return None;
    };
    let value = u64::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|number| range.contains(number));
    if value.is_none() {
        field.report_invalid("is out of range", "not allowed", help, reader);
    }
    value
}

/// An enum whose values have names in files.
pub(crate) trait NamedVariants: Clone + 'static {
    /// All values that have a name, each with its name.
    const NAMES: &'static [(&'static str, Self)];
}

/// Returns the name of a value in files; empty if it has none.
pub(crate) fn name_of<T: NamedVariants + PartialEq + Copy>(wanted: T) -> &'static str {
    T::NAMES.iter().find(|(_, value)| *value == wanted).map_or("", |(name, _)| name)
}

/// One of a fixed set of names.
pub(crate) struct EnumValue<T>(PhantomData<T>);

impl<T: NamedVariants> DocumentValue for EnumValue<T> {
    type Value = T;

    fn schema() -> Json {
        json!({ "enum": T::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>() })
    }

    fn example() -> String {
        T::NAMES.first().map_or_else(String::new, |(name, _)| format!("\"{name}\""))
    }

    fn missing(_: &str, name: &str) -> String {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        format!("add `{name} = ...`, one of {}", names.join(", "))
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let text = field.text::<Self>("a string", reader)?;
        if let Some((_, value)) = T::NAMES.iter().find(|(name, _)| *name == text) {
            return Some(value.clone());
        }
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
        let choice = format!("valid values: {}", names.join(", "));
        let help = nearest(text, names).map_or(choice.clone(), |near| format!("did you mean `{near}`? {choice}"));
        field.report_invalid(&format!("cannot be `{}`", quote_for_message(text)), "not a valid value", help, reader);
        None
    }
}

/// An array of values of one type.
impl<T: DocumentValue> DocumentValue for Vec<T> {
    type Value = Vec<SpannedValue<T::Value>>;

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema() })
    }

    fn example() -> String {
        format!("[{}]", T::example())
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let Some(items) = field.items() else {
            field.report_wrong_type::<Self>("an array", reader);
            return None;
        };
        let read: Vec<_> = items.map(|item| T::read(&item, reader).map(|value| item.with_spans(value))).collect();
        // Read all items before failing, so that the problems of every item are reported.
        read.into_iter().collect()
    }
}

/// An array of `MIN` to `MAX` values of one type.
pub(crate) struct BoundedArray<T, const MIN: usize, const MAX: usize>(PhantomData<T>);

impl<T: DocumentValue, const MIN: usize, const MAX: usize> DocumentValue for BoundedArray<T, MIN, MAX> {
    type Value = Vec<SpannedValue<T::Value>>;

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema(), "minItems": MIN, "maxItems": MAX })
    }

    fn example() -> String {
        Vec::<T>::example()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let count = field.items().map_or(MIN, Iterator::count);
        if !(MIN..=MAX).contains(&count) {
            let title = if count < MIN { "has too few items" } else { "has too many items" };
            field.report_invalid(title, &format!("{count} items"), format!("use {MIN} to {MAX} items"), reader);
            return None;
        }
        Vec::<T>::read(field, reader)
    }
}

/// An array of tables, each under a header in double brackets. The schema allows at most `MAX` of them; the checks of
/// the file enforce it.
pub(crate) struct TableArray<T, const MAX: usize>(PhantomData<T>);

impl<T: DocumentValue, const MAX: usize> DocumentValue for TableArray<T, MAX> {
    type Value = Vec<SpannedValue<T::Value>>;

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema(), "maxItems": MAX })
    }

    fn example() -> String {
        Vec::<T>::example()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        if field.items().is_none() {
            field.report_not_an_array_of_tables(reader);
            return None;
        }
        Vec::<T>::read(field, reader)
    }
}

/// Tables by names that the user chooses, in file order. A table whose name is not valid is reported and left out.
pub(crate) struct NamedTables<T>(PhantomData<T>);

/// The maximum length of the name of a table, in bytes.
const MAX_TABLE_NAME: usize = 64;

fn is_table_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_TABLE_NAME).contains(&name.len()) && name.bytes().all(is_allowed)
}

impl<T: DocumentTable> DocumentValue for NamedTables<T> {
    type Value = Vec<(SpannedValue<String>, SpannedValue<T::Value>)>;

    fn schema() -> Json {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }

    fn example() -> String {
        "{ ... }".to_owned()
    }

    fn missing(path: &str, name: &str) -> String {
        let dot = if path.is_empty() { "" } else { "." };
        format!("add a table [{path}{dot}{name}.NAME]")
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let path = field.inner_path();
        let Some(entries) = field.entries(&path) else {
            field.report_not_a_table(reader);
            return None;
        };
        let mut tables = Vec::new();
        for entry in entries {
            let name = entry.spanned_name();
            if is_table_name(&name.value) {
                tables.extend(T::read(&entry, reader).map(|table| (name, entry.with_spans(table))));
            } else {
                reader.push(
                    FileProblem::new(format!("`{}` is not a valid name", quote_for_message(&name.value)))
                        .label(name.span, "invalid name")
                        .help(format!("use 1 to {MAX_TABLE_NAME} letters, digits, hyphens and underscores")),
                );
            }
        }
        tables.sort_by_key(|(name, _)| name.span.start);
        Some(tables)
    }
}

//! The definition of a table: [`table!`] makes its struct, its parser, its known keys and its part of the JSON Schema
//! out of one text, so that they cannot disagree.

use serde_json::{Map, Value as Json, json};

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

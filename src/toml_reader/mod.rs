//! The reader of TOML files that users write by hand: plans and price books.
//!
//! `document` reads a file from its bytes to the list of its problems. `reader` is one pass over its tables and keys,
//! with their spans; no problem stops it. A module defines the tables of its file with `table!`, which is in `table`,
//! out of types of values: those that any file can have are in `value_types`, and the module adds its own. The files
//! are untrusted input: `safe_text` keeps them from driving the terminal and from echoing a credential.

mod document;
mod reader;
mod safe_text;
mod table;
mod value_types;

pub(crate) use document::{DocumentType, MAX_DOCUMENT_BYTES};
pub(crate) use reader::{
    DocumentReader, DocumentTable, DocumentValue, ParsedField, RawField, SpannedValue, TableReader, TextSpan,
};
pub(crate) use safe_text::{escape_for_terminal, mask_for_excerpts, nearest, quote_for_message};
pub(crate) use table::{SchemaProperty, table, table_schema};
pub(crate) use value_types::{
    BoundedArray, EnumValue, IntValue, NamedTables, NamedVariants, TableArray, TextValue, name_of, read_integer,
};

//! The reader of TOML files that users write by hand: plans, rules for plans, and price books.
//!
//! `reader` reads a file from its bytes to the list of its problems: one pass over its tables and keys, with their
//! spans. A module defines the tables of its file with `table!`, out of types of values: those that any file can have
//! are in `value_types`, and the module adds its own. The files are untrusted input: `safe_text` keeps them from driving
//! the terminal and from echoing a credential. `locate` finds a value again in a file that was accepted.

mod locate;
mod reader;
mod safe_text;
mod value_types;

pub(crate) use locate::locate;
pub(crate) use reader::{
    DocumentReader, DocumentTable, DocumentType, DocumentValue, MAX_DOCUMENT_BYTES, ParsedField, RawField,
    SchemaProperty, SpannedValue, TableReader, TextSpan, table, table_schema,
};
pub(crate) use safe_text::{mask_for_excerpts, nearest, quote_for_message};
pub(crate) use value_types::{
    BoundedArray, EnumValue, IntValue, NamedTables, NamedVariants, TableArray, TextValue, name_of, read_integer,
};

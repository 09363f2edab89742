//! Writes parts of a plan as OSS Batch Operations shows them: in the XML of its `DescribeJobResult`.
//!
//! The names and the order of elements are those of OSS's own samples. Each function writes one element into a document
//! that the caller composes. Settings for which OSS has no element are left out if the rest stays true without them
//! (filters, versions, the report's format). Otherwise they have an element of our own:
//!
//! | element | meaning |
//! |---|---|
//! | several operations in one `Operation` | all of them are applied to each object |
//! | `ObjectKey` in `DeleteObjectTagging` | only the tags with these keys are deleted |
//! | `Latest` in `ManifestLocation` | the newest inventory below this prefix, before one is selected |
//! | `ManifestLocation` without `Bucket` | `Object` is a path on this machine |

use std::borrow::Cow;
use std::io;

use batchplan_store::object::{ObjectKey, TagSet};
use quick_xml::Writer;
use quick_xml::escape::partial_escape;
use quick_xml::events::BytesText;

use crate::manifest::{FileLocation, InventoryDialect, InventorySelector, ManifestSource, SourcePin};
use crate::operation::{FieldValue, Operation, OperationField};
use crate::report_format::{ReportScope, ReportSpec};
use crate::toml_reader::name_of;

/// The format of an OSS CSV manifest.
pub(super) const OSS_CSV: &str = "OSS_BatchOperations_CSV_20250611";

/// The format of an OSS inventory.
const OSS_INVENTORY: &str = "OSS_InventoryReport_CSV_20250611";

/// The format of an AWS inventory.
const AWS_INVENTORY: &str = "S3InventoryReport_CSV_20161130";

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// An XML document in memory.
pub type XmlDocument = Writer<Vec<u8>>;

/// Returns a whole document, indented, whose root holds what `inner` writes.
///
/// # Errors
/// Returns an error if writing fails.
pub fn write_document(root: &str, inner: impl FnOnce(&mut XmlDocument) -> io::Result<()>) -> io::Result<String> {
    let mut to = Writer::new_with_indent(Vec::from(DECLARATION), b' ', 2);
    write_parent(root, &mut to, inner)?;
    String::from_utf8(to.into_inner()).map_err(io::Error::other)
}

/// Writes an element that holds what `inner` writes.
///
/// # Errors
/// Returns an error if writing fails.
pub fn write_parent(
    name: &str,
    to: &mut XmlDocument,
    inner: impl FnOnce(&mut XmlDocument) -> io::Result<()>,
) -> io::Result<()> {
    to.create_element(name).write_inner_content(inner).map(drop)
}

/// Writes `<Operation>` with each operation in it.
///
/// # Errors
/// Returns an error if writing fails.
pub fn write_operation(operations: &[Operation], to: &mut XmlDocument) -> io::Result<()> {
    write_parent("Operation", to, |to| operations.iter().try_for_each(|operation| write_one_operation(operation, to)))
}

fn write_one_operation(operation: &Operation, to: &mut XmlDocument) -> io::Result<()> {
    let name = operation.descriptor().oss_element;
    let mut settings = operation.details().settings;
    settings.retain(|(_, value)| *value != FieldValue::TagKeys(None));
    if settings.is_empty() {
        return to.create_element(name).write_empty().map(drop);
    }
    write_parent(name, to, |to| settings.iter().try_for_each(|(field, value)| write_setting(field, value, to)))
}

fn write_setting(field: &OperationField, value: &FieldValue, to: &mut XmlDocument) -> io::Result<()> {
    let name = field.oss_element;
    match value {
        FieldValue::Tags(tags) => write_parent(name, to, |to| write_tags(tags, to)),
        FieldValue::TagKeys(keys) => keys.iter().flatten().try_for_each(|key| write_text(name, key, to)),
        FieldValue::Text(text) => write_text(name, text, to),
        FieldValue::Number(number) => write_text(name, &number.to_string(), to),
    }
}

fn write_tags(tags: &TagSet, to: &mut XmlDocument) -> io::Result<()> {
    tags.iter().try_for_each(|(key, value)| {
        write_parent("Tag", to, |to| {
            write_text("Key", key, to)?;
            write_text("Value", value, to)
        })
    })
}

/// Writes `<Report>`. A report that is not published is not enabled, and has no bucket and prefix.
///
/// # Errors
/// Returns an error if writing fails.
pub fn write_report(report: &ReportSpec, to: &mut XmlDocument) -> io::Result<()> {
    write_parent("Report", to, |to| {
        write_text("Enabled", if report.location.is_some() { "true" } else { "false" }, to)?;
        if let Some(file_location) = &report.location {
            write_text("Bucket", file_location.bucket.as_str(), to)?;
            write_text("Prefix", &key_text(&file_location.prefix), to)?;
        }
        write_text("ReportScope", scope_name(report.scope), to)
    })
}

/// Returns the name of a report scope, which is the same at OSS and AWS.
pub(super) fn scope_name(scope: ReportScope) -> &'static str {
    match scope {
        ReportScope::AllTasks => "AllTasks",
        ReportScope::FailedTasksOnly => "FailedTasksOnly",
    }
}

/// Writes `<Manifest>`, or `<KeyPrefixManifestGenerator>` for a prefix.
///
/// `pin` is the source that the manifest was made from, once it is known. It supplies the `ETag`, which a plan need not
/// name, and the inventory that was selected as the latest. A local CSV file is an `Object` with its path and without a
/// bucket: its name is in the usual element, and cannot be mistaken for an object.
///
/// # Errors
/// Returns an error if writing fails.
pub fn write_manifest(source: &ManifestSource, pin: Option<&SourcePin>, to: &mut XmlDocument) -> io::Result<()> {
    match source {
        ManifestSource::Prefix { bucket, prefix, .. } => write_parent("KeyPrefixManifestGenerator", to, |to| {
            write_text("SourceBucket", bucket.as_str(), to)?;
            write_text("Prefix", &key_text(prefix), to)
        }),
        ManifestSource::Csv { location: file_location, fields, .. } => write_parent("Manifest", to, |to| {
            write_location(&csv_location(file_location, pin), to)?;
            let names: Vec<_> = fields.iter().copied().map(name_of).collect();
            write_spec(OSS_CSV, Some(&names.join(",")), to)
        }),
        // OSS has no such manifest: the location is that of a CSV file, and the format is always that of an OSS report.
        ManifestSource::Report { location: file_location, .. } => write_parent("Manifest", to, |to| {
            write_location(&csv_location(file_location, pin), to)?;
            write_spec("Report_CSV_20250901", None, to)
        }),
        ManifestSource::Retry { .. } | ManifestSource::Succeeded { .. } | ManifestSource::Undo(_) => Ok(()),
        ManifestSource::Inventory { bucket, selector, dialect } => write_parent("Manifest", to, |to| {
            write_location(&inventory_location(bucket.as_str(), selector, pin), to)?;
            write_spec(inventory_format(*dialect), None, to)
        }),
    }
}

/// The location of a manifest, in the order of the elements.
struct ManifestLocation<'a> {
    etag: Option<&'a str>,
    bucket: Option<&'a str>,
    /// The element, `Object` or `Latest`, and its text.
    target: (&'static str, Cow<'a, str>),
}

fn csv_location<'a>(file_location: &'a FileLocation, pin: Option<&'a SourcePin>) -> ManifestLocation<'a> {
    match (file_location, pin) {
        (FileLocation::Object { bucket, key, .. }, Some(SourcePin::Object { etag, .. })) => {
            ManifestLocation { etag: Some(etag), bucket: Some(bucket.as_str()), target: ("Object", key_text(key)) }
        }
        (FileLocation::Object { bucket, key, etag }, _) => {
            ManifestLocation { etag: etag.as_deref(), bucket: Some(bucket.as_str()), target: ("Object", key_text(key)) }
        }
        (FileLocation::Local(path), _) => {
            ManifestLocation { etag: None, bucket: None, target: ("Object", path.to_string_lossy()) }
        }
    }
}

fn inventory_location<'a>(
    bucket: &'a str,
    selector: &'a InventorySelector,
    pin: Option<&'a SourcePin>,
) -> ManifestLocation<'a> {
    let (etag, target) = match (selector, pin) {
        (_, Some(SourcePin::Inventory { key, etag, .. })) | (InventorySelector::Distinct { key, etag }, _) => {
            (Some(etag.as_str()), ("Object", key_text(key)))
        }
        (InventorySelector::Exact { key, etag }, _) => (etag.as_deref(), ("Object", key_text(key))),
        (InventorySelector::Latest { prefix }, _) => (None, ("Latest", key_text(prefix))),
        (InventorySelector::Changed(changes), _) => (Some(changes.etag.as_str()), ("Object", key_text(&changes.key))),
    };
    ManifestLocation { etag, bucket: Some(bucket), target }
}

fn write_location(location: &ManifestLocation<'_>, to: &mut XmlDocument) -> io::Result<()> {
    let ManifestLocation { etag, bucket, target: (name, text) } = location;
    write_parent("Location", to, |to| {
        etag.map_or(Ok(()), |etag| write_text("ETag", etag, to))?;
        bucket.map_or(Ok(()), |bucket| write_text("Bucket", bucket, to))?;
        write_text(name, text, to)
    })
}

fn write_spec(format: &str, fields: Option<&str>, to: &mut XmlDocument) -> io::Result<()> {
    write_parent("Spec", to, |to| {
        write_text("Format", format, to)?;
        fields.map_or(Ok(()), |fields| write_text("Fields", fields, to))
    })
}

/// Returns the format of an inventory, by the name that its service uses.
pub(super) fn inventory_format(dialect: InventoryDialect) -> &'static str {
    match dialect {
        InventoryDialect::Oss => OSS_INVENTORY,
        InventoryDialect::Aws => AWS_INVENTORY,
    }
}

/// Writes an element that holds a text.
///
/// The document stays valid XML 1.0 whatever the text is: markup is escaped, a carriage return is written so that
/// readers keep it, and characters that XML cannot carry become U+FFFD.
///
/// # Errors
/// Returns an error if writing fails.
pub fn write_text(name: &str, text: &str, to: &mut XmlDocument) -> io::Result<()> {
    let valid: String = text.chars().map(|c| if is_xml_char(c) { c } else { char::REPLACEMENT_CHARACTER }).collect();
    let escaped = partial_escape(valid).replace('\r', "&#13;");
    to.create_element(name).write_text_content(BytesText::from_escaped(escaped)).map(drop)
}

/// Returns whether XML 1.0 can carry a character, by its production 2 (`Char`).
pub(super) fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Returns a key as text; bytes that are not UTF-8 become U+FFFD.
fn key_text(key: &ObjectKey) -> Cow<'_, str> {
    String::from_utf8_lossy(key.as_bytes())
}

#[cfg(test)]
mod tests;

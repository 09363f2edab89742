//! Bucket inventories as the clouds write them, made of rows: CSV as AWS and as OSS have it, Parquet and ORC.
//!
//! Rows are dealt out to the files like cards, so that none of several files is in the order of its neighbours. A
//! million rows take a second or two, and as much memory as the files.

#[path = "inventory/csv.rs"]
mod csv;
#[path = "inventory/orc.rs"]
mod orc;
#[path = "inventory/parquet.rs"]
mod parquet;

use std::fmt::Write as _;

use jiff::Timestamp;
use md5::{Digest as _, Md5};

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) bucket: String,
    pub(crate) key: Vec<u8>,
    /// `None` is the version that was written without versioning.
    pub(crate) version_id: Option<String>,
    pub(crate) is_latest: bool,
    pub(crate) is_delete_marker: bool,
    pub(crate) size: Option<u64>,
    /// Milliseconds since 1970.
    pub(crate) last_modified: Option<i64>,
    pub(crate) etag: Option<String>,
    pub(crate) storage_class: Option<String>,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    AwsCsv,
    OssCsv,
    Parquet,
    Orc,
}

impl Format {
    pub(crate) const ALL: [Self; 4] = [Self::AwsCsv, Self::OssCsv, Self::Parquet, Self::Orc];
}

/// What is written, and where it says that it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout<'a> {
    pub(crate) format: Format,
    /// The bucket that was listed.
    pub(crate) source: &'a str,
    /// The bucket that holds the inventory.
    pub(crate) destination: &'a str,
    /// What its keys begin with, such as `inv/photos/daily/`.
    pub(crate) prefix: &'a str,
    /// Its dated folder, such as `2026-01-31T00-00Z`: when it was begun.
    pub(crate) date: &'a str,
    /// Whether it has the columns of versions.
    pub(crate) versions: bool,
    /// Data files.
    pub(crate) files: usize,
}

/// An inventory: keys of its destination bucket, and what is in them.
pub(crate) struct Inventory {
    /// The key of its `manifest.json`.
    pub(crate) manifest: String,
    /// All objects, `manifest.json` and `manifest.checksum` among them; these two come last.
    pub(crate) objects: Vec<(String, Vec<u8>)>,
}

/// Takes rows and is a file in the end.
trait Writer {
    fn push(&mut self, row: &Row);
    fn finish(self: Box<Self>) -> Vec<u8>;
}

/// Writes an inventory of these rows.
pub(crate) fn write(layout: Layout<'_>, rows: impl IntoIterator<Item = Row>) -> Inventory {
    let Layout { format, versions, prefix, .. } = layout;
    let new = || -> Box<dyn Writer> {
        match format {
            Format::AwsCsv | Format::OssCsv => Box::new(csv::Gzipped::new(format, versions)),
            Format::Parquet => Box::new(parquet::File::new(versions)),
            Format::Orc => Box::new(orc::File::new(versions)),
        }
    };
    let mut writers: Vec<_> = (0..layout.files.max(1)).map(|_| new()).collect();
    let count = writers.len();
    for (number, row) in rows.into_iter().enumerate() {
        writers[number % count].push(&row);
    }
    let (ending, name) = match format {
        Format::AwsCsv | Format::OssCsv => ("csv.gz", "CSV"),
        Format::Parquet => ("parquet", "Parquet"),
        Format::Orc => ("orc", "ORC"),
    };
    let (mut objects, mut entries) = (Vec::new(), String::new());
    for (number, writer) in writers.into_iter().enumerate() {
        let (key, content) = (format!("{prefix}data/{}-{number}.{ending}", layout.date), writer.finish());
        let comma = if number == 0 { "" } else { "," };
        let (size, md5) = (content.len(), md5(&content));
        write!(entries, r#"{comma}{{"key":"{key}","size":{size},"MD5checksum":"{md5}"}}"#).expect("written");
        objects.push((key, content));
    }
    let schema = match format {
        Format::AwsCsv | Format::OssCsv => csv::schema(format, versions),
        Format::Parquet => parquet::schema(versions),
        Format::Orc => orc::schema(versions),
    };
    let cloud = if format == Format::OssCsv { "acs:oss" } else { "arn:aws:s3" };
    let (source, destination) = (layout.source, layout.destination);
    let (day, hour, minute) = (&layout.date[..10], &layout.date[11..13], &layout.date[14..16]);
    let created = format!("{day}T{hour}:{minute}:00Z").parse::<Timestamp>().expect("a time").as_millisecond();
    let json = format!(
        r#"{{"sourceBucket":"{source}","destinationBucket":"{cloud}:::{destination}","version":"2016-11-30","creationTimestamp":"{created}","fileFormat":"{name}","fileSchema":"{schema}","files":[{entries}]}}"#
    );
    let folder = format!("{prefix}{}", layout.date);
    let (manifest, checksum) = (format!("{folder}/manifest.json"), md5(json.as_bytes()));
    objects.push((manifest.clone(), json.into_bytes()));
    objects.push((format!("{folder}/manifest.checksum"), checksum.into_bytes()));
    Inventory { manifest, objects }
}

/// What a column's values are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// Texts of which there are few.
    Few,
    Truth,
    Number,
    Time,
}

/// The columns of Parquet and ORC: their names, whether a row may lack them, and what they are.
fn columns(versions: bool) -> Vec<(&'static str, bool, Kind)> {
    let mut columns = vec![("bucket", false, Kind::Few), ("key", false, Kind::Text)];
    if versions {
        columns.extend([
            ("version_id", true, Kind::Text),
            ("is_latest", true, Kind::Truth),
            ("is_delete_marker", true, Kind::Truth),
        ]);
    }
    columns.extend([
        ("size", true, Kind::Number),
        ("last_modified_date", true, Kind::Time),
        ("e_tag", true, Kind::Text),
        ("storage_class", true, Kind::Few),
    ]);
    columns
}

/// What a row has in a column of texts.
fn text<'a>(row: &'a Row, column: &str) -> Option<&'a [u8]> {
    match column {
        "bucket" => Some(row.bucket.as_bytes()),
        "key" => Some(&row.key),
        "version_id" => row.version_id.as_deref().map(str::as_bytes),
        "e_tag" => row.etag.as_deref().map(str::as_bytes),
        _ => row.storage_class.as_deref().map(str::as_bytes),
    }
}

/// What a row has in a column of truth values.
fn truth(row: &Row, column: &str) -> bool {
    if column == "is_latest" { row.is_latest } else { row.is_delete_marker }
}

/// A number in groups of seven bits, the least significant first.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).expect("it fits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("it fits"));
    bytes
}

fn md5(content: &[u8]) -> String {
    Md5::digest(content).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("written");
        text
    })
}

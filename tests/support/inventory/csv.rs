//! CSV: every field quoted and small words at AWS, nothing quoted and large words at OSS.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::{Format, Row, Writer};

const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

const VERSIONS: &str = "VersionId, IsLatest, IsDeleteMarker, ";

/// The columns, in the order of either cloud.
pub(super) fn schema(format: Format, versions: bool) -> String {
    let facts = match format {
        Format::OssCsv => "Size, StorageClass, LastModifiedDate, ETag",
        _ => "Size, LastModifiedDate, ETag, StorageClass",
    };
    format!("Bucket, Key, {}{facts}", if versions { VERSIONS } else { "" })
}

pub(super) struct Gzipped {
    format: Format,
    versions: bool,
    to: GzEncoder<Vec<u8>>,
}

impl Gzipped {
    pub(super) fn new(format: Format, versions: bool) -> Self {
        Self { format, versions, to: GzEncoder::new(Vec::new(), Compression::fast()) }
    }
}

impl Writer for Gzipped {
    fn push(&mut self, row: &Row) {
        let oss = self.format == Format::OssCsv;
        let truth = |truth: bool| match (oss, truth) {
            (true, true) => "True",
            (true, false) => "False",
            (false, true) => "true",
            (false, false) => "false",
        };
        let mut fields = vec![row.bucket.clone(), percent_encode(&row.key, KEPT).to_string()];
        if self.versions {
            let id = row.version_id.clone().unwrap_or_default();
            fields.extend([id, truth(row.is_latest).to_owned(), truth(row.is_delete_marker).to_owned()]);
        }
        let size = row.size.map(|size| size.to_string()).unwrap_or_default();
        let time = row.last_modified.map(|millis| Timestamp::from_millisecond(millis).expect("a time"));
        let time = time.map(|time| format!("{time:.3}")).unwrap_or_default();
        let (etag, class) = (row.etag.clone().unwrap_or_default(), row.storage_class.clone().unwrap_or_default());
        fields.extend(if oss { [size, class, time, etag] } else { [size, time, etag, class] });
        let mut line = String::new();
        for (place, field) in fields.iter().enumerate() {
            line.push_str(if place == 0 { "" } else { "," });
            if oss {
                line.push_str(field);
            } else {
                line.extend(["\"", field, "\""]);
            }
        }
        line.push('\n');
        self.to.write_all(line.as_bytes()).expect("written");
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.to.finish().expect("compressed")
    }
}

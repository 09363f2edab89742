//! Parses `manifest.json`, the description of an inventory.

use std::collections::HashSet;
use std::fmt;

use jiff::Timestamp;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de::Error as _};

use super::columnar::Form;
use crate::manifest::error::ManifestError;
use crate::manifest::input::is_gzip_key;
use crate::manifest::spec::Dialect;
use crate::object::{Bucket, Key};

/// The largest `manifest.json` in bytes: enough for 300,000 data files.
pub(super) const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// A `manifest.json` as it was fetched, not parsed yet.
pub(super) struct Found {
    pub(super) key: Key,
    /// The `ETag` without quotes.
    pub(super) etag: String,
    pub(super) text: Vec<u8>,
}

/// The parsed and validated description of an inventory.
pub(super) struct Document {
    /// The bucket that the inventory lists.
    pub(super) source: String,
    /// The bucket of the data files as written: a name or an ARN.
    destination: String,
    pub(super) written: Written,
    /// The column names of CSV files, in order. Other files name their own columns, and those names are used.
    pub(super) schema: Vec<String>,
    pub(super) files: Vec<DataFile>,
    /// When the inventory was started.
    pub(super) created: Option<Timestamp>,
}

/// The format of the data files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Csv,
    Columnar(Form),
}

impl Written {
    fn of(format: &str) -> Option<Self> {
        match format.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Columnar(Form::Parquet)),
            "orc" => Some(Self::Columnar(Form::Orc)),
            _ => None,
        }
    }
}

pub(super) struct DataFile {
    /// Used only as a key, never as a path.
    pub(super) key: Key,
    /// In bytes.
    pub(super) size: Option<u64>,
    /// In hex.
    pub(super) md5: String,
}

impl Document {
    /// Parses and validates a `manifest.json`.
    pub(super) fn parse(text: &[u8], name: &str) -> Result<Self, ManifestError> {
        let help = "give the key of an inventory's manifest.json, or latest = \"prefix/\"";
        let shape: DocumentShape = serde_json::from_slice(text)
            .map_err(|why| ManifestError::malformed(name, format!("it is no inventory manifest: {why}"), help))?;
        let written = Written::of(&shape.file_format).ok_or_else(|| {
            let form = shape.file_format.escape_debug();
            let what = format!("the inventory's data is {form}, and only CSV, Parquet and ORC can be read");
            ManifestError::malformed(name, what, "have the inventory written as one of these")
        })?;
        let files = shape.files.into_iter().map(|file| file.check(name)).collect::<Result<Vec<_>, _>>()?;
        refuse_repeated(&files, name)?;
        Ok(Self {
            source: shape.source_bucket,
            destination: shape.destination_bucket.unwrap_or_default(),
            written,
            schema: shape.file_schema.split(',').map(|column| column.trim().to_owned()).collect(),
            files,
            created: shape.creation_timestamp.and_then(|Loose(text)| created(&text)),
        })
    }

    /// Returns the total size in bytes of the compressed data files, as far as the manifest gives sizes.
    pub(super) fn compressed(&self) -> u64 {
        let all = self.written != Written::Csv;
        let packed = self.files.iter().filter(|file| all || is_gzip_key(&file.key));
        packed.filter_map(|file| file.size).fold(0, u64::saturating_add)
    }

    /// Returns the dialect, if the destination reveals it.
    pub(super) fn dialect(&self) -> Option<Dialect> {
        let (scheme, _) = self.destination.split_once(':')?;
        match scheme.to_ascii_lowercase().as_str() {
            "arn" => Some(Dialect::Aws),
            "acs" => Some(Dialect::Oss),
            _ => None,
        }
    }

    /// Returns an error if the manifest was copied to another bucket. The keys of the data files refer to the bucket
    /// that the inventory was written to.
    pub(super) fn expect_bucket(&self, bucket: &Bucket, name: &str) -> Result<(), ManifestError> {
        let destination = self.destination.rsplit(':').next().unwrap_or_default();
        if destination.is_empty() || destination == bucket.as_str() {
            return Ok(());
        }
        Err(ManifestError::malformed(
            name,
            format!("its data files are in the bucket {}, not in {bucket}", destination.escape_debug()),
            "name the manifest.json in the bucket that the inventory was written to",
        ))
    }
}

/// Returns an error if a data file is listed twice. Each object is in exactly one data file, so a repeated file would
/// process its objects twice.
fn refuse_repeated(files: &[DataFile], name: &str) -> Result<(), ManifestError> {
    let mut seen = HashSet::with_capacity(files.len());
    match files.iter().find(|file| !seen.insert(file.key.as_bytes())) {
        None => Ok(()),
        Some(file) => {
            let what = format!("it lists the data file {} twice", file.key);
            Err(ManifestError::malformed(name, what, "use another inventory"))
        }
    }
}

/// Parses seconds or milliseconds since 1970. AWS writes milliseconds, and OSS does not document the unit.
fn created(text: &str) -> Option<Timestamp> {
    const FIRST_MILLISECOND: i64 = 100_000_000_000;
    let number: i64 = text.parse().ok()?;
    let time =
        if number < FIRST_MILLISECOND { Timestamp::from_second(number) } else { Timestamp::from_millisecond(number) };
    time.ok()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentShape {
    source_bucket: String,
    destination_bucket: Option<String>,
    creation_timestamp: Option<Loose>,
    file_format: String,
    file_schema: String,
    files: Vec<FileShape>,
}

/// A value that one service writes as a string and the other as a number.
struct Loose(String);

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Loose;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a whole number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Loose, E> {
                Ok(Loose(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Loose, E> {
                Ok(Loose(number.to_string()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// An entry of `files`. The names of its members vary in case and spelling.
#[derive(Default)]
struct FileShape {
    key: Option<String>,
    size: Option<Loose>,
    md5: Option<String>,
}

impl FileShape {
    fn check(self, name: &str) -> Result<DataFile, ManifestError> {
        let malformed = |what: String| {
            ManifestError::malformed(name, format!("it is no inventory manifest: {what}"), "use another inventory")
        };
        let key = self.key.filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| malformed("a data file has no key".to_owned()))?;
        let about = |what: &str| malformed(format!("the data file {} {what}", key.escape_debug()));
        let size = match self.size {
            None => None,
            Some(Loose(text)) => Some(text.parse().map_err(|_| about("has a size that is no number of bytes"))?),
        };
        let md5 = self.md5.ok_or_else(|| about("has no MD5"))?;
        if md5.len() != 32 || !md5.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(about("has an MD5 that is not 32 hexadecimal digits"));
        }
        Ok(DataFile { key: Key::from(key.as_str()), size, md5 })
    }
}

impl<'de> Deserialize<'de> for FileShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = FileShape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a data file with key, size and MD5checksum")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<FileShape, M::Error> {
                let mut file = FileShape::default();
                while let Some(member) = members.next_key::<String>()? {
                    let twice = match member.to_ascii_lowercase().as_str() {
                        "key" | "name" => file.key.replace(members.next_value()?).is_some(),
                        "size" => file.size.replace(members.next_value()?).is_some(),
                        "md5checksum" | "md5" => file.md5.replace(members.next_value()?).is_some(),
                        _ => {
                            members.next_value::<IgnoredAny>()?;
                            false
                        }
                    };
                    if twice {
                        return Err(M::Error::custom(format!("duplicate field `{}`", member.escape_debug())));
                    }
                }
                Ok(file)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

    fn document(destination: &str, files: &str) -> String {
        format!(
            r#"{{"sourceBucket":"s","destinationBucket":"{destination}","version":"2016-11-30",
                "creationTimestamp":"1514944800000","fileFormat":"CSV","fileSchema":"Bucket, Key,Size","files":[{files}]}}"#
        )
    }

    fn parse(text: &str) -> Result<Document, String> {
        Document::parse(text.as_bytes(), "b/manifest.json").map_err(|error| error.to_string())
    }

    fn refused(text: &str) -> String {
        parse(text).map(|_| ()).unwrap_err()
    }

    #[test]
    fn both_dialects_are_read() {
        let aws =
            parse(&document("arn:aws:s3:::d", &format!(r#"{{"key":"../k","size":3,"MD5checksum":"{MD5}"}}"#))).unwrap();
        assert_eq!(aws.schema, ["Bucket", "Key", "Size"]);
        assert_eq!(aws.dialect(), Some(Dialect::Aws));
        assert_eq!((aws.files[0].key.as_bytes(), aws.files[0].size), (&b"../k"[..], Some(3)));
        assert_eq!(aws.created, Some("2018-01-03T02:00:00Z".parse().unwrap()));
        assert!(aws.expect_bucket(&Bucket::new("d"), "m").is_ok());
        assert!(
            aws.expect_bucket(&Bucket::new("e"), "m").unwrap_err().to_string().contains("in the bucket d, not in e")
        );
        let oss =
            parse(&document("acs:oss:::d", &format!(r#"{{"Name":"k","Size":"3","MD5":"{MD5}","x":{{}}}}"#))).unwrap();
        assert_eq!(oss.dialect(), Some(Dialect::Oss));
        assert_eq!(oss.files[0].size, Some(3));
        let bare = parse(&document("d", "")).unwrap();
        assert_eq!(bare.dialect(), None);
        assert!(bare.expect_bucket(&Bucket::new("d"), "m").is_ok());
    }

    #[test]
    fn a_time_is_read_in_either_unit() {
        assert_eq!(created("1514944800"), created("1514944800000"));
        assert_eq!(created("yesterday"), None);
    }

    #[test]
    fn a_data_file_is_listed_once() {
        let file = |key: &str| format!(r#"{{"key":"{key}","MD5checksum":"{MD5}"}}"#);
        assert_eq!(parse(&document("d", &format!("{},{}", file("a"), file("b")))).unwrap().files.len(), 2);
        let twice = format!("{},{},{}", file("a"), file("b"), file("a"));
        assert!(refused(&document("d", &twice)).contains("lists the data file a twice"));
    }

    #[test]
    fn other_formats_say_so() {
        let as_format = |format: &str| document("d", "").replace("\"CSV\"", &format!("\"{format}\""));
        assert!(refused(&as_format("Avro")).contains("Avro, and only CSV, Parquet and ORC"));
        assert_eq!(parse(&as_format("Parquet")).unwrap().written, Written::Columnar(Form::Parquet));
        assert_eq!(parse(&as_format("ORC")).unwrap().written, Written::Columnar(Form::Orc));
        assert_eq!(parse(&as_format("csv")).unwrap().written, Written::Csv);
    }

    #[test]
    fn hostile_documents_are_refused() {
        let file = |members: &str| refused(&document("d", members));
        assert!(file(&format!(r#"{{"key":"k","size":-1,"MD5checksum":"{MD5}"}}"#)).contains("no number of bytes"));
        assert!(file(&format!(r#"{{"key":"k","size":1e300,"MD5checksum":"{MD5}"}}"#)).contains("whole number"));
        assert!(file(&format!(r#"{{"key":"k","Key":"l","MD5checksum":"{MD5}"}}"#)).contains("duplicate"));
        assert!(file(r#"{"key":"k","size":1}"#).contains("has no MD5"));
        assert!(file(r#"{"key":"k","MD5checksum":"&lol;"}"#).contains("32 hexadecimal"));
        assert!(file(&format!(r#"{{"size":1,"MD5checksum":"{MD5}"}}"#)).contains("no key"));
        assert!(file("7").contains("a data file"));
        assert!(refused(&document("d", "").replace("\"version\"", "\"sourceBucket\"")).contains("duplicate"));
        for text in ["", "{}", "[]", "null", "<!DOCTYPE x [<!ENTITY lol \"lol\">]>", "{\"files\":"] {
            assert!(refused(text).contains("no inventory manifest"), "{text}");
        }
        assert!(refused(&"[".repeat(100_000)).contains("no inventory manifest"));
    }
}

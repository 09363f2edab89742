//! Parses `manifest.json`, the description of an inventory, and finds the newest one in a folder of inventories.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use batchplan_columnar::ColumnarFormat;
use batchplan_store::hex::hex;
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::{ListCursor, ListRequest, Store};
use jiff::Timestamp;
use md5::{Digest, Md5};
use serde::Deserialize;
use serde::de::{self, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use tokio_util::sync::CancellationToken;

use crate::manifest::error::{ManifestError, ManifestWarning, object_path};
use crate::manifest::input::{is_gzip_key, read_small};
use crate::manifest::pins::SourcePin;
use crate::manifest::retrying_store::{RetryingStore, bare_etag};
use crate::manifest::spec::InventoryDialect;

/// The largest `manifest.json` in bytes: enough for 300,000 data files.
pub(super) const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// A `manifest.json` as it was fetched, not parsed yet.
pub(super) struct FetchedInventoryManifest {
    pub(super) key: ObjectKey,
    /// The `ETag` without quotes.
    pub(super) etag: String,
    pub(super) text: Vec<u8>,
}

/// The parsed and validated description of an inventory.
pub(super) struct InventoryManifest {
    /// The bucket that the inventory lists.
    pub(super) source: String,
    /// The bucket of the data files as written: a name or an ARN.
    destination: String,
    pub(super) format: InventoryFormat,
    /// The column names of CSV files, in order. Other files name their own columns, and those names are used.
    pub(super) schema: Vec<String>,
    pub(super) files: Vec<InventoryDataFile>,
    /// When the inventory was started.
    pub(super) created: Option<Timestamp>,
}

/// The format of the data files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InventoryFormat {
    Csv,
    Columnar(ColumnarFormat),
}

impl InventoryFormat {
    fn from_name(format: &str) -> Option<Self> {
        match format.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Columnar(ColumnarFormat::Parquet)),
            "orc" => Some(Self::Columnar(ColumnarFormat::Orc)),
            _ => None,
        }
    }
}

pub(super) struct InventoryDataFile {
    /// Used only as a key, never as a path.
    pub(super) key: ObjectKey,
    /// In bytes.
    pub(super) size: Option<u64>,
    /// In hex.
    pub(super) md5: String,
}

impl InventoryManifest {
    /// Parses and validates a `manifest.json`.
    pub(super) fn parse(text: &[u8], name: &str) -> Result<Self, ManifestError> {
        let help = "use the key of an inventory's manifest.json, or latest = \"prefix/\"";
        let shape: RawInventoryManifest = serde_json::from_slice(text)
            .map_err(|why| ManifestError::malformed(name, format!("not an inventory manifest: {why}"), help))?;
        let written = InventoryFormat::from_name(&shape.file_format).ok_or_else(|| {
            let form = shape.file_format.escape_debug();
            let what = format!("the inventory's data is {form}, but only CSV, Parquet and ORC are supported");
            ManifestError::malformed(name, what, "configure the inventory to use one of these formats")
        })?;
        let files = shape.files.into_iter().map(|file| file.validate(name)).collect::<Result<Vec<_>, _>>()?;
        check_unique_keys(&files, name)?;
        Ok(Self {
            source: shape.source_bucket,
            destination: shape.destination_bucket.unwrap_or_default(),
            format: written,
            schema: shape.file_schema.split(',').map(|column| column.trim().to_owned()).collect(),
            files,
            created: shape.creation_timestamp.and_then(|StringOrNumber(text)| parse_creation_time(&text)),
        })
    }

    /// Returns the total size in bytes of the compressed data files, as far as the manifest gives sizes.
    pub(super) fn compressed_size(&self) -> u64 {
        let all = self.format != InventoryFormat::Csv;
        let packed = self.files.iter().filter(|file| all || is_gzip_key(&file.key));
        packed.filter_map(|file| file.size).fold(0, u64::saturating_add)
    }

    /// Returns the dialect, if the destination reveals it.
    pub(super) fn dialect(&self) -> Option<InventoryDialect> {
        let (scheme, _) = self.destination.split_once(':')?;
        match scheme.to_ascii_lowercase().as_str() {
            "arn" => Some(InventoryDialect::Aws),
            "acs" => Some(InventoryDialect::Oss),
            _ => None,
        }
    }

    /// Returns an error if the manifest was copied to another bucket. The keys of the data files refer to the bucket
    /// that the inventory was written to.
    pub(super) fn check_bucket(&self, bucket: &BucketName, name: &str) -> Result<(), ManifestError> {
        let destination = self.destination.rsplit(':').next().unwrap_or_default();
        if destination.is_empty() || destination == bucket.as_str() {
            return Ok(());
        }
        Err(ManifestError::malformed(
            name,
            format!("its data files are in the bucket {}, not in {bucket}", destination.escape_debug()),
            "use the manifest.json in the bucket that the inventory was written to",
        ))
    }
}

/// Returns an error if a data file is listed twice. Each object is in exactly one data file, so a repeated file would
/// process its objects twice.
fn check_unique_keys(files: &[InventoryDataFile], name: &str) -> Result<(), ManifestError> {
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
fn parse_creation_time(text: &str) -> Option<Timestamp> {
    const FIRST_MILLISECOND: i64 = 100_000_000_000;
    let number: i64 = text.parse().ok()?;
    let time =
        if number < FIRST_MILLISECOND { Timestamp::from_second(number) } else { Timestamp::from_millisecond(number) };
    time.ok()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawInventoryManifest {
    source_bucket: String,
    destination_bucket: Option<String>,
    creation_timestamp: Option<StringOrNumber>,
    file_format: String,
    file_schema: String,
    files: Vec<RawInventoryFile>,
}

/// A value that one service writes as a string and the other as a number.
struct StringOrNumber(String);

impl<'de> Deserialize<'de> for StringOrNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringOrNumberVisitor;
        impl Visitor<'_> for StringOrNumberVisitor {
            type Value = StringOrNumber;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an integer")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StringOrNumber, E> {
                Ok(StringOrNumber(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<StringOrNumber, E> {
                Ok(StringOrNumber(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<StringOrNumber, E> {
                Ok(StringOrNumber(number.to_string()))
            }
        }
        deserializer.deserialize_any(StringOrNumberVisitor)
    }
}

/// An entry of `files`. The names of its members vary in case and spelling.
#[derive(Default)]
struct RawInventoryFile {
    key: Option<String>,
    size: Option<StringOrNumber>,
    md5: Option<String>,
}

impl RawInventoryFile {
    fn validate(self, name: &str) -> Result<InventoryDataFile, ManifestError> {
        let malformed = |what: String| {
            ManifestError::malformed(name, format!("not an inventory manifest: {what}"), "use another inventory")
        };
        let key = self.key.filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| malformed("a data file has no key".to_owned()))?;
        let about = |what: &str| malformed(format!("the data file {} {what}", key.escape_debug()));
        let size = match self.size {
            None => None,
            Some(StringOrNumber(text)) => {
                Some(text.parse().map_err(|_| about("has a size that is not a number of bytes"))?)
            }
        };
        let md5 = self.md5.ok_or_else(|| about("has no MD5"))?;
        if md5.len() != 32 || !md5.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(about("has an MD5 that is not 32 hexadecimal digits"));
        }
        Ok(InventoryDataFile { key: ObjectKey::from(key.as_str()), size, md5 })
    }
}

impl<'de> Deserialize<'de> for RawInventoryFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InventoryFileVisitor;
        impl<'de> Visitor<'de> for InventoryFileVisitor {
            type Value = RawInventoryFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a data file with key, size and MD5checksum")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<RawInventoryFile, M::Error> {
                let mut file = RawInventoryFile::default();
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
        deserializer.deserialize_map(InventoryFileVisitor)
    }
}

/// The number of newest folders that are tried. With one inventory per day, this is a month of incomplete ones.
const MAX_FOLDERS: usize = 32;

/// The most pages in a row without a new name, for example pages of delete markers.
const IDLE_PAGES: u32 = 1000;

/// The largest `manifest.checksum` in bytes: 32 digits and a newline, with a wide margin.
const MAX_CHECKSUM_BYTES: u64 = 1024;

/// Returns the newest complete inventory below a prefix, as a job pins it, and warnings about newer inventories that
/// are skipped.
///
/// # Errors
/// Returns an error if there is no complete inventory, its `manifest.json` is invalid, or a request fails.
pub async fn newest_inventory(
    bucket: &BucketName,
    prefix: &ObjectKey,
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
) -> Result<(SourcePin, Vec<ManifestWarning>), ManifestError> {
    let retrying = RetryingStore::new(Arc::clone(store), stop.clone());
    let (FetchedInventoryManifest { key, etag, text }, warnings) = find_newest(bucket, prefix, &retrying).await?;
    let created = InventoryManifest::parse(&text, &object_path(bucket, &key))?.created;
    Ok((SourcePin::Inventory { bucket: bucket.clone(), key, etag, created }, warnings))
}

/// Finds and fetches the newest `manifest.json` that matches its `manifest.checksum`.
pub(super) async fn find_newest(
    bucket: &BucketName,
    prefix: &ObjectKey,
    retrying: &RetryingStore,
) -> Result<(FetchedInventoryManifest, Vec<ManifestWarning>), ManifestError> {
    let mut base = prefix.as_bytes().to_vec();
    if base.last().is_some_and(|byte| *byte != b'/') {
        base.push(b'/');
    }
    let folders = list_dated_folders(bucket, &ObjectKey::new(base.as_slice()), retrying).await?;
    let mut unfinished = Vec::new();
    for folder in folders.into_iter().rev() {
        match fetch_complete(bucket, &folder, retrying).await? {
            Ok(found) => {
                let passed = |(folder, why): &(ObjectKey, String)| ManifestWarning {
                    message: format!("skipped {}: {why}; using {}", object_path(bucket, folder), found.key),
                    help: "to include its objects, wait until the newer inventory is complete".to_owned(),
                };
                let warnings = unfinished.iter().map(passed).collect();
                return Ok((found, warnings));
            }
            Err(why) => unfinished.push((folder, why)),
        }
    }
    Err(ManifestError::malformed(
        &object_path(bucket, prefix),
        match unfinished.len() {
            0 => "there is no folder named like 2026-01-31T00-00Z/ below it".to_owned(),
            count => format!("no complete inventory below it ({count} tried); the newest: {}", unfinished[0].1),
        },
        "use the prefix that holds the dated folders, each with manifest.json and manifest.checksum",
    ))
}

/// Returns the newest dated folders directly below the prefix, oldest first. Their names sort by time.
async fn list_dated_folders(
    bucket: &BucketName,
    base: &ObjectKey,
    retrying: &RetryingStore,
) -> Result<BTreeSet<ObjectKey>, ManifestError> {
    let mut request = ListRequest {
        bucket: bucket.clone(),
        prefix: base.clone(),
        all_versions: false,
        group_by_directory: true,
        from: None,
    };
    let untrusted = |what: String| ManifestError::InconsistentListing { place: object_path(bucket, base), what };
    let mut newest = BTreeSet::new();
    let mut last = ObjectKey::from("");
    let mut cursor = ListCursor::new(request.all_versions, IDLE_PAGES);
    loop {
        let page = retrying.list(&request).await?;
        let names = || page.entries.iter().map(|entry| &entry.key).chain(&page.common_prefixes);
        if let Some(back) = names().find(|name| **name < last) {
            return Err(untrusted(format!("it went backwards: {back} after {last}")));
        }
        last = names().max().unwrap_or(&last).clone();
        let next = cursor.advance(request.from.as_ref(), &page).map_err(untrusted)?;
        for folder in page.common_prefixes {
            if folder.as_bytes().strip_prefix(base.as_bytes()).is_some_and(is_dated) {
                newest.insert(folder);
            }
            if newest.len() > MAX_FOLDERS {
                newest.pop_first();
            }
        }
        if next.is_none() {
            return Ok(newest);
        }
        request.from = next;
    }
}

/// Returns whether a folder's name has the form `YYYY-MM-DDTHH-MMZ/`.
fn is_dated(name: &[u8]) -> bool {
    const FORM: &[u8] = b"0000-00-00T00-00Z/";
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    name.len() == FORM.len() && name.iter().zip(FORM).all(fits)
}

/// Fetches the `manifest.json` of one folder. The inner error says why the inventory is not complete.
async fn fetch_complete(
    bucket: &BucketName,
    folder: &ObjectKey,
    retrying: &RetryingStore,
) -> Result<Result<FetchedInventoryManifest, String>, ManifestError> {
    let sibling = |name: &str| ObjectKey::new([folder.as_bytes(), name.as_bytes()].concat());
    let checksum = sibling("manifest.checksum");
    let Some((_, expected)) = fetch_optional(bucket, &checksum, MAX_CHECKSUM_BYTES, retrying).await? else {
        return Ok(Err("it has no manifest.checksum".to_owned()));
    };
    let key = sibling("manifest.json");
    let Some((etag, text)) = fetch_optional(bucket, &key, MAX_MANIFEST_BYTES, retrying).await? else {
        return Ok(Err("it has no manifest.json".to_owned()));
    };
    let found = hex(&Md5::digest(&text));
    if !expected.trim_ascii().eq_ignore_ascii_case(found.as_bytes()) {
        return Ok(Err("its manifest.checksum does not match its manifest.json".to_owned()));
    }
    Ok(Ok(FetchedInventoryManifest { key, etag, text }))
}

async fn fetch_optional(
    bucket: &BucketName,
    key: &ObjectKey,
    limit: u64,
    retrying: &RetryingStore,
) -> Result<Option<(String, Vec<u8>)>, ManifestError> {
    match retrying.open(bucket, key, None).await? {
        Ok(opened) => {
            let etag = bare_etag(&opened.etag).to_owned();
            Ok(Some((etag, read_small(opened, limit, &object_path(bucket, key), retrying.stop_token()).await?)))
        }
        Err(fault) if fault.status == Some(404) => Ok(None),
        Err(fault) => {
            Err(ManifestError::Store { doing: format!("read {}", object_path(bucket, key)), fault: Box::new(fault) })
        }
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

    fn parse(text: &str) -> Result<InventoryManifest, String> {
        InventoryManifest::parse(text.as_bytes(), "b/manifest.json").map_err(|error| error.to_string())
    }

    fn refused(text: &str) -> String {
        parse(text).map(|_| ()).unwrap_err()
    }

    #[test]
    fn both_dialects_are_read() {
        let aws =
            parse(&document("arn:aws:s3:::d", &format!(r#"{{"key":"../k","size":3,"MD5checksum":"{MD5}"}}"#))).unwrap();
        assert_eq!(aws.schema, ["Bucket", "Key", "Size"]);
        assert_eq!(aws.dialect(), Some(InventoryDialect::Aws));
        assert_eq!((aws.files[0].key.as_bytes(), aws.files[0].size), (&b"../k"[..], Some(3)));
        assert_eq!(aws.created, Some("2018-01-03T02:00:00Z".parse().unwrap()));
        assert!(aws.check_bucket(&BucketName::new("d"), "m").is_ok());
        assert!(
            aws.check_bucket(&BucketName::new("e"), "m").unwrap_err().to_string().contains("in the bucket d, not in e")
        );
        let oss =
            parse(&document("acs:oss:::d", &format!(r#"{{"Name":"k","Size":"3","MD5":"{MD5}","x":{{}}}}"#))).unwrap();
        assert_eq!(oss.dialect(), Some(InventoryDialect::Oss));
        assert_eq!(oss.files[0].size, Some(3));
        let bare = parse(&document("d", "")).unwrap();
        assert_eq!(bare.dialect(), None);
        assert!(bare.check_bucket(&BucketName::new("d"), "m").is_ok());
    }

    #[test]
    fn a_time_is_read_in_either_unit() {
        assert_eq!(parse_creation_time("1514944800"), parse_creation_time("1514944800000"));
        assert_eq!(parse_creation_time("yesterday"), None);
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
        assert!(refused(&as_format("Avro")).contains("Avro, but only CSV, Parquet and ORC"));
        assert_eq!(parse(&as_format("Parquet")).unwrap().format, InventoryFormat::Columnar(ColumnarFormat::Parquet));
        assert_eq!(parse(&as_format("ORC")).unwrap().format, InventoryFormat::Columnar(ColumnarFormat::Orc));
        assert_eq!(parse(&as_format("csv")).unwrap().format, InventoryFormat::Csv);
    }

    #[test]
    fn hostile_documents_are_refused() {
        let file = |members: &str| refused(&document("d", members));
        assert!(file(&format!(r#"{{"key":"k","size":-1,"MD5checksum":"{MD5}"}}"#)).contains("not a number of bytes"));
        assert!(file(&format!(r#"{{"key":"k","size":1e300,"MD5checksum":"{MD5}"}}"#)).contains("an integer"));
        assert!(file(&format!(r#"{{"key":"k","Key":"l","MD5checksum":"{MD5}"}}"#)).contains("duplicate"));
        assert!(file(r#"{"key":"k","size":1}"#).contains("has no MD5"));
        assert!(file(r#"{"key":"k","MD5checksum":"&lol;"}"#).contains("32 hexadecimal"));
        assert!(file(&format!(r#"{{"size":1,"MD5checksum":"{MD5}"}}"#)).contains("no key"));
        assert!(file("7").contains("a data file"));
        assert!(refused(&document("d", "").replace("\"version\"", "\"sourceBucket\"")).contains("duplicate"));
        for text in ["", "{}", "[]", "null", "<!DOCTYPE x [<!ENTITY lol \"lol\">]>", "{\"files\":"] {
            assert!(refused(text).contains("not an inventory manifest"), "{text}");
        }
        assert!(refused(&"[".repeat(100_000)).contains("not an inventory manifest"));
    }

    #[test]
    fn recognizes_dated_folders() {
        assert!(is_dated(b"2026-01-31T00-00Z/"));
        for name in ["data/", "hive/", "2026-01-31T00-00Z", "2026-01-31T00-00Zx", "2026-01-31T00:00Z/", "é"] {
            assert!(!is_dated(name.as_bytes()), "{name}");
        }
    }
}

//! The manifest source `inventory`: a bucket inventory of OSS or AWS, which consists of a `manifest.json` and the
//! data files that it lists.
//!
//! Data files are CSV on OSS, and CSV, Parquet or ORC on AWS. Rows mean the same in every format: delete markers and
//! older versions without a version ID are skipped, and objects have the same facts. Two things differ. CSV
//! percent-encodes keys, and the other formats do not. The columns of CSV are named in `fileSchema`, and the other
//! files name their own.
//!
//! This file parses `manifest.json`, finds the newest one in a folder of inventories, and reads the data files in
//! order.
//! `data_files` downloads each and interprets its columns.
//!
//! The formats are documented in the AWS S3 User Guide ("Locating your inventory list") and in OSS's "Bucket
//! inventory".

mod data_files;

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

use self::data_files::{InventoryCsvDecoder, InventoryDataFile, read_columnar_file, read_csv_file};
use super::error::{ManifestError, ManifestWarning, object_path};
use super::input::{self, is_gzip_key, read_small};
use super::pins::SourcePin;
use super::retrying_store::{RetryingStore, bare_etag};
use super::row_visitor::{RowVisitor, SourceCursor, shown_text};
use super::spec::{InventoryDialect, InventorySelector};

/// Passes the rows of an inventory's data files to the visitor, one file after another. Resumes after the files that an
/// earlier attempt has read, if there was one.
pub(super) async fn read_inventory<V: RowVisitor>(
    bucket: &BucketName,
    object: &InventorySelector,
    dialect: InventoryDialect,
    retrying: &RetryingStore,
    visitor: V,
) -> Result<(V, SourcePin), ManifestError> {
    let (found, done, mut visitor) = resume_or_find(bucket, object, retrying, visitor).await?;
    let name = object_path(bucket, &found.key);
    let document = InventoryManifest::parse(&found.text, &name)?;
    document.check_bucket(bucket, &name)?;
    visitor.reject_too_large(&name, document.compressed_size())?;
    let pin = SourcePin::Inventory {
        bucket: bucket.clone(),
        key: found.key.clone(),
        etag: found.etag.clone(),
        created: document.created,
    };
    let cursor = |files, plus| SourceCursor::Inventory {
        key: found.key.clone(),
        etag: found.etag.clone(),
        files,
        raw_plus: plus,
    };
    match document.format {
        InventoryFormat::Csv => {
            let dialect = document.dialect().unwrap_or(dialect);
            let mut columns = InventoryCsvDecoder::new(
                document.schema,
                document.source,
                dialect,
                visitor.intake().filter(),
                visitor.needs_all_metadata(),
                &name,
            )?;
            columns.raw_plus = done.raw_plus;
            for (number, file) in document.files.into_iter().enumerate().skip(done.files_read) {
                (visitor, columns) = read_csv_file(bucket, file, columns, retrying, visitor).await?;
                visitor = save_cursor(visitor, cursor(number + 1, columns.raw_plus.clone())).await?;
            }
            columns.warn(visitor.intake_mut(), &name);
        }
        InventoryFormat::Columnar(format) => {
            let mut files = document.files;
            if !visitor.needs_all_rows() {
                // Any object will do, and the smallest file gives one soonest.
                files.sort_by_key(|file| file.size);
            }
            for (number, file) in files.into_iter().enumerate().skip(done.files_read) {
                visitor = read_columnar_file(bucket, file, format, retrying, visitor).await?;
                visitor = save_cursor(visitor, cursor(number + 1, None)).await?;
            }
        }
    }
    Ok((visitor, pin))
}

/// Saves the position after a data file, if enough rows were read.
async fn save_cursor<V: RowVisitor>(mut visitor: V, cursor: SourceCursor) -> Result<V, ManifestError> {
    input::run_blocking(move || {
        if visitor.save_due() {
            visitor.sync_partition()?;
            visitor.save_cursor(cursor)?;
        }
        Ok(visitor)
    })
    .await
}

/// How far an earlier attempt got.
#[derive(Default)]
struct InventoryProgress {
    files_read: usize,
    raw_plus: Option<(String, u64)>,
}

/// Finds the inventory to read. This is the one that an earlier attempt started with, if it has not changed. With
/// `latest`, a newer inventory that has appeared since is ignored: the job's inventory is decided when its
/// preparation starts.
async fn resume_or_find<V: RowVisitor>(
    bucket: &BucketName,
    object: &InventorySelector,
    retrying: &RetryingStore,
    mut visitor: V,
) -> Result<(FetchedInventoryManifest, InventoryProgress, V), ManifestError> {
    if let Some(SourceCursor::Inventory { key, etag, files, raw_plus: plus }) = visitor.take_cursor() {
        if let Some(found) = fetch_unchanged(bucket, &key, &etag, retrying).await? {
            return Ok((found, InventoryProgress { files_read: files, raw_plus: plus }, visitor));
        }
        visitor = input::run_blocking(move || visitor.restart().map(|()| visitor)).await?;
    }
    let found = match object {
        InventorySelector::Exact { key, etag } => fetch_manifest(bucket, key, etag.as_deref(), retrying).await?,
        InventorySelector::Latest { prefix } => {
            let (found, warnings) = find_newest(bucket, prefix, retrying).await?;
            visitor.intake_mut().add_warnings(warnings);
            found
        }
        InventorySelector::Changed(changes) => {
            fetch_manifest(bucket, &changes.key, Some(&changes.etag), retrying).await?
        }
        InventorySelector::Distinct { key, etag } => {
            fetch_manifest(bucket, key, Some(etag.as_str()).filter(|etag| !etag.is_empty()), retrying).await?
        }
    };
    Ok((found, InventoryProgress::default(), visitor))
}

/// Fetches the `manifest.json` that an earlier attempt read. Returns `None` if it was deleted or has changed.
async fn fetch_unchanged(
    bucket: &BucketName,
    key: &ObjectKey,
    etag: &str,
    retrying: &RetryingStore,
) -> Result<Option<FetchedInventoryManifest>, ManifestError> {
    if etag.is_empty() {
        return Ok(None);
    }
    match fetch_manifest(bucket, key, Some(etag), retrying).await {
        Ok(found) => Ok(Some(found)),
        Err(ManifestError::Changed { .. }) => Ok(None),
        Err(ManifestError::Store { fault, .. }) if fault.status == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn fetch_manifest(
    bucket: &BucketName,
    key: &ObjectKey,
    etag: Option<&str>,
    retrying: &RetryingStore,
) -> Result<FetchedInventoryManifest, ManifestError> {
    let opened = retrying.open_pinned(bucket, key, etag).await?;
    let etag = bare_etag(&opened.etag).to_owned();
    let text = read_small(opened, MAX_MANIFEST_BYTES, &object_path(bucket, key), retrying.stop_token()).await?;
    Ok(FetchedInventoryManifest { key: key.clone(), etag, text })
}
/// The largest `manifest.json` in bytes: enough for 300,000 data files.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// A `manifest.json` as it was fetched, not parsed yet.
struct FetchedInventoryManifest {
    key: ObjectKey,
    /// The `ETag` without quotes.
    etag: String,
    text: Vec<u8>,
}

/// The parsed and validated description of an inventory.
struct InventoryManifest {
    /// The bucket that the inventory lists.
    source: String,
    /// The bucket of the data files as written: a name or an ARN.
    destination: String,
    format: InventoryFormat,
    /// The column names of CSV files, in order. Other files name their own columns, and those names are used.
    schema: Vec<String>,
    files: Vec<InventoryDataFile>,
    /// When the inventory was started.
    created: Option<Timestamp>,
}

/// The format of the data files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InventoryFormat {
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
impl InventoryManifest {
    /// Parses and validates a `manifest.json`.
    fn parse(text: &[u8], name: &str) -> Result<Self, ManifestError> {
        let help = "use the key of an inventory's manifest.json, or latest = \"prefix/\"";
        let json: RawInventoryManifest = serde_json::from_slice(text)
            .map_err(|why| ManifestError::malformed(name, format!("not an inventory manifest: {why}"), help))?;
        let format = InventoryFormat::from_name(&json.file_format).ok_or_else(|| {
            let other = shown_text(&json.file_format);
            let what = format!("the inventory's data is {other}, but only CSV, Parquet and ORC are supported");
            ManifestError::malformed(name, what, "configure the inventory to use one of these formats")
        })?;
        let files = json.files.into_iter().map(|file| file.validate(name)).collect::<Result<Vec<_>, _>>()?;
        check_unique_keys(&files, name)?;
        Ok(Self {
            source: json.source_bucket,
            destination: json.destination_bucket.unwrap_or_default(),
            format,
            schema: json.file_schema.split(',').map(|column| column.trim().to_owned()).collect(),
            files,
            created: json.creation_timestamp.and_then(|StringOrNumber(text)| parse_creation_time(&text)),
        })
    }

    /// Returns the total size in bytes of the compressed data files, as far as the manifest gives sizes.
    fn compressed_size(&self) -> u64 {
        let all = self.format != InventoryFormat::Csv;
        let packed = self.files.iter().filter(|file| all || is_gzip_key(&file.key));
        packed.filter_map(|file| file.size).fold(0, u64::saturating_add)
    }

    /// Returns the dialect, if the destination reveals it.
    fn dialect(&self) -> Option<InventoryDialect> {
        let (scheme, _) = self.destination.split_once(':')?;
        match scheme.to_ascii_lowercase().as_str() {
            "arn" => Some(InventoryDialect::Aws),
            "acs" => Some(InventoryDialect::Oss),
            _ => None,
        }
    }

    /// Returns an error if the manifest was copied to another bucket. The keys of the data files refer to the bucket
    /// that the inventory was written to.
    fn check_bucket(&self, bucket: &BucketName, name: &str) -> Result<(), ManifestError> {
        let destination = self.destination.rsplit(':').next().unwrap_or_default();
        if destination.is_empty() || destination == bucket.as_str() {
            return Ok(());
        }
        Err(ManifestError::malformed(
            name,
            format!("its data files are in the bucket {}, not in {bucket}", shown_text(destination)),
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
                        return Err(M::Error::custom(format!("duplicate field `{}`", shown_text(&member))));
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
async fn find_newest(
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
                let skipped = |(folder, why): &(ObjectKey, String)| ManifestWarning {
                    message: format!("skipped {}: {why}; using {}", object_path(bucket, folder), found.key),
                    help: "to include its objects, wait until the newer inventory is complete".to_owned(),
                };
                let warnings = unfinished.iter().map(skipped).collect();
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
    let untrusted = |what: String| ManifestError::InconsistentListing {
        place: object_path(bucket, base),
        what,
        help: "in [manifest.inventory], set `object` to the key of a manifest.json instead of `latest`, or use \
               [manifest.csv]; a recurring plan cannot run until the server is fixed",
    };
    let mut newest = BTreeSet::new();
    let mut last = ObjectKey::from("");
    let mut cursor = ListCursor::new(request.all_versions, IDLE_PAGES);
    loop {
        let page = retrying.list(&request).await?;
        let exact = page.entries.iter().filter(|entry| entry.inexact.is_none());
        let names = || exact.clone().map(|entry| &entry.key).chain(&page.common_prefixes);
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
mod manifest_tests;
#[cfg(test)]
mod tests;

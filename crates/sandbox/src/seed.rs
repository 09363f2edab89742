//! Seeds a new sandbox from a table of objects, and from a folder of files next to it, if there is one.
//!
//! The table is a CSV file with a header row. The columns `bucket` and `key` are required. The columns `size` (in
//! bytes, default 0), `storage_class` (a name of S3 or OSS, default `STANDARD`), `last_modified` (RFC 3339, default
//! now), `tags` (such as `a=b&c=d`), `acl` (default `private`), and `version_id` are optional. The columns can be in
//! any order. A key is URL-encoded, as in manifests: `%XX` is decoded once, and `+` stays as it is.
//!
//! An object from the table has a size but no content: its content is served as zero bytes. A bucket is created when it
//! is first named. A row with a version ID enables versioning for its bucket. The versions of a key are ordered by
//! `last_modified`. Of equal ones, the later row is the newer version.
//!
//! Next to `quickstart.csv`, a folder `quickstart.files` can contain objects with content: the file
//! `quickstart.files/B/a/b.csv` becomes the object `a/b.csv` of the bucket `B`.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use md5::{Digest, Md5};
use percent_encoding::percent_decode;
use s3s::path::check_bucket_name;

use super::SandboxError;
use super::access::{CannedAcl, OwnerId, SharedAccess, StoredAcl};
use super::blobs::{BlobStore, WrittenBlob};
use super::model::{
    ETag, Md5Digest, ObjectBlob, ObjectStorageClass, StoredObject, StoredVersion, UnixMillis, VersioningStatus,
};
use super::state::{SandboxState, StateChange};
use super::tags::{self, SharedTags};

/// The longest key that AWS S3 and OSS accept, in bytes.
const MAX_KEY_BYTES: usize = 1024;

/// The size of the pieces in which files are copied.
const CHUNK_BYTES: usize = 64 * 1024;

/// The columns of the table. Those before [`SeedColumn::Size`] are required.
#[derive(Clone, Copy)]
enum SeedColumn {
    Bucket,
    Key,
    Size,
    StorageClass,
    LastModified,
    Tags,
    Acl,
    VersionId,
}

/// The names of the columns, in the order of [`SeedColumn`].
const COLUMNS: [&str; 8] = ["bucket", "key", "size", "storage_class", "last_modified", "tags", "acl", "version_id"];

/// The maximum length of a version ID, which is AWS's limit. The ID must fit in a header.
const MAX_VERSION_BYTES: usize = 1024;

/// Seeds an empty state.
///
/// # Errors
/// Returns an error if a file cannot be read, or a row is not valid. The error contains the number of the row.
pub(crate) fn seed(
    state: &mut SandboxState,
    blobs: &BlobStore,
    path: &Path,
    now: UnixMillis,
) -> Result<(), SandboxError> {
    let io = |source| SandboxError::Io { doing: "read", path: path.to_owned(), source };
    let table = File::open(path).map_err(io)?;
    seed_rows(state, table, now).map_err(|(row, what)| SandboxError::Seed { path: path.to_owned(), row, what })?;
    let files = path.with_extension("files");
    if files.is_dir() {
        for bucket in sorted_entries(&files)? {
            let name = relative_name(&files, &bucket)?;
            if !check_bucket_name(&name) || !bucket.is_dir() {
                return Err(invalid_entry(&bucket, "it is not a folder with a valid bucket name"));
            }
            ensure_bucket(state, &name, now);
            seed_folder(state, blobs, &name, &bucket, "", now)?;
        }
    }
    Ok(())
}

/// For each column of `COLUMNS`, the index of the field that holds it.
struct SeedColumns([Option<usize>; COLUMNS.len()]);

impl SeedColumns {
    fn from_header(header: &csv::ByteRecord) -> Result<Self, String> {
        let mut fields = [None; COLUMNS.len()];
        for (field, name) in header.iter().enumerate() {
            let name = String::from_utf8_lossy(name);
            let name = name.trim_start_matches('\u{feff}');
            let Some(column) = COLUMNS.iter().position(|column| *column == name) else {
                let known = COLUMNS.join(", ");
                return Err(format!("there is no column `{}`; the columns are {known}", name.escape_debug()));
            };
            if fields[column].replace(field).is_some() {
                return Err(format!("the column `{name}` appears twice"));
            }
        }
        if let Some(missing) = (0..SeedColumn::Size as usize).find(|column| fields[*column].is_none()) {
            return Err(format!("the column `{}` is missing", COLUMNS[missing]));
        }
        Ok(Self(fields))
    }

    /// Returns a field's bytes, or `None` if the field is empty.
    fn field<'r>(&self, record: &'r csv::ByteRecord, column: SeedColumn) -> Option<&'r [u8]> {
        self.0[column as usize].and_then(|field| record.get(field)).filter(|value| !value.is_empty())
    }

    fn text<'r>(&self, record: &'r csv::ByteRecord, column: SeedColumn) -> Result<Option<&'r str>, String> {
        let text = self.field(record, column).map(std::str::from_utf8).transpose();
        text.map_err(|_| format!("{} is not UTF-8", COLUMNS[column as usize]))
    }
}

fn seed_rows(state: &mut SandboxState, table: impl Read, now: UnixMillis) -> Result<(), (u64, String)> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(table);
    let mut record = csv::ByteRecord::new();
    let mut columns = None;
    let mut row = 0;
    loop {
        row += 1;
        if !reader.read_byte_record(&mut record).map_err(|error| (row, error.to_string()))? {
            break;
        }
        match &columns {
            None => columns = Some(SeedColumns::from_header(&record).map_err(|what| (row, what))?),
            Some(columns) => seed_row(state, columns, &record, now).map_err(|what| (row, what))?,
        }
    }
    if columns.is_none() {
        return Err((1, "the header row is missing".to_owned()));
    }
    Ok(())
}

fn seed_row(
    state: &mut SandboxState,
    columns: &SeedColumns,
    record: &csv::ByteRecord,
    now: UnixMillis,
) -> Result<(), String> {
    let bucket = columns.text(record, SeedColumn::Bucket)?.ok_or("the bucket is empty")?;
    if !check_bucket_name(bucket) {
        return Err(format!("`{}` is not a valid bucket name", bucket.escape_debug()));
    }
    let key = decode_key(columns.field(record, SeedColumn::Key).ok_or("the key is empty")?)?;
    let size = match columns.text(record, SeedColumn::Size)? {
        None => 0,
        Some(size) => size.parse().map_err(|_| format!("`{}` is not a size in bytes", size.escape_debug()))?,
    };
    let class = columns.text(record, SeedColumn::StorageClass)?.map(parse_storage_class).transpose()?;
    let modified = columns.text(record, SeedColumn::LastModified)?.map(parse_time).transpose()?.unwrap_or(now);
    let tags = match columns.text(record, SeedColumn::Tags)? {
        None => SharedTags::default(),
        Some(query) => {
            tags::parse_query(query).and_then(tags::check).map_err(|error| format!("tags: {}", error.message()))?
        }
    };
    let acl = match columns.text(record, SeedColumn::Acl)? {
        None => CannedAcl::Private,
        Some(name) => CannedAcl::parse(name).ok_or_else(|| format!("`{}` is not an ACL", name.escape_debug()))?,
    };
    let id = columns.text(record, SeedColumn::VersionId)?.filter(|id| *id != "null");
    if id.is_some_and(|id| id.len() > MAX_VERSION_BYTES || !id.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(format!("a version ID must have at most {MAX_VERSION_BYTES} visible ASCII characters"));
    }
    ensure_bucket(state, bucket, now);
    if id.is_some() {
        let _ =
            state.apply(StateChange::SetVersioning { bucket: bucket.into(), versioning: VersioningStatus::Enabled });
    }
    let object = StoredObject {
        size,
        etag: ETag::of_content(placeholder_md5(bucket, &key, id, size)),
        class: class.unwrap_or(ObjectStorageClass::Standard),
        access: SharedAccess::new(OwnerId::FIRST, StoredAcl::Canned(acl)),
        tags,
        body: ObjectBlob::Zeros,
        restore: None,
        headers: None,
        details: None,
    };
    let version = StoredVersion { id: id.map(Into::into), modified, object: Some(object) };
    state.insert_by_time(bucket, &key, version).map_err(|_| "the object is a duplicate".to_owned())
}

/// Decodes a URL-encoded key.
fn decode_key(encoded: &[u8]) -> Result<String, String> {
    if let Some(at) = find_invalid_escape(encoded) {
        return Err(format!("the key has an invalid escape at byte {}: write a % as %25", at + 1));
    }
    let key: Vec<u8> = percent_decode(encoded).collect();
    if key.len() > MAX_KEY_BYTES {
        return Err(format!("the key is longer than {MAX_KEY_BYTES} bytes"));
    }
    String::from_utf8(key).map_err(|_| "the key does not decode to UTF-8, which S3 requires".to_owned())
}

/// Parses a name of S3 or OSS.
fn parse_storage_class(name: &str) -> Result<ObjectStorageClass, String> {
    let class = ObjectStorageClass::parse(name).or_else(|| ObjectStorageClass::parse_oss_name(name));
    class.ok_or_else(|| format!("`{}` is not a storage class", name.escape_debug()))
}

fn parse_time(text: &str) -> Result<UnixMillis, String> {
    let parsed = text.parse::<Timestamp>().ok().filter(|parsed| *parsed >= Timestamp::UNIX_EPOCH);
    let invalid = || format!("`{}` is not a time since 1970, like 2026-01-31T12:00:00Z", text.escape_debug());
    parsed.map(UnixMillis::from).ok_or_else(invalid)
}

/// Returns the position of the first `%` that is not followed by two hexadecimal digits.
fn find_invalid_escape(encoded: &[u8]) -> Option<usize> {
    let is_digit = |at: usize| encoded.get(at).is_some_and(u8::is_ascii_hexdigit);
    (0..encoded.len()).find(|at| encoded[*at] == b'%' && !(is_digit(at + 1) && is_digit(at + 2)))
}

/// Returns a stand-in for the MD5 of content that does not exist. It is the same for the same object.
fn placeholder_md5(bucket: &str, key: &str, id: Option<&str>, size: u64) -> Md5Digest {
    let mut md5 = Md5::new();
    for part in [bucket.as_bytes(), key.as_bytes(), id.unwrap_or("null").as_bytes(), &size.to_le_bytes()] {
        md5.update((part.len() as u64).to_le_bytes());
        md5.update(part);
    }
    md5.finalize().into()
}

fn ensure_bucket(state: &mut SandboxState, name: &str, now: UnixMillis) {
    if !state.buckets.contains_key(name) {
        // A bucket can be created in every state.
        let _ = state.apply(StateChange::CreateBucket { bucket: name.into(), created: now, owner: OwnerId::FIRST });
    }
}

/// Stores the files of a folder and its subfolders as objects below `prefix`.
fn seed_folder(
    state: &mut SandboxState,
    blobs: &BlobStore,
    bucket: &str,
    folder: &Path,
    prefix: &str,
    now: UnixMillis,
) -> Result<(), SandboxError> {
    for path in sorted_entries(folder)? {
        let key = format!("{prefix}{}", relative_name(folder, &path)?);
        if path.is_dir() {
            seed_folder(state, blobs, bucket, &path, &format!("{key}/"), now)?;
            continue;
        }
        let WrittenBlob { body, size, md5 } = store_file(blobs, &path)?;
        let object = StoredObject {
            size,
            etag: ETag::of_content(md5),
            class: ObjectStorageClass::Standard,
            access: SharedAccess::new(OwnerId::FIRST, StoredAcl::PRIVATE),
            tags: SharedTags::default(),
            body,
            restore: None,
            headers: None,
            details: None,
        };
        let version = StoredVersion { id: None, modified: now, object: Some(object) };
        if state.insert_by_time(bucket, &key, version).is_err() {
            return Err(invalid_entry(&path, "the fill file lists the same object"));
        }
    }
    Ok(())
}

fn store_file(blobs: &BlobStore, path: &Path) -> Result<WrittenBlob, SandboxError> {
    let io = |source| SandboxError::Io { doing: "copy", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut writer = blobs.writer();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk).map_err(io)? {
            0 => return Ok(writer.finish()),
            count => writer.write(&chunk[..count]).map_err(io)?,
        }
    }
}

fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>, SandboxError> {
    let io = |source| SandboxError::Io { doing: "read", path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(io)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>().map_err(io)?;
    paths.sort();
    Ok(paths)
}

fn relative_name(folder: &Path, path: &Path) -> Result<String, SandboxError> {
    let name = path.strip_prefix(folder).ok().and_then(Path::to_str);
    name.map(str::to_owned).ok_or_else(|| invalid_entry(path, "its name is not UTF-8, which object keys require"))
}

fn invalid_entry(path: &Path, what: &'static str) -> SandboxError {
    SandboxError::Io { doing: "seed from", path: path.to_owned(), source: std::io::Error::other(what) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(table: &str) -> Result<SandboxState, (u64, String)> {
        let mut state = SandboxState::default();
        seed_rows(&mut state, table.as_bytes(), UnixMillis(1_000)).map(|()| state)
    }

    #[test]
    fn a_table_becomes_objects() {
        let state = filled(
            "key,bucket,size,storage_class,last_modified,tags,acl,version_id\n\
             a%2Bb%2Fc+d%20%C3%A9,bucket-a,42,GLACIER,2026-01-31T12:00:00Z,b=2&a=x%20y,public-read,\n\
             plain,bucket-b,,,,,,\n\
             cold,bucket-c,,ColdArchive,,,default,\n\
             plain,bucket-b,,,2020-01-01T00:00:00Z,,,v1\n",
        )
        .unwrap();
        let (key, entry) = state.buckets["bucket-a"].keys.first_key_value().unwrap();
        assert_eq!(&**key, "a+b/c+d é");
        let object = entry.newest().unwrap().object.as_ref().unwrap();
        assert_eq!((object.size, object.class), (42, ObjectStorageClass::Glacier));
        assert_eq!(object.access.acl, StoredAcl::Canned(CannedAcl::PublicRead));
        assert_eq!(object.tags.iter().collect::<Vec<_>>(), [("a", "x y"), ("b", "2")]);
        let cold = state.buckets["bucket-c"].keys["cold"].newest().unwrap().object.as_ref().unwrap();
        assert_eq!(cold.class, ObjectStorageClass::ColdArchive);
        assert_eq!(cold.access.acl, StoredAcl::Canned(CannedAcl::Default));
        let versions = state.buckets["bucket-b"].keys["plain"].versions();
        assert_eq!(versions.iter().map(StoredVersion::id_str).collect::<Vec<_>>(), ["null", "v1"]);
        assert_eq!(state.buckets["bucket-b"].versioning, VersioningStatus::Enabled);
    }

    #[test]
    fn a_bad_row_is_named_by_its_number() {
        for (table, row, part) in [
            ("", 1, "header row"),
            ("bucket\n", 1, "`key` is missing"),
            ("bucket,key,colour\n", 1, "no column `colour`"),
            ("bucket,key,key\n", 1, "twice"),
            ("bucket,key\nabc,k\nX,k\n", 3, "`X` is not a valid bucket"),
            ("bucket,key\nabc,\n", 2, "key is empty"),
            ("bucket,key\nabc,%FF\n", 2, "UTF-8"),
            ("bucket,key\nabc,a%20%2\n", 2, "escape at byte 5"),
            ("bucket,key\na\u{1b}[2Jb,k\n", 2, "`a\\u{1b}[2Jb` is not a valid bucket"),
            ("bucket,key,version_id\nabc,k,v 1\n", 2, "visible ASCII"),
            ("bucket,key\nabc,k\nabc,k\n", 3, "a duplicate"),
            ("bucket,key,size\nabc,k,-1\n", 2, "`-1` is not a size"),
            ("bucket,key,storage_class\nabc,k,COLD\n", 2, "`COLD` is not a storage class"),
            ("bucket,key,last_modified\nabc,k,today\n", 2, "`today` is not a time"),
            ("bucket,key,tags\nabc,k,a=1&a=2\n", 2, "same key"),
            ("bucket,key,acl\nabc,k,open\n", 2, "`open` is not an ACL"),
            ("bucket,key\nabc,k,more\n", 2, "found record with 3 fields"),
        ] {
            let (at, what) = filled(table).unwrap_err();
            assert_eq!(at, row, "{table:?}: {what}");
            assert!(what.contains(part), "{table:?}: {what}");
        }
    }

    #[test]
    fn files_beside_the_table_become_objects_with_content() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("quick.csv");
        fs::write(&table, "bucket,key\ndocs-a,k\n").unwrap();
        let folder = dir.path().join("quick.files/docs-a/inventory");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("list é.csv"), "hello").unwrap();
        let (mut state, blobs) = (SandboxState::default(), BlobStore::in_memory());
        seed(&mut state, &blobs, &table, UnixMillis(5)).unwrap();
        let keys = &state.buckets["docs-a"].keys;
        assert_eq!(keys.keys().map(|key| &**key).collect::<Vec<_>>(), ["inventory/list é.csv", "k"]);
        let object = keys["inventory/list é.csv"].newest().unwrap().object.as_ref().unwrap();
        assert_eq!(object.body, ObjectBlob::Inline((*b"hello").into()));
        assert_eq!(object.etag.to_string(), "5d41402abc4b2a76b9719d911017c592");
        fs::write(dir.path().join("quick.files/stray"), "").unwrap();
        assert!(seed(&mut SandboxState::default(), &blobs, &table, UnixMillis(5)).is_err());
    }
}

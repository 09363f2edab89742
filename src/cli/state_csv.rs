//! The tags and ACLs of objects as CSV, for other programs.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use batchplan_store::object::{ObjectAcl, ObjectId, ObjectKey, ObjectState, TagSet, VersionId};
use tempfile::NamedTempFile;

use crate::files::with_path;

/// The names of the columns.
const COLUMNS: [&str; 6] = ["bucket", "key", "version_id", "tags", "acl", "error"];

/// Writes one row for each object: its name, with a URL-encoded key as in reports; its tags as a query (`a=1&b=2`, both
/// parts URL-encoded); its ACL; and why it could not be read. What is not known is empty.
pub(super) struct StateCsvWriter<W: Write> {
    csv: csv::Writer<W>,
}

impl<W: Write> StateCsvWriter<W> {
    /// Writes the names of the columns.
    pub(super) fn new(out: W) -> io::Result<Self> {
        let mut writer = Self::continued(out);
        writer.record_names()?;
        Ok(writer)
    }

    /// Continues rows, of which the names of the columns may already be written.
    pub(super) fn continued(out: W) -> Self {
        Self { csv: csv::Writer::from_writer(out) }
    }

    /// Writes the names of the columns.
    pub(super) fn record_names(&mut self) -> io::Result<()> {
        Ok(self.csv.write_record(COLUMNS)?)
    }

    /// Writes the row of an object.
    pub(super) fn record(&mut self, object: &ObjectId, state: &ObjectState, error: &str) -> io::Result<()> {
        let ObjectId { bucket, key, version } = object;
        let version = version.as_ref().map(VersionId::as_str).unwrap_or_default();
        let tags = state.tags.known().map(tag_query).unwrap_or_default();
        let acl = state.acl.known().map(ObjectAcl::as_str).unwrap_or_default();
        Ok(self.csv.write_record([bucket.as_str(), &key.encoded(), version, &tags, acl, error])?)
    }

    fn finish(self) -> io::Result<W> {
        self.csv.into_inner().map_err(csv::IntoInnerError::into_error)
    }
}

/// Returns tags as a query.
fn tag_query(tags: &TagSet) -> String {
    let encoded = |text: &str| ObjectKey::from(text).encoded();
    let pairs: Vec<_> = tags.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
    pairs.join("&")
}

/// A file of such rows, which takes its name once it is complete.
pub(super) struct StateCsvFile {
    path: PathBuf,
    writer: StateCsvWriter<BufWriter<NamedTempFile>>,
}

impl StateCsvFile {
    /// Starts a file beside `path`.
    ///
    /// # Errors
    /// Returns an error if no file can be created there.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() {
            return Err(with_path(path)(io::ErrorKind::IsADirectory.into()));
        }
        let file = NamedTempFile::new_in(folder).map_err(with_path(folder))?;
        Ok(Self { path: path.to_owned(), writer: StateCsvWriter::new(BufWriter::new(file)).map_err(with_path(path))? })
    }

    /// Writes the row of an object.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(super) fn record(&mut self, object: &ObjectId, state: &ObjectState, error: &str) -> io::Result<()> {
        self.writer.record(object, state, error).map_err(with_path(&self.path))
    }

    /// Completes the file, and replaces an earlier one with its name.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(super) fn finish(self) -> io::Result<()> {
        let Self { path, writer } = self;
        let complete = || {
            let file = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            // A temporary file is private. Others may read this one as they may read any that the user writes.
            make_readable(&path)
        };
        complete().map_err(with_path(&path))
    }
}

#[cfg(unix)]
fn make_readable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use batchplan_store::object::{BucketName, MaybeKnown};

    #[test]
    fn rows_survive_any_name() {
        let mut csv = StateCsvWriter::new(Vec::new()).expect("memory");
        let object = ObjectId {
            bucket: BucketName::new("bkt"),
            key: ObjectKey::new(&b"a,\"b\"\n\xff"[..]),
            version: Some(VersionId::new("v1")),
        };
        let tags: TagSet = [("a&b", "1=2"), ("c", "")].into_iter().collect();
        let state = ObjectState {
            tags: MaybeKnown::Known(tags),
            acl: MaybeKnown::Known(ObjectAcl::PublicRead),
            ..ObjectState::default()
        };
        csv.record(&object, &state, "").expect("memory");
        csv.record(&ObjectId { version: None, ..object }, &ObjectState::default(), "403 \"no\"").expect("memory");
        let text = String::from_utf8(csv.finish().expect("memory")).expect("UTF-8");
        let expected = "bucket,key,version_id,tags,acl,error\n\
                        bkt,a%2C%22b%22%0A%FF,v1,a%26b=1%3D2&c=,public-read,\n\
                        bkt,a%2C%22b%22%0A%FF,,,,\"403 \"\"no\"\"\"\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_earlier_file_stays_until_the_new_one_is_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tags.csv");
        fs::write(&path, "old").expect("written");
        drop(StateCsvFile::create(&path).expect("started"));
        assert_eq!(fs::read_to_string(&path).expect("kept"), "old");
        StateCsvFile::create(&path).expect("started").finish().expect("complete");
        assert_eq!(fs::read_to_string(&path).expect("new"), "bucket,key,version_id,tags,acl,error\n");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "no draft is left");
    }
}

//! A sealed file of a report, which does not change any more, and the MD5 of its content: hex in manifests, Base64 in
//! requests.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use batchplan_store::hex::hex;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

use crate::codec::TaskStatus;
use crate::files::{open_regular, with_path};
use crate::report::layout;

/// A sealed file of a report, which does not change any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSegment {
    /// The index in the order in which the report's files were started, from 0.
    pub number: u32,
    /// Whether the rows of the file are successes or failures.
    pub status: TaskStatus,
    /// The name relative to the report's folder and to the report's root in the bucket, with `/` between its parts.
    pub name: String,
    /// The length in bytes.
    pub bytes: u64,
    /// The number of rows, one per object.
    pub rows: u64,
    /// The MD5 of the content.
    pub md5: Md5Digest,
    /// Whether the file is known to be in its bucket. Only then may the local file be missing.
    pub published: bool,
}

impl ReportSegment {
    /// Returns the path in the report's folder. The file is there unless it was freed.
    #[must_use]
    pub fn path(&self, folder: &Path) -> PathBuf {
        layout::local_path(folder, &self.name)
    }
}

/// Removes the local file of a segment that is in its bucket. Can be repeated.
///
/// First record that the segment is published, in a place that survives a crash: a missing file without such a record
/// counts as lost.
///
/// # Errors
/// Returns an error if the segment is not marked as published, or its file cannot be removed. The message names the
/// file.
pub fn remove_local_file(folder: &Path, segment: &ReportSegment) -> io::Result<()> {
    let path = segment.path(folder);
    if !segment.published {
        let why = format!("{}: not removed, because it may not be published yet", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(with_path(&path)),
    }
}

/// An MD5 digest. It protects against accidental damage, as in the services themselves, not against forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Md5Digest([u8; 16]);

impl Md5Digest {
    /// Returns the digest of the data so far. The computation can continue.
    pub(super) fn of(md5: &Md5) -> Self {
        Self(md5.clone().finalize().into())
    }

    /// Returns the length in bytes and the MD5 of a file.
    pub(super) fn of_file(path: &Path) -> io::Result<(u64, Self)> {
        let (bytes, md5) = open_regular(path, File::options().read(true))
            .and_then(|mut file| digest_all(&mut file))
            .map_err(with_path(path))?;
        Ok((bytes, Self::of(&md5)))
    }

    /// Returns lowercase hex, as in `manifest.json`.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Returns Base64, as in `Content-MD5`.
    #[must_use]
    pub fn base64(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl From<Md5Digest> for String {
    fn from(digest: Md5Digest) -> Self {
        digest.hex()
    }
}

/// Reads `content` to its end. Returns its length in bytes, and its MD5 as a computation that can continue.
pub(super) fn digest_all(content: &mut impl Read) -> io::Result<(u64, Md5)> {
    let mut md5 = Md5::new();
    let mut block = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        match content.read(&mut block) {
            Ok(0) => return Ok((bytes, md5)),
            Ok(count) => {
                md5.update(&block[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The error for text that is not an MD5 in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an MD5 is 32 hexadecimal digits")]
pub struct InvalidMd5Error;

impl TryFrom<String> for Md5Digest {
    type Error = InvalidMd5Error;

    fn try_from(text: String) -> Result<Self, InvalidMd5Error> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidMd5Error);
        }
        let value = u128::from_str_radix(&text, 16).map_err(|_| InvalidMd5Error)?;
        Ok(Self(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_published_file_is_freed() {
        let folder = tempfile::tempdir().unwrap();
        let mut segment = ReportSegment {
            number: 3,
            status: TaskStatus::Failed,
            name: "report-3.csv".to_owned(),
            bytes: 1,
            rows: 1,
            md5: Md5Digest::of(&Md5::new()),
            published: false,
        };
        fs::write(segment.path(folder.path()), "x").unwrap();
        assert!(
            remove_local_file(folder.path(), &segment).unwrap_err().to_string().contains("report-3.csv: not removed")
        );
        assert!(segment.path(folder.path()).exists());
        segment.published = true;
        for _ in 0..2 {
            remove_local_file(folder.path(), &segment).unwrap();
            assert!(!segment.path(folder.path()).exists());
        }
    }

    #[test]
    fn the_same_digest_reads_two_ways() {
        let digest = Md5Digest::of(&Md5::new_with_prefix("abc"));
        assert_eq!(digest.hex(), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(digest.base64(), "kAFQmDzST7DWlj99KOF/cg==");
        assert_eq!(Md5Digest::try_from(digest.hex()), Ok(digest));
    }

    #[test]
    fn other_text_is_no_digest() {
        for text in ["", "abc", "+0150983cd24fb0d6963f7d28e17f72ab", &"g".repeat(32)] {
            assert_eq!(Md5Digest::try_from(text.to_owned()), Err(InvalidMd5Error), "{text}");
        }
    }
}

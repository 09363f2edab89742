//! A sealed file of a report: its names in the job's folder and in the bucket, and the MD5 of its content, which is hex
//! in manifests and Base64 in requests.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use batchplan_store::hex::hex;
use batchplan_store::object::ObjectKey;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::files::{open_regular, with_path};
use crate::job::JobId;
use crate::paths::show_path;
use crate::report_format::{ReportFormat, TaskStatus};

/// The name of the list of a report's files, both in the folder and below the report's root in the bucket.
pub const MANIFEST_NAME: &str = "manifest.json";

/// The name of the file that [`FinishedReport::load`](crate::report::FinishedReport::load) reads. It is never
/// published.
pub(crate) const SIDECAR_NAME: &str = "segments.json";

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
        local_path(folder, &self.name)
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
        let why = format!("{}: not removed, because it may not be published yet", show_path(path));
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(with_path(&path)),
    }
}

/// Returns the name of the report's file number `n`, relative to the folder and to the report's root in the bucket,
/// with `/` between its parts.
///
/// S3 Batch Operations names files by 40 hex digits and does not document what they are. Here they follow from the
/// job and the number, so that a repeated upload writes to the same key.
pub(crate) fn segment_name(format: ReportFormat, job: &JobId, n: u32) -> String {
    match format {
        ReportFormat::Oss => format!("report-{n}.csv"),
        ReportFormat::Aws => {
            let hash = Sha256::digest(format!("{job}/{n}"));
            format!("results/{}.csv", hex(&hash[..20]))
        }
    }
}

/// Returns whether [`segment_name`] gives this name to a file of any job and number.
pub(crate) fn is_segment_name(format: ReportFormat, name: &str) -> bool {
    match format {
        ReportFormat::Oss => {
            let digits = name.strip_prefix("report-").and_then(|rest| rest.strip_suffix(".csv"));
            digits.and_then(|digits| digits.parse().ok()).is_some_and(|n: u32| name == format!("report-{n}.csv"))
        }
        ReportFormat::Aws => {
            let digits = name.strip_prefix("results/").and_then(|rest| rest.strip_suffix(".csv"));
            digits.is_some_and(|digits| {
                digits.len() == 40 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            })
        }
    }
}

/// Returns the path of a report file in the job's folder.
pub(crate) fn local_path(folder: &Path, name: &str) -> PathBuf {
    name.split('/').fold(folder.to_owned(), |path, part| path.join(part))
}

/// Returns the only subfolder that the format needs in the job's folder, if any.
pub(crate) fn subfolder(format: ReportFormat) -> Option<&'static str> {
    match format {
        ReportFormat::Oss => None,
        ReportFormat::Aws => Some("results"),
    }
}

/// Returns the key that a report file is published under.
pub(crate) fn remote_key(format: ReportFormat, prefix: &ObjectKey, job: &JobId, name: &str) -> ObjectKey {
    let rest = match format {
        ReportFormat::Oss => format!("{job}/results/{name}"),
        ReportFormat::Aws => format!("job-{job}/{name}"),
    };
    sibling_key(prefix, &rest)
}

/// Returns the key of an object next to the folders of reports.
pub(crate) fn sibling_key(prefix: &ObjectKey, name: &str) -> ObjectKey {
    let mut key = prefix.as_bytes().to_vec();
    if !key.is_empty() && !key.ends_with(b"/") {
        key.push(b'/');
    }
    key.extend_from_slice(name.as_bytes());
    ObjectKey::new(key)
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

    const ID: &str = "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=";

    fn remote(format: ReportFormat, prefix: &str, name: &str) -> String {
        remote_key(format, &ObjectKey::from(prefix), &ID.parse().unwrap(), name).to_string()
    }

    #[test]
    fn prefix_is_followed_by_one_slash() {
        for prefix in ["audit", "audit/"] {
            let key = remote(ReportFormat::Oss, prefix, "report-0.csv");
            assert_eq!(key, format!("audit/{ID}/results/report-0.csv"));
            let key = remote(ReportFormat::Aws, prefix, "results/ab.csv");
            assert_eq!(key, format!("audit/job-{ID}/results/ab.csv"));
        }
        assert_eq!(remote(ReportFormat::Oss, "", MANIFEST_NAME), format!("{ID}/results/manifest.json"));
        assert_eq!(remote(ReportFormat::Aws, "", MANIFEST_NAME), format!("job-{ID}/manifest.json"));
    }

    #[test]
    fn a_files_name_follows_from_job_and_number() {
        let job: JobId = ID.parse().unwrap();
        assert_eq!(segment_name(ReportFormat::Oss, &job, 7), "report-7.csv");
        let name = segment_name(ReportFormat::Aws, &job, 7);
        assert_eq!(name, segment_name(ReportFormat::Aws, &job, 7));
        assert_ne!(name, segment_name(ReportFormat::Aws, &job, 8));
        let digits = name.strip_prefix("results/").unwrap().strip_suffix(".csv").unwrap();
        assert_eq!(digits.len(), 40);
        assert!(is_segment_name(ReportFormat::Aws, &name) && is_segment_name(ReportFormat::Oss, "report-7.csv"));
        for other in ["report-07.csv", "report-+7.csv", "report-7.csv.bak", "report-.csv", &name, "manifest.json"] {
            assert!(!is_segment_name(ReportFormat::Oss, other), "{other}");
        }
        for other in ["results/7.csv", "report-7.csv", &name.to_uppercase(), digits] {
            assert!(!is_segment_name(ReportFormat::Aws, other), "{other}");
        }
        assert_eq!(local_path(Path::new("job"), "results/a.csv"), Path::new("job").join("results").join("a.csv"));
    }
}

//! Finds the files that the `manifest.json` of a report lists.
//!
//! In a bucket they are found by bucket and key. Next to a local `manifest.json` they are found by the end of the key,
//! since a downloaded report lists the original keys of its files. Names in the list never lead out of the folder.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use batchplan_store::object::{BucketName, ObjectKey};

use crate::codec::ReportManifestEntry;
use crate::manifest::error::ManifestError;
use crate::manifest::row_writer::check_bucket;

/// The folder next to the list where the AWS format keeps its files.
const SUBFOLDER: &str = "results";

/// Rejects a list that names a file twice: its objects would be processed twice.
pub(super) fn reject_duplicates(files: &[ReportManifestEntry], name: &str) -> Result<(), ManifestError> {
    let mut seen = HashSet::with_capacity(files.len());
    match files.iter().find(|file| !seen.insert((&file.bucket, &file.key))) {
        None => Ok(()),
        Some(file) => {
            let what = format!("it lists the file {} twice", ObjectKey::from(file.key.as_str()));
            Err(ManifestError::malformed(name, what, "use the original report"))
        }
    }
}

/// Returns the object that holds a listed file.
pub(super) fn listed_object(file: &ReportManifestEntry, name: &str) -> Result<(BucketName, ObjectKey), ManifestError> {
    let key = ObjectKey::from(file.key.as_str());
    if file.bucket.is_empty() {
        let what = format!("it lists {key} without a bucket: the report was copied there, not published");
        let help = "copy the report's folder to this machine and set `path` to its manifest.json";
        return Err(ManifestError::malformed(name, what, help));
    }
    check_bucket(&file.bucket).map_err(|why| {
        ManifestError::malformed(name, format!("it lists {key} in an invalid bucket: {why}"), super::NOT_A_REPORT_HELP)
    })?;
    Ok((BucketName::new(&file.bucket), key))
}

/// The folder of a local `manifest.json`.
pub(super) struct ReportListFolder<'a>(&'a Path);

impl<'a> ReportListFolder<'a> {
    /// Returns the folder of this `manifest.json`.
    pub(super) fn of(listing: &'a Path) -> Self {
        Self(listing.parent().unwrap_or_else(|| Path::new("")))
    }

    /// Returns the path of a listed file: next to the list, or in `results` next to it.
    pub(super) fn find(&self, file: &ReportManifestEntry, name: &str) -> Result<PathBuf, ManifestError> {
        let listed = ObjectKey::from(file.key.as_str());
        let (above, last) = file.key.rsplit_once('/').unwrap_or(("", &file.key));
        if !is_plain_name(last) {
            let what = format!("it lists {listed}, which is not a valid file name");
            return Err(ManifestError::malformed(name, what, super::NOT_A_REPORT_HELP));
        }
        let mut places = vec![self.0.join(last)];
        if above.rsplit('/').next() == Some(SUBFOLDER) {
            places.insert(0, self.0.join(SUBFOLDER).join(last));
        }
        if let Some(found) = places.iter().find(|path| path.is_file()) {
            return Ok(found.clone());
        }
        let tried: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
        let what = format!("it lists {listed}, but there is no {}", tried.join(" or "));
        Err(ManifestError::malformed(name, what, "download the report's files too, and put them next to it"))
    }
}

/// Returns whether a name is a plain file name on every system: no `..`, no separator, no drive.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let one = matches!(parts.next(), Some(Component::Normal(part)) if part == name) && parts.next().is_none();
    one && !name.contains(['\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::TaskStatus;

    fn file(bucket: &str, key: &str) -> ReportManifestEntry {
        ReportManifestEntry {
            status: TaskStatus::Failed,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            md5: "0".repeat(32),
        }
    }

    #[test]
    fn finds_a_listed_file_next_to_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let listing = folder.path().join("manifest.json");
        let find = |key: &str| ReportListFolder::of(&listing).find(&file("b", key), "manifest.json");
        let missing = find("audit/job-ID=/results/ab.csv").unwrap_err().to_string();
        let tried = [folder.path().join("results").join("ab.csv"), folder.path().join("ab.csv")];
        let tried = tried.map(|path| path.display().to_string()).join(" or ");
        assert!(missing.ends_with(&format!("but there is no {tried}")), "{missing}");

        std::fs::create_dir(folder.path().join("results")).unwrap();
        for name in ["report-0.csv", "ab.csv", "results/ab.csv"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let found = |key: &str| std::fs::read_to_string(find(key).unwrap()).unwrap();
        assert_eq!(found("report-0.csv"), "report-0.csv");
        assert_eq!(found("audit/ID=/results/report-0.csv"), "report-0.csv");
        assert_eq!(found("results/ab.csv"), "results/ab.csv");
        assert_eq!(found("audit/job-ID=/results/ab.csv"), "results/ab.csv");
        assert_eq!(found("audit/job-ID=/ab.csv"), "ab.csv");
    }

    #[test]
    fn rejects_names_that_leave_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(folder.path().join("secret.csv"), "s").unwrap();
        let listing = inner.join("manifest.json");
        let refused = |key: &str| ReportListFolder::of(&listing).find(&file("b", key), "m").unwrap_err().to_string();
        for key in ["..", "a/..", "a/", ".", "results/..", "a\\..\\b", "C:x", "a\0b"] {
            assert!(refused(key).contains("not a valid file name"), "{key}");
        }
        for key in ["../secret.csv", "/secret.csv", "../results/secret.csv"] {
            assert!(refused(key).contains("there is no"), "{key}");
        }
    }

    #[test]
    fn rejects_invalid_buckets() {
        let refused = |bucket: &str| listed_object(&file(bucket, "k"), "m").unwrap_err().to_string();
        assert!(refused("evil.example/").contains("invalid bucket"));
        assert!(refused("").contains("not published"));
        assert_eq!(listed_object(&file("b", "../k"), "m").unwrap(), (BucketName::new("b"), ObjectKey::from("../k")));
    }
}

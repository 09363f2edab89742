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
            Err(ManifestError::malformed(name, what, "use the report as it was written"))
        }
    }
}

/// Returns the object that holds a listed file.
pub(super) fn listed_object(file: &ReportManifestEntry, name: &str) -> Result<(BucketName, ObjectKey), ManifestError> {
    let key = ObjectKey::from(file.key.as_str());
    if file.bucket.is_empty() {
        let what = format!("it lists {key} without a bucket: the report was not published, but copied there");
        let help = "copy the report's folder to this machine and name its manifest.json by `path`";
        return Err(ManifestError::malformed(name, what, help));
    }
    check_bucket(&file.bucket).map_err(|why| {
        ManifestError::malformed(name, format!("it lists {key} in a strange bucket: {why}"), super::NOT_A_REPORT_HELP)
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
            let what = format!("it lists {listed}, and that is no name of a file");
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
        let what = format!("it lists {listed}, and there is no {}", tried.join(" and no "));
        Err(ManifestError::malformed(name, what, "download the report's files as well, and put them beside it"))
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
    fn a_listed_file_lies_beside_the_list() {
        let folder = tempfile::tempdir().unwrap();
        let listing = folder.path().join("manifest.json");
        let find = |key: &str| ReportListFolder::of(&listing).find(&file("b", key), "manifest.json");
        let missing = find("audit/job-ID=/results/ab.csv").unwrap_err().to_string();
        let tried = [folder.path().join("results").join("ab.csv"), folder.path().join("ab.csv")];
        let tried = tried.map(|path| path.display().to_string()).join(" and no ");
        assert!(missing.ends_with(&format!("and there is no {tried}")), "{missing}");

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
    fn no_name_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(folder.path().join("secret.csv"), "s").unwrap();
        let listing = inner.join("manifest.json");
        let refused = |key: &str| ReportListFolder::of(&listing).find(&file("b", key), "m").unwrap_err().to_string();
        for key in ["..", "a/..", "a/", ".", "results/..", "a\\..\\b", "C:x", "a\0b"] {
            assert!(refused(key).contains("no name of a file"), "{key}");
        }
        for key in ["../secret.csv", "/secret.csv", "../results/secret.csv"] {
            assert!(refused(key).contains("there is no"), "{key}");
        }
    }

    #[test]
    fn a_strange_bucket_is_no_host_to_send_to() {
        let refused = |bucket: &str| listed_object(&file(bucket, "k"), "m").unwrap_err().to_string();
        assert!(refused("evil.example/").contains("strange bucket"));
        assert!(refused("").contains("was not published"));
        assert_eq!(listed_object(&file("b", "../k"), "m").unwrap(), (BucketName::new("b"), ObjectKey::from("../k")));
    }
}

//! The names of report files, in the job's folder and in the bucket.

use std::path::{Path, PathBuf};

use batchplan_store::hex::hex;
use batchplan_store::object::ObjectKey;
use sha2::{Digest as _, Sha256};

use crate::completion::ReportFormat;
use crate::job::JobId;

/// The name of the list of a report's files, both in the folder and below the report's root in the bucket.
pub const MANIFEST_NAME: &str = "manifest.json";

/// The name of the file that [`FinishedReport::load`](crate::report::FinishedReport::load) reads. It is never
/// published.
pub(crate) const SIDECAR_NAME: &str = "segments.json";

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

#[cfg(test)]
mod tests {
    use super::*;

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

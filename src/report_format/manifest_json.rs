//! A report's `manifest.json`, which lists the report's files. It is written last and read first.

use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::report_format::{ReportFormat, TaskStatus, format_milliseconds, format_seconds};

/// OSS's name for its row format.
const OSS_FORMAT: &str = "Report_CSV_20250901";

/// AWS's name for its row format.
const AWS_FORMAT: &str = "Report_CSV_20180820";

/// One CSV file of a report, as listed in `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportManifestEntry {
    /// Whether the rows of the file are successes or failures.
    pub status: TaskStatus,
    /// The bucket that the file is published to. Empty for a local report.
    pub bucket: String,
    /// The key in the bucket. For a local report, the file name relative to the manifest.
    pub key: String,
    /// The MD5 of the file, as 32 lowercase hex digits.
    pub md5: String,
}

/// Returns the text of `manifest.json`: members in the service's own order, indented by two spaces, without a
/// trailing newline.
///
/// OSS: the date has whole seconds, and the value of `MD5Checksum` includes literal quotes. AWS: the date has
/// milliseconds, and the checksum is plain hex.
///
/// # Errors
/// Returns an error if serialization fails, which does not happen in practice.
pub fn report_manifest_json(
    format: ReportFormat,
    created: Timestamp,
    files: &[ReportManifestEntry],
) -> io::Result<String> {
    let manifest = match format {
        ReportFormat::Oss => ReportManifestJson {
            format: OSS_FORMAT,
            created: format_seconds(created),
            results: files.iter().map(|file| ReportManifestEntryJson::of(file, format!("\"{}\"", file.md5))).collect(),
            schema: "Bucket,Key,VersionId,HTTPStatus,Error",
        },
        ReportFormat::Aws => ReportManifestJson {
            format: AWS_FORMAT,
            created: format_milliseconds(created),
            results: files.iter().map(|file| ReportManifestEntryJson::of(file, file.md5.clone())).collect(),
            // AWS's own text, although AWS's rows have `HTTPStatusCode` before `ErrorCode`.
            schema: "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage",
        },
    };
    Ok(serde_json::to_string_pretty(&manifest)?)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReportManifestJson<'a> {
    format: &'static str,
    #[serde(rename = "ReportCreationDate")]
    created: String,
    results: Vec<ReportManifestEntryJson<'a>>,
    #[serde(rename = "ReportSchema")]
    schema: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReportManifestEntryJson<'a> {
    #[serde(rename = "TaskExecutionStatus")]
    status: &'static str,
    bucket: &'a str,
    #[serde(rename = "MD5Checksum")]
    md5: String,
    key: &'a str,
}

impl<'a> ReportManifestEntryJson<'a> {
    fn of(file: &'a ReportManifestEntry, md5: String) -> Self {
        Self { status: file.status.as_str(), bucket: &file.bucket, md5, key: &file.key }
    }
}

/// A parsed `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportManifest {
    /// The row format of the files.
    pub format: ReportFormat,
    /// The listed files. Their buckets and keys are untrusted: never build a path from them without validation.
    pub files: Vec<ReportManifestEntry>,
}

/// Parses the `manifest.json` of a report in either service's format. Ignores `ReportSchema`, because AWS's does not
/// match the column order of AWS's rows.
///
/// # Errors
/// Returns an error if the text is not the manifest of a report. The message is meant to follow the file name and a
/// colon.
pub fn parse_report_manifest(text: &[u8]) -> Result<ReportManifest, String> {
    let shape: RawReportManifest =
        serde_json::from_slice(text).map_err(|why| format!("not the manifest of a completion report: {why}"))?;
    let format = match shape.format.as_str() {
        OSS_FORMAT => ReportFormat::Oss,
        AWS_FORMAT => ReportFormat::Aws,
        other => {
            let other = other.escape_debug();
            return Err(format!("its format is {other}, but only {OSS_FORMAT} and {AWS_FORMAT} are supported"));
        }
    };
    let files = shape.results.into_iter().map(RawReportManifestEntry::validate).collect::<Result<_, _>>()?;
    Ok(ReportManifest { format, files })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawReportManifest {
    format: String,
    results: Vec<RawReportManifestEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawReportManifestEntry {
    #[serde(rename = "TaskExecutionStatus")]
    status: TaskStatus,
    bucket: String,
    #[serde(rename = "MD5Checksum")]
    md5: String,
    key: String,
}

impl RawReportManifestEntry {
    fn validate(self) -> Result<ReportManifestEntry, String> {
        if self.key.is_empty() {
            return Err("it lists a file without a key".to_owned());
        }
        // OSS's checksums include literal quotes.
        let md5 = self.md5.trim_matches('"').to_ascii_lowercase();
        if md5.len() != 32 || !md5.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let key = self.key.escape_debug();
            return Err(format!("the file {key} has an MD5Checksum that is not 32 hexadecimal digits"));
        }
        Ok(ReportManifestEntry { status: self.status, bucket: self.bucket, key: self.key, md5 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(status: TaskStatus, key: &str) -> ReportManifestEntry {
        let md5 = "900150983cd24fb0d6963f7d28e17f72".to_owned();
        ReportManifestEntry { status, bucket: "audit".to_owned(), key: key.to_owned(), md5 }
    }

    fn created() -> Timestamp {
        "2026-03-04T05:06:07.891Z".parse().unwrap()
    }

    #[test]
    fn the_oss_form_is_the_references() {
        let files = [
            file(TaskStatus::Succeeded, "reports/ID=/results/report-0.csv"),
            file(TaskStatus::Failed, "reports/ID=/results/report-1.csv"),
        ];
        let expected = r#"{
  "Format": "Report_CSV_20250901",
  "ReportCreationDate": "2026-03-04T05:06:07Z",
  "Results": [
    {
      "TaskExecutionStatus": "succeeded",
      "Bucket": "audit",
      "MD5Checksum": "\"900150983cd24fb0d6963f7d28e17f72\"",
      "Key": "reports/ID=/results/report-0.csv"
    },
    {
      "TaskExecutionStatus": "failed",
      "Bucket": "audit",
      "MD5Checksum": "\"900150983cd24fb0d6963f7d28e17f72\"",
      "Key": "reports/ID=/results/report-1.csv"
    }
  ],
  "ReportSchema": "Bucket,Key,VersionId,HTTPStatus,Error"
}"#;
        assert_eq!(report_manifest_json(ReportFormat::Oss, created(), &files).unwrap(), expected);
    }

    #[test]
    fn the_aws_form_has_milliseconds_and_a_bare_checksum() {
        let files = [file(TaskStatus::Failed, "reports/job-ID=/results/00ff.csv")];
        let expected = r#"{
  "Format": "Report_CSV_20180820",
  "ReportCreationDate": "2026-03-04T05:06:07.891Z",
  "Results": [
    {
      "TaskExecutionStatus": "failed",
      "Bucket": "audit",
      "MD5Checksum": "900150983cd24fb0d6963f7d28e17f72",
      "Key": "reports/job-ID=/results/00ff.csv"
    }
  ],
  "ReportSchema": "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"
}"#;
        assert_eq!(report_manifest_json(ReportFormat::Aws, created(), &files).unwrap(), expected);
    }

    #[test]
    fn a_report_without_rows_lists_nothing() {
        let text = report_manifest_json(ReportFormat::Oss, created(), &[]).unwrap();
        assert!(text.contains("\"Results\": [],"), "{text}");
    }
    #[test]
    fn the_references_own_manifest_is_read() {
        let text = r#"{
          "Format": "Report_CSV_20250901",
          "ReportCreationDate": "2025-10-31T07:37:56Z",
          "Results": [{
            "TaskExecutionStatus": "failed",
            "Bucket": "test-bucket",
            "MD5Checksum": "\"85749F22b5b62b161daf00b4adcf6da7\"",
            "Key": "reports/prefix-job-0/job-M2E4=/results/report-0.csv"
          }],
          "ReportSchema": "Bucket,Key,VersionId,HTTPStatus,Error"
        }"#;
        let listing = parse_report_manifest(text.as_bytes()).unwrap();
        assert_eq!(listing.format, ReportFormat::Oss);
        let [file] = listing.files.as_slice() else { panic!("one file") };
        assert_eq!((file.status, file.bucket.as_str()), (TaskStatus::Failed, "test-bucket"));
        assert_eq!(file.md5, "85749f22b5b62b161daf00b4adcf6da7");
        assert_eq!(file.key, "reports/prefix-job-0/job-M2E4=/results/report-0.csv");
    }

    #[test]
    fn rejects_other_documents() {
        let refused = |text: &str| parse_report_manifest(text.as_bytes()).unwrap_err();
        let file = |members: &str| refused(&format!(r#"{{"Format":"{AWS_FORMAT}","Results":[{{{members}}}]}}"#));
        for text in ["", "{}", "null", "[]", r#"{"sourceBucket":"b","files":[]}"#, "<xml/>"] {
            assert!(refused(text).starts_with("not the manifest of a completion report: "), "{text}");
        }
        assert!(refused(&"[".repeat(100_000)).contains("not the manifest of a completion report"));
        let newer = refused(r#"{"Format":"Report_CSV_2030\u001b","Results":[]}"#);
        assert!(newer.starts_with(r"its format is Report_CSV_2030\u{1b}, but only Report_CSV_20250901 and"), "{newer}");
        let good = r#""TaskExecutionStatus":"failed","Bucket":"b","Key":"k""#;
        assert!(file(good).contains("MD5Checksum"));
        assert!(file(&format!(r#"{good},"MD5Checksum":"&lol;""#)).contains("not 32 hexadecimal digits"));
        assert!(file(&format!(r#"{good},"Key":"l""#)).contains("duplicate"));
        let digest = "0".repeat(32);
        let odd = |status: &str, key: &str| {
            file(&format!(r#""TaskExecutionStatus":"{status}","Bucket":"b","Key":"{key}","MD5Checksum":"{digest}""#))
        };
        assert!(odd("half", "k").contains("unknown variant"));
        assert!(odd("failed", "").contains("without a key"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            aws in any::<bool>(),
            files in prop::collection::vec((any::<bool>(), any::<String>(), ".+", "[0-9a-f]{32}"), 0..5),
        ) {
            let format = if aws { ReportFormat::Aws } else { ReportFormat::Oss };
            let of = |failed| if failed { TaskStatus::Failed } else { TaskStatus::Succeeded };
            let files: Vec<_> = files
                .into_iter()
                .map(|(failed, bucket, key, md5)| ReportManifestEntry { status: of(failed), bucket, key, md5 })
                .collect();
            let text = report_manifest_json(format, created(), &files).unwrap();
            prop_assert_eq!(parse_report_manifest(text.as_bytes()), Ok(ReportManifest { format, files }));
        }

        #[test]
        fn junk_is_no_panic(text: Vec<u8>) {
            let _ = parse_report_manifest(&text);
        }
    }
}

//! A report's `manifest.json`: the list of its files, written last.

use std::io;

use jiff::Timestamp;
use serde::Serialize;

use crate::codec::{TaskStatus, milliseconds, seconds};
use crate::completion::ReportFormat;

/// One CSV file of a report, as `manifest.json` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// What its rows tell of.
    pub status: TaskStatus,
    /// The bucket it is published to; empty for a report that stays local.
    pub bucket: String,
    /// Its key there, or its name beside the manifest for a report that stays local.
    pub key: String,
    /// The MD5 of its content in lower-case hex.
    pub md5: String,
}

/// The text of `manifest.json`, members in each service's order, two spaces of indentation, no line end behind it.
///
/// OSS: seconds in the date, and literal quotes inside `MD5Checksum`. AWS: milliseconds, and plain hex.
///
/// # Errors
/// Only what serializing to memory can give, which is nothing in practice.
pub fn manifest_json(format: ReportFormat, created: Timestamp, files: &[ListedFile]) -> io::Result<String> {
    let manifest = match format {
        ReportFormat::Oss => ManifestJson {
            format: "Report_CSV_20250901",
            created: seconds(created),
            results: files.iter().map(|file| ResultJson::of(file, format!("\"{}\"", file.md5))).collect(),
            schema: "Bucket,Key,VersionId,HTTPStatus,Error",
        },
        ReportFormat::Aws => ManifestJson {
            format: "Report_CSV_20180820",
            created: milliseconds(created),
            results: files.iter().map(|file| ResultJson::of(file, file.md5.clone())).collect(),
            // AWS's own words: its rows have HTTPStatusCode before ErrorCode all the same.
            schema: "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage",
        },
    };
    Ok(serde_json::to_string_pretty(&manifest)?)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestJson<'a> {
    format: &'static str,
    #[serde(rename = "ReportCreationDate")]
    created: String,
    results: Vec<ResultJson<'a>>,
    #[serde(rename = "ReportSchema")]
    schema: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ResultJson<'a> {
    #[serde(rename = "TaskExecutionStatus")]
    status: &'static str,
    bucket: &'a str,
    #[serde(rename = "MD5Checksum")]
    md5: String,
    key: &'a str,
}

impl<'a> ResultJson<'a> {
    fn of(file: &'a ListedFile, md5: String) -> Self {
        Self { status: file.status.as_str(), bucket: &file.bucket, md5, key: &file.key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(status: TaskStatus, key: &str) -> ListedFile {
        let md5 = "900150983cd24fb0d6963f7d28e17f72".to_owned();
        ListedFile { status, bucket: "audit".to_owned(), key: key.to_owned(), md5 }
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
        assert_eq!(manifest_json(ReportFormat::Oss, created(), &files).unwrap(), expected);
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
        assert_eq!(manifest_json(ReportFormat::Aws, created(), &files).unwrap(), expected);
    }

    #[test]
    fn a_report_without_rows_lists_nothing() {
        let text = manifest_json(ReportFormat::Oss, created(), &[]).unwrap();
        assert!(text.contains("\"Results\": [],"), "{text}");
    }
}
